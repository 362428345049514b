// verbs_sm90.cuh — the same for Hopper: tensor maps, descriptors, swizzle, wgmma, mbarrier and both fences.
#pragma once
#include "flash_sm90.cuh"
#include "verbs.cuh"

// The same by TMA and wgmma: 64 x kK times 64 x kK transposed, then times 64 x kK.
template <class E, int kK>
__global__ void warpgroup_products(const __grid_constant__ ptx::TensorMap a, const __grid_constant__ ptx::TensorMap b, float* c, float* d) {
    unsigned char* smem = ptx::dynamic_smem();
    const SlabTile<64, kK> sA{smem}, sB{smem + 64 * kK * 2};
    auto* full = reinterpret_cast<uint64_t*>(smem + 2 * 64 * kK * 2);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(full, 1), ptx::mbarrier_init_fence();
        ptx::mbarrier_arrive_expect(full, 2 * sA.kBytes);
        sA.load(a, full, 0, 0, 0), sB.load(b, full, 0, 0, 0);
    }
    __syncthreads();
    ptx::mbarrier_wait(full, 0);
    Accum<16, 64> C;
    ptx::wgmma_fence();
    wgmma_ABt<E>(C, sA, 0, sB);
    ptx::wgmma_commit(), wgmma_wait<0>(C);
    const int row0 = int(threadIdx.x) / 32 * 16;
    C.each([&](float& x, int row, int col) { ptx::write(c + (row0 + row) * 64 + col, x); });
    const auto P = to_operand<E>(C);
    auto D = Accum<16, kK>::zero();
    ptx::wgmma_fence();
    wgmma_AB<E>(D, P, sB);
    ptx::wgmma_commit(), wgmma_wait<0>(D);
    D.each([&](float& x, int row, int col) { ptx::write(d + (row0 + row) * kK + col, x); });
}

// Ordinary code writes a swizzled tile, a fence hands it to wgmma; two rounds of a bulk copy pass one mbarrier in both parities, its words read by
// ordinary code and written again by the copy engine after a fence.
template <class E>
__global__ void fenced_products(const E* source, const uint32_t* source_words, float* c, uint32_t* out) {
    unsigned char* smem = ptx::dynamic_smem();
    const SlabTile<64, 64> T{smem};
    auto* words = reinterpret_cast<uint32_t*>(smem + T.kBytes);
    auto* full = reinterpret_cast<uint64_t*>(words + 128);
    if (threadIdx.x == 0) ptx::mbarrier_init(full, 1), ptx::mbarrier_init_fence();
    for (int i = int(threadIdx.x); i < 512; i += 128) ptx::cp_async_16(reinterpret_cast<E*>(smem) + (i ^ (i / 8 % 8)) * 8, source + i * 8, 16);
    ptx::cp_async_commit(), ptx::cp_async_wait<0>();
    ptx::proxy_fence();
    __syncthreads(); // the tile is there, and the barrier
    Accum<16, 64> C;
    ptx::wgmma_fence();
    wgmma_ABt<E>(C, T, 0, T);
    ptx::wgmma_commit(), wgmma_wait<0>(C);
    const int row0 = int(threadIdx.x) / 32 * 16;
    C.each([&](float& x, int row, int col) { ptx::write(c + (row0 + row) * 64 + col, x); });
    for (int round = 0; round < 2; ++round) {
        if (threadIdx.x == 0) ptx::mbarrier_arrive_expect(full, 512), ptx::bulk_load(words, source_words + round * 128, 512, full);
        ptx::mbarrier_wait(full, round);
        ptx::write(out + round * 128 + threadIdx.x, ptx::read(words + threadIdx.x));
        ptx::proxy_fence();
        __syncthreads(); // everyone has read the words
    }
}
