/* One import: from a manifest in the store to a checkpoint or a hibernated sandbox. */
#ifndef SHL_NODE_SANDBOX_IMPORT_JOB_H
#define SHL_NODE_SANDBOX_IMPORT_JOB_H

#include "node/sandbox/checkpoints_private.h"

struct import_job {
    uv_work_t work;
    const struct node_manager *manager;
    struct checkpoints *set;
    bool is_sandbox;
    node_sandbox_cb cb;
    void *arg;

    /* in */
    char id[NODE_CHECKPOINT_ID_SIZE];
    char manifest_hex[NODE_MANIFEST_SIZE];
    struct ckpt_id manifest_id;
    struct {
        char id[NODE_BASE_ID_SIZE];
        char manifest_hex[NODE_MANIFEST_SIZE];
        struct ckpt_id manifest_id;
    } bases[NODE_BASES_MAX];
    uint32_t base_count;

    /* of import_run_read */
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin;          /* while it is needed */
    struct checkpoint *checkpoint; /* what its config says; made before */
    bool missing[NODE_BASES_MAX];  /* the files of checkpoint->bases */

    struct node_stack stack; /* referenced once has_stack is set */
    bool has_stack;
    uint64_t bytes; /* of the files written */

    int rc;
    struct shl_err err;
};

/* Thread pool: read and check everything ... */
void import_run_read(uv_work_t *work);
/* ... and write the files: bases that are missing, and the layers of a sandbox. */
void import_run_write(uv_work_t *work);
/* Both parts of reading; also for node_import_bases. */
SHL_MUST_CHECK int import_read(struct import_job *job);
void import_release(struct import_job *job);

#endif /* SHL_NODE_SANDBOX_IMPORT_JOB_H */
