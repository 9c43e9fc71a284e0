#include "node/api/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "node/api/server_private.h"

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
    if (call->sandbox) {
        node_sandbox_release(call->sandbox);
        node_sandbox_touch(call->sandbox);
        node_sandbox_unref(call->sandbox);
    }
    node_server_unref(call->server);
    free(call);
}

struct node_sandbox *node_call_find_sandbox(struct node_call *call)
{
    struct node_sandbox *sandbox =
        node_manager_find(call->server->manager, call->caller.org, call->id);

    if (!sandbox) {
        node_call_fail(call, SHL_ENOTFOUND, "sandbox not found");
    }
    return sandbox;
}

static bool check_running(struct node_call *call, const struct node_sandbox *sandbox)
{
    switch (sandbox->state) {
    case NODE_SANDBOX_RUNNING:
        if (sandbox->agent) {
            return true;
        }
        node_call_fail(call, SHL_EUNAVAILABLE, "the sandbox is not reachable yet, try again");
        return false;
    case NODE_SANDBOX_CREATING:
        node_call_fail(call, SHL_EUNAVAILABLE, "the sandbox is still starting, try again");
        return false;
    case NODE_SANDBOX_STOPPING:
    case NODE_SANDBOX_STOPPED:
    case NODE_SANDBOX_ERROR:
        break;
    }
    node_call_failf(call, SHL_EGONE, "the sandbox %s%s%s",
                    sandbox->state == NODE_SANDBOX_ERROR ? "has failed" : "has stopped",
                    sandbox->reason[0] != '\0' ? ": " : "", sandbox->reason);
    return false;
}

bool node_call_open_sandbox(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);

    if (!sandbox || !check_running(call, sandbox)) {
        return false;
    }
    node_sandbox_ref(sandbox);
    node_sandbox_touch(sandbox);
    node_sandbox_hold(sandbox);
    call->sandbox = sandbox;
    return true;
}

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
