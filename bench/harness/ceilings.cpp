#include "ceilings.hpp"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace harness {
namespace {

template <class F>
double timed(int threads, F&& f) {
    const auto began = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(f, i);
    f(0);
    for (std::thread& other : others) other.join();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

constexpr int64_t kLoops = 12'000'000;
constexpr int kChains = 12; // more than latency times ports

#define FMAS(width) ".irp at,0,1,2,3,4,5,6,7,8,9,10,11\nvfmadd231ps %%" width "mm14,%%" width "mm15,%%" width "mm\\at\n.endr\n"
#define LOOP(body)                              \
    asm volatile("1:\n" body "dec %0\njnz 1b\n" \
                 : "+r"(n)                      \
                 :                              \
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "cc")

[[gnu::target("avx512f")]] void fmas_avx512(int) {
    int64_t n = kLoops;
    LOOP(FMAS("z"));
}
[[gnu::target("avx2,fma")]] void fmas_avx2(int) {
    int64_t n = kLoops;
    LOOP(FMAS("y"));
}
void products_and_sums(int) { // SSE2 has no FMA: a product and a sum, on ports of their own
    int64_t n = kLoops;
    LOOP(
        "mulps %%xmm0,%%xmm1\naddps %%xmm0,%%xmm2\nmulps %%xmm0,%%xmm3\naddps %%xmm0,%%xmm4\nmulps %%xmm0,%%xmm5\naddps %%xmm0,%%xmm6\n"
        "mulps %%xmm0,%%xmm7\naddps %%xmm0,%%xmm8\nmulps %%xmm0,%%xmm9\naddps %%xmm0,%%xmm10\nmulps %%xmm0,%%xmm11\naddps %%xmm0,%%xmm2\n");
}

template <int kAhead>
void read(const unsigned char* p, const unsigned char* end) {
    __m128i a{}, b{}, c{}, d{};
    for (; p + 256 <= end; p += 256) {
        if (kAhead)
            for (int line = 0; line < 256; line += 64) _mm_prefetch(reinterpret_cast<const char*>(p + kAhead + line), _MM_HINT_T1);
        const auto* at = reinterpret_cast<const __m128i*>(p);
        for (int k = 0; k < 16; k += 4) {
            a = _mm_or_si128(a, _mm_loadu_si128(at + k)), b = _mm_or_si128(b, _mm_loadu_si128(at + k + 1));
            c = _mm_or_si128(c, _mm_loadu_si128(at + k + 2)), d = _mm_or_si128(d, _mm_loadu_si128(at + k + 3));
        }
    }
    asm volatile("" ::"x"(_mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d))));
}

} // namespace

double fma_seconds(const std::string& instruction_set, int threads, double& flops) {
    const bool wide = instruction_set == "avx512", none = instruction_set == "generic";
    flops = double(threads) * kLoops * kChains * (wide ? 32 : none ? 4 : 16);
    return timed(threads, wide ? fmas_avx512 : none ? products_and_sums : fmas_avx2);
}

double read_seconds(const unsigned char* data, size_t bytes, int threads) {
    const size_t share = bytes / 2 / size_t(threads); // one half each way: what is read twice might still be in a cache
    const auto half = [&](const unsigned char* from, auto reader) {
        return timed(threads, [&, from](int i) { reader(from + share * size_t(i), from + share * size_t(i + 1)); });
    };
    return 2 * std::min(half(data, read<0>), half(data + bytes / 2, read<4096>));
}

} // namespace harness
