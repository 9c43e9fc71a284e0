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

#include <uv.h>

#include "node/api/agent_request.h"

#define NODE_COLD_MAX 1024 /* records of one server */
#define NODE_COLD_KEEP_MS \
    (10ll * 60 * 1000) /* failures of starts; the oldest go first when there are too many */

/* A poll that is held until the waiting is over, or its own time. */
struct node_cold_hold {
    struct shl_list link; /* of the record */
    uv_timer_t timer;     /* the hold is freed when it has closed */
    void (*cb)(void *arg, bool is_over);
    void *arg;
};

struct node_cold {
    struct shl_list link;
    struct node_server *server;   /* referenced while it waits */
    struct node_sandbox *sandbox; /* referenced while it waits, then NULL */
    char sandbox_id[NODE_SANDBOX_ID_SIZE];
    char session[AGENT_SESSION_ID_MAX + 1];
    struct shl_buf request; /* exec.start; empty for a poll */
    struct shl_list holds;
    bool is_held;  /* the sandbox's idle timer is stopped by this */
    bool is_start; /* not a poll */
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
/* Call @cb when the waiting is over (the record then has failed, or is gone), or after
 * @wait_ms with false. NULL without memory. The hold ends with the call. */
struct node_cold_hold *node_cold_hold(struct node_cold *cold,
                                      uint64_t wait_ms,
                                      void (*cb)(void *arg, bool is_over),
                                      void *arg);
/* Without a call. */
void node_cold_unhold(struct node_cold_hold *hold);

/* Forget a failed one. */
void node_cold_drop(struct node_cold *cold);
/* The server goes: only failed ones are left then. */
void node_cold_drop_all(struct node_server *server);

#endif /* SHL_NODE_API_COLD_H */
