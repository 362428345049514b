# The CUDA kernels on a machine without a GPU: run in the emulator, compiled by NVRTC, read in machine code. Sourced by test.sh.
readonly emulator=build/emulator/tests/emulator cubins=build/emulator/cubins
required build "build of the emulator" bash -c "cmake -S . -B build/emulator -G Ninja -DATTENTION_EMULATOR=ON &&
    cmake --build build/emulator --parallel $jobs --target emulator_tests check_cubins check_sass first_light cuda_tests device_cases host_time"
checks "every kernel in the emulator" env $($full && echo ATTENTION_FULL=1) tests/emulator/run.sh $emulator/emulator_tests
if $full; then
    checks "faults planted in the kernels are found" tests/emulator/faults.sh
else
    checks "faults can still be planted in the kernels" tests/emulator/faults.sh --anchors
fi

if run "NVRTC" tests/cubins/fetch_nvrtc.sh; then
    rm -rf "$cubins" && mkdir -p "$cubins"
    check "every kernel compiles: no spills, registers as in the table, in a first use's time" env ATTENTION_NVRTC="${ATTENTION_NVRTC:-$root/.cache/nvrtc/libnvrtc.so.12}" \
        $emulator/check_cubins native/kernels tests/cubins/registers.txt --cubins "$cubins" --most-seconds 300
    for arch in sm_80 sm_90a; do
        check "first_light's kernels compile for $arch" env ATTENTION_NVRTC="${ATTENTION_NVRTC:-$root/.cache/nvrtc/libnvrtc.so.12}" \
            build/emulator/bench/first_light/first_light --compile-only $arch
    done
    if run "nvdisasm" tests/cubins/fetch_nvrtc.sh --disassembler; then
        check "machine code as in the table, no register touched in flight or given back" \
            $emulator/check_sass "$cubins" "$root/.cache/nvrtc/nvdisasm" tests/cubins/sass.txt
        check "hazards planted in the machine code are found" $emulator/check_sass "$cubins" "$root/.cache/nvrtc/nvdisasm" --plant
    else
        skip "machine code as in the table, hazards planted in it" "nvdisasm cannot be fetched: $(tail -n 1 "$log")"
    fi
else
    skip "every kernel compiles, first_light's too" "NVRTC cannot be fetched: $(tail -n 1 "$log")"
fi
googletest "the CUDA device over a driver without a GPU" build/emulator/tests/cuda/cuda_tests
checks "what a machine with a GPU will be asked, without one" bench/gpu/check.sh build/emulator
check "a GPU's API over a driver without one" tests/cuda/managed.sh $($full && echo --full) build/emulator $nunit_tests build/release/native/libattention.so
