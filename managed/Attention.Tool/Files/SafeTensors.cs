using System.Buffers.Binary;
using System.Text.Json;

namespace Attention.Tool.Files;

/// <summary>
/// The safetensors format: the length of a JSON header, the header (name → dtype, shape, data_offsets), the elements, always row-major and little-endian.
/// Source: the format's description in its repository.
/// </summary>
internal static class SafeTensors
{
    /// <summary>The longest header read: the format's own limit.</summary>
    public const long MaxHeader = 100_000_000;

    /// <summary>Reads the header of a stream that stands at its start and finds the array of that name.</summary>
    /// <exception cref="FormatException">Not a safetensors file, no such array, or one of a kind that is not read.</exception>
    public static ArrayHeader ReadHeader(Stream stream, string? name)
    {
        Span<byte> prefix = stackalloc byte[8];
        if (stream.ReadAtLeast(prefix, prefix.Length, throwOnEndOfStream: false) < prefix.Length)
        {
            throw new FormatException("is not a safetensors file: it ends before its header's length");
        }
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > MaxHeader)
        {
            throw new FormatException($"is not a safetensors file: its header would have {length} bytes; at most {MaxHeader} are read");
        }
        if (length > (ulong)(stream.Length - prefix.Length))
        {
            throw new FormatException($"is truncated: its header has {length} bytes, {stream.Length - prefix.Length} are there");
        }
        byte[] header = new byte[length];
        stream.ReadExactly(header);
        try
        {
            using JsonDocument document = JsonDocument.Parse(header, new JsonDocumentOptions { MaxDepth = 8 });
            long start = prefix.Length + (long)length;
            return Find(document.RootElement, name, start, stream.Length - start);
        }
        catch (JsonException defect)
        {
            throw new FormatException($"has a damaged safetensors header: no JSON at byte {defect.BytePositionInLine ?? 0}");
        }
        catch (InvalidOperationException) // an escape that is half a surrogate pair is JSON, but no text
        {
            throw new FormatException("has a damaged safetensors header: a name is not text");
        }
    }

    private static ArrayHeader Find(JsonElement root, string? name, long start, long available)
    {
        if (root.ValueKind != JsonValueKind.Object)
        {
            throw Defect("it is not an object");
        }
        if (string.IsNullOrEmpty(name) || name == "__metadata__" || !root.TryGetProperty(name, out JsonElement entry))
        {
            string wrong = string.IsNullOrEmpty(name) ? "needs the name of an array, as FILE.safetensors:NAME" : "has no array of that name";
            throw new FormatException($"{wrong}; it holds {Names(root)}");
        }
        if (entry.ValueKind != JsonValueKind.Object)
        {
            throw Defect("the array's entry is not an object");
        }
        ElementType type = TypeOf(Member(entry, "dtype", JsonValueKind.String).GetString()!);
        long[] shape = Numbers(Member(entry, "shape", JsonValueKind.Array), "shape", ArrayHeader.MaxRank);
        long[] offsets = Numbers(Member(entry, "data_offsets", JsonValueKind.Array), "data_offsets", 2);
        if (offsets.Length != 2 || offsets[0] > offsets[1])
        {
            throw Defect($"data_offsets {ArrayHeader.Text(offsets)} are not a begin and an end");
        }
        ArrayHeader header = new(type, shape, FortranOrder: false, start + Math.Min(offsets[0], available));
        long bytes = ArrayHeader.Bytes(header.Count, type, shape);
        if (bytes != offsets[1] - offsets[0])
        {
            throw Defect(
                $"{ArrayHeader.Text(shape)} of {type.Name()} needs {bytes} bytes, data_offsets {ArrayHeader.Text(offsets)} hold {offsets[1] - offsets[0]}");
        }
        return offsets[1] <= available
            ? header
            : throw new FormatException($"is truncated: the array ends at byte {offsets[1]} after the header, {available} are there");
    }

    private static JsonElement Member(JsonElement entry, string name, JsonValueKind kind) =>
        entry.TryGetProperty(name, out JsonElement member) && member.ValueKind == kind
            ? member
            : throw Defect($"the array's {name} is missing or of the wrong kind");

    private static long[] Numbers(JsonElement list, string name, int most)
    {
        if (list.GetArrayLength() > most)
        {
            throw new FormatException($"{name} has {list.GetArrayLength()} numbers; at most {most} are read");
        }
        return [.. list.EnumerateArray().Select(Number)];

        long Number(JsonElement number) => number.ValueKind == JsonValueKind.Number && number.TryGetInt64(out long value) && value >= 0
            ? value
            : throw Defect($"{name} holds {NpyDictionary.Quote(number.GetRawText())}; whole numbers from 0 to 2^63 - 1 are read");
    }

    private static ElementType TypeOf(string dtype) => dtype switch
    {
        "F16" => ElementType.Float16,
        "BF16" => ElementType.BFloat16,
        "F32" => ElementType.Float32,
        "F64" => ElementType.Float64,
        "I32" => ElementType.Int32,
        "I64" => ElementType.Int64,
        "BOOL" => ElementType.Bool,
        "U8" => ElementType.UInt8,
        _ => throw new FormatException($"has elements of type {NpyDictionary.Quote(dtype)}; read are F16, BF16, F32, F64, I32, I64, BOOL, U8"),
    };

    private static string Names(JsonElement root)
    {
        const int Shown = 12;
        string[] names = [.. root.EnumerateObject().Select(entry => entry.Name).Where(entry => entry != "__metadata__").Take(Shown + 1)];
        return names.Length == 0 ? "none" : string.Join(", ", names.Take(Shown).Select(NpyDictionary.Quote)) + (names.Length > Shown ? ", …" : "");
    }

    private static FormatException Defect(string what) => new($"has a damaged safetensors header: {what}");
}
