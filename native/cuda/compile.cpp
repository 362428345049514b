#include "compile.hpp"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "embedded.hpp"
#include "library.hpp"

namespace attn::cuda {
namespace {

// What NVRTC is asked for.
struct Target {
    std::string option;
    bool cubin;
};
std::vector<int> known_architectures() {
    const Nvrtc& nvrtc = library().nvrtc;
    int count = 0;
    nvrtc.architectures(&count);
    std::vector<int> known(size_t(std::max(count, 1)));
    nvrtc.architecture_list(known.data());
    return known;
}
Target target_of(int arch) {
    if (!library().nvrtc_version)
        throw Unavailable("no NVRTC to compile a kernel for " + kernels::real_name(arch) + ", of which the library carries none that the driver takes");
    if (nvrtc_knows(arch)) // that of CUDA 11.8 knows Hopper without its own instructions
        return {"--gpu-architecture=" + (library().nvrtc_version < 12000 ? "sm_" + std::to_string(arch) : kernels::real_name(arch)), true};
    int newest = 0; // not newer than the GPU
    for (const int a : known_architectures())
        if (a < arch) newest = std::max(newest, a);
    if (!newest) throw Unavailable("NVRTC (" + library().nvrtc.path + ") does not know sm_" + std::to_string(arch) + ", nor anything older");
    return {"--gpu-architecture=compute_" + std::to_string(newest), false};
}

std::string key_of(const kernels::Row& row, const Target& target) {
    static const std::string source = [] {
        std::string all;
        for (size_t i = 0; i < kEmbeddedCount; ++i) all += std::string(kEmbeddedNames[i]) + "\n" + kEmbeddedTexts[i];
        return std::to_string(hash_of(all)) + "/" + std::to_string(all.size());
    }();
    std::string key = row.expression + "\nsource " + source + "\nNVRTC " + std::to_string(library().nvrtc_version) + "\n" + target.option;
    for (const char* option : kernels::kOptions) key += std::string(" ") + option;
    return key;
}

Image compiled(const kernels::Row& row, const Target& target) {
    const Nvrtc& nvrtc = library().nvrtc;
    Nvrtc::Program program = nullptr;
    struct Destroyed {
        const Nvrtc& nvrtc;
        Nvrtc::Program& program;
        ~Destroyed() { nvrtc.destroy(&program); }
    } destroyed{nvrtc, program};
    int status = nvrtc.create(&program, ("#include \"" + row.file + "\"\n").c_str(), "attention.cu", int(kEmbeddedCount), kEmbeddedTexts, kEmbeddedNames);
    if (!status) status = nvrtc.add_name(program, row.expression.c_str());
    const char* options[std::size(kernels::kOptions) + 1] = {target.option.c_str()};
    std::copy(std::begin(kernels::kOptions), std::end(kernels::kOptions), options + 1);
    if (!status) status = nvrtc.compile(program, int(std::size(options)), options);
    size_t size = 0;
    if (status) {
        std::string log;
        if (program && !nvrtc.log_size(program, &size) && size) log.resize(size), nvrtc.log(program, log.data());
        throw std::runtime_error("NVRTC (" + nvrtc.path + ") failed with " + std::to_string(status) + " on " + row.name + " for " + target.option + ": " +
                                 log.c_str());
    }
    Image image;
    const char* lowered = nullptr;
    (target.cubin ? nvrtc.cubin_size : nvrtc.ptx_size)(program, &size);
    image.code.resize(size);
    (target.cubin ? nvrtc.cubin : nvrtc.ptx)(program, image.code.data());
    if (nvrtc.lowered_name(program, row.expression.c_str(), &lowered))
        throw std::runtime_error("NVRTC does not know " + row.expression + " after compiling it");
    image.lowered = lowered;
    return image;
}

// A cubin runs on its architecture and on those of the same major version after it.
bool runs(const EmbeddedCubin& cubin, int arch) { return cubin.arch / 10 == arch / 10 && cubin.arch <= arch; }
const EmbeddedCubin* embedded(const kernels::Row& row, int arch) {
    const EmbeddedCubin* best = nullptr;
    for (size_t i = 0; i < kCubinCount; ++i)
        if (row.name == kCubins[i].row && runs(kCubins[i], arch) && (!best || best->arch < kCubins[i].arch)) best = &kCubins[i];
    return best;
}

enum class Source { library, disk, nvrtc }; // in the order in which they are asked
struct Entry {
    std::mutex mutex;
    std::shared_ptr<const Image> image;
    Source from = Source::library, first = Source::library; // first: what comes before it had an image that the driver refused
};
Entry& entry_of(const kernels::Row& row, int arch) {
    static std::mutex mutex;
    static auto& entries = *new std::map<std::string, Entry>;
    const std::lock_guard lock(mutex);
    return entries[row.name + " " + std::to_string(arch)];
}

} // namespace

const std::vector<kernels::Row>& rows() {
    static const auto& all = *new std::vector<kernels::Row>(kernels::rows());
    return all;
}

CompileCounts& compile_counts() {
    static CompileCounts& counts = *new CompileCounts;
    return counts;
}

const DiskCache& disk_cache() {
    static const DiskCache& cache = *new DiskCache(DiskCache::of_environment());
    return cache;
}

std::shared_ptr<const Image> image_of(const kernels::Row& row, int arch) {
    Entry& entry = entry_of(row, arch);
    const std::lock_guard lock(entry.mutex); // whoever asks meanwhile waits for the one compilation
    if (entry.image) return entry.image;
    const auto take = [&](Source from, Image&& image, std::atomic<int64_t>& count) {
        ++count;
        entry.from = from;
        return entry.image = std::make_shared<const Image>(std::move(image));
    };
    if (entry.first == Source::library)
        if (const EmbeddedCubin* cubin = embedded(row, arch))
            return take(Source::library, {cubin->lowered, {reinterpret_cast<const char*>(cubin->code), cubin->bytes}}, compile_counts().embedded);
    const Target target = target_of(arch);
    const std::string key = key_of(row, target);
    if (entry.first <= Source::disk)
        if (auto found = disk_cache().find(key)) return take(Source::disk, std::move(*found), compile_counts().from_disk);
    const auto image = take(Source::nvrtc, compiled(row, target), compile_counts().compiled);
    disk_cache().put(key, *image);
    return image;
}

void compile_together(const kernels::Row* const* rows, size_t count, int arch) {
    std::vector<std::exception_ptr> wrong(count);
    const auto compile = [&](size_t i) {
        try {
            image_of(*rows[i], arch);
        } catch (...) { wrong[i] = std::current_exception(); }
    };
    std::vector<std::thread> threads;
    threads.reserve(count);
    size_t next = 1;
    try {
        for (; next < count; ++next) threads.emplace_back(compile, next);
    } catch (const std::system_error&) {} // no thread is to be had: this one does the rest
    compile(0);
    for (; next < count; ++next) compile(next);
    for (std::thread& t : threads) t.join();
    for (const std::exception_ptr& e : wrong)
        if (e) std::rethrow_exception(e);
}

bool forget(const kernels::Row& row, int arch, const std::shared_ptr<const Image>& image) {
    Entry& entry = entry_of(row, arch);
    const std::lock_guard lock(entry.mutex);
    if (entry.image != image) return true; // somebody else's context found another meanwhile
    entry.image = nullptr;
    if (entry.from != Source::library) disk_cache().drop(key_of(row, target_of(arch)));
    if (entry.from == Source::nvrtc) return false;
    entry.first = entry.from == Source::library ? Source::disk : Source::nvrtc;
    return true;
}

bool nvrtc_knows(int arch) {
    const std::vector<int> known = known_architectures();
    return std::find(known.begin(), known.end(), arch) != known.end();
}

bool embeds(int arch) {
    return std::any_of(kCubins, kCubins + kCubinCount, [&](const EmbeddedCubin& cubin) { return runs(cubin, arch); });
}

std::string embedded_architectures() {
    std::string all;
    int last = 0; // they lie by architecture
    for (size_t i = 0; i < kCubinCount; ++i)
        if (const int arch = kCubins[i].arch; arch != last) all += (all.empty() ? "" : " ") + kernels::real_name(last = arch);
    return all;
}

} // namespace attn::cuda
