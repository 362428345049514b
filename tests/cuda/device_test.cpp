// device_test.cpp — contexts, memory, streams, prepared masks and errors of a CUDA device.
#include <atomic>
#include <thread>

#include "gpu.hpp"

namespace {

using namespace gpu;
using cases::Case;

Case plain(cases::Type type = cases::Type::f16) {
    Case c;
    c.name = "plain", c.type = type, c.Sq = 70, c.Sk = 90;
    return c;
}
attn_context_info described(attn_context context) {
    attn_context_info i{};
    i.size = sizeof i;
    EXPECT_TRUE(succeeded(attn_context_describe(context, &i)));
    return i;
}

class Gpu : public ::testing::Test {
protected:
    void SetUp() override { before = FAKE(fake_cuda_bytes)(); }
    void TearDown() override {
        EXPECT_EQ(faults(), "");
        EXPECT_EQ(FAKE(fake_cuda_bytes)(), before) << "memory of the device is left";
    }
    uint64_t before = 0;
};

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

TEST_F(Gpu, RefusesWithReasons) {
    const Context context = gpu::context();
    const auto reasons = [&](const attn_problem& p, int32_t backend) {
        std::string text;
        for (const attn_refusal& r : refusals(context, p, backend)) text += std::to_string(r.reason) + ": " + r.text + "\n";
        return text;
    };
    cases::Sample sample(plain(cases::Type::f32));
    attn_problem p = sample.described();
    EXPECT_NE(reasons(p, ATTN_BACKEND_FLASH).find("1: the dtype is float32 (1); float16 or bfloat16 (2 or 3) is taken"), std::string::npos);
    p.dtype = ATTN_FLOAT64;
    EXPECT_NE(reasons(p, ATTN_BACKEND_NAIVE).find("float64"), std::string::npos);
    p.dtype = ATTN_FLOAT16, p.head_dim = 300;
    EXPECT_NE(reasons(p, ATTN_BACKEND_FLASH).find("4: the head dimension is 300; at most 256 is taken"), std::string::npos);
    p = sample.described(), p.dtype = ATTN_BFLOAT16, p.k_strides[2] = 65;
    EXPECT_NE(reasons(p, ATTN_BACKEND_FLASH).find("7: the row stride of k is 65; a multiple of 8 is taken"), std::string::npos);
    p.k_strides[2] = 64, p.flags |= ATTN_WANT_PROBABILITIES;
    EXPECT_NE(reasons(p, ATTN_BACKEND_FLASH).find("2: "), std::string::npos);
    p.flags &= ~uint32_t(ATTN_WANT_PROBABILITIES);
    EXPECT_EQ(reasons(p, ATTN_BACKEND_FLASH), "");
    p.batch = 70000;
    EXPECT_NE(reasons(p, ATTN_BACKEND_MEMORY_EFFICIENT).find("8: the batch is 70000; at most 65535 is taken"), std::string::npos);
}

TEST_F(Gpu, AnOlderOneIsRefusedByFlashAndRunsTheRest) {
    const Context turing = gpu::context(kTuring);
    cases::Sample sample(plain());
    const auto found = refusals(turing, sample.described(), ATTN_BACKEND_FLASH);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].reason, ATTN_REFUSAL_ARCHITECTURE);
    EXPECT_EQ(found[0].met, 75);
    EXPECT_EQ(found[0].limit, 80);
    EXPECT_NE(std::string(found[0].text).find("the GPU is sm_75; sm_80 or newer is taken"), std::string::npos) << found[0].text;
    for (const int32_t backend : {ATTN_BACKEND_MEMORY_EFFICIENT, ATTN_BACKEND_NAIVE}) {
        const Plan p = plan(turing, sample.described(), backend);
        DeviceSample there(turing, kTuring, sample, false);
        there.clear();
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        there.fetch();
        EXPECT_TRUE(agrees(sample)) << info(p).kernel;
    }
}

TEST_F(Gpu, SaysWhyNotHoppersOwnKernel) {
    const Context hopper = gpu::context(kHopper);
    Case c = plain();
    EXPECT_STREQ(info(plan(hopper, cases::Sample(c).described(), ATTN_BACKEND_FLASH)).kernel, "cuda.flash_sm90.d64.fp16.rule");
    EXPECT_STREQ(info(plan(hopper, cases::Sample(c).described(), ATTN_BACKEND_FLASH)).reason, "");
    c.bias = cases::Bias::normal;
    const attn_plan_info i = info(plan(hopper, cases::Sample(c).described(), ATTN_BACKEND_FLASH));
    EXPECT_STREQ(i.kernel, "cuda.flash_sm80.d64.fp16.rule.termed");
    EXPECT_NE(std::string(i.reason).find("flash_sm90 takes a positive scale and no softcap, bias or ALiBi"), std::string::npos);
}

TEST_F(Gpu, FewQueriesAreSplitAndMergedToTheSameBits) {
    Case c = plain();
    c.Sq = 1, c.Sk = 2500, c.Hq = 4, c.Hkv = 2, c.key_lengths = {2311};
    cases::Sample sample(c);
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    EXPECT_EQ(info(p).key_chunk, 1024);
    DeviceSample there(context, kAmpere, sample, true);
    there.clear();
    ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
    there.fetch();
    EXPECT_TRUE(agrees(sample));
}

TEST_F(Gpu, ProbabilitiesOfNaive) {
    Case c = plain(cases::Type::f32);
    c.causal = true, c.B = 1, c.Hq = c.Hkv = 1;
    cases::Sample sample(c);
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(ATTN_WANT_LSE | ATTN_WANT_PROBABILITIES), ATTN_BACKEND_NAIVE);
    DeviceSample there(context, kAmpere, sample, false);
    const std::vector<float> none(size_t(c.Sq * c.Sk));
    const OnDevice P = upload(context, kAmpere, vector_of(none, {1, 1, c.Sq, c.Sk}), none.data(), none.size() * 4);
    there.args.probabilities = &P.array;
    ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
    std::vector<float> met(none.size());
    ASSERT_TRUE(succeeded(attn_tensor_download(P.owner, met.data(), met.size() * 4)));
    for (int64_t i = 0; i < c.Sq; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < c.Sk; ++j) {
            sum += met[size_t(i * c.Sk + j)];
            if (j > i) { ASSERT_EQ(met[size_t(i * c.Sk + j)], 0); }
        }
        ASSERT_NEAR(sum, 1, 1e-5);
    }
}

TEST_F(Gpu, BringsItsOwnWorkspace) {
    Case c = plain();
    c.keep = cases::Keep::half;
    cases::Sample sample(c);
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    DeviceSample there(context, kAmpere, sample, true);
    there.clear();
    const attn_array whole = bytes(int64_t(info(p).workspace_bytes), kAmpere);
    TensorHandle memory;
    ASSERT_TRUE(succeeded(attn_tensor_create(context, &whole, memory.out())));
    attn_array known{};
    known.size = sizeof known;
    ASSERT_TRUE(succeeded(attn_tensor_describe(memory, &known)));
    there.args.workspace = known.data, there.args.workspace_bytes = info(p).workspace_bytes;
    ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
    there.fetch();
    EXPECT_TRUE(agrees(sample));
    there.args.workspace_bytes -= 1;
    EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_INVALID_ARGUMENT, {"args.workspace_bytes"}));
    there.args.workspace_bytes += 1, there.args.workspace = sample.Q.bytes.data();
    EXPECT_FALSE(succeeded(attn_run(p, &there.args)));
}

// ---- prepared masks ----------------------------------------------------------------------

TEST_F(Gpu, APreparedMaskIsPackedOnceForAShapeAndServesMany) {
    Case c = plain();
    c.B = 2, c.keep = cases::Keep::blocks, c.key_lengths = {90, 33}, c.keep_dims = cases::kQuery | cases::kKey;
    cases::Sample sample(c);
    const Context context = gpu::context();
    DeviceSample there(context, kAmpere, sample, false);
    MaskHandle mask;
    ASSERT_TRUE(succeeded(attn_mask_prepare(context, there.mask(), mask.out())));
    attn_mask_info known{};
    known.size = sizeof known;
    ASSERT_TRUE(succeeded(attn_mask_describe(mask, &known)));
    EXPECT_EQ(known.full + known.partial + known.empty, 4);
    const uint64_t bytes_before = known.bytes;
    there.args.mask = nullptr, there.args.prepared = mask;
    attn_run_report report{};
    report.size = sizeof report;
    there.args.report = &report;
    for (const int32_t backend : {ATTN_BACKEND_FLASH, ATTN_BACKEND_MEMORY_EFFICIENT, ATTN_BACKEND_NAIVE})
        for (int turn = 0; turn < 2; ++turn) {
            SCOPED_TRACE(name_of(backend));
            const Plan p = plan(context, sample.described(), backend);
            there.clear();
            ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
            there.fetch();
            EXPECT_TRUE(agrees(sample));
            EXPECT_EQ(report.mask_passes, backend != ATTN_BACKEND_NAIVE && turn == 0);
        }
    ASSERT_TRUE(succeeded(attn_mask_describe(mask, &known)));
    EXPECT_GT(known.bytes, bytes_before) << "its tiles are its own";
    // Lengths that came from the host are checked against the problem.
    attn_problem shorter = sample.described();
    shorter.keys = 80;
    shorter.keep_shape[3] = 80;
    const Plan other = plan(context, shorter, ATTN_BACKEND_FLASH);
    EXPECT_TRUE(failed(attn_run(other, &there.args), ATTN_INVALID_ARGUMENT, {}));
}

TEST_F(Gpu, APreparedMaskUnderAnotherOffset) {
    Case c = plain();
    c.causal = true, c.keep = cases::Keep::half, c.offset_kind = cases::Offset::value, c.offset = 20;
    const Context context = gpu::context();
    cases::Sample sample(c);
    DeviceSample there(context, kAmpere, sample, true);
    MaskHandle mask;
    ASSERT_TRUE(succeeded(attn_mask_prepare(context, there.mask(), mask.out())));
    there.args.mask = nullptr, there.args.prepared = mask;
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    for (const int64_t offset : {20, 5, 20}) {
        sample.problem.offset = offset, there.args.offset = offset;
        there.clear();
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        there.fetch();
        EXPECT_TRUE(agrees(sample)) << offset;
    }
}

// ---- streams -----------------------------------------------------------------------------

struct Told {
    std::atomic<int> calls{0};
    attn_status status = ATTN_OK;
    std::string message;
    static void tell(void* self, attn_status status, const char* message) {
        auto* t = static_cast<Told*>(self);
        t->status = status, t->message = message;
        ++t->calls;
    }
    void wait() const {
        while (!calls) std::this_thread::yield();
    }
};

TEST_F(Gpu, AStreamRunsLaterAndKeepsWhatItNeeds) {
    Case c = plain();
    c.keep = cases::Keep::half, c.key_lengths = {77};
    cases::Sample sample(c);
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
    Case c = plain();
    c.keep = cases::Keep::half, c.key_lengths = {77};
    cases::Sample sample(c);
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    ASSERT_TRUE(succeeded(attn_plan_warmup(p)));
    void* native = nullptr;
    void *primary = nullptr, *out = nullptr;
    ASSERT_EQ(fake<int (*)(void**, int)>("cuDevicePrimaryCtxRetain")(&primary, kAmpere), 0);
    ASSERT_EQ(fake<int (*)(void*)>("cuCtxPushCurrent_v2")(primary), 0);
    ASSERT_EQ(fake<int (*)(void**, unsigned)>("cuStreamCreate")(&native, 0), 0);
    ASSERT_EQ(fake<int (*)(void**)>("cuCtxPopCurrent_v2")(&out), 0);
    {
        Stream stream;
        ASSERT_TRUE(succeeded(attn_stream_wrap(context, native, stream.out())));
        DeviceSample there(context, kAmpere, sample, true), host(context, kAmpere, sample, false);
        there.args.stream = stream, host.args.stream = stream;
        const attn_array whole = bytes(int64_t(info(p).workspace_bytes), kAmpere);
        TensorHandle memory;
        ASSERT_TRUE(succeeded(attn_tensor_create(context, &whole, memory.out())));
        attn_array known{};
        known.size = sizeof known;
        ASSERT_TRUE(succeeded(attn_tensor_describe(memory, &known)));
        there.args.workspace = known.data, there.args.workspace_bytes = info(p).workspace_bytes;
        FAKE(fake_cuda_capture)(native, 1);
        EXPECT_TRUE(failed(attn_run(p, &host.args), ATTN_INVALID_ARGUMENT, {"captured into a graph", "host memory"}));
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        FAKE(fake_cuda_capture)(native, 0);
        for (int turn = 0; turn < 2; ++turn) {
            there.clear();
            FAKE(fake_cuda_replay)(native);
            ASSERT_TRUE(succeeded(attn_stream_synchronize(stream)));
            there.fetch();
            EXPECT_TRUE(agrees(sample)) << turn;
        }
    }
    fake<int (*)(void*)>("cuStreamDestroy_v2")(native);
    fake<int (*)(int)>("cuDevicePrimaryCtxRelease_v2")(kAmpere);
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

// ---- errors ------------------------------------------------------------------------------

TEST_F(Gpu, OutOfMemorySaysHowMuchWasAskedAndHowMuchWasFree) {
    const Context context = gpu::context();
    const attn_array whole = bytes(300 << 20, kAmpere);
    attn_tensor none = nullptr;
    EXPECT_TRUE(failed(attn_tensor_create(context, &whole, &none), ATTN_OUT_OF_MEMORY,
                       {"314572800 bytes were asked for, for a tensor", "of 268435456 are free on cuda:1", "CUDA_ERROR_OUT_OF_MEMORY (2)"}));
    const attn_array small = bytes(1 << 20, kAmpere); // what the pool holds in pieces was given back first
    TensorHandle tensor;
    FAKE(fake_cuda_fail)("cuMemAllocFromPoolAsync", 2, 0);
    const int64_t trims = FAKE(fake_cuda_calls)("cuMemPoolTrimTo");
    EXPECT_TRUE(succeeded(attn_tensor_create(context, &small, tensor.out())));
    EXPECT_EQ(FAKE(fake_cuda_calls)("cuMemPoolTrimTo"), trims + 1);
}

TEST_F(Gpu, ErrorsHaveCudasNameAndWhatWasBeingDone) {
    const Context context = gpu::context();
    cases::Sample sample(plain());
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    DeviceSample there(context, kAmpere, sample, false);
    FAKE(fake_cuda_fail)("cuLaunchKernel", 1, 0);
    EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_DEVICE_ERROR, {"CUDA_ERROR_INVALID_VALUE (1) while launching flash_sm80.d64.fp16.rule.scaled"}));
    ASSERT_TRUE(succeeded(attn_run(p, &there.args))); // that was not the end of anything
    there.fetch();
    EXPECT_TRUE(agrees(sample));
}

TEST_F(Gpu, ADeadContextSaysSoAndAnotherCanBeMade) {
    cases::Sample sample(plain());
    {
        const Context context = gpu::context(), beside = gpu::context(kHopper);
        const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
        Stream stream;
        ASSERT_TRUE(succeeded(attn_stream_create(context, stream.out())));
        DeviceSample there(context, kAmpere, sample, false);
        there.args.stream = stream;
        Told told;
        FAKE(fake_cuda_fail)("kernel", 700, 0);
        FAKE(fake_cuda_hold)(1);
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        FAKE(fake_cuda_hold)(0);
        // Which of its calls is the first to hear of it is a matter of moments.
        EXPECT_TRUE(failed(attn_stream_synchronize(stream), ATTN_DEVICE_ERROR, {"CUDA_ERROR_ILLEGAL_ADDRESS (700) while "}));
        there.args.stream = nullptr;
        for (int turn = 0; turn < 2; ++turn)
            EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_DEVICE_ERROR, {"CUDA_ERROR_ILLEGAL_ADDRESS (700)", "cuda:1 is dead", "make another context"}));
        attn_context_info i{};
        i.size = sizeof i;
        EXPECT_TRUE(failed(attn_context_describe(context, &i), ATTN_DEVICE_ERROR, {"is dead"}));
        ASSERT_TRUE(succeeded(attn_stream_on_complete(stream, Told::tell, &told)));
        told.wait();
        EXPECT_TRUE(succeeded(attn_context_describe(beside, &i))) << "another device's lives on";
        // While everything of the dead one is still there.
        const Context anew = gpu::context();
        ASSERT_TRUE(anew);
        const Plan again = plan(anew, sample.described(), ATTN_BACKEND_FLASH);
        DeviceSample fresh(anew, kAmpere, sample, false);
        ASSERT_TRUE(succeeded(attn_run(again, &fresh.args)));
        fresh.fetch();
        EXPECT_TRUE(agrees(sample));
    }
    const Context context = gpu::context();
    described(context);
}

TEST_F(Gpu, CancelledBeforeItBegins) {
    const Context context = gpu::context();
    cases::Sample sample(plain());
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    DeviceSample there(context, kAmpere, sample, false);
    const int32_t cancel = 1;
    there.args.cancel = &cancel;
    const int64_t launches = FAKE(fake_cuda_calls)("cuLaunchKernel");
    EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_CANCELLED, {"cancel"}));
    EXPECT_EQ(FAKE(fake_cuda_calls)("cuLaunchKernel"), launches);
}

} // namespace
