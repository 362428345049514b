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
# fake PROGRAM TEXT: a program in a tree of its own, whose root is first on elsewhere's PATH.
readonly tree=$scratch/tree
fake() {
    mkdir -p "$(dirname "$tree/$1")" && rm -f "$tree/$1"
    printf '%s\n' "$2" >"$tree/$1" && chmod +x "$tree/$1"
}
# elsewhere OPTION…: run.sh in that tree; then its summary in one line, without the seconds that were taken.
elsewhere() {
    local status
    PATH=$tree:$PATH PYTHONPATH=$tree "${emulated[@]}" "$tree/bench/gpu/run.sh" --out "$scratch/out" "$@"
    status=$?
    printf 'summary: ' && sed -E 's/ ?\(?[0-9]+ s([,)])/ (…\1/' "$scratch/out/summary.txt" | paste -sd'~'
    return $status
}
none=(env ATTENTION_CUDA=/no/driver)
emulated=(env "ATTENTION_CUDA=$build/tests/cuda/libfake_cuda.so" "ATTENTION_NVRTC=$build/tests/cuda/libfake_nvrtc.so")
check "statistics and rules of the timing" 0 "OK" python3 bench/gpu/measure_test.py
check "what every group of the timing must reach" 0 "OK" python3 bench/gpu/rows_test.py
check "a measurement begun again without what ended it" 0 "OK" python3 bench/gpu/restarts_test.py
check "the C ABI from Python on the CPU" 0 "OK" "${none[@]}" python3 bench/gpu/attention_test.py Layout OnCpu
check "the C ABI from Python on an emulated GPU" 0 "OK" "${emulated[@]}" python3 bench/gpu/attention_test.py OnCuda
check "the shared cases on an emulated GPU" 0 "PASSED  ] 9 tests" "${emulated[@]}" "$build/bench/gpu/device_cases" \
    --gtest_filter='*/one_cell_exactly_as_*:*/one_score_as_*:*/keep_hides_everything_as_*'
for program in device_cases host_time; do check "$program without a GPU" 3 "no CUDA d" "${none[@]}" "$build/bench/gpu/$program"; done
touch "$scratch/encoder.safetensors" "$scratch/reference-encoder.safetensors"
check "whisper.py without a GPU" 3 "no CUDA device" "${none[@]}" python3 bench/gpu/whisper.py "$scratch"
for script in timing.py two_kernels.py; do check "$script without a GPU" 3 "no CUDA device" "${none[@]}" python3 "bench/gpu/$script"; done
check "every stage without a GPU" 3 "ncu: no CUDA device" "${none[@]}" bench/gpu/run.sh --out "$build/gpu-out"
check "a stage that does not exist" 2 "one of build first-light" bench/gpu/run.sh --stage paint
check "a stage that no longer fits is skipped" 0 "timing: skipped, " "${emulated[@]}" bench/gpu/run.sh --out "$build/gpu-out" --budget 20 --stage timing
check "an interrupted run ends its stage and says so" 130 "ncu: interrupted" interrupted "${emulated[@]}" bench/gpu/run.sh --out "$build/gpu-out" --stage ncu

mkdir -p "$tree/bench/gpu" && ln -s "$PWD"/bench/gpu/* "$tree/bench/gpu"
fake build/gpu/bench/gpu/device_cases "#!/bin/sh"
fake torch.py ""
fake bench/gpu/timing.py 'import measure, sys, time
group = measure.Group("heads", "")
group.facts = {"fast": (1, "ms", 2), "slow": (3, "ms", 2)}
measure.write_json(sys.argv[2], {}, "", [group], ["heads", "dense"])
time.sleep(60)'
fake compute-sanitizer '#!/bin/sh
exit 1'
fake ncu '#!/bin/sh
for last; do [ "$file" = next ] && file=$last; [ "$last" = --log-file ] && file=next; done
cat >"$file" <<CSV
==PROF== Connected to process 1
"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value","Rule Name","Rule Type","Rule Description"
"0","flash_sm90<Shape90<128, 128>>","GPU Speed Of Light","Duration","us","123.4","","",""
"0","flash_sm90<Shape90<128, 128>>","GPU Speed Of Light","","","","SOLBottleneck","OPT","Low Throughput"
CSV'
summary="first-light: FAILED, exit 1 (…): build/gpu/bench/first_light/first_light is not built: the stage build makes it~"
summary+="timing: FAILED, its limit of 4 s was over~sanitizer: FAILED, exit 1 (…): -- synccheck~ncu: passed (…)~"
summary+="targets: 1 of 3 targets reached; SHORT: heads: slow; not measured: dense (all of it)"
check "a stage that fails and one that its limit cuts stop no later one, and what was measured is judged" 1 "$summary" \
    elsewhere --limit 4 --stage first-light --stage timing --stage sanitizer --stage ncu
check "what ncu says, by its columns' names" 0 "flash_sm90<Shape90<128, 128>> | Duration 123.4 us" cat "$scratch/out/run.log"
fake build/gpu/bench/first_light/first_light '#!/bin/sh'
check "whether a stage takes as long as it should" 0 "summary: first-light: passed (…, wanted <= 30 s: ok)" elsewhere --stage first-light
