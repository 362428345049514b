// fake_cuda.cpp — a libcuda without a GPU: the driver's calls that the library uses, their rules, and kernels that run in the emulator. Devices are as
// FAKE_CUDA_ARCHS says ("90,80,75": the default), each with FAKE_CUDA_MB of memory (256). Streams are threads; kernels run one at a time.
// Here: devices, contexts, memory, streams and events. fake_modules.cpp: kernels.
#include "fake_cuda.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "../emulator/emulator.hpp"
#include "fake_driver.hpp"

namespace fake {

constexpr size_t kGuard = 256;

std::recursive_mutex state;
std::mutex emulator;
int64_t faults = 0;
std::string first_fault;
std::map<std::string, int64_t> calls;
struct Planned {
    int status, skip;
};
std::map<std::string, Planned> planned;

void fault(const std::string& what) {
    const std::lock_guard lock(state);
    if (!faults++) first_fault = what;
    std::fprintf(stderr, "fake CUDA: %s\n", what.c_str());
}
int planned_failure(const char* name) {
    const std::lock_guard lock(state);
    ++calls[name];
    const auto found = planned.find(name);
    if (found == planned.end() || found->second.skip-- > 0) return kOk;
    const int status = found->second.status;
    planned.erase(found);
    return status;
}

std::vector<DeviceState>& devices() {
    static std::vector<DeviceState> all = [] {
        std::vector<DeviceState> d;
        const char* given = std::getenv("FAKE_CUDA_ARCHS");
        for (const char* at = given ? given : "90,80,75"; *at;) {
            char* end;
            d.push_back({int(std::strtol(at, &end, 10))});
            at = *end ? end + 1 : end;
        }
        return d;
    }();
    return all;
}
size_t memory_of_a_device() {
    const char* mb = std::getenv("FAKE_CUDA_MB");
    return size_t(mb ? std::atoi(mb) : 256) << 20;
}

std::vector<std::unique_ptr<ContextState>> contexts;
std::map<int, ContextState*> primary;
thread_local std::vector<ContextState*> current;
ContextState* here() { return current.empty() ? nullptr : current.back(); }

int usable() {
    ContextState* c = here();
    if (!c) return kInvalidContext;
    if (!c->alive) return kContextDestroyed;
    return c->dead;
}

// ---- memory ------------------------------------------------------------------------------
struct Block {
    ContextState* context;
    size_t bytes;
    std::unique_ptr<std::byte[]> whole;
    std::byte* data;
};
std::map<std::byte*, Block> blocks; // by their addresses
bool guards_hold(const Block& b) {
    for (size_t i = 0; i < kGuard; ++i)
        if (b.data[-1 - ptrdiff_t(i)] != std::byte{0xA5} || b.data[b.bytes + i] != std::byte{0xA5}) return false;
    return true;
}
int allocate(unsigned long long* address, size_t bytes) {
    const std::lock_guard lock(state);
    DeviceState& d = devices()[size_t(here()->device)];
    if (!bytes) return kInvalidValue;
    if (d.used + bytes > memory_of_a_device()) return kOutOfMemory;
    Block b{here(), bytes, std::unique_ptr<std::byte[]>(new std::byte[bytes + 2 * kGuard + 256]), nullptr};
    b.data = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(b.whole.get()) + kGuard + 255) / 256 * 256);
    std::memset(b.data - kGuard, 0xA5, bytes + 2 * kGuard);
    std::memset(b.data, 0xFF, bytes); // NaN: what nobody writes shows
    d.used += bytes;
    *address = reinterpret_cast<unsigned long long>(b.data);
    {
        const std::lock_guard own(emulator);
        emu::allocations[b.data + bytes] = {b.data, bytes, std::vector<bool>(bytes, false)};
        emu::last_met = nullptr;
    }
    blocks.emplace(b.data, std::move(b));
    return kOk;
}
void forget(std::map<std::byte*, Block>::iterator at) { // with `state` held
    Block& b = at->second;
    if (!guards_hold(b)) fault("something wrote beside an allocation of " + std::to_string(b.bytes) + " bytes");
    devices()[size_t(b.context->device)].used -= b.bytes;
    {
        const std::lock_guard own(emulator);
        emu::allocations.erase(b.data + b.bytes);
        emu::last_met = nullptr;
    }
    blocks.erase(at);
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
    std::memcpy(to, from, bytes);
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

// ---- streams -----------------------------------------------------------------------------
bool held = false;
std::condition_variable_any held_changed;
void StreamState::serve() {
    for (;;) {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return closed || !waiting.empty(); });
        if (waiting.empty()) return;
        const auto work = std::move(waiting.front());
        waiting.pop_front();
        lock.unlock();
        {
            std::unique_lock gate(state);
            held_changed.wait(gate, [] { return !held; });
        }
        if (context->alive && !context->dead) work();
        lock.lock();
        ++done;
        changed.notify_all();
    }
}
std::map<void*, StreamHandle> streams;
std::map<ContextState*, StreamHandle> legacy;
thread_local std::map<ContextState*, StreamHandle> of_thread;

StreamHandle start(ContextState* context) {
    auto s = std::make_shared<StreamState>();
    s->context = context;
    std::thread([s] { s->serve(); }).detach();
    return s;
}
StreamHandle find(void* handle) {
    const std::lock_guard lock(state);
    if (!handle || reinterpret_cast<uintptr_t>(handle) == 2) {
        StreamHandle& s = handle ? of_thread[here()] : legacy[here()];
        if (!s) s = start(here());
        return s;
    }
    const auto found = streams.find(handle);
    return found == streams.end() ? nullptr : found->second;
}
struct EventState {
    StreamHandle stream;
    uint64_t ticket = 0;
};
std::set<EventState*> events;

// What a stream does with memory, unless the context ended meanwhile.
template <class F>
std::function<void()> guarded(F f) {
    return [context = here(), f] {
        const std::lock_guard lock(state);
        if (context->alive && !context->dead) f();
    };
}

const char* name_of(int status) {
    switch (status) {
        case kInvalidValue: return "CUDA_ERROR_INVALID_VALUE";
        case kOutOfMemory: return "CUDA_ERROR_OUT_OF_MEMORY";
        case kNotInitialized: return "CUDA_ERROR_NOT_INITIALIZED";
        case 100: return "CUDA_ERROR_NO_DEVICE";
        case kInvalidDevice: return "CUDA_ERROR_INVALID_DEVICE";
        case kInvalidImage: return "CUDA_ERROR_INVALID_IMAGE";
        case kInvalidContext: return "CUDA_ERROR_INVALID_CONTEXT";
        case kNoBinary: return "CUDA_ERROR_NO_BINARY_FOR_GPU";
        case kInvalidHandle: return "CUDA_ERROR_INVALID_HANDLE";
        case kNotFound: return "CUDA_ERROR_NOT_FOUND";
        case kNotReady: return "CUDA_ERROR_NOT_READY";
        case kIllegalAddress: return "CUDA_ERROR_ILLEGAL_ADDRESS";
        case kContextDestroyed: return "CUDA_ERROR_CONTEXT_IS_DESTROYED";
        case 719: return "CUDA_ERROR_LAUNCH_FAILED";
        case kCaptureUnsupported: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
        default: return "CUDA_ERROR_UNKNOWN";
    }
}

// Everything that was the context's is gone.
void end(ContextState* c) {
    c->alive = false;
    for (auto at = blocks.begin(); at != blocks.end();) {
        const auto next = std::next(at);
        if (at->second.context == c) forget(at);
        at = next;
    }
}

} // namespace fake

using namespace fake;

extern "C" {

void fake_cuda_fail(const char* name, int status, int skip) {
    const std::lock_guard lock(state);
    planned[name] = {status, skip};
}
int64_t fake_cuda_faults(const char** first) {
    const std::lock_guard lock(state);
    for (const auto& [_, b] : blocks)
        if (!guards_hold(b)) fault("something wrote beside an allocation of " + std::to_string(b.bytes) + " bytes");
    if (first) *first = first_fault.c_str();
    return faults;
}
uint64_t fake_cuda_bytes() {
    const std::lock_guard lock(state);
    uint64_t all = 0;
    for (const DeviceState& d : devices()) all += d.used;
    return all;
}
int64_t fake_cuda_calls(const char* name) {
    const std::lock_guard lock(state);
    return calls[name];
}
void fake_cuda_capture(void* stream, int on) { find(stream)->capturing = on; }
void fake_cuda_replay(void* stream) {
    const StreamHandle s = find(stream);
    for (const auto& work : s->captured) s->enqueue(work);
}
void fake_cuda_hold(int on) {
    const std::lock_guard lock(state);
    held = on;
    held_changed.notify_all();
}

int cuInit(unsigned) {
    ENTRY(cuInit);
    return devices().empty() ? 100 : kOk;
}
int cuDriverGetVersion(int* version) { return *version = 12040, kOk; }
int cuGetErrorName(int status, const char** name) { return *name = name_of(status), kOk; }
int cuDeviceGetCount(int* count) { return *count = int(devices().size()), kOk; }
int cuDeviceGet(int* device, int ordinal) { return ordinal < 0 || ordinal >= int(devices().size()) ? kInvalidDevice : (*device = ordinal, kOk); }
int cuDeviceGetName(char* name, int capacity, int device) {
    std::snprintf(name, size_t(capacity), "Fake GPU %d", device);
    return kOk;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    const int arch = devices()[size_t(device)].arch;
    switch (attribute) {
        case 16: return *value = 8, kOk;
        case 75: return *value = arch / 10, kOk;
        case 76: return *value = arch % 10, kOk;
        case 115: return *value = 1, kOk;
        default: return kInvalidValue;
    }
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = memory_of_a_device(), kOk; }

int cuDevicePrimaryCtxRetain(void** context, int device) {
    ENTRY(cuDevicePrimaryCtxRetain);
    const std::lock_guard lock(state);
    ContextState*& c = primary[device];
    if (!c || !c->alive) {
        contexts.push_back(std::make_unique<ContextState>());
        c = contexts.back().get();
        c->device = device;
    }
    ++c->retained;
    *context = c;
    return kOk;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    const std::lock_guard lock(state);
    ContextState* c = primary[device];
    if (!c || !c->retained) return kInvalidContext;
    if (--c->retained == 0) end(c);
    return kOk;
}
int cuDevicePrimaryCtxReset_v2(int device) {
    const std::lock_guard lock(state);
    ContextState*& c = primary[device];
    if (!c) return kInvalidContext;
    const int retained = c->retained;
    end(c);
    contexts.push_back(std::make_unique<ContextState>());
    c = contexts.back().get();
    c->device = device, c->retained = retained; // who held it still does
    return kOk;
}
int cuCtxCreate_v2(void** context, unsigned, int device) {
    const std::lock_guard lock(state);
    contexts.push_back(std::make_unique<ContextState>());
    contexts.back()->device = device;
    *context = contexts.back().get();
    current.push_back(contexts.back().get());
    return kOk;
}
int cuCtxDestroy_v2(void* context) {
    const std::lock_guard lock(state);
    end(static_cast<ContextState*>(context));
    return kOk;
}
int cuCtxSetCurrent(void* context) {
    if (current.empty()) current.push_back(nullptr);
    current.back() = static_cast<ContextState*>(context);
    return kOk;
}
int cuCtxGetCurrent(void** context) { return *context = here(), kOk; }
int cuCtxPushCurrent_v2(void* context) {
    ENTRY(cuCtxPushCurrent);
    if (!context) return kInvalidContext;
    current.push_back(static_cast<ContextState*>(context));
    return kOk;
}
int cuCtxPopCurrent_v2(void** context) {
    if (current.empty()) return kInvalidContext;
    *context = current.back();
    current.pop_back();
    return kOk;
}
int cuCtxGetDevice(int* device) {
    IN_CONTEXT(cuCtxGetDevice);
    return *device = here()->device, kOk;
}
int cuCtxSynchronize() {
    IN_CONTEXT(cuCtxSynchronize);
    std::vector<StreamHandle> all;
    {
        const std::lock_guard lock(state);
        for (const auto& [_, s] : streams)
            if (s->context == here()) all.push_back(s);
    }
    for (const StreamHandle& s : all) s->wait_for(s->put);
    return usable();
}

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    IN_CONTEXT(cuMemGetInfo);
    const std::lock_guard lock(state);
    *total = memory_of_a_device(), *free = *total - devices()[size_t(here()->device)].used;
    return kOk;
}
int cuMemAlloc_v2(unsigned long long* address, size_t bytes) {
    IN_CONTEXT(cuMemAlloc);
    return allocate(address, bytes);
}
int cuMemFree_v2(unsigned long long address) {
    IN_CONTEXT(cuMemFree);
    return release(address);
}
int cuMemcpyHtoD_v2(unsigned long long to, const void* from, size_t bytes) {
    IN_CONTEXT(cuMemcpyHtoD);
    return copy(reinterpret_cast<void*>(to), from, bytes, true, false), kOk;
}
int cuMemcpyDtoH_v2(void* to, unsigned long long from, size_t bytes) {
    IN_CONTEXT(cuMemcpyDtoH);
    return copy(to, reinterpret_cast<const void*>(from), bytes, false, true), kOk;
}
int cuMemsetD8_v2(unsigned long long to, unsigned char value, size_t bytes) {
    IN_CONTEXT(cuMemsetD8);
    return fill(to, value, bytes), kOk;
}
int cuMemPoolCreate(void** pool, const void*) {
    IN_CONTEXT(cuMemPoolCreate);
    return *pool = new int(here()->device), kOk;
}
int cuMemPoolDestroy(void* pool) { return delete static_cast<int*>(pool), kOk; }
int cuMemPoolTrimTo(void*, size_t) {
    ENTRY(cuMemPoolTrimTo);
    return kOk;
}
int cuMemPoolSetAttribute(void*, int, void*) { return kOk; }
int cuMemPoolGetAttribute(void* pool, int, void* value) {
    const std::lock_guard lock(state);
    return *static_cast<uint64_t*>(value) = devices()[size_t(*static_cast<int*>(pool))].used, kOk;
}
int cuMemAllocFromPoolAsync(unsigned long long* address, size_t bytes, void*, void* stream) {
    IN_CONTEXT(cuMemAllocFromPoolAsync);
    STREAM(stream);
    return allocate(address, bytes);
}
int cuMemFreeAsync(unsigned long long address, void* stream) {
    IN_CONTEXT(cuMemFreeAsync);
    STREAM(stream);
    if (!s->capturing) s->enqueue(guarded([address] { release(address); })); // a graph's own memory stays for its next launch
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
int cuMemHostAlloc(void** p, size_t bytes, unsigned) {
    IN_CONTEXT(cuMemHostAlloc);
    return (*p = std::malloc(bytes)) ? kOk : kOutOfMemory;
}
int cuMemFreeHost(void* p) { return std::free(p), kOk; }
int cuPointerGetAttribute(void* value, int, unsigned long long address) {
    const std::lock_guard lock(state);
    const Block* b = holder(address, 1);
    if (!b) return kInvalidValue;
    *static_cast<int*>(value) = b->context->device;
    return kOk;
}

int cuStreamCreate(void** stream, unsigned) {
    IN_CONTEXT(cuStreamCreate);
    const StreamHandle s = start(here());
    const std::lock_guard lock(state);
    streams[s.get()] = s;
    *stream = s.get();
    return kOk;
}
int cuStreamDestroy_v2(void* stream) {
    const StreamHandle s = find(stream);
    if (!s) return kInvalidHandle;
    {
        const std::lock_guard lock(state);
        streams.erase(stream);
    }
    const std::lock_guard lock(s->mutex);
    s->closed = true;
    s->changed.notify_all();
    return kOk;
}
int cuStreamSynchronize(void* stream) {
    IN_CONTEXT(cuStreamSynchronize);
    STREAM(stream);
    if (s->capturing) return kCaptureUnsupported;
    s->wait_for(s->put);
    return usable();
}
int cuStreamIsCapturing(void* stream, int* status) {
    STREAM(stream);
    return *status = s->capturing, kOk;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned) {
    STREAM(stream);
    const EventState e = *static_cast<EventState*>(event);
    s->enqueue([e] {
        if (e.stream) e.stream->wait_for(e.ticket);
    });
    return kOk;
}
int cuEventCreate(void** event, unsigned) {
    IN_CONTEXT(cuEventCreate);
    const std::lock_guard lock(state);
    *event = *events.insert(new EventState).first;
    return kOk;
}
int cuEventDestroy_v2(void* event) {
    const std::lock_guard lock(state);
    if (!events.erase(static_cast<EventState*>(event))) return fault("an event destroyed that is none"), kInvalidHandle;
    return delete static_cast<EventState*>(event), kOk;
}
int cuEventRecord(void* event, void* stream) {
    IN_CONTEXT(cuEventRecord);
    STREAM(stream);
    if (s->capturing) return kCaptureUnsupported;
    const std::lock_guard lock(s->mutex);
    *static_cast<EventState*>(event) = {s, s->put};
    return kOk;
}
int cuEventSynchronize(void* event) {
    IN_CONTEXT(cuEventSynchronize);
    const EventState e = *static_cast<EventState*>(event);
    if (e.stream) e.stream->wait_for(e.ticket);
    return usable();
}
int cuEventQuery(void* event) {
    const EventState e = *static_cast<EventState*>(event);
    if (!e.stream) return kOk;
    const std::lock_guard lock(e.stream->mutex);
    return e.stream->done >= e.ticket ? kOk : kNotReady;
}
}
