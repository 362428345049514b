using System.Globalization;
using System.Runtime.InteropServices;

namespace Attention.Interop;

/// <summary>The one table from a status of the native library to an exception.</summary>
internal static unsafe class Status
{
    internal static void Check(NativeStatus status, string? parameter = null, ContextHandle? context = null)
    {
        if (status != NativeStatus.Ok)
        {
            throw Exception(status, Text(NativeMethods.attn_last_error()), parameter, context);
        }
    }

    /// <summary>The exception of a failure. <paramref name="parameter"/>: the caller's parameter, where the message does not begin with its name;
    /// <paramref name="context"/>: whose memory it was about.</summary>
    internal static Exception Exception(NativeStatus status, string message, string? parameter = null, ContextHandle? context = null) => status switch
    {
        NativeStatus.InvalidArgument => new ArgumentException(message, Parameter(message) ?? parameter),
        NativeStatus.InvalidHandle => new ObjectDisposedException(Parameter(message) ?? parameter, message),
        NativeStatus.Refused => new BackendRefusedException(message, []),
        NativeStatus.NotSupported => new NotSupportedException(message),
        NativeStatus.OutOfMemory => new DeviceOutOfMemoryException(message, Number(message), Free(context)),
        NativeStatus.NoDevice => new CudaException(message, 100, "CUDA_ERROR_NO_DEVICE"),
        NativeStatus.DeviceError => new CudaException(message, (int)(Number(message) ?? 999), CudaName(message)),
        NativeStatus.Cancelled => new OperationCanceledException(message),
        _ => new AttentionLibraryException($"The native library failed ({status}): {message}", []),
    };

    /// <summary>A text that the library owns.</summary>
    internal static string Text(byte* text) => Marshal.PtrToStringUTF8((nint)text) ?? "";

    /// <summary>What the C ABI calls it, in the words of this API; the library's sentences begin with the parameter.</summary>
    private static string? Parameter(string message)
    {
        int end = 0;
        while (end < message.Length && (char.IsAsciiLetterLower(message[end]) || message[end] is '_' or '.' || (end > 0 && char.IsAsciiDigit(message[end]))))
        {
            ++end;
        }
        return message[..end].Split('.') switch
        {
            ["q", ..] => "q",
            ["k", ..] => "k",
            ["v", ..] => "v",
            ["o", ..] => "output",
            ["lse", ..] => "logSumExp",
            ["o1", ..] => "output1",
            ["o2", ..] => "output2",
            ["lse1", ..] => "logSumExp1",
            ["lse2", ..] => "logSumExp2",
            ["probabilities", ..] => "probabilities",
            ["mask", ..] or ["args", "mask" or "prepared", ..] => "mask",
            ["bias", ..] or ["alibi_slopes", ..] => "bias",
            ["args", "offset" or "offsets", ..] => "offset",
            ["problem", ..] => "problem",
            ["options", ..] => "options",
            ["description", ..] => "shape",
            ["plan"] => "plan",
            ["context"] => "context",
            ["stream"] => "stream",
            ["tensor"] => "tensor",
            ["batch"] => "batch",
            ["head"] => "head",
            _ => null,
        };
    }

    private static long? Free(ContextHandle? context)
    {
        NativeContextInfo info = new() { size = (uint)sizeof(NativeContextInfo) };
        return context is { IsClosed: false } && NativeMethods.attn_context_describe(context, &info) == NativeStatus.Ok ? (long)info.memory_free : null;
    }

    private static long? Number(string message)
    {
        int begin = message.AsSpan().IndexOfAnyInRange('0', '9');
        if (begin < 0)
        {
            return null;
        }
        int end = begin;
        while (end < message.Length && char.IsAsciiDigit(message[end]))
        {
            ++end;
        }
        return long.TryParse(message.AsSpan(begin, end - begin), NumberStyles.None, CultureInfo.InvariantCulture, out long n) ? n : null;
    }

    private static string CudaName(string message)
    {
        int begin = message.IndexOf("CUDA_ERROR_", StringComparison.Ordinal);
        if (begin < 0)
        {
            return "CUDA_ERROR_UNKNOWN";
        }
        int end = begin;
        while (end < message.Length && (char.IsAsciiLetterUpper(message[end]) || char.IsAsciiDigit(message[end]) || message[end] == '_'))
        {
            ++end;
        }
        return message[begin..end];
    }
}
