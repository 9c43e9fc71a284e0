# Shared by the fronts of the benchmarks that run where the VMs run. Source it, then
# bench_prepare TEMPLATE and bench_run.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
. "$SHOAL_ROOT/scripts/engine.sh"

# Builds and brings up what is needed; NODE_BIN and NODE_DATA are set afterwards.
bench_prepare() {
    "$SHOAL_ROOT/scripts/up" --quiet --no-node --template "$1"
    choose_engine
    node_paths
    on_node sh -c 'command -v qemu-system-x86_64 >/dev/null' ||
        die "there is no qemu-system-x86_64 to compare with on the machine of the node: install qemu-system-x86"
}

# bench_run NAME TEMPLATE [SUFFIX=FILE]... -- [OPTION]...: runs bench-NAME with the usual files;
# what it writes as --SUFFIX comes back as FILE. Prints its output, returns its exit code.
bench_run() {
    local name=$1 template=$2 program work=/var/tmp/shoal-bench-$1 status=0 results=() options=() result
    shift 2
    program=$SHOAL_ROOT/build/release/bench/bench-$name
    if [[ $ENGINE == lab ]]; then
        "$SHOAL_ROOT/scripts/lab" push "$program" "$NODE_BIN/bench-$name"
        program=$NODE_BIN/bench-$name
    fi
    while [[ $1 != -- ]]; do
        results+=("$1")
        options+=("--${1%%=*}" "$work/$name.${1%%=*}")
        shift
    done
    shift
    on_node mkdir -p "$work"
    on_node "$program" --vmm "$NODE_BIN/shoal-vmm" --kernel "$NODE_DATA/kernel/vmlinux" \
        --initrd "$NODE_DATA/kernel/initrd" --disk "$NODE_DATA/templates/$template/disk.raw" \
        --work "$work" "${options[@]}" "$@" >"$SHOAL_STATE/log/bench-$name.log" || status=$?
    if ((status < 2)); then
        for result in "${results[@]}"; do
            mkdir -p "$(dirname "${result#*=}")"
            on_node cat "$work/$name.${result%%=*}" >"${result#*=}"
        done
    fi
    on_node rm -rf "$work"
    cat "$SHOAL_STATE/log/bench-$name.log"
    return "$status"
}
