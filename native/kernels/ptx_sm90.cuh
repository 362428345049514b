// ptx_sm90.cuh — Hopper's instructions: mbarrier, TMA, wgmma and their fences.
#pragma once
#include "ptx.cuh"
#if defined(__CUDACC__)

namespace ptx {

struct alignas(128) TensorMap { // the driver's CUtensorMap, opaque; CUDA 12 aligns it to 64 bytes, 13 to 128
    uint64_t opaque[16];
};

DEVICE void mbarrier_init(uint64_t* bar, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(bar)), "r"(count) : "memory"); }
DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); } // between ordinary accesses and those of TMA and wgmma
DEVICE void mbarrier_arrive(uint64_t* bar) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(bar)) : "memory"); }
DEVICE void warp_arrive(uint64_t* bar) { // one arrival for 32 lanes
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(bar);
}
DEVICE void mbarrier_arrive_expect(uint64_t* bar, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_address(bar)), "r"(bytes) : "memory");
}
DEVICE void mbarrier_wait(uint64_t* bar, int parity) {
    asm volatile("{\n.reg .pred done;\nspin: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra spin;\n}" ::"r"(smem_address(bar)), "r"(parity)
                 : "memory");
}
DEVICE void named_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void tma_prefetch(const TensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }
DEVICE void tma_load(void* dst, const TensorMap& map, uint64_t* bar, int column, int row, int head, int batch) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(smem_address(dst)), "l"(&map),
                 "r"(smem_address(bar)), "r"(column), "r"(row), "r"(head), "r"(batch)
                 : "memory");
}
DEVICE void bulk_load(void* dst, const void* src, int bytes, uint64_t* bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(smem_address(dst)), "l"(__cvta_generic_to_global(src)),
                 "r"(bytes), "r"(smem_address(bar))
                 : "memory");
}
DEVICE uint64_t smem_descriptor(const void* tile, int offset, int leading, int stride) { // a step within a tile is one 32-bit add
    const uint32_t low = (smem_address(tile) >> 4 | leading >> 4 << 16) + (offset >> 4), high = stride >> 4 | 1 << 30; // 128-byte swizzle
    return uint64_t(high) << 32 | low;
}
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending>
DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
template <int N>
DEVICE void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
DEVICE void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// wgmma names every accumulator register in its text, so each N is an instruction of its own. These
// macros spell the operands once: D_n lists n of them, R_n names n registers.
// clang-format off
#define D_4(j)  "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define D_16(j) D_4(j), D_4(j + 1), D_4(j + 2), D_4(j + 3)
#define D_32  D_16(0), D_16(4)
#define D_64  D_32, D_16(8), D_16(12)
#define D_96  D_64, D_16(16), D_16(20)
#define D_128 D_96, D_16(24), D_16(28)
#define R_10(t) "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9"
#define R_32  R_10() "," R_10(1) "," R_10(2) ",%30,%31"
#define R_64  R_32 ",%32,%33,%34,%35,%36,%37,%38,%39," R_10(4) "," R_10(5) ",%60,%61,%62,%63"
#define R_96  R_64 ",%64,%65,%66,%67,%68,%69," R_10(7) "," R_10(8) ",%90,%91,%92,%93,%94,%95"
#define R_128 R_96 ",%96,%97,%98,%99," R_10(10) "," R_10(11) ",%120,%121,%122,%123,%124,%125,%126,%127"
#define WGMMA(type, N, n, o0, o1, o2, o3, o4, o5, o6)                                                                         \
    if constexpr (kN == N) {                                                                                                  \
        if (a) asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" R_##n "}, {%" #o0 ",%" #o1 ",%" #o2 ",%" #o3 "}, %" #o4 ", %" #o5 ", 1, 1, %" #o6 ";" \
            : D_##n : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_desc), "n"(int(kAdd)), "n"(int(kTransB)));            \
        else asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" R_##n "}, %" #o0 ", %" #o1 ", %" #o2 ", 1, 1, 0, %" #o3 ";" \
            : D_##n : "l"(a_desc), "l"(b_desc), "n"(int(kAdd)), "n"(int(kTransB)));                                           \
    }
#define WGMMA_OF(type)                            \
    WGMMA(type, 64, 32, 32, 33, 34, 35, 36, 37, 38)         \
    WGMMA(type, 128, 64, 64, 65, 66, 67, 68, 69, 70)        \
    WGMMA(type, 192, 96, 96, 97, 98, 99, 100, 101, 102)     \
    WGMMA(type, 256, 128, 128, 129, 130, 131, 132, 133, 134)
// clang-format on
template <class E>
struct IsHalf {
    static constexpr bool value = false;
};
template <>
struct IsHalf<fp16> {
    static constexpr bool value = true;
};
// d += A B, or d = A B without kAdd; A from registers (a) or shared memory (a_desc)
template <class E, int kN, bool kTransB, bool kAdd>
DEVICE void wgmma_m64k16(float (&d)[kN / 8][4], const uint32_t* a, uint64_t a_desc, uint64_t b_desc) {
    if constexpr (IsHalf<E>::value) {
        WGMMA_OF("f16")
    } else {
        WGMMA_OF("bf16")
    }
}

} // namespace ptx
#endif
