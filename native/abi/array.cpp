#include "array.hpp"

namespace attn::abi {

Reach reach(const int64_t* shape, const int64_t* stride, int rank, int element_bytes, const char* name) {
    __extension__ using Wide = __int128;
    Wide low = 0, high = 0, count = 1;
    constexpr int64_t kLimit = int64_t(1) << 60; // bytes: beyond any address space, and sums of four stay in range
    for (int d = 0; d < rank; ++d) {
        count *= shape[d];
        if (count * element_bytes > kLimit) fail(ATTN_INVALID_ARGUMENT, "%s has more than 2^60 bytes (its shape overflows at dimension %d)", name, d);
        if (shape[d] > 1) (stride[d] < 0 ? low : high) += Wide(stride[d]) * (shape[d] - 1);
        if (high * element_bytes > kLimit || -low * element_bytes > kLimit)
            fail(ATTN_INVALID_ARGUMENT, "%s reaches beyond 2^60 bytes (its strides overflow at dimension %d: stride %lld)", name, d,
                 static_cast<long long>(stride[d]));
    }
    return count ? Reach{int64_t(low), int64_t(high)} : Reach{0, -1};
}

namespace {
std::string place(int device_type, int device) {
    const char* type = device_type == ATTN_DEVICE_CPU ? "cpu" : device_type == ATTN_DEVICE_CUDA ? "cuda" : "an unknown device";
    return std::string(type) + ":" + std::to_string(device);
}
} // namespace

Array resolve(const Context& context, const attn_array* array, const char* name, Where where, bool needs_data) {
    if (!array) fail(ATTN_INVALID_ARGUMENT, "%s is null; the plan needs it", name);
    Array a;
    const attn_array* x = &checked(array, name);
    if (x->tensor) {
        a.tensor = get<Tensor>(x->tensor, name);
        x = &a.tensor->description;
    }
    if (x->dtype < ATTN_FLOAT32 || x->dtype > ATTN_UINT8) fail(ATTN_INVALID_ARGUMENT, "%s.dtype is %d; 1..6 (attn_dtype) is allowed", name, x->dtype);
    if (x->rank < 1 || x->rank > 4) fail(ATTN_INVALID_ARGUMENT, "%s.rank is %d; 1..4 is allowed", name, x->rank);
    a.on_host = x->device_type == ATTN_DEVICE_CPU && x->device == 0;
    const bool on_gpu = context.gpu && x->device_type == ATTN_DEVICE_CUDA && x->device == context.gpu->ordinal;
    if (!on_gpu && !(a.on_host && (!context.gpu || where == Where::anywhere)))
        fail(ATTN_INVALID_ARGUMENT, "%s is on %s; this context takes %s", name, place(x->device_type, x->device).c_str(),
             !context.gpu               ? "host memory, cpu:0"
             : where == Where::anywhere ? (place(ATTN_DEVICE_CUDA, context.gpu->ordinal) + " or cpu:0").c_str()
                                        : place(ATTN_DEVICE_CUDA, context.gpu->ordinal).c_str());
    if (on_gpu && a.tensor && !a.tensor->context->gpu->same_context(*context.gpu))
        fail(ATTN_INVALID_ARGUMENT, "%s belongs to another CUDA context of %s than this call's", name, place(x->device_type, x->device).c_str());
    a.dtype = DType(x->dtype);
    a.rank = x->rank;
    a.data = static_cast<unsigned char*>(x->data);
    int64_t inner = 1;
    for (int d = a.rank - 1; d >= 0; --d) {
        a.shape[d] = x->shape[d];
        if (a.shape[d] < 0) fail(ATTN_INVALID_ARGUMENT, "%s.shape[%d] is %lld; sizes are 0 or more", name, d, static_cast<long long>(a.shape[d]));
        a.stride[d] = a.shape[d] <= 1 ? 0 : x->has_strides ? x->strides[d] : inner;
        if (__builtin_mul_overflow(inner, std::max<int64_t>(1, a.shape[d]), &inner)) inner = 0; // reach() reports it
    }
    reach(a.shape, a.stride, a.rank, size_of(a.dtype), name);
    if (needs_data && !a.data && a.count())
        fail(ATTN_INVALID_ARGUMENT, "%s.data is null; the address of %lld elements is needed", name, static_cast<long long>(a.count()));
    if (reinterpret_cast<uintptr_t>(a.data) % size_of(a.dtype))
        fail(ATTN_INVALID_ARGUMENT, "%s.data is %p; %s needs an address that is a multiple of %d", name, static_cast<void*>(a.data), name_of(a.dtype),
             size_of(a.dtype));
    if (on_gpu && !a.tensor && a.data && a.count()) context.gpu->check_pointer(a.data, name);
    return a;
}

Array resolve_vector(const Context& context, const attn_array* array, const char* name, Where where, DType dtype, std::initializer_list<int64_t> shape) {
    Array a = resolve(context, array, name, where);
    if (a.dtype != dtype) fail(ATTN_INVALID_ARGUMENT, "%s is %s; %s is needed", name, name_of(a.dtype), name_of(dtype));
    if (a.rank != int(shape.size())) fail(ATTN_INVALID_ARGUMENT, "%s has %d dimensions; %zu are needed", name, a.rank, shape.size());
    int d = 0;
    for (const int64_t n : shape) {
        if (a.shape[d] != n)
            fail(ATTN_INVALID_ARGUMENT, "%s.shape[%d] is %lld; the problem needs %lld", name, d, static_cast<long long>(a.shape[d]), static_cast<long long>(n));
        ++d;
    }
    if (!a.contiguous()) fail(ATTN_INVALID_ARGUMENT, "%s has strides; it must be contiguous", name);
    return a;
}

Array widened(const Array& a) {
    Array w = a;
    w.rank = 4;
    for (int d = 0; d < 4; ++d) {
        const int from = d - (4 - a.rank);
        w.shape[d] = from < 0 ? 1 : a.shape[from];
        w.stride[d] = from < 0 ? 0 : a.stride[from];
    }
    return w;
}

int64_t Array::count() const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= shape[d];
    return n;
}

bool Array::contiguous() const {
    int64_t inner = 1;
    for (int d = rank - 1; d >= 0; --d) {
        if (shape[d] > 1 && stride[d] != inner) return count() == 0;
        inner *= shape[d];
    }
    return true;
}

Array::Bytes Array::bytes() const {
    const Reach r = reach(shape, stride, rank, size_of(dtype), "array");
    return {data + r.low * size_of(dtype), data + (r.high + 1) * size_of(dtype)};
}

} // namespace attn::abi
