/* Parking the vCPU threads: how a machine stands still.
 *
 * pausing is set, every thread is called out of KVM_RUN (immediate_exit and a signal),
 * completes the access it left the guest for, and waits. Then the loop thread alone
 * touches the machine and may read and write the state of all vCPUs. */
#ifndef SHL_VMM_PARK_H
#define SHL_VMM_PARK_H

struct vmm_machine;

/* vCPU thread: wait until the machine goes on or has ended. */
void vmm_machine_park(struct vmm_machine *machine);
/* vCPU thread: the last thing it does. */
void vmm_machine_leave(struct vmm_machine *machine);

/* Call all vCPU threads out of the guest, without a way back in. */
void vmm_machine_interrupt(struct vmm_machine *machine);
/* Let parked threads go on. */
void vmm_machine_unpark(struct vmm_machine *machine);

#endif /* SHL_VMM_PARK_H */
