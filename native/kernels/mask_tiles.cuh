// mask_tiles.cuh — the pass that turns any mask into bits and tile lists, on the device, without the host: pack_mask reads a dense keep once at memory
// speed, meets it with the closed forms and documents, and writes the words and the class of every 64 x 64 cell; tile_lists then makes a kernel's lists.
#pragma once
#include "mask.cuh"

// The sixteen bits of sixteen bytes, bit = byte != 0.
DEVICE uint32_t bits_of(const Chunk& c) {
    uint32_t bits = 0;
    UNROLL for (int i = 0; i < 4; ++i) {
        const uint32_t set = ((((c.x[i] & 0x7F7F7F7Fu) + 0x7F7F7F7Fu) | c.x[i]) & 0x80808080u) >> 7;
        bits |= (set * 0x10204080u) >> 28 << i * 4;
    }
    return bits;
}
// The sixteen bits of keys k.. of query q: by one vector load where there is one.
DEVICE uint32_t keep_bits(const PackParams& p, const uint8_t* head, int q, int k, int k_len) {
    const uint8_t* at = head + q * p.keep_row + k * p.keep_column;
    if (p.keep_column == 1 && k + 16 <= k_len && reinterpret_cast<uint64_t>(at) % 16 == 0) return bits_of(ptx::read(reinterpret_cast<const Chunk*>(at)));
    uint32_t bits = 0;
    for (int i = 0; i < 16 && k + i < k_len; ++i) bits |= uint32_t(ptx::read(at + i * p.keep_column) != 0) << i;
    return bits;
}

// How the documents of a cell's queries and keys meet: nobody sees anybody, everybody everybody, or it depends.
enum class Meeting { none, all, some };
DEVICE Meeting meeting_of(const Documents& documents, const RowRule& rule, int q0, int k0, int lane) {
    constexpr int kMost = 0x7fffffff, kLeast = -kMost - 1;
    int q_least = kMost, q_most = kLeast, k_least = kMost, k_most = kLeast;
    UNROLL for (int half = 0; half < 64; half += 32) {
        const int i = q0 + half + lane, j = k0 + half + lane, q = documents.of_row(rule, i), k = documents.of_key(rule, j);
        if (i < rule.queries) q_least = min(q_least, q), q_most = max(q_most, q);
        if (j < rule.keys) k_least = min(k_least, k), k_most = max(k_most, k);
    }
    UNROLL for (int across = 1; across < 32; across *= 2) {
        q_least = min(q_least, __shfl_xor_sync(~0u, q_least, across)), q_most = max(q_most, __shfl_xor_sync(~0u, q_most, across));
        k_least = min(k_least, __shfl_xor_sync(~0u, k_least, across)), k_most = max(k_most, __shfl_xor_sync(~0u, k_most, across));
    }
    if (q_most < k_least || k_most < q_least) return Meeting::none;
    return q_least == q_most && k_least == k_most ? Meeting::all : Meeting::some;
}

// One warp a cell: blockIdx.x counts cells by kWarps, y heads, z batches. Lane (g, t) of an atom reads keys 16t.. of rows g and g + 8, then the quad
// deals the bits out in accumulator order.
__global__ void __launch_bounds__(kPackWarps * 32) pack_mask(const __grid_constant__ PackParams p) {
    const int b = blockIdx.z, h = blockIdx.y, cell = blockIdx.x * kPackWarps + threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    if (cell >= p.cell_rows * p.cell_columns) return;
    const int k_len = int(p.mask.Sk), q0 = cell / p.cell_columns * 64, k0 = cell % p.cell_columns * 64;
    const RowRule rule = rule_of(p.mask, b, p.heads_as_rows);
    const uint8_t* head = p.keep + b * p.keep_batch + h * p.keep_head;
    const int64_t at = (int64_t(b) * gridDim.y + h) * p.cell_rows * p.cell_columns + cell;

    const Documents documents = documents_of(p.mask, b);
    const Meeting meeting = p.mask.q_documents ? meeting_of(documents, rule, q0, k0, lane) : Meeting::all;
    uint32_t row_bits[8]; // sixteen keys of eight rows
    UNROLL for (int r = 0; r < 8; ++r) {
        const int q = q0 + g + r * 8, k = k0 + t * 16;
        uint32_t bits = 0;
        if (q < rule.queries && meeting != Meeting::none) {
            const Span seen = rule.keys_of(q);
            bits = ptx::low_bits(max(0, seen.end - k)) & ~ptx::low_bits(max(0, seen.begin - k)) & 0xFFFF;
        }
        if (p.keep && bits) bits &= keep_bits(p, head, q, k, k_len);
        if (meeting == Meeting::some && bits) {
            const int id = documents.of_row(rule, q);
            UNROLL_ONCE for (int i = 0; i < 16; ++i)
                if (documents.of_key(rule, k + i) != id) bits &= ~(1u << i);
        }
        row_bits[r] = bits;
    }
    bool any = false, hidden = false;
    UNROLL for (int r = 0; r < 8; ++r) {
        any |= row_bits[r] != 0;
        hidden |= row_bits[r] != 0xFFFF && q0 + g + r * 8 < rule.queries;
    }
    const uint32_t seen_by = __ballot_sync(~0u, any), hidden_by = __ballot_sync(~0u, hidden);
    if (lane == 0) ptx::write(p.classes + at, uint8_t((seen_by ? kSeen : 0) | (hidden_by ? kHidden : 0)));

    if (!p.words) return; // documents without a dense keep: kernels ask them
    UNROLL for (int atom = 0; atom < 4; ++atom) {
        const uint32_t mine = row_bits[atom * 2] | row_bits[atom * 2 + 1] << 16; // rows g and g + 8 of the atom
        uint32_t word = 0;
        UNROLL for (int turn = 0; turn < 4; ++turn) { // what lane t ^ turn read: columns j = 2(t ^ turn) and the next
            const uint32_t other = turn ? __shfl_xor_sync(~0u, mine, turn) : mine;
            const int j = (t ^ turn) * 2;
            UNROLL for (int half = 0; half < 2; ++half) UNROLL for (int odd = 0; odd < 2; ++odd)
                word |= (other >> (half * 16 + odd * 8 + t * 2) & 3) << ((j + odd) * 4 + half * 2);
        }
        ptx::write(p.words + at * 128 + atom * 32 + lane, word);
    }
}

// One warp a list: blockIdx.x counts query blocks and chunks, blockIdx.y masks. Key blocks stay in order within partial and within full.
__global__ void __launch_bounds__(32) tile_lists(const __grid_constant__ ListParams p) {
    const int which = blockIdx.y, query_block = blockIdx.x / p.chunks, chunk = blockIdx.x % p.chunks, lane = threadIdx.x;
    const int key_blocks = p.cell_columns / p.columns_of_tile, begin = chunk * p.blocks_of_chunk, end = min(key_blocks, begin + p.blocks_of_chunk);
    const uint8_t* classes = p.classes + (int64_t(which) * p.cell_rows + query_block * p.rows_of_tile) * p.cell_columns;
    const auto class_of = [&](int block) {
        int c = 0;
        if (block < end)
            for (int i = 0; i < p.rows_of_tile; ++i)
                for (int j = 0; j < p.columns_of_tile; ++j) c |= ptx::read(classes + i * p.cell_columns + block * p.columns_of_tile + j);
        return c;
    };
    const int first = (which * p.query_blocks + query_block) * key_blocks + min(begin, key_blocks);
    int partial = 0, full = 0;
    for (int block = begin; block < end; block += 32) partial += __popc(__ballot_sync(~0u, class_of(block + lane) == (kSeen | kHidden)));
    for (int block = begin, at = 0; block < end; block += 32) {
        const int c = class_of(block + lane);
        const uint32_t parts = __ballot_sync(~0u, c == (kSeen | kHidden)), wholes = __ballot_sync(~0u, c == kSeen), before = (1u << lane) - 1;
        if (c == (kSeen | kHidden)) ptx::write(p.blocks + first + at + __popc(parts & before), block + lane);
        if (c == kSeen) ptx::write(p.blocks + first + partial + full + __popc(wholes & before), block + lane);
        at += __popc(parts), full += __popc(wholes);
    }
    if (lane == 0) ptx::write(p.tile_rows + int64_t(which) * p.query_blocks * p.chunks + blockIdx.x, TileRow{first, partial + full, partial});
}
