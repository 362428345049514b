namespace Attention.Peers;

/// <summary>ONNX's numbers for element types.</summary>
internal enum OnnxType
{
    Float32 = 1,
    Int32 = 6,
    Int64 = 7,
    Bool = 9,
    Float16 = 10,
    BFloat16 = 16,
}

/// <summary>An input or output of a model: a name, an element type, a shape.</summary>
internal sealed record OnnxValue(string Name, OnnxType Type, params long[] Shape);

/// <summary>Models of one node: the two operators of ONNX Runtime that compute attention.</summary>
internal static class OnnxModels
{
    /// <summary>ai.onnx Attention, opset 23, or 24 where <paramref name="keyLengths"/> are given: Q [B, Hq, Sq, D], K [B, Hkv, Sk, D],
    /// V [B, Hkv, Sk, Dv], O [B, Hq, Sq, Dv].</summary>
    /// <param name="q">Queries; likewise <paramref name="k"/>, <paramref name="v"/> and the output <paramref name="o"/>.</param>
    /// <param name="mask">bool (true = takes part) or the dtype of Q (added), broadcast to [B, Hq, Sq, Sk]; null: none.</param>
    /// <param name="causal">Top-left causal.</param>
    /// <param name="scale">Null: 1 / sqrt(D).</param>
    /// <param name="softcap">0 = off. Only without a mask: the operator caps after it adds.</param>
    /// <param name="keyLengths">int64 [B]: keys from there on are padding; null: none.</param>
    public static byte[] Attention(
        OnnxValue q, OnnxValue k, OnnxValue v, OnnxValue o, OnnxValue? mask = null, bool causal = false, float? scale = null, float softcap = 0,
        OnnxValue? keyLengths = null)
    {
        OnnxWriter node = new();
        OnnxValue?[] inputs = [q, k, v, mask, null, null, keyLengths]; // between them: keys and values of the past
        foreach (OnnxValue? input in inputs.Take(1 + Array.FindLastIndex(inputs, input => input is not null)))
        {
            node.Text(1, input?.Name ?? ""); // an empty name: that input is not given
        }
        node.Text(2, o.Name);
        node.Text(4, "Attention");
        if (causal)
        {
            node.Message(5, Attribute("is_causal", 1));
        }
        if (scale is not null)
        {
            node.Message(5, Attribute("scale", scale.Value));
        }
        if (softcap > 0)
        {
            node.Message(5, Attribute("softcap", softcap));
        }
        return Model(node, [.. inputs.OfType<OnnxValue>()], o, ("", keyLengths is null ? 23 : 24));
    }

    /// <summary>com.microsoft MultiHeadAttention: Q [B, Sq, H D], K [B, Sk, H D], V [B, Sk, H Dv], O [B, Sq, H Dv].</summary>
    /// <param name="q">Queries; likewise <paramref name="k"/>, <paramref name="v"/> and the output <paramref name="o"/>.</param>
    /// <param name="heads">H.</param>
    /// <param name="keyLengths">int32 [B]: keys from there on are padding; null: none.</param>
    /// <param name="bias">[1 or B, 1 or H, Sq, Sk] in the dtype of Q, added; null: none.</param>
    /// <param name="scale">Null: 1 / sqrt(D).</param>
    /// <param name="causal">Top-left causal where Sq = Sk.</param>
    public static byte[] MultiHeadAttention(
        OnnxValue q, OnnxValue k, OnnxValue v, OnnxValue o, int heads, OnnxValue? keyLengths = null, OnnxValue? bias = null, float? scale = null,
        bool causal = false)
    {
        OnnxWriter node = new();
        foreach (string name in new[] { q.Name, k.Name, v.Name, "", keyLengths?.Name ?? "", bias?.Name ?? "" })
        {
            node.Text(1, name); // an empty name: that input is not given
        }
        node.Text(2, o.Name);
        node.Text(4, "MultiHeadAttention");
        node.Text(7, "com.microsoft");
        node.Message(5, Attribute("num_heads", heads));
        node.Message(5, Attribute("mask_filter_value", float.MinValue));
        if (scale is not null)
        {
            node.Message(5, Attribute("scale", scale.Value));
        }
        if (causal)
        {
            node.Message(5, Attribute("unidirectional", 1));
        }
        OnnxValue?[] inputs = [q, k, v, keyLengths, bias];
        return Model(node, [.. inputs.OfType<OnnxValue>()], o, ("", 17), ("com.microsoft", 1));
    }

    private static byte[] Model(OnnxWriter node, OnnxValue[] inputs, OnnxValue output, params (string Domain, long Version)[] operators)
    {
        OnnxWriter graph = new();
        graph.Message(1, node);
        graph.Text(2, "attention");
        foreach (OnnxValue input in inputs)
        {
            graph.Message(11, Value(input));
        }
        graph.Message(12, Value(output));

        OnnxWriter model = new();
        model.Number(1, 10); // the version of the format
        model.Message(7, graph);
        foreach ((string domain, long version) in operators)
        {
            OnnxWriter set = new();
            set.Text(1, domain);
            set.Number(2, version);
            model.Message(8, set);
        }
        return model.ToArray();
    }

    private static OnnxWriter Value(OnnxValue value)
    {
        OnnxWriter shape = new();
        foreach (long size in value.Shape)
        {
            OnnxWriter dimension = new();
            dimension.Number(1, size);
            shape.Message(1, dimension);
        }
        OnnxWriter tensor = new(), type = new(), info = new();
        tensor.Number(1, (long)value.Type);
        tensor.Message(2, shape);
        type.Message(1, tensor);
        info.Text(1, value.Name);
        info.Message(2, type);
        return info;
    }

    private static OnnxWriter Attribute(string name, float value)
    {
        OnnxWriter attribute = new();
        attribute.Text(1, name);
        attribute.Number(2, value);
        attribute.Number(20, 1); // FLOAT
        return attribute;
    }

    private static OnnxWriter Attribute(string name, long value)
    {
        OnnxWriter attribute = new();
        attribute.Text(1, name);
        attribute.Number(3, value);
        attribute.Number(20, 2); // INT
        return attribute;
    }
}
