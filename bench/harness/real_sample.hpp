// real_sample.hpp — the real sample of bench/data: a safetensors file whose arrays are read by name.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace harness {

struct RealSample {
    explicit RealSample(const std::string& path);
    std::array<int64_t, 4> shape{}; // of Q, K and V: [B, H, S, D], float16
    std::vector<unsigned char> Q, K, V;
    std::vector<int32_t> key_lengths;
};

} // namespace harness
