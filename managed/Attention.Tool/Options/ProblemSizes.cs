namespace Attention.Tool.Options;

/// <summary>How the files order the dimensions of Q, K, V and O.</summary>
internal enum TensorLayout
{
    Bhsd,
    Bshd,
}

/// <summary>Q [B, Hq, Sq, D], K [B, Hkv, Sk, D], V [B, Hkv, Sk, Dv].</summary>
internal readonly record struct ProblemSizes(long Batch, long QueryHeads, long KeyHeads, long Queries, long Keys, long HeadDim, long ValueDim)
{
    /// <summary>Whether the heads go together and the sizes can be counted.</summary>
    public void Check(Func<string, InputException> wrong)
    {
        if ((QueryHeads == 0) != (KeyHeads == 0) || (KeyHeads > 0 && QueryHeads % KeyHeads != 0))
        {
            throw wrong($"has {KeyHeads} key heads for {QueryHeads} query heads; a divisor of {QueryHeads} is allowed");
        }
        if (HeadDim < 1 || ValueDim < 1)
        {
            throw wrong($"gives head dimension {HeadDim} and value dimension {ValueDim}; at least 1 is allowed");
        }
    }

    public override string ToString()
    {
        string heads = QueryHeads == KeyHeads ? $"H{QueryHeads}" : $"H{QueryHeads}/{KeyHeads}";
        string lengths = Queries == Keys ? $"S{Queries}" : $"S{Queries}×{Keys}";
        return $"B{Batch} {heads} {lengths} D{(HeadDim == ValueDim ? $"{HeadDim}" : $"{HeadDim}/{ValueDim}")}";
    }
}
