// problem.hpp — an attn_problem checked, and turned into the model's Problem.
#pragma once
#include "../model/problem.hpp"
#include "error.hpp"

namespace attn::abi {

Problem checked_problem(const attn_problem* problem); // throws ATTN_INVALID_ARGUMENT or ATTN_NOT_SUPPORTED

// The dimension of a right-aligned broadcast array must be 1 or `full`.
void check_broadcast(const char* name, const int64_t (&shape)[4], const Problem& problem);

} // namespace attn::abi
