// arguments.cuh — what the host passes to the kernels, laid out the same for the host's compiler, NVRTC and the emulator. The host makes a Problem<E> without
// knowing E: only pointers depend on it.
#pragma once
#include "../model/mask.hpp"

// A matrix for every (batch, head), columns side by side; strides in elements.
template <class T>
struct Matrices {
    T* data;
    int64_t batch, head, row;
    ATTN_INLINE T* at(int b, int h, int64_t i) const { return data + b * batch + h * head + i * row; }
};

// Added or applied to a score before masks: softcap, bias, ALiBi, in that order.
struct Terms {
    float softcap;       // 0: off
    const float* slopes; // ALiBi [Hq]; null: none
    const void* bias;    // null: none
    int bias_is_float;   // else in the dtype of Q
    int64_t bias_batch, bias_head, bias_row, bias_column; // in elements, 0: broadcast
};

// Where one launch splits the keys of a query block into chunks, chunk c writes float32 results to partial[c][B][Hq][Sq][Dv] and their log-sum-exp to
// partial_lse[c][B][Hq][Sq]; merge then makes O and LSE of them, in key order.
template <class E>
struct Problem {
    Matrices<const E> Q, K, V;
    Matrices<E> O;
    float* LSE; // [B][Hq][Sq] or null
    float *partial, *partial_lse;
    uint64_t* visited; // key blocks visited, added to once a block; or null
    const int* cancel; // the host raises it at any time; blocks that begin afterwards do nothing. Or null
    int heads, group;   // query heads; query heads that share a key head
    int heads_together; // a divisor of heads: blocks of so many begin side by side (launch.hpp)
    int q_len, k_len, D, Dv;
    int chunks, chunk_keys; // chunk_keys: a multiple of the kernel's kBlockN
    float scale;
    Terms terms;
    int heads_as_rows; // 0: a row is a query; else so many heads of one query are the rows (launch.hpp)

    ATTN_INLINE int64_t row(int b, int h, int i) const { return (int64_t(b) * heads + h) * q_len + i; }
};

// Elements of [B][H][S][Dv] at any strides.
template <class T>
struct Strided {
    T* data;
    int64_t batch, head, row, column;
    ATTN_INLINE T* at(int64_t b, int64_t h, int64_t i, int64_t d) const { return data + b * batch + h * head + i * row + d * column; }
};

// What partial results over disjoint keys become.
template <class E>
struct Merged {
    Strided<E> O;
    float* LSE; // [B][H][S] or null
    int64_t rows, heads, q_len, Dv; // rows: B * heads * q_len
    const int* cancel = nullptr;    // as Problem's: the parts may then hold nothing
};
struct MergedRow {
    int64_t at, b, h, i; // at: in [B][H][S]
};
// The partial results of a Problem whose keys are split.
struct Chunks {
    const float *O, *LSE;
    int64_t rows, Dv;
    int count;
    ATTN_INLINE const float* lse(int c, const MergedRow& r) const { return LSE + c * rows + r.at; }
    ATTN_INLINE const float* o(int c, const MergedRow& r, int64_t d) const { return O + (c * rows + r.at) * Dv + d; }
};
// Two attentions of the same queries.
template <class E>
struct Pair {
    static constexpr int count = 2;
    Strided<const E> O[2];
    const float* LSE[2]; // [B][H][S]
    ATTN_INLINE const float* lse(int c, const MergedRow& r) const { return LSE[c] + r.at; }
    ATTN_INLINE const E* o(int c, const MergedRow& r, int64_t d) const { return O[c].at(r.b, r.h, r.i, d); }
};

// Strides of columns, which the tensor-core kernels take to be 1.
struct ColumnStrides {
    int64_t q, k, v, o;
};

// A keep mask as it was given: bytes, strides in bytes, 0 where it is broadcast.
struct DenseKeep {
    const uint8_t* data; // null: none
    int64_t batch, head, row, column;
};

constexpr int kPackWarps = 8, kMergeWarps = 4, kNaiveWarps = 4; // of a block: each takes a cell of a mask, or a row

// The pass over a mask: pack_mask writes words and classes of every 64 x 64 cell.
struct PackParams {
    attn::Mask mask;       // without its packed keep
    const uint8_t* keep;   // null: none
    int64_t keep_batch, keep_head, keep_row, keep_column; // in bytes, 0: broadcast
    uint32_t* words;       // [masks][cell_rows][cell_columns][128]; null: classes alone
    uint8_t* classes;      // [masks][cell_rows][cell_columns]
    int cell_rows, cell_columns;
    int heads_as_rows; // as Problem's
};
enum CellClass : uint8_t { kSeen = 1, kHidden = 2 }; // of the scores of real queries; neither: no such queries

struct TileRow { // blocks[first..+count), partial ones first
    int first, count, partial;
};
// tile_lists makes a kernel's lists of the classes.
struct ListParams {
    const uint8_t* classes;
    TileRow* tile_rows; // [masks][query blocks][chunks]
    int* blocks;        // as many for each mask and query block as there are key blocks
    int cell_rows, cell_columns;
    int rows_of_tile, columns_of_tile; // cells
    int query_blocks, chunks, blocks_of_chunk;
};
// What a kernel walks by: the lists, and the words of every cell or null.
struct PackedCells {
    attn::Mask mask; // for the lengths
    const TileRow* tile_rows;
    const int* blocks;
    const uint32_t* words;
    int batch, head; // masks to the next batch, head; 0: they share one
    int rows_of_mask;
    int cell_rows, cell_columns; // of a mask, rounded up to whole tiles
};
