// mask_test.cpp — the model's closed forms against one plain question asked of every query and key: does it see?
#include "model/mask.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cases.hpp"
#include "sample.hpp"

namespace {

using namespace attn;

// The same question from SEMANTICS alone.
bool sees(const Rule& r, int64_t i, int64_t j) {
    const int64_t p = i + r.offset;
    if (i >= r.queries || j >= r.keys) return false;
    if (r.causal && !(j < r.prefix || j <= p)) return false;
    return (r.left < 0 || j >= p - r.left) && (r.right < 0 || j <= p + r.right);
}
std::string text(const Rule& r) {
    return "m " + std::to_string(r.queries) + ", n " + std::to_string(r.keys) + ", offset " + std::to_string(r.offset) + ", window " + std::to_string(r.left) +
           ".." + std::to_string(r.right) + (r.causal ? ", causal" : "") + ", prefix " + std::to_string(r.prefix);
}

constexpr int kQueries = 5, kKeys = 6;

void check(const Rule& r) {
    uint32_t row[kQueries] = {}; // bit j: is seen
    for (int i = 0; i < kQueries; ++i)
        for (int j = 0; j < kKeys; ++j) {
            row[i] |= uint32_t(sees(r, i, j)) << j;
            ASSERT_EQ(r.sees(i, j), sees(r, i, j)) << text(r) << ", query " << i << ", key " << j;
        }
    for (int begin = 0; begin < kQueries; ++begin)
        for (int end = begin + 1; end <= kQueries; ++end) {
            uint32_t any = 0, all = ~0u;
            for (int i = begin; i < end; ++i) any |= row[i], all &= row[i];
            const Range keys = r.keys_of({begin, end});
            const int64_t first = any ? __builtin_ctz(any) : 0, last = any ? 32 - __builtin_clz(any) : 0;
            ASSERT_EQ(larger(0, keys.end - keys.begin), last - first) << text(r) << ", queries " << begin << ".." << end;
            if (any) { ASSERT_EQ(keys.begin, first) << text(r) << ", queries " << begin << ".." << end; }
            for (int k0 = 0; k0 < kKeys; ++k0)
                for (int k1 = k0 + 1; k1 <= kKeys; ++k1) {
                    const uint32_t wanted = ((1u << k1) - 1) & ~((1u << k0) - 1);
                    ASSERT_EQ(r.whole({begin, end}, {k0, k1}), (all & wanted) == wanted)
                        << text(r) << ", queries " << begin << ".." << end << ", keys " << k0 << ".." << k1;
                }
        }
}

TEST(Rule, KeysAndWholeAgainstSeesExhaustively) {
    for (int64_t m = 0; m <= kQueries; ++m)
        for (int64_t n = 0; n <= kKeys; ++n)
            for (int64_t offset = -7; offset <= 7; ++offset)
                for (int64_t left = -1; left <= 3; ++left)
                    for (int64_t right = -1; right <= 3; ++right)
                        for (int64_t prefix = -1; prefix <= kKeys; ++prefix) { // -1: neither causal nor prefix
                            Rule r{m, n};
                            r.offset = offset, r.left = left, r.right = right, r.causal = prefix >= 0, r.prefix = larger(0, prefix);
                            check(r);
                            if (HasFatalFailure()) return;
                        }
}

TEST(Rule, FarOffsetsDoNotOverflow) {
    for (const int64_t offset : {int64_t(INT32_MIN), int64_t(INT32_MAX)}) {
        Rule r{100, 100};
        r.offset = offset, r.causal = true, r.left = INT32_MAX, r.right = INT32_MAX;
        EXPECT_EQ(r.sees(50, 50), sees(r, 50, 50));
    }
}

// A keep mask classed and packed in the plainest way.
struct Packed {
    std::vector<Cell> classes;
    std::vector<uint64_t> words;
    PackedKeep keep;

    explicit Packed(const reference::Dense<uint8_t>& dense) {
        if (!dense) return;
        const auto& n = dense.shape;
        const int64_t rows = cells_of(n[2]), columns = cells_of(n[3]);
        for (int64_t b = 0; b < n[0]; ++b)
            for (int64_t h = 0; h < n[1]; ++h)
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t c = 0; c < columns; ++c) {
                        bool any = false, all = true;
                        for (int64_t i = r * kCell; i < (r + 1) * kCell; ++i) {
                            uint64_t word = 0;
                            for (int64_t j = 0; j < kCell && i < n[2]; ++j) {
                                if (n[3] > 1 && c * kCell + j >= n[3]) continue;
                                const bool kept = dense.at(b, h, i, c * kCell + j) != 0;
                                any |= kept, all &= kept;
                                word |= uint64_t(kept) << j;
                            }
                            words.push_back(word);
                        }
                        classes.push_back(all ? Cell::full : any ? Cell::partial : Cell::empty);
                    }
        keep.classes = classes.data(), keep.words = words.data();
        keep.batch = n[0] > 1 ? n[1] * rows * columns : 0, keep.head = n[1] > 1 ? rows * columns : 0;
        keep.row = n[2] > 1 ? columns : 0, keep.column = n[3] > 1 ? 1 : 0, keep.word_step = n[2] > 1 ? 1 : 0;
    }
};

void check(const cases::Case& c) {
    cases::Case structure = c; // only the mask matters
    structure.D = structure.Dv = 1, structure.layout = cases::Layout::bhsd;
    const cases::Sample sample(structure);
    const reference::Problem& p = sample.problem;
    const Packed packed(p.keep);
    const auto values = [](const std::vector<int32_t>& v) { return v.empty() ? nullptr : v.data(); };
    Mask mask;
    mask.Sq = p.Sq, mask.Sk = p.Sk, mask.causal = p.causal, mask.left = p.left, mask.right = p.right;
    mask.key_lengths = values(p.key_lengths), mask.query_lengths = values(p.query_lengths), mask.prefix = values(p.prefix);
    mask.q_documents = values(p.q_documents), mask.k_documents = values(p.k_documents);
    mask.bottom_right = p.offset_kind == reference::Offset::bottom_right, mask.offset = p.offset;
    mask.offsets = p.offset_kind == reference::Offset::per_batch ? p.offsets.data() : nullptr;
    mask.keep = packed.keep;
    for (int64_t b = 0; b < p.B; ++b) {
        const Rule rule = mask.rule(b);
        for (int64_t h = 0; h < p.Hq; ++h)
            for (int64_t r = 0; r < cells_of(p.Sq); ++r)
                for (int64_t k = 0; k < cells_of(p.Sk); ++k) {
                    const int64_t end = smaller(smaller((r + 1) * kCell, p.Sq), rule.queries);
                    bool any = false, all = true;
                    for (int64_t i = r * kCell; i < end; ++i) {
                        uint64_t word = ~0ull, right = 0;
                        mask.words(rule, b, h, i, k, 1, &word);
                        for (int64_t j = k * kCell; j < smaller((k + 1) * kCell, p.Sk); ++j) {
                            const bool seen = p.sees(b, h, i, j);
                            ASSERT_EQ(mask.sees(rule, b, h, i, j), seen) << c.name << ": batch " << b << ", head " << h << ", query " << i << ", key " << j;
                            any |= seen, all &= seen;
                            right |= uint64_t(seen) << (j % kCell);
                        }
                        ASSERT_EQ(word, right) << c.name << ": batch " << b << ", head " << h << ", query " << i << ", cell " << k;
                    }
                    const Cell wanted = !any ? Cell::empty : all ? Cell::full : Cell::partial;
                    ASSERT_EQ(int(mask.cell(rule, b, h, r, k)), int(wanted)) << c.name << ": batch " << b << ", head " << h << ", cell " << r << ", " << k;
                }
    }
}

TEST(Mask, CellsAndWordsAgainstSees) {
    for (const cases::Case& c : cases::list(150)) {
        check(c);
        if (HasFatalFailure()) return;
    }
}

} // namespace
