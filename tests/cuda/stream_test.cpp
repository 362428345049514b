// stream_test.cpp — streams of a CUDA device, its own and of others: what runs later, captures, many threads.
#include <latch>

#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;

TEST_F(Gpu, AStreamRunsLaterAndKeepsWhatItNeeds) {
    cases::Sample sample(masked());
    Context context = gpu::context();
    Stream stream;
    ASSERT_TRUE(succeeded(attn_stream_create(context, stream.out())));
    Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    ASSERT_TRUE(succeeded(attn_plan_warmup(p)));
    const attn_counters start = counters();
    Told told;
    {
        DeviceSample there(context, kAmpere, sample, false);
        there.clear();
        TensorHandle output;
        // The operands as tensors, destroyed while they are used.
        std::vector<attn_array> arrays{*there.args.q, *there.args.k, *there.args.v, *there.args.o, *there.args.lse};
        std::vector<TensorHandle> tensors(arrays.size());
        for (size_t i = 0; i < arrays.size(); ++i) {
            ASSERT_TRUE(succeeded(attn_tensor_create(context, &arrays[i], tensors[i].out())));
            arrays[i].tensor = tensors[i];
        }
        there.args.q = &arrays[0], there.args.k = &arrays[1], there.args.v = &arrays[2], there.args.o = &arrays[3], there.args.lse = &arrays[4];
        attn_run_report report{};
        report.size = sizeof report, report.tiles_visited = -1;
        there.args.report = &report, there.args.stream = stream;
        FAKE(fake_cuda_hold)(1);
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        ASSERT_TRUE(succeeded(attn_stream_on_complete(stream, Told::tell, &told)));
        tensors.clear();
        ASSERT_TRUE(succeeded(p.destroy()));
        EXPECT_EQ(told.calls, 0);
        EXPECT_EQ(report.tiles_visited, -1);
        FAKE(fake_cuda_hold)(0);
        told.wait();
        EXPECT_EQ(told.status, ATTN_OK) << told.message;
        EXPECT_EQ(report.tiles_visited, 4);
        there.fetch();
    }
    EXPECT_TRUE(agrees(sample));
    EXPECT_EQ(counters().runs, start.runs + 1);
    EXPECT_EQ(counters().live_tensors, start.live_tensors);
    // Destroying waits for nobody, in any order.
    ASSERT_TRUE(succeeded(context.destroy()));
    ASSERT_TRUE(succeeded(stream.destroy()));
}

TEST_F(Gpu, StreamsOfOthers) {
    const Context context = gpu::context();
    Stream own, theirs;
    void* native = nullptr;
    using Retain = int (*)(void**, int);
    using Set = int (*)(void*);
    using StreamCreate = int (*)(void**, unsigned);
    using Release = int (*)(int);
    void *primary = nullptr, *out = nullptr;
    ASSERT_EQ(fake<Retain>("cuDevicePrimaryCtxRetain")(&primary, kAmpere), 0);
    ASSERT_EQ(fake<Set>("cuCtxPushCurrent_v2")(primary), 0);
    ASSERT_EQ(fake<StreamCreate>("cuStreamCreate")(&native, 0), 0);
    ASSERT_EQ(fake<int (*)(void**)>("cuCtxPopCurrent_v2")(&out), 0);
    ASSERT_TRUE(succeeded(attn_stream_wrap(context, native, theirs.out())));
    cases::Sample sample(plain());
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    DeviceSample there(context, kAmpere, sample, false);
    there.args.stream = theirs;
    ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
    ASSERT_TRUE(succeeded(attn_stream_synchronize(theirs)));
    there.fetch();
    EXPECT_TRUE(agrees(sample));
    const Context other = gpu::context(kHopper);
    Stream elsewhere;
    ASSERT_TRUE(succeeded(attn_stream_create(other, elsewhere.out())));
    there.args.stream = elsewhere;
    EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_INVALID_ARGUMENT, {"args.stream belongs to another context"}));
    ASSERT_TRUE(succeeded(theirs.destroy()));
    ASSERT_EQ(fake<Set>("cuStreamDestroy_v2")(native), 0) << "it was not ours to destroy";
    ASSERT_EQ(fake<Release>("cuDevicePrimaryCtxRelease_v2")(kAmpere), 0);
}

TEST_F(Gpu, CapturedOnceWarmAndReplayed) {
    cases::Sample sample(masked());
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    ASSERT_TRUE(succeeded(attn_plan_warmup(p)));
    Theirs theirs;
    {
        Stream stream;
        ASSERT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, stream.out())));
        DeviceSample there(context, kAmpere, sample, true), host(context, kAmpere, sample, false);
        there.args.stream = stream, host.args.stream = stream;
        const TensorHandle memory = bring_workspace(context, kAmpere, p, there.args);
        theirs.capture(true);
        EXPECT_TRUE(failed(attn_run(p, &host.args), ATTN_INVALID_ARGUMENT, {"captured into a graph", "host memory"}));
        const int32_t cancel = 0;
        attn_run_args watched = there.args;
        watched.cancel = &cancel;
        EXPECT_TRUE(failed(attn_run(p, &watched), ATTN_INVALID_ARGUMENT, {"captured into a graph", "args.cancel"}));
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        theirs.capture(false);
        for (int turn = 0; turn < 2; ++turn) theirs.replay(stream, there);
    }
}

// A capture as PyTorch begins it forbids loading a kernel, of any thread's: it would be worth nothing then. Its scratch memory is the graph's own.
TEST_F(Gpu, ACaptureSurvivesKernelsThatAreLoadedMeanwhile) {
    cases::Sample sample(masked()), other(plain(cases::Type::bf16));
    const Context context = gpu::context();
    const Plan cold = plan(context, sample.described(), ATTN_BACKEND_FLASH), elsewhere = plan(context, other.described(), ATTN_BACKEND_FLASH);
    Theirs theirs;
    {
        Stream stream;
        ASSERT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, stream.out())));
        DeviceSample there(context, kAmpere, sample, true);
        there.args.stream = stream;
        const int64_t loads = FAKE(fake_cuda_calls)("cuModuleLoadData");
        theirs.capture(true);
        std::thread([&] { EXPECT_TRUE(succeeded(attn_plan_warmup(elsewhere))); }).join();
        ASSERT_TRUE(succeeded(attn_run(cold, &there.args)));
        theirs.capture(false);
        EXPECT_EQ(FAKE(fake_cuda_calls)("cuModuleLoadData"), loads + 4);
        for (int turn = 0; turn < 2; ++turn) theirs.replay(stream, there);
    }
}

// Other threads run, and a stream's own thread waits, while somebody captures; to wait for what is captured is refused before it does harm.
TEST_F(Gpu, ACaptureSurvivesRunsAndWaitingElsewhere) {
    cases::Sample sample(masked()), other(masked());
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    Theirs theirs;
    {
        Stream stream, own;
        ASSERT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, stream.out())));
        ASSERT_TRUE(succeeded(attn_stream_create(context, own.out())));
        DeviceSample there(context, kAmpere, sample, true), elsewhere(context, kAmpere, other, false);
        there.args.stream = stream;
        theirs.capture(true);
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        std::thread([&] {
            attn_run_report report{};
            report.size = sizeof report;
            elsewhere.args.report = &report;
            EXPECT_TRUE(succeeded(attn_run(p, &elsewhere.args)));
            elsewhere.args.stream = own;
            EXPECT_TRUE(succeeded(attn_run(p, &elsewhere.args)));
            EXPECT_TRUE(succeeded(attn_stream_synchronize(own)));
        }).join();
        EXPECT_TRUE(failed(attn_stream_synchronize(stream), ATTN_INVALID_ARGUMENT, {"captured into a graph"}));
        EXPECT_TRUE(failed(attn_stream_on_complete(stream, Told::tell, nullptr), ATTN_INVALID_ARGUMENT, {"captured into a graph"}));
        theirs.capture(false);
        elsewhere.fetch();
        EXPECT_TRUE(agrees(other));
        theirs.replay(stream, there);
    }
}

// A prepared mask's tiles outlive the capture in which they are first asked for: they are packed beside it, not by the graph.
TEST_F(Gpu, APreparedMaskUnderCapture) {
    cases::Sample sample(masked());
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    for (const bool warm : {false, true}) {
        PreparedSample prepared(context, sample);
        DeviceSample& there = prepared.there;
        const auto run = [&] {
            there.args.stream = nullptr;
            there.clear();
            ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
            there.fetch();
            EXPECT_TRUE(agrees(sample)) << warm;
        };
        if (warm) run();
        there.args.stream = prepared.stream;
        prepared.theirs.capture(true);
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        prepared.theirs.capture(false);
        run(); // before the graph was ever launched
        prepared.theirs.replay(prepared.stream, there);
    }
}

TEST_F(Gpu, ManyThreadsAtOnce) {
    const Context context = gpu::context();
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            Case c = plain(t % 2 ? cases::Type::f16 : cases::Type::bf16);
            c.Hq = c.Hkv = 1, c.name += std::to_string(t);
            if (t % 3 == 0) c.keep = cases::Keep::half;
            cases::Sample sample(c);
            const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
            Stream stream;
            if (t % 2) wrong += attn_stream_create(context, stream.out()) != ATTN_OK;
            for (int turn = 0; turn < 2; ++turn) {
                DeviceSample there(context, kAmpere, sample, turn);
                there.args.stream = stream;
                wrong += attn_run(p, &there.args) != ATTN_OK;
                if (stream) wrong += attn_stream_synchronize(stream) != ATTN_OK;
                there.fetch();
                if (!agrees(sample)) ++wrong;
            }
        });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(wrong, 0);
}

TEST_F(Gpu, ManyThreadsShareAPlanAPreparedMaskAndAStream) {
    Case c = masked();
    c.Hq = c.Hkv = 1;
    const Context context = gpu::context();
    std::vector<std::unique_ptr<cases::Sample>> samples;
    for (int t = 0; t < 8; ++t) { // the mask is everybody's, the rest is not
        samples.push_back(std::make_unique<cases::Sample>(c));
        cases::Sample& s = *samples.back();
        cases::Random random(uint64_t(t) + 1);
        s.Q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) { s.Q.set(b, h, i, d, random.normal()); });
        s.problem.Q = s.Q.numbers();
    }
    const Plan p = plan(context, samples[0]->described(), ATTN_BACKEND_FLASH);
    Stream stream;
    ASSERT_TRUE(succeeded(attn_stream_create(context, stream.out())));
    MaskHandle mask;
    ASSERT_TRUE(succeeded(attn_mask_prepare(context, &samples[0]->mask_values(), mask.out())));
    const attn_counters start = counters();
    std::vector<std::thread> threads;
    std::latch ready(8), go(1);
    std::atomic<int> wrong{0};
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            DeviceSample there(context, kAmpere, *samples[size_t(t)], true);
            there.args.mask = nullptr, there.args.prepared = mask;
            for (int turn = 0; turn < 2; ++turn) {
                there.clear();
                if (!turn) ready.count_down(), go.wait();
                there.args.stream = turn ? attn_stream(stream) : attn_stream{};
                wrong += attn_run(p, &there.args) != ATTN_OK;
                if (turn) wrong += attn_stream_synchronize(stream) != ATTN_OK;
                there.fetch();
                if (!agrees(there.sample)) ++wrong;
            }
        });
    ready.wait();
    FAKE(fake_cuda_hold)(1); // the first of them packs the mask, the others ask for it meanwhile
    go.count_down();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    FAKE(fake_cuda_hold)(0);
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(counters().mask_passes, start.mask_passes + 1) << "it is packed once for all of them";
    EXPECT_EQ(counters().runs, start.runs + 16);
}

} // namespace
