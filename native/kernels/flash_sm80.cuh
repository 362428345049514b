// flash_sm80.cuh — forward attention, FlashAttention-2 algorithm 1, on mma.sync and cp.async.
#pragma once
#include "mask.cuh"
#include "score.cuh"
#include "store.cuh"

// Q stays in registers where the accumulators leave room: (kRows / 16) * (kD / 4) of a lane's 255.
enum class Keep { registers, shared };
template <int kD_, int kBlockM_, int kBlockN_, int kWarps_, Keep kQ_>
struct Shape {
    static constexpr int kD = kD_, kBlockM = kBlockM_, kBlockN = kBlockN_, kThreads = kWarps_ * 32, kRows = kBlockM / kWarps_, kSmem = (kBlockM + 2 * kBlockN) * kD * 2;
    static constexpr Keep kQ = kQ_;
    static_assert(kBlockM % 64 == 0 && kBlockN % 64 == 0); // masks come in cells of 64 x 64
};

template <class S_, class E, class Mask, class Score>
__global__ void __launch_bounds__(S_::kThreads, 1) flash_sm80(const __grid_constant__ Problem<E> p, const __grid_constant__ Mask mask) {
    constexpr int kD = S_::kD, kBlockM = S_::kBlockM, kBlockN = S_::kBlockN, kRows = S_::kRows, kThreads = S_::kThreads;
    if (given_up(p.cancel)) return;
    const Place place = place_of(p);
    const int b = place.b, h = place.h, turn = place.turn;
    const int chunk = turn % p.chunks, q0 = turn / p.chunks * kBlockM, row0 = int(threadIdx.x) / 32 * kRows;
    const RowRule rule = rule_of(mask.mask, b, p.heads_as_rows);
    const int m = rule.queries, n = rule.keys; // what lies past them is never read
    const E *gQ = p.Q.at(b, h, q0), *gK = p.K.at(b, h / p.group, 0), *gV = p.V.at(b, h / p.group, 0);

    auto* smem = reinterpret_cast<uint16_t*>(ptx::dynamic_smem());
    const SharedTile<kBlockM, kD> sQ{smem};
    const SharedTile<kBlockN, kD> sK{sQ.base + kBlockM * kD}, sV{sK.base + kBlockN * kD};

    const auto tiles = mask.template tiles<kBlockM, kBlockN>(rule, b, h, turn, q0, chunk * p.chunk_keys, min(n, (chunk + 1) * p.chunk_keys));
    const auto copy_K = [&](int t) { const int k = tiles.block(t) * kBlockN; copy_async<kThreads>(sK, gK + k * p.K.row, p.K.row, n - k, p.D); };
    const auto copy_V = [&](int t) { const int k = tiles.block(t) * kBlockN; copy_async<kThreads>(sV, gV + k * p.V.row, p.V.row, n - k, p.Dv); };
    if (tiles.count) {
        copy_async<kThreads>(sQ, gQ, p.Q.row, m - q0, p.D);
        copy_K(0);
    }
    ptx::cp_async_commit();

    const SharedA<kRows, kBlockM, kD> sA{sQ, row0};
    FragA<kRows, kD> Q;
    auto O = Accum<kRows, kD>::zero();
    Softmax<kRows, Score> softmax{Score(p.scale)};

    UNROLL_ONCE for (int t = 0; t < tiles.count; ++t) {
        const int k0 = tiles.block(t) * kBlockN;
        ptx::cp_async_wait<0>();
        __syncthreads(); // K_t is here; everyone is done with V_{t-1}
        if (S_::kQ == Keep::registers && t == 0) load(Q, sA);
        copy_V(t);
        ptx::cp_async_commit();

        Bits<kRows, kBlockN> seen;
        if (t < tiles.partial) seen = mask.template bits<kRows, kBlockN>(tiles.words(t), rule, q0, row0, k0);
        auto S = Accum<kRows, kBlockN>::zero();
        if constexpr (S_::kQ == Keep::registers) mma_ABt<E>(S, Q, sK); // S = Q K_t^T
        else mma_ABt<E>(S, sA, sK);
        Score::apply(S, p, b, h, q0 + row0, k0, rule.offset);
        if (t < tiles.partial) hide(S, seen);

        ptx::cp_async_wait<0>();
        __syncthreads(); // V_t is here; everyone is done with K_t
        if (t + 1 < tiles.count) copy_K(t + 1);
        ptx::cp_async_commit();

        rescale(O, softmax.template step<true>(S));
        mma_AB<E>(O, to_operand<E>(S), sV); // O = diag(alpha) O + P V_t
    }
    ptx::cp_async_wait<0>();
    const auto lse = softmax.finish(O);
    const Place there = place_of(p);
    store<false>(O, lse, p, there.b, there.h, there.turn % p.chunks, there.turn / p.chunks * kBlockM + row0, m);
    if (p.visited && threadIdx.x == 0) ptx::add(p.visited, tiles.count);
}
