// cache_test.cpp — compiled kernels on disk: found again across processes; damaged and foreign entries; the bound.
#include <fcntl.h>
#include <sys/stat.h>

#include "cuda/cache.hpp"
#include "processes.hpp"

namespace {

using namespace gpu;

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

} // namespace
