#!/bin/bash
# Puts NVRTC 12.4 (no toolkit, no driver) into .cache/nvrtc of this checkout and prints the folder; with --disassembler nvdisasm as well. They come from
# the non-free section of the next Debian release: through lists and a cache of our own, so that nothing is added to this machine's sources and nothing is
# installed. Exit 3: not to be had here.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="$PWD/.cache/nvrtc"
wanted=(libnvrtc.so.12) packages=(libnvrtc12 libnvrtc-builtins12.4)
if [ "${1:-}" = --disassembler ]; then wanted=(nvdisasm) packages=(nvidia-cuda-toolkit); fi
if [ -e "$cache/${wanted[0]}" ]; then echo "$cache"; exit 0; fi

# The mirror this machine already uses: the first deb822 or one-line source of Debian proper.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n 's/^URIs: *\([^ ]*debian\) *$/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*debian\)\/\? .*/\2/p' | sed -n 1p || true)
if [ -z "$mirror" ]; then echo "fetch_nvrtc: no Debian source in /etc/apt; set ATTENTION_NVRTC to a libnvrtc.so instead" >&2; exit 3; fi

work="$cache/apt"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$work/tree"
trap 'rm -rf "$work"' EXIT
echo "deb $mirror trixie non-free" >"$work/sources.list"
options=(-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
{ apt-get -qq "${options[@]}" update && (cd "$work/deb" && apt-get -qq "${options[@]}" download "${packages[@]}"); } >&2 ||
    { echo "fetch_nvrtc: ${packages[*]} cannot be downloaded" >&2; exit 3; }
for package in "$work"/deb/*.deb; do dpkg -x "$package" "$work/tree"; done
find "$work/tree" \( -name 'libnvrtc*.so.*' -o -name nvdisasm \) -exec mv {} "$cache/" \;
[ -e "$cache/${wanted[0]}" ] || { echo "fetch_nvrtc: the packages hold no ${wanted[0]}" >&2; exit 3; }
echo "$cache"
