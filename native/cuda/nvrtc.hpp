// nvrtc.hpp — NVRTC opened at run time: ATTENTION_NVRTC names a file, else the system's libnvrtc of CUDA 13, 12 or whatever there is.
#pragma once
#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>
#include <string>
#include <type_traits>

namespace cuda {

struct Nvrtc {
    using Program = void*;
    int (*version)(int*, int*);
    int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*);
    int (*destroy)(Program*);
    int (*add_name)(Program, const char*);
    int (*compile)(Program, int, const char* const*);
    int (*log_size)(Program, size_t*);
    int (*log)(Program, char*);
    int (*ptx_size)(Program, size_t*);
    int (*ptx)(Program, char*);
    int (*lowered_name)(Program, const char*, const char**);
    int (*cubin_size)(Program, size_t*);
    int (*cubin)(Program, char*);
    int (*architectures)(int*);
    int (*architecture_list)(int*);

    bool open() {
        void* library = nullptr;
        if (const char* path = std::getenv("ATTENTION_NVRTC")) {
            // The builtins lie beside it and are opened by name: loaded first, they are found.
            const std::string folder = std::string(path).substr(0, std::string(path).find_last_of('/') + 1);
            dlopen((folder + "libnvrtc-builtins.so.12.4").c_str(), RTLD_NOW | RTLD_GLOBAL);
            library = dlopen(path, RTLD_NOW);
        }
        for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"})
            if (!library) library = dlopen(name, RTLD_NOW);
        if (!library) return false;
        const auto get = [&](auto& f, const char* name) { f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name)); };
        get(version, "nvrtcVersion"), get(create, "nvrtcCreateProgram"), get(destroy, "nvrtcDestroyProgram"), get(add_name, "nvrtcAddNameExpression");
        get(compile, "nvrtcCompileProgram"), get(log_size, "nvrtcGetProgramLogSize"), get(log, "nvrtcGetProgramLog");
        get(ptx_size, "nvrtcGetPTXSize"), get(ptx, "nvrtcGetPTX"), get(lowered_name, "nvrtcGetLoweredName");
        get(cubin_size, "nvrtcGetCUBINSize"), get(cubin, "nvrtcGetCUBIN");
        get(architectures, "nvrtcGetNumSupportedArchs"), get(architecture_list, "nvrtcGetSupportedArchs");
        return version && create && destroy && add_name && compile && log_size && log && cubin_size && cubin && architectures && architecture_list;
    }
};

} // namespace cuda
