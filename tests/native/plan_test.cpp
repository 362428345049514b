// plan_test.cpp — what a plan says: kernels, memory, tiles, and every reason to refuse.
#include <gtest/gtest.h>

#include <set>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Case;
using cases::Sample;

attn_problem problem(int64_t S, int64_t D = 64) {
    attn_problem p{};
    p.size = sizeof p, p.dtype = ATTN_FLOAT32, p.batch = 1, p.query_heads = p.key_heads = 2, p.queries = p.keys = S, p.head_dim = p.value_dim = D;
    return p;
}
uint64_t workspace(attn_context c, const attn_problem& p, int32_t backend) {
    const Plan made = plan(c, p, backend);
    uint64_t bytes = 0;
    EXPECT_TRUE(succeeded(attn_plan_workspace(made, &bytes)));
    EXPECT_EQ(bytes, info(made).workspace_bytes);
    return bytes;
}

TEST(Plan, ThreeBackendsThreeKernels) {
    for (const std::string& isa : instruction_sets()) {
        const Context c = context(2, isa.c_str());
        EXPECT_EQ(info(plan(c, problem(100), ATTN_BACKEND_FLASH)).kernel, "cpu.flash." + isa);
        EXPECT_EQ(info(plan(c, problem(100), ATTN_BACKEND_MEMORY_EFFICIENT)).kernel, "cpu.memory-efficient." + isa);
        EXPECT_EQ(info(plan(c, problem(100), ATTN_BACKEND_NAIVE)).kernel, std::string("cpu.naive"));
        attn_problem few = problem(100);
        few.queries = 1;
        EXPECT_EQ(info(plan(c, few, ATTN_BACKEND_FLASH)).kernel, "cpu.flash.decode." + isa);
    }
}

TEST(Plan, NaiveKeepsAllScoresTheOthersDoNot) {
    const Context c = context();
    const uint64_t small = workspace(c, problem(512), ATTN_BACKEND_NAIVE), large = workspace(c, problem(1024), ATTN_BACKEND_NAIVE);
    EXPECT_EQ(small, 2u * 512 * 512 * 8);
    EXPECT_EQ(large, 4 * small);
    for (const int32_t backend : {ATTN_BACKEND_FLASH, ATTN_BACKEND_MEMORY_EFFICIENT}) {
        EXPECT_LE(workspace(c, problem(1024), backend), 2 * workspace(c, problem(512), backend)) << name_of(backend);
        EXPECT_EQ(workspace(c, problem(1 << 20), backend), 0u) << name_of(backend);
        attn_problem few = problem(4096);
        few.queries = 1;
        const uint64_t once = workspace(c, few, backend);
        few.keys *= 4;
        EXPECT_LE(workspace(c, few, backend), 4 * once + 1024) << name_of(backend);
    }
}

TEST(Plan, AWorkspaceMayBeBrought) {
    const Context c = context();
    Sample sample(Case{});
    for (const int32_t backend : kBackends) {
        const Bits own = run(c, sample, backend, ATTN_WANT_LSE);
        const Plan p = plan(c, sample.described(), backend);
        const uint64_t needed = info(p).workspace_bytes;
        std::vector<unsigned char> memory(needed + 128, 0xab);
        unsigned char* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
        attn_run_args& args = sample.args();
        args.workspace = aligned, args.workspace_bytes = needed;
        sample.clear_output();
        ASSERT_TRUE(succeeded(attn_run(p, &args)));
        EXPECT_TRUE((Bits{sample.O.bytes, sample.lse}) == own);
        EXPECT_EQ(aligned[needed], 0xab) << "beyond its workspace";
        if (!needed) continue;
        args.workspace_bytes = needed - 1;
        EXPECT_TRUE(failed(attn_run(p, &args), ATTN_INVALID_ARGUMENT, {"workspace_bytes", std::to_string(needed - 1), std::to_string(needed)}));
    }
}

// Exactly one refusal, of this reason, with the number met and the limit in numbers and words; plan_create says the same.
void refused(const attn_problem& p, int32_t backend, int32_t reason, int64_t met, int64_t limit, std::initializer_list<const char*> words) {
    const Context c = context();
    const auto list = refusals(c, p, backend);
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].reason, reason);
    EXPECT_EQ(list[0].met, met);
    EXPECT_EQ(list[0].limit, limit);
    for (const char* word : words) EXPECT_NE(std::string(list[0].text).find(word), std::string::npos) << word << " in: " << list[0].text;
    for (const int64_t number : {met, limit})
        EXPECT_NE(std::string(list[0].text).find(std::to_string(number)), std::string::npos) << number << " in: " << list[0].text;
    attn_plan made = nullptr;
    EXPECT_TRUE(failed(attn_plan_create(c, &p, backend, &made), ATTN_REFUSED, {list[0].text}));
}

TEST(Refusals, EveryReasonIsProvoked) {
    for (const int32_t backend : {ATTN_BACKEND_FLASH, ATTN_BACKEND_MEMORY_EFFICIENT}) {
        attn_problem p = problem(70);
        p.dtype = ATTN_FLOAT64;
        {
            const Context c = context();
            const auto list = refusals(c, p, backend);
            ASSERT_EQ(list.size(), 1u);
            EXPECT_EQ(list[0].reason, ATTN_REFUSAL_DTYPE);
            EXPECT_NE(std::string(list[0].text).find("float64"), std::string::npos) << list[0].text;
        }
        p = problem(70);
        p.flags = ATTN_WANT_PROBABILITIES;
        const Context c = context();
        const auto list = refusals(c, p, backend);
        ASSERT_EQ(list.size(), 1u);
        EXPECT_EQ(list[0].reason, ATTN_REFUSAL_PROBABILITIES);
        EXPECT_NE(std::string(list[0].text).find("probabilit"), std::string::npos) << list[0].text;
    }
    attn_problem wide = problem(70, 513);
    wide.value_dim = 64;
    refused(wide, ATTN_BACKEND_FLASH, ATTN_REFUSAL_HEAD_DIM, 513, 512, {});
    wide = problem(70);
    wide.value_dim = 600;
    refused(wide, ATTN_BACKEND_FLASH, ATTN_REFUSAL_VALUE_DIM, 600, 512, {});
    Case apart;
    apart.layout = cases::Layout::transposed_keys, apart.Sk = 90;
    refused(Sample(apart).described(), ATTN_BACKEND_FLASH, ATTN_REFUSAL_LAST_STRIDE, 90, 1, {"stride"});
}

TEST(Refusals, SeveralAtOnceAreAllTold) {
    attn_problem p = problem(70, 700);
    p.flags = ATTN_WANT_PROBABILITIES;
    std::set<int32_t> reasons;
    const Context c = context();
    for (const attn_refusal& r : refusals(c, p, ATTN_BACKEND_FLASH)) reasons.insert(r.reason);
    EXPECT_EQ(reasons, (std::set<int32_t>{ATTN_REFUSAL_PROBABILITIES, ATTN_REFUSAL_HEAD_DIM, ATTN_REFUSAL_VALUE_DIM}));
    uint32_t count = 0;
    EXPECT_TRUE(succeeded(attn_query(c, &p, ATTN_BACKEND_FLASH, nullptr, 0, &count)));
    EXPECT_EQ(count, 3u);
    EXPECT_TRUE(refusals(c, p, ATTN_BACKEND_NAIVE).empty());
}

TEST(Tiles, MapAndCountsAgree) {
    const Context c = context();
    for (const char* name : {"causal", "keep in blocks", "documents", "query lengths", "window"})
        for (const Case& one : cases::named()) {
            if (one.name != name) continue;
            Sample sample(one);
            const Plan p = plan(c, sample.described(), ATTN_BACKEND_FLASH);
            attn_run_args& args = sample.args();
            attn_tiles tiles{};
            tiles.size = sizeof tiles;
            ASSERT_TRUE(succeeded(attn_plan_tiles(p, &args, &tiles)));
            int64_t rows = 0, columns = 0, counts[3] = {};
            ASSERT_TRUE(succeeded(attn_plan_tile_map(p, &args, 0, 0, nullptr, 0, &rows, &columns)));
            ASSERT_EQ(rows, (one.Sq + 63) / 64);
            ASSERT_EQ(columns, (one.Sk + 63) / 64);
            std::vector<uint8_t> map(size_t(rows * columns));
            for (int64_t b = 0; b < one.B; ++b)
                for (int64_t h = 0; h < one.Hq; ++h) {
                    ASSERT_TRUE(succeeded(attn_plan_tile_map(p, &args, b, h, map.data(), map.size(), &rows, &columns)));
                    for (int64_t r = 0; r < rows; ++r)
                        for (int64_t k = 0; k < columns; ++k) {
                            bool any = false, all = true;
                            for (int64_t i = r * 64; i < std::min(one.Sq, (r + 1) * 64); ++i)
                                for (int64_t j = k * 64; j < std::min(one.Sk, (k + 1) * 64); ++j) {
                                    const bool seen = sample.problem.sees(b, h, i, j);
                                    any |= seen, all &= seen;
                                }
                            ASSERT_EQ(map[size_t(r * columns + k)], all ? 2 : any ? 1 : 0) << name << ": " << b << ", " << h << ", " << r << ", " << k;
                            ++counts[all ? 2 : any ? 1 : 0];
                        }
                }
            EXPECT_EQ(tiles.empty, counts[0]) << name;
            EXPECT_EQ(tiles.partial, counts[1]) << name;
            EXPECT_EQ(tiles.full, counts[2]) << name;
            EXPECT_TRUE(failed(attn_plan_tile_map(p, &args, 0, 0, map.data(), map.size() - 1, &rows, &columns), ATTN_INVALID_ARGUMENT, {"capacity"}));
            EXPECT_TRUE(failed(attn_plan_tile_map(p, &args, one.B, 0, nullptr, 0, &rows, &columns), ATTN_INVALID_ARGUMENT, {"batch"}));
            EXPECT_TRUE(failed(attn_plan_tile_map(p, &args, 0, -1, nullptr, 0, &rows, &columns), ATTN_INVALID_ARGUMENT, {"head", "-1"}));
        }
}

TEST(Layout, IsTheCompilersAndHasEveryStructure) {
    std::set<std::string> structures;
    const char *structure, *field;
    uint32_t offset, bytes, size = 0, index = 0;
    for (; attn_layout(index, &structure, &field, &offset, &bytes) == ATTN_OK; ++index) {
        if (!*field) {
            EXPECT_TRUE(structures.insert(structure).second);
            size = bytes;
        }
        EXPECT_LE(offset + bytes, size) << structure << "." << field;
        if (std::string(structure) == "attn_problem" && std::string(field) == "keep_shape") { EXPECT_EQ(offset, offsetof(attn_problem, keep_shape)); }
        if (std::string(structure) == "attn_run_args" && !*field) { EXPECT_EQ(bytes, sizeof(attn_run_args)); }
    }
    EXPECT_TRUE(failed(attn_layout(index, &structure, &field, &offset, &bytes), ATTN_INVALID_ARGUMENT, {"index", std::to_string(index)}));
    EXPECT_EQ(structures,
              (std::set<std::string>{"attn_context_options", "attn_context_info", "attn_cuda_info", "attn_array", "attn_mask_values", "attn_mask_info",
                                     "attn_problem", "attn_refusal", "attn_plan_info", "attn_run_report", "attn_run_args", "attn_tiles", "attn_counters"}));
}

TEST(Library, SaysWhatItIs) {
    EXPECT_EQ(attn_abi_version(), uint32_t(ATTN_ABI_VERSION));
    EXPECT_NE(std::string(attn_build_info()).find("avx2"), std::string::npos);
    int32_t count = -1;
    const char* why = nullptr;
    EXPECT_TRUE(succeeded(attn_device_count(ATTN_DEVICE_CPU, &count, &why)));
    EXPECT_EQ(count, 1);
    EXPECT_TRUE(failed(attn_device_count(5, &count, &why), ATTN_INVALID_ARGUMENT, {"device_type", "5"}));
    attn_context_info i{};
    i.size = sizeof i;
    const Context c = context(2, "generic");
    EXPECT_TRUE(succeeded(attn_context_describe(c, &i)));
    EXPECT_EQ(i.workers, 2);
    EXPECT_EQ(i.instruction_set, std::string("generic"));
    EXPECT_GT(i.memory_total, 0u);
}

} // namespace
