/* The life of the process: sockets, one VM, its end, the exit file. Runs the loop on
 * the calling thread. */
#ifndef SHL_VMM_PROCESS_H
#define SHL_VMM_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "vmm-kvm/jail.h"
#include "vmm-kvm/machine.h"
#include "vmm-kvm/server.h"
#include "vmm-kvm/status.h"

struct vmm_process {
    struct vmm_loop loop;
    struct vmm_outcome outcome;
    struct vmm_server server;
    struct vmm_machine machine;
    struct vmm_jail_config jail;
    const char *dir; /* borrowed; the process works in it */

    struct vmm_watch outcome_watch;
    struct vmm_watch signal_watch;
    struct vmm_watch grace_watch;
    struct vmm_watch deadline_watch;
    int control_fd; /* listeners */
    int agent_fd;
    int signal_fd;
    int grace_fd;    /* timer of a stop with grace */
    int deadline_fd; /* timer of the deadline */
    int statm_fd;
    int exit_fd; /* the exit file under its temporary name */

    struct shl_err kvm_err; /* why KVM is not usable; told when a VM is to start */
    int kvm_code;
    bool start_tried;
    bool running;     /* a VM was started, paused or not */
    bool told_paused; /* what clients were told last */
};

/* Everything up to the point where requests are taken: folder, sockets, KVM, jail. */
SHL_MUST_CHECK int vmm_process_open(struct vmm_process *process, struct shl_err *err);

/* Start or restore the VM of process->machine.config now (the ops, and the run mode). */
SHL_MUST_CHECK int vmm_process_start(struct vmm_process *process, struct shl_err *err);

/* A VM that cannot start ends the process, after the reply. Returns @code. */
int vmm_process_fail(struct vmm_process *process, int code, const struct shl_err *err);

/* Op deadline. */
void vmm_process_set_deadline(struct vmm_process *process, uint64_t at_ms);

struct vmm_status vmm_process_status(struct vmm_process *process);
/* Tell all clients the state. */
void vmm_process_announce(struct vmm_process *process);

/* Serve until the VM has ended; writes the exit file. Returns the exit status. */
int vmm_process_serve(struct vmm_process *process);

void vmm_process_release(struct vmm_process *process);

#endif /* SHL_VMM_PROCESS_H */
