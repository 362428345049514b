// merge.cuh — partial results over disjoint keys become one O and LSE, in their order: the same bits whatever ran when.
#pragma once
#include "problem.cuh"
#include "softmax.cuh"

// One warp a row at a time; a block has kMergeWarps of them. O and LSE may be one of the parts'.
template <class E, class Parts>
__global__ void __launch_bounds__(kMergeWarps * 32) merge(const __grid_constant__ Merged<E> to, const __grid_constant__ Parts parts) {
    if (given_up(to.cancel)) return;
    const int lane = threadIdx.x % 32;
    for (int64_t at = int64_t(blockIdx.x) * kMergeWarps + threadIdx.x / 32; at < to.rows; at += int64_t(gridDim.x) * kMergeWarps) {
        const MergedRow row{at, at / to.q_len / to.heads, at / to.q_len % to.heads, at % to.q_len};
        float m = -INFINITY, l = 0.f;
        for (int c = 0; c < parts.count; ++c) m = fmaxf(m, ptx::read(parts.lse(c, row)));
        const auto weight = [&](int c) {
            const float lse = ptx::read(parts.lse(c, row));
            return lse == -INFINITY ? 0.f : ptx::exp2((lse - m) * kLog2e); // a NaN stays one
        };
        for (int c = 0; c < parts.count; ++c) l += weight(c);
        for (int64_t d = lane; d < to.Dv; d += 32) {
            float o = 0.f;
            for (int c = 0; c < parts.count; ++c) { // what a part without weight holds does not count, whatever it is
                const float w = weight(c);
                if (w != 0.f) o += w * ptx::to_float(ptx::read(parts.o(c, row, d)));
            }
            ptx::write(to.O.at(row.b, row.h, row.i, d), ptx::from_float<E>(l == 0.f ? 0.f : o / l));
        }
        __syncwarp(); // every lane has read what the parts say of the row
        if (lane == 0 && to.LSE) ptx::write(to.LSE + at, l == 0.f ? -INFINITY : m + ptx::log2(l) * kLn2);
    }
}
