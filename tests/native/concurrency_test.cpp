// concurrency_test.cpp — one context, one plan, one mask, many threads.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Case;
using cases::Sample;

TEST(Concurrency, SixtyFourCallersShareAPlan) {
    const Context c = context(2);
    const Case shape = Case{}.but("shared", [](Case& x) { x.Hq = 4, x.Hkv = 2, x.Sq = 70, x.Sk = 150, x.keep = cases::Keep::blocks, x.causal = true; });
    for (const int32_t backend : kBackends) {
        std::vector<std::unique_ptr<Sample>> samples;
        for (int t = 0; t < 64; ++t) samples.push_back(std::make_unique<Sample>(shape));
        const Bits right = run(c, *samples[0], backend);
        const Plan p = plan(c, samples[0]->described(ATTN_WANT_LSE | ATTN_DETERMINISTIC), backend);
        MaskHandle mask;
        ASSERT_TRUE(succeeded(attn_mask_prepare(c, &samples[0]->mask_values(), mask.out())));
        std::atomic<int> wrong{0};
        std::vector<std::thread> callers;
        for (int t = 0; t < 64; ++t)
            callers.emplace_back([&, t] {
                Sample& s = *samples[size_t(t)];
                for (int k = 0; k < 3; ++k) {
                    s.clear_output();
                    attn_run_args& args = s.args();
                    if (t % 2) args.mask = nullptr, args.prepared = mask;
                    wrong += attn_run(p, &args) != ATTN_OK || !(Bits{s.O.bytes, s.lse} == right);
                }
            });
        for (auto& t : callers) t.join();
        EXPECT_EQ(wrong, 0) << name_of(backend);
    }
}

TEST(Concurrency, DestroyedWhileInUse) {
    const attn_counters before = counters();
    for (int round = 0; round < 20; ++round) {
        Context c = context(2);
        Sample shape(Case{}.but("in use", [](Case& x) { x.Sq = 100, x.Sk = 130, x.key_lengths = {77}; }));
        Plan p = plan(c, shape.described(), round % 2 ? ATTN_BACKEND_FLASH : ATTN_BACKEND_MEMORY_EFFICIENT);
        MaskHandle mask;
        ASSERT_TRUE(succeeded(attn_mask_prepare(c, &shape.mask_values(), mask.out())));
        const attn_plan raw_plan = p;
        const attn_mask raw_mask = mask;
        std::atomic<int> odd{0}, done{0};
        std::vector<std::thread> users;
        for (int t = 0; t < 3; ++t)
            users.emplace_back([&] {
                Sample s(shape.what);
                for (attn_status status = ATTN_OK; status == ATTN_OK; ++done) {
                    attn_run_args& args = s.args();
                    args.mask = nullptr, args.prepared = raw_mask;
                    status = attn_run(raw_plan, &args);
                    odd += status != ATTN_OK && status != ATTN_INVALID_HANDLE;
                }
            });
        while (done < 5) std::this_thread::yield();
        ASSERT_TRUE(succeeded(c.destroy()));
        ASSERT_TRUE(succeeded(round % 3 ? mask.destroy() : p.destroy()));
        for (auto& t : users) t.join();
        EXPECT_EQ(odd, 0);
    }
    EXPECT_EQ(counters().live_contexts, before.live_contexts);
    EXPECT_EQ(counters().live_plans, before.live_plans);
    EXPECT_EQ(counters().live_masks, before.live_masks);
}

TEST(Concurrency, ErrorsAreOfTheirThread) {
    EXPECT_TRUE(failed(attn_context_destroy(nullptr), ATTN_INVALID_HANDLE, {"context"}));
    std::thread([] {
        EXPECT_EQ(std::string(attn_last_error()), "");
        EXPECT_TRUE(failed(attn_plan_destroy(nullptr), ATTN_INVALID_HANDLE, {"plan"}));
    }).join();
    EXPECT_NE(std::string(attn_last_error()).find("context"), std::string::npos);
}

} // namespace
