#!/usr/bin/env bash
# tool.sh ATTN: the command as it is left in artifacts. Prints a line for each check.
set -uo pipefail
attn=$(realpath "$1")
scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
verdict() { if [[ $2 ]]; then echo "not ok - $1: $2"; else echo "ok - $1"; fi; }

cd "$scratch" || exit 1
verdict "starts from another folder" "$("$attn" info --json >info.json 2>error || head -1 error)"
verdict "prints one JSON object" "$([[ $(head -c1 info.json) == '{' ]] || head -1 info.json)"
cp "$attn" moved
only_dotnet=$(dirname "$(command -v dotnet)")
verdict "starts where it was copied to, with only dotnet on PATH" "$(env -i HOME="$scratch" PATH="$only_dotnet" ./moved info --json 2>&1 >/dev/null || echo "exit status $?")"
"$attn" run -q nowhere.npy -k nowhere.npy -v nowhere.npy -o O.npy >out 2>error
status=$?
verdict "bad input is exit 2" "$([[ $status == 2 ]] || echo "exit status $status")"
verdict "and one line on standard error" "$([[ $(wc -l <error) == 1 && ! -s out ]] || echo "$(wc -l <error) lines, $(wc -c <out) bytes on standard output")"
verdict "and nothing written" "$([[ ! -e O.npy ]] || echo "O.npy is there")"
