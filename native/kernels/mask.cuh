// mask.cuh — which key blocks a query block visits, and which scores of a partial one are hidden. Tiles come partial ones first, so that a full tile
// takes no test. Empty tiles are not in the walk. Every mask, computed or stored, hides scores by the same words: one bit a score, in atoms of
// 16 rows x 64 keys: bit j*4+e of a lane's word is the accumulator's element (j, e). Neither the architecture nor the tile shape matters to what is packed.
#pragma once
#include "tile.cuh"
#include "arguments.cuh"

struct Span { // keys [begin, end)
    int begin, end;
};
// What the rows of a batch see: row i the keys [max(0, i + left), min(n, i + right, max(prefix, i + causal))). An edge beyond every key is saturated, so
// that 32 bits do. Rows are queries, or the heads of one query: then each sees what the query sees.
struct RowRule {
    int queries, keys; // rows that there are; n[b]
    int left, right, causal, prefix;
    int step; // 0 where rows are heads, else 1
    float offset;
    int batch;
    DEVICE Span keys_of(int i) const {
        i *= step;
        return {min(keys, max(0, i + left)), max(0, min(min(keys, i + right), max(prefix, i + causal)))};
    }
};
DEVICE RowRule rule_of(const attn::Mask& mask, int b, int heads_as_rows = 0) {
    constexpr int64_t kFar = 1 << 30; // no tensor has more queries or keys
    const attn::Rule rule = mask.rule(b);
    const auto edge = [&](bool there, int64_t at, int64_t otherwise) { return int(there ? attn::larger(-kFar, attn::smaller(kFar, at)) : otherwise); };
    return {int(rule.queries) * (heads_as_rows ? heads_as_rows : 1),
            int(rule.keys),
            edge(rule.left >= 0, rule.offset - rule.left, -kFar),
            edge(rule.right >= 0, rule.offset + rule.right + 1, kFar),
            edge(rule.causal, rule.offset + 1, kFar),
            int(rule.prefix),
            heads_as_rows ? 0 : 1,
            float(rule.offset),
            b};
}

// Where the words of a tile are: those of cell (r, c), 64 x 64, begin at base[r * row_stride + c * 128].
struct Words {
    const uint32_t* base;
    int row_stride;
    DEVICE uint32_t atom(uint32_t row, uint32_t c) const { return ptx::read(base + (row / 64 * row_stride + c * 128 + row % 64 / 16 * 32 + threadIdx.x % 32)); }
    DEVICE bool sees(int row, int col) const { // one score; for kernels without fragments
        const int lane = row % 8 * 4 + col % 8 / 2, bit = col % 64 / 8 * 4 + row % 16 / 8 * 2 + col % 2;
        return ptx::read(base + row / 64 * row_stride + col / 64 * 128 + row % 64 / 16 * 32 + lane) >> bit & 1;
    }
};
template <int kM, int kN>
struct Bits {
    uint32_t word[kM / 16][kN / 64];
};
template <int kM, int kN>
DEVICE void hide(Accum<kM, kN>& S, const Bits<kM, kN>& bits) {
    UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int j = 0; j < kN / 8; ++j) UNROLL for (int e = 0; e < 4; ++e)
        ptx::hide_unless(bits.word[i][j / 8], j % 8 * 4 + e, S.x[i][j][e]); // R2P: seven predicates an instruction
}

// The bits of this lane's elements left of column `end`, of an atom's upper (0) or lower (1) eight rows.
DEVICE uint32_t left_of(int end, int half) {
    const int x = end - int(threadIdx.x % 4) * 2;
    return ptx::low_bits(max(0, (x >> 3) * 4 + min(x & 7, 2) + half * 2)) & (half ? 0xCCCCCCCCu : 0x33333333u);
}
// Of rows row.. of the query block at q0, keys k..: what lies in each row's interval.
template <int kM, int kN>
DEVICE Bits<kM, kN> bits_of_interval(const RowRule& rule, int q0, int row, int k) {
    Bits<kM, kN> b;
    UNROLL for (int i = 0; i < kM / 16; ++i) {
        UNROLL for (auto& word : b.word[i]) word = 0;
        UNROLL for (int half = 0; half < 2; ++half) {
            const Span seen = rule.keys_of(q0 + row + Accum<kM, kN>::row(i, half * 2));
            UNROLL for (int c = 0; c < kN / 64; ++c) b.word[i][c] |= left_of(seen.end - k - c * 64, half) & ~left_of(seen.begin - k - c * 64, half);
        }
    }
    UNROLL for (auto& i : b.word) UNROLL for (auto& w : i) ptx::pin(w); // whole words, or the compiler tests each row's half by itself
    return b;
}
// Closed form: every query sees one interval of keys. Lengths, causal, window, prefix, any offset.
struct RuleMask {
    static constexpr bool kPacked = false;
    attn::Mask mask;
    DEVICE bool stored() const { return false; }
    struct Walk { // the right edge, the left edge, then what lies between
        int end, right, left, count, partial;
        DEVICE int block(int t) const { return (t < right ? end : t < partial ? end - count + partial : end + left) - 1 - t; }
        DEVICE Words words(int) const { return {nullptr, 0}; }
    };
    // Of queries [q0, q0 + kBlockM), keys of chunk [k0, k1): turn counts both.
    template <int kBlockM, int kBlockN>
    DEVICE Walk tiles(const RowRule& rule, int, int, int, int q0, int k0, int k1) const {
        if (q0 >= rule.queries) return {0, 0, 0, 0, 0};
        const Span first = rule.keys_of(q0), last = rule.keys_of(min(q0 + kBlockM, rule.queries) - 1);
        if (first.begin >= rule.keys) return {0, 0, 0, 0, 0}; // a window past the last key
        const int begin = max(first.begin, k0) / kBlockN;
        Walk w{(min(last.end, k1) + kBlockN - 1) / kBlockN, 0, 0, 0, 0};
        w.count = max(0, w.end - begin);
        w.right = max(0, min(w.count, w.end - first.end / kBlockN));
        w.left = max(0, min(w.count - w.right, (last.begin + kBlockN - 1) / kBlockN - begin));
        w.partial = w.right + w.left;
        return w;
    }
    template <int kM, int kN>
    DEVICE Bits<kM, kN> bits(const Words&, const RowRule& rule, int q0, int row, int k) const { return bits_of_interval<kM, kN>(rule, q0, row, k); }
    DEVICE static bool sees(const Words&, const RowRule& rule, int i, int j, int, int) { // one score of a row that there is
        const Span seen = rule.keys_of(i);
        return seen.begin <= j && j < seen.end;
    }
};

// The documents of a batch's rows and keys; a negative id is nobody's, and a key's never equals a query's. What lies past the lengths is not read.
struct Documents {
    const int *q, *k;
    DEVICE int of_row(const RowRule& rule, int i) const {
        const int id = i * rule.step < rule.queries ? ptx::read(q + i * rule.step) : -1;
        return id < 0 ? -1 : id;
    }
    DEVICE int of_key(const RowRule& rule, int j) const {
        const int id = j < rule.keys ? ptx::read(k + j) : -2;
        return id < 0 ? -2 : id;
    }
};
DEVICE Documents documents_of(const attn::Mask& mask, int b) { return {mask.q_documents + b * mask.Sq, mask.k_documents + b * mask.Sk}; }

// Any boolean mask as mask_tiles.cuh prepares it, rules and documents included: per query block a list of key blocks, and the words of every cell, or
// none: then what a partial tile hides is asked of the documents, and memory does not grow with a bit for every score.
struct PackedMask : PackedCells {
    static constexpr bool kPacked = true;
    DEVICE bool stored() const { return PackedCells::words != nullptr; }
    struct Walk {
        const int* blocks;
        Words cells; // those of the query block's first key block
        int count, partial, columns_of_block;
        DEVICE int block(int t) const { return ptx::read(blocks + t); }
        DEVICE Words words(int t) const { return {cells.base + int64_t(block(t)) * columns_of_block * 128, cells.row_stride}; }
    };
    template <int kBlockM, int kBlockN>
    DEVICE Walk tiles(const RowRule&, int b, int h, int turn, int q0, int, int) const {
        const int which = b * batch + h * head;
        const TileRow* r = tile_rows + int64_t(which) * rows_of_mask + turn;
        const uint32_t* cells = words + (int64_t(which) * cell_rows + q0 / 64) * cell_columns * 128;
        return {blocks + ptx::read(&r->first), {cells, cell_columns * 128}, ptx::read(&r->count), ptx::read(&r->partial), kBlockN / 64};
    }
    template <int kM, int kN>
    DEVICE Bits<kM, kN> bits(const Words& words, const RowRule& rule, int q0, int row, int k) const {
        if (!stored()) return bits_of_documents<kM, kN>(rule_of(mask, rule.batch, !rule.step), q0, row, k); // made again: it waits in no register
        Bits<kM, kN> b;
        UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int c = 0; c < kN / 64; ++c) b.word[i][c] = words.atom(row + i * 16, c);
        return b;
    }
    template <int kM, int kN>
    DEVICE Bits<kM, kN> bits_of_documents(const RowRule& rule, int q0, int row, int k) const {
        [[maybe_unused]] constexpr int kUnroll = 4;
        const Documents documents = documents_of(mask, rule.batch);
        auto b = bits_of_interval<kM, kN>(rule, q0, row, k);
        int id[kM / 16][2];
        UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int half = 0; half < 2; ++half)
            id[i][half] = documents.of_row(rule, q0 + row + Accum<kM, kN>::row(i, half * 2));
        UNROLL for (int c = 0; c < kN / 64; ++c)
            UNROLL_BY_K for (int x = 0; x < 16; ++x) { // this lane's columns of 64
                const int document = documents.of_key(rule, k + c * 64 + x / 2 * 8 + int(threadIdx.x % 4) * 2 + x % 2);
                UNROLL for (int i = 0; i < kM / 16; ++i) UNROLL for (int half = 0; half < 2; ++half)
                    if (id[i][half] != document) b.word[i][c] &= ~(1u << (x / 2 * 4 + half * 2 + x % 2));
            }
        return b;
    }
    DEVICE bool sees(const Words& words, const RowRule& rule, int i, int j, int row, int col) const {
        if (stored()) return words.sees(row, col);
        const Documents documents = documents_of(mask, rule.batch);
        return RuleMask::sees(words, rule, i, j, row, col) && documents.of_row(rule, i) == documents.of_key(rule, j);
    }
};
