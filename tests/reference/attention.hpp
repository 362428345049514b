// attention.hpp — what attention means, in double precision and in plain loops, and the naive computation in the tensors' own dtype that the error rule
// compares with. Knows nothing of the library: who sees whom, rounding and shapes are written here a second time.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "number.hpp"

namespace reference {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A tensor [b, h, i, j] of which each dimension is full or 1 (broadcast).
template <class T>
struct Dense {
    std::vector<T> data;
    std::array<int64_t, 4> shape{};
    explicit operator bool() const { return !data.empty(); }
    int64_t index(int64_t b, int64_t h, int64_t i, int64_t j) const {
        const int64_t at[4] = {b, h, i, j};
        int64_t flat = 0;
        for (size_t d = 0; d < 4; ++d) flat = flat * shape[d] + (shape[d] == 1 ? 0 : at[d]);
        return flat;
    }
    T at(int64_t b, int64_t h, int64_t i, int64_t j) const { return data[size_t(index(b, h, i, j))]; }
};

enum class Offset { top_left, bottom_right, value, per_batch };

struct Problem {
    Type type = Type::f32;
    int64_t B = 1, Hq = 1, Hkv = 1, Sq = 1, Sk = 1, D = 1, Dv = 1;
    std::vector<double> Q, K, V; // contiguous [B, H, S, D], holding what the tensors hold
    float scale = 1, softcap = 0;

    std::vector<int32_t> key_lengths, query_lengths, prefix, q_documents, k_documents; // empty: that mask is not given
    bool causal = false;
    int64_t left = -1, right = -1;
    Offset offset_kind = Offset::top_left;
    int64_t offset = 0;
    std::vector<int32_t> offsets;
    Dense<uint8_t> keep;
    Dense<double> bias;
    std::vector<float> slopes;

    int64_t n(int64_t b) const { return key_lengths.empty() ? Sk : key_lengths[size_t(b)]; }
    int64_t m(int64_t b) const { return query_lengths.empty() ? Sq : query_lengths[size_t(b)]; }
    int64_t position(int64_t b, int64_t i) const {
        switch (offset_kind) {
            case Offset::bottom_right: return i + n(b) - m(b);
            case Offset::value: return i + offset;
            case Offset::per_batch: return i + offsets[size_t(b)];
            default: return i;
        }
    }
    bool sees(int64_t b, int64_t h, int64_t i, int64_t j) const {
        const int64_t p = position(b, i);
        if (j >= n(b) || i >= m(b)) return false;
        if (causal && j > p) return false;
        if (left >= 0 && j < p - left) return false;
        if (right >= 0 && j > p + right) return false;
        if (!prefix.empty() && !(j < prefix[size_t(b)] || j <= p)) return false;
        if (!q_documents.empty()) {
            const int32_t q = q_documents[size_t(b * Sq + i)], k = k_documents[size_t(b * Sk + j)];
            if (q < 0 || q != k) return false;
        }
        return !keep || keep.at(b, h, i, j) != 0;
    }
};

// One batch and query head.
struct Head {
    std::vector<double> O, LSE, P; // [Sq, Dv], [Sq], [Sq, Sk]
    std::vector<double> largest;   // of each row's visible |S|
    double V = 0;                  // the largest |V| of a key that some row sees
};

namespace arithmetic {

// In double, nothing rounded.
struct Exact {
    using Number = double;
    explicit Exact(Type) {}
    double round(double x) const { return x; }
};
// In float, rounded to the dtype where SEMANTICS.md says so.
struct SameType {
    using Number = float;
    Type type;
    explicit SameType(Type t) : type(t) {}
    float round(float x) const { return type == Type::f32 || type == Type::f64 ? x : float(rounded(double(x), type)); }
};

template <class Arithmetic>
Head attend(const Problem& p, int64_t b, int64_t h) {
    using Number = typename Arithmetic::Number;
    const Arithmetic a(p.type);
    const int64_t kv = b * p.Hkv + h / (p.Hq / p.Hkv);
    const double *Q = p.Q.data() + (b * p.Hq + h) * p.Sq * p.D, *K = p.K.data() + kv * p.Sk * p.D, *V = p.V.data() + kv * p.Sk * p.Dv;
    Head out;
    out.O.assign(size_t(p.Sq * p.Dv), 0), out.LSE.assign(size_t(p.Sq), -kInfinity), out.P.assign(size_t(p.Sq * p.Sk), 0), out.largest.assign(size_t(p.Sq), 0);
    std::vector<Number> S(size_t(p.Sk)), O(size_t(p.Dv));
    for (int64_t i = 0; i < p.Sq; ++i) {
        Number m = -std::numeric_limits<Number>::infinity();
        bool nothing = true;
        for (int64_t j = 0; j < p.Sk; ++j) {
            Number& s = S[size_t(j)];
            s = -std::numeric_limits<Number>::infinity();
            if (!p.sees(b, h, i, j)) continue;
            for (int64_t d = 0; d < p.Dv; ++d) out.V = std::max(out.V, std::fabs(V[j * p.Dv + d]));
            Number product = 0;
            for (int64_t d = 0; d < p.D; ++d) product += Number(Q[i * p.D + d]) * Number(K[j * p.D + d]);
            s = a.round(product * Number(p.scale));
            if (p.softcap > 0) s = a.round(Number(p.softcap) * std::tanh(s / Number(p.softcap)));
            if (p.bias) s = a.round(s + Number(p.bias.at(b, h, i, j)));
            if (!p.slopes.empty()) s = a.round(s - Number(p.slopes[size_t(h)]) * Number(std::abs(p.position(b, i) - j)));
            if (s == -std::numeric_limits<Number>::infinity()) continue;
            nothing = false;
            m = std::max(m, s);
            out.largest[size_t(i)] = std::max(out.largest[size_t(i)], double(std::fabs(s)));
        }
        if (nothing) continue;
        Number l = 0;
        for (int64_t j = 0; j < p.Sk; ++j) l += S[size_t(j)] = std::exp(S[size_t(j)] - m);
        out.LSE[size_t(i)] = double(m + std::log(l));
        std::fill(O.begin(), O.end(), Number(0));
        for (int64_t j = 0; j < p.Sk; ++j) {
            const Number weight = a.round(S[size_t(j)] / l);
            out.P[size_t(i * p.Sk + j)] = double(weight);
            if (weight == 0) continue; // hidden, or too small to count
            for (int64_t d = 0; d < p.Dv; ++d) O[size_t(d)] += weight * Number(V[j * p.Dv + d]);
        }
        for (int64_t d = 0; d < p.Dv; ++d) out.O[size_t(i * p.Dv + d)] = double(a.round(O[size_t(d)]));
    }
    return out;
}

} // namespace arithmetic

inline Head exact(const Problem& p, int64_t b, int64_t h) { return arithmetic::attend<arithmetic::Exact>(p, b, h); }
inline Head naive(const Problem& p, int64_t b, int64_t h) { return arithmetic::attend<arithmetic::SameType>(p, b, h); }

} // namespace reference
