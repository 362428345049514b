// backend.hpp — what the rest of the library sees of the CPU: three backends behind one predicate, and the workers they run on.
#pragma once
#include <cstdint>
#include <string>

#include "../model/kernel_choice.hpp"
#include "../model/problem.hpp"
#include "../model/refusal.hpp"
#include "pool.hpp"

namespace attn::cpu {

enum class InstructionSet { generic, avx2, avx512 };
const char* name_of(InstructionSet isa);
bool supports(InstructionSet isa); // this machine, and this build
InstructionSet best_instruction_set();

// What of this machine tuning depends on.
struct Processor {
    int64_t l2_bytes;  // of a core
    bool shared_ports; // sums, maxima and scaling by powers of two take the FMA's ports, and take no longer: Intel's cores with AVX-512
    bool asks_into_l1; // a request for a line may go to L1 without holding up the loads behind it: Intel; on AMD to L2 alone
};
const Processor& processor();

Refusals refusals(const Problem& problem, Backend backend);                                    // empty: it would take it
KernelChoice choose(const Problem& problem, Backend backend, InstructionSet isa, int workers); // of a problem it takes

// Runs to the end or until cancelled; the caller works too. The call's operands have been checked. B, Hq, Sq >= 1; Sk may be 0.
void run(const Call& call, Backend backend, InstructionSet isa, Pool& pool);

// One pass over a dense keep mask: the class of each cell, and the words of partial ones. keep [kb, kh, ki, kj] with strides in bytes; classes and words have
// one cell (64 words) for each cell of the mask as given, row-major.
struct KeepBytes {
    const uint8_t* data;
    int64_t shape[4];
    int64_t stride[4];
};
int64_t keep_cells(const int64_t (&shape)[4]);
PackedKeep pack_keep(const KeepBytes& keep, InstructionSet isa, Pool& pool, Cell* classes, uint64_t* words);

void merge(const Merging& merging, Pool& pool);

} // namespace attn::cpu
