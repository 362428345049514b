using System.Buffers.Binary;
using System.Text;

namespace Attention.Peers;

/// <summary>One message of the wire format that ONNX files are written in: fields of a number and a value, one after another.</summary>
internal sealed class OnnxWriter
{
    private readonly List<byte> _bytes = [];

    public void Number(int field, long value)
    {
        Tag(field, wire: 0);
        Varint((ulong)value);
    }

    public void Number(int field, float value)
    {
        Tag(field, wire: 5);
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteSingleLittleEndian(bytes, value);
        _bytes.AddRange(bytes);
    }

    public void Text(int field, string text) => Bytes(field, Encoding.UTF8.GetBytes(text));

    public void Message(int field, OnnxWriter message) => Bytes(field, message.ToArray());

    public byte[] ToArray() => [.. _bytes];

    private void Bytes(int field, byte[] bytes)
    {
        Tag(field, wire: 2);
        Varint((ulong)bytes.Length);
        _bytes.AddRange(bytes);
    }

    private void Tag(int field, int wire) => Varint((ulong)((field << 3) | wire));

    private void Varint(ulong value)
    {
        for (; value >= 0x80; value >>= 7)
        {
            _bytes.Add((byte)(value | 0x80));
        }
        _bytes.Add((byte)value);
    }
}
