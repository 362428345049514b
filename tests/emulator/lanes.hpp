// lanes.hpp — the CUDA execution model on one CPU thread. Every CUDA thread of a block is a fiber ("lane"). A lane runs until it reaches an operation
// that needs other lanes; it then parks, and the last lane to arrive performs the operation for the whole group. Lanes that meet at different
// instructions, or never meet, end the run with a message that names both sides.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#error "the emulator switches fibers in x86-64 assembly"
#endif

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace emu {

using Where = std::source_location;

// How the program is run. Every legal order must give the same answer; the two extremes of asynchrony and any order of lanes are legal.
struct Options {
    bool eager = false; // cp.async, TMA and wgmma complete at once; else as late as the program allows, their destinations poisoned before
    uint64_t seed = 0;  // permutes the lanes and the order in which copies land
};
inline Options options;

struct Stats {
    uint64_t switches = 0, collectives = 0, mma = 0, ldmatrix = 0, bank_conflicts = 0, barriers = 0;
    uint64_t tested = 0;       // scores whose mask was asked
    Where first_conflict = {}; // of banks
};
inline Stats stats;

// What went wrong since reset(): the number of violations and the first one in words.
struct Report {
    uint64_t violations = 0;
    std::string first;
};
inline Report report;
inline void reset() { stats = {}, report = {}; }

extern "C" void emu_switch(void** save_sp, void* load_sp);
asm(R"(
.text
.weak emu_switch
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

class Fiber {
public:
    void* sp = nullptr;
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    Fiber(Fiber&& o) noexcept { std::swap(stack_, o.stack_), std::swap(sp, o.sp); }
    ~Fiber() { std::free(stack_); }
    void arm(void (*entry)()) {
        void** top = reinterpret_cast<void**>(stack_ + kStack);
        *--top = nullptr;                             // keeps the ABI's 16-byte alignment at entry
        *--top = reinterpret_cast<void*>(entry);      // return address of emu_switch
        for (int i = 0; i < 6; ++i) *--top = nullptr; // callee-saved registers
        sp = top;
    }

private:
    static constexpr size_t kStack = 128 << 10;
    char* stack_ = static_cast<char*>(std::aligned_alloc(64, kStack));
};

struct Lane {
    Fiber fiber;
    Dim3 tid;
    int warp = 0, lane = 0;
    bool done = false;
    const uint64_t* watch = nullptr; // parked while *watch == seen
    uint64_t seen = 0;
    const char* op = nullptr;
    Where where{};
    std::vector<std::function<void()>> copies;               // cp.async not yet committed
    std::vector<std::vector<std::function<void()>>> groups;  // committed cp.async groups, oldest first
    std::map<const void*, std::vector<std::byte>> registers; // wgmma's operands, as they were at the last wgmma.fence
};

// A rendezvous: lanes arrive with a pointer to their operands; the last one acts for all.
struct Group {
    int size = 0, arrived = 0;
    uint64_t generation = 0;
    const char* op = nullptr;
    Where where{};
    std::vector<void*> slot;
};

// The copy engine and each warpgroup's tensor cores count as warps of their own.
constexpr int kMaxWarps = 16, kTma = 16, kTensor = 17, kAgents = 21;
// What is known to be over, and what of it lies before a fence.proxy.async.
struct Clock {
    uint32_t at[kAgents] = {}, fenced[kAgents] = {};
};
struct MBarrier {
    int expected = 0, pending = 0;
    int64_t bytes = 0;
    uint64_t phase = 0;
    Clock clock;
    bool published = false;
};

struct Block {
    Dim3 idx, dim;
    std::vector<Lane> lanes;
    std::vector<Group> warps, warpgroups;
    Group barrier[16];
    std::vector<std::byte> smem;
    std::map<const uint64_t*, MBarrier> mbarriers;
    std::vector<std::function<void()>> async;                             // TMA copies in flight
    std::map<int, std::vector<std::vector<std::function<void()>>>> wgmma; // per warpgroup: committed groups, the last one open
    std::map<float*, int> in_flight;                                      // accumulators that a wgmma owns
    std::map<int, bool> fenced;                                           // per warpgroup: a wgmma.fence since its last wgmma.wait
    void* main_sp = nullptr;
    bool failed = false;
};
inline Block* block = nullptr;
inline Lane* self = nullptr;
inline Dim3 grid_dim;
inline Clock clocks[kAgents];
inline uint32_t meetings[kMaxWarps]; // how often all lanes of a warp have met where memory is ordered: __syncwarp and barriers, not shuffles and ballots

inline std::string place(Where w) {
    const std::string file = w.file_name();
    return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(w.line());
}
inline void violation(const std::string& what, Where where) {
    if (report.violations++) return;
    report.first = "block (" + std::to_string(block->idx.x) + "," + std::to_string(block->idx.y) + "," + std::to_string(block->idx.z) + "): " + what + " at " +
                   place(where);
    if (self) report.first += ", warp " + std::to_string(self->warp) + " lane " + std::to_string(self->lane);
}
inline void park() { // back to the scheduler
    ++stats.switches;
    emu_switch(&self->fiber.sp, block->main_sp);
}
// A violation after which the block cannot go on: the launch ends here.
[[noreturn]] inline void fail(const std::string& what, Where where) {
    violation(what, where);
    block->failed = true;
    for (;;) park();
}
inline void wait_while(const uint64_t& watch, const char* op, Where where) {
    self->watch = &watch, self->seen = watch, self->op = op, self->where = where;
    park();
}

// `act` runs once, on the last lane to arrive, with every lane's operands.
template <class Operands, class Act>
void rendezvous(Group& g, int member, const char* op, Operands& mine, Act act, Where where) {
    if (g.arrived == 0) g.op = op, g.where = where;
    else if ((g.op != op && std::strcmp(g.op, op)) || g.where.line() != where.line())
        fail(std::string("lanes diverged: ") + op + " here, others wait in " + g.op + " at " + place(g.where), where);
    g.slot[size_t(member)] = &mine;
    if (++g.arrived < g.size) {
        wait_while(g.generation, op, where);
    } else {
        ++stats.collectives;
        act(g.slot);
        g.arrived = 0;
        ++g.generation;
    }
}
void count_conflicts(int warp); // banks.hpp: what the lanes accessed since they last met makes whole instructions
template <class Operands, class Act>
void warp_collective(const char* op, Operands& mine, Act act, Where where) {
    const auto met = [&](auto& slot) { count_conflicts(self->warp), act(slot); };
    rendezvous(block->warps[size_t(self->warp)], self->lane, op, mine, met, where);
}
template <class Operands, class Act>
void warpgroup_collective(const char* op, Operands& mine, Act act, Where where) {
    const auto met = [&](auto& slot) {
        for (int w = self->warp / 4 * 4; w < self->warp / 4 * 4 + 4; ++w) count_conflicts(w);
        act(slot);
    };
    rendezvous(block->warpgroups[size_t(self->warp / 4)], self->warp % 4 * 32 + self->lane, op, mine, met, where);
}

inline void join(Clock& a, const Clock& b) {
    for (int i = 0; i < kAgents; ++i) a.at[i] = std::max(a.at[i], b.at[i]), a.fenced[i] = std::max(a.fenced[i], b.fenced[i]);
}
// Whether any lane brought a vote other than zero.
inline bool barrier(int id, int count, Where where, int vote = 0) {
    ++stats.barriers;
    Group& g = block->barrier[id];
    g.size = count;
    g.slot.resize(block->lanes.size());
    rendezvous(
        g, int(self - block->lanes.data()), "barrier", vote,
        [](auto& slot) {
            Clock joined;
            bool in[kMaxWarps] = {}, any = false;
            for (size_t i = 0; i < slot.size(); ++i)
                if (slot[i]) in[i / 32] = true, any |= *static_cast<int*>(slot[i]) != 0;
            for (int w = 0; w < kMaxWarps; ++w)
                if (in[w]) join(joined, clocks[w]);
            for (int w = 0; w < kMaxWarps; ++w)
                if (in[w]) clocks[w] = joined, ++clocks[w].at[w], ++meetings[w], count_conflicts(w);
            for (void*& of_lane : slot)
                if (of_lane) *static_cast<int*>(std::exchange(of_lane, nullptr)) = any;
        },
        where);
    return vote;
}

// ---- launching -------------------------------------------------------------------------
class Random { // splitmix64: the same order everywhere
public:
    explicit Random(uint64_t seed) : state_(seed) {}
    size_t below(size_t n) {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return size_t((z ^ z >> 31) % n);
    }

private:
    uint64_t state_;
};
inline std::function<void()> body;
inline void lane_entry() {
    for (;;) {
        body();
        self->done = true;
        park();
    }
}
void begin_launch(); // memory.hpp
void begin_block(size_t smem_bytes);

// Runs one block to its end or to its failure.
inline void run_block(Block& b, Random& random) {
    const size_t n = b.lanes.size();
    std::vector<size_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = i;
    if (options.seed)
        for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    for (size_t live = n; live && !b.failed;) {
        bool moved = false;
        live = 0;
        for (size_t i : order) {
            Lane& l = b.lanes[i];
            if (l.done) continue;
            ++live;
            if (l.watch && *l.watch == l.seen) continue;
            l.watch = nullptr, self = &l, moved = true;
            ++stats.switches;
            emu_switch(&b.main_sp, l.fiber.sp);
            if (b.failed) break;
        }
        if (!live || moved) continue;
        if (b.async.empty()) { // everyone waits, and nothing is on its way
            for (Lane& l : b.lanes)
                if (!l.done) {
                    self = &l;
                    violation(std::string("deadlock in ") + l.op, l.where);
                    break;
                }
            b.failed = true;
            break;
        }
        const auto any = b.async.begin() + long(random.below(b.async.size())); // copies land in no order
        const auto land = *any;
        b.async.erase(any);
        land();
    }
    self = nullptr;
}

// Runs the grid, block after block; stops at the first block that cannot go on. What was found is in report and stats.
template <class... P, class... A>
void launch(void (*kernel)(P...), Dim3 grid, Dim3 dim, size_t smem_bytes, const A&... args) {
    grid_dim = grid;
    Block b;
    block = &b;
    b.dim = dim;
    const int n = int(dim.x * dim.y * dim.z);
    b.lanes = std::vector<Lane>(size_t(n));
    b.warps.resize(size_t(n + 31) / 32), b.warpgroups.resize(size_t(n + 127) / 128);
    body = [&] { kernel(args...); };
    Random random(options.seed);
    begin_launch();
    for (unsigned z = 0; z < grid.z && !b.failed; ++z)
        for (unsigned y = 0; y < grid.y && !b.failed; ++y)
            for (unsigned x = 0; x < grid.x && !b.failed; ++x) {
                b.idx = {x, y, z};
                for (int a = 0; a < kAgents; ++a) clocks[a] = {}, clocks[a].at[a] = 1;
                std::fill(meetings, meetings + kMaxWarps, 0u);
                b.mbarriers.clear(), b.async.clear(), b.wgmma.clear(), b.in_flight.clear(), b.fenced.clear();
                for (Group& g : b.warpgroups) g = {}, g.size = 128, g.slot.assign(128, nullptr);
                for (Group& g : b.warps) g = {}, g.size = 32, g.slot.assign(32, nullptr);
                for (Group& g : b.barrier) g = {};
                for (int i = 0; i < n; ++i) {
                    Lane& l = b.lanes[size_t(i)];
                    l.tid = {unsigned(i) % dim.x, unsigned(i) / dim.x % dim.y, unsigned(i) / dim.x / dim.y};
                    l.warp = i / 32, l.lane = i % 32, l.done = false, l.watch = nullptr;
                    l.registers.clear(), l.copies.clear(), l.groups.clear();
                    l.fiber.arm(lane_entry);
                }
                begin_block(smem_bytes);
                run_block(b, random);
                for (int w = 0; w < int(b.warps.size()); ++w) count_conflicts(w);
                for (const Lane& l : b.lanes)
                    if (!b.failed && (!l.copies.empty() || !l.groups.empty())) {
                        for (const auto& group : l.groups)
                            if (!group.empty()) violation("a lane ends with cp.async in flight", l.where);
                        if (!l.copies.empty()) violation("a lane ends with cp.async not committed", l.where);
                    }
                if (!b.failed && !b.async.empty()) violation("the block ends with TMA copies in flight", b.lanes[0].where);
            }
    block = nullptr;
}

} // namespace emu
