#!/bin/bash
# run.sh EMULATOR_TESTS: all its tests, in as many processes as there are processors (JOBS=N: in N), a line "ok - NAME" or "not ok - NAME: reason" for each.
set -uo pipefail
tests=$1 shards=32 work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seq 0 $((shards - 1)) | xargs -P "${JOBS:-$(nproc)}" -I{} sh -c \
    'GTEST_SHARD_INDEX={} GTEST_TOTAL_SHARDS='$shards' "$0" >"$1/{}" 2>&1 || tail -n 40 "$1/{}"' "$tests" "$work"
sed -n 's/^\[       OK \] \(.*\) ([0-9]* ms)$/ok - \1/p; s/^\[  FAILED  \] \(.*\) ([0-9]* ms)$/not ok - \1/p' "$work"/*
listed=$("$tests" --gtest_list_tests | grep -c '^  ') ran=$(cat "$work"/* | grep -cE '^\[(       OK |  FAILED  )\] .* \([0-9]* ms\)$')
((listed == ran)) || { echo "not ok - $ran of $listed tests came to an end"; exit 1; }
! grep -q '^\[  FAILED  \]' "$work"/*
