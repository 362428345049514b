// fake_cuda.cpp — a libcuda without a GPU: the driver's calls that the library uses, their rules, and kernels that run in the emulator. Devices are as
// FAKE_CUDA_ARCHS says ("90,80,75": the default), each with FAKE_CUDA_MB of memory (256); FAKE_CUDA_VERSION is the driver's (12040). Streams are threads;
// kernels run one at a time. Here: devices and contexts. fake_streams.cpp: streams, events and captures. fake_memory.cpp: memory. fake_modules.cpp: kernels.
#include "fake_cuda.hpp"

#include <cstdio>
#include <cstdlib>
#include <map>

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
}
