// mask.hpp — a mask's values checked against a problem, and masks prepared once for many runs.
#pragma once
#include <vector>

#include "array.hpp"

namespace attn::abi {

// The values of a mask as given: checked by themselves, not yet against a problem. Whatever they point to is held or the caller's.
struct MaskValues {
    uint32_t kinds = 0;
    int64_t left = -1, right = -1;
    Array key_lengths, query_lengths, prefix, q_documents, k_documents, keep; // keep widened to four dimensions
};
MaskValues checked_values(const attn_mask_values* values);

class PreparedMask final : public Object {
public:
    static constexpr Kind kKind = Kind::mask;
    PreparedMask(std::shared_ptr<Context> context, const MaskValues& values);
    ~PreparedMask() override;

    const std::shared_ptr<Context> context;
    MaskValues values;     // arrays point into memory_
    PackedKeep packed;     // classes null: no keep mask
    int64_t cells[3] = {}; // by class
    uint64_t bytes = 0;

private:
    std::vector<Memory> memory_;
    Array copied(const Array& array);
};

// Classes and packs a keep mask into memory of keep_bytes(shape).
uint64_t keep_bytes(const int64_t (&shape)[4]);
PackedKeep pack(Context& context, const Array& keep, unsigned char* memory);

// Binds values to a problem: shapes and ranges are checked; keep is left to the caller.
Mask bind(const MaskValues& values, const Problem& problem);

} // namespace attn::abi
