// no_cubins.cpp — of a library that carries no compiled kernels.
#include "embedded.hpp"

namespace attn::cuda {

const size_t kCubinCount = 0;
const EmbeddedCubin* const kCubins = nullptr;

} // namespace attn::cuda
