namespace Attention;

/// <summary>The kinds of mask; all that are given apply together. The numbers are the C ABI's.</summary>
[Flags]
public enum MaskKind
{
    /// <summary>Every query sees every key.</summary>
    None = 0,

    /// <summary>Keys from a length on, per batch, are hidden.</summary>
    KeyLengths = 1,

    /// <summary>Queries from a length on, per batch, see nothing.</summary>
    QueryLengths = 2,

    /// <summary>A query sees the keys up to its position.</summary>
    Causal = 4,

    /// <summary>A query sees the keys around its position.</summary>
    Window = 8,

    /// <summary>A query sees the first keys of its batch and those up to its position.</summary>
    Prefix = 16,

    /// <summary>A query sees the keys of its own document.</summary>
    Documents = 32,

    /// <summary>A dense mask, true = takes part.</summary>
    Keep = 64,
}

/// <summary>The four sizes of something over scores: batch, query heads, queries, keys; each is 1 (the same for all) or full.</summary>
/// <param name="Batch">1 or B.</param>
/// <param name="Heads">1 or the query heads.</param>
/// <param name="Queries">1 or Sq.</param>
/// <param name="Keys">1 or Sk.</param>
public readonly record struct ScoreShape(long Batch, long Heads, long Queries, long Keys)
{
    /// <summary>Right-aligned: missing sizes are 1.</summary>
    internal static ScoreShape Of(ReadOnlySpan<long> shape) =>
        new(shape.Length > 3 ? shape[^4] : 1, shape.Length > 2 ? shape[^3] : 1, shape.Length > 1 ? shape[^2] : 1, shape[^1]);

    /// <summary>[1, 1, 5, 5]</summary>
    public override string ToString() => TensorShape.Text([Batch, Heads, Queries, Keys]);

    internal void CopyTo(Span<long> shape)
    {
        shape[0] = Batch;
        shape[1] = Heads;
        shape[2] = Queries;
        shape[3] = Keys;
    }
}

/// <summary>What a problem knows of its mask: which kinds, and how a dense one is broadcast. No values.</summary>
/// <param name="Kinds">Which kinds are given.</param>
/// <param name="KeepShape">The sizes of the dense mask; default where there is none.</param>
public readonly record struct MaskKinds(MaskKind Kinds, ScoreShape KeepShape = default)
{
    /// <summary>No mask.</summary>
    public static MaskKinds None => default;

    /// <summary>Kinds without a dense mask.</summary>
    public static implicit operator MaskKinds(MaskKind kinds) => new(kinds);

    /// <summary>KeyLengths, Causal, Keep[1, 1, 5, 5]</summary>
    public override string ToString() => (Kinds & MaskKind.Keep) == 0 ? Kinds.ToString() : $"{Kinds}{KeepShape}";
}
