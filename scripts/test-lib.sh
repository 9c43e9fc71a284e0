# Helpers of the stages in scripts/test.d: source it instead of lib.sh.
# shellcheck shell=bash

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$SHOAL_ROOT/scripts/engine.sh"

SHOAL_TEST_REPORT=${SHOAL_TEST_REPORT:-/dev/null}

# report ok|fail|skip NAME [REASON]
report() {
    printf '%s\t%s\t%s\n' "$1" "$2" "${3-}" >>"$SHOAL_TEST_REPORT"
    say "$1 $2${3:+ ($3)}"
}

# run_ctest PRESET LABEL [JOBS]: the ctest tests of that label, each case of a cmocka program
# counted.
run_ctest() {
    local folder=$SHOAL_ROOT/build/$1 junit=$SHOAL_STATE/log/ctest-$2.xml status=0
    rm -f "$junit"
    ctest --test-dir "$folder" -L "$2" -j "${3:-${SHOAL_JOBS:-$(nproc)}}" --output-on-failure \
        --no-tests=error --test-output-size-passed 10000000 --test-output-size-failed 10000000 \
        --output-junit "$junit" || status=$?
    [[ -s $junit ]] || return 1
    python3 "$SHOAL_ROOT/scripts/test-report" junit "$junit" >>"$SHOAL_TEST_REPORT"
    if ((status)) && ! grep -q '^fail' "$SHOAL_TEST_REPORT"; then return "$status"; fi
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

# run_on_node NAME PROGRAM [ARG]...: a test program there; 0 ok, 77 skipped (the last line of
# output tells why), anything else failed. One that hangs is ended after a quarter of an hour.
run_on_node() {
    local name=$1 status=0 log began
    shift
    log=$SHOAL_STATE/log/on-node-$name.log
    began=$(now_ms)
    on_node timeout -k 10 900 env SHOAL_TEST_LONG="${SHOAL_TEST_LONG:-}" SHOAL_BIN="$NODE_BIN" \
        SHOAL_DATA="$NODE_DATA" SHOAL_TEMPLATES="$NODE_DATA/templates" SHOAL_AGENTCTL="$NODE_BIN/agentctl" \
        SHOAL_KERNEL="$NODE_DATA/kernel/vmlinux" SHOAL_INITRD="$NODE_DATA/kernel/initrd" "$@" >"$log" 2>&1 || status=$?
    say "$(printf '%6d s  %s' $((($(now_ms) - began) / 1000)) "$name")"
    case $status in
    0) report ok "$name" ;;
    77) report skip "$name" "$(tail -n 1 "$log")" ;;
    *)
        tail -n 60 "$log" >&2
        report fail "$name" "exit code $status: $(tail -n 1 "$log")"
        ;;
    esac
}

# run_node_tests NAME SLOTS FILE...: files of node's test runner, so many at once; each test goes
# into the report, and what took long is printed. Fails when the runner did and no test was
# reported as failed.
run_node_tests() {
    local name=$1 slots=$2 tap result=0 lines
    tap=$SHOAL_STATE/log/$1.tap
    shift 2
    timeout "${SHOAL_TEST_E2E_SECONDS:-3000}" node --test --test-concurrency="$slots" \
        --test-reporter=tap --test-reporter-destination="$tap" \
        --test-reporter=spec --test-reporter-destination=stdout "$@" || result=$?
    python3 "$SHOAL_ROOT/scripts/test-report" times "$tap"
    lines=$(python3 "$SHOAL_ROOT/scripts/test-report" tap "$tap" | sed "s/^\([a-z]*\t\)/\1$name: /")
    if [[ -n $lines ]]; then printf '%s\n' "$lines" >>"$SHOAL_TEST_REPORT"; fi
    if ((result)) && ! grep -q '^fail' <<<"$lines"; then
        report fail "$name" "the test runner ended with exit code $result"
    fi
}
