// first_light — the first program to run on a GPU: each PTX verb, swizzle, matrix descriptor, TMA box and fence against plain arithmetic, then problems of
// each kernel family against the double-precision reference. What the emulator believes is then known to be true, or is to be mended: beside what is wrong
// stands where to look, and descriptors are tried with other offsets until one is right. What hangs or dies is said so, and the rest is tried all the same.
//   first_light [--only TEXT] [--seconds N] [KERNELS_FOLDER [VERBS_FOLDER]]    what has TEXT in its name; a kernel that takes longer than N (5) hangs, and
//                                                                              so does a compilation after 12 N
//   first_light --compile-only sm_90a …    compiles what it would run there, without a GPU
//   first_light --rehearse    the watching alone, without a GPU: what is right, wrong, hangs, dies and falls silent
// Exit 0; 1 something is wrong; 2 bad usage; 3 no CUDA device, no libcuda or no NVRTC.
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <set>

#include "hopper.hpp"
#include "problem.hpp"

namespace {

template <class E>
void mma_sync(Gpu& gpu, const Program& kernel, int width) {
    const auto a = random_elements<E>(size_t(16 * width), 1), b = random_elements<E>(size_t(64 * width), 2);
    const Gpu::Array<E> A(gpu, a), B(gpu, b);
    const Gpu::Array<float> C(gpu, 16 * 64), D(gpu, size_t(16 * width));
    gpu.launch(kernel, 1, 1, 1, 32, size_t(80 * width * 2), A.data(), B.data(), C.data(), D.data());
    const auto at = [&](const std::vector<E>& m) { return [&m, width](int i, int k) { return double(ptx::to_float(m[size_t(i * width + k)])); }; };
    expect_products<E>(C.host(), D.host(), 16, width, at(a), at(b));
}
template <class E>
void wgmma(Gpu& gpu, const Program& kernel, int width) {
    const int columns = width - 8, rows = 61; // the box reaches past the matrix: zeros
    const auto a = random_elements<E>(size_t(rows * columns), 3), b = random_elements<E>(size_t(rows * columns), 4);
    const Gpu::Array<E> A(gpu, a), B(gpu, b);
    const Gpu::Array<float> C(gpu, 64 * 64), D(gpu, size_t(64 * width));
    const auto map = [&](const Gpu::Array<E>& m) {
        return gpu.tensor_map(m.data(), is_half<E>, columns, rows, 1, 1, columns, rows * columns, rows * columns, 64);
    };
    gpu.launch(kernel, 1, 1, 1, 128, size_t(2 * 64 * width * 2 + 8), map(A), map(B), C.data(), D.data());
    const auto at = [&](const std::vector<E>& m) {
        return [&m, rows, columns](int i, int k) { return i < rows && k < columns ? double(ptx::to_float(m[size_t(i * columns + k)])) : 0.0; };
    };
    expect_products<E>(C.host(), D.host(), 64, width, at(a), at(b));
}
// exp2, log2 and reciprocals as the softmax needs them, roundings as the emulator does them.
void special_numbers(Gpu& gpu, const Program& kernel) {
    std::vector<float> x{0.f,     -0.f,     1.f,      -1.f,       -INFINITY,      INFINITY,         NAN,           -126.f,
                         -127.5f, -200.f,   -1e30f,   3e38f,      0x1p-149f,      0x1p-127f,        65504.f,       65519.f,
                         65520.f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 1.f + 0x1p-11f, 1.f + 0x1.8p-10f, 1.f + 0x1p-8f, 1.f + 0x1.8p-7f,
                         3.39e38f};
    cases::Random r(13);
    while (x.size() < 256) x.push_back(float(r.normal() * 8));
    const size_t n = x.size();
    const Gpu::Array<float> in(gpu, x), e(gpu, n), l(gpu, n), reciprocal(gpu, n), read_again(gpu, 2 * n);
    const Gpu::Array<uint32_t> half(gpu, 2 * n), bfloat(gpu, 2 * n);
    gpu.launch(kernel, 2, 1, 1, 128, 0, in.data(), e.data(), l.data(), reciprocal.data(), read_again.data(), half.data(), bfloat.data());
    const auto exp2s = e.host(), log2s = l.host(), reciprocals = reciprocal.host(), again = read_again.host();
    const auto halves = half.host(), bfloats = bfloat.host();
    for (size_t i = 0; i < n; ++i) {
        const std::string of = " of " + std::to_string(x[i]) + " is ";
        const auto near = [&](const char* what, float met, double right, double least) { // below the least normal number nothing is asked but 0 or near it
            const bool same = std::isnan(right)   ? std::isnan(met)
                              : std::isinf(right) ? double(met) == right
                                                  : std::fabs(double(met) - right) <= 4e-7 * std::fabs(right) + least;
            expect(same, what + of + std::to_string(met) + ", not " + std::to_string(right));
        };
        near("exp2", exp2s[i], double(std::exp2(x[i])), 0x1p-126);
        const bool tiny = std::fabs(x[i]) < 0x1p-126f; // below the least normal number it may be 0 to both
        if (!tiny || log2s[i] != -INFINITY) near("log2", log2s[i], double(std::log2(x[i])), 4e-7);
        if (!tiny || reciprocals[i] != std::copysign(INFINITY, x[i])) near("the reciprocal", reciprocals[i], double(1 / x[i]), 0x1p-126);
        if (std::isnan(x[i])) continue;
        const auto rounded = [&](const char* what, uint32_t met, uint32_t right) {
            expect(met == right, what + of + std::to_string(met) + ", not " + std::to_string(right));
        };
        near("fp16, read again,", again[2 * i], double(ptx::to_float(ptx::from_float<fp16>(x[i]))), 0);
        near("bf16, read again,", again[2 * i + 1], double(ptx::to_float(ptx::from_float<bf16>(x[i]))), 0);
        rounded("fp16", halves[n + i], ptx::from_float<fp16>(x[i]).bits), rounded("the pair of fp16", halves[i], ptx::pack<fp16>(x[i], 1.f));
        rounded("bf16", bfloats[n + i], ptx::from_float<bf16>(x[i]).bits), rounded("the pair of bf16", bfloats[i], ptx::pack<bf16>(x[i], 1.f));
    }
}
void counter(Gpu& gpu, const Program& kernel) {
    const Gpu::Array<uint64_t> sum(gpu, std::vector<uint64_t>{5});
    gpu.launch(kernel, 3, 1, 1, 64, 0, sum.data());
    expect(sum.host()[0] == 5 + 3 * ((uint64_t(64) << 32) + 63 * 32), "a 64-bit counter of three blocks");
}
void fences(Gpu& gpu, const Program& kernel) {
    const auto a = random_elements<bf16>(64 * 64, 5);
    std::vector<uint32_t> words(256);
    for (size_t i = 0; i < words.size(); ++i) words[i] = uint32_t(i * 2654435761u);
    const Gpu::Array<bf16> A(gpu, a);
    const Gpu::Array<uint32_t> W(gpu, words), out(gpu, 256);
    const Gpu::Array<float> C(gpu, 64 * 64);
    gpu.launch(kernel, 1, 1, 1, 128, 64 * 64 * 2 + 1024, A.data(), W.data(), C.data(), out.data());
    const auto at = [&](int i, int k) { return double(ptx::to_float(a[size_t(i * 64 + k)])); };
    expect_products<bf16>(C.host(), {}, 64, 64, at, at);
    expect(out.host() == words, "the bulk copy brought other words");
}
void warp(Gpu& gpu, const Program& kernel) {
    const Gpu::Array<uint32_t> ballot(gpu, 32), low(gpu, 32);
    const Gpu::Array<int> before(gpu, 32), xored(gpu, 32);
    const Gpu::Array<float> hidden(gpu, 32);
    gpu.launch(kernel, 1, 1, 1, 32, 0, ballot.data(), before.data(), xored.data(), hidden.data(), low.data());
    for (size_t lane = 0; lane < 32; ++lane) {
        expect(ballot.host()[lane] == 0x49249249u, "ballot");
        expect(before.host()[lane] == int(lane + 2) / 3, "popc");
        expect(xored.host()[lane] == int(lane ^ 5) * 10, "shfl.xor");
        expect(hidden.host()[lane] == (lane % 2 == 0 ? 1.f : -INFINITY), "hide_unless");
        expect(low.host()[lane] == (lane >= 16 ? ~0u : uint32_t((uint64_t(1) << lane * 2) - 1)), "low_bits");
    }
}
// The host's word to give a run up: none, down, up.
void cancelling(Gpu& gpu, const Program& kernel) {
    const Gpu::Array<int> down(gpu, std::vector<int>{0}), up(gpu, std::vector<int>{1});
    for (const int* word : {static_cast<const int*>(nullptr), static_cast<const int*>(down.data()), static_cast<const int*>(up.data())}) {
        const Gpu::Array<uint32_t> began(gpu, 3 * 96);
        gpu.launch(kernel, 3, 1, 1, 96, 0, word, began.data());
        const bool is_up = word == up.data();
        for (const uint32_t met : began.host())
            expect(met == (is_up ? ~0u : 1u), is_up ? "a block goes on though the run was given up" : "a block does nothing though nobody gave the run up");
    }
}
void zero_fill(Gpu& gpu, const Program& kernel) {
    const Gpu::Array<uint32_t> in(gpu, std::vector<uint32_t>(128, 0x7E7E7E7E)), out(gpu, 128);
    gpu.launch(kernel, 1, 1, 1, 32, 512, in.data(), out.data());
    const auto words = out.host();
    const auto* bytes = reinterpret_cast<const unsigned char*>(words.data());
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 16; ++i) expect(bytes[lane * 16 + i] == (i < lane % 17 ? 0x7E : 0), "cp.async of " + std::to_string(lane % 17) + " bytes");
}
void smem_start(Gpu& gpu, const Program& kernel) {
    const Gpu::Array<uint32_t> at(gpu, 1);
    gpu.launch(kernel, 1, 1, 1, 1, 1024, at.data());
    expect(at.host()[0] == 0, "dynamic shared memory starts " + std::to_string(at.host()[0]) + " bytes past a multiple of 1024");
}

constexpr const char* kSwizzle = "SharedTile and the ldmatrix addresses of mma_ABt and mma_AB (tile.cuh), the fragment maps (mma.hpp)";
constexpr const char* kTensor = "what stands above first; else Accum's and FragA's places of elements (tile.cuh), through_descriptor (wgmma.hpp)";

struct Test {
    std::string what, mend;
    std::vector<Program> programs;
    std::function<void(Gpu&)> run;
};
std::vector<Test> verbs_of(int architecture) {
    std::vector<Test> all;
    const auto attempt = [&](const std::string& what, const std::string& mend, const Program& program, std::function<void(Gpu&, const Program&)> run) {
        all.push_back({what, mend, {program}, [=](Gpu& gpu) { run(gpu, program); }});
    };
    const auto verb = [](const std::string& expression) { return Program{"verbs.cuh", expression}; };
    const auto hopper = [](const std::string& expression) { return Program{"verbs_sm90.cuh", expression}; };
    const auto text = [](int n) { return std::to_string(n); };
    attempt("dynamic shared memory starts on 1024 bytes", "dynamic_smem (ptx.cuh): round it up, and ask for 1024 bytes more (rows.hpp)", verb("smem_start"),
            smem_start);
    attempt("votes, shuffles, popc, hide_unless, low_bits", "the verb named (ptx.cuh)", verb("collect"), warp);
    attempt("exp2, log2 and reciprocals of what is special, roundings",
            "softmax.cuh takes exp2(-inf) for 0 and log2(0) for -inf; from_float, to_float and pack (ptx.cuh, emulator.hpp)", verb("numbers"), special_numbers);
    attempt("64-bit counters", "add (ptx.cuh)", verb("count"), counter);
    attempt("a run given up by the host", "given_up (problem.cuh), read_fresh (ptx.cuh)", verb("begin_unless"), cancelling);
    if (architecture >= 80) {
        attempt("cp.async zero fill", "cp_async_16 (ptx.cuh, mma.hpp)", verb("copy_some"), zero_fill);
        for (const int width : {32, 64, 96, 128, 192, 256}) {
            const std::string what = "ldmatrix, swizzle, mma.sync ", w = text(width);
            attempt(what + "bf16, width " + w, kSwizzle, verb("products<bf16," + w + ">"),
                    [width](Gpu& gpu, const Program& kernel) { mma_sync<bf16>(gpu, kernel, width); });
            attempt(what + "fp16, width " + w, kSwizzle, verb("products<fp16," + w + ">"),
                    [width](Gpu& gpu, const Program& kernel) { mma_sync<fp16>(gpu, kernel, width); });
        }
    }
    if (architecture != 90) return all;
    attempt("TMA box: coordinates, swizzle, what lies outside, bytes counted",
            "tma_load's order of coordinates (ptx_sm90.cuh), tensor_map (run.cpp), copy_later (wgmma.hpp); if it hangs, the bytes expected of a box",
            hopper("box<64>"), tma_box);
    for (const auto [rows, row0, N] : {std::array{64, 0, 64}, {128, 64, 64}, {192, 128, 128}})
        attempt("wgmma K-major, rows " + text(row0) + ".. of " + text(rows) + ", N " + text(N),
                "SlabTile::k_major (flash_sm90.cuh), smem_descriptor (ptx_sm90.cuh), through_descriptor (wgmma.hpp)",
                hopper("k_major_products<bf16," + text(rows) + "," + text(row0) + "," + text(N) + ">"),
                [rows = rows, row0 = row0, N = N](Gpu& gpu, const Program& kernel) { k_major(gpu, kernel, rows, row0, N); });
    for (const auto [K, N] : {std::array{64, 64}, {128, 64}, {128, 128}, {64, 192}, {64, 256}})
        attempt("wgmma MN-major, A from registers, K " + text(K) + ", N " + text(N), "SlabTile::mn_major (flash_sm90.cuh), through_descriptor (wgmma.hpp)",
                hopper("mn_major_products<bf16," + text(K) + "," + text(N) + ">"),
                [K = K, N = N](Gpu& gpu, const Program& kernel) { mn_major(gpu, kernel, K, N); });
    for (const int width : {64, 128, 192, 256}) {
        const std::string what = "TMA, descriptors, wgmma ", w = text(width);
        attempt(what + "bf16, width " + w, kTensor, hopper("warpgroup_products<bf16," + w + ">"),
                [width](Gpu& gpu, const Program& kernel) { wgmma<bf16>(gpu, kernel, width); });
        attempt(what + "fp16, width " + w, kTensor, hopper("warpgroup_products<fp16," + w + ">"),
                [width](Gpu& gpu, const Program& kernel) { wgmma<fp16>(gpu, kernel, width); });
    }
    attempt("two groups of wgmma in flight", "wgmma_wait<1> and pin (flash_sm90.cuh), wgmma_wait (wgmma.hpp)", hopper("overlapped_products<bf16>"), overlapped);
    attempt("proxy fence, mbarrier parity, bulk copy", "proxy_fence, mbarrier_wait, bulk_load (ptx_sm90.cuh, wgmma.hpp)", hopper("fenced_products<bf16>"),
            fences);
    attempt("rows cleared between TMA and wgmma, and overwritten by TMA", "clear_from and await_values (flash_sm90.cuh), proxy_fence (wgmma.hpp)",
            hopper("cleared_products<bf16>"), cleared);
    attempt("ring of a producer and two consumers: first phases, arrivals, registers, named barrier",
            "Ring and the waits on empty barriers (flash_sm90.cuh), warp_arrive, setmaxnreg, named_barrier (ptx_sm90.cuh), uniform (ptx.cuh)", hopper("ring"),
            pipeline);
    return all;
}

struct Options {
    std::string kernels = FIRST_LIGHT_KERNELS, verbs = FIRST_LIGHT_VERBS, only, compile_only;
    bool rehearse = false;
};
std::vector<Test> tests_of(int architecture, const Options& options) {
    std::vector<Test> all = verbs_of(architecture), chosen;
    for (const Asked& asked : problems_of(architecture)) all.push_back({asked.name(), asked.mend, asked.programs(), [=](Gpu& gpu) { run(gpu, asked); }});
    for (Test& t : all)
        if (t.what.find(options.only) != std::string::npos) chosen.push_back(std::move(t));
    return chosen;
}
std::vector<Program> programs_of(const std::vector<Test>& tests) {
    std::vector<Program> all;
    std::set<std::string> known;
    for (const Test& t : tests)
        for (const Program& p : t.programs)
            if (known.insert(p.expression).second) all.push_back(p);
    return all;
}

// The driver, the architecture and what is told of the device. Asked in a process of its own: CUDA does not outlive a fork.
struct Device {
    int driver = 0, architecture = 0;
    std::string told;
};
std::string asked_of_driver() {
    cuda::Driver driver;
    int count = 0, major = 0, minor = 0;
    Device found;
    if (!driver.open()) return driver.wrong;
    for (const auto& [status, doing] : {std::pair{driver.init(0), "cuInit"}, {driver.device_count(&count), "cuDeviceGetCount"}})
        if (status) return driver.name_of(status) + " in " + doing;
    if (!count) return "the driver knows none";
    cuda::Device device;
    char name[256];
    driver.driver_version(&found.driver);
    driver.check(driver.device(&device, 0), "taking device 0");
    driver.check(driver.device_name(name, sizeof name, device), "asking its name");
    driver.check(driver.device_attribute(&major, cuda::kComputeMajor, device), "asking its architecture");
    driver.check(driver.device_attribute(&minor, cuda::kComputeMinor, device), "asking its architecture");
    return "found " + std::to_string(found.driver) + " " + std::to_string(major * 10 + minor) + " " + name;
}
// Those of `tests` from `first` on, in a process of their own.
void on_gpu(const attempts::Speaker& to, size_t first, const std::vector<Test>& tests, const Images& images) {
    static cuda::Driver driver; // never unloaded: what hangs is left behind
    try {
        if (!driver.open()) throw std::runtime_error(driver.wrong);
        driver.check(driver.init(0), "beginning");
        static Gpu gpu(driver, images);
        std::vector<attempts::Attempt> list;
        for (const Test& t : tests) list.push_back({t.what, t.mend, [&t] { t.run(gpu); }});
        to.say('d', "");
        attempts::work(to, list, first);
    } catch (const std::exception& e) { to.say('x', e.what()); }
}
// Each way to end that a watcher must tell, without a GPU: first a kernel that never ends, by a driver of which it is never done.
void rehearse(const attempts::Speaker& to, size_t first) {
    static cuda::Driver endless{};
    endless.event_create = [](cuda::Event*, unsigned) { return 0; };
    endless.event_record = [](cuda::Event, cuda::Stream) { return 0; };
    endless.event_query = [](cuda::Event) { return 600; };
    static cuda::Driver dead = endless;
    dead.event_query = [](cuda::Event) { return 700; };
    to.say('d', "");
    attempts::work(to,
                   {{"what is right", "", [] {}},
                    {"what is wrong", "the place to mend", [] { throw std::runtime_error("it is 2, not 1"); }},
                    {"a kernel that hangs", "a barrier", [] { await(endless, "it", 0.1); }},
                    {"a kernel that kills its context", "", [] { await(dead, "it", 0.1); }},
                    {"a driver that hangs", "", [] { pause(); }},
                    {"a crash", "", [] { raise(SIGKILL); }},
                    {"what is right after all that", "", [] {}}},
                   first);
}

std::string version_of(const cuda::Nvrtc& nvrtc) {
    int major = 0, minor = 0;
    nvrtc.version(&major, &minor);
    return "NVRTC " + std::to_string(major) + "." + std::to_string(minor) + " (" + nvrtc.path + ")";
}
double limit_of_compilation() { return Gpu::seconds * 12; }

int compile_only(const Options& options) {
    cuda::Nvrtc nvrtc;
    if (!nvrtc.open()) return std::printf("first_light: no NVRTC; set ATTENTION_NVRTC: %s\n", nvrtc.wrong.c_str()), 3;
    int architecture = 0;
    std::string names;
    for (const int a : Compiler::known(nvrtc)) {
        const std::string name = kernels::real_name(a);
        names += " " + name;
        if (name == options.compile_only) architecture = a;
    }
    if (!architecture) return std::fprintf(stderr, "first_light: --compile-only %s: this NVRTC knows%s\n", options.compile_only.c_str(), names.c_str()), 2;
    Compiler compiler(nvrtc, options.kernels, options.verbs, architecture);
    const std::vector<Program> programs = programs_of(tests_of(architecture, options));
    if (programs.empty()) return std::printf("first_light: nothing has \"%s\" in its name\n", options.only.c_str()), 2;
    size_t wrong = 0;
    for (const auto& [expression, image] : compiler.compile(programs, limit_of_compilation()))
        if (!image.wrong.empty()) ++wrong, std::printf("WRONG  %s\n", image.wrong.c_str());
    std::printf("first_light: %zu of %zu programs compiled for %s by %s: %.1f s, %.1f s of processors, %u at a time\n", programs.size() - wrong,
                programs.size(), compiler.target.c_str(), version_of(nvrtc).c_str(), compiler.seconds, compiler.processor_seconds, compiler.processes);
    return wrong ? 1 : 0;
}
int rehearsal() {
    const attempts::Tally tally = attempts::watch(rehearse, 1000);
    std::printf("first_light: %zu of %zu right\n", tally.tried - tally.wrong, tally.tried);
    return tally.wrong ? 1 : 0;
}
int on_device(const Options& options) {
    const auto start = std::chrono::steady_clock::now();
    attempts::Aside asking(asked_of_driver, 25);
    while (!asking.over()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!asking.wrong.empty()) return std::printf("first_light: asking the driver: %s\n", asking.wrong.c_str()), 1;
    Device device;
    int name_at = 0;
    if (std::sscanf(asking.answer.c_str(), "found %d %d %n", &device.driver, &device.architecture, &name_at) != 2)
        return std::printf("first_light: no CUDA device: %s\n", asking.answer.c_str()), 3;
    cuda::Nvrtc nvrtc;
    if (!nvrtc.open(device.driver)) return std::printf("first_light: no NVRTC; set ATTENTION_NVRTC: %s\n", nvrtc.wrong.c_str()), 3;
    std::printf("first_light: %s, sm_%d, driver of CUDA %d.%d, %s\n", asking.answer.c_str() + name_at, device.architecture, device.driver / 1000,
                device.driver % 1000 / 10, version_of(nvrtc).c_str());
    const std::vector<Test> tests = tests_of(device.architecture, options);
    if (tests.empty()) return std::printf("first_light: nothing has \"%s\" in its name\n", options.only.c_str()), 2;
    Compiler compiler(nvrtc, options.kernels, options.verbs, device.architecture);
    const Images images = compiler.compile(programs_of(tests), limit_of_compilation());
    const int silence = 25000 + int(Gpu::seconds * 1000); // a driver that must finish PTX takes seconds too
    const attempts::Tally tally = attempts::watch([&](const attempts::Speaker& to, size_t first) { on_gpu(to, first, tests, images); }, silence);
    if (!tally.begun) return 1;
    std::printf("first_light: %zu of %zu right, %.1f s, of which NVRTC took %.1f for %zu programs (%.1f s of processors, %u at a time)\n",
                tally.tried - tally.wrong, tally.tried, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), compiler.seconds,
                images.size(), compiler.processor_seconds, compiler.processes);
    return tally.wrong ? 1 : 0;
}

} // namespace

int main(int argc, char** argv) {
    Options options;
    int at = 1;
    for (; at < argc && !std::strncmp(argv[at], "--", 2); ++at) {
        const std::string option = argv[at];
        if (option == "--rehearse") options.rehearse = true;
        else if (option == "--only" && at + 1 < argc) options.only = argv[++at];
        else if (option == "--compile-only" && at + 1 < argc) options.compile_only = argv[++at];
        else if (option == "--seconds" && at + 1 < argc && std::atof(argv[at + 1]) > 0) Gpu::seconds = std::atof(argv[++at]);
        else
            return std::fprintf(stderr, "first_light: %s is no option, or wants a value: --only TEXT, --seconds N, --compile-only ARCH, --rehearse\n",
                                option.c_str()),
                   2;
    }
    if (at < argc) options.kernels = argv[at++];
    if (at < argc) options.verbs = argv[at++];
    if (at < argc) return std::fputs("first_light: two folders at most\n", stderr), 2;
    try {
        return options.rehearse ? rehearsal() : !options.compile_only.empty() ? compile_only(options) : on_device(options);
    } catch (const std::exception& e) { return std::printf("first_light: %s\n", e.what()), 1; }
}
