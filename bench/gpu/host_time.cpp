// host_time.cpp — what a call costs the host: attn_run with a plan that is reused, beside a bare cuLaunchKernel of an empty kernel in the same loop. One
// object of JSON: microseconds a call, a median of batches that the GPU has finished before the next begins.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include <attention/attention.h>

#include "driver.hpp"
#include "nvrtc.hpp"

namespace {

constexpr int kCalls = 200, kBatches = 51; // a batch must fit a stream's queue, which holds some 1000 launches

void ok(attn_status status) {
    if (status != ATTN_OK) throw std::runtime_error(attn_last_error());
}

template <class F, class Wait>
double microseconds(F&& call, Wait&& wait) {
    std::vector<double> all;
    for (int batch = 0; batch < kBatches; ++batch) {
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < kCalls; ++i) call();
        all.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / kCalls);
        wait();
    }
    std::nth_element(all.begin(), all.begin() + kBatches / 2, all.end());
    return all[kBatches / 2];
}

cuda::Function empty_kernel(const cuda::Driver& cu, const cuda::Nvrtc& nvrtc, int architecture) {
    const auto check = [](int status, const char* doing) {
        if (status) throw std::runtime_error("NVRTC failed with " + std::to_string(status) + " while " + doing);
    };
    cuda::Nvrtc::Program program = nullptr;
    check(nvrtc.create(&program, "extern \"C\" __global__ void empty() {}", "empty.cu", 0, nullptr, nullptr), "making a program");
    const std::string option = "--gpu-architecture=sm_" + std::to_string(architecture);
    const char* options[] = {option.c_str()};
    check(nvrtc.compile(program, 1, options), "compiling an empty kernel");
    size_t size = 0;
    check(nvrtc.cubin_size(program, &size), "asking for the cubin");
    std::vector<char> cubin(size);
    check(nvrtc.cubin(program, cubin.data()), "fetching the cubin");
    cuda::Module module = nullptr;
    cuda::Function f = nullptr;
    cu.check(cu.load(&module, cubin.data()), "loading an empty kernel");
    cu.check(cu.function(&f, module, "empty"), "finding an empty kernel");
    return f;
}

// One head of 64: the shape in which nothing but the call takes time.
struct Small {
    attn_context context = nullptr;
    attn_stream stream = nullptr;
    attn_tensor tensors[4] = {};
    attn_array arrays[4] = {};
    attn_plan plan = nullptr;
    attn_run_args args{};

    Small(int64_t batch, cuda::Stream native, attn_mask_values* mask, const int64_t (&keep_shape)[4]) {
        attn_context_options options{};
        options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA;
        ok(attn_context_create(&options, &context));
        ok(attn_stream_wrap(context, native, &stream));
        for (int i = 0; i < 4; ++i) {
            attn_array a{};
            a.size = sizeof a, a.dtype = ATTN_FLOAT16, a.rank = 4, a.device_type = ATTN_DEVICE_CUDA;
            const int64_t shape[4] = {batch, 1, 64, 64};
            std::copy(shape, shape + 4, a.shape);
            ok(attn_tensor_create(context, &a, &tensors[i]));
            const std::vector<unsigned short> ones(size_t(batch) * 64 * 64, 0x3c00);
            ok(attn_tensor_upload(tensors[i], ones.data(), ones.size() * 2));
            arrays[i].size = sizeof(attn_array);
            ok(attn_tensor_describe(tensors[i], &arrays[i]));
            arrays[i].tensor = nullptr; // borrowed, as others' memory is
        }
        attn_problem p{};
        p.size = sizeof p, p.dtype = ATTN_FLOAT16, p.batch = batch, p.query_heads = p.key_heads = 1, p.queries = p.keys = p.head_dim = p.value_dim = 64;
        p.mask_kinds = mask ? mask->kinds : 0;
        std::copy(keep_shape, keep_shape + 4, p.keep_shape);
        ok(attn_plan_create(context, &p, ATTN_BACKEND_FLASH, &plan));
        ok(attn_plan_warmup(plan));
        args.size = sizeof args, args.q = &arrays[0], args.k = &arrays[1], args.v = &arrays[2], args.o = &arrays[3], args.stream = stream, args.mask = mask;
    }
    ~Small() {
        attn_plan_destroy(plan);
        for (const attn_tensor t : tensors) attn_tensor_destroy(t);
        attn_stream_destroy(stream);
        attn_context_destroy(context);
    }
    double time() {
        return microseconds([&] { ok(attn_run(plan, &args)); }, [&] { ok(attn_stream_synchronize(stream)); });
    }
};

int measure(const cuda::Driver& cu, const cuda::Nvrtc& nvrtc) {
    cuda::Device device;
    int major = 0, minor = 0;
    cu.check(cu.device(&device, 0), "taking device 0");
    cu.check(cu.device_attribute(&major, cuda::kComputeMajor, device), "asking its architecture");
    cu.check(cu.device_attribute(&minor, cuda::kComputeMinor, device), "asking its architecture");
    cuda::Context context;
    cu.check(cu.retain(&context, device), "retaining the primary context");
    cu.check(cu.set_current(context), "making it current");
    cuda::Stream stream;
    cu.check(cu.stream_create(&stream, cuda::kNonBlocking), "making a stream");

    const int64_t none[4] = {}, dense[4] = {1, 1, 64, 64};
    int32_t length = 60;
    attn_array lengths{}, keep{};
    lengths.size = sizeof lengths, lengths.dtype = ATTN_INT32, lengths.rank = 1, lengths.shape[0] = 1, lengths.data = &length;
    attn_mask_values by_length{}, by_keep{};
    by_length.size = sizeof by_length, by_length.kinds = ATTN_MASK_KEY_LENGTHS, by_length.key_lengths = &lengths;
    cuda::Address memory = 0;
    cu.check(cu.allocate(&memory, 64 * 64), "allocating a mask");
    cu.check(cu.fill(memory, 1, 64 * 64), "filling a mask");
    keep.size = sizeof keep, keep.dtype = ATTN_UINT8, keep.rank = 4, keep.device_type = ATTN_DEVICE_CUDA, keep.data = reinterpret_cast<void*>(memory);
    std::copy(dense, dense + 4, keep.shape);
    by_keep.size = sizeof by_keep, by_keep.kinds = ATTN_MASK_KEEP, by_keep.keep = &keep;

    Small plain(1, stream, nullptr, none), masked(1, stream, &by_length, none), kept(1, stream, &by_keep, dense);
    const cuda::Function empty = empty_kernel(cu, nvrtc, major * 10 + minor);
    // In turns: the host's clock speeds wander.
    std::vector<double> bare, run, with_lengths, with_keep;
    for (int round = 0; round < 15; ++round) {
        bare.push_back(microseconds([&] { cu.check(cu.launch(empty, 1, 1, 1, 32, 1, 1, 0, stream, nullptr, nullptr), "launching an empty kernel"); },
                                    [&] { cu.check(cu.stream_synchronize(stream), "waiting"); }));
        run.push_back(plain.time()), with_lengths.push_back(masked.time()), with_keep.push_back(kept.time());
    }
    const auto print = [](const char* name, const std::vector<double>& values, const char* end) {
        std::printf("\"%s\": [", name);
        for (size_t i = 0; i < values.size(); ++i) std::printf("%s%.4f", i ? ", " : "", values[i]);
        std::printf("]%s", end);
    };
    std::printf("{");
    print("bare_launch_us", bare, ", "), print("run_us", run, ", "), print("run_with_host_lengths_us", with_lengths, ", "),
        print("run_with_keep_us", with_keep, "}\n");
    cu.free(memory);
    return 0;
}

} // namespace

int main() {
    cuda::Driver cu;
    cuda::Nvrtc nvrtc;
    int count = 0, version = 0;
    if (!cu.open()) return std::printf("host_time: no CUDA device: %s\n", cu.wrong.c_str()), 3;
    if (const int status = cu.init(0)) return std::printf("host_time: no CUDA device: %s in cuInit\n", cu.name_of(status).c_str()), 3;
    if (cu.device_count(&count) || !count) return std::puts("host_time: no CUDA device: the driver knows none"), 3;
    cu.driver_version(&version);
    if (!nvrtc.open(version)) return std::printf("host_time: no NVRTC; set ATTENTION_NVRTC: %s\n", nvrtc.wrong.c_str()), 1;
    try {
        return measure(cu, nvrtc);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "host_time: %s\n", e.what());
        return 1;
    }
}
