// ilgpu_cuda.cpp — the libcuda.so that ILGPU opens by its name: the driver without a GPU, and what ILGPU calls beyond what the library does. What takes no
// part in attention answers what lets ILGPU go on.
#include <dlfcn.h>

#include <cstddef>
#include <cstring>

using Address = unsigned long long;

extern "C" {

int cuPointerGetAttribute(void* value, int attribute, Address address);
int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream);
int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream);
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void* stream);
int cuMemHostAlloc(void** p, size_t bytes, unsigned flags);
int cuStreamCreate(void** stream, unsigned flags);
int cuStreamSynchronize(void* stream);

int cuDeviceGetAttribute(int* value, int attribute, int device) {
    const auto known = reinterpret_cast<int (*)(int*, int, int)>(dlsym(RTLD_NEXT, "cuDeviceGetAttribute"));
    if (known(value, attribute, device)) *value = attribute == 10 ? 32 : 1024; // the threads of a warp; as much of the rest as does no harm
    return 0;
}
int cuGetErrorString(int, const char** text) { return *text = "an error", 0; }
int cuCtxGetCacheConfig(int* config) { return *config = 0; }
int cuCtxGetSharedMemConfig(int* config) { return *config = 0; }
int cuMemAllocHost_v2(void** p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }
int cuMemHostRegister_v2(void*, size_t, unsigned) { return 0; }
int cuMemHostUnregister(void*) { return 0; }
int cuStreamCreateWithPriority(void** stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

// Where the bytes lie their addresses tell. As CUDA does with memory that is not page-locked, it returns when they are copied.
int cuMemcpyAsync(Address to, Address from, size_t bytes, void* stream) {
    int device;
    const bool to_device = !cuPointerGetAttribute(&device, 9, to), from_device = !cuPointerGetAttribute(&device, 9, from);
    const int status = to_device && from_device ? cuMemcpyDtoDAsync_v2(to, from, bytes, stream)
                       : to_device              ? cuMemcpyHtoDAsync_v2(to, reinterpret_cast<const void*>(from), bytes, stream)
                       : from_device            ? cuMemcpyDtoHAsync_v2(reinterpret_cast<void*>(to), from, bytes, stream)
                                                : (std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes), 0);
    return status ? status : cuStreamSynchronize(stream);
}
}
