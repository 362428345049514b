// memory_efficient.cuh — attention for what the tensor-core kernels do not take: float32, any head size, stride and alignment, any architecture from sm_60.
// The same running softmax on plain float32 arithmetic; memory linear in the length. 64 x 64 scores a block and step; values wider than 128 take several
// passes over the keys, each computing the scores again.
#pragma once
#include "mask.cuh"
#include "score.cuh"

struct SmemME {
    static constexpr int kSlice = 32, kValues = 128, kKeys = 16;
    // 45 KB: within what every architecture gives. The two rows of P that a warp stores are 16 banks apart.
    float Q[64][kSlice + 1], K[64][kSlice + 1], P[64][80], V[kKeys][kValues];
};
constexpr int kMemoryEfficientThreads = 256;

// Thread (ty, tx) of 16 x 16 holds rows ty + 16 r and columns tx + 16 c: a row's sixteen threads are one half of a warp.
template <class E, class Mask>
__global__ void __launch_bounds__(kMemoryEfficientThreads, 1) memory_efficient(const __grid_constant__ Problem<E> p, const __grid_constant__ ColumnStrides columns,
                                                                            const __grid_constant__ Mask mask) {
    constexpr int kThreads = kMemoryEfficientThreads, kSlice = SmemME::kSlice, kValues = SmemME::kValues, kKeys = SmemME::kKeys;
    if (given_up(p.cancel)) return;
    auto& smem = *reinterpret_cast<SmemME*>(ptx::dynamic_smem());
    const Place place = place_of(p);
    const int b = place.b, h = place.h, turn = place.turn;
    const int q0 = turn * 64, tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const RowRule rule = rule_of(mask.mask, b);
    const int m_rows = rule.queries, n = rule.keys;
    const auto tiles = mask.template tiles<64, 64>(rule, b, h, turn, q0, 0, n);
    const E *gQ = p.Q.at(b, h, 0), *gK = p.K.at(b, h / p.group, 0), *gV = p.V.at(b, h / p.group, 0);

    UNROLL_ONCE for (int d0 = 0; d0 < p.Dv; d0 += kValues) {
        float O[4][8], m[4], l[4];
        UNROLL for (int r = 0; r < 4; ++r) {
            m[r] = -INFINITY, l[r] = 0.f;
            UNROLL for (int c = 0; c < 8; ++c) O[r][c] = 0.f;
        }
        UNROLL_ONCE for (int t = 0; t < tiles.count; ++t) {
            const int k0 = tiles.block(t) * 64;
            float S[4][4];
            UNROLL for (int r = 0; r < 4; ++r) UNROLL for (int c = 0; c < 4; ++c) S[r][c] = 0.f;
            UNROLL_ONCE for (int s0 = 0; s0 < p.D; s0 += kSlice) { // S = Q K_t^T, a slice of D at a time
                __syncthreads();                                    // everyone is done with the last slice, P and V
                for (int i = threadIdx.x; i < 64 * kSlice; i += kThreads) {
                    const int row = i / kSlice, d = s0 + i % kSlice;
                    const bool q = q0 + row < m_rows && d < p.D, k = k0 + row < n && d < p.D;
                    ptx::write(&smem.Q[row][i % kSlice], q ? ptx::to_float(ptx::read(gQ + (q0 + row) * p.Q.row + d * columns.q)) : 0.f);
                    ptx::write(&smem.K[row][i % kSlice], k ? ptx::to_float(ptx::read(gK + (k0 + row) * p.K.row + d * columns.k)) : 0.f);
                }
                __syncthreads(); // the slice is here
                UNROLL_ONCE for (int d = 0; d < kSlice; ++d) {
                    float q[4], k[4];
                    UNROLL for (int r = 0; r < 4; ++r) q[r] = ptx::read(&smem.Q[ty + 16 * r][d]), k[r] = ptx::read(&smem.K[tx + 16 * r][d]);
                    UNROLL for (int r = 0; r < 4; ++r) UNROLL for (int c = 0; c < 4; ++c) S[r][c] = fmaf(q[r], k[c], S[r][c]);
                }
            }
            const Words words = tiles.words(t);
            UNROLL for (int r = 0; r < 4; ++r) {
                const int row = ty + 16 * r, i = q0 + row;
                float larger = m[r];
                UNROLL for (int c = 0; c < 4; ++c) {
                    const int col = tx + 16 * c, j = k0 + col;
                    const bool seen = i < m_rows && j < n && (t >= tiles.partial || mask.sees(words, rule, i, j, row, col));
                    S[r][c] = seen ? score_of<E>(S[r][c], p.scale, p.terms, b, h, i, j, rule.offset) : -INFINITY;
                    larger = fmaxf(larger, S[r][c]);
                }
                UNROLL for (int across = 1; across < 16; across *= 2) larger = fmaxf(larger, __shfl_xor_sync(~0u, larger, across));
                const float shift = larger == -INFINITY ? 0.f : larger, alpha = ptx::exp2(Termed::exponent(m[r], shift));
                m[r] = larger, l[r] *= alpha;
                UNROLL for (int c = 0; c < 4; ++c) {
                    const float P = ptx::exp2(Termed::exponent(S[r][c], shift));
                    l[r] += P;
                    ptx::write(&smem.P[row][tx + 16 * c], P);
                }
                UNROLL for (int c = 0; c < 8; ++c) O[r][c] *= alpha;
            }
            UNROLL_ONCE for (int v0 = 0; v0 < 64; v0 += kKeys) { // O += P V_t, sixteen keys at a time
                __syncthreads();                                  // P is here; everyone is done with the last keys
                for (int i = threadIdx.x; i < kKeys * kValues; i += kThreads) {
                    const int key = k0 + v0 + i / kValues, d = d0 + i % kValues;
                    ptx::write(&smem.V[i / kValues][i % kValues], key < n && d < p.Dv ? ptx::to_float(ptx::read(gV + key * p.V.row + d * columns.v)) : 0.f);
                }
                __syncthreads(); // the keys' values are here
                UNROLL_ONCE for (int k = 0; k < kKeys; ++k) {
                    float P[4];
                    UNROLL for (int r = 0; r < 4; ++r) P[r] = ptx::read(&smem.P[ty + 16 * r][v0 + k]);
                    UNROLL for (int c = 0; c < 8; ++c) {
                        const float v = ptx::read(&smem.V[k][tx + 16 * c]);
                        UNROLL for (int r = 0; r < 4; ++r) O[r][c] = fmaf(P[r], v, O[r][c]);
                    }
                }
            }
        }
        UNROLL for (int r = 0; r < 4; ++r) {
            const int i = q0 + ty + 16 * r;
            UNROLL for (int across = 1; across < 16; across *= 2) l[r] += __shfl_xor_sync(~0u, l[r], across);
            if (i >= p.q_len) continue;
            const bool nothing = l[r] == 0.f;
            E* out = p.O.at(b, h, i);
            UNROLL for (int c = 0; c < 8; ++c) {
                const int d = d0 + tx + 16 * c;
                if (d < p.Dv) ptx::write(out + d * columns.o, ptx::from_float<E>(nothing ? 0.f : O[r][c] / l[r]));
            }
            if (d0 == 0 && tx == 0 && p.LSE) ptx::write(p.LSE + p.row(b, h, i), nothing ? -INFINITY : Termed::lse(m[r], ptx::log2(l[r])));
        }
    }
    if (p.visited && threadIdx.x == 0) ptx::add(p.visited, tiles.count);
}
