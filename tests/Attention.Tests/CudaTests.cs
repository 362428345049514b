namespace Attention.Tests;

/// <summary>What is a GPU's own in this API, on the first CUDA device there is. tests/cuda/managed.sh runs it over a driver without a GPU.</summary>
[TestFixture]
internal sealed class CudaTests
{
    private const int B = 2, H = 2, S = 40, D = 32;

    private static readonly long[] s_shape = [B, H, S, D];

    private static AttentionContext OnGpu => Contexts.Of("cuda");

    [OneTimeSetUp]
    public void NeedsADevice()
    {
        Contexts.Needs("cuda");
        _ = OnGpu; // before anything counts what lives
    }

    private static Half[] Numbers(int seed)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, B * H * S * D).Select(_ => (Half)(random.NextDouble() - 0.5))];
    }

    private static Half[] Right(Mask mask)
    {
        Half[] right = new Half[B * H * S * D];
        ScaledDotProductAttention.Compute<Half>(Numbers(1), s_shape, Numbers(2), s_shape, Numbers(3), s_shape, right, mask);
        return right;
    }

    private static void IsRight(AttentionTensor output, Mask mask)
    {
        Half[] met = new Half[B * H * S * D];
        output.Download<Half>(met);
        IsRight(met, mask);
    }

    private static void IsRight(Half[] met, Mask mask)
    {
        Half[] right = Right(mask);
        for (int i = 0; i < met.Length; i++)
        {
            Assert.That((double)met[i], Is.EqualTo((double)right[i]).Within(2e-3), $"element {i}");
        }
    }

    [Test]
    public void The_runtime_is_described()
    {
        AttentionRuntimeInfo info = AttentionRuntime.Describe();
        Assert.That(info.CudaDriver, Is.Not.Null);
        Assert.That(info.Nvrtc, Is.Not.Null);
        Assert.That(info.CudaUnavailable, Is.Null);
        Assert.That(info.Devices, Does.Contain(AttentionDevice.Cuda()));
        Assert.That(info.ToString(), Does.Contain("driver").And.Contain("NVRTC").And.Contain("cuda").And.Contain("compiled for"));
    }

    [Test]
    public void Auto_takes_the_GPU_and_says_so()
    {
        using AttentionContext context = AttentionContext.Create();
        Assert.That(context.Device, Is.EqualTo(AttentionDevice.Cuda()));
        Assert.That(context.InstructionSet, Does.StartWith("sm_"));
        Assert.That(context.Explanation, Does.Contain("usable GPU"));
        AttentionContextInfo info = context.Describe();
        Assert.That(info.Device, Is.EqualTo(context.Device));
        Assert.That(info.MemoryTotal, Is.GreaterThan(0).And.GreaterThanOrEqualTo(info.MemoryFree));
    }

    [Test]
    public void Auto_leaves_float32_to_memory_efficient_and_says_why()
    {
        using AttentionPlan plan = OnGpu.Plan(AttentionProblem.For(AttentionDType.Float32, s_shape, s_shape, s_shape));
        Assert.That(plan.Backend, Is.EqualTo(AttentionBackend.MemoryEfficient));
        Assert.That(plan.Refusals.Select(refusal => (refusal.Backend, refusal.Reason)), Is.EqualTo(new[] { (AttentionBackend.Flash, RefusalReason.DType) }));
        Assert.That(plan.Refusals[0].Text, Does.Contain("float32"));
        Assert.That(plan.ToString(), Is.EqualTo($"memory-efficient ({plan.Kernel}); refused: {plan.Refusals[0]}"));
    }

    [Test]
    public void A_device_that_is_not_there()
    {
        Assert.That(() => AttentionContext.Create(AttentionDevice.Cuda(99)), Throws.InstanceOf<CudaException>().With.Message.Contains("99"));
    }

    private static IEnumerable<AttentionDevice> Gpus => AttentionRuntime.Describe().Devices.Where(device => device.Type == AttentionDeviceType.Cuda);

    [Test]
    public void Every_device_is_described_and_passes_its_own_test()
    {
        List<string> architectures = [];
        foreach (AttentionDevice device in Gpus)
        {
            using AttentionContext context = AttentionContext.Create(device);
            AttentionContextInfo info = context.Describe();
            Assert.That((context.Device, info.Device, info.InstructionSet), Is.EqualTo((device, device, context.InstructionSet)));
            Assert.That(context.Explanation, Does.Contain($"{device} was asked for"));
            Assert.That(info.DeviceName, Is.Not.Empty.And.EqualTo(context.DeviceName));
            Assert.That(info.Workers, Is.GreaterThan(0));
            IReadOnlyList<SelfTestResult> results = context.SelfTest();
            bool tensorCores = int.Parse(info.InstructionSet["sm_".Length..]) >= 80;
            Assert.That(results, Has.Count.EqualTo(tensorCores ? 8 : 6), "flash takes no float32, and nothing before sm_80");
            Assert.That(results.Where(r => !r.Passed), Is.Empty);
            Assert.That(results.Select(r => r.Kernel), Is.All.StartsWith("cuda."));
            architectures.Add(info.InstructionSet);
        }
        if (Suite.Emulated)
        {
            Assert.That(architectures, Is.EqualTo(new[] { "sm_90", "sm_80", "sm_75" }), "of the driver without a GPU");
        }
    }

    [Test]
    public void Each_device_computes_with_its_own_memory_alone()
    {
        using AttentionTensor elsewhere = OnGpu.Upload<Half>(Numbers(1), s_shape);
        foreach (AttentionDevice device in Gpus)
        {
            using AttentionContext context = AttentionContext.Create(device);
            using AttentionTensor q = context.Upload<Half>(Numbers(1), s_shape), k = context.Upload<Half>(Numbers(2), s_shape), v = context.Upload<Half>(Numbers(3), s_shape);
            using AttentionTensor output = context.Allocate<Half>(s_shape);
            Assert.That(output.Device, Is.EqualTo(device));
            using AttentionPlan plan = context.Plan(AttentionProblem.For(q, k, v) with { Mask = MaskKind.Causal });
            plan.Run(q, k, v, output, Mask.Causal);
            IsRight(output, Mask.Causal);
            if (device != OnGpu.Device)
            {
                Assert.That(
                    () => plan.Run(q, elsewhere, v, output, Mask.Causal), Throws.ArgumentException.With.Property("ParamName").EqualTo("k").And.Message.Contains($"{OnGpu.Device}"));
            }
        }
    }

    [TestCase(AttentionBackend.Flash)]
    [TestCase(AttentionBackend.MemoryEfficient)]
    [TestCase(AttentionBackend.Naive)]
    public void Tensors_are_uploaded_computed_with_and_downloaded(AttentionBackend backend)
    {
        Mask mask = Mask.Causal & Mask.KeyLengths(S, 17);
        using AttentionTensor q = OnGpu.Upload<Half>(Numbers(1), s_shape), k = OnGpu.Upload<Half>(Numbers(2), s_shape), v = OnGpu.Upload<Half>(Numbers(3), s_shape);
        using AttentionTensor output = OnGpu.Allocate<Half>(s_shape);
        using AttentionPlan plan = OnGpu.Plan(AttentionProblem.For(q, k, v) with { Mask = mask.Kinds }, BackendPolicy.Only(backend));
        plan.Warmup();
        RunReport report = plan.Run(q, k, v, output, mask);
        Assert.That(report.Kernel, Does.StartWith("cuda."));
        Assert.That(q.Device, Is.EqualTo(AttentionDevice.Cuda()));
        IsRight(output, mask);
        Assert.That(() => output.AsSpan<Half>(), Throws.InvalidOperationException.With.Message.Contains("Download"));
    }

    [Test]
    public void Pointers_of_others_are_used_where_they_are()
    {
        using AttentionTensor memory = OnGpu.Upload<Half>([.. Numbers(1), .. Numbers(2), .. Numbers(3), .. Numbers(4)], [4L * B * H * S * D]);
        AttentionTensor At(int part) => AttentionTensor.FromDevicePointer(
            memory.Address + (part * B * H * S * D * 2), AttentionDType.Float16, s_shape, device: AttentionDevice.Cuda(), owner: memory);
        using AttentionTensor q = At(0), k = At(1), v = At(2), output = At(3), result = OnGpu.Allocate<Half>(s_shape);
        using AttentionPlan plan = OnGpu.Plan(AttentionProblem.For(q, k, v));
        plan.Run(q, k, v, output);
        plan.Run(q, k, v, result);
        IsRight(result, Mask.None);
        Half[] all = new Half[4 * B * H * S * D], alone = new Half[B * H * S * D];
        memory.Download<Half>(all);
        result.Download<Half>(alone);
        Assert.That(all[(3 * alone.Length)..], Is.EqualTo(alone));
        Assert.That(all[..alone.Length], Is.EqualTo(Numbers(1)), "nothing else was written");
    }

    [Test]
    public void A_context_a_stream_and_memory_of_others_are_used_and_left_to_them()
    {
        const int Count = B * H * S * D;
        Half[] Pinned(int seed)
        {
            Half[] copy = GC.AllocateArray<Half>(Count, pinned: true);
            Numbers(seed).CopyTo(copy, 0);
            return copy;
        }
        _ = Right(Mask.Causal); // the process's own context, before anything counts what lives
        long before = Live.Objects(), faults = Others.Faults;
        using (Others theirs = new())
        {
            Half[][] numbers = [Pinned(1), Pinned(2), Pinned(3)];
            nint[] at = [.. Enumerable.Range(0, 4).Select(_ => theirs.Allocate(Count * 2))];
            AttentionContext context = AttentionContext.Create(AttentionDevice.Cuda(), new() { NativeContext = theirs.Context });
            AttentionTensor Tensor(int part) => AttentionTensor.FromDevicePointer(at[part], AttentionDType.Float16, s_shape, device: context.Device);
            AttentionTensor q = Tensor(0), k = Tensor(1), v = Tensor(2), output = Tensor(3);
            AttentionPlan plan = context.Plan(AttentionProblem.For(q, k, v) with { Mask = MaskKind.Causal }, BackendPolicy.Only(AttentionBackend.Flash));
            plan.Warmup();
            AttentionStream stream = context.WrapStream(theirs.Stream);
            // Theirs, ours, theirs on one stream, and nothing is waited for between.
            for (int part = 0; part < numbers.Length; part++)
            {
                theirs.Put(at[part], numbers[part]);
            }
            Task<RunReport> run = plan.RunAsync(q, k, v, output, Mask.Causal, stream: stream);
            Array.ForEach<IDisposable>([q, k, v, output, stream, plan, context], ours => ours.Dispose());
            IsRight(theirs.Fetch(at[3], Count), Mask.Causal);
            Assert.That(run.Wait(TimeSpan.FromSeconds(60)), Is.True);
            Assert.That(Live.Objects(), Is.EqualTo(before), Live.Text());
            Assert.That(Others.Current, Is.EqualTo(theirs.Context), "the thread has the context it had");
            Assert.That(theirs.Fetch(at[0], Count), Is.EqualTo(Numbers(1)), "their context, stream and memory are as they were");
        }
        Assert.That(Others.Faults, Is.EqualTo(faults));
    }

    [Test]
    public void On_a_stream_that_is_captured_an_asynchronous_run_is_refused()
    {
        using Others theirs = new();
        using AttentionContext context = AttentionContext.Create(AttentionDevice.Cuda(), new() { NativeContext = theirs.Context });
        using AttentionTensor q = context.Upload<Half>(Numbers(1), s_shape), output = context.Allocate<Half>(s_shape);
        using AttentionPlan plan = context.Plan(AttentionProblem.For(q, q, q));
        plan.Warmup();
        using AttentionStream stream = context.WrapStream(theirs.Stream);
        theirs.Capture(true);
        try
        {
            Assert.That(() => plan.RunAsync(q, q, q, output, stream: stream), Throws.ArgumentException.With.Message.Contains("captured"));
        }
        finally
        {
            theirs.Capture(false);
        }
    }

    [Test]
    public unsafe void An_address_that_is_not_the_devices_is_refused()
    {
        Half[] host = new Half[B * H * S * D];
        using AttentionTensor q = OnGpu.Upload<Half>(Numbers(1), s_shape), output = OnGpu.Allocate<Half>(s_shape);
        using AttentionPlan plan = OnGpu.Plan(AttentionProblem.For(q, q, q));
        fixed (Half* at = host)
        {
            using AttentionTensor wrong = AttentionTensor.FromDevicePointer((nint)at, AttentionDType.Float16, s_shape, device: AttentionDevice.Cuda());
            Assert.That(() => plan.Run(wrong, q, q, output), Throws.ArgumentException.With.Property("ParamName").EqualTo("q").And.Message.Contains("no memory of CUDA's"));
        }
        using AttentionTensor borrowed = AttentionTensor.Borrow<Half>(host, s_shape);
        Assert.That(() => plan.Run(borrowed, q, q, output), Throws.ArgumentException.With.Property("ParamName").EqualTo("q").And.Message.Contains("cpu:0"));
    }

    [Test]
    public void Spans_are_copied_there_and_back()
    {
        // Rows of the output with a gap after each: what is in it stays.
        AttentionProblem problem = AttentionProblem.For(AttentionDType.Float16, s_shape, s_shape, s_shape) with
        {
            Mask = MaskKind.Causal,
            OutputStrides = new(H * S * (D + 8), S * (D + 8), D + 8, 1),
        };
        using AttentionPlan plan = OnGpu.Plan(problem);
        Half[] output = new Half[(B * H * S * (D + 8)) - 8], right = Right(Mask.Causal);
        output.AsSpan().Fill((Half)77);
        float[] lse = new float[B * H * S];
        plan.Run<Half>(Numbers(1), Numbers(2), Numbers(3), output, Mask.Causal, lse);
        for (int i = 0; i < output.Length; i++)
        {
            double expected = i % (D + 8) < D ? (double)right[(i / (D + 8) * D) + (i % (D + 8))] : 77;
            Assert.That((double)output[i], Is.EqualTo(expected).Within(2e-3), $"element {i}");
        }
        Assert.That(lse, Is.All.Not.Zero);
    }

    [Test]
    public async Task Runs_on_streams_end_their_tasks()
    {
        Mask mask = Mask.Causal;
        using AttentionTensor q = OnGpu.Upload<Half>(Numbers(1), s_shape), k = OnGpu.Upload<Half>(Numbers(2), s_shape), v = OnGpu.Upload<Half>(Numbers(3), s_shape);
        using AttentionPlan plan = OnGpu.Plan(AttentionProblem.For(q, k, v) with { Mask = mask.Kinds });
        using AttentionStream stream = OnGpu.CreateStream();
        AttentionTensor[] outputs = [.. Enumerable.Range(0, 4).Select(_ => OnGpu.Allocate<Half>(s_shape))];
        RunReport[] reports = await Task.WhenAll(outputs.Select((output, at) => plan.RunAsync(q, k, v, output, mask, stream: at % 2 == 0 ? stream : null)));
        Assert.That(reports.Select(r => r.TilesVisited), Is.All.GreaterThan(0));
        foreach (AttentionTensor output in outputs)
        {
            IsRight(output, mask);
            output.Dispose();
        }
    }

    [Test]
    public void A_prepared_mask_is_packed_when_a_plan_first_uses_it()
    {
        byte[] keep = new byte[S * S];
        new Random(5).NextBytes(keep);
        Mask mask = Mask.Keep(Array.ConvertAll(keep, x => x > 100), [S, S]);
        using PreparedMask prepared = OnGpu.Prepare(mask);
        Assert.That((prepared.FullCells, prepared.PartialCells, prepared.EmptyCells), Is.EqualTo((0L, 1L, 0L)));
        long bytes = prepared.Bytes;
        using AttentionTensor q = OnGpu.Upload<Half>(Numbers(1), s_shape), k = OnGpu.Upload<Half>(Numbers(2), s_shape), v = OnGpu.Upload<Half>(Numbers(3), s_shape);
        using AttentionTensor output = OnGpu.Allocate<Half>(s_shape);
        using AttentionPlan plan = OnGpu.Plan(AttentionProblem.For(q, k, v) with { Mask = mask.Kinds });
        Assert.That(plan.Run(q, k, v, output, prepared).MaskPasses, Is.EqualTo(1));
        Assert.That(plan.Run(q, k, v, output, prepared).MaskPasses, Is.Zero);
        IsRight(output, mask);
        Assert.That(prepared.Bytes, Is.GreaterThan(bytes));
    }

    [Test]
    public void Two_halves_of_the_keys_merge_to_the_whole()
    {
        const int First = 25;
        using AttentionTensor q = OnGpu.Upload<Half>(Numbers(1), s_shape), k = OnGpu.Upload<Half>(Numbers(2), s_shape), v = OnGpu.Upload<Half>(Numbers(3), s_shape);
        AttentionTensor Keys(AttentionTensor of, int from, int count) => AttentionTensor.FromDevicePointer(
            of.Address + (from * D * 2), AttentionDType.Float16, [B, H, count, D], [H * S * D, S * D, D, 1], AttentionDevice.Cuda(), owner: of);
        (AttentionTensor O, AttentionTensor Lse) Part(int from, int count)
        {
            using AttentionTensor keys = Keys(k, from, count), values = Keys(v, from, count);
            using AttentionPlan plan = OnGpu.Plan(AttentionProblem.For(q, keys, values));
            AttentionTensor o = OnGpu.Allocate<Half>(s_shape), lse = OnGpu.Allocate<float>([B, H, S]);
            plan.Run(q, keys, values, o, logSumExp: lse);
            return (o, lse);
        }
        (AttentionTensor o1, AttentionTensor lse1) = Part(0, First);
        (AttentionTensor o2, AttentionTensor lse2) = Part(First, S - First);
        using (o1)
        using (lse1)
        using (o2)
        using (lse2)
        {
            using AttentionTensor whole = OnGpu.Allocate<Half>(s_shape), wholeLse = OnGpu.Allocate<float>([B, H, S]);
            using (AttentionStream stream = OnGpu.CreateStream())
            {
                ScaledDotProductAttention.Merge(o1, lse1, o2, lse2, whole, wholeLse, stream: stream);
                stream.Synchronize();
            }
            IsRight(whole, Mask.None);
            ScaledDotProductAttention.Merge(o1, lse1, o2, lse2, o1, lse1);
            IsRight(o1, Mask.None);
            using AttentionTensor onHost = AttentionTensor.Borrow<Half>(Numbers(1), s_shape);
            Assert.That(
                () => ScaledDotProductAttention.Merge(o1, lse1, onHost, lse2, o1),
                Throws.ArgumentException.With.Property("ParamName").EqualTo("output2").And.Message.Contains("cpu:0"));
        }
    }

    [Test]
    public void Memory_is_counted_and_given_back()
    {
        const long Bytes = 100 << 20;
        using AttentionContext context = AttentionContext.Create(AttentionDevice.Cuda());
        using (AttentionTensor tensor = context.Allocate<byte>([Bytes]))
        {
            Assert.That(context.Describe().LiveBytes, Is.EqualTo(Bytes));
        }
        using (context.Allocate<byte>([1])) // waits for what was freed before it
        {
        }
        AttentionContextInfo kept = context.Describe();
        Assert.That(kept.LiveBytes, Is.Zero);
        Assert.That(kept.ScratchBytes, Is.GreaterThanOrEqualTo(Bytes), "what was freed is kept for the next");
        context.Trim();
        Assert.That(context.Describe().ScratchBytes, Is.LessThan(Bytes), "and given back when it is asked for");
        Assert.That(() => context.Allocate<byte>([1L << 50]), Throws.InstanceOf<DeviceOutOfMemoryException>()
            .With.Property("Asked").EqualTo(1L << 50).And.Property("Free").GreaterThan(0).And.Message.Contains("CUDA_ERROR_OUT_OF_MEMORY"));
    }
}
