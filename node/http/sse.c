#include "node/http/sse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEEPALIVE ": keepalive\n\n"

struct node_sse {
    struct node_exchange *x; /* NULL: over */
    uv_timer_t timer;
    struct shl_buf waiting;
    bool has_begun, has_ended;
    bool is_cut; /* without memory for the last event: the client must not take it for whole */
    bool is_owned;
    bool is_read; /* by the exchange */
};

static void on_closed(uv_handle_t *handle)
{
    struct node_sse *sse = handle->data;

    shl_buf_release(&sse->waiting);
    free(sse);
}

static void let_go(struct node_sse *sse)
{
    if (!sse->is_owned && !sse->is_read) {
        uv_close((uv_handle_t *)&sse->timer, on_closed);
    }
}

static ssize_t sse_read(void *arg, uint8_t *dst, size_t cap)
{
    struct node_sse *sse = arg;
    size_t len = SHL_MIN(cap, shl_buf_len(&sse->waiting));

    if (len > 0) {
        memcpy(dst, shl_buf_data(&sse->waiting), len);
        shl_buf_consume(&sse->waiting, len);
        return (ssize_t)len;
    }
    if (sse->is_cut) {
        return -ENOMEM;
    }
    return sse->has_ended ? NODE_SOURCE_END : 0;
}

static void sse_release(void *arg)
{
    struct node_sse *sse = arg;

    sse->is_read = false;
    node_sse_gone(sse);
    let_go(sse);
}

static void on_timer(uv_timer_t *timer)
{
    struct node_sse *sse = timer->data;

    /* behind what is waiting there is no need for more */
    if (sse->x && !sse->has_ended && shl_buf_len(&sse->waiting) == 0 &&
        shl_buf_append_str(&sse->waiting, KEEPALIVE) == 0) {
        node_exchange_wake(sse->x);
    }
}

struct node_sse *node_sse_new(struct node_exchange *x)
{
    struct node_sse *sse = calloc(1, sizeof(*sse));

    if (!sse) {
        return NULL;
    }
    sse->x = x;
    sse->is_owned = true;
    shl_buf_init(&sse->waiting, NODE_SSE_WAITING_MAX);
    sse->timer.data = sse;
    (void)uv_timer_init(x->loop, &sse->timer);
    return sse;
}

void node_sse_free(struct node_sse *sse)
{
    if (!sse) {
        return;
    }
    sse->is_owned = false;
    if (sse->is_read && sse->x && !sse->has_ended) {
        sse->is_cut = true; /* it breaks off */
        node_exchange_wake(sse->x);
    }
    let_go(sse);
}

void node_sse_gone(struct node_sse *sse)
{
    sse->x = NULL;
    (void)uv_timer_stop(&sse->timer);
    shl_buf_release(&sse->waiting);
}

bool node_sse_has_begun(const struct node_sse *sse)
{
    return sse->has_begun;
}

void node_sse_begin(struct node_sse *sse)
{
    static const struct node_source_ops ops = {.read = sse_read, .release = sse_release};
    struct node_reply reply = {.status = 200,
                               .content_type = "text/event-stream",
                               .headers = {{"Cache-Control", "no-cache"},
                                           {"X-Accel-Buffering", "no"}},
                               .header_count = 2,
                               .source = &ops,
                               .source_arg = sse,
                               .length = -1};

    if (!sse->x || sse->has_begun) {
        return;
    }
    sse->has_begun = true;
    sse->is_read = true;
    (void)uv_timer_start(&sse->timer, on_timer, sse->x->pad_every_ms, sse->x->pad_every_ms);
    node_exchange_reply(sse->x, &reply);
}

static int append(struct node_sse *sse, const char *name, const char *json)
{
    return shl_buf_printf(&sse->waiting, "event: %s\ndata: %s\n\n", name, json);
}

int node_sse_event(struct node_sse *sse, const char *name, const char *json)
{
    int rc;

    if (!sse->x || sse->has_ended) {
        return SHL_EGONE;
    }
    rc = append(sse, name, json);
    if (rc == 0 && sse->has_begun) {
        node_exchange_wake(sse->x);
    }
    return rc;
}

void node_sse_end(struct node_sse *sse, const char *name, const char *json)
{
    if (!sse->x || sse->has_ended) {
        return;
    }
    sse->waiting.max_bytes = NODE_SSE_WAITING_MAX + NODE_SSE_LAST_MAX;
    sse->has_ended = append(sse, name, json) == 0;
    sse->is_cut = !sse->has_ended;
    (void)uv_timer_stop(&sse->timer);
    if (sse->has_begun) {
        node_exchange_wake(sse->x);
    } else {
        node_sse_begin(sse);
    }
}
