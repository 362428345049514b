// pack_keep.cpp — the one pass over a dense keep mask: bytes to bits, and the class of each cell. Compiled once per instruction set.
#include "kernels.hpp"
#include "vec.hpp"

namespace attn::cpu::ISA {
namespace {

INLINE uint64_t nonzero(const uint8_t* x, int64_t n) { // bit j: x[j] != 0, of n <= 64
#if defined(__AVX512BW__)
    const __m512i v = _mm512_maskz_loadu_epi8(low_bits(n), x);
    return _mm512_test_epi8_mask(v, v);
#else
    uint64_t bits = 0;
    int64_t j = 0;
#if defined(__SSE2__)
    for (; j + 16 <= n; j += 16) {
        const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + j));
        bits |= uint64_t(~_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) & 0xffff) << j;
    }
#endif
    for (; j < n; ++j) bits |= uint64_t(x[j] != 0) << j;
    return bits;
#endif
}
INLINE uint64_t row_word(const KeepRow& keep, int64_t i, int64_t k0, int64_t n) {
    const uint8_t* x = keep.data + i * keep.row + k0 * keep.column;
    if (keep.every) return *x ? ~0ull : 0;
    if (keep.column == 1) return nonzero(x, n);
    uint64_t bits = 0;
    for (int64_t j = 0; j < n; ++j) bits |= uint64_t(x[j * keep.column] != 0) << j;
    return bits;
}

} // namespace

void pack_row(const KeepRow& keep, Cell* classes, uint64_t* words) {
    for (int64_t c = 0; c < cells_of(keep.keys); ++c) {
        const int64_t n = smaller(kCell, keep.keys - c * kCell);
        const uint64_t whole = keep.every ? ~0ull : low_bits(n);
        uint64_t word[kCell], any = 0, all = whole;
        for (int64_t i = 0; i < keep.rows; ++i) {
            word[i] = row_word(keep, i, c * kCell, n);
            any |= word[i], all &= word[i];
        }
        classes[c] = !any ? Cell::empty : all == whole ? Cell::full : Cell::partial;
        if (classes[c] == Cell::partial) std::memcpy(words + c * kCell, word, size_t(keep.rows) * sizeof(uint64_t));
    }
}

} // namespace attn::cpu::ISA
