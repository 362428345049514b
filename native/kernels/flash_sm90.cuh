// flash_sm90.cuh — forward attention on Hopper: one warpgroup feeds tiles by TMA, the others multiply them with wgmma and hide the softmax of a tile under
// the previous tile's P V. A warp's accumulator fragment is the same 16 rows as mma.sync's, so softmax and masks are shared with flash_sm80.cuh.
#pragma once
#include "ptx_sm90.cuh"
#include "mask.cuh"
#include "score.cuh"
#include "store.cuh"

// Boxes of kBlockM (Q) or kBlockN (K, V) rows x 64 columns out of [batch][head][row][column]; what lies past D, Dv and the rows comes as zeros.
struct TensorMaps {
    ptx::TensorMap Q, K, V;
};

// kRows x kCols as TMA lays it out: slabs of 64 columns, 128 bytes a row, 128-byte swizzle.
template <int kRows, int kCols>
struct SlabTile {
    static constexpr int kBytes = kRows * kCols * 2;
    unsigned char* base;
    DEVICE unsigned char* slab(int s) const { return base + s * kRows * 128; }
    DEVICE uint64_t k_major(int row, int k) const { return ptx::smem_descriptor(base + row * 128, k / 4 * kRows * 128 + k % 4 * 32, 16, 1024); }
    DEVICE uint64_t mn_major(int k) const { return ptx::smem_descriptor(base, k * 2048, kRows * 128, 1024); }
    DEVICE void load(const ptx::TensorMap& map, uint64_t* full, int row, int head, int batch) const {
        UNROLL for (int s = 0; s < kCols / 64; ++s) ptx::tma_load(slab(s), map, full, s * 64, row, head, batch);
    }
    // Rows from `row` on become zero, by ordinary code; thread `t` of kThreads.
    template <int kThreads>
    DEVICE void clear_from(int row, int t) const {
        for (int i = t; i < (kRows - row) * 8; i += kThreads)
            UNROLL for (int s = 0; s < kCols / 64; ++s) ptx::write(reinterpret_cast<Chunk*>(slab(s) + row * 128) + i, Chunk{{0, 0, 0, 0}});
    }
};
template <class E, int kM, int kN, int kR>
DEVICE void wgmma_ABt(Accum<16, kN>& C, SlabTile<kR, kM> A, int row0, SlabTile<kN, kM> B) { // C = A B^T
    ptx::wgmma_m64k16<E, kN, false, false>(C.x[0], nullptr, A.k_major(row0, 0), B.k_major(0, 0));
    UNROLL for (int k = 1; k < kM / 16; ++k) ptx::wgmma_m64k16<E, kN, false, true>(C.x[0], nullptr, A.k_major(row0, k), B.k_major(0, k));
}
template <class E, int kK, int kN>
DEVICE void wgmma_AB(Accum<16, kN>& C, const FragA<16, kK>& A, SlabTile<kK, kN> B) { // C += A B
    UNROLL for (int k = 0; k < kK / 16; ++k) ptx::wgmma_m64k16<E, kN, true, true>(C.x[0], A.r[0][k], 0, B.mn_major(k));
}
template <int kPending, int kN>
DEVICE void wgmma_wait(Accum<16, kN>& C) {
    ptx::wgmma_wait<kPending>();
    C.each([](float& x, int, int) { ptx::pin(x); });
}

template <int kStages>
struct Ring {
    int stage = 0, phase = 0;
    DEVICE void next() {
        if (++stage == kStages) stage = 0, phase ^= 1;
    }
};
template <bool kValue>
struct Bool {
    static constexpr bool value = kValue;
};

template <int kD_, int kBlockM_, int kBlockN_, int kStages_>
struct Shape90 {
    static constexpr int kD = kD_, kBlockM = kBlockM_, kBlockN = kBlockN_, kStages = kStages_, kConsumers = kBlockM / 64, kThreads = kConsumers * 128 + 128;
    static_assert(kConsumers == 2 || kConsumers == 3); // the registers handed out below add up to a multiprocessor's
    static constexpr int kProducerRegisters = kConsumers == 3 ? 32 : 24, kConsumerRegisters = kConsumers == 3 ? 160 : 240;
};
template <class S, class Mask>
struct Smem90 {
    static constexpr int kMaskBytes = Mask::kPacked ? S::kBlockM * S::kBlockN / 8 : 0;
    unsigned char Q[S::kBlockM * S::kD * 2], K[S::kStages][S::kBlockN * S::kD * 2], V[S::kStages][S::kBlockN * S::kD * 2], mask[S::kStages][kMaskBytes + 16];
    uint64_t q_full, k_full[S::kStages], v_full[S::kStages], k_empty[S::kStages], v_empty[S::kStages];
};

// Only with a positive scale and no terms; no chunks.
template <class S_, class E, class Mask>
__global__ void __launch_bounds__(S_::kThreads, 1) flash_sm90(const __grid_constant__ TensorMaps maps, const __grid_constant__ Problem<E> p, const __grid_constant__ Mask mask) {
    constexpr int kD = S_::kD, kBlockM = S_::kBlockM, kBlockN = S_::kBlockN, kStages = S_::kStages, kConsumers = S_::kConsumers;
    if (given_up(p.cancel)) return;
    const Place place = place_of(p);
    const int b = place.b, h = place.h, turn = place.turn;
    const int q0 = turn * kBlockM;
    const int group = ptx::uniform(threadIdx.x / 128);
    const RowRule rule = rule_of(mask.mask, b);
    const int m = rule.queries, n = rule.keys;

    using Smem = Smem90<S_, Mask>;
    auto& smem = *reinterpret_cast<Smem*>(ptx::dynamic_smem());
    if (threadIdx.x == 0) {
        ptx::tma_prefetch(maps.Q), ptx::tma_prefetch(maps.K), ptx::tma_prefetch(maps.V);
        ptx::mbarrier_init(&smem.q_full, 1);
        for (int s = 0; s < kStages; ++s) {
            ptx::mbarrier_init(&smem.k_full[s], 1), ptx::mbarrier_init(&smem.v_full[s], 1);
            ptx::mbarrier_init(&smem.k_empty[s], kConsumers * 4), ptx::mbarrier_init(&smem.v_empty[s], kConsumers * 4);
        }
        ptx::mbarrier_init_fence();
    }
    __syncthreads(); // the barriers are there

    const SlabTile<kBlockM, kD> sQ{smem.Q};
    const auto tiles = mask.template tiles<kBlockM, kBlockN>(rule, b, h, turn, q0, 0, n);
    Ring<kStages> now;
    int before = 0; // the stage of the tile before

    if (group == kConsumers) { // producer
        ptx::setmaxnreg_dec<S_::kProducerRegisters>();
        if (threadIdx.x % 128 != 0 || !tiles.count) return;
        const int kv = h / p.group;
        Ring<kStages> ahead; // of K
        ptx::mbarrier_arrive_expect(&smem.q_full, sQ.kBytes);
        sQ.load(maps.Q, &smem.q_full, q0, h, b);
        const auto load_K = [&](int t) { // and the tile's bits
            const SlabTile<kBlockN, kD> sK{smem.K[ahead.stage]};
            const bool bits = mask.stored() && t < tiles.partial;
            ptx::mbarrier_wait(&smem.k_empty[ahead.stage], ahead.phase ^ 1);
            ptx::mbarrier_arrive_expect(&smem.k_full[ahead.stage], sK.kBytes + (bits ? Smem::kMaskBytes : 0));
            sK.load(maps.K, &smem.k_full[ahead.stage], tiles.block(t) * kBlockN, kv, b);
            if (bits) { // a row of cells lies together
                const Words words = tiles.words(t);
                UNROLL for (int r = 0; r < kBlockM / 64; ++r)
                    ptx::bulk_load(smem.mask[ahead.stage] + r * kBlockN * 8, words.base + r * words.row_stride, kBlockN * 8, &smem.k_full[ahead.stage]);
            }
            ahead.next();
        };
        load_K(0);
        UNROLL_ONCE for (int t = 0; t < tiles.count; ++t, now.next()) {
            if (t + 1 < tiles.count) load_K(t + 1); // wanted before V_t, whose stage is free later
            const SlabTile<kBlockN, kD> sV{smem.V[now.stage]};
            ptx::mbarrier_wait(&smem.v_empty[now.stage], now.phase ^ 1);
            ptx::mbarrier_arrive_expect(&smem.v_full[now.stage], sV.kBytes);
            sV.load(maps.V, &smem.v_full[now.stage], tiles.block(t) * kBlockN, kv, b);
        }
        return;
    }
    ptx::setmaxnreg_inc<S_::kConsumerRegisters>(); // consumers
    const int row0 = group * 64 + int(threadIdx.x) % 128 / 32 * 16;
    auto O = Accum<16, kD>::zero();
    Accum<16, kBlockN> S;
    FragA<16, kBlockN> P;
    Softmax<16, Scaled> softmax{Scaled(p.scale)};

    const auto issue_scores = [&] { // S = Q K_t^T
        ptx::mbarrier_wait(&smem.k_full[now.stage], now.phase);
        ptx::wgmma_fence();
        wgmma_ABt<E>(S, sQ, group * 64, SlabTile<kBlockN, kD>{smem.K[now.stage]});
        ptx::wgmma_commit();
    };
    const auto issue_values = [&](int stage) { // O += P V
        ptx::wgmma_fence();
        wgmma_AB<E>(O, P, SlabTile<kBlockN, kD>{smem.V[stage]});
        ptx::wgmma_commit();
    };
    const auto await_values = [&](int t) { // V_t is here; rows past n[b] are nobody's and may hold NaN, which 0 * NaN would let in
        ptx::mbarrier_wait(&smem.v_full[now.stage], now.phase);
        const int real = n - tiles.block(t) * kBlockN;
        if (real < kBlockN && n < p.k_len) {
            SlabTile<kBlockN, kD>{smem.V[now.stage]}.template clear_from<kConsumers * 128>(real, threadIdx.x);
            ptx::proxy_fence();
            ptx::named_barrier(1, kConsumers * 128);
        }
    };
    const auto bits = [&](int t) {
        const Words words{reinterpret_cast<uint32_t*>(smem.mask[now.stage]), kBlockN * 2};
        const auto seen = mask.template bits<16, kBlockN>(words, rule, q0, row0, tiles.block(t) * kBlockN);
        if constexpr (Mask::kPacked) ptx::proxy_fence(); // TMA will write where ordinary code has read
        return seen;
    };
    const auto step = [&](int t, auto holes) { // the softmax of tile t under P V of tile t-1
        issue_scores();
        issue_values(before);
        Bits<16, kBlockN> seen;
        if constexpr (holes.value) seen = bits(t);
        wgmma_wait<1>(S);
        ptx::warp_arrive(&smem.k_empty[now.stage]);
        if constexpr (holes.value) hide(S, seen);
        const auto alpha = softmax.template step<holes.value>(S);
        // For the next step; awaited here because without a branch ptxas moves the next wait above the exponentials.
        if constexpr (holes.value) await_values(t);
        else ptx::mbarrier_wait(&smem.v_full[now.stage], now.phase);
        wgmma_wait<0>(O);
        ptx::warp_arrive(&smem.v_empty[before]);
        rescale(O, alpha);
        P = to_operand<E>(S);
        before = now.stage;
        now.next();
    };

    if (tiles.count) {
        ptx::mbarrier_wait(&smem.q_full, 0);
        issue_scores();
        wgmma_wait<0>(S);
        if (tiles.partial) hide(S, bits(0));
        ptx::warp_arrive(&smem.k_empty[0]);
        softmax.template step<true>(S);
        P = to_operand<E>(S);
        await_values(0);
        now.next();
        int t = 1;
        UNROLL_ONCE for (; t < tiles.partial; ++t) step(t, Bool<true>{});
        UNROLL_ONCE for (; t < tiles.count; ++t) step(t, Bool<false>{});
        issue_values(before);
        wgmma_wait<0>(O);
    }
    const auto lse = softmax.finish(O);
    store<true>(O, lse, p, b, h, 0, q0 + row0, m);
    if (p.visited && threadIdx.x == 0) ptx::add(p.visited, tiles.count);
}
