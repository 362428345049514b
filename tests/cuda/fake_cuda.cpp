// fake_cuda.cpp — a libcuda without a GPU: the driver's calls that the library uses, their rules, and kernels that run in the emulator. Devices are as
// FAKE_CUDA_ARCHS says ("90,80,75": the default), each with FAKE_CUDA_MB of memory (256); FAKE_CUDA_VERSION is the driver's (12040). Streams are threads;
// kernels run one at a time. Here: devices, contexts, streams and events. fake_memory.cpp: memory. fake_modules.cpp: kernels.
#include "fake_cuda.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "fake_driver.hpp"

namespace fake {

std::recursive_mutex state;
std::mutex emulator;
bool ending = false;
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
        if (made.works()) work();
        lock.lock();
        ++done;
        changed.notify_all();
    }
}
std::map<void*, StreamHandle> streams;
std::map<ContextState*, StreamHandle> legacy;
thread_local std::map<ContextState*, StreamHandle> of_thread;

std::map<ContextState*, std::vector<std::weak_ptr<StreamState>>> started;
StreamHandle start(ContextState* context, bool blocking) {
    auto s = std::make_shared<StreamState>(context, blocking);
    started[context].push_back(s);
    std::thread([s] { s->serve(); }).detach();
    return s;
}
std::vector<StreamHandle> streams_of(ContextState* context) { // with `state` held
    std::vector<StreamHandle> all;
    for (const auto& weak : started[context])
        if (StreamHandle s = weak.lock(); s && s->made.stands()) all.push_back(std::move(s));
    return all;
}
// What is put on `s` next comes after what is on the other now.
void follow(StreamState& s, const StreamHandle& other) {
    uint64_t ticket;
    {
        const std::lock_guard lock(other->mutex);
        if (other->done == other->put) return;
        ticket = other->put;
    }
    s.enqueue([other, ticket] { other->wait_for(ticket); });
}
StreamHandle in_order(StreamHandle s) { // with `state` held
    const StreamHandle& first = legacy[here()];
    if (s->capturing || !s->blocking || !first || !first->made.stands()) return s;
    if (s != first) return follow(*s, first), s;
    for (const StreamHandle& other : streams_of(here()))
        if (other->blocking && other != s && !other->capturing) follow(*s, other);
    return s;
}
void finish_legacy() {
    const StreamHandle s = find(nullptr);
    s->wait_for(s->put);
}
StreamHandle find(void* handle) {
    const std::lock_guard lock(state);
    if (!handle || reinterpret_cast<uintptr_t>(handle) == 2) {
        StreamHandle& s = handle ? of_thread[here()] : legacy[here()];
        if (!s || !s->made.stands()) s = start(here(), true);
        return in_order(s);
    }
    const auto found = streams.find(handle);
    if (found == streams.end()) return fault("a stream that is none"), nullptr;
    if (found->second->made.context != here() || !found->second->made.stands()) return fault("a stream of another context, or of one that was reset"), nullptr;
    return in_order(found->second);
}

// ---- captures: all of the mode that PyTorch begins them with, which is global
thread_local int capture_mode = 0; // CU_STREAM_CAPTURE_MODE_GLOBAL
std::set<StreamState*> capturing;
int unsafe() {
    const std::lock_guard lock(state);
    if (capturing.empty() || capture_mode) return kOk; // another mode than global, of a thread that captures nothing itself or does not mind
    for (StreamState* s : capturing) s->invalid = true;
    return kCaptureUnsupported;
}

struct EventState {
    explicit EventState(ContextState* context) : made(context) {}
    Made made;
    StreamHandle stream;
    uint64_t ticket = 0;
    bool captured = false;
};
std::set<EventState*> events;
EventState* event_of(void* handle) { // null: none that can be used here
    const std::lock_guard lock(state);
    auto* e = static_cast<EventState*>(handle);
    if (!events.count(e)) return fault("an event that is none"), nullptr;
    if (!e->made.stands()) return fault("an event of a context that was reset"), nullptr;
    return e;
}
int captured_event(const EventState& e) {
    const std::lock_guard lock(state);
    if (!e.captured) return kOk;
    for (StreamState* s : capturing) s->invalid = true;
    return kCapturedEvent;
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
        case kCaptureInvalidated: return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
        case kCaptureIsolation: return "CUDA_ERROR_STREAM_CAPTURE_ISOLATION";
        case kCapturedEvent: return "CUDA_ERROR_CAPTURED_EVENT";
        default: return "CUDA_ERROR_UNKNOWN";
    }
}

// Everything that was the context's is gone.
void end(ContextState* c) {
    c->alive = false;
    release_all(c);
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
    check_guards();
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
void fake_cuda_capture(void* stream, int on) {
    const std::lock_guard lock(state);
    StreamState& s = *streams.at(stream);
    s.capturing = on;
    if (!on) return void(capturing.erase(&s));
    s.invalid = false, s.captured.clear(), capturing.insert(&s);
}
void fake_cuda_replay(void* stream) {
    StreamHandle s;
    {
        const std::lock_guard lock(state);
        s = streams.at(stream);
    }
    if (s->invalid) return fault("a graph launched whose capture was made worthless");
    for (const auto& work : s->captured) s->enqueue(work);
}
void fake_cuda_hold(int on) {
    const std::lock_guard lock(state);
    held = on;
    held_changed.notify_all();
}

int cuInit(unsigned flags) {
    ENTRY(cuInit);
    devices();
    static const int told = std::atexit([] { // before anything here is destroyed, while threads of streams live on
        const std::scoped_lock lock(state, emulator);
        ending = true;
    });
    (void)told;
    if (flags) return kInvalidValue;
    return devices().empty() ? 100 : kOk;
}
int cuDriverGetVersion(int* version) {
    const char* given = std::getenv("FAKE_CUDA_VERSION");
    return *version = given ? std::atoi(given) : 12040, kOk;
}
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
        case 38: return *value = 64 << 10, kOk; // so little that heads go one group at a time in the larger cases
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
    ENTRY(cuDevicePrimaryCtxReset);
    const std::lock_guard lock(state);
    ContextState*& c = primary[device];
    if (!c) return kInvalidContext;
    end(c);
    c->alive = true, c->dead = 0, ++c->resets; // who held it still does
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
    NOT_WHILE_CAPTURED(cuCtxSynchronize);
    std::vector<StreamHandle> all;
    {
        const std::lock_guard lock(state);
        all = streams_of(here());
    }
    for (const StreamHandle& s : all) s->wait_for(s->put);
    return usable();
}

int cuStreamCreate(void** stream, unsigned flags) {
    IN_CONTEXT(cuStreamCreate);
    if (flags > 1) return kInvalidValue;
    const std::lock_guard lock(state);
    const StreamHandle s = start(here(), !flags);
    streams[s.get()] = s;
    *stream = s.get();
    return kOk;
}
int cuStreamDestroy_v2(void* stream) {
    StreamHandle s;
    {
        const std::lock_guard lock(state);
        const auto found = streams.find(stream);
        if (found == streams.end()) return fault("a stream destroyed that is none"), kInvalidHandle;
        s = found->second;
        if (!s->made.stands()) return fault("a stream destroyed of a context that was reset"), kInvalidHandle;
        streams.erase(found), capturing.erase(s.get());
        for (const unsigned long long address : s->graphs_memory) release_memory(address); // the graph goes with it
    }
    const std::lock_guard lock(s->mutex);
    s->closed = true;
    s->changed.notify_all();
    return kOk;
}
int cuStreamSynchronize(void* stream) {
    NOT_WHILE_CAPTURED(cuStreamSynchronize);
    STREAM(stream);
    if (s->capturing) return s->invalid = true, kCaptureUnsupported;
    s->wait_for(s->put);
    return usable();
}
int cuStreamIsCapturing(void* stream, int* status) {
    IN_CONTEXT(cuStreamIsCapturing);
    const StreamHandle s = find(stream);
    if (!s) return kInvalidHandle;
    return *status = !s->capturing ? 0 : s->invalid ? 2 : 1, kOk;
}
int cuThreadExchangeStreamCaptureMode(int* mode) {
    if (*mode < 0 || *mode > 2) return kInvalidValue;
    return std::swap(*mode, capture_mode), kOk;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned flags) {
    IN_CONTEXT(cuStreamWaitEvent);
    STREAM(stream);
    const EventState* known = event_of(event);
    if (!known) return kInvalidHandle;
    if (flags > 1) return kInvalidValue;
    if (s->capturing && !known->captured) return s->invalid = true, kCaptureIsolation; // what was done before is no part of a graph
    if (!s->capturing && known->captured) return fault("a stream that joins another's capture"), kCaptureIsolation;
    s->enqueue([e = *known] {
        if (e.stream) e.stream->wait_for(e.ticket);
    });
    return kOk;
}
int cuEventCreate(void** event, unsigned flags) {
    IN_CONTEXT(cuEventCreate);
    if (flags > 3) return kInvalidValue; // 4, for other processes, is none of the library's
    const std::lock_guard lock(state);
    *event = *events.insert(new EventState(here())).first;
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
    EventState* e = event_of(event);
    if (!e || e->made.context != here()) return kInvalidHandle;
    const std::lock_guard lock(s->mutex);
    e->stream = s, e->ticket = s->put, e->captured = s->capturing;
    return kOk;
}
int cuEventSynchronize(void* event) {
    NOT_WHILE_CAPTURED(cuEventSynchronize);
    const EventState* known = event_of(event);
    if (!known) return kInvalidHandle;
    if (const int status = captured_event(*known)) return status;
    const EventState e = *known;
    if (e.stream) e.stream->wait_for(e.ticket);
    return usable();
}
int cuEventQuery(void* event) {
    NOT_WHILE_CAPTURED(cuEventQuery);
    const EventState* known = event_of(event);
    if (!known) return kInvalidHandle;
    if (const int status = captured_event(*known)) return status;
    const EventState e = *known;
    if (!e.stream) return kOk;
    const std::lock_guard lock(e.stream->mutex);
    return e.stream->done >= e.ticket ? kOk : kNotReady;
}
}
