// score.cuh — from a product to a score: scale, softcap, bias, ALiBi. With a positive scale and no terms the scale goes into the exponent (Scaled) and a
// score costs nothing; everything else is applied to each score (Termed).
#pragma once
#include "problem.cuh"
#include "softmax.cuh"

// tanh to float32's precision: the hardware's approximation has eleven bits. Near zero 1 - 2/(e^2x + 1) cancels, and a polynomial takes over.
DEVICE float tanh_of(float x) {
    const float y = x * x;
    if (y < 0.09f) return x + x * y * (-1.f / 3 + y * (2.f / 15 + y * (-17.f / 315 + y * (62.f / 2835))));
    return 1.f - 2.f / (ptx::exp2(x * (2 * kLog2e)) + 1.f);
}
// The score of query i and key j of head h, i and j inside the tensors; the query's position is i + offset.
template <class E>
DEVICE float score_of(float product, float scale, const Terms& t, int b, int h, int i, int j, float offset) {
    float s = product * scale;
    if (t.softcap > 0.f) s = t.softcap * tanh_of(s / t.softcap);
    if (t.bias) {
        const int64_t at = b * t.bias_batch + h * t.bias_head + i * t.bias_row + j * t.bias_column;
        s += t.bias_is_float ? ptx::read(static_cast<const float*>(t.bias) + at) : ptx::to_float(ptx::read(static_cast<const E*>(t.bias) + at));
    }
    if (t.slopes) s -= ptx::read(t.slopes + h) * fabsf(float(i - j) + offset);
    return s;
}

// What exp2 takes of a score under its row's maximum, whose shift is computed once a row; and the row's log-sum-exp. least: the maximum of no scores.
struct Scaled {
    float scale; // times log2(e); positive, so that hidden scores stay hidden
    explicit DEVICE Scaled(float of_products) : scale(of_products * kLog2e) {}
    static DEVICE float least() { return -INFINITY; }
    template <bool kHoles>
    DEVICE float shift(float m) const { return kHoles && m == -INFINITY ? 0.f : m * scale; }
    DEVICE float exponent(float s, float shift) const { return s * scale - shift; }
    DEVICE float lse(float m, float log2_l) const { return (m * scale + log2_l) * kLn2; }
    template <class E, int kM, int kN>
    static DEVICE void apply(Accum<kM, kN>&, const Problem<E>&, int, int, int, int, float) {}
};
struct Termed {
    explicit DEVICE Termed(float) {}
    static DEVICE float least() { return -3.402823466e38f; } // finite: a hidden score lies -inf below it, so a row that saw nothing needs no shift of its own
    template <bool>
    static DEVICE float shift(float m) { return m; }
    // The difference before the factor: the smallest finite bias must not become -inf, which hides, and times log2(e) it would.
    static DEVICE float exponent(float s, float shift) { return (s - shift) * kLog2e; }
    static DEVICE float lse(float m, float log2_l) { return m + log2_l * kLn2; }
    // Rows q.., keys k..; what lies past the tensors' ends takes the last element's term and is hidden or not stored.
    template <class E, int kM, int kN>
    static DEVICE void apply(Accum<kM, kN>& S, const Problem<E>& p, int b, int h, int q, int k, float offset) {
        UNROLL for (int r = 0; r < S.kMi * 2; ++r) {
            const int i = min(q + S.row(r / 2, r % 2 * 2), p.q_len - 1);
            UNROLL for (int c = 0; c < S.kNi * 2; ++c) {
                float& s = S.x[r / 2][c / 2][r % 2 * 2 + c % 2];
                s = score_of<E>(s, p.scale, p.terms, b, h, i, min(k + S.col(c / 2, c % 2), p.k_len - 1), offset);
                if (c % 4 == 3) ptx::pin(s); // four loads in flight, not a register for every score's address
            }
        }
    }
};
