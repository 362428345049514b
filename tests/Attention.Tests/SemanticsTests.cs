using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>What attention means, case by case, on every backend.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class SemanticsTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private Problem Draw(Element? type = null, int b = 2, int hq = 4, int hkv = 2, int sq = 70, int sk = 130, int d = 40, int dv = 24, int seed = 1) =>
        RandomProblems.Shaped(new Random(seed), type ?? Usual, b, hq, hkv, sq, sk, d, dv);

    /// <summary>The answer, within the error rule. Where the backend must refuse, its refusal is what the test is about.</summary>
    private Result Judged(Problem p, Manner manner = default)
    {
        if (IsRefused(p, manner))
        {
            Assert.Pass("refused, as it must be");
        }
        return Library.Judged(Context, p, Backend, manner);
    }

    private static void IsNothing(Problem p, Result result, int b, int h, int i)
    {
        int row = (((b * p.Hq) + h) * p.Sq) + i;
        Assert.That(result.LSE![row], Is.EqualTo(double.NegativeInfinity));
        Assert.That(result.O.AsSpan(row * p.Dv, p.Dv).ToArray(), Is.All.EqualTo(0.0));
    }

    [Test]
    public void No_mask([Values] Element type) => Judged(Draw(type));

    [Test]
    public void Every_layout([Values] Element type, [Values] Layout layout)
    {
        Problem p = Draw(type) with { KeyLengths = [90, 130], Causal = true, OffsetKind = OffsetKind.BottomRight };
        double[] contiguous = Judged(p).O;
        Assert.That(Library.Same(Judged(p, new(layout)).O, contiguous), Is.True, "the layout changes no bit");
    }

    [Test]
    public void Spans_give_what_tensors_give()
    {
        static Half[] Halves(double[] data) => Array.ConvertAll(data, x => (Half)x);
        Problem p = Draw(Element.F16) with { Causal = true };
        Result tensors = Judged(p);
        using AttentionPlan plan = Context.Plan(Library.Describe(p), BackendPolicy.Only(Backend));
        Half[] output = new Half[tensors.O.Length];
        float[] lse = new float[tensors.LSE!.Length];
        plan.Run<Half>(Halves(p.Q), Halves(p.K), Halves(p.V), output, Library.MaskOf(p), lse);
        Assert.That(Library.Same(Array.ConvertAll(output, x => (double)x), tensors.O), Is.True, "O");
        Assert.That(Library.Same(Array.ConvertAll(lse, x => (double)x), tensors.LSE), Is.True, "LSE");
    }

    [Test]
    public void Head_dimensions([Values(1, 3, 8, 17, 64, 65, 96, 128, 200, 256, 512)] int d, [Values(0, 1, 31, 128)] int dv) =>
        Judged(Draw((Element)(d % 3), b: 1, hq: 2, hkv: 1, sq: 35, sk: 67, d: d, dv: dv == 0 ? d : dv));

    [Test]
    public void Ends_of_blocks([Values(1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129)] int sq, [Values(1, 63, 64, 65, 128, 193)] int sk) =>
        Judged(Draw(b: 1, hq: 2, hkv: 1, sq: sq, sk: sk, d: 24, dv: 24) with { Causal = true, OffsetKind = OffsetKind.BottomRight });

    [Test]
    public void One_query_against_a_long_cache([Values] Element type, [Values(1, 3)] int queries) =>
        Judged(Draw(type, b: 2, hq: 8, hkv: 2, sq: queries, sk: 2500, d: 64, dv: 64) with { KeyLengths = [2500, 1777], Causal = true, OffsetKind = OffsetKind.BottomRight });

    [Test]
    public void Heads_are_grouped_not_tiled([Values(1, 2, 4, 8)] int hkv) => Judged(Draw(hq: 8, hkv: hkv, sq: 20, sk: 40, seed: 3));

    [Test]
    public void Without_keys_every_row_sees_nothing()
    {
        Problem p = Draw(sk: 0);
        Result result = Judged(p);
        IsNothing(p, result, 1, 3, 69);
    }

    [TestCase(0, 4, 2, 70)]
    [TestCase(2, 0, 0, 70)]
    [TestCase(2, 4, 2, 0)]
    public void Nothing_asked_is_an_empty_answer(int b, int hq, int hkv, int sq) => Assert.That(Judged(Draw(b: b, hq: hq, hkv: hkv, sq: sq)).O, Is.Empty);

    [Test]
    public void Scale_may_be_zero_negative_or_large([Values(0f, -0.3f, 1f, 30f, -30f)] float scale, [Values] Element type) =>
        Judged(Draw(type) with { Scale = scale, Causal = true, KeyLengths = [0, 100] });

    [Test]
    public void Softcap_comes_before_bias_and_mask([Values] Element type)
    {
        Random random = new(4);
        Problem p = Draw(type) with { Softcap = 1.5f, Scale = 0.5f, Causal = true };
        Judged(RandomProblems.WithBias(p, random, [1, 4, 70, 130], ofType: false, infinities: true));
    }

    [Test]
    public void Key_lengths_from_zero_to_all()
    {
        Problem p = Draw(b: 4) with { KeyLengths = [0, 1, 64, 130] };
        Result result = Judged(p);
        IsNothing(p, result, 0, 0, 0);
    }

    [Test]
    public void Rows_past_the_query_length_see_nothing()
    {
        Problem p = Draw(b: 3) with { QueryLengths = [0, 33, 70] };
        Result result = Judged(p);
        IsNothing(p, result, 0, 0, 0);
        IsNothing(p, result, 1, 2, 33);
        Assert.That(double.IsFinite(result.LSE![((4 + 2) * 70) + 32]), Is.True);
    }

    [Test]
    public void Causal_by_every_offset([Values(-131, -71, -70, -1, 0, 1, 60, 130, 1_000_000)] int offset) =>
        Judged(Draw() with { Causal = true, OffsetKind = OffsetKind.Value, Offset = offset });

    [Test]
    public void Offsets_differ_by_batch() => Judged(Draw(b: 3) with { Causal = true, Window = (20, -1), OffsetKind = OffsetKind.PerBatch, Offsets = [-5, 0, 60] });

    [Test]
    public void Windows([Values(-1, 0, 1, 63, 64, 500)] int left, [Values(-1, 0, 17)] int right, [Values(OffsetKind.TopLeft, OffsetKind.BottomRight)] object kind) =>
        Judged(Draw() with { Window = (left, right), OffsetKind = (OffsetKind)kind });

    [Test]
    public void Prefix_takes_causals_place() => Judged(Draw(b: 4) with { Prefix = [0, 1, 66, 130], OffsetKind = OffsetKind.Value, Offset = -3, KeyLengths = [130, 130, 60, 130] });

    [Test]
    public void Documents_unsorted_and_padded()
    {
        Random random = new(7);
        int[] q = [.. Enumerable.Range(0, 140).Select(_ => random.Next(-1, 4))], k = [.. Enumerable.Range(0, 260).Select(_ => random.Next(-1, 4))];
        Judged(Draw() with { QueryDocuments = q, KeyDocuments = k, Causal = true });
    }

    [Test]
    public void Keep_is_broadcast_over_any_dimensions([Range(0, 15)] int full, [Values] bool prepared)
    {
        Problem p = Draw();
        int[] shape = [(full & 1) > 0 ? p.B : 1, (full & 2) > 0 ? p.Hq : 1, (full & 4) > 0 ? p.Sq : 1, (full & 8) > 0 ? p.Sk : 1];
        Judged(p with { Keep = RandomProblems.Keep(new Random(full), shape), KeyLengths = [100, 130] }, new(Prepared: prepared));
    }

    [Test]
    public void Bias_is_broadcast_over_any_dimensions([Range(0, 15)] int full, [Values] bool ofType)
    {
        Problem p = Draw((Element)(full % 3));
        int[] shape = [(full & 1) > 0 ? p.B : 1, (full & 2) > 0 ? p.Hq : 1, (full & 4) > 0 ? p.Sq : 1, (full & 8) > 0 ? p.Sk : 1];
        Judged(RandomProblems.WithBias(p, new Random(full), shape, ofType, infinities: true) with { Causal = true });
    }

    [Test]
    public void A_bias_of_minus_infinity_everywhere_sees_nothing()
    {
        Problem p = Draw();
        double[] bias = new double[70 * 130];
        bias.AsSpan(130 * 5, 130).Fill(double.NegativeInfinity);
        p = p with { Bias = new(bias, [1, 1, 70, 130]) };
        IsNothing(p, Judged(p), 1, 2, 5);
    }

    [Test]
    public void The_smallest_finite_bias_does_not_mask()
    {
        Problem p = Draw();
        double[] bias = new double[130];
        bias.AsSpan().Fill(float.MinValue);
        Result result = Judged(p with { Bias = new(bias, [1, 1, 1, 130]) });
        Assert.That(result.LSE, Is.All.LessThan(-1e38).And.All.GreaterThan(double.NegativeInfinity));
    }

    [Test]
    public void Alibi_reads_the_position([Values] Element type) =>
        Judged(Draw(type) with { Slopes = [0.5f, 0.25f, 0.125f, 0], Causal = true, OffsetKind = OffsetKind.BottomRight, KeyLengths = [130, 90] });

    [Test]
    public void Everything_at_once([Values] Element type, [Values] bool prepared)
    {
        Random random = new(11);
        Problem p = Draw(type) with
        {
            KeyLengths = [100, 130],
            QueryLengths = [70, 50],
            Causal = true,
            Window = (60, -1),
            OffsetKind = OffsetKind.PerBatch,
            Offsets = [40, 30],
            Softcap = 5,
            Scale = -0.2f,
            Slopes = [0.5f, 0.25f, 0.125f, 0],
            QueryDocuments = [.. Enumerable.Range(0, 140).Select(i => i / 50)],
            KeyDocuments = [.. Enumerable.Range(0, 260).Select(j => j / 90)],
            Keep = RandomProblems.Keep(random, [2, 1, 70, 130]),
        };
        Judged(RandomProblems.WithBias(p, random, [1, 4, 1, 130], ofType: true, infinities: true), new(Prepared: prepared));
    }

    [Test]
    public void Probabilities_are_naives_alone()
    {
        Problem p = Draw() with { Causal = true, KeyLengths = [0, 100], OffsetKind = OffsetKind.Value, Offset = -4 };
        Result result = Judged(p, new(Probabilities: true));
        Assert.That(result.P!.AsSpan(0, 70 * 130).ToArray(), Is.All.EqualTo(0.0), "a row that sees nothing");
    }

    [Test]
    public void NaN_stays_in_the_rows_that_see_it([Values] bool inQ)
    {
        Problem clean = Draw(b: 1, hq: 1, hkv: 1) with { Causal = true };
        double[] q = [.. clean.Q], k = [.. clean.K];
        (inQ ? q : k)[(inQ ? 30 : 64) * clean.D] = double.NaN;
        Result before = Judged(clean), after = Library.Run(Context, clean with { Q = q, K = k }, Backend).Result;
        for (int i = 0; i < clean.Sq; i++)
        {
            bool poisoned = inQ ? i == 30 : i >= 64;
            Assert.That(double.IsNaN(after.LSE![i]), Is.EqualTo(poisoned), $"LSE of row {i}");
            Assert.That(after.O.AsSpan(i * clean.Dv, clean.Dv).ToArray().Count(double.IsNaN), Is.EqualTo(poisoned ? clean.Dv : 0), $"O of row {i}");
            Assert.That(poisoned || Library.Same(after.O[(i * clean.Dv)..((i + 1) * clean.Dv)], before.O[(i * clean.Dv)..((i + 1) * clean.Dv)]), Is.True, $"bits of row {i}");
        }
    }

    [Test]
    public void Plus_infinity_among_visible_scores_is_NaN()
    {
        Problem p = Draw(b: 1, hq: 1, hkv: 1);
        double[] bias = new double[70 * 130];
        bias[(9 * 130) + 4] = double.PositiveInfinity;
        Result result = Library.Run(Context, p with { Bias = new(bias, [1, 1, 70, 130]) }, Backend).Result;
        Assert.That(Enumerable.Range(0, 70).Where(i => double.IsNaN(result.LSE![i])), Is.EqualTo(new[] { 9 }));
        Assert.That(Enumerable.Range(0, 70).Where(i => double.IsNaN(result.O[i * p.Dv])), Is.EqualTo(new[] { 9 }));
    }

    [Test]
    public void The_kernel_is_named_after_the_backend()
    {
        using AttentionPlan plan = Context.Plan(Library.Describe(Draw()), BackendPolicy.Only(Backend));
        string name = Backend switch { AttentionBackend.Flash => ".flash", AttentionBackend.MemoryEfficient => ".memory", _ => ".naive" };
        Assert.That(plan.Kernel, Does.StartWith(Context.Device.Type == AttentionDeviceType.Cpu ? "cpu" : "cuda").And.Contain(name));
        Assert.That(plan.Backend, Is.EqualTo(Backend));
    }

    [Test]
    public void Memory_grows_with_the_square_for_naive_alone()
    {
        long Bytes(int length)
        {
            using AttentionPlan plan = Context.Plan(Library.Describe(Draw(b: 1, hq: 1, hkv: 1, sq: 1, sk: 1)) with { Queries = length, Keys = length }, BackendPolicy.Only(Backend));
            return plan.WorkspaceBytes;
        }
        long small = Bytes(1024), large = Bytes(8192);
        if (Backend == AttentionBackend.Naive)
        {
            Assert.That(small, Is.GreaterThanOrEqualTo(1024L * 1024 * 4));
            Assert.That(large, Is.GreaterThanOrEqualTo(60 * small));
        }
        else
        {
            Assert.That(large, Is.LessThanOrEqualTo(Math.Max(8 * small, 1 << 21)));
        }
    }

    [Test]
    public void Tiles_are_visited_where_something_is_seen()
    {
        Problem p = Draw(b: 2, hq: 4, hkv: 2, sq: 300, sk: 400, d: 16, dv: 16) with { KeyLengths = [100, 333], Causal = true, OffsetKind = OffsetKind.BottomRight };
        using AttentionPlan plan = Context.Plan(Library.Describe(p), BackendPolicy.Only(Backend));
        TileCounts tiles = plan.Explain(Library.MaskOf(p));
        RunReport report = Library.Run(Context, p, Backend).Report;
        Assert.That(report.MaskPasses, Is.Zero, "closed form");
        Assert.That(tiles.Empty, Is.GreaterThan(0));
        if (Backend != AttentionBackend.Naive)
        {
            Assert.That(report.TilesVisited, Is.EqualTo(tiles.Visited));
        }
    }

    [Test]
    public void A_dense_mask_is_passed_over_once_and_never_when_prepared()
    {
        Problem p = Draw() with { Keep = RandomProblems.Keep(new Random(1), [1, 1, 70, 130]) };
        int once = VisitsTiles ? 1 : 0;
        Assert.That(Library.Run(Context, p, Backend).Report.MaskPasses, Is.EqualTo(once));
        // On a GPU a prepared mask is packed for the tiles of the plan that first uses it.
        Assert.That(Library.Run(Context, p, Backend, new(Prepared: true)).Report.MaskPasses, Is.EqualTo(Context.Device.Type == AttentionDeviceType.Cpu ? 0 : once));
    }
}
