# Runs steps, keeps each one's output in build/logs, and counts checks. Sourced by build.sh.
passed=0 failed=0 skipped=0
readonly skip_reasons=$root/.ci/skip-reasons

die() { printf 'build.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

# run NAME COMMAND…: one line of progress; the output goes to a log, whose end is shown when the command fails.
run() {
    local name=$1 start=$SECONDS status
    shift
    log=$logs/${name//[^A-Za-z0-9]/-}.log
    mkdir -p "$logs"
    [[ -t 1 ]] && printf '  %s …' "$name"
    "$@" >"$log" 2>&1 </dev/null
    status=$?
    [[ -t 1 ]] && printf '\r\033[K'
    took=$((SECONDS - start))
    ((status == 130)) && exit 130
    return $status
}
show_end() { tail -n "${1:-25}" "$log" | sed 's/^/      /'; printf '      (all of it: %s)\n' "${log#"$root"/}"; }

# build NAME COMMAND…: everything after it depends on this.
build() {
    if run "$@"; then printf '  %s (%d s)\n' "$1" "$took"; else printf '  FAILED: %s\n' "$1"; show_end 60; return 1; fi
}

# tally NAME P F S: adds a step's counts and prints them.
tally() {
    ((passed += $2, failed += $3, skipped += $4))
    printf '  %-4s %s: %d passed, %d failed, %d skipped (%d s)\n' "$( (($3)) && echo FAIL || echo ok)" "$1" "$2" "$3" "$4" "$took"
    if (($3)); then show_end; fi
}

# check NAME COMMAND…: one check, its exit status is the answer.
check() { if run "$@"; then tally "$1" 1 0 0; else tally "$1" 0 1 0; fi; }

# checks NAME COMMAND…: the command prints a line "ok - …", "not ok - …" or "skip - …" for each of its checks.
checks() {
    local status=0 p f s
    run "$@" || status=1
    p=$(grep -c '^ok - ' "$log") f=$(grep -c '^not ok - ' "$log") s=$(grep -c '^skip - ' "$log")
    ((status && !f || !(p + f + s))) && f=$((f + 1)) # ended early, or checked nothing
    tally "$1" "$p" "$f" "$s"
    grep '^not ok - ' "$log" | sed 's/^/      /'
    grep '^skip - ' "$log" | sed 's/^skip - //' | while read -r reason; do printf '      skipped: %s\n' "$reason"; done
    if ((s)) && [[ ${CI:-} == true ]] && grep '^skip - ' "$log" | sed 's/^skip - //' | grep -qvxFf "$skip_reasons"; then
        printf '      FAIL: skipped for a reason that .ci/skip-reasons does not hold\n'
        ((++failed))
    fi
}

# skip NAME REASON: a check that this machine cannot make. With CI=true that is a failure.
skip() {
    took=0
    if [[ ${CI:-} == true ]]; then
        printf '  FAIL %s: cannot be skipped here: %s\n' "$1" "$2"
        ((++failed))
    else
        printf '  skip %s: %s\n' "$1" "$2"
        ((++skipped))
    fi
}

# googletest NAME EXECUTABLE ARG…: as many checks as it has tests.
googletest() {
    local name=$1 exe=$2 xml
    shift 2
    xml=$logs/${name//[^A-Za-z0-9]/-}.xml
    rm -f "$xml"
    local status=0
    run "$name" "$exe" --gtest_brief=1 --gtest_output="xml:$xml" "$@" || status=$?
    if [[ ! -f $xml ]]; then tally "$name" 0 1 0; return; fi
    local total bad skips
    total=$(grep -m1 -o '<testsuites tests="[0-9]*"' "$xml" | tr -dc 0-9)
    bad=$(grep -m1 -o '<testsuites [^>]*' "$xml" | grep -o 'failures="[0-9]*"' | tr -dc 0-9)
    skips=$(grep -c 'result="skipped"' "$xml")
    ((status && !bad || !total)) && bad=$((bad + 1)) total=$((total + 1)) # died after the report, or ran no test
    tally "$name" $((total - bad - skips)) "$bad" "$skips"
    reasons "$name" <<<"$(grep -o '<skipped message="[^"]*' "$xml" | sed 's/.*message="//; s/&#x0A;.*//')"
}

# reasons NAME: standard input has the reason of each skipped test; one that .ci/skip-reasons does not hold is a failure.
reasons() {
    local strange
    strange=$(grep -v '^$' | sort | uniq | grep -vxFf "$skip_reasons")
    if [[ $strange ]]; then
        printf '  FAIL %s: skipped for reasons that .ci/skip-reasons does not hold:\n' "$1"
        sed 's/^/      /' <<<"$strange"
        ((++failed))
    fi
}

# nunit NAME MINIMUM EXECUTABLE ARG…: likewise for the .NET suite; fewer tests than MINIMUM is a failure.
nunit() {
    local name=$1 minimum=$2 exe=$3 status=0
    shift 3
    run "$name" "$exe" --no-ansi --progress off --minimum-expected-tests "$minimum" "$@" || status=$?
    local p f s
    p=$(sed -n 's/^  succeeded: \([0-9]*\)$/\1/p' "$log" | tail -1)
    f=$(sed -n 's/^  failed: \([0-9]*\)$/\1/p' "$log" | tail -1)
    s=$(sed -n 's/^  skipped: \([0-9]*\)$/\1/p' "$log" | tail -1)
    ((p += 0, f += 0, s += 0))
    ((status && !f)) && f=1 # it died, or ran too few
    tally "$name" "$p" "$f" "$s"
    reasons "$name" <<<"$(awk '/^skipped / { getline; sub(/^ +(OneTimeSetUp: )?(SetUp : )?/, ""); print }' "$log")"
}
