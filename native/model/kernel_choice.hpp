// kernel_choice.hpp — the kernel a plan has: depends on the problem and the machine, never on data.
#pragma once
#include <cstdint>
#include <string>

#include "mask.hpp"

namespace attn {

struct KernelChoice {
    std::string kernel; // cpu.flash.avx512, cpu.naive, cuda.flash_sm80.d64.bf16.rule.scaled
    std::string reason; // why not the kernel one would expect first; empty: it is that one
    int64_t tile_queries = kCell, tile_keys = kCell;
    int64_t key_chunk = 0;        // keys are split by this many and merged in order; 0: not split
    uint64_t workspace_bytes = 0; // beyond the workers' scratch
};

} // namespace attn
