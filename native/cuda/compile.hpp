// compile.hpp — a row of kernels.def for an architecture: from the process, from disk, or from NVRTC; compiled at most once, whoever asks meanwhile waits.
#pragma once
#include <atomic>
#include <memory>

#include "../kernels/rows.hpp"
#include "cache.hpp"

namespace attn::cuda {

const std::vector<kernels::Row>& rows(); // of kernels.def, made once

// `arch`: 90 for compute capability 9.0. A GPU newer than NVRTC gets PTX of the newest architecture that NVRTC knows. Throws with NVRTC's log.
std::shared_ptr<const Image> image_of(const kernels::Row& row, int arch);
void forget(const kernels::Row& row, int arch); // an image that the driver would not load: here and on disk

struct CompileCounts {
    std::atomic<int64_t> compiled{0}, from_disk{0}; // since the process began
};
CompileCounts& compile_counts();
const DiskCache& disk_cache(); // as the environment said when it was first asked

} // namespace attn::cuda
