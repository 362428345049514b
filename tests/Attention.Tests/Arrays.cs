using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace Attention.Tests;

/// <summary>Writes and reads the files the tool takes and leaves: a second form of both formats, independent of the tool's.</summary>
internal static class Arrays
{
    public static byte[] Npy(string descr, string shape, ReadOnlySpan<byte> data, bool fortran = false, int version = 1)
    {
        string header = $"{{'descr': '{descr}', 'fortran_order': {(fortran ? "True" : "False")}, 'shape': {shape}, }}";
        int prefix = version == 1 ? 10 : 12;
        header = header.PadRight((((prefix + header.Length + 64) / 64) * 64) - prefix - 1) + "\n";
        List<byte> bytes = [0x93, .. "NUMPY"u8, (byte)version, 0];
        byte[] length = new byte[prefix - 8];
        if (version == 1)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(length, (ushort)header.Length);
        }
        else
        {
            BinaryPrimitives.WriteInt32LittleEndian(length, header.Length);
        }
        return [.. bytes, .. length, .. Encoding.Latin1.GetBytes(header), .. data];
    }

    public static byte[] Npy<T>(T[] data, params int[] shape)
        where T : unmanaged
    {
        string descr = typeof(T) == typeof(float) ? "<f4" : typeof(T) == typeof(Half) ? "<f2" : typeof(T) == typeof(double) ? "<f8" : typeof(T) == typeof(int) ? "<i4"
            : typeof(T) == typeof(long) ? "<i8" : typeof(T) == typeof(bool) ? "|b1" : typeof(T) == typeof(byte) ? "|u1" : throw new ArgumentException(typeof(T).Name);
        return Npy(descr, $"({string.Join(", ", shape)}{(shape.Length == 1 ? "," : "")})", MemoryMarshal.AsBytes<T>(data));
    }

    public static byte[] SafeTensors(params (string Name, string DType, int[] Shape, byte[] Data)[] arrays)
    {
        Dictionary<string, object> entries = [];
        int at = 0;
        foreach ((string name, string dtype, int[] shape, byte[] data) in arrays)
        {
            entries[name] = new Dictionary<string, object> { ["dtype"] = dtype, ["shape"] = shape, ["data_offsets"] = new[] { at, at + data.Length } };
            at += data.Length;
        }
        byte[] header = JsonSerializer.SerializeToUtf8Bytes(entries);
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        return [.. length, .. header, .. arrays.SelectMany(array => array.Data)];
    }

    public static byte[] Bytes<T>(params ReadOnlySpan<T> values)
        where T : unmanaged => MemoryMarshal.AsBytes(values).ToArray();

    /// <summary>Reads a .npy file of version 1: its descr, its shape as written there, its elements.</summary>
    public static (string Descr, string Shape, T[] Data) Read<T>(string path)
        where T : unmanaged
    {
        byte[] file = File.ReadAllBytes(path);
        Assert.That(file.AsSpan(0, 8).SequenceEqual((ReadOnlySpan<byte>)[0x93, .. "NUMPY"u8, 1, 0]), Is.True, $"{path} is no .npy file of version 1");
        int length = BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(8));
        string header = Encoding.Latin1.GetString(file, 10, length);
        string descr = header.Split('\'')[3], shape = header[(header.IndexOf('(') + 1)..header.IndexOf(')')];
        Assert.That(header, Does.Contain("'fortran_order': False"));
        return (descr, shape, MemoryMarshal.Cast<byte, T>(file.AsSpan(10 + length)).ToArray());
    }

    /// <summary>Reads one array of a safetensors file, converted to double.</summary>
    public static (int[] Shape, double[] Data) ReadSafeTensors(string path, string name)
    {
        using FileStream stream = File.OpenRead(path);
        byte[] length = new byte[8];
        stream.ReadExactly(length);
        byte[] header = new byte[BinaryPrimitives.ReadInt64LittleEndian(length)];
        stream.ReadExactly(header);
        using JsonDocument document = JsonDocument.Parse(header);
        JsonElement entry = document.RootElement.GetProperty(name);
        int[] shape = [.. entry.GetProperty("shape").EnumerateArray().Select(size => size.GetInt32())];
        long[] ends = [.. entry.GetProperty("data_offsets").EnumerateArray().Select(end => end.GetInt64())];
        byte[] data = new byte[ends[1] - ends[0]];
        stream.Position = 8 + header.Length + ends[0];
        stream.ReadExactly(data);
        double[] numbers = entry.GetProperty("dtype").GetString() switch
        {
            "F16" => [.. MemoryMarshal.Cast<byte, Half>(data).ToArray().Select(value => (double)value)],
            "F32" => [.. MemoryMarshal.Cast<byte, float>(data).ToArray().Select(value => (double)value)],
            "F64" => MemoryMarshal.Cast<byte, double>(data).ToArray(),
            "I32" => [.. MemoryMarshal.Cast<byte, int>(data).ToArray().Select(value => (double)value)],
            "I64" => [.. MemoryMarshal.Cast<byte, long>(data).ToArray().Select(value => (double)value)],
            var other => throw new NotSupportedException(other),
        };
        return (shape, numbers);
    }
}
