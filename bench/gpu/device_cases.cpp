// device_cases.cpp — the shared list of cases on a real GPU through the C ABI, against the reference: every case in every element type a GPU takes, every
// backend, on Hopper flash by both of its kernels; twice each, since a race seldom gives the same bits.
// As one of several shards, it goes on in another process after an error that kills the context: CUDA promises a fresh start to no less.
#include <unistd.h>

#include <map>

#include "../../tests/cuda/gpu.hpp"

namespace cases {
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
} // namespace cases

namespace {

using namespace gpu;
using cases::Case;
using cases::Type;

constexpr int kDevice = 0;
constexpr int kSweep = 120; // random problems beside the named ones

// Larger than what an emulator has time for.
std::vector<Case> large() {
    Case whisper;
    whisper.name = "the encoder's length, lengths", whisper.Sq = whisper.Sk = 1500, whisper.B = 2, whisper.Hq = whisper.Hkv = 1,
    whisper.key_lengths = {1500, 430};
    Case wide;
    wide.name = "many tiles, causal", wide.Sq = wide.Sk = 2100, wide.Hq = wide.Hkv = 2, wide.D = wide.Dv = 128, wide.causal = true;
    Case grouped;
    grouped.name = "grouped decode, many chunks", grouped.B = 3, grouped.Hq = 32, grouped.Hkv = 8, grouped.Sq = 1, grouped.Sk = 8000,
    grouped.D = grouped.Dv = 128;
    const auto keep = [](Case& c) { c.key_lengths.clear(), c.keep = cases::Keep::half, c.keep_dims = cases::kBatch | cases::kQuery | cases::kKey; };
    return {whisper,
            whisper.but("the encoder's length, a dense half", keep),
            wide,
            grouped,
            grouped.but("grouped decode, a dense half", [](Case& c) { c.keep = cases::Keep::half, c.keep_dims = cases::kBatch | cases::kKey; }),
            wide.but("many tiles, keep of each head", [](Case& c) { c.causal = false, c.keep = cases::Keep::blocks; }),
            wide.but("many tiles, head dimension 256", [](Case& c) { c.D = c.Dv = 256, c.left = 300, c.right = 0; })};
}

struct Asked {
    Case what;
    Type type;
};
const std::vector<Asked>& all() {
    static const auto& list = *new std::vector<Asked>([] {
        std::vector<Asked> asked;
        std::vector<Case> of = cases::list(kSweep);
        for (const Case& c : large()) of.push_back(c);
        for (const Case& c : of) {
            if (c.type == Type::f64) continue;
            for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
                if (c.type != Type::f32 && c.type != type) continue; // named after its type, or drawn with it
                asked.push_back({c, type});
                asked.back().what.type = type;
            }
        }
        return asked;
    }());
    return list;
}

std::map<std::string, int>& ran() {
    static auto& kernels = *new std::map<std::string, int>;
    return kernels;
}

// K with its heads, or its batches, from the last to the first: no tensor map has a negative stride, so that Hopper takes its mma.sync kernel.
struct Backwards {
    OnDevice memory;
    int dimension = -1;

    Backwards(attn_context context, cases::Sample& sample) {
        cases::Tensor& K = sample.K;
        for (const int d : {1, 0})
            if (dimension < 0 && K.shape[size_t(d)] > 1 && K.strides[size_t(d)] > 0) dimension = d;
        if (dimension < 0 || K.bytes.empty()) return;
        cases::Tensor turned = K;
        const int64_t last = K.shape[size_t(dimension)] - 1;
        K.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
            std::memcpy(dimension ? turned.at(b, last - h, i, d) : turned.at(last - b, h, i, d), K.at(b, h, i, d), size_t(reference::bytes_of(K.type)));
        });
        attn_array host = turned.array();
        host.strides[dimension] = -host.strides[dimension];
        host.data = turned.bytes.data() + last * K.strides[size_t(dimension)] * reference::bytes_of(K.type);
        memory = upload(context, kDevice, host, turned.bytes.data(), turned.bytes.size());
    }
};

void tell_what_ran() {
    for (const auto& [kernel, times] : ran()) std::printf("ran %5d times: %s\n", times, kernel.c_str());
}
char** arguments;
constexpr const char* kFirst = "DEVICE_CASES_FIRST"; // set: something failed in a process before this one, which begins with this case
int passed = 0;
void go_on_elsewhere(size_t first) {
    setenv(kFirst, std::to_string(first).c_str(), 1);
    setenv("GTEST_SHARD_INDEX", "0", 1); // shards count from the first case there is
    tell_what_ran();
    std::printf("[  PASSED  ] %d tests, then a context died; another process goes on\n", passed);
    std::fflush(nullptr);
    execv("/proc/self/exe", arguments);
    std::perror("device_cases: cannot begin anew");
}

class OnGpu : public ::testing::TestWithParam<size_t> {
protected:
    void SetUp() override {
        if (died && std::getenv("GTEST_TOTAL_SHARDS")) go_on_elsewhere(GetParam());
    }
    void TearDown() override {
        attn_context_info i{};
        i.size = sizeof i;
        passed += !HasFailure();
        died = attn_context_describe(context(), &i) == ATTN_DEVICE_ERROR;
    }
    inline static bool died = false;
    static const Context& context() {
        static const auto& c = *new Context(gpu::context(kDevice));
        return c;
    }
    static bool hopper() {
        attn_context_info i{};
        i.size = sizeof i;
        EXPECT_TRUE(succeeded(attn_context_describe(context(), &i)));
        return !std::strcmp(i.instruction_set, "sm_90");
    }
    // Runs twice and judges; the same bits both times.
    void judged(cases::Sample& sample, const reference::Judge& judge, const attn_problem& problem, int32_t backend, const attn_array* K) {
        const Plan p = plan(context(), problem, backend);
        ASSERT_TRUE(p);
        const std::string kernel = info(p).kernel;
        if (K) { EXPECT_NE(kernel.find("flash_sm80"), std::string::npos) << kernel; }
        ++ran()[kernel];
        DeviceSample there(context(), kDevice, sample, GetParam() % 2);
        if (K) there.args.k = K;
        Bits first;
        for (const bool again : {false, true}) {
            there.clear();
            attn_run_report report{};
            report.size = sizeof report;
            there.args.report = &report;
            ASSERT_TRUE(succeeded(attn_run(p, &there.args))) << kernel;
            there.fetch();
            if (again) {
                EXPECT_TRUE(first == (Bits{sample.O.bytes, sample.lse})) << kernel << " gave other bits the second time";
                attn_tiles tiles{};
                tiles.size = sizeof tiles;
                ASSERT_TRUE(succeeded(attn_plan_tiles(p, &there.args, &tiles)));
                if (backend != ATTN_BACKEND_NAIVE) { EXPECT_EQ(report.tiles_visited, tiles.full + tiles.partial) << kernel; }
            } else {
                first = {sample.O.bytes, sample.lse};
                EXPECT_TRUE(agrees(judge, sample)) << kernel;
                EXPECT_TRUE(sample.O.gaps_hold(0xff)) << kernel << " wrote between the rows of O";
            }
        }
    }
};

TEST_P(OnGpu, AgreesWithTheReference) {
    const Asked& asked = all()[GetParam()];
    cases::Sample sample(asked.what);
    const reference::Judge judge(sample.problem);
    for (const int32_t backend : kBackends) {
        const attn_problem problem = sample.described();
        SCOPED_TRACE(std::string(name_of(backend)) + ", " + asked.what.name);
        if (!refusals(context(), problem, backend).empty()) continue;
        judged(sample, judge, problem, backend, nullptr);
        if (HasFatalFailure()) return;
        if (backend != ATTN_BACKEND_FLASH || !hopper()) continue;
        if (std::string(info(plan(context(), problem, backend)).kernel).find("flash_sm90") == std::string::npos) continue;
        const Backwards K(context(), sample);
        if (K.dimension < 0) continue;
        attn_problem turned = problem;
        turned.k_strides[K.dimension] = -turned.k_strides[K.dimension];
        judged(sample, judge, turned, backend, &K.memory.array);
    }
}

std::string identifier(const ::testing::TestParamInfo<size_t>& info) {
    constexpr const char* types[] = {"f32", "f16", "bf16", "f64"};
    const Asked& asked = all()[info.param];
    std::string name;
    for (const char ch : asked.what.name) name += std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
    return name + "_as_" + types[int(asked.type)];
}
INSTANTIATE_TEST_SUITE_P(Cases, OnGpu, ::testing::Range(std::getenv(kFirst) ? size_t(std::atoll(std::getenv(kFirst))) : 0, all().size()), identifier);

} // namespace

int main(int argc, char** argv) {
    std::vector<char*> given(argv, argv + argc + 1); // InitGoogleTest takes some away
    arguments = given.data();
    ::testing::InitGoogleTest(&argc, argv);
    int32_t count = 0;
    const char* why = nullptr;
    if (attn_device_count(ATTN_DEVICE_CUDA, &count, &why) != ATTN_OK || !count) return std::printf("device_cases: %s\n", why ? why : attn_last_error()), 3;
    const int failed = RUN_ALL_TESTS();
    tell_what_ran();
    return failed || std::getenv(kFirst);
}
