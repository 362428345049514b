// ptx.cuh — the PTX instructions that every architecture's kernels use, one function each, and the types CUDA lacks without its headers. The emulator of
// the tests has the same names and signatures; kernels reach memory through these verbs only, so that it sees every access.
#pragma once
#if !defined(__CUDACC__)
#include "emulator.hpp"
#else
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define UNROLL_ONCE _Pragma("unroll 1")
#define UNROLL_BY_K _Pragma("unroll kUnroll") // a constant in scope
#define CUDA_SINCE(major, minor) (__CUDACC_VER_MAJOR__ * 100 + __CUDACC_VER_MINOR__ >= (major) * 100 + (minor))
#if !CUDA_SINCE(11, 7) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 700) // Pascal copies its parameters, and its compiler rejects the word
#undef __grid_constant__
#define __grid_constant__
#endif
#if defined(__CUDACC_RTC__) // NVRTC without headers; nvcc brings these itself
using uint8_t = unsigned char;
using int8_t = signed char;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long long;
using uint64_t = unsigned long long;
#define INFINITY __int_as_float(0x7f800000)
#else
#include <cstdint>
#endif

struct bf16 {
    uint16_t bits;
};
struct fp16 {
    uint16_t bits;
};
struct alignas(16) Chunk { // what one vector access moves
    uint32_t x[4];
};

extern __shared__ __attribute__((aligned(1024))) unsigned char dynamic_smem_[];

namespace ptx {

// ---- numbers ---------------------------------------------------------------------------
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 h) { return __uint_as_float(uint32_t(h.bits) << 16); }
DEVICE float to_float(fp16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits));
    return f;
}
template <class T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) {
    return x;
}
template <>
DEVICE bf16 from_float<bf16>(float x) {
#if __CUDA_ARCH__ >= 800
    bf16 h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h.bits) : "f"(x));
    return h;
#else
    const uint32_t u = __float_as_uint(x);
    return {x != x ? uint16_t(0x7FFF) : uint16_t((u + 0x7FFF + (u >> 16 & 1)) >> 16)};
#endif
}
template <>
DEVICE fp16 from_float<fp16>(float x) {
    fp16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(x));
    return h;
}
template <class E>
DEVICE uint32_t pack(float lo, float hi);
template <>
DEVICE uint32_t pack<bf16>(float lo, float hi) {
#if __CUDA_ARCH__ >= 800
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
    return d;
#else
    return from_float<bf16>(lo).bits | uint32_t(from_float<bf16>(hi).bits) << 16;
#endif
}
template <>
DEVICE uint32_t pack<fp16>(float lo, float hi) {
    return from_float<fp16>(lo).bits | uint32_t(from_float<fp16>(hi).bits) << 16;
}
DEVICE float exp2(float x) {
    float d;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
    return d;
}
DEVICE float log2(float x) {
    float d;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
    return d;
}
DEVICE float reciprocal(float x) {
    float d;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
    return d;
}

// ---- lanes and bits --------------------------------------------------------------------
DEVICE int uniform(int x) { return __shfl_sync(~0u, x, 0); } // the compiler cannot know that a warp agrees on x
DEVICE void hide_unless(uint32_t word, int bit, float& x) {  // x = -inf unless the bit is set
    asm("{\n.reg .pred hidden;\n.reg .b32 b;\nand.b32 b, %1, %2;\nsetp.eq.u32 hidden, b, 0;\n@hidden mov.f32 %0, 0fFF800000;\n}"
        : "+f"(x)
        : "r"(word), "r"(1u << bit));
}
DEVICE uint32_t low_bits(int n) { // n >= 0, from 32 on all
#if __CUDA_ARCH__ >= 700 && CUDA_SINCE(11, 6)
    uint32_t d;
    asm("bmsk.clamp.b32 %0, 0, %1;" : "=r"(d) : "r"(n));
    return d;
#else
    return n >= 32 ? ~0u : (1u << n) - 1;
#endif
}
DEVICE void pin(float& x) { asm volatile("" : "+f"(x)::"memory"); } // no use of x moves above this
DEVICE void pin(uint32_t& x) { asm volatile("" : "+r"(x)); }

// ---- memory ----------------------------------------------------------------------------
template <class T>
DEVICE T read(const T* p) {
    return *p;
}
template <class T>
DEVICE void write(T* p, T value) {
    *p = value;
}
DEVICE int read_fresh(const int* p) { return *static_cast<const volatile int*>(p); } // what others write while a kernel runs
DEVICE void add(uint64_t* counter, uint64_t n) { atomicAdd(reinterpret_cast<unsigned long long*>(counter), n); }
DEVICE unsigned char* dynamic_smem() { return dynamic_smem_; }
DEVICE uint32_t smem_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// ---- sm_80 -----------------------------------------------------------------------------
template <class E>
DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
#define MMA(E, type)                                                                                                                                     \
    template <>                                                                                                                                          \
    DEVICE void mma_m16n8k16<E>(float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) {                                                            \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                 \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                                                \
    }
MMA(bf16, "bf16")
MMA(fp16, "f16")
#undef MMA
template <bool Trans>
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
    if constexpr (Trans)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(smem_address(row)));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(smem_address(row)));
}
// Copies `bytes` of 16, the rest becomes zero.
DEVICE void cp_async_16(void* dst, const void* src, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_address(dst)), "l"(src), "r"(bytes) : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int Pending>
DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

} // namespace ptx
#endif
