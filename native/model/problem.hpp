// problem.hpp — what is asked, without data: sizes, strides, kinds of mask; and a call: the same with addresses and values bound.
#pragma once
#include <atomic>
#include <cstdint>

#include "dtype.hpp"
#include "mask.hpp"

namespace attn {

constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

struct Strides {
    int64_t batch = 0, head = 0, row = 0, column = 1;
}; // in elements

enum class Backend : int32_t { flash = 1, memory_efficient = 2, naive = 3 }; // attn_backend

struct Problem {
    DType dtype = DType::f32;
    int64_t B = 0, Hq = 0, Hkv = 0, Sq = 0, Sk = 0, D = 1, Dv = 1;
    Strides q, k, v, o;
    float scale = 1, softcap = 0; // softcap 0: off
    uint32_t masks = 0;           // of attn_mask_kind
    int32_t offset_kind = 0;      // attn_offset_kind
    bool bias = false, alibi = false, lse = false, probabilities = false, deterministic = false;
    DType bias_dtype = DType::f32;
    int64_t keep_shape[4] = {}, bias_shape[4] = {};

    int64_t group() const { return Hkv ? Hq / Hkv : 1; } // query heads to a key head
    bool empty() const { return !B || !Hq || !Sq; }
};

// A matrix [rows, columns] for every (batch, head), somewhere in memory: the one place that multiplies strides.
template <class T>
struct Heads {
    T* data = nullptr;
    Strides stride;
    ATTN_INLINE T* row(int64_t b, int64_t h, int64_t i) const { return data + b * stride.batch + h * stride.head + i * stride.row; }
    ATTN_INLINE explicit operator bool() const { return data != nullptr; }
};
template <class T, class U>
Heads<T> heads(U* data, const Strides& s) {
    return {static_cast<T*>(data), s};
}

// A bias [b, h, i, j] with broadcast dimensions at stride 0, in float32 or the problem's dtype.
struct Bias {
    const void* data = nullptr; // null: none
    DType dtype = DType::f32;
    Strides stride;
};

struct Call {
    const Problem* problem = nullptr;
    const void *Q = nullptr, *K = nullptr, *V = nullptr;
    void* O = nullptr;
    float* LSE = nullptr; // [B, Hq, Sq] or null
    float* P = nullptr;   // [B, Hq, Sq, Sk] or null
    Mask mask;
    Bias bias;
    const float* slopes = nullptr;            // ALiBi: [Hq] or null
    const volatile int32_t* cancel = nullptr; // null: cannot be cancelled
    std::atomic<int64_t>* visited = nullptr;  // tiles visited, added to once per work item
    unsigned char* workspace = nullptr;       // Backend::workspace bytes, 64-byte aligned

    bool cancelled() const { return cancel && *cancel; }
};

// Two attentions of the same queries over disjoint keys and the one they become: all [B, H, S, Dv] with strides, LSE contiguous.
struct Merging {
    DType dtype = DType::f32;
    int64_t B = 0, H = 0, S = 0, Dv = 0;
    struct Part {
        const void* O;
        Strides stride;
        const float* LSE;
    } parts[2];
    void* O;
    Strides stride;
    float* LSE; // null: not wanted

    int64_t rows() const { return B * H * S; }
};

} // namespace attn
