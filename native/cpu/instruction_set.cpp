// instruction_set.cpp — which of the compiled-in instruction sets this machine has, and what else of it matters. What each set needs is what
// native/CMakeLists.txt compiles it for.
#include <unistd.h>

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

const Processor& processor() {
    static const Processor here = [] {
        __builtin_cpu_init();
        const long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
        const bool intel = __builtin_cpu_is("intel");
        return Processor{l2 > 0 ? l2 : 1 << 20, intel, intel};
    }();
    return here;
}

} // namespace attn::cpu
