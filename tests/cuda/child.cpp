// child.cpp — what a process that a test starts does.
#include <unistd.h>

#include <thread>

#include "cuda/cache.hpp"
#include "gpu.hpp"

namespace {

using namespace gpu;

attn_problem problem(int head_dim = 64, int dtype = ATTN_FLOAT16) {
    attn_problem p{};
    p.size = sizeof p, p.dtype = dtype, p.batch = 1, p.query_heads = p.key_heads = 1, p.queries = p.keys = 64, p.head_dim = p.value_dim = head_dim;
    return p;
}

// Has kernels of every file compiled: of plans, and of a merge, which the driver cannot run if they are real ones.
bool compile_of_every_file(attn_context context) {
    attn_problem kept = problem(), decoding = problem();
    kept.mask_kinds = ATTN_MASK_KEEP, std::fill_n(kept.keep_shape, 4, 1);
    decoding.queries = 1, decoding.keys = 1024;
    bool done = true;
    for (const auto& [asked, backend] : {std::pair{kept, ATTN_BACKEND_FLASH},
                                         {decoding, ATTN_BACKEND_FLASH},
                                         {problem(64, ATTN_FLOAT32), ATTN_BACKEND_MEMORY_EFFICIENT},
                                         {problem(64, ATTN_FLOAT32), ATTN_BACKEND_NAIVE}})
        done = done && attn_plan_warmup(plan(context, asked, backend)) == ATTN_OK;
    if (!done) return false;
    const std::vector<unsigned char> none(2);
    const std::vector<float> zero(1);
    attn_array o = vector_of(none, {1, 1, 1, 1});
    o.dtype = ATTN_FLOAT16;
    const OnDevice O = upload(context, kAmpere, o, none.data(), 2), LSE = upload(context, kAmpere, vector_of(zero, {1, 1, 1}), zero.data(), 4);
    const attn_status merged = attn_merge(context, &O.array, &LSE.array, &O.array, &LSE.array, &O.array, &LSE.array);
    return merged == ATTN_OK || std::string(attn_last_error()).find("while launching merge.fp16.pair") != std::string::npos;
}

} // namespace

// A process that warms up a plan, or what its first argument says; the others are what must come of it. Exit 0: it did.
int child(int argc, char** argv) {
    const std::vector<std::string> arguments(argv, argv + argc);
    const std::string& what = arguments.at(0);
    const auto wrong = [](const std::string& text) {
        std::fprintf(stderr, "child: %s (%s)\n", text.c_str(), attn_last_error());
        return 1;
    };
    if (what == "folder") {
        attn_cuda_info info{};
        info.size = sizeof info;
        if (attn_cuda_describe(&info) || info.cache_folder != arguments[1]) return wrong(std::string("the folder is ") + info.cache_folder);
        return 0;
    }
    if (what == "nvrtc") {
        attn_cuda_info info{};
        info.size = sizeof info;
        if (attn_cuda_describe(&info) || info.nvrtc != arguments[1]) return wrong(std::string("NVRTC is ") + info.nvrtc);
        return 0;
    }
    if (what == "puts") {
        const attn::cuda::DiskCache cache(arguments[1], 1 << 30);
        for (int i = 0; access(arguments[2].c_str(), F_OK) && i < 100000; ++i) cache.put("key", {"name", std::string(1 << 20, char('a' + i % 7))});
        return 0;
    }
    if (what == "refuses") {
        attn_context none = nullptr;
        attn_context_options options{};
        options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA, options.device = kAmpere;
        if (attn_context_create(&options, &none) != ATTN_NO_DEVICE) return wrong("a context");
        for (size_t i = 1; i < arguments.size(); ++i)
            if (std::string(attn_last_error()).find(arguments[i]) == std::string::npos) return wrong(arguments[i] + " is not said");
        return 0;
    }
    if (what == "absent") {
        int32_t count = -1;
        const char* why = "";
        attn_context none = nullptr;
        attn_context_options options{};
        options.size = sizeof options, options.device_type = ATTN_DEVICE_CUDA;
        if (attn_device_count(ATTN_DEVICE_CUDA, &count, &why) || count != 0) return wrong("there is a device");
        for (size_t i = 1; i < arguments.size(); ++i)
            if (std::string(why).find(arguments[i]) == std::string::npos) return wrong(arguments[i] + " is not in: " + why);
        if (attn_context_create(&options, &none) != ATTN_NO_DEVICE || std::string(attn_last_error()) != why) return wrong("a context on no device");
        attn_context cpu = nullptr;
        return attn_context_create(nullptr, &cpu) ? wrong("the CPU needs no CUDA") : 0;
    }
    const Context context = gpu::context();
    attn_problem asked = problem(what == "warmup-128" ? 128 : 64);
    if (what == "warmup-keep" || what == "fails-keep") asked.mask_kinds = ATTN_MASK_KEEP, std::fill_n(asked.keep_shape, 4, 1);
    const Plan p = plan(context, asked, what == "warmup-plain" || what == "fails-plain" ? ATTN_BACKEND_MEMORY_EFFICIENT : ATTN_BACKEND_FLASH);
    if (what == "reason" && info(p).reason != arguments[1]) return wrong(info(p).reason);
    if (what == "reason") return 0;
    if (what == "fails-refused") FAKE(fake_cuda_fail)("cuModuleLoadData", 200, 0);
    if (what.rfind("fails", 0) == 0) {
        if (attn_plan_warmup(p) == ATTN_OK) return wrong("it compiled");
        const std::string said = attn_last_error();
        for (size_t i = 1; i < arguments.size(); ++i)
            if (const size_t at = said.find(arguments[i]); at == std::string::npos || at != said.rfind(arguments[i]))
                return wrong(arguments[i] + " is not said once");
        return 0;
    }
    if (what == "refused") FAKE(fake_cuda_fail)("cuModuleLoadData", 200, 0);
    if (what == "threads") {
        std::vector<std::thread> threads;
        std::atomic<int> failures{0};
        for (int i = 0; i < 8; ++i) threads.emplace_back([&] { failures += attn_plan_warmup(p) != ATTN_OK; });
        for (std::thread& t : threads) t.join();
        if (failures) return wrong("a warm-up failed");
    } else if (what == "every-file" ? !compile_of_every_file(context) : attn_plan_warmup(p) != ATTN_OK) {
        return wrong("warm-up");
    }
    const attn_counters c = counters();
    for (size_t i = 1; i < arguments.size(); ++i) {
        const std::string met = arguments[i][0] == 'c'   ? "compiled=" + std::to_string(c.kernels_compiled)
                                : arguments[i][0] == 'd' ? "disk=" + std::to_string(c.kernels_from_disk)
                                                         : "embedded=" + std::to_string(c.kernels_embedded);
        if (met != arguments[i]) return wrong(met + " instead of " + arguments[i]);
    }
    return 0;
}
