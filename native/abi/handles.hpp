// handles.hpp — the table behind opaque handles. A handle is a slot and a generation, never an address, so that a stale one is found out.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>

#include "error.hpp"

namespace attn::abi {

enum class Kind : uint8_t { context, stream, tensor, mask, plan };
inline constexpr int kKinds = 5;
const char* name_of(Kind kind);

// Anything that has a handle. Alive as long as its handle or anything that depends on it.
class Object {
public:
    explicit Object(Kind kind);
    virtual ~Object();
    Object(const Object&) = delete;
    const Kind kind;
};

void* add(std::shared_ptr<Object> object);
std::shared_ptr<Object> find(const void* handle, Kind kind, const char* parameter); // throws ATTN_INVALID_HANDLE
std::shared_ptr<Object> remove(const void* handle, Kind kind, const char* parameter);

template <class T>
std::shared_ptr<T> get(const void* handle, const char* parameter) {
    return std::static_pointer_cast<T>(find(handle, T::kKind, parameter));
}

struct Counters {
    std::atomic<int64_t> live[kKinds], bytes, runs, mask_passes;
};
Counters& counters(); // of the process

} // namespace attn::abi
