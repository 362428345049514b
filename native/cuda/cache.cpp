#include "cache.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

namespace attn::cuda {
namespace {

constexpr char kMagic[] = "attention kernel 1\n", kEnding[] = ".kernel";
constexpr uint64_t kMegabyte = 1 << 20, kDefaultMegabytes = 256;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}
bool make_folders(const std::string& path) {
    for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) mkdir(path.substr(0, at).c_str(), 0777);
    mkdir(path.c_str(), 0777);
    struct stat s;
    return !stat(path.c_str(), &s) && S_ISDIR(s.st_mode);
}
bool ends_with(const std::string& text, const std::string& end) {
    return text.size() >= end.size() && !text.compare(text.size() - end.size(), end.size(), end);
}
std::string read_file(const std::string& path) {
    std::string text;
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return text;
    char part[65536];
    for (ssize_t n; (n = read(file, part, sizeof part)) > 0;) text.append(part, size_t(n));
    close(file);
    return text;
}
bool write_file(const std::string& path, const std::string& text) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) return false;
    size_t done = 0;
    while (done < text.size()) {
        const ssize_t n = write(file, text.data() + done, text.size() - done);
        if (n <= 0) break;
        done += size_t(n);
    }
    return (close(file) == 0) & (done == text.size());
}

void append(std::string& to, const std::string& field) { to += std::to_string(field.size()) + "\n" + field; }
bool take(const std::string& from, size_t& at, std::string& field) {
    const size_t end = from.find('\n', at);
    if (end == std::string::npos || end == at || end - at > 12) return false;
    size_t size = 0;
    for (; at < end; ++at) {
        if (from[at] < '0' || from[at] > '9') return false;
        size = size * 10 + size_t(from[at] - '0');
    }
    if (size > from.size() - ++at) return false;
    field = from.substr(at, size);
    at += size;
    return true;
}

} // namespace

uint64_t hash_of(const std::string& text) {
    uint64_t h = 0xcbf29ce484222325;
    for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return h;
}

DiskCache DiskCache::of_environment() {
    const uint64_t given = std::strtoull(variable("ATTENTION_CACHE_MB").c_str(), nullptr, 10), bound = (given ? given : kDefaultMegabytes) * kMegabyte;
    std::string folder = variable("ATTENTION_CACHE");
    if (folder == "off") return {"", bound};
    if (folder.empty()) {
        const std::string shared = variable("XDG_CACHE_HOME"), home = variable("HOME");
        if (!shared.empty()) folder = shared + "/attention/kernels";
        else if (!home.empty()) folder = home + "/.cache/attention/kernels";
    }
    return {folder, bound};
}

std::string DiskCache::path_of(const std::string& key) const {
    char name[17];
    std::snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(hash_of(key)));
    return folder_ + "/" + name + kEnding;
}

std::optional<Image> DiskCache::find(const std::string& key) const {
    if (folder_.empty()) return {};
    const std::string path = path_of(key), text = read_file(path);
    std::string known, sum;
    Image image;
    size_t at = sizeof kMagic - 1;
    if (text.compare(0, at, kMagic) || !take(text, at, known) || known != key || !take(text, at, image.lowered) || !take(text, at, image.code) ||
        !take(text, at, sum) || at != text.size() || sum != std::to_string(hash_of(image.lowered + image.code)))
        return {};
    utimensat(AT_FDCWD, path.c_str(), nullptr, 0); // used now: not the oldest
    return image;
}

void DiskCache::put(const std::string& key, const Image& image) const {
    if (folder_.empty() || !make_folders(folder_)) return;
    std::string text = kMagic;
    append(text, key), append(text, image.lowered), append(text, image.code), append(text, std::to_string(hash_of(image.lowered + image.code)));
    static std::atomic<unsigned> count{0};
    const std::string path = path_of(key), own = path + "." + std::to_string(getpid()) + "." + std::to_string(++count) + ".new";
    if (!write_file(own, text) || rename(own.c_str(), path.c_str())) unlink(own.c_str());
    else evict(path);
}

void DiskCache::drop(const std::string& key) const {
    if (!folder_.empty()) unlink(path_of(key).c_str());
}

void DiskCache::evict(const std::string& newest) const {
    struct Entry {
        timespec used;
        uint64_t bytes;
        std::string path;
    };
    std::vector<Entry> entries;
    uint64_t bytes = 0;
    DIR* folder = opendir(folder_.c_str());
    if (!folder) return;
    while (const dirent* e = readdir(folder)) {
        const std::string name = e->d_name, path = folder_ + "/" + name;
        struct stat s;
        if (stat(path.c_str(), &s)) continue;
        if (ends_with(name, ".new") && name.find(kEnding) != std::string::npos) { // of a process that ended while it wrote
            if (s.st_mtim.tv_sec + 3600 < time(nullptr)) unlink(path.c_str());
        } else if (ends_with(name, kEnding)) {
            entries.push_back({s.st_mtim, uint64_t(s.st_size), path});
            bytes += uint64_t(s.st_size);
        }
    }
    closedir(folder);
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.used.tv_sec != b.used.tv_sec ? a.used.tv_sec < b.used.tv_sec : a.used.tv_nsec < b.used.tv_nsec; });
    for (const Entry& e : entries) {
        if (bytes <= most_bytes_) return;
        if (e.path == newest) continue;
        unlink(e.path.c_str());
        bytes -= e.bytes;
    }
}

} // namespace attn::cuda
