// other_options.cpp — compile.cpp of a library that compiles its kernels with one option less.
#include "../../native/kernels/rows.hpp"

namespace kernels {
constexpr const char* kOtherOptions[] = {kOptions[0], kOptions[1], kOptions[2]};
static_assert(std::size(kOtherOptions) + 1 == std::size(kOptions));
} // namespace kernels
#define kOptions kOtherOptions
#include "../../native/cuda/compile.cpp"
