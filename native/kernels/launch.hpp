// launch.hpp — how large a launch is and what memory it takes: for whoever launches, the library on a GPU or a test in the emulator.
#pragma once
#include <algorithm>
#include <cstdint>

#include "arguments.cuh"

namespace kernels {

struct Grid {
    unsigned x, y, z;
};
inline int64_t blocks_of(int64_t n, int64_t block) { return (n + block - 1) / block; }

template <class E>
Grid flash_grid(const Problem<E>& p, int64_t batches, int block_m) { // and memory-efficient's; place_of (problem.cuh) reads it
    return {unsigned(blocks_of(p.q_len, block_m) * p.chunks * p.heads_together), unsigned(p.heads / p.heads_together), unsigned(batches)};
}
// The heads whose blocks begin side by side: all, or as many groups as the L2 cache holds keys and values of, in half of its bytes.
template <class E>
int heads_together(const Problem<E>& p, int64_t element_bytes, int64_t l2_bytes) {
    const int64_t groups = p.heads / p.group, bytes_of_group = std::max<int64_t>(1, int64_t(p.k_len) * (p.D + p.Dv) * element_bytes);
    int64_t together = std::clamp<int64_t>(l2_bytes / 2 / bytes_of_group, 1, groups);
    while (groups % together) --together;
    return int(together) * p.group;
}
inline Grid naive_grid(int64_t B, int64_t Hq, int64_t Sq) { return {unsigned(blocks_of(Sq, kNaiveWarps)), unsigned(Hq), unsigned(B)}; }
inline Grid merge_grid(int64_t rows) { return {unsigned(std::min<int64_t>(blocks_of(rows, kMergeWarps), INT32_MAX)), 1, 1}; }

// The chunks of `batches` batches of a problem whose keys are split, and what they become.
template <class E>
Chunks chunks_of(const Problem<E>& p, int64_t batches) {
    return {p.partial, p.partial_lse, batches * p.heads * p.q_len, p.Dv, p.chunks};
}
template <class E>
Merged<E> merged(const Problem<E>& p, int64_t batches) {
    return {{p.O.data, p.O.batch, p.O.head, p.O.row, 1}, p.LSE, batches * p.heads * p.q_len, p.heads, p.q_len, p.Dv, p.cancel};
}

// Decoding with heads in groups: the heads that share a key head become the rows of a tile in place of the one query, and keys and values are read once for
// all of them. For flash_sm80, one query and no ALiBi, whose slopes go by head. LSE and partial results lie as before; grids and Packing are those of
// heads / group heads and `group` queries.
template <class E>
void let_heads_be_rows(Problem<E>& p) {
    const auto turn = [&](auto& m) { m.row = m.head, m.head *= p.group; };
    turn(p.Q), turn(p.O);
    p.terms.bias_row = p.terms.bias_head, p.terms.bias_head *= p.group;
    p.heads_as_rows = p.q_len = p.group, p.heads /= p.group, p.group = 1;
}
inline void let_heads_be_rows(DenseKeep& keep, int group) { keep.row = keep.head, keep.head *= group; }

// A mask packed for tiles of block_m x block_n and `chunks` chunks of chunk_keys keys: for `batches` x `heads` masks, 1 of either where all share one. Bits of
// every score are `stored` for a dense keep only.
struct Packing {
    int64_t batches, heads;
    int block_m, block_n, chunks, chunk_keys;
    int rows, columns; // cells of a mask, rounded up to whole tiles
    int query_blocks, key_blocks;
    bool stored;

    Packing(int64_t batches, int64_t heads, int64_t Sq, int64_t Sk, int block_m, int block_n, int chunks, int chunk_keys, bool stored)
        : batches(batches),
          heads(heads),
          block_m(block_m),
          block_n(block_n),
          chunks(chunks),
          chunk_keys(chunk_keys),
          rows(int(blocks_of(Sq, block_m) * (block_m / attn::kCell))),
          columns(int(blocks_of(Sk, block_n) * (block_n / attn::kCell))),
          query_blocks(int(blocks_of(Sq, block_m))),
          key_blocks(int(blocks_of(Sk, block_n))),
          stored(stored) {}

    int64_t masks() const { return batches * heads; }
    int64_t cells() const { return int64_t(rows) * columns; }                       // of a mask
    int64_t words() const { return stored ? masks() * cells() * 128 : 0; }          // of 4 bytes
    int64_t classes() const { return masks() * cells(); }                           // of 1 byte
    int64_t tile_rows() const { return masks() * query_blocks * chunks; }           // TileRow
    int64_t blocks() const { return masks() * query_blocks * int64_t(key_blocks); } // int
    Grid pass_grid() const { return {unsigned(blocks_of(cells(), kPackWarps)), unsigned(heads), unsigned(batches)}; }
    Grid list_grid() const { return {unsigned(query_blocks * chunks), unsigned(masks()), 1}; }

    // `mask` knows no packed keep; its arrays and `keep` are where the kernels run.
    PackParams pass(const attn::Mask& mask, const DenseKeep& keep, uint32_t* words, uint8_t* classes, int heads_as_rows = 0) const {
        return {mask, keep.data, keep.batch, keep.head, keep.row, keep.column, stored ? words : nullptr, classes, rows, columns, heads_as_rows};
    }
    ListParams lists(const uint8_t* classes, TileRow* tile_rows, int* blocks) const {
        return {classes, tile_rows, blocks, rows, columns, block_m / attn::kCell, block_n / attn::kCell, query_blocks, chunks, chunk_keys / block_n};
    }
    PackedCells cells_for(const attn::Mask& mask, const TileRow* tile_rows, const int* blocks, const uint32_t* words) const {
        const int head = heads == 1 ? 0 : 1, batch = batches == 1 ? 0 : int(heads);
        return {mask, tile_rows, blocks, stored ? words : nullptr, batch, head, query_blocks * chunks, rows, columns};
    }
};

} // namespace kernels
