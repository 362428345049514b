// gpu.hpp — a GPU for first_light: memory, and kernels compiled by NVRTC when first launched.
#pragma once
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../../native/cuda/driver.hpp"
#include "../../native/cuda/nvrtc.hpp"
#include "../../native/kernels/rows.hpp"
#include "attempts.hpp"

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
    Gpu(const cuda::Driver& driver, const cuda::Nvrtc& nvrtc, std::string kernels, std::string verbs) : cu(driver), nvrtc_(nvrtc) {
        cuda::Device device;
        char name[256];
        cu.check(cu.device(&device, 0), "taking device 0");
        cu.check(cu.device_name(name, sizeof name, device), "asking its name");
        int major = 0, minor = 0;
        cu.check(cu.device_attribute(&major, cuda::kComputeMajor, device), "asking its architecture");
        cu.check(cu.device_attribute(&minor, cuda::kComputeMinor, device), "asking its architecture");
        this->name = name, architecture = major * 10 + minor;
        cuda::Context context;
        cu.check(cu.retain(&context, device), "retaining the primary context");
        cu.check(cu.set_current(context), "making it current");
        for (const std::string& n : kernels::sources()) names_.push_back(n), texts_.push_back(read(kernels + "/" + n));
        for (const char* n : {"verbs.cuh", "verbs_sm90.cuh"}) names_.push_back(n), texts_.push_back(read(verbs + "/" + n));
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

    // Runs a kernel of `file` and waits for it. Arguments are passed as they lie in memory.
    template <class... A>
    void launch(const std::string& file, const std::string& expression, unsigned x, unsigned y, unsigned z, unsigned threads, size_t smem, const A&... args) {
        const cuda::Function f = compiled(file, expression);
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
    std::string name;
    int architecture = 0;

private:
    static std::string read(const std::string& path) {
        std::ifstream file(path);
        if (!file) throw std::runtime_error("cannot read " + path);
        std::stringstream s;
        s << file.rdbuf();
        return s.str();
    }
    cuda::Function compiled(const std::string& file, const std::string& expression) {
        cuda::Function& f = functions_[expression];
        if (f) return f;
        int count = 0, newest = 0;
        nvrtc_.architectures(&count);
        std::vector<int> known(static_cast<size_t>(count));
        nvrtc_.architecture_list(known.data());
        bool exact = false;
        for (const int a : known) {
            exact |= a == architecture;
            if (a < architecture) newest = std::max(newest, a);
        }
        // A GPU newer than NVRTC gets PTX, which its driver finishes.
        const std::string target = "--gpu-architecture=" + (exact ? kernels::real_name(architecture) : "compute_" + std::to_string(newest));
        std::vector<const char*> name_of, text_of;
        for (size_t i = 0; i < names_.size(); ++i) name_of.push_back(names_[i].c_str()), text_of.push_back(texts_[i].c_str());
        cuda::Nvrtc::Program program = nullptr;
        int status = nvrtc_.create(&program, ("#include \"" + file + "\"\n").c_str(), "attention.cu", int(names_.size()), text_of.data(), name_of.data());
        if (!status) status = nvrtc_.add_name(program, expression.c_str());
        std::vector<const char*> options{target.c_str()};
        options.insert(options.end(), std::begin(kernels::kOptions), std::end(kernels::kOptions));
        if (!status) status = nvrtc_.compile(program, int(options.size()), options.data());
        size_t size = 0;
        if (status) {
            std::string log;
            if (program && !nvrtc_.log_size(program, &size) && size) log.resize(size), nvrtc_.log(program, log.data());
            throw std::runtime_error("NVRTC failed with " + std::to_string(status) + " on " + expression + " for " + target + ":\n" + log.c_str());
        }
        (exact ? nvrtc_.cubin_size : nvrtc_.ptx_size)(program, &size);
        std::vector<char> image(size);
        (exact ? nvrtc_.cubin : nvrtc_.ptx)(program, image.data());
        const char* lowered = nullptr;
        nvrtc_.lowered_name(program, expression.c_str(), &lowered);
        cuda::Module module;
        cu.check(cu.load(&module, image.data()), "loading " + expression);
        cu.check(cu.function(&f, module, lowered), "finding " + expression);
        nvrtc_.destroy(&program);
        return f;
    }

    bool lost_ = false;
    const cuda::Nvrtc& nvrtc_;
    std::vector<std::string> names_, texts_;
    std::map<std::string, cuda::Function> functions_;
};
