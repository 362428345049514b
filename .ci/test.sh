# Every check, or those of the parts that are named. Sourced by build.sh.
full=false
parts=()
for option in "$@"; do
    case $option in
        --full) full=true ;;
        format | native | cuda | net | package | door | faults) parts+=("$option") ;;
        *) die "test takes --full and the parts format, native, cuda, net, package, door, faults; not \"$option\"" 2 ;;
    esac
done
wanted() { [[ ${#parts[@]} == 0 || " ${parts[*]} " == *" $1 "* ]] && printf '%s\n' "$2"; } # PART TITLE

readonly minimum_of_nunit_tests=$(<.ci/minimum-tests)
summary() { printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"; }
required() { "$@" || { ((++failed)) && summary && exit 1; }; }
readonly native_tests=tests/native/native_tests nunit_tests=tests/Attention.Tests/bin/Release/net10.0/Attention.Tests

require_build
require_test

printf 'build\n'
required native release "native library"
required managed

if wanted format "format"; then
    if command -v clang-format-14 >/dev/null; then
        check "clang-format" bash -c "git ls-files '*.cpp' '*.hpp' '*.h' | xargs clang-format-14 --dry-run -Werror"
    else
        skip "clang-format" "clang-format 14 is not installed"
    fi
    check "dotnet format" dotnet format Attention.sln --verify-no-changes --no-restore
fi

if wanted native "the native library"; then
    checks "promises of libattention.so" .ci/library.sh build/release/native/libattention.so
    required native tests "build of the tests"
    googletest "native tests" build/tests/$native_tests
    export ASAN_OPTIONS=allocator_may_return_null=1 # what is too large to allocate is refused, as without it
    required native asan "build with the address and undefined-behaviour sanitizers"
    googletest "native tests under them" build/asan/$native_tests
    if [[ -x build/asan/tests/fuzz/fuzz_abi ]]; then
        checks "fuzzing the C ABI" tests/fuzz/run.sh build/asan/tests/fuzz/fuzz_abi "$($full && echo 60 || echo 5)"
    else
        skip "fuzzing the C ABI" "libclang-rt-14-dev is not installed"
    fi
    if $full; then
        required native tsan "build with the thread sanitizer"
        check "concurrent use under it" build/tsan/tests/native/native_stress 30
        googletest "native tests of concurrency under it" build/tsan/$native_tests --gtest_filter='*Pool*:*Stream*:*Handles*:*Concurren*'
    else
        required native tsan "build with the thread sanitizer" native_stress
        check "concurrent use under it" build/tsan/tests/native/native_stress 5
    fi
fi

if wanted cuda "CUDA kernels without a GPU"; then . .ci/cuda.sh; fi

$full && export ATTENTION_FULL=1 # of the NUnit suites: a minute's soak, 100,000 damaged files
if wanted net ".NET tests"; then
    nunit "NUnit suite" "$minimum_of_nunit_tests" $nunit_tests
fi

if wanted package "the package"; then
    package_version=0.1.0-check
    rm -rf build/packages && mkdir -p build/packages
    required build "package" dotnet pack managed/Attention -c Release -p:Version=$package_version -o build/packages
    checks "consumed outside the checkout" tests/packaging/consume.sh build/packages $package_version
    required build "NUnit suite over the package" env NUGET_PACKAGES="$root/build/packages/cache" dotnet build tests/Attention.Tests -c Release \
        -p:AttentionFromPackage=$package_version -p:RestoreAdditionalProjectSources="$root/build/packages" \
        -p:RestoreFallbackFolders="${NUGET_PACKAGES:-$HOME/.nuget/packages}" --artifacts-path build/packages/tests
    nunit "NUnit suite over the package" "$minimum_of_nunit_tests" build/packages/tests/bin/Attention.Tests/release/Attention.Tests
fi

if wanted door "the front door"; then
    required build "PowerShell" dotnet tool restore
    check "build.ps1 --help" bash -c 'diff <(dotnet pwsh -NoProfile -File build.ps1 --help) <(./build.sh --help)'
    check "build.ps1 passes failure on" bash -c 'dotnet pwsh -NoProfile -File build.ps1 no-such-command; [[ $? == 2 ]]'
    checks "attn from anywhere" tests/packaging/tool.sh "$artifacts/attn"
fi

if wanted faults "planted faults"; then
    if $full; then
        checks "each turns a test red" tests/mutants/run.sh
    else
        checks "each can still be planted" tests/mutants/run.sh --anchors
    fi
fi

summary
((failed == 0))
