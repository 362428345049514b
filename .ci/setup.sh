# Installs what a command needs. Sourced by build.sh.

# missing PACKAGE=PROOF…: the packages whose proof, a command or a path, is not there.
missing() {
    local pair proof
    for pair in "$@"; do
        proof=${pair#*=}
        if [[ $proof == /* ]]; then compgen -G "$proof" >/dev/null; else command -v "$proof" >/dev/null; fi || printf '%s ' "${pair%%=*}"
    done
}

# install PACKAGE…: as root or with passwordless sudo; false where neither is at hand.
install() {
    local -a as=()
    command -v apt-get >/dev/null || return 1
    if ((EUID)); then
        sudo -n true 2>/dev/null || return 1
        as=(sudo -n)
    fi
    printf '  installing %s\n' "$*"
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 </dev/null ||
        { "${as[@]}" apt-get update -q && "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
            >"$logs/apt.log" 2>&1 </dev/null || { tail -5 "$logs/apt.log" >&2; return 1; }
}

require() {
    local packages
    mkdir -p "$logs"
    packages=$(missing "$@")
    [[ ! $packages ]] || install $packages || die "these are missing: $packages
Install them with:  sudo apt-get update && sudo apt-get install -y $packages" 2
}

require_build() {
    require g++=g++ cmake=cmake ninja-build=ninja
    command -v dotnet >/dev/null && dotnet --version >/dev/null 2>&1 ||
        die "the .NET 10 SDK is missing (global.json asks for $(grep -o '"version": "[^"]*"' global.json | cut -d'"' -f4) or later): install it and have dotnet on PATH" 2
}
require_test() {
    require libgtest-dev=/usr/include/gtest/gtest.h python3=python3
    if [[ ${CI:-} == true ]]; then
        local packages
        packages=$(missing clang-format-14=clang-format-14 libclang-rt-14-dev=/usr/lib/llvm-14/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a)
        [[ ! $packages ]] || install $packages || true # what is still missing is a skip, and a skip fails
    fi
}
