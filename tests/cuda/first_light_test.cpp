// first_light_test.cpp — the first program for a GPU, over the driver without one: what it hands to each verb and to a kernel of a family is right, and an
// attempt that kills its context, or never ends, or of which NVRTC makes nothing, costs nothing but itself.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

namespace {

struct Ended {
    int status;
    std::string said;
};
Ended first_light(const std::string& environment, const std::string& arguments) {
    Ended e{};
    FILE* out = popen(("env FAKE_CUDA_ARCHS=90 " + environment + " " FIRST_LIGHT " " + arguments + " 2>&1").c_str(), "r");
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, out));) e.said.append(part, n);
    const int status = pclose(out);
    e.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    return e;
}
bool says(const Ended& e, const std::string& text) { return e.said.find(text) != std::string::npos; }

TEST(FirstLight, HandsEachVerbWhatItWants) {
    const char* verbs[] = {"1024", "votes", "exp2", "64-bit", "given up", "cp.async", "mma.sync", "TMA", "wgmma", "proxy", "ring"};
    for (const char* only : verbs) {
        const Ended e = first_light("", std::string("--seconds 60 --only '") + only + "'");
        EXPECT_EQ(e.status, 0) << e.said;
        EXPECT_TRUE(says(e, "\nok     ")) << only << ": " << e.said;
    }
}

TEST(FirstLight, HandsAFamilyItsProblem) {
    const std::pair<const char*, const char*> problems[] = {{"flash_sm90.d64.fp16.packed", "1 of 1"},
                                                            {"flash_sm80.d64.bf16.rule.scaled.short", "1 of 1"},
                                                            {"termed: bias, softcap, ALiBi, a negative scale", "1 of 1"},
                                                            {"short: one query, heads as rows, keys in chunks", "2 of 2"},
                                                            {"in two, merged", "1 of 1"},
                                                            {"rows filled with zeros", "2 of 2"},
                                                            {".d192.", "2 of 2"},
                                                            {".d32.", "1 of 1"},
                                                            {".d96.", "1 of 1"}};
    for (const auto& [only, right] : problems) {
        const Ended e = first_light("", std::string("--seconds 300 --only '") + only + "'");
        EXPECT_TRUE(says(e, std::string("first_light: ") + right + " right")) << e.said;
    }
}

TEST(FirstLight, GoesOnAfterADeadContext) {
    const std::string log = testing::TempDir() + "first_light_nvrtc." + std::to_string(getpid());
    const Ended e = first_light("'FAKE_CUDA_KERNEL=products<fp16,64>:700' FAKE_NVRTC_LOG=" + log, "--seconds 60 --only mma.sync");
    std::ifstream compiled(log);
    EXPECT_EQ(std::count(std::istreambuf_iterator<char>(compiled), {}, '\n'), 12) << "once each, whichever process runs it";
    std::remove(log.c_str());
    EXPECT_EQ(e.status, 1);
    EXPECT_TRUE(says(e, "WRONG  ldmatrix, swizzle, mma.sync fp16, width 64: CUDA_ERROR_ILLEGAL_ADDRESS (700)")) << e.said;
    EXPECT_TRUE(says(e, "first_light: 11 of 12 right")) << e.said;
    EXPECT_TRUE(says(e, " for 12 programs (")) << e.said;
}

TEST(FirstLight, GoesOnAfterAKernelThatNeverEnds) {
    const Ended e = first_light("'FAKE_CUDA_KERNEL=products<bf16,96>:hangs'", "--seconds 8 --only mma.sync");
    EXPECT_EQ(e.status, 1);
    EXPECT_TRUE(says(e, "WRONG  ldmatrix, swizzle, mma.sync bf16, width 96: products<bf16,96> hangs")) << e.said;
    EXPECT_TRUE(says(e, "first_light: 11 of 12 right")) << e.said;
}

TEST(FirstLight, GoesOnWithoutWhatNvrtcDoesNotMake) {
    const std::string what = "WRONG  64-bit counters: NVRTC made nothing of count for sm_90a: ", only = "--only 64-bit";
    Ended e = first_light("'FAKE_NVRTC_FAILS=a word it does not know'", only);
    EXPECT_TRUE(says(e, what + "it failed with 6:\na word it does not know\n       look at: add (ptx.cuh)")) << e.said;
    e = first_light("FAKE_NVRTC_MS=60000", only + " --seconds 0.1");
    EXPECT_TRUE(says(e, what + "its process had not ended in time, and was ended")) << e.said;
    e = first_light("'FAKE_NVRTC_DIES=products<fp16,64>'", "--seconds 60 --only mma.sync");
    EXPECT_EQ(e.status, 1);
    EXPECT_TRUE(says(e, "NVRTC made nothing of products<fp16,64> for sm_90a: its process died of Killed")) << e.said;
    EXPECT_TRUE(says(e, "first_light: 11 of 12 right")) << e.said;
}

TEST(FirstLight, CompilesWithoutADevice) {
    const std::string options = "--only flash_sm80.d64.bf16.packed.scaled --compile-only ";
    Ended e = first_light("ATTENTION_CUDA=/no/driver", options + "sm_80"); // two rows, and the two of the pass over a mask
    EXPECT_EQ(e.status, 0);
    EXPECT_TRUE(says(e, "first_light: 4 of 4 programs compiled for sm_80 by NVRTC 12.4 (")) << e.said;
    e = first_light("'FAKE_NVRTC_FAILS=a word it does not know'", options + "sm_90a");
    EXPECT_EQ(e.status, 1);
    EXPECT_TRUE(says(e, "WRONG  NVRTC made nothing of tile_lists for sm_90a: it failed with 6:\na word it does not know\n")) << e.said;
    EXPECT_TRUE(says(e, "first_light: 0 of 4 programs")) << e.said;
    e = first_light("", options + "sm_90");
    EXPECT_EQ(e.status, 2);
    EXPECT_TRUE(says(e, "--compile-only sm_90: this NVRTC knows sm_60 sm_75 sm_80 sm_86 sm_89 sm_90a")) << e.said;
}

TEST(FirstLight, SaysWhyThereIsNoDevice) {
    Ended e = first_light("FAKE_CUDA_ARCHS=", "");
    EXPECT_EQ(e.status, 3);
    EXPECT_TRUE(says(e, "no CUDA device: CUDA_ERROR_NO_DEVICE (100) in cuInit")) << e.said;
    e = first_light("ATTENTION_CUDA=/no/driver", "");
    EXPECT_EQ(e.status, 3);
    EXPECT_TRUE(says(e, "no CUDA device: /no/driver")) << e.said;
    e = first_light("ATTENTION_NVRTC=/no/nvrtc", "");
    EXPECT_EQ(e.status, 3);
    EXPECT_TRUE(says(e, "no NVRTC; set ATTENTION_NVRTC: /no/nvrtc")) << e.said;
}

} // namespace
