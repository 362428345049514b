using System.Runtime.InteropServices;

namespace Attention.Peers;

/// <summary>float32 in memory of its own, on huge pages where the system has them, and touched: no page is first met while something is timed.</summary>
internal sealed unsafe partial class HugeMemory : IDisposable
{
    private const nuint HugePage = 2 << 20;
    private const int ReadWrite = 0x3, PrivateAnonymous = 0x22, AdviseHugePages = 14;

    private readonly void* _mapped;
    private readonly nuint _bytes;

    /// <summary>So many numbers, all NaN: who does not write what it should is found out.</summary>
    public HugeMemory(long count)
    {
        Count = checked((int)count);
        nuint length = ((nuint)(count * sizeof(float)) + HugePage - 1) / HugePage * HugePage;
        _bytes = length + HugePage; // room to begin at a multiple of a page
        _mapped = mmap(null, _bytes, ReadWrite, PrivateAnonymous, -1, 0);
        if (_mapped == (void*)-1)
        {
            throw new OutOfMemoryException($"mmap of {_bytes} bytes: {Marshal.GetLastPInvokeErrorMessage()}");
        }
        Address = (nint)(((nuint)_mapped + HugePage - 1) / HugePage * HugePage);
        _ = madvise((void*)Address, length, AdviseHugePages); // a wish; how much came true is in the report
        Span.Fill(float.NaN);
    }

    public HugeMemory(float[] values)
        : this(values.Length) => values.CopyTo(Span);

    public nint Address { get; }

    public int Count { get; }

    public long Bytes => (long)Count * sizeof(float);

    public Span<float> Span => new((void*)Address, Count);

    /// <summary>Bytes of this process that lie on huge pages now.</summary>
    public static long OfProcess() => Machine.Kibibytes("/proc/self/smaps_rollup", "AnonHugePages:") * 1024;

    /// <summary>ONNX Runtime's scratch comes from malloc, which takes huge pages only where it is told so when the process starts: where it was not, the
    /// process begins again, as it was but for that.</summary>
    public static void ForMalloc()
    {
        const string Variable = "GLIBC_TUNABLES", Huge = "glibc.malloc.hugetlb=1";
        string? given = Environment.GetEnvironmentVariable(Variable);
        if (given?.Contains("glibc.malloc.hugetlb", StringComparison.Ordinal) == true)
        {
            return;
        }
        string[] words = File.ReadAllText("/proc/self/cmdline").Split('\0')[..^1];
        List<string> environment = [$"{Variable}={(string.IsNullOrEmpty(given) ? Huge : $"{given}:{Huge}")}"];
        foreach (System.Collections.DictionaryEntry entry in Environment.GetEnvironmentVariables())
        {
            if ((string)entry.Key != Variable)
            {
                environment.Add($"{entry.Key}={entry.Value}");
            }
        }
        _ = execve("/proc/self/exe", [.. words, null], [.. environment, null]); // returns only where it failed, and then all is merely slower for the peer
    }

    /// <summary>[B, X, Y, D] to [B, Y, X, D].</summary>
    public HugeMemory Turned(int batch, int x, int y, int d)
    {
        HugeMemory turned = new(Count);
        for (int row = 0; row < batch * x * y; row++)
        {
            int b = row / (x * y), at = row % (x * y);
            Span.Slice(row * d, d).CopyTo(turned.Span[(((b * x * y) + (at % y * x) + (at / y)) * d)..]);
        }
        return turned;
    }

    public void Dispose() => _ = munmap(_mapped, _bytes);

    [LibraryImport("libc", SetLastError = true)]
    private static partial void* mmap(void* address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int execve(string path, string?[] arguments, string?[] environment);

    [LibraryImport("libc")]
    private static partial int munmap(void* address, nuint length);

    [LibraryImport("libc")]
    private static partial int madvise(void* address, nuint length, int advice);
}
