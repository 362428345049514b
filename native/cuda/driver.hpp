// driver.hpp — libcuda opened at run time: the calls that are used, and errors as sentences. No CUDA header is needed.
#pragma once
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace cuda {

using Device = int;
using Context = void*;
using Module = void*;
using Function = void*;
using Stream = void*;
using Address = unsigned long long;
struct alignas(64) TensorMap { // CUtensorMap
    uint64_t opaque[16];
};

enum Attribute { kComputeMajor = 75, kComputeMinor = 76 };
constexpr int kMaxDynamicSharedMemory = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
// CUtensorMapDataType, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill
constexpr int kFloat16 = 6, kBfloat16 = 9, kNoInterleave = 0, kSwizzle128 = 3, kPromote128 = 2, kZerosOutside = 0;

struct Driver {
    int (*init)(unsigned);
    int (*device_count)(int*);
    int (*device)(Device*, int);
    int (*device_name)(char*, int, Device);
    int (*device_attribute)(int*, int, Device);
    int (*retain)(Context*, Device);
    int (*set_current)(Context);
    int (*allocate)(Address*, size_t);
    int (*free)(Address);
    int (*to_device)(Address, const void*, size_t);
    int (*to_host)(void*, Address, size_t);
    int (*fill)(Address, unsigned char, size_t);
    int (*load)(Module*, const void*);
    int (*function)(Function*, Module, const char*);
    int (*set_function)(Function, int, int);
    int (*launch)(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**, void**);
    int (*synchronize)();
    int (*error_name)(int, const char**);
    int (*encode_tiled)(TensorMap*, int, uint32_t, void*, const uint64_t*, const uint64_t*, const uint32_t*, const uint32_t*, int, int, int,
                        int); // null before CUDA 12

    bool open() {
        void* library = dlopen("libcuda.so.1", RTLD_NOW);
        if (!library) return false;
        const auto get = [&](auto& f, const char* name) { f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name)); };
        get(init, "cuInit"), get(device_count, "cuDeviceGetCount"), get(device, "cuDeviceGet"), get(device_name, "cuDeviceGetName");
        get(device_attribute, "cuDeviceGetAttribute"), get(retain, "cuDevicePrimaryCtxRetain"), get(set_current, "cuCtxSetCurrent");
        get(allocate, "cuMemAlloc_v2"), get(free, "cuMemFree_v2"), get(to_device, "cuMemcpyHtoD_v2"), get(to_host, "cuMemcpyDtoH_v2"),
            get(fill, "cuMemsetD8_v2");
        get(load, "cuModuleLoadData"), get(function, "cuModuleGetFunction"), get(set_function, "cuFuncSetAttribute"), get(launch, "cuLaunchKernel");
        get(synchronize, "cuCtxSynchronize"), get(error_name, "cuGetErrorName"), get(encode_tiled, "cuTensorMapEncodeTiled");
        return init && device_count && device && device_name && device_attribute && retain && set_current && allocate && free && to_device && to_host && fill &&
               load && function && set_function && launch && synchronize && error_name;
    }
    // Throws the CUDA name of an error and what was being done.
    void check(int status, const std::string& doing) const {
        if (!status) return;
        const char* name = nullptr;
        error_name(status, &name);
        throw std::runtime_error(std::string(name ? name : "CUDA error " + std::to_string(status)) + " while " + doing);
    }
};

} // namespace cuda
