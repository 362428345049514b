using Attention.Interop;

namespace Attention;

/// <summary>How many elements it is to the next batch, head, row and column of a [B, H, S, D] tensor, whatever its layout in memory.</summary>
/// <param name="Batch">To the next batch.</param>
/// <param name="Head">To the next head.</param>
/// <param name="Row">To the next query or key.</param>
/// <param name="Column">To the next element of a row; 1 where they lie side by side.</param>
public readonly record struct TensorStrides(long Batch, long Head, long Row, long Column)
{
    /// <summary>Row-major strides of a tensor [*, heads, rows, columns].</summary>
    internal static TensorStrides Contiguous(long heads, long rows, long columns) =>
        unchecked(new(Math.Max(1, heads) * Math.Max(1, rows) * Math.Max(1, columns), Math.Max(1, rows) * Math.Max(1, columns), Math.Max(1, columns), 1));

    internal void CopyTo(Span<long> strides)
    {
        strides[0] = Batch;
        strides[1] = Head;
        strides[2] = Row;
        strides[3] = Column;
    }
}

/// <summary>
/// What is asked, without data: sizes, strides, dtype, kinds of mask and bias, scale, softcap. Q [B, Hq, Sq, D], K [B, Hkv, Sk, D], V [B, Hkv, Sk, Dv], O [B,
/// Hq, Sq, Dv]. Compared by value. <c>For(q, k, v) with { Mask = mask.Kinds }</c> is the way to one.
/// </summary>
/// <remarks>Nothing is checked here but what <c>For</c> says; <see cref="AttentionContext.Plan"/> checks all of it.</remarks>
public sealed record AttentionProblem
{
    /// <summary>Of Q, K, V and O: float32, float16, bfloat16; float64 for the naive CPU backend.</summary>
    public AttentionDType DType { get; init; } = AttentionDType.Float32;

    /// <summary>B, 0 or more.</summary>
    public long Batch { get; init; }

    /// <summary>Hq, a multiple of <see cref="KeyHeads"/>: query head h reads key head h / (Hq / Hkv).</summary>
    public long QueryHeads { get; init; }

    /// <summary>Hkv.</summary>
    public long KeyHeads { get; init; }

    /// <summary>Sq, 0 or more.</summary>
    public long Queries { get; init; }

    /// <summary>Sk, 0 or more. K and V may be described at capacity, and key lengths given at run.</summary>
    public long Keys { get; init; }

    /// <summary>D, 1 or more.</summary>
    public long HeadDim { get; init; }

    /// <summary>Dv, 1 or more.</summary>
    public long ValueDim { get; init; }

    /// <summary>Of Q, in elements; null = contiguous [B, Hq, Sq, D].</summary>
    public TensorStrides? QueryStrides { get; init; }

    /// <summary>Of K, in elements; null = contiguous [B, Hkv, Sk, D].</summary>
    public TensorStrides? KeyStrides { get; init; }

    /// <summary>Of V, in elements; null = contiguous [B, Hkv, Sk, Dv].</summary>
    public TensorStrides? ValueStrides { get; init; }

    /// <summary>Of O, in elements; null = contiguous [B, Hq, Sq, Dv].</summary>
    public TensorStrides? OutputStrides { get; init; }

    /// <summary>Which kinds of mask each run will give.</summary>
    public MaskKinds Mask { get; init; }

    /// <summary>Which additive terms each run will give.</summary>
    public BiasKinds Bias { get; init; }

    /// <summary>Where queries stand among the keys. A plan keeps the kind; its number is what a run takes that gives none.</summary>
    public QueryOffset Offset { get; init; }

    /// <summary>What Q K^T is multiplied by, any finite number; null = 1 / sqrt(D).</summary>
    public float? Scale { get; init; }

    /// <summary>S = softcap * tanh(S / softcap); finite and > 0, or 0 = off.</summary>
    public float Softcap { get; init; }

    /// <summary>Whether each run also writes the probabilities, float32 [B, Hq, Sq, Sk]: only the naive backend does.</summary>
    public bool Probabilities { get; init; }

    /// <summary>The problem of three tensors with four dimensions, and of an output where it is not contiguous.</summary>
    /// <param name="q">[B, Hq, Sq, D].</param>
    /// <param name="k">[B, Hkv, Sk, D].</param>
    /// <param name="v">[B, Hkv, Sk, Dv].</param>
    /// <param name="output">[B, Hq, Sq, Dv]; null = contiguous.</param>
    /// <exception cref="ArgumentException">Ranks, sizes or dtypes do not fit together; the message has the numbers.</exception>
    public static AttentionProblem For(AttentionTensor q, AttentionTensor k, AttentionTensor v, AttentionTensor? output = null)
    {
        ArgumentNullException.ThrowIfNull(q);
        ArgumentNullException.ThrowIfNull(k);
        ArgumentNullException.ThrowIfNull(v);
        CheckDType(k, nameof(k), q.DType);
        CheckDType(v, nameof(v), q.DType);
        AttentionProblem problem = For(q.DType, q.Shape, k.Shape, v.Shape, "q", "k", "v") with
        {
            QueryStrides = StridesOf(q),
            KeyStrides = StridesOf(k),
            ValueStrides = StridesOf(v),
        };
        if (output is not null)
        {
            CheckDType(output, nameof(output), q.DType);
            problem.CheckOutput(output.Shape, nameof(output));
            problem = problem with { OutputStrides = StridesOf(output) };
        }
        return problem;
    }

    /// <summary>The problem of contiguous tensors with these shapes.</summary>
    /// <param name="dtype">Of all.</param>
    /// <param name="qShape">[B, Hq, Sq, D].</param>
    /// <param name="kShape">[B, Hkv, Sk, D].</param>
    /// <param name="vShape">[B, Hkv, Sk, Dv].</param>
    /// <exception cref="ArgumentException">Ranks or sizes do not fit together; the message has the numbers.</exception>
    public static AttentionProblem For(AttentionDType dtype, ReadOnlySpan<long> qShape, ReadOnlySpan<long> kShape, ReadOnlySpan<long> vShape) =>
        For(dtype, qShape, kShape, vShape, nameof(qShape), nameof(kShape), nameof(vShape));

    internal static AttentionProblem For(
        AttentionDType dtype, ReadOnlySpan<long> q, ReadOnlySpan<long> k, ReadOnlySpan<long> v, string qName, string kName, string vName)
    {
        CheckRank(q, qName);
        CheckRank(k, kName);
        CheckRank(v, vName);
        CheckSize(k, kName, 0, q[0], $"{qName}'s batch");
        CheckSize(k, kName, 3, q[3], $"{qName}'s head dimension");
        CheckSize(v, vName, 0, q[0], $"{qName}'s batch");
        CheckSize(v, vName, 1, k[1], $"{kName}'s heads");
        CheckSize(v, vName, 2, k[2], $"{kName}'s keys");
        if (k[1] == 0 ? q[1] != 0 : q[1] % k[1] != 0 || q[1] == 0)
        {
            throw new ArgumentException($"{qName} has {q[1]} heads; a multiple of {kName}'s {k[1]} is needed (0 only where both are)", qName);
        }
        return new()
        {
            DType = dtype,
            Batch = q[0],
            QueryHeads = q[1],
            KeyHeads = k[1],
            Queries = q[2],
            Keys = k[2],
            HeadDim = q[3],
            ValueDim = v[3],
        };
    }

    internal void CheckOutput(ReadOnlySpan<long> shape, string name)
    {
        CheckRank(shape, name);
        CheckSize(shape, name, 0, Batch, "q's batch");
        CheckSize(shape, name, 1, QueryHeads, "q's heads");
        CheckSize(shape, name, 2, Queries, "q's queries");
        CheckSize(shape, name, 3, ValueDim, "v's dimension");
    }

    internal TensorStrides QLayout => QueryStrides ?? TensorStrides.Contiguous(QueryHeads, Queries, HeadDim);

    internal TensorStrides KLayout => KeyStrides ?? TensorStrides.Contiguous(KeyHeads, Keys, HeadDim);

    internal TensorStrides VLayout => ValueStrides ?? TensorStrides.Contiguous(KeyHeads, Keys, ValueDim);

    internal TensorStrides OLayout => OutputStrides ?? TensorStrides.Contiguous(QueryHeads, Queries, ValueDim);

    internal unsafe NativeProblem Native(bool logSumExp, bool deterministic)
    {
        NativeProblem p = new()
        {
            size = (uint)sizeof(NativeProblem),
            dtype = (int)DType,
            flags = (uint)(ProblemFlags.HasStrides
                | (Scale.HasValue ? ProblemFlags.HasScale : 0)
                | (logSumExp ? ProblemFlags.WantLse : 0)
                | (Probabilities ? ProblemFlags.WantProbabilities : 0)
                | (deterministic ? ProblemFlags.Deterministic : 0)),
            mask_kinds = (uint)Mask.Kinds,
            offset_kind = (int)Offset.Kind,
            terms = (uint)((Bias.Shape.HasValue ? ScoreTerms.Bias : 0) | (Bias.Alibi ? ScoreTerms.Alibi : 0)),
            batch = Batch,
            query_heads = QueryHeads,
            key_heads = KeyHeads,
            queries = Queries,
            keys = Keys,
            head_dim = HeadDim,
            value_dim = ValueDim,
            scale = Scale ?? 0,
            softcap = Softcap,
        };
        QLayout.CopyTo(new(p.q_strides, 4));
        KLayout.CopyTo(new(p.k_strides, 4));
        VLayout.CopyTo(new(p.v_strides, 4));
        OLayout.CopyTo(new(p.o_strides, 4));
        if ((Mask.Kinds & MaskKind.Keep) != 0)
        {
            Mask.KeepShape.CopyTo(new(p.keep_shape, 4));
        }
        if (Bias.Shape is { } bias)
        {
            bias.CopyTo(new(p.bias_shape, 4));
            p.bias_dtype = (int)Bias.DType;
        }
        return p;
    }

    private static TensorStrides? StridesOf(AttentionTensor tensor)
    {
        ReadOnlySpan<long> s = tensor.Strides;
        return tensor.IsContiguous ? null : new(s[0], s[1], s[2], s[3]);
    }

    private static void CheckDType(AttentionTensor tensor, string name, AttentionDType needed)
    {
        if (tensor.DType != needed)
        {
            throw new ArgumentException($"{name} is {DTypes.Name(tensor.DType)}; q is {DTypes.Name(needed)}, and all share one dtype", name);
        }
    }

    private static void CheckRank(ReadOnlySpan<long> shape, string name)
    {
        if (shape.Length != 4)
        {
            throw new ArgumentException(
                $"{name} has {shape.Length} dimensions, {TensorShape.Text(shape)}; 4 are needed: [batch, heads, length, dimension]", name);
        }
        TensorShape.Count(shape, name);
    }

    private static void CheckSize(ReadOnlySpan<long> shape, string name, int d, long needed, string whose)
    {
        if (shape[d] != needed)
        {
            throw new ArgumentException($"{name}.shape[{d}] is {shape[d]}; {whose} is {needed}, and both must be the same", name);
        }
    }
}
