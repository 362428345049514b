// plan.hpp — the tuning table of a GPU: which row of kernels.def takes a problem, in which chunks, and why others do not. One question has both answers.
#pragma once
#include "../kernels/launch.hpp"
#include "../kernels/rows.hpp"
#include "../model/kernel_choice.hpp"
#include "../model/problem.hpp"
#include "../model/refusal.hpp"

namespace attn::cuda {

constexpr uint32_t kKeep = 64, kDocuments = 32; // of attn_mask_kind

// What choosing depends on.
struct Target {
    int arch;             // 90 for compute capability 9.0
    bool hopper_compiles; // the library carries kernels for sm_90a, or NVRTC knows it
};

struct Choice : KernelChoice {
    const kernels::Row* row = nullptr;
    bool hopper = false;
    int chunks = 1, chunk_keys = 1 << 30;
    bool heads_as_rows = false; // the heads of a group fill a tile that one query leaves empty, and keys and values are read once for all of them
    // A mask that does not differ by batch or head is packed once for all of them: how many there are of either, and of how many rows.
    int64_t mask_batches = 1, mask_heads = 1, mask_rows = 0;

    kernels::Packing packing(const Problem& p) const {
        return {mask_batches, mask_heads, mask_rows, p.Sk, int(tile_queries), int(tile_keys), chunks, chunk_keys, bool(p.masks & kKeep)};
    }
};
struct Selection {
    Refusals refusals; // empty: choice says what runs
    Choice choice;
};
Selection select(const Problem& problem, Backend backend, const Target& target);

// Where things lie in a run's workspace, in bytes; 256-byte steps.
struct Workspace {
    uint64_t visited = 0, values = 0;                           // the counter; lengths, offsets, ids and slopes that came from the host
    uint64_t words = 0, classes = 0, tile_rows = 0, blocks = 0; // a packed mask
    uint64_t partial = 0, partial_lse = 0, scores = 0;
    uint64_t bytes = 0;
    Workspace(const Problem& problem, const Choice& choice);
};
uint64_t value_bytes(const Problem& problem); // of everything in `values`

} // namespace attn::cuda
