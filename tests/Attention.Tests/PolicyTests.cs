namespace Attention.Tests;

/// <summary>Which backend runs, who refuses and in which words.</summary>
[TestFixture]
internal sealed class PolicyTests
{
    // float16: what flash takes on every device.
    private static AttentionProblem Problem(AttentionDType dtype = AttentionDType.Float16, long length = 100, long d = 64, long dv = 64) =>
        AttentionProblem.For(dtype, [2, 4, length, d], [2, 2, length, d], [2, 2, length, dv]);

    private static AttentionContext Context => Contexts.Cpu;

    private static AttentionContext On(string device)
    {
        Contexts.Needs(device);
        return Contexts.Of(device);
    }

    private static AttentionProblem Spread() => Problem() with { KeyStrides = new(2 * 100 * 128, 100 * 128, 128, 2) };

    /// <summary>Every reason of the enumeration, the backend that gives it, and a problem that provokes it.</summary>
    private static IEnumerable<TestCaseData> Reasons()
    {
        TestCaseData Case(RefusalReason reason, AttentionBackend backend, AttentionProblem problem, long met, long limit) =>
            new TestCaseData(reason, backend, problem, met, limit).SetArgDisplayNames(reason.ToString(), backend.Name());
        yield return Case(RefusalReason.DType, AttentionBackend.Flash, Problem(AttentionDType.Float64), 4, 3);
        yield return Case(RefusalReason.DType, AttentionBackend.MemoryEfficient, Problem(AttentionDType.Float64), 4, 3);
        yield return Case(RefusalReason.Probabilities, AttentionBackend.Flash, Problem() with { Probabilities = true }, 1, 0);
        yield return Case(RefusalReason.Probabilities, AttentionBackend.MemoryEfficient, Problem() with { Probabilities = true }, 1, 0);
        yield return Case(RefusalReason.LastStride, AttentionBackend.Flash, Spread(), 2, 1);
        yield return Case(RefusalReason.HeadDim, AttentionBackend.Flash, Problem(d: 513), 513, 512);
        yield return Case(RefusalReason.ValueDim, AttentionBackend.Flash, Problem(dv: 600), 600, 512);
        yield return Case(RefusalReason.MemoryCeiling, AttentionBackend.Naive, Problem(length: 50_000), 2 * 50_000L * 50_000 * 8, BackendPolicy.DefaultNaiveMemoryCeiling);
    }

    [TestCaseSource(nameof(Reasons))]
    public void Every_reason_is_given_with_its_numbers(RefusalReason reason, AttentionBackend backend, AttentionProblem problem, long met, long limit)
    {
        IReadOnlyList<Refusal> refusals = Context.Query(problem, BackendPolicy.Prefer(backend));
        Refusal refusal = refusals.Single(refusal => refusal.Backend == backend && refusal.Reason == reason);
        Assert.That((refusal.Met, refusal.Limit), Is.EqualTo((met, limit)));
        Assert.That(refusal.Text, Does.Not.Contain("\n"));
        if (reason is RefusalReason.LastStride or RefusalReason.HeadDim or RefusalReason.ValueDim or RefusalReason.MemoryCeiling)
        {
            Assert.That(refusal.Text, Does.Contain($"{met}").And.Contain($"{limit}"));
        }
        Assert.That(refusal.ToString(), Does.StartWith(backend.Name() + ": "));
        BackendPolicy only = BackendPolicy.Only(backend) with { NaiveMemoryCeiling = BackendPolicy.DefaultNaiveMemoryCeiling };
        BackendRefusedException error = Assert.Throws<BackendRefusedException>(() => Context.Plan(problem, only))!;
        Assert.That(error, Is.InstanceOf<NotSupportedException>());
        Assert.That(error.Refusals, Does.Contain(refusal));
        Assert.That(error.Message, Does.Contain(refusal.Text).And.Contain(only.ToString()));
    }

    [Test]
    public void Every_reason_of_the_enumeration_is_provoked()
    {
        RefusalReason[] gpus = [RefusalReason.Architecture, RefusalReason.Alignment, RefusalReason.Size]; // provoked in tests/cuda, device or not
        Assert.That(Reasons().Select(data => (RefusalReason)data.Arguments[0]!).Distinct().Concat(gpus), Is.EquivalentTo(Enum.GetValues<RefusalReason>()));
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public void Auto_takes_flash_then_memory_efficient_then_naive(string device)
    {
        AttentionContext context = On(device);
        AttentionBackend Chosen(AttentionProblem problem)
        {
            using AttentionPlan plan = context.Plan(problem);
            return plan.Backend;
        }
        Assert.That(Chosen(Problem()), Is.EqualTo(AttentionBackend.Flash));
        Assert.That(Chosen(Spread()), Is.EqualTo(AttentionBackend.MemoryEfficient));
        Assert.That(Chosen(Problem(d: 513)), Is.EqualTo(AttentionBackend.MemoryEfficient));
        Assert.That(Chosen(Problem() with { Probabilities = true }), Is.EqualTo(AttentionBackend.Naive));
        AttentionProblem float64 = Problem(AttentionDType.Float64);
        if (device == "cpu")
        {
            Assert.That(Chosen(float64), Is.EqualTo(AttentionBackend.Naive));
        }
        else
        {
            Assert.That(() => Chosen(float64), Throws.TypeOf<BackendRefusedException>().With.Property("Refusals").Count.EqualTo(3));
        }
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public void A_plan_says_what_runs_and_who_refused(string device)
    {
        AttentionContext context = On(device);
        using AttentionPlan plain = context.Plan(Problem());
        Assert.That(plain.ToString(), Is.EqualTo($"flash ({plain.Kernel})"));
        Assert.That(plain.Kernel, Does.StartWith(device));
        using AttentionPlan spread = context.Plan(Spread());
        Assert.That(spread.ToString(), Does.StartWith($"memory-efficient ({spread.Kernel}); refused: flash: "));
        Assert.That(spread.Refusals.Select(refusal => refusal.Backend), Is.EqualTo(new[] { AttentionBackend.Flash }));
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public void Prefer_orders_and_only_forbids(string device)
    {
        AttentionContext context = On(device);
        using AttentionPlan preferred = context.Plan(Problem(), BackendPolicy.Prefer(AttentionBackend.Naive));
        Assert.That(preferred.Backend, Is.EqualTo(AttentionBackend.Naive));
        using AttentionPlan second = context.Plan(Spread(), BackendPolicy.Only(AttentionBackend.Flash, AttentionBackend.Naive));
        Assert.That(second.Backend, Is.EqualTo(AttentionBackend.Naive));
        Assert.That(() => context.Plan(Spread(), BackendPolicy.Only(AttentionBackend.Flash)), Throws.TypeOf<BackendRefusedException>().With.Message.Contains("only(flash)"));
        Assert.That(BackendPolicy.Prefer(AttentionBackend.Naive).Order, Is.EqualTo(new[] { AttentionBackend.Naive, AttentionBackend.Flash, AttentionBackend.MemoryEfficient }));
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public void Naive_has_a_ceiling_of_memory(string device)
    {
        AttentionContext context = On(device);
        AttentionProblem problem = Problem();
        BackendPolicy Under(long bytes) => BackendPolicy.Only(AttentionBackend.Naive) with { NaiveMemoryCeiling = bytes };
        Assert.That(() => context.Plan(problem, Under(1000)), Throws.TypeOf<BackendRefusedException>().With.Message.Contains("1000"));
        using AttentionPlan plan = context.Plan(problem, Under(1 << 20));
        Assert.That(plan.WorkspaceBytes, Is.GreaterThan(1000).And.LessThanOrEqualTo(1 << 20));
        using AttentionPlan auto = context.Plan(problem, BackendPolicy.Auto with { NaiveMemoryCeiling = plan.WorkspaceBytes - 1 });
        Refusal refusal = auto.Refusals.Single();
        Assert.That((refusal.Backend, refusal.Reason, refusal.Met, refusal.Limit), Is.EqualTo((AttentionBackend.Naive, RefusalReason.MemoryCeiling, plan.WorkspaceBytes, plan.WorkspaceBytes - 1)));
    }

    [Test]
    public void Policies_are_values()
    {
        BackendPolicy only = BackendPolicy.Only(AttentionBackend.Flash);
        Assert.That(only, Is.EqualTo(BackendPolicy.Only(AttentionBackend.Flash)));
        Assert.That(BackendPolicy.Only(AttentionBackend.Flash), Is.Not.EqualTo(BackendPolicy.Prefer(AttentionBackend.Flash)));
        Assert.That(BackendPolicy.Auto, Is.Not.EqualTo(BackendPolicy.Auto with { Deterministic = true }));
        Assert.That(BackendPolicy.Only(AttentionBackend.Flash, AttentionBackend.Naive).ToString(), Is.EqualTo("only(flash, naive)"));
        Assert.That(BackendPolicy.Prefer(AttentionBackend.Naive).ToString(), Is.EqualTo("prefer(naive, flash, memory-efficient)"));
        Assert.That(BackendPolicy.Auto.ToString(), Is.EqualTo("auto"));
        Assert.That(() => BackendPolicy.Only(), Throws.ArgumentException);
        Assert.That(() => BackendPolicy.Only(AttentionBackend.Flash, AttentionBackend.Flash), Throws.ArgumentException.With.Message.Contains("flash twice"));
        Assert.That(() => BackendPolicy.Prefer((AttentionBackend)9), Throws.ArgumentException.With.Message.Contains("9"));
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public void Deterministic_picks_the_same_kernel_for_any_batch_and_heads(string device)
    {
        AttentionContext context = On(device);
        string Kernel(long batch, long heads, long queries)
        {
            AttentionProblem problem = Problem() with { Batch = batch, QueryHeads = heads, KeyHeads = heads, Queries = queries, Keys = 4096 };
            using AttentionPlan plan = context.Plan(problem, BackendPolicy.Auto with { Deterministic = true });
            return $"{plan.Kernel} {plan.TileQueries}x{plan.TileKeys} by {plan.KeyChunk}";
        }
        foreach (long queries in new[] { 1L, 4, 512 })
        {
            Assert.That(new[] { Kernel(1, 1, queries), Kernel(64, 1, queries), Kernel(1, 32, queries), Kernel(64, 32, queries) }.Distinct().Count(), Is.EqualTo(1));
        }
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public void A_contexts_policy_is_its_plans(string device)
    {
        using AttentionContext naive = AttentionContext.Create(On(device).Device, new() { Workers = 1, Policy = BackendPolicy.Only(AttentionBackend.Naive) });
        using AttentionPlan plan = naive.Plan(Problem()), own = naive.Plan(Problem(), BackendPolicy.Auto);
        Assert.That((plan.Backend, own.Backend), Is.EqualTo((AttentionBackend.Naive, AttentionBackend.Flash)));
    }
}
