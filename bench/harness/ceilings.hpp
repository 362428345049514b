// ceilings.hpp — what the machine can do at this moment, on as many threads as the kernels use.
#pragma once
#include <cstddef>
#include <string>

namespace harness {

// Seconds of a fixed amount of independent FMAs in registers; `flops` receives how many operations (two an FMA).
double fma_seconds(const std::string& instruction_set, int threads, double& flops);

// Seconds of reading `bytes` once, each thread its share, software prefetch included where it helps: the better of both.
double read_seconds(const unsigned char* data, size_t bytes, int threads);

} // namespace harness
