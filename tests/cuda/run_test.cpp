// run_test.cpp — plans and runs on a CUDA device: what is refused, what is chosen, prepared masks, errors.
#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;

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
    p.flags &= ~uint32_t(ATTN_HAS_STRIDES), p.batch = 1, p.queries = 1 << 30, p.query_heads = p.key_heads = 256;
    EXPECT_NE(reasons(p, ATTN_BACKEND_MEMORY_EFFICIENT).find("8: the number of blocks (of 64 queries, times heads) is 4294967296"), std::string::npos);
    p.queries = 64, p.query_heads = p.key_heads = 2, p.keys = 1 << 29, p.mask_kinds = ATTN_MASK_KEEP;
    p.keep_shape[0] = p.keep_shape[1] = p.keep_shape[2] = 1, p.keep_shape[3] = p.keys;
    EXPECT_NE(reasons(p, ATTN_BACKEND_FLASH).find("8: the number of keys is 536870912; at most 268435456 is taken with a dense mask"), std::string::npos);
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

// A sequence's bits depend on nobody beside it.
TEST_F(Gpu, FewQueriesAreSplitAndMergedToTheSameBits) {
    Case c = plain();
    c.Sq = 1, c.Sk = 1300, c.Hq = 4, c.Hkv = 2, c.key_lengths = {1201};
    cases::Sample alone(c), batch(c.but("in a batch", [](Case&x) { x.B = 3, x.key_lengths = {1300, 1201, 300}; }));
    for (const auto& [to, from] : {std::pair{&batch.Q, &alone.Q}, {&batch.K, &alone.K}, {&batch.V, &alone.V}})
        std::copy(from->bytes.begin(), from->bytes.end(), to->bytes.begin() + long(from->bytes.size())); // as the second of three
    batch.problem.Q = batch.Q.numbers(), batch.problem.K = batch.K.numbers(), batch.problem.V = batch.V.numbers();
    const Context context = gpu::context();
    const auto run = [&](cases::Sample& sample) {
        const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
        EXPECT_EQ(info(p).key_chunk, 512);
        DeviceSample there(context, kAmpere, sample, true);
        there.clear();
        EXPECT_TRUE(succeeded(attn_run(p, &there.args)));
        there.fetch();
        EXPECT_TRUE(agrees(sample));
        return Bits{sample.O.bytes, sample.lse};
    };
    const Bits bits = run(alone), of_three = run(batch);
    EXPECT_EQ(run(alone), bits);
    EXPECT_EQ(run(batch), of_three);
    const auto second = [](const auto& of_all) {
        return std::decay_t<decltype(of_all)>(of_all.begin() + long(of_all.size() / 3), of_all.end() - long(of_all.size() / 3));
    };
    EXPECT_EQ((Bits{second(of_three.O), second(of_three.lse)}), bits);
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
    const TensorHandle memory = bring_workspace(context, kAmpere, p, there.args);
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
    Case c = plain();
    c.keep = cases::Keep::half;
    cases::Sample sample(c);
    const Context context = gpu::context();
    const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
    ASSERT_TRUE(succeeded(attn_plan_warmup(p)));
    for (const bool prepared : {false, true}) {
        Theirs theirs;
        Stream stream;
        ASSERT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, stream.out())));
        DeviceSample there(context, kAmpere, sample, true);
        MaskHandle mask;
        ASSERT_TRUE(succeeded(attn_mask_prepare(context, there.mask(), mask.out())));
        if (prepared) there.args.mask = nullptr, there.args.prepared = mask;
        there.args.stream = stream;
        there.clear();
        FAKE(fake_cuda_hold_stream)(theirs.native, 1);
        FAKE(fake_cuda_fail)("cuEventRecord", 1, 0);
        std::atomic<bool> released = false;
        std::thread later([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            released = true;
            FAKE(fake_cuda_hold_stream)(theirs.native, 0);
        });
        EXPECT_TRUE(failed(attn_run(p, &there.args), ATTN_DEVICE_ERROR, {"CUDA_ERROR_INVALID_VALUE (1) while recording an event"}));
        EXPECT_TRUE(released);
        later.join();
        if (prepared) { // only its pass was under way
            ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
            ASSERT_TRUE(succeeded(attn_stream_synchronize(stream)));
        }
        there.fetch();
        EXPECT_TRUE(agrees(sample));
    }
}

// ---- errors ------------------------------------------------------------------------------

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
