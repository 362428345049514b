// memory.hpp — what the emulator knows of memory. Global memory: the buffers a test made, byte by byte whether written, and how much was read of each.
// Both memories have a race detector. Each warp carries a vector clock; barriers join the clocks of those who meet. Every 4 bytes of shared memory remember
// their last write and each warp's last read. An access that no barrier orders after a conflicting one of another warp is a race, whatever order this run
// happened to take. So is one after another lane's of the same warp without a meeting between; and an access of the async proxy (TMA, wgmma) after a
// conflicting one of ordinary code, be it the same warp's, without a fence.proxy.async between. What kernels store to in global memory remembers, of every
// 4 bytes, the last write and the last warp that read: there other blocks of the launch conflict too.
#pragma once
#include <array>
#include <bit>
#include <cstring>
#include <memory>

#include "banks.hpp"

namespace emu {

enum Proxy : uint8_t { generic, async };
struct Access {
    uint32_t clock = 0, meeting = 0, lanes = 0;
    int8_t warp = -1;
    Proxy proxy = generic;
    Where where{};

    // Whether this came from other lanes of the warp that have not met it since.
    bool unmet(const Access& now) const {
        return warp == now.warp && warp < kMaxWarps && proxy == generic && now.proxy == generic && meeting == now.meeting && (lanes & ~now.lanes);
    }
    bool unordered(const Access& now) const { return warp >= 0 && warp != now.warp && clock > clocks[now.warp].at[warp]; }
    bool unfenced(const Access& now) const { return warp >= 0 && proxy == generic && now.proxy == async && clock > clocks[now.warp].fenced[warp]; }
};
inline Access access_of(int warp, Proxy proxy, Where where) {
    const bool lane = self && self->warp == warp;
    return {clocks[warp].at[warp], lane ? meetings[warp] : 0, lane ? 1u << self->lane : 0, int8_t(warp), proxy, where};
}

// ---- global memory ---------------------------------------------------------------------
struct Trace : Access {
    uint64_t block = 0;
    uint8_t bytes = 0; // which of the four
};
struct Traces {
    Trace write, read;
};
using Page = std::array<Traces, 1024>; // of 4 bytes each
struct Allocation {
    const std::byte* begin = nullptr;
    size_t bytes = 0;
    std::vector<bool> written;                     // empty: all of it
    uint64_t bytes_read = 0;                       // by kernels
    std::vector<std::unique_ptr<Page>> pages = {}; // from the first store on
};
inline std::map<const std::byte*, Allocation> allocations; // by their ends
inline Allocation* last_met = nullptr;

inline void global_access(const void* p, size_t bytes, bool write, Where where) {
    const auto* at = static_cast<const std::byte*>(p);
    const auto holds = [&](const Allocation& a) { return a.begin <= at && at + bytes <= a.begin + a.bytes; };
    if (!last_met || !holds(*last_met)) {
        const auto found = allocations.upper_bound(at);
        if (found == allocations.end() || !holds(found->second)) {
            fail("a global " + std::string(write ? "write" : "read") + " of " + std::to_string(bytes) + " bytes outside every buffer", where);
        }
        last_met = &found->second;
    }
    if (!write) last_met->bytes_read += bytes;
    if (last_met->written.empty()) return;
    const size_t first = size_t(at - last_met->begin);
    for (size_t i = first; i < first + bytes; ++i) {
        if (write) last_met->written[i] = true;
        else if (!last_met->written[i]) return violation("a global read of memory that nothing wrote", where);
    }
}

inline void race(const char* memory, size_t word, const char* op, const char* kind, const Access& a, const char* missing, Where where) {
    violation(std::string("race on ") + memory + " byte " + std::to_string(word * 4) + ": " + op + " (" + kind + ") after warp " + std::to_string(int(a.warp)) +
                  " at " + place(a.where) + ", no " + missing + " between,",
              where);
}
inline uint64_t block_number = 0, first_block = 1; // of all that ran; of this launch
inline void begin_launch() { first_block = block_number + 1; }

// An ordinary access of bytes [first, first + bytes) of a buffer. Stores to single bytes of four that nothing orders keep the last one's trace only.
inline void trace(Allocation& a, size_t first, size_t bytes, bool write, Where where) {
    if (write && a.pages.empty()) a.pages.resize(a.bytes / sizeof(uint32_t) / std::tuple_size_v<Page> + 1);
    if (a.pages.empty()) return;
    Trace mine{access_of(self->warp, generic, where), block_number};
    for (size_t word = first / 4; word <= (first + bytes - 1) / 4; ++word) {
        auto& page = a.pages[word / std::tuple_size_v<Page>];
        if (!page) page = std::make_unique<Page>();
        Traces& t = (*page)[word % std::tuple_size_v<Page>];
        const size_t from = std::max(first, word * 4) - word * 4, to = std::min(first + bytes, word * 4 + 4) - word * 4;
        mine.bytes = uint8_t((1 << to) - (1 << from));
        const auto check = [&](const Trace& other, const char* kind) {
            if (other.block < first_block || !(other.bytes & mine.bytes)) return;
            const char* op = write ? "write" : "read";
            if (other.block != block_number) race("global", word, op, kind, other, "launch", where);
            else if (other.unordered(mine)) race("global", word, op, kind, other, "barrier", where);
            else if (other.unmet(mine)) race("global", word, op, kind, other, "__syncwarp", where);
        };
        check(t.write, write ? "write after write" : "read after write");
        if (write) {
            check(t.read, "write after read");
            t.write = mine, t.read = {};
        } else {
            const bool again = t.read.block == block_number && t.read.warp == mine.warp && t.read.meeting == mine.meeting;
            const Trace before = t.read;
            t.read = mine;
            if (again) t.read.lanes |= before.lanes, t.read.bytes |= before.bytes;
        }
    }
}

// A test's buffer in global memory, 256-byte aligned like the driver's; `written` says whether its bytes count as written from the start.
template <class T>
class Buffer {
public:
    explicit Buffer(size_t count, bool written = true) : bytes_(count * sizeof(T)), memory_(bytes_ + 512, std::byte{0xFF}) {
        const uintptr_t at = reinterpret_cast<uintptr_t>(memory_.data());
        data_ = reinterpret_cast<T*>((at + 255) / 256 * 256);
        if (written) std::memset(static_cast<void*>(data_), 0, bytes_);
        allocations[end()] = {reinterpret_cast<const std::byte*>(data_), bytes_, std::vector<bool>(written ? 0 : bytes_)};
        last_met = nullptr;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        allocations.erase(end());
        last_met = nullptr;
    }
    T* data() const { return data_; }
    size_t size() const { return bytes_ / sizeof(T); }
    T& operator[](size_t i) const { return data_[i]; }
    uint64_t& bytes_read() const { return allocations.at(end()).bytes_read; }

private:
    const std::byte* end() const { return reinterpret_cast<const std::byte*>(data_) + bytes_; }
    size_t bytes_;
    std::vector<std::byte> memory_;
    T* data_ = nullptr;
};

// ---- shared memory ---------------------------------------------------------------------
enum class Content : uint8_t { nothing, value, in_flight };
struct Shadow {
    uint64_t block = 0; // of which block the rest tells
    Access write;
    std::array<Content, 4> content{};
    uint32_t readers = 0; // since that write; what lies before it is ordered before whatever is ordered after it
    Access read[kAgents];
};
constexpr uint32_t kValues = std::bit_cast<uint32_t>(std::array{Content::value, Content::value, Content::value, Content::value});
inline std::vector<Shadow> shadow;

inline void begin_block(size_t smem_bytes) {
    block->smem.assign(smem_bytes, std::byte{0xFF}); // NaN in every float: reading before writing shows
    if (shadow.size() < (smem_bytes + 3) / 4) shadow.resize((smem_bytes + 3) / 4);
    ++block_number;
}
inline bool in_smem(const void* p) {
    const auto* b = static_cast<const std::byte*>(p);
    return b >= block->smem.data() && b < block->smem.data() + block->smem.size();
}
inline size_t smem_offset(const void* p, size_t bytes, Where where) {
    const ptrdiff_t at = static_cast<const std::byte*>(p) - block->smem.data();
    if (at < 0 || size_t(at) + bytes > block->smem.size())
        fail("an access outside the block's " + std::to_string(block->smem.size()) + " bytes of shared memory", where);
    if (size_t(at) & (bytes - 1)) fail("a misaligned access of " + std::to_string(bytes) + " bytes at shared byte " + std::to_string(at), where);
    return size_t(at);
}
inline void smem_access(const void* p, size_t bytes, bool write, const char* op, Where where, Proxy proxy = generic, int warp = self ? self->warp : 0,
                        Content becomes = Content::value) {
    const size_t at = smem_offset(p, bytes, where);
    const Access mine = access_of(warp, proxy, where);
    const auto check = [&](const Access& a, size_t word, const char* kind) {
        if (a.unordered(mine)) race("shared", word, op, kind, a, "barrier", where);
        else if (a.unmet(mine)) race("shared", word, op, kind, a, "__syncwarp", where);
        else if (a.unfenced(mine)) race("shared", word, op, kind, a, "fence.proxy.async", where);
    };
    for (size_t word = at / 4; word <= (at + bytes - 1) / 4; ++word) {
        Shadow& s = shadow[word];
        const bool here = s.block == block_number;
        Access& read = s.read[warp];
        const bool met = here && s.readers >> warp & 1 && read.meeting == mine.meeting;
        if (met && !write && read.clock == mine.clock && std::bit_cast<uint32_t>(s.content) == kValues && !s.write.unmet(mine)) { // again
            read.lanes |= mine.lanes;
            continue;
        }
        if (!here) s.block = block_number, s.write = {}, s.readers = 0, s.content = {};
        check(s.write, word, write ? "write after write" : "read after write");
        if (write) {
            for (uint32_t readers = s.readers; readers; readers &= readers - 1) check(s.read[std::countr_zero(readers)], word, "write after read");
            s.write = mine, s.readers = 0;
        } else {
            const uint32_t lanes = met ? read.lanes : 0;
            read = mine, read.lanes |= lanes, s.readers |= 1u << warp;
        }
        for (size_t i = std::max(at, word * 4); i < std::min(at + bytes, word * 4 + 4); ++i) {
            Content& c = s.content[i - word * 4];
            if (write) c = becomes;
            else if (c != Content::value) {
                violation(std::string(op) + (c == Content::nothing ? " reads shared memory that nothing wrote" : " reads what has not arrived yet") +
                              ", shared byte " + std::to_string(i),
                          where);
                c = Content::value;
            }
        }
    }
}

// Shared or global, as the address says: what ordinary loads and stores do.
inline void access(const void* p, size_t bytes, size_t alignment, bool write, Where where) {
    if (in_smem(p)) {
        smem_access(p, bytes, write, write ? "write" : "read", where);
        return bank_access(smem_offset(p, bytes, where), bytes, where);
    }
    if (reinterpret_cast<uintptr_t>(p) % alignment) fail("a misaligned global access of " + std::to_string(bytes) + " bytes", where);
    global_access(p, bytes, write, where);
    trace(*last_met, size_t(static_cast<const std::byte*>(p) - last_met->begin), bytes, write, where);
}
inline void atomic_access(const void* p, size_t bytes, Where where) { // of global memory; in no order with others of its kind
    if (reinterpret_cast<uintptr_t>(p) % bytes) fail("a misaligned atomic of " + std::to_string(bytes) + " bytes", where);
    global_access(p, bytes, true, where);
}

} // namespace emu
