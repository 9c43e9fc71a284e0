#include "node/api/agent_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/status.h"

void node_agent_request_init(struct node_agent_request *request, const char *op)
{
    request->is_finished = false;
    shl_buf_init(&request->buf, AGENT_REQUEST_MAX);
    shl_mp_writer_init(&request->w, &request->buf);
    shl_mp_map(&request->w);
    shl_mp_kv_str(&request->w, "op", op);
}

int node_agent_request_finish(struct node_agent_request *request, struct shl_err *err)
{
    int rc;

    if (request->is_finished) {
        return 0;
    }
    shl_mp_end(&request->w);
    rc = shl_mp_done(&request->w);
    if (rc == SHL_ELIMIT) {
        return shl_err_set(err, rc,
                           "the request is too large: command, arguments and environment together "
                           "may take %u bytes",
                           AGENT_REQUEST_MAX);
    }
    request->is_finished = rc == 0;
    return rc < 0 ? shl_err_set(err, rc, "no memory for the request") : 0;
}

static int open_stream(struct node_agent_request *request,
                       struct node_call *call,
                       const struct node_agent_stream_ops *ops,
                       void *arg,
                       struct node_agent_stream **ret_stream,
                       struct shl_err *err)
{
    struct node_agent_link *link = call->sandbox->agent;
    int rc;

    if (!link) { /* it left between two steps of this call */
        return node_call_is_ended(call->sandbox, err)
                   ? SHL_EGONE
                   : shl_err_set(err, SHL_EUNAVAILABLE,
                                 "the sandbox is being hibernated or restarted, try again");
    }
    rc = node_agent_open(link, shl_buf_bytes(&request->buf), ops, arg, ret_stream);
    if (rc == SHL_ELIMIT) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "the sandbox has too many operations under way, try again");
    }
    return rc < 0 ? shl_err_set(err, rc, "%s", shl_err_text(rc)) : 0;
}

int node_agent_request_send(struct node_agent_request *request,
                            struct node_call *call,
                            const struct node_agent_stream_ops *ops,
                            void *arg,
                            struct node_agent_stream **ret_stream,
                            struct shl_err *err)
{
    int rc = node_agent_request_finish(request, err);

    if (rc == 0) {
        rc = open_stream(request, call, ops, arg, ret_stream, err);
    }
    shl_buf_release(&request->buf);
    return rc;
}

int node_guest_code(int code)
{
    switch (code) {
    case 0:
    case SHL_ELIMIT:
    case SHL_ENOTFOUND:
    case SHL_ECONFLICT:
    case SHL_EBADSTATE:
    case SHL_EGONE:
    case SHL_EGUEST:
    case SHL_EUNAVAILABLE:
    case SHL_EINVALIDARG:
        return code;
    default:
        break;
    }
    /* errno values with a meaning of their own for the caller. */
    return code < 0 && code > -4096 && node_http_status(code) != 500 ? code : SHL_EGUEST;
}

/* Simple requests */

struct simple {
    struct node_call *call;
    json_t *json; /* NULL: 204 */
};

static void on_simple_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct simple *simple = arg;

    (void)response;
    if (code < 0) {
        node_call_fail(simple->call, node_guest_code(code), msg);
        json_decref(simple->json);
    } else if (simple->json) {
        node_call_reply_json(simple->call, 200, simple->json);
    } else {
        node_call_reply_empty(simple->call, 204);
    }
    node_call_unref(simple->call);
    free(simple);
}

static const struct node_agent_stream_ops simple_ops = {.on_end = on_simple_end};

void node_agent_request_simple(struct node_agent_request *request,
                               struct node_call *call,
                               json_t *json)
{
    struct simple *simple = calloc(1, sizeof(*simple));
    struct node_agent_stream *stream = NULL;
    struct shl_err err = {0};
    int rc;

    if (!simple) {
        shl_buf_release(&request->buf);
        json_decref(json);
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    simple->call = node_call_ref(call);
    simple->json = json;
    rc = node_agent_request_send(request, call, &simple_ops, simple, &stream, &err);
    if (rc < 0) {
        node_call_fail_err(call, &err);
        json_decref(json);
        node_call_unref(call);
        free(simple);
    }
}

/* Parameters */

const char *node_call_path(struct node_call *call, const char *fallback)
{
    const char *path = node_url_query(&call->x->url, "path");

    if (!path || *path == '\0') {
        if (!fallback) {
            node_call_fail(call, SHL_EINVALIDARG, "path is required");
        }
        return fallback;
    }
    if (strlen(path) >= AGENT_PATH_MAX) {
        node_call_failf(call, SHL_EINVALIDARG, "path is longer than %u bytes", AGENT_PATH_MAX - 1);
        return NULL;
    }
    return path;
}

bool node_call_check_session(struct node_call *call)
{
    size_t len = strspn(call->sid, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                   "0123456789_-");

    if (call->sid[len] != '\0' || len > AGENT_SESSION_ID_MAX) {
        node_call_fail(call, SHL_ENOTFOUND, "exec session not found");
        return false;
    }
    return true;
}
