/* The connection of an agent link.
 *
 * Happy path:
 *  1. start_connect -> on_connect: zero bytes that complete whatever a former
 *     connection cut off, then HELLO with a fresh token; reading begins.
 *  2. on_timer repeats HELLO while the guest boots (it may not have opened its port).
 *  3. on_read -> take_hello_ack: the answer with our token makes the link ready; the
 *     owner hears it and waiting streams go out.
 *  4. on_read -> link_take_frame for everything else; link_pump writes one batch at a
 *     time and on_write offers the freed room.
 *
 * What can go wrong:
 *  - no socket, connection lost: streams the agent knew end, next attempt after retry_ms;
 *  - the agent breaks the protocol: the connection is dropped and made anew once; a
 *    second time within LINK_FAULT_FORGET_MS the link has failed for good;
 *  - another protocol version: failed for good;
 *  - close at any point: the connection and both timers close, then the streams end,
 *    then the owner's callback.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/agent_link_private.h"

static void start_connect(struct node_agent_link *link);

/* ---- leaving --------------------------------------------------------------------- */

static void handle_closed(struct node_agent_link *link)
{
    void (*cb)(void *arg) = link->close_cb;
    void *arg = link->close_arg;

    assert(link->handles > 0);
    if (--link->handles > 0) {
        return;
    }
    assert(link->closing);
    link_end_streams(link, false, link->close_code, link->close_why);
    link_deliver_ended(link);
    agent_parser_release(&link->parser);
    shl_buf_release(&link->out);
    free(link);
    if (cb) {
        cb(arg);
    }
}

static void on_conn_closed(uv_handle_t *handle)
{
    struct link_conn *conn = handle->data;
    struct node_agent_link *link = conn->link;

    shl_buf_release(&conn->inflight);
    free(conn);
    handle_closed(link);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void drop_conn(struct node_agent_link *link)
{
    if (link->conn) {
        uv_close((uv_handle_t *)&link->conn->pipe, on_conn_closed);
        link->conn = NULL;
    }
    shl_buf_clear(&link->out);
    agent_parser_reset(&link->parser);
}

/* The callback may close the link: nothing follows a call of this. */
static void tell(struct node_agent_link *link,
                 enum node_agent_link_state state,
                 int code,
                 const char *msg)
{
    if (!link->closing && link->config.on_state) {
        link->config.on_state(link->config.arg, state, code, msg);
    }
}

static void fail(struct node_agent_link *link, int code, const char *msg)
{
    drop_conn(link);
    link->phase = LINK_FAILED;
    (void)uv_timer_stop(&link->timer);
    link_end_streams(link, false, SHL_EGONE, msg);
    tell(link, NODE_AGENT_LINK_FAILED, code, msg);
}

static void on_timer(uv_timer_t *timer);

static void retry_later(struct node_agent_link *link)
{
    link->phase = LINK_IDLE;
    (void)uv_timer_start(&link->timer, on_timer, link->config.retry_ms, link->config.retry_ms);
}

static void lose_conn(struct node_agent_link *link, int code)
{
    bool was_ready = link->phase == LINK_READY;
    char msg[SHL_ERR_TEXT_MAX];

    (void)snprintf(msg, sizeof(msg), "the connection to the guest agent was lost (%s)",
                   code == UV_EOF ? "closed" : shl_err_text(code));
    drop_conn(link);
    retry_later(link);
    if (was_ready) {
        link_end_streams(link, true, SHL_EUNAVAILABLE, msg);
        tell(link, NODE_AGENT_LINK_WAITING, SHL_EUNAVAILABLE, msg);
    }
}

/* The agent sent what it must not. */
static void on_fault(struct node_agent_link *link, const char *what)
{
    uint64_t now_ms = shl_monotonic_ms();
    char msg[SHL_ERR_TEXT_MAX];

    (void)snprintf(msg, sizeof(msg), "the guest agent broke its protocol: it sent %s", what);
    if (link->faults > 0 && now_ms - link->fault_at_ms > LINK_FAULT_FORGET_MS) {
        link->faults = 0;
    }
    link->fault_at_ms = now_ms;
    if (++link->faults > LINK_FAULTS_MAX) {
        fail(link, SHL_EGUEST, msg);
        return;
    }
    drop_conn(link);
    retry_later(link);
    link_end_streams(link, true, SHL_EUNAVAILABLE, msg);
    tell(link, NODE_AGENT_LINK_WAITING, SHL_EPROTO, msg);
}

/* ---- writing --------------------------------------------------------------------- */

static void on_write(uv_write_t *write, int status)
{
    struct link_conn *conn = write->data;
    struct node_agent_link *link = conn->link;

    conn->writing = false;
    shl_buf_clear(&conn->inflight);
    if (link->conn != conn) {
        return;
    }
    if (status < 0) {
        lose_conn(link, status);
        return;
    }
    link_pump(link);
    if (link->phase == LINK_READY) {
        link_offer_room(link);
    }
}

/* Starts the write of @len bytes that stay valid until on_write. */
static void start_write(struct link_conn *conn, const void *data, size_t len)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
    int rc;

    conn->write.data = conn;
    rc = uv_write(&conn->write, (uv_stream_t *)&conn->pipe, &buf, 1, on_write);
    conn->writing = rc == 0;
    if (rc < 0) {
        /* a broken connection, which on_read reports too */
        shl_buf_clear(&conn->inflight);
    }
}

void link_pump(struct node_agent_link *link)
{
    struct link_conn *conn = link->conn;
    struct shl_buf batch;

    if (!conn || link->phase < LINK_SYNC || conn->writing) {
        return;
    }
    if (link->phase == LINK_READY) {
        link_queue_control(link);
    }
    if (shl_buf_len(&link->out) == 0) {
        return;
    }
    batch = link->out;
    link->out = conn->inflight;
    conn->inflight = batch;
    start_write(conn, shl_buf_data(&batch), shl_buf_len(&batch));
}

static void send_hello(struct node_agent_link *link)
{
    struct shl_mp_writer writer;
    struct shl_buf payload;

    shl_buf_init(&payload, AGENT_HELLO_MAX);
    shl_mp_writer_init(&writer, &payload);
    shl_mp_map(&writer);
    shl_mp_kv_uint(&writer, "version", AGENT_PROTOCOL_VERSION);
    shl_mp_kv_bin(&writer, "token", link->token, sizeof(link->token));
    shl_mp_end(&writer);
    /* without memory now, the timer tries again */
    if (shl_mp_done(&writer) == 0 &&
        agent_frame_write(&link->out, AGENT_FRAME_HELLO, 0, 0, shl_buf_bytes(&payload)) == 0) {
        link_pump(link);
    }
    shl_buf_release(&payload);
}

/* ---- reading --------------------------------------------------------------------- */

static void become_ready(struct node_agent_link *link)
{
    link->phase = LINK_READY;
    link->bad_frames_seen = link->parser.bad_frames;
    (void)uv_timer_start(&link->timer, on_timer, 1000, 1000);
    tell(link, NODE_AGENT_LINK_READY, 0, "");
    if (link->phase == LINK_READY) {
        link_pump(link);
        link_offer_room(link);
    }
}

static void take_hello_ack(struct node_agent_link *link, const struct agent_frame *frame)
{
    struct shl_bytes token;
    struct shl_mp_doc doc;
    uint64_t version = 0;
    bool ours = false;

    if (shl_mp_parse(&doc, frame->payload) == 0) {
        ours = shl_mp_get_bin(doc.root, "token", &token) == 0 && token.len == sizeof(link->token) &&
               memcmp(token.base, link->token, token.len) == 0;
        if (shl_mp_get_uint(doc.root, "version", UINT32_MAX, &version) < 0) {
            version = 0;
        }
        shl_mp_release(&doc);
    }
    if (link->phase == LINK_READY) {
        /* answers to HELLOs that were repeated while the guest booted */
        if (!ours) {
            on_fault(link, "a HELLO_ACK nobody asked for");
        }
    } else if (!ours) {
        agent_parser_reject(&link->parser);
    } else if (version != AGENT_PROTOCOL_VERSION) {
        char msg[SHL_ERR_TEXT_MAX];

        (void)snprintf(msg, sizeof(msg),
                       "the guest agent speaks protocol version %u and this node %d: build the "
                       "initrd anew",
                       (unsigned)version, AGENT_PROTOCOL_VERSION);
        fail(link, SHL_EVERSION, msg);
    } else {
        become_ready(link);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct link_conn *conn = handle->data;
    uint8_t *space;
    size_t len;

    (void)suggested;
    if (conn->link->conn != conn || agent_parser_space(&conn->link->parser, &space, &len) < 0) {
        *ret_buf = uv_buf_init(NULL, 0); /* reported to on_read as UV_ENOBUFS */
        return;
    }
    *ret_buf = uv_buf_init((char *)space, (unsigned)len);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct link_conn *conn = stream->data;
    struct node_agent_link *link = conn->link;
    struct agent_frame frame;
    const char *fault;

    (void)buf;
    if (link->conn != conn) {
        return;
    }
    if (len < 0) {
        lose_conn(link, (int)len);
        return;
    }
    agent_parser_filled(&link->parser, (size_t)len);
    /* every callback below may drop the connection or close the link */
    while (link->conn == conn && agent_parser_next(&link->parser, &frame)) {
        if (link->phase == LINK_READY && link->parser.bad_frames != link->bad_frames_seen) {
            on_fault(link, "bytes that are not a frame");
        } else if (frame.type == AGENT_FRAME_HELLO_ACK) {
            take_hello_ack(link, &frame);
        } else if (link->phase == LINK_READY && link_take_frame(link, &frame, &fault) < 0) {
            on_fault(link, fault);
        }
    }
    if (link->conn == conn && link->phase == LINK_READY && !link->parser.synced) {
        on_fault(link, "bytes that are not a frame");
    }
}

/* ---- connecting ------------------------------------------------------------------ */

static void on_connect(uv_connect_t *connect, int status)
{
    static const uint8_t zeros[AGENT_SYNC_BYTES];
    struct link_conn *conn = connect->data;
    struct node_agent_link *link = conn->link;

    if (link->conn != conn) {
        return;
    }
    if (status < 0 || uv_read_start((uv_stream_t *)&conn->pipe, on_alloc, on_read) < 0) {
        drop_conn(link);
        retry_later(link);
        return;
    }
    link->phase = LINK_SYNC;
    link->next_id = 1;
    shl_random_bytes(link->token, sizeof(link->token));
    (void)uv_timer_start(&link->timer, on_timer, link->config.retry_ms, link->config.retry_ms);
    start_write(conn, zeros, sizeof(zeros));
    send_hello(link);
}

static void start_connect(struct node_agent_link *link)
{
    struct link_conn *conn = calloc(1, sizeof(*conn));

    assert(!link->conn);
    if (!conn || uv_pipe_init(link->loop, &conn->pipe, 0) < 0) {
        free(conn);
        retry_later(link);
        return;
    }
    shl_buf_init(&conn->inflight, LINK_OUT_MAX);
    conn->link = link;
    conn->pipe.data = conn;
    conn->connect.data = conn;
    link->handles++;
    link->conn = conn;
    link->phase = LINK_CONNECT;
    uv_pipe_connect(&conn->connect, &conn->pipe, link->path, on_connect);
}

static void on_timer(uv_timer_t *timer)
{
    struct node_agent_link *link = timer->data;

    switch (link->phase) {
    case LINK_IDLE:
        (void)uv_timer_stop(&link->timer);
        start_connect(link);
        break;
    case LINK_SYNC:
        /* one HELLO at a time: a guest that reads nothing must not fill the socket */
        if (!link->conn->writing) {
            send_hello(link);
        }
        break;
    case LINK_READY:
        link_end_ignored_cancels(link);
        if (link->next_id > AGENT_STREAM_ID_MAX / 2 && link->stream_count == 0) {
            lose_conn(link, -ECONNRESET); /* starts stream ids again */
        }
        break;
    case LINK_CONNECT:
    case LINK_FAILED:
        break;
    }
}

/* ---- opening and closing --------------------------------------------------------- */

int node_agent_link_open(uv_loop_t *loop,
                         const struct node_agent_link_config *config,
                         struct node_agent_link **ret_link)
{
    struct node_agent_link *link;

    if (strlen(config->socket_path) >= sizeof(link->path)) {
        return -ENAMETOOLONG;
    }
    link = calloc(1, sizeof(*link));
    if (!link) {
        return -ENOMEM;
    }
    link->loop = loop;
    link->config = *config;
    (void)snprintf(link->path, sizeof(link->path), "%s", config->socket_path);
    link->config.socket_path = link->path;
    link->config.retry_ms = config->retry_ms ? config->retry_ms : LINK_RETRY_MS;
    link->config.cancel_ms = config->cancel_ms ? config->cancel_ms : LINK_CANCEL_MS;
    link->next_id = 1;
    agent_parser_init(&link->parser, AGENT_FRAME_HELLO_ACK);
    shl_buf_init(&link->out, LINK_OUT_MAX);
    shl_list_init(&link->streams);
    shl_list_init(&link->ended);
    (void)uv_timer_init(loop, &link->timer);
    (void)uv_timer_init(loop, &link->defer);
    link->timer.data = link;
    link->defer.data = link;
    link->handles = 2;
    start_connect(link);
    *ret_link = link;
    return 0;
}

void node_agent_link_close(struct node_agent_link *link,
                           int code,
                           const char *why,
                           void (*cb)(void *arg),
                           void *arg)
{
    assert(!link->closing);
    assert(code < 0);
    link->closing = true;
    link->close_code = code;
    (void)snprintf(link->close_why, sizeof(link->close_why), "%s", why);
    link->close_cb = cb;
    link->close_arg = arg;
    drop_conn(link);
    link->phase = LINK_FAILED;
    uv_close((uv_handle_t *)&link->timer, on_timer_closed);
    uv_close((uv_handle_t *)&link->defer, on_timer_closed);
}
