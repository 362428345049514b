// check_cubins — compiles every row of kernels.def to cubins with NVRTC: no GPU, no toolkit, no driver. Asserts for each row and architecture: no spills, no
// stack frame, no ptxas line C75xx (wgmma serialised), shared memory within the architecture's limit, seconds of one core within what a first use may take;
// and that registers and shared memory are those of the committed table. Where CI=true the table must be of this NVRTC.
//   check_cubins KERNELS_FOLDER TABLE [--update] [--row TEXT] [--arch sm_80] [--cubins FOLDER] [--most-seconds N]
// NVRTC: ATTENTION_NVRTC=file, or the system's. --most-seconds: of all rows together, on as many cores as there are. Seconds are those that a processor
// worked, so that a busy machine makes none of them more.
// Exit 0; 1 a row is wrong; 2 bad usage; 3 no NVRTC.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
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

// The seconds of one core in which a plan's first use has its kernel: to D 128, above, and what does not reach that.
constexpr double kToD128 = 1, kAbove = 3;
const struct {
    const char* rows;
    double seconds;
    const char* why;
} kExceptions[] = {{"flash_sm90.d128.", 1.5, "its loop is there twice, for partial and for full tiles; each takes 0.5 s, 0.4 of them ptxas's"}};
// The targets are those of a processor of some 3 GHz; what is asserted leaves others so many times as long.
constexpr double kSlower = 2;

double wanted_of(const kernels::Row& row) {
    for (const auto& e : kExceptions)
        if (row.name.rfind(e.rows, 0) == 0) return e.seconds;
    return row.D <= 128 ? kToD128 : kAbove;
}

double seconds(clockid_t clock) {
    timespec t;
    clock_gettime(clock, &t);
    return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

// What ptxas reports, of every function that it names.
struct Report {
    int registers = 0, shared = 0;
    std::vector<std::string> faults;
};
Report report_of(const std::string& log) {
    Report r;
    std::smatch m;
    if (std::regex_search(log, m, std::regex("Used ([0-9]+) registers"))) r.registers = std::stoi(m[1]);
    else r.faults.push_back("ptxas reported no registers");
    if (std::regex_search(log, m, std::regex("([0-9]+) bytes smem"))) r.shared = std::stoi(m[1]);
    if (log.find(" bytes stack frame, ") == std::string::npos) r.faults.push_back("ptxas reported no stack frame, not even one of 0 bytes");
    const auto each = [&](const char* pattern, const auto& f) {
        const std::regex regex(pattern);
        for (auto at = std::sregex_iterator(log.begin(), log.end(), regex); at != std::sregex_iterator(); ++at) f(*at);
    };
    each("([0-9]+) bytes stack frame, ([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads", [&](const std::smatch& met) {
        if (met[1] != "0" || met[2] != "0" || met[3] != "0") r.faults.push_back("stack and spills: " + met[0].str());
    });
    each("C75[0-9][0-9][^\n]*", [&](const std::smatch& met) { r.faults.push_back("wgmma is serialised: " + met[0].str()); });
    return r;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "check_cubins KERNELS_FOLDER TABLE [--update] [--row TEXT] [--arch NAME] [--cubins FOLDER] [--most-seconds N]\n");
        return 2;
    }
    const std::string folder = argv[1], table = argv[2];
    std::string only_row, only_arch, cubins;
    bool update = false;
    double most_seconds = 0;
    for (int i = 3; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--update") update = true;
        else if (i + 1 < argc && option == "--row") only_row = argv[++i];
        else if (i + 1 < argc && option == "--arch") only_arch = argv[++i];
        else if (i + 1 < argc && option == "--cubins") cubins = argv[++i];
        else if (i + 1 < argc && option == "--most-seconds" && std::atof(argv[i + 1]) > 0) most_seconds = std::atof(argv[++i]);
        else return std::fprintf(stderr, "check_cubins: %s is no option, or its value is missing or wrong\n", argv[i]), 2;
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
    struct Slowest {
        double seconds = 0;
        std::string name;
    };
    std::map<double, Slowest> slowest; // of the rows that have this long
    const auto work = [&] {
        for (size_t at; (at = next++) < jobs.size();) {
            const kernels::Row& row = *jobs[at].row;
            const Architecture& arch = *jobs[at].arch;
            cuda::Nvrtc::Program program;
            nvrtc.create(&program, ("#include \"" + row.file + "\"\n").c_str(), "attention.cu", int(names.size()), text_of.data(), name_of.data());
            nvrtc.add_name(program, row.expression.c_str());
            const std::string target = "--gpu-architecture=" + arch.name;
            std::vector<const char*> options{target.c_str(), "--ptxas-options=-v"};
            options.insert(options.end(), std::begin(kernels::kOptions), std::end(kernels::kOptions));
            const double began = seconds(CLOCK_THREAD_CPUTIME_ID); // NVRTC works in the thread that calls it
            const int status = nvrtc.compile(program, int(options.size()), options.data());
            const double took = seconds(CLOCK_THREAD_CPUTIME_ID) - began, wanted = wanted_of(row);
            size_t size = 0;
            nvrtc.log_size(program, &size);
            std::string log(size, 0);
            nvrtc.log(program, log.data());
            Report report;
            if (status) report.faults.push_back("does not compile:\n" + log);
            else report = report_of(log);
            std::vector<std::string>& faults = report.faults;
            const int shared = row.smem + report.shared;
            if (!status && took < 0.01) faults.push_back("NVRTC did not compile it in the thread that called it: its time is not known");
            if (took > wanted * kSlower) {
                char text[120];
                std::snprintf(text, sizeof text, "NVRTC took %.2f s of a core; %g s are wanted, %g s at most", took, wanted, wanted * kSlower);
                faults.push_back(text);
            }
            if (shared > arch.shared_kb * 1024)
                faults.push_back(std::to_string(shared) + " bytes of shared memory, " + arch.name + " has " + std::to_string(arch.shared_kb) + " KB");
            if (!status && !cubins.empty()) {
                nvrtc.cubin_size(program, &size);
                std::vector<char> image(size);
                nvrtc.cubin(program, image.data());
                std::ofstream(cubins + "/" + row.name + "." + arch.name + ".cubin", std::ios::binary).write(image.data(), long(size));
            }
            nvrtc.destroy(&program);
            const std::lock_guard lock(mutex);
            met[row.name + " " + arch.name] = std::to_string(report.registers) + " " + std::to_string(shared);
            if (Slowest& s = slowest[wanted]; took > s.seconds) s = {took, row.name + " for " + arch.name};
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
            const char* ci = std::getenv("CI");
            const bool fails = ci && std::string(ci) == "true";
            std::fprintf(fails ? stderr : stdout, "the table is not of %s: registers not compared\n", version.c_str());
            wrong += fails;
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
    const double all = seconds(CLOCK_PROCESS_CPUTIME_ID) / double(threads.size());
    if (most_seconds > 0 && all > most_seconds)
        std::fprintf(stderr, "all rows take %.0f s on %zu cores; %g s at most\n", all, threads.size(), most_seconds), ++wrong;
    for (const auto& [wanted, s] : slowest)
        std::printf("the slowest of those that should take %g s of a core (%g s at most): %s, %.2f s\n", wanted, wanted * kSlower, s.name.c_str(), s.seconds);
    for (const auto& e : kExceptions) std::printf("%g s instead of %g s for %s*: %s\n", e.seconds, kToD128, e.rows, e.why);
    std::printf("check_cubins: %zu rows (at most %zu), %zu cubins by %s, %d wrong, %.0f s on %zu cores\n", rows.size(), kernels::kMostRows, jobs.size(),
                version.c_str(), int(wrong), all, threads.size());
    return wrong ? 1 : 0;
}
