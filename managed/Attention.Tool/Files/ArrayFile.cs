using System.Runtime.CompilerServices;

namespace Attention.Tool.Files;

/// <summary>
/// An array in a file, its header read and checked, its elements still on disk: a .npy file, or <c>FILE.safetensors:NAME</c>.
/// Whatever the file holds, opening it uses memory in proportion to the file at most, and every defect is an <see cref="InputException"/>.
/// </summary>
internal sealed class ArrayFile
{
    private const string SafeTensorsSeparator = ".safetensors:";
    private const int ChunkBytes = 1 << 18;

    private readonly string _path;
    private readonly long _start;
    private readonly bool _fortranOrder;

    private ArrayFile(string option, string reference, string path, ArrayHeader header)
    {
        (Option, Reference, _path) = (option, reference, path);
        (Type, Shape, _start, _fortranOrder) = (header.Type, header.Shape, header.Start, header.FortranOrder);
        Count = header.Count;
    }

    /// <summary>The option that named the file, e.g. <c>--mask</c>.</summary>
    public string Option { get; }

    /// <summary>The file as the user wrote it.</summary>
    public string Reference { get; }

    public ElementType Type { get; }

    public long[] Shape { get; }

    public long Count { get; }

    public string ShapeText => ArrayHeader.Text(Shape);

    /// <summary>Opens the file and reads its header.</summary>
    /// <exception cref="InputException">The file cannot be read or is not an array of a type this tool reads.</exception>
    public static ArrayFile Open(string option, string reference)
    {
        int separator = reference.IndexOf(SafeTensorsSeparator, StringComparison.OrdinalIgnoreCase);
        string path = separator < 0 ? reference : reference[..(separator + SafeTensorsSeparator.Length - 1)];
        string? name = separator < 0 ? null : reference[(separator + SafeTensorsSeparator.Length)..];
        try
        {
            using FileStream stream = OpenRead(path);
            bool safetensors = name is not null || path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase);
            ArrayHeader header = safetensors ? SafeTensors.ReadHeader(stream, name) : Npy.ReadHeader(stream);
            return new ArrayFile(option, reference, path, header);
        }
        catch (FormatException defect)
        {
            throw InputException.Of(option, reference, defect.Message);
        }
        catch (Exception failure) when (IsFileFailure(failure))
        {
            throw InputException.Of(option, reference, Sentence(failure, path));
        }
    }

    /// <summary>
    /// All elements in row-major order, converted to <typeparamref name="T"/>: between float types to nearest even; integers to int by value;
    /// bool and uint8 to byte, a true bool being 1.
    /// </summary>
    /// <exception cref="InputException">An element is out of range, or the file can no longer be read.</exception>
    public T[] Read<T>()
        where T : unmanaged
    {
        if (Count > Array.MaxLength)
        {
            throw Wrong($"has {Count} elements; at most {Array.MaxLength} are read");
        }
        T[] elements;
        try
        {
            elements = new T[Count];
        }
        catch (OutOfMemoryException)
        {
            throw Wrong($"has {Count} elements; there is no memory for {Count * Unsafe.SizeOf<T>()} bytes");
        }
        try
        {
            using FileStream stream = OpenRead(_path);
            stream.Position = _start;
            ReadInto<T>(stream, elements);
        }
        catch (Exception failure) when (IsFileFailure(failure))
        {
            throw Wrong(Sentence(failure, _path));
        }
        return elements;
    }

    /// <summary>An error about this array.</summary>
    public InputException Wrong(string what) => InputException.Of(Option, Reference, what);

    private void ReadInto<T>(FileStream stream, Span<T> elements)
        where T : unmanaged
    {
        int size = Type.Size();
        byte[] chunk = new byte[(int)Math.Min(ChunkBytes, Count * size)];
        T[] converted = new T[chunk.Length / size];
        FortranWalk? walk = _fortranOrder ? new FortranWalk(Shape) : null;
        for (long done = 0; done < elements.Length;)
        {
            int count = (int)Math.Min(converted.Length, elements.Length - done);
            Span<byte> bytes = chunk.AsSpan(0, count * size);
            stream.ReadExactly(bytes);
            if (walk is null)
            {
                ElementConversion.Convert(this, done, bytes, elements.Slice((int)done, count));
            }
            else
            {
                ElementConversion.Convert(this, done, bytes, converted.AsSpan(0, count));
                foreach (T element in converted.AsSpan(0, count))
                {
                    elements[(int)walk.Next()] = element;
                }
            }
            done += count;
        }
    }

    private static FileStream OpenRead(string path)
    {
        if (Directory.Exists(path))
        {
            throw new IOException("is a folder");
        }
        FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 1, FileOptions.SequentialScan);
        if (!stream.CanSeek)
        {
            stream.Dispose();
            throw new IOException("is not a regular file");
        }
        return stream;
    }

    private static bool IsFileFailure(Exception failure) =>
        failure is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException;

    private static string Sentence(Exception failure, string path) => failure switch
    {
        FileNotFoundException or DirectoryNotFoundException => "there is no such file",
        UnauthorizedAccessException => "may not be read",
        EndOfStreamException => "became shorter while it was read",
        _ when failure.Message.Contains(path, StringComparison.Ordinal) || path.Length == 0 => "cannot be read",
        _ => failure.Message.ReplaceLineEndings(" "),
    };

    /// <summary>Where the next element of a column-major file belongs in row-major order.</summary>
    private sealed class FortranWalk
    {
        private readonly long[] _shape, _strides, _index;
        private long _position;

        public FortranWalk(long[] shape)
        {
            _shape = shape;
            _index = new long[shape.Length];
            _strides = new long[shape.Length];
            long stride = 1;
            for (int d = shape.Length - 1; d >= 0; d--)
            {
                _strides[d] = stride;
                stride *= shape[d];
            }
        }

        public long Next()
        {
            long here = _position;
            for (int d = 0; d < _shape.Length; d++)
            {
                _position += _strides[d];
                if (++_index[d] < _shape[d])
                {
                    break;
                }
                _position -= _strides[d] * _shape[d];
                _index[d] = 0;
            }
            return here;
        }
    }
}
