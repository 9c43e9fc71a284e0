/* /proc/sys/kernel/random/boot_id: new in every sandbox.
 *
 * The kernel draws it once, at boot, so all sandboxes of one snapshot would have the same.
 * The machine id is mixed in, which is the node's and differs in each: a wake keeps the
 * result, a reboot and a fork change it. It lies over the kernel's file as a bind mount.
 */
#ifndef SHL_AGENT_BOOT_ID_H
#define SHL_AGENT_BOOT_ID_H

#include "base/attr.h"
#include "base/err.h"
#include "base/id.h"

struct agent_boot_id {
    char kernel[SHL_UUID_SIZE]; /* as the kernel drew it; "" before the first apply */
    int fd;                     /* of the file that is mounted */
};

/* The UUID of both; 0, or -EINVAL when @kernel is no UUID or @machine_id not 32 digits. */
SHL_MUST_CHECK int agent_boot_id_mix(char dst[SHL_UUID_SIZE],
                                     const char *kernel,
                                     const char *machine_id);

/* For programs that start from now on; as root of a guest, /run is a tmpfs. Blocking. 0 or
 * -errno. */
SHL_MUST_CHECK int agent_boot_id_apply(struct agent_boot_id *id, const char *machine_id);

#endif /* SHL_AGENT_BOOT_ID_H */
