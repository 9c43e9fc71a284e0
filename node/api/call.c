#include "node/api/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "node/api/once.h"
#include "node/api/router_local.h"
#include "node/api/routing.h"
#include "node/api/server_private.h"

#define ENTRY_TRIES_MAX 4 /* a sandbox that is woken and hibernated in turns */

struct node_call *node_call_ref(struct node_call *call)
{
    call->refs++;
    return call;
}

void node_call_unref(struct node_call *call)
{
    if (--call->refs > 0) {
        return;
    }
    if (call->once) { /* it ended without a word */
        call->refs++;
        node_once_failed(call, false);
        call->refs--;
    }
    node_routing_free(call->routing);
    if (call->secret) {
        sodium_memzero(call->secret, strlen(call->secret));
        free(call->secret);
    }
    if (call->is_held) {
        node_sandbox_release(call->sandbox);
        node_sandbox_touch(call->sandbox);
    }
    if (call->sandbox) {
        node_sandbox_unref(call->sandbox);
    }
    node_server_unref(call->server);
    free(call->ids);
    free(call);
}

const char *node_call_org(const struct node_call *call)
{
    return call->caller.is_anyone ? NULL : call->caller.org;
}

struct node_sandbox *node_call_find_sandbox(struct node_call *call)
{
    struct node_sandbox *sandbox =
        node_manager_find(call->server->manager, node_call_org(call), call->id);

    if (!sandbox) {
        node_call_fail(call, SHL_ENOTFOUND, "sandbox not found");
    }
    return sandbox;
}

bool node_call_is_ended(const struct node_sandbox *sandbox, struct shl_err *err)
{
    bool has_failed = sandbox->state == NODE_SANDBOX_ERROR;

    if (!has_failed && sandbox->state != NODE_SANDBOX_STOPPING &&
        sandbox->state != NODE_SANDBOX_STOPPED) {
        return false;
    }
    (void)shl_err_set(err, SHL_EGONE, "the sandbox %s%s%s",
                      has_failed ? "has failed" : "has stopped",
                      sandbox->reason[0] != '\0' ? ": " : "", sandbox->reason);
    return true;
}

/* Marks of this node */

int node_server_may_start(const struct node_server *server, struct shl_err *err)
{
    enum node_mark mark = server->router->ops->mark(server->router);

    if (mark == NODE_MARK_NONE) {
        return 0;
    }
    return shl_err_set(err, SHL_EUNAVAILABLE, "node %s takes no new sandboxes: it is %s",
                       server->worker_id, node_mark_text(mark));
}

bool node_call_may_start(struct node_call *call)
{
    struct shl_err err = {0};

    if (node_server_may_start(call->server, &err) < 0) {
        node_call_fail_create(call, err.code, err.msg);
        return false;
    }
    return true;
}

int node_server_may_wake(const struct node_server *server, struct shl_err *err)
{
    if (server->router->ops->mark(server->router) != NODE_MARK_DRAINING) {
        return 0;
    }
    return shl_err_set(err, SHL_EUNAVAILABLE,
                       "the sandbox is hibernated on node %s, which is draining and wakes none",
                       server->worker_id);
}

/* Entering */

static void refuse(struct node_call *call, int code, const char *msg)
{
    if (call->entry.refused) {
        call->entry.refused(call->entry.arg, code, msg);
    } else {
        node_call_refuse(call, code, msg);
    }
}

void node_call_set_sandbox(struct node_call *call, struct node_sandbox *sandbox)
{
    if (!call->sandbox) {
        node_sandbox_ref(sandbox);
        call->sandbox = sandbox;
    }
}

void node_call_hold(struct node_call *call, struct node_sandbox *sandbox)
{
    node_call_set_sandbox(call, sandbox);
    node_sandbox_touch(sandbox);
    node_sandbox_hold(sandbox);
    call->is_held = true;
}

static void enter(struct node_call *call);

static void on_needed(void *arg, int code, const char *msg)
{
    struct node_call *call = arg;

    if (!node_call_is_open(call)) {
        refuse(call, -ECANCELED, "the client has left");
    } else if (code < 0) {
        refuse(call, code, msg);
    } else {
        enter(call); /* it may have changed again before we were told */
    }
    node_call_unref(call);
}

static void on_woken_in_background(void *arg, int code, const char *msg)
{
    (void)code; /* the manager logs failures; the client comes again and asks anew */
    (void)msg;
    node_sandbox_unref(arg);
}

/* Need, for a client that does not want to wait. As node_sandbox_need, with -EINPROGRESS
 * in place of 0. */
static int need_in_background(struct node_sandbox *sandbox, struct shl_err *err)
{
    int rc;

    node_sandbox_ref(sandbox);
    rc = node_sandbox_need(sandbox, on_woken_in_background, sandbox, err);
    if (rc != 0) {
        node_sandbox_unref(sandbox);
        return rc;
    }
    return shl_err_set(err, -EINPROGRESS, "the sandbox is being woken, try again");
}

static int need(struct node_call *call, struct shl_err *err)
{
    const char *async = node_exchange_header(call->x, "X-OSB-Async-Wake");
    int rc;

    if (node_call_is_ended(call->sandbox, err)) {
        return SHL_EGONE;
    }
    if (call->entry.tries++ == ENTRY_TRIES_MAX) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "the sandbox does not stay awake long enough, try again");
    }
    if (call->sandbox->state == NODE_SANDBOX_HIBERNATED) {
        rc = node_server_may_wake(call->server, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (async && strcmp(async, "1") == 0) {
        return need_in_background(call->sandbox, err);
    }
    rc = node_sandbox_need(call->sandbox, on_needed, node_call_ref(call), err);
    if (rc != 0) {
        node_call_unref(call);
    }
    return rc;
}

static void enter(struct node_call *call)
{
    struct shl_err err = {0};
    int rc = need(call, &err);

    if (rc < 0) {
        refuse(call, rc, err.msg);
    } else if (rc > 0) {
        node_call_hold(call, call->sandbox);
        call->entry.ready(call->entry.arg);
    }
}

void node_call_enter(struct node_call *call,
                     void (*ready)(void *arg),
                     void (*refused)(void *arg, int code, const char *msg),
                     void *arg)
{
    struct node_sandbox *sandbox =
        node_manager_find(call->server->manager, node_call_org(call), call->id);

    call->entry = (struct node_call_entry){.ready = ready, .refused = refused, .arg = arg};
    if (!sandbox) {
        refuse(call, SHL_ENOTFOUND, "sandbox not found");
        return;
    }
    node_call_set_sandbox(call, sandbox);
    enter(call);
}

void node_call_fail_waking(struct node_call *call)
{
    if (call->x) {
        node_exchange_fail_more(call->x, -EINPROGRESS, "the sandbox is being woken, try again",
                                NULL, ",\"waking\":true");
    }
}

void node_call_refuse(struct node_call *call, int code, const char *msg)
{
    if (code == -EINPROGRESS) {
        node_call_fail_waking(call);
    } else {
        node_call_fail(call, code, msg);
    }
}

/* Replies */

void node_call_fail(struct node_call *call, int code, const char *msg)
{
    if (call->x) {
        node_exchange_fail(call->x, code, msg);
    }
}

void node_call_failf(struct node_call *call, int code, const char *fmt, ...)
{
    char msg[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(msg, sizeof(msg), fmt, args);
    va_end(args);
    node_call_fail(call, code, msg);
}

void node_call_fail_err(struct node_call *call, const struct shl_err *err)
{
    node_call_fail(call, err->code < 0 ? err->code : -EIO, err->msg);
}

void node_call_fail_create(struct node_call *call, int code, const char *msg)
{
    struct node_manager_counts counts;
    char members[96];

    node_once_failed(call, node_routing_moves_on(call, code));
    if (node_routing_retry(call, code)) {
        return;
    }
    if (code != SHL_EQUOTA || !call->x) {
        node_call_fail(call, code, msg);
        return;
    }
    /* The quota is what is used up, by what it counts: the living sandboxes. */
    node_manager_count(call->server->manager, &counts);
    (void)snprintf(members, sizeof(members), ",\"active\":%u,\"limit\":%u",
                   counts.running + counts.creating, counts.running + counts.creating);
    node_exchange_fail_more(call->x, code, msg, NULL, members);
}

void node_call_reply_json(struct node_call *call, int status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    if (!text) {
        node_call_fail(call, -ENOMEM, "no memory for the reply");
    } else if (call->x) {
        node_exchange_reply_heap(call->x, status, "application/json", text, strlen(text));
    } else {
        free(text);
    }
}

void node_call_reply_empty(struct node_call *call, int status)
{
    if (call->x) {
        node_exchange_reply_empty(call->x, status);
    }
}

void node_call_reply_buf(struct node_call *call,
                         int status,
                         const char *content_type,
                         struct shl_buf *buf)
{
    if (call->x) {
        size_t len = shl_buf_len(buf);

        if (buf->start > 0) {
            memmove(buf->heap, buf->heap + buf->start, len);
        }
        node_exchange_reply_heap(call->x, status, content_type, buf->heap, len);
        buf->heap = NULL;
    }
    shl_buf_release(buf);
}

void node_time_text(char dst[NODE_TIME_TEXT_SIZE], int64_t at_ms)
{
    time_t seconds = (time_t)(at_ms / 1000);
    struct tm tm;
    size_t len;

    if (!gmtime_r(&seconds, &tm)) {
        tm = (struct tm){.tm_year = 70, .tm_mday = 1};
    }
    len = strftime(dst, NODE_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(dst + len, NODE_TIME_TEXT_SIZE - len, ".%03dZ", (int)(at_ms % 1000));
}
