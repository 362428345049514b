// error_test.cpp — what goes wrong on a CUDA device, and what is cancelled.
#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;

TEST_F(Gpu, OutOfMemorySaysHowMuchWasAskedAndHowMuchWasFree) {
    const Context context = gpu::context();
    const attn_array whole = bytes(300 << 20, kAmpere);
    attn_tensor none = nullptr;
    EXPECT_TRUE(failed(attn_tensor_create(context, &whole, &none), ATTN_OUT_OF_MEMORY,
                       {"314572800 bytes were asked for, for a tensor", "of 268435456 are free on cuda:1", "CUDA_ERROR_OUT_OF_MEMORY (2)"}));
    FAKE(fake_cuda_fail)("cuMemAllocFromPoolAsync", 1, 0); // as a driver may answer
    EXPECT_TRUE(failed(attn_tensor_create(context, &whole, &none), ATTN_OUT_OF_MEMORY, {"314572800 bytes", "CUDA_ERROR_INVALID_VALUE (1)"}));
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

// The primary context is the process's: what was made in it before a reset is gone, though nobody told its owners, and its handle may be the same as before.
TEST_F(Gpu, ContextsThatAreResetUnderneathAreDeadToo) {
    cases::Sample sample(plain());
    const Context first = gpu::context(), second = gpu::context();
    const Plan p = plan(first, sample.described(), ATTN_BACKEND_FLASH), q = plan(second, sample.described(), ATTN_BACKEND_FLASH);
    Stream stream;
    ASSERT_TRUE(succeeded(attn_stream_create(second, stream.out())));
    {
        DeviceSample there(first, kAmpere, sample, false), unaware(second, kAmpere, sample, false);
        FAKE(fake_cuda_fail)("kernel", 719, 0);
        EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_DEVICE_ERROR, {"CUDA_ERROR_LAUNCH_FAILED (719) while "}));
        const Context anew = gpu::context();
        ASSERT_TRUE(anew);
        EXPECT_TRUE(failed(attn_run(q, &unaware.args), ATTN_DEVICE_ERROR, {"cuda:1 is dead", "resetting the dead primary context", "make another context"}));
        EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_DEVICE_ERROR, {"CUDA_ERROR_LAUNCH_FAILED (719): the context of cuda:1 is dead"}));
        DeviceSample fresh(anew, kAmpere, sample, false);
        ASSERT_TRUE(succeeded(attn_run(plan(anew, sample.described(), ATTN_BACKEND_FLASH), &fresh.args)));
        fresh.fetch();
        EXPECT_TRUE(agrees(sample));
    }
}

// CUDA promises only another process a fresh start.
TEST_F(Gpu, AResetThatHelpsNothingSaysSo) {
    cases::Sample sample(plain());
    {
        const Context context = gpu::context();
        DeviceSample there(context, kAmpere, sample, false);
        FAKE(fake_cuda_fail)("kernel", 700, 0);
        EXPECT_FALSE(succeeded(attn_run(plan(context, sample.described(), ATTN_BACKEND_FLASH), &there.args)));
        attn_context_options options{};
        options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = kAmpere;
        attn_context none = nullptr;
        FAKE(fake_cuda_fail)("cuDevicePrimaryCtxReset", 700, 0);
        EXPECT_TRUE(failed(attn_context_create(&options, &none), ATTN_DEVICE_ERROR, {"CUDA_ERROR_ILLEGAL_ADDRESS (700) while resetting", "another process"}));
    }
    described(gpu::context());
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

// A kernel that would take the emulator minutes: what begins after the flag was raised does nothing, and the next run is whole again.
void cancel_in_the_middle(int device, int32_t backend, Case c, bool asynchronous) {
    SCOPED_TRACE(std::to_string(device) + ", " + name_of(backend) + (asynchronous ? ", on a stream" : ""));
    const Context context = gpu::context(device);
    Case large = c;
    large.name = "large", large.B = 8, large.Hq = 16, large.Sq = 1024;
    cases::Sample sample(large);
    const Plan p = plan(context, sample.described(), backend);
    ASSERT_TRUE(succeeded(attn_plan_warmup(p)));
    DeviceSample there(context, device, sample, true);
    there.clear();
    Stream stream;
    ASSERT_TRUE(succeeded(attn_stream_create(context, stream.out())));
    volatile int32_t cancel = 0;
    there.args.cancel = &cancel, there.args.stream = asynchronous ? attn_stream(stream) : attn_stream{};
    const int64_t launches = FAKE(fake_cuda_calls)("cuLaunchKernel");
    std::thread raise([&] {
        while (FAKE(fake_cuda_calls)("cuLaunchKernel") == launches) std::this_thread::yield();
        cancel = 1;
    });
    const attn_status status = attn_run(p, &there.args);
    if (asynchronous) {
        EXPECT_TRUE(succeeded(status));
        EXPECT_TRUE(failed(attn_stream_synchronize(stream), ATTN_CANCELLED, {"cancel"}));
    } else {
        EXPECT_TRUE(failed(status, ATTN_CANCELLED, {"cancel"}));
    }
    raise.join();
    const std::vector<unsigned char> before = sample.O.bytes;
    there.fetch();
    const size_t head = size_t(large.Sq * large.Dv) * reference::bytes_of(large.type);
    const size_t last = before.size() - head;
    EXPECT_EQ(std::memcmp(before.data() + last, sample.O.bytes.data() + last, head), 0) << "the last head of the last batch was computed";

    cases::Sample small(c);
    const Plan next = plan(context, small.described(), backend);
    DeviceSample again(context, device, small, true);
    again.clear();
    cancel = 0, again.args.cancel = &cancel;
    ASSERT_TRUE(succeeded(attn_run(next, &again.args)));
    again.fetch();
    EXPECT_TRUE(agrees(small));
}
TEST_F(Gpu, CancelledInTheMiddle) {
    Case c = plain();
    c.keep = cases::Keep::half;
    for (const bool asynchronous : {false, true}) {
        cancel_in_the_middle(kHopper, ATTN_BACKEND_FLASH, plain(), asynchronous);
        cancel_in_the_middle(kAmpere, ATTN_BACKEND_FLASH, c, asynchronous);
        cancel_in_the_middle(kAmpere, ATTN_BACKEND_MEMORY_EFFICIENT, plain(cases::Type::f32), asynchronous);
        cancel_in_the_middle(kTuring, ATTN_BACKEND_NAIVE, plain(), asynchronous);
    }
}

} // namespace
