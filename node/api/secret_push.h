/* Policies of guests (node/secret/policy.h), kept current at the egress gateway, and what its
 * metadata service says of them.
 *
 * Every guest is told before it can send anything. One whose sandbox has secret stores gets a new
 * policy whenever one of its secrets, a store of its organisation or the key changes; that of the
 * others allows everything and has no secrets. Loop thread.
 *
 * A secret that is deleted stands for nothing. When its store is deleted as a whole it is kept
 * (is_kept): guests that run go on with the value they have, which is nowhere but in the memory of
 * gateway and daemon, until they stop running. So a secret's end is told at once and not together
 * with that of its store, after which the two would look the same.
 */
#ifndef SHL_NODE_API_SECRET_PUSH_H
#define SHL_NODE_API_SECRET_PUSH_H

#include <uv.h>

#include "node/egress/sink.h"
#include "node/sandbox/manager.h"
#include "node/secret/policy.h"
#include "node/secret/row.h"

#define NODE_SECRET_PUSH_KEYS_MAX 16 /* changed rows that are told apart; of more: everybody */

struct node_server;

struct node_secret_push {
    struct node_server *server;
    struct node_egress_sink sink; /* .set NULL: there is no gateway */
    uv_timer_t timer;             /* several changes at once are one */
    char keys[NODE_SECRET_PUSH_KEYS_MAX][NODE_SECRET_KEY_SIZE]; /* of rows that changed */
    size_t key_count;
    bool everybody;
    bool is_open;
};

/* What @sandbox may reach and which values its tokens stand for, as this node knows it now. A
 * secret that is gone gives no value; a store that is gone keeps values, and leaves the allowlist
 * as the sandbox had it. 0 or -ENOMEM (then *ret is all zero: nothing is allowed). */
SHL_MUST_CHECK int node_secret_policy(struct node_server *server,
                                      struct node_sandbox *sandbox,
                                      struct node_egress_policy *ret);

void node_secret_push_open(struct node_server *server, const struct node_egress_sink *sink);
/* The sink is not called any more. Its timer counts as a handle of the server's loop. */
void node_secret_push_close(struct node_server *server, uv_close_cb closed);

#endif /* SHL_NODE_API_SECRET_PUSH_H */
