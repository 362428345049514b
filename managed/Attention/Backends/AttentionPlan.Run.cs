using System.Runtime.CompilerServices;
using Attention.Interop;

namespace Attention;

// A plan's runs: on tensors, on spans, on a stream. All fill one RunFrame.
public sealed unsafe partial class AttentionPlan
{
    /// <summary>Computes; returns when the outputs are written.</summary>
    /// <param name="q">[B, Hq, Sq, D], as the problem describes it.</param>
    /// <param name="k">[B, Hkv, Sk, D].</param>
    /// <param name="v">[B, Hkv, Sk, Dv].</param>
    /// <param name="output">[B, Hq, Sq, Dv]; written.</param>
    /// <param name="mask">Of the kinds the problem names; null where it names none.</param>
    /// <param name="logSumExp">float32 [B, Hq, Sq], contiguous; written. Null: not wanted.</param>
    /// <param name="bias">Of the kinds the problem names; null where it names none.</param>
    /// <param name="offset">Another number of the problem's kind of offset; null = the problem's own.</param>
    /// <param name="probabilities">float32 [B, Hq, Sq, Sk], contiguous; written. Given exactly where the problem wants it.</param>
    /// <param name="cancellationToken">Looked at between blocks of keys, on a GPU before each block of queries.</param>
    /// <returns>What ran, and what it counted.</returns>
    /// <exception cref="ArgumentException">Something given is not what the problem describes, or out of range; the message has the numbers. Nothing was
    /// started.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; what the outputs hold is unspecified.</exception>
    /// <exception cref="DeviceOutOfMemoryException">There is no memory for the workspace.</exception>
    /// <exception cref="ObjectDisposedException">The plan, a tensor or the prepared mask was disposed.</exception>
    [SkipLocalsInit]
    public RunReport Run(
        AttentionTensor q, AttentionTensor k, AttentionTensor v, AttentionTensor output, Mask? mask = null, AttentionTensor? logSumExp = null,
        AttentionBias? bias = null, QueryOffset? offset = null, AttentionTensor? probabilities = null, CancellationToken cancellationToken = default)
    {
        Unsafe.SkipInit(out RunFrame frame);
        RunFrame.Clear(&frame);
        Holds holds = default;
        try
        {
            BindTensors(&frame, ref holds, q, k, v, output, logSumExp, probabilities);
            BindValues(&frame, ref holds, mask, bias, offset);
            return Execute(&frame, cancellationToken);
        }
        finally
        {
            holds.Release();
            GC.KeepAlive(mask);
        }
    }

    /// <summary>Computes on spans of host memory, laid out as the problem describes. Nothing is copied; only a plan of a GPU's context, which its caller chose,
    /// copies the operands there and the outputs back. Returns when the outputs are written.</summary>
    /// <param name="q">[B, Hq, Sq, D].</param>
    /// <param name="k">[B, Hkv, Sk, D].</param>
    /// <param name="v">[B, Hkv, Sk, Dv].</param>
    /// <param name="output">[B, Hq, Sq, Dv]; written.</param>
    /// <param name="mask">Of the kinds the problem names; null where it names none.</param>
    /// <param name="logSumExp">[B, Hq, Sq]; written. Empty: not wanted.</param>
    /// <param name="bias">Of the kinds the problem names; null where it names none.</param>
    /// <param name="offset">Another number of the problem's kind of offset; null = the problem's own.</param>
    /// <param name="probabilities">[B, Hq, Sq, Sk]; written. Given exactly where the problem wants it.</param>
    /// <param name="cancellationToken">Looked at between blocks of keys, on a GPU before each block of queries.</param>
    /// <typeparam name="T">The type that the problem's dtype stands for.</typeparam>
    /// <returns>What ran, and what it counted.</returns>
    /// <exception cref="ArgumentException">Something given is not what the problem describes, or out of range; the message has the numbers. Nothing was
    /// started.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled; what the outputs hold is unspecified.</exception>
    /// <exception cref="DeviceOutOfMemoryException">There is no memory for the workspace.</exception>
    /// <exception cref="ObjectDisposedException">The plan or the prepared mask was disposed.</exception>
    [SkipLocalsInit]
    public RunReport Run<T>(
        ReadOnlySpan<T> q, ReadOnlySpan<T> k, ReadOnlySpan<T> v, Span<T> output, Mask? mask = null, Span<float> logSumExp = default, AttentionBias? bias = null,
        QueryOffset? offset = null, Span<float> probabilities = default, CancellationToken cancellationToken = default)
        where T : unmanaged
    {
        AttentionProblem p = Problem;
        if (DTypes.Of<T>() != p.DType)
        {
            throw new ArgumentException($"q is a span of {typeof(T)}; the plan was made for {DTypes.Name(p.DType)}", nameof(q));
        }
        ReadOnlySpan<long> qShape = [p.Batch, p.QueryHeads, p.Queries, p.HeadDim], kShape = [p.Batch, p.KeyHeads, p.Keys, p.HeadDim];
        ReadOnlySpan<long> vShape = [p.Batch, p.KeyHeads, p.Keys, p.ValueDim], oShape = [p.Batch, p.QueryHeads, p.Queries, p.ValueDim];
        CheckExtent(q.Length, qShape, p.QLayout, nameof(q));
        CheckExtent(k.Length, kShape, p.KLayout, nameof(k));
        CheckExtent(v.Length, vShape, p.VLayout, nameof(v));
        CheckExtent(output.Length, oShape, p.OLayout, nameof(output));
        fixed (T* qAt = q, kAt = k, vAt = v, oAt = output)
        {
            return RunHost(
                Host(qAt, p.DType, qShape, p.QLayout), Host(kAt, p.DType, kShape, p.KLayout), Host(vAt, p.DType, vShape, p.VLayout),
                Host(oAt, p.DType, oShape, p.OLayout), mask, logSumExp, bias, offset, probabilities, cancellationToken);
        }
    }

    /// <summary>Computes on a stream; the task ends when the outputs are written. Tensors, mask, plan and context are kept until then, whoever disposes
    /// them.</summary>
    /// <param name="q">[B, Hq, Sq, D], as the problem describes it; owned by a context, or on a GPU. The same holds for every tensor here.</param>
    /// <param name="k">[B, Hkv, Sk, D].</param>
    /// <param name="v">[B, Hkv, Sk, Dv].</param>
    /// <param name="output">[B, Hq, Sq, Dv]; written.</param>
    /// <param name="mask">Of the kinds the problem names; null where it names none. What it borrows is read when the run is.</param>
    /// <param name="logSumExp">float32 [B, Hq, Sq], contiguous; written. Null: not wanted.</param>
    /// <param name="bias">Of the kinds the problem names; null where it names none.</param>
    /// <param name="offset">Another number of the problem's kind of offset; null = the problem's own.</param>
    /// <param name="probabilities">float32 [B, Hq, Sq, Sk], contiguous; written. Given exactly where the problem wants it.</param>
    /// <param name="stream">Of the plan's context; null = the context's own one.</param>
    /// <param name="cancellationToken">Looked at between blocks of keys, on a GPU before each block of queries; a run that still waits is not begun.
    /// A cancelled run's outputs are unspecified, and so they are until the task ends.</param>
    /// <returns>What ran, and what it counted; cancelled or failed as the run was.</returns>
    /// <exception cref="ArgumentException">Something given is not what the problem describes, out of range, or borrowed host memory. Nothing was
    /// started.</exception>
    /// <exception cref="ObjectDisposedException">The plan, a tensor, the prepared mask, the stream, or without a stream the context was disposed.</exception>
    public Task<RunReport> RunAsync(
        AttentionTensor q, AttentionTensor k, AttentionTensor v, AttentionTensor output, Mask? mask = null, AttentionTensor? logSumExp = null,
        AttentionBias? bias = null, QueryOffset? offset = null, AttentionTensor? probabilities = null, AttentionStream? stream = null,
        CancellationToken cancellationToken = default)
    {
        CheckOwned(q, nameof(q));
        CheckOwned(k, nameof(k));
        CheckOwned(v, nameof(v));
        CheckOwned(output, nameof(output));
        CheckOwned(logSumExp ?? output, nameof(logSumExp));
        CheckOwned(probabilities ?? output, nameof(probabilities));
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        if (cancellationToken.IsCancellationRequested)
        {
            return Task.FromCanceled<RunReport>(cancellationToken);
        }
        stream ??= Context.DefaultStream;
        ObjectDisposedException.ThrowIf(stream.Handle.IsClosed, stream);
        PendingRun pending = new(this, cancellationToken, [q, k, v, output, mask, logSumExp, bias, offset, probabilities, stream]);
        try
        {
            BindTensors(pending.Frame, ref pending.Holds, q, k, v, output, logSumExp, probabilities);
            BindValues(pending.Frame, ref pending.Holds, mask, bias, offset);
            return pending.Start(HandleFor(logSumExp is not null), stream);
        }
        catch
        {
            pending.Free();
            throw;
        }
    }

    /// <summary>A run of operands in host memory, described already; what they point at does not move meanwhile.</summary>
    [SkipLocalsInit]
    internal RunReport RunHost(
        in NativeArray q, in NativeArray k, in NativeArray v, in NativeArray o, Mask? mask, Span<float> logSumExp, AttentionBias? bias, QueryOffset? offset,
        Span<float> probabilities, CancellationToken cancellationToken)
    {
        AttentionProblem p = Problem;
        ReadOnlySpan<long> lseShape = [p.Batch, p.QueryHeads, p.Queries], pShape = [p.Batch, p.QueryHeads, p.Queries, p.Keys];
        CheckCount(logSumExp.Length, lseShape, nameof(logSumExp));
        CheckCount(probabilities.Length, pShape, nameof(probabilities));
        Unsafe.SkipInit(out RunFrame frame);
        RunFrame.Clear(&frame);
        Holds holds = default;
        using DeviceCopies? copies = Context.Device.Type == AttentionDeviceType.Cuda ? new(Context) : null;
        fixed (float* lseAt = logSumExp, pAt = probabilities)
        {
            try
            {
                frame.Q = q;
                frame.K = k;
                frame.V = v;
                frame.O = o;
                frame.Args.q = &frame.Q;
                frame.Args.k = &frame.K;
                frame.Args.v = &frame.V;
                frame.Args.o = &frame.O;
                if (lseAt is not null)
                {
                    frame.Lse = Host(lseAt, AttentionDType.Float32, lseShape);
                    frame.Args.lse = &frame.Lse;
                }
                if (p.Probabilities)
                {
                    frame.P = Host(pAt, AttentionDType.Float32, pShape);
                    frame.Args.probabilities = &frame.P;
                }
                BindValues(&frame, ref holds, mask, bias, offset);
                copies?.Take(&frame);
                RunReport report = Execute(&frame, cancellationToken);
                copies?.BringBack();
                return report;
            }
            finally
            {
                holds.Release();
                GC.KeepAlive(mask);
            }
        }
    }

    /// <summary>An operand in host memory.</summary>
    internal static NativeArray Host(void* data, AttentionDType dtype, ReadOnlySpan<long> shape, TensorStrides? strides = null)
    {
        NativeArray array = new()
        {
            size = (uint)sizeof(NativeArray),
            dtype = (int)dtype,
            rank = shape.Length,
            has_strides = strides.HasValue ? 1 : 0,
            data = data,
        };
        shape.CopyTo(new(array.shape, TensorShape.MaxRank));
        strides?.CopyTo(new(array.strides, TensorShape.MaxRank));
        return array;
    }

    private static void BindTensors(
        RunFrame* frame, ref Holds holds, AttentionTensor q, AttentionTensor k, AttentionTensor v, AttentionTensor output, AttentionTensor? logSumExp,
        AttentionTensor? probabilities)
    {
        ArgumentNullException.ThrowIfNull(q);
        ArgumentNullException.ThrowIfNull(k);
        ArgumentNullException.ThrowIfNull(v);
        ArgumentNullException.ThrowIfNull(output);
        frame->Args.q = q.Bind(&frame->Q, ref holds);
        frame->Args.k = k.Bind(&frame->K, ref holds);
        frame->Args.v = v.Bind(&frame->V, ref holds);
        frame->Args.o = output.Bind(&frame->O, ref holds);
        if (logSumExp is not null)
        {
            frame->Args.lse = logSumExp.Bind(&frame->Lse, ref holds);
        }
        if (probabilities is not null)
        {
            frame->Args.probabilities = probabilities.Bind(&frame->P, ref holds);
        }
    }

    private RunReport Execute(RunFrame* frame, CancellationToken cancellationToken)
    {
        PlanHandle plan = HandleFor(frame->Args.lse is not null);
        long began = AttentionMeter.Begin();
        NativeStatus status;
        if (cancellationToken.CanBeCanceled)
        {
            frame->Args.cancel = &frame->Cancel;
            using CancellationTokenRegistration registration =
                cancellationToken.UnsafeRegister(static flag => Volatile.Write(ref *(int*)(nint)flag!, 1), (nint)(&frame->Cancel));
            status = NativeMethods.attn_run(plan, &frame->Args);
        }
        else
        {
            status = NativeMethods.attn_run(plan, &frame->Args);
        }
        if (status != NativeStatus.Ok)
        {
            Fail(status, cancellationToken, began);
        }
        AttentionMeter.Call(this, status, began);
        return new(this, frame->Report.tiles_visited, frame->Report.mask_passes);
    }

    private void Fail(NativeStatus status, CancellationToken cancellationToken, long began)
    {
        string message = Status.Text(NativeMethods.attn_last_error());
        AttentionMeter.Call(this, status, began);
        throw status == NativeStatus.Cancelled
            ? new OperationCanceledException(message, cancellationToken)
            : Status.Exception(status, message, null, Context.Handle);
    }

    internal static void CheckOwned(AttentionTensor tensor, string name)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (!tensor.IsOwned && tensor.Device.Type == AttentionDeviceType.Cpu)
        {
            throw new ArgumentException(
                $"{name} is borrowed host memory, {tensor}; what is put on a stream takes tensors that a context owns (Allocate, Upload)", name);
        }
    }

    private static void CheckExtent(int length, ReadOnlySpan<long> shape, TensorStrides strides, string name)
    {
        Span<long> s = stackalloc long[4];
        strides.CopyTo(s);
        long extent = TensorShape.Extent(shape, s, name);
        if (length < extent)
        {
            throw new ArgumentException($"{name} has {length} elements; the plan's shape {TensorShape.Text(shape)} with its strides reaches {extent}", name);
        }
    }

    private void CheckCount(int length, ReadOnlySpan<long> shape, string name)
    {
        bool needed = length != 0 || (Problem.Probabilities && name == "probabilities");
        if (needed && length != TensorShape.Count(shape, name))
        {
            throw new ArgumentException($"{name} has {length} elements; {TensorShape.Text(shape)} are needed", name);
        }
    }
}
