using System.Runtime.InteropServices;

namespace Attention.Interop;

/// <summary>The functions of attention.h, a file per chapter. The loader must have run (<see cref="NativeLoader.Load"/>) before the first of them.</summary>
internal static unsafe partial class NativeMethods
{
    internal const string Library = "attention";
    internal const uint AbiVersion = 1;

    [LibraryImport(Library)]
    internal static partial uint attn_abi_version();

    [LibraryImport(Library)]
    internal static partial byte* attn_build_info();

    [LibraryImport(Library)]
    internal static partial byte* attn_last_error();

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_layout(uint index, byte** structure, byte** field, uint* offset, uint* bytes);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_counters_read(NativeCounters* counters);
}
