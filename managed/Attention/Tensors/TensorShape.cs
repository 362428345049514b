using System.Globalization;

namespace Attention;

/// <summary>Sizes and strides, in elements, and the checks that every tensor passes.</summary>
internal static class TensorShape
{
    internal const int MaxRank = 4;

    /// <summary>How many elements a shape has; throws where the rank, a size or the product is out of range.</summary>
    internal static long Count(ReadOnlySpan<long> shape, string parameter)
    {
        if (shape.Length is < 1 or > MaxRank)
        {
            throw new ArgumentException($"{parameter} has {shape.Length} dimensions; 1..{MaxRank} are allowed", parameter);
        }
        UInt128 count = 1;
        bool empty = false;
        for (int d = 0; d < shape.Length; ++d)
        {
            if (shape[d] < 0)
            {
                throw new ArgumentException($"{parameter}[{d}] is {shape[d]}; sizes are 0 or more", parameter);
            }
            empty |= shape[d] == 0;
            count *= (ulong)Math.Max(1, shape[d]);
            if (count > long.MaxValue)
            {
                throw new ArgumentException($"{parameter} {Text(shape)} overflows: it has more than 2^63 elements", parameter);
            }
        }
        return empty ? 0 : (long)count;
    }

    /// <summary>Row-major strides.</summary>
    internal static void Contiguous(ReadOnlySpan<long> shape, Span<long> strides)
    {
        long inner = 1;
        for (int d = shape.Length - 1; d >= 0; --d)
        {
            strides[d] = inner;
            inner = unchecked(inner * Math.Max(1, shape[d]));
        }
    }

    internal static bool IsContiguous(ReadOnlySpan<long> shape, ReadOnlySpan<long> strides)
    {
        long inner = 1;
        bool contiguous = true;
        for (int d = shape.Length - 1; d >= 0; --d)
        {
            if (shape[d] == 0)
            {
                return true;
            }
            contiguous &= shape[d] == 1 || strides[d] == inner;
            inner = unchecked(inner * shape[d]);
        }
        return contiguous;
    }

    /// <summary>How many elements from the first one on an access may touch; throws where a stride is negative or the sum overflows.</summary>
    internal static long Extent(ReadOnlySpan<long> shape, ReadOnlySpan<long> strides, string parameter)
    {
        Int128 last = 0;
        for (int d = 0; d < shape.Length; ++d)
        {
            if (shape[d] == 0)
            {
                return 0;
            }
            if (shape[d] > 1 && strides[d] < 0)
            {
                throw new ArgumentException(
                    $"{parameter}[{d}] is {strides[d]}; in host memory that begins at the first element strides are 0 or more", parameter);
            }
            last += shape[d] > 1 ? (Int128)strides[d] * (shape[d] - 1) : 0;
            if (last >= long.MaxValue)
            {
                throw new ArgumentException($"{parameter} {Text(strides)} overflows: it reaches beyond 2^63 elements", parameter);
            }
        }
        return (long)last + 1;
    }

    internal static string Text(ReadOnlySpan<long> sizes)
    {
        string[] parts = new string[sizes.Length];
        for (int d = 0; d < parts.Length; ++d)
        {
            parts[d] = sizes[d].ToString(CultureInfo.InvariantCulture);
        }
        return $"[{string.Join(", ", parts)}]";
    }
}
