#include "machine.hpp"

#include <attention/attention.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <thread>

namespace harness {
namespace {

std::string line_of(const char* path, const std::string& start) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);)
        if (line.rfind(start, 0) == 0) {
            const size_t colon = line.find(':');
            const size_t text = line.find_first_not_of(" \t", colon == std::string::npos ? 0 : colon + 1);
            return text == std::string::npos ? "" : line.substr(text);
        }
    return "unknown";
}
std::string output_of(const char* command) {
    std::string text;
    const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command, "r"), pclose);
    for (char part[256]; pipe && std::fgets(part, sizeof part, pipe.get());) text += part;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text.empty() ? "unknown" : text;
}

} // namespace

std::vector<std::pair<std::string, std::string>> machine() {
    utsname system{};
    uname(&system);
    char date[32];
    const std::time_t now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
    const auto kilobytes = [](long bytes) { return std::to_string(bytes >> 10) + " KiB"; };
    return {
        {"processor",
         line_of("/proc/cpuinfo", "model name") + ", family " + line_of("/proc/cpuinfo", "cpu family") + ", model " + line_of("/proc/cpuinfo", "model\t")},
        {"CPUs", std::to_string(std::thread::hardware_concurrency())},
        {"caches", kilobytes(sysconf(_SC_LEVEL1_DCACHE_SIZE)) + ", " + kilobytes(sysconf(_SC_LEVEL2_CACHE_SIZE)) + ", " +
                       kilobytes(sysconf(_SC_LEVEL3_CACHE_SIZE)) + " (the last may be the host's)"},
        {"memory", line_of("/proc/meminfo", "MemTotal")},
        {"kernel", std::string(system.sysname) + " " + system.release},
        {"huge pages", line_of("/sys/kernel/mm/transparent_hugepage/enabled", "")},
        {"library", attn_build_info()},
        {"commit", output_of("git describe --always --dirty --abbrev=10 2>/dev/null")},
        {"date", date},
    };
}

} // namespace harness
