using Attention.Interop;

namespace Attention;

/// <summary>What was loaded, and what this machine offers it.</summary>
/// <param name="LibraryPath">The native library's file; a bare name where the system's loader found it.</param>
/// <param name="AbiVersion">Its ABI version.</param>
/// <param name="Build">Its version, compiler and instruction sets.</param>
/// <param name="InstructionSet">What the CPU computes with: avx512, avx2 or generic.</param>
/// <param name="DeviceName">The CPU's own name.</param>
/// <param name="Workers">The CPU quota: how many threads a context uses where none is said.</param>
/// <param name="Devices">Every usable device; the CPU first.</param>
/// <param name="CudaUnavailable">Why there is no GPU among them; null where there is one.</param>
/// <param name="CudaDriver">The CUDA driver's version; null where none was loaded.</param>
/// <param name="Nvrtc">The run-time compiler's library and version; null where none was loaded.</param>
/// <param name="CacheFolder">Where compiled kernels are kept; null where they are not.</param>
/// <param name="EmbeddedArchitectures">GPU architectures whose kernels the library carries compiled, e.g. "sm_80 sm_90a"; null: none.</param>
public sealed record AttentionRuntimeInfo(
    string LibraryPath, int AbiVersion, string Build, string InstructionSet, string DeviceName, int Workers, IReadOnlyList<AttentionDevice> Devices,
    string? CudaUnavailable, string? CudaDriver, string? Nvrtc, string? CacheFolder, string? EmbeddedArchitectures)
{
    /// <summary>A line for each.</summary>
    public override string ToString() =>
        $"""
        library          {LibraryPath}
        build            {Build}
        ABI              {AbiVersion}
        cpu              {DeviceName}, {InstructionSet}, {Workers} workers
        devices          {string.Join(", ", Devices)}
        cuda             {CudaUnavailable ?? $"driver {CudaDriver}, NVRTC {Nvrtc ?? "none"}"}
        compiled for     {EmbeddedArchitectures ?? "no GPU: kernels are compiled when they are first needed"}
        cache folder     {CacheFolder ?? "none: compiled kernels are not kept"}
        """;
}

/// <summary>Live objects of the native library and what it did, of the whole process.</summary>
/// <param name="LiveContexts">Contexts not destroyed yet.</param>
/// <param name="LiveStreams">Streams not destroyed yet.</param>
/// <param name="LiveTensors">Tensors not destroyed yet.</param>
/// <param name="LiveMasks">Prepared masks not destroyed yet.</param>
/// <param name="LivePlans">Native plans not destroyed yet; an <see cref="AttentionPlan"/> is two, one of them for runs with LSE.</param>
/// <param name="LiveBytes">Bytes that tensors and masks own.</param>
/// <param name="Runs">Runs finished since the process began.</param>
/// <param name="MaskPasses">Passes over dense masks since the process began.</param>
/// <param name="KernelsCompiled">Kernels that NVRTC compiled since the process began.</param>
/// <param name="KernelsFromDisk">Kernels found compiled in the cache folder since the process began.</param>
/// <param name="KernelsEmbedded">Kernels found compiled in the library since the process began.</param>
public readonly record struct AttentionCounters(
    long LiveContexts, long LiveStreams, long LiveTensors, long LiveMasks, long LivePlans, long LiveBytes, long Runs, long MaskPasses, long KernelsCompiled,
    long KernelsFromDisk, long KernelsEmbedded);

/// <summary>The native library under this assembly. It is loaded when first needed, from the file that the environment variable ATTENTION_LIBRARY names, or
/// else from beside the assembly or the application.</summary>
public static unsafe class AttentionRuntime
{
    /// <summary>What was loaded, and what this machine offers it.</summary>
    /// <exception cref="AttentionLibraryException">The native library cannot be used; the message says why, and every path tried.</exception>
    /// <exception cref="ArgumentException">ATTENTION_CPU asks for an instruction set this machine lacks.</exception>
    public static AttentionRuntimeInfo Describe()
    {
        using AttentionContext cpu = AttentionContext.Create(AttentionDevice.Cpu);
        int gpus = CudaDevices(out string why);
        NativeCudaInfo cuda = new() { size = (uint)sizeof(NativeCudaInfo) };
        Status.Check(NativeMethods.attn_cuda_describe(&cuda), "cuda");
        string folder = Status.Text(cuda.cache_folder), embedded = Status.Text(cuda.embedded);
        return new(
            NativeLoader.Path,
            (int)NativeMethods.attn_abi_version(),
            Status.Text(NativeMethods.attn_build_info()),
            cpu.InstructionSet,
            cpu.DeviceName,
            cpu.Workers,
            [AttentionDevice.Cpu, .. Enumerable.Range(0, gpus).Select(AttentionDevice.Cuda)],
            gpus > 0 ? null : why,
            cuda.driver_version == 0 ? null : $"{Version(cuda.driver_version)} ({Status.Text(cuda.driver)})",
            cuda.nvrtc_version == 0 ? null : $"{Version(cuda.nvrtc_version)} ({Status.Text(cuda.nvrtc)})",
            folder.Length == 0 ? null : folder,
            embedded.Length == 0 ? null : embedded);
    }

    /// <summary>Live objects and work done, of the whole process.</summary>
    /// <exception cref="AttentionLibraryException">The native library cannot be used.</exception>
    public static AttentionCounters Counters()
    {
        NativeLoader.Load();
        NativeCounters c = new() { size = (uint)sizeof(NativeCounters) };
        Status.Check(NativeMethods.attn_counters_read(&c), "counters");
        return new(
            c.live_contexts, c.live_streams, c.live_tensors, c.live_masks, c.live_plans, c.live_bytes, c.runs, c.mask_passes, c.kernels_compiled,
            c.kernels_from_disk, c.kernels_embedded);
    }

    /// <summary>CUDA's way to count versions: 12040 is 12.4.</summary>
    private static string Version(int version) => $"{version / 1000}.{version % 1000 / 10}";

    /// <summary>How many GPUs can be used, and where none can, why.</summary>
    internal static int CudaDevices(out string why)
    {
        int count;
        byte* reason = null;
        Status.Check(NativeMethods.attn_device_count((int)AttentionDeviceType.Cuda, &count, &reason));
        why = reason is null ? "" : Status.Text(reason);
        return count;
    }
}
