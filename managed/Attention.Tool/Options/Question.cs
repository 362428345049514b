using Attention.Tool.Files;

namespace Attention.Tool.Options;

/// <summary>
/// What the options of <c>run</c> and <c>explain</c> ask: sizes, dtype, masks and terms, all checked against each other. Headers of files are read here, their
/// elements only when <see cref="Mask"/> and the others ask for them.
/// </summary>
internal sealed class Question
{
    private readonly ArrayFile? _keep, _bias, _alibi, _keyLengths, _queryLengths, _prefix, _qDocuments, _kDocuments, _offsets;
    private readonly (long Left, long Right)? _window;
    private readonly bool _causal;
    private readonly QueryOffset _offset;

    private Question(ProblemOptions options, long[]? shape)
    {
        Layout = OptionValues.Word("--layout", options.Layout, TensorLayout.Bhsd, ("bhsd", TensorLayout.Bhsd), ("bshd", TensorLayout.Bshd));
        Scale = OptionValues.Finite("--scale", options.Scale, negative: true);
        Softcap = OptionValues.Finite("--softcap", options.Softcap, negative: false) ?? 0;
        _window = OptionValues.Window(options.Window);
        _causal = options.Causal;
        if (shape is null)
        {
            (Query, Key, Value) = (Operand("-q", options.Query), Operand("-k", options.Key), Operand("-v", options.Value));
            Sizes = SizesOf(Query, Key, Value);
        }
        else
        {
            Sizes = new ProblemSizes(shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[6]);
            Sizes.Check(heads => InputException.Of("--shape", options is ExplainOptions explain ? explain.Shape : null, heads));
        }
        DType = OptionValues.Word(
            "--dtype", options.Dtype, Own(Query?.Type), ("f32", AttentionDType.Float32), ("f16", AttentionDType.Float16), ("bf16", AttentionDType.BFloat16));

        foreach (string reference in options.Mask)
        {
            ArrayFile file = ArrayFile.Open("--mask", reference);
            ref ArrayFile? seat = ref file.Type.IsFloat() ? ref _bias : ref _keep;
            if (file.Type.IsInteger())
            {
                throw file.Wrong($"holds {file.Type.Name()}; bool or uint8 (keep) or a float type (bias) is needed");
            }
            if (seat is not null)
            {
                throw file.Wrong($"is a second {(file.Type.IsFloat() ? "bias" : "keep mask")} beside {seat.Reference}; one of each kind is allowed");
            }
            CheckBroadcast(file);
            seat = file;
        }
        _keyLengths = Integers("--key-lengths", options.KeyLengths, Sizes.Batch);
        _queryLengths = Integers("--query-lengths", options.QueryLengths, Sizes.Batch);
        _prefix = Integers("--prefix", options.Prefix, Sizes.Batch);
        if (_prefix is not null && _causal)
        {
            throw _prefix.Wrong("is given together with --causal; prefix takes causal's place, give one");
        }
        if ((options.QueryDocuments is null) != (options.KeyDocuments is null))
        {
            throw options.KeyDocuments is null
                ? InputException.Of("--q-documents", options.QueryDocuments, "needs --k-documents beside it")
                : InputException.Of("--k-documents", options.KeyDocuments, "needs --q-documents beside it");
        }
        _qDocuments = Integers("--q-documents", options.QueryDocuments, Sizes.Batch, Sizes.Queries);
        _kDocuments = Integers("--k-documents", options.KeyDocuments, Sizes.Batch, Sizes.Keys);
        if (options.Alibi is not null)
        {
            _alibi = ArrayFile.Open("--alibi", options.Alibi);
            CheckShape(_alibi, "SLOPES", Sizes.QueryHeads);
            if (!_alibi.Type.IsFloat())
            {
                throw _alibi.Wrong($"holds {_alibi.Type.Name()}; a float type is needed");
            }
        }
        (_offset, _offsets) = OffsetOf(options.Offset);
    }

    public TensorLayout Layout { get; }

    public ProblemSizes Sizes { get; }

    public AttentionDType DType { get; }

    public float? Scale { get; }

    public float Softcap { get; }

    public ArrayFile? Query { get; }

    public ArrayFile? Key { get; }

    public ArrayFile? Value { get; }

    /// <summary>Whether a dense keep mask is given: what preparing pays for.</summary>
    public bool HasKeep => _keep is not null;

    /// <summary>Whether every head has the same tiles.</summary>
    public bool HeadsShareTiles => _keep is null || _keep.Shape.Length < 3 || _keep.Shape[^3] == 1;

    public static Question Of(ProblemOptions options) => new(options, null);

    public static Question Of(ExplainOptions options)
    {
        bool files = options.Query is not null || options.Key is not null || options.Value is not null;
        return options.Shape is null
            ? new(options, null)
            : files ? throw InputException.Of("--shape", options.Shape, "is given together with -q, -k or -v; give one")
            : new(options, OptionValues.Shape(options.Shape));
    }

    /// <summary>The masks, with their values. A dense one is put where <paramref name="context"/> computes.</summary>
    public Mask Mask(AttentionContext context)
    {
        Mask mask = _causal ? Attention.Mask.Causal : Attention.Mask.None;
        if (_window is { } window)
        {
            mask &= Attention.Mask.Window(window.Left, window.Right);
        }
        if (_keyLengths is not null)
        {
            mask &= Attention.Mask.KeyLengths(Lengths(_keyLengths, Sizes.Keys).AsSpan());
        }
        if (_queryLengths is not null)
        {
            mask &= Attention.Mask.QueryLengths(Lengths(_queryLengths, Sizes.Queries).AsSpan());
        }
        if (_prefix is not null)
        {
            mask &= Attention.Mask.Prefix(Lengths(_prefix, Sizes.Keys).AsSpan());
        }
        if (_qDocuments is not null && _kDocuments is not null)
        {
            mask &= Attention.Mask.Documents(
                context.Upload<int>(_qDocuments.Read<int>(), _qDocuments.Shape), context.Upload<int>(_kDocuments.Read<int>(), _kDocuments.Shape));
        }
        return _keep is null ? mask : mask & Attention.Mask.Keep(context.Upload<byte>(_keep.Read<byte>(), Dense(_keep)));
    }

    /// <summary>What is added to the scores. A bias stays in the dtype computed in where its file has it, and is float32 otherwise, so that a large finite
    /// number stays finite.</summary>
    public AttentionBias? Bias(AttentionContext context)
    {
        AttentionBias? dense = _bias is null ? null : AttentionBias.Additive(_bias.Type switch
        {
            ElementType.Float16 when DType == AttentionDType.Float16 => context.Upload<Half>(_bias.Read<Half>(), Dense(_bias)),
            ElementType.BFloat16 when DType == AttentionDType.BFloat16 => context.Upload<BFloat16>(_bias.Read<BFloat16>(), Dense(_bias)),
            _ => context.Upload<float>(_bias.Read<float>(), Dense(_bias)),
        });
        AttentionBias? alibi = _alibi is null ? null : AttentionBias.Alibi(_alibi.Read<float>().AsSpan());
        return dense is not null && alibi is not null ? dense + alibi : dense ?? alibi;
    }

    /// <summary>The problem, with strides where the layout is not [B, H, S, D].</summary>
    public AttentionProblem Problem(Mask mask, AttentionBias? bias, bool probabilities)
    {
        ProblemSizes s = Sizes;
        AttentionProblem problem = AttentionProblem.For(
            DType, [s.Batch, s.QueryHeads, s.Queries, s.HeadDim], [s.Batch, s.KeyHeads, s.Keys, s.HeadDim], [s.Batch, s.KeyHeads, s.Keys, s.ValueDim]) with
        {
            Mask = mask.Kinds,
            Bias = bias?.Kinds ?? BiasKinds.None,
            Offset = Offset(),
            Scale = Scale,
            Softcap = Softcap,
            Probabilities = probabilities,
        };
        return Layout == TensorLayout.Bhsd ? problem : problem with
        {
            QueryStrides = Rows(s.QueryHeads, s.Queries, s.HeadDim),
            KeyStrides = Rows(s.KeyHeads, s.Keys, s.HeadDim),
            ValueStrides = Rows(s.KeyHeads, s.Keys, s.ValueDim),
            OutputStrides = Rows(s.QueryHeads, s.Queries, s.ValueDim),
        };

        static TensorStrides Rows(long heads, long length, long dim) => new(Batch: length * heads * dim, Head: dim, Row: heads * dim, Column: 1);
    }

    /// <summary>Where the queries stand.</summary>
    public QueryOffset Offset() => _offsets is null ? _offset : QueryOffset.PerBatch(_offsets.Read<int>().AsSpan());

    /// <summary>An operand's elements where <paramref name="context"/> computes, in the dtype computed in, seen as [B, H, S, D].</summary>
    public AttentionTensor Upload(AttentionContext context, ArrayFile file)
    {
        AttentionTensor tensor = DType switch
        {
            AttentionDType.Float16 => context.Upload<Half>(file.Read<Half>(), file.Shape),
            AttentionDType.BFloat16 => context.Upload<BFloat16>(file.Read<BFloat16>(), file.Shape),
            _ => context.Upload<float>(file.Read<float>(), file.Shape),
        };
        return Seen(tensor);
    }

    /// <summary>A tensor in the files' layout, seen as [B, H, S, D].</summary>
    public AttentionTensor Seen(AttentionTensor tensor)
    {
        if (Layout == TensorLayout.Bhsd)
        {
            return tensor;
        }
        using (tensor)
        {
            return tensor.Transpose(1, 2);
        }
    }

    /// <summary>Sizes in the order of the files' layout.</summary>
    public long[] InLayout(long batch, long heads, long length, long dim) =>
        Layout == TensorLayout.Bhsd ? [batch, heads, length, dim] : [batch, length, heads, dim];

    private static AttentionDType Own(ElementType? type) => type switch
    {
        ElementType.Float16 => AttentionDType.Float16,
        ElementType.BFloat16 => AttentionDType.BFloat16,
        _ => AttentionDType.Float32,
    };

    private static ArrayFile Operand(string option, string? reference)
    {
        ArrayFile file = ArrayFile.Open(option, reference ?? throw new InputException($"{option} is needed: a .npy file, or FILE.safetensors:NAME"));
        if (!file.Type.IsFloat())
        {
            throw file.Wrong($"holds {file.Type.Name()}; float16, bfloat16, float32 or float64 is needed");
        }
        return file.Shape.Length == 4 ? file : throw file.Wrong($"has shape {file.ShapeText}; four dimensions are needed");
    }

    private ProblemSizes SizesOf(ArrayFile q, ArrayFile k, ArrayFile v)
    {
        (int head, int row) = Layout == TensorLayout.Bhsd ? (1, 2) : (2, 1);
        ProblemSizes sizes = new(q.Shape[0], q.Shape[head], k.Shape[head], q.Shape[row], k.Shape[row], q.Shape[3], v.Shape[3]);
        string read = Layout == TensorLayout.Bhsd ? "[B, H, S, D]" : "[B, S, H, D]";
        string like = $"; Q is {q.ShapeText}, K is {k.ShapeText}, V is {v.ShapeText}, read as {read}";
        Same(k, "batch", k.Shape[0], sizes.Batch, "Q's");
        Same(v, "batch", v.Shape[0], sizes.Batch, "Q's");
        Same(k, "head dimension", k.Shape[3], sizes.HeadDim, "Q's");
        Same(v, "heads", v.Shape[head], sizes.KeyHeads, "K's");
        Same(v, "keys", v.Shape[row], sizes.Keys, "K's");
        sizes.Check(wrong => k.Wrong(wrong + like));
        return sizes;

        void Same(ArrayFile file, string what, long size, long other, string whose)
        {
            if (size != other)
            {
                throw file.Wrong($"has {what} {size}, {whose} is {other}; they must agree{like}");
            }
        }
    }

    private void CheckBroadcast(ArrayFile file)
    {
        (string Name, long Size)[] full = [("batch", Sizes.Batch), ("heads", Sizes.QueryHeads), ("queries", Sizes.Queries), ("keys", Sizes.Keys)];
        if (file.Shape.Length > full.Length)
        {
            throw file.Wrong($"has shape {file.ShapeText}; at most four dimensions are allowed, [B, Hq, Sq, Sk]");
        }
        for (int d = 1; d <= file.Shape.Length; d++)
        {
            (string name, long size) = full[^d];
            if (file.Shape[^d] != 1 && file.Shape[^d] != size)
            {
                throw file.Wrong($"has {name} {file.Shape[^d]} in {file.ShapeText}; 1 or {size} is allowed");
            }
        }
    }

    private static ArrayFile? Integers(string option, string? reference, params ReadOnlySpan<long> shape)
    {
        if (reference is null)
        {
            return null;
        }
        ArrayFile file = ArrayFile.Open(option, reference);
        CheckShape(file, "the array", shape);
        return file.Type.IsInteger() ? file : throw file.Wrong($"holds {file.Type.Name()}; int32 or int64 is needed");
    }

    private static void CheckShape(ArrayFile file, string what, params ReadOnlySpan<long> shape)
    {
        if (!shape.SequenceEqual(file.Shape))
        {
            throw file.Wrong($"has shape {file.ShapeText}; {what} must be {ArrayHeader.Text(shape)}");
        }
    }

    private static int[] Lengths(ArrayFile file, long most)
    {
        int[] lengths = file.Read<int>();
        int wrong = Array.FindIndex(lengths, length => length < 0 || length > most);
        return wrong < 0 ? lengths : throw file.Wrong($"is {lengths[wrong]} for batch {wrong}; 0 to {most} is allowed");
    }

    // Right-aligned, so a missing dimension is a 1; a scalar stands for every score.
    private static long[] Dense(ArrayFile file) => [.. Enumerable.Repeat(1L, 4 - file.Shape.Length), .. file.Shape];

    private (QueryOffset Offset, ArrayFile? PerBatch) OffsetOf(string? text)
    {
        switch (text)
        {
            case null or "top-left":
                return (QueryOffset.TopLeft, null);
            case "bottom-right":
                return (QueryOffset.BottomRight, null);
        }
        if (text.All(c => char.IsAsciiDigit(c) || c is '-' or '+'))
        {
            return int.TryParse(text, System.Globalization.CultureInfo.InvariantCulture, out int offset)
                ? (QueryOffset.At(offset), null)
                : throw InputException.Of("--offset", text, $"a whole number from {int.MinValue} to {int.MaxValue} is allowed");
        }
        return text.Contains('.', StringComparison.Ordinal) || File.Exists(text)
            ? (default, Integers("--offset", text, Sizes.Batch))
            : throw InputException.Of("--offset", text, "allowed are top-left, bottom-right, a whole number, or a file of one for each batch");
    }
}
