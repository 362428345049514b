using System.Runtime.InteropServices;

namespace Attention.Interop;

internal static unsafe partial class NativeMethods
{
    [LibraryImport(Library)]
    internal static partial NativeStatus attn_query(
        ContextHandle context, NativeProblem* problem, int backend, NativeRefusal* refusals, uint capacity, uint* count);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_plan_create(ContextHandle context, NativeProblem* problem, int backend, nint* plan);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_plan_destroy(nint plan);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_plan_describe(PlanHandle plan, NativePlanInfo* info);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_plan_warmup(PlanHandle plan);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_plan_workspace(PlanHandle plan, ulong* bytes);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_run(PlanHandle plan, NativeRunArgs* args);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_plan_tiles(PlanHandle plan, NativeRunArgs* args, NativeTiles* tiles);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_plan_tile_map(
        PlanHandle plan, NativeRunArgs* args, long batch, long head, byte* classes, ulong capacity, long* rows, long* columns);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_merge(
        ContextHandle context, NativeArray* o1, NativeArray* lse1, NativeArray* o2, NativeArray* lse2, NativeArray* o, NativeArray* lse);

    [LibraryImport(Library)]
    internal static partial NativeStatus attn_merge_on_stream(
        ContextHandle context, NativeArray* o1, NativeArray* lse1, NativeArray* o2, NativeArray* lse2, NativeArray* o, NativeArray* lse, StreamHandle stream);
}
