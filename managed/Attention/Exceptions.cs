namespace Attention;

/// <summary>A backend that the caller required does not take the problem, or none of those allowed does.</summary>
/// <remarks>A problem it would take, or another policy, is the remedy; nothing was started.</remarks>
public sealed class BackendRefusedException : NotSupportedException
{
    /// <summary>A refusal with its message.</summary>
    /// <param name="message">One line with every reason in words.</param>
    /// <param name="refusals">Each reason; empty where only the message is known.</param>
    public BackendRefusedException(string message, IReadOnlyList<Refusal> refusals)
        : base(message)
    {
        Refusals = refusals;
    }

    /// <summary>Each backend's reasons, in the order they were asked.</summary>
    public IReadOnlyList<Refusal> Refusals { get; }
}

/// <summary>A device, the CPU included, has not the memory that was asked for.</summary>
public sealed class DeviceOutOfMemoryException : OutOfMemoryException
{
    /// <summary>An exhausted device.</summary>
    /// <param name="message">One line that names what the memory was for.</param>
    /// <param name="asked">Bytes asked for, where known.</param>
    /// <param name="free">Bytes that were free, where known.</param>
    public DeviceOutOfMemoryException(string message, long? asked, long? free)
        : base(message)
    {
        Asked = asked;
        Free = free;
    }

    /// <summary>How many bytes were asked for; null where the system did not say.</summary>
    public long? Asked { get; }

    /// <summary>How many bytes of the device were free; null where the system did not say.</summary>
    public long? Free { get; }
}

/// <summary>CUDA has no such device, or reported an error of its own.</summary>
public sealed class CudaException : Exception
{
    /// <summary>An error of CUDA's.</summary>
    /// <param name="message">One line.</param>
    /// <param name="code">CUDA's number for it (CUresult).</param>
    /// <param name="name">CUDA's name for it, e.g. CUDA_ERROR_NO_DEVICE.</param>
    public CudaException(string message, int code, string name)
        : base(message)
    {
        Code = code;
        Name = name;
    }

    /// <summary>CUDA's number for the error (CUresult).</summary>
    public int Code { get; }

    /// <summary>CUDA's name for the error, e.g. CUDA_ERROR_NO_DEVICE.</summary>
    public string Name { get; }
}

/// <summary>The native library could not be found, loaded or trusted, or met a defect of its own.</summary>
public sealed class AttentionLibraryException : Exception
{
    /// <summary>A library that cannot be used.</summary>
    /// <param name="message">One line with the cause, where it is known: a glibc older than 2.34, musl, another ABI version.</param>
    /// <param name="paths">Each path tried and what became of it.</param>
    public AttentionLibraryException(string message, IReadOnlyList<string> paths)
        : base(message)
    {
        Paths = paths;
    }

    /// <summary>Each path that was tried and what became of it, in order; empty where the library was loaded and failed later.</summary>
    public IReadOnlyList<string> Paths { get; }
}
