# Helpers of the stages in scripts/test.d: source it instead of lib.sh.
# shellcheck shell=bash

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$SHOAL_ROOT/scripts/engine.sh"

SHOAL_TEST_REPORT=${SHOAL_TEST_REPORT:-/dev/null}

# report ok|fail|skip|again NAME [REASON]
report() {
    printf '%s\t%s\t%s\n' "$1" "$2" "${3-}" >>"$SHOAL_TEST_REPORT"
    say "$1 $2${3:+ ($3)}"
}

# What fails is run once more, unless so much fails that it is no accident. What passes then counts as
# passed, and scripts/test names it, with the reason of its failure: it is a fault that somebody
# has to find, in a test or in what it tests, but not a reason to stop everybody.
AGAIN_MAX=3

# ctest_lines PRESET LABEL JOBS [OPTION]...: one run, as lines of a report on standard output.
ctest_lines() {
    local preset=$1 label=$2 jobs=$3 junit=$SHOAL_STATE/log/ctest-$2.xml status=0
    shift 3
    rm -f "$junit"
    ctest --test-dir "$SHOAL_ROOT/build/$preset" -L "$label" -j "$jobs" --output-on-failure \
        --no-tests=error --test-output-size-passed 10000000 --test-output-size-failed 10000000 \
        --output-junit "$junit" "$@" >&2 || status=$?
    [[ -s $junit ]] || return 1
    python3 "$SHOAL_ROOT/scripts/test-report" junit "$junit"
    return "$status"
}

# run_ctest PRESET LABEL [JOBS]: the ctest tests of that label, each case of a cmocka program
# counted.
run_ctest() {
    local first=$SHOAL_STATE/log/$2.first second=$SHOAL_STATE/log/$2.second status=0
    ctest_lines "$1" "$2" "${3:-${SHOAL_JOBS:-$(nproc)}}" >"$first" || status=$?
    [[ -s $first ]] || return 1
    if ((status)) && ! grep -q '^fail' "$first"; then
        cat "$first" >>"$SHOAL_TEST_REPORT"
        return "$status"
    fi
    : >"$second"
    if few_failed "$first"; then ctest_lines "$1" "$2" 1 --rerun-failed >"$second" || true; fi
    python3 "$SHOAL_ROOT/scripts/test-report" again "$first" "$second" >>"$SHOAL_TEST_REPORT"
}

# few_failed FILE: something, but no more than AGAIN_MAX.
few_failed() {
    local count
    count=$(grep -c '^fail' "$1") || true
    ((count > 0 && count <= AGAIN_MAX))
}

# start_node [--no-node] [--nodes N] TEMPLATE...: the node of the tests, built and brought up.
start_node() {
    local options=()
    while (($#)); do
        case $1 in
        --nodes)
            options+=("$1" "$2")
            shift
            ;;
        --*) options+=("$1") ;;
        *) options+=(--template "$1") ;;
        esac
        shift
    done
    "$SHOAL_ROOT/scripts/up" --quiet "${options[@]}"
    choose_engine
    node_paths
}

# on_node_once NAME PROGRAM [ARG]...: a test program there. One that hangs is ended after a quarter of an hour.
on_node_once() {
    local name=$1 status=0 began
    shift
    began=$(now_ms)
    on_node timeout -k 10 900 env SHOAL_TEST_LONG="${SHOAL_TEST_LONG:-}" SHOAL_BIN="$NODE_BIN" \
        SHOAL_DATA="$NODE_DATA" SHOAL_TEMPLATES="$NODE_DATA/templates" SHOAL_AGENTCTL="$NODE_BIN/agentctl" \
        SHOAL_KERNEL="$NODE_DATA/kernel/vmlinux" SHOAL_INITRD="$NODE_DATA/kernel/initrd" "$@" \
        >"$SHOAL_STATE/log/on-node-$name.log" 2>&1 || status=$?
    say "$(printf '%6d s  %s' $((($(now_ms) - began) / 1000)) "$name")"
    return "$status"
}

# run_on_node NAME PROGRAM [ARG]...: 0 ok, 77 skipped (the last line of output tells why), anything
# else failed, and is run again.
run_on_node() {
    local name=$1 status=0 log=$SHOAL_STATE/log/on-node-$1.log reason
    on_node_once "$@" || status=$?
    case $status in
    0) report ok "$name" ;;
    77) report skip "$name" "$(tail -n 1 "$log")" ;;
    *)
        tail -n 60 "$log" >&2
        reason="exit code $status: $(tail -n 1 "$log")"
        if on_node_once "$@"; then
            report again "$name" "$reason"
        else
            tail -n 60 "$log" >&2
            report fail "$name" "$reason"
        fi
        ;;
    esac
}

# node_test_lines NAME SLOTS FILE...: one run of node's test runner, as lines of a report on standard
# output; what took long is printed. Fails when the runner did and no test was reported as failed.
node_test_lines() {
    local name=$1 slots=$2 tap result=0 lines
    tap=$SHOAL_STATE/log/$1.tap
    shift 2
    timeout "${SHOAL_TEST_E2E_SECONDS:-3000}" node --test --test-concurrency="$slots" \
        --test-reporter=tap --test-reporter-destination="$tap" \
        --test-reporter=spec --test-reporter-destination=stdout "$@" >&2 || result=$?
    python3 "$SHOAL_ROOT/scripts/test-report" times "$tap" >&2
    lines=$(python3 "$SHOAL_ROOT/scripts/test-report" tap "$tap")
    if [[ -n $lines ]]; then printf '%s\n' "$lines"; fi
    if ((result)) && ! grep -q '^fail' <<<"$lines"; then return "$result"; fi
}

# run_node_tests NAME SLOTS FILE...: files of node's test runner, so many at once; each test goes
# into the report. Files in which something failed run once more, as above.
run_node_tests() {
    local name=$1 first=$SHOAL_STATE/log/$1.first second=$SHOAL_STATE/log/$1.second result=0 again
    node_test_lines "$@" >"$first" || result=$?
    : >"$second"
    if ((result == 0)) && few_failed "$first"; then
        mapfile -t again < <(python3 "$SHOAL_ROOT/scripts/test-report" files "$SHOAL_STATE/log/$name.tap")
        if ((${#again[@]})); then node_test_lines "$name-again" 1 "${again[@]}" >"$second" || : >"$second"; fi
    fi
    python3 "$SHOAL_ROOT/scripts/test-report" again "$first" "$second" |
        sed "s/^\([a-z]*\t\)/\1$name: /" >>"$SHOAL_TEST_REPORT"
    if ((result)); then report fail "$name" "the test runner ended with exit code $result"; fi
}
