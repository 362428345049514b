// problem.cuh — the arguments of a kernel beside the verbs that reach them.
#pragma once
#include "ptx.cuh"
#include "arguments.cuh"
