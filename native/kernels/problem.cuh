// problem.cuh — the arguments of a kernel beside the verbs that reach them: whether a block has work, and which.
#pragma once
#include "ptx.cuh"
#include "arguments.cuh"

// Whether the host has given the run up, as one thread sees it for all of the block.
DEVICE bool given_up(const int* cancel) { return cancel && __syncthreads_or(threadIdx.x == 0 && ptx::read_fresh(cancel)); }

// Where a block works: batch, head, and its turn, which counts query blocks and chunks. Blocks begin batch by batch and so many heads at a time as have
// their keys in the L2 cache; of those all heads' last queries come first: under a causal mask they see the most keys, and what begins last should be short.
struct Place {
    int b, h, turn;
};
template <class E>
DEVICE Place place_of(const Problem<E>& p) {
    uint32_t left = gridDim.x - 1 - blockIdx.x;
    ptx::pin(left); // whoever asks again works it out again: it waits in no register through the loop
    const uint32_t together = p.heads_together;
    return {int(blockIdx.z), int(blockIdx.y * together + left % together), int(left / together)};
}
