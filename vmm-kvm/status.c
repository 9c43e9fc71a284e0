#include "vmm-kvm/status.h"

#include <stdio.h>
#include <unistd.h>

#include "vmm-kvm/machine.h"

void vmm_status_write(struct shl_mp_writer *w, const struct vmm_status *status)
{
    shl_mp_kv_str(w, "state", status->state);
    shl_mp_kv_str(w, "reason", status->reason);
    shl_mp_kv_str(w, "detail", status->detail);
    shl_mp_kv_uint(w, "pid", (uint64_t)getpid());
    shl_mp_kv_uint(w, "vcpus", status->vcpus);
    shl_mp_kv_uint(w, "memory_bytes", status->memory_bytes);
    shl_mp_kv_uint(w, "hotplug_max_bytes", status->hotplug_max_bytes);
    shl_mp_kv_uint(w, "hotplug_bytes", status->hotplug_bytes);
    shl_mp_kv_uint(w, "hotplug_plugged_bytes", status->hotplug_plugged_bytes);
    shl_mp_kv_uint(w, "uptime_ms", status->uptime_ms);
    shl_mp_kv_bool(w, "agent_connected", status->agent_connected);
    shl_mp_kv_uint(w, "deadline_ms", status->deadline_ms);
    shl_mp_kv_bool(w, "deadline_struck", status->deadline_struck);
}

static uint64_t load(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void write_exits(struct shl_mp_writer *w, struct vmm_machine *machine)
{
    struct vmm_vcpu_stats sum = {0};
    unsigned i;

    for (i = 0; i < machine->vcpu_count; i++) {
        sum.io += load(&machine->vcpus[i].stats.io);
        sum.mmio += load(&machine->vcpus[i].stats.mmio);
        sum.hlt += load(&machine->vcpus[i].stats.hlt);
        sum.other += load(&machine->vcpus[i].stats.other);
    }
    shl_mp_kv_map(w, "exits");
    shl_mp_kv_uint(w, "io", sum.io);
    shl_mp_kv_uint(w, "mmio", sum.mmio);
    shl_mp_kv_uint(w, "hlt", sum.hlt);
    shl_mp_kv_uint(w, "other", sum.other);
    shl_mp_end(w);
}

static void write_disk(struct shl_mp_writer *w, struct vmm_machine *machine)
{
    const struct vmm_blk_stats *disk = &machine->blk.stats;

    shl_mp_kv_map(w, "disk");
    shl_mp_kv_uint(w, "reads", disk->reads);
    shl_mp_kv_uint(w, "writes", disk->writes);
    shl_mp_kv_uint(w, "read_bytes", disk->read_bytes);
    shl_mp_kv_uint(w, "write_bytes", disk->write_bytes);
    shl_mp_kv_uint(w, "flushes", disk->flushes);
    shl_mp_kv_uint(w, "errors", disk->errors);
    shl_mp_kv_uint(w, "overlay_bytes", vmm_overlay_used_bytes(&machine->overlay));
    shl_mp_end(w);
}

static void write_net(struct shl_mp_writer *w, struct vmm_machine *machine)
{
    const struct vmm_net_stats *net = &machine->net.stats;

    shl_mp_kv_map(w, "net");
    shl_mp_kv_uint(w, "rx_packets", net->rx_packets);
    shl_mp_kv_uint(w, "rx_bytes", net->rx_bytes);
    shl_mp_kv_uint(w, "rx_dropped", net->rx_dropped);
    shl_mp_kv_uint(w, "tx_packets", net->tx_packets);
    shl_mp_kv_uint(w, "tx_bytes", net->tx_bytes);
    shl_mp_kv_uint(w, "tx_dropped", net->tx_dropped);
    shl_mp_end(w);
}

static uint64_t resident_bytes(int statm_fd)
{
    unsigned long long pages;
    char text[128];
    ssize_t n = pread(statm_fd, text, sizeof(text) - 1, 0);

    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    return sscanf(text, "%*u %llu", &pages) == 1 ? pages * VMM_PAGE_BYTES : 0;
}

/* Counters of devices belong to the loop's thread, which is the caller's; those of the
 * register file are read without its lock, a stale value does no harm here. */
void vmm_stats_write(struct shl_mp_writer *w, struct vmm_machine *machine, int statm_fd)
{
    uint64_t queue_errors = 0;
    unsigned i;

    write_exits(w, machine);
    write_disk(w, machine);
    write_net(w, machine);
    shl_mp_kv_map(w, "agent");
    shl_mp_kv_uint(w, "rx_bytes", machine->console.stats.rx_bytes);
    shl_mp_kv_uint(w, "tx_bytes", machine->console.stats.tx_bytes);
    shl_mp_kv_uint(w, "tx_dropped_bytes", machine->console.stats.tx_dropped_bytes);
    shl_mp_end(w);
    for (i = 0; i < machine->slot_count; i++) {
        if (machine->slots[i].dev) {
            queue_errors += load(&machine->slots[i].dev->ignored_accesses);
        }
    }
    shl_mp_kv_uint(w, "rng_bytes", machine->rng.bytes);
    shl_mp_kv_map(w, "balloon");
    shl_mp_kv_uint(w, "reported_bytes", machine->balloon.stats.reported_bytes);
    shl_mp_kv_uint(w, "discarded_bytes", machine->balloon.stats.discarded_bytes);
    shl_mp_end(w);
    shl_mp_kv_uint(w, "queue_errors", queue_errors);
    shl_mp_kv_uint(w, "serial_bytes", load(&machine->log.bytes));
    shl_mp_kv_uint(w, "serial_dropped_bytes", load(&machine->log.dropped_bytes));
    shl_mp_kv_uint(w, "vmm_rss_bytes", resident_bytes(statm_fd));
}
