#!/usr/bin/env bash
# run.sh [N | PATH | --anchors]: plants the faults of tests/mutants/faults one at a time (all, the first N, those of files under PATH) in a copy of the tree,
# builds what that touches, and runs the suite, which must turn red: native_tests for native/, the .NET suite for managed/. The first red test ends a native
# run; of the .NET suite the tests that the fault names are run. Prints a line for each; "not ok" is a survivor. The table is build/mutants/results.md.
# --anchors only looks whether every fault can still be planted.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
chosen=${1:-1000000} home=$PWD/build/mutants log=$PWD/build/mutants/last.log table=$PWD/build/mutants/results.md
native=$home/native managed=$home/managed artifacts=$home/artifacts
case $chosen in
    --anchors | managed/* | native/*) ;;
    *[!0-9]*) echo "run.sh takes a number of faults, managed/…, native/… or --anchors, not \"$chosen\"" >&2 && exit 2 ;;
esac
mkdir -p "$home"

# faults FILE FROM TO BREAKS TESTS: what is to be planted, without comments.
faults() {
    local file rest planted=0
    while IFS=$'\t' read -r file rest; do
        [[ $file == \#* ]] && continue
        case $chosen in
            --anchors) ;;
            managed/* | native/*) [[ $file == "$chosen"* ]] || continue ;;
            *) ((planted++ < chosen)) || break ;;
        esac
        printf '%s\t%s\n' "$file" "$rest"
    done <tests/mutants/faults
}
anchored() { [[ $(grep -cF -- "$2" "$1") == 1 ]]; } # FILE TEXT: it stands there, once

if [[ $chosen == --anchors ]]; then
    stale=0
    while IFS=$'\t' read -r file from to breaks tests; do
        anchored "$file" "$from" || { echo "not ok - $breaks: $file no longer has, once: $from" && ((++stale)); }
    done < <(faults)
    ((stale == 0)) && echo "ok - every one of $(faults | wc -l)"
    exit
fi

copy() { # TREE PATH…: only what changed, so that only that is built again
    local tree=$1
    shift
    git ls-files -z -- "$@" | while IFS= read -r -d '' file; do
        mkdir -p "$tree/$(dirname "$file")"
        cmp -s "$file" "$tree/$file" || cp -p "$file" "$tree/$file"
    done
}
# Optimised little: the kernels compile in seconds.
make_native() { cmake --build "$native/build" --parallel "${JOBS:-$(nproc)}" >"$log" 2>&1; }
make_managed() {
    dotnet build "$managed/tree/tests/Attention.Tests" -c Release --artifacts-path "$artifacts" -p:RunAnalyzers=false \
        -p:AttentionNativeLibrary="$PWD/build/release/native/libattention.so" >"$log" 2>&1
}
# As it was, times too: ninja then builds what the next fault touches and nothing else. MSBuild goes by newer files and compiles an assembly as a whole.
restore_native() { cp -p "$file" "$tree/$file" && rm -rf "$native/build" && cp -a "$native/green" "$native/build"; }
restore_managed() { cp "$file" "$tree/$file"; }
# Exit status: 0 green, 1 red; more: there are no such tests.
test_native() { timeout 1800 "$native/build/tests/native/native_tests" --gtest_brief=1 --gtest_fail_fast >"$log" 2>&1 || return 1; }
test_managed() { # NAME|NAME…
    timeout 1800 "$artifacts/bin/Attention.Tests/release/Attention.Tests" --no-ansi --progress off \
        --filter "FullyQualifiedName~${1//|/|FullyQualifiedName~}" >"$log" 2>&1
    case $? in
        0) return 0 ;;
        8) return 8 ;; # no test has such a name
        *) return 1 ;;
    esac
}
fallen() { # the first red test, or how the suite ended
    local name
    name=$(sed -n -e 's/^\[  FAILED  \] \([^ ,]*\).*/\1/p' -e 's/^failed \(.*\) ([0-9].*$/\1/p' "$log" | head -1)
    printf '%s' "${name:-the suite dies: $(tail -1 "$log" | cut -c1-80)}"
}

red() { tail -n 20 "$log" && echo "not ok - $1 red before any fault is planted" && exit 1; }

kinds=$(faults | cut -d/ -f 1 | sort -u)
if [[ $kinds == *native* ]]; then
    copy "$native/tree" CMakeLists.txt native tests/native tests/reference bench/data
    cmake -S "$native/tree" -B "$native/build" -G Ninja -DATTENTION_TESTS=ON -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 >"$log" 2>&1 &&
        make_native && test_native && rm -rf "$native/green" && cp -a "$native/build" "$native/green" || red "the native tests are"
fi
if [[ $kinds == *managed* ]]; then
    copy "$managed/tree" . ':!bench/results'
    make_managed && test_managed "$(faults | cut -sf 5 | sort -u | paste -sd'|')" || red "the .NET suite is"
fi

{
    printf '# Planted faults\n\n`./build.sh mutants` on %s, commit %s. ' "$(date +%F)" "$(git rev-parse --short HEAD)"
    printf 'Each fault was planted alone; each turned a test red.\n\n'
    printf '| file | what is broken | first red test |\n|---|---|---|\n'
} >"$table"
survivors=0
while IFS=$'\t' read -r file from to breaks tests; do
    kind=${file%%/*} found=
    if ! anchored "$file" "$from"; then
        found="no longer stands there, once: $from"
    else
        tree=$home/$kind/tree original=$(<"$file")
        printf '%s\n' "${original/"$from"/"$to"}" >"$tree/$file"
        if ! "make_$kind"; then
            found="does not compile"
        elif [[ $kind == managed ]]; then
            test_managed "$tests"
            case $? in
                0) found=survives ;;
                8) found="no test is named $tests" ;;
            esac
        else
            test_native && found=survives
        fi
        fell=$(fallen)
        "restore_$kind"
    fi
    if [[ $found ]]; then
        echo "not ok - $breaks: $found ($file)"
        printf '| %s | %s | **%s** |\n' "$file" "$breaks" "${found//|/\\|}" >>"$table"
        ((++survivors))
    else
        echo "ok - $breaks: $fell"
        printf '| %s | %s | %s |\n' "$file" "$breaks" "${fell//|/\\|}" >>"$table"
    fi
done < <(faults)
((survivors == 0)) || sed -i "s/; each turned a test red/; $survivors turned none red/" "$table"
((survivors == 0))
