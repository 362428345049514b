"""The C ABI (native/include/attention/attention.h) through ctypes: structures checked against the library, handles, runs. No package is needed."""

import ctypes as c
import os
import pathlib

FLOAT32, FLOAT16, BFLOAT16, FLOAT64, INT32, UINT8 = range(1, 7)
BYTES = {FLOAT32: 4, FLOAT16: 2, BFLOAT16: 2, FLOAT64: 8, INT32: 4, UINT8: 1}
CPU, CUDA = 0, 1
KEY_LENGTHS, QUERY_LENGTHS, CAUSAL, WINDOW, PREFIX, DOCUMENTS, KEEP = 1, 2, 4, 8, 16, 32, 64
TOP_LEFT, BOTTOM_RIGHT, VALUE, PER_BATCH = range(4)
HAS_STRIDES, HAS_SCALE, WANT_LSE, WANT_PROBABILITIES, DETERMINISTIC = 1, 2, 4, 8, 16
BIAS, ALIBI = 1, 2
FLASH, MEMORY_EFFICIENT, NAIVE = 1, 2, 3
INVALID_ARGUMENT = 1

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _structure(name, *fields):
    """A structure of the header. A field is "name: type", the type in C's words."""
    types = {"u32": c.c_uint32, "i32": c.c_int32, "i64": c.c_int64, "u64": c.c_uint64, "f32": c.c_float, "pointer": c.c_void_p}
    list_of_fields = []
    for field in fields:
        names, kind = (part.strip() for part in field.split(":"))
        kind, _, count = kind.partition("*")
        if kind.startswith("char"):
            kind_type = c.c_char * int(count)
        else:
            kind_type = types[kind] * int(count) if count else types[kind]
        list_of_fields += [(one.strip(), kind_type) for one in names.split(",")]
    made = type(name, (c.Structure,), {"_fields_": list_of_fields})

    def __init__(self, **values):  # every structure says its own size
        c.Structure.__init__(self, c.sizeof(made), **values)

    made.__init__ = __init__
    return made


CudaInfo = _structure("attn_cuda_info", "size: u32", "devices, driver_version, nvrtc_version: i32", "driver, nvrtc: char*256", "cache_folder: char*512",
                      "embedded: char*128")
ContextOptions = _structure("attn_context_options", "size: u32", "device_type, device, workers: i32", "native_context: pointer")
ContextInfo = _structure("attn_context_info", "size: u32", "device_type, device, workers: i32", "device_name: char*64", "instruction_set: char*16",
                         "scratch_bytes, live_bytes, memory_free, memory_total: u64")
Array = _structure("attn_array", "size: u32", "dtype, rank, device_type, device, has_strides: i32", "shape, strides: i64*4", "data, tensor: pointer")
MaskValues = _structure("attn_mask_values", "size, kinds: u32", "window_left, window_right: i64",
                        "key_lengths, query_lengths, prefix, q_documents, k_documents, keep: pointer")
MaskInfo = _structure("attn_mask_info", "size, kinds: u32", "keep_shape: i64*4", "full, partial, empty: i64", "bytes: u64")
Problem = _structure("attn_problem", "size: u32", "dtype: i32", "flags, mask_kinds: u32", "offset_kind: i32", "terms: u32",
                     "batch, query_heads, key_heads, queries, keys, head_dim, value_dim: i64", "q_strides, k_strides, v_strides, o_strides: i64*4",
                     "scale, softcap: f32", "keep_shape, bias_shape: i64*4", "bias_dtype, packed_sequences, page_size, sinks: i32", "dropout: f32",
                     "input_scales, output_dtype, score_function, direction: i32")
Refusal = _structure("attn_refusal", "size: u32", "reason: i32", "met, limit: i64", "text: char*224")
PlanInfo = _structure("attn_plan_info", "size: u32", "backend: i32", "kernel: char*64", "tile_queries, tile_keys, key_chunk: i64", "workspace_bytes: u64",
                      "reason: char*160")
RunReport = _structure("attn_run_report", "size, reserved: u32", "tiles_visited, mask_passes: i64")
RunArgs = _structure("attn_run_args", "size, reserved: u32", "q, k, v, o, lse, probabilities, mask, prepared, bias, alibi_slopes: pointer", "offset: i64",
                     "offsets, stream, cancel, workspace: pointer", "workspace_bytes: u64", "report: pointer")
Tiles = _structure("attn_tiles", "size, reserved: u32", "queries, keys, full, partial, empty: i64")
Counters = _structure("attn_counters", "size, reserved: u32", "live_contexts, live_streams, live_tensors, live_masks, live_plans, live_bytes, runs: i64",
                      "mask_passes, kernels_compiled, kernels_from_disk, kernels_embedded: i64")
STRUCTURES = [CudaInfo, ContextOptions, ContextInfo, Array, MaskValues, MaskInfo, Problem, Refusal, PlanInfo, RunReport, RunArgs, Tiles, Counters]


class AttentionError(RuntimeError):
    """A call of the library failed; the message is the library's own."""

    def __init__(self, status, message):
        super().__init__(f"{message} (status {status})")
        self.status = status


def library_path():
    """ATTENTION_LIBRARY, else the newest libattention.so that was built in this checkout."""
    given = os.environ.get("ATTENTION_LIBRARY")
    if given:
        return given
    built = sorted(ROOT.glob("build/*/native/libattention.so"), key=lambda path: path.stat().st_mtime)
    if not built:
        raise FileNotFoundError(f"no build/*/native/libattention.so below {ROOT}; build the library, or name one by ATTENTION_LIBRARY")
    return str(built[-1])


class Library:
    """The library, opened, its layout compared with this file's."""

    def __init__(self, path=None):
        self.path = path or library_path()
        self._native = c.CDLL(self.path)
        self._native.attn_build_info.restype = self._native.attn_last_error.restype = c.c_char_p
        self.attn_run = self._native.attn_run
        self.attn_run.argtypes = [c.c_void_p, c.c_void_p]  # the one call whose time is measured
        self.check_layout()

    def call(self, name, *arguments):
        """Calls attn_<name>; raises what the library says if that fails."""
        status = getattr(self._native, "attn_" + name)(*arguments)
        if status:
            raise AttentionError(status, self.last_error())

    def last_error(self):
        return self._native.attn_last_error().decode()

    def build_info(self):
        return self._native.attn_build_info().decode()

    def layout(self):
        """{(structure, field): (offset, bytes)} as the library was compiled; the field "" is the whole structure."""
        found, index = {}, 0
        structure, field, offset, size = c.c_char_p(), c.c_char_p(), c.c_uint32(), c.c_uint32()
        while not self._native.attn_layout(c.c_uint32(index), c.byref(structure), c.byref(field), c.byref(offset), c.byref(size)):
            found[structure.value.decode(), field.value.decode()] = (offset.value, size.value)
            index += 1
        return found

    def check_layout(self):
        theirs, ours = self.layout(), {}
        for structure in STRUCTURES:
            ours[structure.__name__, ""] = (0, c.sizeof(structure))
            for name, _ in structure._fields_:
                field = getattr(structure, name)
                ours[structure.__name__, name] = (field.offset, field.size)
        differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if differing:
            lines = [f"{'.'.join(key).rstrip('.')}: here {ours.get(key)}, in {self.path} {theirs.get(key)}" for key in differing]
            raise AttentionError(INVALID_ARGUMENT, "the layouts differ (offset, bytes): " + "; ".join(lines))

    def devices(self, device_type):
        """How many devices can be used and, if none, why."""
        count, why = c.c_int32(), c.c_char_p()
        self.call("device_count", c.c_int32(device_type), c.byref(count), c.byref(why))
        return count.value, (why.value or b"").decode()

    def cuda(self):
        info = CudaInfo()
        self.call("cuda_describe", c.byref(info))
        return info

    def counters(self):
        counters = Counters()
        self.call("counters_read", c.byref(counters))
        return counters


class Context:
    """A device's context: the CPU's, or the primary one of a GPU."""

    def __init__(self, library, device_type=CPU, device=0, workers=0):
        self.library, self.device_type, self.device = library, device_type, device
        self.handle = c.c_void_p()
        options = ContextOptions(device_type=device_type, device=device, workers=workers)
        library.call("context_create", c.byref(options), c.byref(self.handle))

    def describe(self):
        info = ContextInfo()
        self.library.call("context_describe", self.handle, c.byref(info))
        return info

    def wrap_stream(self, native):
        """A stream made by others, as the library's."""
        stream = c.c_void_p()
        self.library.call("stream_wrap", self.handle, c.c_void_p(native), c.byref(stream))
        return stream

    def synchronize(self, stream):
        self.library.call("stream_synchronize", stream)

    def prepare(self, mask):
        handle = c.c_void_p()
        self.library.call("mask_prepare", self.handle, c.byref(mask.values), c.byref(handle))
        return handle

    def refusals(self, problem, backend):
        """What `backend` says against the problem; empty: it takes it."""
        refusals, count = (Refusal * 8)(*[Refusal() for _ in range(8)]), c.c_uint32()
        self.library.call("query", self.handle, c.byref(problem), c.c_int32(backend), refusals, c.c_uint32(8), c.byref(count))
        return [refusal.text.decode() for refusal in refusals[:count.value]]

    def plan(self, problem, backend=FLASH):
        return Plan(self, problem, backend)

    def trim(self):
        self.library.call("context_trim", self.handle)

    def destroy(self):
        self.library.call("context_destroy", self.handle)


class Plan:
    """What runs a problem, on the backend that was named."""

    def __init__(self, context, problem, backend):
        self.context, self.problem, self.handle = context, problem, c.c_void_p()
        context.library.call("plan_create", context.handle, c.byref(problem), c.c_int32(backend), c.byref(self.handle))

    def describe(self):
        info = PlanInfo()
        self.context.library.call("plan_describe", self.handle, c.byref(info))
        return info

    def kernel(self):
        return self.describe().kernel.decode()

    def warm_up(self):
        self.context.library.call("plan_warmup", self.handle)

    def tiles(self, args):
        tiles = Tiles()
        self.context.library.call("plan_tiles", self.handle, c.byref(args), c.byref(tiles))
        return tiles

    def run(self, args):
        library = self.context.library
        status = library.attn_run(self.handle, c.byref(args))
        if status:
            raise AttentionError(status, library.last_error())

    def destroy(self):
        self.context.library.call("plan_destroy", self.handle)


def array(dtype, shape, data, strides=None, device_type=CPU, device=0):
    """A description of `shape` elements at the address `data`; strides in elements, none: contiguous."""
    a = Array(dtype=dtype, rank=len(shape), device_type=device_type, device=device, has_strides=int(strides is not None), data=data)
    a.shape[:len(shape)] = list(shape)
    if strides is not None:
        a.strides[:len(shape)] = list(strides)
    return a


class Mask:
    """Values of a mask. Arrays are kept as long as this is; a window is (left, right)."""

    def __init__(self, causal=False, window=None, keep=None, key_lengths=None, query_lengths=None, prefix=None, documents=None):
        self.keep = keep
        self.values = MaskValues()
        kinds = (CAUSAL if causal else 0) | (WINDOW if window else 0)
        if window:
            self.values.window_left, self.values.window_right = window
        self._arrays = {}
        for kind, field, value in ((KEEP, "keep", keep), (KEY_LENGTHS, "key_lengths", key_lengths), (QUERY_LENGTHS, "query_lengths", query_lengths),
                                   (PREFIX, "prefix", prefix), (DOCUMENTS, "q_documents", documents and documents[0]),
                                   (DOCUMENTS, "k_documents", documents and documents[1])):
            if value is None:
                continue
            kinds |= kind
            self._arrays[field] = value
            setattr(self.values, field, c.addressof(value))
        self.values.kinds = kinds


def problem(dtype, q, k, v, o, mask=None, scale=None, lse=False, offset_kind=TOP_LEFT):
    """The problem of four arrays [B, H, S, D] and a mask."""
    p = Problem(dtype=dtype, flags=HAS_STRIDES | (WANT_LSE if lse else 0) | (HAS_SCALE if scale is not None else 0), offset_kind=offset_kind,
                batch=q.shape[0], query_heads=q.shape[1], key_heads=k.shape[1], queries=q.shape[2], keys=k.shape[2], head_dim=q.shape[3], value_dim=v.shape[3],
                scale=scale or 0)
    for field, a in (("q_strides", q), ("k_strides", k), ("v_strides", v), ("o_strides", o)):
        inner, strides = 1, list(a.strides)
        if not a.has_strides:
            for d in (3, 2, 1, 0):
                strides[d], inner = inner, inner * a.shape[d]
        getattr(p, field)[:] = strides
    if mask is not None:
        p.mask_kinds = mask.values.kinds
        if mask.keep is not None:
            shape = list(mask.keep.shape[:mask.keep.rank])
            p.keep_shape[:] = [1] * (4 - len(shape)) + shape
    return p


def run_args(q, k, v, o, lse=None, mask=None, prepared=None, stream=None, report=None):
    """The arguments of a run. What they point to is kept with them."""
    args = RunArgs(q=c.addressof(q), k=c.addressof(k), v=c.addressof(v), o=c.addressof(o))
    args.kept = (q, k, v, o, lse, mask, report)
    if lse is not None:
        args.lse = c.addressof(lse)
    if prepared is not None:
        args.prepared = prepared
    elif mask is not None:
        args.mask = c.addressof(mask.values)
    if stream is not None:
        args.stream = stream
    if report is not None:
        args.report = c.addressof(report)
    return args
