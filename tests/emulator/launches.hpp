// launches.hpp — a row of each kernel, made of its types.
#pragma once
#include "../../native/kernels/rows.hpp"
#include "flash_sm80.cuh"
#include "flash_sm90.cuh"
#include "memory_efficient.cuh"
#include "naive.cuh"
#include "rows.hpp"

template <class E>
constexpr reference::Type type_of = std::is_same_v<E, float>  ? reference::Type::f32
                                    : std::is_same_v<E, fp16> ? reference::Type::f16
                                                              : reference::Type::bf16;

template <class Mask, int kBlockM, int kBlockN>
Mask mask_of(Device& d, int chunks, int chunk_keys) {
    if constexpr (Mask::kPacked) return d.packed(kBlockM, kBlockN, chunks, chunk_keys);
    else return RuleMask{d.mask()};
}
// What the pass did is checked apart: the counts that follow are the kernel's own.
inline void count_from_here() { emu::stats = {}; }
inline bool nothing_to_do(const Device& d) { return !d.p.B || !d.p.Hq || !d.p.Sq; }

template <class S, class E, class Mask, class Score>
void launch_flash(Device& d, int chunk_keys) {
    if (nothing_to_do(d)) return;
    Problem<E> problem = d.problem<E>();
    const int chunks = chunk_keys ? std::max(1, int((d.p.Sk + chunk_keys - 1) / chunk_keys)) : 1;
    if (chunks > 1) d.split(problem, chunks, chunk_keys);
    const Mask mask = mask_of<Mask, S::kBlockM, S::kBlockN>(d, chunks, problem.chunk_keys);
    count_from_here();
    emu::launch(flash_sm80<S, E, Mask, Score>, d.dim(kernels::flash_grid(problem, d.p.B, S::kBlockM)), {S::kThreads}, S::kSmem, problem, mask);
    const emu::Stats kernel = emu::stats;
    if (chunks > 1) d.merge(problem);
    emu::stats = kernel;
}
template <class S, class E, class Mask, class Score>
EmulatedRow flash_row(const char* name) {
    EmulatedRow r;
    r.name = name, r.type = type_of<E>, r.D = S::kD, r.block_m = S::kBlockM, r.block_n = S::kBlockN;
    r.packed = Mask::kPacked, r.scaled = std::is_same_v<Score, Scaled>, r.tensor_cores = true, r.splits = true;
    r.launch = launch_flash<S, E, Mask, Score>;
    r.mma_of_tile = uint64_t(S::kBlockM / 16) * (S::kD / 16 * (S::kBlockN / 8) + S::kBlockN / 16 * (S::kD / 8));
    return r;
}

template <class S, class E, class Mask>
void launch_hopper(Device& d, int) {
    if (nothing_to_do(d)) return;
    const auto map = [&](char which, const cases::Tensor& t, int box) {
        return ptx::TensorMap{d.raw(which), t.shape[3], t.shape[2], t.shape[1], t.shape[0], t.strides[2], t.strides[1], t.strides[0], box};
    };
    const TensorMaps maps{map('q', d.sample.Q, S::kBlockM), map('k', d.sample.K, S::kBlockN), map('v', d.sample.V, S::kBlockN)};
    const Mask mask = mask_of<Mask, S::kBlockM, S::kBlockN>(d, 1, 1 << 30);
    const Problem<E> problem = d.problem<E>();
    count_from_here();
    emu::launch(flash_sm90<S, E, Mask>, d.dim(kernels::flash_grid(problem, d.p.B, S::kBlockM)), {S::kThreads}, sizeof(Smem90<S, Mask>), maps, problem, mask);
}
template <class S, class E, class Mask>
EmulatedRow hopper_row(const char* name) {
    static_assert(sizeof(Smem90<S, Mask>) == kernels::smem90(S::kD, S::kBlockM, S::kBlockN, S::kStages, Mask::kPacked));
    EmulatedRow r;
    r.name = name, r.type = type_of<E>, r.D = S::kD, r.block_m = S::kBlockM, r.block_n = S::kBlockN;
    r.packed = Mask::kPacked, r.scaled = true, r.tensor_cores = true, r.whole_boxes = true;
    r.launch = launch_hopper<S, E, Mask>;
    r.mma_of_tile = uint64_t(S::kBlockM / 64) * (S::kD / 16 + S::kBlockN / 16);
    return r;
}

inline ColumnStrides columns(const Device& d) { return {d.sample.Q.strides[3], d.sample.K.strides[3], d.sample.V.strides[3], d.sample.O.strides[3]}; }

// The mask of a kernel that asks score by score.
template <class Mask>
struct Counted : Mask {
    template <class... A>
    bool sees(const A&... a) const {
        ++emu::stats.tested;
        return Mask::sees(a...);
    }
};
template <class E, class Mask>
void launch_memory_efficient(Device& d, int) {
    if (nothing_to_do(d)) return;
    const Counted<Mask> mask{mask_of<Mask, 64, 64>(d, 1, 1 << 30)};
    count_from_here();
    const Problem<E> problem = d.problem<E>();
    emu::launch(memory_efficient<E, Counted<Mask>>, d.dim(kernels::flash_grid(problem, d.p.B, 64)), {kMemoryEfficientThreads}, sizeof(SmemME), problem,
                columns(d), mask);
}
template <class E, class Mask>
EmulatedRow memory_efficient_row(const char* name) {
    EmulatedRow r;
    r.name = name, r.type = type_of<E>, r.packed = Mask::kPacked, r.values_of_pass = SmemME::kValues;
    r.launch = launch_memory_efficient<E, Mask>;
    return r;
}
template <class E>
void launch_naive(Device& d, int) {
    if (nothing_to_do(d)) return;
    emu::Buffer<float> P(size_t(d.p.B * d.p.Hq * d.p.Sq * d.p.Sk), false);
    emu::launch(naive<E>, d.dim(kernels::naive_grid(d.p.B, d.p.Hq, d.p.Sq)), {kNaiveWarps * 32}, 0, d.problem<E>(), columns(d), d.mask(), d.keep(), P.data());
}
template <class E>
EmulatedRow naive_row(const char* name) { // every score is a tile: its key is read if it is seen
    EmulatedRow r;
    r.name = name, r.type = type_of<E>, r.packed = true, r.block_m = r.block_n = 1, r.counts_tiles = false, r.launch = launch_naive<E>;
    return r;
}
