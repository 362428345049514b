#!/usr/bin/env bash
# run.sh [N]: plants the faults of tests/mutants/faults one at a time (all, or the first N) in a copy of the tree, builds, and runs the native tests, which must
# turn red. Prints a line for each; "not ok" is a survivor.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
most=${1:-1000000} copy=$PWD/build/mutants/tree build=$PWD/build/mutants/build log=$PWD/build/mutants/last.log survivors=0 done=0
[[ $most =~ ^[0-9]+$ ]] || { echo "run.sh takes a number of faults, not \"$most\"" >&2; exit 2; }
mkdir -p "$copy"
# Only what changed, so that ninja rebuilds only that.
git ls-files -z CMakeLists.txt native tests/native tests/reference bench/data | while IFS= read -r -d '' file; do
    mkdir -p "$copy/$(dirname "$file")"
    cmp -s "$file" "$copy/$file" || cp "$file" "$copy/$file"
done
made() { cmake --build "$build" --parallel "${JOBS:-$(nproc)}" >"$log" 2>&1; }
green() { timeout 600 "$build/tests/native/native_tests" --gtest_brief=1 --gtest_fail_fast >"$log" 2>&1; }

cmake -S "$copy" -B "$build" -G Ninja -DATTENTION_TESTS=ON >"$log" 2>&1 && made && green || { tail -20 "$log"; echo "not ok - the tests are red before any fault is planted"; exit 1; }
while IFS=$'\t' read -r file from to breaks; do
    [[ $file == \#* ]] && continue
    ((done++ < most)) || break
    original=$(<"$copy/$file")
    if [[ $(grep -cF -- "$from" "$copy/$file") != 1 ]]; then
        echo "not ok - $breaks: $file no longer has, once: $from"
        ((++survivors))
        continue
    fi
    printf '%s\n' "${original/"$from"/"$to"}" >"$copy/$file"
    if ! made; then
        echo "not ok - $breaks: does not compile"
        ((++survivors))
    elif green; then
        echo "not ok - $breaks: survives ($file)"
        ((++survivors))
    else
        echo "ok - $breaks: $(grep -m1 -o '\[  FAILED  \] [^ ,]*' "$log" | sed 's/.*\] //' || true)"
    fi
    printf '%s\n' "$original" >"$copy/$file"
done <tests/mutants/faults
((survivors == 0))
