#!/bin/bash
# The .NET tests of a GPU's own API over the driver without a GPU: managed.sh BUILD_FOLDER NUNIT_EXECUTABLE [LIBRARY]
set -euo pipefail
build=$(cd "$1" && pwd)
export ATTENTION_CUDA=$build/tests/cuda/libfake_cuda.so ATTENTION_NVRTC=$build/tests/cuda/libfake_nvrtc.so ATTENTION_CACHE=off
ATTENTION_LIBRARY=$(realpath "${3:-$build/native/libattention.so}") && export ATTENTION_LIBRARY
exec "$2" --filter 'FullyQualifiedName~CudaTests' --minimum-expected-tests 14
