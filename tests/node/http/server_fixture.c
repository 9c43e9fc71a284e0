#include "tests/node/http/server_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture *fix;

uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 13));
}

static size_t sink_data(void *arg, struct shl_bytes data)
{
    struct app *app = arg;
    size_t take = (size_t)SHL_MIN(app->sink_room, (uint64_t)data.len);

    for (size_t i = 0; i < take; i++) {
        if (!app->sink_any && data.base[i] != pattern(app->sunk_bytes + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(app->sunk_bytes + i));
        }
    }
    app->sunk_bytes += take;
    app->sink_room -= take;
    return take;
}

static void sink_end(void *arg)
{
    struct app *app = arg;
    char *text = NULL;
    int len = asprintf(&text, "{\"bytes\":%llu}", (unsigned long long)app->sunk_bytes);

    node_exchange_reply_heap(app->sinking, 200, "application/json", text, (size_t)len);
}

static const struct node_sink_ops sink_ops = {.data = sink_data, .end = sink_end};

static ssize_t source_read(void *arg, uint8_t *dst, size_t cap)
{
    struct app *app = arg;
    size_t len = (size_t)SHL_MIN(SHL_MIN((uint64_t)cap, app->source_room),
                                 app->source_total - app->source_at);

    if (app->source_at == app->source_total) {
        return NODE_SOURCE_END;
    }
    for (size_t i = 0; i < len; i++) {
        dst[i] = pattern(app->source_at + i);
    }
    app->source_at += len;
    app->source_room -= len;
    return (ssize_t)len;
}

static void source_release(void *arg)
{
    ((struct app *)arg)->released++;
}

static ssize_t broken_read(void *arg, uint8_t *dst, size_t cap)
{
    struct app *app = arg;

    if (app->source_at++ == 0) {
        memset(dst, 'x', SHL_MIN(cap, (size_t)100));
        return (ssize_t)SHL_MIN(cap, (size_t)100);
    }
    return -EIO;
}

static const struct node_source_ops source_ops = {.read = source_read, .release = source_release};
static const struct node_source_ops broken_ops = {.read = broken_read, .release = source_release};

static bool is_path(struct node_exchange *x, const char *name)
{
    return x->url.segment_count > 0 && strcmp(x->url.segments[0], name) == 0;
}

static void handle(void *arg)
{
    struct node_exchange *x = arg;
    struct app *app = &fix->app;

    app->handled++;
    if (is_path(x, "echo")) {
        char *copy = malloc(shl_buf_len(&x->body) + 1);

        if (shl_buf_len(&x->body) > 0) {
            memcpy(copy, shl_buf_data(&x->body), shl_buf_len(&x->body));
        }
        node_exchange_reply_heap(x, 200, "text/plain", copy, shl_buf_len(&x->body));
    } else if (is_path(x, "empty")) {
        node_exchange_reply_empty(x, 204);
    } else if (is_path(x, "wait")) {
        app->waiting = x;
    } else if (is_path(x, "pad")) {
        app->waiting = x;
        assert_int_equal(node_exchange_pad(x), 0);
    } else if (is_path(x, "sink")) {
        app->sinking = x;
        node_exchange_set_sink(x, &sink_ops, app);
    } else if (is_path(x, "source") || is_path(x, "broken")) {
        struct node_reply reply = {
            .status = 200,
            .content_type = "application/octet-stream",
            .source = is_path(x, "source") ? &source_ops : &broken_ops,
            .source_arg = app,
            .length = node_url_query(&x->url, "chunked") ? -1 : (int64_t)app->source_total};

        app->sourcing = x;
        node_exchange_reply(x, &reply);
    } else {
        node_exchange_fail(x, SHL_ENOTFOUND, NULL);
    }
}

static void on_close(void *arg, bool is_complete)
{
    (void)arg;
    fix->app.closed++;
    fix->app.completed += is_complete;
    fix->app.waiting = NULL;
    fix->app.sourcing = NULL;
    fix->app.sinking = NULL;
}

void on_head(void *arg, struct node_exchange *x)
{
    (void)arg;
    if (is_path(x, "refuse")) {
        node_exchange_fail(x, SHL_EAUTH, "not you");
        return;
    }
    x->handle = handle;
    x->on_close = on_close;
    x->arg = x;
    if (is_path(x, "sink")) {
        x->body_mode = NODE_BODY_STREAMED;
        x->body_max = 200 * MIB;
    }
}

static int setup_with(void **state, struct node_http_config *config)
{
    struct shl_err err = {0};

    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does: clients go at any time */
    fix = calloc(1, sizeof(*fix));
    *state = fix;
    uv_loop_init(&fix->loop);
    config->listen = "127.0.0.1:0";
    config->app.on_head = on_head;
    if (node_http_open(&fix->loop, config, &fix->http, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    fix->port = node_http_port(fix->http);
    return 0;
}

int setup(void **state)
{
    struct node_http_config config = {.pad_after_ms = 50, .pad_every_ms = 50, .connections_max = 8};

    return setup_with(state, &config);
}

int setup_hasty(void **state)
{
    struct node_http_config config = {
        .head_timeout_ms = 400, .body_timeout_ms = 600, .idle_timeout_ms = 3000};

    return setup_with(state, &config);
}

void on_http_closed(void *arg)
{
    ((struct fixture *)arg)->is_closed = true;
}

bool http_is_closed(void *arg)
{
    return ((struct fixture *)arg)->is_closed;
}

int teardown(void **state)
{
    (void)state;
    node_http_close(fix->http, on_http_closed, fix);
    run_until(&fix->loop, http_is_closed, fix);
    while (uv_run(&fix->loop, UV_RUN_NOWAIT)) { /* closing handles of pads */
    }
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

void assert_envelope(struct reply *reply, int status)
{
    char buf[128];

    assert_int_equal(reply->status, status);
    assert_non_null(reply->body);
    if (strncmp((char *)reply->body, "{\"error\":\"", 10) != 0) {
        fail_msg("no envelope: %s", (char *)reply->body);
    }
    assert_string_equal(reply_header(reply, "Content-Type", buf, sizeof(buf)), "application/json");
}

bool is_all_closed(void *arg)
{
    struct node_http_stats stats;

    (void)arg;
    node_http_stats(fix->http, &stats);
    return stats.connections == 0 && stats.in_flight == 0;
}

bool is_waiting(void *arg)
{
    (void)arg;
    return fix->app.waiting != NULL;
}
