using Attention.Interop;

namespace Attention.Tests;

/// <summary>Bad input: one line that names the parameter, its value and what was allowed; nothing started, nothing written.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class ErrorTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private const int B = 2, Hq = 4, Hkv = 2, Sq = 6, Sk = 9, D = 8, Dv = 16; // which every backend takes on every device

    private readonly List<AttentionTensor> _tensors = [];

    [TearDown]
    public void Free()
    {
        _tensors.ForEach(tensor => tensor.Dispose());
        _tensors.Clear();
    }

    /// <summary>A tensor where the context computes, until the test ends.</summary>
    private AttentionTensor Tensor<T>(params long[] shape)
        where T : unmanaged
    {
        _tensors.Add(Context.Upload<T>(new T[shape.Aggregate(1L, (product, size) => product * size)], shape));
        return _tensors[^1];
    }

    private AttentionTensor Q() => Tensor<Half>(B, Hq, Sq, D);

    private AttentionTensor K() => Tensor<Half>(B, Hkv, Sk, D);

    private AttentionTensor V() => Tensor<Half>(B, Hkv, Sk, Dv);

    private static AttentionProblem Problem(MaskKinds mask = default, QueryOffset offset = default) =>
        AttentionProblem.For(AttentionDType.Float16, [B, Hq, Sq, D], [B, Hkv, Sk, D], [B, Hkv, Sk, Dv]) with { Mask = mask, Offset = offset };

    private AttentionPlan Plan(AttentionProblem problem) => Context.Plan(problem, BackendPolicy.Only(Backend));

    /// <summary>An output full of one number: a failed run leaves it so.</summary>
    private AttentionTensor Output()
    {
        AttentionTensor output = Tensor<Half>(B, Hq, Sq, Dv);
        Half[] full = new Half[output.Count];
        full.AsSpan().Fill((Half)77);
        output.Upload<Half>(full);
        return output;
    }

    private static void IsUntouched(AttentionTensor output)
    {
        Half[] met = new Half[output.Count];
        output.Download<Half>(met);
        Assert.That(met, Is.All.EqualTo((Half)77), "nothing is written");
    }

    private static void Refuses(string? parameter, Action call, params string[] holding)
    {
        ArgumentException error = Assert.Catch<ArgumentException>(call)!;
        Assert.That(error.Message, Does.Not.Contain("\n"));
        foreach (string part in holding)
        {
            Assert.That(error.Message, Does.Contain(part));
        }
        if (parameter is not null)
        {
            Assert.That(error.ParamName, Is.EqualTo(parameter), error.Message);
        }
    }

    private void RunRefuses(string? parameter, MaskKinds kinds, Mask? mask, params string[] holding) => RunRefuses(parameter, Problem(kinds), mask, null, null, null, holding);

    private void RunRefuses(string? parameter, AttentionProblem problem, Mask? mask, AttentionBias? bias, QueryOffset? offset, AttentionTensor? lse, params string[] holding)
    {
        using AttentionPlan plan = Plan(problem);
        AttentionTensor output = Output();
        Refuses(parameter, () => plan.Run(Q(), K(), V(), output, mask, lse, bias, offset), holding);
        IsUntouched(output);
    }

    [Test]
    public void Shapes_that_do_not_fit_together()
    {
        AttentionTensor q = Q(), k = K(), v = V();
        Refuses("k", () => AttentionProblem.For(q, Tensor<Half>(3, Hkv, Sk, D), v), "k.shape[0] is 3", "2");
        Refuses("k", () => AttentionProblem.For(q, Tensor<Half>(B, Hkv, Sk, 7), v), "k.shape[3] is 7", "8");
        Refuses("v", () => AttentionProblem.For(q, k, Tensor<Half>(B, 4, Sk, Dv)), "v.shape[1] is 4", "2");
        Refuses("v", () => AttentionProblem.For(q, k, Tensor<Half>(B, Hkv, 8, Dv)), "v.shape[2] is 8", "9");
        Refuses("q", () => AttentionProblem.For(Tensor<Half>(B, 5, Sq, D), k, v), "5 heads", "2");
        Refuses("q", () => AttentionProblem.For(Tensor<Half>(B, 0, Sq, D), k, v), "0 heads");
        Refuses("q", () => AttentionProblem.For(Tensor<Half>(Hq, Sq, D), k, v), "3 dimensions", "4 are needed");
        Refuses("output", () => AttentionProblem.For(q, k, v, Q()), "output.shape[3] is 8", "16");
        Assert.That(() => AttentionProblem.For(null!, k, v), Throws.ArgumentNullException);
    }

    [Test]
    public void Dtypes_that_differ()
    {
        AttentionTensor q = Q(), k = Tensor<float>(B, Hkv, Sk, D), v = V();
        Refuses("k", () => AttentionProblem.For(q, k, v), "float32", "float16");
        using AttentionPlan plan = Plan(Problem());
        AttentionTensor output = Output();
        Refuses("k", () => plan.Run(q, k, v, output), "float32", "float16");
        Refuses("q", () => plan.Run<float>(new float[B * Hq * Sq * D], new float[B * Hkv * Sk * D], new float[B * Hkv * Sk * Dv], new float[B * Hq * Sq * Dv]), "Single", "float16");
        IsUntouched(output);
    }

    [Test]
    public void A_run_that_is_not_what_the_plan_describes()
    {
        using AttentionPlan plan = Plan(Problem());
        AttentionTensor output = Output();
        AttentionTensor q = Q(), k = K(), v = V();
        Refuses("q", () => plan.Run(Tensor<Half>(B, Hq, 7, D), k, v, output), "7", "6");
        Refuses("v", () => plan.Run(q, k, Tensor<Half>(B, Hkv, Sk, 7), output), "7", "16");
        Refuses("output", () => plan.Run(q, k, v, Tensor<Half>(B, Hq, Sq, 4)), "4", "16");
        Refuses("logSumExp", () => plan.Run(q, k, v, output, logSumExp: Tensor<float>(B, Hq, 5)), "5", "6");
        Refuses("logSumExp", () => plan.Run(q, k, v, output, logSumExp: Tensor<Half>(B, Hq, Sq)), "float16", "float32");
        Refuses("probabilities", () => plan.Run(q, k, v, output, probabilities: Tensor<float>(B, Hq, Sq, Sk)));
        foreach (int count in new[] { 3, 383 })
        {
            Half[] spans = new Half[B * Hkv * Sk * Dv], result = new Half[B * Hq * Sq * Dv];
            Refuses("q", () => plan.Run<Half>(spans[..count], spans[..(B * Hkv * Sk * D)], spans, result), $"{count} elements", "384");
        }
        AttentionTensor wide = Tensor<Half>(2 * B * Hkv * Sk * D);
        AttentionTensor apart = AttentionTensor.FromDevicePointer(wide.Address, AttentionDType.Float16, [B, Hkv, Sk, D], [Hkv * Sk * D * 2, Sk * D * 2, D * 2, 1], Context.Device);
        Refuses("k", () => plan.Run(q, apart, v, output), "k.strides[0] is 288", "144");
        Assert.That(() => plan.Run(q, k, null!, output), Throws.ArgumentNullException);
        IsUntouched(output);
    }

    [Test]
    public void Lengths_out_of_range_or_of_another_batch()
    {
        RunRefuses("mask", MaskKind.KeyLengths, Mask.KeyLengths(3, 10), "key_lengths[1] is 10", "9");
        RunRefuses("mask", MaskKind.KeyLengths, Mask.KeyLengths(-1, 9), "key_lengths[0] is -1");
        RunRefuses("mask", MaskKind.KeyLengths, Mask.KeyLengths(1, 2, 3), "key_lengths", "3", "2");
        RunRefuses("mask", MaskKind.QueryLengths, Mask.QueryLengths(7, 0), "query_lengths[0] is 7", "6");
        RunRefuses("mask", MaskKind.QueryLengths, Mask.QueryLengths(7), "query_lengths", "1", "2");
        RunRefuses("mask", MaskKind.Prefix, Mask.Prefix(0, 10), "prefix[1] is 10", "9");
        RunRefuses("mask", MaskKind.Documents, Mask.Documents(new int[12], new int[16], 2), "documents", "8", "9");
        RunRefuses("mask", MaskKind.Documents, Mask.Documents(new int[6], new int[9], 1), "documents", "1", "2");
        RunRefuses("offset", Problem(MaskKind.Causal, QueryOffset.PerBatch(0, 0)), Mask.Causal, null, QueryOffset.PerBatch(1, 2, 3), null, "3", "2");
    }

    [Test]
    public void Lengths_out_of_range_in_a_prepared_mask()
    {
        using PreparedMask tooLong = Context.Prepare(Mask.KeyLengths(3, 10));
        RunRefuses("mask", MaskKind.KeyLengths, tooLong, "10", "9");
        Refuses("mask", () => Context.Prepare(Mask.KeyLengths(3, -4)), "key_lengths[1] is -4", "0 or more");
        Refuses("mask", () => Context.Prepare(Mask.QueryLengths(-1, 3)), "query_lengths[0] is -1", "0 or more");
        Refuses("mask", () => Context.Prepare(Mask.Prefix(3, int.MinValue)), "prefix[1] is -2147483648", "0 or more");
    }

    [Test]
    public void Masks_of_other_kinds_than_described()
    {
        RunRefuses("mask", MaskKind.Causal, null, "causal");
        RunRefuses("mask", MaskKind.None, Mask.Causal, "causal");
        RunRefuses("mask", MaskKind.Causal, Mask.Causal & Mask.Window(1, 1), "window");
        RunRefuses("offset", Problem(MaskKind.Causal), Mask.Causal, null, QueryOffset.BottomRight, null, "BottomRight", "TopLeft");
    }

    [Test]
    public void Dense_dimensions_neither_one_nor_full()
    {
        Refuses(null, () => Plan(Problem(new MaskKinds(MaskKind.Keep, new(1, 1, 5, 9)))), "5", "6");
        Refuses(null, () => Plan(Problem(new MaskKinds(MaskKind.Keep, new(1, 2, 6, 9)))), "2", "4");
        Refuses(null, () => Plan(Problem(new MaskKinds(MaskKind.Keep, new(1, 1, 6, 8)))), "8", "9");
        Refuses(null, () => Plan(Problem() with { Bias = new(new ScoreShape(3, 1, 6, 9), AttentionDType.Float32, false) }), "3", "2");
        Refuses(null, () => Plan(Problem() with { Bias = new(new ScoreShape(1, 1, 6, 9), AttentionDType.BFloat16, false) }), "bfloat16", "float32");
        RunRefuses("mask", new MaskKinds(MaskKind.Keep, new(1, 1, 6, 9)), Mask.Keep(new bool[9], [1, 9]));
        RunRefuses("bias", Problem() with { Bias = new(new ScoreShape(1, 1, 6, 9), AttentionDType.Float32, false) }, null, AttentionBias.Additive<float>(new float[9], [1, 9]), null, null);
        RunRefuses("bias", Problem() with { Bias = new(null, default, true) }, null, AttentionBias.Alibi(1f, 2f, 3f), null, null, "3", "4");
    }

    [Test]
    public void Kinds_that_exclude_each_other() => Refuses(null, () => Plan(Problem(MaskKind.Prefix | MaskKind.Causal)), "prefix", "causal");

    [Test]
    public void Scales_and_softcaps_that_are_not_numbers()
    {
        foreach (float scale in new[] { float.NaN, float.PositiveInfinity, float.NegativeInfinity })
        {
            Refuses(null, () => Plan(Problem() with { Scale = scale }), "scale");
        }
        foreach (float softcap in new[] { float.NaN, -1, float.PositiveInfinity })
        {
            Refuses(null, () => Plan(Problem() with { Softcap = softcap }), "softcap");
        }
    }

    [Test]
    public void Sizes_that_are_none()
    {
        Refuses(null, () => Plan(Problem() with { HeadDim = 0 }), "head_dim", "0");
        Refuses(null, () => Plan(Problem() with { ValueDim = 0 }), "value_dim", "0");
        Refuses(null, () => Plan(Problem() with { Batch = -1 }), "batch", "-1");
        Refuses(null, () => Plan(Problem() with { KeyHeads = 3 }), "3", "4");
        Refuses(null, () => Plan(Problem() with { Queries = long.MaxValue, QueryStrides = null }));
        Refuses(null, () => Plan(Problem() with { Batch = 1L << 40, Keys = 1L << 40 }));
        Refuses(null, () => Plan(Problem() with { DType = AttentionDType.Int32 }), "dtype", "5", "float32");
        Refuses(null, () => Plan(Problem() with { DType = (AttentionDType)42 }), "42");
        Refuses(null, () => Plan(Problem() with { OutputStrides = new(0, Sq * Dv, Dv, 1) }), "o", "0");
    }

    [Test]
    public void Outputs_that_share_memory()
    {
        using AttentionPlan plan = Context.Plan(AttentionProblem.For(AttentionDType.Float16, [B, Hq, Sq, D], [B, Hkv, Sk, D], [B, Hkv, Sk, D]), BackendPolicy.Only(Backend));
        AttentionTensor q = Q(), k = K(), output = Q(), memory = Tensor<Half>((B * Hq * Sq * D) + 8);
        Refuses(null, () => plan.Run(q, k, k, q), "q and o overlap");
        AttentionTensor At(nint address, AttentionDType dtype, params long[] shape) => AttentionTensor.FromDevicePointer(address, dtype, shape, device: Context.Device);
        AttentionTensor early = At(memory.Address, AttentionDType.Float16, B, Hq, Sq, D), late = At(memory.Address + 16, AttentionDType.Float16, B, Hq, Sq, D);
        Refuses(null, () => plan.Run(early, k, k, late), "q and o overlap");
        Refuses(null, () => plan.Run(q, k, k, output, logSumExp: At(output.Address, AttentionDType.Float32, B, Hq, Sq)), "o and lse overlap");
    }

    [Test]
    public void A_pointer_of_another_device()
    {
        using AttentionPlan plan = Plan(Problem());
        AttentionTensor output = Output();
        AttentionDevice other = Context.Device.Type == AttentionDeviceType.Cpu ? AttentionDevice.Cuda() : AttentionDevice.Cpu;
        AttentionTensor q = AttentionTensor.FromDevicePointer(4096, AttentionDType.Float16, [B, Hq, Sq, D], device: other);
        Refuses("q", () => plan.Run(q, K(), V(), output), "cuda");
    }

    [Test]
    public void Use_after_dispose()
    {
        AttentionContext context = AttentionContext.Create(Context.Device, new() { Workers = 1 });
        AttentionPlan plan = context.Plan(Problem(MaskKind.Causal), BackendPolicy.Only(Backend));
        PreparedMask mask = context.Prepare(Mask.Causal);
        AttentionTensor q = context.Upload<Half>(new Half[B * Hq * Sq * D], [B, Hq, Sq, D]), k = context.Upload<Half>(new Half[B * Hkv * Sk * D], [B, Hkv, Sk, D]);
        AttentionTensor v = context.Upload<Half>(new Half[B * Hkv * Sk * Dv], [B, Hkv, Sk, Dv]), output = Output();
        context.Dispose();
        plan.Run(q, k, v, output, mask); // its children go on working
        foreach (Action more in new Action[]
        {
            () => context.Plan(Problem()), () => context.Allocate<float>([1]), () => context.Prepare(Mask.Causal), () => context.CreateStream(), () => context.Describe(), context.Trim,
            () => context.Query(Problem()),
        })
        {
            Assert.That(more, Throws.InstanceOf<ObjectDisposedException>());
        }
        mask.Dispose();
        Assert.That(() => plan.Run(q, k, v, output, mask), Throws.InstanceOf<ObjectDisposedException>());
        k.Dispose();
        Assert.That(() => plan.Run(q, k, v, output, Mask.Causal), Throws.InstanceOf<ObjectDisposedException>());
        plan.Dispose();
        Assert.That(() => plan.Run(q, q, q, output, Mask.Causal), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => plan.Explain(Mask.Causal), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => plan.TileMap(0, 0, Mask.Causal), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(plan.Warmup, Throws.InstanceOf<ObjectDisposedException>());
        foreach (IDisposable again in new IDisposable[] { plan, mask, k, context, q, v })
        {
            again.Dispose();
            again.Dispose();
        }
    }

    [Test]
    public void A_prepared_mask_of_another_context_or_problem()
    {
        using PreparedMask keep = Context.Prepare(Mask.Keep(new bool[Sq * Sk], [Sq, Sk]));
        RunRefuses("mask", new MaskKinds(MaskKind.Keep, new(1, 1, 1, 9)), keep);
        RunRefuses("mask", MaskKind.Causal, keep);
        Refuses("mask", () => Context.Prepare(keep), "prepared already");
        Assert.That(() => keep & Mask.Causal, Throws.ArgumentException.With.Message.Contains("Prepared"));
    }

    [Test]
    public unsafe void Handles_that_are_null_stale_or_of_another_type()
    {
        NativeLoader.Load();
        using AttentionPlan plan = Plan(Problem());
        nint stream;
        Assert.That(NativeMethods.attn_stream_create(Context.Handle, &stream), Is.EqualTo(NativeStatus.Ok));
        Assert.That(NativeMethods.attn_stream_destroy(stream), Is.EqualTo(NativeStatus.Ok));
        Assert.That(NativeMethods.attn_stream_destroy(stream), Is.EqualTo(NativeStatus.InvalidHandle), "stale");
        Assert.That(NativeMethods.attn_plan_destroy(0), Is.EqualTo(NativeStatus.InvalidHandle), "null");
        Assert.That(NativeMethods.attn_tensor_destroy(Context.Handle.Value), Is.EqualTo(NativeStatus.InvalidHandle), "of another type");
        Assert.That(NativeMethods.attn_mask_destroy(0x1234567), Is.EqualTo(NativeStatus.InvalidHandle), "never one");
        NativeRunArgs none = new() { size = (uint)sizeof(NativeRunArgs) };
        Assert.That(NativeMethods.attn_plan_destroy(stream), Is.EqualTo(NativeStatus.InvalidHandle));
        Assert.That(Status.Text(NativeMethods.attn_last_error()), Is.Not.Empty.And.Not.Contain("\n"));
    }

    [Test]
    public void Contexts_with_options_out_of_range()
    {
        foreach (int workers in new[] { -1, 1025, int.MinValue })
        {
            Refuses("options", () => AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = workers }), $"{workers}", "1024");
        }
        if (!Contexts.HasCuda)
        {
            CudaException error = Assert.Throws<CudaException>(() => AttentionContext.Create(AttentionDevice.Cuda(3)))!;
            Assert.That(error.Name, Does.StartWith("CUDA_ERROR_"));
            Assert.That(error.Code, Is.Not.Zero);
            using AttentionContext auto = AttentionContext.Create();
            Assert.That(auto.Device, Is.EqualTo(AttentionDevice.Cpu));
            Assert.That(auto.Explanation, Does.StartWith("cpu: no usable GPU: "));
        }
    }

    [Test]
    public void More_memory_than_there_is()
    {
        DeviceOutOfMemoryException error = Assert.Throws<DeviceOutOfMemoryException>(() => Context.Allocate<byte>([1L << 60]))!;
        Assert.That(error.Message, Does.Contain($"{1L << 60}"));
        Assert.That(error.Asked, Is.EqualTo(1L << 60));
    }

    [Test]
    public void Uploads_of_another_size()
    {
        Refuses("data", () => Context.Upload<float>(new float[3], [2, 2]), "3", "4");
        using AttentionTensor tensor = Context.Allocate<float>([2, 2]);
        Refuses("source", () => tensor.Upload<float>(new float[3]), "3", "4");
        Refuses("destination", () => tensor.Download<float>(new float[5]), "5", "4");
    }

    [Test]
    public void Merges_that_do_not_fit()
    {
        AttentionTensor o = Output(), lse = Tensor<float>(B, Hq, Sq);
        Refuses("output2", () => ScaledDotProductAttention.Merge(o, lse, Tensor<Half>(B, Hq, Sq, 4), lse, o, context: Context), "4", "16");
        Refuses("logSumExp2", () => ScaledDotProductAttention.Merge(o, lse, Tensor<Half>(B, Hq, Sq, Dv), Tensor<float>(B, Hq, 5), o, context: Context), "5", "6");
        Refuses("output2", () => ScaledDotProductAttention.Merge(o, lse, Tensor<float>(B, Hq, Sq, Dv), lse, o, context: Context), "float32", "float16");
    }
}
