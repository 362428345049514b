// sight.hpp — what one cell of queries sees of one cell of keys: nothing, all, or a word of bits for each query. The model defines it; here it is found fast:
// documents are judged by the ranges of their ids before they are compared, and a keep mask's words are read where they lie.
#pragma once
#include "vec.hpp"

namespace attn::cpu::ISA {

struct Sight {
    Cell cell = Cell::empty;
    int step = 0; // 0: one word for all queries
    const uint64_t* words = nullptr;
    INLINE uint64_t word(int64_t i) const { return words[i % kCell * step]; } // query i: bit j = key j of the cell
};

// The ids of some queries or keys: the smallest and the largest, and the smallest that is not negative (else above every int32).
struct Documents {
    int32_t least = INT32_MAX, most = INT32_MIN;
    uint32_t first = UINT32_MAX;

    Documents() = default;
    INLINE Documents(const int32_t* id, int64_t n) {
        ivec low = ivec{} + INT32_MAX, high = ivec{} + INT32_MIN;
        uvec positive = uvec{} + UINT32_MAX;
        int64_t i = 0;
        for (; i + kWidth <= n; i += kWidth) {
            const ivec x = *reinterpret_cast<const ivec_unaligned*>(id + i);
            low = lower(low, x), high = higher(high, x), positive = lower(positive, uvec(x));
        }
        least = fold(
            low, [](ivec a, ivec b) __attribute__((always_inline)) { return lower(a, b); });
        most = fold(
            high, [](ivec a, ivec b) __attribute__((always_inline)) { return higher(a, b); });
        first = fold(
            positive, [](uvec a, uvec b) __attribute__((always_inline)) { return lower(a, b); });
        for (; i < n; ++i) {
            if (id[i] < least) least = id[i];
            if (id[i] > most) most = id[i];
            if (uint32_t(id[i]) < first) first = uint32_t(id[i]);
        }
    }
    INLINE bool one() const { return least == most && least >= 0; }
    INLINE bool meet(const Documents& o) const { return most >= 0 && o.most >= 0 && first <= uint32_t(o.most) && o.first <= uint32_t(most); }

private:
    template <class V>
    INLINE static V lower(V a, V b) {
        return a < b ? a : b;
    }
    template <class V>
    INLINE static V higher(V a, V b) {
        return a > b ? a : b;
    }
};

INLINE uint64_t equal(const int32_t* ids, int64_t n, int32_t id) { // bit j: ids[j] == id, of n <= 64
    uint64_t bits = 0;
    int64_t j = 0;
    for (; j + kWidth <= n; j += kWidth) {
        const ivec x = *reinterpret_cast<const ivec_unaligned*>(ids + j);
#if defined(__AVX512F__)
        bits |= uint64_t(_mm512_cmpeq_epi32_mask(__m512i(x), _mm512_set1_epi32(id))) << j;
#elif defined(__AVX2__)
        bits |= uint64_t(uint32_t(_mm256_movemask_ps(vec(x == id)))) << j;
#else
        bits |= uint64_t(uint32_t(_mm_movemask_ps(vec(x == id)))) << j;
#endif
    }
    for (; j < n; ++j) bits |= uint64_t(ids[j] == id) << j;
    return bits;
}

// The words of n queries from i on, all in one cell and below rule.queries.
INLINE void see(const Mask& mask, const Rule& rule, int64_t b, int64_t h, int64_t i, int64_t c, int n, uint64_t* word) {
    Mask plain = mask;
    plain.q_documents = nullptr;
    plain.words(rule, b, h, i, c, n, word);
    if (!mask.q_documents) return;
    const int32_t *ids = mask.q_documents + b * mask.Sq + i, *keys = mask.k_documents + b * mask.Sk + c * kCell;
    const int64_t count = smaller(kCell, mask.Sk - c * kCell);
    uint64_t same = 0;
    for (int r = 0; r < n; ++r) {
        if (r == 0 || ids[r] != ids[r - 1]) same = ids[r] < 0 ? 0 : equal(keys, count, ids[r]);
        word[r] &= same;
    }
}

// A mask before the queries of one batch.
class Sights {
public:
    INLINE Sights(const Mask& m, const Rule& r, int64_t batch) : mask(m), rule(r), b(batch) {}

    INLINE Documents query_documents(int64_t r) const { return of(mask.q_documents, mask.Sq, r * kCell, smaller(mask.Sq, rule.queries)); }
    INLINE Documents key_documents(int64_t c) const { return of(mask.k_documents, mask.Sk, c * kCell, mask.Sk); }

    // Cell (r, c) for the queries below rule.queries, of the class that Mask::cell gives; `own` has room for 64 words.
    [[gnu::noinline]] Sight sight(int64_t h, int64_t r, int64_t c, const Documents& mine, const Documents& theirs, uint64_t* own) const {
        const Range q{r * kCell, smaller(smaller((r + 1) * kCell, mask.Sq), rule.queries)}, k{c * kCell, smaller((c + 1) * kCell, mask.Sk)};
        const Range seen = rule.keys_of(q);
        if (q.begin >= q.end || seen.end <= k.begin || seen.begin >= k.end) return {};
        if (mask.q_documents && !mine.meet(theirs)) return {};
        const int64_t at = mask.keep.classes ? mask.keep.cell(b, h, r, c) : 0;
        const Cell kept = mask.keep.classes ? mask.keep.classes[at] : Cell::full;
        if (kept == Cell::empty) return {};
        const bool whole = rule.whole(q, k) && (!mask.q_documents || (mine.one() && theirs.one())), ragged = k.end < (c + 1) * kCell;
        if (whole && kept == Cell::full) {
            if (!ragged) return {Cell::full, 0, &kEvery};
            *own = low_bits(k.end - k.begin);
            return {Cell::full, 0, own};
        }
        Sight sight{Cell::partial, 1, own};
        if (whole && !ragged) {
            sight = {Cell::partial, mask.keep.word_step, mask.keep.words + at * kCell};
            if (q.end == smaller((r + 1) * kCell, mask.Sq)) return sight; // all its queries: that it is not empty was seen when it was packed
        } else {
            see(mask, rule, b, h, q.begin, c, int(q.end - q.begin), own);
        }
        uint64_t any = 0; // two partial masks may have nothing in common
        for (int64_t i = q.begin; i < q.end; ++i) any |= sight.word(i);
        return any ? sight : Sight{};
    }

private:
    INLINE Documents of(const int32_t* ids, int64_t length, int64_t begin, int64_t end) const {
        return ids ? Documents(ids + b * length + begin, smaller(kCell, end - begin)) : Documents();
    }
    static constexpr uint64_t kEvery = ~0ull;
    const Mask& mask;
    const Rule& rule;
    const int64_t b;
};

} // namespace attn::cpu::ISA
