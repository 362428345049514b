// first_light — the first program to run on a GPU: each PTX verb, swizzle, matrix descriptor, TMA box and fence against plain arithmetic, then one problem of
// each kernel family against the double-precision reference. What the emulator believes is then known to be true, or is to be mended: beside what is wrong
// stands where to look, and descriptors are tried with other offsets until one is right. What hangs or dies is said so, and the rest is tried all the same.
//   first_light [--only TEXT] [--seconds N] [KERNELS_FOLDER [VERBS_FOLDER]]    what has TEXT in its name; a kernel that takes longer than N (5) hangs
//   first_light --rehearse    the watching alone, without a GPU: what is right, wrong, hangs, dies and falls silent
// Exit 0; 1 something is wrong; 2 bad usage; 3 no CUDA device, no libcuda or no NVRTC.
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>

#include "hopper.hpp"
#include "problem.hpp"

namespace {

template <class E>
void mma_sync(Gpu& gpu, int width) {
    const auto a = random_elements<E>(size_t(16 * width), 1), b = random_elements<E>(size_t(64 * width), 2);
    const Gpu::Array<E> A(gpu, a), B(gpu, b);
    const Gpu::Array<float> C(gpu, 16 * 64), D(gpu, size_t(16 * width));
    gpu.launch("verbs.cuh", "products<" + std::string(name_of<E>) + "," + std::to_string(width) + ">", 1, 1, 1, 32, size_t(80 * width * 2), A.data(), B.data(),
               C.data(), D.data());
    const auto at = [&](const std::vector<E>& m) { return [&m, width](int i, int k) { return double(ptx::to_float(m[size_t(i * width + k)])); }; };
    expect_products<E>(C.host(), D.host(), 16, width, at(a), at(b));
}
template <class E>
void wgmma(Gpu& gpu, int width) {
    const int columns = width - 8, rows = 61; // the box reaches past the matrix: zeros
    const auto a = random_elements<E>(size_t(rows * columns), 3), b = random_elements<E>(size_t(rows * columns), 4);
    const Gpu::Array<E> A(gpu, a), B(gpu, b);
    const Gpu::Array<float> C(gpu, 64 * 64), D(gpu, size_t(64 * width));
    const auto map = [&](const Gpu::Array<E>& m) {
        return gpu.tensor_map(m.data(), is_half<E>, columns, rows, 1, 1, columns, rows * columns, rows * columns, 64);
    };
    gpu.launch("verbs_sm90.cuh", "warpgroup_products<" + std::string(name_of<E>) + "," + std::to_string(width) + ">", 1, 1, 1, 128,
               size_t(2 * 64 * width * 2 + 8), map(A), map(B), C.data(), D.data());
    const auto at = [&](const std::vector<E>& m) {
        return [&m, rows, columns](int i, int k) { return i < rows && k < columns ? double(ptx::to_float(m[size_t(i * columns + k)])) : 0.0; };
    };
    expect_products<E>(C.host(), D.host(), 64, width, at(a), at(b));
}
// exp2 and log2 as the softmax needs them, roundings as the emulator does them.
void special_numbers(Gpu& gpu) {
    std::vector<float> x{0.f,     -0.f,     1.f,      -1.f,       -INFINITY,      INFINITY,         NAN,           -126.f,
                         -127.5f, -200.f,   -1e30f,   3e38f,      0x1p-149f,      0x1p-127f,        65504.f,       65519.f,
                         65520.f, 0x1p-24f, 0x1p-25f, 0x1.8p-25f, 1.f + 0x1p-11f, 1.f + 0x1.8p-10f, 1.f + 0x1p-8f, 1.f + 0x1.8p-7f,
                         3.39e38f};
    cases::Random r(13);
    while (x.size() < 256) x.push_back(float(r.normal() * 8));
    const size_t n = x.size();
    const Gpu::Array<float> in(gpu, x), e(gpu, n), l(gpu, n);
    const Gpu::Array<uint32_t> half(gpu, 2 * n), bfloat(gpu, 2 * n);
    gpu.launch("verbs.cuh", "numbers", 2, 1, 1, 128, 0, in.data(), e.data(), l.data(), half.data(), bfloat.data());
    const auto exp2s = e.host(), log2s = l.host();
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
        const bool flushed = std::fabs(x[i]) < 0x1p-126f && log2s[i] == -INFINITY; // below the least normal number it may be 0 to log2
        if (!flushed) near("log2", log2s[i], double(std::log2(x[i])), 4e-7);
        if (std::isnan(x[i])) continue;
        const auto rounded = [&](const char* what, uint32_t met, uint32_t right) {
            expect(met == right, what + of + std::to_string(met) + ", not " + std::to_string(right));
        };
        rounded("fp16", halves[n + i], ptx::from_float<fp16>(x[i]).bits), rounded("the pair of fp16", halves[i], ptx::pack<fp16>(x[i], 1.f));
        rounded("bf16", bfloats[n + i], ptx::from_float<bf16>(x[i]).bits), rounded("the pair of bf16", bfloats[i], ptx::pack<bf16>(x[i], 1.f));
    }
}
void counter(Gpu& gpu) {
    const Gpu::Array<uint64_t> sum(gpu, std::vector<uint64_t>{5});
    gpu.launch("verbs.cuh", "count", 3, 1, 1, 64, 0, sum.data());
    expect(sum.host()[0] == 5 + 3 * ((uint64_t(64) << 32) + 63 * 32), "a 64-bit counter of three blocks");
}
void fences(Gpu& gpu) {
    const auto a = random_elements<bf16>(64 * 64, 5);
    std::vector<uint32_t> words(256);
    for (size_t i = 0; i < words.size(); ++i) words[i] = uint32_t(i * 2654435761u);
    const Gpu::Array<bf16> A(gpu, a);
    const Gpu::Array<uint32_t> W(gpu, words), out(gpu, 256);
    const Gpu::Array<float> C(gpu, 64 * 64);
    gpu.launch("verbs_sm90.cuh", "fenced_products<bf16>", 1, 1, 1, 128, 64 * 64 * 2 + 1024, A.data(), W.data(), C.data(), out.data());
    const auto at = [&](int i, int k) { return double(ptx::to_float(a[size_t(i * 64 + k)])); };
    expect_products<bf16>(C.host(), {}, 64, 64, at, at);
    expect(out.host() == words, "the bulk copy brought other words");
}
void warp(Gpu& gpu) {
    const Gpu::Array<uint32_t> ballot(gpu, 32), low(gpu, 32);
    const Gpu::Array<int> xored(gpu, 32);
    const Gpu::Array<float> hidden(gpu, 32);
    gpu.launch("verbs.cuh", "collect", 1, 1, 1, 32, 0, ballot.data(), xored.data(), hidden.data(), low.data());
    for (size_t lane = 0; lane < 32; ++lane) {
        expect(ballot.host()[lane] == 0x49249249u, "ballot");
        expect(xored.host()[lane] == int(lane ^ 5) * 10, "shfl.xor");
        expect(hidden.host()[lane] == (lane % 2 == 0 ? 1.f : -INFINITY), "hide_unless");
        expect(low.host()[lane] == (lane >= 16 ? ~0u : uint32_t((uint64_t(1) << lane * 2) - 1)), "low_bits");
    }
}
void zero_fill(Gpu& gpu) {
    const Gpu::Array<uint32_t> in(gpu, std::vector<uint32_t>(128, 0x7E7E7E7E)), out(gpu, 128);
    gpu.launch("verbs.cuh", "copy_some", 1, 1, 1, 32, 512, in.data(), out.data());
    const auto words = out.host();
    const auto* bytes = reinterpret_cast<const unsigned char*>(words.data());
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 16; ++i) expect(bytes[lane * 16 + i] == (i < lane % 17 ? 0x7E : 0), "cp.async of " + std::to_string(lane % 17) + " bytes");
}
void smem_start(Gpu& gpu) {
    const Gpu::Array<uint32_t> at(gpu, 1);
    gpu.launch("verbs.cuh", "smem_start", 1, 1, 1, 1, 1024, at.data());
    expect(at.host()[0] == 0, "dynamic shared memory starts " + std::to_string(at.host()[0]) + " bytes past a multiple of 1024");
}

constexpr const char* kSwizzle = "SharedTile and the ldmatrix addresses of mma_ABt and mma_AB (tile.cuh), the fragment maps (mma.hpp)";
constexpr const char* kTensor = "what stands above first; else Accum's and FragA's places of elements (tile.cuh), through_descriptor (wgmma.hpp)";

std::vector<attempts::Attempt> attempts_on(Gpu& gpu) {
    std::vector<attempts::Attempt> all;
    const auto attempt = [&](const std::string& what, const std::string& mend, std::function<void()> run) { all.push_back({what, mend, std::move(run)}); };
    attempt("dynamic shared memory starts on 1024 bytes", "dynamic_smem (ptx.cuh): round it up, and ask for 1024 bytes more (rows.hpp)",
            [&] { smem_start(gpu); });
    attempt("votes, shuffles, hide_unless, low_bits", "the verb named (ptx.cuh)", [&] { warp(gpu); });
    attempt("exp2 and log2 of what is special, roundings",
            "softmax.cuh takes exp2(-inf) for 0 and log2(0) for -inf; from_float and pack (ptx.cuh, emulator.hpp)", [&] { special_numbers(gpu); });
    attempt("64-bit counters", "add (ptx.cuh)", [&] { counter(gpu); });
    if (gpu.architecture >= 80) {
        attempt("cp.async zero fill", "cp_async_16 (ptx.cuh, mma.hpp)", [&] { zero_fill(gpu); });
        for (const int width : {32, 64, 96, 128, 192, 256}) {
            attempt("ldmatrix, swizzle, mma.sync bf16, width " + std::to_string(width), kSwizzle, [&gpu, width] { mma_sync<bf16>(gpu, width); });
            attempt("ldmatrix, swizzle, mma.sync fp16, width " + std::to_string(width), kSwizzle, [&gpu, width] { mma_sync<fp16>(gpu, width); });
        }
    }
    if (gpu.architecture == 90) {
        attempt("TMA box: coordinates, swizzle, what lies outside, bytes counted",
                "tma_load's order of coordinates (ptx_sm90.cuh), tensor_map (run.cpp), copy_later (wgmma.hpp); if it hangs, the bytes expected of a box",
                [&] { tma_box(gpu); });
        for (const auto [rows, row0, N] : {std::array{64, 0, 64}, {128, 64, 64}, {192, 128, 128}})
            attempt("wgmma K-major, rows " + std::to_string(row0) + ".. of " + std::to_string(rows) + ", N " + std::to_string(N),
                    "SlabTile::k_major (flash_sm90.cuh), smem_descriptor (ptx_sm90.cuh), through_descriptor (wgmma.hpp)",
                    [&gpu, rows = rows, row0 = row0, N = N] { k_major(gpu, rows, row0, N); });
        for (const auto [K, N] : {std::array{64, 64}, {128, 64}, {128, 128}, {64, 192}, {64, 256}})
            attempt("wgmma MN-major, A from registers, K " + std::to_string(K) + ", N " + std::to_string(N),
                    "SlabTile::mn_major (flash_sm90.cuh), through_descriptor (wgmma.hpp)", [&gpu, K = K, N = N] { mn_major(gpu, K, N); });
        for (const int width : {64, 128, 192, 256}) {
            attempt("TMA, descriptors, wgmma bf16, width " + std::to_string(width), kTensor, [&gpu, width] { wgmma<bf16>(gpu, width); });
            attempt("TMA, descriptors, wgmma fp16, width " + std::to_string(width), kTensor, [&gpu, width] { wgmma<fp16>(gpu, width); });
        }
        attempt("two groups of wgmma in flight", "wgmma_wait<1> and pin (flash_sm90.cuh), wgmma_wait (wgmma.hpp)", [&] { overlapped(gpu); });
        attempt("proxy fence, mbarrier parity, bulk copy", "proxy_fence, mbarrier_wait, bulk_load (ptx_sm90.cuh, wgmma.hpp)", [&] { fences(gpu); });
        attempt("rows cleared between TMA and wgmma, and overwritten by TMA", "clear_from and await_values (flash_sm90.cuh), proxy_fence (wgmma.hpp)",
                [&] { cleared(gpu); });
        attempt("ring of a producer and two consumers: first phases, arrivals, registers, named barrier",
                "Ring and the waits on empty barriers (flash_sm90.cuh), warp_arrive, setmaxnreg, named_barrier (ptx_sm90.cuh)", [&] { pipeline(gpu); });
    }
    for (const kernels::Row& row : kernels::rows()) {
        const bool runs = row.oldest == 90 ? gpu.architecture == 90 : gpu.architecture >= row.oldest;
        const bool chosen = row.file == "naive.cuh" || row.file == "memory_efficient.cuh" || row.name.find("d64.") != std::string::npos ||
                            row.name.find("d128.bf16") != std::string::npos;
        if (!runs || !chosen || row.name.find("termed") != std::string::npos) continue;
        const std::string mend = row.oldest == 90 ? "setmaxnreg, the order of waits and arrivals, if everything above is right" : "";
        if (row.expression.find("fp16") != std::string::npos) attempt(row.name, mend, [&gpu, row] { problem_of<fp16>(gpu, row, Type::f16); });
        else if (row.expression.find("bf16") != std::string::npos) attempt(row.name, mend, [&gpu, row] { problem_of<bf16>(gpu, row, Type::bf16); });
        else attempt(row.name, mend, [&gpu, row] { problem_of<float>(gpu, row, Type::f32); });
    }
    return all;
}

struct Options {
    std::string kernels = FIRST_LIGHT_KERNELS, verbs = FIRST_LIGHT_VERBS, only;
};
// The attempts from `first` on, in a process of their own.
void on_gpu(const attempts::Speaker& to, size_t first, const Options& options) {
    static cuda::Driver driver; // never unloaded: what hangs is left behind
    static cuda::Nvrtc nvrtc;
    int count = 0, version = 0, major = 0, minor = 0;
    if (!driver.open()) return to.say('n', "no CUDA device: " + driver.wrong);
    for (const auto& [status, doing] : {std::pair{driver.init(0), "cuInit"}, {driver.device_count(&count), "cuDeviceGetCount"}})
        if (status) return to.say('n', "no CUDA device: " + driver.name_of(status) + " in " + doing);
    if (!count) return to.say('n', "no CUDA device: the driver knows none");
    driver.driver_version(&version);
    if (!nvrtc.open(version)) return to.say('n', "no NVRTC; set ATTENTION_NVRTC: " + nvrtc.wrong);
    nvrtc.version(&major, &minor);
    try {
        static Gpu gpu(driver, nvrtc, options.kernels, options.verbs);
        char versions[64];
        std::snprintf(versions, sizeof versions, ", driver of CUDA %d.%d, NVRTC %d.%d", version / 1000, version % 1000 / 10, major, minor);
        to.say('d', gpu.name + ", sm_" + std::to_string(gpu.architecture) + versions + " (" + nvrtc.path + ")");
        std::vector<attempts::Attempt> chosen;
        for (attempts::Attempt& a : attempts_on(gpu))
            if (a.what.find(options.only) != std::string::npos) chosen.push_back(std::move(a));
        attempts::work(to, chosen, first);
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
    to.say('d', "a rehearsal");
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

} // namespace

int main(int argc, char** argv) {
    Options options;
    bool rehearsal = false;
    int at = 1;
    for (; at < argc && !std::strncmp(argv[at], "--", 2); ++at) {
        const std::string option = argv[at];
        if (option == "--rehearse") rehearsal = true;
        else if (option == "--only" && at + 1 < argc) options.only = argv[++at];
        else if (option == "--seconds" && at + 1 < argc && std::atof(argv[at + 1]) > 0) Gpu::seconds = std::atof(argv[++at]);
        else return std::fprintf(stderr, "first_light: %s is no option, or wants a value: --only TEXT, --seconds N, --rehearse\n", option.c_str()), 2;
    }
    if (at < argc) options.kernels = argv[at++];
    if (at < argc) options.verbs = argv[at++];
    if (at < argc) return std::fputs("first_light: two folders at most\n", stderr), 2;
    const auto start = std::chrono::steady_clock::now();
    const int silence = 25000 + int(Gpu::seconds * 1000); // a compilation takes seconds too
    const attempts::Tally tally =
        rehearsal ? attempts::watch(rehearse, 1000) : attempts::watch([&](const attempts::Speaker& to, size_t first) { on_gpu(to, first, options); }, silence);
    if (!tally.begun) return tally.otherwise;
    if (!tally.tried) return std::printf("first_light: nothing has \"%s\" in its name\n", options.only.c_str()), 2;
    std::printf("first_light: %zu of %zu right, %.1f s\n", tally.tried - tally.wrong, tally.tried,
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    return tally.wrong ? 1 : 0;
}
