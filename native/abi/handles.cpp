#include "handles.hpp"

#include <mutex>
#include <vector>

namespace attn::abi {
namespace {

struct Slot {
    std::shared_ptr<Object> object; // null: free
    uint32_t generation = 0;
};
struct Table {
    std::mutex mutex;
    std::vector<Slot> slots;
    std::vector<uint32_t> free;
};
Table& table() { // never destroyed: threads of a context that outlives main still use it
    static Table& t = *new Table;
    return t;
}

// Slots count from 1, so that no handle is null; the generation sits above them.
void* encode(uint32_t slot, uint32_t generation) { return reinterpret_cast<void*>(uintptr_t(generation) << 32 | (slot + 1)); }

Slot& locate(Table& t, const void* handle, Kind kind, const char* parameter) {
    const auto bits = reinterpret_cast<uintptr_t>(handle);
    const char* wanted = name_of(kind);
    if (!bits) fail(ATTN_INVALID_HANDLE, "%s is null; a live %s handle is needed", parameter, wanted);
    const uint64_t slot = (bits & 0xFFFFFFFFu) - 1;
    if (slot >= t.slots.size() || t.slots[slot].generation != bits >> 32 || !t.slots[slot].object)
        fail(ATTN_INVALID_HANDLE, "%s is 0x%zx, which is no live handle (never made, or destroyed before); a live %s handle is needed", parameter, bits,
             wanted);
    if (t.slots[slot].object->kind != kind)
        fail(ATTN_INVALID_HANDLE, "%s is a %s handle; a %s handle is needed", parameter, name_of(t.slots[slot].object->kind), wanted);
    return t.slots[slot];
}

} // namespace

const char* name_of(Kind kind) {
    constexpr const char* names[] = {"context", "stream", "tensor", "mask", "plan"};
    return names[int(kind)];
}

Object::Object(Kind kind) : kind(kind) { ++counters().live[int(kind)]; }
Object::~Object() { --counters().live[int(kind)]; }

void* add(std::shared_ptr<Object> object) {
    Table& t = table();
    const std::lock_guard lock(t.mutex);
    if (t.free.empty()) {
        t.free.reserve(t.slots.size() + 1); // so that remove never allocates
        t.slots.emplace_back();
        t.free.push_back(uint32_t(t.slots.size() - 1));
    }
    const uint32_t slot = t.free.back();
    t.free.pop_back();
    t.slots[slot].object = std::move(object);
    return encode(slot, ++t.slots[slot].generation);
}

std::shared_ptr<Object> find(const void* handle, Kind kind, const char* parameter) {
    Table& t = table();
    const std::lock_guard lock(t.mutex);
    return locate(t, handle, kind, parameter).object;
}

std::shared_ptr<Object> remove(const void* handle, Kind kind, const char* parameter) {
    Table& t = table();
    const std::lock_guard lock(t.mutex);
    Slot& slot = locate(t, handle, kind, parameter);
    t.free.push_back(uint32_t(&slot - t.slots.data()));
    return std::move(slot.object); // destroyed by the caller, outside the lock
}

Counters& counters() {
    static Counters& c = *new Counters{};
    return c;
}

} // namespace attn::abi
