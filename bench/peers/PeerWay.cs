using Microsoft.ML.OnnxRuntime;

namespace Attention.Peers;

/// <summary>A way of asking ONNX Runtime: an operator, and the form in which it gets the mask.</summary>
/// <param name="Name">As the report has it.</param>
/// <param name="Turned">Whether its tensors are [B, S, H D], not [B, H, S, D].</param>
/// <param name="Model">From Q, K, V, O to a model of one node.</param>
/// <param name="Mask">The input that holds the mask; null: none.</param>
/// <param name="Value">What it holds.</param>
internal sealed record PeerWay(
    string Name, bool Turned, Func<OnnxValue, OnnxValue, OnnxValue, OnnxValue, byte[]> Model, OnnxValue? Mask = null, Func<OrtValue>? Value = null)
{
    /// <summary>Every way that could be the right one for a row; each is tried once.</summary>
    public static IEnumerable<PeerWay> Of(Group group, Row row)
    {
        const string Contrib = "MultiHeadAttention", Standard = "Attention-23";
        if (row.Lengths is not { } lengths)
        {
            string suffix = row.Causal ? ", causal" : "";
            yield return new(Contrib + suffix, true, (q, k, v, o) => OnnxModels.MultiHeadAttention(q, k, v, o, group.Heads, causal: row.Causal));
            yield return new(Standard + suffix, false, (q, k, v, o) => OnnxModels.Attention(q, k, v, o, causal: row.Causal));
            yield break;
        }
        int b = group.Batch, s = group.Length;
        OnnxValue n = new("lengths", OnnxType.Int32, b);
        yield return new($"{Contrib}, lengths [B]", true, (q, k, v, o) => OnnxModels.MultiHeadAttention(q, k, v, o, group.Heads, keyLengths: n), n,
            () => OrtValue.CreateTensorValueFromMemory(lengths, n.Shape));
        OnnxValue bias = new("bias", OnnxType.Float32, b, 1, s, s), keep = new("keep", OnnxType.Bool, b, 1, s, s);
        yield return new($"{Contrib}, float [B, 1, S, S]", true, (q, k, v, o) => OnnxModels.MultiHeadAttention(q, k, v, o, group.Heads, bias: bias), bias,
            () => OrtValue.CreateTensorValueFromMemory(Dense(lengths, s, 0, float.NegativeInfinity), bias.Shape));
        OnnxValue n64 = new("lengths", OnnxType.Int64, b);
        yield return new("Attention-24, lengths [B]", false, (q, k, v, o) => OnnxModels.Attention(q, k, v, o, keyLengths: n64), n64,
            () => OrtValue.CreateTensorValueFromMemory(Array.ConvertAll(lengths, length => (long)length), n64.Shape));
        // Its mask of one row for all queries, [B, 1, 1, S], it refuses.
        yield return new($"{Standard}, bool [B, 1, S, S]", false, (q, k, v, o) => OnnxModels.Attention(q, k, v, o, keep), keep,
            () => OrtValue.CreateTensorValueFromMemory(Dense(lengths, s, true, false), keep.Shape));
    }

    private static T[] Dense<T>(int[] lengths, int size, T seen, T hidden)
    {
        T[] dense = new T[lengths.Length * size * size];
        dense.AsSpan().Fill(hidden);
        for (int row = 0; row < lengths.Length * size; row++)
        {
            dense.AsSpan(row * size, lengths[row / size]).Fill(seen);
        }
        return dense;
    }
}
