/* Opening and closing the sandbox manager; only node/main.c needs this. */
#ifndef SHL_NODE_SANDBOX_MANAGER_OPEN_H
#define SHL_NODE_SANDBOX_MANAGER_OPEN_H

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
    const struct shl_log *log;
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
