// stress.cpp — concurrent use for as long as the argument says (seconds, default 10): random problems on shared contexts, plans shared, masks prepared once and
// shared, streams, cancellation, contexts that come and go. Every result is compared with the bits of a run alone; nothing may be left at the end.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "run.hpp"

namespace {

using namespace handles;
using cases::Case;
using cases::Sample;
using Clock = std::chrono::steady_clock;

// A problem with what it must give, alone on one thread.
struct Problem {
    Case what;
    int32_t backend;
    Plan plan;
    MaskHandle mask; // null: the case has none
    Bits right;
};

std::atomic<int64_t> runs{0}, wrong{0};

void expect(bool good, const char* what, const Case& c) {
    if (good) return;
    ++wrong;
    std::fprintf(stderr, "wrong: %s of %s: %s\n", what, c.name.c_str(), attn_last_error());
}

void use(const std::vector<std::unique_ptr<Problem>>& problems, attn_context context, uint64_t seed, Clock::time_point end) {
    cases::Random r(seed);
    Stream stream;
    expect(attn_stream_create(context, stream.out()) == ATTN_OK, "a stream", problems[0]->what);
    while (Clock::now() < end) {
        const Problem& p = *problems[size_t(r.below(int64_t(problems.size())))];
        Sample s(p.what);
        attn_run_args& args = s.args();
        if (p.mask && r.chance(0.5)) args.mask = nullptr, args.prepared = p.mask;
        const bool later = r.chance(0.3);
        volatile int32_t cancel = r.chance(0.05);
        const bool cancelled = cancel;
        args.cancel = &cancel;
        if (later) args.stream = stream;
        attn_status status = attn_run(p.plan, &args);
        if (later && status == ATTN_OK) status = attn_stream_synchronize(stream);
        if (cancelled) expect(status == ATTN_CANCELLED, "cancellation", p.what);
        else expect(status == ATTN_OK && Bits{s.O.bytes, s.lse} == p.right, "the result", p.what);
        if (r.chance(0.02)) { // a context that comes and goes beside
            const Context other = handles::context(int(r.between(1, 3)));
            Sample alone(p.what);
            expect(run(other, alone, p.backend) == p.right, "the result in another context", p.what);
        }
        ++runs;
    }
}

} // namespace

int main(int count, char** arguments) {
    const double seconds = count > 1 ? std::atof(arguments[1]) : 10;
    if (!(seconds > 0)) {
        std::fprintf(stderr, "seconds is '%s'; a positive number is needed\n", arguments[1]);
        return 2;
    }
    const attn_counters before = counters();
    {
        const Context context = handles::context(2);
        std::vector<std::unique_ptr<Problem>> problems;
        for (uint64_t seed = 1000; problems.size() < 24; ++seed) {
            auto p = std::make_unique<Problem>();
            p->what = cases::random(seed);
            p->backend = kBackends[seed % 3];
            Sample sample(p->what);
            if (!refusals(context, sample.described(), p->backend).empty()) p->backend = ATTN_BACKEND_MEMORY_EFFICIENT;
            p->right = run(handles::context(1), sample, p->backend);
            p->plan = handles::plan(context, sample.described(ATTN_WANT_LSE | ATTN_DETERMINISTIC), p->backend);
            if (sample.mask_kinds()) expect(attn_mask_prepare(context, &sample.mask_values(), p->mask.out()) == ATTN_OK, "a prepared mask", p->what);
            problems.push_back(std::move(p));
        }
        const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
        std::vector<std::thread> threads;
        for (uint64_t t = 0; t < 8; ++t) threads.emplace_back([&, t] { use(problems, context, t + 1, end); });
        for (auto& t : threads) t.join();
    }
    attn_counters after = counters();
    for (int wait = 0; wait < 400 && after.live_contexts != before.live_contexts; ++wait) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5)); // streams let go of what they held
        after = counters();
    }
    const bool leaked = after.live_contexts != before.live_contexts || after.live_streams != before.live_streams || after.live_plans != before.live_plans ||
                        after.live_masks != before.live_masks || after.live_bytes != before.live_bytes;
    std::printf("%lld runs in %.0f s on 8 threads, %lld wrong%s\n", static_cast<long long>(runs), seconds, static_cast<long long>(wrong),
                leaked ? ", objects left" : "");
    return wrong || leaked || runs == 0;
}
