using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>Who lives how long: any order of disposing, from any thread; nothing leaks, a run allocates nothing.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class LifetimeTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private static AttentionProblem Problem(long length = 16) =>
        AttentionProblem.For(AttentionDType.Float16, [1, 1, length, 64], [1, 1, length, 64], [1, 1, length, 64]) with { Mask = MaskKind.Causal };

    [Test]
    public void Disposed_in_any_order_from_many_threads_nothing_is_left()
    {
        long before = Live.Objects();
        Parallel.For(0, 64, new ParallelOptions { MaxDegreeOfParallelism = 8 }, seed =>
        {
            Random random = new(seed);
            AttentionContext context = AttentionContext.Create(Context.Device, new() { Workers = 1 + (seed % 3) });
            AttentionPlan plan = context.Plan(Problem(), BackendPolicy.Only(Backend));
            PreparedMask mask = context.Prepare(Mask.Causal);
            AttentionStream stream = context.CreateStream();
            AttentionTensor q = context.Upload<Half>(new Half[16 * 64], [1, 1, 16, 64]), output = context.Allocate<Half>([1, 1, 16, 64]), view = q.Transpose(0, 1);
            Task run = plan.RunAsync(q, q, q, output, mask, stream: stream);
            IDisposable[] all = [context, plan, mask, stream, q, output, view];
            random.Shuffle(all);
            Parallel.ForEach(all, one => one.Dispose());
            Assert.That(run.Wait(TimeSpan.FromSeconds(60)), Is.True);
        });
        Assert.That(Live.Objects(), Is.EqualTo(before), Live.Text());
    }

    [Test]
    public void Disposing_while_others_run_is_legal()
    {
        long before = Live.Objects();
        for (int round = 0; round < 10; round++)
        {
            AttentionPlan plan = Context.Plan(Problem(200), BackendPolicy.Only(Backend));
            AttentionTensor q = Context.Upload<Half>(new Half[200 * 64], [1, 1, 200, 64]);
            using Barrier start = new(5);
            Task[] runners = [.. Enumerable.Range(0, 4).Select(_ => Task.Factory.StartNew(() =>
            {
                using AttentionTensor output = Context.Allocate<Half>([1, 1, 200, 64]);
                start.SignalAndWait();
                try
                {
                    while (true)
                    {
                        plan.Run(q, q, q, output, Mask.Causal);
                    }
                }
                catch (ObjectDisposedException)
                {
                }
            }, TaskCreationOptions.LongRunning))];
            start.SignalAndWait();
            Thread.Sleep(2);
            (round % 2 == 0 ? (IDisposable)plan : q).Dispose();
            Assert.That(Task.WaitAll(runners, TimeSpan.FromSeconds(60)), Is.True);
            Array.ForEach<IDisposable>([plan, q], one => one.Dispose());
        }
        Assert.That(Live.Objects(), Is.EqualTo(before), Live.Text());
    }

    [Test]
    public void What_nobody_disposes_the_collector_does()
    {
        long before = Live.Objects();
        Forget();
        Assert.That(Live.Objects(), Is.EqualTo(before), Live.Text());

        void Forget()
        {
            AttentionContext context = AttentionContext.Create(Context.Device, new() { Workers = 1 });
            context.Plan(Problem(), BackendPolicy.Only(Backend));
            context.Prepare(Mask.Causal);
            context.CreateStream();
            context.Allocate<float>([100]);
        }
    }

    [Test]
    public void A_run_with_a_reused_plan_allocates_nothing([Values] bool prepared)
    {
        bool[] keep = [.. Enumerable.Range(0, 16 * 16).Select(at => at % 3 != 0)];
        Mask mask = Mask.Keep(keep, [16, 16]) & Mask.KeyLengths(12) & Mask.Causal;
        AttentionBias bias = AttentionBias.Additive<float>(new float[16], [16]) + AttentionBias.Alibi(0.5f);
        using PreparedMask packed = Context.Prepare(mask);
        Mask used = prepared ? packed : mask;
        using AttentionPlan plan = Context.Plan(Problem() with { Mask = mask.Kinds, Bias = bias.Kinds, Offset = QueryOffset.At(3) }, BackendPolicy.Only(Backend));
        using AttentionTensor q = Context.Upload<Half>(new Half[16 * 64], [1, 1, 16, 64]), output = Context.Allocate<Half>([1, 1, 16, 64]), lse = Context.Allocate<float>([1, 1, 16]);
        Half[] spans = new Half[16 * 64], result = new Half[16 * 64];
        long Allocated()
        {
            long start = GC.GetAllocatedBytesForCurrentThread();
            for (int run = 0; run < 100; run++)
            {
                plan.Run(q, q, q, output, used, lse, bias, QueryOffset.At(run % 5));
                if (Context.Device.Type == AttentionDeviceType.Cpu) // a GPU's spans are copied there and back
                {
                    plan.Run<Half>(spans, spans, spans, result, used, bias: bias);
                }
            }
            return GC.GetAllocatedBytesForCurrentThread() - start;
        }
        Allocated();
        Assert.That(Allocated(), Is.Zero);
    }

    [Test]
    public void Scratch_is_two_megabytes_a_worker_however_long_the_problem()
    {
        using AttentionContext own = AttentionContext.Create(Context.Device, new() { Workers = 2 });
        // What a GPU holds its driver gives in pieces of the driver's choice, of 32 MB where that is known.
        long most = Context.Device.Type == AttentionDeviceType.Cpu ? 2 * (2 << 20) : 64 << 20;
        foreach (int length in new[] { 300, 1200 })
        {
            using AttentionPlan plan = own.Plan(Problem(length), BackendPolicy.Only(Backend));
            Half[] q = new Half[length * 64], output = new Half[length * 64];
            for (int run = 0; run < 10; run++)
            {
                plan.Run<Half>(q, q, q, output, Mask.Causal);
            }
            Assert.That(own.Describe().ScratchBytes, Is.LessThanOrEqualTo(most + (Backend == AttentionBackend.Naive ? plan.WorkspaceBytes : 0)));
        }
        own.Trim();
        Assert.That(own.Describe().ScratchBytes, Is.LessThanOrEqualTo(most), "workspaces are given back");
    }

    [Test]
    public void Counters_count()
    {
        AttentionCounters before = AttentionRuntime.Counters();
        using (AttentionTensor tensor = Context.Allocate<float>([1000]))
        {
            AttentionCounters with = AttentionRuntime.Counters();
            Assert.That((with.LiveTensors - before.LiveTensors, with.LiveBytes - before.LiveBytes), Is.EqualTo((1L, 4000L)));
            Assert.That(Context.Describe().LiveBytes, Is.GreaterThanOrEqualTo(4000));
        }
        Assert.That(AttentionRuntime.Counters().LiveBytes, Is.EqualTo(before.LiveBytes));
        bool[] keep = new bool[16 * 16];
        using AttentionPlan plan = Context.Plan(Problem() with { Mask = new MaskKinds(MaskKind.Keep, new(1, 1, 16, 16)) }, BackendPolicy.Only(Backend));
        Half[] data = new Half[16 * 64], output = new Half[16 * 64];
        plan.Run<Half>(data, data, data, output, Mask.Keep(keep, [16, 16]));
        AttentionCounters after = AttentionRuntime.Counters();
        Assert.That((after.Runs - before.Runs, after.MaskPasses - before.MaskPasses), Is.EqualTo((1L, VisitsTiles ? 1L : 0L)));
    }

    [Test]
    public void A_plan_serves_many_threads_at_once()
    {
        Problem p = RandomProblems.Shaped(new Random(17), Element.F16, b: 2, hq: 6, hkv: 2, sq: 97, sk: 65, d: 8, dv: 8) with { Causal = true, KeyLengths = [65, 20] };
        Mask mask = Library.MaskOf(p);
        using AttentionPlan plan = Context.Plan(Library.Describe(p), BackendPolicy.Only(Backend));
        Half[] q = Array.ConvertAll(p.Q, x => (Half)x), k = Array.ConvertAll(p.K, x => (Half)x), v = Array.ConvertAll(p.V, x => (Half)x), right = new Half[p.B * p.Hq * p.Sq * p.Dv];
        plan.Run<Half>(q, k, v, right, mask);
        Parallel.For(0, 100, new ParallelOptions { MaxDegreeOfParallelism = 8 }, _ =>
        {
            Half[] output = new Half[right.Length];
            plan.Run<Half>(q, k, v, output, mask);
            Assert.That(output.AsSpan().SequenceEqual(right), Is.True);
        });
    }
}
