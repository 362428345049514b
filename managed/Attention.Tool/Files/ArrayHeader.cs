namespace Attention.Tool.Files;

/// <summary>What a file's header says of an array, checked against the file's length. A defect of the file is a <see cref="FormatException"/>.</summary>
/// <param name="Type">The element type.</param>
/// <param name="Shape">The dimensions; none for a scalar.</param>
/// <param name="FortranOrder">Whether the first index runs fastest.</param>
/// <param name="Start">Where the elements begin, in bytes from the file's start.</param>
internal sealed record ArrayHeader(ElementType Type, long[] Shape, bool FortranOrder, long Start)
{
    /// <summary>numpy's own limit is 64 dimensions; attention needs 4.</summary>
    public const int MaxRank = 32;

    public long Count { get; } = Product(Shape);

    /// <summary>Checks that the elements are all there: <paramref name="available"/> bytes follow <see cref="Start"/>.</summary>
    public ArrayHeader Within(long available)
    {
        long bytes = Bytes(Count, Type, Shape);
        return bytes <= available
            ? this
            : throw new FormatException(
                $"is truncated: {Text(Shape)} of {Type.Name()} needs {bytes} bytes after the header, {Math.Max(available, 0)} are there");
    }

    public static long Bytes(long count, ElementType type, long[] shape)
    {
        try
        {
            return checked(count * type.Size());
        }
        catch (OverflowException)
        {
            throw Overflowing(shape);
        }
    }

    public static string Text(ReadOnlySpan<long> shape) => $"[{string.Join(", ", shape.ToArray())}]";

    // Zero dimensions do not excuse the others: their product must be a number too, since strides are made of it.
    private static long Product(long[] shape)
    {
        if (shape.Length > MaxRank)
        {
            throw new FormatException($"has {shape.Length} dimensions; at most {MaxRank} are read");
        }
        try
        {
            long product = 1;
            bool empty = false;
            foreach (long size in shape)
            {
                empty |= size == 0;
                product = checked(product * Math.Max(size, 1));
            }
            return empty ? 0 : product;
        }
        catch (OverflowException)
        {
            throw Overflowing(shape);
        }
    }

    private static FormatException Overflowing(long[] shape) => new($"shape {Text(shape)} overflows: at most 2^63 - 1 bytes are counted");
}
