using Attention.Interop;

namespace Attention;

/// <summary>A device with its workers, scratch and streams: where tensors are allocated, masks prepared and plans made.</summary>
/// <remarks>Safe to use from any number of threads. What was made in it keeps what it needs and goes on working when the context is disposed; only making more
/// is over.</remarks>
public sealed unsafe class AttentionContext : IDisposable
{
    private static readonly Lock s_sharedGate = new();
    private static AttentionContext? s_shared;

    private readonly Lock _gate = new();
    private AttentionStream? _defaultStream;

    private AttentionContext(ContextHandle handle, string explanation, BackendPolicy policy)
    {
        Handle = handle;
        Explanation = explanation;
        Policy = policy;
        AttentionContextInfo info = Describe();
        Device = info.Device;
        DeviceName = info.DeviceName;
        InstructionSet = info.InstructionSet;
        Workers = info.Workers;
    }

    /// <summary>Which device it computes on.</summary>
    public AttentionDevice Device { get; }

    /// <summary>The device's own name.</summary>
    public string DeviceName { get; }

    /// <summary>avx512, avx2 or generic; on a GPU sm_NN.</summary>
    public string InstructionSet { get; }

    /// <summary>How many threads may compute at once, callers included.</summary>
    public int Workers { get; }

    /// <summary>Which device was taken and why, in one line.</summary>
    public string Explanation { get; }

    /// <summary>Which backends its plans may take where none is said.</summary>
    public BackendPolicy Policy { get; }

    internal ContextHandle Handle { get; }

    /// <summary>The stream of asynchronous runs that name none; made when first needed.</summary>
    internal AttentionStream DefaultStream
    {
        get
        {
            lock (_gate)
            {
                return _defaultStream ??= CreateStream();
            }
        }
    }

    /// <summary>The CPU with its defaults, for calls that name no context: made when first needed, kept as long as the process.</summary>
    internal static AttentionContext SharedCpu
    {
        get
        {
            lock (s_sharedGate)
            {
                return s_shared ??= Create(AttentionDevice.Cpu);
            }
        }
    }

    /// <summary>A context on the device that suits: a GPU if there is a usable one, else the CPU.</summary>
    /// <param name="options">Null: the defaults.</param>
    /// <exception cref="AttentionLibraryException">The native library cannot be used.</exception>
    public static AttentionContext Create(AttentionContextOptions? options = null) => Create(AttentionDevice.Auto, options);

    /// <summary>A context on a device.</summary>
    /// <param name="device">Which one; <see cref="AttentionDevice.Auto"/>: a GPU if there is a usable one, else the CPU.</param>
    /// <param name="options">Null: the defaults.</param>
    /// <exception cref="ArgumentException">An option is out of range, or ATTENTION_CPU asks for an instruction set this machine lacks.</exception>
    /// <exception cref="CudaException">There is no such GPU, or it cannot be used.</exception>
    /// <exception cref="AttentionLibraryException">The native library cannot be used.</exception>
    public static AttentionContext Create(AttentionDevice device, AttentionContextOptions? options = null)
    {
        NativeLoader.Load();
        options ??= new();
        string why = $"{device} was asked for";
        if (device.Type == AttentionDeviceType.Auto)
        {
            int gpus = AttentionRuntime.CudaDevices(out string noGpu);
            device = gpus > 0 ? AttentionDevice.Cuda() : AttentionDevice.Cpu;
            why = gpus > 0 ? $"the first of {gpus} usable GPUs" : $"no usable GPU: {noGpu}";
        }
        NativeContextOptions native = new()
        {
            size = (uint)sizeof(NativeContextOptions),
            device_type = (int)device.Type,
            device = device.Ordinal,
            workers = options.Workers,
            native_context = (void*)options.NativeContext,
        };
        nint value;
        Status.Check(NativeMethods.attn_context_create(&native, &value), nameof(options));
        ContextHandle handle = new(value);
        return new(handle, $"{device}: {why}", options.Policy);
    }

    /// <summary>What it is and holds now.</summary>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public AttentionContextInfo Describe()
    {
        ThrowIfDisposed();
        NativeContextInfo info = new() { size = (uint)sizeof(NativeContextInfo) };
        Status.Check(NativeMethods.attn_context_describe(Handle, &info), "context");
        AttentionDevice device = (AttentionDeviceType)info.device_type == AttentionDeviceType.Cuda ? AttentionDevice.Cuda(info.device) : AttentionDevice.Cpu;
        return new(
            device, Status.Text(info.device_name), Status.Text(info.instruction_set), info.workers, (long)info.scratch_bytes, (long)info.live_bytes,
            (long)info.memory_free, (long)info.memory_total);
    }

    /// <summary>New memory, contiguous, 64-byte aligned, contents undefined.</summary>
    /// <param name="shape">1 to 4 sizes, outermost first.</param>
    /// <typeparam name="T">float, Half, BFloat16, double, int, byte or bool.</typeparam>
    /// <exception cref="ArgumentException">The shape or T is none.</exception>
    /// <exception cref="DeviceOutOfMemoryException">The device has not that much.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public AttentionTensor Allocate<T>(ReadOnlySpan<long> shape)
        where T : unmanaged => Allocate(DTypes.Of<T>(), shape);

    /// <summary>New memory, contiguous, 64-byte aligned, contents undefined.</summary>
    /// <param name="dtype">What the elements are.</param>
    /// <param name="shape">1 to 4 sizes, outermost first.</param>
    /// <exception cref="ArgumentException">The shape or the dtype is none.</exception>
    /// <exception cref="DeviceOutOfMemoryException">The device has not that much.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public AttentionTensor Allocate(AttentionDType dtype, ReadOnlySpan<long> shape)
    {
        ThrowIfDisposed();
        return AttentionTensor.Allocate(this, dtype, shape);
    }

    /// <summary>New memory with a copy of the data.</summary>
    /// <param name="data">As many elements as the shape has, row-major.</param>
    /// <param name="shape">1 to 4 sizes, outermost first.</param>
    /// <typeparam name="T">float, Half, BFloat16, double, int, byte or bool.</typeparam>
    /// <exception cref="ArgumentException">The shape or T is none, or the data has another size.</exception>
    /// <exception cref="DeviceOutOfMemoryException">The device has not that much.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public AttentionTensor Upload<T>(ReadOnlySpan<T> data, ReadOnlySpan<long> shape)
        where T : unmanaged
    {
        long count = TensorShape.Count(shape, nameof(shape));
        if (data.Length != count)
        {
            throw new ArgumentException($"data has {data.Length} elements; shape {TensorShape.Text(shape)} has {count}", nameof(data));
        }
        AttentionTensor tensor = Allocate<T>(shape);
        try
        {
            tensor.Upload(data);
        }
        catch
        {
            tensor.Dispose();
            throw;
        }
        return tensor;
    }

    /// <summary>Copies a mask's values and classes and packs its dense part, once for many runs.</summary>
    /// <exception cref="ArgumentException">The mask is prepared already, or a length or prefix in host memory is negative; what is too long
    /// for a problem is found when it is run, or by <see cref="Prepare(Mask, AttentionProblem)"/>.</exception>
    /// <exception cref="DeviceOutOfMemoryException">The device has not the memory.</exception>
    /// <exception cref="ObjectDisposedException">The context, or a tensor of the mask, was disposed.</exception>
    public PreparedMask Prepare(Mask mask)
    {
        ArgumentNullException.ThrowIfNull(mask);
        ThrowIfDisposed();
        if (mask is PreparedMask)
        {
            throw new ArgumentException($"mask is {mask}; it is prepared already", nameof(mask));
        }
        NativeMaskValues values;
        NativeArray* arrays = stackalloc NativeArray[6];
        Holds holds = default;
        nint value;
        try
        {
            mask.Bind(&values, arrays, ref holds);
            Status.Check(NativeMethods.attn_mask_prepare(Handle, &values, &value), nameof(mask), Handle);
        }
        finally
        {
            holds.Release();
        }
        return new(this, mask.Kinds, new MaskHandle(value));
    }

    /// <summary>Prepares a mask for a problem: as <see cref="Prepare(Mask)"/>, and what does not fit the problem is found now, not when it is run.</summary>
    /// <exception cref="ArgumentException">The mask is not of the problem's kinds, or a length, prefix or size does not fit it.</exception>
    /// <exception cref="DeviceOutOfMemoryException">The device has not the memory.</exception>
    /// <exception cref="BackendRefusedException">No backend of the context's policy takes the problem.</exception>
    /// <exception cref="ObjectDisposedException">The context, or a tensor of the mask, was disposed.</exception>
    public PreparedMask Prepare(Mask mask, AttentionProblem problem)
    {
        using AttentionPlan plan = Plan(problem);
        PreparedMask prepared = Prepare(mask);
        try
        {
            plan.Explain(prepared);
        }
        catch
        {
            prepared.Dispose();
            throw;
        }
        return prepared;
    }

    /// <summary>The backends that would not take a problem, and why; in the policy's order.</summary>
    /// <param name="problem">What is asked.</param>
    /// <param name="policy">Null: the context's.</param>
    /// <exception cref="ArgumentException">The problem is none: a size, a stride, the scale is out of range.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public IReadOnlyList<Refusal> Query(AttentionProblem problem, BackendPolicy? policy = null)
    {
        ArgumentNullException.ThrowIfNull(problem);
        ThrowIfDisposed();
        policy ??= Policy;
        List<Refusal> refusals = [];
        foreach (AttentionBackend backend in policy.Order)
        {
            Ask(problem, backend, policy, refusals);
        }
        return refusals;
    }

    /// <summary>A plan: the first backend of the policy that takes the problem, and every refusal.</summary>
    /// <param name="problem">What is asked.</param>
    /// <param name="policy">Null: the context's.</param>
    /// <exception cref="ArgumentException">The problem is none: a size, a stride, the scale is out of range; the message has the numbers.</exception>
    /// <exception cref="BackendRefusedException">No backend of the policy takes it; every reason is in the exception.</exception>
    /// <exception cref="NotSupportedException">It asks for something that is not built yet.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public AttentionPlan Plan(AttentionProblem problem, BackendPolicy? policy = null)
    {
        ArgumentNullException.ThrowIfNull(problem);
        ThrowIfDisposed();
        policy ??= Policy;
        List<Refusal> refusals = [];
        AttentionBackend? chosen = null;
        foreach (AttentionBackend backend in policy.Order)
        {
            int before = refusals.Count;
            Ask(problem, backend, policy, refusals);
            if (refusals.Count == before)
            {
                chosen ??= backend;
            }
        }
        AttentionMeter.Refused(refusals, problem.DType, Device);
        if (chosen is not { } taken)
        {
            throw new BackendRefusedException($"No backend of {policy} takes this problem: {string.Join("; ", refusals)}", refusals.AsReadOnly());
        }
        PlanHandle handle = CreatePlan(problem, taken, logSumExp: false, policy.Deterministic);
        return new(this, problem, taken, handle, CreatePlan(problem, taken, logSumExp: true, policy.Deterministic), refusals.AsReadOnly());
    }

    /// <summary>A stream of its own, beside the one that asynchronous runs use where none is named.</summary>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public AttentionStream CreateStream()
    {
        ThrowIfDisposed();
        nint value;
        Status.Check(NativeMethods.attn_stream_create(Handle, &value), "context");
        return new(this, new(value));
    }

    /// <summary>A stream made by others, who keep it alive until this one is disposed and its runs are done: CUDA's CUstream, of this context's CUcontext.</summary>
    /// <param name="nativeStream">Its address; 0 = CUDA's legacy stream.</param>
    /// <exception cref="NotSupportedException">The CPU has no streams of others.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public AttentionStream WrapStream(nint nativeStream)
    {
        ThrowIfDisposed();
        nint value;
        Status.Check(NativeMethods.attn_stream_wrap(Handle, (void*)nativeStream, &value), nameof(nativeStream));
        return new(this, new(value));
    }

    /// <summary>Computes a small problem with every backend and dtype that takes it, and compares with arithmetic in double precision: whether this device, its
    /// driver and the kernels made for it can be trusted. On a GPU it compiles a handful of kernels where none are kept.</summary>
    /// <returns>What became of each.</returns>
    /// <exception cref="CudaException">The device failed.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public IReadOnlyList<SelfTestResult> SelfTest()
    {
        ThrowIfDisposed();
        return Attention.SelfTest.Run(this);
    }

    /// <summary>Gives back workspaces that no call is using.</summary>
    /// <exception cref="ObjectDisposedException">The context was disposed.</exception>
    public void Trim()
    {
        ThrowIfDisposed();
        Status.Check(NativeMethods.attn_context_trim(Handle), "context");
    }

    /// <summary>Lets go of the device; runs under way finish, and what was made in it goes on working. Never waits.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _defaultStream?.Dispose();
            Handle.Dispose();
        }
    }

    /// <summary>cpu: no usable GPU: …</summary>
    public override string ToString() => Explanation;

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Handle.IsClosed, this);

    private PlanHandle CreatePlan(AttentionProblem problem, AttentionBackend backend, bool logSumExp, bool deterministic)
    {
        NativeProblem native = problem.Native(logSumExp, deterministic);
        nint value;
        Status.Check(NativeMethods.attn_plan_create(Handle, &native, (int)backend, &value), nameof(problem), Handle);
        return new(value);
    }

    /// <summary>Adds every reason why the backend is not to be taken; none where it is.</summary>
    private void Ask(AttentionProblem problem, AttentionBackend backend, BackendPolicy policy, List<Refusal> refusals)
    {
        const int Room = 16;
        NativeProblem native = problem.Native(logSumExp: true, policy.Deterministic);
        NativeRefusal* found = stackalloc NativeRefusal[Room];
        for (int i = 0; i < Room; ++i)
        {
            found[i].size = (uint)sizeof(NativeRefusal);
        }
        uint count;
        Status.Check(NativeMethods.attn_query(Handle, &native, (int)backend, found, Room, &count), nameof(problem));
        for (int i = 0; i < Math.Min(count, Room); ++i)
        {
            refusals.Add(new(backend, (RefusalReason)found[i].reason, found[i].met, found[i].limit, Status.Text(found[i].text)));
        }
        if (count == 0 && backend == AttentionBackend.Naive && policy.Ceiling is { } ceiling)
        {
            ulong bytes;
            using PlanHandle plan = CreatePlan(problem, backend, logSumExp: false, policy.Deterministic);
            Status.Check(NativeMethods.attn_plan_workspace(plan, &bytes), nameof(problem));
            if (bytes > (ulong)ceiling)
            {
                refusals.Add(new(
                    backend, RefusalReason.MemoryCeiling, (long)bytes, ceiling, $"it would need {bytes} bytes for scores; the policy's ceiling is {ceiling}"));
            }
        }
    }
}
