// gpu.hpp — a GPU for first_light: memory, and launches of what was compiled ahead.
#pragma once
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../../native/cuda/driver.hpp"
#include "attempts.hpp"
#include "programs.hpp"

// Waits for what was begun on the legacy stream, at most `seconds`: a barrier that never opens becomes a sentence.
inline void await(const cuda::Driver& cu, const std::string& what, double seconds) {
    const auto check = [&](int status) {
        if (cuda::is_sticky(status)) throw attempts::Lost(cu.name_of(status) + " while running " + what);
        cu.check(status, "running " + what);
    };
    constexpr int kNoTiming = 2, kNotReady = 600;
    cuda::Event done = nullptr;
    check(cu.event_create(&done, kNoTiming));
    check(cu.event_record(done, nullptr));
    const auto start = std::chrono::steady_clock::now();
    int status;
    while ((status = cu.event_query(done)) == kNotReady) {
        if (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > seconds)
            throw attempts::Lost(what + " hangs: it has not ended after " + std::to_string(seconds).substr(0, 4) + " s, so a wait in it never ends");
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    check(status);
    check(cu.event_destroy(done));
}

class Gpu {
public:
    inline static double seconds = 5; // no kernel here takes a hundredth of it
    Gpu(const cuda::Driver& driver, const Images& images) : cu(driver), images_(images) {
        cuda::Device device;
        cuda::Context context;
        cu.check(cu.device(&device, 0), "taking device 0");
        cu.check(cu.retain(&context, device), "retaining the primary context");
        cu.check(cu.set_current(context), "making it current");
    }
    // Memory on the device, freed with its owner.
    template <class T>
    class Array {
    public:
        Array(const Gpu& gpu, const std::vector<T>& from) : gpu_(gpu), count_(from.size()) {
            make();
            if (count_) gpu_.cu.check(gpu_.cu.to_device(address_, from.data(), count_ * sizeof(T)), "copying to the device");
        }
        Array(const Gpu& gpu, size_t count) : gpu_(gpu), count_(count) {
            make();
            if (count_) gpu_.cu.check(gpu_.cu.fill(address_, 0xFF, count_ * sizeof(T)), "filling memory"); // NaN: what nobody writes shows
        }
        Array(const Array&) = delete;
        ~Array() {
            if (!gpu_.lost_) gpu_.cu.free(address_); // it would wait for a kernel that does not end
        }
        T* data() const { return count_ ? reinterpret_cast<T*>(address_) : nullptr; }
        std::vector<T> host() const {
            std::vector<T> all(count_);
            if (count_) gpu_.cu.check(gpu_.cu.to_host(all.data(), address_, count_ * sizeof(T)), "copying to the host");
            return all;
        }

    private:
        void make() { gpu_.cu.check(gpu_.cu.allocate(&address_, count_ * sizeof(T) + 16), "allocating " + std::to_string(count_ * sizeof(T)) + " bytes"); }
        const Gpu& gpu_;
        size_t count_;
        cuda::Address address_ = 0;
    };

    // Runs a kernel and waits for it. Arguments are passed as they lie in memory.
    template <class... A>
    void launch(const Program& program, unsigned x, unsigned y, unsigned z, unsigned threads, size_t smem, const A&... args) {
        const std::string& expression = program.expression;
        const cuda::Function f = loaded(expression);
        cu.check(cu.set_function(f, cuda::kMaxDynamicSharedMemory, int(smem)), "asking for " + std::to_string(smem) + " bytes of shared memory");
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&args))...};
        cu.check(cu.launch(f, x, y, z, threads, 1, 1, unsigned(smem), nullptr, pointers, nullptr), "launching " + expression);
        try {
            await(cu, expression, seconds);
        } catch (const attempts::Lost&) {
            lost_ = true;
            throw;
        }
    }
    // Boxes of box_rows x 64 16-bit elements out of [batch][head][row][column]; strides in elements.
    cuda::TensorMap tensor_map(const void* base, bool half, int64_t columns, int64_t rows, int64_t heads, int64_t batches, int64_t row, int64_t head,
                               int64_t batch, int box_rows) const {
        cuda::TensorMap map;
        const uint64_t sizes[4] = {uint64_t(columns), uint64_t(rows), uint64_t(heads), uint64_t(batches)},
                       strides[3] = {uint64_t(row) * 2, uint64_t(head) * 2, uint64_t(batch) * 2};
        const uint32_t box[4] = {64, uint32_t(box_rows), 1, 1}, steps[4] = {1, 1, 1, 1};
        if (!cu.encode_tiled) throw std::runtime_error("this driver has no cuTensorMapEncodeTiled");
        cu.check(cu.encode_tiled(&map, half ? cuda::kFloat16 : cuda::kBfloat16, 4, const_cast<void*>(base), sizes, strides, box, steps, cuda::kNoInterleave,
                                 cuda::kSwizzle128, cuda::kPromote128, cuda::kZerosOutside),
                 "encoding a tensor map");
        return map;
    }

    const cuda::Driver& cu;

private:
    cuda::Function loaded(const std::string& expression) {
        cuda::Function& f = functions_[expression];
        if (f) return f;
        const auto image = images_.find(expression);
        if (image == images_.end()) throw std::logic_error(expression + " was not compiled: its attempt does not name it");
        if (!image->second.wrong.empty()) throw std::runtime_error(image->second.wrong);
        cuda::Module module;
        cu.check(cu.load(&module, image->second.bytes.data()), "loading " + expression);
        cu.check(cu.function(&f, module, image->second.lowered.c_str()), "finding " + expression);
        return f;
    }

    bool lost_ = false;
    const Images& images_;
    std::map<std::string, cuda::Function> functions_;
};
