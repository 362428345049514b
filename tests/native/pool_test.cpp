// pool_test.cpp — places, turns, helpers, and what they leave alone.
#include "cpu/pool.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace {

using attn::cpu::Pool;
using Clock = std::chrono::steady_clock;

void wait_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }
double seconds_of(const std::function<void()>& f) {
    const auto begin = Clock::now();
    f();
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

TEST(Pool, DoesEveryItemOnce) {
    for (const int workers : {1, 2, 3, 8})
        for (const int64_t items : {0, 1, 2, 7, 100, 1001})
            for (const int64_t grain : {int64_t(1), int64_t(3), int64_t(64), INT64_MAX}) {
                Pool pool(workers);
                std::vector<std::atomic<int>> done(static_cast<size_t>(items));
                pool.parallel(items, grain, [&](int place, int64_t item) {
                    ASSERT_TRUE(place >= 0 && place < workers);
                    ++done[size_t(item)];
                });
                for (const auto& n : done) ASSERT_EQ(n, 1) << workers << " workers, " << items << " items, grain " << grain;
            }
}

TEST(Pool, ComputesOnTheCallersThread) {
    Pool pool(1);
    const auto self = std::this_thread::get_id();
    pool.parallel(10, 1, [&](int, int64_t) { EXPECT_EQ(std::this_thread::get_id(), self); });
}

TEST(Pool, OneRunWakesNobody) {
    Pool pool(4);
    const auto self = std::this_thread::get_id();
    for (int k = 0; k < 100; ++k) pool.parallel(8, 8, [&](int, int64_t) { EXPECT_EQ(std::this_thread::get_id(), self); });
}

TEST(Pool, UsesAllItsPlaces) {
    Pool pool(4);
    std::atomic<int> inside{0};
    // Each item waits until all four are being done at once.
    pool.parallel(4, 1, [&](int, int64_t) {
        ++inside;
        while (inside < 4) std::this_thread::yield();
    });
    EXPECT_EQ(inside, 4);
}

TEST(Pool, SixtyFourCallersNeitherDeadlockNorOversubscribe) {
    Pool pool(2);
    std::atomic<int> now{0}, most{0};
    std::atomic<int64_t> done{0};
    std::atomic<bool> busy[2] = {};
    const Pool::Work work = [&](int place, int64_t) {
        EXPECT_FALSE(busy[place].exchange(true)) << "two threads at one place";
        int n = ++now, seen = most;
        while (n > seen && !most.compare_exchange_weak(seen, n)) {}
        for (int spin = 0; spin < 500; ++spin) asm volatile("");
        ++done, --now;
        busy[place] = false;
    };
    std::vector<std::thread> callers;
    int64_t expected = 0;
    for (int c = 0; c < 64; ++c) {
        for (int k = 0; k < 50; ++k) expected += 1 + (c + k) % 9;
        callers.emplace_back([&, c] {
            for (int k = 0; k < 50; ++k) pool.parallel(1 + (c + k) % 9, 1 + k % 2, work);
        });
    }
    for (auto& t : callers) t.join();
    EXPECT_EQ(done, expected);
    EXPECT_LE(most, 2); // that two places are used at once is shown above: here a busy machine may run the callers one by one
}

TEST(Pool, TwoCallersTakeNoLongerThanOneAfterTheOther) {
    Pool pool(2);
    // Sleeping stands for computing, so that a busy machine does not matter: 20 items of 2 ms at two places.
    const Pool::Work work = [](int, int64_t) { wait_ms(2); };
    const auto call = [&] { pool.parallel(20, 1, work); };
    call();
    double least = 1e9; // of ten tries: a machine that is busy with others delays some
    for (int attempt = 0; attempt < 10 && !(least <= 1.1); ++attempt) {
        const double apart = seconds_of([&] { call(), call(); });
        const double together = seconds_of([&] {
            std::thread other(call);
            call();
            other.join();
        });
        least = std::min(least, together / apart);
    }
    EXPECT_LE(least, 1.1);
}

TEST(Pool, CallersAreServedInOrder) {
    Pool pool(1);
    std::vector<int> order;
    std::atomic<bool> started{false}, go{false};
    std::thread first([&] {
        pool.parallel(1, 1, [&](int, int64_t) {
            started = true;
            while (!go) std::this_thread::yield();
        });
    });
    while (!started) std::this_thread::yield();
    std::vector<std::thread> waiting;
    for (int c = 0; c < 5; ++c) {
        waiting.emplace_back([&, c] { pool.parallel(1, 1, [&](int, int64_t) { order.push_back(c); }); });
        wait_ms(20); // so that they arrive one after the other
    }
    go = true;
    first.join();
    for (auto& t : waiting) t.join();
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(Pool, ThrowsTheItemsExceptionToTheCaller) {
    Pool pool(3);
    for (int k = 0; k < 50; ++k) {
        EXPECT_THROW(pool.parallel(100, 1,
                                   [](int, int64_t item) {
                                       if (item == 37) throw std::runtime_error("item 37");
                                   }),
                     std::runtime_error);
        int64_t done = 0;
        pool.parallel(1, 1, [&](int, int64_t) { ++done; });
        EXPECT_EQ(done, 1);
    }
}

TEST(Pool, StopsBetweenItemsWhenCancelled) {
    Pool pool(2);
    volatile int32_t cancel = 0;
    std::atomic<int> done{0};
    pool.parallel(
        100000, 1,
        [&](int, int64_t item) {
            ++done;
            if (item == 10) cancel = 1;
        },
        &cancel);
    EXPECT_LT(done, 100000);
    EXPECT_GE(done, 1);
}

TEST(Pool, HelpersBlockSignals) {
    Pool pool(2);
    std::atomic<int> inside{0}, helpers{0};
    const auto self = std::this_thread::get_id();
    pool.parallel(2, 1, [&](int, int64_t) {
        ++inside;
        while (inside < 2) std::this_thread::yield();
        sigset_t blocked;
        pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
        const bool all = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGPROF) && sigismember(&blocked, SIGUSR1);
        EXPECT_EQ(all, std::this_thread::get_id() != self);
        helpers += all;
    });
    EXPECT_EQ(helpers, 1);
}

#if defined(__SSE__)
TEST(Pool, ComputesUnderTheDefaultFloatingPointState) {
    const unsigned before = _mm_getcsr(), mine = before | 0x8040 | 0x6000; // flush to zero, denormals are zero, round towards zero
    _mm_setcsr(mine);
    {
        Pool pool(2); // helpers are born under the odd state
        std::atomic<int> inside{0};
        pool.parallel(2, 1, [&](int, int64_t) {
            ++inside;
            while (inside < 2) std::this_thread::yield();
            EXPECT_EQ(_mm_getcsr() & 0xffc0u, 0x1f80u);
        });
        EXPECT_EQ(_mm_getcsr(), mine);
        EXPECT_THROW(pool.parallel(1, 1, [](int, int64_t) { throw 1; }), int);
        EXPECT_EQ(_mm_getcsr(), mine);
    }
    _mm_setcsr(before);
}
#endif

TEST(Pool, IdleHelpersSleep) {
    Pool pool(4);
    pool.warm_up();
    pool.parallel(8, 1, [](int, int64_t) { wait_ms(1); });
    wait_ms(20);
    const auto cpu_seconds = [] {
        timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
    };
    const double before = cpu_seconds();
    wait_ms(300);
    EXPECT_LT(cpu_seconds() - before, 0.003) << "more than 1 % of a core";
}

TEST(Pool, ScratchIsOfAPlaceAligned) {
    Pool pool(3);
    EXPECT_EQ(pool.scratch_bytes(), 0);
    pool.warm_up();
    EXPECT_EQ(pool.scratch_bytes(), 3 * Pool::kScratchBytes);
    std::set<unsigned char*> all;
    for (int place = 0; place < 3; ++place) {
        unsigned char* scratch = pool.scratch(place);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 64, 0u);
        scratch[0] = scratch[Pool::kScratchBytes - 1] = 1;
        all.insert(scratch);
    }
    EXPECT_EQ(all.size(), 3u);
    EXPECT_EQ(pool.scratch_bytes(), 3 * Pool::kScratchBytes);
}

TEST(Pool, RefusesImpossibleNumbersOfWorkers) {
    for (const int workers : {0, -1, 1025}) EXPECT_THROW(Pool{workers}, std::invalid_argument);
}

TEST(Pool, ComesAndGoes) {
    for (int k = 0; k < 100; ++k) {
        Pool pool(3);
        if (k % 2) pool.parallel(6, 1, [](int, int64_t) {});
        if (k % 3 == 0) pool.warm_up();
    }
}

} // namespace
