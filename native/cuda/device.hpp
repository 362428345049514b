// device.hpp — one CUDA context: the device's primary one or somebody else's. Memory in stream order, streams, events, kernels as they are first needed, and
// what became of it: an error after which CUDA declares a context dead is told by every later call.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "compile.hpp"
#include "library.hpp"

namespace attn::cuda {

class OutOfMemory : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class Device {
public:
    // Of the device's primary context, or of `foreign`, which must be one of its.
    Device(int ordinal, ::cuda::Context foreign);
    ~Device();
    Device(const Device&) = delete;

    const int ordinal;
    std::string name; // the device's own
    int arch = 0;     // 90 for compute capability 9.0
    int processors = 0, l2_bytes = 0;

    // Makes the context current for a scope and gives the thread back what it had. Throws where the context is dead.
    class Current {
    public:
        explicit Current(const Device& device);
        ~Current();
        Current(const Current&) = delete;

    private:
        const Device& device_;
    };
    // While one lives, the thread may make calls that a capture forbids for fear that they were meant to be captured: of this thread, or of any thread's in the
    // whole process where the capture is global. For what belongs to no graph: loading a kernel, memory kept between runs, waiting for what was done before.
    // A forbidden call would fail, and make the capture worthless.
    class Uncaptured {
    public:
        explicit Uncaptured(const Device& device) : device_(device) { device.driver_.exchange_capture_mode(&mode_); }
        ~Uncaptured() { device_.driver_.exchange_capture_mode(&mode_); }
        Uncaptured(const Uncaptured&) = delete;

    private:
        const Device& device_;
        int mode_ = ::cuda::kRelaxedCapture;
    };
    const Driver& driver() const { return driver_; }
    bool dead() const { return dead_code_.load() != 0; }
    bool same_context(const Device& other) const { return context_ == other.context_; }
    void check(int status, const std::string& doing) const; // throws Failure; remembers what kills a context

    // Whether it is on this device, as far as the driver knows; throws std::invalid_argument.
    void check_pointer(const void* address, const char* name) const;

    // Everything below needs the context to be current.
    struct MemoryInfo {
        uint64_t free, total, held; // held: by the pool, in use or not
    };
    MemoryInfo memory() const;
    void trim() const;
    Address allocate(uint64_t bytes, ::cuda::Stream stream, const char* what) const;
    void free(Address address, ::cuda::Stream stream) const noexcept;

    // Whole copies, done when they return; these make the context current themselves.
    void upload(void* to, const void* from, uint64_t bytes) const;
    void copy(void* to, const void* from, uint64_t bytes) const; // within the device
    void download(void* to, const void* from, uint64_t bytes) const;

    ::cuda::Function function(const kernels::Row& row) const;                                          // compiled and loaded when first asked for
    bool has(const kernels::Row& row) const { return loaded_[size_t(&row - rows().data())].function; } // loaded already

    // Events and page-locked host memory go round: to be had, and given back.
    ::cuda::Event event() const;
    void give_back(::cuda::Event event) const noexcept;
    // Records it, or says why not once nothing on the stream runs any more.
    void record(::cuda::Event event, ::cuda::Stream stream) const;
    // Waits for what is on the stream whatever came of it: what its kernels use may go afterwards.
    void settle(::cuda::Stream stream) const noexcept;
    struct Pinned {
        unsigned char* data = nullptr;
        uint64_t bytes = 0;
    };
    Pinned pinned(uint64_t bytes) const;
    void give_back(Pinned pinned) const noexcept;

    // A word that kernels ask before they begin a block (Problem::cancel), down when it is had. It can be raised while they run.
    struct CancelFlag {
        Address word = 0; // 0: none
        bool raised = false;
    };
    CancelFlag cancel_flag() const;
    void give_back(CancelFlag flag) const noexcept;
    // Waits for the event. Where there is a flag, it is raised once `cancel`, which lies on the host, is found to be: within a millisecond or an eighth of
    // the time waited so far, whichever is less.
    void await(::cuda::Event event, const volatile int32_t* cancel = nullptr, CancelFlag* flag = nullptr) const;

    ::cuda::Stream memory_stream() const { return memory_stream_; } // nothing else is put on it: never waits for a kernel

private:
    struct Loaded {
        std::mutex mutex;
        std::atomic<::cuda::Function> function{nullptr};
        ::cuda::Module module = nullptr;
    };
    void retain_primary();
    void reset_primary(::cuda::Device device);
    void release() noexcept;
    void die(int status, const std::string& cause) const noexcept;

    const Driver& driver_;
    ::cuda::Context context_ = nullptr;
    bool primary_ = false;
    ::cuda::Pool pool_ = nullptr;
    ::cuda::Stream memory_stream_ = nullptr;
    mutable std::atomic<int> dead_code_{0};
    mutable std::mutex mutex_; // of what follows
    mutable std::string cause_of_death_;
    mutable std::vector<::cuda::Event> events_;
    mutable std::vector<Pinned> pinned_;
    mutable std::vector<CancelFlag> flags_;
    mutable std::vector<Loaded> loaded_;
};

// Memory of a device's pool that nobody else frees; usable by any stream from the start, and to be let go when no stream uses it any more.
class Memory {
public:
    Memory() = default;
    Memory(std::shared_ptr<const Device> device, uint64_t bytes, const char* what);
    Memory(Memory&& other) noexcept { *this = std::move(other); }
    Memory& operator=(Memory&& other) noexcept {
        std::swap(device_, other.device_), std::swap(address_, other.address_), std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Memory();
    unsigned char* data() const { return reinterpret_cast<unsigned char*>(address_); }
    uint64_t bytes() const { return bytes_; }

private:
    std::shared_ptr<const Device> device_;
    Address address_ = 0;
    uint64_t bytes_ = 0;
};

} // namespace attn::cuda
