using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Attention.Interop;

namespace Attention;

/// <summary>What is put on one stream runs in order; streams run beside each other. The CPU has streams too.</summary>
/// <remarks>Safe to use from any number of threads. Disposing never waits: what was put on the stream is still done.</remarks>
public sealed unsafe class AttentionStream : IDisposable
{
    internal AttentionStream(AttentionContext context, StreamHandle handle)
    {
        Context = context;
        Handle = handle;
    }

    /// <summary>The context it belongs to.</summary>
    public AttentionContext Context { get; }

    internal StreamHandle Handle { get; }

    /// <summary>Held while a run and the completion that tells of it are put on the stream: no other run comes between.</summary>
    internal Lock Gate { get; } = new();

    /// <summary>Waits until everything put on the stream so far is done. What became of a run, its own task tells.</summary>
    /// <exception cref="ObjectDisposedException">The stream was disposed.</exception>
    public void Synchronize()
    {
        ObjectDisposedException.ThrowIf(Handle.IsClosed, this);
        // A completion, not the library's own wait: that would take the failure of a run whose completion is still to come.
        using ManualResetEventSlim done = new();
        GCHandle self = GCHandle.Alloc(done);
        try
        {
            lock (Gate)
            {
                Status.Check(NativeMethods.attn_stream_on_complete(Handle, &Done, GCHandle.ToIntPtr(self)), "stream");
            }
            done.Wait();
        }
        finally
        {
            self.Free();
        }
    }

    /// <summary>Lets go of the stream. Never waits.</summary>
    public void Dispose() => Handle.Dispose();

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Done(nint user, NativeStatus status, byte* message) => ((ManualResetEventSlim)GCHandle.FromIntPtr(user).Target!).Set();
}
