// plain_launchers.cpp — the rows without tensor cores, the merge and the pass over a mask.
#include "launchers.hpp"
#include "mask_tiles.cuh"
#include "memory_efficient.cuh"
#include "merge.cuh"
#include "naive.cuh"

namespace {
std::string short_name(const std::string& type) { return type == "float" ? "f32" : type; }
} // namespace

void add_plain(Launchers& all) {
#define FLASH_SM80(...)
#define FLASH_SM90(...)
#define MEMORY_EFFICIENT(E, MASK) all["memory_efficient." + short_name(#E) + (MASK::kPacked ? ".packed" : ".rule")] = launcher(memory_efficient<E, MASK>);
#define NAIVE(E) all["naive." + short_name(#E)] = launcher(naive<E>);
#define MERGE(E, PARTS) all["merge." + short_name(#E) + (std::is_same_v<PARTS, Chunks> ? ".chunks" : ".pair")] = launcher(merge<E, PARTS>);
#define MASK_PASS(NAME, THREADS) all[#NAME] = launcher(NAME);
#include "kernels.def"
}
