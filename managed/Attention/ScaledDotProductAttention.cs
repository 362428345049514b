using System.Numerics.Tensors;
using Attention.Interop;

namespace Attention;

/// <summary>What a call of <see cref="ScaledDotProductAttention"/> may be told beyond its tensors. All defaults are the formula's.</summary>
public sealed record AttentionOptions
{
    /// <summary>Where to compute; null: the context that owns Q, else the CPU with its defaults. Spans are host memory: with them a GPU is refused
    /// here, while <see cref="AttentionPlan"/>.Run of a plan made on one copies them.</summary>
    public AttentionContext? Context { get; init; }

    /// <summary>What is added to the scores; null: nothing.</summary>
    public AttentionBias? Bias { get; init; }

    /// <summary>Where queries stand among the keys; top-left.</summary>
    public QueryOffset Offset { get; init; }

    /// <summary>What Q K^T is multiplied by, any finite number; null = 1 / sqrt(D).</summary>
    public float? Scale { get; init; }

    /// <summary>S = softcap * tanh(S / softcap); finite and > 0, or 0 = off.</summary>
    public float Softcap { get; init; }

    /// <summary>Which backends may be taken; null: the context's policy.</summary>
    public BackendPolicy? Policy { get; init; }

    internal static AttentionOptions Default { get; } = new();
}

/// <summary>
/// O = softmax(mask(softcap(scale * Q K^T) + bias)) V in one call, for those who want one: it plans, runs, and tells what ran. A plan made once
/// (<see cref="AttentionContext.Plan"/>) saves the planning.
/// </summary>
/// <remarks>Safe to call from any number of threads. Q [B, Hq, Sq, D], K [B, Hkv, Sk, D], V [B, Hkv, Sk, Dv], O [B, Hq, Sq, Dv], LSE float32 [B, Hq, Sq]; Hq is
/// a multiple of Hkv. Outputs must share no memory with anything else.</remarks>
public static unsafe class ScaledDotProductAttention
{
    /// <summary>Attention of tensors, wherever their context is.</summary>
    /// <param name="q">[B, Hq, Sq, D], any strides.</param>
    /// <param name="k">[B, Hkv, Sk, D], any strides.</param>
    /// <param name="v">[B, Hkv, Sk, Dv], any strides.</param>
    /// <param name="output">[B, Hq, Sq, Dv], any strides; written.</param>
    /// <param name="mask">Null: every query sees every key.</param>
    /// <param name="logSumExp">float32 [B, Hq, Sq], contiguous; written. Null: not wanted.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <param name="cancellationToken">Looked at between blocks of keys, on a GPU before each block of queries.</param>
    /// <returns>What ran, and what it counted.</returns>
    /// <exception cref="ArgumentException">Shapes, dtypes, values do not fit; the message has the numbers. Nothing was started.</exception>
    /// <exception cref="BackendRefusedException">No backend of the policy takes it.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; what the outputs hold is unspecified.</exception>
    /// <exception cref="DeviceOutOfMemoryException">There is no memory for the workspace.</exception>
    /// <exception cref="AttentionLibraryException">The native library cannot be used.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the prepared mask or the context was disposed.</exception>
    public static RunReport Compute(
        AttentionTensor q, AttentionTensor k, AttentionTensor v, AttentionTensor output, Mask? mask = null, AttentionTensor? logSumExp = null,
        AttentionOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(output);
        options ??= AttentionOptions.Default;
        AttentionProblem problem = Complete(AttentionProblem.For(q, k, v, output), mask, options);
        AttentionContext context = options.Context ?? q.Context ?? (q.Device.Type == AttentionDeviceType.Cpu
            ? AttentionContext.SharedCpu
            : throw new ArgumentException(
                $"options.Context is null, and q is borrowed memory on {q.Device}; the context to compute in is needed", nameof(options)));
        using AttentionPlan plan = context.Plan(problem, options.Policy);
        return plan.Run(q, k, v, output, mask, logSumExp, options.Bias, cancellationToken: cancellationToken);
    }

    /// <summary>Attention of contiguous host memory; nothing is copied.</summary>
    /// <param name="q">Row-major.</param>
    /// <param name="qShape">[B, Hq, Sq, D].</param>
    /// <param name="k">Row-major.</param>
    /// <param name="kShape">[B, Hkv, Sk, D].</param>
    /// <param name="v">Row-major.</param>
    /// <param name="vShape">[B, Hkv, Sk, Dv].</param>
    /// <param name="output">[B, Hq, Sq, Dv], row-major; written.</param>
    /// <param name="mask">Null: every query sees every key.</param>
    /// <param name="logSumExp">[B, Hq, Sq], row-major; written. Empty: not wanted.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <param name="cancellationToken">Looked at between blocks of keys, on a GPU before each block of queries.</param>
    /// <typeparam name="T">float, Half, BFloat16 or double.</typeparam>
    /// <returns>What ran, and what it counted.</returns>
    /// <exception cref="ArgumentException">Shapes, lengths of spans, values do not fit; the message has the numbers. Nothing was started.</exception>
    /// <exception cref="BackendRefusedException">No backend of the policy takes it.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; what the outputs hold is unspecified.</exception>
    /// <exception cref="DeviceOutOfMemoryException">There is no memory for the workspace.</exception>
    /// <exception cref="AttentionLibraryException">The native library cannot be used.</exception>
    /// <exception cref="ObjectDisposedException">The prepared mask or the context was disposed.</exception>
    public static RunReport Compute<T>(
        ReadOnlySpan<T> q, ReadOnlySpan<long> qShape, ReadOnlySpan<T> k, ReadOnlySpan<long> kShape, ReadOnlySpan<T> v, ReadOnlySpan<long> vShape,
        Span<T> output, Mask? mask = null, Span<float> logSumExp = default, AttentionOptions? options = null, CancellationToken cancellationToken = default)
        where T : unmanaged
    {
        options ??= AttentionOptions.Default;
        AttentionProblem problem = AttentionProblem.For(DTypes.Of<T>(), qShape, kShape, vShape);
        CheckLength(q.Length, qShape, nameof(q));
        CheckLength(k.Length, kShape, nameof(k));
        CheckLength(v.Length, vShape, nameof(v));
        CheckLength(output.Length, [problem.Batch, problem.QueryHeads, problem.Queries, problem.ValueDim], nameof(output));
        using AttentionPlan plan = HostContext(options).Plan(Complete(problem, mask, options), options.Policy);
        return plan.Run(q, k, v, output, mask, logSumExp, options.Bias, cancellationToken: cancellationToken);
    }

    /// <summary>Attention of .NET's tensor spans, with their strides; nothing is copied.</summary>
    /// <param name="q">[B, Hq, Sq, D].</param>
    /// <param name="k">[B, Hkv, Sk, D].</param>
    /// <param name="v">[B, Hkv, Sk, Dv].</param>
    /// <param name="output">[B, Hq, Sq, Dv]; written.</param>
    /// <param name="mask">Null: every query sees every key.</param>
    /// <param name="logSumExp">[B, Hq, Sq], row-major; written. Empty: not wanted.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <param name="cancellationToken">Looked at between blocks of keys, on a GPU before each block of queries.</param>
    /// <typeparam name="T">float, Half, BFloat16 or double.</typeparam>
    /// <returns>What ran, and what it counted.</returns>
    /// <exception cref="ArgumentException">Shapes or values do not fit; the message has the numbers. Nothing was started.</exception>
    /// <exception cref="BackendRefusedException">No backend of the policy takes it.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; what the outputs hold is unspecified.</exception>
    /// <exception cref="DeviceOutOfMemoryException">There is no memory for the workspace.</exception>
    /// <exception cref="AttentionLibraryException">The native library cannot be used.</exception>
    /// <exception cref="ObjectDisposedException">The prepared mask or the context was disposed.</exception>
    public static RunReport Compute<T>(
        in ReadOnlyTensorSpan<T> q, in ReadOnlyTensorSpan<T> k, in ReadOnlyTensorSpan<T> v, in TensorSpan<T> output, Mask? mask = null,
        Span<float> logSumExp = default, AttentionOptions? options = null, CancellationToken cancellationToken = default)
        where T : unmanaged
    {
        options ??= AttentionOptions.Default;
        AttentionDType dtype = DTypes.Of<T>();
        fixed (T* qAt = q, kAt = k, vAt = v, oAt = output)
        {
            NativeArray qArray = Describe(qAt, dtype, q.Lengths, q.Strides, nameof(q));
            NativeArray kArray = Describe(kAt, dtype, k.Lengths, k.Strides, nameof(k));
            NativeArray vArray = Describe(vAt, dtype, v.Lengths, v.Strides, nameof(v));
            NativeArray oArray = Describe(oAt, dtype, output.Lengths, output.Strides, nameof(output));
            AttentionProblem problem = AttentionProblem.For(
                dtype, new(qArray.shape, 4), new(kArray.shape, 4), new(vArray.shape, 4), nameof(q), nameof(k), nameof(v));
            problem.CheckOutput(new(oArray.shape, 4), nameof(output));
            problem = problem with
            {
                QueryStrides = StridesOf(qArray),
                KeyStrides = StridesOf(kArray),
                ValueStrides = StridesOf(vArray),
                OutputStrides = StridesOf(oArray),
            };
            using AttentionPlan plan = HostContext(options).Plan(Complete(problem, mask, options), options.Policy);
            return plan.RunHost(qArray, kArray, vArray, oArray, mask, logSumExp, options.Bias, null, default, cancellationToken);
        }
    }

    /// <summary>Two attentions of the same queries over disjoint keys become one: LSE = log(exp(LSE1) + exp(LSE2)), O = exp(LSE1 - LSE) O1 + exp(LSE2 - LSE)
    /// O2. Rows that saw nothing (LSE = -inf) add nothing. Returns when it is done, or with a stream at once; on a GPU all tensors are on the context's
    /// device.</summary>
    /// <param name="output1">[B, H, S, Dv]; float32, float16 or bfloat16.</param>
    /// <param name="logSumExp1">float32 [B, H, S], contiguous.</param>
    /// <param name="output2">As <paramref name="output1"/>.</param>
    /// <param name="logSumExp2">As <paramref name="logSumExp1"/>.</param>
    /// <param name="output">Written; may be <paramref name="output1"/> or <paramref name="output2"/>.</param>
    /// <param name="logSumExp">Written; may be <paramref name="logSumExp1"/> or <paramref name="logSumExp2"/>. Null: not wanted.</param>
    /// <param name="context">Null: the stream's, else the one that owns <paramref name="output1"/>, else the CPU with its defaults.</param>
    /// <param name="stream">After what was put on it before and ahead of what follows; what is disposed meanwhile lives until then. Takes no borrowed host
    /// memory. Null: waits.</param>
    /// <exception cref="ArgumentException">Shapes or dtypes do not fit; the message has the numbers.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream or the context was disposed.</exception>
    public static void Merge(
        AttentionTensor output1, AttentionTensor logSumExp1, AttentionTensor output2, AttentionTensor logSumExp2, AttentionTensor output,
        AttentionTensor? logSumExp = null, AttentionContext? context = null, AttentionStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(output1);
        ArgumentNullException.ThrowIfNull(logSumExp1);
        ArgumentNullException.ThrowIfNull(output2);
        ArgumentNullException.ThrowIfNull(logSumExp2);
        ArgumentNullException.ThrowIfNull(output);
        context ??= stream?.Context ?? output1.Context ?? AttentionContext.SharedCpu;
        context.ThrowIfDisposed();
        if (stream is not null)
        {
            ObjectDisposedException.ThrowIf(stream.Handle.IsClosed, stream);
            AttentionPlan.CheckOwned(output1, nameof(output1));
            AttentionPlan.CheckOwned(logSumExp1, nameof(logSumExp1));
            AttentionPlan.CheckOwned(output2, nameof(output2));
            AttentionPlan.CheckOwned(logSumExp2, nameof(logSumExp2));
            AttentionPlan.CheckOwned(output, nameof(output));
            AttentionPlan.CheckOwned(logSumExp ?? output, nameof(logSumExp));
        }
        NativeArray* arrays = stackalloc NativeArray[6];
        Holds holds = default;
        try
        {
            NativeArray* o1 = output1.Bind(arrays, ref holds), lse1 = logSumExp1.Bind(arrays + 1, ref holds), o2 = output2.Bind(arrays + 2, ref holds);
            NativeArray* lse2 = logSumExp2.Bind(arrays + 3, ref holds), o = output.Bind(arrays + 4, ref holds);
            NativeArray* lse = logSumExp is null ? null : logSumExp.Bind(arrays + 5, ref holds);
            Status.Check(stream is null
                ? NativeMethods.attn_merge(context.Handle, o1, lse1, o2, lse2, o, lse)
                : NativeMethods.attn_merge_on_stream(context.Handle, o1, lse1, o2, lse2, o, lse, stream.Handle));
        }
        finally
        {
            holds.Release();
        }
    }

    private static AttentionProblem Complete(AttentionProblem problem, Mask? mask, AttentionOptions options) => problem with
    {
        Mask = mask?.Kinds ?? MaskKinds.None,
        Bias = options.Bias?.Kinds ?? BiasKinds.None,
        Offset = options.Offset,
        Scale = options.Scale,
        Softcap = options.Softcap,
    };

    private static AttentionContext HostContext(AttentionOptions options)
    {
        AttentionContext context = options.Context ?? AttentionContext.SharedCpu;
        return context.Device.Type == AttentionDeviceType.Cpu
            ? context
            : throw new ArgumentException(
                $"options.Context is on {context.Device}; spans are host memory, and nothing is copied unseen: Upload them, or run a plan of that context, which copies",
                nameof(options));
    }

    private static void CheckLength(int length, ReadOnlySpan<long> shape, string name)
    {
        long count = TensorShape.Count(shape, name);
        if (length != count)
        {
            throw new ArgumentException($"{name} has {length} elements; {TensorShape.Text(shape)} has {count}", name);
        }
    }

    private static NativeArray Describe(void* data, AttentionDType dtype, ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides, string name)
    {
        if (lengths.Length != 4)
        {
            throw new ArgumentException($"{name} has {lengths.Length} dimensions; 4 are needed: [batch, heads, length, dimension]", name);
        }
        ReadOnlySpan<long> shape = [lengths[0], lengths[1], lengths[2], lengths[3]];
        return AttentionPlan.Host(data, dtype, shape, new(strides[0], strides[1], strides[2], strides[3]));
    }

    private static TensorStrides StridesOf(in NativeArray array) => new(array.strides[0], array.strides[1], array.strides[2], array.strides[3]);
}
