using System.Globalization;

namespace Attention;

/// <summary>What kind of device computes, or holds memory.</summary>
public enum AttentionDeviceType
{
    /// <summary>The processor and host memory.</summary>
    Cpu = 0,

    /// <summary>A GPU of CUDA's.</summary>
    Cuda = 1,

    /// <summary>Not chosen yet: a GPU if there is a usable one, else the CPU.</summary>
    Auto = -1,
}

/// <summary>A device, by kind and number. The default value is the CPU.</summary>
public readonly record struct AttentionDevice
{
    private AttentionDevice(AttentionDeviceType type, int ordinal)
    {
        Type = type;
        Ordinal = ordinal;
    }

    /// <summary>A GPU if there is a usable one, else the CPU; <see cref="AttentionContext.Explanation"/> says which and why.</summary>
    public static AttentionDevice Auto => new(AttentionDeviceType.Auto, 0);

    /// <summary>The processor and host memory.</summary>
    public static AttentionDevice Cpu => new(AttentionDeviceType.Cpu, 0);

    /// <summary>What kind of device it is.</summary>
    public AttentionDeviceType Type { get; }

    /// <summary>Its number among the devices of its kind, from 0.</summary>
    public int Ordinal { get; }

    /// <summary>A GPU.</summary>
    /// <param name="ordinal">CUDA's number for it, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="ordinal"/> is negative.</exception>
    public static AttentionDevice Cuda(int ordinal = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(ordinal);
        return new(AttentionDeviceType.Cuda, ordinal);
    }

    /// <summary>auto, cpu, cuda:0, cuda:1, …</summary>
    public override string ToString() => Type switch
    {
        AttentionDeviceType.Auto => "auto",
        AttentionDeviceType.Cpu => "cpu",
        _ => string.Create(CultureInfo.InvariantCulture, $"cuda:{Ordinal}"),
    };
}
