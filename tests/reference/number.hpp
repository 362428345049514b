// number.hpp — the element types as the reference knows them: a bit pattern's value, and a value's nearest pattern (ties to even), by arithmetic alone.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace reference {

enum class Type { f32, f16, bf16, f64 };

constexpr int bytes_of(Type t) { return t == Type::f64 ? 8 : t == Type::f32 ? 4 : 2; }

// A 16-bit format: sign, exponent, fraction.
struct Format {
    int fraction, bias;
};
constexpr Format kHalf{10, 15}, kBfloat{7, 127};

inline double value_of(uint16_t pattern, Format f) {
    const int ones = (1 << (15 - f.fraction)) - 1, exponent = pattern >> f.fraction & ones, fraction = pattern & ((1 << f.fraction) - 1);
    const double sign = pattern & 0x8000 ? -1 : 1;
    if (exponent == ones) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
    const double significand = exponent ? 1 + std::ldexp(fraction, -f.fraction) : std::ldexp(fraction, -f.fraction);
    return sign * std::ldexp(significand, (exponent ? exponent : 1) - f.bias);
}

inline uint16_t pattern_of(double x, Format f) {
    const int ones = (1 << (15 - f.fraction)) - 1;
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0, infinity = uint16_t(ones << f.fraction);
    if (std::isnan(x)) return uint16_t(sign | infinity | 1 << (f.fraction - 1));
    if (x == 0) return sign;
    if (std::isinf(x)) return uint16_t(sign | infinity);
    int exponent;
    std::frexp(x, &exponent); // |x| in [2^(exponent - 1), 2^exponent)
    exponent = std::max(exponent - 1, 1 - f.bias);
    // In units of the last place, rounded as the machine rounds: to the nearest, ties to even. A carry into the next exponent adds up by itself.
    const double units = std::nearbyint(std::ldexp(std::fabs(x), f.fraction - exponent));
    const double pattern = units + std::ldexp(exponent + f.bias - 1, f.fraction);
    return uint16_t(sign | (pattern >= infinity ? infinity : uint16_t(pattern)));
}

inline double load(const void* at, Type t) {
    uint16_t bits;
    if (t == Type::f64) {
        double x;
        std::memcpy(&x, at, 8);
        return x;
    }
    if (t == Type::f32) {
        float x;
        std::memcpy(&x, at, 4);
        return double(x);
    }
    std::memcpy(&bits, at, 2);
    return value_of(bits, t == Type::f16 ? kHalf : kBfloat);
}

inline void store(void* at, Type t, double x) {
    if (t == Type::f64) {
        std::memcpy(at, &x, 8);
    } else if (t == Type::f32) {
        const float y = float(x);
        std::memcpy(at, &y, 4);
    } else {
        const uint16_t bits = pattern_of(x, t == Type::f16 ? kHalf : kBfloat);
        std::memcpy(at, &bits, 2);
    }
}

inline double rounded(double x, Type t) {
    unsigned char bytes[8];
    store(bytes, t, x);
    return load(bytes, t);
}

} // namespace reference
