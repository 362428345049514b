// device_test.cpp — a CUDA device itself: contexts, memory, streams, threads.
#include <latch>

#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;

Case masked() {
    Case c = plain();
    c.keep = cases::Keep::half, c.key_lengths = {77};
    return c;
}

TEST_F(Gpu, IsThereAndSaysWhatItIs) {
    int32_t count = 0;
    const char* why = nullptr;
    ASSERT_TRUE(succeeded(attn_device_count(ATTN_DEVICE_CUDA, &count, &why)));
    EXPECT_EQ(count, 3);
    const Context hopper = gpu::context(kHopper), ampere = gpu::context(kAmpere);
    EXPECT_STREQ(described(hopper).instruction_set, "sm_90");
    EXPECT_STREQ(described(ampere).instruction_set, "sm_80");
    EXPECT_STREQ(described(ampere).device_name, "Fake GPU 1");
    EXPECT_EQ(described(ampere).device, 1);
    EXPECT_EQ(described(ampere).memory_total, 256u << 20);
    attn_cuda_info info{};
    info.size = sizeof info;
    ASSERT_TRUE(succeeded(attn_cuda_describe(&info)));
    EXPECT_EQ(info.driver_version, 12040);
    EXPECT_EQ(info.nvrtc_version, 12040);
    EXPECT_STREQ(info.driver, std::getenv("ATTENTION_CUDA"));
    EXPECT_STREQ(info.nvrtc, std::getenv("ATTENTION_NVRTC"));
    EXPECT_STREQ(info.embedded, "");
}

TEST_F(Gpu, NoSuchDevice) {
    attn_context_options options{};
    options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = 7;
    attn_context none = nullptr;
    EXPECT_TRUE(failed(attn_context_create(&options, &none), ATTN_NO_DEVICE, {"device is 7", "0..2"}));
    options.device = 0, options.workers = -3;
    EXPECT_TRUE(failed(attn_context_create(&options, &none), ATTN_INVALID_ARGUMENT, {"options.workers is -3"}));
    options.workers = 3; // the CPU's; a GPU has none
    Context context;
    EXPECT_TRUE(succeeded(attn_context_create(&options, context.out())));
}

TEST_F(Gpu, ContextsOfOthers) {
    void* theirs = nullptr;
    void* out = nullptr;
    using Create = int (*)(void**, unsigned, int);
    using Pop = int (*)(void**);
    using Destroy = int (*)(void*);
    ASSERT_EQ(fake<Create>("cuCtxCreate_v2")(&theirs, 0, kAmpere), 0);
    ASSERT_EQ(fake<Pop>("cuCtxPopCurrent_v2")(&out), 0);
    {
        const Context context = gpu::context(kAmpere, theirs);
        cases::Sample sample(plain());
        const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
        DeviceSample there(context, kAmpere, sample, false);
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        there.fetch();
        EXPECT_TRUE(agrees(sample));
        // A tensor of the primary context is not this one's.
        const Context own = gpu::context(kAmpere);
        const Plan other = plan(own, sample.described(), ATTN_BACKEND_FLASH);
        attn_array q = *there.args.q;
        attn_tensor borrowed = nullptr;
        ASSERT_TRUE(succeeded(attn_tensor_create(context, &q, &borrowed)));
        q.tensor = borrowed;
        attn_run_args args = there.args;
        args.q = &q;
        EXPECT_TRUE(failed(attn_run(other, &args), ATTN_INVALID_ARGUMENT, {"q belongs to another CUDA context"}));
        EXPECT_TRUE(succeeded(attn_tensor_destroy(borrowed)));
        attn_context_options options{};
        options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = kHopper, options.native_context = theirs;
        attn_context none = nullptr;
        EXPECT_TRUE(failed(attn_context_create(&options, &none), ATTN_INVALID_ARGUMENT, {"options.native_context is a context of another device"}));
    }
    ASSERT_EQ(fake<Destroy>("cuCtxDestroy_v2")(theirs), 0);
}

// What others left current on a thread and then destroyed says nothing about ours.
TEST_F(Gpu, AThreadWhoseOwnContextIsDestroyed) {
    cases::Sample sample(plain());
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    DeviceSample there(context, kAmpere, sample, true);
    there.clear();
    std::thread([&] {
        void* theirs = nullptr;
        ASSERT_EQ(fake<int (*)(void**, unsigned, int)>("cuCtxCreate_v2")(&theirs, 0, kAmpere), 0);
        ASSERT_EQ(fake<int (*)(void*)>("cuCtxDestroy_v2")(theirs), 0);
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        there.fetch();
    }).join();
    EXPECT_TRUE(agrees(sample));
    EXPECT_EQ(described(context).device, kAmpere);
}

// What could not be made whole leaves nothing behind in it.
TEST_F(Gpu, AContextOfOthersThatCannotBeUsedIsLeftAsItWas) {
    void *theirs = nullptr, *out = nullptr;
    ASSERT_EQ(fake<int (*)(void**, unsigned, int)>("cuCtxCreate_v2")(&theirs, 0, kAmpere), 0);
    ASSERT_EQ(fake<int (*)(void**)>("cuCtxPopCurrent_v2")(&out), 0);
    attn_context_options options{};
    options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = kAmpere, options.native_context = theirs;
    attn_context none = nullptr;
    for (const char* call : {"cuMemPoolCreate", "cuMemPoolSetAttribute", "cuStreamCreate"}) {
        const int64_t made = FAKE(fake_cuda_calls)("cuMemPoolCreate"), destroyed = FAKE(fake_cuda_calls)("cuMemPoolDestroy");
        FAKE(fake_cuda_fail)(call, 1, 0);
        EXPECT_TRUE(failed(attn_context_create(&options, &none), ATTN_DEVICE_ERROR, {"CUDA_ERROR_INVALID_VALUE (1) while "})) << call;
        const bool pool = std::string(call) != "cuMemPoolCreate";
        EXPECT_EQ(FAKE(fake_cuda_calls)("cuMemPoolCreate") - made, 1) << call;
        EXPECT_EQ(FAKE(fake_cuda_calls)("cuMemPoolDestroy") - destroyed, pool) << call;
    }
    ASSERT_EQ(fake<int (*)(void*)>("cuCtxDestroy_v2")(theirs), 0);
}

TEST_F(Gpu, AContextOfOthersMayEndOnceTheLastRunIsTold) {
    using Create = int (*)(void**, unsigned, int);
    using Pop = int (*)(void**);
    using Destroy = int (*)(void*);
    struct {
        void* theirs = nullptr;
        attn_context context = nullptr;
        attn_stream stream = nullptr;
        std::atomic<bool> ended = false;
    } all;
    void* out = nullptr;
    ASSERT_EQ(fake<Create>("cuCtxCreate_v2")(&all.theirs, 0, kAmpere), 0);
    ASSERT_EQ(fake<Pop>("cuCtxPopCurrent_v2")(&out), 0);
    attn_context_options options{};
    options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = kAmpere, options.native_context = all.theirs;
    ASSERT_TRUE(succeeded(attn_context_create(&options, &all.context)));
    ASSERT_TRUE(succeeded(attn_stream_wrap(all.context, nullptr, &all.stream)));
    const auto told = [](void* user, attn_status, const char*) {
        auto& a = *static_cast<decltype(all)*>(user);
        attn_stream_destroy(a.stream), attn_context_destroy(a.context);
        fake<Destroy>("cuCtxDestroy_v2")(a.theirs);
        a.ended = true;
    };
    ASSERT_TRUE(succeeded(attn_stream_on_complete(all.stream, told, &all)));
    while (!all.ended) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(50)); // what the stream's thread would do late, it has done
}

TEST_F(Gpu, LeavesTheThreadsContextAlone) {
    void *theirs = nullptr, *met = nullptr, *out = nullptr;
    using Create = int (*)(void**, unsigned, int);
    using Get = int (*)(void**);
    ASSERT_EQ(fake<Create>("cuCtxCreate_v2")(&theirs, 0, kHopper), 0);
    {
        const Context context = gpu::context(kAmpere);
        described(context);
    }
    ASSERT_EQ(fake<Get>("cuCtxGetCurrent")(&met), 0);
    EXPECT_EQ(met, theirs);
    ASSERT_EQ(fake<Get>("cuCtxPopCurrent_v2")(&out), 0);
}

TEST_F(Gpu, TensorsGoThereAndBack) {
    const Context context = gpu::context();
    const std::vector<float> numbers{1, 2, 3, 4, 5, 6};
    attn_array array = vector_of(numbers, {2, 3});
    array.data = nullptr, array.device_type = ATTN_DEVICE_CUDA, array.device = kAmpere;
    TensorHandle tensor;
    ASSERT_TRUE(succeeded(attn_tensor_create(context, &array, tensor.out())));
    std::vector<float> back(6);
    ASSERT_TRUE(succeeded(attn_tensor_upload(tensor, numbers.data(), 24)));
    ASSERT_TRUE(succeeded(attn_tensor_download(tensor, back.data(), 24)));
    EXPECT_EQ(back, numbers);
    EXPECT_EQ(described(context).live_bytes, 24u);
    EXPECT_TRUE(failed(attn_tensor_upload(tensor, numbers.data(), 20), ATTN_INVALID_ARGUMENT, {"bytes is 20", "24"}));
}

TEST_F(Gpu, MemoryOfOthersMustBeWhereItIsSaidToBe) {
    const Context context = gpu::context(kAmpere), hopper = gpu::context(kHopper);
    std::vector<float> host(64);
    attn_array array = vector_of(host, {64});
    attn_tensor none = nullptr;
    EXPECT_TRUE(failed(attn_tensor_create(context, &array, &none), ATTN_INVALID_ARGUMENT, {"description is on cpu:0", "takes cuda:1"}));
    array.device_type = ATTN_DEVICE_CUDA, array.device = kAmpere;
    EXPECT_TRUE(failed(attn_tensor_create(context, &array, &none), ATTN_INVALID_ARGUMENT, {"description.data is", "no memory of CUDA's"}));
    const attn_array whole = bytes(1024, kHopper);
    TensorHandle elsewhere;
    ASSERT_TRUE(succeeded(attn_tensor_create(hopper, &whole, elsewhere.out())));
    attn_array known{};
    known.size = sizeof known;
    ASSERT_TRUE(succeeded(attn_tensor_describe(elsewhere, &known)));
    array.data = known.data;
    EXPECT_TRUE(failed(attn_tensor_create(context, &array, &none), ATTN_INVALID_ARGUMENT, {"description.data is", "on cuda:0", "cuda:1 is where"}));
    array.device = kHopper;
    EXPECT_TRUE(failed(attn_tensor_create(context, &array, &none), ATTN_INVALID_ARGUMENT, {"description is on cuda:0", "takes cuda:1"}));

    cases::Sample sample(plain());
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    DeviceSample there(context, kAmpere, sample, false);
    attn_run_args args = there.args;
    args.q = sample.args().q;
    EXPECT_TRUE(failed(attn_run(p, &args), ATTN_INVALID_ARGUMENT, {"q is on cpu:0", "takes cuda:1"}));
    attn_array odd = *there.args.k;
    odd.data = static_cast<char*>(odd.data) + 2;
    odd.shape[0] = there.args.k->shape[0];
    args = there.args, args.k = &odd;
    EXPECT_TRUE(failed(attn_run(p, &args), ATTN_INVALID_ARGUMENT, {"k.data is", "16 bytes"}));
}

// ---- streams -----------------------------------------------------------------------------

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
        Theirs theirs;
        Stream stream;
        ASSERT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, stream.out())));
        DeviceSample there(context, kAmpere, sample, true);
        MaskHandle mask;
        ASSERT_TRUE(succeeded(attn_mask_prepare(context, there.mask(), mask.out())));
        there.args.mask = nullptr, there.args.prepared = mask;
        const auto run = [&] {
            there.args.stream = nullptr;
            there.clear();
            ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
            there.fetch();
            EXPECT_TRUE(agrees(sample)) << warm;
        };
        if (warm) run();
        there.args.stream = stream;
        theirs.capture(true);
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        theirs.capture(false);
        run(); // before the graph was ever launched
        theirs.replay(stream, there);
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
