#include "tests/node/sandbox/link_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

/* ---- the agent --------------------------------------------------------------------------- */

struct peer_write {
    uv_write_t write;
    struct shl_buf buf;
};

static void on_peer_write(uv_write_t *write, int status)
{
    struct peer_write *out = shl_container_of(write, struct peer_write, write);

    (void)status;
    shl_buf_release(&out->buf);
    free(out);
}

void peer_send_raw(struct fixture *fix, const void *data, size_t len)
{
    struct peer_write *out = calloc(1, sizeof(*out));
    uv_buf_t buf;

    shl_buf_init(&out->buf, 1 << 20);
    assert_int_equal(shl_buf_append(&out->buf, data, len), 0);
    buf = uv_buf_init((char *)shl_buf_data(&out->buf), (unsigned)len);
    if (uv_write(&out->write, (uv_stream_t *)fix->peer, &buf, 1, on_peer_write) < 0) {
        on_peer_write(&out->write, -1);
    }
}

void peer_send(struct fixture *fix,
               enum agent_frame_type type,
               uint8_t channel,
               uint32_t stream,
               const void *payload,
               size_t len)
{
    struct shl_buf buf;

    shl_buf_init(&buf, AGENT_FRAME_MAX);
    assert_int_equal(agent_frame_write(&buf, type, channel, stream, shl_bytes_of(payload, len)), 0);
    peer_send_raw(fix, shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
}

void peer_send_data(struct fixture *fix, uint32_t stream, size_t len)
{
    static const uint8_t zeros[AGENT_PAYLOAD_MAX];

    while (len > 0) {
        size_t part = SHL_MIN(len, sizeof(zeros));

        peer_send(fix, AGENT_FRAME_DATA, AGENT_CHANNEL_OUT, stream, zeros, part);
        len -= part;
    }
}

void peer_send_map(struct fixture *fix,
                   enum agent_frame_type type,
                   uint32_t stream,
                   int code,
                   const char *msg)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", code);
    shl_mp_kv_str(&w, "msg", msg);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    peer_send(fix, type, 0, stream, shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
}

void peer_respond(struct fixture *fix, uint32_t stream, int code, const char *msg)
{
    peer_send_map(fix, AGENT_FRAME_RESPONSE, stream, code, msg);
}

void peer_ack(struct fixture *fix, const uint8_t *token)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", (uint64_t)fix->version);
    shl_mp_kv_bin(&w, "token", token, AGENT_TOKEN_BYTES);
    shl_mp_kv_str(&w, "agent", "test");
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    peer_send(fix, AGENT_FRAME_HELLO_ACK, 0, 0, shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
}

static void peer_hello(struct fixture *fix, const struct agent_frame *frame)
{
    static const uint8_t wrong[AGENT_TOKEN_BYTES] = {1, 2, 3};
    struct shl_bytes token;
    struct shl_mp_doc doc;

    fix->hellos++;
    assert_int_equal(shl_mp_parse(&doc, frame->payload), 0);
    assert_int_equal(shl_mp_get_bin(doc.root, "token", &token), 0);
    assert_int_equal(token.len, AGENT_TOKEN_BYTES);
    memcpy(fix->token, token.base, token.len);
    shl_mp_release(&doc);
    if (fix->silent_hellos > 0) {
        fix->silent_hellos--;
        return;
    }
    if (fix->wrong_token_first) {
        peer_ack(fix, wrong);
    }
    peer_ack(fix, fix->token);
}

static void peer_frame(struct fixture *fix, const struct agent_frame *frame)
{
    switch (frame->type) {
    case AGENT_FRAME_HELLO:
        peer_hello(fix, frame);
        return;
    case AGENT_FRAME_REQUEST:
        fix->requests++;
        fix->last_stream = frame->stream;
        break;
    case AGENT_FRAME_CANCEL:
        fix->cancels++;
        break;
    case AGENT_FRAME_EOF:
        fix->eofs++;
        break;
    case AGENT_FRAME_DATA:
        fix->data_bytes += frame->payload.len;
        break;
    case AGENT_FRAME_CREDIT:
        fix->credit += shl_get_le32(frame->payload.base);
        break;
    case AGENT_FRAME_HELLO_ACK:
    case AGENT_FRAME_HEAD:
    case AGENT_FRAME_RESPONSE:
        fail_msg("the node sent a frame of an agent");
    }
    if (fix->on_frame) {
        fix->on_frame(fix, frame);
    }
}

static void on_peer_closed(uv_handle_t *handle)
{
    free(handle);
}

void peer_drop(struct fixture *fix)
{
    if (fix->peer) {
        uv_close((uv_handle_t *)fix->peer, on_peer_closed);
        fix->peer = NULL;
    }
}

static void on_peer_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct fixture *fix = handle->data;
    uint8_t *space;
    size_t len;

    (void)suggested;
    assert_int_equal(agent_parser_space(&fix->parser, &space, &len), 0);
    *buf = uv_buf_init((char *)space, (unsigned)len);
}

static void on_peer_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct fixture *fix = stream->data;
    struct agent_frame frame;

    (void)buf;
    if ((uv_pipe_t *)stream != fix->peer) {
        return;
    }
    if (len < 0) {
        peer_drop(fix);
        return;
    }
    agent_parser_filled(&fix->parser, (size_t)len);
    while (fix->peer && agent_parser_next(&fix->parser, &frame)) {
        peer_frame(fix, &frame);
    }
}

static void on_peer_connection(uv_stream_t *listener, int status)
{
    struct fixture *fix = listener->data;

    assert_int_equal(status, 0);
    peer_drop(fix);
    fix->peer = calloc(1, sizeof(*fix->peer));
    assert_int_equal(uv_pipe_init(&fix->loop, fix->peer, 0), 0);
    fix->peer->data = fix;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)fix->peer), 0);
    fix->connections++;
    agent_parser_reset(&fix->parser);
    assert_int_equal(uv_read_start((uv_stream_t *)fix->peer, on_peer_alloc, on_peer_read), 0);
}

/* ---- the node's side --------------------------------------------------------------------- */

static void on_state(void *arg, enum node_agent_link_state state, int code, const char *msg)
{
    struct fixture *fix = arg;

    (void)msg;
    fix->state = state;
    fix->state_code = code;
    fix->states_ready += state == NODE_AGENT_LINK_READY;
    fix->states_lost += state == NODE_AGENT_LINK_WAITING;
}

static void on_head(void *arg, const msgpack_object *head)
{
    struct seen *seen = arg;

    assert_int_equal(head->type, MSGPACK_OBJECT_MAP);
    seen->heads++;
}

static void on_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    struct seen *seen = arg;

    (void)channel;
    assert_int_equal(seen->ends, 0);
    seen->bytes += data.len;
    if (!seen->keep) {
        node_agent_consumed(seen->stream, data.len);
    }
}

static void on_writable(void *arg)
{
    struct seen *seen = arg;

    assert_int_equal(seen->ends, 0);
    seen->writables++;
}

static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct seen *seen = arg;

    (void)response;
    seen->ends++;
    seen->code = code;
    seen->stream = NULL;
    (void)snprintf(seen->msg, sizeof(seen->msg), "%s", msg);
    if (seen->reopen) {
        seen->reopen = false;
        (void)try_open(seen->fix, &seen->fix->second);
    }
}

const struct node_agent_stream_ops ops = {.on_head = on_head,
                                          .on_data = on_data,
                                          .on_writable = on_writable,
                                          .on_end = on_end};

int try_open(struct fixture *fix, struct seen *seen)
{
    static const uint8_t request[] = {0x81, 0xa2, 'o', 'p', 0xa4, 'p', 'i', 'n', 'g'};

    seen->fix = fix;
    return node_agent_open(fix->link, shl_bytes_of(request, sizeof(request)), &ops, seen,
                           &seen->stream);
}

void open_stream(struct fixture *fix, struct seen *seen)
{
    assert_int_equal(try_open(fix, seen), 0);
}

/* ---- the fixture ------------------------------------------------------------------------- */

void on_guard(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("nothing happened for %d ms", GUARD_MS);
}

void settle(struct fixture *fix)
{
    int i;

    for (i = 0; i < 50; i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
    }
}

void listen_now(struct fixture *fix)
{
    assert_int_equal(uv_pipe_init(&fix->loop, &fix->listener, 0), 0);
    fix->listener.data = fix;
    assert_int_equal(uv_pipe_bind(&fix->listener, fix->path), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&fix->listener, 8, on_peer_connection), 0);
}

void open_link(struct fixture *fix)
{
    struct node_agent_link_config config = {
        .socket_path = fix->path,
        .retry_ms = 10,
        .cancel_ms = 50,
        .on_state = on_state,
        .arg = fix,
    };

    assert_int_equal(node_agent_link_open(&fix->loop, &config, &fix->link), 0);
}

int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does: VMMs end at any time */
    (void)snprintf(fix->dir, sizeof(fix->dir), "%s", "/tmp/shoal-link-XXXXXX");
    assert_non_null(mkdtemp(fix->dir));
    (void)snprintf(fix->path, sizeof(fix->path), "%s/agent.sock", fix->dir);
    assert_int_equal(uv_loop_init(&fix->loop), 0);
    (void)uv_timer_init(&fix->loop, &fix->guard);
    agent_parser_init(&fix->parser, AGENT_FRAME_HELLO);
    fix->version = AGENT_PROTOCOL_VERSION;
    *state = fix;
    return 0;
}

void on_link_closed(void *arg)
{
    struct fixture *fix = arg;

    fix->closed = true;
    fix->link = NULL;
}

void close_link(struct fixture *fix)
{
    node_agent_link_close(fix->link, SHL_EGONE, "the sandbox was stopped", on_link_closed, fix);
    RUN_UNTIL(fix, fix->closed);
}

int teardown(void **state)
{
    struct fixture *fix = *state;

    if (fix->link) {
        close_link(fix);
    }
    peer_drop(fix);
    if (fix->listener.data) {
        uv_close((uv_handle_t *)&fix->listener, NULL);
    }
    uv_close((uv_handle_t *)&fix->guard, NULL);
    (void)uv_run(&fix->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    agent_parser_release(&fix->parser);
    assert_int_equal(shl_remove_tree(fix->dir), 0);
    free(fix);
    return 0;
}

void make_ready(struct fixture *fix)
{
    listen_now(fix);
    open_link(fix);
    RUN_UNTIL(fix, fix->states_ready == 1);
}
