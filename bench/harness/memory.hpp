// memory.hpp — memory on huge pages: on 4 KB pages a virtual machine reads at a speed that depends on its neighbours.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace harness {

class Memory {
public:
    Memory() = default;
    explicit Memory(size_t bytes) : bytes_((bytes + kPage - 1) / kPage * kPage) {
        if (!bytes_) return;
        void* whole = mmap(nullptr, bytes_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (whole == MAP_FAILED) throw std::bad_alloc();
        const auto begin = reinterpret_cast<uintptr_t>(whole), aligned = (begin + kPage - 1) / kPage * kPage;
        data_ = reinterpret_cast<unsigned char*>(aligned);
        if (aligned > begin) munmap(whole, aligned - begin);
        if (aligned < begin + kPage) munmap(data_ + bytes_, begin + kPage - aligned);
        madvise(data_, bytes_, MADV_HUGEPAGE); // advice: without it the pages are small and the machine's line in the report says so
        for (size_t at = 0; at < bytes_; at += 4096) data_[at] = 0;
    }
    Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Memory& operator=(Memory&& other) noexcept {
        std::swap(data_, other.data_), std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Memory() {
        if (data_) munmap(data_, bytes_);
    }
    unsigned char* data() const { return data_; }
    size_t bytes() const { return bytes_; }
    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }

private:
    static constexpr size_t kPage = size_t(2) << 20;
    unsigned char* data_ = nullptr;
    size_t bytes_ = 0;
};

} // namespace harness
