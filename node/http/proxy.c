#include "node/http/proxy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "node/http/response.h"

struct gather {
    struct node_exchange *x;
    struct node_proxy_headers *ret;
    struct shl_err *err;
    int code;
};

static bool fail(struct gather *g, int code, const char *msg)
{
    g->code = shl_err_set(g->err, code, "%s", msg);
    return false;
}

static bool add(struct gather *g, const char *name, const char *value)
{
    if (g->ret->count == NODE_PROXY_HEADERS_MAX) {
        return fail(g, -E2BIG, "the request has more headers than are passed on");
    }
    g->ret->items[g->ret->count++] = (struct node_reply_header){name, value};
    return true;
}

/* Addresses of several such headers are one list. */
static bool add_address(struct gather *g, const char *text)
{
    char *list = g->ret->forwarded_for;
    size_t len = strlen(list);
    int n = snprintf(list + len, NODE_PROXY_TEXT_MAX - len, "%s%s", len > 0 ? ", " : "", text);

    if (n < 0 || (size_t)n >= NODE_PROXY_TEXT_MAX - len) {
        return fail(g, -E2BIG, "the X-Forwarded-For header is longer than 511 characters");
    }
    return true;
}

static bool on_header(void *arg, const char *name, const char *value)
{
    struct gather *g = arg;

    if (!node_header_is_name(name, strlen(name)) || !node_header_is_value(value)) {
        return fail(g, SHL_EINVALIDARG, "a header of the request is not valid");
    }
    if (node_header_is_hop(name) || strcasecmp(name, "Expect") == 0 ||
        node_header_is_listed(node_exchange_header(g->x, "Connection"), name)) {
        return true;
    }
    if (g->x->hops == 0 && strcasecmp(name, "X-Forwarded-For") == 0) {
        return add_address(g, value);
    }
    return add(g, name, value);
}

/* Of the node the client is connected to. */
static bool add_forwarded(struct gather *g)
{
    const char *host = node_exchange_header(g->x, "Host");

    if (g->x->client[0] != '\0' && !add_address(g, g->x->client)) {
        return false;
    }
    if (g->ret->forwarded_for[0] != '\0' && !add(g, "X-Forwarded-For", g->ret->forwarded_for)) {
        return false;
    }
    if (!node_exchange_header(g->x, "X-Forwarded-Proto") && !add(g, "X-Forwarded-Proto", "http")) {
        return false;
    }
    return !host || node_exchange_header(g->x, "X-Forwarded-Host") ||
           add(g, "X-Forwarded-Host", host);
}

int node_proxy_headers_of(struct node_exchange *x,
                          struct node_proxy_headers *ret,
                          struct shl_err *err)
{
    struct gather g = {.x = x, .ret = ret, .err = err};

    ret->count = 0;
    ret->forwarded_for[0] = '\0';
    node_exchange_each_header(x, on_header, &g);
    if (g.code == 0 && x->hops == 0) {
        (void)add_forwarded(&g);
    }
    return g.code;
}

bool node_proxy_target_is_plain(const char *target)
{
    for (; *target; target++) {
        if ((unsigned char)*target <= ' ' || *target == 0x7f) {
            return false;
        }
    }
    return true;
}
