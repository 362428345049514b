#include "plan.hpp"

#include <algorithm>

#include "compile.hpp"

namespace attn::cuda {
namespace {

constexpr int64_t kMaxDim = 256;            // the widest flash rows
constexpr int64_t kMaxGrid = 65535;         // blocks in y (heads) and z (batches)
constexpr int64_t kMaxPackedKeys = 1 << 28; // a tile's words lie within 32 bits of its first
constexpr int64_t kMaxLength = 1 << 30;     // kernels count queries and keys in 32 bits, whole tiles beyond the last included
constexpr uint32_t kPerBatch = 1 | 2 | 16;  // of attn_mask_kind
// One query block leaves most of a GPU idle, so its keys are split. By Sq alone: a sequence's bits do not depend on its batch. In chunks of 512 the eight key
// heads of one sequence of 8192 are 128 blocks, and the partial results to merge are less than 2 % of the bytes of K and V. Not yet measured.
constexpr int64_t kSplitQueries = 16, kChunkKeys = 512;

std::string number(int64_t n) { return std::to_string(n); }

bool needs_packing(const Problem& p) { return p.masks & (kKeep | kDocuments); }
bool mask_by_head(const Problem& p) { return (p.masks & kKeep) && p.keep_shape[1] > 1; }
bool termed(const Problem& p) { return !(p.scale > 0) || p.softcap > 0 || p.bias || p.alibi; }

const char* short_name(DType t) { return t == DType::f16 ? "fp16" : t == DType::bf16 ? "bf16" : "f32"; }
// Of kernels.def: the narrowest class that D and Dv fit; of its tiles the shortest that hold all rows, else the tallest.
const kernels::Row* flash_row(const Problem& p, const std::string& kernel, int64_t row_count) {
    const std::string tail = std::string(".").append(short_name(p.dtype)).append(needs_packing(p) ? ".packed" : ".rule");
    const kernels::Row* best = nullptr;
    for (const kernels::Row& row : rows()) {
        const bool taken =
            row.name.rfind(kernel, 0) == 0 && row.name.find(tail) != std::string::npos && row.termed == termed(p) && row.D >= std::max(p.D, p.Dv);
        if (!taken || (best && row.D > best->D)) continue;
        const auto holds = [&](const kernels::Row& r) { return r.block_m >= row_count; };
        const auto better = [&](const kernels::Row& r) { return holds(r) != holds(*best) ? holds(r) : holds(r) == (r.block_m < best->block_m); };
        if (!best || row.D < best->D || better(row)) best = &row;
    }
    return best;
}
const kernels::Row* row_named(const std::string& name) {
    for (const kernels::Row& row : rows())
        if (row.name == name) return &row;
    return nullptr;
}

struct Operand {
    const char* name;
    Strides stride;
    int64_t heads, rows, columns;
};
std::vector<Operand> operands(const Problem& p) {
    return {{"q", p.q, p.Hq, p.Sq, p.D}, {"k", p.k, p.Hkv, p.Sk, p.D}, {"v", p.v, p.Hkv, p.Sk, p.Dv}, {"o", p.o, p.Hq, p.Sq, p.Dv}};
}

void refuse_sizes(const Problem& p, Refusals& found) {
    const auto most = [&](const char* what, int64_t met, int64_t limit) {
        if (met > limit)
            found.push_back({Reason::size, met, limit, std::string(what) + " is " + number(met) + "; at most " + number(limit) + " is taken by a GPU"});
    };
    most("the batch", p.B, kMaxGrid);
    most("the number of query heads", p.Hq, kMaxGrid);
    most("the number of queries", p.Sq, kMaxLength);
    most("the number of keys", p.Sk, kMaxLength);
}

void refuse_dtype(const Problem& p, bool tensor_cores, Refusals& found) {
    const bool taken = p.dtype == DType::f16 || p.dtype == DType::bf16 || (!tensor_cores && p.dtype == DType::f32);
    if (taken) return;
    found.push_back({Reason::dtype, int64_t(p.dtype), int64_t(DType::bf16),
                     std::string("the dtype is ") + name_of(p.dtype) + " (" + number(int64_t(p.dtype)) +
                         (tensor_cores ? "); float16 or bfloat16 (2 or 3) is taken: flash computes on tensor cores"
                                       : "); float32, float16 or bfloat16 (1 to 3) is taken: on a GPU nothing computes in double precision")});
}

void refuse_flash(const Problem& p, const Target& target, Refusals& found) {
    if (target.arch < 80)
        found.push_back(
            {Reason::architecture, target.arch, 80, "the GPU is sm_" + number(target.arch) + "; sm_80 or newer is taken: flash needs its tensor cores"});
    for (const auto& [what, met, reason] : {std::tuple{"the head dimension", p.D, Reason::head_dim}, {"the value dimension", p.Dv, Reason::value_dim}})
        if (met > kMaxDim) found.push_back({reason, met, kMaxDim, std::string(what) + " is " + number(met) + "; at most " + number(kMaxDim) + " is taken"});
    for (const Operand& t : operands(p))
        if (t.stride.column != 1)
            found.push_back(
                {Reason::last_stride, t.stride.column, 1,
                 std::string("the last stride of ") + t.name + " is " + number(t.stride.column) + "; only 1 is taken: flash reads and writes whole rows"});
    for (const Operand& t : operands(p))
        for (const auto& [name, stride] : {std::pair{"row", t.stride.row}, {"head", t.stride.head}, {"batch", t.stride.batch}})
            if (stride % 8)
                found.push_back({Reason::alignment, stride, 8,
                                 std::string("the ") + name + " stride of " + t.name + " is " + number(stride) +
                                     "; a multiple of 8 is taken: flash copies rows in pieces of 16 bytes"});
}

// Why Hopper's own kernel does not take it; empty: it does.
std::string not_for_hopper(const Problem& p, const Target& target) {
    if (target.arch != 90) return "";
    if (!target.hopper_compiles) return "flash_sm90 needs NVRTC 12 or newer";
    if (termed(p)) return "flash_sm90 takes a positive scale and no softcap, bias or ALiBi";
    if (p.Sq <= kSplitQueries) return "flash_sm90 does not split keys, as up to " + number(kSplitQueries) + " queries want";
    if (!p.Sk) return "flash_sm90 needs a key";
    if (p.D % 8 || p.Dv % 8) return "flash_sm90 takes head dimensions in multiples of 8";
    for (const Operand& t : operands(p))
        for (const auto& [name, stride, count] : {std::tuple{"row", t.stride.row, t.rows}, {"head", t.stride.head, t.heads}, {"batch", t.stride.batch, p.B}})
            if (count > 1 && (stride <= 0 || stride >= int64_t(1) << 39))
                return std::string("flash_sm90's tensor maps take positive strides; the ") + name + " stride of " + t.name + " is " + number(stride);
    return "";
}

void choose_flash(const Problem& p, const Target& target, Choice& c) {
    c.reason = not_for_hopper(p, target);
    c.hopper = target.arch == 90 && c.reason.empty();
    // Not with slopes, which go by head, nor where each head has a mask of its own and visits tiles of its own; nor where the number of heads may not matter.
    c.heads_as_rows = !c.hopper && p.Sq == 1 && p.group() > 1 && !p.alibi && !mask_by_head(p) && !p.deterministic;
    c.row = flash_row(p, c.hopper ? "flash_sm90" : "flash_sm80", c.heads_as_rows ? p.group() : p.Sq);
    if (!c.hopper && p.Sq <= kSplitQueries && p.Sk > kChunkKeys) {
        c.chunk_keys = int(kChunkKeys);
        c.chunks = int(kernels::blocks_of(p.Sk, kChunkKeys));
        c.key_chunk = kChunkKeys;
    }
}

} // namespace

Selection select(const Problem& p, Backend backend, const Target& target) {
    Selection s;
    const bool flash = backend == Backend::flash;
    refuse_dtype(p, flash, s.refusals);
    if (p.probabilities && backend != Backend::naive)
        s.refusals.push_back({Reason::probabilities, 1, 0, "the number of probability outputs is 1; only 0 is taken: only naive keeps the scores of all keys"});
    refuse_sizes(p, s.refusals);
    if (flash) refuse_flash(p, target, s.refusals);
    if (!s.refusals.empty()) return s;

    Choice& c = s.choice;
    if (flash) choose_flash(p, target, c);
    else if (backend == Backend::memory_efficient)
        c.row = row_named(std::string("memory_efficient.") + short_name(p.dtype) + (needs_packing(p) ? ".packed" : ".rule"));
    else c.row = row_named(std::string("naive.") + short_name(p.dtype));
    c.kernel = "cuda." + c.row->name;
    c.tile_queries = c.row->block_m, c.tile_keys = c.row->block_n;
    if (p.keep_shape[0] > 1 || (p.masks & (kPerBatch | kDocuments)) || p.offset_kind == 3) c.mask_batches = p.B;
    if (mask_by_head(p)) c.mask_heads = p.Hq;
    c.mask_rows = c.heads_as_rows ? p.group() : p.Sq;
    if (const int64_t blocks = kernels::blocks_of(p.Sq, c.row->block_m) * c.chunks * p.Hq; backend != Backend::naive && blocks > INT32_MAX)
        s.refusals.push_back({Reason::size, blocks, INT32_MAX,
                              "the number of blocks (of " + number(c.row->block_m) + " queries, times heads) is " + number(blocks) + "; at most " +
                                  number(INT32_MAX) + " is taken by a GPU"});
    if (needs_packing(p) && backend != Backend::naive) {
        const kernels::Packing packing = c.packing(p);
        for (const auto& [what, met, limit] : {std::tuple{"the number of masks (batches x heads)", packing.masks(), kMaxGrid},
                                               {"the number of tiles", packing.blocks(), int64_t(INT32_MAX)},
                                               {"the number of keys", p.Sk, kMaxPackedKeys}})
            if (met > limit)
                s.refusals.push_back({Reason::size, met, limit,
                                      std::string(what) + " is " + number(met) + "; at most " + number(limit) + " is taken with a dense mask or documents"});
    }
    c.workspace_bytes = Workspace(p, c).bytes;
    return s;
}

uint64_t value_bytes(const Problem& p) {
    const auto ints = [](int64_t n) { return (uint64_t(n) * 4 + 255) & ~uint64_t(255); };
    uint64_t bytes = 0;
    for (const uint32_t kind : {1u, 2u, 16u})
        if (p.masks & kind) bytes += ints(p.B);
    if (p.offset_kind == 3) bytes += ints(p.B);
    if (p.masks & kDocuments) bytes += ints(p.B * p.Sq) + ints(p.B * p.Sk);
    if (p.alibi) bytes += ints(p.Hq);
    return bytes;
}

Workspace::Workspace(const Problem& p, const Choice& c) {
    const auto place = [&](uint64_t size) {
        const uint64_t at = bytes;
        bytes += (size + 255) & ~uint64_t(255);
        return at;
    };
    if (p.empty()) return;
    visited = place(8);
    values = place(value_bytes(p));
    const bool naive = c.row->file == "naive.cuh";
    if (needs_packing(p) && !naive) {
        const kernels::Packing packing = c.packing(p);
        words = place(uint64_t(packing.words()) * 4), classes = place(uint64_t(packing.classes()));
        tile_rows = place(uint64_t(packing.tile_rows()) * sizeof(TileRow)), blocks = place(uint64_t(packing.blocks()) * 4);
    }
    if (c.chunks > 1) {
        const uint64_t partial_rows = uint64_t(c.chunks) * uint64_t(p.B * p.Hq * p.Sq);
        partial = place(partial_rows * uint64_t(p.Dv) * 4), partial_lse = place(partial_rows * 4);
    }
    if (naive && !p.probabilities) scores = place(uint64_t(p.B * p.Hq * p.Sq) * uint64_t(p.Sk) * 4);
}

} // namespace attn::cuda
