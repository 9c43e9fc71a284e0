/* Opening and closing the sandbox manager; only node/main.c needs this. */
#ifndef SHL_NODE_SANDBOX_MANAGER_OPEN_H
#define SHL_NODE_SANDBOX_MANAGER_OPEN_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/log.h"
#include "node/sandbox/manager.h"
#include "node/store/store.h"

struct node_manager_config {
    const char *data_dir;  /* templates/, kernel/, sandboxes/ */
    const char *run_dir;   /* one folder per living sandbox */
    const char *vmm_path;  /* program */
    const char *pool_cidr; /* guest addresses, e.g. "10.201.0.0/16" */
    uint32_t sandboxes_max;
    const struct shl_log *log; /* copied */
    bool warm;                 /* templates are booted once, and creates restored from that */
    bool without_sandboxes;    /* runs none: needs no KVM, kernel or guest network */
    uint32_t memory_total_mb;  /* of this machine that may be used; 0: all of it */
    const char *dns;           /* name server of guests; NULL: the first of this machine */

    /* Tests and special machines; zero takes the default. */
    const char *kvm_path;    /* "/dev/kvm" */
    const char *cgroup_root; /* "/sys/fs/cgroup"; "": no cgroups */
    bool without_network;
    uint32_t boots_max;        /* at the same time; number of CPUs */
    uint32_t boot_ms;          /* until a guest must be ready; 60 s, 180 s when emulated */
    uint32_t silent_ms;        /* how long an agent may be silent; 30 s, 90 s when emulated */
    uint32_t stop_ms;          /* from op stop to SIGKILL; 2 s */
    uint32_t memory_usable_mb; /* memory of the machine without a reserve */
    uint32_t housekeeping_ms;  /* 30 s */
    int64_t ended_keep_ms;     /* NODE_ENDED_KEEP_MS */
};

/* Reads records, adopts running VMMs, cleans what dead ones left, prepares the guest
 * network. All strings are copied. Fails with a sentence when KVM, the kernel, the
 * data folder or nftables is not usable. */
SHL_MUST_CHECK int node_manager_open(uv_loop_t *loop,
                                     struct node_store *store,
                                     const struct node_manager_config *config,
                                     struct node_manager **ret_manager,
                                     struct shl_err *err);

/* Stop watching; VMs run on. @cb when every handle is closed and memory is free. */
void node_manager_close(struct node_manager *manager, void (*cb)(void *arg), void *arg);

#endif /* SHL_NODE_SANDBOX_MANAGER_OPEN_H */
