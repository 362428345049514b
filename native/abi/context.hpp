// context.hpp — a device: the CPU's workers and the memory kept between calls, or a CUDA context.
#pragma once
#include <mutex>
#include <vector>

#include "../cpu/backend.hpp"
#include "../cuda/device.hpp"
#include "handles.hpp"

namespace attn::abi {

struct FreeMemory {
    void operator()(void* p) const;
};
using Memory = std::unique_ptr<unsigned char, FreeMemory>;
Memory allocate(uint64_t bytes, const char* what); // 64-byte aligned; ATTN_OUT_OF_MEMORY says how much was asked for and for what

class Context final : public Object {
public:
    static constexpr Kind kKind = Kind::context;
    Context(cpu::InstructionSet isa, int workers) : Object(kKind), isa(isa), pool(workers) {}
    explicit Context(std::shared_ptr<const cuda::Device> gpu) : Object(kKind), gpu(std::move(gpu)), isa(cpu::best_instruction_set()), pool(1) {}

    const std::shared_ptr<const cuda::Device> gpu; // null: the CPU
    const cpu::InstructionSet isa;
    cpu::Pool pool;                     // a GPU's draws tile maps
    std::atomic<int64_t> live_bytes{0}; // of its tensors and masks

    // Memory for one call: the smallest kept buffer that is large enough, or a new one; it comes back for the next call.
    class Lease {
    public:
        Lease() = default;
        Lease(Context& context, uint64_t bytes);
        Lease(Lease&& other) noexcept { *this = std::move(other); }
        Lease& operator=(Lease&& other) noexcept {
            std::swap(context_, other.context_), std::swap(memory_, other.memory_), std::swap(bytes_, other.bytes_);
            return *this;
        }
        ~Lease();
        unsigned char* data() const { return memory_.get(); }

    private:
        Context* context_ = nullptr;
        Memory memory_;
        uint64_t bytes_ = 0;
    };
    void trim();
    uint64_t kept_bytes();

private:
    struct Kept {
        Memory memory;
        uint64_t bytes;
    };
    std::mutex mutex_;
    std::vector<Kept> kept_;
};

} // namespace attn::abi
