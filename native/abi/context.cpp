#include "context.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace attn::abi {
namespace {

cpu::InstructionSet wished_instruction_set() {
    const char* wish = std::getenv("ATTENTION_CPU");
    if (!wish || !*wish) return cpu::best_instruction_set();
    for (const auto isa : {cpu::InstructionSet::avx512, cpu::InstructionSet::avx2, cpu::InstructionSet::generic})
        if (!std::strcmp(wish, cpu::name_of(isa))) {
            if (cpu::supports(isa)) return isa;
            fail(ATTN_INVALID_ARGUMENT, "ATTENTION_CPU is %s, which this machine does not have; its best is %s", wish,
                 cpu::name_of(cpu::best_instruction_set()));
        }
    fail(ATTN_INVALID_ARGUMENT, "ATTENTION_CPU is '%s'; avx512, avx2 or generic is allowed", wish);
}

std::string cpu_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.starts_with("model name"))
            if (const auto colon = line.find(": "); colon != line.npos) return line.substr(colon + 2);
    return "CPU";
}

void copy_text(char* to, size_t capacity, const std::string& text) {
    const size_t n = std::min(capacity - 1, text.size());
    std::memcpy(to, text.data(), n);
    std::memset(to + n, 0, capacity - n);
}

void describe_gpu(const Context& c, attn_context_info& i) {
    const cuda::Device::Current current(*c.gpu);
    const cuda::Device::MemoryInfo memory = c.gpu->memory();
    i.device_type = ATTN_DEVICE_CUDA;
    i.device = c.gpu->ordinal;
    i.workers = c.gpu->processors;
    copy_text(i.device_name, sizeof i.device_name, c.gpu->name);
    copy_text(i.instruction_set, sizeof i.instruction_set, "sm_" + std::to_string(c.gpu->arch));
    i.live_bytes = uint64_t(c.live_bytes.load());
    i.scratch_bytes = memory.held - std::min(memory.held, i.live_bytes);
    i.memory_free = memory.free, i.memory_total = memory.total;
}

} // namespace

void FreeMemory::operator()(void* p) const { std::free(p); }

Memory allocate(uint64_t bytes, const char* what) {
    const uint64_t rounded = std::max<uint64_t>(64, (bytes + 63) & ~63ull);
    void* p = rounded >= bytes ? std::aligned_alloc(64, rounded) : nullptr;
    if (!p) fail(ATTN_OUT_OF_MEMORY, "out of memory: %llu bytes were asked for, for %s", static_cast<unsigned long long>(bytes), what);
    return Memory(static_cast<unsigned char*>(p));
}

Context::Lease::Lease(Context& context, uint64_t bytes) : context_(&context), bytes_(bytes) {
    if (!bytes) return;
    {
        const std::lock_guard lock(context.mutex_);
        auto best = context.kept_.end();
        for (auto k = context.kept_.begin(); k != context.kept_.end(); ++k)
            if (k->bytes >= bytes && (best == context.kept_.end() || k->bytes < best->bytes)) best = k;
        if (best != context.kept_.end()) {
            memory_ = std::move(best->memory), bytes_ = best->bytes;
            context.kept_.erase(best);
            return;
        }
    }
    memory_ = allocate(bytes, "a run's workspace");
}

Context::Lease::~Lease() {
    if (!memory_) return;
    const std::lock_guard lock(context_->mutex_);
    try {
        context_->kept_.push_back({std::move(memory_), bytes_});
    } catch (const std::bad_alloc&) { // then it is freed
    }
}

void Context::trim() {
    if (gpu) {
        const cuda::Device::Current current(*gpu);
        gpu->trim();
    }
    const std::lock_guard lock(mutex_);
    kept_.clear();
}

uint64_t Context::kept_bytes() {
    const std::lock_guard lock(mutex_);
    uint64_t bytes = 0;
    for (const Kept& k : kept_) bytes += k.bytes;
    return bytes;
}

} // namespace attn::abi

using namespace attn::abi;

attn_status attn_device_count(int32_t device_type, int32_t* count, const char** why) {
    return guarded([&] {
        required(count, "count");
        if (device_type != ATTN_DEVICE_CPU && device_type != ATTN_DEVICE_CUDA)
            fail(ATTN_INVALID_ARGUMENT, "device_type is %d; 0 (cpu) or 1 (cuda) is allowed", device_type);
        const bool cpu = device_type == ATTN_DEVICE_CPU;
        *count = cpu ? 1 : attn::cuda::library().devices;
        if (why) *why = cpu ? "" : attn::cuda::library().why.c_str();
    });
}

attn_status attn_cuda_describe(attn_cuda_info* info) {
    return guarded([&] {
        attn_cuda_info& i = checked(info, "info");
        const attn::cuda::Library& l = attn::cuda::library();
        i.devices = l.devices, i.driver_version = l.driver_version, i.nvrtc_version = l.nvrtc_version;
        copy_text(i.driver, sizeof i.driver, l.driver_version ? attn::cuda::Driver::path() : "");
        copy_text(i.nvrtc, sizeof i.nvrtc, l.nvrtc_version ? l.nvrtc.path : "");
        copy_text(i.cache_folder, sizeof i.cache_folder, attn::cuda::disk_cache().folder());
        copy_text(i.embedded, sizeof i.embedded, attn::cuda::embedded_architectures());
    });
}

attn_status attn_context_create(const attn_context_options* options, attn_context* context) {
    return guarded([&] {
        required(context, "context");
        const attn_context_options o = options ? checked(options, "options") : attn_context_options{};
        if (o.workers < 0 || o.workers > 1024) fail(ATTN_INVALID_ARGUMENT, "options.workers is %d; 0 (the CPU quota) or 1..1024 is allowed", o.workers);
        if (o.device_type == ATTN_DEVICE_CUDA) {
            *context = static_cast<attn_context>(add(std::make_shared<Context>(std::make_shared<const attn::cuda::Device>(o.device, o.native_context))));
            return;
        }
        if (o.device_type != ATTN_DEVICE_CPU) fail(ATTN_INVALID_ARGUMENT, "options.device_type is %d; 0 (cpu) or 1 (cuda) is allowed", o.device_type);
        if (o.device != 0) fail(ATTN_INVALID_ARGUMENT, "options.device is %d; the cpu is device 0", o.device);
        if (o.native_context) fail(ATTN_INVALID_ARGUMENT, "options.native_context is set; the cpu has no contexts of others");
        *context = static_cast<attn_context>(
            add(std::make_shared<Context>(wished_instruction_set(), o.workers ? o.workers : std::clamp(attn::cpu::cpu_quota(), 1, 1024))));
    });
}

attn_status attn_context_destroy(attn_context context) {
    return guarded([&] { remove(context, Kind::context, "context"); });
}

attn_status attn_context_describe(attn_context context, attn_context_info* info) {
    return guarded([&] {
        const auto c = get<Context>(context, "context");
        attn_context_info& i = checked(info, "info");
        if (c->gpu) return describe_gpu(*c, i);
        i.device_type = ATTN_DEVICE_CPU;
        i.device = 0;
        i.workers = c->pool.workers();
        copy_text(i.device_name, sizeof i.device_name, cpu_name());
        copy_text(i.instruction_set, sizeof i.instruction_set, attn::cpu::name_of(c->isa));
        i.scratch_bytes = uint64_t(c->pool.scratch_bytes()) + c->kept_bytes();
        i.live_bytes = uint64_t(c->live_bytes.load());
        const uint64_t page = uint64_t(sysconf(_SC_PAGESIZE));
        i.memory_free = uint64_t(sysconf(_SC_AVPHYS_PAGES)) * page;
        i.memory_total = uint64_t(sysconf(_SC_PHYS_PAGES)) * page;
    });
}

attn_status attn_context_trim(attn_context context) {
    return guarded([&] { get<Context>(context, "context")->trim(); });
}
