using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>Runs on streams: order, cancellation, what is kept alive, and that no thread is held while waiting.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class AsyncTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private const int B = 2, H = 4, S = 90, D = 32;

    private static AttentionProblem Problem(int length = S) => AttentionProblem.For(AttentionDType.Float16, [B, H, length, D], [B, H, length, D], [B, H, length, D]);

    private static Half[] Numbers(int seed, int length = S) => Array.ConvertAll(RandomProblems.Normal(new Random(seed), Element.F16, B * H * length * D), x => (Half)x);

    private AttentionTensor Tensor(int seed, int length = S) => Context.Upload<Half>(Numbers(seed, length), [B, H, length, D]);

    private AttentionPlan Plan(AttentionProblem problem) => Context.Plan(problem, BackendPolicy.Only(Backend));

    private Half[] Right(AttentionPlan plan, int q, int k, int v, Mask? mask = null)
    {
        Half[] right = new Half[B * H * S * D];
        plan.Run<Half>(Numbers(q), Numbers(k), Numbers(v), right, mask);
        return right;
    }

    private static T[] Read<T>(AttentionTensor tensor)
        where T : unmanaged
    {
        T[] data = new T[tensor.Count];
        tensor.Download<T>(data);
        return data;
    }

    [Test]
    public async Task The_task_ends_with_the_outputs_written()
    {
        using AttentionPlan plan = Plan(Problem() with { Mask = MaskKind.Causal });
        using AttentionTensor q = Tensor(1), k = Tensor(2), v = Tensor(3), output = Context.Allocate<Half>([B, H, S, D]), lse = Context.Allocate<float>([B, H, S]);
        RunReport report = await plan.RunAsync(q, k, v, output, Mask.Causal, lse);
        Assert.That(Read<Half>(output), Is.EqualTo(Right(plan, 1, 2, 3, Mask.Causal)));
        Assert.That(report.Backend, Is.EqualTo(Backend));
        Assert.That(report.TilesVisited, VisitsTiles ? Is.GreaterThan(0) : Is.Zero);
        Assert.That(Read<float>(lse), Is.All.Not.NaN);
    }

    [Test]
    public async Task What_is_put_on_one_stream_runs_in_order()
    {
        // Each run reads what the one before wrote.
        using AttentionPlan plan = Plan(Problem());
        using AttentionStream stream = Context.CreateStream();
        using AttentionTensor k = Tensor(2), v = Tensor(3);
        AttentionTensor[] chain = [Tensor(1), .. Enumerable.Range(0, 12).Select(_ => Context.Allocate<Half>([B, H, S, D]))];
        List<Task> tasks = [];
        for (int step = 1; step < chain.Length; step++)
        {
            tasks.Add(plan.RunAsync(chain[step - 1], k, v, chain[step], stream: stream));
        }
        stream.Synchronize();
        Half[] right = Numbers(1);
        for (int step = 1; step < chain.Length; step++)
        {
            Half[] next = new Half[right.Length];
            plan.Run<Half>(right, Numbers(2), Numbers(3), next);
            right = next;
        }
        Assert.That(Read<Half>(chain[^1]), Is.EqualTo(right));
        await Task.WhenAll(tasks);
        Array.ForEach(chain, tensor => tensor.Dispose());
    }

    [Test]
    public async Task Everything_is_kept_alive_until_the_run_is_done()
    {
        AttentionContext own = AttentionContext.Create(Context.Device, new() { Workers = 2 });
        AttentionPlan plan = own.Plan(Problem() with { Mask = new MaskKinds(MaskKind.Keep, new(1, 1, S, S)) }, BackendPolicy.Only(Backend));
        bool[] keep = [.. Enumerable.Range(0, S * S).Select(at => at % 3 != 0)];
        Half[] right = Right(plan, 1, 2, 3, Mask.Keep(keep, [S, S]));
        AttentionTensor[] outputs = [.. Enumerable.Range(0, 8).Select(_ => own.Allocate<Half>([B, H, S, D]))];
        AttentionStream stream = own.CreateStream();
        List<Task> tasks = [];
        foreach (AttentionTensor output in outputs)
        {
            AttentionTensor q = own.Upload<Half>(Numbers(1), [B, H, S, D]), k = own.Upload<Half>(Numbers(2), [B, H, S, D]), v = own.Upload<Half>(Numbers(3), [B, H, S, D]);
            PreparedMask mask = own.Prepare(Mask.Keep(keep, [S, S]));
            tasks.Add(plan.RunAsync(q, k, v, output, mask, stream: stream));
            Array.ForEach<IDisposable>([q, k, v, mask], child => child.Dispose());
        }
        Array.ForEach<IDisposable>([plan, .. outputs[..^1], stream, own], child => child.Dispose());
        GC.Collect();
        await Task.WhenAll(tasks);
        Assert.That(Read<Half>(outputs[^1]), Is.EqualTo(right));
        outputs[^1].Dispose();
    }

    [Test]
    public void A_cancelled_token_starts_nothing()
    {
        using AttentionPlan plan = Plan(Problem());
        using AttentionTensor q = Tensor(1), k = Tensor(2), v = Tensor(3), output = Tensor(4);
        CancellationToken cancelled = new(canceled: true);
        Task task = plan.RunAsync(q, k, v, output, cancellationToken: cancelled);
        Assert.That(task.IsCanceled, Is.True);
        Assert.That(() => plan.Run(q, k, v, output, cancellationToken: cancelled), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(plan.RunAsync(q, k, v, output).Wait(TimeSpan.FromSeconds(60)), Is.True);
    }

    [Test]
    public async Task Cancelled_in_the_middle_it_ends_cancelled_and_the_next_run_is_right()
    {
        // Six of them take longer than it takes to put them on the stream and to cancel: on a GPU some milliseconds, where nothing is compiled meanwhile.
        int length = Context.Device.Type == AttentionDeviceType.Cuda && Suite.Emulated ? 200 : OnTensorCores ? 16384 : 3000;
        using AttentionPlan large = Plan(Problem(length)), small = Plan(Problem());
        large.Warmup();
        small.Warmup();
        using AttentionStream stream = Context.CreateStream();
        using AttentionTensor q = Tensor(1, length), k = Tensor(2, length), v = Tensor(3, length), output = Context.Allocate<Half>([B, H, length, D]);
        using AttentionTensor sq = Tensor(1), sk = Tensor(2), sv = Tensor(3), so = Context.Allocate<Half>([B, H, S, D]);
        using CancellationTokenSource stop = new();
        Task<RunReport>[] tasks = [.. Enumerable.Range(0, 6).Select(_ => large.RunAsync(q, k, v, output, stream: stream, cancellationToken: stop.Token))];
        stop.Cancel();
        Task<RunReport> after = small.RunAsync(sq, sk, sv, so, stream: stream);
        OperationCanceledException? cancelled = null;
        try
        {
            await Task.WhenAll(tasks);
        }
        catch (OperationCanceledException e)
        {
            cancelled = e;
        }
        Assert.That(tasks[^1].IsCanceled, Is.True, "six long runs ended before they could be cancelled");
        Assert.That(cancelled!.CancellationToken, Is.EqualTo(stop.Token));
        await after;
        Assert.That(Read<Half>(so), Is.EqualTo(Right(small, 1, 2, 3)));
    }

    [Test]
    public async Task A_merge_takes_its_turn_on_a_stream()
    {
        using AttentionPlan plan = Plan(Problem());
        using AttentionStream stream = Context.CreateStream();
        AttentionTensor Empty() => Context.Allocate<Half>([B, H, S, D]);
        AttentionTensor Sums() => Context.Allocate<float>([B, H, S]);
        using AttentionTensor q = Tensor(1), k = Tensor(2), v = Tensor(3), other = Tensor(4), merged = Empty(), mergedSums = Sums();
        using AttentionTensor o1 = Empty(), lse1 = Sums(), o2 = Empty(), lse2 = Sums(), right = Empty(), rightSums = Sums();
        AttentionTensor passing = Empty(), passingSums = Sums(); // gone before its turn comes
        Task first = plan.RunAsync(q, k, v, o1, logSumExp: lse1, stream: stream), second = plan.RunAsync(q, other, v, passing, logSumExp: passingSums, stream: stream);
        ScaledDotProductAttention.Merge(o1, lse1, passing, passingSums, merged, mergedSums, stream: stream);
        Task over = plan.RunAsync(merged, k, v, right, stream: stream); // right holds something else until below
        passing.Dispose();
        passingSums.Dispose();
        await Task.WhenAll(first, second, over);
        plan.Run(q, other, v, o2, logSumExp: lse2);
        ScaledDotProductAttention.Merge(o1, lse1, o2, lse2, right, rightSums, Context);
        Assert.That(Read<Half>(merged), Is.EqualTo(Read<Half>(right)));
        Assert.That(Read<float>(mergedSums), Is.EqualTo(Read<float>(rightSums)));
    }

    [Test]
    public void Borrowed_host_memory_is_refused()
    {
        using AttentionPlan plan = Plan(Problem());
        using AttentionTensor borrowed = AttentionTensor.Borrow<Half>(Numbers(1), [B, H, S, D]), owned = Tensor(2), output = Tensor(3);
        Assert.That(() => plan.RunAsync(borrowed, owned, owned, output), Throws.ArgumentException.With.Property("ParamName").EqualTo("q").And.Message.Contains("borrowed"));
        Assert.That(() => plan.RunAsync(owned, owned, owned, borrowed), Throws.ArgumentException.With.Property("ParamName").EqualTo("output"));
        using AttentionTensor sums = Context.Allocate<float>([B, H, S]);
        Assert.That(
            () => ScaledDotProductAttention.Merge(owned, sums, owned, sums, borrowed, stream: Context.DefaultStream),
            Throws.ArgumentException.With.Property("ParamName").EqualTo("output").And.Message.Contains("borrowed"));
    }

    [Test]
    public async Task Bad_values_are_found_before_anything_starts()
    {
        using AttentionPlan plan = Plan(Problem() with { Mask = MaskKind.KeyLengths });
        using AttentionTensor q = Tensor(1), k = Tensor(2), v = Tensor(3), output = Tensor(4);
        Assert.That(() => plan.RunAsync(q, k, v, output, Mask.KeyLengths(1, S + 1)), Throws.ArgumentException.With.Message.Contains($"{S + 1}"));
        Assert.That(Read<Half>(output), Is.EqualTo(Numbers(4)));
        await plan.RunAsync(q, k, v, output, Mask.KeyLengths(1, S));
        using AttentionStream gone = Context.CreateStream();
        gone.Dispose();
        Assert.That(() => plan.RunAsync(q, k, v, output, Mask.KeyLengths(1, S), stream: gone), Throws.InstanceOf<ObjectDisposedException>());
    }
}
