#!/usr/bin/env bash
# Everything a machine with a GPU is asked, in stages. See bench/gpu/run.sh --help and bench/gpu/README.md.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
readonly root=$PWD self=$PWD/bench/gpu/run.sh build=$PWD/build/gpu
# NAME:LIMIT:LEAST:WANTED: its time limit, the seconds under which it is not worth beginning, and those that it should take.
readonly stages=(build:120:30:60 first-light:90:15:30 cases:120:25 whisper:90:35 timing:240:60 nunit:100:25 sanitizer:80:25 ncu:60:20)

usage() {
    cat <<'USAGE'
bench/gpu/run.sh [--stage NAME]... [--budget SECONDS] [--limit SECONDS] [--out FOLDER] [--bundle FOLDER] [--anyway]

  --stage NAME      build, first-light, cases, whisper, timing, nunit, sanitizer or ncu; may be given several times (default: all, in this order)
  --budget SECONDS  skips stages that no longer fit, and says so
  --limit SECONDS   no stage has more
  --out FOLDER      where results go (default: $OUT, else build/gpu/out): run.log, summary.txt, timing.json, timing.md, whisper.json, whisper.md, ncu.csv
  --bundle FOLDER   what ./build.sh gpu-bundle made (default: build/gpu-bundle)
  --anyway          runs the stages where there is no CUDA device: what needs none is done, the rest says so

ATTENTION_TIMING="--no-flex --only whisper" hands options to timing.py. Each stage has its own time limit; one that fails stops no other.
Exit: 0; 1 a stage failed; 2 bad usage; 3 no CUDA device; 130 interrupted.
USAGE
}

has_device() {
    python3 - <<'PYTHON'
import ctypes, os, sys
try:
    cuda, count = ctypes.CDLL(os.environ.get("ATTENTION_CUDA") or "libcuda.so.1"), ctypes.c_int()
except OSError:
    sys.exit(1)
sys.exit(0 if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value else 1)
PYTHON
}

# PyTorch's own NVRTC where it has one, so that one process holds one; else the toolkit's.
find_nvrtc() {
    local found
    found=$(python3 -c 'import glob, importlib.util as u
s = u.find_spec("torch")
print(*glob.glob(s.origin.rsplit("/", 2)[0] + "/nvidia/*/lib/libnvrtc.so.1[0-9]") if s else "")' 2>/dev/null)
    found=${found%% *}
    [[ $found ]] || for found in /usr/local/cuda/lib64/libnvrtc.so.1[0-9] /usr/local/cuda*/{lib64,targets/x86_64-linux/lib}/libnvrtc.so.1[0-9]; do
        [[ -e $found ]] && break
        found=
    done
    [[ $found ]] && export ATTENTION_NVRTC=$found
}

# unpacked NAME: the bundle's archive NAME.tar.xz, unpacked below build/gpu once; prints the folder.
unpacked() {
    local to=$build/$1
    if [[ ! -d $to ]]; then
        [[ -f $bundle/$1.tar.xz ]] || { printf '%s has no %s.tar.xz; ./build.sh gpu-bundle makes it\n' "$bundle" "$1" >&2; return 1; }
        mkdir -p "$to.unfinished"
        { tar -xJf "$bundle/$1.tar.xz" -C "$to.unfinished" 2>/dev/null ||
            python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$bundle/$1.tar.xz" "$to.unfinished"; } || return 1
        mv "$to.unfinished" "$to"
    fi
    printf '%s\n' "$to"
}

library_of() { # the one built here, else the bundle's
    local folder=$build/native
    [[ -f $folder/libattention.so ]] || folder=$(unpacked net 2>/dev/null) || return 1
    printf '%s/libattention.so\n' "$folder"
}
needs() { # PROGRAM…: what the build stage leaves
    local program
    for program in "$@"; do [[ -x $program ]] || { printf '%s is not built: the stage build makes it\n' "${program#"$root"/}"; return 1; }; done
}
has_torch() { python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' || { echo "python3 has no torch"; return 1; }; }

stage_build() {
    # PyTorch is gigabytes: what the later stages import is read while the compiler works.
    python3 -c 'import torch, transformers.models.whisper.modeling_whisper as _; torch.zeros(1, device="cuda")' >/dev/null 2>&1 &
    local -a gtest=(-DATTENTION_TESTS=OFF)
    local folder start=$SECONDS
    if [[ -e /usr/include/gtest/gtest.h ]]; then gtest=(-DATTENTION_TESTS=ON)
    elif folder=$(unpacked gtest); then gtest=(-DATTENTION_TESTS=ON -DGTest_DIR="$folder/lib/x86_64-linux-gnu/cmake/GTest"); fi
    cmake -S . -B "$build" -G Ninja -DATTENTION_GPU=ON -DATTENTION_BENCH=ON "${gtest[@]}" >/dev/null &&
        ninja -C "$build" first_light host_time || return 1
    printf 'the library, first_light and host_time: %d s\n' $((SECONDS - start))
    # The rest is not worth losing the library for.
    ninja -C "$build" -k 0 || return 1
    printf 'all: %d s\n' $((SECONDS - start))
}

stage_first-light() {
    needs "$build/bench/first_light/first_light" || return 1
    "$build/bench/first_light/first_light"
}

# The shared cases in as many processes as help; each has every n-th.
stage_cases() {
    local exe=$build/bench/gpu/device_cases logs=$build/cases n i status=0 worst=0
    local -a pids=()
    needs "$exe" || return 1
    rm -rf "$logs" && mkdir -p "$logs"
    n=$(nproc); ((n > 14)) && n=14
    trap : TERM # at the time limit the processes end, and what they met is told
    for ((i = 0; i < n; ++i)); do
        GTEST_TOTAL_SHARDS=$n GTEST_SHARD_INDEX=$i "$exe" >"$logs/$i" 2>&1 &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || { status=$?; ((status > worst)) && worst=$status; }; done
    grep -hvE '^(ran|\[|Note:|Running main)' "$logs"/* | head -150
    grep -h '^\[  FAILED  \] Cases' "$logs"/* | sed 's/ ([0-9]* ms)$//' | sort -u | head -60
    for i in "$logs"/*; do # a case that hangs, or that ended its process
        awk '/^\[ RUN / { at = $4 } /^\[ +(OK|FAILED) / { at = "" } END { if (at != "") print "did not end: " at }' "$i"
    done
    awk '/^ran/ { sub(":", "", $3); all[$4] += $2 } END { for (kernel in all) printf "ran %5d times: %s\n", all[kernel], kernel }' "$logs"/* | sort -k4
    printf '%d processes, %d tests passed\n' "$n" "$(awk '/^\[ +OK / { ++count } END { print count + 0 }' "$logs"/*)"
    return $worst
}

stage_timing() {
    has_torch || return 1
    python3 bench/gpu/timing.py --json "$out/timing.json" --table "$out/timing.md" --budget $((limit > 40 ? limit - 20 : limit)) "${timing_options[@]}"
}

stage_whisper() {
    local folder=../shared/whisper
    has_torch || return 1
    [[ -f $folder/encoder.safetensors ]] || folder=$(unpacked whisper) || return 1
    python3 bench/gpu/whisper.py "$folder" --json "$out/whisper.json" --table "$out/whisper.md" --budget $((limit > 30 ? limit - 12 : limit))
}

# The .NET suite, carrying its runtime: the GPU's own tests first, then those that run on every device, on the GPU, so that a limit cuts the rest. ONNX
# Runtime stays at home, and with it two tests.
stage_nunit() {
    local folder status=0
    local -a how=(--no-ansi --progress off --output Normal)
    folder=$(unpacked net) || return 1
    export ATTENTION_REPOSITORY=$root DOTNET_gcServer=0
    chmod +x "$folder/Attention.Tests" "$folder/attn"
    "$folder/attn" info || status=1
    local name others=
    for name in CudaTests InteropTests ONNX Another_library; do others+="&FullyQualifiedName!~$name"; done
    for name in 'FullyQualifiedName~CudaTests|FullyQualifiedName~InteropTests' "FullyQualifiedName~cuda$others" "FullyQualifiedName!~cuda$others"; do
        "$folder/Attention.Tests" "${how[@]}" --filter "$name" || status=1
    done
    return $status
}

stage_sanitizer() {
    local exe=$build/bench/gpu/device_cases tool status=0
    needs "$exe" || return 1
    command -v compute-sanitizer >/dev/null || { echo "there is no compute-sanitizer"; return 1; }
    local name filter=
    for name in one_key_past_a_cell key_lengths keep_hides_half documents one_query__many_keys head_dimension_256 bias_hides keep_for_each_head_of_a_group; do
        filter+="*/${name}_as_*:"
    done
    for tool in memcheck racecheck synccheck; do
        printf -- '-- %s\n' "$tool"
        timeout -k 5 $((limit / 3)) compute-sanitizer --tool $tool --error-exitcode 9 "$exe" --gtest_brief=1 --gtest_filter="$filter" 2>&1 |
            tail -60 || status=1
    done
    return $status
}

stage_ncu() {
    command -v ncu >/dev/null || { echo "there is no ncu"; return 1; }
    ncu --csv --page details --section SpeedOfLight --section Occupancy --section WarpStateStats --section LaunchStats --clock-control none \
        --log-file "$out/ncu.csv" --force-overwrite python3 bench/gpu/two_kernels.py || return 1
    python3 - "$out/ncu.csv" <<'PYTHON'
import csv, sys
wanted = ("Duration", "Compute (SM) Throughput", "DRAM Throughput", "Memory Throughput", "Registers Per Thread", "Achieved Occupancy")
lines = open(sys.argv[1]).read().splitlines()
head = next((at for at, line in enumerate(lines) if line.startswith('"ID"')), len(lines))  # what ncu says of itself comes before
rows = [row for row in csv.DictReader(lines[head:]) if row["Metric Name"] in wanted]
for row in rows:
    print(row["Kernel Name"][:60], "|", row["Metric Name"], row["Metric Value"], row["Metric Unit"])
sys.exit(not rows and "ncu.csv has no metric")
PYTHON
}

if [[ ${1:-} == --do ]]; then # one stage, within the time limit that the script has set round it
    limit=$3 out=$ATTENTION_OUT bundle=$ATTENTION_BUNDLE
    read -ra timing_options <<<"${ATTENTION_TIMING:-}"
    "stage_$2"
    exit
fi

wanted=() budget=0 most=0 anyway=false out=${OUT:-$build/out} bundle=$root/build/gpu-bundle
names=$(printf '%s ' "${stages[@]%%:*}")
bad() { printf 'run.sh: %s (--help tells more)\n' "$1" >&2; exit 2; }
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --anyway) anyway=true; shift; continue ;;
        --stage | --budget | --limit | --out | --bundle) (($# > 1)) || bad "$1 takes a value" ;;
        *) bad "no option $1" ;;
    esac
    case $1 in
        --stage) [[ " $names" == *" $2 "* ]] || bad "--stage is $2; one of $names is allowed"; wanted+=("$2") ;;
        --budget) [[ $2 =~ ^[1-9][0-9]*$ ]] || bad "--budget is $2; a number of seconds is allowed"; budget=$2 ;;
        --limit) [[ $2 =~ ^[1-9][0-9]*$ ]] || bad "--limit is $2; a number of seconds is allowed"; most=$2 ;;
        --out) out=$2 ;;
        --bundle) bundle=$2 ;;
    esac
    shift 2
done
mkdir -p "$out" "$build" && out=$(cd "$out" && pwd) || exit 1
: >"$out/run.log"
say() { printf '%s\n' "$*" | tee -a "$out/run.log"; }

device=true
has_device || device=false
$device && find_nvrtc
export ATTENTION_OUT=$out ATTENTION_BUNDLE=$bundle ATTENTION_CACHE=${ATTENTION_CACHE:-$build/kernels} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ATTENTION_COMMIT=${ATTENTION_COMMIT:-$(git rev-parse --short=10 HEAD 2>/dev/null || cat "$bundle/commit" 2>/dev/null)} && export ATTENTION_COMMIT
say "$(date -u '+%Y-%m-%d %H:%M UTC'), commit ${ATTENTION_COMMIT:-unknown}, $(nproc) CPUs, NVRTC ${ATTENTION_NVRTC:-as the system finds it}"
$device && say "$(nvidia-smi -L 2>&1 | head -4)"

results=() targets=() failed=0 absent=0 running=
finish() {
    rm -f "$out/stage.log"
    say "== summary (${SECONDS} s), results in $out"
    printf '%s\n' "${results[@]}" "${targets[@]}" | tee "$out/summary.txt" | tee -a "$out/run.log"
}
interrupted() {
    trap '' INT TERM
    if [[ $running ]]; then
        kill "$running" && wait "$running"
        cat "$out/stage.log" >>"$out/run.log"
        results+=("$name: interrupted")
    fi
    finish
    exit 130
}
trap interrupted INT TERM
readonly given_library=${ATTENTION_LIBRARY:-}
for stage in "${stages[@]}"; do
    IFS=: read -r name limit least should <<<"$stage"
    ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $name "* ]] && continue
    if ! $device && ! $anyway; then
        results+=("$name: no CUDA device") && ((++absent))
        say "$name: no CUDA device"
        continue
    fi
    if ((budget)); then
        left=$((budget - SECONDS))
        if ((left < least)); then
            results+=("$name: skipped, $left s are left of the $budget s given and it takes $least at least")
            say "${results[-1]}"
            continue
        fi
        ((limit > left)) && limit=$left
    fi
    ((most && limit > most)) && limit=$most
    say "== $name (at most $limit s)"
    start=$SECONDS
    [[ $name == timing ]] && rm -f "$out/timing.json"
    if [[ ! $given_library && $name != build ]] && library=$(library_of); then export ATTENTION_LIBRARY=$library; fi
    timeout -k 5 "$limit" "$BASH" "$self" --do "$name" "$limit" >"$out/stage.log" 2>&1 </dev/null &
    running=$!
    wait "$running"
    status=$?
    running=
    cat "$out/stage.log" >>"$out/run.log"
    tail -n 15 "$out/stage.log" | cut -c1-220
    took=$((SECONDS - start)) verdict=
    if [[ $should ]]; then
        verdict=", wanted <= $should s: SHORT"
        ((status == 0 && took <= should)) && verdict=", wanted <= $should s: ok"
    fi
    case $status in
        0) results+=("$name: passed ($took s$verdict)") ;;
        3) results+=("$name: no CUDA device ($took s)") && ((++absent)) ;;
        124 | 137) results+=("$name: FAILED, its limit of $limit s was over$verdict") && ((++failed)) ;;
        *) results+=("$name: FAILED, exit $status ($took s): $(grep -v '^[[:space:]]*$' "$out/stage.log" | tail -n 1 | cut -c1-160)") && ((++failed)) ;;
    esac
    say "${results[-1]}"
    if [[ $name == timing && -e $out/timing.json ]]; then # of what was written, where the stage was cut too
        targets=("targets: $(python3 bench/gpu/measure.py "$out/timing.json" 2>&1 | tail -n 1)")
        say "${targets[0]}"
    fi
    printf '%s\n' "${results[@]}" "${targets[@]}" >"$out/summary.txt"
done
finish
((failed == 0)) || exit 1
((absent == 0)) || exit 3
