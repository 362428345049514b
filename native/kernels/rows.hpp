// rows.hpp — kernels.def as data for the host: what to compile (a file and a template-id), for which architectures, and how to launch it.
#pragma once
#include <string>
#include <vector>

namespace kernels {

constexpr size_t kMostRows = 80;
// With what NVRTC compiles each, beside the architecture's name. nvcc takes the same but the first: a lambda in a kernel is device code to it anyhow.
constexpr const char* kOptions[] = {"-default-device", "--std=c++17", "--use_fast_math", "-diag-suppress=2473"};
inline std::string real_name(int arch) { return "sm_" + std::to_string(arch) + (arch == 90 ? "a" : ""); } // Hopper's own instructions are sm_90a's

struct Row {
    std::string name;                      // flash_sm80.d64.bf16.rule.scaled
    std::string file;                      // to include
    std::string expression;                // the kernel's name expression
    int oldest;                            // compute capability it needs, e.g. 80; 90 means sm_90a alone
    int threads, smem;                     // dynamic shared memory in bytes
    bool packed = false, termed = true;    // the mask by words; scores with terms or any scale
    int D = 0, block_m = 64, block_n = 64; // the class of head sizes (0: any) and the tile

    bool runs_on(int arch) const { return oldest == 90 ? arch == 90 : arch >= oldest; }
};

// Where a class has taller tiles too, the shorter ones say so.
inline std::string flash_sm80_name(int D, int M, const std::string& element, const std::string& mask, const std::string& score) {
    return "flash_sm80.d" + std::to_string(D) + "." + element + "." + mask + (score == "Scaled" ? ".scaled" : ".termed") +
           (D <= 128 && M == 64 ? ".short" : "");
}

// Bytes of Smem90: Q, the stages of K, V and mask words, the barriers.
constexpr int smem90(int D, int M, int N, int stages, bool packed) {
    return M * D * 2 + stages * (2 * N * D * 2 + (packed ? M * N / 8 : 0) + 16) + 8 * (1 + 4 * stages);
}

constexpr int smem_of_memory_efficient = (2 * 64 * 33 + 64 * 80 + 16 * 128) * 4; // SmemME: Q, K, P, V

inline std::vector<Row> rows() {
    std::vector<Row> all;
    const auto text = [](int x) { return std::to_string(x); };
    const auto each = [](auto&& f) {
        for (const char* e : {"fp16", "bf16"})
            for (const bool packed : {false, true})
                f(std::string(e), packed, std::string(packed ? "PackedMask" : "RuleMask"), std::string(packed ? "packed" : "rule"));
    };
    const auto flash80 = [&](int D, int M, int N, int warps, const std::string& q, const std::string& score) {
        each([&](const std::string& e, bool packed, const std::string& mask, const std::string& kind) {
            all.push_back(
                {flash_sm80_name(D, M, e, kind, score), "flash_sm80.cuh",
                 "flash_sm80<Shape<" + text(D) + "," + text(M) + "," + text(N) + "," + text(warps) + ",Keep::" + q + ">," + e + "," + mask + "," + score + ">",
                 80, warps * 32, (M + 2 * N) * D * 2, packed, score == "Termed", D, M, N});
        });
    };
    const auto flash90 = [&](int D, int M, int N, int stages) {
        each([&](const std::string& e, bool packed, const std::string& mask, const std::string& kind) {
            all.push_back({"flash_sm90.d" + text(D) + "." + e + "." + kind, "flash_sm90.cuh",
                           "flash_sm90<Shape90<" + text(D) + "," + text(M) + "," + text(N) + "," + text(stages) + ">," + e + "," + mask + ">", 90, M * 2 + 128,
                           smem90(D, M, N, stages, packed), packed, false, D, M, N});
        });
    };
    const auto add = [&](const std::string& name, const std::string& file, const std::string& expression, int threads, int smem) {
        all.push_back({name, file, expression, 60, threads, smem, expression.find("PackedMask") != std::string::npos});
    };
    const auto short_name = [](const std::string& e) { return e == "float" ? std::string("f32") : e; };
#define FLASH_SM80(D, M, N, WARPS, Q, SCORE) flash80(D, M, N, WARPS, #Q, #SCORE);
#define FLASH_SM90(D, M, N, STAGES) flash90(D, M, N, STAGES);
#define MEMORY_EFFICIENT(E, MASK)                                                                                                \
    add("memory_efficient." + short_name(#E) + (std::string(#MASK) == "RuleMask" ? ".rule" : ".packed"), "memory_efficient.cuh", \
        "memory_efficient<" #E "," #MASK ">", 256, smem_of_memory_efficient);
#define NAIVE(E) add("naive." + short_name(#E), "naive.cuh", "naive<" #E ">", 128, 0);
#define MERGE(E, PARTS) \
    add("merge." + short_name(#E) + (std::string(#PARTS) == "Chunks" ? ".chunks" : ".pair"), "merge.cuh", "merge<" #E "," #PARTS ">", 128, 0);
#define MASK_PASS(NAME, THREADS) add(#NAME, "mask_tiles.cuh", #NAME, THREADS, 0);
#include "kernels.def"
#undef FLASH_SM80
#undef FLASH_SM90
#undef MEMORY_EFFICIENT
#undef NAIVE
#undef MERGE
#undef MASK_PASS
    return all;
}

// The sources NVRTC is given, by the names they include each other with.
inline std::vector<std::string> sources() {
    return {
        "ptx.cuh",   "ptx_sm90.cuh",   "problem.cuh",    "arguments.cuh",  "tile.cuh",  "softmax.cuh",          "mask.cuh", "../model/mask.hpp", "score.cuh",
        "store.cuh", "flash_sm80.cuh", "flash_sm90.cuh", "mask_tiles.cuh", "merge.cuh", "memory_efficient.cuh", "naive.cuh"};
}

} // namespace kernels
