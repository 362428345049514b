// check_cubins — compiles every row of kernels.def to cubins with NVRTC: no GPU, no toolkit, no driver. Asserts for each row and architecture: no spills, no
// stack frame, no ptxas line C75xx (wgmma serialised), shared memory within the architecture's limit; and that registers and shared memory are those of the
// committed table.
//   check_cubins KERNELS_FOLDER TABLE [--update] [--row TEXT] [--arch sm_80] [--cubins FOLDER]      NVRTC: ATTENTION_NVRTC=file, or the system's
// Exit 0; 1 a row is wrong; 2 bad usage; 3 no NVRTC.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "../../native/cuda/nvrtc.hpp"
#include "../../native/kernels/rows.hpp"

namespace {

std::string read(const std::string& path) {
    std::ifstream file(path);
    if (!file) {
        std::fprintf(stderr, "check_cubins: cannot read %s\n", path.c_str());
        std::exit(2);
    }
    std::stringstream s;
    s << file.rdbuf();
    return s.str();
}

struct Architecture {
    std::string name;
    int number, shared_kb; // the most dynamic shared memory a block can ask for
};
// sm_60's 48 KB are what a block gets there without asking; memory-efficient must do with them everywhere.
const Architecture kArchitectures[] = {{"sm_60", 60, 48}, {"sm_75", 75, 64}, {"sm_80", 80, 163}, {"sm_86", 86, 99}, {"sm_89", 89, 99}, {"sm_90a", 90, 227}};

} // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "check_cubins KERNELS_FOLDER TABLE [--update] [--row TEXT] [--arch NAME] [--cubins FOLDER]\n");
        return 2;
    }
    const std::string folder = argv[1], table = argv[2];
    std::string only_row, only_arch, cubins;
    bool update = false;
    for (int i = 3; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--update") update = true;
        else if (i + 1 < argc && option == "--row") only_row = argv[++i];
        else if (i + 1 < argc && option == "--arch") only_arch = argv[++i];
        else if (i + 1 < argc && option == "--cubins") cubins = argv[++i];
        else return std::fprintf(stderr, "check_cubins: unknown option %s\n", argv[i]), 2;
    }
    cuda::Nvrtc nvrtc;
    if (!nvrtc.open()) return std::fprintf(stderr, "check_cubins: no NVRTC; set ATTENTION_NVRTC to a libnvrtc.so (tests/cubins/fetch_nvrtc.sh gets one)\n"), 3;
    int major = 0, minor = 0, count = 0;
    nvrtc.version(&major, &minor);
    nvrtc.architectures(&count);
    std::vector<int> known(static_cast<size_t>(count));
    nvrtc.architecture_list(known.data());

    const std::vector<kernels::Row> rows = kernels::rows();
    if (rows.size() > kernels::kMostRows)
        return std::fprintf(stderr, "check_cubins: kernels.def has %zu rows, at most %zu are allowed\n", rows.size(), kernels::kMostRows), 1;
    std::vector<std::string> names = kernels::sources(), texts;
    for (const std::string& n : names) texts.push_back(read(folder + "/" + n));
    std::vector<const char*> name_of, text_of;
    for (size_t i = 0; i < names.size(); ++i) name_of.push_back(names[i].c_str()), text_of.push_back(texts[i].c_str());

    struct Job {
        const kernels::Row* row;
        const Architecture* arch;
    };
    std::vector<Job> jobs;
    for (const Architecture& arch : kArchitectures)
        for (const kernels::Row& row : rows)
            if (std::find(known.begin(), known.end(), arch.number) != known.end() && row.runs_on(arch.number) && row.name.find(only_row) != std::string::npos &&
                (only_arch.empty() || arch.name == only_arch))
                jobs.push_back({&row, &arch});
    std::reverse(jobs.begin(), jobs.end()); // the slowest are Hopper's: not last

    std::mutex mutex;
    std::map<std::string, std::string> met; // "row arch" -> "registers shared"
    std::atomic<size_t> next = 0;
    std::atomic<int> wrong = 0;
    double slowest = 0;
    std::string slowest_name;
    const auto start = std::chrono::steady_clock::now();
    const auto work = [&] {
        for (size_t at; (at = next++) < jobs.size();) {
            const kernels::Row& row = *jobs[at].row;
            const Architecture& arch = *jobs[at].arch;
            const auto began = std::chrono::steady_clock::now();
            cuda::Nvrtc::Program program;
            nvrtc.create(&program, ("#include \"" + row.file + "\"\n").c_str(), "attention.cu", int(names.size()), text_of.data(), name_of.data());
            nvrtc.add_name(program, row.expression.c_str());
            const std::string target = "--gpu-architecture=" + arch.name;
            std::vector<const char*> options{target.c_str(), "--ptxas-options=-v"};
            options.insert(options.end(), std::begin(kernels::kOptions), std::end(kernels::kOptions));
            const int status = nvrtc.compile(program, int(options.size()), options.data());
            size_t size = 0;
            nvrtc.log_size(program, &size);
            std::string log(size, 0);
            nvrtc.log(program, log.data());
            std::vector<std::string> faults;
            std::smatch m;
            int registers = 0, shared = row.smem;
            if (status) faults.push_back("does not compile:\n" + log);
            if (std::regex_search(log, m, std::regex("Used ([0-9]+) registers"))) registers = std::stoi(m[1]);
            else if (!status) faults.push_back("ptxas reported no registers");
            if (std::regex_search(log, m, std::regex("([0-9]+) bytes smem"))) shared += std::stoi(m[1]);
            if (std::regex_search(log, m, std::regex("([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads")) &&
                (m[1] != "0" || m[2] != "0" || m[3] != "0"))
                faults.push_back("stack and spills: " + m[0].str());
            if (std::regex_search(log, m, std::regex("C75[0-9][0-9][^\n]*"))) faults.push_back("wgmma is serialised: " + m[0].str());
            if (shared > arch.shared_kb * 1024)
                faults.push_back(std::to_string(shared) + " bytes of shared memory, " + arch.name + " has " + std::to_string(arch.shared_kb) + " KB");
            if (!status && !cubins.empty()) {
                nvrtc.cubin_size(program, &size);
                std::vector<char> image(size);
                nvrtc.cubin(program, image.data());
                std::ofstream(cubins + "/" + row.name + "." + arch.name + ".cubin", std::ios::binary).write(image.data(), long(size));
            }
            nvrtc.destroy(&program);
            const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
            const std::lock_guard lock(mutex);
            met[row.name + " " + arch.name] = std::to_string(registers) + " " + std::to_string(shared);
            if (seconds > slowest) slowest = seconds, slowest_name = row.name + " for " + arch.name;
            for (const std::string& f : faults) std::fprintf(stderr, "%s for %s: %s\n", row.name.c_str(), arch.name.c_str(), f.c_str()), ++wrong;
        }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) threads.emplace_back(work);
    for (std::thread& t : threads) t.join();

    const std::string version = "NVRTC " + std::to_string(major) + "." + std::to_string(minor);
    if (update) {
        std::ofstream out(table);
        out << "# " << version << ": row, architecture, registers, bytes of shared memory. Written by check_cubins --update.\n";
        for (const auto& [key, value] : met) out << key << " " << value << "\n";
    } else {
        std::istringstream committed(read(table));
        std::string line;
        std::getline(committed, line);
        if (line.find(version + ":") == std::string::npos) {
            std::printf("the table is not of %s: registers not compared\n", version.c_str());
        } else {
            std::map<std::string, std::string> expected;
            while (std::getline(committed, line)) {
                std::istringstream fields(line);
                std::string row, arch, registers, shared;
                fields >> row >> arch >> registers >> shared;
                expected[row + " " + arch] = registers + " " + shared;
            }
            for (const auto& [key, value] : met)
                if (expected[key] != value)
                    std::fprintf(stderr, "%s: registers and shared memory are %s, the table says %s\n", key.c_str(), value.c_str(), expected[key].c_str()),
                        ++wrong;
            for (const auto& [key, value] : expected)
                if (!met.count(key) && only_row.empty() && only_arch.empty())
                    std::fprintf(stderr, "%s is in the table and no longer in the list\n", key.c_str()), ++wrong;
        }
    }
    std::printf("check_cubins: %zu rows (at most %zu), %zu cubins by %s, %d wrong, %.0f s; slowest %s: %.1f s\n", rows.size(), kernels::kMostRows, jobs.size(),
                version.c_str(), int(wrong), std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), slowest_name.c_str(), slowest);
    return wrong ? 1 : 0;
}
