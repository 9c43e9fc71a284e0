/* This node as a member of its cluster: the adapters around the pure cores.
 *
 * gossip/ (who is alive, what everybody holds), scheduler/ (log, replicated state,
 * placement, voters, leases) and node/mesh/ (links) are wired here, and the router of
 * the API (node/api/router.h) is answered from them. No protocol decision is made here.
 *
 *   members.c   gossip core <-> mesh           publish.c  what this node says of itself
 *   log.c       Raft core <-> mesh, disk       apply.c    what an applied entry changes here
 *   propose.c   commands to the leader, from any node
 *   lead.c      duties of the leader           join.c     tokens, joining, letting in
 *   place.c     where a sandbox starts         where.c    who has a sandbox
 *   router.c    the API's questions            identity.c what is kept in DATA/mesh
 *   mark.c      cordon and drain, until the node knows
 *   metrics.c   figures for operators          wire*.c   what nodes say to each other
 *   replica*.c, catalogue*.c                   copies of checkpoints (replicas.h)
 *
 * A node that starts with an empty DATA/mesh founds a cluster of its own, unless it is
 * given a token. Loop thread, except the writer of the log (writer.h).
 */
#ifndef SHL_NODE_CLUSTER_CLUSTER_H
#define SHL_NODE_CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "node/api/router.h"
#include "node/mesh/stream.h"
#include "node/sandbox/manager.h"
#include "node/store/store.h"

struct cluster;

struct cluster_config {
    const char *data_dir;       /* DATA; DATA/mesh is used */
    const char *listen;         /* ADDR:PORT of the mesh, the bulk port is the next one */
    const char *address;        /* IP address of this node for others; NULL: of the default route */
    const char *join;           /* token text or @FILE; NULL: none */
    const char *name;           /* of this node, unique in the cluster; a member keeps its own */
    const char *region;         /* shown by the API */
    const char *api_url;        /* public URL of this node's API; NULL: made of the next two */
    const char *api_listen;     /* ADDR:PORT of the API; the mesh address is taken for ADDR */
    const char *failure_domain; /* NULL: the node's name */
    uint32_t version_min, version_max; /* of the mesh protocol; 0: what this build speaks */
    bool witness;
    uint32_t replicas;         /* copies of each checkpoint made here, 1 to 5 */
    uint32_t replica_grace_ms; /* until the copies of a node that fell silent count as lost */
    bool slow;                 /* emulated machine: longer election timeouts */
    /* The disk was full and has room again: the process should be started anew. With the @arg of
     * @joined; NULL: people do it. */
    void (*restart)(void *arg);
    const struct shl_log *log;
};

/* Opens the mesh, reads the log and takes up membership. A node with a token waits (in the
 * loop) until it was let in; @joined tells the outcome, and that of founding one at once.
 * Copies what it is given, except manager and store, which must outlive it.
 * Errors, with a sentence: damaged or newer data, a port that is taken, a token that cannot
 * be one, or that is of another cluster than this node belongs to. */
SHL_MUST_CHECK int cluster_open(uv_loop_t *loop,
                                struct node_store *store,
                                struct node_manager *manager,
                                const struct cluster_config *config,
                                void (*joined)(void *arg, int code, const char *msg),
                                void *arg,
                                struct cluster **ret_cluster,
                                struct shl_err *err);

/* Says good-bye to the peers if @leave, ends everything. @cb once, later. */
void cluster_close(struct cluster *cluster, void (*cb)(void *arg), void *arg);

/* The name under which this node is a member: the configured one, or the one it joined with. */
const char *cluster_name(const struct cluster *cluster);

/* For node_server_open; belongs to the cluster. */
struct node_router *cluster_router(struct cluster *cluster);

/* Requests that peers pass on come as streams of NODE_WIRE_KIND (node/http/wire.h). Until this
 * is set, and after NULL, they are refused. */
void cluster_accept(struct cluster *cluster, node_stream_accept accept, void *arg);

/* Appends lines of /metrics. 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int cluster_metrics(const struct cluster *cluster, struct shl_buf *out);

#endif /* SHL_NODE_CLUSTER_CLUSTER_H */
