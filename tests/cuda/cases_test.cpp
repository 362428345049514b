// cases_test.cpp — the shared list of cases through the C ABI on a CUDA device, against the reference; small ones, so that the emulator is quick.
#include "gpu.hpp"

namespace cases {
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
} // namespace cases

namespace {

using namespace gpu;
using cases::Case;

// The case as the emulator can run it in a moment, in an element type that turns with its place in the list.
Case small(Case c, size_t turn) {
    c.B = std::min<int64_t>(c.B, 2), c.Sq = std::min<int64_t>(c.Sq, 150), c.Sk = std::min<int64_t>(c.Sk, c.Sq <= 4 ? 1100 : 150);
    if (c.Hq > 4) c.Hq = c.Hq / c.Hkv * std::min<int64_t>(c.Hkv, 2), c.Hkv = std::min<int64_t>(c.Hkv, 2);
    c.D = std::min<int64_t>(c.D, 128), c.Dv = std::min<int64_t>(c.Dv, 128);
    if (c.type == cases::Type::f64) c.type = cases::Type::f32;
    else if (turn % 3) c.type = turn % 3 == 1 ? cases::Type::f16 : cases::Type::bf16;
    for (auto* lengths : {&c.key_lengths, &c.prefix})
        for (int32_t& n : *lengths) n = std::min(n, int32_t(c.Sk));
    for (int32_t& n : c.query_lengths) n = std::min(n, int32_t(c.Sq));
    for (auto* of_batch : {&c.key_lengths, &c.prefix, &c.query_lengths, &c.offsets})
        if (!of_batch->empty()) of_batch->resize(size_t(c.B), of_batch->front());
    return c;
}

// What must be refused, said independently of the library.
bool takes(const Case& c, const attn_problem& p, int32_t backend) {
    if (backend != ATTN_BACKEND_FLASH) return true;
    if (c.type == cases::Type::f32 || c.D > 256 || c.Dv > 256) return false;
    const struct {
        const int64_t* strides;
        int64_t shape[4];
    } all[] = {{p.q_strides, {c.B, c.Hq, c.Sq, c.D}},
               {p.k_strides, {c.B, c.Hkv, c.Sk, c.D}},
               {p.v_strides, {c.B, c.Hkv, c.Sk, c.Dv}},
               {p.o_strides, {c.B, c.Hq, c.Sq, c.Dv}}};
    for (const auto& t : all) {
        if (t.shape[3] > 1 && t.strides[3] != 1) return false;
        for (int d = 0; d < 3; ++d)
            if (t.shape[d] > 1 && t.strides[d] % 8) return false;
    }
    return true;
}

class OnGpu : public ::testing::TestWithParam<size_t> {};

TEST_P(OnGpu, AgreesWithTheReference) {
    static const std::vector<Case> list = cases::list(30);
    const Case c = small(list[GetParam()], GetParam());
    cases::Sample sample(c);
    const reference::Judge judge(sample.problem);
    int turn = int(GetParam());
    for (const int32_t backend : kBackends) {
        const int device = backend == ATTN_BACKEND_FLASH ? turn % 2 : kAmpere;
        const Context context = gpu::context(device);
        const attn_problem described = sample.described();
        SCOPED_TRACE(std::string(name_of(backend)) + ", cuda:" + std::to_string(device) + ", " + c.name);
        const auto refused = refusals(context, described, backend);
        ASSERT_EQ(refused.empty(), takes(c, described, backend)) << (refused.empty() ? "taken" : refused[0].text);
        if (!refused.empty()) continue;
        const Plan p = plan(context, described, backend);
        ASSERT_TRUE(p);
        DeviceSample there(context, device, sample, turn++ % 2);
        there.clear();
        attn_run_report report{};
        report.size = sizeof report;
        there.args.report = &report;
        ASSERT_TRUE(succeeded(attn_run(p, &there.args)));
        there.fetch();
        EXPECT_TRUE(agrees(judge, sample)) << info(p).kernel;
        EXPECT_TRUE(sample.O.gaps_hold(0xff)) << "something was written between the rows of O";
        attn_tiles tiles{};
        tiles.size = sizeof tiles;
        ASSERT_TRUE(succeeded(attn_plan_tiles(p, &there.args, &tiles)));
        if (backend != ATTN_BACKEND_NAIVE) { EXPECT_EQ(report.tiles_visited, tiles.full + tiles.partial) << info(p).kernel; }
        ASSERT_EQ(faults(), "");
    }
}

std::string identifier(const ::testing::TestParamInfo<size_t>& info) {
    static const std::vector<Case> list = cases::list(30);
    std::string name;
    for (const char ch : list[info.param].name) name += std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
    return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, OnGpu, ::testing::Range(size_t(0), cases::list(30).size()), identifier);

} // namespace
