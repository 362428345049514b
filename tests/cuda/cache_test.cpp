// cache_test.cpp — kernels compiled once and kept: by the process, on disk, across processes; damaged and foreign entries; the bound. Every case is a process
// of its own, because a process reads its environment once.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "cuda/cache.hpp"
#include "gpu.hpp"
#include "kernels/rows.hpp"

namespace {

using namespace gpu;

attn_problem problem(int head_dim = 64, int dtype = ATTN_FLOAT16) {
    attn_problem p{};
    p.size = sizeof p, p.dtype = dtype, p.batch = 1, p.query_heads = p.key_heads = 1, p.queries = p.keys = 64, p.head_dim = p.value_dim = head_dim;
    return p;
}

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
pid_t start(const Environment& environment, const std::vector<std::string>& arguments) {
    const pid_t pid = fork();
    if (pid) return pid;
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> argv{const_cast<char*>("cuda_tests"), const_cast<char*>("--child")};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv("/proc/self/exe", argv.data());
    _exit(127);
}
int ended(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
// What child() does with these arguments: 0, or it failed.
int run(const Environment& environment, const std::vector<std::string>& arguments) { return ended(start(environment, arguments)); }

std::string text_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream s;
    s << file.rdbuf();
    return s.str();
}
void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

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

TEST_F(Cache, ColdThenWarm) {
    EXPECT_EQ(run(environment, {"warmup", "compiled=1", "disk=0"}), 0);
    EXPECT_EQ(folder.files().size(), 1u);
    EXPECT_EQ(run(environment, {"warmup", "compiled=0", "disk=1"}), 0);
    EXPECT_EQ(compiled(), 1);
}

TEST_F(Cache, IsByArchitectureVersionAndKernel) {
    EXPECT_EQ(run(environment, {"warmup", "compiled=1"}), 0);
    auto other = environment;
    other.push_back({"FAKE_CUDA_ARCHS", "90,86"});
    EXPECT_EQ(run(other, {"warmup", "compiled=1"}), 0);
    other.back() = {"FAKE_NVRTC_VERSION", "13000"};
    EXPECT_EQ(run(other, {"warmup", "compiled=1"}), 0);
    EXPECT_EQ(run(environment, {"warmup-128", "compiled=1"}), 0);
    EXPECT_EQ(run(environment, {"warmup-128", "compiled=0"}), 0);
    EXPECT_EQ(folder.files().size(), 4u);
}

TEST_F(Cache, IsByTheKernelsTextAndTheOptions) { // of a library that was built since, or is to be built again
    ASSERT_EQ(run(environment, {"warmup", "compiled=1"}), 0);
    for (const char* other : {OTHER_TEXT, OTHER_OPTIONS}) {
        auto its = environment;
        its.push_back({"LD_PRELOAD", other});
        EXPECT_EQ(run(its, {"warmup", "compiled=1", "disk=0"}), 0) << other;
        EXPECT_EQ(run(its, {"warmup", "compiled=0", "disk=1"}), 0) << other;
    }
    EXPECT_EQ(run(environment, {"warmup", "compiled=0", "disk=1"}), 0) << "what others keep beside it takes nothing away";
    EXPECT_EQ(folder.files().size(), 3u);
}

TEST_F(Cache, DamagedAndForeignEntriesAreCompiledAgain) {
    ASSERT_EQ(run(environment, {"warmup", "compiled=1"}), 0);
    ASSERT_EQ(folder.files().size(), 1u);
    const std::string path = folder.path() + "/" + folder.files()[0], whole = text_of(path);
    std::string flipped = whole, foreign = whole;
    flipped[whole.size() / 2 + 40] ^= 1;
    foreign.replace(whole.find("fp16"), 4, "bf16"); // another kernel's, under this one's name
    for (const std::string& text :
         {std::string(), whole.substr(0, 30), whole.substr(0, whole.size() - 1), whole + "x", flipped, foreign, std::string(5000, 'x')}) {
        write(path, text);
        EXPECT_EQ(run(environment, {"warmup", "compiled=1", "disk=0"}), 0);
        EXPECT_EQ(text_of(path), whole) << "what was damaged is whole again";
    }
}

TEST_F(Cache, AnImageThatTheDriverRefusesIsCompiledAgain) {
    ASSERT_EQ(run(environment, {"warmup", "compiled=1"}), 0);
    EXPECT_EQ(run(environment, {"refused", "compiled=1", "disk=1"}), 0);
    EXPECT_EQ(run(environment, {"warmup", "compiled=0", "disk=1"}), 0);
}

TEST_F(Cache, ProcessesTogether) {
    environment.push_back({"FAKE_NVRTC_MS", "50"});
    std::vector<pid_t> all;
    for (int i = 0; i < 4; ++i) all.push_back(start(environment, {"warmup"}));
    for (const pid_t pid : all) EXPECT_EQ(ended(pid), 0);
    EXPECT_EQ(folder.files().size(), 1u) << "nothing unfinished is left";
    EXPECT_EQ(run(environment, {"warmup", "compiled=0", "disk=1"}), 0);
}

// An entry is whole at any time, though it is written anew.
TEST_F(Cache, AnEntryWrittenAgainIsNeverMissed) {
    const attn::cuda::DiskCache cache(folder.path(), 1 << 30);
    const std::string enough = logs.path() + "/enough";
    const pid_t writer = start(environment, {"puts", folder.path(), enough});
    while (!cache.find("key")) std::this_thread::yield();
    int missed = 0;
    for (int i = 0; i < 60; ++i) missed += !cache.find("key");
    write(enough, "");
    EXPECT_EQ(ended(writer), 0);
    EXPECT_EQ(missed, 0);
}

TEST_F(Cache, OffAndWithoutAFolderToWrite) {
    for (const char* where : {"off", "/proc/no/such/folder"}) {
        environment[0].second = where;
        EXPECT_EQ(run(environment, {"warmup", "compiled=1", "disk=0"}), 0);
    }
}

TEST_F(Cache, LiesWhereTheDesktopSaysIt) {
    environment[0] = {"ATTENTION_CACHE", ""};
    environment.push_back({"XDG_CACHE_HOME", folder.path()});
    EXPECT_EQ(run(environment, {"folder", folder.path() + "/attention/kernels"}), 0);
    environment.back() = {"XDG_CACHE_HOME", ""};
    environment.push_back({"HOME", folder.path()});
    EXPECT_EQ(run(environment, {"folder", folder.path() + "/.cache/attention/kernels"}), 0);
}

TEST(CacheBound, TheOldestGo) {
    const Folder folder;
    const attn::cuda::DiskCache cache(folder.path(), 50000);
    const attn::cuda::Image image{"name", std::string(20000, 'x')};
    const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(15)); };
    for (const char* key : {"a", "b"}) cache.put(key, image), pause();
    EXPECT_TRUE(cache.find("a")); // used: now b is the oldest
    pause();
    cache.put("c", image);
    EXPECT_EQ(folder.files().size(), 2u);
    EXPECT_TRUE(cache.find("a"));
    EXPECT_FALSE(cache.find("b"));
    EXPECT_EQ(cache.find("c")->code, image.code);
    cache.put("large", {"name", std::string(90000, 'x')}); // alone it is above the bound: it stays, everything else goes
    EXPECT_EQ(folder.files().size(), 1u);
    cache.drop("large");
    EXPECT_TRUE(folder.files().empty());
}

TEST_F(Cache, AGpuNewerThanNvrtcGetsPtx) {
    environment.push_back({"FAKE_CUDA_ARCHS", "90,120"});
    environment.push_back({"FAKE_NVRTC_ARCHS", "60,80,90,130"});
    EXPECT_EQ(run(environment, {"warmup", "compiled=1"}), 0);
    EXPECT_NE(text_of(log).find("compute_90 flash_sm80"), std::string::npos) << text_of(log);
}

TEST_F(Cache, AnNvrtcBeforeCuda12CompilesForHopperWithoutItsOwnInstructions) {
    environment.push_back({"FAKE_CUDA_ARCHS", "90,90"});
    environment.push_back({"FAKE_NVRTC_VERSION", "11080"});
    EXPECT_EQ(run(environment, {"warmup", "compiled=1"}), 0);
    EXPECT_NE(text_of(log).find("sm_90 flash_sm80"), std::string::npos) << text_of(log);
    EXPECT_EQ(run(environment, {"reason", "flash_sm90 needs NVRTC 12 or newer"}), 0);
}

TEST_F(Cache, AnNvrtcThatKnowsNothingSoOldSaysSo) { // CUDA 13's begins with sm_75
    environment.push_back({"FAKE_CUDA_ARCHS", "90,70"});
    environment.push_back({"FAKE_NVRTC_ARCHS", "75,80,86,87,88,89,90,100,103,110,120,121"});
    EXPECT_EQ(run(environment, {"fails-plain", "does not know sm_70, nor anything older"}), 0);
}

// A driver need not load what an NVRTC of a later major version compiles.
TEST_F(Cache, TheNvrtcOfTheDriversMajorVersionComesFirst) {
    const Folder system;
    for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"}) ASSERT_EQ(symlink(FAKE_NVRTC, (system.path() + "/" + name).c_str()), 0);
    environment.push_back({"ATTENTION_NVRTC", ""});
    environment.push_back({"LD_LIBRARY_PATH", system.path()});
    const auto chosen = [&](const char* driver, const char* name) {
        environment.push_back({"FAKE_CUDA_VERSION", driver});
        EXPECT_EQ(run(environment, {"nvrtc", system.path() + "/" + name}), 0) << driver;
    };
    for (const auto& [driver, name] :
         {std::pair{"11080", "libnvrtc.so.11.2"}, {"12040", "libnvrtc.so.12"}, {"13000", "libnvrtc.so.13"}, {"13010", "libnvrtc.so.13"}})
        chosen(driver, name);
    ASSERT_EQ(unlink((system.path() + "/libnvrtc.so.12").c_str()), 0);
    chosen("12040", "libnvrtc.so.11.2"); // what an older one compiles any driver loads
    ASSERT_EQ(unlink((system.path() + "/libnvrtc.so.11.2").c_str()), 0);
    chosen("12040", "libnvrtc.so.13"); // better than none
    environment.push_back({"FAKE_NVRTC_VERSION", "13000"});
    EXPECT_EQ(run(environment, {"fails-refused", "CUDA_ERROR_INVALID_IMAGE (200) while loading flash_sm80", "NVRTC is of CUDA 13.0, the driver of 12.4"}), 0);
}

TEST_F(Cache, OneCompilationForManyThreads) {
    environment.push_back({"FAKE_NVRTC_MS", "100"});
    EXPECT_EQ(run(environment, {"threads", "compiled=1", "disk=0"}), 0);
    EXPECT_EQ(compiled(), 1);
}

TEST_F(Cache, APlansKernelsAreCompiledAtTheSameTime) {
    environment.push_back({"FAKE_NVRTC_TOGETHER", "3"});
    EXPECT_EQ(run(environment, {"warmup-keep", "compiled=3", "disk=0"}), 0);
    EXPECT_EQ(compiled(), 3);
}

TEST_F(Cache, TheRealNvrtcCompilesWhatTheLibraryCarries) {
    const char* given = std::getenv("ATTENTION_REAL_NVRTC");
    const std::string real = given ? given : REAL_NVRTC;
    if (access(real.c_str(), R_OK)) GTEST_SKIP() << "no NVRTC; tests/cubins/fetch_nvrtc.sh gets one";
    environment.push_back({"ATTENTION_NVRTC", real});
    EXPECT_EQ(run(environment, {"warmup-keep", "compiled=3", "disk=0"}), 0);
    EXPECT_EQ(run(environment, {"warmup-keep", "compiled=0", "disk=3"}), 0);
    environment.push_back({"FAKE_CUDA_ARCHS", "90,90"});
    EXPECT_EQ(run(environment, {"every-file", "compiled=8", "disk=0"}), 0);
    ASSERT_EQ(folder.files().size(), 11u);
    std::set<std::string> files, compiled;
    for (const kernels::Row& row : kernels::rows()) files.insert(row.file);
    for (const std::string& f : folder.files()) {
        const std::string entry = text_of(folder.path() + "/" + f);
        EXPECT_NE(entry.find("\x7f"
                             "ELF"),
                  std::string::npos);
        for (const kernels::Row& row : kernels::rows())
            if (entry.find(row.expression + "\nsource") != std::string::npos && entry.find("sm_90a") != std::string::npos) compiled.insert(row.file);
    }
    EXPECT_EQ(compiled, files) << "each file of kernels, for Hopper";
}

// The same library with kernels for sm_80 in it, by NVRTC or by nvcc.
class Ahead : public Cache, public ::testing::WithParamInterface<const char*> {
protected:
    void SetUp() override { environment.push_back({"LD_PRELOAD", GetParam()}); }
};
INSTANTIATE_TEST_SUITE_P(By, Ahead, ::testing::Values(AHEAD_BY_NVRTC, AHEAD_BY_NVCC),
                         [](const auto& info) { return std::string(info.index ? "nvcc" : "nvrtc"); });

TEST_P(Ahead, KernelsNeedNoNvrtcAndNoFolder) {
    environment.push_back({"ATTENTION_NVRTC", "/no/such/file"});
    EXPECT_EQ(run(environment, {"warmup", "compiled=0", "disk=0", "embedded=1"}), 0);
    EXPECT_EQ(run(environment, {"warmup-keep", "compiled=0", "disk=0", "embedded=3"}), 0);
    EXPECT_EQ(folder.files().size(), 0u);
}

TEST_P(Ahead, ComeBeforeNvrtcAndServeLaterMinorVersions) {
    EXPECT_EQ(run(environment, {"warmup", "compiled=0", "disk=0", "embedded=1"}), 0);
    environment.push_back({"FAKE_CUDA_ARCHS", "90,89"});
    EXPECT_EQ(run(environment, {"warmup", "compiled=0", "disk=0", "embedded=1"}), 0);
    EXPECT_EQ(compiled(), 0);
}

TEST_P(Ahead, OtherArchitecturesAreCompiledWhenNeeded) {
    for (const char* other : {"90,75", "90,90"}) {
        environment.push_back({"FAKE_CUDA_ARCHS", other});
        EXPECT_EQ(run(environment, {"warmup-plain", "compiled=1", "disk=0", "embedded=0"}), 0);
    }
    environment.push_back({"ATTENTION_NVRTC", "/no/such/file"});
    EXPECT_EQ(run(environment, {"refuses", "cuda:1 (Fake GPU 1) is sm_90; this library carries kernels for sm_80", "no NVRTC"}), 0);
}

TEST_P(Ahead, WhatTheDriverRefusesIsCompiledAgain) {
    EXPECT_EQ(run(environment, {"refused", "compiled=1", "disk=0", "embedded=1"}), 0);
    EXPECT_EQ(run(environment, {"refused", "compiled=0", "disk=1", "embedded=1"}), 0);
}

TEST_F(Cache, WhatEmbedCubinsSays) {
    const std::string nvcc = FAKE_NVCC;
    const struct {
        std::string command, says;
        int status;
    } cases[] = {
        {"80", "embed_cubins OUTPUT NVCC|- ARCHITECTURE...", 2},
        {nvcc + " 80b", "architecture \"80b\": a number from 60 on is needed, e.g. 80; Hopper's is 90a", 1},
        {"/no/such/nvcc 80", "/no/such/nvcc cannot be run: No such file or directory", 1},
        {"/bin/true 80", "/bin/true made no kernel of flash_sm80<", 1},
        {nvcc + " 90a", "fake_nvcc.sh ended with 1 on ", 1},
        {"- 99", "does not know sm_99", 1},
    };
    for (const auto& c : cases) {
        const std::string command = "FAKE_NVCC_FAILS='line 7: no such thing' " EMBED_CUBINS " " + folder.path() + "/out " + c.command + " 2>&1";
        FILE* pipe = popen(command.c_str(), "r");
        ASSERT_NE(pipe, nullptr);
        std::string said;
        for (int letter; (letter = std::fgetc(pipe)) != EOF;) said += char(letter);
        const int status = pclose(pipe);
        EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : 128, c.status) << c.command;
        EXPECT_NE(said.find(c.says), std::string::npos) << c.command << ": " << said;
        if (c.says.find("fake_nvcc") != std::string::npos) { EXPECT_NE(said.find("for sm_90a: line 7: no such thing"), std::string::npos) << said; }
        EXPECT_EQ(folder.files().size(), 0u) << c.command;
    }
}

TEST_F(Cache, WhatNvrtcSays) {
    environment.push_back({"FAKE_NVRTC_FAILS", "line 7: no such thing"});
    EXPECT_EQ(run(environment, {"fails", "line 7: no such thing", "flash_sm80.d64.fp16.rule.scaled"}), 0);
    EXPECT_EQ(run(environment, {"fails-keep", "line 7: no such thing", "flash_sm80.d64.fp16.packed.scaled"}), 0) << "of three the first tells";
    environment.push_back({"FAKE_NVRTC_FAILS_ON", "pack_mask"});
    EXPECT_EQ(run(environment, {"fails-keep", "line 7: no such thing", "failed with 6 on pack_mask for --gpu-architecture=sm_80"}), 0)
        << "one that is compiled beside the first";
}

TEST_F(Cache, WithoutNvrtcOrDriverThereIsNoDevice) {
    environment.push_back({"ATTENTION_NVRTC", "/no/such/file"});
    EXPECT_EQ(run(environment, {"absent", "no NVRTC", "ATTENTION_NVRTC"}), 0);
    environment.back() = {"ATTENTION_CUDA", "/no/such/file"};
    EXPECT_EQ(run(environment, {"absent", "no CUDA driver", "/no/such/file"}), 0);
    environment.back() = {"ATTENTION_CUDA", FAKE_NVRTC}; // a library, but not this one
    EXPECT_EQ(run(environment, {"absent", "no CUDA driver", "cuInit"}), 0);
}

// Has kernels of every file compiled: of plans, and of a merge, which the driver cannot run if they are real ones.
bool compile_of_every_file(attn_context context) {
    attn_problem kept = problem(), decoding = problem();
    kept.mask_kinds = ATTN_MASK_KEEP, std::fill_n(kept.keep_shape, 4, 1);
    decoding.queries = 1, decoding.keys = 1024;
    bool done = true;
    for (const auto& [asked, backend] : {std::pair{kept, ATTN_BACKEND_FLASH},
                                         {decoding, ATTN_BACKEND_FLASH},
                                         {problem(64, ATTN_FLOAT32), ATTN_BACKEND_MEMORY_EFFICIENT},
                                         {problem(64, ATTN_FLOAT32), ATTN_BACKEND_NAIVE}})
        done = done && attn_plan_warmup(plan(context, asked, backend)) == ATTN_OK;
    if (!done) return false;
    const std::vector<unsigned char> none(2);
    const std::vector<float> zero(1);
    attn_array o = vector_of(none, {1, 1, 1, 1});
    o.dtype = ATTN_FLOAT16;
    const OnDevice O = upload(context, kAmpere, o, none.data(), 2), LSE = upload(context, kAmpere, vector_of(zero, {1, 1, 1}), zero.data(), 4);
    const attn_status merged = attn_merge(context, &O.array, &LSE.array, &O.array, &LSE.array, &O.array, &LSE.array);
    return merged == ATTN_OK || std::string(attn_last_error()).find("while launching merge.fp16.pair") != std::string::npos;
}

} // namespace

// A process that warms up a plan, or what its first argument says; the others are what must come of it. Exit 0: it did.
int child(int argc, char** argv) {
    const std::vector<std::string> arguments(argv, argv + argc);
    const std::string& what = arguments.at(0);
    const auto wrong = [](const std::string& text) {
        std::fprintf(stderr, "child: %s (%s)\n", text.c_str(), attn_last_error());
        return 1;
    };
    if (what == "folder") {
        attn_cuda_info info{};
        info.size = sizeof info;
        if (attn_cuda_describe(&info) || info.cache_folder != arguments[1]) return wrong(std::string("the folder is ") + info.cache_folder);
        return 0;
    }
    if (what == "nvrtc") {
        attn_cuda_info info{};
        info.size = sizeof info;
        if (attn_cuda_describe(&info) || info.nvrtc != arguments[1]) return wrong(std::string("NVRTC is ") + info.nvrtc);
        return 0;
    }
    if (what == "puts") {
        const attn::cuda::DiskCache cache(arguments[1], 1 << 30);
        for (int i = 0; access(arguments[2].c_str(), F_OK) && i < 100000; ++i) cache.put("key", {"name", std::string(1 << 20, char('a' + i % 7))});
        return 0;
    }
    if (what == "refuses") {
        attn_context none = nullptr;
        attn_context_options options{};
        options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = kAmpere;
        if (attn_context_create(&options, &none) != ATTN_NO_DEVICE) return wrong("a context");
        for (size_t i = 1; i < arguments.size(); ++i)
            if (std::string(attn_last_error()).find(arguments[i]) == std::string::npos) return wrong(arguments[i] + " is not said");
        return 0;
    }
    if (what == "absent") {
        int32_t count = -1;
        const char* why = "";
        attn_context none = nullptr;
        attn_context_options options{};
        options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA;
        if (attn_device_count(ATTN_DEVICE_CUDA, &count, &why) || count != 0) return wrong("there is a device");
        for (size_t i = 1; i < arguments.size(); ++i)
            if (std::string(why).find(arguments[i]) == std::string::npos) return wrong(arguments[i] + " is not in: " + why);
        if (attn_context_create(&options, &none) != ATTN_NO_DEVICE || std::string(attn_last_error()) != why) return wrong("a context on no device");
        attn_context cpu = nullptr;
        return attn_context_create(nullptr, &cpu) ? wrong("the CPU needs no CUDA") : 0;
    }
    const Context context = gpu::context();
    attn_problem asked = problem(what == "warmup-128" ? 128 : 64);
    if (what == "warmup-keep" || what == "fails-keep") asked.mask_kinds = ATTN_MASK_KEEP, std::fill_n(asked.keep_shape, 4, 1);
    const Plan p = plan(context, asked, what == "warmup-plain" || what == "fails-plain" ? ATTN_BACKEND_MEMORY_EFFICIENT : ATTN_BACKEND_FLASH);
    if (what == "reason" && info(p).reason != arguments[1]) return wrong(info(p).reason);
    if (what == "reason") return 0;
    if (what == "fails-refused") FAKE(fake_cuda_fail)("cuModuleLoadData", 200, 0);
    if (what.rfind("fails", 0) == 0) {
        if (attn_plan_warmup(p) == ATTN_OK) return wrong("it compiled");
        const std::string said = attn_last_error();
        for (size_t i = 1; i < arguments.size(); ++i)
            if (const size_t at = said.find(arguments[i]); at == std::string::npos || at != said.rfind(arguments[i]))
                return wrong(arguments[i] + " is not said once");
        return 0;
    }
    if (what == "refused") FAKE(fake_cuda_fail)("cuModuleLoadData", 200, 0);
    if (what == "threads") {
        std::vector<std::thread> threads;
        std::atomic<int> failures{0};
        for (int i = 0; i < 8; ++i) threads.emplace_back([&] { failures += attn_plan_warmup(p) != ATTN_OK; });
        for (std::thread& t : threads) t.join();
        if (failures) return wrong("a warm-up failed");
    } else if (what == "every-file" ? !compile_of_every_file(context) : attn_plan_warmup(p) != ATTN_OK) {
        return wrong("warm-up");
    }
    const attn_counters c = counters();
    for (size_t i = 1; i < arguments.size(); ++i) {
        const std::string met = arguments[i][0] == 'c'   ? "compiled=" + std::to_string(c.kernels_compiled)
                                : arguments[i][0] == 'd' ? "disk=" + std::to_string(c.kernels_from_disk)
                                                         : "embedded=" + std::to_string(c.kernels_embedded);
        if (met != arguments[i]) return wrong(met + " instead of " + arguments[i]);
    }
    return 0;
}
