// embed_cubins — compiles every row of kernels.def for the library to carry: embed_cubins OUTPUT NVCC 80 90a. NVCC: a program, or - for NVRTC
// (ATTENTION_NVRTC=file, or the system's). Writes OUTPUT.bin, the cubins one after another, and OUTPUT.cpp, which takes them in and says which is where.
// Exit 0; 1 it cannot; 2 bad usage.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "compile.hpp"
#include "library.hpp"
#include "nvcc.hpp"

namespace {

using namespace attn::cuda;

struct Job {
    const kernels::Row* row;
    int arch;
    Image image;
};
using Compiler = std::function<Image(const kernels::Row&, int arch)>;

// "90a" is 90: what NVRTC is asked for has the letter.
int arch_of(const std::string& text) {
    char* end = nullptr;
    const long arch = std::strtol(text.c_str(), &end, 10);
    const std::string rest = end;
    if (arch < 60 || arch > 999 || rest != (arch == 90 ? "a" : ""))
        throw std::invalid_argument("architecture \"" + text + "\": a number from 60 on is needed, e.g. 80; Hopper's is 90a");
    return int(arch);
}

Compiler nvrtc() {
    setenv("ATTENTION_CACHE", "off", 1); // compiled anew
    if (!library().nvrtc_version) throw std::runtime_error(Nvrtc::missing());
    return [](const kernels::Row& row, int arch) {
        if (!nvrtc_knows(arch)) throw std::runtime_error("NVRTC (" + library().nvrtc.path + ") does not know " + kernels::real_name(arch));
        return *image_of(row, arch);
    };
}
Compiler nvcc(const std::string& program, const std::string& folder) {
    return [compiler = std::make_shared<const Nvcc>(program, folder)](const kernels::Row& row, int arch) { return compiler->compiled(row, arch); };
}

void compile(std::vector<Job>& jobs, const Compiler& compiler) {
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::string wrong;
    const auto work = [&] {
        try {
            for (size_t at; (at = next++) < jobs.size();) jobs[at].image = compiler(*jobs[at].row, jobs[at].arch);
        } catch (const std::exception& e) {
            const std::lock_guard lock(mutex);
            wrong = e.what();
            next = jobs.size();
        }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
    for (std::thread& t : threads) t.join();
    if (!wrong.empty()) throw std::runtime_error(wrong);
}

void write(const std::string& output, const std::vector<Job>& jobs) {
    std::ofstream code(output + ".bin", std::ios::binary), text(output + ".cpp");
    text << "#include \"embedded.hpp\"\n\nasm(\".pushsection .rodata\\nattention_cubins: .incbin \\\"" << output << ".bin\\\"\\n.popsection\");\n"
         << "extern \"C\" __attribute__((visibility(\"hidden\"))) const unsigned char attention_cubins[];\n\nnamespace attn::cuda {\n\n"
         << "static const EmbeddedCubin kAll[] = {\n";
    size_t at = 0;
    for (const Job& job : jobs) {
        const std::string& cubin = job.image.code;
        text << "    {\"" << job.row->name << "\", " << job.arch << ", \"" << job.image.lowered << "\", attention_cubins + " << at << ", " << cubin.size()
             << "},\n";
        code.write(cubin.data(), std::streamsize(cubin.size()));
        at += cubin.size();
    }
    text << "};\nconst size_t kCubinCount = " << jobs.size() << ";\nconst EmbeddedCubin* const kCubins = kAll;\n\n} // namespace attn::cuda\n";
    code.close(), text.close();
    if (!code || !text) throw std::runtime_error("cannot write " + output + ".cpp and .bin");
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 4) return std::fprintf(stderr, "embed_cubins OUTPUT NVCC|- ARCHITECTURE...\n"), 2;
    const std::string output = argv[1], program = argv[2];
    try {
        std::vector<Job> jobs;
        for (int i = 3; i < argc; ++i) {
            const int arch = arch_of(argv[i]);
            for (const kernels::Row& row : rows())
                if (row.runs_on(arch)) jobs.push_back({&row, arch, {}});
        }
        compile(jobs, program == "-" ? nvrtc() : nvcc(program, output + ".nvcc"));
        write(output, jobs);
    } catch (const std::exception& e) { return std::fprintf(stderr, "embed_cubins: %s\n", e.what()), 1; }
    return 0;
}
