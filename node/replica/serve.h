/* Answers other nodes that ask for manifests and chunks (node/replica/wire.h) from the store
 * of this node.
 *
 * Every stream reads on the thread pool, at most one record ahead of the one that is being
 * sent, and reads no further while the peer gives no credit; one that takes nothing for
 * NODE_REPLICA_STALL_MS is cut. Who can read packed chunks gets them as the store has them. Damaged
 * chunks are answered as lacking: the store has marked them. The manifest of a stream is pinned
 * until the stream ended.
 *
 * Loop thread. The object must live as long as the mesh may accept streams: node_mesh_close
 * first, then node_replica_server_close.
 */
#ifndef SHL_NODE_REPLICA_SERVE_H
#define SHL_NODE_REPLICA_SERVE_H

#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "checkpoint/store.h"
#include "node/mesh/mesh.h"

/* Streams at once; what is over it is refused with SHL_EQUOTA. A manifest is read whole. */
#define NODE_REPLICA_STREAMS_MAX        256u
#define NODE_REPLICA_STREAMS_PEER_MAX   32u
#define NODE_REPLICA_MANIFESTS_MAX      8u
#define NODE_REPLICA_MANIFESTS_PEER_MAX 4u
#define NODE_REPLICA_STALL_MS           60000u

struct node_replica_server;

struct node_replica_server_config {
    struct ckpt_store *store; /* must outlive the server */
    const struct shl_log *log;
    uint32_t streams_max; /* 0: those above (others are for tests) */
    uint32_t streams_peer_max;
    uint32_t manifests_max;
    uint32_t stall_ms;
};

/* Accepts NODE_REPLICA_KIND on @mesh from now on. 0 or a negative code. */
SHL_MUST_CHECK int node_replica_server_open(uv_loop_t *loop,
                                            struct node_mesh *mesh,
                                            const struct node_replica_server_config *config,
                                            struct node_replica_server **ret,
                                            struct shl_err *err);
/* Cuts what is left; @closed, once, on the loop, when nothing uses the store any more. */
void node_replica_server_close(struct node_replica_server *server,
                               void (*closed)(void *arg),
                               void *arg);

struct node_replica_server_stats {
    uint32_t streams, manifests;  /* now */
    uint64_t served;              /* streams that came to their end */
    uint64_t refused;             /* over a limit, or not understood */
    uint64_t cut;                 /* by the peer, its loss, or because it took nothing */
    uint64_t chunks, chunk_bytes; /* read to be sent; unpacked */
    uint64_t lacks, damaged;      /* records without bytes; of them found damaged here */
};
void node_replica_server_stats(const struct node_replica_server *server,
                               struct node_replica_server_stats *ret);

#endif /* SHL_NODE_REPLICA_SERVE_H */
