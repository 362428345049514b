using System.Runtime.InteropServices;

namespace Attention.Tests;

/// <summary>Another library of the process, with a context, a stream and memory of its own on the first GPU: CUDA's driver called by its names, not through ours.</summary>
/// <remarks>Its context is the current one of the thread that made it, and every call is made there.</remarks>
internal sealed unsafe class Others : IDisposable
{
    private static readonly Lazy<nint> s_driver = new(() => NativeLibrary.Load(Environment.GetEnvironmentVariable("ATTENTION_CUDA") ?? "libcuda.so.1"));

    private readonly List<ulong> _memory = [];

    public Others()
    {
        nint made;
        Check(((delegate* unmanaged<nint*, uint, int, int>)Call("cuCtxCreate_v2"))(&made, 0, 0));
        Context = made;
        Check(((delegate* unmanaged<nint*, uint, int>)Call("cuStreamCreate"))(&made, 1)); // CU_STREAM_NON_BLOCKING
        Stream = made;
    }

    public nint Context { get; }

    public nint Stream { get; }

    /// <summary>The calling thread's current context.</summary>
    public static nint Current
    {
        get
        {
            nint current;
            Check(((delegate* unmanaged<nint*, int>)Call("cuCtxGetCurrent"))(&current));
            return current;
        }
    }

    /// <summary>How often the driver without a GPU saw its rules broken; a real one does not count.</summary>
    public static long Faults => NativeLibrary.TryGetExport(s_driver.Value, "fake_cuda_faults", out nint call) ? ((delegate* unmanaged<byte**, long>)call)(null) : 0;

    /// <summary>The driver without a GPU runs nothing on its streams while they are held. False: it is a real one, and does as it likes.</summary>
    public static bool Hold(bool on)
    {
        bool can = NativeLibrary.TryGetExport(s_driver.Value, "fake_cuda_hold", out nint call);
        if (can)
        {
            ((delegate* unmanaged<int, void>)call)(on ? 1 : 0);
        }
        return can;
    }

    /// <summary>Begins or ends a capture of the stream into a graph, with the driver without a GPU.</summary>
    public bool Capture(bool on)
    {
        bool can = NativeLibrary.TryGetExport(s_driver.Value, "fake_cuda_capture", out nint call);
        if (can)
        {
            ((delegate* unmanaged<nint, int, void>)call)(Stream, on ? 1 : 0);
        }
        return can;
    }

    public nint Allocate(int bytes)
    {
        ulong address;
        Check(((delegate* unmanaged<ulong*, nuint, int>)Call("cuMemAlloc_v2"))(&address, (nuint)bytes));
        _memory.Add(address);
        return (nint)address;
    }

    /// <summary>A copy put on the stream; nobody waits for it.</summary>
    /// <param name="to">Device memory.</param>
    /// <param name="from">Does not move, and lives until it was copied.</param>
    public void Put(nint to, Half[] from) =>
        Check(((delegate* unmanaged<ulong, nint, nuint, nint, int>)Call("cuMemcpyHtoDAsync_v2"))((ulong)to, Marshal.UnsafeAddrOfPinnedArrayElement(from, 0), (nuint)from.Length * 2, Stream));

    /// <summary>What the device has once all that is on the stream is done.</summary>
    public Half[] Fetch(nint from, int count)
    {
        Half[] to = GC.AllocateArray<Half>(count, pinned: true);
        Check(((delegate* unmanaged<nint, ulong, nuint, nint, int>)Call("cuMemcpyDtoHAsync_v2"))(Marshal.UnsafeAddrOfPinnedArrayElement(to, 0), (ulong)from, (nuint)count * 2, Stream));
        Check(((delegate* unmanaged<nint, int>)Call("cuStreamSynchronize"))(Stream));
        return to;
    }

    public void Dispose()
    {
        foreach (ulong address in _memory)
        {
            Check(((delegate* unmanaged<ulong, int>)Call("cuMemFree_v2"))(address));
        }
        nint popped;
        Check(((delegate* unmanaged<nint, int>)Call("cuStreamDestroy_v2"))(Stream));
        Check(((delegate* unmanaged<nint*, int>)Call("cuCtxPopCurrent_v2"))(&popped));
        Check(((delegate* unmanaged<nint, int>)Call("cuCtxDestroy_v2"))(Context));
    }

    private static nint Call(string name) => NativeLibrary.GetExport(s_driver.Value, name);

    private static void Check(int status) => Assert.That(status, Is.Zero, "CUDA's status of what another library did");
}
