// naive.cuh — attention as it is written in the books, every score in memory: one warp a row, each score's mask asked one by one of the model's own
// definition. The reference on the device, and the one kernel that returns probabilities.
#pragma once
#include "mask.cuh"
#include "memory_efficient.cuh"

// P [B][Hq][Sq][Sk] float32, exactly 0 where nothing is seen. blockIdx.x counts a head's rows by kNaiveWarps, y heads, z batches.
template <class E>
__global__ void __launch_bounds__(kNaiveWarps * 32, 1) naive(const __grid_constant__ Problem<E> p, const __grid_constant__ ColumnStrides columns, const __grid_constant__ attn::Mask mask,
                                                          const __grid_constant__ DenseKeep keep, float* P) {
    if (given_up(p.cancel)) return;
    const int b = blockIdx.z, h = blockIdx.y, i = blockIdx.x * kNaiveWarps + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (i >= p.q_len) return;
    const attn::Rule rule = mask.rule(b);
    const E *gQ = p.Q.at(b, h, i), *gK = p.K.at(b, h / p.group, 0), *gV = p.V.at(b, h / p.group, 0);
    const uint8_t* kept = keep.data + b * keep.batch + h * keep.head + i * keep.row;
    float* S = P + p.row(b, h, i) * p.k_len;

    float m = -INFINITY, l = 0.f;
    for (int j = lane; j < p.k_len; j += 32) {
        float s = -INFINITY;
        if (mask.sees(rule, b, h, i, j) && (!keep.data || ptx::read(kept + j * keep.column))) {
            float product = 0.f;
            for (int d = 0; d < p.D; ++d) product = fmaf(ptx::to_float(ptx::read(gQ + d * columns.q)), ptx::to_float(ptx::read(gK + j * p.K.row + d * columns.k)), product);
            s = score_of<E>(product, p.scale, p.terms, b, h, i, j, float(rule.offset));
        }
        ptx::write(S + j, s);
        m = fmaxf(m, s);
    }
    UNROLL for (int across = 1; across < 32; across *= 2) m = fmaxf(m, __shfl_xor_sync(~0u, m, across));
    const float shift = m == -INFINITY ? 0.f : m;
    for (int j = lane; j < p.k_len; j += 32) l += ptx::exp2(Termed::exponent(ptx::read(S + j), shift));
    UNROLL for (int across = 1; across < 32; across *= 2) l += __shfl_xor_sync(~0u, l, across);
    for (int j = lane; j < p.k_len; j += 32) ptx::write(S + j, l == 0.f ? 0.f : ptx::exp2(Termed::exponent(ptx::read(S + j), shift)) / l);
    __syncwarp(); // a row's probabilities are written
    for (int d = lane; d < p.Dv; d += 32) {
        float o = 0.f;
        for (int j = 0; j < p.k_len; ++j) {
            const float weight = ptx::read(S + j);
            if (weight != 0.f) o = fmaf(weight, ptx::to_float(ptx::read(gV + j * p.V.row + d * columns.v)), o);
        }
        ptx::write(p.O.at(b, h, i) + d * columns.o, ptx::from_float<E>(o));
    }
    if (lane == 0 && p.LSE) ptx::write(p.LSE + p.row(b, h, i), l == 0.f ? -INFINITY : Termed::lse(m, ptx::log2(l)));
}
