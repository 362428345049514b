#!/usr/bin/env bash
# The front door. See ./build.sh --help.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
readonly root=$PWD artifacts=$PWD/artifacts logs=$PWD/build/logs

usage() {
    cat <<'USAGE'
./build.sh                 builds everything: the native library, the .NET library, the command artifacts/attn
./build.sh test [--full] [PART]...   runs the everyday checks, all or of these parts: format, native, cuda (no GPU needed), net, package, door, faults.
                           --full goes on: a minute of fuzzing, a minute's soak, 100,000 damaged files, every planted fault; in cuda for hours
./build.sh demo            attention on real Whisper data: each mask, each backend, what ran and why (about a minute)
./build.sh bench [ARGS]    measures this machine by the rules of docs/performance.md (about 8 minutes); ARGS go to the harness, --help tells them
./build.sh bench --peers [ARGS]   the same beside ONNX Runtime, and .NET's overhead per call
./build.sh mutants [N]     plants faults one at a time (all, or the first N); each must turn a test red
./build.sh pack            leaves the NuGet package in artifacts/
./build.sh gpu-bundle      packs what bench/gpu/run.sh needs on a machine with a GPU, in build/gpu-bundle
./build.sh format          formats the sources in place
./build.sh --help          this text

Needs Debian 12 or something close to it, the .NET 10 SDK, g++, cmake and ninja-build; for test also libgtest-dev and python3. As root, or with passwordless sudo, it
installs what is missing by apt; otherwise it says the command. clang-format 14 and libclang-rt-14-dev are used where present (CI=true installs them).
Environment: CI=true makes every skip but "no CUDA device" a failure; JOBS=N compiles with N processes (default: one for each CPU).
USAGE
}

. .ci/count.sh
. .ci/setup.sh

export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 DOTNET_CLI_UI_LANGUAGE=en
# No servers: the compiler's would go on working beside whatever is measured next, and builds take no longer without.
export DOTNET_CLI_USE_MSBUILD_SERVER=0 MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false
readonly jobs=${JOBS:-$(nproc)}
if [[ ! ${HOME:-} ]]; then # NuGet and dotnet want one
    export HOME=$root/.cache/home
    mkdir -p "$HOME"
fi

native() { # PRESET NAME [TARGET]
    build "$2" bash -c "cmake --preset $1 && cmake --build build/$1 --parallel $jobs ${3:+--target $3}"
}

managed() {
    build "managed assemblies" dotnet build Attention.sln -c Release || return 1
    # One file that carries its runtime: it starts wherever it is put and however dotnet was installed. The native library inside is unpacked on first use.
    build "artifacts/attn" dotnet publish managed/Attention.Tool -c Release -r linux-x64 --self-contained -p:PublishSingleFile=true \
        -p:IncludeNativeLibrariesForSelfExtract=true -p:DebugType=embedded --artifacts-path build/attn -o build/attn/publish || return 1
    mkdir -p "$artifacts"
    cp build/attn/publish/attn "$artifacts/attn.new" && mv "$artifacts/attn.new" "$artifacts/attn"
    cp build/release/native/libattention.so "$artifacts/"
}

build_all() {
    require_build
    native release "native library" && managed || exit 1
}

pack() {
    require_build
    native release "native library" && build "artifacts/*.nupkg" dotnet pack managed/Attention -c Release -o "$artifacts" || exit 1
}

bench() {
    require_build
    if [[ ${1:-} == --peers ]]; then
        shift
        native release "native library" && build "bench/peers" dotnet build bench/peers -c Release || exit 1
        dotnet run --project bench/peers -c Release --no-build -- "$@"
    else
        native bench "timing harness" || exit 1
        build/bench/bench/harness/attn_bench "$@"
    fi
}

format() {
    command -v clang-format-14 >/dev/null || install clang-format-14 || die "clang-format-14 is missing: sudo apt-get install -y clang-format-14" 2
    git ls-files '*.cpp' '*.hpp' '*.h' | xargs clang-format-14 -i
    build "dotnet format" dotnet format Attention.sln
}

gpu_bundle() {
    require_build
    require_test
    native release "native library" || exit 1
    . bench/gpu/bundle.sh
    make_bundle
}

trap 'printf "\ninterrupted\n" >&2; exit 130' INT TERM
command=${1:-build}
(($#)) && shift
case $command in
    build) build_all ;;
    test) . .ci/test.sh "$@" ;;
    demo) build_all && "$artifacts/attn" bench --suite whisper "$@" ;;
    bench) bench "$@" ;;
    mutants) require_build && require_test && native release "native library" && tests/mutants/run.sh "$@" ;;
    pack) pack ;;
    gpu-bundle) gpu_bundle ;;
    format) format ;;
    -h | --help | help) usage ;;
    *)
        printf 'build.sh: no command "%s"\n\n' "$command" >&2
        usage >&2
        exit 2
        ;;
esac
