// memory_efficient.cpp — attention over any strides, element types and sizes in memory that does not grow with them: a block of queries keeps its O, m and l
// while cells of 64 keys are gathered into contiguous floats and pass by. Compiled once per instruction set.
#include <cmath>
#include <functional>

#include "../model/problem.hpp"
#include "element.hpp"
#include "kernels.hpp"
#include "vec.hpp"

namespace attn::cpu::ISA {
namespace {

constexpr int kBlock = 256;   // queries of a work item: what is gathered of K and V serves all of them
constexpr int kColumns = 512; // of Q and K gathered at once, and of O in a work item; wider heads are taken in parts
constexpr int kPanel = kVecs * kWidth;
constexpr float kHidden = -INFINITY;

struct Scratch {
    float Q[kBlock * kColumns];
    float K[kColumns * kCell]; // transposed
    float V[kCell * kColumns]; // and the rows of K before they are transposed
    float S[kBlock * kCell];   // then P
    float O[kBlock * kColumns];
    float m[kBlock], l[kBlock], alpha[kBlock];
};
static_assert(sizeof(Scratch) <= Pool::kScratchBytes);

INLINE int64_t whole_panels(int64_t columns) { return (columns + kPanel - 1) / kPanel * kPanel; }

// Calls f with R = count for a strip of at most kRows queries.
template <int R = kRows, class F>
INLINE void with_rows(int count, F&& f) {
    if constexpr (R > 1)
        if (count < R) return with_rows<R - 1>(count, f);
    f(std::integral_constant<int, R>{});
}

template <class T>
class Block {
public:
    Block(const Call& c, unsigned char* scratch) : call(c), p(*c.problem), s(*reinterpret_cast<Scratch*>(scratch)) {}

    // Queries from q0 on, columns of O from v0 on, of one batch and head.
    void attend(int64_t batch, int64_t head, int64_t first_query, int64_t first_column) {
        b = batch, h = head, q0 = first_query, v0 = first_column;
        rule = call.mask.rule(b);
        all = int(smaller(kBlock, p.Sq - q0)), rows = int(larger(0, smaller(all, rule.queries - q0)));
        columns = int(smaller(kColumns, p.Dv - v0)), step = int(whole_panels(columns));
        for (int64_t at = 0; at < int64_t(rows) * step; ++at) s.O[at] = 0;
        for (int i = 0; i < rows; ++i) s.m[i] = kHidden, s.l[i] = 0;
        if (p.D <= kColumns) gather_queries(0, int(p.D));
        const Range seen = rule.keys_of({q0, q0 + rows});
        int64_t visited = 0;
        for (int64_t c = seen.begin / kCell; c < cells_of(seen.end) && !call.cancelled(); ++c) visited += step_over(c);
        store_rows();
        if (v0 == 0) *call.visited += visited;
    }

private:
    // One cell of keys passes all the cells of queries that see any of it; returns how many did.
    int step_over(int64_t c) {
        Cell cell[kBlock / kCell];
        int visited = 0;
        for (int r = 0; r * kCell < rows; ++r) visited += (cell[r] = call.mask.cell(rule, b, h, q0 / kCell + r, c)) != Cell::empty;
        if (!visited) return 0;
        k0 = c * kCell, keys = int(smaller(kCell, smaller(p.Sk, rule.keys) - k0)); // keys past their length are not read
        for (int64_t d0 = 0; d0 < p.D; d0 += kColumns) {
            const int depth = int(smaller(kColumns, p.D - d0));
            if (p.D > kColumns) gather_queries(d0, depth);
            gather_keys(d0, depth);
            for (int r = 0; r * kCell < rows; ++r)
                if (cell[r] != Cell::empty) scores(r, depth, d0 == 0);
        }
        const bool finite = gather_values();
        for (int r = 0; r * kCell < rows; ++r)
            if (cell[r] != Cell::empty) {
                softmax(r, c, cell[r]);
                finite || cell[r] == Cell::full ? values(r) : values_seen(r);
            }
        return visited;
    }
    int rows_of(int r) const { return int(smaller(kCell, rows - r * kCell)); }

    static void gather(float* to, const T* row, int64_t stride, int n) {
        if (stride == 1)
            for (int d = 0; d < n; ++d) to[d] = number(row[d]);
        else
            for (int d = 0; d < n; ++d) to[d] = number(row[d * stride]);
    }
    void gather_queries(int64_t d0, int depth) {
        const Heads<const T> Q = heads<const T>(call.Q, p.q);
        for (int i = 0; i < rows; ++i) gather(s.Q + i * depth, Q.row(b, h, q0 + i) + d0 * p.q.column, p.q.column, depth);
    }
    void gather_keys(int64_t d0, int depth) {
        const Heads<const T> K = heads<const T>(call.K, p.k);
        for (int j = 0; j < keys; ++j) gather(s.V + j * depth, K.row(b, h / p.group(), k0 + j) + d0 * p.k.column, p.k.column, depth);
        for (int at = keys * depth; at < kCell * depth; ++at) s.V[at] = 0;
        for (int d = 0; d < depth; d += kWidth)
            for (int j = 0; j < kCell; j += kWidth) {
                vec x[kWidth];
                const int n = int(smaller(kWidth, depth - d));
                for (int i = 0; i < kWidth; ++i) x[i] = load(s.V + (j + i) * depth + d, n);
                transpose(x);
                for (int i = 0; i < n; ++i) store(s.K + (d + i) * kCell + j, x[i]);
            }
    }
    // Whether all that was gathered is finite.
    bool gather_values() {
        const Heads<const T> V = heads<const T>(call.V, p.v);
        for (int j = 0; j < kCell; ++j) {
            float* to = s.V + j * step;
            const int n = j < keys ? columns : 0;
            if (n) gather(to, V.row(b, h / p.group(), k0 + j) + v0 * p.v.column, p.v.column, n);
            for (int d = n; d < step; ++d) to[d] = 0;
        }
        vec sum{};
        for (int at = 0; at < kCell * step; at += kWidth) sum += load(s.V + at) * 0.f;
        for (int lane = 0; lane < kWidth; ++lane)
            if (sum[lane] != 0) return false; // NaN
        return true;
    }

    void scores(int r, int depth, bool first) {
        for (int i = r * kCell, end = i + rows_of(r); i < end; i += kRows)
            with_rows(int(smaller(kRows, end - i)), [&](auto R) { scores_strip<R()>(i, depth, first); });
    }
    template <int R>
    [[gnu::noinline]] void scores_strip(int i, int depth, bool first) {
        for (int j = 0; j < kCell; j += kPanel) {
            Accum<R, kVecs> S{};
            if (!first) UNROLL
            for (int row = 0; row < R; ++row) UNROLL
            for (int v = 0; v < kVecs; ++v) S.x[row][v] = load(s.S + (i + row) * kCell + j + v * kWidth);
            multiply(S, s.Q + i * depth, depth, s.K + j, kCell, depth);
            UNROLL
            for (int row = 0; row < R; ++row) UNROLL
            for (int v = 0; v < kVecs; ++v) store(s.S + (i + row) * kCell + j + v * kWidth, S.x[row][v]);
        }
    }

    // The paper's online softmax for the rows of a cell: S becomes P, m and l go on, alpha is what O must be multiplied with.
    void softmax(int r, int64_t c, Cell cell) {
        const int first = r * kCell, n = rows_of(r);
        uint64_t sees[kCell];
        if (cell == Cell::partial) call.mask.words(rule, b, h, q0 + first, c, n, sees);
        else
            for (int i = 0; i < n; ++i) sees[i] = low_bits(keys);
        for (int i = 0; i < n; ++i) row_softmax(first + i, sees[i]);
    }
    void row_softmax(int i, uint64_t sees) {
        float* S = s.S + i * kCell;
        float bias[kCell] = {};
        if (call.bias.data) gather_bias(bias, i);
        vec top = set1(kHidden);
        for (int j = 0; j < kCell; j += kWidth) {
            const vec x = select(uint32_t(sees >> j), score(load(S + j), bias, i, j), kHidden);
            store(S + j, x);
            top = max(top, x);
        }
        const float before = s.m[i], m = larger_of(before, max(top)), base = m == kHidden ? 0 : m;
        vec sum{};
        for (int j = 0; j < kCell; j += kWidth) {
            const vec e = exp2((load(S + j) - base) * kLog2e);
            store(S + j, e);
            sum += e;
        }
        s.alpha[i] = exp2((before - base) * kLog2e);
        s.l[i] = s.l[i] * s.alpha[i] + ISA::sum(sum);
        s.m[i] = m;
    }
    static float larger_of(float a, float b) { return a > b ? a : b; }
    vec score(vec x, const float* bias, int i, int j) const {
        x = x * p.scale;
        if (p.softcap > 0) x = tanh(x / p.softcap) * p.softcap;
        if (call.bias.data) x += load(bias + j);
        if (call.slopes) {
            vec key;
            for (int lane = 0; lane < kWidth; ++lane) key[lane] = float(lane);
            const vec distance = float(q0 + i + rule.offset - k0 - j) - key;
            x -= max(distance, -distance) * call.slopes[h];
        }
        return x;
    }
    void gather_bias(float* to, int i) const {
        const Strides& t = call.bias.stride;
        const int64_t at = b * t.batch + h * t.head + (q0 + i) * t.row + k0 * t.column;
        if (call.bias.dtype == DType::f32)
            for (int j = 0; j < keys; ++j) to[j] = static_cast<const float*>(call.bias.data)[at + j * t.column];
        else
            for (int j = 0; j < keys; ++j) to[j] = number(static_cast<const T*>(call.bias.data)[at + j * t.column]);
    }

    // O = alpha O + P V.
    void values(int r) {
        for (int i = r * kCell, end = i + rows_of(r); i < end; i += kRows) with_rows(int(smaller(kRows, end - i)), [&](auto R) { values_strip<R()>(i); });
    }
    template <int R>
    [[gnu::noinline]] void values_strip(int i) {
        for (int d = 0; d < step; d += kPanel) {
            Accum<R, kVecs> O;
            UNROLL
            for (int row = 0; row < R; ++row) UNROLL
            for (int v = 0; v < kVecs; ++v) O.x[row][v] = load(s.O + (i + row) * step + d + v * kWidth) * s.alpha[i + row];
            multiply(O, s.S + i * kCell, kCell, s.V + d, step, kCell);
            UNROLL
            for (int row = 0; row < R; ++row) UNROLL
            for (int v = 0; v < kVecs; ++v) store(s.O + (i + row) * step + d + v * kWidth, O.x[row][v]);
        }
    }
    // The same sum in the same order where V holds NaN or infinity: what a row does not see is left out instead of multiplied by 0.
    [[gnu::noinline]] void values_seen(int r) {
        for (int i = r * kCell, end = i + rows_of(r); i < end; ++i)
            for (int d = 0; d < step; d += kWidth) {
                vec O = load(s.O + i * step + d) * s.alpha[i];
                for (int j = 0; j < kCell; ++j)
                    if (const float weight = s.S[i * kCell + j]; weight != 0) O += weight * load(s.V + j * step + d);
                store(s.O + i * step + d, O);
            }
    }

    void store_rows() {
        const Heads<T> out = heads<T>(call.O, p.o);
        for (int i = 0; i < all; ++i) {
            const bool nothing = i >= rows || s.l[i] == 0; // a row that sees something has l >= 1, or NaN
            T* o = out.row(b, h, q0 + i) + v0 * p.o.column;
            for (int d = 0; d < columns; ++d) o[d * p.o.column] = element<T>(nothing ? 0 : s.O[i * step + d] / s.l[i]);
            if (call.LSE && v0 == 0) call.LSE[(b * p.Hq + h) * p.Sq + q0 + i] = nothing ? kHidden : s.m[i] + std::log(s.l[i]);
        }
    }

    const Call& call;
    const Problem& p;
    Scratch& s;
    Rule rule{};
    int64_t b = 0, h = 0, q0 = 0, k0 = 0, v0 = 0;
    int all = 0, rows = 0, columns = 0, step = 0, keys = 0; // rows: of all, those within the query length; step: columns in whole panels
};

template <class T>
void attend(const Call& call, Pool& pool) {
    const Problem& p = *call.problem;
    const int64_t blocks = (p.Sq + kBlock - 1) / kBlock, parts = (p.Dv + kColumns - 1) / kColumns;
    const auto block = [&](int place, int64_t item) {
        const int64_t part = item % parts, at = item / parts % blocks, head = item / parts / blocks;
        Block<T>(call, pool.scratch(place)).attend(head / p.Hq, head % p.Hq, at * kBlock, part * kColumns);
    };
    pool.parallel(p.B * p.Hq * blocks * parts, 1, std::cref(block), call.cancel);
}

} // namespace

void memory_efficient(const Call& call, Pool& pool) {
    switch (call.problem->dtype) {
        case DType::f16: return attend<half>(call, pool);
        case DType::bf16: return attend<bfloat>(call, pool);
        default: return attend<float>(call, pool);
    }
}

} // namespace attn::cpu::ISA
