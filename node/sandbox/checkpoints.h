/* Checkpoints of sandboxes: records, making, restoring, forking.
 *
 * One set per node, owned by the manager, on the loop thread. A checkpoint outlives its
 * sandbox. Its data are layer files (node/sandbox/stack.h) at once, and a manifest in
 * the checkpoint store when it is ready. States: processing -> ready | failed.
 *
 *   processing  the record is durable, the sandbox is about to be paused or its data are
 *               being hashed and stored
 *   ready       everything is durable
 *   failed      error says why; nothing is left of it but the record. It holds no name and
 *               counts for no limit; the newest few of a sandbox are kept
 *
 * A sandbox that starts from a checkpoint needs its layers, not its manifest: a fork of one
 * that is processing waits for the snapshot alone. Layers that were lost or damaged are
 * made again from the manifest. What was started does not depend on the checkpoint any more.
 */
#ifndef SHL_NODE_SANDBOX_CHECKPOINTS_H
#define SHL_NODE_SANDBOX_CHECKPOINTS_H

#include "node/sandbox/manager.h"

#define NODE_CHECKPOINT_NAME_MAX  128
#define NODE_CHECKPOINTS_FULL_MAX 10 /* per sandbox and kind, the sandbox alive or not */
#define NODE_CHECKPOINTS_DISK_MAX 100
#define NODE_FORK_COUNT_MAX       64    /* of one request */
#define NODE_CHECKPOINT_WAIT_MS   30000 /* a fork waits so long for one that is processing */

enum node_checkpoint_status {
    NODE_CHECKPOINT_PROCESSING,
    NODE_CHECKPOINT_READY,
    NODE_CHECKPOINT_FAILED,
};

struct node_checkpoint {
    char id[NODE_CHECKPOINT_ID_SIZE];
    char sandbox_id[NODE_SANDBOX_ID_SIZE];
    char name[NODE_CHECKPOINT_NAME_MAX + 1];
    bool disk_only;
    enum node_checkpoint_status status;
    char error[NODE_REASON_MAX];   /* when failed */
    struct node_sandbox_spec spec; /* of the sandbox at that moment */
    uint64_t size_bytes;           /* what it adds to this node; 0 until ready */
    char manifest[65];             /* content id in hex; "" until ready */
    int64_t created_at_ms;
    int64_t failed_at_ms;
    struct node_manager *manager;
    struct shl_list link; /* newest first; internal */
    void *runtime;        /* of node/sandbox alone */
};

const char *node_checkpoint_status(const struct node_checkpoint *checkpoint);

struct node_checkpoint_spec {
    char name[NODE_CHECKPOINT_NAME_MAX + 1];
    bool disk_only;
    /* Retention delete_oldest: as soon as this one is ready, the oldest that are ready and not in
     * use go until so many of this kind are left. 0: refuse at the limit instead. */
    uint32_t keep_max;
};

/* Returns as soon as the record (processing) is durable. SHL_EBADSTATE (not running),
 * SHL_EINVALIDARG (name), SHL_ECONFLICT ("... already exists"), SHL_EBADSTATE again ("... the
 * maximum") at the limit of the sandbox, SHL_EQUOTA at that of the node. */
SHL_MUST_CHECK int node_checkpoint_create(struct node_manager *manager,
                                          struct node_sandbox *sandbox,
                                          const struct node_checkpoint_spec *spec,
                                          struct node_checkpoint **ret_checkpoint,
                                          struct shl_err *err);

/* NULL when there is none of that id in that organisation. */
struct node_checkpoint *node_checkpoint_find(struct node_manager *manager,
                                             const char *org,
                                             const char *id);
/* Those of one sandbox, newest first (@org NULL: of any); false stops. */
void node_checkpoint_each(struct node_manager *manager,
                          const char *org,
                          const char *sandbox_id,
                          bool (*each)(void *arg, struct node_checkpoint *checkpoint),
                          void *arg);
/* Durable when it returns 0; @checkpoint is gone then. Forks that run, or wait for layers that are
 * there, are not affected. */
SHL_MUST_CHECK int node_checkpoint_delete(struct node_manager *manager,
                                          struct node_checkpoint *checkpoint,
                                          struct shl_err *err);

/* @sandbox continues from @checkpoint, under the same id. Running or hibernated one;
 * SHL_EBADSTATE else, or when the checkpoint is not ready or of another sandbox. After a
 * failure it is what it was. */
void node_manager_restore(struct node_manager *manager,
                          struct node_sandbox *sandbox,
                          struct node_checkpoint *checkpoint,
                          node_sandbox_cb cb,
                          void *arg);

/* What a fork changes; envs and metadata are merged over the checkpoint's. */
struct node_fork_spec {
    uint32_t timeout_s;
    uint32_t memory_mb; /* 0: as in the checkpoint; less is raised to that */
    uint32_t cpus;      /* 0: as in the checkpoint */
    uint32_t disk_mb;   /* 0 or less than the checkpoint's: as there */
    bool has_loss;      /* else as in the checkpoint */
    enum node_on_loss on_node_loss;
    uint32_t autosave_s;
    struct node_kv_list envs;
    struct node_kv_list metadata;
    char *secret_store; /* heap; a store to be put on top, for who binds them; NULL: none */
    /* Stores and tokens instead of the checkpoint's; NULL: its stores without tokens. Borrowed. */
    const struct node_secret_use *secrets;
};

/* A new sandbox from @checkpoint; like node_manager_create in everything else, but without
 * room for it @cb is told (with a NULL sandbox). Waits up to NODE_CHECKPOINT_WAIT_MS for the
 * snapshot of one that is processing, then SHL_EBADSTATE ("checkpoint not ready ..."). */
SHL_MUST_CHECK int node_manager_fork(struct node_manager *manager,
                                     struct node_checkpoint *checkpoint,
                                     const struct node_fork_spec *spec,
                                     node_create_cb cb,
                                     void *arg,
                                     struct shl_err *err);

#endif /* SHL_NODE_SANDBOX_CHECKPOINTS_H */
