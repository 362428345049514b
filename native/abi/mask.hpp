// mask.hpp — a mask's values checked against a problem, and masks prepared once for many runs.
#pragma once
#include <vector>

#include "../cuda/run.hpp"
#include "array.hpp"

namespace attn::abi {

// The values of a mask as given: checked by themselves, not yet against a problem. Whatever they point to is held or the caller's.
struct MaskValues {
    uint32_t kinds = 0;
    int64_t left = -1, right = -1;
    Array key_lengths, query_lengths, prefix, q_documents, k_documents, keep; // keep widened to four dimensions
};
MaskValues checked_values(const Context& context, const attn_mask_values* values);

// f(name, array) for each array.
template <class V, class F>
void each_array(V& values, F&& f) {
    f("mask.key_lengths", values.key_lengths), f("mask.query_lengths", values.query_lengths), f("mask.prefix", values.prefix);
    f("mask.q_documents", values.q_documents), f("mask.k_documents", values.k_documents), f("mask.keep", values.keep);
}

class PreparedMask final : public Object {
public:
    static constexpr Kind kKind = Kind::mask;
    PreparedMask(std::shared_ptr<Context> context, const MaskValues& values);
    ~PreparedMask() override;

    const std::shared_ptr<Context> context;
    MaskValues values;  // arrays point into this mask's own memory, of the device where the context has one
    MaskValues on_host; // on a GPU: the values that came from the host, to be checked against each problem
    PackedKeep packed;  // on the CPU; classes null: no keep mask
    struct Cells {
        int64_t count[3] = {}; // by class
    };
    Cells cells(); // on a GPU they are counted when first asked for, from a copy on the host
    uint64_t bytes() const { return bytes_; }

    // On a GPU: the cells and lists for a plan's tiles, made on `stream` when a plan first asks for them and kept. `made`: it was this call.
    // `captured`: the stream records a graph, of which this must be no part; it is waited for here.
    PackedCells packed_for(const Problem& problem, const cuda::Choice& choice, const Mask& mask, ::cuda::Stream stream, bool captured, bool* made);

private:
    struct Form;
    Array copied(const Array& array);
    Array copied_to_gpu(const Array& array);
    void count(uint64_t bytes);
    std::vector<Memory> memory_;
    std::vector<cuda::Memory> device_memory_;
    std::atomic<uint64_t> bytes_{0};
    std::mutex mutex_; // of what follows
    bool counted_ = true;
    Cells cells_;
    std::vector<std::unique_ptr<Form>> forms_;
};

// The same array with its span copied to host memory, which `memory` gets.
Array fetched(const Context& context, const Array& array, Memory& memory);

// Classes and packs a keep mask into memory of keep_bytes(shape).
uint64_t keep_bytes(const int64_t (&shape)[4]);
PackedKeep pack(Context& context, const Array& keep, unsigned char* memory);

DenseKeep dense_keep(const Array& keep); // with its strides

// Binds values to a problem: shapes and ranges are checked; keep is left to the caller.
Mask bind(const MaskValues& values, const Problem& problem);

} // namespace attn::abi
