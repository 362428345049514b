// decode.cpp — few queries against many keys: bound by reading K and V once. A chunk of keys is summed up for all queries of some heads of a group, and chunks
// are merged by (m, l, O) in key order, at once or from the workspace: the same bits. Compiled once per instruction set.
#include "kernels.hpp"
#include "sight.hpp"
#include "terms.hpp"
#include "vec.hpp"

namespace attn::cpu::ISA {
namespace {

constexpr int kMostRows = int(DecodeShape::kRows), kMaxDim = FlashShape::kMaxDim;
constexpr int kTile = 8;                     // rows that pass over keys together
constexpr int kSums = kWidth == 16 ? 16 : 8; // accumulators: registers, less what is loaded
constexpr int kStep = 16;                    // keys that are scored in one call
constexpr int kAhead = 16;                   // how many keys ahead what comes is asked for, a line beside each that is used: in bursts it would not overlap
constexpr int kChunk = int(DecodeShape::kChunk), kCells = kChunk / kCell;
template <int R>
constexpr int kAtOnce = kSums / R; // keys scored side by side
static_assert(kStep % kSums == 0 && kCell % kStep == 0 && kSums % kWidth == 0);

struct Scratch {
    float Q[kMostRows][kMaxDim];
    float O[kMostRows][kMaxDim], chunk[kMostRows][kMaxDim];
    float S[kMostRows][kChunk];
    float m[kMostRows], l[kMostRows], chunk_m[kMostRows], chunk_l[kMostRows];
    uint64_t word[kCells][kMostRows]; // what each row sees of each cell of the chunk
    uint64_t own[kCell];
};
static_assert(sizeof(Scratch) <= Pool::kScratchBytes);

// (m, l, O) += (mc, lc, Oc): the same function wherever chunks meet, so the same bits.
[[gnu::noipa]] void merge_into(float& m, float& l, float* O, float mc, float lc, const float* Oc, int64_t Dv, float unit) {
    const float now = m < mc ? mc : m, base = now == -INFINITY ? 0 : now;
    const float alpha = exp2((m - base) * unit), beta = exp2((mc - base) * unit);
    m = now, l = l * alpha + lc * beta;
    for (int64_t d = 0; d < Dv; d += kWidth) store(O + d, load(O + d, Dv - d) * alpha + load(Oc + d, Dv - d) * beta, Dv - d);
}

template <class T>
void store_row(const Call& call, int64_t b, int64_t h, int64_t i, float m, float l, const float* O, float unit) {
    const Problem& p = *call.problem;
    T* o = Heads<T>{static_cast<T*>(call.O), p.o}.row(b, h, i);
    const float inverse = l == 0 ? 0 : 1 / l;
    for (int64_t d = 0; d < p.Dv; d += kWidth) store(o + d, l == 0 ? vec{} : load(O + d, p.Dv - d) * inverse, p.Dv - d);
    if (call.LSE) call.LSE[(b * p.Hq + h) * p.Sq + i] = l == 0 ? -INFINITY : m * (unit == 1 ? kLn2 : 1) + std::log(l);
}

template <class T>
class Decode {
public:
    Decode(const Call& c, const DecodeShape& d, unsigned char* scratch, int64_t item)
        : call(c),
          p(*c.problem),
          shape(d),
          s(*reinterpret_cast<Scratch*>(scratch)),
          run(item % d.runs),
          part(item / d.runs % d.parts),
          hkv(item / d.runs / d.parts % p.Hkv),
          b(item / d.runs / d.parts / p.Hkv),
          rule(c.mask.rule(b)),
          first_head(hkv * p.group() + part * d.heads),
          heads(int(smaller(d.heads, (hkv + 1) * p.group() - first_head))),
          rows(heads * int(p.Sq)),
          with_terms(Terms::any(c)),
          unit(with_terms ? kLog2e : 1),
          K{static_cast<const T*>(c.K), p.k},
          V{static_cast<const T*>(c.V), p.v},
          mask(c.mask, rule, b),
          documents(mask.query_documents(0)) {}

    void attend() {
        load_queries();
        clear(s.O, s.m, s.l);
        const Range seen = rule.keys_of({0, p.Sq});
        const int64_t end = smaller(shape.chunks, (run + 1) * shape.run);
        for (int64_t c = run * shape.run; c < end && !call.cancelled(); ++c) {
            const int64_t k0 = larger(seen.begin / kCell * kCell, c * kChunk), k1 = smaller(seen.end, (c + 1) * kChunk);
            clear(s.chunk, s.chunk_m, s.chunk_l);
            if (k0 < k1) attend_chunk(k0, k1);
            for (int r = 0; r < rows; ++r)
                if (shape.runs == 1) merge_into(s.m[r], s.l[r], s.O[r], s.chunk_m[r], s.chunk_l[r], s.chunk[r], p.Dv, unit);
                else keep_partial(r, c);
        }
        if (shape.runs == 1)
            for (int r = 0; r < rows; ++r) store_row<T>(call, b, head(r), query(r), s.m[r], s.l[r], s.O[r], unit);
        call.visited->fetch_add(visited, std::memory_order_relaxed);
    }

private:
    int64_t head(int r) const { return first_head + r / p.Sq; }
    int64_t query(int r) const { return r % p.Sq; }

    void load_queries() {
        const float factor = Terms::query_factor(p, with_terms);
        for (int r = 0; r < rows; ++r) {
            const T* q = Heads<const T>{static_cast<const T*>(call.Q), p.q}.row(b, head(r), query(r));
            for (int64_t d = 0; d < p.D; d += kWidth) store(s.Q[r] + d, query(r) < rule.queries ? load(q + d, p.D - d) * factor : vec{});
        }
    }
    void clear(float (*O)[kMaxDim], float* m, float* l) {
        for (int r = 0; r < rows; ++r) {
            std::memset(O[r], 0, sizeof O[r]);
            m[r] = -INFINITY, l[r] = 0;
        }
    }
    void keep_partial(int r, int64_t c) {
        float* out = reinterpret_cast<float*>(call.workspace) + (((b * p.Hq + head(r)) * p.Sq + query(r)) * shape.chunks + c) * DecodeShape::partial_floats(p);
        out[0] = s.chunk_m[r], out[1] = s.chunk_l[r];
        std::memcpy(out + 2, s.chunk[r], size_t(p.Dv) * sizeof(float));
    }

    // All scores, one softmax, all values: K and V are two long streams. Keys from k0, where a cell begins, to k1.
    void attend_chunk(int64_t k0, int64_t k1) {
        bool some[kCells] = {};
        const int cells = int(cells_of(k1 - k0));
        for (int c = 0; c < cells; ++c) {
            const int64_t key = k0 + c * kCell;
            if (!(some[c] = look(c, key / kCell))) continue;
            const int n = int(smaller(kCell, rule.keys - key));
            for (int k = 0; k < n; k += kStep) {
                for (int r = 0; r < rows;) r += over_rows(r, [&](auto R, int row) { score<R()>(row, key + k, c * kCell + k, int(smaller(kStep, n - k))); });
            }
        }
        for (int r = 0; r < rows; ++r) softmax(r, k0, cells);
        for (int c = 0; c < cells; ++c) {
            if (!some[c]) continue;
            bool every = true; // rows that see nothing of a cell must not meet its values
            for (int r = 0; r < rows; ++r) every &= s.word[c][r] != 0;
            const int64_t key = k0 + c * kCell;
            const int n = int(smaller(kCell, rule.keys - key));
            for (int k = 0; k < n; k += kStep) {
                const int at = c * kCell + k, count = int(smaller(kStep, n - k));
                if (every)
                    for (int r = 0; r < rows;) r += over_rows(r, [&](auto R, int row) { add_values<R()>(row, key + k, at, count); });
                else
                    for (int r = 0; r < rows; ++r)
                        if (s.word[c][r]) add_values<1>(r, key + k, at, count);
            }
        }
    }
    // What the rows see of a cell; whether any sees anything.
    bool look(int at, int64_t c) {
        const Documents keys = mask.key_documents(c);
        Sight sees;
        bool any = false;
        for (int g = 0; g < heads; ++g) {
            if (g == 0 || call.mask.keep.head) sees = mask.sight(first_head + g, 0, c, documents, keys, s.own); // only a keep mask tells heads apart
            const bool something = sees.cell != Cell::empty;
            visited += something, any |= something;
            for (int i = 0; i < p.Sq; ++i) s.word[at][g * p.Sq + i] = something && i < rule.queries ? sees.word(i) : 0;
        }
        return any;
    }
    // The line in which element d of a row begins; the row may be past the last.
    INLINE static void ask(const T* row, int64_t d, bool into_l1) {
        if (d * int64_t(sizeof(T)) % 64 != 0) return;
        asm("" : "+r"(into_l1)); // or GCC makes two loops of each
        if (into_l1) __builtin_prefetch(row + d, 0, 3);
        else __builtin_prefetch(row + d, 0, 2);
    }
    // Calls f for as many rows as make a tile; how many that were.
    template <int R = kTile, class F>
    INLINE int over_rows(int r, F f) {
        if constexpr (R > 1)
            if (rows - r < R) return over_rows<R / 2>(r, f);
        f(std::integral_constant<int, R>{}, r);
        return R;
    }

    template <int R>
    [[gnu::noinline]] void score(int row, int64_t first, int at, int n) {
        constexpr int kKeys = kAtOnce<R>;
        const T* keys = K.row(b, hkv, first);
        const int64_t stride = p.k.row;
        const bool into_l1 = shape.into_l1;
        for (int k = 0; k < n; k += kKeys) {
            vec S[kSums] = {}; // of row r and key j at r * kKeys + j
            const T* key[kKeys];
            UNROLL
            for (int j = 0; j < kKeys; ++j) key[j] = keys + smaller(k + j, n - 1) * stride;
            UNROLL
            for (int j = 0; j < kKeys; ++j) // key by key: the hardware's prefetcher wants one stream
                for (int64_t d = 0; d < p.D; d += kWidth) {
                    if (row == 0) ask(key[j] + kAhead * stride, d, into_l1);
                    const vec x = load(key[j] + d, p.D - d);
                    UNROLL
                    for (int r = 0; r < R; ++r) S[r * kKeys + j] = fma(x, load(s.Q[row + r] + d), S[r * kKeys + j]);
                }
            float out[kSums];
            UNROLL
            for (int i = 0; i < kSums; i += kWidth) store(out + i, sums(S + i));
            UNROLL
            for (int r = 0; r < R; ++r) std::memcpy(s.S[row + r] + at + k, out + r * kKeys, sizeof(float) * kKeys);
        }
    }
    // S becomes P. A cell in which every score is -inf counts as not seen.
    [[gnu::noinline]] void softmax(int r, int64_t k0, int cells) {
        const Terms terms(call, rule, b, head(r));
        vec top = set1(-INFINITY), total{};
        for (int c = 0; c < cells; ++c) {
            if (!s.word[c][r]) continue;
            bool nothing = true;
            for (int j = 0; j < kCell; j += kWidth) {
                float* S = s.S[r] + c * kCell + j;
                vec x = load(S);
                if (with_terms) x = terms.apply(x, query(r), k0 + c * kCell + j);
                x = select(uint32_t(s.word[c][r] >> j), x, -INFINITY);
                nothing &= hidden(x);
                top = max(top, x);
                store(S, x);
            }
            if (nothing) s.word[c][r] = 0;
        }
        const float m = max(top), base = m > -INFINITY ? m : 0;
        for (int c = 0; c < cells; ++c) {
            if (!s.word[c][r]) continue;
            for (int j = 0; j < kCell; j += kWidth) {
                float* S = s.S[r] + c * kCell + j;
                const vec e = exp2((load(S) - base) * unit);
                total += e;
                store(S, e);
            }
        }
        s.chunk_m[r] = m > -INFINITY ? m : -INFINITY, s.chunk_l[r] = sum(total);
    }

    template <int R>
    [[gnu::noinline]] void add_values(int row, int64_t key, int k, int n) {
        constexpr int kColumns = kSums / R < 8 ? kSums / R : 8;
        int64_t d = add_columns<R, kColumns>(row, 0, key, k, n);
        if constexpr (kColumns > 1) d = add_columns<R, 1>(row, d, key, k, n);
        if (d < p.Dv)
            for (int j = 0; j < n; ++j) {
                const vec v = load(V.row(b, hkv, key + j) + d, p.Dv - d);
                UNROLL
                for (int r = 0; r < R; ++r) store(s.chunk[row + r] + d, fma(v, set1(s.S[row + r][k + j]), load(s.chunk[row + r] + d)));
            }
    }
    template <int R, int N>
    INLINE int64_t add_columns(int row, int64_t d, int64_t key, int k, int n) {
        for (; d + N * kWidth <= p.Dv; d += N * kWidth) {
            Accum<R, N> O;
            UNROLL
            for (int r = 0; r < R; ++r) {
                UNROLL
                for (int j = 0; j < N; ++j) O.x[r][j] = load(s.chunk[row + r] + d + j * kWidth);
            }
            const T* values = V.row(b, hkv, key);
            const int64_t stride = p.v.row;
            const bool into_l1 = shape.into_l1;
            multiply(
                O, s.S[row] + k, kChunk, values + d, stride, n, [=](int64_t j) __attribute__((always_inline)) {
                    if (row != 0) return;
                    UNROLL
                    for (int column = 0; column < N; ++column) ask(values + (j + kAhead) * stride, d + column * kWidth, into_l1);
                });
            UNROLL
            for (int r = 0; r < R; ++r) {
                UNROLL
                for (int j = 0; j < N; ++j) store(s.chunk[row + r] + d + j * kWidth, O.x[r][j]);
            }
        }
        return d;
    }

    const Call& call;
    const Problem& p;
    const DecodeShape& shape;
    Scratch& s;
    const int64_t run, part, hkv, b;
    const Rule rule;
    const int64_t first_head;
    const int heads, rows;
    const bool with_terms;
    const float unit; // of the scores: 2^(unit * difference) is the weight
    const Heads<const T> K, V;
    const Sights mask;
    const Documents documents;
    int64_t visited = 0;
};

template <class T>
void merge_row(const Call& call, const DecodeShape& shape, float* O, int64_t row) {
    const Problem& p = *call.problem;
    const float unit = Terms::any(call) ? kLog2e : 1;
    const float* part = reinterpret_cast<const float*>(call.workspace) + row * shape.chunks * DecodeShape::partial_floats(p);
    float m = -INFINITY, l = 0;
    std::memset(O, 0, size_t(kMaxDim) * sizeof(float));
    for (int64_t c = 0; c < shape.chunks; ++c, part += DecodeShape::partial_floats(p)) merge_into(m, l, O, part[0], part[1], part + 2, p.Dv, unit);
    store_row<T>(call, row / p.Sq / p.Hq, row / p.Sq % p.Hq, row % p.Sq, m, l, O, unit);
}

} // namespace

void decode(const Call& call, const DecodeShape& shape, unsigned char* scratch, int64_t item) {
    switch (call.problem->dtype) {
        case DType::f16: return Decode<half>(call, shape, scratch, item).attend();
        case DType::bf16: return Decode<bfloat>(call, shape, scratch, item).attend();
        default: return Decode<float>(call, shape, scratch, item).attend();
    }
}

void merge_chunks(const Call& call, const DecodeShape& shape, unsigned char* scratch, int64_t row) {
    float* O = reinterpret_cast<float*>(scratch);
    switch (call.problem->dtype) {
        case DType::f16: return merge_row<half>(call, shape, O, row);
        case DType::bf16: return merge_row<bfloat>(call, shape, O, row);
        default: return merge_row<float>(call, shape, O, row);
    }
}

} // namespace attn::cpu::ISA
