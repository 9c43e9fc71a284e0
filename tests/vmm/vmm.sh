# Shared by the VMM tests: one real guest per test, started without a daemon.
# shellcheck shell=bash
#
# The runner sets SHOAL_BIN, SHOAL_AGENTCTL, SHOAL_KERNEL, SHOAL_INITRD, SHOAL_TEMPLATES. A test
# sources this file, calls vmm_start and agent, and ends with code 0, 1 (with a last line that
# says what was expected) or 77 (skipped, the last line says why).
set -euo pipefail

for name in SHOAL_BIN SHOAL_AGENTCTL SHOAL_KERNEL SHOAL_INITRD SHOAL_TEMPLATES; do
    if [[ -z ${!name-} ]]; then
        echo "$name is not set: run this through scripts/test --only vmm"
        exit 77
    fi
done

TEMPLATE_DISK=$SHOAL_TEMPLATES/minimal/disk.raw
WORK=$(mktemp -d /var/tmp/shoal-vmm-test-XXXXXX)
DIR=$WORK/vm
BOOT_SECONDS=${SHOAL_TEST_BOOT_SECONDS:-120}
VMM_PID=

stop_all() {
    local status=$?
    if ((status != 0 && status != 77)) && [[ -s $WORK/serial.log ]]; then
        echo "--- the end of the guest's console"
        tail -n 20 "$WORK/serial.log"
    fi
    if [[ -n $VMM_PID ]]; then
        kill -9 "$VMM_PID" 2>/dev/null || true
        wait "$VMM_PID" 2>/dev/null || true # it holds files on what is unmounted below
    fi
    mountpoint -q "$WORK/small" 2>/dev/null && umount "$WORK/small"
    rm -rf -- "$WORK"
    return "$status"
}
trap stop_all EXIT

fail() {
    echo "$*"
    exit 1
}

# vmm_start [option of run]...: starts a VM in the background; VMM_PID is its process. Later
# options win, so a test may replace --cpus, --memory-mb, --kernel and the rest.
vmm_start() {
    mkdir -p "$DIR"
    rm -f "$DIR"/*
    touch "${OVERLAY:=$WORK/overlay}"
    "$SHOAL_BIN/shoal-vmm" --dir "$DIR" run --kernel "$SHOAL_KERNEL" --initrd "$SHOAL_INITRD" \
        --disk "$TEMPLATE_DISK" --overlay "$OVERLAY" --memory-mb 512 --cpus 1 --disk-mb 20480 \
        --serial "$WORK/serial.log" "$@" >"$WORK/vmm.log" 2>&1 &
    VMM_PID=$!
}

agent() {
    "$SHOAL_AGENTCTL" --wait "$BOOT_SECONDS" --timeout "$BOOT_SECONDS" "$DIR/agent.sock" "$@"
}

# vmm_ready: the guest answers and is set up.
vmm_ready() {
    agent setup guest >/dev/null || fail "the guest agent did not answer: $(tail -n 3 "$WORK/vmm.log")"
}

in_guest() { agent exec --user root -- /bin/sh -c "$1"; }

# vmm_wait SECONDS: the process ends by itself within that time; VMM_STATUS is its exit code.
vmm_wait() {
    local i
    for ((i = 0; i < $1 * 10; i++)); do
        if ! kill -0 "$VMM_PID" 2>/dev/null; then
            VMM_STATUS=0
            wait "$VMM_PID" || VMM_STATUS=$?
            VMM_PID=
            return 0
        fi
        sleep 0.1
    done
    fail "the VMM still runs after $1 s"
}

# expect_exit REASON: what it wrote before it ended names this reason (vmm-kvm/control.h).
expect_exit() {
    [[ -s $DIR/exit.msgpack ]] || fail "there is no exit.msgpack: $(tail -n 3 "$WORK/vmm.log")"
    grep -aq "$1" "$DIR/exit.msgpack" ||
        fail "expected the reason $1, got: $(tr -cd '[:print:]' <"$DIR/exit.msgpack")"
}

expect() {
    [[ $2 == "$1" ]] || fail "$3: expected '$1', got '$2'"
}
