using System.Globalization;
using System.Runtime.InteropServices;
using Attention.Interop;

namespace Attention;

/// <summary>
/// Who sees whom: query i of batch b stands at position p = i + offset (<see cref="QueryOffset"/>) and sees key j where every part of the mask says so. Parts
/// combine with <c>&amp;</c>; a second part of a kind, or a prefix beside causal, is refused.
/// </summary>
/// <remarks>Immutable and safe to use from any number of threads. Structure (all but <see cref="Keep(AttentionTensor)"/>) needs no memory of scores. What spans
/// hold is copied; memory and tensors are borrowed: each run reads what they hold then.</remarks>
public class Mask
{
    private readonly long _left;
    private readonly long _right;
    private readonly AttentionTensor? _keyLengths;
    private readonly AttentionTensor? _queryLengths;
    private readonly AttentionTensor? _prefix;
    private readonly AttentionTensor? _qDocuments;
    private readonly AttentionTensor? _kDocuments;
    private readonly AttentionTensor? _keep;

    private protected Mask(MaskKinds kinds)
    {
        Kinds = kinds;
    }

    private Mask(
        MaskKinds kinds, long left = 0, long right = 0, AttentionTensor? keyLengths = null, AttentionTensor? queryLengths = null,
        AttentionTensor? prefix = null, AttentionTensor? qDocuments = null, AttentionTensor? kDocuments = null, AttentionTensor? keep = null)
        : this(kinds)
    {
        _left = left;
        _right = right;
        _keyLengths = keyLengths;
        _queryLengths = queryLengths;
        _prefix = prefix;
        _qDocuments = qDocuments;
        _kDocuments = kDocuments;
        _keep = keep;
    }

    /// <summary>Hides nothing; a beginning for <c>&amp;</c>.</summary>
    public static Mask None { get; } = new(MaskKinds.None);

    /// <summary>A query sees key j where j &lt;= p: itself and what came before.</summary>
    public static Mask Causal { get; } = new(MaskKind.Causal);

    /// <summary>Which kinds are in it and how a dense one is broadcast: what <see cref="AttentionProblem.Mask"/> wants to know.</summary>
    public MaskKinds Kinds { get; }

    /// <summary>Keys j &lt; n[b] are seen.</summary>
    /// <param name="lengths">n, one per batch, 0..Sk; copied.</param>
    public static Mask KeyLengths(params ReadOnlySpan<int> lengths) => KeyLengths(AttentionTensor.Copy(lengths, [lengths.Length]));

    /// <summary>Keys j &lt; n[b] are seen.</summary>
    /// <param name="lengths">n, one per batch, 0..Sk; borrowed: a run reads what it holds then, so that a cache may grow under one mask.</param>
    public static Mask KeyLengths(ReadOnlyMemory<int> lengths) => KeyLengths(Borrowed(lengths, [lengths.Length]));

    /// <summary>Keys j &lt; n[b] are seen.</summary>
    /// <param name="lengths">n, int32 [B], 0..Sk; borrowed.</param>
    /// <exception cref="ArgumentException">Another dtype or rank.</exception>
    public static Mask KeyLengths(AttentionTensor lengths) => new(MaskKind.KeyLengths, keyLengths: Checked(lengths, 1, nameof(lengths)));

    /// <summary>Queries i &lt; m[b] see; rows past it are O = 0, LSE = -inf.</summary>
    /// <param name="lengths">m, one per batch, 0..Sq; copied.</param>
    public static Mask QueryLengths(params ReadOnlySpan<int> lengths) => QueryLengths(AttentionTensor.Copy(lengths, [lengths.Length]));

    /// <summary>Queries i &lt; m[b] see; rows past it are O = 0, LSE = -inf.</summary>
    /// <param name="lengths">m, one per batch, 0..Sq; borrowed.</param>
    public static Mask QueryLengths(ReadOnlyMemory<int> lengths) => QueryLengths(Borrowed(lengths, [lengths.Length]));

    /// <summary>Queries i &lt; m[b] see; rows past it are O = 0, LSE = -inf.</summary>
    /// <param name="lengths">m, int32 [B], 0..Sq; borrowed.</param>
    /// <exception cref="ArgumentException">Another dtype or rank.</exception>
    public static Mask QueryLengths(AttentionTensor lengths) => new(MaskKind.QueryLengths, queryLengths: Checked(lengths, 1, nameof(lengths)));

    /// <summary>A query sees key j where p - left &lt;= j &lt;= p + right.</summary>
    /// <param name="left">Keys before the position, 0 or more; -1 = unbounded.</param>
    /// <param name="right">Keys after the position, 0 or more; -1 = unbounded.</param>
    /// <exception cref="ArgumentOutOfRangeException">An end is below -1 or above 2^31-1.</exception>
    public static Mask Window(long left, long right)
    {
        CheckEnd(left, nameof(left));
        CheckEnd(right, nameof(right));
        return new(MaskKind.Window, left, right);

        static void CheckEnd(long end, string name)
        {
            if (end is < -1 or > int.MaxValue)
            {
                throw new ArgumentOutOfRangeException(name, end, $"{name} is {end}; -1 (unbounded) .. {int.MaxValue} is allowed");
            }
        }
    }

    /// <summary>A query sees key j where j &lt; f[b] or j &lt;= p: causal after a prefix that all see. It takes causal's place.</summary>
    /// <param name="lengths">f, one per batch, 0..Sk; copied.</param>
    public static Mask Prefix(params ReadOnlySpan<int> lengths) => Prefix(AttentionTensor.Copy(lengths, [lengths.Length]));

    /// <summary>A query sees key j where j &lt; f[b] or j &lt;= p.</summary>
    /// <param name="lengths">f, one per batch, 0..Sk; borrowed.</param>
    public static Mask Prefix(ReadOnlyMemory<int> lengths) => Prefix(Borrowed(lengths, [lengths.Length]));

    /// <summary>A query sees key j where j &lt; f[b] or j &lt;= p.</summary>
    /// <param name="lengths">f, int32 [B], 0..Sk; borrowed.</param>
    /// <exception cref="ArgumentException">Another dtype or rank.</exception>
    public static Mask Prefix(AttentionTensor lengths) => new(MaskKind.Prefix, prefix: Checked(lengths, 1, nameof(lengths)));

    /// <summary>A query sees the keys of its own document; a negative id is padding, which neither sees nor is seen. Ids need not be sorted.</summary>
    /// <param name="q">The document of each query, [B, Sq], row-major; copied.</param>
    /// <param name="k">The document of each key, [B, Sk], row-major; copied.</param>
    /// <param name="batch">B: both hold a whole number of rows.</param>
    /// <exception cref="ArgumentException">An array is no B rows of one length.</exception>
    public static Mask Documents(ReadOnlySpan<int> q, ReadOnlySpan<int> k, int batch = 1) =>
        Documents(AttentionTensor.Copy(q, Rows(q.Length, batch, nameof(q))), AttentionTensor.Copy(k, Rows(k.Length, batch, nameof(k))));

    /// <summary>A query sees the keys of its own document; a negative id is padding, which neither sees nor is seen.</summary>
    /// <param name="q">The document of each query, [B, Sq], row-major; borrowed.</param>
    /// <param name="k">The document of each key, [B, Sk], row-major; borrowed.</param>
    /// <param name="batch">B: both hold a whole number of rows.</param>
    /// <exception cref="ArgumentException">An array is no B rows of one length.</exception>
    public static Mask Documents(ReadOnlyMemory<int> q, ReadOnlyMemory<int> k, int batch = 1) =>
        Documents(Borrowed(q, Rows(q.Length, batch, nameof(q))), Borrowed(k, Rows(k.Length, batch, nameof(k))));

    /// <summary>A query sees the keys of its own document; a negative id is padding, which neither sees nor is seen.</summary>
    /// <param name="q">int32 [B, Sq]; borrowed.</param>
    /// <param name="k">int32 [B, Sk]; borrowed.</param>
    /// <exception cref="ArgumentException">Another dtype or rank.</exception>
    public static Mask Documents(AttentionTensor q, AttentionTensor k) =>
        new(MaskKind.Documents, qDocuments: Checked(q, 2, nameof(q)), kDocuments: Checked(k, 2, nameof(k)));

    /// <summary>A dense mask: true = takes part.</summary>
    /// <param name="keep">One per score, row-major; borrowed, not copied: a run reads what it holds then. An array converts to it.</param>
    /// <param name="shape">1 to 4 sizes, right-aligned to [B, Hq, Sq, Sk], each 1 (the same for all) or full.</param>
    /// <exception cref="ArgumentException">The shape is none, or reaches past the memory's end.</exception>
    public static Mask Keep(ReadOnlyMemory<bool> keep, ReadOnlySpan<long> shape) => Keep(Borrowed(keep, shape));

    /// <summary>A dense mask: non-zero = takes part.</summary>
    /// <param name="keep">One per score, row-major; borrowed, not copied: a run reads what it holds then.</param>
    /// <param name="shape">1 to 4 sizes, right-aligned to [B, Hq, Sq, Sk], each 1 (the same for all) or full.</param>
    /// <exception cref="ArgumentException">The shape is none, or reaches past the memory's end.</exception>
    public static Mask Keep(ReadOnlyMemory<byte> keep, ReadOnlySpan<long> shape) => Keep(Borrowed(keep, shape));

    /// <summary>A dense mask: non-zero = takes part.</summary>
    /// <param name="keep">uint8 of 1 to 4 dimensions and any strides, right-aligned to [B, Hq, Sq, Sk], each 1 or full; borrowed.</param>
    /// <exception cref="ArgumentException">Another dtype: a float tensor is an additive bias,
    /// <see cref="AttentionBias.Additive(AttentionTensor)"/>.</exception>
    public static Mask Keep(AttentionTensor keep)
    {
        ArgumentNullException.ThrowIfNull(keep);
        if (keep.DType != AttentionDType.UInt8)
        {
            throw new ArgumentException($"keep is {DTypes.Name(keep.DType)}; uint8 (byte or bool) is needed; floats are an AttentionBias", nameof(keep));
        }
        return new(new(MaskKind.Keep, ScoreShape.Of(keep.Shape)), keep: keep);
    }

    /// <summary>Both apply: a key is seen where both let it be seen.</summary>
    /// <exception cref="ArgumentException">Both have a part of one kind, one has a prefix and the other is causal, or one is prepared.</exception>
    public static Mask operator &(Mask left, Mask right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        if (left is PreparedMask || right is PreparedMask)
        {
            throw new ArgumentException($"'{left}' & '{right}': a prepared mask is finished; combine masks first, then prepare", nameof(right));
        }
        MaskKind both = left.Kinds.Kinds & right.Kinds.Kinds, either = left.Kinds.Kinds | right.Kinds.Kinds;
        if (both != MaskKind.None)
        {
            MaskKind first = (MaskKind)((int)both & -(int)both);
            throw new ArgumentException($"'{left.Part(first)}' and '{right.Part(first)}' are both given; a mask has one part of a kind", nameof(right));
        }
        if (either.HasFlag(MaskKind.Prefix | MaskKind.Causal))
        {
            string one = left.Part(MaskKind.Prefix | MaskKind.Causal), other = right.Part(MaskKind.Prefix | MaskKind.Causal);
            throw new ArgumentException($"'{one}' and '{other}' are both given; prefix takes causal's place, give one", nameof(right));
        }
        bool window = left.Kinds.Kinds.HasFlag(MaskKind.Window);
        return new(
            new(either, left.Kinds.Kinds.HasFlag(MaskKind.Keep) ? left.Kinds.KeepShape : right.Kinds.KeepShape),
            window ? left._left : right._left,
            window ? left._right : right._right,
            left._keyLengths ?? right._keyLengths,
            left._queryLengths ?? right._queryLengths,
            left._prefix ?? right._prefix,
            left._qDocuments ?? right._qDocuments,
            left._kDocuments ?? right._kDocuments,
            left._keep ?? right._keep);
    }

    /// <summary>Every part: KeyLengths[8] &amp; Causal</summary>
    public override string ToString() => Kinds.Kinds == MaskKind.None ? "None" : Part(Kinds.Kinds);

    /// <summary>Tells a run what this mask is: its values, or that it is prepared.</summary>
    internal virtual unsafe void Bind(RunFrame* frame, ref Holds holds)
    {
        if (Kinds.Kinds != MaskKind.None)
        {
            Bind(&frame->Mask, frame->MaskArrays, ref holds);
            frame->Args.mask = &frame->Mask;
        }
    }

    /// <summary>The values, with <paramref name="arrays"/> (six) as room for their arrays.</summary>
    internal unsafe void Bind(NativeMaskValues* values, NativeArray* arrays, ref Holds holds)
    {
        *values = new()
        {
            size = (uint)sizeof(NativeMaskValues),
            kinds = (uint)Kinds.Kinds,
            window_left = _left,
            window_right = _right,
        };
        if (_keyLengths is not null)
        {
            values->key_lengths = _keyLengths.Bind(arrays, ref holds);
        }
        if (_queryLengths is not null)
        {
            values->query_lengths = _queryLengths.Bind(arrays + 1, ref holds);
        }
        if (_prefix is not null)
        {
            values->prefix = _prefix.Bind(arrays + 2, ref holds);
        }
        if (_qDocuments is not null)
        {
            values->q_documents = _qDocuments.Bind(arrays + 3, ref holds);
            values->k_documents = _kDocuments!.Bind(arrays + 4, ref holds);
        }
        if (_keep is not null)
        {
            values->keep = _keep.Bind(arrays + 5, ref holds);
        }
    }

    private static AttentionTensor Borrowed<T>(ReadOnlyMemory<T> memory, ReadOnlySpan<long> shape)
        where T : unmanaged => AttentionTensor.Borrow(MemoryMarshal.AsMemory(memory), shape); // inputs are only read

    private static long[] Rows(int length, int batch, string name)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batch);
        return length % batch == 0
            ? [batch, length / batch]
            : throw new ArgumentException($"{name} has {length} ids; a whole number for each of {batch} batches is needed", name);
    }

    private static AttentionTensor Checked(AttentionTensor tensor, int rank, string name)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (tensor.DType != AttentionDType.Int32 || tensor.Rank != rank)
        {
            throw new ArgumentException($"{name} is {tensor}; int32 of {rank} dimension{(rank > 1 ? "s" : "")} is needed", name);
        }
        return tensor;
    }

    private string Part(MaskKind kinds)
    {
        List<string> parts = [];
        void Add(MaskKind kind, string text)
        {
            if ((kinds & Kinds.Kinds & kind) != 0)
            {
                parts.Add(text);
            }
        }
        Add(MaskKind.KeyLengths, $"KeyLengths{Sizes(_keyLengths)}");
        Add(MaskKind.QueryLengths, $"QueryLengths{Sizes(_queryLengths)}");
        Add(MaskKind.Causal, "Causal");
        Add(MaskKind.Window, string.Create(CultureInfo.InvariantCulture, $"Window({_left}, {_right})"));
        Add(MaskKind.Prefix, $"Prefix{Sizes(_prefix)}");
        Add(MaskKind.Documents, $"Documents({Sizes(_qDocuments)}, {Sizes(_kDocuments)})");
        Add(MaskKind.Keep, $"Keep{Kinds.KeepShape}");
        return string.Join(" & ", parts);
    }

    private static string Sizes(AttentionTensor? tensor) => tensor is null ? "" : TensorShape.Text(tensor.Shape);
}
