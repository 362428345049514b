// plain_rows.cpp — the rows without tensor cores.
#include "memory_efficient.cuh"
#include "naive.cuh"
#include "rows.hpp"

namespace {

template <class E>
constexpr reference::Type type_of = std::is_same_v<E, float>  ? reference::Type::f32
                                    : std::is_same_v<E, fp16> ? reference::Type::f16
                                                              : reference::Type::bf16;

ColumnStrides columns(const Device& d) { return {d.sample.Q.strides[3], d.sample.K.strides[3], d.sample.V.strides[3], d.sample.O.strides[3]}; }

template <class E, class Mask>
void launch_memory_efficient(Device& d, int) {
    if (!d.p.B || !d.p.Hq || !d.p.Sq) return;
    const Mask mask = mask_of<Mask, 64, 64>(d, 1, 1 << 30);
    count_from_here();
    const Problem<E> problem = d.problem<E>();
    emu::launch(memory_efficient<E, Mask>, d.dim(kernels::flash_grid(problem, d.p.B, 64)), {kMemoryEfficientThreads}, sizeof(SmemME), problem, columns(d),
                mask);
}
template <class E>
void launch_naive(Device& d, int) {
    if (!d.p.B || !d.p.Hq || !d.p.Sq) return;
    emu::Buffer<float> P(size_t(d.p.B * d.p.Hq * d.p.Sq * d.p.Sk), false);
    emu::launch(naive<E>, d.dim(kernels::naive_grid(d.p.B, d.p.Hq, d.p.Sq)), {kNaiveWarps * 32}, 0, d.problem<E>(), columns(d), d.mask(), d.keep(), P.data());
}

} // namespace

void add_plain_rows(std::vector<EmulatedRow>& all) {
    EmulatedRow r;
    r.smem = sizeof(SmemME);
#define FLASH_SM80(...)
#define FLASH_SM90(...)
#define MEMORY_EFFICIENT(E, MASK) \
    r.name = "memory_efficient " #E " " #MASK, r.type = type_of<E>, r.packed = MASK::kPacked, r.launch = launch_memory_efficient<E, MASK>, all.push_back(r);
#define NAIVE(E) r.name = "naive " #E, r.type = type_of<E>, r.packed = true, r.block_m = 0, r.smem = 0, r.launch = launch_naive<E>, all.push_back(r);
#define MERGE(...)
#define MASK_PASS(...)
#include "kernels.def"
}
