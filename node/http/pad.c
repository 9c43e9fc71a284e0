/* Padded replies: white space before a JSON body that takes long.
 *
 * Clients give up after 30 s without a byte. JSON allows leading spaces, so the status
 * and a space go out after a while, and the body when it is known. The pad has a timer,
 * which closes later than the exchange, hence its own allocation.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/transport.h"

struct node_pad {
    uv_timer_t timer;
    struct node_exchange *x; /* NULL once the exchange has closed */
    unsigned spaces;         /* due */
    bool has_body;
    struct node_reply body; /* headers and status unused */
    size_t heap_sent;
};

static ssize_t read_body(struct node_pad *pad, uint8_t *dst, size_t cap)
{
    size_t left = pad->body.heap_len - pad->heap_sent;

    if (pad->body.source) {
        return pad->body.source->read(pad->body.source_arg, dst, cap);
    }
    if (left == 0) {
        return NODE_SOURCE_END;
    }
    cap = SHL_MIN(cap, left);
    memcpy(dst, (uint8_t *)pad->body.heap + pad->heap_sent, cap);
    pad->heap_sent += cap;
    return (ssize_t)cap;
}

static ssize_t pad_read(void *arg, uint8_t *dst, size_t cap)
{
    struct node_pad *pad = arg;
    size_t n = 0;

    for (; pad->spaces > 0 && n < cap; n++, pad->spaces--) {
        dst[n] = ' ';
    }
    if (n > 0) {
        return (ssize_t)n;
    }
    return pad->has_body ? read_body(pad, dst, cap) : 0;
}

static void pad_release(void *arg)
{
    struct node_pad *pad = arg;

    free(pad->body.heap);
    pad->body.heap = NULL;
    if (pad->body.source && pad->body.source->release) {
        pad->body.source->release(pad->body.source_arg);
    }
    pad->body.source = NULL;
}

static const struct node_source_ops pad_ops = {.read = pad_read, .release = pad_release};

static void on_pad_timer(uv_timer_t *timer)
{
    struct node_pad *pad = timer->data;
    struct node_exchange *x = pad->x;

    if (!x || pad->has_body || (x->is_replied && !x->is_padded)) {
        (void)uv_timer_stop(timer);
        return;
    }
    pad->spaces++;
    if (x->is_padded) {
        node_exchange_wake(x);
        return;
    }
    struct node_reply reply = {.status = 200,
                               .content_type = "application/json",
                               .source = &pad_ops,
                               .source_arg = pad,
                               .length = -1};

    node_exchange_reply(x, &reply);
    x->is_replied = false; /* the handler's reply is still to come */
    x->is_padded = true;
}

int node_exchange_pad(struct node_exchange *x)
{
    struct node_pad *pad = calloc(1, sizeof(*pad));

    if (!pad) {
        return -ENOMEM;
    }
    pad->x = x;
    pad->timer.data = pad;
    (void)uv_timer_init(x->loop, &pad->timer); /* documented never to fail */
    (void)uv_timer_start(&pad->timer, on_pad_timer, x->pad_after_ms, x->pad_every_ms);
    x->pad = pad;
    return 0;
}

bool node_pad_take_reply(struct node_exchange *x, struct node_reply *reply)
{
    struct node_pad *pad = x->pad;

    if (!pad || !x->is_padded) {
        return false;
    }
    pad->has_body = true;
    pad->body = *reply;
    node_exchange_wake(x);
    return true;
}

static void on_pad_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void node_pad_close(struct node_exchange *x)
{
    struct node_pad *pad = x->pad;

    if (pad) {
        x->pad = NULL;
        pad->x = NULL;
        uv_close((uv_handle_t *)&pad->timer, on_pad_closed);
    }
}
