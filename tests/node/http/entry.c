#include "tests/node/http/entry.h"

#include <assert.h>
#include <stdlib.h>

#include "tests/node/http/app.h"
#include "tests/node/http/fake_net.h"

/* One request. */
struct passing {
    struct entry *entry;
    struct node_exchange *x;
    struct node_forward *forward;
    unsigned tries;
};

static void try_next(struct passing *p);

static bool on_refused(void *arg, enum node_refusal why)
{
    struct passing *p = arg;

    assert(why == NODE_REFUSAL_NOT_HERE);
    if (p->entry->relays_refusals) {
        return false;
    }
    p->forward = NULL;
    try_next(p);
    return true;
}

static void on_failed(void *arg, const struct node_forward_failure *failure)
{
    struct passing *p = arg;

    p->forward = NULL;
    p->entry->failed++;
    p->entry->failure = *failure;
    if (failure->is_untouched && failure->has_body && p->entry->nodes[p->tries] != 0) {
        try_next(p);
    } else {
        node_exchange_fail(p->x, failure->err.code, failure->err.msg);
    }
}

static const struct node_forward_ops forward_ops = {.refused = on_refused, .failed = on_failed};

static void try_next(struct passing *p)
{
    struct shl_node_id node = fake_node_id(p->entry->nodes[p->tries]);
    struct node_forward_config config = {.opener = p->entry->opener,
                                         .node = &node,
                                         .node_name = "the-owner",
                                         .origin = "http://entry.example",
                                         .via = "entry",
                                         .ops = &forward_ops,
                                         .arg = p};
    struct node_forward_failure failure;

    if (p->entry->nodes[p->tries++] == 0) {
        node_exchange_fail(p->x, SHL_EUNAVAILABLE, "nobody is left");
    } else if (node_forward_start(p->x, &config, &p->forward, &failure) < 0) {
        on_failed(p, &failure);
    }
}

static void handle(void *arg)
{
    try_next(arg);
}

static void on_close(void *arg, bool is_complete)
{
    struct passing *p = arg;

    (void)is_complete;
    if (p->forward) {
        node_forward_gone(p->forward);
    }
    free(p);
}

void entry_on_head(void *arg, struct node_exchange *x)
{
    struct passing *p = calloc(1, sizeof(*p));

    p->entry = arg;
    p->x = x;
    x->handle = handle;
    x->on_close = on_close;
    x->arg = p;
    app_choose_body(x);
}
