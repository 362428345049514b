// embedded.hpp — the kernels' sources as the library carries them: native/kernels without comments, under the names by which they include each other.
// embed.cmake writes the definitions.
#pragma once
#include <cstddef>

namespace attn::cuda {

extern const size_t kEmbeddedCount;
extern const char* const kEmbeddedNames[];
extern const char* const kEmbeddedTexts[];

} // namespace attn::cuda
