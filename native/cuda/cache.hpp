// cache.hpp — compiled kernels kept on disk. An entry says its whole key, so that a file with another's name is not taken for it; what is damaged, foreign or
// from another version is as good as absent. Any number of processes may use one folder: an entry is written under a name of its own and then renamed.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace attn::cuda {

// What compiling made.
struct Image {
    std::string lowered; // the kernel's name in it
    std::string code;    // a cubin, or PTX
};

class DiskCache {
public:
    DiskCache(std::string folder, uint64_t most_bytes) : folder_(std::move(folder)), most_bytes_(most_bytes) {}
    // ATTENTION_CACHE names the folder ("off": none); otherwise attention/kernels in XDG_CACHE_HOME or ~/.cache. ATTENTION_CACHE_MB bounds it: 256.
    static DiskCache of_environment();

    const std::string& folder() const { return folder_; } // "": none
    std::optional<Image> find(const std::string& key) const;
    void put(const std::string& key, const Image& image) const; // best effort; then the oldest entries above the bound go
    void drop(const std::string& key) const;

private:
    std::string path_of(const std::string& key) const;
    void evict(const std::string& newest) const;
    std::string folder_;
    uint64_t most_bytes_;
};

uint64_t hash_of(const std::string& text); // FNV-1a

} // namespace attn::cuda
