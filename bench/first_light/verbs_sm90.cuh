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

// ---- one belief at a time --------------------------------------------------------------
// A box of kRows x 64 as TMA leaves it in shared memory, swizzled. It hangs where TMA counts other bytes than those of the whole box.
template <int kRows>
__global__ void box(const __grid_constant__ ptx::TensorMap map, int column, int row, int head, int batch, uint32_t* out) {
    unsigned char* smem = ptx::dynamic_smem();
    auto* full = reinterpret_cast<uint64_t*>(smem + kRows * 128);
    if (threadIdx.x == 0) {
        ptx::tma_prefetch(map);
        ptx::mbarrier_init(full, 1), ptx::mbarrier_init_fence();
        ptx::mbarrier_arrive_expect(full, kRows * 128);
        ptx::tma_load(smem, map, full, column, row, head, batch);
    }
    __syncthreads();
    ptx::mbarrier_wait(full, 0);
    for (int i = int(threadIdx.x); i < kRows * 32; i += 128) ptx::write(out + i, ptx::read(reinterpret_cast<uint32_t*>(smem) + i));
}

// kRows x kCols of row-major memory into slabs of 64 columns, by ordinary code in the swizzle that a descriptor is to undo.
template <int kRows, int kCols, class E>
DEVICE void swizzled(unsigned char* tile, const E* source) {
    for (int i = int(threadIdx.x); i < kRows * kCols / 8; i += 128) {
        const int row = i / (kCols / 8), c = i % (kCols / 8);
        ptx::cp_async_16(tile + c / 8 * kRows * 128 + row * 128 + (c % 8 ^ row % 8) * 16, source + i * 8, 16);
    }
}
DEVICE void hand_over() { // what ordinary code wrote is there for wgmma
    ptx::cp_async_commit(), ptx::cp_async_wait<0>();
    ptx::proxy_fence();
    __syncthreads();
}
// A warpgroup's rows of a 64 x kK matrix as an operand in registers.
template <int kK, class E>
DEVICE FragA<16, kK> operand(const E* a) {
    Accum<16, kK> A;
    const int row0 = int(threadIdx.x) / 32 * 16;
    A.each([&](float& x, int row, int col) { x = ptx::to_float(ptx::read(a + (row0 + row) * kK + col)); });
    return to_operand<E>(A);
}
template <int kN>
DEVICE void put(Accum<16, kN>& C, float* c) {
    const int row0 = int(threadIdx.x) / 32 * 16;
    C.each([&](float& x, int row, int col) { ptx::write(c + (row0 + row) * kN + col, x); });
}

// C = A B^T, both K-major, 64 columns: rows kRow0.. of kM rows against kN rows, through descriptors with these offsets.
template <class E, int kM, int kRow0, int kN>
__global__ void k_major_products(const E* a, const E* b, int leading, int stride, float* c) {
    unsigned char *sA = ptx::dynamic_smem(), *sB = sA + kM * 128;
    swizzled<kM, 64>(sA, a), swizzled<kN, 64>(sB, b);
    hand_over();
    auto C = Accum<16, kN>::zero();
    ptx::wgmma_fence();
    UNROLL for (int k = 0; k < 4; ++k)
        ptx::wgmma_m64k16<E, kN, false, true>(C.x[0], nullptr, ptx::smem_descriptor(sA + kRow0 * 128, k * 32, leading, stride),
                                              ptx::smem_descriptor(sB, k * 32, leading, stride));
    ptx::wgmma_commit(), wgmma_wait<0>(C);
    put(C, c);
}
// C = A B, A from registers, B MN-major: kK rows of kN columns, through a descriptor with these offsets.
template <class E, int kK, int kN>
__global__ void mn_major_products(const E* a, const E* b, int leading, int stride, float* c) {
    unsigned char* sB = ptx::dynamic_smem();
    swizzled<kK, kN>(sB, b);
    const auto A = operand<kK>(a);
    hand_over();
    auto C = Accum<16, kN>::zero();
    ptx::wgmma_fence();
    UNROLL for (int k = 0; k < kK / 16; ++k) ptx::wgmma_m64k16<E, kN, true, true>(C.x[0], A.r[0][k], 0, ptx::smem_descriptor(sB, k * 2048, leading, stride));
    ptx::wgmma_commit(), wgmma_wait<0>(C);
    put(C, c);
}
// Two groups in flight, and the first one's result taken while the second may run: C = A A^T, which overwrites, beside D += A A.
template <class E>
__global__ void overlapped_products(const E* a, float* c, float* d) {
    const SlabTile<64, 64> T{ptx::dynamic_smem()};
    swizzled<64, 64>(T.base, a);
    const auto A = operand<64>(a);
    hand_over();
    Accum<16, 64> C;
    C.each([](float& x, int, int) { x = 1e30f; });
    auto D = Accum<16, 64>::zero();
    for (int round = 0; round < 3; ++round) {
        ptx::wgmma_fence();
        wgmma_ABt<E>(C, T, 0, T);
        ptx::wgmma_commit();
        ptx::wgmma_fence();
        wgmma_AB<E>(D, A, T);
        ptx::wgmma_commit();
        wgmma_wait<1>(C);
        put(C, c + round * 64 * 64);
        wgmma_wait<0>(D);
        put(D, d + round * 64 * 64);
    }
}
// Ordinary code clears rows that TMA brought, wgmma reads them; then TMA brings them again over what ordinary code wrote.
template <class E>
__global__ void cleared_products(const __grid_constant__ ptx::TensorMap map, const E* a, int real, float* d, uint32_t* out) {
    const SlabTile<64, 64> T{ptx::dynamic_smem()};
    auto* full = reinterpret_cast<uint64_t*>(T.base + T.kBytes);
    const auto bring = [&] { ptx::mbarrier_arrive_expect(full, T.kBytes), T.load(map, full, 0, 0, 0); };
    if (threadIdx.x == 0) ptx::mbarrier_init(full, 1), ptx::mbarrier_init_fence(), bring();
    __syncthreads();
    ptx::mbarrier_wait(full, 0);
    T.clear_from<128>(real, int(threadIdx.x));
    ptx::proxy_fence();
    __syncthreads(); // all is cleared
    const auto A = operand<64>(a);
    auto D = Accum<16, 64>::zero();
    ptx::wgmma_fence();
    wgmma_AB<E>(D, A, T);
    ptx::wgmma_commit(), wgmma_wait<0>(D);
    put(D, d);
    __syncthreads(); // everyone has multiplied
    if (threadIdx.x == 0) bring();
    ptx::mbarrier_wait(full, 1);
    for (int i = int(threadIdx.x); i < 64 * 32; i += 128) ptx::write(out + i, ptx::read(reinterpret_cast<uint32_t*>(T.base) + i));
}
// The pipeline by itself: one thread produces, of a warpgroup that gave its registers away; two groups consume and hand back what they read. It hangs
// where an mbarrier's first phase, its count or a named barrier is not what the kernel takes it to be.
constexpr int kRingWords = 256;
__global__ void __launch_bounds__(384, 1) ring(const uint32_t* source, int rounds, uint32_t* out) {
    auto* words = reinterpret_cast<uint32_t*>(ptx::dynamic_smem());
    auto *full = reinterpret_cast<uint64_t*>(words + 2 * kRingWords), *empty = full + 2;
    if (threadIdx.x == 0) {
        for (int s = 0; s < 2; ++s) ptx::mbarrier_init(full + s, 1), ptx::mbarrier_init(empty + s, 8);
        ptx::mbarrier_init_fence();
    }
    __syncthreads();
    Ring<2> now;
    if (ptx::uniform(int(threadIdx.x) / 128) == 2) {
        ptx::setmaxnreg_dec<24>();
        if (threadIdx.x % 128 != 0) return;
        UNROLL_ONCE for (int t = 0; t < rounds; ++t, now.next()) {
            ptx::mbarrier_wait(empty + now.stage, now.phase ^ 1);
            ptx::mbarrier_arrive_expect(full + now.stage, kRingWords * 4);
            ptx::bulk_load(words + now.stage * kRingWords, source + t * kRingWords, kRingWords * 4, full + now.stage);
        }
        return;
    }
    ptx::setmaxnreg_inc<240>();
    const int i = int(threadIdx.x);
    UNROLL_ONCE for (int t = 0; t < rounds; ++t, now.next()) {
        ptx::mbarrier_wait(full + now.stage, now.phase);
        const uint32_t word = ptx::read(words + now.stage * kRingWords + i);
        ptx::proxy_fence(); // TMA will write where ordinary code has read
        ptx::warp_arrive(empty + now.stage);
        ptx::named_barrier(1, 256);
        ptx::write(out + t * kRingWords + i, word);
    }
}
