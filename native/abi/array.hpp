// array.hpp — an attn_array as the library works with it: checked, with strides, and holding the tensor it came from.
#pragma once
#include "../model/problem.hpp"
#include "context.hpp"

namespace attn::abi {

class Tensor final : public Object {
public:
    static constexpr Kind kKind = Kind::tensor;
    Tensor(std::shared_ptr<Context> context, const attn_array& description, Memory memory, cuda::Memory device_memory, uint64_t bytes);
    ~Tensor() override;
    const std::shared_ptr<Context> context;
    const attn_array description;     // strides and data filled in, tensor null
    const Memory memory;              // null: borrowed, or
    const cuda::Memory device_memory; // on a GPU
    const uint64_t bytes;             // owned
};

struct Array {
    DType dtype = DType::none;
    int rank = 0;
    int64_t shape[4] = {}, stride[4] = {}; // of dimensions of size 1 the stride is 0
    unsigned char* data = nullptr;
    bool on_host = true;
    std::shared_ptr<Tensor> tensor; // null: the caller's memory

    int64_t count() const;
    bool contiguous() const;
    struct Bytes {
        const unsigned char *begin, *end;
    };
    Bytes bytes() const; // that an access may touch
};

enum class Where { device, anywhere }; // where a context computes; or in host memory too, from which a run fetches it

// Shape, strides and dtype are sound, the memory is one that the context can use, and there is data unless the array has no elements (or `needs_data` is
// false).
Array resolve(const Context& context, const attn_array* array, const char* name, Where where = Where::device, bool needs_data = true);
// The same, of one dtype and shape, contiguous.
Array resolve_vector(const Context& context, const attn_array* array, const char* name, Where where, DType dtype, std::initializer_list<int64_t> shape);

// Right-aligned to four dimensions, missing ones of size 1.
Array widened(const Array& array);

// The distance in elements between the first and the last element that strides can reach; throws ATTN_INVALID_ARGUMENT where a byte offset overflows.
struct Reach {
    int64_t low, high; // low <= 0 <= high, in elements
};
Reach reach(const int64_t* shape, const int64_t* stride, int rank, int element_bytes, const char* name);

} // namespace attn::abi
