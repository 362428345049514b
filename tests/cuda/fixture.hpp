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
