// compile_test.cpp — kernels compiled: once, at the same time, by which NVRTC, or ahead into the library.
#include "kernels/rows.hpp"
#include "processes.hpp"

namespace {

using namespace gpu;

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

} // namespace
