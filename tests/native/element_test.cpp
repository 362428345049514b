// element_test.cpp — 16-bit patterns to numbers and back: all patterns, and every number that decides a rounding.
#include "cpu/element.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../reference/number.hpp"

namespace {

using namespace attn;

template <class T>
void all_patterns(reference::Format format) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float x = cpu::number(T{uint16_t(bits)});
        const double right = reference::value_of(uint16_t(bits), format);
        if (std::isnan(right)) {
            ASSERT_TRUE(std::isnan(x)) << bits;
            ASSERT_TRUE(std::isnan(cpu::number(cpu::element<T>(x)))) << bits;
            continue;
        }
        ASSERT_EQ(double(x), right) << bits;
        ASSERT_EQ(cpu::element<T>(x).bits, bits);
    }
}
template <class T>
void all_roundings(reference::Format format) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const double a = reference::value_of(uint16_t(bits), format), b = reference::value_of(uint16_t(bits + 1), format);
        if (std::isnan(a) || std::isnan(b) || (bits & 0x7fff) == 0x7fff) continue;
        // The middle between neighbours, beyond the largest number too, and just beside it.
        const double step = std::isinf(b) ? a - reference::value_of(uint16_t(bits - 1), format) : b - a;
        if (!std::isfinite(a) || !std::isfinite(step)) continue;
        const float middle = float(a + step / 2);
        for (const float x : {middle, std::nextafter(middle, INFINITY), std::nextafter(middle, -INFINITY)})
            ASSERT_EQ(cpu::element<T>(x).bits, reference::pattern_of(double(x), format)) << "of " << x;
    }
}

TEST(Element, EveryHalf) { all_patterns<half>(reference::kHalf); }
TEST(Element, EveryBfloat) { all_patterns<bfloat>(reference::kBfloat); }
TEST(Element, EveryRoundingToHalf) { all_roundings<half>(reference::kHalf); }
TEST(Element, EveryRoundingToBfloat) { all_roundings<bfloat>(reference::kBfloat); }

TEST(Element, TooLargeForHalfIsInfinite) {
    EXPECT_EQ(cpu::element<half>(65519.f).bits, 0x7bff);
    EXPECT_EQ(cpu::element<half>(65520.f).bits, 0x7c00);
    EXPECT_EQ(cpu::element<half>(-1e10f).bits, 0xfc00);
    EXPECT_EQ(cpu::element<half>(std::numeric_limits<float>::infinity()).bits, 0x7c00);
}
TEST(Element, TooSmallForHalfIsZero) {
    EXPECT_EQ(cpu::element<half>(0x1p-25f).bits, 0); // the middle: to even
    EXPECT_EQ(cpu::element<half>(0x1.8p-25f).bits, 1);
    EXPECT_EQ(cpu::element<half>(-1e-30f).bits, 0x8000);
}

} // namespace
