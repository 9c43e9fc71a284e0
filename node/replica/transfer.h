/* Fetches checkpoints from other nodes into the store of this one: what checkpoint/fetch.h
 * decides is carried out here, over streams of the mesh (node/replica/wire.h).
 *
 * One object per node, any number of fetches up to NODE_REPLICA_FETCHES_MAX. A fetch that
 * succeeds has published the manifest: it and all its chunks are on this node's disk. One
 * that fails leaves no manifest; chunks that came stay for the next attempt until a
 * collection removes them.
 *
 * Nothing of a peer is believed: the manifest and every chunk are hashed before they count.
 *
 * Loop thread; everything that hashes or touches the store runs on libuv's thread pool. No
 * callback runs inside a function of this header. Errors: base/err.h with a sentence.
 */
#ifndef SHL_NODE_REPLICA_TRANSFER_H
#define SHL_NODE_REPLICA_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "base/node_id.h"
#include "checkpoint/fetch.h"
#include "checkpoint/store.h"
#include "node/mesh/stream.h"

#define NODE_REPLICA_FETCHES_MAX CKPT_FETCH_JOBS_MAX

/* Manifests that are being read, looked up or opened at once, and bytes of them in memory
 * beyond which no further fetch begins; the rest wait. RESUME and UNACKED: twice that. */
#define NODE_REPLICA_READING_MAX        8u
#define NODE_REPLICA_MANIFEST_BYTES_MAX (256u << 20)

/* Bytes of chunks that arrived and wait for the disk; beyond it streams are slowed down. */
#define NODE_REPLICA_HELD_MAX (64u << 20)

/* A holder that sends nothing of a manifest for so long is left for the next one. */
#define NODE_REPLICA_MANIFEST_MS 10000u

/* A chunk that was here at first may be gone or damaged at the end: so often it is fetched
 * again. */
#define NODE_REPLICA_ROUNDS_MAX 4u

struct node_replica;
struct node_replica_fetch; /* valid until its callback, or until it is cancelled */

struct node_replica_config {
    struct ckpt_store *store;          /* must outlive the object */
    struct node_stream_opener *opener; /* node_mesh_opener; the same */
    struct ckpt_fetch_config fetch;    /* ckpt_fetch_config_defaults, and a seed */
    const struct shl_log *log;         /* may be NULL */
    uint32_t manifest_ms;              /* 0: NODE_REPLICA_MANIFEST_MS */
};

SHL_MUST_CHECK int node_replica_open(uv_loop_t *loop,
                                     const struct node_replica_config *config,
                                     struct node_replica **ret,
                                     struct shl_err *err);
/* Before node_mesh_close, since it asks no more from here on. Fetches that are left end with
 * SHL_EUNAVAILABLE; then @closed, once. */
void node_replica_close(struct node_replica *replica, void (*closed)(void *arg), void *arg);

struct node_replica_result {
    /* 0: the checkpoint is here. SHL_ENOTFOUND: nobody has it whole. SHL_EUNAVAILABLE: the
     * holders do not answer, or this node is stopping. SHL_ELIMIT: too much at once, later
     * again. Else what the store said (-ENOSPC), or what is wrong with the manifest. */
    int code;
    const char *msg;               /* sentence, borrowed; NULL when code is 0 */
    bool was_here;                 /* with all its chunks; nothing was fetched */
    enum ckpt_fetch_reason reason; /* 0, or why the plan gave up */
    uint64_t chunks;               /* that were missing */
    uint64_t bytes;                /* of chunks that crossed the wire */
    uint64_t raw_bytes;            /* the same, unpacked */
    uint64_t manifest_bytes;       /* same for the manifest */
};

typedef void (*node_replica_done)(void *arg, const struct node_replica_result *result);

/* Have the checkpoint @manifest here, whole: of one that is here, chunks that were found
 * damaged are fetched. @holders (up to CKPT_FETCH_HOLDERS_MAX count) are asked
 * for the manifest in this order. @done once, unless cancelled. SHL_ECONFLICT: it is being
 * fetched already; SHL_EINVALIDARG, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int node_replica_fetch(struct node_replica *replica,
                                      const struct ckpt_id *manifest,
                                      enum ckpt_fetch_class class,
                                      const struct shl_node_id *holders,
                                      uint32_t holder_count,
                                      node_replica_done done,
                                      void *arg,
                                      struct node_replica_fetch **ret,
                                      struct shl_err *err);
/* It has become more urgent; a less urgent class changes nothing. */
void node_replica_raise(struct node_replica_fetch *fetch, enum ckpt_fetch_class class);
/* @done will not run. It may be here all the same. */
void node_replica_cancel(struct node_replica_fetch *fetch);

/* From gossip: @node has, or has no longer, all of the checkpoint. Unknown ones are ignored. */
void node_replica_holder(struct node_replica *replica,
                         const struct ckpt_id *manifest,
                         const struct shl_node_id *node,
                         bool has);
void node_replica_node_lost(struct node_replica *replica, const struct shl_node_id *node);
/* Bytes per second of each class; SHL_EINVALIDARG. */
SHL_MUST_CHECK int node_replica_set_rates(struct node_replica *replica,
                                          const uint64_t rates[CKPT_FETCH_CLASS_COUNT]);

struct node_replica_stats {
    struct ckpt_fetch_stats fetch;
    uint32_t fetches, streams; /* now */
    uint64_t held_bytes;       /* of chunks in memory */
    uint64_t done, failed;     /* fetches */
    uint64_t quarantined;      /* chunks a peer sent with wrong bytes */
    uint64_t bad_manifests;    /* the same of manifests */
    uint64_t bad_answers;      /* answers that were not valid */
    uint64_t wire_bytes;       /* of answers, everything included */
};
void node_replica_stats(const struct node_replica *replica, struct node_replica_stats *ret);

#endif /* SHL_NODE_REPLICA_TRANSFER_H */
