// choice_test.cpp — which row of kernels.def a plan runs, by a rule said here once more, and why not another.
#include <set>

#include "fixture.hpp"
#include "kernels/rows.hpp"

namespace {

using namespace gpu;
using cases::Case;
using cases::Type;

// The narrowest class of D and Dv; of its tiles the shortest that hold all rows.
std::string flash_kernel(int device, const Case& c) {
    const int64_t D = std::max(c.D, c.Dv), rows = c.Sq == 1 ? c.Hq / c.Hkv : c.Sq;
    const bool termed = c.bias != cases::Bias::none, own = device == kHopper && !termed && c.Sq > 16;
    int64_t width = 0;
    for (const int64_t w : {256, 192, 128, 96, 64, 32})
        if (w >= D && ((w != 32 && w != 96) || !(own || termed))) width = w;
    const bool has_short = !own && !termed && (width == 64 || width == 128);
    return std::string(own ? "flash_sm90" : "flash_sm80") + ".d" + std::to_string(width) + (c.type == Type::f16 ? ".fp16" : ".bf16") +
           (c.keep == cases::Keep::none ? ".rule" : ".packed") +
           (own      ? ""
            : termed ? ".termed"
                     : ".scaled") +
           (has_short && rows <= 64 ? ".short" : "");
}

// What is asked, without data.
attn_problem asked(const Case& c) {
    attn_problem p{};
    p.size = sizeof p, p.dtype = cases::dtype_of(c.type), p.batch = c.B, p.query_heads = c.Hq, p.key_heads = c.Hkv, p.queries = c.Sq, p.keys = c.Sk;
    p.head_dim = c.D, p.value_dim = c.Dv;
    if (c.keep != cases::Keep::none) p.mask_kinds = ATTN_MASK_KEEP, std::fill_n(p.keep_shape, 4, 1);
    if (c.bias != cases::Bias::none) p.terms = ATTN_TERM_BIAS, std::fill_n(p.bias_shape, 4, 1);
    return p;
}

TEST_F(Gpu, EveryPlanHasTheKernelOfItsSizesAndEveryKernelHasPlans) {
    std::set<std::string> met, all;
    const auto expect = [&](attn_context context, const Case& c, int32_t backend, const std::string& kernel) {
        EXPECT_EQ(info(plan(context, asked(c), backend)).kernel, "cuda." + kernel) << c.D << "/" << c.Dv << ", " << c.Sq << " queries";
        met.insert(kernel);
    };
    const Context contexts[] = {gpu::context(kHopper), gpu::context(kAmpere)};
    const auto each = [&](auto&& f) {
        for (const Type type : {Type::f32, Type::f16, Type::bf16})
            for (const cases::Keep keep : {cases::Keep::none, cases::Keep::all}) {
                Case c = plain(type);
                c.keep = keep;
                f(c);
            }
    };
    each([&](Case c) {
        const std::string dtype = c.type == Type::f32 ? "f32" : c.type == Type::f16 ? "fp16" : "bf16";
        expect(contexts[kAmpere], c, ATTN_BACKEND_MEMORY_EFFICIENT, "memory_efficient." + dtype + (c.keep == cases::Keep::none ? ".rule" : ".packed"));
        expect(contexts[kHopper], c, ATTN_BACKEND_NAIVE, "naive." + dtype);
        if (c.type == Type::f32) return;
        for (const cases::Bias bias : {cases::Bias::none, cases::Bias::normal})
            for (const int64_t queries : {1, 40, 200})
                for (int64_t D = 8; D <= 256; D += 8)
                    for (const auto& [head, value] : {std::pair{D, D}, {D, int64_t(8)}, {int64_t(8), D}})
                        for (const int device : {kHopper, kAmpere}) {
                            c.bias = bias, c.Sq = queries, c.D = head, c.Dv = value;
                            expect(contexts[device], c, ATTN_BACKEND_FLASH, flash_kernel(device, c));
                        }
        c.bias = cases::Bias::none, c.Sq = 1, c.D = c.Dv = 128, c.Hkv = 2; // heads of a group are rows of one tile
        for (const int64_t heads : {128, 130}) c.Hq = heads, expect(contexts[kAmpere], c, ATTN_BACKEND_FLASH, flash_kernel(kAmpere, c));
    });
    for (const kernels::Row& row : kernels::rows())
        if (row.file != "merge.cuh" && row.file != "mask_tiles.cuh") all.insert(row.name);
    EXPECT_EQ(met, all);
}

TEST_F(Gpu, WideHeadsAgreeWithTheReference) {
    for (const int device : {kHopper, kAmpere})
        for (const int64_t D : {192, 256}) {
            Case c = plain(D == 192 ? Type::f16 : Type::bf16);
            c.B = 1, c.Hq = c.Hkv = 1, c.D = D, c.Dv = D - 8, c.keep = D == 192 ? cases::Keep::half : cases::Keep::none;
            cases::Sample sample(c);
            const Context context = gpu::context(device);
            const Plan p = plan(context, sample.described(), ATTN_BACKEND_FLASH);
            EXPECT_EQ(info(p).kernel, "cuda." + flash_kernel(device, c));
            DeviceSample there(context, device, sample, false);
            there.clear();
            ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
            there.fetch();
            EXPECT_TRUE(agrees(sample)) << info(p).kernel;
        }
}

TEST_F(Gpu, SaysWhyNotHoppersOwnKernel) { // an NVRTC before CUDA 12: compile_test.cpp
    const Context hopper = gpu::context(kHopper);
    const auto chosen = [&](const Case& c) { return info(plan(hopper, cases::Sample(c).described(), ATTN_BACKEND_FLASH)); };
    Case own = plain();
    own.B = 2, own.Sq = 17;
    const struct {
        std::string kernel, reason;
        void (*change)(Case&);
    } all[] = {
        {"flash_sm90.d64.fp16.rule", "", [](Case&) {}},
        {"flash_sm80.d64.fp16.rule.termed", "flash_sm90 takes a positive scale and no softcap, bias or ALiBi", [](Case& c) { c.bias = cases::Bias::normal; }},
        {"flash_sm80.d64.fp16.rule.scaled.short", "flash_sm90 does not split keys, as up to 16 queries want", [](Case& c) { c.Sq = 16; }},
        {"flash_sm80.d64.fp16.rule.scaled.short", "flash_sm90 needs a key", [](Case& c) { c.Sk = 0; }},
        {"flash_sm80.d64.fp16.rule.scaled.short", "flash_sm90 takes head dimensions in multiples of 8",
         [](Case& c) { c.D = 33, c.layout = cases::Layout::aligned_gaps; }},
        {"flash_sm80.d64.fp16.rule.scaled.short", "flash_sm90 takes head dimensions in multiples of 8",
         [](Case& c) { c.Dv = 33, c.layout = cases::Layout::aligned_gaps; }},
        {"flash_sm80.d64.fp16.rule.scaled.short", "flash_sm90's tensor maps take positive strides; the batch stride of k is 0",
         [](Case& c) { c.layout = cases::Layout::shared_keys; }},
    };
    for (const auto& a : all) {
        const attn_plan_info met = chosen(own.but("changed", a.change));
        EXPECT_EQ(met.kernel, "cuda." + a.kernel);
        EXPECT_EQ(met.reason, a.reason);
    }
    attn_problem p = cases::Sample(own).described();
    for (const int64_t stride : {int64_t(-4096), int64_t(1) << 39}) {
        p.v_strides[1] = stride;
        EXPECT_EQ(info(plan(hopper, p, ATTN_BACKEND_FLASH)).reason,
                  "flash_sm90's tensor maps take positive strides; the head stride of v is " + std::to_string(stride));
    }
    p.v_strides[1] = (int64_t(1) << 39) - 8;
    EXPECT_STREQ(info(plan(hopper, p, ATTN_BACKEND_FLASH)).reason, "");
}

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

} // namespace
