// handles.hpp — handles of the C ABI that are destroyed with their scope, and statuses that a test reads as sentences.
#pragma once
#include <attention/attention.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace handles {

inline ::testing::AssertionResult succeeded(attn_status status) {
    if (status == ATTN_OK) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "status " << status << ": " << attn_last_error();
}
// The call failed as `status` and its sentence holds every one of `words`.
inline ::testing::AssertionResult failed(attn_status met, attn_status status, std::initializer_list<std::string> words) {
    const std::string text = met == ATTN_OK ? "" : attn_last_error();
    if (met != status) return ::testing::AssertionFailure() << "status " << met << " instead of " << status << ": " << text;
    for (const std::string& word : words)
        if (text.find(word) == std::string::npos) return ::testing::AssertionFailure() << "'" << word << "' is not in: " << text;
    return ::testing::AssertionSuccess();
}

template <class H, attn_status (*kDestroy)(H)>
class Handle {
public:
    Handle() = default;
    explicit Handle(H h) : handle_(h) {}
    Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Handle() {
        if (handle_) { EXPECT_TRUE(succeeded(kDestroy(handle_))); }
    }
    operator H() const { return handle_; }
    H* out() { return &handle_; }
    attn_status destroy() { return kDestroy(std::exchange(handle_, nullptr)); }

private:
    H handle_ = nullptr;
};
using Context = Handle<attn_context, attn_context_destroy>;
using Stream = Handle<attn_stream, attn_stream_destroy>;
using TensorHandle = Handle<attn_tensor, attn_tensor_destroy>;
using MaskHandle = Handle<attn_mask, attn_mask_destroy>;
using Plan = Handle<attn_plan, attn_plan_destroy>;

inline Context context(int workers = 2, const char* instruction_set = nullptr) {
    if (instruction_set) setenv("ATTENTION_CPU", instruction_set, 1);
    attn_context_options options{};
    options.size = sizeof options, options.workers = workers;
    Context c;
    const attn_status status = attn_context_create(&options, c.out());
    if (instruction_set) unsetenv("ATTENTION_CPU");
    EXPECT_TRUE(succeeded(status));
    return c;
}
// The instruction sets this machine has, the best first.
inline std::vector<std::string> instruction_sets() {
    std::vector<std::string> all;
    for (const char* name : {"avx512", "avx2", "generic"}) {
        setenv("ATTENTION_CPU", name, 1);
        Context c;
        if (attn_context_create(nullptr, c.out()) == ATTN_OK) all.push_back(name);
        unsetenv("ATTENTION_CPU");
    }
    return all;
}
inline Plan plan(attn_context context, const attn_problem& problem, int32_t backend) {
    Plan p;
    EXPECT_TRUE(succeeded(attn_plan_create(context, &problem, backend, p.out())));
    return p;
}
inline attn_plan_info info(attn_plan plan) {
    attn_plan_info i{};
    i.size = sizeof i;
    EXPECT_TRUE(succeeded(attn_plan_describe(plan, &i)));
    return i;
}
inline attn_counters counters() {
    attn_counters c{};
    c.size = sizeof c;
    EXPECT_TRUE(succeeded(attn_counters_read(&c)));
    return c;
}
inline std::vector<attn_refusal> refusals(attn_context context, const attn_problem& problem, int32_t backend) {
    attn_refusal list[8] = {};
    for (attn_refusal& r : list) r.size = sizeof r;
    uint32_t count = 0;
    EXPECT_TRUE(succeeded(attn_query(context, &problem, backend, list, 8, &count)));
    return {list, list + std::min(count, 8u)};
}

constexpr int32_t kBackends[] = {ATTN_BACKEND_FLASH, ATTN_BACKEND_MEMORY_EFFICIENT, ATTN_BACKEND_NAIVE};
inline const char* name_of(int32_t backend) { return backend == ATTN_BACKEND_FLASH ? "flash" : backend == ATTN_BACKEND_NAIVE ? "naive" : "memory-efficient"; }

} // namespace handles
