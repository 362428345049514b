// rows.hpp — the rows of the table of speed that the library alone can answer. Those beside ONNX Runtime are in bench/peers.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "group.hpp"

namespace harness {

struct Setting {
    int threads;
    std::string sample; // bench/data/sample.safetensors
};

struct Entry {
    std::string name, description;
    std::function<Group(const Setting&)> make; // with all its data; only one group lies in memory
};
const std::vector<Entry>& entries();

} // namespace harness
