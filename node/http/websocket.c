/* Between the bytes of an exchange and wslay's events:
 *
 *   sink data -> wslay_event_recv -> on_message -> owner, or `pending` when it takes none
 *   node_websocket_send -> wslay's queue -> source_read (wslay_event_send)
 *
 * wslay reads its input in blocks, so some messages may be complete before it can be stopped:
 * they wait in `pending`, which a block and one message bound.
 */
#include "node/http/websocket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <wslay/wslay.h>

#define KEY_LEN     24 /* base64 of 16 bytes */
#define BLOCK_BYTES (16u * 1024)
#define RECORD_HEAD 5 /* in pending: kind, length */

struct node_websocket {
    struct node_exchange *x; /* NULL when it has closed */
    const struct node_websocket_ops *ops;
    void *arg;
    wslay_event_context_ptr wslay;
    size_t message_max;
    uv_timer_t ping;
    uv_timer_t due; /* deliver pending, outside of our callers */
    uv_timer_t settle;
    unsigned open_handles;
    struct shl_bytes in; /* during sink_data */
    uint8_t *out;        /* during source_read */
    size_t out_len;
    size_t out_cap;
    struct shl_buf pending;
    unsigned code; /* of our close, 0 none yet */
    char reason[NODE_WEBSOCKET_REASON_MAX + 1];
    bool is_close_queued; /* in wslay: it overtakes messages, so it comes after them */
    bool is_waiting;      /* the owner did not take the first pending message */
    bool is_choked;       /* too much to send: nothing is read */
    bool wants_room;      /* the owner */
    bool is_ended;        /* the client's direction */
    bool is_failed;
    bool is_settling;
};

bool node_websocket_accept_key(const char *key, char dst[NODE_WEBSOCKET_ACCEPT_SIZE])
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[KEY_LEN + sizeof(guid)];
    uint8_t sum[SHA_DIGEST_LENGTH];

    if (strlen(key) != KEY_LEN || strspn(key, letters) != KEY_LEN - 2 ||
        strcmp(key + KEY_LEN - 2, "==") != 0) {
        return false;
    }
    memcpy(text, key, KEY_LEN);
    memcpy(text + KEY_LEN, guid, sizeof(guid));
    (void)SHA1((const uint8_t *)text, strlen(text), sum);
    (void)EVP_EncodeBlock((uint8_t *)dst, sum, sizeof(sum));
    return true;
}

/* Client to owner */

static bool is_closing(const struct node_websocket *ws)
{
    return ws->code != 0 || ws->is_ended || wslay_event_get_close_received(ws->wslay);
}

static void fail(struct node_websocket *ws)
{
    ws->is_failed = true;
    if (ws->x) {
        node_exchange_wake(ws->x);
    }
}

static void keep(struct node_websocket *ws, enum node_websocket_kind kind, struct shl_bytes data)
{
    uint8_t head[RECORD_HEAD] = {(uint8_t)kind};

    shl_put_le32(head + 1, (uint32_t)data.len);
    if (shl_buf_append(&ws->pending, head, sizeof(head)) < 0 ||
        shl_buf_append(&ws->pending, data.base, data.len) < 0) {
        fail(ws);
    }
}

static void on_message(wslay_event_context_ptr wslay,
                       const struct wslay_event_on_msg_recv_arg *msg,
                       void *arg)
{
    struct node_websocket *ws = arg;
    struct shl_bytes data = shl_bytes_of(msg->msg, msg->msg_length);
    enum node_websocket_kind kind =
        msg->opcode == WSLAY_TEXT_FRAME ? NODE_WEBSOCKET_TEXT : NODE_WEBSOCKET_BINARY;

    (void)wslay;
    if (wslay_is_ctrl_frame(msg->opcode) || ws->code != 0 || ws->is_failed) {
        return;
    }
    if (shl_buf_len(&ws->pending) > 0) {
        keep(ws, kind, data);
    } else if (!ws->ops->message(ws->arg, kind, data)) {
        ws->is_waiting = true;
        keep(ws, kind, data);
    }
}

static ssize_t on_recv(wslay_event_context_ptr wslay,
                       uint8_t *dst,
                       size_t cap,
                       int flags,
                       void *arg)
{
    struct node_websocket *ws = arg;
    size_t len = SHL_MIN(cap, ws->in.len);

    (void)flags;
    ws->is_choked = wslay_event_get_queued_msg_count(wslay) >= 2 * NODE_WEBSOCKET_QUEUE_COUNT;
    if (len == 0 || shl_buf_len(&ws->pending) > 0 || ws->is_choked) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(dst, ws->in.base, len);
    ws->in = shl_bytes_of(ws->in.base + len, ws->in.len - len);
    return (ssize_t)len;
}

static size_t sink_data(void *arg, struct shl_bytes data)
{
    struct node_websocket *ws = arg;
    size_t queued = wslay_event_get_queued_msg_count(ws->wslay);
    size_t left;

    if (ws->is_failed) {
        return data.len;
    }
    ws->in = data;
    if (wslay_event_recv(ws->wslay) < 0) { /* a frame that is none */
        wslay_event_shutdown_read(ws->wslay);
        node_websocket_close(ws, NODE_WEBSOCKET_PROTOCOL, NULL);
    }
    left = ws->in.len;
    ws->in = shl_bytes_of(NULL, 0);
    if (wslay_event_get_queued_msg_count(ws->wslay) != queued) { /* pongs, a close */
        node_exchange_wake(ws->x);
    }
    /* After a close, and after a mistake (which wslay answers by a close), nothing counts. */
    return wslay_event_get_read_enabled(ws->wslay) && !ws->is_failed ? data.len - left : data.len;
}

static void sink_end(void *arg)
{
    struct node_websocket *ws = arg;

    ws->is_ended = true;
    node_exchange_wake(ws->x);
}

static const struct node_sink_ops sink_ops = {.data = sink_data, .end = sink_end};

static void deliver_pending(struct node_websocket *ws)
{
    while (shl_buf_len(&ws->pending) > 0) {
        const uint8_t *record = shl_buf_data(&ws->pending);
        size_t len = shl_get_le32(record + 1);

        if (ws->code == 0 && !ws->ops->message(ws->arg, (enum node_websocket_kind)record[0],
                                               shl_bytes_of(record + RECORD_HEAD, len))) {
            ws->is_waiting = true;
            return;
        }
        shl_buf_consume(&ws->pending, RECORD_HEAD + len);
    }
    shl_buf_release(&ws->pending); /* it may have been large */
    node_exchange_resume_body(ws->x);
}

static void on_due(uv_timer_t *timer)
{
    struct node_websocket *ws = timer->data;

    if (ws->x && !ws->is_waiting) {
        deliver_pending(ws);
    }
}

void node_websocket_resume(struct node_websocket *ws)
{
    ws->is_waiting = false;
    (void)uv_timer_start(&ws->due, on_due, 1, 0); /* not 0: see drive() in server.c */
}

/* Owner to client */

static ssize_t on_send(wslay_event_context_ptr wslay,
                       const uint8_t *data,
                       size_t len,
                       int flags,
                       void *arg)
{
    struct node_websocket *ws = arg;
    size_t n = SHL_MIN(len, ws->out_cap - ws->out_len);

    (void)flags;
    if (n == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(ws->out + ws->out_len, data, n);
    ws->out_len += n;
    return (ssize_t)n;
}

static bool has_room(const struct node_websocket *ws)
{
    return wslay_event_get_queued_msg_count(ws->wslay) < NODE_WEBSOCKET_QUEUE_COUNT &&
           wslay_event_get_queued_msg_length(ws->wslay) < NODE_WEBSOCKET_QUEUE_BYTES;
}

bool node_websocket_send(struct node_websocket *ws,
                         enum node_websocket_kind kind,
                         struct shl_bytes a,
                         struct shl_bytes b)
{
    struct wslay_event_msg msg = {.opcode = kind == NODE_WEBSOCKET_TEXT ? WSLAY_TEXT_FRAME
                                                                        : WSLAY_BINARY_FRAME};
    struct shl_buf both;
    int rc;

    if (is_closing(ws) || ws->is_failed) {
        return false;
    }
    if (!has_room(ws)) {
        ws->wants_room = true;
        return false;
    }
    shl_buf_init(&both, a.len + b.len);
    rc = shl_buf_append(&both, a.base, a.len);
    if (rc == 0) {
        rc = shl_buf_append(&both, b.base, b.len);
    }
    if (rc == 0) {
        msg.msg = shl_buf_data(&both);
        msg.msg_length = shl_buf_len(&both);
        rc = wslay_event_queue_msg(ws->wslay, &msg);
    }
    shl_buf_release(&both);
    if (rc != 0) {
        fail(ws);
        return false;
    }
    node_exchange_wake(ws->x);
    return true;
}

static int send_queued(struct node_websocket *ws)
{
    int rc = wslay_event_send(ws->wslay);

    if (rc == 0 && ws->code != 0 && !ws->is_close_queued && !wslay_event_want_write(ws->wslay)) {
        ws->is_close_queued = true;
        (void)wslay_event_queue_close(ws->wslay, (uint16_t)ws->code, (const uint8_t *)ws->reason,
                                      strlen(ws->reason));
        rc = wslay_event_send(ws->wslay);
    }
    return rc;
}

static ssize_t source_read(void *arg, uint8_t *dst, size_t cap)
{
    struct node_websocket *ws = arg;

    if (ws->is_failed) {
        return -ECONNRESET;
    }
    if (ws->is_ended) {
        return NODE_SOURCE_END;
    }
    if (ws->is_settling) {
        return 0;
    }
    ws->out = dst;
    ws->out_cap = cap;
    ws->out_len = 0;
    if (send_queued(ws) < 0) {
        ws->is_failed = true;
        return -ECONNRESET;
    }
    if (ws->wants_room && has_room(ws) && !is_closing(ws)) {
        ws->wants_room = false;
        if (ws->ops->writable) {
            ws->ops->writable(ws->arg);
        }
    }
    if (ws->is_choked && has_room(ws)) {
        ws->is_choked = false;
        node_exchange_resume_body(ws->x);
    }
    if (ws->out_len == 0 && wslay_event_get_close_sent(ws->wslay)) {
        return NODE_SOURCE_END;
    }
    return (ssize_t)ws->out_len;
}

void node_websocket_close(struct node_websocket *ws, unsigned code, const char *reason)
{
    size_t len = reason ? strnlen(reason, NODE_WEBSOCKET_REASON_MAX) : 0;

    /* Not in the middle of a character. */
    while (len > 0 && reason[len] != '\0' && ((uint8_t)reason[len] & 0xc0) == 0x80) {
        len--;
    }
    if (ws->code != 0) {
        return;
    }
    ws->code = code;
    if (len > 0) {
        memcpy(ws->reason, reason, len);
    }
    node_exchange_wake(ws->x);
    node_websocket_resume(ws); /* what the owner did not take would hold the client's close up */
}

static void on_ping(uv_timer_t *timer)
{
    struct node_websocket *ws = timer->data;
    const struct wslay_event_msg ping = {.opcode = WSLAY_PING};

    if (!ws->x) {
        return;
    }
    if (!is_closing(ws) && has_room(ws)) {
        (void)wslay_event_queue_msg(ws->wslay, &ping);
        node_exchange_wake(ws->x);
    }
}

/* Beginning and end */

static void on_settled(uv_timer_t *timer)
{
    struct node_websocket *ws = timer->data;

    ws->is_settling = false;
    if (ws->x) {
        node_exchange_wake(ws->x);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct node_websocket *ws = handle->data;

    if (--ws->open_handles > 0) {
        return;
    }
    wslay_event_context_free(ws->wslay);
    shl_buf_release(&ws->pending);
    free(ws);
}

static unsigned outcome(const struct node_websocket *ws)
{
    if (wslay_event_get_close_received(ws->wslay)) {
        return wslay_event_get_status_code_received(ws->wslay);
    }
    return ws->code != 0 && wslay_event_get_close_sent(ws->wslay) ? ws->code : NODE_WEBSOCKET_LOST;
}

static void source_release(void *arg)
{
    struct node_websocket *ws = arg;

    ws->x->sink = NULL;
    ws->x = NULL;
    ws->ops->closed(ws->arg, outcome(ws));
    uv_close((uv_handle_t *)&ws->ping, on_timer_closed);
    uv_close((uv_handle_t *)&ws->due, on_timer_closed);
    uv_close((uv_handle_t *)&ws->settle, on_timer_closed);
}

static const struct node_source_ops source_ops = {.read = source_read, .release = source_release};

static const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
                                                       .send_callback = on_send,
                                                       .on_msg_recv_callback = on_message};

static struct node_websocket *make(struct node_exchange *x,
                                   const struct node_websocket_config *config)
{
    struct node_websocket *ws = calloc(1, sizeof(*ws));
    uint32_t ping_ms = config && config->ping_ms > 0 ? config->ping_ms : NODE_WEBSOCKET_PING_MS;

    if (!ws || wslay_event_context_server_init(&ws->wslay, &callbacks, ws) != 0) {
        free(ws);
        return NULL;
    }
    ws->message_max =
        config && config->message_max > 0 ? config->message_max : NODE_WEBSOCKET_MESSAGE_MAX;
    wslay_event_config_set_max_recv_msg_length(ws->wslay, ws->message_max);
    shl_buf_init(&ws->pending, ws->message_max + BLOCK_BYTES);
    ws->x = x;
    (void)uv_timer_init(x->loop, &ws->ping);
    (void)uv_timer_init(x->loop, &ws->due);
    (void)uv_timer_init(x->loop, &ws->settle);
    ws->open_handles = 3;
    ws->settle.data = ws;
    ws->ping.data = ws;
    ws->due.data = ws;
    (void)uv_timer_start(&ws->ping, on_ping, ping_ms, ping_ms);
    if (config && config->settles) {
        ws->is_settling = true;
        (void)uv_timer_start(&ws->settle, on_settled, NODE_WEBSOCKET_SETTLE_MS, 0);
    }
    return ws;
}

static int refuse(struct node_exchange *x, int code, const char *msg)
{
    const struct node_reply_header version = {"Sec-WebSocket-Version", "13"};

    node_exchange_fail_more(x, code, msg, &version, NULL);
    return code;
}

int node_websocket_accept(struct node_exchange *x,
                          const struct node_websocket_ops *ops,
                          void *arg,
                          const struct node_websocket_config *config,
                          struct node_websocket **ret_socket)
{
    const char *key = node_exchange_header(x, "Sec-WebSocket-Key");
    const char *version = node_exchange_header(x, "Sec-WebSocket-Version");
    char accept[NODE_WEBSOCKET_ACCEPT_SIZE];
    const struct node_reply_header header = {"Sec-WebSocket-Accept", accept};
    struct node_websocket *ws;

    if (x->is_replied) {
        return -ECANCELED;
    }
    if (!x->is_upgrade) {
        return refuse(x, -EPROTONOSUPPORT, "this is served over a WebSocket only");
    }
    if (!version || strcmp(version, "13") != 0) {
        return refuse(x, -EPROTONOSUPPORT, "the only Sec-WebSocket-Version known here is 13");
    }
    if (!key || !node_websocket_accept_key(key, accept)) {
        return refuse(x, SHL_EINVALIDARG, "the Sec-WebSocket-Key is not 16 bytes in base64");
    }
    ws = make(x, config);
    if (!ws) {
        return refuse(x, -ENOMEM, NULL);
    }
    ws->ops = ops;
    ws->arg = arg;
    node_exchange_set_sink(x, &sink_ops, ws);
    node_exchange_upgrade(x, &header, 1, &source_ops, ws);
    *ret_socket = ws;
    return 0;
}
