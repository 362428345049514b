using Attention.Interop;

namespace Attention;

/// <summary>A mask whose values were copied and whose dense part was classed and packed once, for many runs
/// (<see cref="AttentionContext.Prepare(Mask)"/>).</summary>
/// <remarks>Immutable; any number of threads and plans of its context may share it, and dispose it: runs under way finish. Later changes of what it was
/// prepared from are not seen. Disposing gives its memory back.</remarks>
public sealed class PreparedMask : Mask, IDisposable
{
    private readonly MaskHandle _handle;

    internal PreparedMask(AttentionContext context, MaskKinds kinds, MaskHandle handle, long full, long partial, long empty, long bytes)
        : base(kinds)
    {
        Context = context;
        _handle = handle;
        FullCells = full;
        PartialCells = partial;
        EmptyCells = empty;
        Bytes = bytes;
    }

    /// <summary>The context it was prepared in.</summary>
    public AttentionContext Context { get; }

    /// <summary>Cells of 64 queries x 64 keys of the dense mask, as given, that hide nothing; 0 where there is no dense mask.</summary>
    public long FullCells { get; }

    /// <summary>Cells of the dense mask that hide a part of themselves.</summary>
    public long PartialCells { get; }

    /// <summary>Cells of the dense mask that hide all of themselves: never visited.</summary>
    public long EmptyCells { get; }

    /// <summary>How many bytes it holds.</summary>
    public long Bytes { get; }

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
}
