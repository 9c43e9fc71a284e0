#include "node/api/preview_gate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "node/api/preview_token.h"
#include "node/api/server_private.h"
#include "node/http/proxy.h"

/* ---- which requests they are ----------------------------------------------------- */

enum node_host_kind node_preview_match(const struct node_server *server,
                                       struct node_exchange *x,
                                       struct node_preview_host *ret)
{
    enum node_host_kind kind =
        node_preview_host_parse(node_exchange_header(x, "Host"), server->domain, ret);
    struct node_proxy_headers headers;
    struct shl_err err = {0};

    if (kind == NODE_HOST_API) {
        return kind;
    }
    x->is_proxy = true;
    if (kind == NODE_HOST_BAD) {
        node_exchange_fail(x, SHL_ENOTFOUND,
                           "no such preview host: they are named SANDBOX-pPORT, with a port from 1 "
                           "to 65535");
    } else if (x->method == NODE_METHOD_OTHER) {
        node_exchange_fail(x, SHL_EMETHOD, "previews do not pass this method on");
        kind = NODE_HOST_BAD;
    } else if (x->target[0] != '/' || !node_proxy_target_is_plain(x->target)) {
        node_exchange_fail(x, SHL_EINVALIDARG, "the target of the request is not a path");
        kind = NODE_HOST_BAD;
    } else if (node_proxy_headers_of(x, &headers, &err) < 0) {
        node_exchange_fail(x, err.code, err.msg);
        kind = NODE_HOST_BAD;
    }
    return kind;
}

/* ---- pages for browsers ---------------------------------------------------------- */

bool node_preview_wants_html(struct node_exchange *x)
{
    const char *accept = node_exchange_header(x, "Accept");

    return accept && strcasestr(accept, "text/html") &&
           (x->method == NODE_METHOD_GET || x->method == NODE_METHOD_HEAD);
}

void node_preview_reply_waiting(struct node_call *call)
{
    struct node_reply reply = {
        .status = 503,
        .content_type = "text/html; charset=utf-8",
        .headers = {{"Retry-After", "3"}, {"Cache-Control", "no-store"}},
        .header_count = 2,
    };
    char *page = NULL;
    int len = asprintf(&page,
                       "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                       "<meta http-equiv=\"refresh\" content=\"%d\">\n"
                       "<meta name=\"viewport\" content=\"width=device-width\">\n"
                       "<title>Waiting for port %u</title>\n"
                       "<style>body{font:16px sans-serif;margin:15vh auto;max-width:34em;"
                       "padding:0 1em;color:#333}</style></head>\n"
                       "<body><h1>Waiting for port %u</h1>\n"
                       "<p>The sandbox runs, but nothing listens on port %u. "
                       "This page looks again every %d seconds.</p>\n"
                       "</body></html>\n",
                       NODE_PREVIEW_REFRESH_S, call->preview_port, call->preview_port,
                       call->preview_port, NODE_PREVIEW_REFRESH_S);

    if (len < 0) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    reply.heap = page;
    reply.heap_len = (size_t)len;
    node_exchange_reply(call->x, &reply);
}

/* ---- the token ------------------------------------------------------------------- */

static struct shl_bytes text_bytes(const char *text)
{
    return shl_bytes_of(text, text ? strlen(text) : 0);
}

static bool shows_token(struct node_exchange *x, const struct node_previews *set)
{
    const char *cookie = node_exchange_header(x, "Cookie");

    return node_preview_token_is(set,
                                 node_preview_bearer(node_exchange_header(x, "Authorization"))) ||
           node_preview_token_is(set,
                                 text_bytes(node_exchange_header(x, NODE_PREVIEW_TOKEN_HEADER))) ||
           (cookie && node_preview_token_is(set, node_preview_cookie(cookie)));
}

/* A browser that brought the token in the address gets it as a cookie, and an address without.
 * "//NAME" in a Location is another host, and browsers take a backslash for a slash, so such a
 * target gets a "/." in front, which means the same and stays here. */
static void reply_cookie(struct node_exchange *x, const char *target, const char *token)
{
    const char *proto = node_exchange_header(x, "X-Forwarded-Proto");
    const char *dot = target[1] == '/' || target[1] == '\\' ? "/." : "";
    char location[NODE_URL_MAX + 3];
    char cookie[NODE_PREVIEW_TOKEN_SIZE + 128];
    struct node_reply reply = {
        .status = 303,
        .headers = {{"Location", location}, {"Set-Cookie", cookie}, {"Cache-Control", "no-store"}},
        .header_count = 3,
    };

    (void)snprintf(location, sizeof(location), "%s%s", dot, target);
    (void)snprintf(cookie, sizeof(cookie),
                   NODE_PREVIEW_TOKEN_NAME "=%s; Path=/; HttpOnly; SameSite=Lax%s", token,
                   proto && strcasecmp(proto, "https") == 0 ? "; Secure" : "");
    node_exchange_reply(x, &reply);
}

/* May the request go on? False after a reply. */
static bool pass(struct node_call *call, const char *target, const char *token)
{
    static const struct node_reply_header ask = {"WWW-Authenticate", "Bearer realm=\"preview\""};
    const struct node_previews *set = &call->sandbox->spec.previews;

    if (!set->has_token) {
        return true;
    }
    if (node_preview_token_is(set, text_bytes(token))) {
        if (!call->x->is_upgrade && node_preview_wants_html(call->x)) {
            reply_cookie(call->x, target, token);
            return false;
        }
        return true;
    }
    if (shows_token(call->x, set)) {
        return true;
    }
    node_exchange_fail_more(call->x, SHL_EAUTH,
                            "this preview needs its token: as Authorization: Bearer, in "
                            "X-OC-Preview-Token, or once as ?" NODE_PREVIEW_TOKEN_NAME "=",
                            &ask, NULL);
    return false;
}

/* The target without the token, whatever the gate; heap, NULL after a reply. */
static char *strip_target(struct node_call *call, char token[NODE_PREVIEW_TOKEN_SIZE])
{
    struct shl_buf out;
    char *text = NULL;
    int rc;

    shl_buf_init(&out, NODE_URL_MAX + 1);
    rc = node_preview_target_strip(call->x->target, &out, token);
    if (rc == 0) {
        rc = shl_buf_append(&out, "", 1);
    }
    if (rc == 0) {
        text = strdup((const char *)shl_buf_data(&out));
        rc = text ? 0 : -ENOMEM;
    }
    shl_buf_release(&out);
    if (rc < 0) {
        node_call_fail(call, rc == SHL_ELIMIT ? SHL_EINVALIDARG : rc, NULL);
    }
    return text;
}

char *node_preview_pass_gate(struct node_call *call)
{
    char token[NODE_PREVIEW_TOKEN_SIZE];
    char *target = strip_target(call, token);

    if (target && !pass(call, target, token)) {
        free(target);
        target = NULL;
    }
    sodium_memzero(token, sizeof(token));
    return target;
}
