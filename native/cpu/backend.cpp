// backend.cpp — the one predicate of each backend, the choice of a kernel, and how its work is spread over the workers.
#include "backend.hpp"

#include <functional>

#include "kernels.hpp"

namespace attn::cpu {
namespace {

// The entries of one instruction set.
struct Kernels {
    decltype(&generic::flash) flash;
    decltype(&generic::decode) decode;
    decltype(&generic::merge_chunks) merge_chunks;
    decltype(&generic::pack_row) pack_row;
    decltype(&generic::memory_efficient) memory_efficient;
};
const Kernels& kernels_of(InstructionSet isa) {
    static constexpr Kernels all[] = {
        {generic::flash, generic::decode, generic::merge_chunks, generic::pack_row, generic::memory_efficient},
        {avx2::flash, avx2::decode, avx2::merge_chunks, avx2::pack_row, avx2::memory_efficient},
        {avx512::flash, avx512::decode, avx512::merge_chunks, avx512::pack_row, avx512::memory_efficient},
    };
    return all[int(isa)];
}

bool few_queries(const Problem& p) { return p.Sq <= DecodeShape::kQueries; }

// std::function keeps a reference without allocating; a call allocates nothing.
template <class F>
void parallel(Pool& pool, int64_t items, int64_t grain, const F& work, const volatile int32_t* cancel) {
    pool.parallel(items, grain, std::cref(work), cancel);
}

void run_decode(const Call& call, const Kernels& kernels, Pool& pool) {
    const Problem& p = *call.problem;
    const DecodeShape shape(p, pool.workers(), processor());
    const auto part = [&](int place, int64_t item) { kernels.decode(call, shape, pool.scratch(place), item); };
    parallel(pool, shape.items(p), 1, part, call.cancel);
    if (shape.runs == 1) return;
    const auto row = [&](int place, int64_t item) { kernels.merge_chunks(call, shape, pool.scratch(place), item); };
    parallel(pool, p.B * p.Hq * p.Sq, 16, row, call.cancel);
}

void run_flash(const Call& call, const Kernels& kernels, Pool& pool) {
    const Problem& p = *call.problem;
    const FlashShape shape(p, pool.workers(), processor());
    const auto block = [&](int place, int64_t item) { kernels.flash(call, shape, pool.scratch(place), item); };
    parallel(pool, shape.items(p), 1, block, call.cancel);
}

std::string sentence(const char* what, int64_t met, const char* allowed, int64_t limit, const char* why) {
    return std::string(what) + " is " + std::to_string(met) + "; " + allowed + " " + std::to_string(limit) + " is taken" + why;
}

void refuse_strides(const Problem& p, Refusals& found) {
    const struct {
        const char* name;
        int64_t stride;
    } all[] = {{"q", p.q.column}, {"k", p.k.column}, {"v", p.v.column}, {"o", p.o.column}};
    for (const auto& t : all)
        if (t.stride != 1)
            found.push_back({Reason::last_stride, t.stride, 1,
                             sentence((std::string("the last stride of ") + t.name).c_str(), t.stride, "only", 1, ": flash reads and writes whole rows")});
}

} // namespace

Refusals refusals(const Problem& p, Backend backend) {
    Refusals found;
    if (backend == Backend::naive) return found;
    if (p.dtype == DType::f64)
        found.push_back({Reason::dtype, int64_t(p.dtype), int64_t(DType::bf16),
                         "the dtype is float64 (4); float32, float16 or bfloat16 (1 to 3) is taken: only naive computes in double precision"});
    if (p.probabilities)
        found.push_back(
            {Reason::probabilities, 1, 0, sentence("the number of probability outputs", 1, "only", 0, ": only naive keeps the scores of all keys")});
    if (backend == Backend::memory_efficient) return found;
    refuse_strides(p, found);
    if (p.D > FlashShape::kMaxDim)
        found.push_back({Reason::head_dim, p.D, FlashShape::kMaxDim, sentence("the head dimension", p.D, "at most", FlashShape::kMaxDim, "")});
    if (p.Dv > FlashShape::kMaxDim)
        found.push_back({Reason::value_dim, p.Dv, FlashShape::kMaxDim, sentence("the value dimension", p.Dv, "at most", FlashShape::kMaxDim, "")});
    return found;
}

KernelChoice choose(const Problem& p, Backend backend, InstructionSet isa, int workers) {
    KernelChoice choice;
    const std::string set = name_of(isa);
    if (backend == Backend::naive) {
        choice.kernel = "cpu.naive";
        choice.workspace_bytes = naive_workspace(p, workers);
    } else if (backend == Backend::memory_efficient) {
        choice.kernel = "cpu.memory-efficient." + set;
    } else if (few_queries(p)) {
        choice.kernel = "cpu.flash.decode." + set;
        choice.key_chunk = DecodeShape::kChunk;
        if (!p.empty()) choice.workspace_bytes = DecodeShape(p, workers, processor()).workspace(p);
    } else {
        choice.kernel = "cpu.flash." + set;
    }
    return choice;
}

void run(const Call& call, Backend backend, InstructionSet isa, Pool& pool) {
    const Kernels& kernels = kernels_of(isa);
    if (backend == Backend::naive) naive(call, pool);
    else if (backend == Backend::memory_efficient) kernels.memory_efficient(call, pool);
    else if (few_queries(*call.problem)) run_decode(call, kernels, pool);
    else run_flash(call, kernels, pool);
}

int64_t keep_cells(const int64_t (&shape)[4]) { return shape[0] * shape[1] * cells_of(shape[2]) * cells_of(shape[3]); }

PackedKeep pack_keep(const KeepBytes& keep, InstructionSet isa, Pool& pool, Cell* classes, uint64_t* words) {
    const int64_t rows = cells_of(keep.shape[2]), columns = cells_of(keep.shape[3]);
    const auto pack = kernels_of(isa).pack_row;
    const auto row = [&](int, int64_t item) {
        const int64_t r = item % rows, h = item / rows % keep.shape[1], b = item / rows / keep.shape[1];
        const uint8_t* data = keep.data + b * keep.stride[0] + h * keep.stride[1] + r * kCell * keep.stride[2];
        const int64_t column = keep.shape[3] == 1 ? 1 : keep.stride[3];
        pack({data, keep.stride[2], column, smaller(kCell, keep.shape[2] - r * kCell), keep.shape[3], keep.shape[3] == 1}, classes + item * columns,
             words + item * columns * kCell);
    };
    parallel(pool, keep.shape[0] * keep.shape[1] * rows, 1, row, nullptr);
    PackedKeep packed{classes, words};
    packed.batch = keep.shape[0] == 1 ? 0 : keep.shape[1] * rows * columns;
    packed.head = keep.shape[1] == 1 ? 0 : rows * columns;
    packed.row = keep.shape[2] == 1 ? 0 : columns;
    packed.column = keep.shape[3] == 1 ? 0 : 1;
    packed.word_step = keep.shape[2] == 1 ? 0 : 1;
    return packed;
}

} // namespace attn::cpu
