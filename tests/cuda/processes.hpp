// processes.hpp — tests in processes of their own, because a process reads its environment once: what child.cpp does in one, and a folder for its kernels.
#pragma once
#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "gpu.hpp"

namespace gpu {

// A folder that goes with the test.
class Folder {
public:
    Folder() {
        char name[] = "/tmp/attention-cache-XXXXXX";
        path_ = mkdtemp(name);
    }
    ~Folder() {
        for (const std::string& f : files()) unlink((path_ + "/" + f).c_str());
        rmdir(path_.c_str());
    }
    std::vector<std::string> files() const {
        std::vector<std::string> all;
        DIR* d = opendir(path_.c_str());
        while (const dirent* e = readdir(d))
            if (e->d_name[0] != '.') all.push_back(e->d_name);
        closedir(d);
        std::sort(all.begin(), all.end());
        return all;
    }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

using Environment = std::vector<std::pair<std::string, std::string>>;
inline pid_t start(const Environment& environment, const std::vector<std::string>& arguments) {
    const pid_t pid = fork();
    if (pid) return pid;
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> argv{const_cast<char*>("cuda_tests"), const_cast<char*>("--child")};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv("/proc/self/exe", argv.data());
    _exit(127);
}
inline int ended(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
// What child() does with these arguments: 0, or it failed.
inline int run(const Environment& environment, const std::vector<std::string>& arguments) { return ended(start(environment, arguments)); }

inline std::string text_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream s;
    s << file.rdbuf();
    return s.str();
}
inline void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

class Cache : public ::testing::Test {
protected:
    Folder folder, logs;
    std::string log = logs.path() + "/compiled";
    Environment environment{{"ATTENTION_CACHE", folder.path()}, {"FAKE_NVRTC_LOG", log}};
    int compiled() const {
        const std::string text = text_of(log);
        return int(std::count(text.begin(), text.end(), '\n'));
    }
};

} // namespace gpu
