using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace Attention.Tool.Files;

/// <summary>
/// numpy's file of one array: a magic, a version, a header that is a Python dictionary, the elements. Versions 1 to 3 are read, version 1 is written.
/// Source: numpy.lib.format's description of the format.
/// </summary>
internal static class Npy
{
    /// <summary>The longest header read; numpy writes 128 bytes for any plain array.</summary>
    public const int MaxHeader = 1 << 16;

    private const int MagicLength = 8; // with the version

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    /// <summary>Reads the header of a stream that stands at its start.</summary>
    /// <exception cref="FormatException">Not a .npy file, or one of a kind that is not read.</exception>
    public static ArrayHeader ReadHeader(Stream stream)
    {
        Span<byte> magic = stackalloc byte[MagicLength];
        int read = stream.ReadAtLeast(magic, MagicLength, throwOnEndOfStream: false);
        if (read < MagicLength || !magic.StartsWith(Magic))
        {
            throw new FormatException($"is not a .npy file: it begins with {Bytes(magic[..Math.Min(read, Magic.Length)])}, a .npy file with 93 4E 55 4D 50 59");
        }
        int major = magic[6];
        if (major is < 1 or > 3)
        {
            throw new FormatException($"has .npy version {major}.{magic[7]}; 1, 2 and 3 are read");
        }
        Span<byte> length = stackalloc byte[major == 1 ? 2 : 4];
        if (stream.ReadAtLeast(length, length.Length, throwOnEndOfStream: false) < length.Length)
        {
            throw new FormatException("is truncated: it ends before its header's length");
        }
        long headerLength = major == 1 ? BinaryPrimitives.ReadUInt16LittleEndian(length) : BinaryPrimitives.ReadUInt32LittleEndian(length);
        if (headerLength > MaxHeader)
        {
            throw new FormatException($"has a header of {headerLength} bytes; at most {MaxHeader} are read");
        }
        byte[] header = new byte[headerLength];
        int present = stream.ReadAtLeast(header, header.Length, throwOnEndOfStream: false);
        if (present < headerLength)
        {
            throw new FormatException($"is truncated: its header has {headerLength} bytes, {present} are there");
        }
        NpyDictionary entries = NpyDictionary.Parse(Encoding.UTF8.GetString(header));
        long start = MagicLength + length.Length + headerLength;
        return new ArrayHeader(TypeOf(entries.Descr), entries.Shape, entries.FortranOrder, start).Within(stream.Length - start);
    }

    /// <summary>Writes a whole file: little-endian, row-major, as numpy.save does.</summary>
    public static void Write<T>(Stream stream, ElementType type, ReadOnlySpan<long> shape, ReadOnlySpan<T> elements)
        where T : unmanaged
    {
        string dimensions = string.Join(", ", shape.ToArray()) + (shape.Length == 1 ? "," : "");
        string dictionary = $"{{'descr': '{Descr(type)}', 'fortran_order': False, 'shape': ({dimensions}), }}";
        const int Align = 64; // so that the elements can be mapped into memory
        int length = (MagicLength + 2 + dictionary.Length + 1 + Align - 1) / Align * Align;
        byte[] header = new byte[length];
        header.AsSpan().Fill((byte)' ');
        Magic.CopyTo(header);
        (header[6], header[7], header[^1]) = (1, 0, (byte)'\n');
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(MagicLength), (ushort)(length - MagicLength - 2));
        Encoding.ASCII.GetBytes(dictionary, header.AsSpan(MagicLength + 2));
        stream.Write(header);
        const int Chunk = 1 << 16; // elements: a span of bytes ends at 2^31
        for (; !elements.IsEmpty; elements = elements[Math.Min(Chunk, elements.Length)..])
        {
            stream.Write(MemoryMarshal.AsBytes(elements[..Math.Min(Chunk, elements.Length)]));
        }
    }

    private static string Descr(ElementType type) => type switch
    {
        ElementType.Float16 => "<f2",
        ElementType.Float32 => "<f4",
        ElementType.Float64 => "<f8",
        ElementType.Int32 => "<i4",
        ElementType.Int64 => "<i8",
        ElementType.Bool => "|b1",
        ElementType.UInt8 => "|u1",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "has no name in numpy"),
    };

    private static ElementType TypeOf(string descr) => descr switch
    {
        "<f2" => ElementType.Float16,
        "<f4" => ElementType.Float32,
        "<f8" => ElementType.Float64,
        "<i4" => ElementType.Int32,
        "<i8" => ElementType.Int64,
        "|b1" or "<b1" or ">b1" => ElementType.Bool,
        "|u1" or "<u1" or ">u1" => ElementType.UInt8,
        _ when descr.StartsWith('>') => throw new FormatException($"is big-endian ({NpyDictionary.Quote(descr)}); little-endian is read"),
        _ => throw new FormatException($"has elements of type {NpyDictionary.Quote(descr)}; read are f2, f4, f8, i4, i8, b1, u1"),
    };

    private static string Bytes(ReadOnlySpan<byte> bytes) => bytes.IsEmpty ? "nothing" : BitConverter.ToString(bytes.ToArray()).Replace('-', ' ');
}
