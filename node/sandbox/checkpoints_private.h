/* What the files of checkpoints share.
 *
 *   checkpoints.c        the set: opening, closing, find, each, housekeeping
 *   checkpoint_make.c    create, limits, retention, failure, delete
 *   checkpoint_record.c  struct to msgpack and back
 *   ingest.c             from layers to chunks and a manifest, on the thread pool
 *   layers_again.c       whether the layers are usable; layers_make.c makes new ones if not
 *   fork.c               forks, restore in place, and those who wait for layers
 *   upkeep.c             manifests nobody names, collection, scrubbing
 *   checkpoint_config.c  the config of a manifest, for other nodes and from them
 *   artefacts.c          what other nodes hear of; hibernations as artefacts ("saves")
 *   bases.c              what artefacts are relative to, as artefacts of their own
 *   import.c             checkpoints and sandboxes from other nodes; import_files.c their files
 *
 * Loop thread, except the run functions of jobs, which touch only their job. Whatever is
 * under way for a checkpoint counts in its `busy` and in the manager's `jobs`: the struct
 * stays until that is over, also when its record is gone, and so does the manager.
 */
#ifndef SHL_NODE_SANDBOX_CHECKPOINTS_PRIVATE_H
#define SHL_NODE_SANDBOX_CHECKPOINTS_PRIVATE_H

#include <stdatomic.h>

#include <uv.h>

#include "base/buf.h"
#include "checkpoint/manifest.h"
#include "node/sandbox/checkpoints.h"
#include "node/sandbox/portable.h"
#include "node/sandbox/stack.h"

#define CHECKPOINT_KIND        "checkpoint" /* of records */
#define CHECKPOINT_RECORD_MAX  (512 * 1024) /* a specification at its limits, and room */
#define CHECKPOINTS_MAX        20000        /* of a node */
#define CHECKPOINTS_FAILED_MAX 10           /* records of failed ones kept per sandbox */
#define CHECKPOINT_INGESTS_MAX 1            /* at the same time: it is CPU, and guests need that */
/* Making layers at the same time: long jobs must not fill the thread pool, which starts VMs too. */
#define CHECKPOINT_MAKES_MAX      1
#define CHECKPOINT_COLLECT_MS     (3600 * 1000) /* also soon after a deletion, but not */
#define CHECKPOINT_COLLECT_GAP_MS (60 * 1000)   /* more often than this */
#define CHECKPOINT_SCRUB_MS       (60 * 1000)
#define CHECKPOINT_SCRUB_SHARE    (100 * 60)    /* of the bytes, every minute: 1 % per hour */
#define CHECKPOINT_SCRUB_MIN      (1024 * 1024) /* bytes, however small the store is */
/* Stacks so deep are made flat before something starts from them: what starts must have
 * room for a checkpoint and a hibernation of its own. */
#define CHECKPOINT_MEM_DEEP     (VMM_MEM_LAYERS_MAX - 1)
#define CHECKPOINT_DISK_DEEP    (VMM_DISK_LAYERS_MAX - 4)
#define CHECKPOINT_STORE_FOLDER "checkpoints"

struct checkpoints;
struct checkpoint;

/* Someone who wants to start from a checkpoint. @stack is referenced for the length of
 * the call. Embed it; it is the callee's when it is called. */
struct checkpoint_waiter {
    struct shl_list node;       /* of the checkpoint */
    struct shl_list limit_node; /* of the set, while the snapshot is not taken */
    struct checkpoint *checkpoint;
    uint64_t deadline_ms; /* monotonic */
    void (*go)(struct checkpoint_waiter *waiter,
               int code,
               const char *msg,
               const struct node_stack *stack);
};

struct checkpoint_ingest;
#define CONFIG_ID_DIGITS 8 /* of a sandbox, after "sb-" */
/* Hostile input: fills a fresh checkpoint (id, what it is of, save) from a peer's config, and
 * the bases it names. SHL_EVERSION, SHL_ECORRUPT, -ENOMEM with a sentence. */
SHL_MUST_CHECK int checkpoint_decode_config(struct checkpoint *checkpoint,
                                            struct shl_bytes config,
                                            struct shl_err *err);
/* Fields of records and configs that say what it is of. */
void checkpoint_encode_what(struct shl_mp_writer *w, const struct node_checkpoint *pub);
SHL_MUST_CHECK int checkpoint_decode_what(const msgpack_object *map,
                                          struct node_checkpoint *pub,
                                          bool has_name);

/* artefacts.c */
void artefacts_on_ready(struct checkpoint *checkpoint); /* also when its manifest is another */
void artefacts_on_gone(const struct checkpoint *checkpoint);
/* Bases became available, or it is time to try again. */
void artefacts_consider(struct checkpoints *set);
void artefacts_housekeeping(struct checkpoints *set);
void artefacts_tell_base(struct checkpoints *set,
                         const struct node_artefact *artefact,
                         bool is_gone);
struct checkpoint *artefact_find(struct checkpoints *set, const char *id);
/* A save is ready, failed or was dropped: what it makes superfluous goes, the next begins. */
void saves_settle(struct checkpoints *set, const char *sandbox_id);
void saves_pump(struct checkpoints *set);
void saves_tick(struct checkpoints *set, uint64_t now_ms); /* autosaves that are due */
void saves_on_tick(uv_timer_t *timer);

/* bases.c */
SHL_MUST_CHECK int bases_load(struct checkpoints *set, struct shl_err *err);
void bases_free(struct checkpoints *set);
/* Are those of a ready one recorded? What is missing is made. */
bool bases_ready(struct checkpoints *set, const struct checkpoint *checkpoint);
void bases_pump(struct checkpoints *set);
void bases_retry(struct checkpoints *set);
void bases_tell(struct checkpoints *set);
void bases_each_manifest(struct checkpoints *set,
                         void (*each)(void *arg, const char *manifest),
                         void *arg);
bool bases_has(const struct checkpoints *set, const char *id);
/* One that came from another node, with its files. */
SHL_MUST_CHECK int bases_add(struct checkpoints *set,
                             const char *id,
                             bool is_memory,
                             const char *manifest,
                             struct shl_err *err);
/* Its files stay, now and after a restart, until bases_keep_only. Nothing without a record. */
void bases_keep(struct checkpoints *set, const char *id);
bool bases_forget(struct checkpoints *set, const char *id); /* false: there is none */
SHL_MUST_CHECK int bases_encode_config(const char *id,
                                       bool is_memory,
                                       uint64_t bytes,
                                       struct shl_buf *buf);
/* Hostile input. SHL_ECORRUPT: it is not that of base @id of this kind. */
SHL_MUST_CHECK int bases_decode_config(struct shl_bytes config,
                                       const char *id,
                                       bool is_memory,
                                       uint64_t *ret_bytes,
                                       struct shl_err *err);
/* Thread pool: whether its file is here. */
bool bases_has_file(const struct node_manager *manager,
                    const char *template_name,
                    const char *id,
                    bool is_memory);

/* import_ready.c */
void readies_free(struct checkpoints *set);

/* ingest.c */
struct layers_job; /* layers_again.c */

struct checkpoint {
    struct node_checkpoint pub;
    struct checkpoints *set;

    /* part of the record beside pub */
    bool has_stack; /* then @stack is referenced */
    struct node_stack stack;
    uint64_t layer_bytes; /* size_bytes as soon as it is ready */
    uint32_t keep_max;    /* retention, applied when it is ready */
    /* what a sandbox comes back from when its node is lost: in no list, limit or count of
     * checkpoints, without a name. Its layers are given back when it is ready. */
    bool save;
    bool imported;                     /* from another node: told to nobody when it is new */
    char of_state[NODE_LAYER_ID_SIZE]; /* save: the state in the sandbox's stack at that time */
    int64_t sandbox_created_at_ms;     /* save: of the sandbox, as from_checkpoint */
    char sandbox_from[NODE_CHECKPOINT_ID_SIZE];
    char bases[NODE_BASES_MAX][NODE_BASE_ID_SIZE]; /* of the manifest: disk, memory; "" none */
    uint64_t chunk_bytes;                          /* of the manifest's chunks, raw */

    bool fresh;         /* made by this daemon: someone waits for it */
    bool told;          /* to the watcher of artefacts */
    bool gone;          /* the record is deleted */
    atomic_bool cancel; /* for its ingest, on the thread pool */
    unsigned busy;      /* snapshot, ingest, job of layers */
    bool queued;        /* for ingest */
    struct shl_list queue_node;
    struct layers_job *layers; /* under way */
    struct shl_list waiters;
};

/* A manifest to delete in the store. */
struct doomed_manifest {
    struct shl_list node;
    struct ckpt_id id;
};

struct upkeep_job; /* upkeep.c */

struct checkpoints {
    struct node_manager *manager;
    struct ckpt_store *store;
    struct shl_list all; /* newest first */
    unsigned count;

    struct shl_list ingest_queue; /* newest last */
    unsigned ingesting;

    struct shl_list makes; /* jobs that are to make layers, the first to come first */
    unsigned making;

    struct shl_list limited; /* waiters with a deadline, the earliest first */
    uv_timer_t limit_timer;

    struct shl_list saves; /* newest first */
    const struct node_artefact_watch *watch;
    void *watch_arg;
    bool wanted;          /* saves are made */
    uv_timer_t save_tick; /* looks for autosaves that are due */

    struct shl_list bases; /* of struct base, in the order they were asked for */
    bool basing;           /* one is being made */
    atomic_bool base_cancel;

    struct shl_list imports; /* jobs, in the order they were asked for */
    bool importing_base;     /* one of them writes bases: others that miss some wait */
    struct shl_list readies; /* import_ready.c */
    unsigned ready_count;

    struct shl_list unknown; /* manifests that may be copies for others: asked again */
    struct shl_list doomed;
    struct upkeep_job *upkeep; /* under way */
    bool tidied;               /* manifests nobody names were looked for */
    bool collect_wanted;
    uint64_t collected_at_ms, scrubbed_at_ms; /* monotonic */

    bool closing;
};

/* checkpoints.c: called by the manager. load reads the records and takes their
 * references, after those of sandboxes and before unreferenced layers are removed; resume
 * goes on with what a former daemon left; close counts in jobs until it is done. */
SHL_MUST_CHECK int checkpoints_load(struct node_manager *manager, struct shl_err *err);
void checkpoints_resume(struct node_manager *manager);
void checkpoints_housekeeping(struct node_manager *manager);
void checkpoints_close(struct node_manager *manager);
void checkpoints_free(struct node_manager *manager); /* no job may be under way */
void checkpoints_count(const struct node_manager *manager, struct node_manager_counts *counts);

static inline struct checkpoint *checkpoint_of(struct node_checkpoint *pub)
{
    return shl_container_of(pub, struct checkpoint, pub);
}

struct checkpoint *checkpoint_new(struct checkpoints *set); /* NULL without memory */
void checkpoint_free(struct checkpoint *checkpoint);
void checkpoint_insert(struct checkpoint *checkpoint);
/* Something of it is under way, or over. The last leave of one that is gone frees it. */
void checkpoint_enter(struct checkpoint *checkpoint);
void checkpoint_leave(struct checkpoint *checkpoint);

/* checkpoint_make.c */
/* 0 or SHL_EINVALIDARG: 1 to NODE_CHECKPOINT_NAME_MAX bytes of UTF-8 without controls. */
SHL_MUST_CHECK int checkpoint_name_check(const char *name, struct shl_err *err);
/* failed, with the reason; its layers are given back. */
void checkpoint_fail(struct checkpoint *checkpoint, const char *reason);
void checkpoint_ready(struct checkpoint *checkpoint, const struct ckpt_id *manifest);
void checkpoint_drop_stack(struct checkpoint *checkpoint);
enum checkpoint_end {
    CHECKPOINT_DELETED,   /* its owner's wish: nobody needs it any more */
    CHECKPOINT_FORGOTTEN, /* here alone: not told, its manifest may be a copy for others */
    CHECKPOINT_REPLACED,  /* another record names its manifest */
};
SHL_MUST_CHECK int checkpoint_remove(struct checkpoint *checkpoint,
                                     enum checkpoint_end how,
                                     struct shl_err *err);
void checkpoint_remove_or_log(struct checkpoint *checkpoint, enum checkpoint_end how);
/* Snapshot of a running sandbox, then ingest. -: nothing is under way. */
SHL_MUST_CHECK int checkpoint_take(struct checkpoint *checkpoint, struct sandbox *sandbox);

/* checkpoint_record.c */
SHL_MUST_CHECK int checkpoint_encode(const struct checkpoint *checkpoint, struct shl_buf *buf);
/* Fills a fresh one; takes no references. SHL_EVERSION, SHL_ECORRUPT, -ENOMEM. */
SHL_MUST_CHECK int checkpoint_decode(struct checkpoint *checkpoint,
                                     const char *id,
                                     struct shl_bytes value,
                                     struct shl_err *err);
SHL_MUST_CHECK int checkpoint_save(struct checkpoint *checkpoint, struct shl_err *err);
/* The manifest's config: what another node needs beside disk and memory. The same bytes
 * every time for one checkpoint, and different ones for two. */
SHL_MUST_CHECK int checkpoint_encode_config(const struct checkpoint *checkpoint,
                                            struct shl_buf *buf);

/* ingest.c */
void ingest_enqueue(struct checkpoint *checkpoint);
/* Once more for a ready one, after all others: what the store lost or has damaged is stored
 * anew, because the same bytes have the same names. Not while something is under way for it. */
void ingest_repair(struct checkpoint *checkpoint);
void ingest_forget(struct checkpoint *checkpoint); /* when it only waits */
void ingest_pump(struct checkpoints *set);

/* layers_again.c: look at the layers of @checkpoint, which has a stack, and then answer its
 * waiters. A look that is under way serves those who come meanwhile. 0 or -ENOMEM. */
SHL_MUST_CHECK int layers_look(struct checkpoint *checkpoint);
bool layers_are_deep(const struct node_stack *stack);
void layers_make_next(struct checkpoints *set);

/* fork.c */
/* @waiter->go is called later when this returns 0. SHL_EBADSTATE (failed), -ENOMEM. */
SHL_MUST_CHECK int checkpoint_wait(struct checkpoint *checkpoint,
                                   struct checkpoint_waiter *waiter,
                                   struct shl_err *err);
/* Every waiter gets the outcome. */
void checkpoint_answer(struct checkpoint *checkpoint,
                       int code,
                       const char *msg,
                       const struct node_stack *stack);
void checkpoint_on_limit(uv_timer_t *timer);
/* The specification of a fork, checked. @ret is released by the caller when 0. */
SHL_MUST_CHECK int fork_spec_merge(const struct node_sandbox_spec *from,
                                   const struct node_fork_spec *changes,
                                   struct node_sandbox_spec *ret,
                                   struct shl_err *err);

/* upkeep.c */
void upkeep_doom(struct checkpoints *set, const struct ckpt_id *manifest);
/* As doom, when the watcher does not want it for other nodes. */
void upkeep_release(struct checkpoints *set, const struct ckpt_id *manifest);
void upkeep_ask_again(struct checkpoints *set);
/* It is needed again. False when it is just being deleted. */
bool upkeep_spare(struct checkpoints *set, const struct ckpt_id *manifest);
void upkeep_pump(struct checkpoints *set);
/* The manifest named by 64 hex digits; false when it is not one. */
bool manifest_id_parse(const char *hex, struct ckpt_id *ret);

#endif /* SHL_NODE_SANDBOX_CHECKPOINTS_PRIVATE_H */
