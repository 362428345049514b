# Every check. Sourced by build.sh.
full=false
for option in "$@"; do
    case $option in
        --full) full=true ;;
        *) die "test takes --full, not \"$option\"" 2 ;;
    esac
done

summary() { printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"; }
required() { "$@" || { ((++failed)) && summary && exit 1; }; }

require_build
require_test

printf 'build\n'
required native release "native library"
required managed

printf 'format\n'
if command -v clang-format-14 >/dev/null; then
    check "clang-format" bash -c "git ls-files '*.cpp' '*.hpp' '*.h' | xargs clang-format-14 --dry-run -Werror"
else
    skip "clang-format" "clang-format 14 is not installed"
fi
check "dotnet format" dotnet format Attention.sln --verify-no-changes --no-restore

printf 'the library\n'
checks "promises of libattention.so" .ci/library.sh build/release/native/libattention.so

printf 'native tests\n'
required native tests "tests"
googletest "native tests" build/tests/tests/native/attention_tests
