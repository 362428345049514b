// reference_test.cpp — the judge itself: numbers known from elsewhere, problems small enough for paper, and results that must not pass.
#include <gtest/gtest.h>

#include <cmath>

#include "../reference/judge.hpp"

namespace {

using namespace reference;

TEST(Reference, KnownHalves) {
    EXPECT_EQ(value_of(0x3c00, kHalf), 1);
    EXPECT_EQ(value_of(0xc000, kHalf), -2);
    EXPECT_EQ(value_of(0x7bff, kHalf), 65504);
    EXPECT_EQ(value_of(0x0001, kHalf), 0x1p-24);
    EXPECT_EQ(value_of(0x0400, kHalf), 0x1p-14);
    EXPECT_EQ(pattern_of(1.0 / 3, kHalf), 0x3555);
    EXPECT_EQ(pattern_of(65520, kHalf), 0x7c00);
    EXPECT_EQ(pattern_of(2049, kHalf), 0x6800); // 2048: to even
    EXPECT_EQ(pattern_of(2051, kHalf), 0x6802); // 2052
}
TEST(Reference, KnownBfloats) {
    EXPECT_EQ(value_of(0x3f80, kBfloat), 1);
    EXPECT_EQ(value_of(0x4049, kBfloat), 3.140625);
    EXPECT_EQ(pattern_of(3.14159265, kBfloat), 0x4049);
    EXPECT_EQ(pattern_of(257, kBfloat), 0x4380); // 256: to even
    EXPECT_EQ(pattern_of(259, kBfloat), 0x4382); // 260
}

// One query, two keys with scores ln 1 and ln 3: weights 1/4 and 3/4.
Problem small() {
    Problem p;
    p.Sk = 2, p.Q = {1}, p.K = {0, std::log(3.0)}, p.V = {4, 8};
    return p;
}
TEST(Reference, WeightsOnPaper) {
    const Head R = exact(small(), 0, 0);
    EXPECT_NEAR(R.O[0], 7, 1e-12);
    EXPECT_NEAR(R.LSE[0], std::log(4.0), 1e-12);
    EXPECT_NEAR(R.P[0], 0.25, 1e-12);
    EXPECT_EQ(R.V, 8);
}
TEST(Reference, ScaleSoftcapBiasInOrder) {
    Problem p = small();
    p.scale = 2, p.softcap = 1, p.bias = {{0.5, -0.5}, {1, 1, 1, 2}};
    const double s0 = 0.5, s1 = std::tanh(2 * std::log(3.0)) - 0.5;
    EXPECT_NEAR(exact(p, 0, 0).LSE[0], std::log(std::exp(s0) + std::exp(s1)), 1e-12);
}
TEST(Reference, NothingSeenIsZero) {
    Problem p = small();
    p.key_lengths = {0};
    const Head R = exact(p, 0, 0);
    EXPECT_EQ(R.O[0], 0);
    EXPECT_EQ(R.LSE[0], -kInfinity);
    EXPECT_EQ(R.V, 0);
}
TEST(Reference, TwoGroupsOfHeadsAreBeside) {
    Problem p;
    p.Hq = 4, p.Hkv = 2, p.Q = {1, 1, 1, 1}, p.K = {0, 0}, p.V = {10, 20};
    EXPECT_EQ(exact(p, 0, 1).O[0], 10);
    EXPECT_EQ(exact(p, 0, 2).O[0], 20);
}
TEST(Reference, WhoSeesWhom) {
    Problem p;
    p.Sq = 4, p.Sk = 6;
    const auto row = [&](int64_t i) {
        std::string seen;
        for (int64_t j = 0; j < p.Sk; ++j) seen += p.sees(0, 0, i, j) ? 'x' : '.';
        return seen;
    };
    p.causal = true;
    EXPECT_EQ(row(1), "xx....");
    p.offset_kind = Offset::bottom_right;
    EXPECT_EQ(row(1), "xxxx..");
    p.key_lengths = {3};
    EXPECT_EQ(row(1), "x.....");
    p.key_lengths = {}, p.left = 1;
    EXPECT_EQ(row(1), "..xx..");
    p.causal = false, p.left = 0, p.right = 1, p.offset_kind = Offset::value, p.offset = -1;
    EXPECT_EQ(row(0), "x.....");
    p.left = p.right = -1, p.prefix = {4};
    EXPECT_EQ(row(0), "xxxx..");
    p.prefix = {}, p.q_documents = {0, 1, -1, 1}, p.k_documents = {1, 0, 1, -1, -1, 1};
    EXPECT_EQ(row(3), "x.x..x");
    EXPECT_EQ(row(2), "......");
}

Verdict judged(double O, double lse, Problem p = small()) {
    return Judge(p)({[=](int64_t, int64_t, int64_t, int64_t) { return O; }, [=](int64_t, int64_t, int64_t) { return lse; }});
}
TEST(Judge, PassesWhatIsRight) { EXPECT_TRUE(judged(7, std::log(4.0))); }
TEST(Judge, FailsWhatIsWrong) {
    EXPECT_FALSE(judged(7.001, std::log(4.0)));
    EXPECT_FALSE(judged(7, std::log(4.0) + 1e-4));
    EXPECT_NE(judged(7.001, std::log(4.0)).wrong.find("batch 0, head 0, row 0"), std::string::npos);
}
TEST(Judge, NeverPassesNaN) {
    EXPECT_FALSE(judged(std::nan(""), std::log(4.0)));
    EXPECT_FALSE(judged(7, std::nan("")));
}
TEST(Judge, WantsExactlyNothingWhereNothingIsSeen) {
    Problem p = small();
    p.key_lengths = {0};
    EXPECT_TRUE(judged(0, -kInfinity, p));
    EXPECT_FALSE(judged(1e-30, -kInfinity, p));
    EXPECT_FALSE(judged(0, -1e30, p));
    EXPECT_FALSE(judged(0, 0, p));
}

} // namespace
