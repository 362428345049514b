// run.hpp — a plan's kernels put on a stream. Everything they are given lies on the device; nothing here waits.
#pragma once
#include "device.hpp"
#include "plan.hpp"

namespace attn::cuda {

void load(const Device& device, const Problem& problem, const Choice& choice); // every kernel that run() launches

// The pass over a mask: `at` has four places, as in Workspace.
struct PackedPlace {
    uint32_t* words;
    uint8_t* classes;
    TileRow* tile_rows;
    int* blocks;
};
PackedCells pack(const Device& device, const Problem& problem, const Choice& choice, const Mask& mask, DenseKeep keep, const PackedPlace& place,
                 ::cuda::Stream stream);
uint64_t packed_bytes(const kernels::Packing& packing);
PackedPlace packed_place(const kernels::Packing& packing, unsigned char* memory);

// `call` has device addresses, call.workspace too; B, Hq, Sq >= 1. `packed`: the mask's cells if they are there already. `counts`: the workspace's counter is
// cleared and counted up. `cancel`: a CancelFlag's word, or 0.
void run(const Device& device, const Choice& choice, const Call& call, const DenseKeep& keep, const PackedCells* packed, bool counts, Address cancel,
         ::cuda::Stream stream);

void merge(const Device& device, const Merging& merging, ::cuda::Stream stream); // device addresses

} // namespace attn::cuda
