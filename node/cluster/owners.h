/* Which sandboxes this node may run: scheduler/hold.h (the decisions) with the manager's
 * sandboxes, the log, the lease and the disk.
 *
 *   owners.c       the set: what the manager tells, what is decided, carried out
 *   owner_record.c what has to be on disk before the log can know it (records "owner")
 *   take.c         a sandbox of another node is copied here, to be woken here
 *   move.c         a sandbox of this node goes on on another one
 *   evict.c        all that run do
 *   recover.c      those of lost nodes that are to go on do, on the word of the leader
 *   lost.c         those that are not, and those that this node itself has lost
 *
 * Loop thread. Part of struct cluster.
 */
#ifndef SHL_NODE_CLUSTER_OWNERS_H
#define SHL_NODE_CLUSTER_OWNERS_H

#include "base/err.h"
#include "node/api/router.h"
#include "node/sandbox/portable.h"

struct cluster;
struct cluster_owners;

SHL_MUST_CHECK int cluster_owners_open(struct cluster *c, struct shl_err *err);
/* Answers who waits; cluster_close_part for each handle. */
void cluster_owners_close(struct cluster *c);
void cluster_owners_free(struct cluster *c);

/* From the manager's watch: changes nothing at once. */
void cluster_owners_sandbox(struct cluster *c, const struct node_sandbox *sandbox, bool is_gone);
/* A row of the log changed; NULL: any may have. */
void cluster_owners_applied(struct cluster *c, const char *sandbox);
/* Now and then: copies that nobody needs are let go. */
void cluster_owners_survey(struct cluster *c);
/* The lease of this node was renewed, and the log is applied as far as that. */
void cluster_owners_leased(struct cluster *c);

/* A sandbox of this node is to be deleted: 1 when that may be done at once (*ret), else @cb tells.
 * In the log when the code is 0. */
int cluster_owners_drop(struct cluster *c,
                        const char *sandbox,
                        struct node_order *ret,
                        node_order_cb cb,
                        void *arg);

enum cluster_take_how {
    CLUSTER_TAKE_PLAIN, /* released, or to be restored: what it comes back from is its last state */
    CLUSTER_TAKE_RECOVER, /* somebody asked for it: from whatever is the newest */
};

/* Have the sandbox here, hibernated, to be woken here: what it comes back from is copied and
 * imported. Shared by all who ask. 0: @cb once, later, also when the cluster closes; or a code
 * with a sentence: SHL_ENOTFOUND (the log does not know it), SHL_EUNAVAILABLE (not now),
 * SHL_EBADSTATE (it comes back only with its node), -ENOMEM. */
SHL_MUST_CHECK int cluster_take(struct cluster *c,
                                const char *sandbox,
                                enum cluster_take_how how,
                                node_sandbox_cb cb,
                                void *arg,
                                struct shl_err *err);
/* Who waits is told. */
void cluster_takes_close(struct cluster *c);
void cluster_take_init(struct cluster *c);

/* Op move of the router. */
int cluster_move(struct cluster *c,
                 struct node_sandbox *sandbox,
                 const struct node_target *node,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg);
/* Those under way end: the sandboxes stay. */
void cluster_moves_close(struct cluster *c);

/* Op evict. */
int cluster_evict(struct cluster *c,
                  const struct node_target *node,
                  struct node_order *ret,
                  node_order_cb cb,
                  void *arg);
void cluster_evict_init(struct cluster *c);
void cluster_evict_tick(struct cluster *c);

/* As the leader (recover.c). */
void cluster_recover_tick(struct cluster *c, uint64_t now_ms);

/* How a node is that has something, as far as this one can tell. */
enum cluster_standing_of {
    CLUSTER_NODE_LIVE,
    CLUSTER_NODE_AWAY, /* it restarts, or was not heard of yet */
    CLUSTER_NODE_LOST, /* or removed */
};
enum cluster_standing_of cluster_node_standing(const struct cluster *c,
                                               const struct shl_node_id *id);
/* @ret says that the sandbox of @owner, which is lost, does not come back by itself. */
void cluster_lost_answer(const struct cluster *c,
                         const char *sandbox,
                         const struct shl_node_id *owner,
                         struct node_answer *ret);
/* Op recover. */
int cluster_recover(struct cluster *c,
                    const char *org,
                    const char *sandbox,
                    struct node_recovery *ret,
                    node_recovery_cb cb,
                    void *arg);
/* Those of this node: what it has lost comes back, what has ended leaves the log. */
void cluster_lost_tick(struct cluster *c, uint64_t now_ms);

#endif /* SHL_NODE_CLUSTER_OWNERS_H */
