/* Commands and polls that wait in the background until their sandbox runs.
 *
 * run-async of a sandbox that does not run is answered at once; the command starts when
 * the sandbox has been woken, and polls of its result say "waking" until then. A poll of
 * a result the agent has wakes the sandbox in the same way. What cannot start is kept, so
 * that a poll can tell why. The server owns the records; loop thread.
 *
 *   waiting --(woken, started)--> gone, the agent knows the session
 *      +-----(cannot)-----------> failed --(NODE_COLD_KEEP_MS, a poll that was told)--> gone
 */
#ifndef SHL_NODE_API_COLD_H
#define SHL_NODE_API_COLD_H

#include <stdbool.h>
#include <stdint.h>

#include "node/api/agent_request.h"

#define NODE_COLD_MAX     1024               /* records of one server */
#define NODE_COLD_KEEP_MS (10ll * 60 * 1000) /* failures of starts, until polled */

struct node_cold {
    struct shl_list link;
    struct node_server *server;   /* referenced while it waits */
    struct node_sandbox *sandbox; /* referenced while it waits, then NULL */
    char sandbox_id[NODE_SANDBOX_ID_SIZE];
    char session[AGENT_SESSION_ID_MAX + 1];
    struct shl_buf request; /* exec.start; empty for a poll */
    bool is_held;           /* the sandbox's idle timer is stopped by this */
    bool is_start;          /* not a poll */
    unsigned tries;
    unsigned sent; /* how often the start was sent */
    bool has_failed;
    char error[NODE_REASON_MAX];
    int64_t failed_at_ms; /* monotonic */
};

/* Wait for @sandbox, then send @request (finished; NULL for a poll). 0 when it waits and the
 * bytes of @request were taken, 1 when the sandbox runs already and nothing was kept, or
 * SHL_EGONE, SHL_EUNAVAILABLE (too many wait), -ENOMEM. */
SHL_MUST_CHECK int node_cold_begin(struct node_server *server,
                                   struct node_sandbox *sandbox,
                                   const char *session,
                                   struct node_agent_request *request,
                                   struct shl_err *err);

/* The record of that session, NULL without. */
struct node_cold *node_cold_find(struct node_server *server,
                                 const char *sandbox_id,
                                 const char *session);
/* Forget a failed one. */
void node_cold_drop(struct node_cold *cold);
/* The server goes: only failed ones are left then. */
void node_cold_drop_all(struct node_server *server);

#endif /* SHL_NODE_API_COLD_H */
