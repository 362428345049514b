namespace Attention.Tests.Reference;

/// <summary>Problems drawn from a seed: every size, dtype and mask of the specification, alone and together, and the edges where they go wrong.</summary>
internal static class RandomProblems
{
    /// <summary>Anything the specification allows. The same seed is the same problem on every machine.</summary>
    public static Problem Draw(int seed)
    {
        Random random = new(seed);
        int hkv = random.Next(1, 4), sq = Length(random), sk = Length(random);
        Problem p = Shaped(random, (Element)random.Next(3), random.Next(1, 4), hkv * random.Next(1, 4), hkv, sq, sk, Dimension(random), 0);
        p = p with
        {
            Scale = random.Next(8) switch { 0 => 0, 1 => -0.25f, 2 => 0.9f, _ => null },
            Softcap = random.Next(5) == 0 ? 2 + (8 * random.NextSingle()) : 0,
        };
        p = WithOffset(p, random);
        bool Chance(int of) => random.Next(of) == 0;
        if (Chance(2))
        {
            p = p with { KeyLengths = Lengths(random, p.B, p.Sk) };
        }
        if (Chance(5))
        {
            p = p with { QueryLengths = Lengths(random, p.B, p.Sq) };
        }
        p = random.Next(5) switch
        {
            0 => p with { Causal = true },
            1 => p with { Prefix = Lengths(random, p.B, p.Sk) },
            _ => p,
        };
        if (Chance(5))
        {
            p = p with { Window = (random.Next(-1, 40), random.Next(-1, 40)) };
        }
        if (Chance(6))
        {
            p = p with { QueryDocuments = Documents(random, p.B * p.Sq), KeyDocuments = Documents(random, p.B * p.Sk) };
        }
        if (Chance(4))
        {
            p = p with { Keep = Keep(random, Broadcast(random, p)) };
        }
        if (Chance(4))
        {
            p = WithBias(p, random, Broadcast(random, p), ofType: Chance(2), infinities: Chance(3));
        }
        return Chance(6) ? p with { Slopes = [.. Enumerable.Range(0, p.Hq).Select(_ => random.NextSingle())] } : p;
    }

    /// <summary>Normally distributed Q, K, V, rounded to the dtype. <paramref name="dv"/> 0: usually D.</summary>
    public static Problem Shaped(Random random, Element type, int b, int hq, int hkv, int sq, int sk, int d, int dv)
    {
        dv = dv > 0 ? dv : random.Next(3) == 0 ? Dimension(random) : d;
        return new()
        {
            Type = type,
            B = b,
            Hq = hq,
            Hkv = hkv,
            Sq = sq,
            Sk = sk,
            D = d,
            Dv = dv,
            Q = Normal(random, type, b * hq * sq * d),
            K = Normal(random, type, b * hkv * sk * d),
            V = Normal(random, type, b * hkv * sk * dv),
        };
    }

    public static double[] Normal(Random random, Element type, int count, double deviation = 1)
    {
        double[] numbers = new double[count];
        for (int at = 0; at < count; at++)
        {
            double radius = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble()));
            numbers[at] = type.Round(deviation * radius * Math.Cos(2 * Math.PI * random.NextDouble()));
        }
        return numbers;
    }

    /// <summary>From 0 to <paramref name="most"/>, both of them often.</summary>
    public static int[] Lengths(Random random, int count, int most) =>
        [.. Enumerable.Range(0, count).Select(_ => random.Next(6) switch { 0 => 0, 1 => most, _ => random.Next(most + 1) })];

    public static Dense<bool> Keep(Random random, int[] shape)
    {
        double share = random.Next(4) switch { 0 => 0, 1 => 1, 2 => 0.02, _ => 0.5 };
        int rows = shape[0] * shape[1] * shape[2], length = shape[3];
        bool[] data = new bool[rows * length];
        for (int row = 0; row < rows; row++)
        {
            bool whole = random.Next(3) == 0, kept = random.Next(2) == 0; // some rows are all one thing, so that tiles of each class exist
            for (int j = 0; j < length; j++)
            {
                data[(row * length) + j] = whole ? kept : random.NextDouble() < share;
            }
        }
        return new(data, shape);
    }

    public static Problem WithBias(Problem p, Random random, int[] shape, bool ofType, bool infinities)
    {
        double[] data = Normal(random, ofType ? p.Type : Element.F32, shape.Aggregate(1, (product, size) => product * size), deviation: 2);
        for (int at = 0; infinities && at < data.Length; at++)
        {
            data[at] = random.Next(3) == 0 ? double.NegativeInfinity : data[at];
        }
        return p with { Bias = new(data, shape), BiasOfType = ofType };
    }

    /// <summary>[B, Hq, Sq, Sk] with some dimensions 1.</summary>
    public static int[] Broadcast(Random random, Problem p) =>
        [.. new[] { p.B, p.Hq, p.Sq, p.Sk }.Select((size, dimension) => random.Next(dimension < 2 ? 2 : 4) == 0 ? 1 : size)];

    private static Problem WithOffset(Problem p, Random random) => random.Next(4) switch
    {
        0 => p with { OffsetKind = OffsetKind.BottomRight },
        1 => p with { OffsetKind = OffsetKind.Value, Offset = random.Next(-p.Sk - 2, p.Sk + 3) },
        2 => p with { OffsetKind = OffsetKind.PerBatch, Offsets = [.. Enumerable.Range(0, p.B).Select(_ => random.Next(-p.Sk, p.Sk + 1))] },
        _ => p,
    };

    private static int[] Documents(Random random, int count)
    {
        int[] ids = new int[count];
        int id = 0;
        for (int at = 0; at < count; at++)
        {
            id = random.Next(12) == 0 ? random.Next(-1, 4) : id;
            ids[at] = id;
        }
        return ids;
    }

    // One row (decode), the ends of blocks, and anything between.
    private static int Length(Random random) => random.Next(6) switch
    {
        0 => random.Next(1, 4),
        1 => 63 + random.Next(3),
        2 => 127 + random.Next(3),
        _ => random.Next(1, 150),
    };

    private static int Dimension(Random random) => random.Next(6) switch
    {
        0 => random.Next(1, 10),
        1 => random.Next(1, 150),
        2 => 128,
        3 => 32,
        _ => 64,
    };
}
