// softmax.cuh — the running softmax of FlashAttention-2, algorithm 1: a row's maximum and sum so far, in base 2.
#pragma once
#include "tile.cuh"

constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

template <int kM, class Score>
struct Softmax {
    Score score; // what a score is in the exponent
    RowVec<kM> m = RowVec<kM>::full(Score::least()), l = RowVec<kM>::full(0.f); // l: this lane's part

    // S becomes P = exp(S - m). Returns the factor for what was accumulated under the old maximum.
    // kHoles: some of S may be -inf, perhaps a whole row so far; without, a row's maximum is finite.
    template <bool kHoles, int kN>
    DEVICE RowVec<kM> step(Accum<kM, kN>& S) {
        const auto larger = [](float a, float b) { return fmaxf(a, b); };
        const auto before = m;
        m = across_quad(reduce_rows(S, larger, m), larger);
        const auto shift = zip(m, m, [&](float a, float) { return score.template shift<kHoles>(a); });
        const auto alpha = zip(before, shift, [&](float a, float b) { return ptx::exp2(score.exponent(a, b)); });
        rows(S, shift, [&](float& s, float b) { s = ptx::exp2(score.exponent(s, b)); });
        const auto sum = [](float a, float b) { return a + b; };
        l = reduce_rows(S, sum, zip(l, alpha, [](float a, float b) { return a * b; }));
        return alpha;
    }
    // Divides O by the row sums; returns the log-sum-exp. A row that saw nothing is 0, -inf.
    template <int kN>
    DEVICE RowVec<kM> finish(Accum<kM, kN>& O) {
        l = across_quad(l, [](float a, float b) { return a + b; });
        const auto inverse = zip(l, l, [](float l, float) { return l == 0.f ? 0.f : ptx::reciprocal(l); });
        rows(O, inverse, [](float& o, float r) { o = r == 0.f ? 0.f : o * r; }); // a row that saw nothing may hold a NaN
        return zip(m, l, [&](float m, float l) { return l == 0.f ? -INFINITY : score.lse(m, ptx::log2(l)); });
    }
};
template <int kM, int kN>
DEVICE void rescale(Accum<kM, kN>& O, const RowVec<kM>& alpha) {
    rows(O, alpha, [](float& o, float a) { o *= a; });
}
