namespace Attention.Interop;

/// <summary>attn_status.</summary>
internal enum NativeStatus
{
    Ok = 0,
    InvalidArgument = 1,
    InvalidHandle = 2,
    Refused = 3,
    NotSupported = 4,
    OutOfMemory = 5,
    NoDevice = 6,
    DeviceError = 7,
    Cancelled = 8,
    InternalError = 9,
}

/// <summary>attn_problem_flag.</summary>
[Flags]
internal enum ProblemFlags : uint
{
    HasStrides = 1,
    HasScale = 2,
    WantLse = 4,
    WantProbabilities = 8,
    Deterministic = 16,
}

/// <summary>attn_score_term.</summary>
[Flags]
internal enum ScoreTerms : uint
{
    Bias = 1,
    Alibi = 2,
}

// The header's structures, field by field. A test compares every offset with what attn_layout tells of the loaded library.

internal unsafe struct NativeCudaInfo
{
    public uint size;
    public int devices;
    public int driver_version;
    public int nvrtc_version;
    public fixed byte driver[256];
    public fixed byte nvrtc[256];
    public fixed byte cache_folder[512];
    public fixed byte embedded[128];
}

internal unsafe struct NativeContextOptions
{
    public uint size;
    public int device_type;
    public int device;
    public int workers;
    public void* native_context;
}

internal unsafe struct NativeContextInfo
{
    public uint size;
    public int device_type;
    public int device;
    public int workers;
    public fixed byte device_name[64];
    public fixed byte instruction_set[16];
    public ulong scratch_bytes;
    public ulong live_bytes;
    public ulong memory_free;
    public ulong memory_total;
}

internal unsafe struct NativeArray
{
    public uint size;
    public int dtype;
    public int rank;
    public int device_type;
    public int device;
    public int has_strides;
    public fixed long shape[4];
    public fixed long strides[4];
    public void* data;
    public nint tensor;
}

internal unsafe struct NativeMaskValues
{
    public uint size;
    public uint kinds;
    public long window_left;
    public long window_right;
    public NativeArray* key_lengths;
    public NativeArray* query_lengths;
    public NativeArray* prefix;
    public NativeArray* q_documents;
    public NativeArray* k_documents;
    public NativeArray* keep;
}

internal unsafe struct NativeMaskInfo
{
    public uint size;
    public uint kinds;
    public fixed long keep_shape[4];
    public long full;
    public long partial;
    public long empty;
    public ulong bytes;
}

internal unsafe struct NativeProblem
{
    public uint size;
    public int dtype;
    public uint flags;
    public uint mask_kinds;
    public int offset_kind;
    public uint terms;
    public long batch;
    public long query_heads;
    public long key_heads;
    public long queries;
    public long keys;
    public long head_dim;
    public long value_dim;
    public fixed long q_strides[4];
    public fixed long k_strides[4];
    public fixed long v_strides[4];
    public fixed long o_strides[4];
    public float scale;
    public float softcap;
    public fixed long keep_shape[4];
    public fixed long bias_shape[4];
    public int bias_dtype;
    public int packed_sequences;
    public int page_size;
    public int sinks;
    public float dropout;
    public int input_scales;
    public int output_dtype;
    public int score_function;
    public int direction;
}

internal unsafe struct NativeRefusal
{
    public uint size;
    public int reason;
    public long met;
    public long limit;
    public fixed byte text[224];
}

internal unsafe struct NativePlanInfo
{
    public uint size;
    public int backend;
    public fixed byte kernel[64];
    public long tile_queries;
    public long tile_keys;
    public long key_chunk;
    public ulong workspace_bytes;
    public fixed byte reason[160];
}

internal struct NativeRunReport
{
    public uint size;
    public uint reserved;
    public long tiles_visited;
    public long mask_passes;
}

internal unsafe struct NativeRunArgs
{
    public uint size;
    public uint reserved;
    public NativeArray* q;
    public NativeArray* k;
    public NativeArray* v;
    public NativeArray* o;
    public NativeArray* lse;
    public NativeArray* probabilities;
    public NativeMaskValues* mask;
    public nint prepared;
    public NativeArray* bias;
    public NativeArray* alibi_slopes;
    public long offset;
    public NativeArray* offsets;
    public nint stream;
    public int* cancel;
    public void* workspace;
    public ulong workspace_bytes;
    public NativeRunReport* report;
}

internal struct NativeTiles
{
    public uint size;
    public uint reserved;
    public long queries;
    public long keys;
    public long full;
    public long partial;
    public long empty;
}

internal struct NativeCounters
{
    public uint size;
    public uint reserved;
    public long live_contexts;
    public long live_streams;
    public long live_tensors;
    public long live_masks;
    public long live_plans;
    public long live_bytes;
    public long runs;
    public long mask_passes;
    public long kernels_compiled;
    public long kernels_from_disk;
    public long kernels_embedded;
}
