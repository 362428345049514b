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
    emu::Buffer<int> xored(32, false);
    emu::Buffer<float> hidden(32, false);
    run(collect, 32, 0, ballot.data(), xored.data(), hidden.data(), low.data());
    for (size_t lane = 0; lane < 32; ++lane) {
        EXPECT_EQ(ballot[lane], 0x49249249u);
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
TEST(SharedMemory, StartsOnItsAlignment) {
    emu::Buffer<uint32_t> at(1, false);
    run(smem_start, 1, 1024, at.data());
    EXPECT_EQ(at[0], 0u);
}

} // namespace
