namespace Attention;

/// <summary>How a context is made.</summary>
public sealed record AttentionContextOptions
{
    /// <summary>On the CPU: how many threads may compute at once, callers included, 1..1024; 0 = the CPU quota (affinity and cgroup cpu.max).</summary>
    public int Workers { get; init; }

    /// <summary>On a GPU: a CUcontext made by others; 0 = the device's primary context. Whoever made it keeps it until this context, and all that was made in
    /// it, are disposed and their runs done.</summary>
    public nint NativeContext { get; init; }

    /// <summary>Which backends its plans may take where none is said.</summary>
    public BackendPolicy Policy { get; init; } = BackendPolicy.Auto;
}

/// <summary>What a context is and holds, at the moment it was asked.</summary>
/// <param name="Device">Which device.</param>
/// <param name="DeviceName">The device's own name.</param>
/// <param name="InstructionSet">avx512, avx2 or generic; on a GPU sm_NN.</param>
/// <param name="Workers">How many threads may compute at once.</param>
/// <param name="ScratchBytes">Held for workers and workspaces between calls.</param>
/// <param name="LiveBytes">Owned by the context's tensors and masks.</param>
/// <param name="MemoryFree">Free bytes of the device.</param>
/// <param name="MemoryTotal">All bytes of the device.</param>
public sealed record AttentionContextInfo(
    AttentionDevice Device, string DeviceName, string InstructionSet, int Workers, long ScratchBytes, long LiveBytes, long MemoryFree, long MemoryTotal);
