#!/usr/bin/env bash
# What the shipped library promises to every machine: library.sh LIBRARY. Prints a line for each check.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
library=$1 header=native/include/attention/attention.h
verdict() { if [[ $2 ]]; then echo "not ok - $1: $2"; else echo "ok - $1"; fi; }
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT

declared=$(sed -n 's/^ATTN_API .*\b\(attn_[a-z0-9_]*\)(.*/\1/p' "$header" | sort)
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
verdict "exports what the header declares ($(wc -l <<<"$declared") functions)" "$(diff <(echo "$declared") <(echo "$exported") | grep '^[<>]' | sed 's/</declared only:/; s/>/exported only:/' | paste -sd' ')"

newest=$(objdump -T "$library" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
verdict "needs $newest" "$([[ $(printf '%s\n' GLIBC_2.34 "$newest" | sort -V | tail -1) == GLIBC_2.34 ]] || echo "GLIBC_2.34 is the newest allowed")"

others=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vxE 'libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-x86-64\.so\.2' | paste -sd' ')
verdict "needs no library but the system's own" "$others"

strip -o "$scratch/stripped" "$library"
size=$(stat -c %s "$scratch/stripped")
verdict "$((size / 1024)) KB stripped" "$( ((size <= 2 << 20)) || echo "2048 KB is the most allowed")"

for language in c11 c++20; do
    compiler=gcc && [[ $language == c++20 ]] && compiler=g++
    verdict "the header stands alone in $language" "$($compiler -x ${language%%[0-9]*} -std=$language -Wall -Wextra -Wpedantic -Werror -fsyntax-only "$header" 2>&1 | head -1)"
done
