// rules_test.cpp — the emulator itself: small kernels that keep CUDA's rules, and the same with one rule broken at a time.
#include <gtest/gtest.h>

#include "flash_sm90.cuh"

namespace {

struct Outcome {
    uint64_t violations;
    std::string first;
};
template <class... P, class... A>
Outcome run_blocks(void (*kernel)(P...), unsigned blocks, unsigned threads, size_t smem, const A&... args) {
    emu::reset();
    emu::launch(kernel, {blocks}, {threads}, smem, args...);
    return {emu::report.violations, emu::report.first};
}
template <class... P, class... A>
Outcome run(void (*kernel)(P...), unsigned threads, size_t smem, const A&... args) {
    return run_blocks(kernel, 1, threads, smem, args...);
}
void expect_found(const Outcome& o, const std::string& words) {
    EXPECT_GT(o.violations, 0u) << "nothing was found; expected: " << words;
    EXPECT_NE(o.first.find(words), std::string::npos) << o.first;
}
struct Lazy : ::testing::Test {
    void SetUp() override { emu::options = {}; }
};

// ---- fences of Hopper ------------------------------------------------------------------
enum Fault {
    none,
    no_init_fence,
    no_proxy_fence,
    no_first_fence,
    no_second_fence,
    touched_after_fence,
    no_release_fence,
    one_warp_releases,
    early_read,
    wrong_parity,
    few_bytes
};

template <Fault kFault>
void multiply(const bf16* source, const uint32_t* source_words, float* out) {
    unsigned char* smem = ptx::dynamic_smem();
    const SlabTile<64, 64> T{smem};
    auto* words = reinterpret_cast<uint32_t*>(smem + T.kBytes);
    auto *full = reinterpret_cast<uint64_t*>(words + 128), *empty = full + 1;
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(full, 1), ptx::mbarrier_init(empty, kFault == one_warp_releases ? 1 : 4);
        if (kFault != no_init_fence) ptx::mbarrier_init_fence();
    }
    for (int i = int(threadIdx.x); i < 512; i += 128) ptx::cp_async_16(reinterpret_cast<bf16*>(smem) + (i ^ (i / 8 % 8)) * 8, source + i * 8, 16);
    ptx::cp_async_commit(), ptx::cp_async_wait<0>();
    if (kFault != no_proxy_fence) ptx::proxy_fence(); // ordinary code wrote what wgmma will read
    __syncthreads();

    Accum<16, 64> S;
    auto O = Accum<16, 64>::zero();
    FragA<16, 64> P;
    for (int round = 0; round < 2; ++round) {
        if (kFault != no_first_fence) ptx::wgmma_fence();
        if (kFault == touched_after_fence) S.x[0][0][0] = float(round);
        wgmma_ABt<bf16>(S, T, 0, T);
        ptx::wgmma_commit();
        if (kFault == early_read) P = to_operand<bf16>(S);
        wgmma_wait<0>(S);
        if (kFault != early_read) P = to_operand<bf16>(S);
        if (kFault != no_second_fence) ptx::wgmma_fence();
        wgmma_AB<bf16>(O, P, T);
        ptx::wgmma_commit();
        wgmma_wait<0>(O);
        if (threadIdx.x == 0) {
            ptx::mbarrier_wait(empty, kFault == wrong_parity ? round : round ^ 1);
            ptx::mbarrier_arrive_expect(full, kFault == few_bytes ? 256 : 512);
            ptx::bulk_load(words, source_words, 512, full);
        }
        ptx::mbarrier_wait(full, round);
        ptx::read(words + threadIdx.x);
        if (kFault != no_release_fence) ptx::proxy_fence(); // TMA will write what ordinary code read
        if (kFault != one_warp_releases || threadIdx.x < 32) ptx::warp_arrive(empty);
    }
    ptx::write(out + threadIdx.x, O.x[0][0][0]);
}
template <Fault kFault>
Outcome multiplied(float* last = nullptr) {
    emu::Buffer<bf16> source(64 * 64);
    emu::Buffer<uint32_t> words(128);
    emu::Buffer<float> out(128, false);
    for (size_t i = 0; i < source.size(); ++i) source[i] = ptx::from_float<bf16>(float(i % 7) / 8);
    const Outcome o = run(multiply<kFault>, 128, 64 * 64 * 2 + 1024, source.data(), words.data(), out.data());
    if (last) *last = out[0];
    return o;
}
using Fences = Lazy;
TEST_F(Fences, KeptRulesAreNoFault) {
    for (const bool eager : {false, true}) {
        emu::options.eager = eager;
        const Outcome o = multiplied<none>();
        EXPECT_EQ(o.violations, 0u) << o.first;
    }
}
TEST_F(Fences, MbarrierNotPublished) { expect_found(multiplied<no_init_fence>(), "fence.mbarrier_init"); }
TEST_F(Fences, NoProxyFenceBeforeWgmma) { expect_found(multiplied<no_proxy_fence>(), "no fence.proxy.async"); }
TEST_F(Fences, NoWgmmaFenceAtFirst) { expect_found(multiplied<no_first_fence>(), "wgmma.fence"); }
TEST_F(Fences, NoWgmmaFenceForOperand) { expect_found(multiplied<no_second_fence>(), "wgmma.fence"); }
TEST_F(Fences, AccumulatorTouchedAfterFence) { expect_found(multiplied<touched_after_fence>(), "wgmma.fence"); }
TEST_F(Fences, NoProxyFenceBeforeRelease) { expect_found(multiplied<no_release_fence>(), "no fence.proxy.async"); }
TEST_F(Fences, OneWarpReleasesForFour) { expect_found(multiplied<one_warp_releases>(), "race"); }
TEST_F(Fences, WrongParityNeverReturns) { expect_found(multiplied<wrong_parity>(), "deadlock"); }
TEST_F(Fences, TooFewBytesExpected) { expect_found(multiplied<few_bytes>(), "deadlock"); }
TEST_F(Fences, AccumulatorReadEarlyIsNaN) {
    float last = 0;
    multiplied<early_read>(&last);
    EXPECT_TRUE(std::isnan(last));
}

// ---- what Hopper's instructions take ---------------------------------------------------
using Limits = Lazy;
void meet(int id, int threads) { ptx::named_barrier(id, threads); }
TEST_F(Limits, NamedBarriersOfWholeWarps) {
    EXPECT_EQ(run(meet, 64, 0, 1, 64).violations, 0u) << emu::report.first;
    expect_found(run(meet, 64, 0, 0, 64), "named barrier 0");
    expect_found(run(meet, 64, 0, 16, 64), "named barrier 16");
    expect_found(run(meet, 64, 0, 1, 40), "whole warps");
}
void expect_of(int arrivals, int bytes) {
    auto* bar = reinterpret_cast<uint64_t*>(ptx::dynamic_smem());
    ptx::mbarrier_init(bar, arrivals);
    ptx::mbarrier_arrive_expect(bar, bytes);
}
TEST_F(Limits, ArrivalsAndBytesOfAnMbarrier) {
    EXPECT_EQ(run(expect_of, 1, 8, 1, (1 << 20) - 1).violations, 0u) << emu::report.first;
    expect_found(run(expect_of, 1, 8, 0, 16), "0 arrivals");
    expect_found(run(expect_of, 1, 8, 1 << 20, 16), "arrivals");
    expect_found(run(expect_of, 1, 8, 1, 1 << 20), "can be counted");
}
void at_offset(int offset) {
    unsigned char* smem = ptx::dynamic_smem();
    for (int i = int(threadIdx.x); i < 1024; i += 128) ptx::write(reinterpret_cast<Chunk*>(smem) + i, Chunk{});
    ptx::proxy_fence();
    __syncthreads();
    Accum<16, 64> S;
    ptx::wgmma_fence();
    const uint64_t d = ptx::smem_descriptor(smem, offset, 16, 1024);
    ptx::wgmma_m64k16<bf16, 64, false, false>(S.x[0], nullptr, d, d);
    ptx::wgmma_commit(), wgmma_wait<0>(S);
}
TEST_F(Limits, PatternsStartOn1024Bytes) {
    for (const int offset : {0, 32, 96, 1024}) EXPECT_EQ(run(at_offset, 128, 16384, offset).violations, 0u) << emu::report.first;
    for (const int offset : {128, 512}) expect_found(run(at_offset, 128, 16384, offset), "does not start on 1024 bytes");
}
void bring(ptx::TensorMap map) {
    auto* bar = reinterpret_cast<uint64_t*>(ptx::dynamic_smem() + map.box_rows * 128);
    ptx::mbarrier_init(bar, 1), ptx::mbarrier_init_fence();
    ptx::mbarrier_arrive_expect(bar, map.box_rows * 128);
    ptx::tma_load(ptx::dynamic_smem(), map, bar, 0, 0, 0, 0);
    ptx::mbarrier_wait(bar, 0);
}
TEST_F(Limits, BoxesOfUpTo256Rows) {
    emu::Buffer<bf16> m(257 * 64);
    const auto rows = [&](int n) { return ptx::TensorMap{m.data(), 64, 257, 1, 1, 64, 257 * 64, 257 * 64, n}; };
    EXPECT_EQ(run(bring, 1, 256 * 128 + 8, rows(256)).violations, 0u) << emu::report.first;
    expect_found(run(bring, 1, 257 * 128 + 8, rows(257)), "257 rows");
}

// ---- shared memory ---------------------------------------------------------------------
using Shared = Lazy;
template <bool kBarrier>
void exchange(float* out) {
    auto* x = reinterpret_cast<float*>(ptx::dynamic_smem());
    ptx::write(x + threadIdx.x, 1.f);
    if (kBarrier) __syncthreads();
    ptx::write(out + threadIdx.x, ptx::read(x + (threadIdx.x ^ 32)));
}
TEST_F(Shared, PlainStoreNeedsABarrier) {
    emu::Buffer<float> out(64, false);
    EXPECT_EQ(run(exchange<true>, 64, 256, out.data()).violations, 0u) << emu::report.first;
    for (const uint64_t seed : {0, 1, 2, 3}) { // whichever lane comes first
        emu::options.seed = seed;
        EXPECT_GT(run(exchange<false>, 64, 256, out.data()).violations, 0u);
    }
}
void outside(float* out) { ptx::write(out, ptx::read(reinterpret_cast<float*>(ptx::dynamic_smem()) + 64)); }
void unwritten(float* out) { ptx::write(out, ptx::read(reinterpret_cast<float*>(ptx::dynamic_smem()))); }
void misaligned(Chunk*) { ptx::write(reinterpret_cast<Chunk*>(ptx::dynamic_smem() + 8), Chunk{}); }
TEST_F(Shared, OutsideUnwrittenMisaligned) {
    emu::Buffer<float> out(1, false);
    expect_found(run(unwritten, 1, 256, out.data()), "nothing wrote");
    expect_found(run(misaligned, 1, 256, static_cast<Chunk*>(nullptr)), "misaligned");
    expect_found(run(outside, 1, 256, out.data()), "outside every buffer");
}
template <bool kWait>
void copied(const float* in, float* out) {
    unsigned char* smem = ptx::dynamic_smem();
    ptx::cp_async_16(smem + threadIdx.x * 16, in + threadIdx.x * 4, 16);
    ptx::cp_async_commit();
    if (kWait) ptx::cp_async_wait<0>();
    ptx::write(out + threadIdx.x, ptx::read(reinterpret_cast<float*>(smem + threadIdx.x * 16)));
    ptx::cp_async_wait<0>();
}
TEST_F(Shared, AsynchronousCopyNeedsAWait) {
    emu::Buffer<float> in(32 * 4), out(32, false);
    for (size_t i = 0; i < in.size(); ++i) in[i] = float(i);
    EXPECT_EQ(run(copied<true>, 32, 512, in.data(), out.data()).violations, 0u) << emu::report.first;
    EXPECT_EQ(out[5], 20.f);
    expect_found(run(copied<false>, 32, 512, in.data(), out.data()), "not arrived");
}

// ---- banks of shared memory ------------------------------------------------------------
using Banks = Lazy;
template <class T>
void strided(int stride) { // each lane stores at `stride` bytes after the lane before, and reads it again; twice, in a loop
    for (int i = 0; i < 2; ++i) {
        auto* at = reinterpret_cast<T*>(ptx::dynamic_smem() + threadIdx.x * unsigned(stride) + i * 8192);
        ptx::write(at, T{});
        ptx::read(at);
    }
}
template <class T>
uint64_t further_turns(int stride) { // of one of the four instructions
    EXPECT_EQ(run(strided<T>, 32, 2 * 8192, stride).violations, 0u) << emu::report.first;
    EXPECT_EQ(emu::stats.bank_conflicts % 4, 0u);
    return emu::stats.bank_conflicts / 4;
}
TEST_F(Banks, GiveOneWordATurn) {
    EXPECT_EQ(further_turns<float>(4), 0u);
    EXPECT_EQ(further_turns<float>(4 * 33), 0u);
    EXPECT_EQ(further_turns<float>(8), 1u);
    EXPECT_EQ(further_turns<float>(16), 3u);
    EXPECT_EQ(further_turns<float>(128), 31u);
    EXPECT_EQ(emu::stats.first_conflict.file_name(), std::string(__FILE__));
}
TEST_F(Banks, WideAccessesGoByHalvesAndQuarters) {
    EXPECT_EQ(further_turns<uint64_t>(8), 0u);
    EXPECT_EQ(further_turns<uint64_t>(16), 2u * 1);
    EXPECT_EQ(further_turns<Chunk>(16), 0u);
    EXPECT_EQ(further_turns<Chunk>(32), 4u * 1);
    EXPECT_EQ(further_turns<Chunk>(128), 4u * 7);
}
template <int kColumns>
void two_rows() { // as memory_efficient stores P
    float* row = reinterpret_cast<float*>(ptx::dynamic_smem()) + threadIdx.x / 16 * kColumns;
    ptx::write(row + threadIdx.x % 16, 1.f);
    __syncwarp();
    ptx::read(row);                    // one word for all sixteen
    ptx::read(row + threadIdx.x % 16); // an instruction of its own
}
TEST_F(Banks, OneWordServesAllWhoAsk) {
    EXPECT_EQ(run(two_rows<80>, 32, 1024).violations, 0u) << emu::report.first;
    EXPECT_EQ(emu::stats.bank_conflicts, 0u);
    run(two_rows<65>, 32, 1024);
    EXPECT_EQ(emu::stats.bank_conflicts, 2u); // the store and the last read
    run(two_rows<64>, 32, 1024);
    EXPECT_EQ(emu::stats.bank_conflicts, 3u);
}
void half_of_it_skips() { // two instructions on one line
    float* mine = reinterpret_cast<float*>(ptx::dynamic_smem()) + threadIdx.x;
    ptx::write(mine, 1.f), ptx::write(mine + 32, 1.f);
    __syncwarp();
    (threadIdx.x < 16 ? ptx::read(mine + 48) : 0), ptx::read(mine);
}
TEST_F(Banks, LanesThatSkipAnInstructionShareTheNext) {
    EXPECT_EQ(run(half_of_it_skips, 32, 256).violations, 0u) << emu::report.first;
    EXPECT_EQ(emu::stats.bank_conflicts, 0u);
}
template <int kPitch>
void copied_rows(const float* in) { // two rows of four chunks
    ptx::cp_async_16(ptx::dynamic_smem() + threadIdx.x / 4 * kPitch + threadIdx.x % 4 * 16, in + threadIdx.x * 4, 16);
    ptx::cp_async_commit(), ptx::cp_async_wait<0>();
}
TEST_F(Banks, AsynchronousCopiesCount) {
    emu::Buffer<float> in(32 * 4);
    EXPECT_EQ(run(copied_rows<64>, 32, 1024, in.data()).violations, 0u) << emu::report.first;
    EXPECT_EQ(emu::stats.bank_conflicts, 0u);
    run(copied_rows<128>, 32, 1024, in.data());
    EXPECT_EQ(emu::stats.bank_conflicts, 4u);
}

// ---- lanes of one warp -----------------------------------------------------------------
using Lanes = Lazy;
enum class Meet { not_at_all, at_shuffle, at_ballot, at_syncwarp, at_barrier };
template <Meet kMeet>
void meet_at() {
    if (kMeet == Meet::at_shuffle) __shfl_xor_sync(~0u, 1, 1);
    if (kMeet == Meet::at_ballot) __ballot_sync(~0u, true);
    if (kMeet == Meet::at_syncwarp) __syncwarp();
    if (kMeet == Meet::at_barrier) __syncthreads();
}
enum class Order { read_after_write, write_after_read, write_after_write };
template <Order kOrder, Meet kMeet>
void by_turns(float* x) { // of a buffer, or null: of shared memory
    if (!x) x = reinterpret_cast<float*>(ptx::dynamic_smem());
    float *mine = x + threadIdx.x, *other = x + (threadIdx.x ^ 1);
    ptx::write(mine, 1.f);
    ptx::read(mine); // a lane's own order needs no meeting
    __syncwarp();
    if (kOrder == Order::write_after_read) ptx::read(other);
    else ptx::write(mine, 2.f);
    meet_at<kMeet>();
    if (kOrder == Order::write_after_read) ptx::write(mine, 3.f);
    if (kOrder == Order::read_after_write) ptx::read(other);
    if (kOrder == Order::write_after_write) ptx::write(other, 3.f);
}
template <Order kOrder>
void expect_met(float* x) {
    for (const uint64_t seed : {0, 1, 2}) { // whichever lane comes first
        emu::options.seed = seed;
        EXPECT_EQ(run(by_turns<kOrder, Meet::at_syncwarp>, 32, 128, x).violations, 0u) << emu::report.first;
        EXPECT_EQ(run(by_turns<kOrder, Meet::at_barrier>, 32, 128, x).violations, 0u) << emu::report.first;
        for (const Outcome& o : {run(by_turns<kOrder, Meet::not_at_all>, 32, 128, x), run(by_turns<kOrder, Meet::at_shuffle>, 32, 128, x),
                                 run(by_turns<kOrder, Meet::at_ballot>, 32, 128, x)})
            expect_found(o, "no __syncwarp between");
    }
}
TEST_F(Lanes, OfAWarpMeetBeforeTheySeeEachOthersStores) {
    emu::Buffer<float> global(32);
    for (float* x : {static_cast<float*>(nullptr), global.data()}) {
        expect_met<Order::read_after_write>(x);
        expect_met<Order::write_after_read>(x);
        expect_met<Order::write_after_write>(x);
    }
}
void halves(fp16* x) { ptx::write(x + threadIdx.x, fp16{}); }
template <bool kBarrier>
void across_warps(float* x) {
    ptx::write(x + threadIdx.x, 1.f);
    if (kBarrier) __syncthreads();
    ptx::read(x + (threadIdx.x ^ 32));
}
void across_blocks(float* x) {
    if (blockIdx.x == 0) ptx::write(x, 1.f);
    ptx::read(x);
}
void add_up(uint64_t* sum) { ptx::add(sum, 1); }
TEST_F(Lanes, OfABlockShareGlobalMemoryAtBarriers) {
    emu::Buffer<float> x(64);
    emu::Buffer<fp16> narrow(32);
    emu::Buffer<uint64_t> sum(1);
    EXPECT_EQ(run(halves, 32, 0, narrow.data()).violations, 0u) << emu::report.first;
    EXPECT_EQ(run(across_warps<true>, 64, 0, x.data()).violations, 0u) << emu::report.first;
    expect_found(run(across_warps<false>, 64, 0, x.data()), "race on global byte");
    EXPECT_EQ(run_blocks(across_blocks, 1, 1, 0, x.data()).violations, 0u) << emu::report.first;
    expect_found(run_blocks(across_blocks, 2, 1, 0, x.data()), "no launch between");
    EXPECT_EQ(run_blocks(add_up, 2, 64, 0, sum.data()).violations, 0u) << emu::report.first; // atomics are no race
    EXPECT_EQ(sum[0], 128u);
}

// ---- what a kernel cannot misreport ----------------------------------------------------
using Counts = Lazy;
template <int kTimes>
void reads(const bf16* K) {
    for (int i = 0; i < kTimes; ++i) ptx::read(K + threadIdx.x);
    ptx::cp_async_16(ptx::dynamic_smem() + threadIdx.x * 16, K + threadIdx.x * 8, threadIdx.x % 2 ? 16 : 0);
    ptx::cp_async_commit(), ptx::cp_async_wait<0>();
}
TEST_F(Counts, BytesReadOfABuffer) {
    emu::Buffer<bf16> K(256), other(256);
    EXPECT_EQ(run(reads<1>, 32, 512, K.data()).violations, 0u) << emu::report.first;
    EXPECT_EQ(K.bytes_read(), 32 * 2u + 16 * 16);
    K.bytes_read() = 0;
    run(reads<2>, 32, 512, K.data());
    EXPECT_EQ(K.bytes_read(), 2 * 32 * 2u + 16 * 16);
    EXPECT_EQ(other.bytes_read(), 0u);
}
template <bool kTest>
void hides(int keys) {
    auto S = Accum<16, 64>::zero();
    const RowRule rule{16, keys, -1 << 30, 1 << 30, 1 << 30, 0, 1, 0, 0};
    if (kTest) hide(S, RuleMask{}.bits<16, 64>({}, rule, 0, 0, 0));
}
TEST_F(Counts, ScoresTested) {
    run(hides<true>, 32, 0, 64); // nothing is hidden, and all is asked
    EXPECT_EQ(emu::stats.tested, 16u * 64);
    run(hides<false>, 32, 0, 64);
    EXPECT_EQ(emu::stats.tested, 0u);
}

// ---- global memory, divergence ---------------------------------------------------------
using Global = Lazy;
void read_at(const float* in, float* out, int at) { ptx::write(out, ptx::read(in + at)); }
TEST_F(Global, OutsideUnwrittenMisaligned) {
    emu::Buffer<float> in(4), fresh(4, false), out(1, false);
    EXPECT_EQ(run(read_at, 1, 0, in.data(), out.data(), 3).violations, 0u);
    expect_found(run(read_at, 1, 0, in.data(), out.data(), 4), "outside every buffer");
    expect_found(run(read_at, 1, 0, in.data(), out.data(), -1), "outside every buffer");
    expect_found(run(read_at, 1, 0, fresh.data(), out.data(), 0), "nothing wrote");
    expect_found(run(read_at, 1, 0, reinterpret_cast<const float*>(reinterpret_cast<const char*>(in.data()) + 2), out.data(), 0), "misaligned");
}
void diverged(int* out) {
    if (threadIdx.x < 16) ptx::write(out + threadIdx.x, __shfl_xor_sync(~0u, 1, 1));
    else __syncwarp();
}
void missing(int*) {
    if (threadIdx.x < 16) __syncwarp();
}
TEST_F(Global, LanesThatDivergeOrNeverCome) {
    emu::Buffer<int> out(32, false);
    expect_found(run(diverged, 32, 0, out.data()), "lanes diverged");
    expect_found(run(missing, 32, 0, out.data()), "deadlock");
}

} // namespace
