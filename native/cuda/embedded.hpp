// embedded.hpp — the kernels as the library carries them. Their sources: native/kernels without comments, under the names by which they include each other;
// embed.cmake writes the definitions. And what ATTENTION_AOT_ARCHS had compiled when the library was built: embed_cubins.cpp writes those, or no_cubins.cpp.
#pragma once
#include <cstddef>

namespace attn::cuda {

extern const size_t kEmbeddedCount;
extern const char* const kEmbeddedNames[];
extern const char* const kEmbeddedTexts[];

struct EmbeddedCubin {
    const char* row;
    int arch;            // 90 for compute capability 9.0
    const char* lowered; // the kernel's name in it
    const unsigned char* code;
    size_t bytes;
};
extern const size_t kCubinCount;
extern const EmbeddedCubin* const kCubins;

} // namespace attn::cuda
