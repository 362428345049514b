namespace Attention.Tests.Reference;

/// <summary>How positions are counted: p = i + offset.</summary>
internal enum OffsetKind
{
    TopLeft,
    BottomRight,
    Value,
    PerBatch,
}

/// <summary>An array [b, h, i, j] of which each dimension is full or 1 (broadcast).</summary>
internal sealed record Dense<T>(T[] Data, int[] Shape)
{
    public T At(int b, int h, int i, int j)
    {
        int Index(int at, int dimension) => Shape[dimension] == 1 ? 0 : at;
        return Data[(((((Index(b, 0) * Shape[1]) + Index(h, 1)) * Shape[2]) + Index(i, 2)) * Shape[3]) + Index(j, 3)];
    }
}

/// <summary>What is asked, with its data: the reference's own form, which knows nothing of the library. Null or off means that kind of mask is not given.</summary>
internal sealed record Problem
{
    public Element Type { get; init; }

    public int B { get; init; } = 1;

    public int Hq { get; init; } = 1;

    public int Hkv { get; init; } = 1;

    public int Sq { get; init; } = 1;

    public int Sk { get; init; } = 1;

    public int D { get; init; } = 1;

    public int Dv { get; init; } = 1;

    /// <summary>Contiguous [B, H, S, D], already rounded to <see cref="Type"/>.</summary>
    public double[] Q { get; init; } = [];

    public double[] K { get; init; } = [];

    public double[] V { get; init; } = [];

    /// <summary>Null: 1 / sqrt(D).</summary>
    public float? Scale { get; init; }

    public float Softcap { get; init; }

    public int[]? KeyLengths { get; init; }

    public int[]? QueryLengths { get; init; }

    public int[]? Prefix { get; init; }

    public int[]? QueryDocuments { get; init; }

    public int[]? KeyDocuments { get; init; }

    public bool Causal { get; init; }

    public (int Left, int Right)? Window { get; init; }

    public OffsetKind OffsetKind { get; init; }

    public int Offset { get; init; }

    public int[]? Offsets { get; init; }

    public Dense<bool>? Keep { get; init; }

    /// <summary>Float32, or rounded to <see cref="Type"/> where <see cref="BiasOfType"/>.</summary>
    public Dense<double>? Bias { get; init; }

    public bool BiasOfType { get; init; }

    public float[]? Slopes { get; init; }

    public double ScaleOrDefault => Scale ?? (float)(1 / Math.Sqrt(D));

    public int N(int b) => KeyLengths?[b] ?? Sk;

    public int M(int b) => QueryLengths?[b] ?? Sq;

    public long Position(int b, int i) => OffsetKind switch
    {
        OffsetKind.BottomRight => i + (long)N(b) - M(b),
        OffsetKind.Value => i + (long)Offset,
        OffsetKind.PerBatch => i + (long)Offsets![b],
        _ => i,
    };

    public bool Sees(int b, int h, int i, int j)
    {
        long p = Position(b, i);
        if (j >= N(b) || i >= M(b)
            || (Causal && j > p)
            || (Window is var (left, right) && ((left >= 0 && j < p - left) || (right >= 0 && j > p + right)))
            || (Prefix is not null && j >= Prefix[b] && j > p))
        {
            return false;
        }
        if (QueryDocuments is not null)
        {
            int document = QueryDocuments[(b * Sq) + i];
            if (document < 0 || document != KeyDocuments![(b * Sk) + j])
            {
                return false;
            }
        }
        return Keep is null || Keep.At(b, h, i, j);
    }

    public override string ToString()
    {
        List<string> parts = [$"{Type} [{B}, {Hq}/{Hkv}, {Sq}x{Sk}, {D}/{Dv}]"];
        void Say(bool given, string what)
        {
            if (given)
            {
                parts.Add(what);
            }
        }
        Say(Scale is not null, $"scale {Scale}");
        Say(Softcap > 0, $"softcap {Softcap}");
        Say(KeyLengths is not null, $"key lengths {Join(KeyLengths)}");
        Say(QueryLengths is not null, $"query lengths {Join(QueryLengths)}");
        Say(Causal, "causal");
        Say(Window is not null, $"window {Window}");
        Say(Prefix is not null, $"prefix {Join(Prefix)}");
        Say(QueryDocuments is not null, "documents");
        Say(Keep is not null, $"keep [{Join(Keep?.Shape)}]");
        Say(Bias is not null, $"bias [{Join(Bias?.Shape)}]{(BiasOfType ? " of the dtype" : "")}");
        Say(Slopes is not null, "alibi");
        Say(OffsetKind != OffsetKind.TopLeft, $"offset {OffsetKind} {(Offsets is null ? Offset : Join(Offsets))}");
        return string.Join(", ", parts);
    }

    private static string Join(int[]? numbers) => string.Join(" ", numbers ?? []);
}
