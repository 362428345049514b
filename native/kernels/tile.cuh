// tile.cuh — what the algorithm's symbols are made of: shared tiles, register fragments, row statistics.
#pragma once
#include "ptx.cuh"

// kRows x kCols 16-bit elements in shared memory. 16-byte chunks are swizzled so that the eight rows which one ldmatrix phase reads fall into eight
// different bank groups: by the row where a row is a whole number of 128 bytes, else (4 or 12 chunks) two rows share 128 bytes and go by the pair.
template <int kRows, int kCols>
struct SharedTile {
    static constexpr int kChunks = kCols / 8, kBytes = kRows * kCols * 2, kTurn = kChunks % 8 ? 4 : 8;
    static_assert(kCols % 32 == 0);
    uint16_t* base;
    DEVICE uint16_t* chunk(int row, int c) const { return base + offset(row, c); }
    DEVICE static int offset(int row, int c) { return row * kCols + (c ^ (kTurn == 8 ? row % 8 : row / 2 % 4)) * 8; }
    // The chunk `rows` (a multiple of 8) below and `c` (clear of at's bits) beyond the one at offset `at`: one XOR.
    DEVICE uint16_t* beyond(int at, int rows, int c) const { return base + (at ^ c % kTurn * 8) + c / kTurn * kTurn * 8 + rows * kCols; }
};

// A warp's kM x kN accumulator: kM/16 x kN/8 mma fragments of 4 floats. row()/col() give an element's
// place in the tile; they are the only code that knows the fragment layout.
template <int kM, int kN>
struct Accum {
    static constexpr int kMi = kM / 16, kNi = kN / 8;
    float x[kMi][kNi][4];
    DEVICE static Accum zero() {
        Accum a;
        a.each([](float& x, int, int) { x = 0; });
        return a;
    }
    DEVICE static int row(int i, int e) { return i * 16 + int(threadIdx.x) % 32 / 4 + e / 2 * 8; }
    DEVICE static int col(int j, int e) { return j * 8 + int(threadIdx.x) % 4 * 2 + e % 2; }
    template <class F>
    DEVICE void each(F f) { // f(value, row, col)
        UNROLL for (int i = 0; i < kMi; ++i) UNROLL for (int j = 0; j < kNi; ++j) UNROLL for (int e = 0; e < 4; ++e) f(x[i][j][e], row(i, e), col(j, e));
    }
};

// One float per row of an Accum that this lane touches: the paper's m and l.
template <int kM>
struct RowVec {
    float x[kM / 16][2];
    DEVICE static RowVec full(float v) {
        RowVec r;
        UNROLL for (auto& i : r.x) i[0] = i[1] = v;
        return r;
    }
};
template <int kM, class F>
DEVICE RowVec<kM> zip(const RowVec<kM>& a, const RowVec<kM>& b, F f) {
    RowVec<kM> r;
    UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int h = 0; h < 2; ++h) r.x[i][h] = f(a.x[i][h], b.x[i][h]);
    return r;
}
template <int kM, int kN, class F>
DEVICE void rows(Accum<kM, kN>& S, const RowVec<kM>& v, F f) { // f(element, its row's value)
    UNROLL for (int i = 0; i < S.kMi; ++i) UNROLL for (int j = 0; j < S.kNi; ++j) UNROLL for (int e = 0; e < 4; ++e) f(S.x[i][j][e], v.x[i][e / 2]);
}
template <int kM, int kN, class F>
DEVICE RowVec<kM> reduce_rows(const Accum<kM, kN>& S, F f, RowVec<kM> r) { // this lane's part
    UNROLL for (int i = 0; i < S.kMi; ++i) UNROLL for (int j = 0; j < S.kNi; ++j) UNROLL for (int e = 0; e < 4; ++e) r.x[i][e / 2] = f(r.x[i][e / 2], S.x[i][j][e]);
    return r;
}
template <int kM, class F>
DEVICE RowVec<kM> across_quad(RowVec<kM> r, F f) { // the four lanes that share a row
    UNROLL for (auto& i : r.x) UNROLL for (auto& v : i) {
        v = f(v, __shfl_xor_sync(~0u, v, 1));
        v = f(v, __shfl_xor_sync(~0u, v, 2));
    }
    return r;
}

// A operand of a warp, 16 columns a step: kept in registers (P; Q where it fits), or read again each time from shared memory.
template <int kM, int kK>
struct FragA {
    uint32_t r[kM / 16][kK / 16][4];
    DEVICE FragA<kM, 16> step(int k) const {
        FragA<kM, 16> a;
        UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int e = 0; e < 4; ++e) a.r[i][0][e] = r[i][k][e];
        return a;
    }
};
template <int kM, int kRows, int kK>
struct SharedA {
    SharedTile<kRows, kK> tile;
    int row0;
    DEVICE FragA<kM, 16> step(int k) const {
        const int lane = threadIdx.x % 32, at = tile.offset(row0 + lane % 16, lane / 16);
        FragA<kM, 16> a;
        UNROLL for (int i = 0; i < kM / 16; ++i) ptx::ldmatrix_x4<false>(a.r[i][0], tile.beyond(at, i * 16, k * 2));
        return a;
    }
};
template <int kM, int kRows, int kK>
DEVICE void load(FragA<kM, kK>& A, const SharedA<kM, kRows, kK>& s) {
    UNROLL for (int k = 0; k < kK / 16; ++k) {
        const auto a = s.step(k);
        UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int e = 0; e < 4; ++e) A.r[i][k][e] = a.r[i][0][e];
    }
}
template <class E, int kM, int kN>
DEVICE FragA<kM, kN> to_operand(const Accum<kM, kN>& S) { // C layout of two n-tiles is the A layout of one k-tile
    FragA<kM, kN> A;
    UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int k = 0; k < kN / 16; ++k) UNROLL for (int h = 0; h < 2; ++h) UNROLL for (int e = 0; e < 2; ++e)
        A.r[i][k][h * 2 + e] = ptx::pack<E>(S.x[i][k * 2 + h][e * 2], S.x[i][k * 2 + h][e * 2 + 1]);
    return A;
}
// C += A B^T, B stored as rows (S = Q K^T)
template <class E, class A, int kM, int kN, int kK>
DEVICE void mma_ABt(Accum<kM, kN>& C, const A& a, SharedTile<kN, kK> B) {
    const int lane = threadIdx.x % 32, at = B.offset(lane % 8 + lane / 16 * 8, lane / 8 % 2);
    UNROLL for (int k = 0; k < kK / 16; ++k) {
        const auto ak = a.step(k);
        UNROLL for (int j = 0; j < kN / 8; j += 2) {
            uint32_t b[4];
            ptx::ldmatrix_x4<false>(b, B.beyond(at, j * 8, k * 2));
            UNROLL for (int i = 0; i < kM / 16; ++i) {
                ptx::mma_m16n8k16<E>(C.x[i][j], ak.r[i][0], {b[0], b[1]});
                ptx::mma_m16n8k16<E>(C.x[i][j + 1], ak.r[i][0], {b[2], b[3]});
            }
        }
    }
}
// C += A B, B stored as rows (O += P V)
template <class E, int kM, int kN, int kK>
DEVICE void mma_AB(Accum<kM, kN>& C, const FragA<kM, kK>& A, SharedTile<kK, kN> B) {
    const int lane = threadIdx.x % 32, at = B.offset(lane % 16, lane / 16);
    UNROLL for (int k = 0; k < kK / 16; ++k) UNROLL for (int j = 0; j < kN / 8; j += 2) {
        uint32_t b[4];
        ptx::ldmatrix_x4<true>(b, B.beyond(at, k * 16, j));
        UNROLL for (int i = 0; i < kM / 16; ++i) {
            ptx::mma_m16n8k16<E>(C.x[i][j], A.r[i][k], {b[0], b[1]});
            ptx::mma_m16n8k16<E>(C.x[i][j + 1], A.r[i][k], {b[2], b[3]});
        }
    }
}
// Starts copying kRows rows of `cols` elements, `stride` elements apart, from src; rows from `rows` on and columns from `cols` on become zeros and are
// not read. A thread keeps to one column of chunks.
template <int kThreads, int kRows, int kCols, class E>
DEVICE void copy_async(SharedTile<kRows, kCols> dst, const E* src, int64_t stride, int rows, int cols) {
    constexpr int kStep = kThreads / dst.kChunks;
    const int c = threadIdx.x % dst.kChunks, r0 = threadIdx.x / dst.kChunks, bytes = min(16, max(0, (cols - c * 8) * 2));
    if (kThreads % dst.kChunks && r0 >= kStep) return;
    src += r0 * stride + c * 8;
    [[maybe_unused]] constexpr int kUnroll = kCols < 256 ? 4 : 1; // the widest kernels have no registers left for addresses
    UNROLL_BY_K for (int r = 0; r < kRows; r += kStep, src += kStep * stride) {
        if (kRows % kStep && r0 + r >= kRows) break;
        ptx::cp_async_16(dst.chunk(r0 + r, c), src, r0 + r < rows ? bytes : 0);
    }
}
