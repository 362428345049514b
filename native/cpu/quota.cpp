// quota.cpp — affinity, and cgroup limits of both versions: cpu.max, or cpu.cfs_quota_us and cpu.cfs_period_us.
#include "quota.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "pool.hpp"

namespace attn::cpu {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

bool names_cpu(const std::string& controllers) { return ("," + controllers + ",").find(",cpu,") != std::string::npos; }

double ratio(double quota, double period) { return quota > 0 && period > 0 ? quota / period : kUnlimited; } // no limit: -1, or "max", which reads as 0

double limit_at(const std::string& folder, bool v2) {
    double quota = 0, period = 0;
    if (v2) {
        std::ifstream(folder + "/cpu.max") >> quota >> period;
    } else {
        std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
        std::ifstream(folder + "/cpu.cfs_period_us") >> period;
    }
    return ratio(quota, period);
}

// Where the hierarchy that limits CPU time is mounted, and which of its folders the mount shows.
struct Mount {
    std::string point, shown;
};
Mount mount_of(const std::string& root, bool v2) {
    std::ifstream file(root + "/proc/self/mountinfo");
    for (std::string line; std::getline(file, line);) {
        // id parent device shown point options [tags] - type source super-options
        const size_t dash = line.find(" - ");
        if (dash == std::string::npos) continue;
        std::istringstream head(line), tail(line.substr(dash + 3));
        std::string id, parent, device, type, source, options;
        Mount mount;
        head >> id >> parent >> device >> mount.shown >> mount.point;
        tail >> type >> source >> options;
        if (type == (v2 ? "cgroup2" : "cgroup") && (v2 || names_cpu(options))) return mount;
    }
    return {};
}

double limit_of(const std::string& root, std::string path, bool v2) {
    const Mount mount = mount_of(root, v2);
    if (mount.point.empty()) return kUnlimited;
    if (mount.shown != "/" && path.compare(0, mount.shown.size(), mount.shown) == 0) path.erase(0, mount.shown.size());
    double cpus = limit_at(root + mount.point, v2);
    for (; path.size() > 1; path.erase(path.find_last_of('/'))) cpus = std::min(cpus, limit_at(root + mount.point + path, v2));
    return cpus;
}

int affinity() {
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) { // the kernel refuses a set smaller than its own
        std::vector<cpu_set_t> set(size_t(cpus) / CPU_SETSIZE);
        if (sched_getaffinity(0, set.size() * sizeof(cpu_set_t), set.data()) == 0) return CPU_COUNT_S(set.size() * sizeof(cpu_set_t), set.data());
    }
    return 1;
}

} // namespace

double cgroup_cpus(const std::string& root) {
    double cpus = kUnlimited;
    std::ifstream file(root + "/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) { // hierarchy:controllers:path; version 2 is 0::path
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        const bool v2 = controllers.empty();
        if ((v2 || names_cpu(controllers)) && !path.empty() && path[0] == '/') cpus = std::min(cpus, limit_of(root, path, v2));
    }
    return cpus;
}

// A part of a CPU counts as one: two threads on one and a half get more done than one.
int cpu_quota() {
    const int allowed = std::min(affinity(), 1024);
    const double granted = std::ceil(cgroup_cpus(""));
    return std::max(1, granted < allowed ? int(granted) : allowed);
}

} // namespace attn::cpu
