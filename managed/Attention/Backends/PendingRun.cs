using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Attention.Interop;

namespace Attention;

/// <summary>A run on a stream: its frame in native memory, what it holds, and the task that tells its end. Ended once, by the library's completion.</summary>
internal sealed unsafe class PendingRun
{
    private readonly TaskCompletionSource<RunReport> _task = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly AttentionPlan _plan;
    private readonly CancellationToken _cancellation;
    private readonly object?[] _reachable; // beyond what Holds keeps: what the caller gave, as he gave it
    private readonly long _began = AttentionMeter.Begin();
    private CancellationTokenRegistration _registration;
    private GCHandle _self;

    internal Holds Holds;

    internal PendingRun(AttentionPlan plan, CancellationToken cancellation, object?[] reachable)
    {
        _plan = plan;
        _cancellation = cancellation;
        _reachable = reachable;
        Frame = (RunFrame*)NativeMemory.AllocZeroed((nuint)sizeof(RunFrame));
        RunFrame.Clear(Frame);
    }

    internal RunFrame* Frame { get; }

    /// <summary>Puts the bound run on the stream. Where that fails nothing was started, and the caller ends it by <see cref="Free"/>.</summary>
    internal Task<RunReport> Start(PlanHandle plan, AttentionStream stream)
    {
        Holds.Add(stream.Handle);
        Frame->Args.stream = stream.Handle.Value;
        if (_cancellation.CanBeCanceled)
        {
            Frame->Args.cancel = &Frame->Cancel;
            _registration = _cancellation.UnsafeRegister(static pending => Volatile.Write(ref ((PendingRun)pending!).Frame->Cancel, 1), this);
        }
        _self = GCHandle.Alloc(this);
        lock (stream.Gate)
        {
            NativeStatus status = NativeMethods.attn_run(plan, &Frame->Args);
            if (status != NativeStatus.Ok)
            {
                AttentionMeter.Call(_plan, status, _began);
                Status.Check(status);
            }
            status = NativeMethods.attn_stream_on_complete(stream.Handle, &Completed, GCHandle.ToIntPtr(_self));
            if (status != NativeStatus.Ok) // no memory for it: the run is under way, and its memory is ours to keep until it is done
            {
                Exception failure = Status.Exception(status, Status.Text(NativeMethods.attn_last_error()));
                NativeMethods.attn_stream_synchronize(stream.Handle);
                throw failure;
            }
        }
        return _task.Task;
    }

    /// <summary>Lets go of everything.</summary>
    internal void Free()
    {
        _registration.Dispose(); // waits for a cancellation that is just raising the flag
        Holds.Release();
        NativeMemory.Free(Frame);
        if (_self.IsAllocated)
        {
            _self.Free();
        }
        GC.KeepAlive(_reachable);
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Completed(nint user, NativeStatus status, byte* message) =>
        ((PendingRun)GCHandle.FromIntPtr(user).Target!).End(status, status == NativeStatus.Ok ? "" : Status.Text(message));

    private void End(NativeStatus status, string message)
    {
        RunReport report = new(_plan, Frame->Report.tiles_visited, Frame->Report.mask_passes);
        Free();
        try
        {
            AttentionMeter.Call(_plan, status, _began);
        }
        catch (Exception e) // a listener's; nothing may pass through the library
        {
            _task.TrySetException(e);
        }
        if (status == NativeStatus.Ok)
        {
            _task.TrySetResult(report);
        }
        else if (status == NativeStatus.Cancelled)
        {
            _task.TrySetCanceled(_cancellation);
        }
        else
        {
            _task.TrySetException(Status.Exception(status, message));
        }
    }
}
