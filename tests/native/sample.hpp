// sample.hpp — a case with data: tensors in memory under the case's layout, the same numbers for the reference, and the structures of the C ABI that describe
// them. Whatever nobody may look at is NaN or infinite: keys past their length, queries past theirs, keys and biases nobody sees, the gaps between rows.
#pragma once
#include <attention/attention.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cases.hpp"

namespace cases {

using reference::kInfinity;
using Shape = std::array<int64_t, 4>;

inline int32_t dtype_of(Type t) {
    constexpr int32_t types[] = {ATTN_FLOAT32, ATTN_FLOAT16, ATTN_BFLOAT16, ATTN_FLOAT64};
    return types[int(t)];
}
inline int64_t count(const Shape& s) { return s[0] * s[1] * s[2] * s[3]; }
inline Shape contiguous(const Shape& s) { return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1}; }

// A tensor [b, h, i, d] somewhere in memory of its own; every byte that is no element of it is 0xff: a NaN in every float type.
struct Tensor {
    Type type = Type::f32;
    Shape shape{}, strides{};
    std::vector<unsigned char> bytes;

    Tensor() = default;
    Tensor(Type t, const Shape& n, const Shape& step) : type(t), shape(n), strides(step) {
        int64_t last = 0;
        for (size_t d = 0; d < 4; ++d) last += (shape[d] - 1) * strides[d];
        bytes.assign(count(shape) ? size_t(last + 1) * size_t(reference::bytes_of(type)) : 8, 0xff);
    }
    unsigned char* at(int64_t b, int64_t h, int64_t i, int64_t d) {
        return bytes.data() + (b * strides[0] + h * strides[1] + i * strides[2] + d * strides[3]) * reference::bytes_of(type);
    }
    double get(int64_t b, int64_t h, int64_t i, int64_t d) const { return reference::load(const_cast<Tensor*>(this)->at(b, h, i, d), type); }
    void set(int64_t b, int64_t h, int64_t i, int64_t d, double x) { reference::store(at(b, h, i, d), type, x); }
    template <class F>
    void each(F&& f) {
        for (int64_t b = 0; b < shape[0]; ++b)
            for (int64_t h = 0; h < shape[1]; ++h)
                for (int64_t i = 0; i < shape[2]; ++i)
                    for (int64_t d = 0; d < shape[3]; ++d) f(b, h, i, d);
    }
    std::vector<double> numbers() {
        std::vector<double> all;
        all.reserve(size_t(count(shape)));
        each([&](int64_t b, int64_t h, int64_t i, int64_t d) { all.push_back(get(b, h, i, d)); });
        return all;
    }
    // Fills what is no element of the tensor with `byte`, to see later whether anybody wrote there.
    bool gaps_hold(unsigned char byte) {
        std::vector<bool> element(bytes.size());
        const int64_t size = reference::bytes_of(type);
        each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
            for (int64_t k = 0; k < size; ++k) element[size_t(at(b, h, i, d) - bytes.data() + k)] = true;
        });
        for (size_t k = 0; k < bytes.size(); ++k)
            if (count(shape) && !element[k] && bytes[k] != byte) return false;
        return true;
    }
    attn_array array() { return described(dtype_of(type), bytes.data(), shape, strides); }
    static attn_array described(int32_t dtype, void* data, const Shape& shape, const Shape& strides) {
        attn_array a{};
        a.size = sizeof a, a.dtype = dtype, a.rank = 4, a.has_strides = 1, a.data = data;
        std::copy(shape.begin(), shape.end(), a.shape);
        std::copy(strides.begin(), strides.end(), a.strides);
        return a;
    }
};

// A contiguous array of `rank` dimensions.
template <class T>
attn_array vector_of(const std::vector<T>& data, std::initializer_list<int64_t> shape) {
    attn_array a{};
    a.size = sizeof a, a.dtype = std::is_same_v<T, float> ? ATTN_FLOAT32 : std::is_same_v<T, uint8_t> ? ATTN_UINT8 : ATTN_INT32;
    a.rank = int32_t(shape.size()), a.data = const_cast<T*>(data.data());
    std::copy(shape.begin(), shape.end(), a.shape);
    return a;
}

class Sample {
public:
    explicit Sample(const Case& c, uint64_t seed = 1) : what(c), problem(describe(c)), random_(seed ^ std::hash<std::string>{}(c.name)) {
        structure();
        Q = Tensor(c.type, {c.B, c.Hq, c.Sq, c.D}, strides_of({c.B, c.Hq, c.Sq, c.D}, 'q'));
        K = Tensor(c.type, {c.B, c.Hkv, c.Sk, c.D}, strides_of({c.B, c.Hkv, c.Sk, c.D}, 'k'));
        V = Tensor(c.type, {c.B, c.Hkv, c.Sk, c.Dv}, strides_of({c.B, c.Hkv, c.Sk, c.Dv}, 'v'));
        O = Tensor(c.type, {c.B, c.Hq, c.Sq, c.Dv}, strides_of({c.B, c.Hq, c.Sq, c.Dv}, 'o'));
        for (Tensor* t : {&Q, &K, &V}) t->each([&](int64_t b, int64_t h, int64_t i, int64_t d) { t->set(b, h, i, d, random_.normal()); });
        terms();
        poison();
        problem.Q = Q.numbers(), problem.K = K.numbers(), problem.V = V.numbers();
        lse.assign(size_t(c.B * c.Hq * c.Sq), -777);
    }
    Sample(const Sample&) = delete;

    // The problem for the C ABI.
    attn_problem described(uint32_t more_flags = ATTN_WANT_LSE) const {
        const Case& c = what;
        attn_problem p{};
        p.size = sizeof p, p.dtype = dtype_of(c.type), p.flags = ATTN_HAS_STRIDES | more_flags | (c.has_scale ? ATTN_HAS_SCALE : 0);
        p.mask_kinds = mask_kinds(), p.offset_kind = int32_t(c.offset_kind);
        p.terms = (problem.bias ? ATTN_TERM_BIAS : 0) | (c.alibi ? ATTN_TERM_ALIBI : 0);
        p.batch = c.B, p.query_heads = c.Hq, p.key_heads = c.Hkv, p.queries = c.Sq, p.keys = c.Sk, p.head_dim = c.D, p.value_dim = c.Dv;
        const auto copy = [](const Tensor& t, int64_t(&strides)[4]) { std::copy(t.strides.begin(), t.strides.end(), strides); };
        copy(Q, p.q_strides), copy(K, p.k_strides), copy(V, p.v_strides), copy(O, p.o_strides);
        p.scale = c.has_scale ? c.scale : 0, p.softcap = c.softcap;
        if (problem.keep) std::copy(problem.keep.shape.begin(), problem.keep.shape.end(), p.keep_shape);
        if (problem.bias) std::copy(problem.bias.shape.begin(), problem.bias.shape.end(), p.bias_shape), p.bias_dtype = dtype_of(bias.type);
        return p;
    }
    uint32_t mask_kinds() const {
        uint32_t kinds = problem.causal ? ATTN_MASK_CAUSAL : 0;
        if (problem.left >= 0 || problem.right >= 0) kinds |= ATTN_MASK_WINDOW;
        if (!problem.key_lengths.empty()) kinds |= ATTN_MASK_KEY_LENGTHS;
        if (!problem.query_lengths.empty()) kinds |= ATTN_MASK_QUERY_LENGTHS;
        if (!problem.prefix.empty()) kinds |= ATTN_MASK_PREFIX;
        if (!problem.q_documents.empty()) kinds |= ATTN_MASK_DOCUMENTS;
        if (problem.keep) kinds |= ATTN_MASK_KEEP;
        return kinds;
    }
    // Values and addresses for the C ABI; they point into this sample and into the last call's structures.
    attn_run_args& args() {
        arrays_ = {};
        const reference::Problem& p = problem;
        const auto keep_array = [&](const attn_array& a, size_t slot) { return arrays_[slot] = a, &arrays_[slot]; };
        args_ = {};
        args_.size = sizeof args_;
        args_.q = keep_array(Q.array(), 0), args_.k = keep_array(K.array(), 1), args_.v = keep_array(V.array(), 2), args_.o = keep_array(O.array(), 3);
        args_.lse = keep_array(vector_of(lse, {p.B, p.Hq, p.Sq}), 4);
        mask_ = {};
        mask_.size = sizeof mask_, mask_.kinds = mask_kinds();
        if (mask_.kinds & ATTN_MASK_WINDOW) mask_.window_left = p.left, mask_.window_right = p.right;
        if (!p.key_lengths.empty()) mask_.key_lengths = keep_array(vector_of(p.key_lengths, {p.B}), 5);
        if (!p.query_lengths.empty()) mask_.query_lengths = keep_array(vector_of(p.query_lengths, {p.B}), 6);
        if (!p.prefix.empty()) mask_.prefix = keep_array(vector_of(p.prefix, {p.B}), 7);
        if (!p.q_documents.empty()) {
            mask_.q_documents = keep_array(vector_of(p.q_documents, {p.B, p.Sq}), 8);
            mask_.k_documents = keep_array(vector_of(p.k_documents, {p.B, p.Sk}), 9);
        }
        if (p.keep) mask_.keep = keep_array(vector_of(p.keep.data, {p.keep.shape[0], p.keep.shape[1], p.keep.shape[2], p.keep.shape[3]}), 10);
        if (mask_.kinds) args_.mask = &mask_;
        if (p.bias) args_.bias = keep_array(bias.array(), 11);
        if (!p.slopes.empty()) args_.alibi_slopes = keep_array(vector_of(p.slopes, {p.Hq}), 12);
        if (p.offset_kind == Offset::value) args_.offset = p.offset;
        if (p.offset_kind == Offset::per_batch) args_.offsets = keep_array(vector_of(p.offsets, {p.B}), 13);
        return args_;
    }
    attn_mask_values& mask_values() { return args(), mask_; }
    void clear_output() {
        std::fill(O.bytes.begin(), O.bytes.end(), 0xff);
        std::fill(lse.begin(), lse.end(), -777.f);
    }

    const Case what;
    reference::Problem problem;
    Tensor Q, K, V, O, bias;
    std::vector<float> lse;

private:
    static reference::Problem describe(const Case& c) {
        reference::Problem p;
        p.type = c.type, p.B = c.B, p.Hq = c.Hq, p.Hkv = c.Hkv, p.Sq = c.Sq, p.Sk = c.Sk, p.D = c.D, p.Dv = c.Dv;
        p.scale = c.has_scale ? c.scale : float(1 / std::sqrt(double(c.D))), p.softcap = c.softcap;
        p.key_lengths = c.key_lengths, p.query_lengths = c.query_lengths, p.prefix = c.prefix;
        p.causal = c.causal, p.left = c.left, p.right = c.right, p.offset_kind = c.offset_kind, p.offset = c.offset, p.offsets = c.offsets;
        return p;
    }
    Shape strides_of(const Shape& n, char tensor) const {
        const bool keys = tensor == 'k' || tensor == 'v';
        switch (what.layout) {
            case Layout::bshd: return {n[2] * n[1] * n[3], n[3], n[1] * n[3], 1};
            case Layout::gaps: {
                const int64_t row = n[3] + 5, head = n[2] * row + 7;
                return {n[1] * head + 11, head, row, 1};
            }
            case Layout::aligned_gaps: {
                const int64_t row = n[3] / 8 * 8 + 8, head = n[2] * row + 8;
                return {n[1] * head + 16, head, row, 1};
            }
            case Layout::shared_keys: {
                Shape s = contiguous(n);
                if (keys) s[0] = 0;
                return s;
            }
            case Layout::spread_columns: {
                const int64_t row = 2 * n[3] + 1, head = n[2] * row;
                return {n[1] * head, head, row, 2};
            }
            case Layout::transposed_keys: return tensor == 'k' ? Shape{n[1] * n[2] * n[3], n[2] * n[3], 1, n[2]} : contiguous(n);
            default: return contiguous(n);
        }
    }
    Shape broadcast(uint32_t dims) const {
        return {dims & kBatch ? what.B : 1, dims & kHead ? what.Hq : 1, dims & kQuery ? what.Sq : 1, dims & kKey ? what.Sk : 1};
    }
    void structure() {
        const Case& c = what;
        if (c.documents) {
            const auto ids = [&](int64_t n) {
                std::vector<int32_t> id;
                for (int64_t b = 0; b < c.B; ++b)
                    for (int64_t i = 0; i < n; ++i)
                        id.push_back(c.documents > 1 && random_.chance(0.04) ? -1 : int32_t(i * c.documents / std::max<int64_t>(1, n)));
                return id;
            };
            problem.q_documents = ids(c.Sq), problem.k_documents = ids(c.Sk);
        }
        if (c.keep != Keep::none) {
            problem.keep.shape = broadcast(c.keep_dims);
            problem.keep.data.resize(size_t(count(problem.keep.shape)));
            const Shape n = problem.keep.shape;
            for (size_t at = 0; at < problem.keep.data.size(); ++at) {
                const int64_t j = int64_t(at) % n[3], i = int64_t(at) / n[3] % n[2];
                const bool kept = c.keep == Keep::all      ? true
                                  : c.keep == Keep::half   ? random_.chance(0.5)
                                  : c.keep == Keep::blocks ? (i / 100 + j / 90) % 2 == 0
                                  : c.keep == Keep::sparse ? i % 3 != 0 && random_.chance(0.03)
                                                           : false;
                problem.keep.data[at] = kept ? uint8_t(random_.between(1, 255)) : 0; // any byte but 0 is true
            }
            if (problem.keep.data.empty()) problem.keep.data.push_back(1); // of a problem without scores
        }
    }
    void terms() {
        const Case& c = what;
        if (c.alibi)
            for (int64_t h = 0; h < c.Hq; ++h) problem.slopes.push_back(float(std::exp2(-8.0 * double(h + 1) / double(c.Hq))));
        if (c.bias == Bias::none) return;
        const Shape n = broadcast(c.bias_dims);
        bias = Tensor(c.bias_own_type ? c.type : Type::f32, n, contiguous(n));
        bias.each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
            const bool hides = (c.bias == Bias::hiding && random_.chance(0.3)) || (c.bias == Bias::all_rows && i % 3 == 1);
            bias.set(b, h, i, j, hides ? -kInfinity : c.bias == Bias::lowest ? double(std::numeric_limits<float>::lowest()) : random_.normal());
        });
        problem.bias.shape = n;
    }
    double poisoned() {
        const double values[] = {std::nan(""), kInfinity, -kInfinity};
        return values[++poisons_ % 3];
    }
    void poison() {
        const reference::Problem& p = problem;
        std::vector<bool> key_seen(size_t(p.B * p.Hkv * p.Sk)), bias_seen(size_t(p.bias.shape[0] * p.bias.shape[1] * p.bias.shape[2] * p.bias.shape[3]));
        reference::Dense<double> at;
        at.shape = p.bias.shape;
        const bool has_bias = what.bias != Bias::none;
        for (int64_t b = 0; b < p.B; ++b)
            for (int64_t h = 0; h < p.Hq; ++h)
                for (int64_t i = 0; i < p.Sq; ++i)
                    for (int64_t j = 0; j < p.Sk; ++j)
                        if (p.sees(b, h, i, j)) {
                            key_seen[size_t(((what.layout == Layout::shared_keys ? 0 : b) * p.Hkv + h / (p.Hq / p.Hkv)) * p.Sk + j)] = true;
                            if (has_bias) bias_seen[size_t(at.index(b, h, i, j))] = true;
                        }
        Q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
            if (i >= p.m(b)) Q.set(b, h, i, d, poisoned());
        });
        K.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
            if (!key_seen[size_t(((what.layout == Layout::shared_keys ? 0 : b) * p.Hkv + h) * p.Sk + j)]) K.set(b, h, j, d, poisoned());
        });
        V.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
            if (j >= p.n(b) && what.layout != Layout::shared_keys) V.set(b, h, j, d, poisoned());
        });
        if (!has_bias) return;
        bias.each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
            if (!bias_seen[size_t(at.index(b, h, i, j))]) bias.set(b, h, i, j, poisoned());
        });
        problem.bias.data = bias.numbers();
        if (problem.bias.data.empty()) problem.bias.data.push_back(0);
    }

    Random random_;
    int poisons_ = 0;
    std::array<attn_array, 14> arrays_{};
    attn_mask_values mask_{};
    attn_run_args args_{};
};

} // namespace cases
