// mask.hpp — who sees whom, knowing no device: the one definition that CPU kernels, GPU kernels and tests compile.
// A mask is a Rule (closed form: lengths, causal, window, prefix), documents, and at most one dense keep mask in packed cells; they intersect.
#pragma once
#if !defined(__CUDACC_RTC__)
#include <cstdint>
#endif
#if defined(__CUDACC__)
#define ATTN_INLINE __host__ __device__ __forceinline__
#else
#define ATTN_INLINE [[gnu::always_inline]] inline // always: a copy left to the linker would carry one instruction set's code into another's
#endif

namespace attn {

constexpr int kCell = 64;                           // masks are classed in cells of 64 queries x 64 keys
enum class Cell : uint8_t { empty, partial, full }; // ordered: the class of an intersection is at most the smaller one

struct Range {
    int64_t begin, end;
}; // [begin, end); empty where end <= begin

ATTN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
ATTN_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
ATTN_INLINE int64_t clamped(int64_t n, int64_t most) { return smaller(larger(n, 0), most); }
ATTN_INLINE int64_t cells_of(int64_t n) { return (n + kCell - 1) / kCell; }
ATTN_INLINE uint64_t low_bits(int64_t n) { return n <= 0 ? 0 : n >= 64 ? ~0ull : (1ull << n) - 1; }

// The closed-form part, of one batch. A query sees one interval of keys, whose ends do not move back as the query grows: everything below rests on that.
struct Rule {
    int64_t queries, keys;         // m[b], n[b]
    int64_t offset = 0;            // position p = i + offset
    int64_t left = -1, right = -1; // p - left <= j <= p + right; -1: unbounded
    int64_t prefix = 0;            // with causal: j < prefix or j <= p
    bool causal = false;

    ATTN_INLINE Range row(int64_t i) const { // the keys query i < queries sees
        const int64_t p = i + offset;
        Range seen{0, keys};
        if (causal) seen.end = smaller(seen.end, larger(prefix, p + 1));
        if (right >= 0) seen.end = smaller(seen.end, p + right + 1);
        if (left >= 0) seen.begin = larger(0, p - left);
        return seen;
    }
    ATTN_INLINE bool sees(int64_t i, int64_t j) const {
        const Range seen = row(i);
        return i < queries && seen.begin <= j && j < seen.end;
    }
    // The smallest interval that holds every key some query of [begin, end) sees.
    ATTN_INLINE Range keys_of(Range q) const {
        q.end = smaller(q.end, queries);
        if (q.begin >= q.end) return {0, 0};
        const Range first = row(q.begin), last = row(q.end - 1);
        if (last.end <= 0 || first.begin >= keys) return {0, 0};
        return {first.begin, last.end};
    }
    // Whether every query of q sees every key of k.
    ATTN_INLINE bool whole(Range q, Range k) const { return q.end <= queries && row(q.end - 1).begin <= k.begin && row(q.begin).end >= k.end; }
};

// A dense keep mask after its one pass. Broadcast dimensions are stored once: their stride is 0.
struct PackedKeep {
    const Cell* classes = nullptr;                    // null: no keep mask
    const uint64_t* words = nullptr;                  // 64 a cell, a word per query, bit j = key; written for partial cells only
    int64_t batch = 0, head = 0, row = 0, column = 0; // cells to the next batch, head, cell row, cell column
    int word_step = 1;                                // 0 where all queries share a row
    ATTN_INLINE int64_t cell(int64_t b, int64_t h, int64_t r, int64_t c) const { return b * batch + h * head + r * row + c * column; }
};

// A mask bound to its values. Arrays are null where that kind of mask is absent.
struct Mask {
    int64_t Sq = 0, Sk = 0;
    const int32_t *key_lengths = nullptr, *query_lengths = nullptr, *prefix = nullptr; // [B]
    const int32_t *q_documents = nullptr, *k_documents = nullptr;                      // [B, Sq], [B, Sk]; a negative id neither sees nor is seen
    bool causal = false;
    int64_t left = -1, right = -1;
    bool bottom_right = false;
    int64_t offset = 0;
    const int32_t* offsets = nullptr; // [B]
    PackedKeep keep;

    ATTN_INLINE Rule rule(int64_t b) const { // lengths that nobody has looked at, on a device, are clamped to what there is
        Rule r{query_lengths ? clamped(query_lengths[b], Sq) : Sq, key_lengths ? clamped(key_lengths[b], Sk) : Sk};
        r.offset = offsets ? offsets[b] : bottom_right ? r.keys - r.queries : offset;
        r.left = left, r.right = right;
        r.causal = causal || prefix;
        r.prefix = prefix ? clamped(prefix[b], r.keys) : 0;
        return r;
    }
    ATTN_INLINE bool sees(const Rule& rule, int64_t b, int64_t h, int64_t i, int64_t j) const {
        if (!rule.sees(i, j)) return false;
        if (q_documents && (q_documents[b * Sq + i] < 0 || q_documents[b * Sq + i] != k_documents[b * Sk + j])) return false;
        if (!keep.classes) return true;
        const int64_t at = keep.cell(b, h, i / kCell, j / kCell);
        const Cell cell = keep.classes[at];
        return cell == Cell::full || (cell == Cell::partial && keep.words[at * kCell + i % kCell * keep.word_step] >> (j % kCell) & 1);
    }
    // Bit j of word[r]: query i + r sees key 64 c + j, of n queries in one cell, all below rule.queries. Bits past the last key are 0.
    ATTN_INLINE void words(const Rule& rule, int64_t b, int64_t h, int64_t i, int64_t c, int n, uint64_t* word) const {
        const int64_t k0 = c * kCell, count = smaller(kCell, Sk - k0), at = keep.classes ? keep.cell(b, h, i / kCell, c) : 0;
        const uint64_t* kept = keep.classes && keep.classes[at] == Cell::partial ? keep.words + at * kCell + i % kCell * keep.word_step : nullptr;
        const uint64_t all = keep.classes && keep.classes[at] == Cell::empty ? 0 : low_bits(count);
        for (int r = 0; r < n; ++r) {
            const Range seen = rule.row(i + r);
            word[r] = all & low_bits(seen.end - k0) & ~low_bits(seen.begin - k0);
            if (kept) word[r] &= kept[r * keep.word_step];
            if (q_documents && word[r]) word[r] &= same_document(q_documents[b * Sq + i + r], k_documents + b * Sk + k0, int(count));
        }
    }
    // The class of cell (r, c) for the queries below rule.queries; what lies past Sq and Sk does not count.
    ATTN_INLINE Cell cell(const Rule& rule, int64_t b, int64_t h, int64_t r, int64_t c) const {
        const Range q{r * kCell, smaller(smaller((r + 1) * kCell, Sq), rule.queries)}, k{c * kCell, smaller((c + 1) * kCell, Sk)};
        const Range seen = rule.keys_of(q);
        if (q.begin >= q.end || seen.end <= k.begin || seen.begin >= k.end) return Cell::empty;
        Cell cell = rule.whole(q, k) ? Cell::full : Cell::partial;
        if (keep.classes) {
            const Cell kept = keep.classes[keep.cell(b, h, r, c)];
            if (kept < cell) cell = kept;
        }
        if (cell == Cell::empty || !(q_documents || (keep.classes && cell == Cell::partial))) return cell;
        if (q_documents && cell == Cell::full && one_document(b, q, k)) return Cell::full;
        return any(rule, b, h, q, c) ? Cell::partial : Cell::empty; // two partial masks may have nothing in common
    }

private:
    ATTN_INLINE static uint64_t same_document(int32_t id, const int32_t* keys, int count) {
        uint64_t bits = 0;
        if (id >= 0)
            for (int j = 0; j < count; ++j) bits |= uint64_t(keys[j] == id) << j;
        return bits;
    }
    ATTN_INLINE bool one_document(int64_t b, Range q, Range k) const {
        const int32_t id = q_documents[b * Sq + q.begin];
        bool same = id >= 0;
        for (int64_t i = q.begin; i < q.end; ++i) same &= q_documents[b * Sq + i] == id;
        for (int64_t j = k.begin; j < k.end; ++j) same &= k_documents[b * Sk + j] == id;
        return same;
    }
    ATTN_INLINE bool any(const Rule& rule, int64_t b, int64_t h, Range q, int64_t c) const {
        for (int64_t i = q.begin; i < q.end; ++i) {
            uint64_t word;
            words(rule, b, h, i, c, 1, &word);
            if (word) return true;
        }
        return false;
    }
};

} // namespace attn
