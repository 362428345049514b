// memory.hpp — what the emulator knows of memory. Global memory: the buffers a test made, byte by byte whether written. Shared memory: the same, and a
// vector-clock race detector: each warp carries a clock; barriers join the clocks of those who meet. Every 4 bytes remember their last write and each
// warp's last read. An access that no barrier orders after a conflicting one of another warp is a race, whatever order this run happened to take. So is
// an access of the async proxy (TMA, wgmma) after a conflicting one of ordinary code, be it the same warp's, without a fence.proxy.async between.
#pragma once
#include <array>
#include <bit>
#include <cstring>

#include "lanes.hpp"

namespace emu {

// ---- global memory ---------------------------------------------------------------------
struct Allocation {
    const std::byte* begin = nullptr;
    size_t bytes = 0;
    std::vector<bool> written; // empty: all of it
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
    if (last_met->written.empty()) return;
    const size_t first = size_t(at - last_met->begin);
    for (size_t i = first; i < first + bytes; ++i) {
        if (write) last_met->written[i] = true;
        else if (!last_met->written[i]) return violation("a global read of memory that nothing wrote", where);
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
        if (bytes_) allocations[end()] = {reinterpret_cast<const std::byte*>(data_), bytes_, std::vector<bool>(written ? 0 : bytes_)};
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

private:
    const std::byte* end() const { return reinterpret_cast<const std::byte*>(data_) + bytes_; }
    size_t bytes_;
    std::vector<std::byte> memory_;
    T* data_ = nullptr;
};

// ---- shared memory ---------------------------------------------------------------------
enum Proxy : uint8_t { generic, async };
struct Access {
    uint32_t clock = 0;
    int8_t warp = -1;
    Proxy proxy = generic;
    Where where{};
};
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
inline uint64_t block_number = 0;

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
    const Clock& now = clocks[warp];
    const Access mine{now.at[warp], int8_t(warp), proxy, where};
    const auto check = [&](const Access& a, size_t word, const char* kind) {
        const bool unordered = a.warp >= 0 && a.warp != warp && a.clock > now.at[a.warp];
        const bool unfenced = a.warp >= 0 && a.proxy == generic && proxy == async && a.clock > now.fenced[a.warp];
        if (unordered || unfenced)
            violation("race on shared byte " + std::to_string(word * 4) + ": " + op + " (" + kind + ") after warp " + std::to_string(int(a.warp)) + " at " +
                          place(a.where) + ", no " + (unordered ? "barrier" : "fence.proxy.async") + " between,",
                      where);
    };
    for (size_t word = at / 4; word <= (at + bytes - 1) / 4; ++word) {
        Shadow& s = shadow[word];
        const bool here = s.block == block_number;
        if (here && !write && s.readers >> warp & 1 && s.read[warp].clock == mine.clock && std::bit_cast<uint32_t>(s.content) == kValues) continue; // again
        if (!here) s.block = block_number, s.write = {}, s.readers = 0, s.content = {};
        check(s.write, word, write ? "write after write" : "read after write");
        if (write) {
            for (uint32_t readers = s.readers; readers; readers &= readers - 1) check(s.read[std::countr_zero(readers)], word, "write after read");
            s.write = mine, s.readers = 0;
        } else {
            s.read[warp] = mine, s.readers |= 1u << warp;
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
    if (in_smem(p)) return smem_access(p, bytes, write, write ? "write" : "read", where);
    if (reinterpret_cast<uintptr_t>(p) % alignment) fail("a misaligned global access of " + std::to_string(bytes) + " bytes", where);
    global_access(p, bytes, write, where);
}

} // namespace emu
