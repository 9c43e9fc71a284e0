/* Op start or restore. Every VM has the same shape, so that one warm snapshot and any
 * checkpoint serve all sizes: NODE_CPUS_MAX CPUs, of which the agent takes some offline,
 * and NODE_MEMORY_MIN_MB of boot memory; the rest of the memory is plugged. */
#include "node/sandbox/sandbox.h"

#define BOOT_BYTES        ((uint64_t)NODE_MEMORY_MIN_MB << 20)
#define HOTPLUG_MAX_BYTES ((uint64_t)(NODE_MEMORY_MAX_MB - NODE_MEMORY_MIN_MB) << 20)
#define FDS_MAX           (SANDBOX_FD_COUNT + 4 + VMM_DISK_LAYERS_MAX + 1 + VMM_MEM_LAYERS_MAX)
/* quiet and few messages: each console character is an exit of the VM. A dead kernel
 * reboots at once (panic=-1) through the keyboard controller (reboot=k), where the VMM
 * tells a panic from a reboot by the console's last words. Plugged memory is used at once. */
#define GUEST_CMDLINE                                                                        \
    "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 clocksource=kvm-clock 8250.nr_uarts=1" \
    " pci=off random.trust_cpu=on memhp_default_state=online"

struct fd_list {
    struct node_vmm_fd items[FDS_MAX];
    size_t count;
};

static void add_fd(struct fd_list *list, const char *name, int fd)
{
    if (fd >= 0) {
        list->items[list->count++] = (struct node_vmm_fd){name, fd};
    }
}

static void add_fds(struct fd_list *list, const char *name, const int *fds, unsigned count)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        add_fd(list, name, fds[i]);
    }
}

static void collect(const struct sandbox *sandbox, struct fd_list *list)
{
    const struct node_stack_fds *stack = &sandbox->stack_fds;

    if (sandbox->restored) {
        add_fd(list, "state", stack->state);
        add_fd(list, "mem_base", stack->warm_mem);
        add_fds(list, "mem", stack->mem, stack->mem_count);
        add_fd(list, "working_set", stack->working_set);
    } else {
        add_fd(list, "kernel", sandbox->fds[SANDBOX_FD_KERNEL]);
        add_fd(list, "initrd", sandbox->fds[SANDBOX_FD_INITRD]);
    }
    add_fd(list, "base", stack->base);
    add_fds(list, "layer", stack->disk, stack->disk_count);
    add_fd(list, "overlay", sandbox->fds[SANDBOX_FD_OVERLAY]);
    add_fd(list, "serial", sandbox->fds[SANDBOX_FD_SERIAL]);
    add_fd(list, "tap", sandbox->fds[SANDBOX_FD_TAP]);
}

static uint64_t hotplug_bytes(const struct node_sandbox_spec *spec)
{
    uint64_t bytes = ((uint64_t)spec->memory_mb << 20) - BOOT_BYTES;

    return (bytes + VMM_HOTPLUG_BLOCK_BYTES - 1) / VMM_HOTPLUG_BLOCK_BYTES *
           VMM_HOTPLUG_BLOCK_BYTES;
}

static void add_fields(void *arg, struct shl_mp_writer *w)
{
    const struct sandbox *sandbox = arg;
    char mac[NODE_MAC_SIZE];

    if (!sandbox->restored) {
        shl_mp_kv_uint(w, "vcpus", NODE_CPUS_MAX);
        shl_mp_kv_uint(w, "memory_bytes", BOOT_BYTES);
        shl_mp_kv_uint(w, "hotplug_max_bytes", HOTPLUG_MAX_BYTES);
        shl_mp_kv_str(w, "cmdline", GUEST_CMDLINE);
    }
    node_net_mac(mac, sandbox->pub.id);
    shl_mp_kv_str(w, "mac", mac);
    shl_mp_kv_uint(w, "hotplug_bytes", hotplug_bytes(&sandbox->pub.spec));
    shl_mp_kv_uint(w, "disk_bytes", (uint64_t)sandbox->pub.spec.disk_mb << 20);
    shl_mp_kv_uint(w, "serial_max_bytes", VMM_SERIAL_DEFAULT_MAX_BYTES);
    if (sandbox->deadline_ms > 0) {
        shl_mp_kv_uint(w, "deadline_ms", sandbox->deadline_ms);
    }
}

int start_send(struct sandbox *sandbox, node_vmm_reply_cb cb)
{
    struct fd_list list = {.count = 0};
    int rc;

    collect(sandbox, &list);
    rc = node_vmm_link_request(sandbox->control, sandbox->restored ? "restore" : "start",
                               add_fields, list.items, list.count, cb, sandbox);
    if (rc == 0) {
        sandbox->deadline_due = false;
    }
    return rc;
}
