// instruction_set.cpp — which of the compiled-in instruction sets this machine has. What each needs is what native/CMakeLists.txt compiles it for.
#include "backend.hpp"

namespace attn::cpu {

const char* name_of(InstructionSet isa) { return isa == InstructionSet::avx512 ? "avx512" : isa == InstructionSet::avx2 ? "avx2" : "generic"; }

bool supports(InstructionSet isa) {
    __builtin_cpu_init();
    switch (isa) {
        case InstructionSet::avx512: return __builtin_cpu_supports("x86-64-v4");
        case InstructionSet::avx2: return __builtin_cpu_supports("x86-64-v3");
        default: return true;
    }
}

InstructionSet best_instruction_set() {
    for (const InstructionSet isa : {InstructionSet::avx512, InstructionSet::avx2})
        if (supports(isa)) return isa;
    return InstructionSet::generic;
}

} // namespace attn::cpu
