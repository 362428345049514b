// backends_test.cpp — every case x every backend x every instruction set of this machine, against the reference.
#include <gtest/gtest.h>

#include "run.hpp"

namespace cases {
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
} // namespace cases

namespace {

using namespace handles;
using cases::Case;
using cases::Layout;
using cases::Sample;

class Backends : public ::testing::TestWithParam<Case> {};

// What the refusals of the case list must be, said independently of the library.
bool takes(const Case& c, int32_t backend) {
    if (backend == ATTN_BACKEND_NAIVE) return true;
    if (c.type == cases::Type::f64) return false;
    if (backend == ATTN_BACKEND_MEMORY_EFFICIENT) return true;
    const bool apart = c.layout == Layout::spread_columns && (c.D > 1 || c.Dv > 1), transposed = c.layout == Layout::transposed_keys && c.D > 1 && c.Sk != 1;
    return !apart && !transposed && c.D <= 512 && c.Dv <= 512;
}

TEST_P(Backends, AgreesWithTheReference) {
    Sample sample(GetParam());
    const reference::Judge judge(sample.problem);
    static const std::vector<std::string> sets = instruction_sets();
    for (const std::string& isa : sets) {
        const Context c = context(2, isa.c_str());
        for (const int32_t backend : kBackends) {
            SCOPED_TRACE(std::string(name_of(backend)) + ", " + isa);
            if (backend == ATTN_BACKEND_NAIVE && isa != sets.front()) continue; // the same code
            const attn_problem described = sample.described();
            ASSERT_EQ(refusals(c, described, backend).empty(), takes(GetParam(), backend));
            if (!takes(GetParam(), backend)) continue;
            const Plan p = plan(c, described, backend);
            ASSERT_TRUE(p);
            sample.clear_output();
            attn_run_args& args = sample.args();
            attn_run_report report{};
            report.size = sizeof report;
            args.report = &report;
            ASSERT_TRUE(succeeded(attn_run(p, &args)));
            EXPECT_TRUE(agrees(judge, sample));
            EXPECT_TRUE(sample.O.gaps_hold(0xff)) << "something was written between the rows of O";
            attn_tiles tiles{};
            tiles.size = sizeof tiles;
            ASSERT_TRUE(succeeded(attn_plan_tiles(p, &args, &tiles)));
            EXPECT_EQ(report.tiles_visited, tiles.full + tiles.partial)
                << "of " << tiles.full << " full, " << tiles.partial << " partial and " << tiles.empty << " empty tiles";
        }
    }
}

std::string identifier(const ::testing::TestParamInfo<Case>& info) {
    std::string name;
    for (const char ch : info.param.name) name += std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
    return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, Backends, ::testing::ValuesIn(cases::list()), identifier);

} // namespace
