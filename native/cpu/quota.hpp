// quota.hpp — how much CPU time a cgroup grants, read from a file tree so that tests can bring their own.
#pragma once
#include <string>

namespace attn::cpu {

// The least of the limits on this process's cgroup and its parents, in CPUs (1.5: 150 ms in each 100 ms); infinite where none is set. `root` stands before
// /proc/self/cgroup and /proc/self/mountinfo and before the mount points these name: "" for the system's own.
double cgroup_cpus(const std::string& root);

} // namespace attn::cpu
