/* One import: from a manifest in the store to a checkpoint or a hibernated sandbox. */
#ifndef SHL_NODE_SANDBOX_IMPORT_JOB_H
#define SHL_NODE_SANDBOX_IMPORT_JOB_H

#include "node/sandbox/checkpoints_private.h"

struct import_job {
    struct shl_list link; /* of the set's imports */
    uv_work_t work;
    const struct node_manager *manager;
    struct checkpoints *set;
    bool is_sandbox;
    bool is_ready;   /* files alone: node_import_ready */
    bool has_layers; /* they are to be written */
    bool is_started;
    bool waits_for_base, writes_base;
    uint64_t began_ms;
    bool of_checkpoint;
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
/* Which bases are missing now; opens files, which takes microseconds. */
void import_look(struct import_job *job);

/* import_ready.c: layers that were written ahead, by artefact. */
bool ready_has(const struct checkpoints *set, const char *id, const char *manifest);
/* The reference on *ret_stack is the caller's then. False: there are none of this manifest. */
bool ready_take(struct checkpoints *set,
                const char *id,
                const char *manifest,
                struct node_stack *ret_stack,
                uint64_t *ret_bytes);
/* Takes a reference of its own. 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int ready_add(struct checkpoints *set,
                             const char *id,
                             const char *manifest,
                             const struct node_stack *stack,
                             uint64_t bytes,
                             struct shl_err *err);

#endif /* SHL_NODE_SANDBOX_IMPORT_JOB_H */
