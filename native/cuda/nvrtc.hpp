// nvrtc.hpp — NVRTC opened at run time: ATTENTION_NVRTC names a file, else the system's libnvrtc of CUDA 13, 12, 11.2 or whatever there is.
#pragma once
#include <dirent.h>
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
    std::string path; // what was opened

    static constexpr const char* kNames = "libnvrtc.so.13, libnvrtc.so.12, libnvrtc.so.11.2, libnvrtc.so";
    static std::string missing() { return std::string("no NVRTC, which compiles the kernels: ") + kNames + " were looked for; ATTENTION_NVRTC names another"; }
    bool open() {
        void* library = nullptr;
        if (const char* given = std::getenv("ATTENTION_NVRTC"); given && *given) {
            open_builtins_beside(given);
            library = dlopen(given, RTLD_NOW);
            path = given;
        } else {
            for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so", "/usr/local/cuda/lib64/libnvrtc.so"})
                if (!library) library = dlopen(name, RTLD_NOW), path = name;
        }
        if (!library) return false;
        const auto get = [&](auto& f, const char* name) { f = reinterpret_cast<std::remove_reference_t<decltype(f)>>(dlsym(library, name)); };
        get(version, "nvrtcVersion"), get(create, "nvrtcCreateProgram"), get(destroy, "nvrtcDestroyProgram"), get(add_name, "nvrtcAddNameExpression");
        get(compile, "nvrtcCompileProgram"), get(log_size, "nvrtcGetProgramLogSize"), get(log, "nvrtcGetProgramLog");
        get(ptx_size, "nvrtcGetPTXSize"), get(ptx, "nvrtcGetPTX"), get(lowered_name, "nvrtcGetLoweredName");
        get(cubin_size, "nvrtcGetCUBINSize"), get(cubin, "nvrtcGetCUBIN");
        get(architectures, "nvrtcGetNumSupportedArchs"), get(architecture_list, "nvrtcGetSupportedArchs");
        return version && create && destroy && add_name && compile && log_size && log && ptx_size && ptx && lowered_name && cubin_size && cubin &&
               architectures && architecture_list;
    }

private:
    // NVRTC opens its builtins by name when it first compiles: loaded before, they are found wherever they lie.
    static void open_builtins_beside(const std::string& library) {
        const size_t slash = library.find_last_of('/');
        const std::string folder = slash == std::string::npos ? "." : library.substr(0, slash + 1);
        DIR* entries = opendir(folder.c_str());
        if (!entries) return;
        while (const dirent* entry = readdir(entries))
            if (std::string(entry->d_name).rfind("libnvrtc-builtins.so.", 0) == 0) dlopen((folder + "/" + entry->d_name).c_str(), RTLD_NOW | RTLD_GLOBAL);
        closedir(entries);
    }
};

} // namespace cuda
