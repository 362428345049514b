// merge_test.cpp — the rows of the merge against plain arithmetic: two attentions at any strides, and the chunks of split keys.
#include "merge.cuh"

#include <gtest/gtest.h>

#include <cmath>

#include "../native/sample.hpp"
#include "launch.hpp"

namespace {

using cases::Tensor;
using reference::Type;

constexpr int64_t B = 2, H = 3, S = 5, Dv = 37, kRows = B * H * S; // the last block has rows to spare, the last lanes no columns

template <class E>
constexpr Type type_of = std::is_same_v<E, float>  ? Type::f32
                         : std::is_same_v<E, fp16> ? Type::f16
                                                   : Type::bf16;
double rounding(Type type) { return type == Type::f32 ? std::ldexp(1, -24) : type == Type::f16 ? std::ldexp(1, -11) : std::ldexp(1, -8); }

// Results of one part, or what they became, in the emulator's memory.
struct Part {
    Tensor O;
    emu::Buffer<unsigned char> memory;
    emu::Buffer<float> LSE;
    Part(Type type, const cases::Shape& strides, bool written = true) : O(type, {B, H, S, Dv}, strides), memory(O.bytes.size(), written), LSE(kRows, written) {}
    void fill(cases::Random& random, bool (*empty)(int64_t row)) {
        O.each([&](int64_t b, int64_t h, int64_t i, int64_t d) { O.set(b, h, i, d, empty((b * H + h) * S + i) ? std::nan("") : random.normal()); });
        std::copy(O.bytes.begin(), O.bytes.end(), memory.data());
        for (int64_t row = 0; row < kRows; ++row) LSE[size_t(row)] = empty(row) ? -INFINITY : float(random.normal() * 3 + (row % 7 == 6 ? 1e4 : 0));
    }
    void fetch() { O.bytes.assign(memory.data(), memory.data() + memory.size()); }
    template <class E>
    Strided<E> strided() const {
        return {reinterpret_cast<E*>(memory.data()), O.strides[0], O.strides[1], O.strides[2], O.strides[3]};
    }
};

// What O[row][d] and LSE[row] must be: of parts in their order, each with lse(row) and o(row, d).
template <class Lse, class Value>
void check(Part& out, bool with_lse, int parts, Lse&& lse, Value&& value) {
    out.fetch();
    EXPECT_TRUE(out.O.gaps_hold(0xff)) << "something was written between the elements of O";
    out.O.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        const int64_t row = (b * H + h) * S + i;
        double m = -INFINITY, l = 0, o = 0, largest = 0;
        for (int c = 0; c < parts; ++c) m = std::max(m, lse(c, row));
        for (int c = 0; c < parts; ++c) {
            if (lse(c, row) == -INFINITY) continue;
            const double weight = std::exp(lse(c, row) - m);
            l += weight, o += weight * value(c, row, d), largest = std::max(largest, std::fabs(value(c, row, d)));
        }
        const double right = l == 0 ? 0 : o / l, met = out.O.get(b, h, i, d);
        ASSERT_TRUE(std::fabs(met - right) <= rounding(out.O.type) * std::fabs(right) + 4e-6 * largest) << met << " instead of " << right << ", row " << row;
        if (!with_lse || d) return;
        const double right_lse = l == 0 ? -INFINITY : m + std::log(l), met_lse = double(out.LSE[size_t(row)]);
        ASSERT_TRUE(met_lse == right_lse || std::fabs(met_lse - right_lse) <= 1e-6 * std::max(1.0, std::fabs(right_lse)))
            << met_lse << " instead of " << right_lse << ", row " << row;
    });
}

const emu::Options kWays[] = {{false, 0}, {true, 3}, {false, 4}};

template <class E>
struct Merge : ::testing::Test {};
using Elements = ::testing::Types<float, fp16, bf16>;
TYPED_TEST_SUITE(Merge, Elements);

TYPED_TEST(Merge, TwoAttentionsAtAnyStrides) {
    using E = TypeParam;
    constexpr Type type = type_of<E>;
    cases::Random random(11);
    Part first(type, {H * S * Dv, Dv, H * Dv, 1}), second(type, {H * S * Dv * 3 + 7, S * Dv * 3, 3, S * 3});
    first.fill(random, [](int64_t row) { return row % 4 == 1 || row % 4 == 3; });
    second.fill(random, [](int64_t row) { return row % 4 == 2 || row % 4 == 3; });
    const Part* parts[] = {&first, &second};
    const auto lse = [&](int c, int64_t row) { return double(parts[c]->LSE[size_t(row)]); };
    const auto value = [&](int c, int64_t row, int64_t d) { return parts[c]->O.get(row / S / H, row / S % H, row % S, d); };
    const auto launch = [&](const Part& to, float* to_lse, unsigned blocks) {
        const Merged<E> merged{to.strided<E>(), to_lse, kRows, H, S, Dv};
        const Pair<E> pair{{first.strided<const E>(), second.strided<const E>()}, {first.LSE.data(), second.LSE.data()}};
        emu::reset();
        emu::launch(merge<E, Pair<E>>, {blocks}, {kMergeWarps * 32}, 0, merged, pair);
        ASSERT_EQ(emu::report.violations, 0u) << emu::report.first;
    };
    std::vector<unsigned char> bits;
    for (const emu::Options& way : kWays) {
        emu::options = way;
        // All rows at once, or fewer blocks than that, which go on to the next rows.
        const unsigned blocks = way.eager ? 3 : kernels::merge_grid(kRows).x;
        Part out(type, {2 * H * S * Dv, S * Dv, Dv, 1}, false);
        launch(out, way.seed == 4 ? nullptr : out.LSE.data(), blocks);
        check(out, way.seed != 4, 2, lse, value);
        if (bits.empty()) bits = out.O.bytes;
        EXPECT_EQ(bits, out.O.bytes) << "other bits than the first time";
    }
    // In place.
    Part out(type, first.O.strides, false);
    launch(out, out.LSE.data(), kernels::merge_grid(kRows).x);
    out.fetch();
    launch(first, first.LSE.data(), kernels::merge_grid(kRows).x);
    first.fetch();
    EXPECT_EQ(first.O.bytes, out.O.bytes);
    for (size_t row = 0; row < kRows; ++row) EXPECT_EQ(first.LSE[row], out.LSE[row]);
}

template <class E>
void chunks_of_split_keys() {
    constexpr int kChunks = 5;
    cases::Random random(12);
    emu::Buffer<float> O(size_t(kChunks * kRows * Dv)), LSE(size_t(kChunks * kRows));
    for (int64_t at = 0; at < kChunks * kRows; ++at) {
        const bool empty = (at + at / kRows) % 3 == 0 || at % kRows == 8; // row 8 saw nothing at all
        LSE[size_t(at)] = empty ? -INFINITY : float(random.normal() * 3);
        for (int64_t d = 0; d < Dv; ++d) O[size_t(at * Dv + d)] = empty ? NAN : float(random.normal());
    }
    Part out(type_of<E>, {H * S * (Dv + 3), S * (Dv + 3), Dv + 3, 1}, false);
    emu::options = {};
    emu::reset();
    emu::launch(merge<E, Chunks>, {kernels::merge_grid(kRows).x}, {kMergeWarps * 32}, 0, Merged<E>{out.template strided<E>(), out.LSE.data(), kRows, H, S, Dv},
                Chunks{O.data(), LSE.data(), kRows, Dv, kChunks});
    ASSERT_EQ(emu::report.violations, 0u) << emu::report.first;
    check(
        out, true, kChunks, [&](int c, int64_t row) { return double(LSE[size_t(c * kRows + row)]); },
        [&](int c, int64_t row, int64_t d) { return double(O[size_t((c * kRows + row) * Dv + d)]); });
}
TEST(MergeOfChunks, AreOneResult) { chunks_of_split_keys<fp16>(), chunks_of_split_keys<bf16>(); }

} // namespace
