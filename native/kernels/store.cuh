// store.cuh — a warp's finished rows to O and LSE, or to a chunk's partial results.
#pragma once
#include "problem.cuh"
#include "softmax.cuh"

// Rows [row0, row0 + kM) as far as there are any; rows from m on see nothing: 0 and -inf. kWhole: no chunks, and Dv is a multiple of 8.
template <bool kWhole, class E, int kM, int kN>
DEVICE void store(const Accum<kM, kN>& O, const RowVec<kM>& lse, const Problem<E>& p, int b, int h, int chunk, int row0, int m) {
    const bool split = !kWhole && p.chunks > 1;
    UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int half = 0; half < 2; ++half) {
        const int q = row0 + O.row(i, half * 2);
        if (q >= p.q_len) continue;
        const bool real = q < m;
        const int64_t row = p.row(b, h, q) + (split ? int64_t(chunk) * gridDim.z * p.heads * p.q_len : 0);
        E* out = p.O.at(b, h, q);
        float* partial = split ? p.partial + row * p.Dv : nullptr;
        UNROLL for (int j = 0; j < kN / 8; ++j) {
            const int d = O.col(j, 0);
            const float x = real ? O.x[i][j][half * 2] : 0.f, y = real ? O.x[i][j][half * 2 + 1] : 0.f;
            if (kWhole) {
                if (j * 8 < p.Dv) ptx::write(reinterpret_cast<uint32_t*>(out + d), ptx::pack<E>(x, y));
            } else if (split) {
                if (d < p.Dv) ptx::write(partial + d, x);
                if (d + 1 < p.Dv) ptx::write(partial + d + 1, y);
            } else if (d + 1 < p.Dv) {
                ptx::write(reinterpret_cast<uint32_t*>(out + d), ptx::pack<E>(x, y));
            } else if (d < p.Dv) {
                ptx::write(out + d, ptx::from_float<E>(x));
            }
        }
        float* out_lse = split ? p.partial_lse : p.LSE;
        if (threadIdx.x % 4 == 0 && out_lse) ptx::write(out_lse + row, real ? lse.x[i][half] : -INFINITY);
    }
}
