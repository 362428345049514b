// fake_nvrtc.cpp — an NVRTC that compiles nothing: its image says which kernel it is. FAKE_NVRTC_LOG names a file that gets a line for each compilation;
// FAKE_NVRTC_MS says how long one takes; FAKE_NVRTC_VERSION and FAKE_NVRTC_ARCHS ("75,80,90") what it is; FAKE_NVRTC_FAILS makes it fail with that text,
// FAKE_NVRTC_FAILS_ON only on a kernel whose expression holds that; FAKE_NVRTC_DIES takes the process along with that kernel; FAKE_NVRTC_TOGETHER makes each
// compilation wait until so many are under way.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Program {
    std::string source, expression, lowered, image, log;
    std::map<std::string, std::string> headers;
    bool compiled = false, cubin = false;
};
std::string variable(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value ? value : otherwise;
}
std::vector<int> architectures() {
    std::vector<int> all;
    const std::string given = variable("FAKE_NVRTC_ARCHS", "60,75,80,86,89,90");
    for (const char* at = given.c_str(); *at;) {
        char* end;
        all.push_back(int(std::strtol(at, &end, 10)));
        at = *end ? end + 1 : end;
    }
    return all;
}
// 5 for what NVRTC would not take: an option that it does not have, an architecture that it does not know, Hopper's own instructions before CUDA 12.
int refused(const std::string& option, std::string& target) {
    for (const char* known : {"-default-device", "--std=c++17", "--use_fast_math", "-diag-suppress=2473"})
        if (option == known) return 0;
    const std::string name = "--gpu-architecture=";
    if (option.compare(0, name.size(), name)) return 5;
    target = option.substr(name.size());
    const size_t number = target.find('_') + 1;
    char* end = nullptr;
    const int arch = int(std::strtol(target.c_str() + number, &end, 10));
    const std::string kind = target.substr(0, number), letter = end;
    if (kind != "sm_" && kind != "compute_") return 5;
    if (!letter.empty() && (letter != "a" || arch < 90 || std::atoi(variable("FAKE_NVRTC_VERSION", "12040").c_str()) < 12000)) return 5;
    for (const int a : architectures())
        if (a == arch) return 0;
    return 5;
}
// Every file that is included must have been given.
bool includes_are_there(const Program& p, const std::string& text, std::string& missing, int depth = 0) {
    for (size_t at = text.find("#include \""); at != std::string::npos; at = text.find("#include \"", at + 1)) {
        const size_t begin = at + 10, end = text.find('"', begin);
        const std::string name = text.substr(begin, end - begin);
        if (name == "emulator.hpp") continue; // g++'s branch
        const auto found = p.headers.find(name);
        if (found == p.headers.end() || depth > 20) return missing = name, false;
        if (!includes_are_there(p, found->second, missing, depth + 1)) return false;
    }
    return true;
}
// Whether so many compilations are under way before ten seconds are over.
bool are_together(int wanted) {
    static std::mutex mutex;
    static std::condition_variable more;
    static int begun = 0;
    std::unique_lock lock(mutex);
    ++begun, more.notify_all();
    return more.wait_for(lock, std::chrono::seconds(10), [&] { return begun >= wanted; });
}

} // namespace

extern "C" {
int nvrtcVersion(int* major, int* minor) {
    const int version = std::atoi(variable("FAKE_NVRTC_VERSION", "12040").c_str());
    return *major = version / 1000, *minor = version % 1000 / 10, 0;
}
int nvrtcCreateProgram(void** program, const char* source, const char*, int count, const char* const* texts, const char* const* names) {
    auto* p = new Program;
    p->source = source;
    for (int i = 0; i < count; ++i) p->headers[names[i]] = texts[i];
    return *program = p, 0;
}
int nvrtcDestroyProgram(void** program) { return delete static_cast<Program*>(*program), *program = nullptr, 0; }
int nvrtcAddNameExpression(void* program, const char* expression) {
    auto& p = *static_cast<Program*>(program);
    return p.compiled ? 8 : (p.expression = expression, 0);
}
int nvrtcCompileProgram(void* program, int count, const char* const* options) {
    auto& p = *static_cast<Program*>(program);
    std::string target, missing;
    for (int i = 0; i < count; ++i)
        if (const int status = refused(options[i], target)) return p.log = std::string("invalid option: ") + options[i], status;
    if (!includes_are_there(p, p.source, missing)) return p.log = "no file " + missing, 6;
    const std::string failure = variable("FAKE_NVRTC_FAILS", ""), culprit = variable("FAKE_NVRTC_FAILS_ON", "");
    if (!failure.empty() && p.expression.find(culprit) != std::string::npos) return p.log = failure, 6;
    if (!are_together(std::atoi(variable("FAKE_NVRTC_TOGETHER", "0").c_str()))) return p.log = "compiled alone", 6;
    if (p.expression == variable("FAKE_NVRTC_DIES", "")) raise(SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(variable("FAKE_NVRTC_MS", "0").c_str())));
    p.compiled = true, p.cubin = target[0] == 's';
    p.lowered = "lowered " + p.expression;
    p.image = (p.cubin ? "fake cubin " : "fake ptx ") + target + "\n" + p.lowered + "\n" + p.expression;
    if (const std::string log = variable("FAKE_NVRTC_LOG", ""); !log.empty()) {
        const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
        const std::string line = target + " " + p.expression + "\n";
        if (write(file, line.data(), line.size()) < 0) return 1;
        close(file);
    }
    return 0;
}
int nvrtcGetProgramLogSize(void* program, size_t* size) { return *size = static_cast<Program*>(program)->log.size() + 1, 0; }
int nvrtcGetProgramLog(void* program, char* to) { return std::strcpy(to, static_cast<Program*>(program)->log.c_str()), 0; }
int nvrtcGetPTXSize(void* program, size_t* size) { return *size = static_cast<Program*>(program)->image.size() + 1, 0; }
int nvrtcGetPTX(void* program, char* to) { return std::strcpy(to, static_cast<Program*>(program)->image.c_str()), 0; }
int nvrtcGetCUBINSize(void* program, size_t* size) { return static_cast<Program*>(program)->cubin ? nvrtcGetPTXSize(program, size) : (*size = 0, 0); }
int nvrtcGetCUBIN(void* program, char* to) { return static_cast<Program*>(program)->cubin ? nvrtcGetPTX(program, to) : 4; }
int nvrtcGetLoweredName(void* program, const char* expression, const char** name) {
    const auto& p = *static_cast<Program*>(program);
    if (!p.compiled) return 9;
    return p.expression != expression ? 10 : (*name = p.lowered.c_str(), 0);
}
int nvrtcGetNumSupportedArchs(int* count) { return *count = int(architectures().size()), 0; }
int nvrtcGetSupportedArchs(int* list) {
    const auto all = architectures();
    return std::memcpy(list, all.data(), all.size() * sizeof(int)), 0;
}
}
