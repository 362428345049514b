// run_test.cpp — plans and runs on a CUDA device: what is refused, what memory is needed, what comes out.
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
    cases::Sample sample(masked());
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

// What a structural mask needs beside its values: nothing, or for documents a class and a place in a list for each tile; never a bit for each score.
TEST_F(Gpu, StructuralMasksNeedNoMemoryForScores) {
    const Context context = gpu::context(kHopper);
    attn_problem p{};
    p.size = sizeof p, p.dtype = ATTN_FLOAT16, p.batch = 1, p.query_heads = p.key_heads = 8, p.head_dim = p.value_dim = 64;
    p.queries = p.keys = 1 << 17;
    const uint64_t scores = uint64_t(p.queries) * uint64_t(p.keys);
    for (const int32_t backend : {ATTN_BACKEND_FLASH, ATTN_BACKEND_MEMORY_EFFICIENT}) {
        for (const uint32_t kinds : {ATTN_MASK_CAUSAL, ATTN_MASK_WINDOW, ATTN_MASK_KEY_LENGTHS, ATTN_MASK_QUERY_LENGTHS, ATTN_MASK_PREFIX}) {
            p.mask_kinds = kinds;
            EXPECT_LE(info(plan(context, p, backend)).workspace_bytes, 1024u) << kinds;
        }
        p.mask_kinds = ATTN_MASK_DOCUMENTS;
        EXPECT_LE(info(plan(context, p, backend)).workspace_bytes, scores / 400 + (4 << 20)) << "documents";
        p.mask_kinds = ATTN_MASK_KEEP;
        p.keep_shape[0] = p.keep_shape[1] = 1, p.keep_shape[2] = p.queries, p.keep_shape[3] = p.keys;
        EXPECT_GE(info(plan(context, p, backend)).workspace_bytes, scores / 8) << "a dense mask's bits";
    }
}

TEST_F(Gpu, LengthsOnTheDeviceAreClampedBeforeAnythingIsMadeOfThem) {
    Case c = plain();
    c.B = 4, c.causal = true, c.offset_kind = cases::Offset::bottom_right, c.key_lengths = {90, 90, 90, 90}, c.query_lengths = {70, 70, 70, 70};
    for (const int device : {kHopper, kAmpere}) {
        const Context context = gpu::context(device);
        for (const int32_t backend : {ATTN_BACKEND_FLASH, ATTN_BACKEND_MEMORY_EFFICIENT, ATTN_BACKEND_NAIVE}) {
            cases::Sample sample(c);
            sample.problem.key_lengths = {1000, -7, INT32_MAX, 50}, sample.problem.query_lengths = {70, 70, 1000, INT32_MIN};
            DeviceSample there(context, device, sample, true);
            sample.problem.key_lengths = {90, 0, 90, 50}, sample.problem.query_lengths = {70, 70, 70, 0};
            there.clear();
            ASSERT_TRUE(succeeded(attn_run(plan(context, sample.described(), backend), &there.args)));
            there.fetch();
            EXPECT_TRUE(agrees(sample)) << device << " " << backend;
        }
    }
}

} // namespace
