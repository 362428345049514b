// kernels.hpp — the entries of the kernels: one of each for an instruction set, in its namespace, and the naive one for all.
#pragma once
#include <cstdint>

#include "backend.hpp"

namespace attn::cpu {

uint64_t naive_workspace(const Problem& problem, int workers); // the scores of a head for each worker
void naive(const Call& call, Pool& pool);

#define ATTN_KERNELS(isa)                                \
    namespace isa {                                      \
    void memory_efficient(const Call& call, Pool& pool); \
    }
ATTN_KERNELS(avx512)
ATTN_KERNELS(avx2)
ATTN_KERNELS(generic)
#undef ATTN_KERNELS

} // namespace attn::cpu
