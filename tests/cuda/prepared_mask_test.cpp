// prepared_mask_test.cpp — masks prepared on a CUDA device: packed once for each shape, across streams.
#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;

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

// Decoding: with heads in groups the rows of a packed mask are heads. A prepared mask serves a plan whose rows are queries, too.
TEST_F(Gpu, AGroupsHeadsShareAPackedMask) {
    Case grouped = plain();
    grouped.B = 2, grouped.Hq = 6, grouped.Hkv = 2, grouped.Sq = 1, grouped.Sk = 2500, grouped.key_lengths = {2500, 1100};
    grouped.keep_dims = cases::kBatch | cases::kKey;
    const Context context = gpu::context();
    attn_run_report report{};
    report.size = sizeof report;
    const auto run = [&](DeviceSample& there) {
        const Plan p = plan(context, there.sample.described(), ATTN_BACKEND_FLASH);
        attn_tiles tiles{};
        tiles.size = sizeof tiles;
        ASSERT_TRUE(succeeded(attn_plan_tiles(p, &there.args, &tiles)));
        there.args.report = &report;
        there.clear();
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        there.fetch();
        EXPECT_TRUE(agrees(there.sample));
        EXPECT_EQ(report.tiles_visited, tiles.full + tiles.partial);
    };
    grouped.keep = cases::Keep::half;
    cases::Sample half(grouped);
    DeviceSample there(context, kAmpere, half, true);
    run(there);
    EXPECT_EQ(report.mask_passes, 1);

    grouped.keep = cases::Keep::all; // so that others may share it
    cases::Sample shared(grouped), alone(grouped.but("heads by themselves", [](Case&c) { c.Hkv = 6; }));
    DeviceSample first(context, kAmpere, alone, true), second(context, kAmpere, shared, true);
    MaskHandle mask;
    ASSERT_TRUE(succeeded(attn_mask_prepare(context, second.mask(), mask.out())));
    for (const int64_t passes : {1, 0})
        for (DeviceSample* s : {&first, &second}) {
            s->args.mask = nullptr, s->args.prepared = mask;
            run(*s);
            EXPECT_EQ(report.mask_passes, passes);
        }
}

// Packed on one stream, it serves another only once it is packed.
TEST_F(Gpu, APreparedMaskMadeOnOneStreamAndUsedOnAnother) {
    Case c = plain();
    c.keep = cases::Keep::half;
    cases::Sample sample(c), other(c);
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    ASSERT_TRUE(succeeded(attn_plan_warmup(p)));
    Theirs theirs;
    Stream making, using_it;
    ASSERT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, making.out())));
    ASSERT_TRUE(succeeded(attn_stream_create(context, using_it.out())));
    DeviceSample first(context, kAmpere, sample, true), second(context, kAmpere, other, true);
    MaskHandle mask;
    ASSERT_TRUE(succeeded(attn_mask_prepare(context, first.mask(), mask.out())));
    for (DeviceSample* s : {&first, &second}) s->clear(), s->args.mask = nullptr, s->args.prepared = mask;
    first.args.stream = making, second.args.stream = using_it;
    FAKE(fake_cuda_hold_stream)(theirs.native, 1);
    ASSERT_TRUE(succeeded(attn_run(p, &first.args)));
    ASSERT_TRUE(succeeded(attn_run(p, &second.args)));
    Told told;
    ASSERT_TRUE(succeeded(attn_stream_on_complete(using_it, Told::tell, &told)));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_EQ(told.calls, 0) << "it ran before its mask was packed";
    FAKE(fake_cuda_hold_stream)(theirs.native, 0);
    told.wait();
    EXPECT_EQ(told.status, ATTN_OK) << told.message;
    ASSERT_TRUE(succeeded(attn_stream_synchronize(making)));
    for (DeviceSample* s : {&first, &second}) {
        s->fetch();
        EXPECT_TRUE(agrees(s->sample));
    }
}

// What fails once it is under way, a run or the pass of a prepared mask, is waited for: its memory may still be in use.
TEST_F(Gpu, WhatFailsUnderWayIsOver) {
    cases::Sample sample(masked());
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    ASSERT_TRUE(succeeded(attn_plan_warmup(p)));
    for (const bool prepared : {false, true}) {
        PreparedSample all(context, sample);
        DeviceSample& there = all.there;
        void* const stream = all.theirs.native;
        if (!prepared) there.args.mask = all.values, there.args.prepared = nullptr;
        there.clear();
        FAKE(fake_cuda_hold_stream)(stream, 1);
        FAKE(fake_cuda_fail)("cuEventRecord", 1, 0);
        std::atomic<bool> released = false;
        std::thread later([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            released = true;
            FAKE(fake_cuda_hold_stream)(stream, 0);
        });
        EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_DEVICE_ERROR, {"CUDA_ERROR_INVALID_VALUE (1) while recording an event"}));
        EXPECT_TRUE(released);
        later.join();
        if (prepared) { // only its pass was under way
            ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
            ASSERT_TRUE(succeeded(attn_stream_synchronize(all.stream)));
        }
        there.fetch();
        EXPECT_TRUE(agrees(sample));
    }
}

} // namespace
