// mma.hpp — the verbs of sm_80: mma.sync, ldmatrix, cp.async.
#pragma once
#include "emulator.hpp"

namespace ptx {

// Where element e of a fragment's register file lives, from the PTX manual's figures. One function per operand is all that an instruction needs; the
// arithmetic below is written once.
struct M16N8K16 {
    static constexpr int M = 16, N = 8, K = 16;
    struct At {
        int lane, e;
    };
    static At a(int row, int k) { return {row % 8 * 4 + k % 8 / 2, k % 2 + row / 8 * 2 + k / 8 * 4}; }
    static At b(int k, int col) { return {col * 4 + k % 8 / 2, k % 2 + k / 8 * 2}; }
    static At c(int row, int col) { return {row % 8 * 4 + col / 2, col % 2 + row / 8 * 2}; }
};
template <class E>
float half_of(const uint32_t* r, int e) {
    return to_float(E{uint16_t(r[e / 2] >> (e % 2 * 16))});
}

template <class E>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], emu::Where w = emu::Where::current()) {
    struct Op {
        float* d;
        const uint32_t *a, *b;
    } me{d, a, b};
    emu::warp_collective(
        "mma.m16n8k16", me,
        [](auto& slot) {
            using L = M16N8K16;
            ++emu::stats.mma;
            const auto op = [&](int lane) -> Op& { return *static_cast<Op*>(slot[size_t(lane)]); };
            float A[L::M][L::K], B[L::K][L::N];
            for (int i = 0; i < L::M; ++i)
                for (int k = 0; k < L::K; ++k) {
                    const auto [l, e] = L::a(i, k);
                    A[i][k] = half_of<E>(op(l).a, e);
                }
            for (int k = 0; k < L::K; ++k)
                for (int j = 0; j < L::N; ++j) {
                    const auto [l, e] = L::b(k, j);
                    B[k][j] = half_of<E>(op(l).b, e);
                }
            for (int i = 0; i < L::M; ++i) {
                float s[L::N] = {};
                for (int k = 0; k < L::K; ++k)
                    for (int j = 0; j < L::N; ++j) s[j] += A[i][k] * B[k][j];
                for (int j = 0; j < L::N; ++j) {
                    const auto [l, e] = L::c(i, j);
                    op(l).d[e] += s[j];
                }
            }
        },
        w);
}

template <bool Trans>
void ldmatrix_x4(uint32_t (&r)[4], const void* row, emu::Where w = emu::Where::current()) {
    struct Op {
        uint32_t* r;
        const uint16_t* row;
    } me{r, static_cast<const uint16_t*>(row)};
    emu::smem_access(row, 16, false, "ldmatrix", w);
    emu::warp_collective(
        Trans ? "ldmatrix.trans" : "ldmatrix", me,
        [w](auto& slot) {
            ++emu::stats.ldmatrix;
            for (size_t m = 0; m < 4; ++m) {
                const uint16_t* rows[8];
                uint32_t banks = 0;
                for (size_t i = 0; i < 8; ++i) {
                    rows[i] = static_cast<Op*>(slot[m * 8 + i])->row;
                    const uint32_t bank = 1u << (smem_address(rows[i]) / 16 % 8);
                    if (banks & bank && !emu::stats.bank_conflicts++) emu::stats.first_conflict = w;
                    banks |= bank;
                }
                for (size_t l = 0; l < 32; ++l) {
                    const auto at = [&](size_t i, size_t j) { return uint32_t(Trans ? rows[j][i] : rows[i][j]); };
                    static_cast<Op*>(slot[l])->r[m] = at(l / 4, l % 4 * 2) | at(l / 4, l % 4 * 2 + 1) << 16;
                }
            }
        },
        w);
}

// Copies `bytes` of 16, the rest becomes zero. Performed as late as the program allows: at the wait that covers it. Until then the destination holds NaN
// and counts as not arrived, so that a missing wait or barrier cannot pass by luck.
inline void cp_async_16(void* dst, const void* src, int bytes, emu::Where w = emu::Where::current()) {
    if (bytes && reinterpret_cast<uintptr_t>(src) % 16) emu::fail("cp.async of 16 bytes from a misaligned address", w);
    if (bytes) emu::global_access(src, size_t(bytes), false, w);
    emu::smem_access(dst, 16, true, "cp.async issued", w, emu::generic, emu::self->warp, emu::Content::in_flight);
    emu::bank_access(smem_address(dst), 16, w);
    std::memset(dst, 0xFF, 16);
    const auto land = [=] {
        emu::smem_access(dst, 16, true, "cp.async landed", w);
        std::memset(dst, 0, 16);
        if (bytes) std::memcpy(dst, src, size_t(bytes));
    };
    if (emu::options.eager) land();
    else emu::self->copies.push_back(land);
}
inline void cp_async_commit() {
    emu::self->groups.push_back(std::move(emu::self->copies));
    emu::self->copies.clear();
}
template <int Pending>
void cp_async_wait() {
    auto& groups = emu::self->groups;
    while (int(groups.size()) > Pending) {
        for (const auto& copy : groups.front()) copy();
        groups.erase(groups.begin());
    }
}

} // namespace ptx
