// problem.cuh — what a kernel is given: matrices by (batch, head, row), sizes, what changes a score before it is masked, and where partial results go.
#pragma once
#include "ptx.cuh"

// A matrix for every (batch, head), columns side by side; strides in elements.
template <class T>
struct Matrices {
    T* data;
    int64_t batch, head, row;
    DEVICE T* at(int b, int h, int64_t i) const { return data + b * batch + h * head + i * row; }
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
// partial_lse[c][B][Hq][Sq]; merge_chunks then makes O and LSE of them, in key order.
template <class E>
struct Problem {
    Matrices<const E> Q, K, V;
    Matrices<E> O;
    float* LSE; // [B][Hq][Sq] or null
    float *partial, *partial_lse;
    uint64_t* visited; // key blocks visited, added to once a block; or null
    int heads, group;  // query heads; query heads that share a key head
    int q_len, k_len, D, Dv;
    int chunks, chunk_keys; // chunk_keys: a multiple of the kernel's kBlockN
    float scale;
    Terms terms;

    DEVICE int64_t row(int b, int h, int i) const { return (int64_t(b) * heads + h) * q_len + i; }
};
