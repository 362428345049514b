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

void merge(const Merging& m, Pool& pool) {
    with_element(m.dtype, [&](auto zero) {
        using T = decltype(zero);
        const auto& [a, b] = m.parts;
        const Heads<const T> Oa = heads<const T>(a.O, a.stride), Ob = heads<const T>(b.O, b.stride);
        const Heads<T> out = heads<T>(m.O, m.stride);
        const auto row = [&](int, int64_t at) {
            const int64_t i = at % m.S, h = at / m.S % m.H, batch = at / m.S / m.H;
            const Weights w(a.LSE[at], b.LSE[at]);
            const T *x = Oa.row(batch, h, i), *y = Ob.row(batch, h, i);
            T* o = out.row(batch, h, i);
            for (int64_t d = 0; d < m.Dv; ++d) {
                // What a side that saw nothing holds does not count, whatever it is.
                const float xd = w.a != 0 ? w.a * float(number(x[d * a.stride.column])) : 0, yd = w.b != 0 ? w.b * float(number(y[d * b.stride.column])) : 0;
                o[d * m.stride.column] = element<T>(xd + yd);
            }
            if (m.LSE) m.LSE[at] = w.LSE;
        };
        pool.parallel(m.rows(), kRows, std::cref(row));
    });
}

} // namespace attn::cpu
