#include "device.hpp"

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

namespace attn::cuda {
namespace {

std::string text(uint64_t n) { return std::to_string(n); }
std::string name_of(int ordinal) { return "cuda:" + std::to_string(ordinal); }

// Those that live in primary contexts, which are the process's: who resets one ends what the others have in it.
struct Primaries {
    std::mutex mutex;
    std::set<const Device*> all;
};
Primaries& primaries() {
    static Primaries& p = *new Primaries;
    return p;
}

// Why the driver may refuse an image of an NVRTC later than itself.
std::string later_nvrtc() {
    const Library& l = library();
    if (l.nvrtc_version <= l.driver_version) return "";
    const auto version = [](int v) { return text(uint64_t(v) / 1000) + "." + text(uint64_t(v) % 1000 / 10); };
    return "; NVRTC is of CUDA " + version(l.nvrtc_version) + ", the driver of " + version(l.driver_version) + ": ATTENTION_NVRTC names another NVRTC";
}

} // namespace

Device::Current::Current(const Device& device) : device_(device) {
    if (const int code = device.dead_code_) {
        const std::lock_guard lock(device.mutex_);
        throw Failure(code, device.driver_.name_of(code) + ": the context of " + name_of(device.ordinal) + " is dead (" + device.cause_of_death_ +
                                "); nothing made in it works any more: make another context");
    }
    device.check(device.driver_.push(device.context_), "making the context of " + name_of(device.ordinal) + " current");
}
Device::Current::~Current() {
    ::cuda::Context before;
    device_.driver_.pop(&before);
}

void Device::die(int status, const std::string& cause) const noexcept {
    const std::lock_guard lock(mutex_);
    int alive = 0;
    if (!dead_code_.compare_exchange_strong(alive, status)) return;
    try {
        cause_of_death_ = cause;
    } catch (const std::bad_alloc&) {}
}

void Device::check(int status, const std::string& doing) const {
    if (!status) return;
    if (::cuda::is_sticky(status)) die(status, "found while " + doing);
    driver_.check(status, doing);
}

void Device::retain_primary() {
    ::cuda::Device device;
    driver_.check(driver_.device(&device, ordinal), "taking " + name_of(ordinal));
    for (int attempt = 0;; ++attempt) {
        int status = driver_.retain(&context_, device);
        if (!status) {
            status = driver_.push(context_);
            if (!status) {
                ::cuda::Context before;
                size_t free = 0, total = 0;
                status = driver_.memory_info(&free, &total); // waits for nobody, and tells what became of the context
                driver_.pop(&before);
            }
            if (!status) return;
            driver_.release(device);
        }
        // A dead context that others still hold does nothing for them either: the device begins anew.
        if (attempt || !::cuda::is_sticky(status))
            driver_.check(status, "trying the primary context of " + name_of(ordinal) + (attempt ? ", which was reset; only another process begins anew" : ""));
        reset_primary(device);
    }
}

void Device::reset_primary(::cuda::Device device) {
    const std::string doing = "resetting the dead primary context of " + name_of(ordinal);
    // The context's handle may stay the same, with nothing behind those of streams, events and memory in it.
    Primaries& p = primaries();
    const std::lock_guard lock(p.mutex);
    for (const Device* d : p.all)
        if (d->ordinal == ordinal) d->die(::cuda::kContextDestroyed, "found while " + doing);
    driver_.check(driver_.reset(device), doing + "; if it stays so, only another process begins anew");
}

Device::Device(int ordinal, ::cuda::Context foreign)
    : ordinal(ordinal), driver_(library().driver), context_(foreign), primary_(!foreign), loaded_(rows().size()) {
    if (ordinal < 0 || ordinal >= library().devices)
        throw Unavailable(library().devices
                              ? "options.device is " + std::to_string(ordinal) + "; 0.." + std::to_string(library().devices - 1) + " is allowed for cuda"
                              : library().why);
    ::cuda::Device device;
    driver_.check(driver_.device(&device, ordinal), "taking " + name_of(ordinal));
    int major = 0, minor = 0, pools = 0;
    char own_name[256] = {};
    driver_.check(driver_.device_name(own_name, sizeof own_name, device), "asking the name of " + name_of(ordinal));
    for (const auto& [attribute, to] : {std::pair{::cuda::kComputeMajor, &major},
                                        {::cuda::kComputeMinor, &minor},
                                        {::cuda::kMemoryPools, &pools},
                                        {::cuda::kProcessors, &processors},
                                        {::cuda::kL2Bytes, &l2_bytes}})
        driver_.check(driver_.device_attribute(to, attribute, device), "asking what " + name_of(ordinal) + " can");
    name = own_name, arch = major * 10 + minor;
    if (arch < 60) throw Unavailable(name_of(ordinal) + " (" + name + ") is sm_" + std::to_string(arch) + "; sm_60 or newer is needed");
    if (!library().nvrtc_version && !embeds(arch))
        throw Unavailable(name_of(ordinal) + " (" + name + ") is sm_" + std::to_string(arch) + "; this library carries kernels for " +
                          embedded_architectures() + ", and there is no NVRTC to compile others: ATTENTION_NVRTC names one");
    if (!pools) throw Unavailable(name_of(ordinal) + " (" + name + ") has no memory in stream order; it and its driver must know it");
    if (primary_) retain_primary();
    try {
        const Current current(*this);
        ::cuda::Device of_context = -1;
        check(driver_.current_device(&of_context), "asking the device of a context");
        if (of_context != device) throw std::invalid_argument("options.native_context is a context of another device than " + name_of(ordinal));
        ::cuda::PoolProperties properties;
        properties.device = device;
        check(driver_.pool_create(&pool_, &properties), "making a memory pool on " + name_of(ordinal));
        uint64_t keep = UINT64_MAX; // until trim()
        check(driver_.pool_set(pool_, ::cuda::kReleaseThreshold, &keep), "setting up the memory pool of " + name_of(ordinal));
        int no = 0; // an allocation waits for no other stream's work, nor does then memory_stream()
        check(driver_.pool_set(pool_, ::cuda::kReuseByWaiting, &no), "setting up the memory pool of " + name_of(ordinal));
        check(driver_.stream_create(&memory_stream_, ::cuda::kNonBlocking), "making a stream on " + name_of(ordinal));
        if (primary_) {
            Primaries& p = primaries();
            const std::lock_guard lock(p.mutex);
            p.all.insert(this);
        }
    } catch (...) {
        release();
        throw;
    }
}

Device::~Device() { release(); }

// Everything that was made in the context, and the context. Of a foreign one what is not destroyed here would stay.
void Device::release() noexcept {
    ::cuda::Device device;
    {
        Primaries& p = primaries();
        const std::lock_guard lock(p.mutex);
        p.all.erase(this);
    }
    if (!dead()) {
        ::cuda::Context before;
        if (!driver_.push(context_)) {
            for (const ::cuda::Event e : events_) driver_.event_destroy(e);
            for (const Pinned& p : pinned_) driver_.host_free(p.data);
            for (const CancelFlag& f : flags_) driver_.free_async(f.word, memory_stream_);
            for (const Loaded& l : loaded_)
                if (l.module) driver_.unload(l.module);
            if (memory_stream_) driver_.stream_destroy(memory_stream_);
            if (pool_) driver_.pool_destroy(pool_);
            driver_.pop(&before);
        }
    }
    if (primary_ && !driver_.device(&device, ordinal)) driver_.release(device);
}

Device::MemoryInfo Device::memory() const {
    size_t free = 0, total = 0;
    uint64_t held = 0;
    check(driver_.memory_info(&free, &total), "asking the memory of " + name_of(ordinal));
    check(driver_.pool_get(pool_, ::cuda::kReserved, &held), "asking the memory pool of " + name_of(ordinal));
    return {free, total, held};
}

void Device::trim() const {
    check(driver_.pool_trim(pool_, 0), "trimming the memory pool of " + name_of(ordinal));
    std::vector<Pinned> spare;
    std::vector<CancelFlag> flags;
    {
        const std::lock_guard lock(mutex_);
        spare.swap(pinned_), flags.swap(flags_);
    }
    for (const Pinned& p : spare) driver_.host_free(p.data);
    for (const CancelFlag& f : flags) driver_.free_async(f.word, memory_stream_);
}

Address Device::allocate(uint64_t bytes, ::cuda::Stream stream, const char* what) const {
    Address address = 0;
    int status = driver_.allocate_async(&address, std::max<uint64_t>(bytes, 1), pool_, stream);
    if (status == ::cuda::kOutOfMemory) { // what the pool keeps in pieces may do as a whole
        driver_.pool_trim(pool_, 0);
        status = driver_.allocate_async(&address, std::max<uint64_t>(bytes, 1), pool_, stream);
    }
    if (status == ::cuda::kOutOfMemory || (status == ::cuda::kInvalidValue && bytes > memory().total)) { // what no device has may be called invalid
        const MemoryInfo info = memory();
        throw OutOfMemory("out of memory: " + text(bytes) + " bytes were asked for, for " + what + "; " + text(info.free) + " of " + text(info.total) +
                          " are free on " + name_of(ordinal) + " (" + driver_.name_of(status) + ")");
    }
    check(status, "allocating " + text(bytes) + " bytes for " + what);
    return address;
}

void Device::free(Address address, ::cuda::Stream stream) const noexcept {
    if (!address || dead()) return;
    driver_.free_async(address, stream);
}

void Device::check_pointer(const void* address, const char* name) const {
    int device = -1;
    int status = driver_.pointer_attribute(&device, ::cuda::kPointerDevice, reinterpret_cast<Address>(address));
    if (status && status != ::cuda::kInvalidValue) { // the thread has no context that knows of pointers, or one of others that is dead: no fault of this one
        const Current current(*this);
        status = driver_.pointer_attribute(&device, ::cuda::kPointerDevice, reinterpret_cast<Address>(address));
    }
    char where[64];
    std::snprintf(where, sizeof where, "%p", address);
    if (status == ::cuda::kInvalidValue)
        throw std::invalid_argument(std::string(name) + ".data is " + where + ", which is no memory of CUDA's; " + name_of(ordinal) +
                                    " is where it was said to be");
    check(status, "asking where " + std::string(name) + " is");
    if (device != ordinal)
        throw std::invalid_argument(std::string(name) + ".data is " + where + ", which is on " + name_of(device) + "; " + name_of(ordinal) +
                                    " is where it was said to be");
}

void Device::upload(void* to, const void* from, uint64_t bytes) const {
    const Current current(*this);
    check(driver_.to_device_async(reinterpret_cast<Address>(to), from, bytes, ::cuda::kThreadStream),
          "copying " + text(bytes) + " bytes to " + name_of(ordinal));
    check(driver_.stream_synchronize(::cuda::kThreadStream), "copying " + text(bytes) + " bytes to " + name_of(ordinal));
}
void Device::copy(void* to, const void* from, uint64_t bytes) const {
    const Current current(*this);
    check(driver_.copy_async(reinterpret_cast<Address>(to), reinterpret_cast<Address>(from), bytes, ::cuda::kThreadStream),
          "copying " + text(bytes) + " bytes");
    check(driver_.stream_synchronize(::cuda::kThreadStream), "copying " + text(bytes) + " bytes");
}
void Device::download(void* to, const void* from, uint64_t bytes) const {
    const Current current(*this);
    check(driver_.to_host_async(to, reinterpret_cast<Address>(from), bytes, ::cuda::kThreadStream),
          "copying " + text(bytes) + " bytes from " + name_of(ordinal));
    check(driver_.stream_synchronize(::cuda::kThreadStream), "copying " + text(bytes) + " bytes from " + name_of(ordinal));
}

::cuda::Function Device::function(const kernels::Row& row) const {
    Loaded& l = loaded_[size_t(&row - rows().data())];
    if (const ::cuda::Function f = l.function) return f;
    const std::lock_guard lock(l.mutex);
    if (const ::cuda::Function f = l.function) return f;
    const Uncaptured loading(*this);
    for (;;) {
        const auto image = image_of(row, arch);
        const int status = driver_.load(&l.module, image->code.c_str());
        const bool unusable =
            status == ::cuda::kInvalidImage || status == ::cuda::kNoBinaryForGpu || status == ::cuda::kInvalidPtx || status == ::cuda::kUnsupportedPtx;
        if (unusable && forget(row, arch, image)) continue;
        check(status, "loading " + row.name + (unusable ? later_nvrtc() : ""));
        try {
            ::cuda::Function f = nullptr;
            check(driver_.function(&f, l.module, image->lowered.c_str()), "finding " + row.name + " in what was compiled");
            if (row.smem > 48 * 1024)
                check(driver_.set_function(f, ::cuda::kMaxDynamicSharedMemory, row.smem),
                      "asking for " + text(uint64_t(row.smem)) + " bytes of shared memory for " + row.name);
            l.function = f;
            return f;
        } catch (...) {
            if (!dead()) driver_.unload(std::exchange(l.module, nullptr));
            throw;
        }
    }
}

::cuda::Event Device::event() const {
    {
        const std::lock_guard lock(mutex_);
        if (!events_.empty()) {
            const ::cuda::Event e = events_.back();
            events_.pop_back();
            return e;
        }
    }
    ::cuda::Event e = nullptr;
    check(driver_.event_create(&e, ::cuda::kBlockingSyncWithoutTiming), "making an event on " + name_of(ordinal));
    return e;
}

void Device::record(::cuda::Event event, ::cuda::Stream stream) const {
    if (const int status = driver_.event_record(event, stream)) {
        give_back(event);
        settle(stream);
        check(status, "recording an event");
    }
}
void Device::settle(::cuda::Stream stream) const noexcept {
    const Uncaptured waiting(*this);
    driver_.stream_synchronize(stream);
}
void Device::give_back(::cuda::Event event) const noexcept {
    const std::lock_guard lock(mutex_);
    try {
        events_.push_back(event);
    } catch (const std::bad_alloc&) { driver_.event_destroy(event); }
}

Device::Pinned Device::pinned(uint64_t bytes) const {
    {
        const std::lock_guard lock(mutex_);
        auto best = pinned_.end();
        for (auto p = pinned_.begin(); p != pinned_.end(); ++p)
            if (p->bytes >= bytes && (best == pinned_.end() || p->bytes < best->bytes)) best = p;
        if (best != pinned_.end()) {
            const Pinned p = *best;
            pinned_.erase(best);
            return p;
        }
    }
    uint64_t size = 4096;
    while (size < bytes) size *= 2;
    void* p = nullptr;
    const Uncaptured kept(*this);
    const int status = driver_.host_allocate(&p, size, 0);
    if (status == ::cuda::kOutOfMemory) throw OutOfMemory("out of memory: " + text(size) + " bytes of page-locked host memory were asked for");
    check(status, "allocating " + text(size) + " bytes of page-locked host memory");
    return {static_cast<unsigned char*>(p), size};
}

void Device::give_back(Pinned pinned) const noexcept {
    if (!pinned.data || dead()) return;
    const std::lock_guard lock(mutex_);
    try {
        pinned_.push_back(pinned);
    } catch (const std::bad_alloc&) { driver_.host_free(pinned.data); }
}

Device::CancelFlag Device::cancel_flag() const {
    CancelFlag flag{0, true};
    {
        const std::lock_guard lock(mutex_);
        if (!flags_.empty()) flag = flags_.back(), flags_.pop_back();
    }
    const Uncaptured kept(*this);
    if (!flag.word) flag.word = allocate(sizeof(int), memory_stream_, "a cancel flag");
    if (!flag.raised) return flag;
    try {
        check(driver_.fill_async(flag.word, 0, sizeof(int), memory_stream_), "lowering a cancel flag");
        check(driver_.stream_synchronize(memory_stream_), "lowering a cancel flag");
    } catch (...) {
        give_back(flag);
        throw;
    }
    return {flag.word, false};
}

void Device::give_back(CancelFlag flag) const noexcept {
    if (!flag.word || dead()) return;
    const std::lock_guard lock(mutex_);
    try {
        flags_.push_back(flag);
    } catch (const std::bad_alloc&) { driver_.free_async(flag.word, memory_stream_); }
}

void Device::await(::cuda::Event event, const volatile int32_t* cancel, CancelFlag* flag) const {
    using namespace std::chrono;
    const Uncaptured waiting(*this); // a stream's thread waits at any time
    static constexpr int kRaised = 1;
    const auto began = steady_clock::now();
    while (flag && flag->word && !flag->raised) {
        const int status = driver_.event_query(event);
        if (status != ::cuda::kNotReady) return check(status, "waiting for a stream");
        if (*cancel) {
            flag->raised = true;
            check(driver_.to_device_async(flag->word, &kRaised, sizeof kRaised, memory_stream_), "raising a cancel flag"); // beside the kernel, not after it
        } else {
            std::this_thread::sleep_for(std::clamp<nanoseconds>((steady_clock::now() - began) / 8, microseconds(20), milliseconds(1)));
        }
    }
    check(driver_.event_synchronize(event), "waiting for a stream");
}

Memory::Memory(std::shared_ptr<const Device> device, uint64_t bytes, const char* what) : device_(std::move(device)), bytes_(bytes) {
    if (!bytes) return;
    const Device::Current current(*device_);
    const Device::Uncaptured kept(*device_);
    address_ = device_->allocate(bytes, device_->memory_stream(), what);
    device_->check(device_->driver().stream_synchronize(device_->memory_stream()), std::string("allocating ") + what);
}

Memory::~Memory() {
    if (!address_ || device_->dead()) return;
    try {
        const Device::Current current(*device_);
        const Device::Uncaptured kept(*device_);
        device_->free(address_, device_->memory_stream());
    } catch (const std::exception&) { // the context died meanwhile: its memory went with it
    }
}

} // namespace attn::cuda
