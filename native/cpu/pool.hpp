// pool.hpp — the workers of a context. At most workers() threads compute at any moment, callers included, however many call at once: a caller computes on its
// own thread if a place is free, sleeping helpers take the other places, and who finds none waits its turn. So a small call wakes nobody, and many callers do
// not oversubscribe. Idle helpers sleep. Helpers block all signals; whoever computes does so under the default floating-point state and gets its own back.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace attn::cpu {

class Pool {
public:
    static constexpr int64_t kScratchBytes = 2 << 20; // of each place, on a huge page where the system has one

    explicit Pool(int workers); // 1..1024
    ~Pool();                    // waits for helpers to leave; nothing may be running
    Pool(const Pool&) = delete;

    int workers() const;
    int64_t scratch_bytes() const; // allocated so far

    using Work = std::function<void(int place, int64_t item)>;
    // work(place, item) once for each item of [0, items), in runs of `grain`; place < workers() is whose scratch to use. Returns when all are done, or when
    // `cancel` was seen non-zero between items. May be called from many threads at once, not from within work. An exception of work is thrown again here.
    void parallel(int64_t items, int64_t grain, const Work& work, const volatile int32_t* cancel = nullptr);

    unsigned char* scratch(int place); // kScratchBytes, 64-byte aligned, contents undefined
    void warm_up();                    // all helpers started, all scratch touched

private:
    struct State;
    std::unique_ptr<State> state_;
};

int cpu_quota(); // how many CPUs this process may use: affinity and cgroup cpu.max, at least 1

} // namespace attn::cpu
