using Attention.Tests.Reference;
using CsCheck;

namespace Attention.Tests;

/// <summary>What must hold whatever the problem: sizes drawn and shrunk by CsCheck, data from a seed.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class PropertyTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private const int Times = 40;

    private sealed record Sizes(int Type, int B, int Hkv, int Group, int Sq, int Sk, int D, int Seed)
    {
        public Problem Draw() => RandomProblems.Shaped(new Random(Seed), (Element)Type, B, Hkv * Group, Hkv, Sq, Sk, D, D);
    }

    private static readonly Gen<Sizes> s_sizes = Gen.Select(
        Gen.Int[0, 2], Gen.Int[1, 3], Gen.Int[1, 2], Gen.Int[1, 3], Gen.Int[1, 150], Gen.Int[1, 200], Gen.Int[1, 70], Gen.Int[0, 1 << 20],
        (type, b, hkv, group, sq, sk, d, seed) => new Sizes(type, b, hkv, group, sq, sk, d, seed));

    private void Sample(Func<Sizes, Random, bool> holds) => s_sizes.Sample(sizes => holds(Taken(sizes), new Random(sizes.Seed)), iter: Suite.Full ? 20 * Times : Times, threads: 1);

    private Sizes Taken(Sizes sizes) => sizes with { Type = OnTensorCores ? 1 + (sizes.Type % 2) : sizes.Type, D = Row(sizes.D) };

    private Result Run(Problem p, Manner manner = default) => Library.Run(Context, p, Backend, manner).Result;

    private static bool SameBits(Result one, Result other) => Library.Same(one.O, other.O) && Library.Same(one.LSE!, other.LSE!);

    /// <summary>The same answer by structure and by a dense mask: the same bits on the CPU. A GPU has a kernel for each and visits tiles in another order: both are right.</summary>
    private bool Alike(Problem p, Result structure, Result dense) =>
        Context.Device.Type == AttentionDeviceType.Cpu ? SameBits(structure, dense) : new[] { structure, dense }.All(result => new Judge(p).Fault(result) is null);

    private static double[] Heads(double[] data, int b, int h, int size, Func<int, int, double[], double[]> make) =>
        [.. Enumerable.Range(0, b * h).SelectMany(at => make(at / h, at % h, data[(at * size)..((at + 1) * size)]))];

    private static Problem WithMoreKeys(Problem p, Random random, int more, double filler) => p with
    {
        Sk = p.Sk + more,
        K = Heads(p.K, p.B, p.Hkv, p.Sk * p.D, (_, _, keys) => [.. keys, .. Enumerable.Repeat(filler, more * p.D)]),
        V = Heads(p.V, p.B, p.Hkv, p.Sk * p.Dv, (_, _, values) => [.. values, .. Enumerable.Repeat(filler, more * p.Dv)]),
        KeyLengths = p.KeyLengths ?? [.. Enumerable.Repeat(p.Sk, p.B)],
    };

    /// <summary>Keys past the length change no bit, whatever they hold; NaN and infinity included.</summary>
    [Test]
    public void Adding_hidden_keys_keeps_the_bits() => Sample((sizes, random) =>
    {
        Problem p = sizes.Draw() with { KeyLengths = RandomProblems.Lengths(random, sizes.B, sizes.Sk) };
        double filler = random.Next(3) switch { 0 => double.NaN, 1 => double.PositiveInfinity, _ => 1e4 };
        // As many as keep the same kind of kernel: what auto picks may depend on Sk, a kernel's own bits may not.
        return SameBits(Run(p), Run(WithMoreKeys(p, random, random.Next(1, 140), filler)));
    });

    [Test]
    public void Padding_cannot_poison() => Sample((sizes, random) =>
    {
        Problem p = sizes.Draw() with { KeyLengths = RandomProblems.Lengths(random, sizes.B, sizes.Sk), QueryLengths = RandomProblems.Lengths(random, sizes.B, sizes.Sq) };
        p = RandomProblems.WithBias(p, random, [p.B, p.Hq, p.Sq, p.Sk], ofType: false, infinities: false);
        double[] poison = [double.NaN, double.PositiveInfinity, double.NegativeInfinity];
        double[] Poisoned(double[] data, int heads, int length, int dim, int[] lengths) => Heads(data, p.B, heads, length * dim, (b, _, rows) =>
        {
            for (int at = lengths[b] * dim; at < rows.Length; at++)
            {
                rows[at] = poison[random.Next(3)];
            }
            return rows;
        });
        double[] bias = [.. p.Bias!.Data];
        for (int at = 0; at < bias.Length; at++)
        {
            int b = at / (p.Hq * p.Sq * p.Sk);
            bias[at] = at % p.Sk >= p.KeyLengths![b] || at / p.Sk % p.Sq >= p.QueryLengths![b] ? poison[random.Next(3)] : bias[at];
        }
        return SameBits(Run(p), Run(p with
        {
            Q = Poisoned(p.Q, p.Hq, p.Sq, p.D, p.QueryLengths!),
            K = Poisoned(p.K, p.Hkv, p.Sk, p.D, p.KeyLengths!),
            V = Poisoned(p.V, p.Hkv, p.Sk, p.Dv, p.KeyLengths!),
            Bias = p.Bias with { Data = bias },
        }));
    });

    /// <summary>The same who-sees-whom by structure and as a dense mask.</summary>
    [Test]
    public void Causal_equals_its_dense_mask([Values] bool prepared) => Sample((sizes, random) =>
    {
        Problem p = sizes.Draw() with { Causal = true, OffsetKind = OffsetKind.Value, Offset = random.Next(-sizes.Sk, sizes.Sk + 1) };
        bool[] keep = [.. Enumerable.Range(0, p.Sq * p.Sk).Select(at => p.Sees(0, 0, at / p.Sk, at % p.Sk))];
        return Alike(p, Run(p), Run(p with { Causal = false, OffsetKind = OffsetKind.TopLeft, Offset = 0, Keep = new(keep, [1, 1, p.Sq, p.Sk]) }, new(Prepared: prepared)));
    });

    /// <summary>Any mask is the same function of who sees whom, however it is said.</summary>
    [Test]
    public void Every_structure_equals_its_dense_mask() => Sample((sizes, random) =>
    {
        Problem p = sizes.Draw();
        p = random.Next(4) switch
        {
            0 => p with { Window = (random.Next(-1, 70), random.Next(-1, 70)), OffsetKind = OffsetKind.BottomRight },
            1 => p with { Prefix = RandomProblems.Lengths(random, p.B, p.Sk) },
            2 => p with { QueryLengths = RandomProblems.Lengths(random, p.B, p.Sq), KeyLengths = RandomProblems.Lengths(random, p.B, p.Sk) },
            _ => p with
            {
                QueryDocuments = [.. Enumerable.Range(0, p.B * p.Sq).Select(_ => random.Next(-1, 3))],
                KeyDocuments = [.. Enumerable.Range(0, p.B * p.Sk).Select(_ => random.Next(-1, 3))],
            },
        };
        bool[] keep = [.. Enumerable.Range(0, p.B * p.Sq * p.Sk).Select(at => p.Sees(at / (p.Sq * p.Sk), 0, at / p.Sk % p.Sq, at % p.Sk))];
        Problem dense = p with
        {
            Window = null,
            OffsetKind = OffsetKind.TopLeft,
            Prefix = null,
            QueryLengths = null,
            KeyLengths = null,
            QueryDocuments = null,
            KeyDocuments = null,
            Keep = new(keep, [p.B, 1, p.Sq, p.Sk]),
        };
        return Alike(p, Run(p), Run(dense));
    });

    /// <summary>Grouped heads are heads repeated.</summary>
    [Test]
    public void Grouped_heads_equal_repeated_heads() => Sample((sizes, _) =>
    {
        Problem p = sizes.Draw();
        double[] Repeated(double[] data, int size) => Heads(data, p.B, p.Hkv, size, (_, _, head) => [.. Enumerable.Repeat(head, sizes.Group).SelectMany(copy => copy)]);
        return SameBits(Run(p, new(Deterministic: true)), Run(p with { Hkv = p.Hq, K = Repeated(p.K, p.Sk * p.D), V = Repeated(p.V, p.Sk * p.Dv) }, new(Deterministic: true)));
    });

    /// <summary>A batch alone has the bits it has among others.</summary>
    [Test]
    public void Batch_size_keeps_the_bits() => Sample((sizes, random) =>
    {
        Problem p = sizes.Draw() with { KeyLengths = RandomProblems.Lengths(random, sizes.B, sizes.Sk), Causal = random.Next(2) == 0 };
        Result all = Run(p, new(Deterministic: true));
        int b = random.Next(p.B);
        double[] Of(double[] data) => data[(b * (data.Length / p.B))..((b + 1) * (data.Length / p.B))];
        Result alone = Run(p with { B = 1, Q = Of(p.Q), K = Of(p.K), V = Of(p.V), KeyLengths = [p.KeyLengths![b]] }, new(Deterministic: true));
        return Library.Same(Of(all.O), alone.O) && Library.Same(Of(all.LSE!), alone.LSE!);
    });

    [Test]
    public void Worker_count_keeps_the_bits()
    {
        if (Context.Device.Type != AttentionDeviceType.Cpu)
        {
            Assert.Pass("a GPU has no workers to count");
        }
        AttentionContext[] contexts = [.. new[] { 1, 3, 8 }.Select(workers => AttentionContext.Create(AttentionDevice.Cpu, new AttentionContextOptions { Workers = workers }))];
        Sample((sizes, random) =>
        {
            Problem p = RandomProblems.Draw(sizes.Seed);
            Result one = Run(p);
            return contexts.All(context => SameBits(one, Library.Run(context, p, Backend).Result));
        });
        Array.ForEach(contexts, context => context.Dispose());
    }

    /// <summary>Where nothing is hidden, an all-true mask changes no bit.</summary>
    [Test]
    public void A_mask_that_hides_nothing_keeps_the_bits() => Sample((sizes, random) =>
    {
        Problem p = sizes.Draw();
        int[] shape = RandomProblems.Broadcast(random, p);
        bool[] keep = new bool[shape[0] * shape[1] * shape[2] * shape[3]];
        keep.AsSpan().Fill(true);
        return Alike(p, Run(p), Run(p with { Keep = new(keep, shape) })) && SameBits(Run(p), Run(p with { KeyLengths = [.. Enumerable.Repeat(p.Sk, p.B)] }));
    });

    /// <summary>Keys split anywhere and merged by (O, LSE) are the whole, within the error rule.</summary>
    [Test]
    public void Merging_split_keys_is_the_whole() => Sample((sizes, random) =>
    {
        Problem p = sizes.Draw() with { KeyLengths = RandomProblems.Lengths(random, sizes.B, sizes.Sk) };
        int split = random.Next(p.Sk + 1);
        double[] Keys(double[] data, int dim, int from, int to) => Heads(data, p.B, p.Hkv, p.Sk * dim, (_, _, keys) => keys[(from * dim)..(to * dim)]);
        Problem Part(int from, int to) => p with
        {
            Sk = to - from,
            K = Keys(p.K, p.D, from, to),
            V = Keys(p.V, p.Dv, from, to),
            KeyLengths = [.. p.KeyLengths!.Select(n => Math.Clamp(n - from, 0, to - from))],
        };
        Result first = Run(Part(0, split)), second = Run(Part(split, p.Sk));
        Result merged = Library.Merge(Context, p, first, second);
        if (p.Type == Element.F32)
        {
            return new Judge(p).Fault(merged) is null;
        }
        // Both parts were rounded before they were merged: a few units in the last place of the largest V.
        double[] whole = Run(p).O;
        double unit = p.V.Length == 0 ? 0 : p.V.Max(Math.Abs) * (p.Type == Element.F16 ? Math.ScaleB(1, -10) : Math.ScaleB(1, -7));
        return Enumerable.Range(0, whole.Length).All(at => Math.Abs(merged.O[at] - whole[at]) <= 2 * unit);
    });
}
