// driver.hpp — libcuda opened at run time: the calls that are used, and errors as sentences. No CUDA header is needed.
#pragma once
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace cuda {

using Device = int;
using Context = void*;
using Module = void*;
using Function = void*;
using Stream = void*;
using Event = void*;
using Pool = void*;
using Address = unsigned long long;
struct alignas(128) TensorMap { // CUtensorMap, aligned as CUDA 13 has it (CUDA 12: 64)
    uint64_t opaque[16];
};
struct PoolProperties {                                        // CUmemPoolProps: in `reserved` lie newer fields, of which 0 is "as ever"
    int allocation = 1, handles = 0, location = 1, device = 0; // pinned, not shared, on a device
    void* security = nullptr;
    unsigned char reserved[64] = {};
};
static_assert(sizeof(TensorMap) == 128 && sizeof(PoolProperties) == 88);

enum Attribute { kProcessors = 16, kL2Bytes = 38, kComputeMajor = 75, kComputeMinor = 76, kMemoryPools = 115 };
constexpr int kMaxDynamicSharedMemory = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
// CUtensorMapDataType, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill
constexpr int kFloat16 = 6, kBfloat16 = 9, kNoInterleave = 0, kSwizzle128 = 3, kPromote128 = 2, kZerosOutside = 0;
constexpr int kReuseByWaiting = 3, kReleaseThreshold = 4, kReserved = 5;    // CUmemPool_attribute; the first is REUSE_ALLOW_INTERNAL_DEPENDENCIES
constexpr int kPointerDevice = 9, kPointerMemoryType = 2;                   // CUpointer_attribute
constexpr int kNonBlocking = 1, kBlockingSyncWithoutTiming = 3;             // of a stream, of an event
inline const Stream kThreadStream = reinterpret_cast<Stream>(uintptr_t(2)); // CU_STREAM_PER_THREAD: ordered after the legacy stream's work
constexpr int kRelaxedCapture = 2;                                          // CUstreamCaptureMode

constexpr int kInvalidValue = 1, kOutOfMemory = 2, kNoDevice = 100, kInvalidImage = 200, kInvalidContext = 201, kNoBinaryForGpu = 209, kInvalidPtx = 218,
              kUnsupportedPtx = 222, kNotReady = 600, kContextDestroyed = 709;
// Errors after which nothing in the context works any more: those of which CUDA says that any further work will return them, and that there is no context.
constexpr bool is_sticky(int status) {
    for (const int dead : {201, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721})
        if (status == dead) return true;
    return false;
}

// An error of CUDA's: "CUDA_ERROR_ILLEGAL_ADDRESS (700) while launching naive.f32".
class Failure : public std::runtime_error {
public:
    Failure(int code, const std::string& text) : std::runtime_error(text), code(code) {}
    const int code;
};

struct Driver {
    int (*init)(unsigned);
    int (*driver_version)(int*);
    int (*device_count)(int*);
    int (*device)(Device*, int);
    int (*device_name)(char*, int, Device);
    int (*device_attribute)(int*, int, Device);
    int (*total_memory)(size_t*, Device);
    int (*retain)(Context*, Device);
    int (*release)(Device);
    int (*reset)(Device);
    int (*set_current)(Context);
    int (*push)(Context);
    int (*pop)(Context*);
    int (*current_device)(Device*);
    int (*memory_info)(size_t*, size_t*);
    int (*allocate)(Address*, size_t);
    int (*free)(Address);
    int (*to_device)(Address, const void*, size_t);
    int (*to_host)(void*, Address, size_t);
    int (*fill)(Address, unsigned char, size_t);
    int (*pool_create)(Pool*, const PoolProperties*);
    int (*pool_destroy)(Pool);
    int (*pool_trim)(Pool, size_t);
    int (*pool_set)(Pool, int, void*);
    int (*pool_get)(Pool, int, void*);
    int (*allocate_async)(Address*, size_t, Pool, Stream);
    int (*free_async)(Address, Stream);
    int (*to_device_async)(Address, const void*, size_t, Stream);
    int (*to_host_async)(void*, Address, size_t, Stream);
    int (*copy_async)(Address, Address, size_t, Stream);
    int (*fill_async)(Address, unsigned char, size_t, Stream);
    int (*host_allocate)(void**, size_t, unsigned);
    int (*host_free)(void*);
    int (*pointer_attribute)(void*, int, Address);
    int (*stream_create)(Stream*, unsigned);
    int (*stream_destroy)(Stream);
    int (*stream_synchronize)(Stream);
    int (*stream_is_capturing)(Stream, int*);
    int (*exchange_capture_mode)(int*);
    int (*stream_wait)(Stream, Event, unsigned);
    int (*event_query)(Event);
    int (*event_create)(Event*, unsigned);
    int (*event_destroy)(Event);
    int (*event_record)(Event, Stream);
    int (*event_synchronize)(Event);
    int (*load)(Module*, const void*);
    int (*unload)(Module);
    int (*function)(Function*, Module, const char*);
    int (*set_function)(Function, int, int);
    int (*launch)(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**, void**);
    int (*synchronize)();
    int (*error_name)(int, const char**);
    int (*encode_tiled)(TensorMap*, int, uint32_t, void*, const uint64_t*, const uint64_t*, const uint32_t*, const uint32_t*, int, int, int,
                        int); // null before CUDA 12

    // What is opened: ATTENTION_CUDA if it is set (the path of a driver library), else the system's driver.
    static const char* path() {
        const char* given = std::getenv("ATTENTION_CUDA");
        return given && *given ? given : "libcuda.so.1";
    }
    std::string wrong; // why open() said no
    bool open() {
        void* library = dlopen(path(), RTLD_NOW);
        if (!library) return wrong = dlerror(), false;
        const char* missing = nullptr;
        const auto get = [&](auto& f, const char* name) {
            f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name));
            if (!f && !missing) missing = name;
        };
        get(init, "cuInit"), get(driver_version, "cuDriverGetVersion"), get(error_name, "cuGetErrorName");
        get(device_count, "cuDeviceGetCount"), get(device, "cuDeviceGet"), get(device_name, "cuDeviceGetName"), get(device_attribute, "cuDeviceGetAttribute");
        get(total_memory, "cuDeviceTotalMem_v2"), get(retain, "cuDevicePrimaryCtxRetain"), get(release, "cuDevicePrimaryCtxRelease_v2");
        get(reset, "cuDevicePrimaryCtxReset_v2"), get(set_current, "cuCtxSetCurrent"), get(push, "cuCtxPushCurrent_v2"), get(pop, "cuCtxPopCurrent_v2");
        get(current_device, "cuCtxGetDevice"), get(synchronize, "cuCtxSynchronize"), get(memory_info, "cuMemGetInfo_v2");
        get(allocate, "cuMemAlloc_v2"), get(free, "cuMemFree_v2"), get(to_device, "cuMemcpyHtoD_v2"), get(to_host, "cuMemcpyDtoH_v2");
        get(fill, "cuMemsetD8_v2"), get(pool_create, "cuMemPoolCreate"), get(pool_destroy, "cuMemPoolDestroy"), get(pool_trim, "cuMemPoolTrimTo");
        get(pool_set, "cuMemPoolSetAttribute"), get(pool_get, "cuMemPoolGetAttribute"), get(allocate_async, "cuMemAllocFromPoolAsync");
        get(free_async, "cuMemFreeAsync"), get(to_device_async, "cuMemcpyHtoDAsync_v2"), get(to_host_async, "cuMemcpyDtoHAsync_v2");
        get(copy_async, "cuMemcpyDtoDAsync_v2"), get(fill_async, "cuMemsetD8Async"), get(host_allocate, "cuMemHostAlloc"), get(host_free, "cuMemFreeHost");
        get(pointer_attribute, "cuPointerGetAttribute"), get(stream_create, "cuStreamCreate"), get(stream_destroy, "cuStreamDestroy_v2");
        get(stream_synchronize, "cuStreamSynchronize"), get(stream_is_capturing, "cuStreamIsCapturing"), get(event_create, "cuEventCreate");
        get(event_destroy, "cuEventDestroy_v2"), get(event_record, "cuEventRecord"), get(event_synchronize, "cuEventSynchronize");
        get(load, "cuModuleLoadData"), get(unload, "cuModuleUnload"), get(function, "cuModuleGetFunction"), get(set_function, "cuFuncSetAttribute");
        get(exchange_capture_mode, "cuThreadExchangeStreamCaptureMode");
        get(launch, "cuLaunchKernel"), get(stream_wait, "cuStreamWaitEvent"), get(event_query, "cuEventQuery");
        encode_tiled = reinterpret_cast<decltype(encode_tiled)>(dlsym(library, "cuTensorMapEncodeTiled"));
        if (missing) wrong = std::string(path()) + " has no " + missing + "; a driver since CUDA 11.2 is needed";
        return !missing;
    }
    std::string name_of(int status) const {
        const char* name = nullptr;
        if (error_name) error_name(status, &name);
        return (name ? name : "CUDA_ERROR_UNKNOWN") + std::string(" (") + std::to_string(status) + ")";
    }
    // Throws the CUDA name of an error and what was being done.
    void check(int status, const std::string& doing) const {
        if (status) throw Failure(status, name_of(status) + " while " + doing);
    }
};

} // namespace cuda
