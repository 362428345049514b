#!/usr/bin/env bash
# consume.sh FEED VERSION: the package as a stranger meets it, outside the checkout and with an empty package cache; as a plain publish and as NativeAOT.
# Prints a line for each check.
set -uo pipefail
feed=$1 version=$2
[[ $feed == /* ]] || feed=$PWD/$feed
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
export NUGET_PACKAGES=$scratch/packages
cp -r "$here/Consumer" "$scratch/consumer" && cd "$scratch/consumer" || exit 1
verdict() { if [[ $2 ]]; then echo "not ok - $1: $2"; else echo "ok - $1"; fi; }

# publish NAME ARG…: publishes, runs from another folder, checks what it prints.
publish() {
    local name=$1 out=$scratch/$1 said
    shift
    dotnet publish -c Release -r linux-x64 -p:AttentionVersion="$version" -p:RestoreAdditionalProjectSources="$feed" -o "$out" "$@" || { echo "not ok - $name: does not publish"; exit 1; }
    verdict "$name: publishes" ""
    said=$(cd / && env -u ATTENTION_LIBRARY "$out/Consumer")
    verdict "$name: runs" "$( (($?)) && echo "exit status $?")"
    echo "$said"
    verdict "$name: O is attention" "$(awk '/^checksum/ { c = $2 } /^expected/ { e = $2 } END { d = c - e; if (d < 0) d = -d; if (!(e > 1 && d <= 1e-4 * e)) print "checksum " c ", expected " e }' <<<"$said")"
    verdict "$name: the library is the package's" "$([[ $(sed -n 's/^library //p' <<<"$said") == "$out/libattention.so" ]] || sed -n 's/^library /loaded from /p' <<<"$said")"
    verdict "$name: and has not been changed" "$(cmp "$out/libattention.so" "$NUGET_PACKAGES/attention/$version/runtimes/linux-x64/native/libattention.so" 2>&1)"
    sed -n 's/^checksum //p' <<<"$said" >"$scratch/$name.checksum"
}
publish plain --no-self-contained
publish aot -p:PublishAot=true
verdict "plain and aot: the same bits" "$(cmp "$scratch/plain.checksum" "$scratch/aot.checksum" 2>&1)"
verdict "aot: one executable, no managed assembly" "$(find "$scratch/aot" -name '*.dll' | head -1)"

package=$NUGET_PACKAGES/attention/$version
for file in README.md lib/net10.0/Attention.dll lib/net10.0/Attention.xml runtimes/linux-x64/native/libattention.so; do
    verdict "the package has $file" "$([[ -s $package/$file ]] || echo "it is not there")"
done
strange=$(cd "$package" && find . -type f | grep -vxE '\./(README\.md|LICENSE|lib/net10\.0/Attention\.(dll|xml)|runtimes/linux-x64/native/libattention\.so|attention\.nuspec|attention\.[^/]*\.nupkg(\.sha512)?|\.nupkg\.metadata)')
verdict "and nothing else" "$(paste -sd' ' <<<"$strange")"
verdict "its licence is MIT" "$(grep -q '<license type="expression">MIT</license>' "$package/attention.nuspec" || echo "the nuspec does not say so")"
verdict "its symbols have a package" "$([[ -s $feed/Attention.$version.snupkg ]] || echo "no .snupkg in $feed")"
