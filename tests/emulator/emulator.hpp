// emulator.hpp — what the kernels' sources include instead of PTX when g++ compiles them: CUDA's keywords and built-in names, and every verb of
// ptx.cuh and ptx_sm90.cuh under the same name and signature, performed and checked by the emulator.
#pragma once
#include <bit>
#include <cmath>

#include "memory.hpp"

#define __global__ inline
#define __device__
#define __launch_bounds__(...)
#define __grid_constant__
#define DEVICE inline
#define UNROLL
#define UNROLL_ONCE
#define UNROLL_BY_K

#define threadIdx (emu::self->tid)
#define blockIdx (emu::block->idx)
#define blockDim (emu::block->dim)
#define gridDim (emu::grid_dim)

using std::max, std::min;

inline void __syncthreads(emu::Where w = emu::Where::current()) { emu::barrier(0, int(emu::block->lanes.size()), w); }
inline int __syncthreads_or(int v, emu::Where w = emu::Where::current()) { return emu::barrier(0, int(emu::block->lanes.size()), w, v); }
inline void __syncwarp(emu::Where w = emu::Where::current()) {
    int none = 0;
    emu::warp_collective(
        "syncwarp", none, [](auto&) { ++emu::meetings[emu::self->warp]; }, w);
}
template <class T>
T __shfl_xor_sync(unsigned, T v, int mask, emu::Where w = emu::Where::current()) {
    struct Op {
        T in;
        int mask;
        T out;
    } me{v, mask, {}};
    emu::warp_collective(
        "shfl.xor", me,
        [](auto& slot) {
            for (size_t i = 0; i < 32; ++i) {
                Op& o = *static_cast<Op*>(slot[i]);
                o.out = static_cast<Op*>(slot[i ^ size_t(o.mask)])->in;
            }
        },
        w);
    return me.out;
}
inline unsigned __ballot_sync(unsigned, bool v, emu::Where w = emu::Where::current()) {
    struct Op {
        bool in;
        unsigned out;
    } me{v, 0};
    emu::warp_collective(
        "ballot", me,
        [](auto& slot) {
            unsigned all = 0;
            for (size_t i = 0; i < 32; ++i) all |= unsigned(static_cast<Op*>(slot[i])->in) << i;
            for (size_t i = 0; i < 32; ++i) static_cast<Op*>(slot[i])->out = all;
        },
        w);
    return me.out;
}
inline int __popc(unsigned x) { return std::popcount(x); }

// ---- element types ---------------------------------------------------------------------
struct bf16 {
    uint16_t bits;
};
struct fp16 {
    uint16_t bits;
};
struct alignas(16) Chunk {
    uint32_t x[4];
};

namespace ptx {

inline float to_float(float x) { return x; }
inline float to_float(bf16 h) { return std::bit_cast<float>(uint32_t(h.bits) << 16); }
inline float to_float(fp16 h) {
    const uint32_t sign = uint32_t(h.bits & 0x8000) << 16, rest = uint32_t(h.bits & 0x7FFF) << 13;
    if (rest >= 0x7C00u << 13) return std::bit_cast<float>(sign | 0x7F800000 | rest);
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(std::bit_cast<float>(rest) * 0x1p112f)); // subnormals too
}
template <class T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
    return x;
}
template <>
inline bf16 from_float<bf16>(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    if (x != x) return {0x7FFF};
    return {uint16_t((u + 0x7FFF + (u >> 16 & 1)) >> 16)};
}
template <>
inline fp16 from_float<fp16>(float x) { // nearest, ties to even
    const uint32_t u = std::bit_cast<uint32_t>(x), sign = u >> 16 & 0x8000;
    const float a = std::fabs(x);
    if (x != x) return {0x7FFF};
    if (a >= 65520.f) return {uint16_t(sign | 0x7C00)};
    if (a < 0x1p-14f) return {uint16_t(sign | uint32_t(std::nearbyintf(a * 0x1p24f)))};
    const uint32_t m = u & 0x7FFFFFFF;
    return {uint16_t(sign | (((m + 0xFFF + (m >> 13 & 1)) >> 13) - (112u << 10)))};
}
template <class T>
uint32_t pack(float lo, float hi) {
    return from_float<T>(lo).bits | uint32_t(from_float<T>(hi).bits) << 16;
}

// ---- ordinary code ---------------------------------------------------------------------
template <class T>
T read(const T* p, emu::Where w = emu::Where::current()) {
    emu::access(p, sizeof(T), alignof(T), false, w);
    return *p;
}
template <class T>
void write(T* p, T value, emu::Where w = emu::Where::current()) {
    emu::access(p, sizeof(T), alignof(T), true, w);
    *p = value;
}
inline int read_fresh(const int* p, emu::Where w = emu::Where::current()) { return read(p, w); }
inline void add(uint64_t* counter, uint64_t n, emu::Where w = emu::Where::current()) {
    emu::atomic_access(counter, 8, w);
    *counter += n;
}
inline int uniform(int x) { return x; }
inline void hide_unless(uint32_t word, int bit, float& x) {
    ++emu::stats.tested;
    if (!(word >> bit & 1)) x = -INFINITY;
}
inline uint32_t low_bits(int n) { return n >= 32 ? ~0u : (1u << n) - 1; }
inline void pin(float&) {}
inline void pin(uint32_t&) {}
inline float exp2(float x) { return ::exp2f(x); }
inline float log2(float x) { return ::log2f(x); }
inline float reciprocal(float x) { return 1 / x; }

inline unsigned char* dynamic_smem() { return reinterpret_cast<unsigned char*>(emu::block->smem.data()); }
inline uint32_t smem_address(const void* p) { return uint32_t(static_cast<const std::byte*>(p) - emu::block->smem.data()); }

} // namespace ptx

#include "mma.hpp"
#include "wgmma.hpp"
