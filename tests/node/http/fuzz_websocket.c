/* Frames of a client, in pieces that the first byte chooses. The owner takes every other message
 * at first, so messages wait, too. What comes out are the messages of the frames, once. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/transport.h"
#include "node/http/websocket.h"

#define MESSAGE_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
    struct node_exchange x;
    struct node_websocket *socket;
    bool takes;
    bool is_closed;
};

static const char *op_header(struct node_exchange *x, const char *name)
{
    (void)x;
    return strcmp(name, "Sec-WebSocket-Key") == 0       ? "dGhlIHNhbXBsZSBub25jZQ=="
           : strcmp(name, "Sec-WebSocket-Version") == 0 ? "13"
                                                        : NULL;
}

static void op_reply(struct node_exchange *x, struct node_reply *reply)
{
    (void)x;
    assert(reply->status == NODE_STATUS_UPGRADED);
}

static void op_nothing(struct node_exchange *x)
{
    (void)x;
}

static const struct node_exchange_ops exchange_ops = {.header = op_header,
                                                      .reply = op_reply,
                                                      .wake = op_nothing,
                                                      .resume_body = op_nothing};

static bool on_message(void *arg, enum node_websocket_kind kind, struct shl_bytes data)
{
    struct fuzz *fuzz = arg;

    assert(data.len <= MESSAGE_MAX);
    fuzz->takes = !fuzz->takes;
    if (fuzz->takes) {
        (void)node_websocket_send(fuzz->socket, kind, shl_bytes_of("x", 1), data);
    }
    return fuzz->takes;
}

static void on_closed(void *arg, unsigned code)
{
    (void)code;
    ((struct fuzz *)arg)->is_closed = true;
}

static const struct node_websocket_ops socket_ops = {.message = on_message, .closed = on_closed};

static void drain(struct fuzz *fuzz)
{
    uint8_t out[100];

    while (node_exchange_read(&fuzz->x, out, sizeof(out)) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A short time between pings: the loop waits for the next timer, if nothing else is due. */
    const struct node_websocket_config config = {.message_max = MESSAGE_MAX, .ping_ms = 20};
    struct fuzz fuzz = {.takes = false};
    size_t step = size > 0 ? data[0] % 32 + 1u : 1;
    size_t at = 1;
    uv_loop_t loop;

    (void)uv_loop_init(&loop);
    assert(node_exchange_init(&fuzz.x, &exchange_ops, &loop, "GET", "/") == 0);
    fuzz.x.is_upgrade = true;
    fuzz.x.body_mode = NODE_BODY_SOCKET;
    assert(node_websocket_accept(&fuzz.x, &socket_ops, &fuzz, &config, &fuzz.socket) == 0);
    for (unsigned idle = 0; at < size && idle < 4; drain(&fuzz)) {
        size_t len = SHL_MIN(step, size - at);
        size_t taken = node_exchange_body_data(&fuzz.x, shl_bytes_of(data + at, len));

        assert(taken <= len);
        at += taken;
        idle = taken > 0 ? 0 : idle + 1;
        if (taken == 0) {
            node_websocket_resume(fuzz.socket);
            (void)uv_run(&loop, UV_RUN_ONCE);
        }
    }
    node_exchange_body_end(&fuzz.x);
    drain(&fuzz);
    node_exchange_close(&fuzz.x, false);
    assert(fuzz.is_closed);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert(uv_loop_close(&loop) == 0);
    return 0;
}
