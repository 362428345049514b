// nvrtc.hpp — NVRTC opened at run time: ATTENTION_NVRTC names a file, else the system's libnvrtc of CUDA 13, 12, 11.2 or whatever there is.
#pragma once
#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

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
    std::string path; // what was opened

    static constexpr const char* kNames = "libnvrtc.so.13, libnvrtc.so.12, libnvrtc.so.11.2, libnvrtc.so";
    static std::string missing() { return std::string("no NVRTC, which compiles the kernels: ") + kNames + " were looked for; ATTENTION_NVRTC names another"; }
    // `driver`: the CUDA version of the driver, e.g. 12040, or 0. A driver need not load what an NVRTC of a later major version compiles: those come last.
    bool open(int driver = 0) {
        void* library = nullptr;
        const auto take = [&](const char* name) {
            if ((library = dlopen(name, RTLD_NOW))) path = name;
            else wrong += (wrong.empty() ? "" : "; ") + std::string(dlerror());
        };
        if (const char* given = std::getenv("ATTENTION_NVRTC"); given && *given) {
            take(given);
        } else {
            for (const bool newer : {false, true})
                for (const auto& [name, major] : {std::pair{"libnvrtc.so.13", 13},
                                                  {"libnvrtc.so.12", 12},
                                                  {"libnvrtc.so.11.2", 11},
                                                  {"libnvrtc.so", 0},
                                                  {"/usr/local/cuda/lib64/libnvrtc.so", 0}})
                    if (!library && (driver && major > driver / 1000) == newer) take(name);
        }
        if (!library) return false;
        const auto get = [&](auto& f, const char* name) { f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name)); };
        get(version, "nvrtcVersion"), get(create, "nvrtcCreateProgram"), get(destroy, "nvrtcDestroyProgram"), get(add_name, "nvrtcAddNameExpression");
        get(compile, "nvrtcCompileProgram"), get(log_size, "nvrtcGetProgramLogSize"), get(log, "nvrtcGetProgramLog");
        get(ptx_size, "nvrtcGetPTXSize"), get(ptx, "nvrtcGetPTX"), get(lowered_name, "nvrtcGetLoweredName");
        get(cubin_size, "nvrtcGetCUBINSize"), get(cubin, "nvrtcGetCUBIN");
        get(architectures, "nvrtcGetNumSupportedArchs"), get(architecture_list, "nvrtcGetSupportedArchs");
        if (!(version && create && destroy && add_name && compile && log_size && log && ptx_size && ptx && lowered_name && cubin_size && cubin &&
              architectures && architecture_list))
            return wrong = path + " is no NVRTC since CUDA 11.2", false;
        open_builtins();
        return true;
    }
    std::string wrong; // why open() said no

private:
    // NVRTC opens its builtins by name when it first compiles, which finds none where it lies in no folder of the system's (in a package of PyTorch's, say):
    // loaded before, they are found wherever they lie beside it.
    void open_builtins() {
        int major = 0, minor = 0;
        if (version(&major, &minor)) return;
        Dl_info info{};
        if (dladdr(reinterpret_cast<void*>(version), &info) && info.dli_fname && std::strchr(info.dli_fname, '/')) path = info.dli_fname;
        const std::string wanted = "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor);
        char* resolved = realpath(path.c_str(), nullptr);
        for (const std::string& library : {path, std::string(resolved ? resolved : "")})
            if (const size_t slash = library.find_last_of('/'); slash != std::string::npos)
                if (dlopen((library.substr(0, slash + 1) + wanted).c_str(), RTLD_NOW | RTLD_GLOBAL)) break;
        std::free(resolved);
    }
};

} // namespace cuda
