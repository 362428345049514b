// handles_test.cpp — lifetimes: null, stale and wrong handles, any order of destruction, nothing left behind.
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Case;
using cases::Sample;

attn_array floats(std::initializer_list<int64_t> shape) {
    attn_array a{};
    a.size = sizeof a, a.dtype = ATTN_FLOAT32, a.rank = int32_t(shape.size());
    std::copy(shape.begin(), shape.end(), a.shape);
    return a;
}

TEST(Handles, NullStaleAndOfAnotherKind) {
    const Context c = context();
    Sample sample(Case{});
    attn_stream stream = nullptr;
    ASSERT_TRUE(succeeded(attn_stream_create(c, &stream)));
    attn_counters before = counters();
    EXPECT_TRUE(failed(attn_stream_synchronize(nullptr), ATTN_INVALID_HANDLE, {"stream", "null"}));
    EXPECT_TRUE(failed(attn_plan_destroy(reinterpret_cast<attn_plan>(stream)), ATTN_INVALID_HANDLE, {"plan", "stream handle"}));
    EXPECT_TRUE(failed(attn_context_destroy(reinterpret_cast<attn_context>(stream)), ATTN_INVALID_HANDLE, {"context", "stream handle"}));
    ASSERT_TRUE(succeeded(attn_stream_destroy(stream)));
    EXPECT_TRUE(failed(attn_stream_destroy(stream), ATTN_INVALID_HANDLE, {"stream", "destroyed"}));
    EXPECT_TRUE(failed(attn_stream_synchronize(stream), ATTN_INVALID_HANDLE, {"stream"}));
    // The slot is used again: the old handle stays stale.
    Stream next;
    ASSERT_TRUE(succeeded(attn_stream_create(c, next.out())));
    EXPECT_TRUE(failed(attn_stream_synchronize(stream), ATTN_INVALID_HANDLE, {"stream"}));
    for (const uintptr_t wild : {uintptr_t(1), uintptr_t(0xffffffff), ~uintptr_t(0), uintptr_t(&before)})
        EXPECT_TRUE(failed(attn_mask_destroy(reinterpret_cast<attn_mask>(wild)), ATTN_INVALID_HANDLE, {"mask"})) << wild;
    EXPECT_EQ(counters().live_streams, before.live_streams);
}

TEST(Handles, UseAfterDestroyIsAnError) {
    Context c = context();
    Sample sample(Case{});
    Plan p = plan(c, sample.described(), ATTN_BACKEND_FLASH);
    const attn_plan stale_plan = p;
    const attn_context stale_context = c;
    ASSERT_TRUE(succeeded(p.destroy()));
    EXPECT_TRUE(failed(attn_run(stale_plan, &sample.args()), ATTN_INVALID_HANDLE, {"plan"}));
    ASSERT_TRUE(succeeded(c.destroy()));
    attn_plan made = nullptr;
    const attn_problem problem = sample.described();
    EXPECT_TRUE(failed(attn_plan_create(stale_context, &problem, 1, &made), ATTN_INVALID_HANDLE, {"context"}));
}

// Context, stream, tensor, mask and plan, destroyed in every order; what is left still works.
TEST(Handles, AnyOrderOfDestruction) {
    int order[5] = {0, 1, 2, 3, 4};
    const attn_counters before = counters();
    do {
        Context c = context();
        Sample sample(Case{}.but("lengths", [](Case& x) { x.key_lengths = {40}; }));
        Stream stream;
        TensorHandle q;
        MaskHandle mask;
        ASSERT_TRUE(succeeded(attn_stream_create(c, stream.out())));
        attn_array array = floats({1, 2, 64, 64});
        ASSERT_TRUE(succeeded(attn_tensor_create(c, &array, q.out())));
        ASSERT_TRUE(succeeded(attn_tensor_upload(q, sample.Q.bytes.data(), sample.Q.bytes.size())));
        ASSERT_TRUE(succeeded(attn_mask_prepare(c, &sample.mask_values(), mask.out())));
        Plan p = plan(c, sample.described(), ATTN_BACKEND_FLASH);
        attn_run_args& args = sample.args();
        array.tensor = q;
        args.q = &array, args.mask = nullptr, args.prepared = mask, args.stream = stream;
        ASSERT_TRUE(succeeded(attn_run(p, &args)));
        ASSERT_TRUE(succeeded(attn_stream_synchronize(stream))); // the sample's memory is ours to keep until then
        for (const int which : order) {
            const std::function<attn_status()> destroy[] = {[&] { return c.destroy(); }, [&] { return stream.destroy(); }, [&] { return q.destroy(); },
                                                            [&] { return mask.destroy(); }, [&] { return p.destroy(); }};
            ASSERT_TRUE(succeeded(destroy[which]()));
        }
        EXPECT_TRUE(agrees(sample));
    } while (std::next_permutation(order, order + 5));
    for (int wait = 0; wait < 200 && counters().live_contexts != before.live_contexts; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const attn_counters after = counters();
    EXPECT_EQ(after.live_contexts, before.live_contexts);
    EXPECT_EQ(after.live_streams, before.live_streams);
    EXPECT_EQ(after.live_tensors, before.live_tensors);
    EXPECT_EQ(after.live_masks, before.live_masks);
    EXPECT_EQ(after.live_plans, before.live_plans);
    EXPECT_EQ(after.live_bytes, before.live_bytes);
}

TEST(Handles, WhatIsOnAStreamSurvivesItsHandles) {
    Sample sample(Case{}.but("long", [](Case& x) { x.Sq = 300, x.Sk = 600; }));
    const attn_counters before = counters();
    {
        Context c = context();
        Stream stream;
        ASSERT_TRUE(succeeded(attn_stream_create(c, stream.out())));
        Plan p = plan(c, sample.described(), ATTN_BACKEND_MEMORY_EFFICIENT);
        attn_run_args& args = sample.args();
        args.stream = stream;
        for (int k = 0; k < 5; ++k) ASSERT_TRUE(succeeded(attn_run(p, &args)));
    } // all handles go while the stream is busy
    for (int wait = 0; wait < 2000 && counters().live_contexts != before.live_contexts; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(counters().live_contexts, before.live_contexts);
    EXPECT_EQ(counters().runs, before.runs + 5);
    EXPECT_TRUE(agrees(sample));
}

TEST(Counters, BytesComeAndGo) {
    const attn_counters before = counters();
    {
        const Context c = context();
        const attn_array array = floats({4, 1000});
        TensorHandle t;
        ASSERT_TRUE(succeeded(attn_tensor_create(c, &array, t.out())));
        EXPECT_EQ(counters().live_bytes, before.live_bytes + 16000);
        EXPECT_EQ(counters().live_tensors, before.live_tensors + 1);
        Sample sample(Case{}.but("keep", [](Case& x) { x.keep = cases::Keep::half; }));
        MaskHandle mask;
        ASSERT_TRUE(succeeded(attn_mask_prepare(c, &sample.mask_values(), mask.out())));
        attn_mask_info i{};
        i.size = sizeof i;
        ASSERT_TRUE(succeeded(attn_mask_describe(mask, &i)));
        EXPECT_EQ(i.partial, 2);
        EXPECT_EQ(i.full + i.empty, 0);
        EXPECT_EQ(counters().live_bytes, before.live_bytes + 16000 + int64_t(i.bytes));
        EXPECT_EQ(counters().mask_passes, before.mask_passes + 1);
    }
    EXPECT_EQ(counters().live_bytes, before.live_bytes);
    EXPECT_EQ(counters().live_masks, before.live_masks);
}

TEST(Tensors, UploadAndDownloadTheWhole) {
    const Context c = context();
    const attn_array array = floats({3, 5});
    TensorHandle t;
    ASSERT_TRUE(succeeded(attn_tensor_create(c, &array, t.out())));
    std::vector<float> in(15, 2.5f), out(15);
    EXPECT_TRUE(succeeded(attn_tensor_upload(t, in.data(), 60)));
    EXPECT_TRUE(succeeded(attn_tensor_download(t, out.data(), 60)));
    EXPECT_EQ(in, out);
    EXPECT_TRUE(failed(attn_tensor_upload(t, in.data(), 56), ATTN_INVALID_ARGUMENT, {"bytes", "56", "60"}));
    EXPECT_TRUE(failed(attn_tensor_download(t, nullptr, 60), ATTN_INVALID_ARGUMENT, {"destination", "null"}));
    attn_array bad = floats({3, -1});
    attn_tensor made = nullptr;
    EXPECT_TRUE(failed(attn_tensor_create(c, &bad, &made), ATTN_INVALID_ARGUMENT, {"shape[1]", "-1"}));
    bad = floats({INT64_MAX, 4});
    EXPECT_TRUE(failed(attn_tensor_create(c, &bad, &made), ATTN_INVALID_ARGUMENT, {"overflow"}));
    bad = floats({int64_t(1) << 50});
    EXPECT_TRUE(failed(attn_tensor_create(c, &bad, &made), ATTN_OUT_OF_MEMORY, {std::to_string(int64_t(1) << 52)}));
}

} // namespace
