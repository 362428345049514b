#!/bin/bash
# The .NET tests of a GPU over the driver without a GPU: managed.sh [--full] BUILD_FOLDER NUNIT_EXECUTABLE [LIBRARY [FILTER]]. Those that take little, two minutes
# in all; --full: every one but Whisper's whole layers, most of an hour; or those of a filter.
set -euo pipefail
full=false
[[ $1 == --full ]] && full=true && shift
build=$(cd "$1" && pwd)
export ATTENTION_CUDA=$build/tests/cuda/libfake_cuda.so ATTENTION_NVRTC=$build/tests/cuda/libfake_nvrtc.so ATTENTION_CACHE=off ATTENTION_EMULATED=1
export FAKE_CUDA_MB=4096 LD_LIBRARY_PATH=$build/tests/cuda/ilgpu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} # ILGPU finds its driver by name
ATTENTION_LIBRARY=$(realpath "${3:-$build/native/libattention.so}") && export ATTENTION_LIBRARY
if [[ ${4:-} ]]; then exec "$2" --filter "$4"; fi
if $full; then exec "$2" --filter "FullyQualifiedName~CudaTests|FullyQualifiedName~memory_of_ILGPU|FullyQualifiedName~cuda&FullyQualifiedName!~A_whole_layer" --minimum-expected-tests 1349; fi
few='FullyQualifiedName~LifetimeTests&FullyQualifiedName~flash|FullyQualifiedName~Batch_size|FullyQualifiedName~Memory_grows'
few+='|FullyQualifiedName~Head_dimensions&(FullyQualifiedName~200|FullyQualifiedName~256)'
for whole in ErrorTests ExplainTests MeterTests AsyncTests InteropTests PolicyTests ProcessTests RunTests ExplainCommandTests BenchCommandTests; do
    few+="|FullyQualifiedName~$whole"
done
exec "$2" --filter "FullyQualifiedName~CudaTests|FullyQualifiedName~memory_of_ILGPU|FullyQualifiedName~cuda&FullyQualifiedName!~Whisper&($few)" --minimum-expected-tests 444
