/* Processors and memory that come and go while the guest runs.
 *
 * A warm snapshot is taken of a small guest; each sandbox made of it gets its own size:
 * processors are switched on and off through sysfs, memory arrives through virtio-mem some time
 * after the guest runs. Blocking, no shared state.
 */
#ifndef SHL_AGENT_HOTPLUG_H
#define SHL_AGENT_HOTPLUG_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define AGENT_CPU_DIR  "/sys/devices/system/cpu"
#define AGENT_CPUS_MAX 256

/* Memory counts as stuck when nothing was added for so long. */
#define AGENT_MEMORY_STALL_MS 15000
/* What the machine gives at once: less than this may be missing of what was asked for. */
#define AGENT_MEMORY_BLOCK_BYTES (4ull << 20)

/* The machine when process 1 started, before any driver was there; then one thread's. */
struct agent_memory_base {
    uint64_t ram_bytes;   /* of the machine's memory map */
    uint64_t total_bytes; /* of the kernel (MemTotal): less by what it keeps for itself */

    uint64_t limits_bytes; /* what agent_memory_apply_limits was called for last */
};

/* Exactly the first @count processors of @dir (AGENT_CPU_DIR) online; the first one always
 * is. SHL_EINVALIDARG: the machine has fewer; -errno. */
SHL_MUST_CHECK int agent_cpus_set(const char *dir, unsigned count, struct shl_err *err);

/* Sum of "System RAM" at the top level of /proc/iomem. */
uint64_t agent_iomem_ram_bytes(const char *text);
void agent_memory_measure(struct agent_memory_base *base);
/* MemTotal now. */
uint64_t agent_memory_total(void);

/* How much MemTotal has to be for a machine of @memory_bytes. */
uint64_t agent_memory_wanted(const struct agent_memory_base *base, uint64_t memory_bytes);

/* Until it is; -ETIMEDOUT when it stops growing before. */
SHL_MUST_CHECK int agent_memory_wait(const struct agent_memory_base *base,
                                     uint64_t memory_bytes,
                                     struct shl_err *err);

/* Limits that the kernel derived from the memory it booted with, for the memory it has. Does
 * nothing when that is as it was: what the user has set since stays. */
void agent_memory_apply_limits(struct agent_memory_base *base);

#endif /* SHL_AGENT_HOTPLUG_H */
