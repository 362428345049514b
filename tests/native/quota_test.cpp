// quota_test.cpp — CPU limits of cgroups, read from file trees made here.
#include "cpu/quota.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "cpu/pool.hpp"

namespace {

namespace fs = std::filesystem;

// A file tree that stands for / and is removed at the end.
class Tree {
public:
    Tree() {
        std::string name = (fs::temp_directory_path() / "quota-XXXXXX").string();
        if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
        root_ = name;
    }
    ~Tree() { fs::remove_all(root_); }
    Tree& file(const std::string& path, const std::string& text) {
        fs::create_directories(fs::path(root_ + path).parent_path());
        std::ofstream(root_ + path) << text;
        return *this;
    }
    double cpus() const { return attn::cpu::cgroup_cpus(root_); }

private:
    std::string root_;
};

const std::string kV2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
const std::string kV1 = "33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n";

TEST(Quota, UnlimitedWithoutFiles) { EXPECT_TRUE(std::isinf(Tree().cpus())); }

TEST(Quota, OwnGroupOfVersion2) {
    Tree t;
    t.file("/proc/self/mountinfo", kV2).file("/proc/self/cgroup", "0::/a/b\n").file("/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    EXPECT_EQ(t.cpus(), 1.5);
}

TEST(Quota, TheLeastOfAllParentsCounts) {
    Tree t;
    t.file("/proc/self/mountinfo", kV2).file("/proc/self/cgroup", "0::/a/b/c\n");
    t.file("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n")
        .file("/sys/fs/cgroup/a/b/cpu.max", "800000 100000\n")
        .file("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    EXPECT_EQ(t.cpus(), 3);
}

TEST(Quota, MaxIsNoLimit) {
    Tree t;
    t.file("/proc/self/mountinfo", kV2).file("/proc/self/cgroup", "0::/a\n").file("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    EXPECT_TRUE(std::isinf(t.cpus()));
}

TEST(Quota, TheRootOfAContainer) {
    Tree t;
    t.file("/proc/self/mountinfo", kV2).file("/proc/self/cgroup", "0::/\n").file("/sys/fs/cgroup/cpu.max", "50000 100000\n");
    EXPECT_EQ(t.cpus(), 0.5);
}

TEST(Quota, Version1) {
    Tree t;
    t.file("/proc/self/mountinfo", "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" + kV1);
    t.file("/proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/a\n");
    t.file("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "250000\n").file("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(t.cpus(), 2.5);
}

TEST(Quota, Version1WithoutLimit) {
    Tree t;
    t.file("/proc/self/mountinfo", kV1).file("/proc/self/cgroup", "4:cpu,cpuacct:/a\n");
    t.file("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n").file("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    EXPECT_TRUE(std::isinf(t.cpus()));
}

TEST(Quota, AMountThatShowsOnlyTheContainersPart) {
    Tree t;
    t.file("/proc/self/mountinfo", "33 25 0:29 /docker/x /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n").file("/proc/self/cgroup", "4:cpu:/docker/x\n");
    t.file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n").file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
    EXPECT_EQ(t.cpus(), 4);
}

TEST(Quota, DamagedFilesAreNoLimit) {
    Tree t;
    t.file("/proc/self/mountinfo", "nonsense\n - \n" + kV2)
        .file("/proc/self/cgroup", "nonsense\n:\n0::relative\n0::/a\n")
        .file("/sys/fs/cgroup/a/cpu.max", "x y\n");
    EXPECT_TRUE(std::isinf(t.cpus()));
}

TEST(Quota, AtLeastOneCpu) { EXPECT_GE(attn::cpu::cpu_quota(), 1); }

} // namespace
