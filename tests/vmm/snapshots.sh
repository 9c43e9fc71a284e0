# Shared by the tests of snapshots: many VMs side by side, their files as stacks. Source it
# instead of vmm.sh.
# shellcheck shell=bash
#
# A box is a VM with a name: folder $WORK/NAME, process ${BOX_PID[NAME]}. A snapshot is a folder
# with `state`, `mem` and `stack`, the options of a restore that name what lies below the top.
. "$(dirname "${BASH_SOURCE[0]}")/vmm.sh"

VMMCTL=$SHOAL_BIN/vmmctl
[[ -x $VMMCTL ]] || VMMCTL=$(dirname "${BASH_SOURCE[0]}")/../../build/release/tests/vmm/tools/vmmctl
[[ -x $VMMCTL ]] || { echo "vmmctl is not built"; exit 77; }
DISK_MB=20480
declare -A BOX_PID BOX_TOP

stop_boxes() {
    local status=$? name
    set +e
    for name in "${!BOX_PID[@]}"; do
        if ((status != 0 && status != 77)); then
            echo "--- $name: $(tail -n 2 "$WORK/$name.log" 2>/dev/null) $(tail -n 5 "$WORK/$name.serial" 2>/dev/null)"
        fi
        box_kill "$name"
    done
    (exit "$status")
    stop_all
}
trap stop_boxes EXIT

# box_open NAME: a process without a machine.
box_open() {
    rm -rf "${WORK:?}/$1"
    mkdir -p "$WORK/$1"
    "$SHOAL_BIN/shoal-vmm" --dir "$WORK/$1" >"$WORK/$1.log" 2>&1 &
    BOX_PID[$1]=$!
}

# box NAME OP [OPTION]...: see the head of vmmctl.c.
box() { "$VMMCTL" --timeout 120 "$WORK/$1" "${@:2}"; }
# field NAME: this field of what vmmctl printed.
field() { sed -n "s/^$1 //p"; }

box_agent() { "$SHOAL_AGENTCTL" --wait "$BOOT_SECONDS" --timeout "$BOOT_SECONDS" "$WORK/$1/agent.sock" "${@:2}"; }
box_sh() { box_agent "$1" exec --user root -- /bin/sh -c "$2"; }

box_kill() {
    [[ -n ${BOX_PID[$1]-} ]] || return 0
    kill -9 "${BOX_PID[$1]}" 2>/dev/null || true
    wait "${BOX_PID[$1]}" 2>/dev/null || true
    unset "BOX_PID[$1]"
}

# box_boot NAME [option of start]...: runs, not set up.
box_boot() {
    local name=$1
    shift
    box_open "$name"
    BOX_TOP[$name]=$WORK/$name.top-0
    : >"$WORK/$name.stack"
    box "$name" start --kernel "$SHOAL_KERNEL" --initrd "$SHOAL_INITRD" --base "$TEMPLATE_DISK" \
        --overlay "${BOX_TOP[$name]}" --vcpus 1 --memory-mb 512 --disk-mb "$DISK_MB" \
        --serial "$WORK/$name.serial" "$@" >/dev/null || fail "$name does not start: $(cat "$WORK/$name.log")"
}

# box_snapshot NAME SNAPSHOT [option of snapshot]...: prints the reply.
box_snapshot() {
    local name=$1 snapshot=$2 next
    shift 2
    mkdir -p "$snapshot"
    next=$WORK/$name.top-$(basename "$snapshot")
    box "$name" snapshot --state "$snapshot/state" --mem "$snapshot/mem" --overlay "$next" "$@" || return
    # The memory below the box stays what it was; the disk it goes on with has one layer more.
    cp "$WORK/$name.stack" "$snapshot/stack"
    printf '%s\n' --mem "$snapshot/mem" --layer "${BOX_TOP[$name]}" >>"$snapshot/stack"
    printf '%s\n' --layer "${BOX_TOP[$name]}" >>"$WORK/$name.stack"
    BOX_TOP[$name]=$next
}

# try_restore NAME SNAPSHOT [option of restore]...: in a new process; its exit code and words.
try_restore() {
    local name=$1 snapshot=$2 stack
    shift 2
    box_kill "$name"
    box_open "$name"
    BOX_TOP[$name]=$WORK/$name.top-0
    rm -f "${BOX_TOP[$name]}"
    cp "$snapshot/stack" "$WORK/$name.stack"
    mapfile -t stack <"$snapshot/stack"
    box "$name" restore --state "$snapshot/state" --base "$TEMPLATE_DISK" "${stack[@]}" \
        --overlay "${BOX_TOP[$name]}" --disk-mb "$DISK_MB" --serial "$WORK/$name.serial" "$@"
}

box_restore() {
    try_restore "$@" >"$WORK/said" 2>&1 || fail "restore of $1 was refused: $(cat "$WORK/said")"
}
