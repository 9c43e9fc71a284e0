/* The machine: guest memory, KVM, vCPUs, devices and their host sides, wired together.
 *
 * Threads: one per vCPU handles its exits; the thread that runs the loop works through
 * queues and host descriptors. Each virtio device has one lock (struct vmm_slot),
 * taken for register accesses and queue work; the serial port has its own. Locks do
 * not nest, except that outcome.lock may be taken inside any.
 */
#ifndef SHL_VMM_MACHINE_H
#define SHL_VMM_MACHINE_H

#include <pthread.h>

#include "base/err.h"
#include "vmm-kvm/agent_socket.h"
#include "vmm-kvm/balloon.h"
#include "vmm-kvm/blk.h"
#include "vmm-kvm/config.h"
#include "vmm-kvm/console.h"
#include "vmm-kvm/console_log.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/deadline.h"
#include "vmm-kvm/hotplug.h"
#include "vmm-kvm/kvm.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/loop.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/net.h"
#include "vmm-kvm/outcome.h"
#include "vmm-kvm/overlay.h"
#include "vmm-kvm/rng.h"
#include "vmm-kvm/serial.h"
#include "vmm-kvm/slot.h"
#include "vmm-kvm/tap.h"
#include "vmm-kvm/vcpu.h"

struct vmm_machine {
    struct vmm_config config;
    struct vmm_kvm kvm; /* opened by the caller before the jail closes */
    struct vmm_mem mem;
    struct vmm_loop *loop;       /* borrowed */
    struct vmm_outcome *outcome; /* borrowed */

    struct vmm_vcpu vcpus[VMM_VCPUS_MAX];
    unsigned vcpu_count;

    /* Parking of vCPU threads (park.h). They are parked from the start. */
    pthread_mutex_t park_lock;
    pthread_cond_t park_changed;
    bool pausing; /* atomic: vCPU threads are to park */
    unsigned thread_count;
    unsigned parked_count; /* under park_lock, as the next one */
    unsigned left_count;   /* threads that ended */
    bool paused;           /* the loop thread's view: all are parked */
    bool asleep;           /* restored and not run since */
    struct vmm_deadline deadline;
    int pagemap_fd; /* borrowed: /proc/self/pagemap */

    pthread_mutex_t serial_lock;
    struct vmm_serial serial;
    struct vmm_console_log log;
    int serial_irq_fd;

    struct vmm_slot slots[VMM_VIRTIO_MAX]; /* in address order */
    unsigned slot_count;
    struct vmm_overlay overlay;
    struct vmm_blk blk;
    struct vmm_net net;
    struct vmm_tap tap;
    struct vmm_console console;
    struct vmm_agent_socket agent;
    struct vmm_rng rng;
    struct vmm_balloon balloon;
    struct vmm_hotplug hotplug; /* only connected when mem.hotplug_max is not 0 */
    uint64_t started_at_ms;
    int (*thread_init)(void *ctx); /* run by each vCPU thread first (seccomp), or NULL */
};

/* Everything but running: takes over machine->config and machine->kvm, which the
 * caller has filled. @agent_listen_fd is borrowed. On failure release is still due. */
SHL_MUST_CHECK int vmm_machine_build(struct vmm_machine *machine,
                                     struct vmm_loop *loop,
                                     struct vmm_outcome *outcome,
                                     int agent_listen_fd,
                                     struct shl_err *err);

/* What both ways to build do first. */
void vmm_machine_prepare(struct vmm_machine *machine,
                         struct vmm_loop *loop,
                         struct vmm_outcome *outcome);

/* Start the vCPU threads; they are parked until vmm_machine_run, and beyond it when
 * config.start_paused. */
SHL_MUST_CHECK int vmm_machine_start_threads(struct vmm_machine *machine, struct shl_err *err);
void vmm_machine_run(struct vmm_machine *machine);

/* Ops pause and resume: the vCPUs stand still between instructions, nothing half done.
 * Both do nothing when it is so already. SHL_EGONE when the VM ended meanwhile. Loop
 * thread, which does all device work: while it does not return, devices stand still too. */
SHL_MUST_CHECK int vmm_machine_pause(struct vmm_machine *machine, struct shl_err *err);
void vmm_machine_resume(struct vmm_machine *machine);

/* When its deadline comes now, true: it was paused, and its devices do no more work either,
 * which for one that is only paused goes on to the end of what the guest asked for. Loop
 * thread, before it does anything else. */
bool vmm_machine_keep_deadline(struct vmm_machine *machine);

/* Op resume: SHL_EBADSTATE when the deadline has passed, else as vmm_machine_resume. */
SHL_MUST_CHECK int vmm_machine_go_on(struct vmm_machine *machine, struct shl_err *err);

/* Kick all vCPUs out of the guest and join them; the outcome must be set before. */
void vmm_machine_join(struct vmm_machine *machine);
void vmm_machine_release(struct vmm_machine *machine);

/* vCPU thread: run the guest until the outcome is set. */
void vmm_vcpu_run(struct vmm_machine *machine, struct vmm_vcpu *vcpu);

#define VMM_KICK_SIGNAL SIGUSR1

#endif /* SHL_VMM_MACHINE_H */
