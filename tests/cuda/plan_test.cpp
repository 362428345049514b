// plan_test.cpp — what plans promise: deterministic ones know no batch and no heads, memory grows with the length alone; and lengths that nobody has checked.
#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;

std::string kernel_of(attn_context context, const Case& c, uint32_t flags) {
    return info(plan(context, cases::Sample(c).described(flags), ATTN_BACKEND_FLASH)).kernel;
}

TEST_F(Gpu, DeterministicPlansKnowNoBatchAndNoHeads) {
    for (const int device : {kHopper, kAmpere}) {
        const Context context = gpu::context(device);
        for (const int64_t queries : {1, 40, 200}) {
            Case c = plain();
            c.Sq = queries, c.Sk = 600, c.Hq = 4, c.Hkv = 1;
            const std::string kernel = kernel_of(context, c, ATTN_DETERMINISTIC);
            for (const auto& [B, Hq, Hkv] : {std::tuple{1, 1, 1}, {5, 4, 1}, {1, 66, 1}, {2, 64, 8}}) {
                c.B = B, c.Hq = Hq, c.Hkv = Hkv;
                EXPECT_EQ(kernel_of(context, c, ATTN_DETERMINISTIC), kernel) << B << " " << Hq << " " << Hkv;
            }
        }
    }
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
