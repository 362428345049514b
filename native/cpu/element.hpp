// element.hpp — one element of any float type as a number, and back with the nearest (ties to even). For strided and scalar code; vec.hpp has whole vectors.
#pragma once
#include <bit>
#include <cstdint>

#include "../model/dtype.hpp"
#include "../model/mask.hpp"

namespace attn::cpu {

ATTN_INLINE float number(float x) { return x; }
ATTN_INLINE double number(double x) { return x; }
ATTN_INLINE float number(bfloat x) { return std::bit_cast<float>(uint32_t(x.bits) << 16); }
ATTN_INLINE float number(half x) {
    const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
    if (magnitude >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13); // infinity, NaN
    // Read with a float's exponent the pattern is 2^112 too small, subnormals included.
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f));
}

template <class T>
T element(float x);
template <>
ATTN_INLINE float element<float>(float x) {
    return x;
}
template <>
ATTN_INLINE double element<double>(float x) {
    return x;
}
template <>
ATTN_INLINE bfloat element<bfloat>(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    if (x != x) return {uint16_t(bits >> 16 | 0x40)};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <>
ATTN_INLINE half element<half>(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return {uint16_t(sign | 0x7e00)};
    if (magnitude >= 0x477ff000) return {uint16_t(sign | 0x7c00)}; // half way past the largest, 65504
    if (magnitude < 0x38800000) {                                  // subnormal: its unit is 2^-24; adding 0.5 rounds there
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return {uint16_t(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)))};
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return {uint16_t(sign | (rounded - 0x38000000) >> 13)};
}

} // namespace attn::cpu
