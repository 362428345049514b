using System.Runtime.InteropServices;

namespace Attention.Interop;

internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library)]
    internal static partial NativeStatus attn_tensor_create(ContextHandle context, NativeArray* description, nint* tensor);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_tensor_destroy(nint tensor);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_tensor_describe(TensorHandle tensor, NativeArray* description);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_tensor_upload(TensorHandle tensor, void* source, ulong bytes);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_tensor_download(TensorHandle tensor, void* destination, ulong bytes);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_mask_prepare(ContextHandle context, NativeMaskValues* values, nint* mask);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_mask_destroy(nint mask);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_mask_describe(MaskHandle mask, NativeMaskInfo* info);
}
