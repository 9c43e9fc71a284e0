/* What one VM is to be: the op start or restore, decoded and checked. */
#ifndef SHL_VMM_CONFIG_H
#define SHL_VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/net.h"

/* Descriptors are owned by the config (-1: absent) and stay open as long as the
 * machine lives. */
struct vmm_config {
    bool restoring; /* vcpus, memory_bytes and hotplug_max_bytes come from the state */
    bool start_paused;
    bool has_mac;
    unsigned vcpus;
    uint64_t memory_bytes;
    uint64_t hotplug_max_bytes; /* 0: no memory can be plugged */
    uint64_t hotplug_bytes;
    uint64_t disk_bytes;
    uint64_t serial_max_bytes;
    uint64_t deadline_ms; /* 0: none */
    char cmdline[VMM_CMDLINE_MAX];
    uint8_t mac[VMM_NET_MAC_BYTES];
    int kernel_fd;
    int initrd_fd;
    int base_fd;
    int layer_fds[VMM_DISK_LAYERS_MAX]; /* from the lowest; those behind the last are -1 */
    int overlay_fd;
    int tap_fd;
    int serial_fd;
    int state_fd;
    int mem_base_fd;
    int mem_fds[VMM_MEM_LAYERS_MAX]; /* as layer_fds */
    int working_set_fd;
};

/* The descriptors that op snapshot brings, -1: absent. */
struct vmm_snapshot_config {
    bool keep_paused;
    bool disk_only;
    int state_fd;
    int mem_fd;
    int overlay_fd;
};

void vmm_config_init(struct vmm_config *config);
void vmm_config_release(struct vmm_config *config); /* closes the descriptors */

/* Close those that are only needed until the VM runs. */
void vmm_config_close_sources(struct vmm_config *config);

/* The place of descriptor @name ("kernel", ...), for "layer" and "mem" the next free one.
 * NULL for an unknown name or when all places are taken. */
int *vmm_config_fd(struct vmm_config *config, const char *name);

/* How many there are in layer_fds or mem_fds. */
unsigned vmm_config_count_fds(const int *fds, unsigned max);

/* "aa:bb:cc:dd:ee:ff", a unicast address. 0 or SHL_EINVALIDARG. */
SHL_MUST_CHECK int vmm_config_parse_mac(struct vmm_config *config,
                                        const char *text,
                                        struct shl_err *err);

/* Limits of control.h and what must be there. 0 or SHL_EINVALIDARG with the reason. */
SHL_MUST_CHECK int vmm_config_check(const struct vmm_config *config, struct shl_err *err);

#endif /* SHL_VMM_CONFIG_H */
