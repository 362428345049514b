// refusal.hpp — why a backend does not take a problem: a reason, the number met, the limit, and a sentence with both.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace attn {

enum class Reason : int32_t {
    dtype = 1,
    probabilities = 2,
    last_stride = 3,
    head_dim = 4,
    value_dim = 5,
    architecture = 6,
    alignment = 7,
    size = 8
}; // attn_refusal_reason

struct Refusal {
    Reason reason;
    int64_t met, limit;
    std::string text;
};
using Refusals = std::vector<Refusal>;

} // namespace attn
