// merge_test.cpp — two attentions over disjoint keys become the one over all of them.
#include <gtest/gtest.h>

#include <cmath>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Case;
using cases::Sample;
using cases::Tensor;
using cases::Type;
using reference::kInfinity;

constexpr int64_t B = 2, H = 3, S = 5, D = 7;

struct Side {
    Tensor O;
    std::vector<float> lse;
    Side(Type type, cases::Random& r) : O(type, {B, H, S, D}, {H * S * D, D, H * D, 1}), lse(size_t(B * H * S)) { // heads beside each other
        O.each([&](int64_t b, int64_t h, int64_t i, int64_t d) { O.set(b, h, i, d, r.normal()); });
        for (float& x : lse) x = float(r.normal() * 3);
    }
    attn_array lse_array() { return cases::vector_of(lse, {B, H, S}); }
};
attn_status merge(attn_context c, Side& a, Side& b, Side& out) {
    const attn_array o1 = a.O.array(), l1 = a.lse_array(), o2 = b.O.array(), l2 = b.lse_array(), o = out.O.array(), l = out.lse_array();
    return attn_merge(c, &o1, &l1, &o2, &l2, &o, &l);
}
void check(const Side& a, const Side& b, const Side& out, double tolerance) {
    for (int64_t n = 0; n < B; ++n)
        for (int64_t h = 0; h < H; ++h)
            for (int64_t i = 0; i < S; ++i) {
                const size_t row = size_t((n * H + h) * S + i);
                const double La = double(a.lse[row]), Lb = double(b.lse[row]), total = std::exp(La) + std::exp(Lb);
                if (total == 0) {
                    ASSERT_EQ(out.lse[row], -INFINITY);
                } else {
                    ASSERT_NEAR(double(out.lse[row]), std::log(total), 1e-5);
                }
                for (int64_t d = 0; d < D; ++d) {
                    const double x = std::exp(La) == 0 ? 0 : std::exp(La) * a.O.get(n, h, i, d), y = std::exp(Lb) == 0 ? 0 : std::exp(Lb) * b.O.get(n, h, i, d);
                    ASSERT_NEAR(out.O.get(n, h, i, d), total == 0 ? 0 : (x + y) / total, tolerance);
                }
            }
}

TEST(Merge, WeighsByLogSumExp) {
    const Context c = context();
    cases::Random r(5);
    for (const auto& [type, tolerance] : {std::pair{Type::f32, 1e-5}, {Type::f16, 4e-3}, {Type::bf16, 3e-2}}) {
        Side a(type, r), b(type, r), out(type, r);
        ASSERT_TRUE(succeeded(merge(c, a, b, out)));
        check(a, b, out, tolerance);
    }
}

TEST(Merge, RowsThatSawNothingAddNothing) {
    const Context c = context();
    cases::Random r(6);
    Side a(Type::f32, r), b(Type::f32, r), out(Type::f32, r);
    for (size_t row = 0; row < a.lse.size(); ++row) {
        if (row % 4 == 1 || row % 4 == 3) a.lse[row] = -INFINITY;
        if (row % 4 == 2 || row % 4 == 3) b.lse[row] = -INFINITY;
    }
    // What they hold does not matter.
    a.O.each([&](int64_t n, int64_t h, int64_t i, int64_t d) {
        if (a.lse[size_t((n * H + h) * S + i)] == -INFINITY) a.O.set(n, h, i, d, std::nan(""));
    });
    ASSERT_TRUE(succeeded(merge(c, a, b, out)));
    check(a, b, out, 1e-5);
}

TEST(Merge, InPlace) {
    const Context c = context();
    cases::Random r(7);
    Side a(Type::f32, r), b(Type::f32, r), out(Type::f32, r);
    ASSERT_TRUE(succeeded(merge(c, a, b, out)));
    ASSERT_TRUE(succeeded(merge(c, a, b, a)));
    EXPECT_EQ(a.O.bytes, out.O.bytes);
    EXPECT_EQ(a.lse, out.lse);
}

TEST(Merge, LargeSumsDoNotOverflow) {
    const Context c = context();
    cases::Random r(8);
    Side a(Type::f32, r), b(Type::f32, r), out(Type::f32, r);
    for (size_t row = 0; row < a.lse.size(); ++row) a.lse[row] = row % 2 ? 1e30f : 1000.f, b.lse[row] = row % 2 ? -1e30f : 1000.f;
    ASSERT_TRUE(succeeded(merge(c, a, b, out)));
    EXPECT_NEAR(out.lse[0], 1000 + std::log(2.0), 1e-3);
    EXPECT_EQ(out.lse[1], 1e30f);
    EXPECT_NEAR(out.O.get(0, 0, 0, 0), (a.O.get(0, 0, 0, 0) + b.O.get(0, 0, 0, 0)) / 2, 1e-6);
    EXPECT_EQ(out.O.get(0, 0, 1, 0), a.O.get(0, 0, 1, 0));
}

TEST(Merge, KeysInTwoPartsAreOneAttention) {
    const Context c = context();
    Sample whole(Case{}.but("whole", [](Case& x) { x.B = 1, x.Hq = x.Hkv = 2, x.Sq = 40, x.Sk = 200; }));
    const auto part = [&](int64_t from, int64_t n, Tensor& O, std::vector<float>& lse) {
        Sample one(whole.what.but("part", [&](Case& x) { x.Sk = n; }));
        one.Q.bytes = whole.Q.bytes;
        for (const auto& [to, all] : {std::pair{&one.K, &whole.K}, {&one.V, &whole.V}})
            to->each([to = to, all = all, from](int64_t b, int64_t h, int64_t j, int64_t d) { to->set(b, h, j, d, all->get(b, h, from + j, d)); });
        run(c, one, ATTN_BACKEND_FLASH);
        O = one.O, lse = one.lse;
    };
    Tensor O1, O2;
    std::vector<float> l1, l2;
    part(0, 130, O1, l1), part(130, 70, O2, l2);
    const attn_array o1 = O1.array(), o2 = O2.array(), o = whole.O.array();
    const attn_array a1 = cases::vector_of(l1, {1, 2, 40}), a2 = cases::vector_of(l2, {1, 2, 40}), a = cases::vector_of(whole.lse, {1, 2, 40});
    ASSERT_TRUE(succeeded(attn_merge(c, &o1, &a1, &o2, &a2, &o, &a)));
    EXPECT_TRUE(agrees(whole));
    ASSERT_TRUE(succeeded(attn_merge(c, &o1, &a1, &o2, &a2, &o, nullptr))) << "LSE is not wanted";
    whole.clear_output();
    Stream stream;
    ASSERT_TRUE(succeeded(attn_stream_create(c, stream.out())));
    ASSERT_TRUE(succeeded(attn_merge_on_stream(c, &o1, &a1, &o2, &a2, &o, &a, stream)));
    ASSERT_TRUE(succeeded(attn_stream_synchronize(stream)));
    EXPECT_TRUE(agrees(whole));
}

TEST(Merge, BadArguments) {
    const Context c = context();
    cases::Random r(9);
    Side a(Type::f32, r), b(Type::f32, r), half(Type::f16, r), out(Type::f32, r);
    const attn_array o1 = a.O.array(), l1 = a.lse_array(), l2 = b.lse_array(), o = out.O.array(), l = out.lse_array();
    attn_array o2 = b.O.array();
    EXPECT_TRUE(failed(attn_merge(nullptr, &o1, &l1, &o2, &l2, &o, &l), ATTN_INVALID_HANDLE, {"context", "null"}));
    EXPECT_TRUE(failed(attn_merge_on_stream(c, &o1, &l1, &o2, &l2, &o, &l, reinterpret_cast<attn_stream>(attn_context(c))), ATTN_INVALID_HANDLE, {"stream"}));
    EXPECT_TRUE(failed(attn_merge(c, &o1, nullptr, &o2, &l2, &o, &l), ATTN_INVALID_ARGUMENT, {"lse1", "null"}));
    EXPECT_TRUE(failed(attn_merge(c, &o1, &l1, nullptr, &l2, &o, &l), ATTN_INVALID_ARGUMENT, {"o2", "null"}));
    const attn_array h = half.O.array();
    EXPECT_TRUE(failed(attn_merge(c, &o1, &l1, &h, &l2, &o, &l), ATTN_INVALID_ARGUMENT, {"o2", "float16", "float32"}));
    o2.shape[2] = 4;
    EXPECT_TRUE(failed(attn_merge(c, &o1, &l1, &o2, &l2, &o, &l), ATTN_INVALID_ARGUMENT, {"o2.shape[2]", "4", "5"}));
    o2 = b.O.array();
    attn_array shifted = o1;
    shifted.data = static_cast<float*>(shifted.data) + 1;
    EXPECT_TRUE(failed(attn_merge(c, &o1, &l1, &o2, &l2, &shifted, &l), ATTN_INVALID_ARGUMENT, {"o", "overlap", "o1"}));
    attn_array flat = o;
    flat.strides[1] = 0;
    EXPECT_TRUE(failed(attn_merge(c, &o1, &l1, &o2, &l2, &flat, &l), ATTN_INVALID_ARGUMENT, {"o.strides[1]", "0"}));
}

} // namespace
