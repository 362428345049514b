// vec.hpp — one vector of floats per instruction set, what is computed on it, and how it comes from and goes to memory. Everything above is the same source,
// compiled once for each, in the namespace that ISA names: what the linker takes for the same it would merge, and AVX-512 would run where there is none.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../model/problem.hpp"
#include "element.hpp"

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE ATTN_INLINE

#if defined(__AVX512F__)
#define ISA avx512
#elif defined(__AVX2__)
#define ISA avx2
#else
#define ISA generic
#endif

namespace attn::cpu::ISA {

// The register tile: kRows x kVecs accumulators, kVecs vectors of B, one broadcast of A. It must hide the latency of an FMA (8 in flight).
#if defined(__AVX512F__)
constexpr int kWidth = 16, kRows = 8, kVecs = 2; // of 32 registers; 8 divides a cell of 64 queries, and panels of 32 keys waste fewest
#elif defined(__AVX2__)
constexpr int kWidth = 8, kRows = 6, kVecs = 2; // of 16 registers
#else
constexpr int kWidth = 4, kRows = 4, kVecs = 2; // of 16 registers; mulps needs a copy
#endif

typedef float vec __attribute__((vector_size(kWidth * 4)));
typedef float vec_unaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(kWidth * 4)));
typedef uint32_t uvec __attribute__((vector_size(kWidth * 4)));
typedef int32_t ivec_unaligned __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef uint16_t short_vec __attribute__((vector_size(kWidth * 2)));

INLINE void pin(vec& x) { asm("" : "+v"(x)); } // keeps x in a register: GCC 12 otherwise spills B and reads it back in every FMA
INLINE vec set1(float x) { return x - vec{}; }
INLINE vec lanes() { // 0, 1, 2, ...
    vec x;
    for (int i = 0; i < kWidth; ++i) x[i] = float(i);
    return x;
}
INLINE vec max(vec a, vec b) { // b where either is NaN
#if defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
    return _mm256_max_ps(a, b);
#else
    return _mm_max_ps(a, b);
#endif
}
INLINE vec fma(vec a, vec b,
               vec c) { // a b + c, rounded once where there is an FMA: left to itself GCC makes some loops of them and not others, and bits differ
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
    return _mm256_fmadd_ps(a, b, c);
#else
    return a * b + c;
#endif
}
INLINE vec select(uint32_t bits, vec x, float otherwise) { // lane i of x where bit i is set
#if defined(__AVX512F__)
    return _mm512_mask_blend_ps(__mmask16(bits), set1(otherwise), x);
#else
    ivec lane;
    for (int i = 0; i < kWidth; ++i) lane[i] = 1 << i;
    return (lane & int(bits)) != 0 ? x : set1(otherwise);
#endif
}

// ---- Memory. load(p, n) and store(p, x, n): the first n elements; beyond them zeros come, and nothing is read or written.

template <int kLevel = 2>
INLINE void prefetch(const void* row, int64_t bytes) { // 2: into L2, 3: L1
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(row) + at, 0, kLevel);
}

INLINE vec load(const float* p) { return *reinterpret_cast<const vec_unaligned*>(p); }
INLINE void store(float* p, vec x) { *reinterpret_cast<vec_unaligned*>(p) = x; }
INLINE vec load(const float* p, int64_t n) {
    if (n >= kWidth) return load(p);
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps(__mmask16(low_bits(n)), p);
#elif defined(__AVX2__)
    return _mm256_maskload_ps(p, __m256i(lanes() < set1(float(n))));
#else
    vec x{};
    for (int i = 0; i < n; ++i) x[i] = p[i];
    return x;
#endif
}
INLINE void store(float* p, vec x, int64_t n) {
    if (n >= kWidth) return store(p, x);
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, __mmask16(low_bits(n)), x);
#elif defined(__AVX2__)
    _mm256_maskstore_ps(p, __m256i(lanes() < set1(float(n))), x);
#else
    for (int i = 0; i < n; ++i) p[i] = x[i];
#endif
}

INLINE short_vec load_bits(const void* p, int64_t n) {
    short_vec x{};
    if (n >= kWidth) std::memcpy(&x, p, sizeof x);
#if defined(__AVX512F__)
    else x = short_vec(_mm256_maskz_loadu_epi16(__mmask16(low_bits(n)), p));
#else
    else
        for (int i = 0; i < n; ++i) x[i] = static_cast<const uint16_t*>(p)[i];
#endif
    return x;
}
INLINE void store_bits(void* p, short_vec x, int64_t n) {
    if (n >= kWidth) std::memcpy(p, &x, sizeof x);
#if defined(__AVX512F__)
    else _mm256_mask_storeu_epi16(p, __mmask16(low_bits(n)), __m256i(x));
#else
    else
        for (int i = 0; i < n; ++i) static_cast<uint16_t*>(p)[i] = x[i];
#endif
}
INLINE vec widened(short_vec x, bfloat) { return vec(__builtin_convertvector(x, uvec) << 16); }
INLINE vec widened(short_vec x, half) {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(__m256i(x));
#elif defined(__AVX2__)
    return _mm256_cvtph_ps(__m128i(x));
#else
    const uvec bits = __builtin_convertvector(x, uvec), magnitude = bits & 0x7fff;
    const uvec finite = uvec(vec(magnitude << 13) * 0x1p112f), special = (magnitude & 0x3ff) << 13 | 0x7f800000; // as in element.hpp
    return vec((magnitude >= 0x7c00 ? special : finite) | (bits & 0x8000) << 16);
#endif
}
INLINE short_vec nearest(vec x, bfloat) {
    const uvec bits = uvec(x), even = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return __builtin_convertvector(x == x ? even : (bits >> 16 | 0x40), short_vec);
}
INLINE short_vec nearest(vec x, half) {
#if defined(__AVX512F__)
    return short_vec(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__AVX2__)
    return short_vec(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
    short_vec y;
    for (int i = 0; i < kWidth; ++i) y[i] = element<half>(x[i]).bits;
    return y;
#endif
}
template <class T>
INLINE vec load(const T* p, int64_t n) {
    return widened(load_bits(p, n), T{});
}
template <class T>
INLINE void store(T* p, vec x, int64_t n) {
    store_bits(p, nearest(x, T{}), n);
}

// ---- Across lanes.

template <int kStep>
INLINE ivec butterfly(bool upper) {
    ivec i;
    for (int l = 0; l < kWidth; ++l) i[l] = upper ? (l & kStep ? kWidth + l : l + kStep) : (l & kStep ? kWidth + l - kStep : l);
    return i;
}
template <int kStep = 1>
INLINE void transpose(vec (&x)[kWidth]) {
    if constexpr (kStep < kWidth) {
        UNROLL
        for (int i = 0; i < kWidth; ++i)
            if (!(i & kStep)) {
                const vec a = x[i], b = x[i + kStep];
                x[i] = __builtin_shuffle(a, b, butterfly<kStep>(false));
                x[i + kStep] = __builtin_shuffle(a, b, butterfly<kStep>(true));
            }
        transpose<kStep * 2>(x);
    }
}
template <int kStep = kWidth / 2, class V, class Op>
INLINE auto fold(V x, Op op) {
    if constexpr (kStep == 0) {
        return x[0];
    } else {
        ivec i;
        for (int l = 0; l < kWidth; ++l) i[l] = l ^ kStep;
        return fold<kStep / 2>(op(x, __builtin_shuffle(x, i)), op);
    }
}
INLINE float sum(vec x) {
    return fold(
        x, [](vec a, vec b) __attribute__((always_inline)) { return a + b; });
}
INLINE float max(vec x) {
    return fold(
        x, [](vec a, vec b) __attribute__((always_inline)) { return max(a, b); });
}

// Lane l becomes the sum of x[l]: a third of the work of as many sums one by one. Each adds its lanes in the same order.
template <int kStep = 1>
INLINE vec sums(vec* x) {
    if constexpr (kStep == kWidth) {
        return x[0];
    } else {
        UNROLL
        for (int i = 0; i < kWidth; i += 2 * kStep) {
            const vec a = x[i], b = x[i + kStep];
            x[i] = __builtin_shuffle(a, b, butterfly<kStep>(false)) + __builtin_shuffle(a, b, butterfly<kStep>(true));
        }
        return sums<kStep * 2>(x);
    }
}

INLINE bool hidden(vec x) { // every lane is -inf; NaN is not
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(x, set1(-INFINITY), _CMP_EQ_OQ) == 0xffff;
#elif defined(__AVX2__)
    return _mm256_movemask_ps(vec(x == -INFINITY)) == 0xff;
#else
    return _mm_movemask_ps(vec(x == -INFINITY)) == 0xf;
#endif
}

// ---- Functions.

// 2^x for x <= 0; exactly 0 far below -127, -inf included, so that hidden keys are exactly 0; NaN stays NaN. By bits: rounding by a large number leaves the
// exponent in the low bits, and everything but the five FMAs runs beside them where adds, maxima and shifts have pipes of their own (AMD). By scale: fewest
// instructions, for where they all share the FMA's ports (Intel); what would be denormal takes an assist each unless flushed to zero.
enum class Exp2 { by_bits, by_scale };
template <Exp2 kWay = Exp2::by_bits>
INLINE vec exp2(vec x) {
#if defined(__AVX512F__)
    if constexpr (kWay == Exp2::by_scale) {
        const vec f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); // x - floor(x)
        vec p = f * 0.00186713022f + 0.0090170298f;                                   // 2^f on [0, 1), minimax with p(0) = 1: relative error 8.2e-08
        p = p * f + 0.0557999137f;
        p = p * f + 0.24016445f;
        p = p * f + 0.693151312f;
        p = p * f + 1.f;
        return _mm512_scalef_ps(p, x);
    }
#endif
    x = max(set1(-127.f), x);
    const vec shifted = x + 12582912.f, f = x - (shifted - 12582912.f);
    vec p = f * 1.32647273e-3f + 9.67151299e-3f; // 2^f on [-1/2, 1/2], minimax with p(0) = 1: relative error 1.1e-7
    p = p * f + 5.55073358e-2f;
    p = p * f + 2.40222424e-1f;
    p = p * f + 6.93147004e-1f;
    p = p * f + 1.f; // exactly 1 at 0, so that -127 gives 0
    return vec(uvec(p) + (uvec(shifted) << 23));
}
INLINE float exp2(float x) { return exp2(set1(x))[0]; }

// Relative error below 3e-7: near 0 by an odd polynomial (minimax, 4e-9), elsewhere (1 - t) / (1 + t) with t = e^-2|x|.
INLINE vec tanh(vec x) {
    const vec a = max(-x, x), t = exp2(a * (-2 * kLog2e)), z = x * x;
    vec q = z * -5.71703e-3f + 2.065057e-2f;
    q = q * z + -5.374349e-2f;
    q = q * z + 1.3331491e-1f;
    q = q * z + -3.3333284e-1f;
    const vec near = x + x * (z * q), far = (1.f - t) / (1.f + t);
    return a < 0.625f ? near : x < 0.f ? -far : far;
}

// ---- Products.

// C += A B in registers: A by broadcast from its rows, B by vectors.
template <int R, int N>
struct Accum {
    vec x[R][N];
};
struct Nothing {
    INLINE void operator()(int64_t) const {}
};
template <int R, int N, class T, class Beside = Nothing> // beside(k): what else is done with row k of B
INLINE void multiply(Accum<R, N>& C, const float* A, int64_t a_row, const T* B, int64_t b_row, int64_t depth, Beside beside = {}) {
    _Pragma("GCC unroll 4") for (int64_t k = 0; k < depth; ++k) {
        beside(k);
        vec b[N];
        UNROLL
        for (int j = 0; j < N; ++j) {
            b[j] = load(B + k * b_row + j * kWidth, kWidth);
            pin(b[j]);
        }
        UNROLL
        for (int i = 0; i < R; ++i) {
            const vec a = set1(A[i * a_row + k]);
            UNROLL
            for (int j = 0; j < N; ++j) C.x[i][j] = fma(a, b[j], C.x[i][j]);
        }
    }
}

} // namespace attn::cpu::ISA
