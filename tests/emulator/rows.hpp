// rows.hpp — the rows of kernels.def as functions that run on a Device in the emulator.
#pragma once
#include <vector>

#include "device.hpp"

struct EmulatedRow {
    std::string name;
    reference::Type type = reference::Type::bf16;
    int D = 0, block_m = 64, block_n = 64; // D 0: any
    bool packed = false, scaled = false, tensor_cores = false;
    uint64_t mma_of_tile = 0; // instructions a visited tile takes; 0: none
    int smem = 0;
    // Runs the row; with chunk_keys > 0 (where `splits`) in chunks of so many keys, and merges them.
    bool splits = false;
    void (*launch)(Device&, int chunk_keys) = nullptr;
};

void add_flash_rows_fp16(std::vector<EmulatedRow>& all);
void add_flash_rows_bf16(std::vector<EmulatedRow>& all);
void add_hopper_rows_fp16(std::vector<EmulatedRow>& all);
void add_hopper_rows_bf16(std::vector<EmulatedRow>& all);
void add_plain_rows(std::vector<EmulatedRow>& all);

inline std::vector<EmulatedRow> emulated_rows() {
    std::vector<EmulatedRow> all;
    add_flash_rows_fp16(all), add_flash_rows_bf16(all), add_hopper_rows_fp16(all), add_hopper_rows_bf16(all), add_plain_rows(all);
    return all;
}

template <class Mask, int kBlockM, int kBlockN>
Mask mask_of(Device& d, int chunks, int chunk_keys) {
    if constexpr (Mask::kPacked) return d.packed(kBlockM, kBlockN, chunks, chunk_keys);
    else return RuleMask{d.mask()};
}
// What the pass did is checked apart: the counts that follow are the kernel's own.
inline void count_from_here() { emu::stats = {}; }
