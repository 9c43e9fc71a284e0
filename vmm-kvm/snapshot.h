/* Snapshots of a running machine, and machines made of them. Loop thread.
 *
 * A snapshot is taken in one pause: device and KVM state, the private pages, the sealed
 * overlay. Whatever fails, the machine goes on as it was; the seal, which cannot be taken
 * back, comes last. One whose deadline comes meanwhile stays paused. */
#ifndef SHL_VMM_SNAPSHOT_H
#define SHL_VMM_SNAPSHOT_H

#include "vmm-kvm/machine.h"
#include "vmm-kvm/state.h"

struct vmm_snapshot_result {
    uint64_t pause_us; /* how long the guest stood still, up to the resume */
    uint64_t dirty_pages;
    uint64_t mem_bytes; /* of the layer file */
    uint64_t state_bytes;
};

/* Op snapshot. Descriptors of @config are borrowed, but for an overlay that is in use
 * afterwards: then @config->overlay_fd is -1. */
SHL_MUST_CHECK int vmm_machine_snapshot(struct vmm_machine *machine,
                                        struct vmm_snapshot_config *config,
                                        struct vmm_snapshot_result *ret,
                                        struct shl_err *err);

/* Op layers: read the disk through @fds from now on. Takes them over on success. */
SHL_MUST_CHECK int vmm_machine_set_layers(struct vmm_machine *machine,
                                          const int *fds,
                                          unsigned count,
                                          struct shl_err *err);

/* As vmm_machine_build, from the files of machine->config (restoring). */
SHL_MUST_CHECK int vmm_machine_build_restored(struct vmm_machine *machine,
                                              struct vmm_loop *loop,
                                              struct vmm_outcome *outcome,
                                              int agent_listen_fd,
                                              struct shl_err *err);

#endif /* SHL_VMM_SNAPSHOT_H */
