using System.Runtime.InteropServices;

namespace Attention.Interop;

/// <summary>A handle of the native library: destroyed once, from any thread, also by the finalizer. Its number is never an address, so a stale one is found
/// out.</summary>
internal abstract class NativeHandle : SafeHandle
{
    private bool _disposed;

    private protected NativeHandle(nint value)
        : base(0, ownsHandle: true)
    {
        SetHandle(value);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>Whether it was disposed, though others may still use it: from then on nobody may begin to.</summary>
    internal new bool IsClosed => Volatile.Read(ref _disposed) || base.IsClosed;

    /// <summary>The number, for a call that keeps this object reachable; a handle destroyed meanwhile is refused by the library.</summary>
    internal nint Value => handle;

    protected override void Dispose(bool disposing)
    {
        Volatile.Write(ref _disposed, true);
        base.Dispose(disposing);
    }
}

internal sealed class ContextHandle(nint value) : NativeHandle(value)
{
    protected override bool ReleaseHandle() => NativeMethods.attn_context_destroy(handle) == NativeStatus.Ok;
}

internal sealed class StreamHandle(nint value) : NativeHandle(value)
{
    protected override bool ReleaseHandle() => NativeMethods.attn_stream_destroy(handle) == NativeStatus.Ok;
}

internal sealed class TensorHandle(nint value) : NativeHandle(value)
{
    protected override bool ReleaseHandle() => NativeMethods.attn_tensor_destroy(handle) == NativeStatus.Ok;
}

internal sealed class MaskHandle(nint value) : NativeHandle(value)
{
    protected override bool ReleaseHandle() => NativeMethods.attn_mask_destroy(handle) == NativeStatus.Ok;
}

internal sealed class PlanHandle(nint value) : NativeHandle(value)
{
    protected override bool ReleaseHandle() => NativeMethods.attn_plan_destroy(handle) == NativeStatus.Ok;
}
