/* One job for the layers of a checkpoint: a look, and new ones when that is needed. */
#ifndef SHL_NODE_SANDBOX_LAYERS_JOB_H
#define SHL_NODE_SANDBOX_LAYERS_JOB_H

#include "node/sandbox/checkpoints_private.h"

struct layers_job {
    uv_work_t work;
    struct checkpoint *checkpoint;

    /* in */
    const struct node_manager *manager;
    struct ckpt_store *store;
    char template_name[NODE_TEMPLATE_MAX];
    struct node_stack stack; /* referenced */
    struct ckpt_id manifest; /* to make it again from */
    bool flat_disk, flat_mem;

    /* making: one or few at a time, the others wait */
    struct shl_list queue_node;
    uv_work_cb make_run;
    uv_after_work_cb make_done;

    /* in and out of making */
    struct node_stack made; /* referenced; mem_count 0: the memory could not be made */

    /* out */
    int rc;
    struct shl_err err;
    uint64_t run_ms;
};

/* Thread pool: fill the new layers of job->made ... */
void layers_run_again(uv_work_t *work); /* ... from the manifest */
void layers_run_flat(uv_work_t *work);  /* ... from the old ones */

#endif /* SHL_NODE_SANDBOX_LAYERS_JOB_H */
