// plain_rows.cpp — the rows without tensor cores.
#include "launches.hpp"

static_assert(sizeof(SmemME) == kernels::smem_of_memory_efficient && sizeof(SmemME) <= 48 << 10);

void add_plain_rows(std::vector<EmulatedRow>& all) {
#define FLASH_SM80(...)
#define FLASH_SM90(...)
#define MEMORY_EFFICIENT(E, MASK) all.push_back(memory_efficient_row<E, MASK>("memory_efficient " #E " " #MASK));
#define NAIVE(E) all.push_back(naive_row<E>("naive " #E));
#define MERGE(...)
#define MASK_PASS(...)
#include "kernels.def"
}
