// terms.hpp — steps 2 and 3 of the formula for a vector of scores: softcap, bias, ALiBi. Scores with terms are natural, those without are powers of 2: the
// smallest finite number as a bias must not become -inf, which masks, and times log2(e) it would.
#pragma once
#include "vec.hpp"

namespace attn::cpu::ISA {

// Of one batch and head; i and j are query and key.
class Terms {
public:
    INLINE Terms(const Call& call, const Rule& rule, int64_t b, int64_t h)
        : row(call.bias.stride.row),
          softcap(call.problem->softcap),
          slope(call.slopes ? call.slopes[h] : 0),
          has_slope(call.slopes),
          offset(rule.offset),
          keys(call.mask.Sk),
          dtype(call.bias.dtype),
          column(call.bias.stride.column),
          bias(call.bias.data ? static_cast<const char*>(call.bias.data) + (b * call.bias.stride.batch + h * call.bias.stride.head) * size_of(dtype)
                              : nullptr) {}

    INLINE static bool any(const Call& call) { return call.problem->softcap > 0 || call.bias.data || call.slopes; }
    // What Q is multiplied with, and what a difference of scores is, so that 2^ of it is the weight.
    INLINE static float query_factor(const Problem& p, bool terms) { return !terms ? p.scale * kLog2e : p.softcap > 0 ? p.scale / p.softcap : p.scale; }

    INLINE vec apply(vec s, int64_t i, int64_t j) const {
        if (softcap > 0) s = tanh(s) * softcap;
        if (bias) s += bias_at(i, j);
        if (has_slope) {
            const vec distance = float(i + offset - j) - lanes();
            s -= max(-distance, distance) * slope;
        }
        return s;
    }
    // A bias whose rows can be added as they lie, and nothing else.
    INLINE bool only_bias() const { return bias && dtype == DType::f32 && column == 1 && softcap == 0 && !has_slope; }
    INLINE const float* bias_row(int64_t i) const { return reinterpret_cast<const float*>(bias) + i * row; }
    // The bias of the keys [j, j + n) comes to L2.
    INLINE void fetch(int64_t i, int64_t j, int64_t n) const {
        if (bias && column == 1) prefetch(bias + (i * row + j) * size_of(dtype), smaller(n, keys - j) * size_of(dtype));
    }

    const int64_t row; // of the bias: from one query to the next

private:
    INLINE vec bias_at(int64_t i, int64_t j) const {
        switch (dtype) {
            case DType::f16: return bias_as<half>(i, j);
            case DType::bf16: return bias_as<bfloat>(i, j);
            default: return bias_as<float>(i, j);
        }
    }
    template <class E>
    INLINE vec bias_as(int64_t i, int64_t j) const {
        const E* x = reinterpret_cast<const E*>(bias) + i * row + j * column;
        if (column == 1) return load(x, keys - j);
        vec y{};
        for (int64_t l = 0; l < smaller(kWidth, keys - j); ++l) y[l] = number(x[l * column]);
        return y;
    }

    const float softcap, slope;
    const bool has_slope;
    const int64_t offset, keys;
    const DType dtype;
    const int64_t column;
    const char* const bias;
};

} // namespace attn::cpu::ISA
