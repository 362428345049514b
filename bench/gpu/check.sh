#!/usr/bin/env bash
# What can be said of bench/gpu without a GPU, one line a check: check.sh BUILD_FOLDER, configured with ATTENTION_EMULATOR.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=$(cd "$1" && pwd) || exit 1
export PYTHONDONTWRITEBYTECODE=1 ATTENTION_LIBRARY=$build/native/libattention.so ATTENTION_CACHE=off

# check NAME STATUS WORDS COMMAND…: the command ends with the status and says the words.
check() {
    local name=$1 status=$2 words=$3 output met
    shift 3
    output=$("$@" 2>&1 </dev/null)
    met=$?
    if [[ $met == "$status" && $output == *"$words"* ]]; then printf 'ok - %s\n' "$name"
    else printf 'not ok - %s: exit %s instead of %s\n%s\n' "$name" "$met" "$status" "$(tail -n 20 <<<"$output")"; fi
}
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
# interrupted COMMAND…: with Ctrl-C once the stage ncu runs, which is a program here that only sleeps; says whether that is gone too.
interrupted() {
    printf '#!/bin/sh\necho $$ >"%s/started.new" && mv "%s/started.new" "%s/started"\nexec sleep 60\n' "$scratch" "$scratch" "$scratch" >"$scratch/ncu"
    chmod +x "$scratch/ncu"
    PATH=$scratch:$PATH python3 - "$scratch/started" "$@" <<'PYTHON'
import os, pathlib, signal, subprocess, sys, time
started, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
run = subprocess.Popen(command, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
while not started.exists() and run.poll() is None:
    time.sleep(0.01)
os.killpg(run.pid, signal.SIGINT)
status = run.wait()
for _ in range(500):
    try:
        os.kill(int(started.read_text()), 0)
    except ProcessLookupError:
        sys.exit(status)
    time.sleep(0.01)
print("the stage lives on", flush=True)
PYTHON
}
none=(env ATTENTION_CUDA=/no/driver)
emulated=(env "ATTENTION_CUDA=$build/tests/cuda/libfake_cuda.so" "ATTENTION_NVRTC=$build/tests/cuda/libfake_nvrtc.so")
check "statistics and rules of the timing" 0 "OK" python3 bench/gpu/measure_test.py
check "a measurement begun again without what ended it" 0 "OK" python3 bench/gpu/restarts_test.py
check "the C ABI from Python on the CPU" 0 "OK" "${none[@]}" python3 bench/gpu/attention_test.py Layout OnCpu
check "the C ABI from Python on an emulated GPU" 0 "OK" "${emulated[@]}" python3 bench/gpu/attention_test.py OnCuda
check "the shared cases on an emulated GPU" 0 "PASSED  ] 9 tests" "${emulated[@]}" "$build/bench/gpu/device_cases" \
    --gtest_filter='*/one_cell_exactly_as_*:*/one_score_as_*:*/keep_hides_everything_as_*'
for program in device_cases host_time; do check "$program without a GPU" 3 "no CUDA d" "${none[@]}" "$build/bench/gpu/$program"; done
for script in timing.py two_kernels.py; do check "$script without a GPU" 3 "no CUDA device" "${none[@]}" python3 "bench/gpu/$script"; done
check "every stage without a GPU" 3 "ncu: no CUDA device" "${none[@]}" bench/gpu/run.sh --out "$build/gpu-out"
check "a stage that does not exist" 2 "one of build first-light" bench/gpu/run.sh --stage paint
check "a stage that no longer fits is skipped" 0 "timing: skipped, " "${emulated[@]}" bench/gpu/run.sh --out "$build/gpu-out" --budget 20 --stage timing
check "an interrupted run ends its stage and says so" 130 "ncu: interrupted" interrupted "${emulated[@]}" bench/gpu/run.sh --out "$build/gpu-out" --stage ncu
