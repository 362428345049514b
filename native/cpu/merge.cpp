// merge.cpp — partial results over disjoint keys form a monoid: weights are exp(LSE_side - LSE), so a row that saw nothing weighs nothing.
#include <cmath>
#include <functional>

#include "backend.hpp"
#include "element.hpp"

namespace attn::cpu {
namespace {

constexpr int64_t kRows = 64; // one work item

// The weights are exp(LSE_side - LSE), but taken before LSE is rounded: next to large numbers its last place is a visible share of O.
struct Weights {
    float a, b, LSE;
    Weights(float La, float Lb) {
        const float m = La > Lb ? La : Lb;
        if (La == Lb && std::isinf(La) && La < 0) { // neither side saw anything
            a = b = 0, LSE = La;
            return;
        }
        const float ea = std::exp(La - m), eb = std::exp(Lb - m), sum = ea + eb;
        a = ea / sum, b = eb / sum, LSE = m + std::log(sum);
    }
};

} // namespace

void merge(DType dtype, int64_t B, int64_t H, int64_t S, int64_t Dv, const MergeSide& a, const MergeSide& b, void* O, const Strides& stride, float* LSE,
           Pool& pool) {
    with_element(dtype, [&](auto zero) {
        using T = decltype(zero);
        const Heads<const T> Oa = heads<const T>(a.O, a.stride), Ob = heads<const T>(b.O, b.stride);
        const Heads<T> out = heads<T>(O, stride);
        const auto row = [&](int, int64_t at) {
            const int64_t i = at % S, h = at / S % H, batch = at / S / H;
            const Weights w(a.LSE[at], b.LSE[at]);
            const T *x = Oa.row(batch, h, i), *y = Ob.row(batch, h, i);
            T* o = out.row(batch, h, i);
            for (int64_t d = 0; d < Dv; ++d) {
                // What a side that saw nothing holds does not count, whatever it is.
                const float xd = w.a != 0 ? w.a * float(number(x[d * a.stride.column])) : 0, yd = w.b != 0 ? w.b * float(number(y[d * b.stride.column])) : 0;
                o[d * stride.column] = element<T>(xd + yd);
            }
            if (LSE) LSE[at] = w.LSE;
        };
        pool.parallel(B * H * S, kRows, std::cref(row));
    });
}

} // namespace attn::cpu
