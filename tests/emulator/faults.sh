#!/bin/bash
# Plants the faults of faults.txt one at a time into a copy of the kernels; the probe must find each: a line "ok - …" or "not ok - …". `faults.sh [FIRST [LAST]]`
# takes a part of the list. Exit 0: all were found, and nothing in the kernels as they are. `faults.sh --anchors` only looks whether each can still be planted.
set -uo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trim() { local s=$1; s=${s# }; printf '%s' "${s% }"; }
each() { # FUNCTION: with NUMBER KIND FILE FROM TO of every fault
    local kind file from to number=0
    while IFS='|' read -r kind file from to; do
        [[ $kind == \#* || -z $kind ]] && continue
        "$1" $((++number)) "$(trim "$kind")" "$(trim "$file")" "$(trim "$from")" "$(trim "$to")"
    done <faults.txt
}
anchored() { # FILE FROM: it stands there, once
    local text after
    text=$(<"$1") after=${text#*"$2"}
    [[ $after != "$text" && $after != *"$2"* ]]
}
kernels_of() { # FILE: which kernels of the probe are made of it
    case $1 in
        flash_sm80.cuh) echo FLASH_SM80 ;;
        flash_sm90.cuh) echo FLASH_SM90 ;;
        memory_efficient.cuh | naive.cuh | merge.cuh) echo PLAIN ;;
        *) echo '(FLASH_SM80 | FLASH_SM90 | PLAIN)' ;;
    esac
}
build() { # FOLDER with native/kernels in it; FILE that has the fault
    ${CXX:-g++} -std=c++20 -O1 -fno-strict-aliasing -w -I. -I"$1/native/kernels" -I"$root/native/include" -include "$root/tests/emulator/emulator.hpp" -DPROBED="$(kernels_of "$2")" fault_probe.cpp -o "$1/probe"
}
fresh() {
    mkdir -p "$1/native"
    cp -r "$root/native/kernels" "$root/native/model" "$1/native/"
}
try() { # NUMBER KIND FILE FROM TO
    local at=$work/$1 text from=${4//↵/$'\n'} to=${5//↵/$'\n'} said rc
    fresh "$at"
    text=$(<"$at/native/kernels/$3")
    if ! anchored "$at/native/kernels/$3" "$from"; then echo "not ok - $1 $2: not planted, $3 does not have, once: $4"; return 1; fi
    printf '%s\n' "${text/"$from"/"$to"}" >"$at/native/kernels/$3"
    if ! build "$at" "$3" 2>"$at/log"; then echo "not ok - $1 $2: not built, $(grep -m1 error "$at/log")"; return 1; fi
    said=$(ulimit -t 300; "$at/probe" 2>&1)
    rc=$?
    rm -rf "$at"
    case $rc in
        0) echo "not ok - $1 $2: missed: $4"; return 1 ;;
        1) echo "ok - $1 $2: $said" ;;
        *) echo "not ok - $1 $2: the probe ends with status $rc"; return 1 ;;
    esac
}
look() { # as try
    ((++listed))
    [[ $5 != *'|'* ]] && anchored "$root/native/kernels/$3" "${4//↵/$'\n'}" || { echo "not ok - $1 $2: $3 does not have, once: $4" && ((++stale)); }
}
if [[ ${1:-} == --anchors ]]; then
    listed=0 stale=0
    each look
    ((stale == 0 && listed)) && echo "ok - every one of $listed"
    exit
fi

fresh "$work/clean" && build "$work/clean" all && "$work/clean/probe" || { echo "not ok - the probe finds a fault in the kernels as they are"; exit 1; }
listed=0 first=${1:-1} last=${2:-999} jobs=${JOBS:-$(nproc)} failures=$work/failures
start() { # as try
    listed=$1
    (($1 < first || $1 > last)) && return
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
    (try "$@" || echo "$1" >>"$failures") &
}
each start
wait
missed=$(cat "$failures" 2>/dev/null | wc -l)
echo "faults: $listed listed, $missed of those tried not found"
((missed == 0))
