// dtype.hpp — element types: their sizes, names, and what a 16-bit pattern means.
#pragma once
#include <bit>
#include <cstdint>

namespace attn {

enum class DType : int32_t { none = 0, f32 = 1, f16 = 2, bf16 = 3, f64 = 4, i32 = 5, u8 = 6 }; // attn_dtype

constexpr int size_of(DType t) { return t == DType::f64 ? 8 : t == DType::f32 || t == DType::i32 ? 4 : t == DType::u8 ? 1 : t == DType::none ? 0 : 2; }
constexpr const char* name_of(DType t) {
    constexpr const char* names[] = {"none", "float32", "float16", "bfloat16", "float64", "int32", "uint8"};
    return int(t) >= 0 && int(t) <= 6 ? names[int(t)] : "unknown";
}
constexpr bool is_float(DType t) { return t >= DType::f32 && t <= DType::f64; }

struct half {
    uint16_t bits;
}; // IEEE binary16
struct bfloat {
    uint16_t bits;
}; // the upper half of a float

// A dtype as a type: calls f with a value of the element type.
template <class F>
decltype(auto) with_element(DType t, F&& f) {
    switch (t) {
        case DType::f16: return f(half{});
        case DType::bf16: return f(bfloat{});
        case DType::f64: return f(double{});
        default: return f(float{});
    }
}

} // namespace attn
