// machine.hpp — what was measured on, so that a number can be judged later.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace harness {

// Names and values, in the order they are printed: processor, CPUs, caches, memory, kernel, huge pages, library, commit, date.
std::vector<std::pair<std::string, std::string>> machine();

} // namespace harness
