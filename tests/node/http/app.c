#include "tests/node/http/app.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t app_pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 13));
}

struct later {
    uv_timer_t timer;
    void (*cb)(void *arg);
    void *arg;
};

static void on_later_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_later(uv_timer_t *timer)
{
    struct later *later = timer->data;

    later->cb(later->arg);
    uv_close((uv_handle_t *)timer, on_later_closed);
}

void app_later(uv_loop_t *loop, void (*cb)(void *arg), void *arg)
{
    struct later *later = calloc(1, sizeof(*later));

    later->cb = cb;
    later->arg = arg;
    later->timer.data = later;
    (void)uv_timer_init(loop, &later->timer);
    (void)uv_timer_start(&later->timer, on_later, 0, 0);
}

static void resume_item(void *arg)
{
    struct app_item *item = arg;

    if (item->x) {
        node_exchange_resume_body(item->x);
    }
}

static size_t sink_data(void *arg, struct shl_bytes data)
{
    struct app_item *item = arg;
    struct app *app = item->app;
    size_t take = app->sink_stops ? 0 : data.len;

    take = app->sink_step > 0 ? SHL_MIN(take, app->sink_step) : take;
    for (size_t i = 0; i < take; i++) {
        assert(data.base[i] == app_pattern(item->at + i));
    }
    item->at += take;
    app->sunk_bytes += take;
    if (take < data.len && !app->sink_stops) {
        app_later(item->x->loop, resume_item, item); /* slow, not stopped */
    }
    return take;
}

static void sink_end(void *arg)
{
    struct app_item *item = arg;
    char *text = NULL;
    int len = asprintf(&text, "{\"bytes\":%llu}", (unsigned long long)item->at);

    node_exchange_reply_heap(item->x, 200, "application/json", text, (size_t)len);
}

static const struct node_sink_ops sink_ops = {.data = sink_data, .end = sink_end};

static ssize_t source_read(void *arg, uint8_t *dst, size_t cap)
{
    struct app_item *item = arg;
    struct app *app = item->app;
    size_t len = (size_t)SHL_MIN((uint64_t)cap, item->total - item->at);

    if (item->fail_at >= 0) {
        if (item->at >= (uint64_t)item->fail_at) {
            return -EIO;
        }
        len = SHL_MIN(len, (size_t)item->fail_at - (size_t)item->at);
    }
    if (item->at == item->total) {
        return NODE_SOURCE_END;
    }
    len = app->source_step > 0 ? SHL_MIN(len, app->source_step) : len;
    for (size_t i = 0; i < len; i++) {
        dst[i] = app_pattern(item->at + i);
    }
    item->at += len;
    app->read_bytes += len;
    return (ssize_t)len;
}

static void source_release(void *arg)
{
    ((struct app_item *)arg)->app->released++;
}

static const struct node_source_ops source_ops = {.read = source_read, .release = source_release};

static void reply_echo(struct app_item *item)
{
    struct node_exchange *x = item->x;
    size_t len = shl_buf_len(&x->body);
    uint8_t *copy = malloc(len + 1);
    const char *accept = node_exchange_header(x, "accept");
    struct node_reply reply = {.status = 201,
                               .content_type = "text/plain",
                               .heap = copy,
                               .heap_len = len,
                               .headers = {{"X-Seen-Id", x->request_id},
                                           {"X-Seen-Accept", accept ? accept : "none"}},
                               .header_count = 2};

    if (len > 0) {
        memcpy(copy, shl_buf_data(&x->body), len);
    }
    node_exchange_reply(x, &reply);
}

/* WebSockets */

static bool on_socket_message(void *arg, enum node_websocket_kind kind, struct shl_bytes data)
{
    struct app_item *item = arg;

    if (item->app->socket_stops) {
        return false;
    }
    if (data.len == 3 && memcmp(data.base, "bye", 3) == 0) {
        node_websocket_close(item->socket, 4001, "as you wish");
        return true;
    }
    item->app->messages++;
    item->app->message_bytes += data.len;
    /* What is not taken is offered again when there is room. */
    return item->app->socket_swallows ||
           node_websocket_send(item->socket, kind, shl_bytes_of(NULL, 0), data);
}

static void on_socket_writable(void *arg)
{
    node_websocket_resume(((struct app_item *)arg)->socket);
}

static void on_socket_closed(void *arg, unsigned code)
{
    struct app_item *item = arg;

    item->socket = NULL;
    item->app->sockets_closed++;
    item->app->close_code = code;
}

static const struct node_websocket_ops socket_ops = {.message = on_socket_message,
                                                     .writable = on_socket_writable,
                                                     .closed = on_socket_closed};

void app_resume_sockets(struct app *app)
{
    app->socket_stops = false;
    for (unsigned i = 0; i < APP_ITEMS_MAX; i++) {
        if (app->items[i].x && app->items[i].socket) {
            node_websocket_resume(app->items[i].socket);
        }
    }
}

void app_close_sockets(struct app *app)
{
    for (unsigned i = 0; i < APP_ITEMS_MAX; i++) {
        if (app->items[i].x && app->items[i].socket) {
            node_websocket_close(app->items[i].socket, 4002, "enough");
        }
    }
}

/* Raw bytes: everything comes back, the end too. */

static size_t pipe_data(void *arg, struct shl_bytes data)
{
    struct app_item *item = arg;
    size_t n = SHL_MIN(data.len, sizeof(item->piped) - item->piped_len);

    memcpy(item->piped + item->piped_len, data.base, n);
    item->piped_len += n;
    node_exchange_wake(item->x);
    return n;
}

static void pipe_end(void *arg)
{
    struct app_item *item = arg;

    item->is_pipe_ended = true;
    node_exchange_wake(item->x);
}

static ssize_t pipe_read(void *arg, uint8_t *dst, size_t cap)
{
    struct app_item *item = arg;
    size_t n = SHL_MIN(cap, item->piped_len);

    if (n == 0) {
        return item->is_pipe_ended ? NODE_SOURCE_END : 0;
    }
    memcpy(dst, item->piped, n);
    item->piped_len -= n;
    memmove(item->piped, item->piped + n, item->piped_len);
    node_exchange_resume_body(item->x);
    return (ssize_t)n;
}

static const struct node_sink_ops pipe_sink = {.data = pipe_data, .end = pipe_end};
static const struct node_source_ops pipe_source = {.read = pipe_read, .release = source_release};

static int64_t number(struct node_exchange *x, const char *name, int64_t otherwise)
{
    const char *text = node_url_query(&x->url, name);

    return text ? strtoll(text, NULL, 10) : otherwise;
}

static void reply_source(struct app_item *item)
{
    struct node_exchange *x = item->x;
    struct node_reply reply = {.status = 200,
                               .content_type = "application/octet-stream",
                               .source = &source_ops,
                               .source_arg = item};

    item->total = (uint64_t)number(x, "n", 0);
    item->fail_at = number(x, "fail", -1);
    reply.length = number(x, "chunked", 0) ? -1 : (int64_t)item->total;
    node_exchange_reply(x, &reply);
}

static void handle(void *arg)
{
    struct app_item *item = arg;
    struct node_exchange *x = item->x;
    const char *name = x->url.segment_count > 0 ? x->url.segments[0] : "";

    item->app->handled++;
    if (strcmp(name, "echo") == 0) {
        reply_echo(item);
    } else if (strcmp(name, "sink") == 0 && item->app->sink_refuses) {
        node_exchange_refuse(x, NODE_REFUSAL_NOT_HERE, SHL_ENOTFOUND, "it is not here");
    } else if (strcmp(name, "sink") == 0) {
        node_exchange_set_sink(x, &sink_ops, item);
    } else if (strcmp(name, "source") == 0) {
        reply_source(item);
    } else if (strcmp(name, "ws") == 0) {
        const struct node_websocket_config config = {.message_max = 100000,
                                                     .ping_ms = (uint32_t)number(x, "ping", 0)};

        item->app->accepted +=
            node_websocket_accept(x, &socket_ops, item, &config, &item->socket) == 0;
    } else if (strcmp(name, "pipe") == 0) {
        node_exchange_set_sink(x, &pipe_sink, item);
        node_exchange_upgrade(x, NULL, 0, &pipe_source, item);
    } else if (strcmp(name, "empty") == 0) {
        node_exchange_reply_empty(x, 204);
    } else if (strcmp(name, "refuse") == 0) {
        node_exchange_refuse(x, NODE_REFUSAL_NOT_HERE, SHL_ENOTFOUND, "it is not here");
    } else if (strcmp(name, "wait") == 0 || strcmp(name, "pad") == 0) {
        item->app->waiting = item;
        if (name[0] == 'p') {
            assert(node_exchange_pad(x) == 0);
        }
    } else {
        node_exchange_fail(x, SHL_ENOTFOUND, "there is nothing");
    }
}

static void on_close(void *arg, bool is_complete)
{
    struct app_item *item = arg;

    item->app->closed++;
    item->app->completed += is_complete;
    if (item->app->waiting == item) {
        item->app->waiting = NULL;
    }
    item->x = NULL;
}

static bool is_socket(const struct node_exchange *x)
{
    return x->url.segment_count > 0 &&
           (strcmp(x->url.segments[0], "ws") == 0 || strcmp(x->url.segments[0], "pipe") == 0 ||
            strcmp(x->url.segments[0], "refuse") == 0);
}

void app_choose_body(struct node_exchange *x)
{
    if (x->url.segment_count > 0 && strcmp(x->url.segments[0], "sink") == 0) {
        x->body_mode = NODE_BODY_STREAMED;
        x->body_max = SIZE_MAX / 2;
    }
    if (x->is_upgrade && is_socket(x)) {
        x->body_mode = NODE_BODY_SOCKET;
    }
}

void app_on_head(void *arg, struct node_exchange *x)
{
    struct app *app = arg;
    struct app_item *item = NULL;

    for (unsigned i = 0; i < APP_ITEMS_MAX && !item; i++) {
        item = app->items[i].x ? NULL : &app->items[i];
    }
    assert(item);
    *item = (struct app_item){.app = app, .x = x, .fail_at = -1};
    app->hops = x->hops;
    (void)snprintf(app->origin, sizeof(app->origin), "%s", x->origin ? x->origin : "");
    x->handle = handle;
    x->on_close = on_close;
    x->arg = item;
    app_choose_body(x);
}

void app_answer(struct app *app, const char *text)
{
    struct app_item *item = app->waiting;

    assert(item);
    app->waiting = NULL;
    node_exchange_reply_heap(item->x, 200, "application/json", strdup(text), strlen(text));
}

void app_resume_sinks(struct app *app)
{
    app->sink_stops = false;
    for (unsigned i = 0; i < APP_ITEMS_MAX; i++) {
        if (app->items[i].x && app->items[i].x->sink) {
            node_exchange_resume_body(app->items[i].x);
        }
    }
}
