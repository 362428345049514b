namespace Attention;

/// <summary>What the elements of a tensor are. The numbers are the C ABI's.</summary>
public enum AttentionDType
{
    /// <summary>float.</summary>
    Float32 = 1,

    /// <summary><see cref="Half"/>.</summary>
    Float16 = 2,

    /// <summary><see cref="Attention.BFloat16"/>.</summary>
    BFloat16 = 3,

    /// <summary>double; computed by the naive CPU backend alone, as a reference.</summary>
    Float64 = 4,

    /// <summary>int: lengths, offsets, prefixes, document ids.</summary>
    Int32 = 5,

    /// <summary>byte or bool: a keep mask, non-zero = takes part.</summary>
    UInt8 = 6,
}

/// <summary>The one table of dtypes: which .NET type holds which, and how large it is.</summary>
internal static class DTypes
{
    internal static AttentionDType Of<T>()
        where T : unmanaged
    {
        // Each comparison is a constant where T is known: this compiles to a number.
        return typeof(T) == typeof(float) ? AttentionDType.Float32
            : typeof(T) == typeof(Half) ? AttentionDType.Float16
            : typeof(T) == typeof(BFloat16) ? AttentionDType.BFloat16
            : typeof(T) == typeof(double) ? AttentionDType.Float64
            : typeof(T) == typeof(int) ? AttentionDType.Int32
            : typeof(T) == typeof(byte) || typeof(T) == typeof(bool) ? AttentionDType.UInt8
            : typeof(T).FullName == "System.Numerics.BFloat16" ? AttentionDType.BFloat16 // newer runtimes have one of their own, with the same bits
            : throw new ArgumentException(
                $"T is {typeof(T)}; float, Half, BFloat16, double, int, byte or bool is allowed", nameof(T));
    }

    internal static int Size(AttentionDType dtype) => dtype switch
    {
        AttentionDType.Float32 or AttentionDType.Int32 => 4,
        AttentionDType.Float16 or AttentionDType.BFloat16 => 2,
        AttentionDType.Float64 => 8,
        AttentionDType.UInt8 => 1,
        _ => throw new ArgumentException($"dtype is {(int)dtype}; Float32, Float16, BFloat16, Float64, Int32 or UInt8 is allowed", nameof(dtype)),
    };

    /// <summary>The name, without the cost of formatting an enumeration.</summary>
    internal static string Name(AttentionDType dtype) => dtype switch
    {
        AttentionDType.Float32 => "float32",
        AttentionDType.Float16 => "float16",
        AttentionDType.BFloat16 => "bfloat16",
        AttentionDType.Float64 => "float64",
        AttentionDType.Int32 => "int32",
        AttentionDType.UInt8 => "uint8",
        _ => "unknown",
    };
}
