/* The maps of the ops status and stats, and the exit file (control.h). */
#ifndef SHL_VMM_STATUS_H
#define SHL_VMM_STATUS_H

#include <stdbool.h>

#include "base/mp.h"

struct vmm_machine;

struct vmm_status {
    const char *state; /* VMM_STATE_* */
    const char *reason;
    const char *detail;
    unsigned vcpus;
    uint64_t memory_bytes;
    uint64_t hotplug_max_bytes;
    uint64_t hotplug_bytes;
    uint64_t hotplug_plugged_bytes;
    uint64_t uptime_ms;
    bool agent_connected;
    uint64_t deadline_ms;
    bool deadline_struck;
};

/* Keys and values into the map that is open in @w. */
void vmm_status_write(struct shl_mp_writer *w, const struct vmm_status *status);

/* @statm_fd: /proc/self/statm, opened before the jail closed. @machine may be half built. */
void vmm_stats_write(struct shl_mp_writer *w, struct vmm_machine *machine, int statm_fd);

#endif /* SHL_VMM_STATUS_H */
