/*
 * attention.h - the C ABI of the attention library: scaled dot-product attention in which a mask costs nothing.
 *
 *     O = softmax(mask(softcap(scale * Q K^T) + bias)) V,   LSE = log(sum(exp(scores)))
 *
 * The way of a call: describe a problem (attn_problem: sizes, strides, kinds of mask; no data), ask who takes it (attn_query), make a plan
 * (attn_plan_create; the caller names the backend), run it as often as wanted (attn_run: addresses and values).
 *
 * Conventions
 *  - Every function returns an attn_status. Nothing throws across this boundary and nothing aborts. attn_last_error() has the sentence for the calling
 *    thread's last failure: it names the parameter, its value and what was allowed. A failed call has changed nothing.
 *  - Structures begin with `uint32_t size` = sizeof(the structure) and grow at the end. Zero or null means "off" or "default". A non-zero field that the
 *    library does not know, or whose feature is not built yet, is refused by name.
 *  - Handles are opaque numbers of pointer size, never dereferenced. A null, stale or wrong-type handle is ATTN_INVALID_HANDLE. Handles may be used from any
 *    thread; each is destroyed once, in any order: children keep what they need of their context alive, and destroying never waits for a busy stream.
 *  - Sizes and strides are in elements, 64-bit. The stride of a dimension of size 1 means nothing. Stride 0 (broadcast) is legal for inputs, not for outputs.
 */
#ifndef ATTENTION_ATTENTION_H_
#define ATTENTION_ATTENTION_H_

#include <stdint.h>

#if defined(_WIN32)
#define ATTN_API __declspec(dllexport)
#else
#define ATTN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status -------------------------------------------------------------------------------------------------------------------------------------- */

#define ATTN_ABI_VERSION 1

typedef enum attn_status {
    ATTN_OK = 0,
    ATTN_INVALID_ARGUMENT = 1, /* a parameter is outside what is allowed; nothing was started */
    ATTN_INVALID_HANDLE = 2,   /* null, stale, or of another type */
    ATTN_REFUSED = 3,          /* the named backend does not take this problem; attn_query lists the reasons */
    ATTN_NOT_SUPPORTED = 4,    /* a field whose seat is reserved and whose feature is not built yet */
    ATTN_OUT_OF_MEMORY = 5,    /* the message says how much was asked for */
    ATTN_NO_DEVICE = 6,        /* the device does not exist, or this build cannot use it */
    ATTN_DEVICE_ERROR = 7,     /* the device's own error; the message has its name */
    ATTN_CANCELLED = 8,        /* the cancel flag was raised; the contents of the outputs are unspecified */
    ATTN_INTERNAL_ERROR = 9    /* a defect of this library */
} attn_status;

/* The ABI version the library was built with; equal to ATTN_ABI_VERSION of the header it belongs to. */
ATTN_API uint32_t attn_abi_version(void);

/* One line: library version, compiler, instruction sets compiled in. Static storage. */
ATTN_API const char* attn_build_info(void);

/* The sentence for the calling thread's last failed call; never null; valid until that thread's next call of the library. */
ATTN_API const char* attn_last_error(void);

/* The layout of this header's structures as the library was compiled: entry `index` = 0, 1, ... has a structure's and a field's name, the field's offset and
 * size in bytes; an entry whose field is "" has the structure's whole size. ATTN_INVALID_ARGUMENT past the end. Bindings compare theirs with it. */
ATTN_API attn_status attn_layout(uint32_t index, const char** structure, const char** field, uint32_t* offset, uint32_t* bytes);

typedef enum attn_dtype {
    ATTN_FLOAT32 = 1,
    ATTN_FLOAT16 = 2,
    ATTN_BFLOAT16 = 3,
    ATTN_FLOAT64 = 4, /* only the naive CPU backend, as a reference */
    ATTN_INT32 = 5,   /* lengths, offsets, prefixes, document ids */
    ATTN_UINT8 = 6    /* a keep mask: non-zero = takes part */
} attn_dtype;

/* ---- Devices and contexts ------------------------------------------------------------------------------------------------------------------------ */

typedef struct attn_context_t* attn_context;
typedef struct attn_stream_t* attn_stream;
typedef struct attn_tensor_t* attn_tensor;
typedef struct attn_mask_t* attn_mask;
typedef struct attn_plan_t* attn_plan;

typedef enum attn_device_type { ATTN_DEVICE_CPU = 0, ATTN_DEVICE_CUDA = 1 } attn_device_type;

/* How many devices of a type can be used. 0 is an answer, not an error; then `why` (if given) receives the reason, in static storage. */
ATTN_API attn_status attn_device_count(int32_t device_type, int32_t* count, const char** why);

/* CUDA as this process has it, opened when first asked for. Environment: ATTENTION_CUDA = the path of another driver library than the system's libcuda.so.1;
 * ATTENTION_NVRTC = of another NVRTC than the system's (CUDA 13, 12 or 11.2 on); ATTENTION_CACHE = the folder where compiled kernels are kept ("off": none),
 * by default attention/kernels in XDG_CACHE_HOME or ~/.cache; ATTENTION_CACHE_MB = its bound in MB, 256. */
typedef struct attn_cuda_info {
    uint32_t size;
    int32_t devices;        /* usable; 0: attn_device_count says why */
    int32_t driver_version; /* 12040: CUDA 12.4; 0: no driver */
    int32_t nvrtc_version;  /* likewise; 0: no NVRTC */
    char driver[256];       /* what was opened */
    char nvrtc[256];
    char cache_folder[512]; /* "": compiled kernels are not kept */
    char embedded[128];     /* architectures whose kernels the library carries compiled, e.g. "sm_80 sm_90a"; they need no NVRTC. "": none */
} attn_cuda_info;
ATTN_API attn_status attn_cuda_describe(attn_cuda_info* info);

typedef struct attn_context_options {
    uint32_t size;
    int32_t device_type;  /* attn_device_type */
    int32_t device;       /* ordinal among devices of that type */
    int32_t workers;      /* CPU: how many threads may compute at once, 1..1024; 0 = the CPU quota (cgroup cpu.max and affinity). Of no meaning to a GPU */
    void* native_context; /* CUDA: a CUcontext made by others, which outlives this context and all that is made in it; null = the device's primary context */
} attn_context_options;

/* A context owns a device's workers, scratch and streams. `options` null = the CPU with its defaults. The environment variable ATTENTION_CPU = avx512 | avx2 |
 * generic asks for an instruction set (ATTN_INVALID_ARGUMENT where this machine lacks it). */
ATTN_API attn_status attn_context_create(const attn_context_options* options, attn_context* context);
ATTN_API attn_status attn_context_destroy(attn_context context);

typedef struct attn_context_info {
    uint32_t size;
    int32_t device_type;
    int32_t device;
    int32_t workers;
    char device_name[64];
    char instruction_set[16]; /* CPU: avx512, avx2 or generic; CUDA: sm_NN */
    uint64_t scratch_bytes;   /* held for the workers and for workspaces between calls */
    uint64_t live_bytes;      /* owned by this context's tensors and masks */
    uint64_t memory_free;     /* of the device, in bytes */
    uint64_t memory_total;
} attn_context_info;
ATTN_API attn_status attn_context_describe(attn_context context, attn_context_info* info);

/* Gives back workspaces that no call is using. Workers' scratch stays. */
ATTN_API attn_status attn_context_trim(attn_context context);

/* ---- Streams ------------------------------------------------------------------------------------------------------------------------------------- */

/* What is put on one stream runs in order; streams run beside each other. */
ATTN_API attn_status attn_stream_create(attn_context context, attn_stream* stream);

/* A stream made by others: CUDA's CUstream. The caller keeps it alive. The CPU has none: ATTN_NOT_SUPPORTED. */
ATTN_API attn_status attn_stream_wrap(attn_context context, void* native_stream, attn_stream* stream);

/* Never waits: what was put on the stream is still done. */
ATTN_API attn_status attn_stream_destroy(attn_stream stream);

/* Waits until everything put on the stream so far is done. Returns the first failure since the last synchronize or completion, which is then forgotten. */
ATTN_API attn_status attn_stream_synchronize(attn_stream stream);

/* Calls fn(user, status, message) once, when everything put on the stream so far is done, from a thread of the library; status and message tell the first
 * failure since the last synchronize or completion. fn must return soon and must not wait for a stream. `message` lives as long as the call. */
typedef void (*attn_complete_fn)(void* user, attn_status status, const char* message);
ATTN_API attn_status attn_stream_on_complete(attn_stream stream, attn_complete_fn fn, void* user);

/* ---- Arrays and tensors -------------------------------------------------------------------------------------------------------------------------- */

/* An array in somebody's memory: an address with its description, or a tensor handle. It owns nothing. */
typedef struct attn_array {
    uint32_t size;
    int32_t dtype;
    int32_t rank;        /* 1..4 */
    int32_t device_type; /* where the memory is */
    int32_t device;
    int32_t has_strides; /* 0: contiguous, row-major */
    int64_t shape[4];    /* the first `rank` count */
    int64_t strides[4];  /* in elements */
    void* data;
    attn_tensor tensor; /* if given, everything above but `size` is ignored: the tensor says it, and a run keeps the tensor's memory until it is done */
} attn_array;

/* A tensor of `description`: with data null it owns new memory (64-byte aligned, contents undefined, contiguous); otherwise it borrows the caller's, which must
 * outlive the tensor. */
ATTN_API attn_status attn_tensor_create(attn_context context, const attn_array* description, attn_tensor* tensor);
ATTN_API attn_status attn_tensor_destroy(attn_tensor tensor);
ATTN_API attn_status attn_tensor_describe(attn_tensor tensor, attn_array* description);

/* Copies the whole of a contiguous tensor from or to host memory of `bytes` bytes (exactly its size). Returns when done. */
ATTN_API attn_status attn_tensor_upload(attn_tensor tensor, const void* source, uint64_t bytes);
ATTN_API attn_status attn_tensor_download(attn_tensor tensor, void* destination, uint64_t bytes);

/* ---- Masks --------------------------------------------------------------------------------------------------------------------------------------- */

/* Who sees whom: query i of batch b has position p = i + offset, key j. All masks given apply together. */
typedef enum attn_mask_kind {
    ATTN_MASK_KEY_LENGTHS = 1,   /* j < n[b];                               int32 [B], 0..Sk */
    ATTN_MASK_QUERY_LENGTHS = 2, /* i < m[b]; rows past it: O = 0, LSE = -inf; int32 [B], 0..Sq */
    ATTN_MASK_CAUSAL = 4,        /* j <= p */
    ATTN_MASK_WINDOW = 8,        /* p - left <= j <= p + right; -1 = unbounded */
    ATTN_MASK_PREFIX = 16,       /* j < f[b] or j <= p; takes causal's place; int32 [B], 0..Sk */
    ATTN_MASK_DOCUMENTS = 32,    /* q_documents[b,i] == k_documents[b,j] >= 0; int32 [B,Sq] and [B,Sk] */
    ATTN_MASK_KEEP = 64          /* keep[b,h,i,j] != 0; uint8, true = takes part; right-aligned, each dimension 1 or full */
} attn_mask_kind;

typedef enum attn_offset_kind {
    ATTN_OFFSET_TOP_LEFT = 0,     /* p = i */
    ATTN_OFFSET_BOTTOM_RIGHT = 1, /* p = i + n[b] - m[b] */
    ATTN_OFFSET_VALUE = 2,        /* p = i + a number given at run (a past length; may be negative) */
    ATTN_OFFSET_PER_BATCH = 3     /* p = i + an int32 [B] given at run */
} attn_offset_kind;

/* The values of a mask. `kinds` says which fields count; the others must be zero or null. */
typedef struct attn_mask_values {
    uint32_t size;
    uint32_t kinds; /* of attn_mask_kind */
    int64_t window_left, window_right;
    const attn_array* key_lengths;
    const attn_array* query_lengths;
    const attn_array* prefix;
    const attn_array* q_documents;
    const attn_array* k_documents;
    const attn_array* keep;
} attn_mask_values;

/* A mask prepared once for many runs: the values are copied, a keep mask is classed in cells of 64 x 64 and packed to one bit per score of its partial cells.
 * What is copied is what the arrays hold now; later changes are not seen. */
ATTN_API attn_status attn_mask_prepare(attn_context context, const attn_mask_values* values, attn_mask* mask);
ATTN_API attn_status attn_mask_destroy(attn_mask mask);

typedef struct attn_mask_info {
    uint32_t size;
    uint32_t kinds;
    int64_t keep_shape[4];        /* right-aligned; zeros: no keep mask */
    int64_t full, partial, empty; /* cells of the keep mask as it was given, a broadcast dimension counted once */
    uint64_t bytes;               /* that this mask holds */
} attn_mask_info;
ATTN_API attn_status attn_mask_describe(attn_mask mask, attn_mask_info* info);

/* ---- Problem, query, plan ------------------------------------------------------------------------------------------------------------------------ */

typedef enum attn_problem_flag {
    ATTN_HAS_STRIDES = 1,        /* q_strides .. o_strides count; otherwise all four are contiguous [B, H, S, D] */
    ATTN_HAS_SCALE = 2,          /* scale counts (zero and negative are legal); otherwise 1 / sqrt(D) */
    ATTN_WANT_LSE = 4,           /* run writes LSE [B, Hq, Sq] float32, contiguous */
    ATTN_WANT_PROBABILITIES = 8, /* run writes P [B, Hq, Sq, Sk] float32, contiguous; naive only */
    ATTN_DETERMINISTIC = 16      /* kernels are picked from Sq, Sk, D, Dv, dtype, kinds of mask and what strides rule out, never from B or heads */
} attn_problem_flag;

typedef enum attn_score_term { ATTN_TERM_BIAS = 1, ATTN_TERM_ALIBI = 2 } attn_score_term;

/* What is asked, without data: Q [B, Hq, Sq, D], K [B, Hkv, Sk, D], V [B, Hkv, Sk, Dv], O [B, Hq, Sq, Dv]. Hq is a multiple of Hkv; query head h reads key head
 * h / (Hq / Hkv). Dimensions of strides are in the order b, h, s, d whatever the layout in memory. */
typedef struct attn_problem {
    uint32_t size;
    int32_t dtype; /* of Q, K, V and O */
    uint32_t flags;
    uint32_t mask_kinds; /* of attn_mask_kind */
    int32_t offset_kind; /* attn_offset_kind */
    uint32_t terms;      /* of attn_score_term; both may be given together */
    int64_t batch, query_heads, key_heads, queries, keys, head_dim, value_dim;
    int64_t q_strides[4], k_strides[4], v_strides[4], o_strides[4];
    float scale;
    float softcap;         /* 0 = off; finite and > 0: S = softcap * tanh(S / softcap) */
    int64_t keep_shape[4]; /* with ATTN_MASK_KEEP: [B or 1, Hq or 1, Sq or 1, Sk or 1] */
    int64_t bias_shape[4]; /* with ATTN_TERM_BIAS: likewise */
    int32_t bias_dtype;    /* float32 or dtype; 0 = float32 */

    /* Seats kept for later; each is refused by name unless zero. */
    int32_t packed_sequences; /* sequence_starts_q, sequence_starts_k int32 [B + 1] at run */
    int32_t page_size;        /* page_table int32 [B, pages] at run */
    int32_t sinks;            /* sinks float32 [Hq] at run */
    float dropout;
    int32_t input_scales; /* scale_q, scale_k, scale_v float32 [B, Hkv] at run */
    int32_t output_dtype;
    int32_t score_function;
    int32_t direction; /* 0 = forward */
} attn_problem;

typedef enum attn_backend { ATTN_BACKEND_FLASH = 1, ATTN_BACKEND_MEMORY_EFFICIENT = 2, ATTN_BACKEND_NAIVE = 3 } attn_backend;

typedef enum attn_refusal_reason {
    ATTN_REFUSAL_DTYPE = 1,         /* float64 outside naive */
    ATTN_REFUSAL_PROBABILITIES = 2, /* probabilities outside naive */
    ATTN_REFUSAL_LAST_STRIDE = 3,   /* flash reads and writes rows whose elements lie side by side */
    ATTN_REFUSAL_HEAD_DIM = 4,      /* D above the kernel's largest */
    ATTN_REFUSAL_VALUE_DIM = 5,     /* Dv above the kernel's largest */
    ATTN_REFUSAL_ARCHITECTURE = 6,  /* the GPU is older than the kernel */
    ATTN_REFUSAL_ALIGNMENT = 7,     /* flash on a GPU copies rows in pieces of 16 bytes */
    ATTN_REFUSAL_SIZE = 8           /* more of something than a GPU's kernels count */
} attn_refusal_reason;

typedef struct attn_refusal {
    uint32_t size;
    int32_t reason; /* attn_refusal_reason */
    int64_t met;    /* the number met, e.g. a head dimension of 600 */
    int64_t limit;  /* what would have been taken, e.g. 512 */
    char text[224]; /* a sentence with both */
} attn_refusal;

/* Whether `backend` would take the problem: *count = 0, or how many reasons not; the first `capacity` of them go to `refusals` (null with capacity 0). This is
 * the one predicate: attn_plan_create asks it too. */
ATTN_API attn_status attn_query(attn_context context, const attn_problem* problem, int32_t backend, attn_refusal* refusals, uint32_t capacity, uint32_t* count);

/* A plan describes; it binds no address and no value. Immutable, usable from any number of threads at once. */
ATTN_API attn_status attn_plan_create(attn_context context, const attn_problem* problem, int32_t backend, attn_plan* plan);
ATTN_API attn_status attn_plan_destroy(attn_plan plan);

typedef struct attn_plan_info {
    uint32_t size;
    int32_t backend;
    char kernel[64]; /* e.g. cpu.flash.avx512 */
    int64_t tile_queries, tile_keys;
    int64_t key_chunk;        /* keys are split and merged in chunks of this many; 0: not split */
    uint64_t workspace_bytes; /* beyond the workers' scratch */
    char reason[160];         /* why it is not the kernel one would expect first, e.g. on Hopper not flash_sm90; empty: it is that one */
} attn_plan_info;
ATTN_API attn_status attn_plan_describe(attn_plan plan, attn_plan_info* info);

/* Does ahead what a first run would have to: threads, scratch, on a GPU compilation. */
ATTN_API attn_status attn_plan_warmup(attn_plan plan);

/* How many bytes a run needs beyond its operands; the caller may bring them (attn_run_args.workspace), otherwise the context keeps them. */
ATTN_API attn_status attn_plan_workspace(attn_plan plan, uint64_t* bytes);

/* ---- Run ----------------------------------------------------------------------------------------------------------------------------------------- */

/* What a run reports. tiles_visited is counted by the kernel as it goes, over batch x query heads x blocks. */
typedef struct attn_run_report {
    uint32_t size;
    uint32_t reserved;
    int64_t tiles_visited;
    int64_t mask_passes; /* 1 where this run classed and packed a keep mask */
} attn_run_report;

/* Addresses and values. Arrays are described as for the plan (checked), lengths and ids are checked against their ranges before anything starts. */
typedef struct attn_run_args {
    uint32_t size;
    uint32_t reserved;
    const attn_array* q;
    const attn_array* k;
    const attn_array* v;
    const attn_array* o;
    const attn_array* lse;           /* with ATTN_WANT_LSE */
    const attn_array* probabilities; /* with ATTN_WANT_PROBABILITIES */
    const attn_mask_values* mask;    /* the mask's values, or */
    attn_mask prepared;              /* a prepared mask; not both */
    const attn_array* bias;
    const attn_array* alibi_slopes; /* float32 [Hq]: adds -slope[h] * |p - j| */
    int64_t offset;                 /* with ATTN_OFFSET_VALUE */
    const attn_array* offsets;      /* with ATTN_OFFSET_PER_BATCH: int32 [B] */
    attn_stream stream; /* null: returns when the outputs are written; otherwise at once, and everything given stays alive until the stream is done */
    const volatile int32_t* cancel; /* polled between key blocks, on a GPU before each block of queries; non-zero: ATTN_CANCELLED. Refused under capture */
    void* workspace;                /* null: the context's own */
    uint64_t workspace_bytes;
    attn_run_report* report; /* written when the run is done */
} attn_run_args;
ATTN_API attn_status attn_run(attn_plan plan, const attn_run_args* args);

/* The tile map of a run that is not made: only the mask and the offset of `args` count. Waits for nothing; on a GPU it synchronizes. */
typedef struct attn_tiles {
    uint32_t size;
    uint32_t reserved;
    int64_t queries, keys;        /* of one tile */
    int64_t full, partial, empty; /* over batch x query heads x blocks */
} attn_tiles;
ATTN_API attn_status attn_plan_tiles(attn_plan plan, const attn_run_args* args, attn_tiles* tiles);

/* Of one batch and query head: rows x columns classes, row-major: 0 empty, 1 partial, 2 full. `classes` null asks for the sizes only. */
ATTN_API attn_status attn_plan_tile_map(attn_plan plan, const attn_run_args* args, int64_t batch, int64_t head, uint8_t* classes, uint64_t capacity,
                                        int64_t* rows, int64_t* columns);

/* Two attentions of the same queries over disjoint keys become one: LSE = log(exp(LSE1) + exp(LSE2)), O = exp(LSE1 - LSE) O1 + exp(LSE2 - LSE) O2. O is
 * float32, float16 or bfloat16 [B, H, S, Dv], LSE contiguous float32 [B, H, S]; rows that saw nothing (-inf) add nothing. o may be o1 or o2, lse may be lse1 or
 * lse2; `lse` may be null. Returns when the outputs are written, as a run without a stream does. On a GPU all arrays lie on the context's device. */
ATTN_API attn_status attn_merge(attn_context context, const attn_array* o1, const attn_array* lse1, const attn_array* o2, const attn_array* lse2,
                                const attn_array* o, const attn_array* lse);

/* The same in the order of a stream of `context`: returns at once, and everything given stays alive until the stream is done; null: as attn_merge. */
ATTN_API attn_status attn_merge_on_stream(attn_context context, const attn_array* o1, const attn_array* lse1, const attn_array* o2, const attn_array* lse2,
                                          const attn_array* o, const attn_array* lse, attn_stream stream);

/* ---- Counters ------------------------------------------------------------------------------------------------------------------------------------ */

/* Of the whole process, for tests that nothing leaks and that work is not done twice. */
typedef struct attn_counters {
    uint32_t size;
    uint32_t reserved;
    int64_t live_contexts, live_streams, live_tensors, live_masks, live_plans;
    int64_t live_bytes;        /* owned by tensors and masks */
    int64_t runs;              /* finished, since the process began */
    int64_t mask_passes;       /* passes over a dense keep mask, since the process began */
    int64_t kernels_compiled;  /* by NVRTC, since the process began */
    int64_t kernels_from_disk; /* found compiled in the cache folder, since the process began */
    int64_t kernels_embedded;  /* found compiled in the library, since the process began */
} attn_counters;
ATTN_API attn_status attn_counters_read(attn_counters* counters);

#ifdef __cplusplus
}
#endif
#endif
