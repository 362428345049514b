using Attention.Interop;

namespace Attention;

/// <summary>
/// A problem with the backend and kernel that will compute it, and every refusal on the way there (<see cref="AttentionContext.Plan"/>). It binds no address
/// and no value: one plan serves every layer and every step whose tensors have the shapes and strides it was made for.
/// </summary>
/// <remarks>Immutable; any number of threads may run it at once, and dispose it: runs under way finish. It keeps what it needs of its context, which may be
/// disposed before. A run allocates nothing in managed memory, and checks everything it is given before anything starts. Outputs must share no memory with
/// anything else.</remarks>
public sealed unsafe partial class AttentionPlan : IDisposable
{
    private readonly PlanHandle _handle;
    private readonly PlanHandle _withLogSumExp; // the same, for runs that want LSE: the library has it in the problem, here it is a run's own affair

    internal AttentionPlan(
        AttentionContext context, AttentionProblem problem, AttentionBackend backend, PlanHandle handle, PlanHandle withLogSumExp,
        IReadOnlyList<Refusal> refusals)
    {
        Context = context;
        Problem = problem;
        Backend = backend;
        Refusals = refusals;
        DeviceName = context.Device.ToString();
        _handle = handle;
        _withLogSumExp = withLogSumExp;
        NativePlanInfo info = new() { size = (uint)sizeof(NativePlanInfo) };
        Status.Check(NativeMethods.attn_plan_describe(handle, &info), "plan");
        Kernel = Status.Text(info.kernel);
        KernelReason = Status.Text(info.reason) is { Length: > 0 } reason ? reason : null;
        TileQueries = info.tile_queries;
        TileKeys = info.tile_keys;
        KeyChunk = info.key_chunk;
        WorkspaceBytes = (long)info.workspace_bytes;
    }

    /// <summary>The context it was made in.</summary>
    public AttentionContext Context { get; }

    /// <summary>What is asked.</summary>
    public AttentionProblem Problem { get; }

    /// <summary>Who computes it.</summary>
    public AttentionBackend Backend { get; }

    /// <summary>The kernel, e.g. cpu.flash.avx512.</summary>
    public string Kernel { get; }

    /// <summary>Why it is not the backend's kernel one would expect first, e.g. on Hopper not flash_sm90; null where it is that one.</summary>
    public string? KernelReason { get; }

    /// <summary>Every reason of every backend that does not take the problem, in the order they were asked.</summary>
    public IReadOnlyList<Refusal> Refusals { get; }

    /// <summary>Queries of one tile.</summary>
    public long TileQueries { get; }

    /// <summary>Keys of one tile.</summary>
    public long TileKeys { get; }

    /// <summary>Keys are split into chunks of this many, and merged in order; 0: not split.</summary>
    public long KeyChunk { get; }

    /// <summary>Bytes a run needs beyond its operands and the workers' scratch.</summary>
    public long WorkspaceBytes { get; }

    internal string DeviceName { get; }

    /// <summary>How many tiles of each class a run with this mask has; computes nothing else. On a GPU it synchronises.</summary>
    /// <param name="mask">As for <c>Run</c>.</param>
    /// <param name="offset">As for <c>Run</c>.</param>
    /// <exception cref="ArgumentException">The mask or the offset is not what the problem describes, or out of range.</exception>
    /// <exception cref="ObjectDisposedException">The plan or the prepared mask was disposed.</exception>
    public TileCounts Explain(Mask? mask = null, QueryOffset? offset = null)
    {
        RunFrame frame;
        RunFrame.Clear(&frame);
        Holds holds = default;
        NativeTiles tiles = new() { size = (uint)sizeof(NativeTiles) };
        try
        {
            BindValues(&frame, ref holds, mask, null, offset);
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            Status.Check(NativeMethods.attn_plan_tiles(_handle, &frame.Args, &tiles), nameof(mask));
        }
        finally
        {
            holds.Release();
            GC.KeepAlive(mask);
        }
        return new(tiles.queries, tiles.keys, tiles.full, tiles.partial, tiles.empty);
    }

    /// <summary>The class of each tile of one batch and query head. On a GPU it synchronises.</summary>
    /// <param name="batch">Below B.</param>
    /// <param name="head">Below Hq.</param>
    /// <param name="mask">As for <c>Run</c>.</param>
    /// <param name="offset">As for <c>Run</c>.</param>
    /// <exception cref="ArgumentException">There is no such batch or head; the mask or the offset is not what the problem describes, or out of
    /// range.</exception>
    /// <exception cref="ObjectDisposedException">The plan or the prepared mask was disposed.</exception>
    public TileMap TileMap(long batch, long head, Mask? mask = null, QueryOffset? offset = null)
    {
        RunFrame frame;
        RunFrame.Clear(&frame);
        Holds holds = default;
        try
        {
            BindValues(&frame, ref holds, mask, null, offset);
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            long rows, columns;
            Status.Check(NativeMethods.attn_plan_tile_map(_handle, &frame.Args, batch, head, null, 0, &rows, &columns), nameof(mask));
            TileClass[] classes = new TileClass[checked(rows * columns)];
            fixed (TileClass* at = classes)
            {
                NativeStatus status = NativeMethods.attn_plan_tile_map(
                    _handle, &frame.Args, batch, head, (byte*)at, (ulong)classes.Length, &rows, &columns);
                Status.Check(status, nameof(mask));
            }
            return new(classes, (int)rows, (int)columns, TileQueries, TileKeys);
        }
        finally
        {
            holds.Release();
            GC.KeepAlive(mask);
        }
    }

    /// <summary>Does ahead what a first run would have to: threads, scratch, on a GPU compilation.</summary>
    /// <exception cref="ObjectDisposedException">The plan was disposed.</exception>
    public void Warmup()
    {
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        Status.Check(NativeMethods.attn_plan_warmup(_handle), "plan", Context.Handle);
    }

    /// <summary>Lets go of the plan; runs under way finish. Never waits.</summary>
    public void Dispose()
    {
        _handle.Dispose();
        _withLogSumExp.Dispose();
    }

    /// <summary>flash (cpu.flash.avx512); refused: naive: …</summary>
    public override string ToString()
    {
        string chosen = $"{Backend.Name()} ({Kernel})";
        return Refusals.Count == 0 ? chosen : $"{chosen}; refused: {string.Join("; ", Refusals)}";
    }

    private void BindValues(RunFrame* frame, ref Holds holds, Mask? mask, AttentionBias? bias, QueryOffset? offset)
    {
        QueryOffset position = offset ?? Problem.Offset;
        if (position.Kind != Problem.Offset.Kind)
        {
            throw new ArgumentException($"offset is {position}; the plan was made for {Problem.Offset}, and a run's is of the same kind", nameof(offset));
        }
        mask?.Bind(frame, ref holds);
        bias?.Bind(frame, ref holds);
        position.Bind(frame, ref holds);
    }

    private PlanHandle HandleFor(bool logSumExp)
    {
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        return logSumExp ? _withLogSumExp : _handle;
    }
}
