// stream_test.cpp — order on a stream, completion, failure, cancellation.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Case;
using cases::Sample;

// Filled by a completion; waited for by the test.
struct Completion {
    std::mutex mutex;
    std::condition_variable told;
    int calls = 0;
    attn_status status = ATTN_INTERNAL_ERROR;
    std::string message;
    std::thread::id thread;
    static void fn(void* user, attn_status status, const char* message) {
        Completion& c = *static_cast<Completion*>(user);
        const std::lock_guard lock(c.mutex);
        ++c.calls, c.status = status, c.message = message, c.thread = std::this_thread::get_id();
        c.told.notify_all();
    }
    void wait() {
        std::unique_lock lock(mutex);
        ASSERT_TRUE(told.wait_for(lock, std::chrono::seconds(30), [&] { return calls > 0; }));
    }
};
Stream stream_of(attn_context c) {
    Stream s;
    EXPECT_TRUE(succeeded(attn_stream_create(c, s.out())));
    return s;
}

TEST(Streams, RunInOrder) {
    const Context c = context();
    const Stream stream = stream_of(c);
    // The second attention reads what the first wrote.
    Sample first(Case{}.but("first", [](Case&x) { x.Sq = 200, x.Sk = 300; })), second(Case{}.but("second", [](Case&x) { x.Sq = 70, x.Sk = 200; }));
    const Plan one = plan(c, first.described(), ATTN_BACKEND_FLASH), two = plan(c, second.described(), ATTN_BACKEND_FLASH);
    attn_run_args &a = first.args(), &b = second.args();
    attn_array v = *b.v;
    v.data = first.O.bytes.data();
    a.stream = b.stream = stream, b.v = &v;
    ASSERT_TRUE(succeeded(attn_run(one, &a)));
    ASSERT_TRUE(succeeded(attn_run(two, &b)));
    ASSERT_TRUE(succeeded(attn_stream_synchronize(stream)));
    EXPECT_TRUE(agrees(first));
    second.problem.V = first.O.numbers();
    EXPECT_TRUE(agrees(second));
}

TEST(Streams, CompletionComesOnceAfterTheWork) {
    const Context c = context();
    const Stream stream = stream_of(c);
    Sample sample(Case{}.but("work", [](Case& x) { x.Sq = 200, x.Sk = 300; }));
    const Plan p = plan(c, sample.described(), ATTN_BACKEND_FLASH);
    attn_run_args& args = sample.args();
    attn_run_report report{};
    report.size = sizeof report, args.report = &report, args.stream = stream;
    Completion done;
    ASSERT_TRUE(succeeded(attn_run(p, &args)));
    ASSERT_TRUE(succeeded(attn_stream_on_complete(stream, Completion::fn, &done)));
    done.wait();
    EXPECT_EQ(done.status, ATTN_OK) << done.message;
    EXPECT_NE(done.thread, std::this_thread::get_id());
    EXPECT_GT(report.tiles_visited, 0);
    EXPECT_TRUE(agrees(sample));
    ASSERT_TRUE(succeeded(attn_stream_synchronize(stream)));
    EXPECT_EQ(done.calls, 1);
    EXPECT_TRUE(failed(attn_stream_on_complete(stream, nullptr, nullptr), ATTN_INVALID_ARGUMENT, {"fn", "null"}));
}

TEST(Streams, CompletionOfNothingComesToo) {
    const Context c = context();
    const Stream stream = stream_of(c);
    Completion done;
    ASSERT_TRUE(succeeded(attn_stream_on_complete(stream, Completion::fn, &done)));
    done.wait();
    EXPECT_EQ(done.status, ATTN_OK);
}

TEST(Streams, BadArgumentsAreToldAtOnce) {
    const Context c = context();
    const Stream stream = stream_of(c);
    Sample sample(Case{}.but("lengths", [](Case& x) { x.key_lengths = {65}; }));
    const Plan p = plan(c, sample.described(), ATTN_BACKEND_FLASH);
    attn_run_args& args = sample.args();
    args.stream = stream;
    EXPECT_TRUE(failed(attn_run(p, &args), ATTN_INVALID_ARGUMENT, {"key_lengths[0]", "65"}));
    EXPECT_TRUE(succeeded(attn_stream_synchronize(stream)));
    attn_stream wrapped = nullptr;
    EXPECT_TRUE(failed(attn_stream_wrap(c, nullptr, &wrapped), ATTN_NOT_SUPPORTED, {"stream"}));
}

TEST(Cancel, RaisedBeforeStopsEveryBackend) {
    const Context c = context();
    Sample sample(Case{}.but("work", [](Case& x) { x.Sq = 200, x.Sk = 300; }));
    volatile int32_t cancel = 1;
    for (const int32_t backend : kBackends) {
        const Plan p = plan(c, sample.described(), backend);
        attn_run_args& args = sample.args();
        args.cancel = &cancel;
        EXPECT_TRUE(failed(attn_run(p, &args), ATTN_CANCELLED, {"cancel"})) << name_of(backend);
    }
}

TEST(Cancel, RaisedMeanwhileStopsSoon) {
    const Context c = context();
    // A problem that takes seconds: one query repeated by stride 0 would do, but outputs may not overlap; so O is real.
    const int64_t H = 64, S = 1024, D = 64;
    std::vector<float> q(size_t(S * D), 0.1f), o(size_t(H * S * D));
    attn_problem p{};
    p.size = sizeof p, p.dtype = ATTN_FLOAT32, p.flags = ATTN_HAS_STRIDES, p.batch = 1, p.query_heads = p.key_heads = H, p.queries = p.keys = S;
    p.head_dim = p.value_dim = D;
    const int64_t shared[4] = {0, 0, D, 1}, own[4] = {H * S * D, S * D, D, 1};
    for (auto* strides : {&p.q_strides, &p.k_strides, &p.v_strides}) std::copy_n(shared, 4, *strides);
    std::copy_n(own, 4, p.o_strides);
    attn_array in = cases::Tensor::described(ATTN_FLOAT32, q.data(), {1, H, S, D}, {0, 0, D, 1}),
               out = cases::Tensor::described(ATTN_FLOAT32, o.data(), {1, H, S, D}, {H * S * D, S * D, D, 1});
    for (const int32_t backend : kBackends) {
        const Plan made = plan(c, p, backend);
        const Stream stream = stream_of(c);
        volatile int32_t cancel = 0;
        attn_run_args args{};
        args.size = sizeof args, args.q = args.k = args.v = &in, args.o = &out, args.cancel = &cancel, args.stream = stream;
        for (int k = 0; k < 40; ++k) ASSERT_TRUE(succeeded(attn_run(made, &args)));
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        cancel = 1;
        Completion done;
        ASSERT_TRUE(succeeded(attn_stream_on_complete(stream, Completion::fn, &done)));
        done.wait();
        EXPECT_EQ(done.status, ATTN_CANCELLED) << name_of(backend);
        EXPECT_NE(done.message.find("cancel"), std::string::npos);
        EXPECT_TRUE(succeeded(attn_stream_synchronize(stream))) << "the failure has been told";
    }
}

} // namespace
