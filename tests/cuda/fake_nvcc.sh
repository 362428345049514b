#!/bin/sh
# fake_nvcc.sh -cubin -arch=sm_80 -o CUBIN SOURCE OPTION... — an nvcc that compiles nothing: its cubin says which kernel it is, as fake_nvrtc.cpp's does, and has
# the kernel's section. FAKE_NVCC_FAILS makes it fail with that text.
set -eu
[ "$1" = -cubin ] && [ "$3" = -o ] || { echo "fake_nvcc: unexpected options: $*"; exit 2; }
target=${2#-arch=} cubin=$4 source=$5
shift 5
[ "$*" = "--std=c++17 --use_fast_math -diag-suppress=2473" ] || { echo "fake_nvcc: unexpected options: $*"; exit 2; }
[ -z "${FAKE_NVCC_FAILS:-}" ] || { echo "$FAKE_NVCC_FAILS"; exit 1; }
included=$(sed -n 's/^#include "\(.*\)"$/\1/p' "$source")
[ -f "$(dirname "$source")/$included" ] || { echo "$source: no file $included"; exit 1; }
kernel=$(sed -n 's/.*(const void\*)&\(.*\);$/\1/p' "$source")
printf 'fake cubin %s\nlowered %s\n%s\000.text.lowered %s\000' "$target" "$kernel" "$kernel" "$kernel" >"$cubin"
