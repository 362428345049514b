using System.Runtime.CompilerServices;

namespace Attention.Interop;

/// <summary>Everything a run points at, in one piece of memory that does not move: the stack of a waiting caller, or native memory of a pending run.</summary>
internal unsafe struct RunFrame
{
    internal NativeRunArgs Args;
    internal NativeRunReport Report;
    internal NativeMaskValues Mask;
    internal NativeArray Q, K, V, O, Lse, P, Bias, Slopes, Offsets;
    internal int Cancel;
    private MaskRoom _maskArrays;

    /// <summary>Room for the six arrays of a mask's values.</summary>
    internal NativeArray* MaskArrays => (NativeArray*)Unsafe.AsPointer(ref _maskArrays);

    /// <summary>Nothing given yet. What <see cref="NativeRunArgs"/> does not point at stays as it was: nobody reads it.</summary>
    internal static void Clear(RunFrame* frame)
    {
        frame->Args = new() { size = (uint)sizeof(NativeRunArgs), report = &frame->Report };
        frame->Report = new() { size = (uint)sizeof(NativeRunReport) };
        frame->Cancel = 0;
    }

    [InlineArray(6)]
    private struct MaskRoom
    {
        private NativeArray _first;
    }
}
