using System.Globalization;
using System.Runtime.InteropServices;

namespace Attention;

/// <summary>The upper half of a float32: 8 bits of exponent, 7 of fraction. 2 bytes in memory, as the native library reads them.</summary>
[StructLayout(LayoutKind.Sequential, Size = 2)]
public readonly struct BFloat16 : IEquatable<BFloat16>, IComparable<BFloat16>
{
    private readonly ushort _bits;

    private BFloat16(ushort bits) => _bits = bits;

    /// <summary>The number with these 16 bits: sign, exponent, fraction.</summary>
    public static BFloat16 FromBits(ushort bits) => new(bits);

    /// <summary>The 16 bits of the number: sign, exponent, fraction.</summary>
    public ushort ToBits() => _bits;

    /// <summary>Rounds to the nearest, ties to even. What is too large becomes infinity; NaN stays NaN.</summary>
    public static explicit operator BFloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        if (float.IsNaN(value))
        {
            return new((ushort)((bits >> 16) | 0x40)); // quiet, and never an infinity
        }
        return new((ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16));
    }

    /// <summary>Rounds to float32 first: to odd, so that the second rounding is the only one that counts.</summary>
    public static explicit operator BFloat16(double value)
    {
        float single = (float)value;
        if (single != value && float.IsFinite(single) && (BitConverter.SingleToUInt32Bits(single) & 1) == 0)
        {
            // the neighbour on value's side has an odd last bit
            single = single < value ? float.BitIncrement(single) : float.BitDecrement(single);
        }
        return (BFloat16)single;
    }

    /// <summary>Exact.</summary>
    public static implicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value._bits << 16);

    /// <summary>Whether the numbers are equal; NaN equals nothing.</summary>
    public static bool operator ==(BFloat16 left, BFloat16 right) => (float)left == right;

    /// <summary>Whether the numbers differ; NaN differs from everything.</summary>
    public static bool operator !=(BFloat16 left, BFloat16 right) => (float)left != right;

    /// <summary>Whether <paramref name="left"/> is less.</summary>
    public static bool operator <(BFloat16 left, BFloat16 right) => (float)left < right;

    /// <summary>Whether <paramref name="left"/> is greater.</summary>
    public static bool operator >(BFloat16 left, BFloat16 right) => (float)left > right;

    /// <summary>Whether <paramref name="left"/> is less or equal.</summary>
    public static bool operator <=(BFloat16 left, BFloat16 right) => (float)left <= right;

    /// <summary>Whether <paramref name="left"/> is greater or equal.</summary>
    public static bool operator >=(BFloat16 left, BFloat16 right) => (float)left >= right;

    /// <summary>Whether both are NaN or the numbers are equal.</summary>
    public bool Equals(BFloat16 other) => ((float)this).Equals(other);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is BFloat16 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ((float)this).GetHashCode();

    /// <summary>Orders as float32 does: NaN before everything.</summary>
    public int CompareTo(BFloat16 other) => ((float)this).CompareTo(other);

    /// <summary>The number as float32 writes it, in the invariant culture.</summary>
    public override string ToString() => ((float)this).ToString(CultureInfo.InvariantCulture);
}
