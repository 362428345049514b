// merge.cuh — partial results of chunks of keys become O and LSE, in key order: the same bits whatever ran when.
#pragma once
#include "problem.cuh"
#include "softmax.cuh"

// One warp a row; blockIdx.x counts rows [B][Hq][Sq] by kMergeWarps. gridDim of the chunks' launch: z = batches.
template <class E>
__global__ void __launch_bounds__(kMergeWarps * 32) merge_chunks(const __grid_constant__ Problem<E> p, int batches) {
    const int64_t all = int64_t(batches) * p.heads * p.q_len, row = int64_t(blockIdx.x) * kMergeWarps + threadIdx.x / 32;
    if (row >= all) return;
    const int lane = threadIdx.x % 32, i = int(row % p.q_len), h = int(row / p.q_len % p.heads), b = int(row / p.q_len / p.heads);
    float m = -INFINITY, l = 0.f;
    float bad = 0.f; // a NaN among them stays one
    for (int c = 0; c < p.chunks; ++c) {
        const float lse = ptx::read(p.partial_lse + c * all + row);
        if (lse != lse) bad = lse;
        m = fmaxf(m, lse);
    }
    for (int c = 0; c < p.chunks; ++c) {
        const float lse = ptx::read(p.partial_lse + c * all + row);
        if (lse != -INFINITY) l += ptx::exp2((lse - m) * kLog2e);
    }
    const float lse = bad != bad ? bad : l == 0.f ? -INFINITY : m + ptx::log2(l) * kLn2;
    for (int d = lane; d < p.Dv; d += 32) {
        float o = 0.f;
        for (int c = 0; c < p.chunks; ++c) {
            const float part = ptx::read(p.partial_lse + c * all + row);
            if (part != -INFINITY) o += ptx::exp2((part - lse) * kLog2e) * ptx::read(p.partial + (c * all + row) * p.Dv + d);
        }
        ptx::write(p.O.at(b, h, i) + d, ptx::from_float<E>(o));
    }
    if (lane == 0 && p.LSE) ptx::write(p.LSE + row, lse);
}
