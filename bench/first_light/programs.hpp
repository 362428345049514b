// programs.hpp — what NVRTC makes of kernels, before anything runs: each program in a process of its own, as many at a time as there are processors. One on
// which NVRTC dies or does not end costs itself.
#pragma once
#include <chrono>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../../native/cuda/nvrtc.hpp"
#include "../../native/kernels/rows.hpp"
#include "attempts.hpp"

struct Program {
    std::string file, expression; // to include; of the kernel
};
struct Image {
    std::string lowered, bytes; // the kernel's name in it
    std::string wrong;          // or why there is none
};
using Images = std::map<std::string, Image>; // by expression

class Compiler {
public:
    Compiler(const cuda::Nvrtc& nvrtc, const std::string& kernels, const std::string& verbs, int architecture) : nvrtc_(nvrtc) {
        for (const std::string& n : kernels::sources()) names_.push_back(n), texts_.push_back(read(kernels + "/" + n));
        for (const char* n : {"verbs.cuh", "verbs_sm90.cuh"}) names_.push_back(n), texts_.push_back(read(verbs + "/" + n));
        int newest = 0;
        for (const int a : known(nvrtc)) {
            exact_ |= a == architecture;
            if (a < architecture) newest = std::max(newest, a);
        }
        // A GPU newer than NVRTC gets PTX, which its driver finishes.
        target = exact_ ? kernels::real_name(architecture) : "compute_" + std::to_string(newest);
    }
    static std::vector<int> known(const cuda::Nvrtc& nvrtc) {
        int count = 0;
        nvrtc.architectures(&count);
        std::vector<int> all(static_cast<size_t>(count));
        nvrtc.architecture_list(all.data());
        return all;
    }
    // The last of the list first: the widest take longest. What takes more than `limit` seconds is given up. No program may be there twice.
    Images compile(const std::vector<Program>& programs, double limit) {
        const auto start = std::chrono::steady_clock::now();
        Images images;
        std::map<std::string, std::unique_ptr<attempts::Aside>> running;
        const auto take = [&](const std::string& expression, attempts::Aside& aside) {
            const size_t end = aside.answer.find('\0');
            Image& image = images[expression];
            processor_seconds += aside.processor_seconds;
            if (aside.wrong.empty() && end != std::string::npos) image.lowered = aside.answer.substr(0, end), image.bytes = aside.answer.substr(end + 1);
            else image.wrong = "NVRTC made nothing of " + expression + " for " + target + ": " + aside.wrong;
        };
        for (size_t left = programs.size(); left || !running.empty();) {
            while (left && running.size() < processes) {
                const Program& p = programs[--left];
                running.emplace(p.expression, std::make_unique<attempts::Aside>([&] { return made(p); }, limit));
            }
            for (auto it = running.begin(); it != running.end();)
                if (it->second->over()) take(it->first, *it->second), it = running.erase(it);
                else ++it;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return images;
    }
    std::string target; // sm_90a
    const unsigned processes = std::max(1u, std::thread::hardware_concurrency());
    double seconds = 0, processor_seconds = 0;

private:
    static std::string read(const std::string& path) {
        std::ifstream file(path);
        if (!file) throw std::runtime_error("cannot read " + path);
        std::stringstream s;
        s << file.rdbuf();
        return s.str();
    }
    // The lowered name, 0, the image.
    std::string made(const Program& p) const {
        std::vector<const char*> name_of, text_of;
        for (size_t i = 0; i < names_.size(); ++i) name_of.push_back(names_[i].c_str()), text_of.push_back(texts_[i].c_str());
        cuda::Nvrtc::Program program = nullptr;
        int status = nvrtc_.create(&program, ("#include \"" + p.file + "\"\n").c_str(), "attention.cu", int(names_.size()), text_of.data(), name_of.data());
        if (!status) status = nvrtc_.add_name(program, p.expression.c_str());
        const std::string option = "--gpu-architecture=" + target;
        std::vector<const char*> options{option.c_str()};
        options.insert(options.end(), std::begin(kernels::kOptions), std::end(kernels::kOptions));
        if (!status) status = nvrtc_.compile(program, int(options.size()), options.data());
        size_t size = 0;
        if (status) {
            std::string log;
            if (program && !nvrtc_.log_size(program, &size) && size) log.resize(size), nvrtc_.log(program, log.data());
            throw std::runtime_error("it failed with " + std::to_string(status) + ":\n" + log.c_str());
        }
        const char* lowered = nullptr;
        nvrtc_.lowered_name(program, p.expression.c_str(), &lowered);
        (exact_ ? nvrtc_.cubin_size : nvrtc_.ptx_size)(program, &size);
        std::string bytes(size, 0);
        (exact_ ? nvrtc_.cubin : nvrtc_.ptx)(program, bytes.data());
        return lowered + std::string(1, 0) + bytes;
    }

    const cuda::Nvrtc& nvrtc_;
    std::vector<std::string> names_, texts_;
    bool exact_ = false;
};
