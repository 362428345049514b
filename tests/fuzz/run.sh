#!/usr/bin/env bash
# run.sh FUZZER SECONDS: replays the committed corpus, then searches on from it. Prints a line for each check. New findings stay in build/fuzz/found.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
fuzzer=$1 seconds=$2 found=build/fuzz/found
mkdir -p "$found/corpus"
limits=(-max_len=400 -timeout=20 -rss_limit_mb=4096 "-artifact_prefix=$found/")
failure() { tail -n 40 <<<"$1"; echo "not ok - $2: $(grep -m1 -E 'broken:|ERROR:|runtime error:|SUMMARY:' <<<"$1"); the problem is in $found"; }

said=$("$fuzzer" -runs=0 "${limits[@]}" tests/fuzz/corpus 2>&1) &&
    echo "ok - the corpus of $(find tests/fuzz/corpus -type f | wc -l) problems" || failure "$said" "the committed corpus"
said=$("$fuzzer" -max_total_time="$seconds" -use_value_profile=1 -print_final_stats=1 "${limits[@]}" "$found/corpus" tests/fuzz/corpus 2>&1) &&
    echo "ok - $(sed -n 's/^stat::number_of_executed_units: *//p' <<<"$said") executions in $seconds s" || failure "$said" "searching on"
