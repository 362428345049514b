#include <cstring>

#include "array.hpp"

namespace attn::abi {

Tensor::Tensor(std::shared_ptr<Context> context, const attn_array& description, Memory memory, cuda::Memory device_memory, uint64_t bytes)
    : Object(kKind), context(std::move(context)), description(description), memory(std::move(memory)), device_memory(std::move(device_memory)), bytes(bytes) {
    counters().bytes += int64_t(bytes), this->context->live_bytes += int64_t(bytes);
}
Tensor::~Tensor() { counters().bytes -= int64_t(bytes), context->live_bytes -= int64_t(bytes); }

namespace {
// A tensor's memory as one run of bytes, for a copy of exactly `bytes`.
unsigned char* whole(const Tensor& tensor, const void* host, const char* host_name, uint64_t bytes) {
    const Array a = resolve(*tensor.context, &tensor.description, "tensor");
    if (!a.contiguous()) fail(ATTN_INVALID_ARGUMENT, "tensor has strides; only a contiguous tensor is copied whole");
    const uint64_t needed = uint64_t(a.count()) * size_of(a.dtype);
    if (bytes != needed)
        fail(ATTN_INVALID_ARGUMENT, "bytes is %llu; the tensor has %llu", static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(needed));
    if (bytes && !host) fail(ATTN_INVALID_ARGUMENT, "%s is null; the address of %llu bytes is needed", host_name, static_cast<unsigned long long>(bytes));
    return a.data;
}
} // namespace

} // namespace attn::abi

using namespace attn::abi;

attn_status attn_tensor_create(attn_context context, const attn_array* description, attn_tensor* tensor) {
    return guarded([&] {
        required(tensor, "tensor");
        const auto c = get<Context>(context, "context");
        if (checked(description, "description").tensor) fail(ATTN_INVALID_ARGUMENT, "description.tensor is set; a new tensor is described by shape and dtype");
        const Array a = resolve(*c, description, "description", Where::device, false);
        if (!a.data && !a.contiguous()) fail(ATTN_INVALID_ARGUMENT, "description has strides; a tensor that owns its memory is contiguous");
        attn_array known = *description;
        known.size = sizeof known;
        known.has_strides = 1;
        for (int d = 0; d < 4; ++d) known.strides[d] = d < a.rank ? a.stride[d] : 0, known.shape[d] = d < a.rank ? a.shape[d] : 0;
        const uint64_t bytes = a.data ? 0 : uint64_t(a.count()) * attn::size_of(a.dtype);
        Memory memory = a.data || c->gpu ? nullptr : allocate(bytes, "a tensor");
        attn::cuda::Memory device_memory = a.data || !c->gpu ? attn::cuda::Memory() : attn::cuda::Memory(c->gpu, bytes, "a tensor");
        if (!a.data) known.data = c->gpu ? device_memory.data() : memory.get();
        *tensor = static_cast<attn_tensor>(add(std::make_shared<Tensor>(c, known, std::move(memory), std::move(device_memory), bytes)));
    });
}

attn_status attn_tensor_destroy(attn_tensor tensor) {
    return guarded([&] { remove(tensor, Kind::tensor, "tensor"); });
}

attn_status attn_tensor_describe(attn_tensor tensor, attn_array* description) {
    return guarded([&] {
        checked(description, "description");
        *description = get<Tensor>(tensor, "tensor")->description;
    });
}

attn_status attn_tensor_upload(attn_tensor tensor, const void* source, uint64_t bytes) {
    return guarded([&] {
        const auto t = get<Tensor>(tensor, "tensor");
        unsigned char* to = whole(*t, source, "source", bytes);
        if (!bytes) return;
        if (t->context->gpu) t->context->gpu->upload(to, source, bytes);
        else std::memcpy(to, source, bytes);
    });
}

attn_status attn_tensor_download(attn_tensor tensor, void* destination, uint64_t bytes) {
    return guarded([&] {
        const auto t = get<Tensor>(tensor, "tensor");
        const unsigned char* from = whole(*t, destination, "destination", bytes);
        if (!bytes) return;
        if (t->context->gpu) t->context->gpu->download(destination, from, bytes);
        else std::memcpy(destination, from, bytes);
    });
}
