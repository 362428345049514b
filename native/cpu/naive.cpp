// naive.cpp — the formula as it stands, all scores of a head in memory as doubles: S = mask(softcap(scale Q K^T) + bias), P = softmax(S), O = P V.
// The reference of the library: any strides, any size, and the only backend that can show P.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "backend.hpp"
#include "element.hpp"
#include "kernels.hpp"

namespace attn::cpu {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();
constexpr int64_t kDepth = 256; // of a block of K^T or V in scratch: 64 x 256 doubles

// C[64] += a B, a row of 64 doubles at a time; 16 of them stay in registers.
template <int kColumns>
void add_product(double* C, const double* a, const double* B, int64_t b_row, int64_t depth) {
    double c[kColumns];
    std::copy_n(C, kColumns, c);
    for (int64_t k = 0; k < depth; ++k)
        for (int j = 0; j < kColumns; ++j) c[j] += a[k] * B[k * b_row + j];
    std::copy_n(c, kColumns, C);
}

template <class T>
struct Naive {
    const Call& call;
    const Problem& p;
    const int64_t b, h;
    const Rule rule;
    double* const S; // [Sq, Sk]; P after the softmax
    double* const block;
    int64_t visited = 0;

    Naive(const Call& c, int64_t batch, int64_t head, double* scores, unsigned char* scratch)
        : call(c), p(*c.problem), b(batch), h(head), rule(c.mask.rule(batch)), S(scores), block(reinterpret_cast<double*>(scratch)) {}

    double bias(int64_t i, int64_t j) const {
        const Strides& s = call.bias.stride;
        const int64_t at = b * s.batch + h * s.head + i * s.row + j * s.column;
        return call.bias.dtype == DType::f32 ? static_cast<const float*>(call.bias.data)[at] : double(number(static_cast<const T*>(call.bias.data)[at]));
    }
    double score(double product, int64_t i, int64_t j) const {
        double s = double(p.scale) * product;
        if (p.softcap > 0) s = double(p.softcap) * std::tanh(s / double(p.softcap));
        if (call.bias.data) s += bias(i, j);
        if (call.slopes) s -= double(call.slopes[h]) * double(std::abs(i + rule.offset - j));
        return s;
    }
    // Every visible score; the others are -inf, whatever K and the bias hold there.
    void scores() {
        std::fill_n(S, p.Sq * p.Sk, kHidden);
        for (int64_t c = 0; c < cells_of(p.Sk) && !call.cancelled(); ++c)
            for (int64_t r = 0; r < cells_of(smaller(p.Sq, rule.queries)); ++r)
                if (call.mask.cell(rule, b, h, r, c) != Cell::empty) {
                    ++visited;
                    products(r, c);
                }
    }
    void products(int64_t r, int64_t c) {
        const Heads<const T> Q = heads<const T>(call.Q, p.q), K = heads<const T>(call.K, p.k);
        const int64_t i0 = r * kCell, k0 = c * kCell, rows = smaller(kCell, smaller(p.Sq, rule.queries) - i0), keys = smaller(kCell, p.Sk - k0);
        double product[kCell][kCell] = {};
        for (int64_t d0 = 0; d0 < p.D; d0 += kDepth) {
            const int64_t depth = smaller(kDepth, p.D - d0);
            std::fill_n(block, depth * kCell, 0);
            for (int64_t j = 0; j < keys; ++j)
                for (int64_t d = 0; d < depth; ++d) block[d * kCell + j] = number(K.row(b, h / p.group(), k0 + j)[(d0 + d) * p.k.column]);
            for (int64_t i = 0; i < rows; ++i) {
                double q[kDepth];
                for (int64_t d = 0; d < depth; ++d) q[d] = number(Q.row(b, h, i0 + i)[(d0 + d) * p.q.column]);
                for (int64_t j = 0; j < kCell; j += 16) add_product<16>(&product[i][j], q, block + j, kCell, depth);
            }
        }
        uint64_t sees[kCell];
        call.mask.words(rule, b, h, i0, c, int(rows), sees);
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < keys; ++j)
                if (sees[i] >> j & 1) S[(i0 + i) * p.Sk + k0 + j] = score(product[i][j], i0 + i, k0 + j);
    }
    // A row that sees nothing, or only -inf, becomes zeros with LSE = -inf; NaN and +inf make NaN of their own row.
    void softmax(int64_t i) {
        double* s = S + i * p.Sk;
        double m = kHidden, l = 0;
        bool nothing = true;
        for (int64_t j = 0; j < p.Sk; ++j) {
            nothing &= s[j] == kHidden;
            m = std::max(m, s[j]);
        }
        for (int64_t j = 0; j < p.Sk; ++j) l += s[j] = s[j] == kHidden ? 0 : std::exp(s[j] - m);
        for (int64_t j = 0; j < p.Sk && !nothing; ++j)
            if (s[j] != 0) s[j] /= l;
        const int64_t row = (b * p.Hq + h) * p.Sq + i;
        if (call.LSE) call.LSE[row] = nothing ? -std::numeric_limits<float>::infinity() : float(m + std::log(l));
        if (call.P) std::copy_n(s, p.Sk, call.P + row * p.Sk);
    }
    // O = P V in blocks of 64 queries x 256 columns. A key with weight 0 is not read into a sum: V may hold anything there.
    void values(int64_t i0, int64_t d0) {
        const Heads<const T> V = heads<const T>(call.V, p.v);
        const Heads<T> out = heads<T>(call.O, p.o);
        const int64_t rows = smaller(kCell, p.Sq - i0), columns = smaller(kDepth, p.Dv - d0), visible = smaller(p.Sk, rule.keys);
        double* const O = block + kCell * kDepth;
        std::fill_n(O, rows * kDepth, 0);
        for (int64_t k0 = 0; k0 < visible && !call.cancelled(); k0 += kCell) {
            if (call.mask.cell(rule, b, h, i0 / kCell, k0 / kCell) == Cell::empty) continue;
            const int64_t keys = smaller(kCell, visible - k0);
            for (int64_t j = 0; j < keys; ++j)
                for (int64_t d = 0; d < columns; ++d) block[j * kDepth + d] = number(V.row(b, h / p.group(), k0 + j)[(d0 + d) * p.v.column]);
            for (int64_t i = 0; i < rows; ++i)
                for (int64_t j = 0; j < keys; ++j)
                    if (const double weight = S[(i0 + i) * p.Sk + k0 + j]; weight != 0)
                        for (int64_t d = 0; d < columns; ++d) O[i * kDepth + d] += weight * block[j * kDepth + d];
        }
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t d = 0; d < columns; ++d) {
                T& o = out.row(b, h, i0 + i)[(d0 + d) * p.o.column];
                if constexpr (std::is_same_v<T, double>) o = O[i * kDepth + d];
                else o = element<T>(float(O[i * kDepth + d]));
            }
    }
    void attend() {
        scores();
        for (int64_t i = 0; i < p.Sq && !call.cancelled(); ++i) softmax(i);
        for (int64_t i = 0; i < p.Sq && !call.cancelled(); i += kCell)
            for (int64_t d = 0; d < p.Dv; d += kDepth) values(i, d);
        *call.visited += visited;
    }
};

uint64_t score_bytes(const Problem& p) { return (uint64_t(p.Sq) * uint64_t(p.Sk) * sizeof(double) + 63) / 64 * 64; }

} // namespace

uint64_t naive_workspace(const Problem& problem, int workers) { return score_bytes(problem) * uint64_t(workers); }

void naive(const Call& call, Pool& pool) {
    const Problem& p = *call.problem;
    with_element(p.dtype, [&](auto zero) {
        using T = decltype(zero);
        const auto head = [&](int place, int64_t item) {
            double* const S = reinterpret_cast<double*>(call.workspace + uint64_t(place) * score_bytes(p));
            Naive<T>(call, item / p.Hq, item % p.Hq, S, pool.scratch(place)).attend();
        };
        pool.parallel(p.B * p.Hq, 1, std::cref(head), call.cancel);
    });
}

} // namespace attn::cpu
