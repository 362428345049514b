#!/bin/bash
# The .NET tests of a GPU over the driver without a GPU: managed.sh BUILD_FOLDER NUNIT_EXECUTABLE [LIBRARY [FILTER]]. Without a filter those that take little;
# FullyQualifiedName~cuda is the rest of them and takes most of an hour.
set -euo pipefail
build=$(cd "$1" && pwd)
export ATTENTION_CUDA=$build/tests/cuda/libfake_cuda.so ATTENTION_NVRTC=$build/tests/cuda/libfake_nvrtc.so ATTENTION_CACHE=off ATTENTION_EMULATED=1
export FAKE_CUDA_MB=4096
ATTENTION_LIBRARY=$(realpath "${3:-$build/native/libattention.so}") && export ATTENTION_LIBRARY
if [[ ${4:-} ]]; then exec "$2" --filter "$4"; fi
fixtures='FullyQualifiedName~ErrorTests|FullyQualifiedName~ExplainTests|FullyQualifiedName~MeterTests|FullyQualifiedName~AsyncTests'
fixtures+='|FullyQualifiedName~LifetimeTests&FullyQualifiedName~flash'
commands='FullyQualifiedName~RunTests|FullyQualifiedName~ExplainCommandTests|FullyQualifiedName~BenchCommandTests'
exec "$2" --filter "FullyQualifiedName~CudaTests|FullyQualifiedName~cuda&FullyQualifiedName!~Whisper&($fixtures|$commands)" --minimum-expected-tests 401
