#!/usr/bin/env bash
# run.sh FUZZER SECONDS: replays the committed corpus, then searches on from it. Prints a line for each check. New findings stay in build/fuzz/found.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
fuzzer=$1 seconds=$2 found=build/fuzz/found said
mkdir -p "$found/corpus"
if "$fuzzer" -runs=0 tests/fuzz/corpus; then echo "ok - the corpus of $(find tests/fuzz/corpus -type f | wc -l) problems"; else echo "not ok - the committed corpus"; fi
if said=$("$fuzzer" -max_total_time="$seconds" -max_len=400 -timeout=20 -rss_limit_mb=4096 -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$found/" "$found/corpus" tests/fuzz/corpus 2>&1); then
    echo "ok - $(sed -n 's/^stat::number_of_executed_units: *//p' <<<"$said") executions in $seconds s"
else
    tail -40 <<<"$said"
    echo "not ok - $(grep -m1 -E 'broken:|ERROR:|runtime error:|SUMMARY:' <<<"$said"); the problem is in $found"
fi
