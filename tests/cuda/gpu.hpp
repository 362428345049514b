// gpu.hpp — the fake driver under a test: its own functions, contexts on it, samples as tensors of it.
#pragma once
#include <dlfcn.h>

#include "../native/run.hpp"
#include "fake_cuda.hpp"

namespace gpu {

using namespace handles;
using cases::vector_of;

// The functions of the fake driver that the library loaded.
template <class F>
F fake(const char* name) {
    static void* library = dlopen(FAKE_CUDA, RTLD_NOW);
    F f = library ? reinterpret_cast<F>(dlsym(library, name)) : nullptr;
    if (!f) std::fprintf(stderr, "the fake driver has no %s: %s\n", name, dlerror()), std::abort();
    return f;
}
#define FAKE(name) gpu::fake<decltype(&name)>(#name)

inline std::string faults() {
    const char* first = "";
    return FAKE(fake_cuda_faults)(&first) ? first : "";
}

constexpr int kHopper = 0, kAmpere = 1, kTuring = 2; // FAKE_CUDA_ARCHS is "90,80,75"
inline Context context(int device = kAmpere, void* native = nullptr) {
    attn_context_options options{};
    options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = device, options.native_context = native;
    Context c;
    EXPECT_TRUE(succeeded(attn_context_create(&options, c.out())));
    return c;
}

// Bytes as a tensor of the device, with a description of its own.
struct OnDevice {
    TensorHandle owner;
    attn_array array{};
};
inline attn_array bytes(int64_t count, int device) {
    attn_array a{};
    a.size = sizeof a, a.dtype = ATTN_UINT8, a.rank = 1, a.shape[0] = count, a.device_type = ATTN_DEVICE_CUDA, a.device = device;
    return a;
}
inline OnDevice upload(attn_context context, int device, const attn_array& host, const void* data, size_t size) {
    OnDevice d;
    const attn_array whole = bytes(int64_t(size), device);
    EXPECT_TRUE(succeeded(attn_tensor_create(context, &whole, d.owner.out())));
    if (size) { EXPECT_TRUE(succeeded(attn_tensor_upload(d.owner, data, size))); }
    attn_array known{};
    known.size = sizeof known;
    EXPECT_TRUE(succeeded(attn_tensor_describe(d.owner, &known)));
    d.array = host;
    d.array.device_type = ATTN_DEVICE_CUDA, d.array.device = device;
    d.array.data =
        size ? static_cast<unsigned char*>(known.data) + (static_cast<const unsigned char*>(host.data) - static_cast<const unsigned char*>(data)) : nullptr;
    return d;
}

// A sample on the device: its operands there, small arrays there or left on the host.
class DeviceSample {
public:
    DeviceSample(attn_context context, int device, cases::Sample& sample, bool values_too) : sample(sample), device_(device) {
        attn_run_args& host = sample.args();
        args = host;
        const auto tensor = [&](const attn_array* array, cases::Tensor& t) { return add(context, *array, t.bytes.data(), t.bytes.size()); };
        args.q = tensor(host.q, sample.Q), args.k = tensor(host.k, sample.K), args.v = tensor(host.v, sample.V);
        args.o = tensor(host.o, sample.O), O = all_.size() - 1;
        args.lse = add(context, *host.lse, sample.lse.data(), sample.lse.size() * 4), lse = all_.size() - 1;
        if (!values_too) return;
        if (host.bias) args.bias = tensor(host.bias, sample.bias);
        const auto values = [&](const attn_array*& array) {
            if (!array) return;
            size_t count = array->dtype == ATTN_UINT8 ? 1 : 4;
            for (int d = 0; d < array->rank; ++d) count *= size_t(array->shape[d]);
            array = add(context, *array, array->data, count);
        };
        values(args.alibi_slopes), values(args.offsets);
        if (!host.mask) return;
        mask_ = *host.mask;
        args.mask = &mask_;
        values(mask_.key_lengths), values(mask_.query_lengths), values(mask_.prefix), values(mask_.q_documents), values(mask_.k_documents), values(mask_.keep);
    }
    // Brings O and LSE back into the sample.
    void fetch() {
        EXPECT_TRUE(succeeded(attn_tensor_download(all_[O]->owner, sample.O.bytes.data(), sample.O.bytes.size())));
        if (!sample.lse.empty()) { EXPECT_TRUE(succeeded(attn_tensor_download(all_[lse]->owner, sample.lse.data(), sample.lse.size() * 4))); }
    }
    void clear() {
        sample.clear_output();
        EXPECT_TRUE(succeeded(attn_tensor_upload(all_[O]->owner, sample.O.bytes.data(), sample.O.bytes.size())));
        if (!sample.lse.empty()) { EXPECT_TRUE(succeeded(attn_tensor_upload(all_[lse]->owner, sample.lse.data(), sample.lse.size() * 4))); }
    }
    const attn_mask_values* mask() const { return args.mask; }
    attn_tensor output() const { return all_[O]->owner; }

    cases::Sample& sample;
    attn_run_args args{};

private:
    const attn_array* add(attn_context context, const attn_array& host, const void* data, size_t size) {
        all_.push_back(std::make_unique<OnDevice>(upload(context, device_, host, data, size)));
        return &all_.back()->array;
    }
    const int device_;
    size_t O = 0, lse = 0;
    attn_mask_values mask_{};
    std::vector<std::unique_ptr<OnDevice>> all_;
};

} // namespace gpu
