// flash.cpp — forward attention of one block of queries: keys pass by in steps, S and P live in L1, O and the row statistics in L2. Compiled once per
// instruction set.
#include "kernels.hpp"
#include "sight.hpp"
#include "terms.hpp"
#include "vec.hpp"

namespace attn::cpu::ISA {
namespace {

constexpr int kPanel = kVecs * kWidth; // keys of a packed panel of K^T, and columns of a register tile
constexpr int kPanels = kCell / kPanel;
constexpr int kMaxCells = FlashShape::kMaxCells, kMaxKeys = FlashShape::kMaxKeys, kMaxKeyCells = kMaxKeys / kCell;

typedef uint32_t uint32_alias __attribute__((may_alias));
typedef uint16_t uint16_alias __attribute__((may_alias));
static_assert(kPanel == 8 || kPanel == 16 || kPanel == 32); // bits of a panel are whole bytes of a word

// kPanel keys before a strip of queries.
struct Panel {
    const float *K, *V;
    int64_t key;
    bool whole, hidden;        // hidden: in a strip of one row, every score is -inf
    const unsigned char* bits; // of a panel that is not whole: which keys each row sees
    int64_t row_bytes;         // from one row's to the next

    INLINE uint32_t seen(int i) const {
        if constexpr (kPanel == 32) return *reinterpret_cast<const uint32_alias*>(bits + i * row_bytes);
        if constexpr (kPanel == 16) return *reinterpret_cast<const uint16_alias*>(bits + i * row_bytes);
        return bits[i * row_bytes];
    }
};

enum class Scores { plain, biased, general }; // without terms, with a float32 bias alone, with any terms

// What would be denormal is zero: exponentials of far scores, and products with them, would each take an assist of the processor.
class FlushedToZero {
public:
    FlushedToZero() { _mm_setcsr(saved_ | _MM_FLUSH_ZERO_ON); }
    ~FlushedToZero() { _mm_setcsr(saved_); }

private:
    const unsigned saved_ = _mm_getcsr();
};

class Block {
public:
    Block(const Call& c, const FlashShape& s, unsigned char* scratch, int64_t work_item)
        : call(c),
          p(*c.problem),
          shape(s),
          item(work_item),
          blocks(s.blocks(p)),
          b(item / blocks / p.Hq),
          h(item / blocks % p.Hq),
          rule(c.mask.rule(b)),
          q0((blocks - 1 - item % blocks) * shape.rows), // under a causal mask the last blocks are the longest

          all(int(smaller(shape.rows, p.Sq - q0))),
          rows(int(larger(0, smaller(all, rule.queries - q0)))),
          D(p.D),
          Dv((p.Dv + kWidth - 1) / kWidth * kWidth),
          with_terms(Terms::any(c)),
          terms(c, rule, b, h),
          mask(c.mask, rule, b) {
        float* at = reinterpret_cast<float*>(scratch);
        const auto take = [&](int64_t n) { return at += n, at - n; };
        sQ = take(shape.rows * D), sO = take(shape.rows * Dv), sK = take(shape.keys * D), sV = take(shape.keys * Dv);
        sS = take(kRows * kMaxKeys), sl = take(shape.rows * kWidth), sm = take(shape.rows);
        sWords = reinterpret_cast<uint64_t*>(at);
    }

    // The paper's outer loop.
    template <class T>
    void attend() {
        load_queries<T>();
        for (int r = 0; r * kCell < rows; ++r) documents[r] = mask.query_documents(q0 / kCell + r);
        const Range seen = rule.keys_of({q0, q0 + rows});
        int64_t visited = 0;
        for (int64_t k0 = seen.begin / shape.keys * shape.keys; k0 < seen.end && !call.cancelled(); k0 += shape.keys) {
            const int64_t c0 = k0 / kCell, c1 = cells_of(smaller(k0 + shape.keys, seen.end));
            const int found = look(c0, c1);
            if (!found) continue;
            visited += found;
            load_keys<T>(c0, c1);
            for (int row = 0; row < rows;) {
                const int left = int(smaller(rows, (row / kCell + 1) * kCell)) - row, count = poisoned ? 1 : int(smaller(left, kRows));
                fetch_ahead(k0, seen, row, count);
                visit<kRows>(row, count, c0, int(c1 - c0));
                row += count;
            }
        }
        store_rows<T>();
        call.visited->fetch_add(visited, std::memory_order_relaxed);
    }

private:
    // What each cell of queries sees of each cell of keys in this step; how many see anything.
    int look(int64_t c0, int64_t c1) {
        int found = 0;
        for (int r = 0; r * kCell < rows; ++r) alike[r] = true;
        for (int64_t c = c0; c < c1; ++c) {
            const Documents keys = mask.key_documents(c);
            for (int r = 0; r * kCell < rows; ++r) {
                Sight& s = sights[r][c - c0];
                s = mask.sight(h, q0 / kCell + r, c, documents[r], keys, sWords + (r * kMaxKeyCells + (c - c0)) * kCell);
                found += s.cell != Cell::empty;
                alike[r] &= s.step == 0;
            }
        }
        return found;
    }

    template <int R>
    void visit(int row, int count, int64_t c0, int n) {
        if constexpr (R > 1)
            if (count < R) return visit<R - 1>(row, count, c0, n);
        if (row % kCell == 0 || !alike[row / kCell]) panel_count = find_panels(row, alike[row / kCell] ? kRows : R, c0, n);
        if (!panel_count) return;
        if (!with_terms) strip<R, Scores::plain>(row);
        else if (terms.only_bias()) strip<R, Scores::biased>(row);
        else strip<R, Scores::general>(row);
    }
    // The panels in which any of `count` queries sees anything.
    [[gnu::noinline]] int find_panels(int row, int count, int64_t c0, int n) {
        Panel* panel = panels;
        for (int c = 0; c < n; ++c) {
            const Sight& s = sights[row / kCell][c];
            if (s.cell == Cell::empty) continue;
            uint64_t any = 0, every = ~0ull;
            for (int i = 0; i < count; ++i) {
                const uint64_t word = s.word(row + i);
                any |= word, every &= word;
            }
            for (int j = 0; j < kPanels; ++j) {
                const uint64_t bits = low_bits(kPanel) << (j * kPanel);
                if (!(any & bits)) continue;
                Panel& x = *panel++;
                x.K = sK + (c * kPanels + j) * kPanel * D, x.V = V + (c * kCell + j * kPanel) * Dv;
                x.key = (c0 + c) * kCell + j * kPanel;
                x.whole = !(~every & bits), x.hidden = false;
                x.bits = reinterpret_cast<const unsigned char*>(s.words + row % kCell * s.step) + j * kPanel / 8, x.row_bytes = s.step * 8;
            }
        }
        return int(panel - panels);
    }

    // The paper's inner loop for R queries: S = Q K^T, P = exp(S - m), O = alpha O + P V.
    template <int R, Scores kScores>
    void strip(int row) {
        constexpr bool kTerms = kScores != Scores::plain;
        vec top[R]; // of each row, lane by lane
        float alpha[kRows + kWidth];
        scores<R, kScores == Scores::biased>(row, top);
        if constexpr (kScores == Scores::general) add_terms(row, R, top);
        const bool moved = shape.scale ? softmax<R, kTerms, Exp2::by_scale>(row, top, alpha) : softmax<R, kTerms, Exp2::by_bits>(row, top, alpha);
        int64_t d = 0;
        for (; d + kPanel <= Dv; d += kPanel) add_values<R, kVecs>(row, d, moved, alpha);
        for (; d < Dv; d += kWidth) add_values<R, 1>(row, d, moved, alpha);
    }
    // Verbs are functions of their own: inlined together, GCC runs out of registers in their inner loops.
    template <int R, bool kBias>
    [[gnu::noinline]] void scores(int row, vec* largest) {
        vec top[R];
        UNROLL
        for (int i = 0; i < R; ++i) top[i] = set1(-INFINITY);
        const float* Q = sQ + row * D;
        float* out = sS;
        for (int t = 0; t < panel_count; ++t, out += kPanel) {
            Accum<R, kVecs> S{};
            if constexpr (kBias) fetch_bias<R>(q0 + row, panels[t].key);
            multiply(S, Q, D, panels[t].K, kPanel, D);
            if constexpr (kBias) add_bias(S, q0 + row, panels[t].key);
            if (!panels[t].whole) hide(S, panels[t]);
            if (kBias && R == 1) panels[t].hidden = nothing(S);
            UNROLL
            for (int i = 0; i < R; ++i) {
                UNROLL
                for (int j = 0; j < kVecs; ++j) {
                    top[i] = max(top[i], S.x[i][j]);
                    store(out + i * kMaxKeys + j * kWidth, S.x[i][j]);
                }
            }
        }
        UNROLL
        for (int i = 0; i < R; ++i) largest[i] = top[i];
    }
    // While the product runs this tile's bias comes to L1, the next strip's to L2: a few lines at a time, for many at once would stop all other misses.
    template <int R>
    INLINE void fetch_bias(int64_t query, int64_t key) const {
        UNROLL
        for (int i = 0; i < R; ++i) {
            const float* bias = terms.bias_row(query + i) + key;
            __builtin_prefetch(bias + 16, 0, 3), __builtin_prefetch(bias + 32, 0, 3); // its own line came with the panel before
            __builtin_prefetch(bias + R * terms.row + 16, 0, 2), __builtin_prefetch(bias + R * terms.row + 32, 0, 2);
        }
    }
    template <int R>
    INLINE void add_bias(Accum<R, kVecs>& S, int64_t query, int64_t key) const {
        const bool inside = key + kPanel <= p.Sk;
        UNROLL
        for (int i = 0; i < R; ++i) {
            const float* bias = terms.bias_row(query + i) + key;
            UNROLL
            for (int j = 0; j < kVecs; ++j) S.x[i][j] += inside ? load(bias + j * kWidth) : load(bias + j * kWidth, p.Sk - key - j * kWidth);
        }
    }
    template <int R>
    INLINE static bool nothing(const Accum<R, kVecs>& S) {
        bool nothing = true;
        UNROLL
        for (int j = 0; j < kVecs; ++j) nothing &= hidden(S.x[0][j]);
        return nothing;
    }
    [[gnu::noipa]] void add_terms(int row, int count, vec* largest) {
        for (int i = 0; i < count; ++i) {
            vec top = set1(-INFINITY);
            float* S = sS + i * kMaxKeys;
            for (int t = 0; t < panel_count; ++t, S += kPanel) {
                bool nothing = true;
                UNROLL
                for (int j = 0; j < kPanel; j += kWidth) {
                    vec x = terms.apply(load(S + j), q0 + row + i, panels[t].key + j);
                    if (!panels[t].whole) x = select(panels[t].seen(i) >> j, x, -INFINITY);
                    store(S + j, x);
                    top = max(top, x);
                    nothing &= hidden(x);
                }
                panels[t].hidden = nothing;
            }
            largest[i] = top;
        }
    }
    template <int R, bool kTerms, Exp2 kExp2>
    [[gnu::noinline]] bool softmax(int row, const vec* top, float* alpha) {
        constexpr float unit = kTerms ? kLog2e : 1;
        float base[R];
        UNROLL
        for (int i = 0; i < R; ++i) { // all rows' horizontal steps first: one row's would wait for the exponentials of the row before
            const float before = sm[row + i], now = max(top[i]), m = before < now ? now : before;
            base[i] = m == -INFINITY ? 0 : m;
            alpha[i] = (before - base[i]) * unit;
            sm[row + i] = m;
        }
        for (int i = 0; i < R; i += kWidth) store(alpha + i, exp2<kExp2>(load(alpha + i)));
        bool moved = false;
        for (int i = 0; i < R; ++i) {
            float *P = sS + i * kMaxKeys, *l = sl + (row + i) * kWidth;
            vec sum = load(l) * alpha[i];
            pin(sum); // the same bits whatever the loop becomes
            const float shift = base[i] * unit;
            const auto weigh = [&](auto power) __attribute__((always_inline)) {
                _Pragma("GCC unroll 4") for (int j = 0; j < panel_count * kPanel; j += kWidth) {
                    const vec e = exp2<kExp2>(power(load(P + j)));
                    sum += e;
                    store(P + j, e);
                }
            };
            if constexpr (!kTerms) weigh([&](vec x) __attribute__((always_inline)) { return x - base[i]; });
            else if (std::isfinite(shift)) weigh([&](vec x) __attribute__((always_inline)) { return fma(x, set1(unit), set1(-shift)); });
            else weigh([&](vec x) __attribute__((always_inline)) { return (x - base[i]) * unit; }); // a bias near the largest numbers
            store(l, sum);
            moved |= alpha[i] != 1;
        }
        return moved;
    }
    template <int R, int N>
    [[gnu::noinline]] void add_values(int row, int64_t d, bool moved, const float* alpha) {
        Accum<R, N> O;
        UNROLL
        for (int i = 0; i < R; ++i) {
            UNROLL
            for (int j = 0; j < N; ++j) O.x[i][j] = load(sO + (row + i) * Dv + d + j * kWidth);
        }
        if (moved) UNROLL
        for (int i = 0; i < R; ++i) {
            UNROLL
            for (int j = 0; j < N; ++j) O.x[i][j] *= alpha[i];
        }
        for (int t = 0; t < panel_count; ++t)
            if (R > 1 || !panels[t].hidden) multiply(O, sS + t * kPanel, kMaxKeys, panels[t].V + d, Dv, kPanel);
        UNROLL
        for (int i = 0; i < R; ++i) {
            UNROLL
            for (int j = 0; j < N; ++j) store(sO + (row + i) * Dv + d + j * kWidth, O.x[i][j]);
        }
    }
    template <int R>
    INLINE static void hide(Accum<R, kVecs>& S, const Panel& panel) {
        UNROLL
        for (int i = 0; i < R; ++i) {
            const uint32_t bits = panel.seen(i);
            UNROLL
            for (int j = 0; j < kVecs; ++j) S.x[i][j] = select(bits >> (j * kWidth), S.x[i][j], -INFINITY);
        }
    }

    template <class T>
    void load_queries() { // scaled, whatever the sign of the scale
        const Heads<const T> Q = heads_of<T>(call.Q, p.q);
        const float factor = Terms::query_factor(p, with_terms);
        for (int i = 0; i < rows; ++i) {
            const T* q = Q.row(b, h, q0 + i);
            for (int64_t d = 0; d < D; d += kWidth) store(sQ + i * D + d, load(q + d, D - d) * factor, D - d);
            sm[i] = -INFINITY;
        }
        std::memset(sO, 0, size_t(rows * Dv) * sizeof(float));
        std::memset(sl, 0, size_t(rows * kWidth) * sizeof(float));
    }
    // K^T in panels, V as it is; only cells that some query sees. Values past the end are zero, whatever the caller holds there. Where no row and no key is
    // hidden V is read where it lies, if it lies there as it would here.
    template <class T>
    void load_keys(int64_t c0, int64_t c1) {
        vec product{};
        bool partial = with_terms;
        for (int64_t c = c0; c < c1; ++c)
            for (int r = 0; r * kCell < rows; ++r) partial |= sights[r][c - c0].cell == Cell::partial;
        V = sV;
        if constexpr (std::is_same_v<T, float>) {
            const float* values = heads_of<float>(call.V, p.v).row(b, h / p.group(), c0 * kCell);
            const bool lies = reinterpret_cast<uintptr_t>(values) % (kWidth * sizeof(float)) == 0 && p.v.row == Dv;
            if (!partial && lies && c1 * kCell <= rule.keys) V = values;
        }
        for (int64_t c = c0; c < c1; ++c) {
            bool seen = false;
            for (int r = 0; r * kCell < rows; ++r) seen |= sights[r][c - c0].cell != Cell::empty;
            if (!seen) continue;
            pack_keys<T>(c * kCell, (c - c0) * kCell);
            if (V == sV) copy_values<T>(c * kCell, (c - c0) * kCell, product);
        }
        poisoned = partial && sum(product) != 0; // 0 * inf is NaN: then queries go one by one, and meet only panels in which they see a key
    }
    template <class T>
    [[gnu::noinline]] void pack_keys(int64_t k0, int64_t slot) {
        const Heads<const T> K = heads_of<T>(call.K, p.k);
        const int64_t n = rule.keys - k0, hkv = h / p.group();
        for (int64_t k = 0; k < kCell; k += kWidth) {
            const T* row[kWidth];
            for (int i = 0; i < kWidth; ++i) row[i] = K.row(b, hkv, k0 + smaller(k + i, n - 1)); // past the end: any key, its scores are hidden
            float* panel = sK + (slot + k / kPanel * kPanel) * D + k % kPanel;
            for (int64_t d = 0; d < D; d += kWidth) {
                vec x[kWidth];
                UNROLL
                for (int i = 0; i < kWidth; ++i) x[i] = load(row[i] + d, D - d);
                transpose(x);
                UNROLL
                for (int i = 0; i < kWidth; ++i)
                    if (d + i < D) store(panel + (d + i) * kPanel, x[i]);
            }
        }
    }
    template <class T>
    [[gnu::noinline]] void copy_values(int64_t k0, int64_t slot, vec& product) {
        const Heads<const T> values = heads_of<T>(call.V, p.v);
        const int64_t n = rule.keys - k0, hkv = h / p.group();
        vec zero = product;
        for (int64_t k = 0; k < kCell; ++k) {
            const T* row = values.row(b, hkv, k0 + smaller(k, n - 1));
            for (int64_t d = 0; d < Dv; d += kWidth) {
                const vec v = load(row + d, k < n ? p.Dv - d : 0);
                zero += v * 0.f;
                store(sV + (slot + k) * Dv + d, v);
            }
        }
        product = zero;
    }
    // Each strip brings its share of the next step's keys into L2, and the next strip's bias. The last step brings the first keys of the item that this worker
    // will likely take next, and its queries.
    void fetch_ahead(int64_t k0, Range seen, int row, int count) const {
        if (with_terms && !terms.only_bias())
            for (int i = row + count; i < smaller(rows, row + 2 * count); ++i) terms.fetch(q0 + i, k0, shape.keys);
        const bool last = k0 + shape.keys >= seen.end;
        const int64_t next = last ? item + shape.stride : item, head = next / blocks;
        if (head >= p.B * p.Hq) return;
        const int64_t batch = head / p.Hq, hkv = head % p.Hq / p.group(), key = last ? 0 : k0 + shape.keys, end = last ? p.Sk : seen.end;
        const auto fetch = [&](const void* data, const Strides& s, int64_t h0, int64_t begin, int64_t stop, int64_t columns) {
            const char* at = static_cast<const char*>(data) + (batch * s.batch + h0 * s.head + begin * s.row) * size_of(p.dtype);
            for (int64_t i = begin; i < stop; ++i, at += s.row * size_of(p.dtype)) prefetch(at, columns * size_of(p.dtype));
        };
        const int64_t begin = key + row * shape.keys / rows, stop = smaller(end, key + (row + count) * shape.keys / rows);
        fetch(call.K, p.k, hkv, begin, stop, p.D), fetch(call.V, p.v, hkv, begin, stop, p.Dv);
        if (!last) return;
        const int64_t query = (blocks - 1 - next % blocks) * shape.rows + row;
        fetch(call.Q, p.q, head % p.Hq, query, smaller(p.Sq, query + count), p.D);
    }
    template <class T>
    void store_rows() {
        const Heads<T> O = heads_of<T>(call.O, p.o);
        for (int i = 0; i < all; ++i) {
            const float l = i < rows ? sum(load(sl + i * kWidth)) : 0, inverse = l == 0 ? 0 : 1 / l; // a row that sees something has l >= 1, or NaN
            T* o = O.row(b, h, q0 + i);
            for (int64_t d = 0; d < p.Dv; d += kWidth) store(o + d, l == 0 ? vec{} : load(sO + i * Dv + d) * inverse, p.Dv - d);
            if (call.LSE) call.LSE[(b * p.Hq + h) * p.Sq + q0 + i] = l == 0 ? -INFINITY : sm[i] * (with_terms ? 1 : kLn2) + std::log(l);
        }
    }
    template <class T, class U>
    INLINE static auto heads_of(U* data, const Strides& s) {
        using E = std::conditional_t<std::is_const_v<U>, const T, T>;
        return Heads<E>{static_cast<E*>(data), s};
    }

    const Call& call;
    const Problem& p;
    const FlashShape& shape;
    const int64_t item, blocks, b, h;
    const Rule rule;
    const int64_t q0;
    const int all, rows; // rows: of all, those within the query length
    const int64_t D, Dv; // Dv: in whole vectors
    const bool with_terms;
    const Terms terms;
    const Sights mask;
    bool poisoned = false;
    float *sQ, *sO, *sK, *sV, *sS, *sl, *sm;
    const float* V = nullptr; // of this step: sV, or the caller's
    uint64_t* sWords;
    Sight sights[kMaxCells][kMaxKeyCells];
    Documents documents[kMaxCells];
    bool alike[kMaxCells]; // of a cell of queries: all its rows see the same
    Panel panels[kMaxKeys / kPanel];
    int panel_count = 0;
};

// The tuning table fits, at any D and Dv.
constexpr int64_t scratch_bytes(int64_t width) {
    const int64_t rows = FlashShape::rows_of(width, FlashShape::kMostL2), keys = FlashShape::keys_of(width);
    return ((rows + keys) * (width + kWidth) + kRows * kMaxKeys + rows * (kWidth + 1)) * 4 + rows / kCell * kMaxKeyCells * kCell * 8;
}
static_assert([] {
    for (int64_t width = 2; width <= 2 * FlashShape::kMaxDim; ++width)
        if (scratch_bytes(width) > Pool::kScratchBytes) return false;
    return true;
}());

} // namespace

void flash(const Call& call, const FlashShape& shape, unsigned char* scratch, int64_t item) {
    const FlushedToZero scope;
    Block work(call, shape, scratch, item);
    switch (call.problem->dtype) {
        case DType::f16: return work.attend<half>();
        case DType::bf16: return work.attend<bfloat>();
        default: return work.attend<float>();
    }
}

} // namespace attn::cpu::ISA
