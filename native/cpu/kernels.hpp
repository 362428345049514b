// kernels.hpp — the entries of the kernels: one of each for an instruction set, in its namespace, and the naive one for all; and what these share with the
// backend about how work is divided.
#pragma once
#include <cstdint>

#include "backend.hpp"

namespace attn::cpu {

uint64_t naive_workspace(const Problem& problem, int workers); // the scores of a head for each worker
void naive(const Call& call, Pool& pool);

// What flash keeps of a problem while keys pass by: the tuning table. Scratch fits in 2 MB, and Q and O in three quarters of L2.
struct FlashShape {
    static constexpr int64_t kMostL2 = 1 << 20; // that makes a difference
    static constexpr int kMaxDim = 512, kMaxRows = 1536, kMaxCells = kMaxRows / kCell, kMaxKeys = 256;
    int64_t rows, keys; // queries of a work item, keys of a step: multiples of 64; bits depend on keys, and keys on D and Dv alone
    bool scale;         // exponentials by scaling, not by bits
    int stride;         // a worker's next item is likely so many on

    FlashShape(const Problem& p, int workers, const Processor& cpu)
        : rows(rows_of(p.D + p.Dv, smaller(cpu.l2_bytes, kMostL2))), keys(keys_of(p.D + p.Dv)), scale(cpu.shared_ports), stride(workers) {
        const int64_t heads = p.B * p.Hq, wanted = 8 * int64_t(workers); // items, so that workers end together
        while (rows > 2 * kCell && heads * ((p.Sq + rows - 1) / rows) < wanted) rows -= kCell;
        rows = cells_of((p.Sq + blocks(p) - 1) / blocks(p)) * kCell; // blocks of one size
    }
    int64_t blocks(const Problem& p) const { return (p.Sq + rows - 1) / rows; }
    int64_t items(const Problem& p) const { return p.B * p.Hq * blocks(p); }

    static constexpr int64_t rows_of(int64_t width, int64_t l2) { // more rows pack K and V less often; Q and O, once a step, come from L3 as well
        const int64_t cells = l2 * 3 / 4 / 4 / width / kCell;
        return (cells < 1 ? 1 : cells > kMaxCells ? kMaxCells : cells) * kCell;
    }
    static constexpr int64_t keys_of(int64_t width) { // a longer step rescales O less often: 64 keys cost 6 %, 128 2.5 %; 512 give 0.6 %
        return width <= 256 ? 256 : width <= 512 ? 128 : 64;
    }
};

// Few queries: bound by reading K and V once. A work item is some heads of a group with all their queries against a run of chunks; chunks are merged in order,
// so how many make a run does not matter to the result.
struct DecodeShape {
    static constexpr int64_t kQueries = 8; // up to here decode takes a problem; by Sq alone, so that grouped heads and repeated ones are the same bits
    static constexpr int64_t kChunk = 512; // keys that are summed up before they are merged
    static constexpr int64_t kRows = 64;   // of a work item: queries of its heads
    int64_t heads, parts, chunks, run, runs;
    bool into_l1; // comes what is asked for ahead; else into L2
    DecodeShape(const Problem& p, int workers, const Processor& cpu) : into_l1(cpu.asks_into_l1) {
        heads = smaller(p.group(), kRows / p.Sq);
        parts = (p.group() + heads - 1) / heads;
        chunks = (p.Sk + kChunk - 1) / kChunk;
        const int64_t items = p.B * p.Hkv * parts, wanted = 8 * int64_t(workers); // enough of them that workers end together
        run = items >= wanted || workers == 1 ? larger(chunks, 1) : larger(1, chunks * items / wanted);
        runs = larger(1, (chunks + run - 1) / run);
    }
    int64_t items(const Problem& p) const { return p.B * p.Hkv * parts * runs; }
    // One run: results go where they belong. More: the (m, l, O) of each chunk go to the workspace.
    static int64_t partial_floats(const Problem& p) { return p.Dv + 2; }
    uint64_t workspace(const Problem& p) const { return runs == 1 ? 0 : uint64_t(p.B * p.Hq * p.Sq * chunks * partial_floats(p)) * sizeof(float); }
};

// A row of cells of a dense keep mask: up to 64 rows of bytes, `keys` of them in each. One byte a row (keys 1, every) stands for all keys.
struct KeepRow {
    const uint8_t* data;
    int64_t row, column; // strides in bytes
    int64_t rows, keys;
    bool every;
};

#define ATTN_KERNELS(isa)                                                                                                \
    namespace isa {                                                                                                      \
    void flash(const Call& call, const FlashShape& shape, unsigned char* scratch, int64_t item);                         \
    void decode(const Call& call, const DecodeShape& shape, unsigned char* scratch, int64_t item);                       \
    void merge_chunks(const Call& call, const DecodeShape& shape, unsigned char* scratch, int64_t row); /* of B Hq Sq */ \
    void pack_row(const KeepRow& keep, Cell* classes, uint64_t* words);                                                  \
    void memory_efficient(const Call& call, Pool& pool);                                                                 \
    }
ATTN_KERNELS(avx512)
ATTN_KERNELS(avx2)
ATTN_KERNELS(generic)
#undef ATTN_KERNELS

} // namespace attn::cpu
