// fixture.hpp — what the tests of a CUDA device share: a small case, a completion that can be awaited, and nothing left behind after each test.
#pragma once
#include <atomic>
#include <thread>

#include "gpu.hpp"

namespace gpu {

inline cases::Case plain(cases::Type type = cases::Type::f16) {
    cases::Case c;
    c.name = "plain", c.type = type, c.Sq = 70, c.Sk = 90;
    return c;
}
inline cases::Case masked() {
    cases::Case c = plain();
    c.keep = cases::Keep::half, c.key_lengths = {77};
    return c;
}
inline attn_context_info described(attn_context context) {
    attn_context_info i{};
    i.size = sizeof i;
    EXPECT_TRUE(succeeded(attn_context_describe(context, &i)));
    return i;
}

// Gives a run memory of the device for all that the plan needs beside its operands.
[[nodiscard]] inline TensorHandle bring_workspace(attn_context context, int device, attn_plan plan, attn_run_args& args) {
    const attn_array whole = bytes(int64_t(info(plan).workspace_bytes), device);
    TensorHandle memory;
    EXPECT_TRUE(succeeded(attn_tensor_create(context, &whole, memory.out())));
    attn_array known{};
    known.size = sizeof known;
    EXPECT_TRUE(succeeded(attn_tensor_describe(memory, &known)));
    args.workspace = known.data, args.workspace_bytes = info(plan).workspace_bytes;
    return memory;
}

struct Told {
    std::atomic<int> calls{0};
    attn_status status = ATTN_OK;
    std::string message;
    static void tell(void* self, attn_status status, const char* message) {
        auto* t = static_cast<Told*>(self);
        t->status = status, t->message = message;
        ++t->calls;
    }
    void wait() const {
        while (!calls) std::this_thread::yield();
    }
};

// A stream of others, as PyTorch's are: to be captured, or held.
class Theirs {
public:
    Theirs() {
        void* out = nullptr;
        EXPECT_EQ(fake<int (*)(void**, int)>("cuDevicePrimaryCtxRetain")(&primary_, kAmpere), 0);
        EXPECT_EQ(fake<int (*)(void*)>("cuCtxPushCurrent_v2")(primary_), 0);
        EXPECT_EQ(fake<int (*)(void**, unsigned)>("cuStreamCreate")(&native, 1), 0);
        EXPECT_EQ(fake<int (*)(void**)>("cuCtxPopCurrent_v2")(&out), 0);
    }
    Theirs(const Theirs&) = delete;
    ~Theirs() {
        EXPECT_EQ(fake<int (*)(void*)>("cuStreamDestroy_v2")(native), 0);
        EXPECT_EQ(fake<int (*)(int)>("cuDevicePrimaryCtxRelease_v2")(kAmpere), 0);
    }
    void capture(bool on) { FAKE(fake_cuda_capture)(native, on); }
    void replay(attn_stream stream, DeviceSample& there) { // what the graph computes is right
        there.clear();
        FAKE(fake_cuda_replay)(native);
        ASSERT_TRUE(succeeded(attn_stream_synchronize(stream)));
        there.fetch();
        EXPECT_TRUE(agrees(there.sample));
    }
    void* native = nullptr;

private:
    void* primary_ = nullptr;
};

// A sample on the device and its mask prepared, on a stream of others.
struct PreparedSample {
    PreparedSample(attn_context context, cases::Sample& sample) : there(context, kAmpere, sample, true) {
        EXPECT_TRUE(succeeded(attn_stream_wrap(context, theirs.native, stream.out())));
        EXPECT_TRUE(succeeded(attn_mask_prepare(context, there.mask(), mask.out())));
        values = there.args.mask, there.args.mask = nullptr, there.args.prepared = mask, there.args.stream = stream;
    }
    Theirs theirs;
    Stream stream;
    DeviceSample there;
    MaskHandle mask;
    const attn_mask_values* values = nullptr; // that it was prepared of
};

class Gpu : public ::testing::Test {
protected:
    void SetUp() override { before = FAKE(fake_cuda_bytes)(); }
    void TearDown() override {
        EXPECT_EQ(faults(), "");
        EXPECT_EQ(FAKE(fake_cuda_bytes)(), before) << "memory of the device is left";
    }
    uint64_t before = 0;
};

} // namespace gpu
