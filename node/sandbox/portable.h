/* What other nodes can have of this one: artefacts.
 *
 * An artefact is what the checkpoint store keeps under one manifest:
 *
 *   full, disk    a checkpoint that somebody asked for
 *   hibernation   what a sandbox comes back from when its node is lost: made after each
 *                 hibernation, and every autosave interval of a running one that asked
 *                 for it. The newest one of a sandbox that is ready; older ones go
 *   base          what the others are relative to: the image of a template, the memory of a warm
 *                 one. Made, and told, before the first artefact that names it is told. The same
 *                 image on two nodes is the same base with the same manifest
 *
 * Whoever watches the manager (node/cluster) hears of an artefact when its manifest is durable
 * here, copies it to other nodes (checkpoint/replica_plan.h, node/replica/transfer.h), and there
 * imports it: then it is a checkpoint, or a hibernated sandbox, of that node.
 *
 * Which node may run a sandbox is not decided here: before one that has been hibernated runs
 * again the gate is asked.
 *
 * Loop thread. Callbacks run once and never from inside the call, unless said otherwise.
 */
#ifndef SHL_NODE_SANDBOX_PORTABLE_H
#define SHL_NODE_SANDBOX_PORTABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node/sandbox/checkpoints.h"
#include "node/sandbox/manager.h"

#define NODE_MANIFEST_SIZE      65 /* 64 hexadecimal digits of a manifest's content id */
#define NODE_BASE_ID_SIZE       33 /* 32 hexadecimal digits */
#define NODE_BASE_PREFIX        "base-"
#define NODE_BASES_MAX          2 /* of one artefact: disk, memory */
#define NODE_AUTOSAVE_MIN_S     10
#define NODE_AUTOSAVE_DEFAULT_S 60
#define NODE_AUTOSAVE_MAX_S     86400

enum node_artefact_kind { /* as enum sched_checkpoint_kind */
    NODE_ARTEFACT_FULL = 1,
    NODE_ARTEFACT_DISK = 2,
    NODE_ARTEFACT_HIBERNATION = 3,
    NODE_ARTEFACT_BASE = 4,
};

struct node_artefact {
    char id[NODE_CHECKPOINT_ID_SIZE]; /* a UUID; of a base: NODE_BASE_PREFIX and its id */
    enum node_artefact_kind kind;
    char org[NODE_ORG_ID_SIZE];                    /* "" of a base */
    char sandbox_id[NODE_SANDBOX_ID_SIZE];         /* likewise */
    char label[NODE_CHECKPOINT_NAME_MAX + 1];      /* name of a checkpoint, else "" */
    char manifest[NODE_MANIFEST_SIZE];             /* durable in the store of this node */
    char bases[NODE_BASES_MAX][NODE_BASE_ID_SIZE]; /* that it is relative to, "" none */
    uint64_t bytes;                                /* of its chunks as they are stored, or more */
    int64_t created_at_ms;                         /* wall clock */
};

/* ---- what this node has ------------------------------------------------------------- */

/* @is_gone: deleted by its owner's wish (its user, retention, the end of the sandbox, a newer
 * hibernation): no node needs it any more. Told from inside other calls: change nothing from
 * there. What there is already is told at once, as soon as its bases are stored: set the
 * watcher before the loop runs, for without one the start deletes what no record names, and
 * what ended with nobody told is gone unnoticed. One watcher; NULL ends it. Imported ones are
 * not told, but their end is: B's user deletes what A made, or B hibernates it anew. An artefact
 * told twice has another manifest since. A base is never told to be gone: who knows that no
 * artefact names it any more calls node_artefact_forget on every node. */
struct node_artefact_watch {
    void (*artefact)(void *arg, const struct node_artefact *artefact, bool is_gone);
    /* May the store delete a manifest that no record of this node names? 1 yes, 0 no: a copy
     * for others. Negative: not known yet, asked again later. */
    int (*may_drop)(void *arg, const char manifest[NODE_MANIFEST_SIZE]);
};
void node_manager_set_artefact_watch(struct node_manager *manager,
                                     const struct node_artefact_watch *watch,
                                     void *arg);

/* Is there anybody who could have copies? Off at first: a node alone tells of no artefact and makes
 * none of hibernations (and autosaves). Switched on, what there is already follows. */
void node_manager_want_artefacts(struct node_manager *manager, bool wanted);

/* The artefact, ready, that is exactly what this hibernated sandbox would go on from; NULL: there
 * is none (yet). Borrowed until something changes. */
const char *node_sandbox_artefact(const struct node_sandbox *sandbox);

/* The store; for node/replica. Lives as long as the manager. */
struct ckpt_store *node_manager_store(struct node_manager *manager);

/* A user's deletion that began on another node; also of one that was imported. The record
 * goes without being told to the watcher, the manifest when may_drop says so. Nothing when
 * there is none of that id. */
void node_artefact_forget(struct node_manager *manager, const char *id);

/* ---- what comes from other nodes ---------------------------------------------------- */

/* One manifest that is whole in the store of this node. */
struct node_import {
    const char *id; /* of the artefact */
    const char *manifest;
    struct {
        const char *id;       /* NODE_BASE_ID_SIZE - 1 digits */
        const char *manifest; /* of the base; its chunks are here, too */
    } bases[NODE_BASES_MAX];
    uint32_t base_count;
    bool of_checkpoint; /* node_sandbox_import: of a checkpoint that somebody asked for will do */
};

/* Which bases does a manifest in the store name that this node does not have as files
 * (own template, own warm template, made before)? Reads the manifest: blocking, a few ms. The
 * count, or a negative code with a sentence. */
SHL_MUST_CHECK int node_import_bases(struct node_manager *manager,
                                     const char *manifest,
                                     char ret[NODE_BASES_MAX][NODE_BASE_ID_SIZE],
                                     struct shl_err *err);

/* A checkpoint (full, disk) of this node from now on, ready; its record is durable when @cb is
 * told. Layers are made by the first fork. One that is there already: a success. */
void node_checkpoint_import(struct node_manager *manager,
                            const struct node_import *import,
                            node_sandbox_cb cb,
                            void *arg);

/* A hibernated sandbox of this node from now on, made of a hibernation artefact: its layers are
 * written and its record is durable when @cb is told. The artefact is this node's then, too: its
 * next hibernation replaces it, its end deletes it; a checkpoint (of_checkpoint) is left as it is.
 * SHL_ECONFLICT: there is one of that id, also one that is over (let it go first);
 * SHL_EUNAVAILABLE: try again soon; SHL_ENOTFOUND: a base is neither here nor in @import;
 * SHL_ECORRUPT, SHL_EVERSION: the manifest is not valid here. */
void node_sandbox_import(struct node_manager *manager,
                         const struct node_import *import,
                         node_sandbox_cb cb,
                         void *arg);

/* What an import writes, written before it is needed: the files of bases that are missing, and
 * with @layers those of a hibernated sandbox, for a node_sandbox_import of the same artefact and
 * manifest, which then only makes records. An import of an artefact that is being made ready
 * waits for it. Nothing runs, and nobody sees a sandbox. Errors as of node_sandbox_import, and
 * SHL_ELIMIT: NODE_READY_MAX are ready. */
#define NODE_READY_MAX 256
void node_import_ready(struct node_manager *manager,
                       const struct node_import *import,
                       bool layers,
                       node_sandbox_cb cb,
                       void *arg);
/* Its layers are not needed after all. They also go with node_artefact_forget and with this
 * daemon. Nothing when there are none. */
void node_import_unready(struct node_manager *manager, const char *id);

/* Files of imported bases stay when no sandbox here lies on them, also over a restart, until
 * this is called without their id. Other bases are left alone. */
#define NODE_KEPT_BASES_MAX 32
void node_bases_keep(struct node_manager *manager,
                     const char (*ids)[NODE_BASE_ID_SIZE],
                     uint32_t count);

/* Another node has it: its VM ends at once, its record and layers go, its artefacts are left
 * alone and nobody is told that they are gone; their manifests stay while may_drop says so. @cb
 * when all that is done. Also for one that is over. One that is being killed already ends as that.
 */
void node_sandbox_let_go(struct node_manager *manager,
                         struct node_sandbox *sandbox,
                         const char *reason,
                         node_kill_cb cb,
                         void *arg);

/* ---- who may run -------------------------------------------------------------------- */

/* Asked before a hibernated sandbox runs again (wake, and what wakes), when it was imported or an
 * artefact of it is ready, of this hibernation or an older one: else no other node can run it. Not
 * asked in the middle of a reboot or restore in place, which go on with what ran here. All
 * callers of the wake wait for the answer. @cb may be called from inside, and must be called once,
 * however late: when the sandbox or the manager is gone, nothing happens. NULL: go on. */
typedef void (*node_gate)(void *arg,
                          struct node_sandbox *sandbox,
                          node_sandbox_cb cb,
                          void *cb_arg);
void node_manager_set_gate(struct node_manager *manager, node_gate gate, void *arg);

/* The vCPUs of a running sandbox stand still until they are let go on: its calls wait, its idle
 * timer stands, checkpoints are refused with SHL_EUNAVAILABLE, a hibernation waits. For a node
 * whose lease ends. One that starts or wakes is paused as soon as it runs; the next run begins
 * without. Durable nowhere: a daemon that adopts it lets it go on, as far as its deadline allows.
 * Idempotent. */
void node_sandbox_set_paused(struct node_sandbox *sandbox, bool paused);

/* The same, kept by the VMM itself, for the case that this daemon stands still: at @at_ms
 * (monotonic clock of this machine, 0: never) its vCPUs stand still, unless a later one came
 * before. A VMM that has paused itself goes on as soon as it has the new one, unless
 * set_paused says otherwise. Of one that is not running yet: it is started with it; to be said
 * after the gate was asked, which forgets the one of the run before. The VMM keeps it when this
 * daemon ends. */
void node_sandbox_set_deadline(struct node_sandbox *sandbox, uint64_t at_ms);

/* False: it was adopted and its VMM has not said it yet; the watcher of the manager is told when
 * that changes. Else true with its deadline, 0 none. */
bool node_sandbox_deadline(const struct node_sandbox *sandbox, uint64_t *ret_at_ms);

#endif /* SHL_NODE_SANDBOX_PORTABLE_H */
