/* The devices of a machine: building them with their host sides, saving and restoring
 * their state. Loop thread; the vCPUs stand still during save and restore. */
#ifndef SHL_VMM_DEVICES_H
#define SHL_VMM_DEVICES_H

#include "base/err.h"
#include "vmm-kvm/state.h"

struct vmm_machine;

/* Serial port and all virtio devices, in the order of their addresses. The VM exists.
 * @agent_listen_fd is borrowed. On failure release is still due. */
SHL_MUST_CHECK int vmm_devices_build(struct vmm_machine *machine,
                                     int agent_listen_fd,
                                     struct shl_err *err);
void vmm_devices_release(struct vmm_machine *machine);

/* Whether the machine of @config has exactly the devices of @state. SHL_EINVALIDARG
 * (network), SHL_ECORRUPT. */
SHL_MUST_CHECK int vmm_devices_check(const struct vmm_machine *machine,
                                     const struct vmm_state *state,
                                     struct shl_err *err);

SHL_MUST_CHECK int vmm_devices_save(struct vmm_machine *machine,
                                    struct vmm_state *state,
                                    struct shl_err *err);

/* Into devices that were just built. SHL_ECORRUPT, SHL_EINCOMPATIBLE, SHL_EINVALIDARG. */
SHL_MUST_CHECK int vmm_devices_restore(struct vmm_machine *machine,
                                       const struct vmm_state *state,
                                       struct shl_err *err);

/* A restored machine is about to run for the first time: interrupts and notifications
 * that were under way are made again, and larger sizes are told. */
void vmm_devices_wake(struct vmm_machine *machine);

#endif /* SHL_VMM_DEVICES_H */
