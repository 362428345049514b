using System.Runtime.InteropServices;

namespace Attention.Interop;

internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library)]
    internal static partial NativeStatus attn_device_count(int device_type, int* count, byte** why);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_context_create(NativeContextOptions* options, nint* context);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_context_destroy(nint context);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_cuda_describe(NativeCudaInfo* info);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_context_describe(ContextHandle context, NativeContextInfo* info);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_context_trim(ContextHandle context);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_stream_create(ContextHandle context, nint* stream);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_stream_wrap(ContextHandle context, void* native_stream, nint* stream);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_stream_destroy(nint stream);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_stream_synchronize(StreamHandle stream);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_stream_on_complete(
        StreamHandle stream, delegate* unmanaged[Cdecl]<nint, NativeStatus, byte*, void> fn, nint user);
}
