// arguments_test.cpp — bad arguments of every kind: the status, a sentence that names parameter, value and what was allowed, and nothing written.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Case;
using cases::Sample;

// A problem with everything in it: lengths, prefix, keep, bias, ALiBi, offsets for each batch.
Case rich() {
    Case c;
    c.name = "rich";
    c.B = 2, c.Hq = 4, c.Hkv = 2, c.Sq = 10, c.Sk = 20, c.D = 8, c.Dv = 8;
    c.key_lengths = {20, 10}, c.query_lengths = {10, 5}, c.prefix = {3, 4}, c.documents = 2, c.keep = cases::Keep::half, c.bias = cases::Bias::normal;
    c.left = 15, c.right = 15, c.alibi = true, c.offset_kind = reference::Offset::per_batch, c.offsets = {1, 2};
    return c;
}

struct Bad {
    const char* what;
    std::function<void(attn_problem&)> change;
    attn_status status;
    std::initializer_list<std::string> words;
};

TEST(Arguments, ProblemsThatCannotBe) {
    const double nan = std::nan("");
    const float inf = std::numeric_limits<float>::infinity();
    const Bad all[] = {
        {"size", [](auto& p) { p.size = 8; }, ATTN_INVALID_ARGUMENT, {"problem.size", "8", std::to_string(sizeof(attn_problem))}},
        {"huge size", [](auto& p) { p.size = 1u << 30; }, ATTN_INVALID_ARGUMENT, {"problem.size", "1073741824"}},
        {"dtype", [](auto& p) { p.dtype = 5; }, ATTN_INVALID_ARGUMENT, {"problem.dtype", "5", "float32"}},
        {"flags", [](auto& p) { p.flags |= 1u << 20; }, ATTN_NOT_SUPPORTED, {"problem.flags", "0x1000"}},
        {"mask kinds", [](auto& p) { p.mask_kinds |= 256; }, ATTN_NOT_SUPPORTED, {"problem.mask_kinds", "0x"}},
        {"terms", [](auto& p) { p.terms |= 8; }, ATTN_NOT_SUPPORTED, {"problem.terms", "0xb"}},
        {"offset kind", [](auto& p) { p.offset_kind = 4; }, ATTN_INVALID_ARGUMENT, {"problem.offset_kind", "4", "0..3"}},
        {"batch", [](auto& p) { p.batch = -1; }, ATTN_INVALID_ARGUMENT, {"problem.batch", "-1", "0.."}},
        {"queries", [](auto& p) { p.queries = int64_t(1) << 40; }, ATTN_INVALID_ARGUMENT, {"problem.queries", "1099511627776"}},
        {"keys", [](auto& p) { p.keys = -7; }, ATTN_INVALID_ARGUMENT, {"problem.keys", "-7"}},
        {"head_dim", [](auto& p) { p.head_dim = 0; }, ATTN_INVALID_ARGUMENT, {"problem.head_dim", "0", "1.."}},
        {"value_dim", [](auto& p) { p.value_dim = -2; }, ATTN_INVALID_ARGUMENT, {"problem.value_dim", "-2", "1.."}},
        {"heads", [](auto& p) { p.query_heads = 5; }, ATTN_INVALID_ARGUMENT, {"query_heads", "5", "key_heads", "2", "multiple"}},
        {"no key heads", [](auto& p) { p.key_heads = 0; }, ATTN_INVALID_ARGUMENT, {"key_heads", "0"}},
        {"scale NaN", [=](auto& p) { p.flags |= ATTN_HAS_SCALE, p.scale = float(nan); }, ATTN_INVALID_ARGUMENT, {"problem.scale", "nan", "finite"}},
        {"scale infinite", [=](auto& p) { p.flags |= ATTN_HAS_SCALE, p.scale = -inf; }, ATTN_INVALID_ARGUMENT, {"problem.scale", "-inf", "finite"}},
        {"softcap negative", [](auto& p) { p.softcap = -1; }, ATTN_INVALID_ARGUMENT, {"problem.softcap", "-1", "positive"}},
        {"softcap NaN", [=](auto& p) { p.softcap = float(nan); }, ATTN_INVALID_ARGUMENT, {"problem.softcap", "nan"}},
        {"prefix and causal", [](auto& p) { p.mask_kinds |= ATTN_MASK_CAUSAL; }, ATTN_INVALID_ARGUMENT, {"prefix", "causal"}},
        {"keep shape", [](auto& p) { p.keep_shape[3] = 19; }, ATTN_INVALID_ARGUMENT, {"keep_shape[3]", "keys", "19", "1 or 20"}},
        {"bias shape", [](auto& p) { p.bias_shape[1] = 2; }, ATTN_INVALID_ARGUMENT, {"bias_shape[1]", "heads", "2", "1 or 4"}},
        {"bias dtype", [](auto& p) { p.bias_dtype = ATTN_BFLOAT16; }, ATTN_INVALID_ARGUMENT, {"bias_dtype", "bfloat16", "float32"}},
        {"overlapping output", [](auto& p) { p.o_strides[2] = 3; }, ATTN_INVALID_ARGUMENT, {"o_strides", "3", "overlap"}},
        {"broadcast output", [](auto& p) { p.o_strides[1] = 0; }, ATTN_INVALID_ARGUMENT, {"o_strides[1]", "0", "overlap"}},
        {"overflowing strides", [](auto& p) { p.k_strides[0] = INT64_MAX / 2; }, ATTN_INVALID_ARGUMENT, {"k", "overflow"}},
        {"overflowing sizes",
         [](auto& p) { p.flags &= ~uint32_t(ATTN_HAS_STRIDES), p.batch = p.queries = p.head_dim = INT32_MAX; },
         ATTN_INVALID_ARGUMENT,
         {"overflow"}},
        {"packed sequences", [](auto& p) { p.packed_sequences = 1; }, ATTN_NOT_SUPPORTED, {"packed_sequences", "not built yet"}},
        {"pages", [](auto& p) { p.page_size = 16; }, ATTN_NOT_SUPPORTED, {"page_size", "not built yet"}},
        {"sinks", [](auto& p) { p.sinks = 1; }, ATTN_NOT_SUPPORTED, {"sinks", "not built yet"}},
        {"dropout", [](auto& p) { p.dropout = 0.1f; }, ATTN_NOT_SUPPORTED, {"dropout", "not built yet"}},
        {"dropout NaN", [=](auto& p) { p.dropout = float(nan); }, ATTN_NOT_SUPPORTED, {"dropout", "not built yet"}},
        {"input scales", [](auto& p) { p.input_scales = 1; }, ATTN_NOT_SUPPORTED, {"input_scales", "not built yet"}},
        {"output dtype", [](auto& p) { p.output_dtype = 1; }, ATTN_NOT_SUPPORTED, {"output_dtype", "not built yet"}},
        {"score function", [](auto& p) { p.score_function = 1; }, ATTN_NOT_SUPPORTED, {"score_function", "not built yet"}},
        {"direction", [](auto& p) { p.direction = 1; }, ATTN_NOT_SUPPORTED, {"direction", "backward"}},
    };
    const Context c = context();
    const Sample sample(rich());
    for (const Bad& bad : all) {
        SCOPED_TRACE(bad.what);
        attn_problem p = sample.described();
        bad.change(p);
        attn_plan made = nullptr;
        EXPECT_TRUE(failed(attn_plan_create(c, &p, ATTN_BACKEND_MEMORY_EFFICIENT, &made), bad.status, bad.words));
        EXPECT_EQ(made, nullptr);
        uint32_t count = 77;
        EXPECT_EQ(attn_query(c, &p, ATTN_BACKEND_MEMORY_EFFICIENT, nullptr, 0, &count), bad.status);
        EXPECT_EQ(count, 77u);
    }
}

TEST(Arguments, AFieldOfALaterVersionIsRefused) {
    const Context c = context();
    struct Later {
        attn_problem known;
        uint32_t more[4];
    } later{Sample(rich()).described(), {}};
    later.known.size = sizeof later;
    attn_plan made = nullptr;
    EXPECT_TRUE(succeeded(attn_plan_create(c, &later.known, ATTN_BACKEND_NAIVE, &made)));
    EXPECT_TRUE(succeeded(attn_plan_destroy(made)));
    later.more[2] = 1;
    EXPECT_TRUE(failed(attn_plan_create(c, &later.known, ATTN_BACKEND_NAIVE, &made), ATTN_NOT_SUPPORTED, {"problem", "does not know"}));
}

struct BadRun {
    const char* what;
    std::function<void(Sample&, attn_run_args&)> change;
    attn_status status;
    std::initializer_list<std::string> words;
};
attn_array kept[8]; // what a changed call points to
attn_array& changed(const attn_array*& at, int slot = 0) {
    kept[slot] = *at;
    at = &kept[slot];
    return kept[slot];
}
attn_mask_values values;
attn_mask_values& changed(const attn_mask_values*& at) {
    values = *at;
    at = &values;
    return values;
}

TEST(Arguments, RunsThatCannotBe) {
    const BadRun all[] = {
        {"no q", [](auto&, auto& a) { a.q = nullptr; }, ATTN_INVALID_ARGUMENT, {"q", "null"}},
        {"no data", [](auto&, auto& a) { changed(a.v).data = nullptr; }, ATTN_INVALID_ARGUMENT, {"v.data", "null"}},
        {"size", [](auto&, auto& a) { a.size = 4; }, ATTN_INVALID_ARGUMENT, {"args.size", "4"}},
        {"array size", [](auto&, auto& a) { changed(a.k).size = 0; }, ATTN_INVALID_ARGUMENT, {"k.size", "0"}},
        {"dtype", [](auto&, auto& a) { changed(a.k).dtype = ATTN_FLOAT16; }, ATTN_INVALID_ARGUMENT, {"k", "float16", "float32"}},
        {"no dtype", [](auto&, auto& a) { changed(a.k).dtype = 99; }, ATTN_INVALID_ARGUMENT, {"k.dtype", "99", "1..6"}},
        {"rank", [](auto&, auto& a) { changed(a.q).rank = 3; }, ATTN_INVALID_ARGUMENT, {"q", "3", "4"}},
        {"rank 0", [](auto&, auto& a) { changed(a.q).rank = 0; }, ATTN_INVALID_ARGUMENT, {"q.rank", "0", "1..4"}},
        {"shape", [](auto&, auto& a) { changed(a.q).shape[2] = 11; }, ATTN_INVALID_ARGUMENT, {"q.shape[2]", "11", "10"}},
        {"negative shape", [](auto&, auto& a) { changed(a.q).shape[2] = -1; }, ATTN_INVALID_ARGUMENT, {"q.shape[2]", "-1"}},
        {"strides", [](auto&, auto& a) { changed(a.k).strides[2] += 1; }, ATTN_INVALID_ARGUMENT, {"k.strides[2]", "9", "8"}},
        {"wrong device", [](auto&, auto& a) { changed(a.q).device_type = ATTN_DEVICE_CUDA; }, ATTN_INVALID_ARGUMENT, {"q", "cuda:0", "cpu:0"}},
        {"device ordinal", [](auto&, auto& a) { changed(a.q).device = 3; }, ATTN_INVALID_ARGUMENT, {"q", "cpu:3", "cpu:0"}},
        {"misaligned",
         [](auto&, auto& a) {
             auto& q = changed(a.q);
             q.data = static_cast<char*>(q.data) + 1;
         },
         ATTN_INVALID_ARGUMENT,
         {"q.data", "multiple of 4"}},
        {"output is input", [](auto& s, auto& a) { changed(a.o).data = s.Q.bytes.data(); }, ATTN_INVALID_ARGUMENT, {"q", "o", "overlap"}},
        {"output over V", [](auto& s, auto& a) { changed(a.o).data = s.V.bytes.data() + 32; }, ATTN_INVALID_ARGUMENT, {"v", "o", "overlap"}},
        {"LSE over O", [](auto& s, auto& a) { changed(a.lse).data = s.O.bytes.data(); }, ATTN_INVALID_ARGUMENT, {"lse", "overlap"}},
        {"LSE over bias", [](auto& s, auto& a) { changed(a.lse).data = s.bias.bytes.data(); }, ATTN_INVALID_ARGUMENT, {"lse", "bias", "overlap"}},
        {"no LSE", [](auto&, auto& a) { a.lse = nullptr; }, ATTN_INVALID_ARGUMENT, {"lse", "null"}},
        {"LSE of another shape", [](auto&, auto& a) { changed(a.lse).shape[1] = 3; }, ATTN_INVALID_ARGUMENT, {"lse.shape[1]", "3", "4"}},
        {"LSE float16", [](auto&, auto& a) { changed(a.lse).dtype = ATTN_FLOAT16; }, ATTN_INVALID_ARGUMENT, {"lse", "float16", "float32"}},
        {"P unasked", [](auto&, auto& a) { a.probabilities = a.lse; }, ATTN_INVALID_ARGUMENT, {"probabilities", "without"}},
        {"no mask", [](auto&, auto& a) { a.mask = nullptr; }, ATTN_INVALID_ARGUMENT, {"mask", "none", "key_lengths"}},
        {"other kinds",
         [](auto&, auto& a) {
             auto& m = changed(a.mask);
             m.kinds &= ~uint32_t(ATTN_MASK_KEEP), m.keep = nullptr;
         },
         ATTN_INVALID_ARGUMENT,
         {"mask", "keep"}},
        {"unnamed kind", [](auto&, auto& a) { changed(a.mask).kinds &= ~uint32_t(ATTN_MASK_KEEP); }, ATTN_INVALID_ARGUMENT, {"mask.keep", "given"}},
        {"unknown kind", [](auto&, auto& a) { changed(a.mask).kinds |= 1024; }, ATTN_NOT_SUPPORTED, {"mask.kinds"}},
        {"window", [](auto&, auto& a) { changed(a.mask).window_left = -2; }, ATTN_INVALID_ARGUMENT, {"window_left", "-2", "-1"}},
        {"window right", [](auto&, auto& a) { changed(a.mask).window_right = -5; }, ATTN_INVALID_ARGUMENT, {"window_right", "-5", "-1"}},
        {"length too long", [](auto& s, auto&) { s.problem.key_lengths[1] = 21; }, ATTN_INVALID_ARGUMENT, {"key_lengths[1]", "21", "0..20"}},
        {"length negative", [](auto& s, auto&) { s.problem.query_lengths[0] = -1; }, ATTN_INVALID_ARGUMENT, {"query_lengths[0]", "-1", "0..10"}},
        {"prefix too long", [](auto& s, auto&) { s.problem.prefix[0] = 99; }, ATTN_INVALID_ARGUMENT, {"prefix[0]", "99", "0..20"}},
        {"lengths of another batch",
         [](auto&, auto& a) { changed(changed(a.mask).key_lengths).shape[0] = 3; },
         ATTN_INVALID_ARGUMENT,
         {"key_lengths.shape[0]", "3", "2"}},
        {"lengths int8",
         [](auto&, auto& a) { changed(changed(a.mask).key_lengths).dtype = ATTN_UINT8; },
         ATTN_INVALID_ARGUMENT,
         {"key_lengths", "uint8", "int32"}},
        {"documents of another length",
         [](auto&, auto& a) { changed(changed(a.mask).k_documents).shape[1] = 19; },
         ATTN_INVALID_ARGUMENT,
         {"k_documents.shape[1]", "19", "20"}},
        {"keep float", [](auto&, auto& a) { changed(changed(a.mask).keep).dtype = ATTN_FLOAT32; }, ATTN_INVALID_ARGUMENT, {"keep", "float32", "uint8"}},
        {"keep of another shape", [](auto&, auto& a) { changed(changed(a.mask).keep).shape[2] = 1; }, ATTN_INVALID_ARGUMENT, {"keep", "2", "1", "10"}},
        {"no bias", [](auto&, auto& a) { a.bias = nullptr; }, ATTN_INVALID_ARGUMENT, {"bias", "null"}},
        {"bias dtype", [](auto&, auto& a) { changed(a.bias).dtype = ATTN_FLOAT16; }, ATTN_INVALID_ARGUMENT, {"bias", "float16", "float32"}},
        {"bias of another shape", [](auto&, auto& a) { changed(a.bias).shape[3] = 1; }, ATTN_INVALID_ARGUMENT, {"bias", "3", "1", "20"}},
        {"no slopes", [](auto&, auto& a) { a.alibi_slopes = nullptr; }, ATTN_INVALID_ARGUMENT, {"alibi_slopes", "null"}},
        {"slopes of other heads", [](auto&, auto& a) { changed(a.alibi_slopes).shape[0] = 2; }, ATTN_INVALID_ARGUMENT, {"alibi_slopes.shape[0]", "2", "4"}},
        {"no offsets", [](auto&, auto& a) { a.offsets = nullptr; }, ATTN_INVALID_ARGUMENT, {"offsets", "null"}},
        {"an offset too", [](auto&, auto& a) { a.offset = 5; }, ATTN_INVALID_ARGUMENT, {"args.offset", "5"}},
        {"misaligned workspace", [](auto& s, auto& a) { a.workspace = s.lse.data() + 1, a.workspace_bytes = 1u << 20; }, ATTN_INVALID_ARGUMENT, {"workspace"}},
        {"reserved", [](auto&, auto& a) { a.reserved = 1; }, ATTN_NOT_SUPPORTED, {"reserved", "1"}},
        {"reserved of the report",
         [](auto&, auto& a) {
             static attn_run_report report;
             report = {sizeof report, 3, 0, 0};
             a.report = &report;
         },
         ATTN_NOT_SUPPORTED,
         {"args.report.reserved", "3", "0 is allowed"}},
        {"stale stream", [](auto&, auto& a) { a.stream = reinterpret_cast<attn_stream>(0x1234567800000001); }, ATTN_INVALID_HANDLE, {"args.stream", "stream"}},
    };
    const Context c = context();
    for (const BadRun& bad : all) {
        SCOPED_TRACE(bad.what);
        Sample sample(rich());
        const Plan p = plan(c, sample.described(), ATTN_BACKEND_NAIVE);
        ASSERT_TRUE(succeeded(attn_run(p, &sample.args())));
        sample.clear_output();
        const auto before = sample.O.bytes;
        attn_run_args& args = sample.args();
        bad.change(sample, args);
        EXPECT_TRUE(failed(attn_run(p, &args), bad.status, bad.words));
        EXPECT_EQ(sample.O.bytes, before) << "something was written";
    }
}

TEST(Arguments, ReservedSeatsOfWhatIsAskedFor) {
    const Context c = context();
    Sample sample(rich());
    const Plan p = plan(c, sample.described(), ATTN_BACKEND_NAIVE);
    attn_tiles tiles{};
    tiles.size = sizeof tiles, tiles.reserved = 7;
    EXPECT_TRUE(failed(attn_plan_tiles(p, &sample.args(), &tiles), ATTN_NOT_SUPPORTED, {"tiles.reserved", "7", "0 is allowed"}));
    attn_counters counters{};
    counters.size = sizeof counters, counters.reserved = 9;
    EXPECT_TRUE(failed(attn_counters_read(&counters), ATTN_NOT_SUPPORTED, {"counters.reserved", "9", "0 is allowed"}));
}

TEST(Arguments, NegativeLengthsOfAMaskToPrepare) {
    const Context c = context();
    const auto prepare = [&](auto&& change) {
        Case what = rich();
        change(what);
        Sample sample(what);
        attn_mask made = nullptr;
        const attn_status status = attn_mask_prepare(c, &sample.mask_values(), &made);
        EXPECT_EQ(made, nullptr);
        return status;
    };
    EXPECT_TRUE(failed(prepare([](Case& x) { x.key_lengths[1] = -4; }), ATTN_INVALID_ARGUMENT, {"mask.key_lengths[1]", "-4", "0 or more"}));
    EXPECT_TRUE(failed(prepare([](Case& x) { x.query_lengths[0] = -1; }), ATTN_INVALID_ARGUMENT, {"mask.query_lengths[0]", "-1", "0 or more"}));
    EXPECT_TRUE(failed(prepare([](Case& x) { x.prefix[0] = INT32_MIN; }), ATTN_INVALID_ARGUMENT, {"mask.prefix[0]", "-2147483648", "0 or more"}));
}

TEST(Arguments, ContextsThatCannotBe) {
    const auto create = [](auto&& change) {
        attn_context_options o{};
        o.size = sizeof o;
        change(o);
        attn_context c = nullptr;
        const attn_status status = attn_context_create(&o, &c);
        EXPECT_EQ(c, nullptr);
        return status;
    };
    EXPECT_TRUE(failed(create([](auto& o) { o.workers = -1; }), ATTN_INVALID_ARGUMENT, {"workers", "-1", "1024"}));
    EXPECT_TRUE(failed(create([](auto& o) { o.workers = 1025; }), ATTN_INVALID_ARGUMENT, {"workers", "1025", "1024"}));
    EXPECT_TRUE(failed(create([](auto& o) { o.device_type = 7; }), ATTN_INVALID_ARGUMENT, {"device_type", "7"}));
    EXPECT_TRUE(failed(create([](auto& o) { o.device = 1; }), ATTN_INVALID_ARGUMENT, {"device", "1"}));
    EXPECT_TRUE(failed(create([](auto& o) { o.size = 3; }), ATTN_INVALID_ARGUMENT, {"options.size", "3"}));
    EXPECT_TRUE(failed(attn_context_create(nullptr, nullptr), ATTN_INVALID_ARGUMENT, {"context", "null"}));
    setenv("ATTENTION_CPU", "mmx", 1);
    attn_context c = nullptr;
    EXPECT_TRUE(failed(attn_context_create(nullptr, &c), ATTN_INVALID_ARGUMENT, {"ATTENTION_CPU", "mmx", "avx2"}));
    unsetenv("ATTENTION_CPU");
}

TEST(Arguments, BackendsAndListsThatCannotBe) {
    const Context c = context();
    const attn_problem p = Sample(rich()).described();
    attn_plan made = nullptr;
    uint32_t count = 0;
    EXPECT_TRUE(failed(attn_plan_create(c, &p, 9, &made), ATTN_INVALID_ARGUMENT, {"backend", "9", "flash"}));
    EXPECT_TRUE(failed(attn_query(c, &p, 0, nullptr, 0, &count), ATTN_INVALID_ARGUMENT, {"backend", "0"}));
    EXPECT_TRUE(failed(attn_query(c, &p, 1, nullptr, 3, &count), ATTN_INVALID_ARGUMENT, {"refusals", "3"}));
    EXPECT_TRUE(failed(attn_plan_create(c, nullptr, 1, &made), ATTN_INVALID_ARGUMENT, {"problem", "null"}));
    EXPECT_TRUE(failed(attn_plan_create(c, &p, 1, nullptr), ATTN_INVALID_ARGUMENT, {"plan", "null"}));
}

} // namespace
