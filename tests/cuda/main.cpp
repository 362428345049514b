// main.cpp — the run time's tests over the fake driver; with --child they are a process that another test looks at.
#include <gtest/gtest.h>

#include <cstdlib>

int child(int argc, char** argv); // child.cpp

int main(int argc, char** argv) {
    setenv("ATTENTION_CUDA", FAKE_CUDA, 0);
    setenv("ATTENTION_NVRTC", FAKE_NVRTC, 0);
    setenv("ATTENTION_CACHE", "off", 0);
    if (argc > 1 && std::string(argv[1]) == "--child") return child(argc - 2, argv + 2);
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
