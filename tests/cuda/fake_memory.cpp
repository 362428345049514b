// fake_memory.cpp — the fake driver's memory: each allocation between guards, full of NaN until it is written, known to the emulator, out of the host's reach.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "../emulator/emulator.hpp"
#include "fake_driver.hpp"

using namespace fake;

namespace {

constexpr size_t kGuard = 256, kPage = 4096;
// A pool takes memory in large pieces, and holds what it once took until it is trimmed.
struct PoolBytes {
    static constexpr size_t kPiece = 32 << 20;
    size_t used = 0, held = 0;

    size_t needed() const { return (used + kPiece - 1) / kPiece * kPiece; }
};
struct Block {
    ContextState* context;
    std::shared_ptr<PoolBytes> pool; // or null
    size_t bytes;
    std::byte* whole; // pages of its own
    size_t whole_bytes;
    std::byte* data;

    void allow(int what) const {
        if (mprotect(whole, whole_bytes, what)) std::perror("fake CUDA: mprotect"), std::abort();
    }
};
std::map<std::byte*, Block> blocks; // by their addresses
std::mutex pages;                   // of the blocks, and who touches them; taken last
int touching = 0;
void check_guards(const Block& b) { // while touching
    for (size_t i = 0; i < kGuard; ++i)
        if (b.data[-1 - ptrdiff_t(i)] != std::byte{0xA5} || b.data[b.bytes + i] != std::byte{0xA5})
            return fault("something wrote beside an allocation of " + std::to_string(b.bytes) + " bytes");
}
int allocate(unsigned long long* address, size_t bytes, std::shared_ptr<PoolBytes> pool = nullptr) {
    const std::lock_guard lock(state);
    DeviceState& d = devices()[size_t(here()->device)];
    if (!bytes) return kInvalidValue;
    if (bytes > memory_of_a_device() - d.used) return kOutOfMemory;
    Block b{here(), pool, bytes, nullptr, (bytes + 2 * kGuard + kPage - 1) / kPage * kPage, nullptr};
    void* whole = mmap(nullptr, b.whole_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) return kOutOfMemory;
    b.whole = static_cast<std::byte*>(whole), b.data = b.whole + kGuard;
    std::memset(b.whole, 0xA5, bytes + 2 * kGuard);
    std::memset(b.data, 0xFF, bytes); // NaN: what nobody writes shows
    d.used += bytes;
    if (pool) pool->used += bytes, pool->held = std::max(pool->held, pool->needed());
    *address = reinterpret_cast<unsigned long long>(b.data);
    {
        const std::lock_guard own(emulator);
        emu::allocations[b.data + bytes] = {b.data, bytes, std::vector<bool>(bytes, false)};
        emu::last_met = nullptr;
    }
    const std::lock_guard own(pages);
    if (!touching) b.allow(PROT_NONE);
    blocks.emplace(b.data, b);
    return kOk;
}
void forget(std::map<std::byte*, Block>::iterator at) { // with `state` held
    const Block b = at->second;
    {
        const Touching now;
        check_guards(b);
    }
    devices()[size_t(b.context->device)].used -= b.bytes;
    if (b.pool) b.pool->used -= b.bytes;
    {
        const std::lock_guard own(emulator);
        emu::allocations.erase(b.data + b.bytes);
        emu::last_met = nullptr;
    }
    const std::lock_guard own(pages);
    blocks.erase(at);
    munmap(b.whole, b.whole_bytes);
}
int release(unsigned long long address) {
    const std::lock_guard lock(state);
    const auto found = blocks.find(reinterpret_cast<std::byte*>(address));
    if (found == blocks.end()) return fault("memory freed that is not allocated"), kInvalidValue;
    forget(found);
    return kOk;
}
// The block that holds [address, address + bytes).
const Block* holder(unsigned long long address, size_t bytes) {
    auto* at = reinterpret_cast<std::byte*>(address);
    auto found = blocks.upper_bound(at);
    if (found == blocks.begin()) return nullptr;
    --found;
    return at + bytes <= found->second.data + found->second.bytes ? &found->second : nullptr;
}
void copy(void* to, const void* from, size_t bytes, bool to_device, bool from_device) {
    const std::lock_guard lock(state);
    if ((to_device && !holder(reinterpret_cast<unsigned long long>(to), bytes)) || (from_device && !holder(reinterpret_cast<unsigned long long>(from), bytes)))
        return fault("a copy of " + std::to_string(bytes) + " bytes outside every allocation");
    {
        const Touching now;
        std::memcpy(to, from, bytes);
    }
    if (!to_device) return;
    const std::lock_guard own(emulator);
    auto& allocation = emu::allocations.upper_bound(static_cast<std::byte*>(to))->second;
    const size_t first = size_t(static_cast<std::byte*>(to) - allocation.begin);
    std::fill(allocation.written.begin() + long(first), allocation.written.begin() + long(first + bytes), true);
}
void fill(unsigned long long to, unsigned char value, size_t bytes) {
    const std::vector<unsigned char> from(bytes, value);
    copy(reinterpret_cast<void*>(to), from.data(), bytes, true, false);
}

// What a stream does with memory, unless the context ended meanwhile.
template <class F>
std::function<void()> guarded(F f) {
    return [made = Made(here()), f] {
        const std::lock_guard lock(state);
        if (!ending && made.works()) f();
    };
}

// CUmemPoolProps as CUDA 11.2 to 13 lay it out; what came after 11.2 lies in `reserved`.
struct PoolProperties {
    int allocation, handles, location, device;
    void* security;
    unsigned char reserved[64];
};
struct Pool {
    Made made;
    std::shared_ptr<PoolBytes> bytes = std::make_shared<PoolBytes>();
    bool waits = true; // reuses memory that another stream has not freed yet, once it will have
};
std::set<Pool*> pools;
bool is_pool(void* pool) {
    const std::lock_guard lock(state);
    if (pools.count(static_cast<Pool*>(pool))) return true;
    return fault("a memory pool that is none"), false;
}

// Page-locked memory goes with its context: whoever touches it then falls.
struct PinnedState {
    Made made;
    size_t bytes;
};
std::map<void*, PinnedState> pinned;

} // namespace

fake::Touching::Touching() {
    const std::lock_guard own(pages);
    if (!touching++)
        for (const auto& [_, b] : blocks) b.allow(PROT_READ | PROT_WRITE);
}
fake::Touching::~Touching() {
    const std::lock_guard own(pages);
    if (!--touching)
        for (const auto& [_, b] : blocks) b.allow(PROT_NONE);
}

void fake::check_guards() {
    const Touching now;
    for (const auto& [_, b] : blocks) check_guards(b);
}

void fake::release_all(ContextState* context) {
    for (auto at = blocks.begin(); at != blocks.end();) {
        const auto next = std::next(at);
        if (at->second.context == context) forget(at);
        at = next;
    }
    for (const auto& [at, p] : pinned)
        if (p.made.context == context) mprotect(at, p.bytes, PROT_NONE);
}

void fake::release_memory(unsigned long long address) { release(address); }

extern "C" {

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    IN_CONTEXT(cuMemGetInfo);
    const std::lock_guard lock(state);
    *total = memory_of_a_device(), *free = *total - devices()[size_t(here()->device)].used;
    return kOk;
}
int cuMemAlloc_v2(unsigned long long* address, size_t bytes) {
    NOT_WHILE_CAPTURED(cuMemAlloc);
    return allocate(address, bytes);
}
int cuMemFree_v2(unsigned long long address) {
    NOT_WHILE_CAPTURED(cuMemFree);
    return release(address);
}
int cuMemcpyHtoD_v2(unsigned long long to, const void* from, size_t bytes) {
    NOT_WHILE_CAPTURED(cuMemcpyHtoD);
    finish_legacy();
    return copy(reinterpret_cast<void*>(to), from, bytes, true, false), kOk;
}
int cuMemcpyDtoH_v2(void* to, unsigned long long from, size_t bytes) {
    NOT_WHILE_CAPTURED(cuMemcpyDtoH);
    finish_legacy();
    return copy(to, reinterpret_cast<const void*>(from), bytes, false, true), kOk;
}
int cuMemsetD8_v2(unsigned long long to, unsigned char value, size_t bytes) {
    NOT_WHILE_CAPTURED(cuMemsetD8);
    finish_legacy();
    return fill(to, value, bytes), kOk;
}
int cuMemPoolCreate(void** pool, const PoolProperties* p) {
    IN_CONTEXT(cuMemPoolCreate);
    bool legal = p->allocation == 1 && p->handles == 0 && p->location == 1 && p->device >= 0 && size_t(p->device) < devices().size() && !p->security;
    for (const unsigned char c : p->reserved) legal = legal && !c;
    if (!legal) return kInvalidValue;
    const std::lock_guard lock(state);
    return *pool = *pools.insert(new Pool{Made(here())}).first, kOk;
}
int cuMemPoolDestroy(void* pool) {
    ENTRY(cuMemPoolDestroy);
    if (!is_pool(pool)) return kInvalidValue;
    const std::lock_guard lock(state);
    if (!static_cast<Pool*>(pool)->made.stands()) fault("a memory pool destroyed of a context that was reset");
    pools.erase(static_cast<Pool*>(pool));
    return delete static_cast<Pool*>(pool), kOk;
}
int cuMemPoolTrimTo(void* pool, size_t) {
    ENTRY(cuMemPoolTrimTo);
    if (!is_pool(pool)) return kInvalidValue;
    const std::lock_guard lock(state);
    PoolBytes& b = *static_cast<Pool*>(pool)->bytes;
    return b.held = b.needed(), kOk;
}
int cuMemPoolSetAttribute(void* pool, int attribute, void* value) {
    ENTRY(cuMemPoolSetAttribute);
    if (!is_pool(pool) || attribute < 1 || attribute > 4) return kInvalidValue;
    if (attribute == 3) static_cast<Pool*>(pool)->waits = *static_cast<int*>(value);
    return kOk;
}
int cuMemPoolGetAttribute(void* pool, int attribute, void* value) {
    if (!is_pool(pool) || (attribute != 5 && attribute != 7)) return kInvalidValue; // what is reserved, or in use
    const std::lock_guard lock(state);
    const PoolBytes& b = *static_cast<Pool*>(pool)->bytes;
    return *static_cast<uint64_t*>(value) = attribute == 5 ? b.held : b.used, kOk;
}
int cuMemAllocFromPoolAsync(unsigned long long* address, size_t bytes, void* pool, void* stream) {
    IN_CONTEXT(cuMemAllocFromPoolAsync);
    STREAM(stream);
    if (!is_pool(pool) || !static_cast<Pool*>(pool)->made.stands()) return kInvalidValue;
    if (static_cast<Pool*>(pool)->waits) fault("an allocation that may wait for what another stream does");
    const int status = allocate(address, bytes, static_cast<Pool*>(pool)->bytes);
    if (!status && s->capturing) s->graphs_memory.push_back(*address);
    return status;
}
int cuMemFreeAsync(unsigned long long address, void* stream) {
    IN_CONTEXT(cuMemFreeAsync);
    STREAM(stream);
    if (s->capturing) { // a graph's own memory stays for its next launch
        for (const unsigned long long own : s->graphs_memory)
            if (own == address) return kOk;
        return fault("memory freed by a graph that did not allocate it"), kInvalidValue;
    }
    s->enqueue(guarded([address] { release(address); }));
    return kOk;
}
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void* stream) {
    IN_CONTEXT(cuMemcpyHtoDAsync);
    STREAM(stream);
    s->enqueue(guarded([=] { copy(reinterpret_cast<void*>(to), from, bytes, true, false); }));
    return kOk;
}
int cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void* stream) {
    IN_CONTEXT(cuMemcpyDtoHAsync);
    STREAM(stream);
    s->enqueue(guarded([=] { copy(to, reinterpret_cast<const void*>(from), bytes, false, true); }));
    return kOk;
}
int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void* stream) {
    IN_CONTEXT(cuMemcpyDtoDAsync);
    STREAM(stream);
    s->enqueue(guarded([=] { copy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes, true, true); }));
    return kOk;
}
int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void* stream) {
    IN_CONTEXT(cuMemsetD8Async);
    STREAM(stream);
    s->enqueue(guarded([=] { fill(to, value, bytes); }));
    return kOk;
}
int cuMemHostAlloc(void** p, size_t bytes, unsigned flags) {
    NOT_WHILE_CAPTURED(cuMemHostAlloc);
    if (flags > 7 || !bytes) return kInvalidValue;
    *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (*p == MAP_FAILED) return kOutOfMemory;
    const std::lock_guard lock(state);
    return pinned.emplace(*p, PinnedState{Made(here()), bytes}), kOk;
}
int cuMemFreeHost(void* p) {
    NOT_WHILE_CAPTURED(cuMemFreeHost);
    const std::lock_guard lock(state);
    const auto found = pinned.find(p);
    if (found == pinned.end() || !found->second.made.stands()) return fault("page-locked memory freed that is none"), kInvalidValue;
    munmap(p, found->second.bytes);
    return pinned.erase(found), kOk;
}
int cuPointerGetAttribute(void* value, int attribute, unsigned long long address) {
    if (const int status = usable()) return status; // as CUDA's text allows it to
    if (attribute != 9) return kInvalidValue;
    const std::lock_guard lock(state);
    const Block* b = holder(address, 1);
    if (!b) return kInvalidValue;
    *static_cast<int*>(value) = b->context->device;
    return kOk;
}

} // extern "C"
