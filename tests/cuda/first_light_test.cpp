// first_light_test.cpp — the first program for a GPU, over the driver without one: what it hands to each verb and to a kernel of a family is right, and an
// attempt that kills its context, or never ends, costs nothing but itself.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <string>

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
    const char* verbs[] = {"1024", "votes", "exp2", "64-bit", "cp.async", "mma.sync", "TMA", "wgmma", "proxy", "ring"};
    for (const char* only : verbs) {
        const Ended e = first_light("", std::string("--seconds 60 --only ") + only);
        EXPECT_EQ(e.status, 0) << e.said;
        EXPECT_TRUE(says(e, "\nok     ")) << only << ": " << e.said;
    }
}

TEST(FirstLight, HandsAFamilyItsProblem) {
    for (const char* only : {"flash_sm90.d64.fp16.packed", "flash_sm80.d64.bf16.rule.scaled.short"}) {
        const Ended e = first_light("", std::string("--seconds 300 --only ") + only);
        EXPECT_TRUE(says(e, "first_light: 1 of 1 right")) << e.said;
    }
}

TEST(FirstLight, GoesOnAfterADeadContext) {
    const Ended e = first_light("'FAKE_CUDA_KERNEL=products<fp16,64>:700'", "--seconds 60 --only mma.sync");
    EXPECT_EQ(e.status, 1);
    EXPECT_TRUE(says(e, "WRONG  ldmatrix, swizzle, mma.sync fp16, width 64: CUDA_ERROR_ILLEGAL_ADDRESS (700)")) << e.said;
    EXPECT_TRUE(says(e, "first_light: 11 of 12 right")) << e.said;
}

TEST(FirstLight, GoesOnAfterAKernelThatNeverEnds) {
    const Ended e = first_light("'FAKE_CUDA_KERNEL=products<bf16,96>:hangs'", "--seconds 8 --only mma.sync");
    EXPECT_EQ(e.status, 1);
    EXPECT_TRUE(says(e, "WRONG  ldmatrix, swizzle, mma.sync bf16, width 96: products<bf16,96> hangs")) << e.said;
    EXPECT_TRUE(says(e, "first_light: 11 of 12 right")) << e.said;
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
