// compile.hpp — a row of kernels.def for an architecture: from the process, the library itself, from disk, or from NVRTC; compiled at most once, whoever asks
// meanwhile waits.
#pragma once
#include <atomic>
#include <memory>

#include "../kernels/rows.hpp"
#include "cache.hpp"

namespace attn::cuda {

const std::vector<kernels::Row>& rows(); // of kernels.def, made once

// `arch`: 90 for compute capability 9.0. A GPU newer than NVRTC gets PTX of the newest architecture that NVRTC knows. Throws with NVRTC's log.
std::shared_ptr<const Image> image_of(const kernels::Row& row, int arch);
// The images of several rows (1 or more), made at the same time; of what goes wrong the first row's error is thrown, once all have ended.
void compile_together(const kernels::Row* const* rows, size_t count, int arch);
// An image that the driver would not load: not to be had again. False: it was fresh from NVRTC, and there is no other.
bool forget(const kernels::Row& row, int arch, const std::shared_ptr<const Image>& image);

bool nvrtc_knows(int arch);           // there must be one
bool embeds(int arch);                // the library carries kernels that such a GPU runs
std::string embedded_architectures(); // "sm_80 sm_90a"

struct CompileCounts {
    std::atomic<int64_t> compiled{0}, from_disk{0}, embedded{0}; // since the process began
};
CompileCounts& compile_counts();
const DiskCache& disk_cache(); // as the environment said when it was first asked

} // namespace attn::cuda
