// merge_test.cpp — attn_merge on a CUDA device: the CPU's results within the error rule, and two halves of a problem's keys as the whole.
#include <cmath>

#include "fixture.hpp"

namespace {

using namespace gpu;
using cases::Case;
using cases::Sample;
using cases::Tensor;
using cases::Type;

constexpr int64_t B = 2, H = 3, S = 5, Dv = 37, kRows = B * H * S;

struct Side {
    Tensor O;
    std::vector<float> lse;
    OnDevice there, lse_there;
    Side(
        Type type, const cases::Shape& strides, cases::Random& random, bool (*empty)(int64_t) = [](int64_t) { return false; })
        : O(type, {B, H, S, Dv}, strides), lse(kRows) {
        for (int64_t row = 0; row < kRows; ++row) lse[size_t(row)] = empty(row) ? -INFINITY : float(random.normal() * 3);
        O.each([&](int64_t b, int64_t h, int64_t i, int64_t d) { O.set(b, h, i, d, empty((b * H + h) * S + i) ? std::nan("") : random.normal()); });
    }
    attn_array lse_array() const { return vector_of(lse, {B, H, S}); }
    void upload_to(attn_context context) {
        there = upload(context, kAmpere, O.array(), O.bytes.data(), O.bytes.size());
        lse_there = upload(context, kAmpere, lse_array(), lse.data(), lse.size() * 4);
    }
    void fetch() {
        EXPECT_TRUE(succeeded(attn_tensor_download(there.owner, O.bytes.data(), O.bytes.size())));
        EXPECT_TRUE(succeeded(attn_tensor_download(lse_there.owner, lse.data(), lse.size() * 4)));
    }
};
const cases::Shape kSideBySide{H * S * Dv, Dv, H*Dv, 1}, kSpread{H * S * Dv * 3 + 7, S*Dv * 3, 3, S * 3}, kRowsApart{2 * H * S * Dv, S*Dv, Dv, 1};

attn_status merge(attn_context context, const Side& a, const Side& b, const Side& out) {
    return attn_merge(context, &a.there.array, &a.lse_there.array, &b.there.array, &b.lse_there.array, &out.there.array, &out.lse_there.array);
}

class GpuMerge : public Gpu {};

TEST_F(GpuMerge, IsTheCpusWithinTheErrorRule) {
    const Context context = gpu::context(), cpu = handles::context();
    cases::Random random(21);
    for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
        Side a(type, kSideBySide, random, [](int64_t row) { return row % 4 == 1 || row % 4 == 3; });
        Side b(type, kSpread, random, [](int64_t row) { return row % 4 == 2 || row % 4 == 3; });
        Side mine(type, kRowsApart, random), right(type, kRowsApart, random);
        for (Side* side : {&a, &b, &mine}) side->upload_to(context);
        ASSERT_TRUE(succeeded(merge(context, a, b, mine)));
        mine.fetch();
        const attn_array o1 = a.O.array(), l1 = a.lse_array(), o2 = b.O.array(), l2 = b.lse_array(), o = right.O.array(), l = right.lse_array();
        ASSERT_TRUE(succeeded(attn_merge(cpu, &o1, &l1, &o2, &l2, &o, &l)));
        double gpu_error = 0, cpu_error = 0, largest = 1;
        mine.O.each([&](int64_t n, int64_t h, int64_t i, int64_t d) {
            const size_t row = size_t((n * H + h) * S + i);
            const double wa = std::exp(double(a.lse[row])), wb = std::exp(double(b.lse[row]));
            const double x = wa == 0 ? 0 : wa * a.O.get(n, h, i, d), y = wb == 0 ? 0 : wb * b.O.get(n, h, i, d);
            const double exact = wa + wb == 0 ? 0 : (x + y) / (wa + wb), met = mine.O.get(n, h, i, d);
            ASSERT_FALSE(std::isnan(met));
            gpu_error = std::max(gpu_error, std::fabs(met - exact)), cpu_error = std::max(cpu_error, std::fabs(right.O.get(n, h, i, d) - exact));
            largest = std::max(largest, std::fabs(exact));
            if (wa + wb == 0) {
                ASSERT_EQ(met, 0);
                ASSERT_EQ(mine.lse[row], -INFINITY);
            } else {
                ASSERT_NEAR(double(mine.lse[row]), double(right.lse[row]), 1e-5);
            }
        });
        EXPECT_LE(gpu_error, 2 * cpu_error + 1e-5 * largest);
        EXPECT_TRUE(mine.O.gaps_hold(0xff)) << "something was written between the elements of O";
    }
}

TEST_F(GpuMerge, InPlaceOfEither) {
    const Context context = gpu::context();
    cases::Random random(22);
    for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
        Side a(type, kSideBySide, random), b(type, kSideBySide, random), out(type, kSideBySide, random);
        for (Side* side : {&a, &b, &out}) side->upload_to(context);
        ASSERT_TRUE(succeeded(merge(context, a, b, out)));
        out.fetch();
        for (Side* place : {&a, &b}) {
            a.upload_to(context), b.upload_to(context);
            ASSERT_TRUE(succeeded(merge(context, a, b, *place)));
            Side met(type, kSideBySide, random);
            EXPECT_TRUE(succeeded(attn_tensor_download(place->there.owner, met.O.bytes.data(), met.O.bytes.size())));
            EXPECT_TRUE(succeeded(attn_tensor_download(place->lse_there.owner, met.lse.data(), met.lse.size() * 4)));
            EXPECT_EQ(met.O.bytes, out.O.bytes);
            EXPECT_EQ(met.lse, out.lse);
        }
    }
}

// A problem and its two parts, which see 130 and 70 of its keys.
struct Halves {
    Halves(attn_context context, int device, Type type) : whole(of(type)), there(context, device, whole, false) {
        for (const auto& [from, count] : {std::pair{int64_t(0), int64_t(130)}, {130, 70}}) {
            samples.push_back(std::make_unique<Sample>(whole.what.but("part", [n = count](Case& x) { x.Sk = n; })));
            Sample& s = *samples.back();
            s.Q.bytes = whole.Q.bytes;
            for (const auto& [to, all] : {std::pair{&s.K, &whole.K}, {&s.V, &whole.V}})
                to->each([to = to, all = all, from = from](int64_t b, int64_t h, int64_t j, int64_t d) { to->set(b, h, j, d, all->get(b, h, from + j, d)); });
            parts.push_back(std::make_unique<DeviceSample>(context, device, s, false));
        }
    }
    static Case of(Type type) {
        Case c;
        c.name = "whole", c.type = type, c.B = 1, c.Hq = 4, c.Hkv = 2, c.Sq = 40, c.Sk = 200;
        return c;
    }
    void run(attn_context context, int32_t backend, attn_stream stream = nullptr) {
        for (size_t i = 0; i < 2; ++i) {
            parts[i]->args.stream = stream;
            ASSERT_TRUE(succeeded(attn_run(plan(context, samples[i]->described(), backend), &parts[i]->args)));
        }
    }
    attn_status merge(attn_context context, const attn_array* lse, attn_stream stream = nullptr) const {
        const attn_run_args &a = parts[0]->args, &b = parts[1]->args;
        if (!stream) return attn_merge(context, a.o, a.lse, b.o, b.lse, there.args.o, lse);
        return attn_merge_on_stream(context, a.o, a.lse, b.o, b.lse, there.args.o, lse, stream);
    }
    void check() {
        there.fetch();
        EXPECT_TRUE(agrees(whole));
    }
    Sample whole;
    DeviceSample there;
    std::vector<std::unique_ptr<Sample>> samples;
    std::vector<std::unique_ptr<DeviceSample>> parts;
};

TEST_F(GpuMerge, TwoHalvesOfTheKeysAreTheWhole) {
    for (const auto& [device, type, backend] :
         {std::tuple{kAmpere, Type::f32, ATTN_BACKEND_MEMORY_EFFICIENT}, {kAmpere, Type::f16, ATTN_BACKEND_FLASH}, {kHopper, Type::bf16, ATTN_BACKEND_FLASH}}) {
        const Context context = gpu::context(device);
        Halves halves(context, device, type);
        halves.run(context, backend);
        ASSERT_TRUE(succeeded(halves.merge(context, halves.there.args.lse)));
        halves.check();
        EXPECT_TRUE(succeeded(halves.merge(context, nullptr))) << "LSE is not wanted";
    }
}

// In the order of a stream that waits for nobody, as PyTorch's are; captured into a graph, too.
TEST_F(GpuMerge, OnAStream) {
    const Context context = gpu::context(), beside = gpu::context(kHopper);
    Halves halves(context, kAmpere, Type::f16);
    Theirs theirs;
    Stream stream, elsewhere;
    ASSERT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, stream.out())));
    ASSERT_TRUE(succeeded(attn_stream_create(beside, elsewhere.out())));
    EXPECT_TRUE(failed(halves.merge(context, nullptr, elsewhere), ATTN_INVALID_ARGUMENT, {"stream belongs to another context"}));
    Told told;
    FAKE(fake_cuda_hold_stream)(theirs.native, 1);
    halves.run(context, ATTN_BACKEND_FLASH, stream);
    { // the tensors that it is given are its own until it is done
        attn_array lse = *halves.there.args.lse;
        lse.data = nullptr;
        TensorHandle tensor;
        ASSERT_TRUE(succeeded(attn_tensor_create(context, &lse, tensor.out())));
        lse.tensor = tensor;
        ASSERT_TRUE(succeeded(halves.merge(context, &lse, stream)));
    }
    ASSERT_TRUE(succeeded(halves.merge(context, halves.there.args.lse, stream)));
    ASSERT_TRUE(succeeded(attn_stream_on_complete(stream, Told::tell, &told)));
    EXPECT_EQ(told.calls, 0);
    FAKE(fake_cuda_hold_stream)(theirs.native, 0);
    told.wait();
    EXPECT_EQ(told.status, ATTN_OK) << told.message;
    halves.check();
    halves.there.clear();
    theirs.capture(true);
    ASSERT_TRUE(succeeded(halves.merge(context, halves.there.args.lse, stream)));
    theirs.capture(false);
    theirs.replay(stream, halves.there);
}

TEST_F(GpuMerge, ArraysElsewhereAreRefusedByName) {
    const Context context = gpu::context(), beside = gpu::context(kHopper);
    cases::Random random(23);
    Side a(Type::f16, kSideBySide, random), b(Type::f16, kSideBySide, random), out(Type::f16, kSideBySide, random);
    for (Side* side : {&a, &b, &out}) side->upload_to(context);
    const int64_t launches = FAKE(fake_cuda_calls)("cuLaunchKernel");
    const auto with = [&](const attn_array& o2, const attn_array& lse2, const attn_array& o) {
        return attn_merge(context, &a.there.array, &a.lse_there.array, &o2, &lse2, &o, &out.lse_there.array);
    };
    EXPECT_TRUE(failed(with(b.O.array(), b.lse_there.array, out.there.array), ATTN_INVALID_ARGUMENT, {"o2 is on cpu:0", "takes cuda:1"}));
    EXPECT_TRUE(failed(with(b.there.array, b.lse_array(), out.there.array), ATTN_INVALID_ARGUMENT, {"lse2 is on cpu:0", "takes cuda:1"}));
    attn_array wrong = b.there.array;
    wrong.data = b.O.bytes.data();
    EXPECT_TRUE(failed(with(wrong, b.lse_there.array, out.there.array), ATTN_INVALID_ARGUMENT, {"o2.data is ", "no memory of CUDA's", "cuda:1"}));
    const OnDevice other = upload(beside, kHopper, out.O.array(), out.O.bytes.data(), out.O.bytes.size());
    EXPECT_TRUE(failed(with(b.there.array, b.lse_there.array, other.array), ATTN_INVALID_ARGUMENT, {"o is on cuda:0", "takes cuda:1"}));
    wrong = other.array, wrong.device = kAmpere;
    EXPECT_TRUE(failed(with(b.there.array, b.lse_there.array, wrong), ATTN_INVALID_ARGUMENT, {"o.data is ", "which is on cuda:0"}));
    wrong = a.there.array, wrong.data = static_cast<unsigned char*>(wrong.data) + 2;
    EXPECT_TRUE(failed(with(b.there.array, b.lse_there.array, wrong), ATTN_INVALID_ARGUMENT, {"o overlaps o1"}));
    EXPECT_EQ(FAKE(fake_cuda_calls)("cuLaunchKernel"), launches);
    FAKE(fake_cuda_fail)("cuLaunchKernel", 1, 0);
    EXPECT_TRUE(failed(merge(context, a, b, out), ATTN_DEVICE_ERROR, {"CUDA_ERROR_INVALID_VALUE (1) while launching merge.fp16.pair"}));
}

TEST_F(GpuMerge, NothingToMergeLaunchesNothing) {
    const Context context = gpu::context();
    attn_array o = Tensor(Type::f32, {B, 0, S, Dv}, {1, 1, 1, 1}).array(), lse = vector_of(std::vector<float>(), {B, 0, S});
    for (attn_array* a : {&o, &lse}) a->device_type = ATTN_DEVICE_CUDA, a->device = kAmpere, a->data = nullptr;
    const int64_t launches = FAKE(fake_cuda_calls)("cuLaunchKernel");
    EXPECT_TRUE(succeeded(attn_merge(context, &o, &lse, &o, &lse, &o, &lse)));
    EXPECT_EQ(FAKE(fake_cuda_calls)("cuLaunchKernel"), launches);
}

} // namespace
