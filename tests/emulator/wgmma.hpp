// wgmma.hpp — the verbs of Hopper: mbarrier, TMA, wgmma and their fences.
#pragma once
#include "emulator.hpp"

namespace ptx {

// What a tensor map says: a box of box_rows x 64 16-bit elements out of [batch][head][row][column], swizzled by 128 bytes. Sizes and strides in elements.
struct TensorMap {
    const void* base;
    int64_t columns, rows, heads, batches, row, head, batch;
    int box_rows;
};

// ---- mbarrier --------------------------------------------------------------------------
inline emu::MBarrier& barrier_at(const uint64_t* bar, emu::Where w) {
    const auto found = emu::block->mbarriers.find(bar);
    if (found == emu::block->mbarriers.end()) emu::fail("an mbarrier that was never initialised", w);
    return found->second;
}
inline void settle(emu::MBarrier& m) {
    if (m.pending == 0 && m.bytes == 0) ++m.phase, m.pending = m.expected;
}
inline void mbarrier_init(uint64_t* bar, int count, emu::Where w = emu::Where::current()) {
    emu::smem_offset(bar, 8, w);
    if (count < 1 || count >= 1 << 20) emu::fail("an mbarrier of " + std::to_string(count) + " arrivals", w);
    emu::MBarrier m;
    m.expected = m.pending = count;
    emu::block->mbarriers[bar] = m;
}
inline void mbarrier_init_fence() {
    for (auto& [_, m] : emu::block->mbarriers) m.published = true;
}
inline void proxy_fence() {
    emu::Clock& me = emu::clocks[emu::self->warp];
    std::copy(me.at, me.at + emu::kAgents, me.fenced);
    ++me.at[emu::self->warp];
}
inline void mbarrier_arrive(uint64_t* bar, emu::Where w = emu::Where::current()) {
    emu::MBarrier& m = barrier_at(bar, w);
    emu::Clock& me = emu::clocks[emu::self->warp];
    emu::join(m.clock, me);
    ++me.at[emu::self->warp];
    if (--m.pending < 0) emu::fail("more arrivals than the mbarrier expects", w);
    settle(m);
}
inline void warp_arrive(uint64_t* bar, emu::Where w = emu::Where::current()) {
    __syncwarp(w);
    if (emu::self->lane == 0) mbarrier_arrive(bar, w);
}
inline void mbarrier_arrive_expect(uint64_t* bar, int bytes, emu::Where w = emu::Where::current()) {
    emu::MBarrier& m = barrier_at(bar, w);
    if ((m.bytes += bytes) >= 1 << 20) emu::fail("an mbarrier that expects " + std::to_string(m.bytes) + " bytes; fewer than 2^20 can be counted", w);
    mbarrier_arrive(bar, w);
}
inline void mbarrier_wait(uint64_t* bar, int parity, emu::Where w = emu::Where::current()) {
    emu::MBarrier& m = barrier_at(bar, w);
    while (int(m.phase & 1) == parity) emu::wait_while(m.phase, "mbarrier.wait", w);
    emu::join(emu::clocks[emu::self->warp], m.clock);
}
// bar.sync: `threads` threads meet at barrier `id`.
inline void named_barrier(int id, int threads, emu::Where w = emu::Where::current()) {
    if (id < 1 || id > 15) emu::fail("named barrier " + std::to_string(id) + "; 1 to 15 are there beside __syncthreads' own", w);
    if (threads <= 0 || threads % 32) emu::fail("a named barrier of " + std::to_string(threads) + " threads; whole warps meet", w);
    emu::barrier(id, threads, w);
}

// ---- TMA -------------------------------------------------------------------------------
// The copy engine's work, 16 bytes at a time; `source` says whence, nullptr for zeros. It lands when nobody can go on without it.
template <class Source>
void copy_later(std::byte* out, int bytes, uint64_t* bar, Source source, emu::Where w) {
    if (!barrier_at(bar, w).published) emu::violation("TMA on an mbarrier without fence.mbarrier_init", w);
    emu::join(emu::clocks[emu::kTma], emu::clocks[emu::self->warp]);
    for (int b = 0; b < bytes; b += 16) {
        if (const void* from = source(b)) emu::global_access(from, 16, false, w);
        emu::smem_access(out + b, 16, true, "TMA issued", w, emu::async, emu::kTma, emu::Content::in_flight);
    }
    std::memset(out, 0xFF, size_t(bytes));
    const auto land = [=] {
        for (int b = 0; b < bytes; b += 16) {
            if (const void* from = source(b)) std::memcpy(out + b, from, 16);
            else std::memset(out + b, 0, 16);
            emu::smem_access(out + b, 16, true, "TMA landed", w, emu::async, emu::kTma);
        }
        emu::MBarrier& m = barrier_at(bar, w);
        ++emu::clocks[emu::kTma].at[emu::kTma];
        emu::join(m.clock, emu::clocks[emu::kTma]);
        ++emu::clocks[emu::kTma].at[emu::kTma];
        m.bytes -= bytes;
        settle(m);
    };
    if (emu::options.eager) land();
    else emu::block->async.push_back(land);
}
inline void tma_prefetch(const TensorMap&) {}
inline void tma_load(void* dst, const TensorMap& map, uint64_t* bar, int column, int row, int head, int batch, emu::Where w = emu::Where::current()) {
    auto* out = static_cast<std::byte*>(dst);
    if (smem_address(out) % 1024) emu::fail("a 128-byte-swizzled box must start on 1024 bytes", w);
    if (map.box_rows < 1 || map.box_rows > 256) emu::fail("a box of " + std::to_string(map.box_rows) + " rows; 1 to 256 can be had", w);
    if ((map.row | map.head | map.batch) % 8 || reinterpret_cast<uintptr_t>(map.base) % 16 || map.columns % 8)
        emu::fail("a tensor map needs base and strides in multiples of 16 bytes", w);
    copy_later(
        out, map.box_rows * 128, bar,
        [=](int b) -> const void* {
            const int r = b / 128, c = (b / 16 % 8) ^ (r % 8);
            const bool inside = row + r >= 0 && row + r < map.rows && column + c * 8 < map.columns && head < map.heads && batch < map.batches;
            return inside ? static_cast<const uint16_t*>(map.base) + batch * map.batch + head * map.head + (row + r) * map.row + column + c * 8 : nullptr;
        },
        w);
}
inline void bulk_load(void* dst, const void* src, int bytes, uint64_t* bar, emu::Where w = emu::Where::current()) {
    if (smem_address(dst) % 16 || bytes % 16 || reinterpret_cast<uintptr_t>(src) % 16) emu::fail("a bulk copy needs multiples of 16", w);
    copy_later(
        static_cast<std::byte*>(dst), bytes, bar, [=](int b) -> const void* { return static_cast<const std::byte*>(src) + b; }, w);
}

// ---- wgmma -----------------------------------------------------------------------------
inline uint64_t smem_descriptor(const void* tile, int offset, int leading, int stride) { // 128-byte swizzle
    const uint32_t low = (smem_address(tile) >> 4 | uint32_t(leading >> 4) << 16) + uint32_t(offset >> 4), high = uint32_t(stride >> 4) | 1u << 30;
    return uint64_t(high) << 32 | low;
}
inline const std::byte* through_descriptor(uint64_t d, int mn, int k, bool mn_major, emu::Where w) {
    const auto field = [&](int at) { return uint32_t(d >> at & 0x3FFF) << 4; };
    if (field(0) % 1024 >= 128) emu::fail("a wgmma descriptor whose pattern does not start on 1024 bytes; its base offset is 0", w);
    uint32_t a = mn_major ? field(0) + uint32_t(mn / 64) * field(16) + uint32_t(k / 8) * field(32) + uint32_t(k % 8 * 128 + mn % 64 * 2)
                          : field(0) + uint32_t(mn / 8) * field(32) + uint32_t(mn % 8 * 128 + k * 2);
    a ^= (a >> 7 & 7) << 4;
    if (a + 16 > emu::block->smem.size()) emu::fail("a wgmma descriptor reaches past shared memory", w);
    return emu::block->smem.data() + a;
}
// Whether a lane's registers changed since its last wgmma.fence; those met for the first time are taken to have been ready then.
inline bool unlike_at_fence(size_t lane, const void* p, size_t bytes) {
    auto& was = emu::block->lanes[lane].registers[p];
    if (was.empty()) was.resize(bytes), std::memcpy(was.data(), p, bytes);
    return std::memcmp(was.data(), p, bytes) != 0;
}
// D[64 x N] += A[64 x 16] B[16 x N], or = without Add; A from registers (a) or shared memory (a_desc). Nothing happens until the wait that covers it;
// until then the accumulators hold NaN, and A and B are read at the last moment.
template <class E, int N, bool BTrans, bool Add>
void wgmma_m64k16(float (&d)[N / 8][4], const uint32_t* a, uint64_t a_desc, uint64_t b_desc, emu::Where w = emu::Where::current()) {
    struct Op {
        float (*d)[4];
        const uint32_t* a;
    } me{d, a};
    const int wg = emu::self->warp / 4;
    emu::warpgroup_collective(
        "wgmma", me,
        [=](auto& slot) {
            ++emu::stats.mma;
            std::vector<Op> ops(128);
            std::vector<float> D(64 * N);
            for (size_t t = 0; t < 128; ++t) ops[t] = *static_cast<Op*>(slot[t]);
            const bool chained = emu::block->in_flight[&ops[0].d[0][0]]++ > 0; // in order without a fence
            bool touched = !emu::block->fenced[wg];
            for (size_t t = 0; t < 128; ++t) {
                const size_t lane = size_t(wg) * 128 + t;
                if (!chained && unlike_at_fence(lane, ops[t].d, sizeof(float) * N / 2)) touched = true;
                if (a && unlike_at_fence(lane, ops[t].a, 16)) touched = true;
            }
            if (touched) emu::violation("wgmma takes registers touched since the last wgmma.fence", w);
            const auto at = [ops](int i, int j) -> float& { return ops[size_t(i / 16 * 32 + i % 8 * 4 + j % 8 / 2)].d[j / 8][j % 2 + i % 16 / 8 * 2]; };
            if (!chained)
                for (int i = 0; i < 64; ++i)
                    for (int j = 0; j < N; ++j) D[size_t(i * N + j)] = at(i, j), at(i, j) = NAN;
            for (int v = wg * 4; v < wg * 4 + 4; ++v) emu::join(emu::clocks[emu::kTensor + wg], emu::clocks[v]);
            auto& groups = emu::block->wgmma[wg];
            if (groups.empty()) groups.emplace_back();
            const auto multiply = [=]() mutable {
                const auto eight = [&](uint64_t desc, int mn, int k, bool mn_major, float* out, int step) { // along the contiguous dimension
                    const std::byte* p = through_descriptor(desc, mn, k, mn_major, w);
                    emu::smem_access(p, 16, false, "wgmma", w, emu::async, emu::kTensor + wg);
                    for (int e = 0; e < 8; ++e) out[e * step] = to_float(E{reinterpret_cast<const uint16_t*>(p)[e]});
                };
                float A[64][16], B[16][N];
                for (int i = 0; i < 64; ++i)
                    for (int k = 0; k < 16; ++k) {
                        const auto [l, e] = M16N8K16::a(i % 16, k);
                        if (a) A[i][k] = half_of<E>(ops[size_t(i / 16 * 32 + l)].a, e);
                        else if (k % 8 == 0) eight(a_desc, i, k, false, &A[i][k], 1);
                    }
                if constexpr (BTrans) {
                    for (int k = 0; k < 16; ++k)
                        for (int j = 0; j < N; j += 8) eight(b_desc, j, k, true, &B[k][j], 1);
                } else {
                    for (int k = 0; k < 16; k += 8)
                        for (int j = 0; j < N; ++j) eight(b_desc, j, k, false, &B[k][j], N);
                }
                for (int i = 0; i < 64; ++i) {
                    float s[N];
                    for (int j = 0; j < N; ++j) s[j] = !Add ? 0.f : chained ? at(i, j) : D[size_t(i * N + j)];
                    for (int k = 0; k < 16; ++k)
                        for (int j = 0; j < N; ++j) s[j] += A[i][k] * B[k][j];
                    for (int j = 0; j < N; ++j) at(i, j) = s[j];
                }
                --emu::block->in_flight[&ops[0].d[0][0]];
            };
            groups.back().push_back(multiply);
        },
        w);
}
inline void wgmma_fence(emu::Where w = emu::Where::current()) {
    int none = 0;
    const int wg = emu::self->warp / 4;
    for (auto& [p, was] : emu::self->registers) std::memcpy(was.data(), p, was.size());
    emu::warpgroup_collective(
        "wgmma.fence", none, [=](auto&) { emu::block->fenced[wg] = true; }, w);
}
inline void run_group(int wg) {
    auto& groups = emu::block->wgmma[wg];
    for (auto& op : groups.front()) op();
    groups.erase(groups.begin());
}
// Eager tensor cores are done with a group as soon as it is committed; what they read is over for other warps only after the wait all the same.
inline void wgmma_commit(emu::Where w = emu::Where::current()) {
    int none = 0;
    const int wg = emu::self->warp / 4;
    emu::warpgroup_collective(
        "wgmma.commit", none,
        [=](auto&) {
            auto& groups = emu::block->wgmma[wg];
            groups.emplace_back();
            if (emu::options.eager)
                while (groups.size() > 1) run_group(wg);
        },
        w);
}
template <int Pending>
void wgmma_wait(emu::Where w = emu::Where::current()) {
    int none = 0;
    const int wg = emu::self->warp / 4;
    emu::warpgroup_collective(
        "wgmma.wait", none,
        [=](auto&) {
            emu::block->fenced[wg] = false; // from here on ordinary code may use the registers
            while (int(emu::block->wgmma[wg].size()) - 1 > Pending) run_group(wg);
            const int cores = emu::kTensor + wg; // each of the four warps learns that the cores' reads are over, and nothing of the others
            const uint32_t over = emu::clocks[cores].at[cores]++;
            for (int v = wg * 4; v < wg * 4 + 4; ++v) emu::clocks[v].at[cores] = over;
        },
        w);
}
template <int N>
void setmaxnreg_inc() {
    static_assert(N % 8 == 0 && N >= 24 && N <= 256);
}
template <int N>
void setmaxnreg_dec() {
    static_assert(N % 8 == 0 && N >= 24 && N <= 256);
}

} // namespace ptx
