// nvcc.hpp — a row of kernels.def compiled by a toolkit's nvcc, from the same text and with the same options as by NVRTC. For embed_cubins alone: at run time
// there is NVRTC.
#pragma once
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "compile.hpp"
#include "embedded.hpp"

namespace attn::cuda {

class Nvcc {
public:
    // `folder` is made, holds what is compiled and goes with this object.
    Nvcc(std::string program, const std::filesystem::path& folder) : program_(std::move(program)), folder_(folder) {
        for (size_t i = 0; i < kEmbeddedCount; ++i) { // by the names that they include each other with: one is "../model/mask.hpp"
            const std::filesystem::path file = (folder_ / "kernels" / kEmbeddedNames[i]).lexically_normal();
            std::filesystem::create_directories(file.parent_path());
            write(file, kEmbeddedTexts[i]);
        }
    }
    ~Nvcc() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    Nvcc(const Nvcc&) = delete;
    Nvcc& operator=(const Nvcc&) = delete;

    // From many threads at once, each row and architecture once. Throws with nvcc's words.
    Image compiled(const kernels::Row& row, int arch) const {
        const std::string source = folder_ / "kernels" / (row.name + "." + kernels::real_name(arch) + ".cu"), cubin = source + "bin", log = source + ".log";
        write(source, "#include \"" + row.file + "\"\n__attribute__((used)) static const void* const row = (const void*)&" + row.expression + ";\n");
        std::vector<std::string> command{program_, "-cubin", "-arch=" + kernels::real_name(arch), "-o", cubin, source};
        command.insert(command.end(), std::begin(kernels::kOptions) + 1, std::end(kernels::kOptions));
        if (const int status = status_of(command, log))
            throw std::runtime_error(program_ + " ended with " + std::to_string(status) + " on " + row.name + " for " + kernels::real_name(arch) + ": " +
                                     read(log));
        Image image{"", read(cubin)};
        image.lowered = kernel_in(image.code);
        if (image.lowered.empty()) throw std::runtime_error(program_ + " made no kernel of " + row.expression);
        return image;
    }

private:
    static void write(const std::filesystem::path& file, const std::string& text) {
        std::ofstream to(file, std::ios::binary);
        to << text;
        if (to.close(); !to) throw std::runtime_error("cannot write " + file.string());
    }
    static std::string read(const std::filesystem::path& file) {
        std::ostringstream text;
        text << std::ifstream(file, std::ios::binary).rdbuf();
        return text.str();
    }
    // The one kernel's code lies in the section .text.NAME.
    static std::string kernel_in(const std::string& cubin) {
        const std::string prefix = ".text.";
        const size_t at = cubin.find(prefix);
        return at == std::string::npos ? "" : cubin.c_str() + at + prefix.size();
    }
    // Runs it, what it says goes to `log`. 127: it cannot be run.
    static int status_of(const std::vector<std::string>& command, const std::string& log) {
        std::vector<char*> arguments;
        for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        pid_t child = 0;
        const int wrong = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        if (wrong) throw std::runtime_error(command[0] + " cannot be run: " + std::strerror(wrong));
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

    const std::string program_;
    const std::filesystem::path folder_;
};

} // namespace attn::cuda
