/* One API request being served: exchange, caller, and the sandbox it works on.
 *
 * Made when the request head is complete, given to the handler of its route. Handlers
 * that go on after returning keep a reference; x becomes NULL when the reply is out or
 * the client has gone, so check it (node_call_is_open) before replying late. Loop thread.
 */
#ifndef SHL_NODE_API_CALL_H
#define SHL_NODE_API_CALL_H

#include <stdbool.h>

#include <jansson.h>

#include "base/list.h"
#include "node/api/auth.h"
#include "node/http/exchange.h"
#include "node/sandbox/manager.h"

struct node_route;
struct node_server;

struct node_call {
    struct shl_list link; /* of the server */
    struct node_server *server;
    struct node_exchange *x; /* NULL when over */
    const struct node_route *route;
    struct node_caller caller;
    unsigned refs;
    const char *id;               /* :id of the route, NULL without; valid while x is */
    const char *sid;              /* :sid of the route */
    struct node_sandbox *sandbox; /* referenced and held, after node_call_open_sandbox */
    /* Set by a handler: x has just become NULL; stop what only the client wanted. */
    void (*on_gone)(void *arg);
    void *gone_arg;
};

static inline bool node_call_is_open(const struct node_call *call)
{
    return call->x != NULL;
}

struct node_call *node_call_ref(struct node_call *call);
void node_call_unref(struct node_call *call);

/* The sandbox of the path, whatever its state; NULL after a 404 was sent. */
struct node_sandbox *node_call_find_sandbox(struct node_call *call);

/* The sandbox of the path for a data-plane operation: running, activity noted, idle
 * timer stopped until the call ends. False after an error was sent (404, 410, 503). */
bool node_call_open_sandbox(struct node_call *call);

/* Replies. They do nothing when the call is no longer open. */
void node_call_fail(struct node_call *call, int code, const char *msg);
void node_call_failf(struct node_call *call, int code, const char *fmt, ...) SHL_PRINTF(3, 4);
void node_call_fail_err(struct node_call *call, const struct shl_err *err);
/* @json is taken (a reference is stolen); NULL stands for "no memory". */
void node_call_reply_json(struct node_call *call, int status, json_t *json);
void node_call_reply_empty(struct node_call *call, int status);
/* The bytes of @buf are taken; @buf is empty afterwards. */
void node_call_reply_buf(struct node_call *call,
                         int status,
                         const char *content_type,
                         struct shl_buf *buf);

/* RFC 3339 in UTC with milliseconds. */
#define NODE_TIME_TEXT_SIZE 32
void node_time_text(char dst[NODE_TIME_TEXT_SIZE], int64_t at_ms);

#endif /* SHL_NODE_API_CALL_H */
