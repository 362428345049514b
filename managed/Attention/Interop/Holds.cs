using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Attention.Interop;

/// <summary>What a run keeps until it is done, so that disposing meanwhile, from any thread, is legal. Lives on the stack, or in a pending run.</summary>
internal struct Holds
{
    private Held _held;
    private int _count;

    /// <summary>A handle is held open; anything else is kept reachable.</summary>
    internal void Add(object? what)
    {
        if (what is SafeHandle handle)
        {
            bool held = false;
            handle.DangerousAddRef(ref held);
        }
        if (what is not null)
        {
            _held[_count++] = what;
        }
    }

    internal void Release()
    {
        while (_count > 0)
        {
            if (_held[--_count] is SafeHandle handle)
            {
                handle.DangerousRelease();
            }
            _held[_count] = null!;
        }
    }

    [InlineArray(16)] // six operands, six arrays of a mask or one prepared, two score terms, offsets, a stream
    private struct Held
    {
        private object _first;
    }
}
