#include "tests/node/http/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "base/io.h"

#define IN_MAX (256u * 1024 * 1024)

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

size_t heap_bytes(void)
{
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_tick_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

/* A ticking timer keeps uv_run from sleeping past the limit. */
static bool run_while(uv_loop_t *loop, uint64_t limit_ms, bool (*done)(void *), void *arg)
{
    uint64_t until_ms = shl_monotonic_ms() + limit_ms;
    uv_timer_t tick;
    bool is_closed = false;
    bool is_done;

    uv_timer_init(loop, &tick);
    uv_timer_start(&tick, on_tick, 2, 2);
    while (!(is_done = done(arg)) && shl_monotonic_ms() < until_ms) {
        uv_run(loop, UV_RUN_ONCE);
    }
    tick.data = &is_closed;
    uv_close((uv_handle_t *)&tick, on_tick_closed);
    while (!is_closed) {
        uv_run(loop, UV_RUN_ONCE);
    }
    return is_done;
}

void run_for(uv_loop_t *loop, uint64_t ms)
{
    (void)run_while(loop, ms, never, NULL);
}

void run_until(uv_loop_t *loop, bool (*done)(void *arg), void *arg)
{
    if (!run_while(loop, CLIENT_WAIT_MS, done, arg)) {
        fail_msg("what was waited for did not happen");
    }
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    struct client *client = handle->data;
    uint8_t *space = NULL;

    (void)hint;
    assert_int_equal(shl_buf_reserve(&client->in, 65536, &space), 0);
    *buf = uv_buf_init((char *)space, 65536);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *client = stream->data;

    (void)buf;
    if (n > 0) {
        client->received_bytes += (uint64_t)n;
        if (!client->drop_body) {
            shl_buf_commit(&client->in, (size_t)n);
        }
    } else if (n < 0) {
        client->is_ended = true;
        client->is_reset = n != UV_EOF;
    }
}

static void on_connect(uv_connect_t *req, int status)
{
    struct client *client = req->data;

    assert_int_equal(status, 0);
    client->is_connected = true;
    uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read);
    free(req);
}

void client_open(struct client *client, uv_loop_t *loop, uint16_t port)
{
    uv_connect_t *req = calloc(1, sizeof(*req));
    struct sockaddr_in addr;

    memset(client, 0, sizeof(*client));
    client->loop = loop;
    shl_buf_init(&client->in, IN_MAX);
    uv_tcp_init(loop, &client->tcp);
    client->tcp.data = client;
    req->data = client;
    uv_ip4_addr("127.0.0.1", port, &addr);
    assert_int_equal(uv_tcp_connect(req, &client->tcp, (struct sockaddr *)&addr, on_connect), 0);
}

void client_pause(struct client *client)
{
    uv_read_stop((uv_stream_t *)&client->tcp);
}

void client_read(struct client *client)
{
    uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read);
}

static bool is_connected(void *arg)
{
    return ((struct client *)arg)->is_connected;
}

void client_wait_connected(struct client *client)
{
    run_until(client->loop, is_connected, client);
}

static void on_closed(uv_handle_t *handle)
{
    ((struct client *)handle->data)->is_closed = true;
}

static bool is_closed(void *arg)
{
    return ((struct client *)arg)->is_closed;
}

void client_close(struct client *client)
{
    uv_close((uv_handle_t *)&client->tcp, on_closed);
    run_until(client->loop, is_closed, client);
    shl_buf_release(&client->in);
}

void client_reset(struct client *client)
{
    assert_int_equal(uv_tcp_close_reset(&client->tcp, on_closed), 0);
    run_until(client->loop, is_closed, client);
    shl_buf_release(&client->in);
}

struct write {
    uv_write_t req;
    struct client *client;
    size_t len;
    uint8_t data[];
};

static void on_written(uv_write_t *req, int status)
{
    struct write *write = (struct write *)req;

    (void)status;
    write->client->unsent_bytes -= write->len;
    free(write);
}

void client_send(struct client *client, const void *data, size_t len)
{
    struct write *write = malloc(sizeof(*write) + len);
    uv_buf_t buf;

    memcpy(write->data, data, len);
    write->client = client;
    write->len = len;
    client->unsent_bytes += len;
    buf = uv_buf_init((char *)write->data, (unsigned)len);
    client_wait_connected(client);
    if (uv_write(&write->req, (uv_stream_t *)&client->tcp, &buf, 1, on_written) < 0) {
        client->unsent_bytes -= len;
        free(write);
    }
}

static void on_finished(uv_shutdown_t *req, int status)
{
    (void)status;
    free(req);
}

void client_finish(struct client *client)
{
    uv_shutdown_t *req = calloc(1, sizeof(*req));

    client_wait_connected(client);
    assert_int_equal(uv_shutdown(req, (uv_stream_t *)&client->tcp, on_finished), 0);
}

void client_text(struct client *client, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    int len;

    va_start(args, fmt);
    len = vasprintf(&text, fmt, args);
    va_end(args);
    assert_true(len >= 0);
    client_send(client, text, (size_t)len);
    free(text);
}

static const uint8_t *find_in(const struct client *client, const char *text)
{
    const uint8_t *base = shl_buf_data(&client->in);

    return base ? memmem(base, shl_buf_len(&client->in), text, strlen(text)) : NULL;
}

static const uint8_t *head_end(const struct client *client)
{
    return find_in(client, "\r\n\r\n");
}

static bool has_head(void *arg)
{
    struct client *client = arg;

    return client->is_ended || head_end(client) != NULL;
}

bool client_reply_head(struct client *client, struct reply *ret)
{
    const uint8_t *end;
    const char *text;
    const char *line;

    memset(ret, 0, sizeof(*ret));
    run_until(client->loop, has_head, client);
    end = head_end(client);
    if (!end) {
        return false;
    }
    text = (const char *)shl_buf_data(&client->in);
    assert_int_equal(strncmp(text, "HTTP/1.", 7), 0);
    ret->status = atoi(text + 9);
    line = strstr(text, "\r\n") + 2;
    ret->head = strndup(line, (size_t)((const char *)end + 2 - line));
    shl_buf_consume(&client->in, (size_t)(end + 4 - (const uint8_t *)text));
    return true;
}

const char *reply_header(const struct reply *reply, const char *name, char *buf, size_t size)
{
    const char *line = reply->head;
    size_t len = strlen(name);

    while (line && *line) {
        const char *end = strstr(line, "\r\n");

        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1 + strspn(line + len + 1, " ");

            (void)snprintf(buf, size, "%.*s", (int)(end - value), value);
            return buf;
        }
        line = end ? end + 2 : NULL;
    }
    return NULL;
}

struct need {
    struct client *client;
    size_t len;
};

static bool has_bytes(void *arg)
{
    struct need *need = arg;

    return need->client->is_ended || shl_buf_len(&need->client->in) >= need->len;
}

static bool take(struct client *client, size_t len, struct reply *reply)
{
    struct need need = {client, len};

    run_until(client->loop, has_bytes, &need);
    if (shl_buf_len(&client->in) < len) {
        return false;
    }
    if (reply->body_len + len + 1 > reply->body_cap) {
        reply->body_cap = 2 * (reply->body_len + len + 1);
        reply->body = realloc(reply->body, reply->body_cap);
    }
    if (len > 0) {
        memcpy(reply->body + reply->body_len, shl_buf_data(&client->in), len);
    }
    reply->body_len += len;
    reply->body[reply->body_len] = '\0';
    shl_buf_consume(&client->in, len);
    return true;
}

static bool has_line(void *arg)
{
    struct client *client = arg;

    return client->is_ended || find_in(client, "\r\n") != NULL;
}

static bool take_chunks(struct client *client, struct reply *reply)
{
    for (;;) {
        const uint8_t *end;
        unsigned long len;

        run_until(client->loop, has_line, client);
        end = find_in(client, "\r\n");
        if (!end) {
            return false;
        }
        len = strtoul((const char *)shl_buf_data(&client->in), NULL, 16);
        shl_buf_consume(&client->in, (size_t)(end + 2 - shl_buf_data(&client->in)));
        if (!take(client, len + 2, reply)) {
            return false;
        }
        reply->body_len -= 2;
        reply->body[reply->body_len] = '\0';
        if (len == 0) {
            return true;
        }
    }
}

static bool has_ended(void *arg)
{
    return ((struct client *)arg)->is_ended;
}

void client_wait_end(struct client *client)
{
    run_until(client->loop, has_ended, client);
}

bool client_reply_to(struct client *client, bool is_head_request, struct reply *ret)
{
    char buf[64];

    do {
        if (!client_reply_head(client, ret)) {
            return false;
        }
        if (ret->status == 100) {
            reply_release(ret);
        }
    } while (!ret->head);
    if (is_head_request || ret->status == 204) {
        return take(client, 0, ret);
    }
    if (reply_header(ret, "Transfer-Encoding", buf, sizeof(buf))) {
        return take_chunks(client, ret);
    }
    if (reply_header(ret, "Content-Length", buf, sizeof(buf))) {
        return take(client, strtoul(buf, NULL, 10), ret);
    }
    client_wait_end(client);
    return take(client, shl_buf_len(&client->in), ret);
}

bool client_reply(struct client *client, struct reply *ret)
{
    return client_reply_to(client, false, ret);
}

void reply_release(struct reply *reply)
{
    free(reply->head);
    free(reply->body);
    memset(reply, 0, sizeof(*reply));
}

void request(uv_loop_t *loop,
             uint16_t port,
             const char *head,
             const void *body,
             size_t body_len,
             struct reply *ret)
{
    struct client client;
    bool has_body = body != NULL || strncmp(head, "P", 1) == 0;

    client_open(&client, loop, port);
    client_text(&client, "%s\r\nHost: test:%u\r\n", head, port);
    if (has_body) {
        client_text(&client, "Content-Length: %zu\r\n", body_len);
    }
    client_text(&client, "\r\n");
    if (body_len > 0) {
        client_send(&client, body, body_len);
    }
    assert_true(client_reply_to(&client, strncmp(head, "HEAD", 4) == 0, ret));
    client_close(&client);
}
