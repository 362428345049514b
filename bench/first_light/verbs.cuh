// verbs.cuh — kernels that try each PTX verb by itself: the emulator's tests and first_light run the same source and compare with plain arithmetic.
#pragma once
#include "problem.cuh"
#include "tile.cuh"

// C = A B^T and D = A B of one warp through SharedTile, ldmatrix and mma.sync, against loops. Bank conflicts are counted for every width.
template <class E, int kK>
__global__ void products(const E* a, const E* b, float* c, float* d) {
    auto* smem = reinterpret_cast<uint16_t*>(ptx::dynamic_smem());
    const SharedTile<16, kK> sA{smem};
    const SharedTile<64, kK> sB{smem + 16 * kK};
    copy_async<32>(sA, a, kK, 16, kK);
    copy_async<32>(sB, b, kK, 64, kK);
    ptx::cp_async_commit(), ptx::cp_async_wait<0>();
    __syncthreads();
    auto C = Accum<16, 64>::zero();
    mma_ABt<E>(C, SharedA<16, 16, kK>{sA, 0}, sB);
    C.each([&](float& x, int row, int col) { ptx::write(c + row * 64 + col, x); });
    auto D = Accum<16, kK>::zero();
    mma_AB<E>(D, to_operand<E>(C), sB);
    D.each([&](float& x, int row, int col) { ptx::write(d + row * kK + col, x); });
}
// Votes, shuffles, hiding and bit masks of one warp. before: how many lanes below have voted.
__global__ void collect(uint32_t* ballot, int* before, int* xored, float* hidden, uint32_t* low) {
    const int lane = int(threadIdx.x);
    const uint32_t votes = __ballot_sync(~0u, lane % 3 == 0);
    ptx::write(ballot + lane, votes), ptx::write(before + lane, __popc(votes & ptx::low_bits(lane)));
    ptx::write(xored + lane, __shfl_xor_sync(~0u, lane * 10, 5));
    float x = 1.f;
    ptx::hide_unless(0x5u, lane % 4, x);
    ptx::write(hidden + lane, x);
    ptx::write(low + lane, ptx::low_bits(lane * 2));
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800 // elsewhere nothing of this file would compile
// cp.async of 0 to 16 bytes: the rest is zeros.
__global__ void copy_some(const uint32_t* in, uint32_t* out) {
    auto* smem = reinterpret_cast<uint32_t*>(ptx::dynamic_smem());
    ptx::cp_async_16(smem + threadIdx.x * 4, in + threadIdx.x * 4, int(threadIdx.x) % 17);
    ptx::cp_async_commit(), ptx::cp_async_wait<0>();
    for (uint32_t i = 0; i < 4; ++i) ptx::write(out + threadIdx.x * 4 + i, ptx::read(smem + threadIdx.x * 4 + i));
}
#endif

// What the softmax asks of the special function unit, how 16-bit elements are rounded and read again, and which half of a word the first of a pair takes.
__global__ void numbers(const float* in, float* exp2, float* log2, float* reciprocal, float* again, uint32_t* fp16s, uint32_t* bf16s) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    const float x = ptx::read(in + i);
    ptx::write(exp2 + i, ptx::exp2(x)), ptx::write(log2 + i, ptx::log2(x)), ptx::write(reciprocal + i, ptx::reciprocal(x));
    ptx::write(again + i * 2, ptx::to_float(ptx::from_float<fp16>(x))), ptx::write(again + i * 2 + 1, ptx::to_float(ptx::from_float<bf16>(x)));
    ptx::write(fp16s + i, ptx::pack<fp16>(x, 1.f)), ptx::write(bf16s + i, ptx::pack<bf16>(x, 1.f));
    fp16s += gridDim.x * blockDim.x, bf16s += gridDim.x * blockDim.x;
    ptx::write(fp16s + i, uint32_t(ptx::from_float<fp16>(x).bits)), ptx::write(bf16s + i, uint32_t(ptx::from_float<bf16>(x).bits));
}
// A 64-bit counter that every lane of every block adds to.
__global__ void count(uint64_t* counter) { ptx::add(counter, (uint64_t(1) << 32) + threadIdx.x); }

// Which threads go on where the host may have given the run up.
__global__ void begin_unless(const int* given_up_by_host, uint32_t* began) {
    if (given_up(given_up_by_host)) return;
    ptx::write(began + blockIdx.x * blockDim.x + threadIdx.x, 1u);
}

// Where dynamic shared memory starts: on 1024 bytes, or no swizzled tile is where its descriptor says.
__global__ void smem_start(uint32_t* at) { ptx::write(at, ptx::smem_address(ptx::dynamic_smem()) % 1024); }
