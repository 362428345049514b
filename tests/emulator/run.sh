#!/bin/bash
# run.sh EMULATOR_TESTS: all its tests, in as many processes as there are processors (JOBS=N: in N), a line "ok - NAME" or "not ok - NAME: reason" for each,
# and one for the time they took: every day (without ATTENTION_FULL) at most five minutes of a processor.
set -uo pipefail
tests=$1 shards=32 work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seq 0 $((shards - 1)) | xargs -P "${JOBS:-$(nproc)}" -I{} sh -c \
    'GTEST_SHARD_INDEX={} GTEST_TOTAL_SHARDS='$shards' "$0" >"$1/{}" 2>&1 || tail -n 40 "$1/{}"' "$tests" "$work"
times >"$work/times"
sed -n 's/^\[       OK \] \(.*\) ([0-9]* ms)$/ok - \1/p; s/^\[  FAILED  \] \(.*\) ([0-9]* ms)$/not ok - \1/p' "$work"/*
listed=$("$tests" --gtest_list_tests | grep -c '^  ') ran=$(cat "$work"/* | grep -cE '^\[(       OK |  FAILED  )\] .* \([0-9]* ms\)$')
((listed == ran)) || { echo "not ok - $ran of $listed tests came to an end"; exit 1; }
if [[ -z ${ATTENTION_FULL+set} ]]; then
    took=$(awk -F '[ms ]+' 'NR == 2 { print int($1 * 60 + $2 + $3 * 60 + $4) }' "$work/times") # of what was waited for: user, system
    ((took <= 300)) || { echo "not ok - $took s of a processor; at most 300 s every day"; exit 1; }
    echo "ok - $took s of a processor, at most 300 s every day"
fi
! grep -q '^\[  FAILED  \]' "$work"/*
