// kernels_test.cpp — every row of kernels.def on the shared list of cases, against the double-precision reference: no violation of the execution model, no
// bank conflict, the key blocks read and visited exactly those in which some query sees some key, and tested exactly those of them that hide something.
#include <gtest/gtest.h>

#include <ostream>

#include "../../native/kernels/rows.hpp"
#include "rows.hpp"

void PrintTo(const EmulatedRow& row, std::ostream* out) { *out << row.name; }

namespace {

const bool kFull = std::getenv("ATTENTION_FULL") != nullptr; // every row on every case, in several orders

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// The case as this row can be asked it: its element type, and for tensor cores rows of whole 16 bytes. Empty where the row refuses it.
std::optional<cases::Case> asked(cases::Case c, const EmulatedRow& row, size_t turn) {
    if (c.type == reference::Type::f64) return {};
    c.type = row.type;
    if (row.tensor_cores) {
        if (turn % 2 && c.D == 64 && c.Dv == 64) c.D = c.Dv = row.D; // the whole width as well as zero-filled
        if (c.layout != cases::Layout::aligned_gaps || row.name.rfind("flash_sm90", 0) == 0) c.D = up(c.D, 8), c.Dv = up(c.Dv, 8);
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

const std::vector<EmulatedRow>& all_rows() {
    static const std::vector<EmulatedRow> rows = emulated_rows();
    return rows;
}
const std::vector<cases::Case>& all_cases() {
    static const std::vector<cases::Case> list = cases::list(kFull ? 120 : 40);
    return list;
}
std::string family_of(const EmulatedRow& row) { return row.name.substr(0, row.name.find(' ')); }

// The cases that a row runs: in full all it takes; every day the rows of a kernel deal the cases out among those of them that take it, and each row has four.
std::vector<size_t> share_of(const EmulatedRow& row) {
    std::vector<size_t> share, rest;
    for (size_t at = 0; at < all_cases().size(); ++at) {
        size_t takers = 0, mine = SIZE_MAX;
        for (const EmulatedRow& other : all_rows()) {
            if (family_of(other) != family_of(row) || !asked(all_cases()[at], other, at)) continue;
            if (other.name == row.name && other.type == row.type) mine = takers;
            ++takers;
        }
        if (mine == SIZE_MAX) continue;
        const size_t players = row.tensor_cores ? (takers + 1) / 2 : takers; // a case goes to two of the rows with tensor cores, to one of the others
        (kFull || mine % players == at % players ? share : rest).push_back(at);
    }
    for (size_t i = 0; i < rest.size() && share.size() < 4; ++i) share.push_back(rest[(i + size_t(row.D)) % rest.size()]);
    return share;
}

// Runs the case and says what is wrong; `bits`: what must come out, or empty to learn it.
void run(const EmulatedRow& row, const cases::Case& c, Device& device, const reference::Judge& judge, int chunk_keys, const emu::Options& way,
         std::vector<unsigned char>& bits) {
    emu::options = way;
    SCOPED_TRACE(row.name + ", " + c.name + (chunk_keys ? ", split" : "") + (device.heads_as_rows ? ", heads as rows" : "") + (way.eager ? ", eager" : "") +
                 ", lane order " + std::to_string(way.seed));
    ASSERT_EQ(run_and_judge(row, device, judge, chunk_keys), "");
    if (bits.empty()) bits = device.output();
    ASSERT_EQ(bits, device.output()) << "other bits than the first time";
}

class Kernels : public ::testing::TestWithParam<EmulatedRow> {};

TEST_P(Kernels, MeetTheReference) {
    const EmulatedRow& row = GetParam();
    size_t ran = 0;
    for (const size_t at : share_of(row)) {
        const cases::Case c = *asked(all_cases()[at], row, at);
        const int chunk_keys = row.splits && (c.Sq <= 4 || ran % 5 == 4) ? 128 : 0;
        // As late as legal and at once, lanes in order and in others; in full all of them, and the same bits each time.
        std::vector<emu::Options> ways{{false, 0}, {true, at + 1}, {false, at + 1000}};
        if (!kFull) ways = {ways[ran % 3]};
        ++ran;
        cases::Sample sample(c);
        const reference::Judge judge(sample.problem);
        Device device(sample);
        std::vector<unsigned char> bits;
        for (const emu::Options& way : ways) {
            device.cancellable = way.eager;
            run(row, c, device, judge, chunk_keys, way, bits);
            if (HasFatalFailure()) return;
        }
    }
    EXPECT_GE(ran, 4u);
    RecordProperty("cases", int(ran));
}

TEST_P(Kernels, DoNothingOnceGivenUp) {
    const EmulatedRow& row = GetParam();
    const cases::Case c = *asked(all_cases()[share_of(row)[0]], row, share_of(row)[0]);
    cases::Sample sample(c);
    Device device(sample);
    device.clear();
    const std::vector<unsigned char> before = device.output();
    device.cancel();
    emu::options = {}, emu::reset();
    row.launch(device, row.splits ? 128 : 0);
    EXPECT_EQ(emu::report.violations, 0u) << emu::report.first;
    EXPECT_EQ(device.visited(), 0u);
    EXPECT_EQ(device.output(), before);
}

// One query of grouped heads: the heads of a group as rows of a tile, with what differs by batch, by head and by key.
class GroupedHeads : public ::testing::TestWithParam<EmulatedRow> {};
TEST_P(GroupedHeads, AreRowsOfATile) {
    const EmulatedRow& row = GetParam();
    cases::Case cache;
    cache.name = "a cache", cache.B = 3, cache.Hq = 8, cache.Hkv = 2, cache.Sq = 1, cache.Sk = 300, cache.key_lengths = {300, 0, 77}, cache.causal = true;
    cache.offset_kind = reference::Offset::bottom_right;
    std::vector<cases::Case> list{cache};
    const auto add = [&](const char* name, auto&& f) { list.push_back(cache.but(name, f)); };
    add("a window, a query of padding", [](cases::Case& c) {
        c.left = 70, c.query_lengths = {1, 1, 0}, c.layout = cases::Layout::bshd, c.key_lengths = {300, 300, 77};
    });
    add("a prefix, all heads in one group", [](cases::Case& c) { c.causal = false, c.prefix = {200, 5, 70}, c.Hkv = 1, c.Hq = 5, c.Dv = 32; });
    add("a keep for each head", [](cases::Case& c) { c.keep = cases::Keep::half; });
    add("a keep for all heads, documents", [](cases::Case& c) { c.keep = cases::Keep::blocks, c.keep_dims = cases::kBatch | cases::kKey, c.documents = 2; });
    add("documents", [](cases::Case& c) { c.documents = 3; });
    add("a bias for each head, softcap, a negative scale",
        [](cases::Case& c) { c.bias = cases::Bias::hiding, c.softcap = 10, c.has_scale = true, c.scale = -0.3f; });
    size_t ran = 0;
    for (size_t at = 0; at < list.size(); ++at) {
        auto c = asked(list[at], row, at);
        if (!c && row.D == 32) list[at].D = list[at].Dv = 32, c = asked(list[at], row, at);
        if (!c) continue;
        cases::Sample sample(*c);
        const reference::Judge judge(sample.problem);
        Device device(sample);
        device.heads_as_rows = true;
        std::vector<unsigned char> bits;
        run(row, *c, device, judge, ran % 2 ? 0 : 128, {ran % 3 == 1, at}, bits);
        if (HasFatalFailure()) return;
        ++ran;
    }
    EXPECT_GE(ran, 3u);
}

std::string name_of(const ::testing::TestParamInfo<EmulatedRow>& info) {
    std::string name = info.param.name + (info.param.type == reference::Type::f16 ? " fp16" : info.param.type == reference::Type::bf16 ? " bf16" : " f32");
    for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
    return name;
}
INSTANTIATE_TEST_SUITE_P(Rows, Kernels, ::testing::ValuesIn(all_rows()), name_of);
std::vector<EmulatedRow> splitting_rows() {
    std::vector<EmulatedRow> rows;
    for (const EmulatedRow& row : all_rows())
        if (row.splits) rows.push_back(row);
    return rows;
}
INSTANTIATE_TEST_SUITE_P(Rows, GroupedHeads, ::testing::ValuesIn(splitting_rows()), name_of);

TEST(Rows, AreAllEmulated) { // all but the merge and the mask pass, which run with the others
    size_t listed = 0;
    for (const kernels::Row& row : kernels::rows()) listed += row.file != "merge.cuh" && row.file != "mask_tiles.cuh";
    EXPECT_EQ(all_rows().size(), listed);
    EXPECT_LE(kernels::rows().size(), kernels::kMostRows);
}
TEST(Rows, ShareEveryCase) { // what some row of a kernel takes, some row of it runs
    std::map<std::string, std::vector<bool>> taken, ran;
    for (const EmulatedRow& row : all_rows()) {
        auto &t = taken[family_of(row)], &r = ran[family_of(row)];
        t.resize(all_cases().size()), r.resize(all_cases().size());
        for (size_t at = 0; at < all_cases().size(); ++at)
            if (asked(all_cases()[at], row, at)) t[at] = true;
        for (const size_t at : share_of(row)) r[at] = true;
    }
    EXPECT_EQ(taken.size(), 4u);
    EXPECT_EQ(taken, ran);
}

} // namespace
