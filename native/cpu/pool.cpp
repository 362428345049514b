// pool.cpp — places are tokens: whoever holds one computes. A job lives on its caller's stack; jobs that could still use a place queue in order of arrival,
// and a place that becomes free goes to the first of them: to its caller if that one still waits, else to a sleeping helper. Invariant, under the mutex: while
// a place is free, no caller waits for one.
#include "pool.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace attn::cpu {
namespace {

// Round to nearest, denormals as they are, no traps; the caller's own state comes back at the end.
class DefaultFloatingPoint {
#if defined(__SSE__)
public:
    DefaultFloatingPoint() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
    ~DefaultFloatingPoint() { _mm_setcsr(saved_); }

private:
    unsigned saved_;
#endif
};

// A thread started inside this scope is born with every signal blocked: signals are the application's, and stay on its threads.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }

private:
    sigset_t saved_;
};

// A huge page must begin at a multiple of its size: map twice as much, give back what lies outside.
unsigned char* map_scratch(size_t bytes) {
    void* mapped = mmap(nullptr, 2 * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    const uintptr_t begin = reinterpret_cast<uintptr_t>(mapped), aligned = (begin + bytes - 1) / bytes * bytes;
    if (aligned != begin) munmap(mapped, aligned - begin);
    munmap(reinterpret_cast<void*>(aligned + bytes), begin + bytes - aligned);
    madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE); // a wish: without huge pages it is only slower
    return reinterpret_cast<unsigned char*>(aligned);
}

struct Job {
    Job(const Pool::Work& w, int64_t count, int64_t run, const volatile int32_t* flag)
        : work(w),
          items(count),
          grain(run < 1       ? 1
                : run < count ? run
                              : count),
          cancel(flag) {}

    const Pool::Work& work;
    const int64_t items, grain;
    const volatile int32_t* const cancel;
    std::atomic<int64_t> next{0}; // the first item nobody has taken; items or more: spent

    // Under the pool's mutex.
    int active = 0; // threads computing
    int place = -1; // the caller's, once it has had one
    bool queued = false;
    Job* behind = nullptr;
    std::exception_ptr error;
    std::condition_variable turn; // the caller: a place is yours, or others have done it all

    bool spent() const { return next.load(std::memory_order_relaxed) >= items; }
    bool done() const { return active == 0 && spent(); }

    void compute(int at) {
        const DefaultFloatingPoint scope;
        for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < items;) {
            const int64_t end = grain < items - begin ? begin + grain : items;
            for (int64_t item = begin; item < end; ++item) {
                if (cancel && *cancel) return next.store(items, std::memory_order_relaxed);
                work(at, item);
            }
        }
    }
};

} // namespace

struct Pool::State {
    struct Helper {
        std::thread thread;
        std::condition_variable wake;
        Job* job = nullptr;
        int place = -1;
    };

    explicit State(int count) : workers(count), scratch(size_t(count)) {
        free.reserve(size_t(count)), idle.reserve(size_t(count));
        for (int place = count; place-- > 0;) free.push_back(place);
    }

    const int workers;
    std::mutex mutex;
    std::vector<int> free;      // places nobody holds; the last one given back, whose scratch is warm, goes first
    std::vector<Helper*> idle;  // likewise
    std::deque<Helper> helpers; // at most workers - 1: the last place always has a caller to take it
    Job *first = nullptr, *last = nullptr;
    bool stopping = false;
    std::vector<unsigned char*> scratch; // of each place, touched by its holder only
    std::atomic<int64_t> scratch_bytes{0};

    void enqueue(Job& job) {
        (first ? last->behind : first) = &job;
        last = &job;
        job.queued = true;
    }
    void dequeue(Job& job) {
        if (!job.queued) return;
        Job* before = nullptr;
        for (Job* at = first; at != &job; at = at->behind) before = at;
        (before ? before->behind : first) = job.behind;
        if (last == &job) last = before;
        job.queued = false, job.behind = nullptr;
    }
    // The oldest job that still has items to take, or null.
    Job* open() {
        while (first && first->spent()) dequeue(*first);
        return first;
    }

    Helper* helper() {
        if (!idle.empty()) {
            Helper* helper = idle.back();
            idle.pop_back();
            return helper;
        }
        return int(helpers.size()) < workers - 1 ? start() : nullptr;
    }
    // Null where the system gives no more threads: then fewer compute.
    Helper* start() {
        const SignalsBlocked scope;
        const size_t before = helpers.size();
        try {
            Helper& helper = helpers.emplace_back();
            helper.thread = std::thread([this, &helper] { live(helper); });
            return &helper;
        } catch (const std::exception&) {
            if (helpers.size() > before) helpers.pop_back();
            return nullptr;
        }
    }
    // Gives a place nobody uses to whom it serves.
    void pass_on(int place) {
        Job* job = open();
        if (job && job->place < 0) {
            job->place = place;
            ++job->active;
            job->turn.notify_one();
        } else if (Helper* h = job ? helper() : nullptr) {
            h->job = job, h->place = place;
            ++job->active;
            h->wake.notify_one();
        } else {
            free.push_back(place);
        }
    }
    void compute(Job& job, int place, std::unique_lock<std::mutex>& lock) {
        lock.unlock();
        std::exception_ptr error;
        try {
            job.compute(place);
        } catch (...) {
            job.next.store(job.items, std::memory_order_relaxed);
            error = std::current_exception();
        }
        lock.lock();
        if (error && !job.error) job.error = error;
        --job.active;
    }
    // A helper goes from job to job with its place, and sleeps when there is none.
    void live(Helper& self) {
        pthread_setname_np(pthread_self(), "attention");
        std::unique_lock lock(mutex);
        for (;;) {
            self.wake.wait(lock, [&] { return self.job || stopping; });
            if (!self.job) return;
            while (self.job) {
                Job& job = *self.job;
                compute(job, self.place, lock);
                if (job.done()) job.turn.notify_one(); // under the mutex: the job lives until its caller has it
                if ((self.job = open())) ++self.job->active;
            }
            free.push_back(self.place);
            idle.push_back(&self);
        }
    }
    unsigned char* scratch_of(int place) {
        unsigned char*& mine = scratch[size_t(place)];
        if (!mine) {
            mine = map_scratch(size_t(kScratchBytes));
            scratch_bytes += kScratchBytes;
        }
        return mine;
    }
};

Pool::Pool(int workers) {
    if (workers < 1 || workers > 1024) throw std::invalid_argument("workers is " + std::to_string(workers) + "; 1 to 1024 are allowed");
    state_ = std::make_unique<State>(workers);
}

Pool::~Pool() {
    {
        const std::lock_guard lock(state_->mutex);
        state_->stopping = true;
        for (State::Helper& helper : state_->helpers) helper.wake.notify_one();
    }
    for (State::Helper& helper : state_->helpers) helper.thread.join();
    for (unsigned char* scratch : state_->scratch)
        if (scratch) munmap(scratch, size_t(kScratchBytes));
}

int Pool::workers() const { return state_->workers; }
int64_t Pool::scratch_bytes() const { return state_->scratch_bytes; }
unsigned char* Pool::scratch(int place) { return state_->scratch_of(place); }

void Pool::parallel(int64_t items, int64_t grain, const Work& work, const volatile int32_t* cancel) {
    if (items <= 0) return;
    State& state = *state_;
    Job job(work, items, grain, cancel);
    std::unique_lock lock(state.mutex);
    if (state.free.empty()) {
        state.enqueue(job);
        job.turn.wait(lock, [&] { return job.place >= 0 || job.done(); });
    } else {
        job.place = state.free.back();
        state.free.pop_back();
        ++job.active;
        const int64_t others = (job.items - 1) / job.grain; // runs beyond the caller's first
        if (others > 0) state.enqueue(job);
        for (int64_t wanted = others; wanted > 0 && !state.free.empty(); --wanted) {
            State::Helper* helper = state.helper();
            if (!helper) break;
            helper->job = &job, helper->place = state.free.back();
            state.free.pop_back();
            ++job.active;
            helper->wake.notify_one();
        }
    }
    if (job.place >= 0) {
        state.compute(job, job.place, lock);
        state.dequeue(job);
        state.pass_on(job.place);
        job.turn.wait(lock, [&] { return job.done(); });
    }
    state.dequeue(job);
    if (job.error) std::rethrow_exception(job.error);
}

void Pool::warm_up() {
    const std::lock_guard lock(state_->mutex);
    while (int(state_->helpers.size()) < state_->workers - 1) {
        State::Helper* helper = state_->start();
        if (!helper) break;
        state_->idle.push_back(helper);
    }
    for (int place : state_->free) std::memset(state_->scratch_of(place), 0, size_t(kScratchBytes)); // a held place is warm already
}

} // namespace attn::cpu
