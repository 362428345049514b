// properties_test.cpp — what must hold bit for bit between runs that ask the same question in different words.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Bias;
using cases::Case;
using cases::Keep;
using cases::Layout;
using cases::Sample;
using cases::Tensor;
using cases::Type;
using reference::kInfinity;
using reference::Offset;

template <class F>
Case make(const char* name, F&& f) {
    return Case{}.but(name, f);
}
std::vector<Case> shapes() { // what every kernel meets: one query, few, many; parts of blocks; 16-bit
    return {make("many queries", [](Case& c) { c.B = 3, c.Hq = 4, c.Hkv = 2, c.Sq = 150, c.Sk = 330, c.causal = true, c.offset_kind = Offset::bottom_right; }),
            make("one query", [](Case& c) { c.B = 3, c.Hq = 8, c.Hkv = 2, c.Sq = 1, c.Sk = 1300; }),
            make("five queries", [](Case& c) { c.B = 3, c.Hq = 4, c.Hkv = 2, c.Sq = 5, c.Sk = 700, c.D = 48, c.Dv = 80; }),
            make("float16", [](Case& c) { c.B = 3, c.Hq = c.Hkv = 3, c.Sq = 90, c.Sk = 200, c.type = Type::f16; }),
            make("bfloat16, one query", [](Case& c) { c.B = 3, c.Hq = 4, c.Hkv = 1, c.Sq = 1, c.Sk = 600, c.type = Type::bf16; })};
}

// Copies the elements of one tensor to another of the same type, where `from` says.
template <class F>
void fill(Tensor& to, const Tensor& from, F&& index) {
    to.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        const auto [fb, fh, fi] = index(b, h, i);
        to.set(b, h, i, d, from.get(fb, fh, fi, d));
    });
}

TEST(SameBits, FromRunToRunAndWhateverTheWorkers) {
    for (const Case& c : shapes()) {
        Sample sample(c);
        static const std::vector<std::string> sets = instruction_sets();
        for (const std::string& isa : sets)
            for (const int32_t backend : kBackends) {
                SCOPED_TRACE(std::string(name_of(backend)) + ", " + isa + ", " + c.name);
                const Bits one = run(context(1, isa.c_str()), sample, backend);
                for (const int workers : {1, 2, 5}) EXPECT_TRUE(run(context(workers, isa.c_str()), sample, backend) == one) << workers << " workers";
            }
    }
}

TEST(SameBits, OfABatchAloneAndAmongOthers) {
    for (Case c : shapes()) {
        c.key_lengths = {int32_t(c.Sk), int32_t(c.Sk / 2), 1};
        Sample all(c);
        for (int64_t b = 0; b < c.B; ++b) {
            Case alone = c;
            alone.B = 1, alone.key_lengths = {c.key_lengths[size_t(b)]};
            Sample one(alone);
            const auto of_batch = [b](int64_t, int64_t h, int64_t i) { return std::tuple(b, h, i); };
            fill(one.Q, all.Q, of_batch), fill(one.K, all.K, of_batch), fill(one.V, all.V, of_batch);
            each_kernel(one, [&](attn_context context, int32_t backend) {
                const Bits among = run(context, all, backend), apart = run(context, one, backend);
                const size_t size = apart.O.size(), rows = apart.lse.size();
                EXPECT_FALSE(std::memcmp(apart.O.data(), among.O.data() + size_t(b) * size, size)) << "O of batch " << b;
                EXPECT_FALSE(std::memcmp(apart.lse.data(), among.lse.data() + size_t(b) * rows, rows * sizeof(float))) << "LSE of batch " << b;
            });
        }
    }
}

TEST(SameBits, OfGroupedHeadsAndRepeatedOnes) {
    for (const Case& c : shapes()) {
        if (c.Hq == c.Hkv) continue;
        Sample grouped(c);
        Sample repeated(c.but(c.name, [](Case& r) { r.Hkv = r.Hq; }));
        const int64_t group = c.Hq / c.Hkv;
        fill(repeated.Q, grouped.Q, [](int64_t b, int64_t h, int64_t i) { return std::tuple(b, h, i); });
        const auto of_group = [group](int64_t b, int64_t h, int64_t i) { return std::tuple(b, h / group, i); };
        fill(repeated.K, grouped.K, of_group), fill(repeated.V, grouped.V, of_group);
        each_kernel(grouped, [&](attn_context context, int32_t backend) { EXPECT_TRUE(run(context, grouped, backend) == run(context, repeated, backend)); });
    }
}

TEST(SameBits, OfCausalAndItsDenseMask) {
    for (const Case& c : shapes()) {
        const Case causal = c.but(c.name, [](Case& x) { x.causal = true, x.offset_kind = Offset::bottom_right; });
        Sample structural(causal);
        Sample dense(
            c.but(c.name, [](Case& x) { x.causal = false, x.offset_kind = Offset::top_left, x.keep = Keep::all, x.keep_dims = cases::kQuery | cases::kKey; }));
        for (int64_t i = 0; i < c.Sq; ++i)
            for (int64_t j = 0; j < c.Sk; ++j) dense.problem.keep.data[size_t(i * c.Sk + j)] = structural.problem.sees(0, 0, i, j);
        for (const auto& [to, from] : {std::pair{&dense.Q, &structural.Q}, {&dense.K, &structural.K}, {&dense.V, &structural.V}}) to->bytes = from->bytes;
        each_kernel(structural, [&](attn_context context, int32_t backend) { EXPECT_TRUE(run(context, structural, backend) == run(context, dense, backend)); });
    }
}

TEST(SameBits, WithHiddenKeysAdded) {
    for (const Case& c : shapes())
        for (const int64_t more : {1, 63, 64, 700}) {
            const Case base = c.but(c.name, [](Case& x) { x.causal = false, x.offset_kind = Offset::top_left; });
            Sample plain(base);
            Sample longer(base.but(c.name, [&](Case& x) { x.Sk += more, x.key_lengths.assign(size_t(x.B), int32_t(c.Sk)); }));
            fill(longer.Q, plain.Q, [](int64_t b, int64_t h, int64_t i) { return std::tuple(b, h, i); });
            for (const auto& [to, from] : {std::pair{&longer.K, &plain.K}, {&longer.V, &plain.V}})
                from->each([to = to, from = from](int64_t b, int64_t h, int64_t i, int64_t d) { to->set(b, h, i, d, from->get(b, h, i, d)); });
            each_kernel(plain, [&](attn_context context, int32_t backend) {
                EXPECT_TRUE(run(context, plain, backend) == run(context, longer, backend)) << more << " keys added";
            });
        }
}

TEST(SameBits, WithAMaskPrepared) {
    for (const char* name :
         {"keep in blocks", "everything at once", "documents, causal, lengths", "one query, bias and keep", "keep of one row for all queries"})
        for (const Case& c : cases::named()) {
            if (c.name != name) continue;
            Sample sample(c);
            each_kernel(sample, [&](attn_context context, int32_t backend) {
                const Bits given = run(context, sample, backend);
                MaskHandle mask;
                ASSERT_TRUE(succeeded(attn_mask_prepare(context, &sample.mask_values(), mask.out())));
                const Plan p = plan(context, sample.described(ATTN_WANT_LSE | ATTN_DETERMINISTIC), backend);
                sample.clear_output();
                attn_run_args& args = sample.args();
                args.mask = nullptr, args.prepared = mask;
                attn_run_report report{};
                report.size = sizeof report, args.report = &report;
                ASSERT_TRUE(succeeded(attn_run(p, &args)));
                EXPECT_EQ(report.mask_passes, 0);
                EXPECT_TRUE((Bits{sample.O.bytes, sample.lse}) == given);
            });
        }
}

TEST(SameBits, OfAKeepMaskOfAnyStrides) {
    for (const char* name : {"keep hides half", "keep for each head of a group"})
        for (const Case& c : cases::named()) {
            if (c.name != name) continue;
            Sample sample(c);
            const attn_array keep = *sample.mask_values().keep;
            const auto* from = static_cast<const uint8_t*>(keep.data);
            const int64_t* n = keep.shape;
            const int64_t cells = n[2] * n[3], all = n[0] * n[1] * cells;
            const struct {
                const char* what;
                int64_t first, row, column, size; // of a matrix of the mask
            } layouts[] = {
                {"columns side by side", 0, 1, n[2], cells}, {"every third byte", 0, 3 * n[3], 3, 3 * cells}, {"backwards", cells - 1, -n[3], -1, cells}};
            for (const auto& to : layouts) {
                SCOPED_TRACE(to.what);
                std::vector<uint8_t> bytes(size_t(all / cells * to.size), 1);
                for (int64_t at = 0; at < all; ++at)
                    bytes[size_t(at / cells * to.size + to.first + at % cells / n[3] * to.row + at % n[3] * to.column)] = from[at];
                attn_array strided = keep;
                strided.data = bytes.data() + to.first, strided.has_strides = 1;
                strided.strides[0] = n[1] * to.size, strided.strides[1] = to.size, strided.strides[2] = to.row, strided.strides[3] = to.column;
                attn_mask_values values = sample.mask_values();
                values.keep = &strided;
                each_kernel(sample, [&](attn_context context, int32_t backend) {
                    const Bits given = run(context, sample, backend);
                    const Plan p = plan(context, sample.described(ATTN_WANT_LSE | ATTN_DETERMINISTIC), backend);
                    sample.clear_output();
                    attn_run_args& args = sample.args();
                    args.mask = &values;
                    ASSERT_TRUE(succeeded(attn_run(p, &args)));
                    EXPECT_TRUE((Bits{sample.O.bytes, sample.lse}) == given);
                });
            }
        }
}

// ---- Padding, NaN and infinity

TEST(Padding, CannotPoison) {
    std::vector<Case> all;
    for (const Case& c : cases::named())
        if (c.type != Type::f64 && (!c.key_lengths.empty() || !c.query_lengths.empty()) && c.layout != Layout::shared_keys) all.push_back(c);
    all.push_back(make("lengths and bias", [](Case& c) {
        c.B = 2, c.Sq = 90, c.Sk = 150, c.key_lengths = {70, 150}, c.query_lengths = {90, 3}, c.bias = Bias::normal;
    }));
    all.push_back(make("float16 lengths", [](Case& c) {
        c.B = 2, c.type = Type::f16, c.Sq = 90, c.Sk = 150, c.key_lengths = {70, 149}, c.query_lengths = {9, 33};
    }));
    ASSERT_GT(all.size(), 10u);
    for (const Case& c : all) {
        Sample sample(c); // holds NaN and infinity there
        const reference::Problem& p = sample.problem;
        const auto padding = [&](double x) {
            sample.Q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
                if (i >= p.m(b)) sample.Q.set(b, h, i, d, x);
            });
            for (Tensor* t : {&sample.K, &sample.V})
                t->each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
                    if (j >= p.n(b)) t->set(b, h, j, d, x);
                });
            if (p.bias && p.bias.shape[0] == p.B)
                sample.bias.each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
                    if (i >= p.m(b) || j >= p.n(b)) sample.bias.set(b, h, i, j, x);
                });
        };
        each_kernel(sample, [&](attn_context context, int32_t backend) {
            padding(0);
            const Bits clean = run(context, sample, backend);
            for (const double x : {std::nan(""), kInfinity, -kInfinity, 1e4, -3.0}) {
                padding(x);
                EXPECT_TRUE(run(context, sample, backend) == clean) << "with " << x << " as padding";
            }
        });
    }
}

// Whether a row of O is all NaN, and its LSE.
bool is_nan(const Sample& s, int64_t b, int64_t h, int64_t i) {
    for (int64_t d = 0; d < s.problem.Dv; ++d)
        if (!std::isnan(s.O.get(b, h, i, d))) return false;
    return std::isnan(s.lse[size_t((b * s.problem.Hq + h) * s.problem.Sq + i)]);
}
bool same_row(const Sample& s, const Bits& before, int64_t b, int64_t h, int64_t i) {
    const size_t row = size_t((b * s.problem.Hq + h) * s.problem.Sq + i), size = size_t(s.problem.Dv * reference::bytes_of(s.problem.type));
    return !std::memcmp(s.O.bytes.data() + row * size, before.O.data() + row * size, size) && !std::memcmp(&s.lse[row], &before.lse[row], sizeof(float));
}

TEST(NaN, AmongVisibleScoresPoisonsThatRowOnly) {
    for (const Case& c : shapes())
        for (const bool infinite : {false, true}) {
            Sample sample(c.but(c.name, [](Case& x) { x.causal = true, x.offset_kind = Offset::bottom_right; }));
            const reference::Problem& p = sample.problem;
            const int64_t bad = c.Sq / 2, key = c.Sk - 1; // the last key is seen by the last query alone
            each_kernel(sample, [&](attn_context context, int32_t backend) {
                const Tensor Q = sample.Q, K = sample.K;
                const Bits before = run(context, sample, backend);
                // In a query: its own row.
                for (int64_t d = 0; d < c.D; ++d) sample.Q.set(1, 0, bad, d, infinite ? (sample.K.get(1, 0, 0, d) < 0 ? -kInfinity : kInfinity) : std::nan(""));
                run(context, sample, backend);
                for (int64_t b = 0; b < p.B; ++b)
                    for (int64_t h = 0; h < p.Hq; ++h)
                        for (int64_t i = 0; i < p.Sq; ++i)
                            if (b == 1 && h == 0 && i == bad) {
                                EXPECT_TRUE(is_nan(sample, b, h, i));
                            } else {
                                ASSERT_TRUE(same_row(sample, before, b, h, i)) << b << ", " << h << ", " << i;
                            }
                sample.Q = Q;
                // In a key: the rows that see it.
                for (int64_t d = 0; d < c.D; ++d) sample.K.set(1, 0, key, d, std::nan(""));
                run(context, sample, backend);
                for (int64_t h = 0; h < p.Hq; ++h)
                    for (int64_t i = 0; i < p.Sq; ++i)
                        if (h / (p.Hq / p.Hkv) == 0 && p.sees(1, h, i, key)) {
                            EXPECT_TRUE(is_nan(sample, 1, h, i));
                        } else {
                            ASSERT_TRUE(same_row(sample, before, 1, h, i)) << h << ", " << i;
                        }
                sample.K = K;
            });
        }
}

TEST(NaN, InAHiddenValueReachesNoRowBeyondTheKeyBlock) {
    for (const Case& c : shapes()) {
        Sample sample(c.but(c.name, [](Case& x) { x.causal = true, x.offset_kind = Offset::bottom_right; }));
        const reference::Problem& p = sample.problem;
        const int64_t key = c.Sk - 1;
        each_kernel(sample, [&](attn_context context, int32_t backend) {
            const Tensor V = sample.V;
            const Bits before = run(context, sample, backend);
            const attn_plan_info i = info(plan(context, sample.described(), backend));
            const int64_t block = key / i.tile_keys * i.tile_keys;
            sample.V.set(1, 0, key, 0, std::nan(""));
            run(context, sample, backend);
            for (int64_t h = 0; h < p.Hq; ++h)
                for (int64_t row = 0; row < p.Sq; ++row) {
                    bool sees_block = false;
                    for (int64_t j = block; j < p.Sk; ++j) sees_block |= p.sees(1, h, row, j);
                    if (h / (p.Hq / p.Hkv) == 0 && p.sees(1, h, row, key)) {
                        EXPECT_TRUE(std::isnan(sample.O.get(1, h, row, 0)));
                    } else if (h / (p.Hq / p.Hkv) != 0 || !sees_block) {
                        ASSERT_TRUE(same_row(sample, before, 1, h, row)) << h << ", " << row;
                    }
                }
            sample.V = V;
        });
    }
}

TEST(Bias, OfTheSmallestFiniteNumberDoesNotMask) {
    for (const int64_t queries : {1, 70}) {
        Sample sample(make("lowest", [&](Case& c) { c.Sq = queries, c.Sk = 100, c.bias = Bias::normal; }));
        const double lowest = double(std::numeric_limits<float>::lowest());
        sample.bias.each([&](int64_t b, int64_t h, int64_t i, int64_t j) { sample.bias.set(b, h, i, j, lowest); });
        sample.problem.bias.data = sample.bias.numbers();
        each_kernel(sample, [&](attn_context context, int32_t backend) {
            run(context, sample, backend);
            EXPECT_TRUE(agrees(sample));
        });
    }
}

TEST(Probabilities, AreTheReferences) {
    for (const char* name : {"softcap with bias and a mask", "keep with rows that see nothing", "both lengths", "float16", "four query heads to a key head"})
        for (const Case& c : cases::named()) {
            if (c.name != name) continue;
            Sample sample(c);
            const reference::Problem& p = sample.problem;
            const Context context = handles::context();
            const Plan with = plan(context, sample.described(ATTN_WANT_LSE | ATTN_WANT_PROBABILITIES), ATTN_BACKEND_NAIVE);
            std::vector<float> P(size_t(p.B * p.Hq * p.Sq * p.Sk), -7);
            attn_run_args& args = sample.args();
            const attn_array array = cases::vector_of(P, {p.B, p.Hq, p.Sq, p.Sk});
            args.probabilities = &array;
            ASSERT_TRUE(succeeded(attn_run(with, &args)));
            EXPECT_TRUE(agrees(sample));
            for (int64_t b = 0; b < p.B; ++b)
                for (int64_t h = 0; h < p.Hq; ++h) {
                    const reference::Head R = reference::exact(p, b, h);
                    for (size_t at = 0; at < R.P.size(); ++at) {
                        const float met = P[size_t((b * p.Hq + h) * p.Sq * p.Sk) + at];
                        if (R.P[at] == 0) {
                            ASSERT_EQ(met, 0) << c.name;
                        } else {
                            ASSERT_NEAR(met, R.P[at], 1e-6) << c.name;
                        }
                    }
                }
        }
}

} // namespace
