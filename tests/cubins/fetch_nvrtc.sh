#!/bin/bash
# Puts NVRTC 12.4 (no toolkit, no driver) into .cache/nvrtc of this checkout and prints the folder. It comes from the non-free section of the next
# Debian release: through lists and a cache of our own, so that nothing is added to this machine's sources and nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="$PWD/.cache/nvrtc"
library="$cache/libnvrtc.so.12"
if [ -e "$library" ]; then echo "$cache"; exit 0; fi

# The mirror this machine already uses: the first deb822 or one-line source of Debian proper.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n 's/^URIs: *\([^ ]*debian\) *$/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*debian\)\/\? .*/\2/p' | sed -n 1p || true)
if [ -z "$mirror" ]; then echo "fetch_nvrtc: no Debian source in /etc/apt; set ATTENTION_NVRTC to a libnvrtc.so instead" >&2; exit 3; fi

work="$cache/apt"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/deb" "$cache/tree"
echo "deb $mirror trixie non-free" >"$work/sources.list"
options=(-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
apt-get -qq "${options[@]}" update >&2
(cd "$work/deb" && apt-get -qq "${options[@]}" download libnvrtc12 libnvrtc-builtins12.4 ${NVRTC_EXTRA_PACKAGES:-} >&2)
for package in "$work"/deb/*.deb; do dpkg -x "$package" "$cache/tree"; done
find "$cache/tree" -name 'libnvrtc*.so.*' -exec ln -sf {} "$cache/" \;
rm -rf "$work"
[ -e "$library" ] || { echo "fetch_nvrtc: the packages hold no libnvrtc.so.12" >&2; exit 3; }
echo "$cache"
