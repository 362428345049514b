// device_test.cpp — a CUDA device itself: contexts, its own and of others, and memory.
#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;

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

} // namespace
