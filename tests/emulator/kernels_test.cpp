// kernels_test.cpp — every row of kernels.def on the shared list of cases, against the double-precision reference: no violation of the execution model, no
// bank conflict, the key blocks visited exactly those in which some query sees some key.
#include <gtest/gtest.h>

#include "../../native/kernels/rows.hpp"
#include "rows.hpp"

namespace {

const bool kFull = std::getenv("ATTENTION_FULL") != nullptr; // every row on every case

class Kernels : public ::testing::TestWithParam<EmulatedRow> {};

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// The case as this row can be asked it: its element type, and for tensor cores rows of whole 16 bytes. Empty where the row refuses it.
std::optional<cases::Case> asked(cases::Case c, const EmulatedRow& row, size_t turn) {
    if (c.type == reference::Type::f64) return {};
    c.type = row.type;
    if (row.tensor_cores) {
        if (turn % 2 && c.D == 64 && c.Dv == 64) c.D = c.Dv = row.D; // the whole width as well as zero-filled
        c.D = up(c.D, 8), c.Dv = up(c.Dv, 8);
        if (c.D > row.D || c.Dv > row.D) return {};
        if (c.layout == cases::Layout::gaps || c.layout == cases::Layout::spread_columns || c.layout == cases::Layout::transposed_keys)
            c.layout = cases::Layout::bshd;
    } else if (c.D > 256 && !kFull) {
        c.Sq = c.Sk = 20; // the emulator is slow
    }
    const bool needs_packing = c.keep != cases::Keep::none || c.documents;
    if (needs_packing && !row.packed) return {};
    const bool plain = (!c.has_scale || c.scale > 0) && c.softcap == 0 && c.bias == cases::Bias::none && !c.alibi;
    if (row.scaled && !plain) return {};
    if (!kFull) c.Sk = std::min<int64_t>(c.Sk, 700), c.B = std::min<int64_t>(c.B, 3);
    for (auto* lengths : {&c.key_lengths, &c.prefix})
        for (int32_t& n : *lengths) n = std::min(n, int32_t(c.Sk));
    for (int32_t& n : c.query_lengths) n = std::min(n, int32_t(c.Sq));
    for (auto* perBatch : {&c.key_lengths, &c.prefix, &c.query_lengths, &c.offsets})
        if (!perBatch->empty()) perBatch->resize(size_t(c.B), perBatch->front());
    return c;
}

TEST_P(Kernels, MeetTheReference) {
    const EmulatedRow& row = GetParam();
    const size_t which = size_t(row.D) + row.name.size() + 3 * size_t(row.type);
    const std::vector<cases::Case> list = cases::list(kFull ? 120 : 40);
    const size_t step = kFull ? 1 : row.D == 32 ? 4 : row.tensor_cores ? 9 : 6; // the narrowest rows take the fewest cases
    size_t ran = 0, met = 0;
    for (size_t at = 0; at < list.size(); ++at) {
        const auto c = asked(list[at], row, at + which);
        if (!c || (met++ + which) % step) continue;
        const int chunk_keys = row.splits && (c->Sq <= 4 || ran % 5 == 4) ? 128 : 0;
        emu::options = {ran % 3 == 2, ran % 2 ? at + 1 : 0};
        SCOPED_TRACE(row.name + ", " + c->name + (chunk_keys ? ", split" : "") + (emu::options.eager ? ", eager" : ""));
        cases::Sample sample(*c);
        const reference::Judge judge(sample.problem);
        Device device(sample);
        emu::reset();
        row.launch(device, chunk_keys);
        ++ran;
        ASSERT_EQ(emu::report.violations, 0u) << emu::report.first;
        const reference::Verdict verdict = device.verdict(judge);
        ASSERT_TRUE(bool(verdict)) << verdict.wrong;
        ASSERT_EQ(emu::stats.bank_conflicts, 0u);
        if (!row.block_m || c->B == 0 || c->Hq == 0) continue;
        ASSERT_EQ(device.visited(), device.blocks_seen(row.block_m, row.block_n));
        if (row.mma_of_tile) { ASSERT_EQ(emu::stats.mma, device.visited() * row.mma_of_tile); }
    }
    EXPECT_GE(ran, kFull ? 40u : 4u);
    RecordProperty("cases", int(ran));
}

std::string name_of(const ::testing::TestParamInfo<EmulatedRow>& info) {
    std::string name = info.param.name + (info.param.type == reference::Type::f16 ? " fp16" : info.param.type == reference::Type::bf16 ? " bf16" : " f32");
    for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
    return name;
}
INSTANTIATE_TEST_SUITE_P(Rows, Kernels, ::testing::ValuesIn(emulated_rows()), name_of);

TEST(Rows, AreAllEmulated) { // all but the merge and the mask pass, which run with the others
    size_t listed = 0;
    for (const kernels::Row& row : kernels::rows()) listed += row.file != "merge.cuh" && row.file != "mask_tiles.cuh";
    EXPECT_EQ(emulated_rows().size(), listed);
    EXPECT_LE(kernels::rows().size(), kernels::kMostRows);
}

} // namespace
