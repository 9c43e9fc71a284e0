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

struct node_once;
struct node_route;
struct node_routing;
struct node_server;

/* Who waits for the sandbox; see node_call_enter. */
struct node_call_entry {
    void (*ready)(void *arg);
    void (*refused)(void *arg, int code, const char *msg);
    void *arg;
    unsigned tries;
};

struct node_call {
    struct shl_list link; /* of the server */
    struct node_server *server;
    struct node_exchange *x; /* NULL when over */
    const struct node_route *route;
    struct node_caller caller;
    unsigned refs;
    char preview_id[NODE_SANDBOX_ID_SIZE]; /* what id is of a preview (node/api/preview.h) */
    uint16_t preview_port;
    const char *id;               /* :id of the route, NULL without; valid as long as the call */
    const char *sid;              /* :sid of the route */
    const char *cid;              /* :cid of the route */
    char *ids;                    /* what they are in once x is NULL */
    struct node_sandbox *sandbox; /* referenced, after node_call_enter */
    bool is_held;                 /* its idle timer is stopped by this call */
    struct node_call_entry entry;
    struct node_routing *routing; /* node/api/routing.h, NULL when served here at once */
    struct node_once *once;       /* node/api/once.h, while it makes something once */
    char *secret; /* heap; shown once, in the reply of a create. Wiped with the call */
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

/* The organisation that limits what is found; NULL when :id alone does (is_anyone). */
const char *node_call_org(const struct node_call *call);

/* The sandbox of the path, whatever its state; NULL after a 404 was sent. */
struct node_sandbox *node_call_find_sandbox(struct node_call *call);

/* The sandbox of the path for a data-plane operation. @ready is called, at once or when it
 * was woken, with call->sandbox running, activity noted and the idle timer stopped until
 * the call ends. Otherwise @refused is called once: SHL_ENOTFOUND, SHL_EGONE, why it does
 * not wake, -EINPROGRESS (the client asked not to wait: X-OSB-Async-Wake), or -ECANCELED
 * (the client has left). NULL @refused: the error is replied. Once per call; the call is
 * referenced meanwhile. */
void node_call_enter(struct node_call *call,
                     void (*ready)(void *arg),
                     void (*refused)(void *arg, int code, const char *msg),
                     void *arg);

/* call->sandbox without entering it. */
void node_call_set_sandbox(struct node_call *call, struct node_sandbox *sandbox);

/* The sandbox runs: note the activity and stop its idle timer until the call ends. */
void node_call_hold(struct node_call *call, struct node_sandbox *sandbox);

/* The sentence for a sandbox that has ended; false when it has not. */
bool node_call_is_ended(const struct node_sandbox *sandbox, struct shl_err *err);

/* May this node start new sandboxes? False after the error was sent. */
bool node_call_may_start(struct node_call *call);
/* The same: 0, or SHL_EUNAVAILABLE with the sentence. */
int node_server_may_start(const struct node_server *server, struct shl_err *err);
/* The same for waking: 0 or SHL_EUNAVAILABLE with a sentence. */
int node_server_may_wake(const struct node_server *server, struct shl_err *err);

/* 503 {"waking": true} for clients that come again by themselves. */
void node_call_fail_waking(struct node_call *call);
/* The reply to what node_call_enter refused with. */
void node_call_refuse(struct node_call *call, int code, const char *msg);

/* Replies. They do nothing when the call is no longer open. */
void node_call_fail(struct node_call *call, int code, const char *msg);
void node_call_failf(struct node_call *call, int code, const char *fmt, ...) SHL_PRINTF(3, 4);
void node_call_fail_err(struct node_call *call, const struct shl_err *err);
/* A sandbox could not be made: as above, with what is used up when it was a quota. Without
 * room here another node may be asked instead. */
void node_call_fail_create(struct node_call *call, int code, const char *msg);
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
