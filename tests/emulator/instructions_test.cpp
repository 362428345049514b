// instructions_test.cpp — each emulated instruction against plain arithmetic.
#include <gtest/gtest.h>

#include "../native/cases.hpp"
#include "../reference/number.hpp"
#include "verbs_sm90.cuh"

namespace {

template <class E>
constexpr reference::Format format = std::is_same_v<E, fp16> ? reference::kHalf : reference::kBfloat;
template <class E>
E some(cases::Random& r) {
    return ptx::from_float<E>(float(r.normal()));
}
template <class... P, class... A>
void run(void (*kernel)(P...), unsigned threads, size_t smem, const A&... args) {
    emu::options = {}, emu::reset();
    emu::launch(kernel, {1}, {threads}, smem, args...);
    EXPECT_EQ(emu::report.violations, 0u) << emu::report.first;
}

TEST(Numbers, ConversionsAreTheReferences) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const double half = reference::value_of(uint16_t(bits), reference::kHalf), bfloat = reference::value_of(uint16_t(bits), reference::kBfloat);
        if (!std::isnan(half)) { EXPECT_EQ(double(ptx::to_float(fp16{uint16_t(bits)})), half); }
        if (!std::isnan(bfloat)) { EXPECT_EQ(double(ptx::to_float(bf16{uint16_t(bits)})), bfloat); }
    }
    cases::Random r(1);
    for (int i = 0; i < 200000; ++i) {
        const float x = std::bit_cast<float>(uint32_t(r.next()));
        if (std::isnan(x)) continue;
        ASSERT_EQ(ptx::from_float<fp16>(x).bits, reference::pattern_of(double(x), reference::kHalf)) << x;
        ASSERT_EQ(ptx::from_float<bf16>(x).bits, reference::pattern_of(double(x), reference::kBfloat)) << x;
    }
}

template <class E, int kK>
void check_products() {
    cases::Random r(kK);
    emu::Buffer<E> a(16 * kK), b(64 * kK);
    emu::Buffer<float> c(16 * 64, false), d(16 * kK, false);
    for (size_t i = 0; i < a.size(); ++i) a[i] = some<E>(r);
    for (size_t i = 0; i < b.size(); ++i) b[i] = some<E>(r);
    run(products<E, kK>, 32, size_t(80) * kK * 2, a.data(), b.data(), c.data(), d.data());
    EXPECT_EQ(emu::stats.bank_conflicts, 0u) << kK;
    const auto at = [](const emu::Buffer<E>& m, int i) { return double(ptx::to_float(m[size_t(i)])); };
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 64; ++j) {
            double s = 0;
            for (int k = 0; k < kK; ++k) s += at(a, i * kK + k) * at(b, j * kK + k);
            ASSERT_NEAR(c[size_t(i * 64 + j)], s, 1e-4);
        }
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < kK; ++j) {
            double s = 0;
            for (int k = 0; k < 64; ++k)
                s += reference::value_of(reference::pattern_of(double(c[size_t(i * 64 + k)]), format<E>), format<E>) * at(b, k * kK + j);
            ASSERT_NEAR(d[size_t(i * kK + j)], s, 1e-2);
        }
}
TEST(MmaSync, ProductsOfEveryWidth) {
    check_products<bf16, 32>(), check_products<bf16, 64>(), check_products<bf16, 96>(), check_products<bf16, 128>(), check_products<bf16, 192>(),
        check_products<bf16, 256>();
    check_products<fp16, 32>(), check_products<fp16, 64>(), check_products<fp16, 96>(), check_products<fp16, 128>(), check_products<fp16, 192>(),
        check_products<fp16, 256>();
}

template <class E, int kK>
void check_warpgroup_products() {
    cases::Random r(kK);
    const int columns = kK - 8, rows = 61; // the box reaches past the matrix: zeros
    emu::Buffer<E> a(size_t(rows * columns)), b(size_t(rows * columns));
    emu::Buffer<float> c(64 * 64, false), d(64 * kK, false);
    for (size_t i = 0; i < a.size(); ++i) a[i] = some<E>(r), b[i] = some<E>(r);
    const auto map = [&](const emu::Buffer<E>& m) { return ptx::TensorMap{m.data(), columns, rows, 1, 1, columns, rows * columns, rows * columns, 64}; };
    run(warpgroup_products<E, kK>, 128, size_t(2 * 64 * kK * 2 + 8), map(a), map(b), c.data(), d.data());
    const auto at = [&](const emu::Buffer<E>& m, int i, int k) { return i < rows && k < columns ? double(ptx::to_float(m[size_t(i * columns + k)])) : 0.0; };
    for (int i = 0; i < 64; ++i)
        for (int j = 0; j < 64; ++j) {
            double s = 0;
            for (int k = 0; k < kK; ++k) s += at(a, i, k) * at(b, j, k);
            ASSERT_NEAR(c[size_t(i * 64 + j)], s, 1e-4);
        }
    for (int i = 0; i < 64; ++i)
        for (int j = 0; j < kK; ++j) {
            double s = 0;
            for (int k = 0; k < 64; ++k) s += reference::value_of(reference::pattern_of(double(c[size_t(i * 64 + k)]), format<E>), format<E>) * at(b, k, j);
            ASSERT_NEAR(d[size_t(i * kK + j)], s, 1e-2);
        }
}
TEST(Wgmma, ProductsOfEveryWidth) {
    check_warpgroup_products<bf16, 64>(), check_warpgroup_products<bf16, 128>(), check_warpgroup_products<bf16, 192>(), check_warpgroup_products<bf16, 256>();
    check_warpgroup_products<fp16, 64>(), check_warpgroup_products<fp16, 128>(), check_warpgroup_products<fp16, 192>(), check_warpgroup_products<fp16, 256>();
}

TEST(Warp, VotesShufflesAndBits) {
    emu::Buffer<uint32_t> ballot(32, false), low(32, false);
    emu::Buffer<int> before(32, false), xored(32, false);
    emu::Buffer<float> hidden(32, false);
    run(collect, 32, 0, ballot.data(), before.data(), xored.data(), hidden.data(), low.data());
    for (size_t lane = 0; lane < 32; ++lane) {
        EXPECT_EQ(ballot[lane], 0x49249249u);
        EXPECT_EQ(before[lane], int(lane + 2) / 3);
        EXPECT_EQ(xored[lane], int(lane ^ 5) * 10);
        EXPECT_EQ(hidden[lane], lane % 4 % 2 == 0 ? 1.f : -INFINITY);
        EXPECT_EQ(low[lane], lane >= 16 ? ~0u : uint32_t((uint64_t(1) << lane * 2) - 1));
    }
}

TEST(CpAsync, FillsWithZeros) {
    emu::Buffer<uint32_t> in(128), out(128, false);
    std::memset(in.data(), 0x7E, 512);
    run(copy_some, 32, 512, in.data(), out.data());
    const auto* bytes = reinterpret_cast<const unsigned char*>(out.data());
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 16; ++i) EXPECT_EQ(bytes[lane * 16 + i], i < lane % 17 ? 0x7E : 0);
}

TEST(Wgmma, TilesOfOrdinaryCodeAndBothParities) {
    cases::Random r(3);
    emu::Buffer<bf16> a(64 * 64);
    emu::Buffer<uint32_t> words(256), out(256, false);
    emu::Buffer<float> c(64 * 64, false);
    for (size_t i = 0; i < a.size(); ++i) a[i] = some<bf16>(r);
    for (size_t i = 0; i < words.size(); ++i) words[i] = uint32_t(r.next());
    run(fenced_products<bf16>, 128, 64 * 64 * 2 + 1024, a.data(), words.data(), c.data(), out.data());
    for (size_t i = 0; i < 64; ++i)
        for (size_t j = 0; j < 64; ++j) {
            double s = 0;
            for (size_t k = 0; k < 64; ++k) s += double(ptx::to_float(a[i * 64 + k])) * double(ptx::to_float(a[j * 64 + k]));
            ASSERT_NEAR(c[i * 64 + j], s, 1e-4);
        }
    for (size_t i = 0; i < 256; ++i) ASSERT_EQ(out[i], words[i]);
}
TEST(Tma, BoxesWithinAndBeyondATensor) { // heads within rows, batches before both: [S][B][H][D]
    constexpr int kColumns = 72, kSize = 70, kRow = kColumns * 6;
    emu::Buffer<uint16_t> tensor(size_t(kSize * kRow));
    for (size_t i = 0; i < tensor.size(); ++i) tensor[i] = uint16_t(1 + i);
    const ptx::TensorMap map{tensor.data(), kColumns, kSize, 3, 2, kRow, kColumns, kColumns * 3, 64};
    struct At {
        int column, row, head, batch;
    };
    for (const At at : {At{0, 0, 0, 0}, {0, 5, 2, 1}, {64, 64, 2, 0}, {128, 0, 0, 0}, {0, 128, 1, 1}}) {
        emu::Buffer<uint32_t> out(64 * 32, false);
        run(box<64>, 128, 64 * 128 + 8, map, at.column, at.row, at.head, at.batch, out.data());
        const auto* met = reinterpret_cast<const uint16_t*>(out.data());
        for (int r = 0; r < 64; ++r)
            for (int c = 0; c < 64; ++c) {
                const bool inside = at.column + c < kColumns && at.row + r < kSize;
                const int element = (at.row + r) * kRow + at.batch * kColumns * 3 + at.head * kColumns + at.column + c;
                ASSERT_EQ(met[r * 64 + (c / 8 ^ r % 8) * 8 + c % 8], inside ? uint16_t(1 + element) : 0);
            }
    }
}
// Whether c = A B, within what 32-bit sums may miss.
template <class A, class B>
void expect_product(const float* c, int columns, int inner, A a, B b) {
    for (int i = 0; i < 64; ++i)
        for (int j = 0; j < columns; ++j) {
            double s = 0;
            for (int k = 0; k < inner; ++k) s += a(i, k) * b(k, j);
            ASSERT_NEAR(c[i * columns + j], s, 1e-3) << i << ", " << j;
        }
}
auto matrix(const emu::Buffer<bf16>& m, int columns) {
    return [&m, columns](int i, int j) { return double(ptx::to_float(m[size_t(i * columns + j)])); };
}
template <int kM, int kRow0, int kN>
void check_k_major() {
    cases::Random r(kN);
    emu::Buffer<bf16> a(kM * 64), b(kN * 64);
    emu::Buffer<float> c(64 * kN, false);
    for (size_t i = 0; i < a.size(); ++i) a[i] = some<bf16>(r);
    for (size_t i = 0; i < b.size(); ++i) b[i] = some<bf16>(r);
    run(k_major_products<bf16, kM, kRow0, kN>, 128, size_t(kM + kN) * 128, a.data(), b.data(), 16, 1024, c.data());
    const auto at = matrix(a, 64), bt = matrix(b, 64);
    expect_product(
        c.data(), kN, 64, [&](int i, int k) { return at(kRow0 + i, k); }, [&](int k, int j) { return bt(j, k); });
}
template <int kK, int kN>
void check_mn_major() {
    cases::Random r(kN);
    emu::Buffer<bf16> a(64 * kK), b(kK * kN);
    emu::Buffer<float> c(64 * kN, false);
    for (size_t i = 0; i < a.size(); ++i) a[i] = some<bf16>(r);
    for (size_t i = 0; i < b.size(); ++i) b[i] = some<bf16>(r);
    run(mn_major_products<bf16, kK, kN>, 128, size_t(kK * kN) * 2, a.data(), b.data(), kK * 128, 1024, c.data());
    expect_product(c.data(), kN, kK, matrix(a, kK), matrix(b, kN));
}
TEST(Wgmma, DescriptorsOfTallAndWideTiles) {
    check_k_major<64, 0, 64>(), check_k_major<128, 64, 64>(), check_k_major<192, 128, 128>();
    check_mn_major<64, 64>(), check_mn_major<128, 64>(), check_mn_major<128, 128>(), check_mn_major<64, 192>(), check_mn_major<64, 256>();
}
TEST(Wgmma, TwoGroupsInFlight) {
    cases::Random r(5);
    emu::Buffer<bf16> a(64 * 64);
    emu::Buffer<float> c(3 * 4096, false), d(3 * 4096, false);
    for (size_t i = 0; i < a.size(); ++i) a[i] = some<bf16>(r);
    run(overlapped_products<bf16>, 128, 64 * 128, a.data(), c.data(), d.data());
    const auto at = matrix(a, 64);
    for (int round = 0; round < 3; ++round) {
        expect_product(c.data() + round * 4096, 64, 64, at, [&](int k, int j) { return at(j, k); });
        expect_product(d.data() + round * 4096, 64, 64, at, [&](int k, int j) { return (round + 1) * at(k, j); });
    }
}
TEST(Wgmma, RowsClearedBetweenTwoCopies) {
    constexpr int kReal = 41;
    cases::Random r(6);
    emu::Buffer<bf16> v(64 * 64), p(64 * 64);
    emu::Buffer<float> d(64 * 64, false);
    emu::Buffer<uint32_t> out(64 * 32, false);
    for (size_t i = 0; i < v.size(); ++i) v[i] = i < kReal * 64 ? some<bf16>(r) : bf16{0x7FC1}, p[i] = some<bf16>(r);
    run(cleared_products<bf16>, 128, 64 * 128 + 8, ptx::TensorMap{v.data(), 64, 64, 1, 1, 64, 4096, 4096, 64}, p.data(), kReal, d.data(), out.data());
    const auto vt = matrix(v, 64);
    expect_product(d.data(), 64, 64, matrix(p, 64), [&](int k, int j) { return k < kReal ? vt(k, j) : 0.0; });
    const auto* again = reinterpret_cast<const uint16_t*>(out.data());
    for (int row = 0; row < 64; ++row)
        for (int c = 0; c < 64; ++c) ASSERT_EQ(again[row * 64 + (c / 8 ^ row % 8) * 8 + c % 8], v[size_t(row * 64 + c)].bits);
}
TEST(Mbarrier, RingOfAProducerAndTwoConsumers) {
    emu::Buffer<uint32_t> words(9 * 256), out(9 * 256, false);
    for (size_t i = 0; i < words.size(); ++i) words[i] = uint32_t(i * 2654435761u);
    run(ring, 384, 2 * 1024 + 32, words.data(), 9, out.data());
    for (size_t i = 0; i < words.size(); ++i) ASSERT_EQ(out[i], words[i]) << i;
}
TEST(Numbers, SpecialOnesAndCounters) {
    emu::Buffer<float> x(32), exp2(32, false), log2(32, false), reciprocal(32, false), again(64, false);
    emu::Buffer<uint32_t> half(64, false), bfloat(64, false);
    x[0] = -INFINITY, x[1] = 1.f, x[3] = 1.f + 0x1p-9f;
    run(numbers, 32, 0, x.data(), exp2.data(), log2.data(), reciprocal.data(), again.data(), half.data(), bfloat.data());
    EXPECT_EQ(reciprocal[0], 0.f);
    EXPECT_EQ(reciprocal[2], INFINITY);
    EXPECT_EQ(again[6], 1.f + 0x1p-9f);
    EXPECT_EQ(again[7], 1.f);
    EXPECT_EQ(exp2[0], 0.f);
    EXPECT_EQ(log2[2], -INFINITY);
    EXPECT_EQ(half[1], 0x3C003C00u);
    EXPECT_EQ(half[33], 0x3C00u);
    EXPECT_EQ(bfloat[0], 0x3F80FF80u);
    emu::Buffer<uint64_t> sum(1);
    run(count, 64, 0, sum.data());
    EXPECT_EQ(sum[0], (uint64_t(64) << 32) + 63 * 32);
}
TEST(SharedMemory, StartsOnItsAlignment) {
    emu::Buffer<uint32_t> at(1, false);
    run(smem_start, 1, 1024, at.data());
    EXPECT_EQ(at[0], 0u);
}

} // namespace
