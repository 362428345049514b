// merge.cpp — partial results over disjoint keys form a monoid: weights are exp(LSE_side - LSE), so a row that saw nothing weighs nothing.
#include <cmath>
#include <functional>
#include <limits>

#include "backend.hpp"
#include "element.hpp"

namespace attn::cpu {
namespace {

constexpr int64_t kRows = 64; // one work item

float log_sum_exp(float a, float b) {
    const float m = a > b ? a : b;
    if (a == b && std::isinf(a)) return a; // neither side saw anything
    return m + std::log(std::exp(a - m) + std::exp(b - m));
}
float weight(float side, float all) { return side == -std::numeric_limits<float>::infinity() ? 0 : std::exp(side - all); }

} // namespace

void merge(DType dtype, int64_t B, int64_t H, int64_t S, int64_t Dv, const MergeSide& a, const MergeSide& b, void* O, const Strides& stride, float* LSE,
           Pool& pool) {
    with_element(dtype, [&](auto zero) {
        using T = decltype(zero);
        const Heads<const T> Oa = heads<const T>(a.O, a.stride), Ob = heads<const T>(b.O, b.stride);
        const Heads<T> out = heads<T>(O, stride);
        const auto row = [&](int, int64_t at) {
            const int64_t i = at % S, h = at / S % H, batch = at / S / H;
            const float La = a.LSE[at], Lb = b.LSE[at], L = log_sum_exp(La, Lb), wa = weight(La, L), wb = weight(Lb, L);
            const T *x = Oa.row(batch, h, i), *y = Ob.row(batch, h, i);
            T* o = out.row(batch, h, i);
            for (int64_t d = 0; d < Dv; ++d) {
                // What a side that saw nothing holds does not count, whatever it is.
                const float xd = wa != 0 ? wa * float(number(x[d * a.stride.column])) : 0, yd = wb != 0 ? wb * float(number(y[d * b.stride.column])) : 0;
                o[d * stride.column] = element<T>(xd + yd);
            }
            if (LSE) LSE[at] = L;
        };
        pool.parallel(B * H * S, kRows, std::cref(row));
    });
}

} // namespace attn::cpu
