using Attention.Interop;

namespace Attention;

/// <summary>A mask whose values were copied and whose dense part was classed and packed once, for many runs
/// (<see cref="AttentionContext.Prepare(Mask)"/>).</summary>
/// <remarks>Immutable; any number of threads and plans of its context may share it, and dispose it: runs under way finish. Later changes of what it was
/// prepared from are not seen. Disposing gives its memory back.</remarks>
public sealed class PreparedMask : Mask, IDisposable
{
    private readonly MaskHandle _handle;

    private object? _info; // a NativeMaskInfo: any thread may be the first to ask

    internal PreparedMask(AttentionContext context, MaskKinds kinds, MaskHandle handle)
        : base(kinds)
    {
        Context = context;
        _handle = handle;
        if (context.Device.Type == AttentionDeviceType.Cpu)
        {
            _info = Info();
        }
    }

    /// <summary>The context it was prepared in.</summary>
    public AttentionContext Context { get; }

    /// <summary>Cells of 64 queries x 64 keys of the dense mask, as given, that hide nothing; 0 where there is no dense mask. On a GPU the cells
    /// are counted when one of these is first asked for, which synchronises.</summary>
    /// <exception cref="ObjectDisposedException">On a GPU: the mask was disposed before they were asked for.</exception>
    public long FullCells => ((NativeMaskInfo)(_info ??= Info())).full;

    /// <summary>Cells of the dense mask that hide a part of themselves.</summary>
    public long PartialCells => ((NativeMaskInfo)(_info ??= Info())).partial;

    /// <summary>Cells of the dense mask that hide all of themselves: never visited.</summary>
    public long EmptyCells => ((NativeMaskInfo)(_info ??= Info())).empty;

    /// <summary>How many bytes it holds; on a GPU more with each kind of plan that has used it.</summary>
    public long Bytes => (long)(Context.Device.Type == AttentionDeviceType.Cpu ? (NativeMaskInfo)_info! : Info()).bytes;

    /// <summary>Gives its memory back once no run uses it. Never waits.</summary>
    public void Dispose() => _handle.Dispose();

    /// <summary>Prepared(KeyLengths, Causal)</summary>
    public override string ToString() => $"Prepared({Kinds})";

    internal override unsafe void Bind(RunFrame* frame, ref Holds holds)
    {
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        holds.Add(_handle);
        frame->Args.prepared = _handle.Value;
    }

    private unsafe NativeMaskInfo Info()
    {
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        NativeMaskInfo info = new() { size = (uint)sizeof(NativeMaskInfo) };
        Status.Check(NativeMethods.attn_mask_describe(_handle, &info), "mask");
        return info;
    }
}
