/* node/sandbox/agent_link against an agent played by this test on the same loop. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "agent/frame.h"
#include "base/io.h"
#include "node/sandbox/agent_link_open.h"

#define GUARD_MS 30000 /* a hang, not a measure */

struct fixture;
typedef void (*frame_fn)(struct fixture *fix, const struct agent_frame *frame);

/* One stream of the node and what its owner saw. */
struct seen {
    struct node_agent_stream *stream;
    struct fixture *fix;
    int heads, ends, code, writables;
    size_t bytes;
    bool keep; /* do not give credit back */
    char msg[256];
    bool reopen; /* open another stream from on_end */
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t guard;
    char dir[64];
    char path[96];
    struct node_agent_link *link;
    enum node_agent_link_state state;
    int state_code;
    int states_ready, states_lost;
    bool closed;

    uv_pipe_t listener;
    uv_pipe_t *peer; /* latest connection */
    struct agent_parser parser;
    frame_fn on_frame;
    int hellos, connections, requests, cancels, eofs;
    int silent_hellos; /* HELLOs not answered first */
    uint32_t last_stream;
    uint8_t token[AGENT_TOKEN_BYTES];
    bool wrong_token_first;
    size_t data_bytes; /* DATA of the node */
    uint64_t credit;   /* CREDIT of the node */
    int version;
    size_t pushed;
    struct seen second;
};

/* ---- the agent ------------------------------------------------------------------- */

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

static void peer_send_raw(struct fixture *fix, const void *data, size_t len)
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

static void peer_send(struct fixture *fix,
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

static void peer_send_data(struct fixture *fix, uint32_t stream, size_t len)
{
    static const uint8_t zeros[AGENT_PAYLOAD_MAX];

    while (len > 0) {
        size_t part = SHL_MIN(len, sizeof(zeros));

        peer_send(fix, AGENT_FRAME_DATA, AGENT_CHANNEL_OUT, stream, zeros, part);
        len -= part;
    }
}

static void peer_send_map(struct fixture *fix,
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

static void peer_respond(struct fixture *fix, uint32_t stream, int code, const char *msg)
{
    peer_send_map(fix, AGENT_FRAME_RESPONSE, stream, code, msg);
}

static void peer_ack(struct fixture *fix, const uint8_t *token)
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

static void peer_drop(struct fixture *fix)
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

/* ---- the node's side ------------------------------------------------------------- */

static void on_state(void *arg, enum node_agent_link_state state, int code, const char *msg)
{
    struct fixture *fix = arg;

    (void)msg;
    fix->state = state;
    fix->state_code = code;
    fix->states_ready += state == NODE_AGENT_LINK_READY;
    fix->states_lost += state == NODE_AGENT_LINK_WAITING;
}

static const struct node_agent_stream_ops ops;

static int try_open(struct fixture *fix, struct seen *seen)
{
    static const uint8_t request[] = {0x81, 0xa2, 'o', 'p', 0xa4, 'p', 'i', 'n', 'g'};

    seen->fix = fix;
    return node_agent_open(fix->link, shl_bytes_of(request, sizeof(request)), &ops, seen,
                           &seen->stream);
}

static void open_stream(struct fixture *fix, struct seen *seen)
{
    assert_int_equal(try_open(fix, seen), 0);
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

static const struct node_agent_stream_ops ops = {on_head, on_data, on_writable, on_end};

/* ---- the fixture ----------------------------------------------------------------- */

static void on_guard(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("nothing happened for %d ms", GUARD_MS);
}

#define RUN_UNTIL(fix, condition)                                   \
    do {                                                            \
        (void)uv_timer_start(&(fix)->guard, on_guard, GUARD_MS, 0); \
        while (!(condition)) {                                      \
            (void)uv_run(&(fix)->loop, UV_RUN_ONCE);                \
        }                                                           \
        (void)uv_timer_stop(&(fix)->guard);                         \
    } while (0)

/* Everything already on its way arrives. */
static void settle(struct fixture *fix)
{
    int i;

    for (i = 0; i < 50; i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
    }
}

static void listen_now(struct fixture *fix)
{
    assert_int_equal(uv_pipe_init(&fix->loop, &fix->listener, 0), 0);
    fix->listener.data = fix;
    assert_int_equal(uv_pipe_bind(&fix->listener, fix->path), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&fix->listener, 8, on_peer_connection), 0);
}

static void open_link(struct fixture *fix)
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

static int setup(void **state)
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

static void on_link_closed(void *arg)
{
    struct fixture *fix = arg;

    fix->closed = true;
    fix->link = NULL;
}

static void close_link(struct fixture *fix)
{
    node_agent_link_close(fix->link, SHL_EGONE, "the sandbox was stopped", on_link_closed, fix);
    RUN_UNTIL(fix, fix->closed);
}

static int teardown(void **state)
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

static void make_ready(struct fixture *fix)
{
    listen_now(fix);
    open_link(fix);
    RUN_UNTIL(fix, fix->states_ready == 1);
}

/* The link of a test closes after it returned, so what streams point at is static. */

/* ---- tests ----------------------------------------------------------------------- */

static void test_link_answers_a_request(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "head");
    peer_send_data(fix, 1, 1000);
    peer_respond(fix, 1, 0, "");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.heads, 1);
    assert_int_equal(seen.bytes, 1000);
    assert_int_equal(seen.code, 0);
}

/* The VMM has no socket yet and the guest ignores the first HELLOs: both are normal
 * while a guest boots, and a stream opened meanwhile waits. */
static void test_link_waits_for_a_booting_guest(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    fix->silent_hellos = 3;
    open_link(fix);
    open_stream(fix, &seen);
    settle(fix);
    assert_int_equal(fix->connections, 0);
    listen_now(fix);
    RUN_UNTIL(fix, fix->requests == 1);
    assert_int_equal(fix->connections, 1);
    assert_true(fix->hellos >= 4);
    peer_respond(fix, fix->last_stream, 0, "");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, 0);
}

static void test_link_ignores_a_foreign_hello_ack(void **state)
{
    struct fixture *fix = *state;

    fix->wrong_token_first = true;
    make_ready(fix);
    settle(fix);
    assert_int_equal(fix->state, NODE_AGENT_LINK_READY);
    assert_int_equal(fix->connections, 1);
}

static void test_link_other_version_fails_for_good(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    fix->version = 99;
    listen_now(fix);
    open_link(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(fix->state, NODE_AGENT_LINK_FAILED);
    assert_int_equal(fix->state_code, SHL_EVERSION);
    assert_int_equal(seen.code, SHL_EGONE);
    assert_int_equal(try_open(fix, &seen), SHL_EGONE);
}

/* The agent may send one window; more only after the owner consumed. */
static void test_link_slow_reader_gives_no_credit(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {.keep = true};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, seen.bytes == AGENT_WINDOW_BYTES);
    settle(fix);
    assert_int_equal(fix->credit, 0);
    node_agent_consumed(seen.stream, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, fix->credit == AGENT_WINDOW_BYTES);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, seen.bytes == 2 * AGENT_WINDOW_BYTES);
    assert_int_equal(fix->states_lost, 0);
}

static void push_more(struct fixture *fix, const struct agent_frame *frame)
{
    if (frame->type == AGENT_FRAME_CREDIT) {
        peer_send_data(fix, frame->stream, shl_get_le32(frame->payload.base));
    }
}

/* 8 MB through a window of 256 KB. */
static void test_link_streams_more_than_a_window(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    fix->on_frame = push_more;
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, seen.bytes >= (8u << 20));
    assert_int_equal(fix->states_lost, 0);
}

static void test_link_over_credit_ends_the_connection(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {.keep = true};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES + 1);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, SHL_EUNAVAILABLE);
    assert_int_equal(seen.bytes, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, fix->states_ready == 2); /* one recovery */
    assert_int_equal(seen.ends, 1);
}

static uint8_t big[1 << 20];

static size_t write_all(struct seen *seen, size_t want)
{
    return node_agent_write(seen->stream, AGENT_CHANNEL_RAW, shl_bytes_of(big, want));
}

/* The node sends one window and waits for CREDIT; on_writable comes exactly then. */
static void test_link_write_respects_credit(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};
    size_t sent = 0;
    uint8_t grant[4];

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    while (sent < AGENT_WINDOW_BYTES) {
        int before = seen.writables;

        sent += write_all(&seen, sizeof(big) - sent);
        if (sent < AGENT_WINDOW_BYTES) {
            RUN_UNTIL(fix, seen.writables > before);
        }
    }
    RUN_UNTIL(fix, fix->data_bytes == AGENT_WINDOW_BYTES);
    assert_int_equal(write_all(&seen, 1), 0);
    settle(fix);
    assert_int_equal(fix->data_bytes, AGENT_WINDOW_BYTES);
    shl_put_le32(grant, 10);
    seen.writables = 0;
    peer_send(fix, AGENT_FRAME_CREDIT, 0, 1, grant, sizeof(grant));
    RUN_UNTIL(fix, seen.writables == 1);
    assert_int_equal(write_all(&seen, 100), 10);
    node_agent_eof(seen.stream);
    RUN_UNTIL(fix, fix->eofs == 1);
    assert_int_equal(fix->data_bytes, AGENT_WINDOW_BYTES + 10);
}

/* A guest that does not read bounds what waits, whatever the number of streams. */
static void test_link_bounds_what_waits(void **state)
{
    struct fixture *fix = *state;
    struct seen *seen = calloc(AGENT_STREAMS_MAX, sizeof(*seen));
    static struct seen extra = {0};
    size_t taken = 0;
    unsigned i;

    make_ready(fix);
    for (i = 0; i < AGENT_STREAMS_MAX; i++) {
        open_stream(fix, &seen[i]);
    }
    assert_int_equal(try_open(fix, &extra), SHL_ELIMIT);
    RUN_UNTIL(fix, fix->requests == AGENT_STREAMS_MAX);
    (void)uv_read_stop((uv_stream_t *)fix->peer);
    for (i = 0; i < AGENT_STREAMS_MAX; i++) {
        taken += write_all(&seen[i], AGENT_WINDOW_BYTES);
        settle(fix);
    }
    assert_true(taken < 2u << 20); /* queue, write in flight and socket */
    close_link(fix);
    for (i = 0; i < AGENT_STREAMS_MAX; i++) {
        assert_int_equal(seen[i].ends, 1);
    }
    free(seen);
}

static void test_link_request_limits(void **state)
{
    struct fixture *fix = *state;
    struct node_agent_stream *stream;
    static struct seen seen[200] = {0};
    int taken = 0;

    open_link(fix);
    assert_int_equal(node_agent_open(fix->link, shl_bytes_of(big, AGENT_REQUEST_MAX + 1), &ops,
                                     &seen[0], &stream),
                     SHL_ELIMIT);
    while (taken < 200 && node_agent_open(fix->link, shl_bytes_of(big, AGENT_PAYLOAD_MAX), &ops,
                                          &seen[taken], &stream) == 0) {
        taken++;
    }
    assert_int_equal(taken, 64);
    close_link(fix);
    assert_int_equal(seen[63].ends, 1);
    assert_int_equal(seen[63].code, SHL_EGONE);
}

/* Lost link: sent streams end once, waiting ones survive, a stream opened from inside
 * on_end goes out on the next connection. */
static void test_link_loss_ends_streams_once(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen[3] = {{.reopen = true}, {0}, {0}};
    int i;

    make_ready(fix);
    for (i = 0; i < 3; i++) {
        open_stream(fix, &seen[i]);
    }
    RUN_UNTIL(fix, fix->requests == 3);
    peer_drop(fix);
    RUN_UNTIL(fix, fix->states_ready == 2 && fix->requests == 4);
    for (i = 0; i < 3; i++) {
        assert_int_equal(seen[i].ends, 1);
        assert_int_equal(seen[i].code, SHL_EUNAVAILABLE);
    }
    peer_respond(fix, 1, 0, "");
    RUN_UNTIL(fix, fix->second.ends == 1);
    assert_int_equal(fix->second.code, 0);
    assert_int_equal(seen[0].ends, 1);
}

static void test_link_close_ends_streams_with_reason(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {.reopen = true};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    node_agent_link_close(fix->link, SHL_EGONE, "the sandbox was stopped", on_link_closed, fix);
    assert_int_equal(seen.ends, 0); /* never from inside */
    RUN_UNTIL(fix, fix->closed);
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.code, SHL_EGONE);
    assert_string_equal(seen.msg, "the sandbox was stopped");
    assert_null(fix->second.stream);
}

static void test_link_cancel(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};
    static struct seen ignored = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    open_stream(fix, &ignored);
    RUN_UNTIL(fix, fix->requests == 2);
    node_agent_cancel(seen.stream);
    node_agent_cancel(ignored.stream);
    RUN_UNTIL(fix, fix->cancels == 2);
    peer_send_data(fix, 1, 100); /* was on its way; nobody wants it */
    peer_respond(fix, 1, -ECANCELED, "cancelled");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, -ECANCELED);
    assert_int_equal(seen.bytes, 0);
    RUN_UNTIL(fix, ignored.ends); /* the agent never answers this one */
    assert_int_equal(ignored.code, -ECANCELED);
    peer_respond(fix, 2, 0, "late");
    settle(fix);
    assert_int_equal(ignored.ends, 1);
    assert_int_equal(fix->states_lost, 0);
}

static void test_link_cancel_before_ready(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    open_link(fix);
    open_stream(fix, &seen);
    node_agent_cancel(seen.stream);
    assert_int_equal(seen.ends, 0);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, -ECANCELED);
}

/* Frames for an ended stream are late, not hostile. */
static void test_link_ignores_frames_after_the_end(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_respond(fix, 1, 0, "");
    peer_respond(fix, 1, 0, "");
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "");
    peer_send_data(fix, 1, 100000);
    RUN_UNTIL(fix, seen.ends);
    settle(fix);
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.heads, 0);
    assert_int_equal(fix->states_lost, 0);
}

/* Whatever a hostile agent sends: the connection is made anew once, then given up. */
static void attack(struct fixture *fix, void (*send)(struct fixture *fix))
{
    struct seen seen = {0};
    struct seen again = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    send(fix);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, SHL_EUNAVAILABLE);
    RUN_UNTIL(fix, fix->states_ready == 2);
    open_stream(fix, &again);
    RUN_UNTIL(fix, fix->requests == 2);
    send(fix);
    RUN_UNTIL(fix, again.ends);
    assert_int_equal(fix->state, NODE_AGENT_LINK_FAILED);
    assert_int_equal(fix->state_code, SHL_EGUEST);
    assert_int_equal(again.code, SHL_EGONE);
    assert_int_equal(seen.ends, 1);
}

static void send_unknown_stream(struct fixture *fix)
{
    peer_respond(fix, 77, 0, "");
}

static void send_garbage(struct fixture *fix)
{
    uint8_t bytes[300];

    memset(bytes, 'x', sizeof(bytes));
    peer_send_raw(fix, bytes, sizeof(bytes));
}

static void send_oversize(struct fixture *fix)
{
    uint8_t header[AGENT_HEADER_BYTES] = {0};

    shl_put_le32(header, AGENT_MAGIC);
    header[4] = AGENT_FRAME_DATA;
    shl_put_le32(header + 8, 1);
    shl_put_le32(header + 12, AGENT_PAYLOAD_MAX + 1);
    peer_send_raw(fix, header, sizeof(header));
}

static void send_two_heads(struct fixture *fix)
{
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "");
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "");
}

static void send_bad_response(struct fixture *fix)
{
    peer_send(fix, AGENT_FRAME_RESPONSE, 0, 1, "\xc1", 1);
}

static void send_positive_code(struct fixture *fix)
{
    peer_respond(fix, 1, 5, "");
}

static void send_request(struct fixture *fix)
{
    peer_send(fix, AGENT_FRAME_REQUEST, 0, 1, "\x80", 1);
}

static void send_foreign_ack(struct fixture *fix)
{
    static const uint8_t wrong[AGENT_TOKEN_BYTES] = {9};

    peer_ack(fix, wrong);
}

static void send_short_credit(struct fixture *fix)
{
    peer_send(fix, AGENT_FRAME_CREDIT, 0, 1, "\x01", 1);
}

#define ATTACK(name)                                    \
    static void test_link_contains_##name(void **state) \
    {                                                   \
        attack(*state, send_##name);                    \
    }
ATTACK(unknown_stream)
ATTACK(garbage)
ATTACK(oversize)
ATTACK(two_heads)
ATTACK(bad_response)
ATTACK(positive_code)
ATTACK(request)
ATTACK(foreign_ack)
ATTACK(short_credit)

static void test_link_cleans_the_message(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_respond(fix, 1, SHL_ENOTFOUND, "no \x1b[31mfile\xff");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, SHL_ENOTFOUND);
    assert_string_equal(seen.msg, "no  [31mfile?");
}

static void test_link_path_limit(void **state)
{
    struct fixture *fix = *state;
    char path[200];
    struct node_agent_link_config config = {.socket_path = path};

    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(node_agent_link_open(&fix->loop, &config, &fix->link), -ENAMETOOLONG);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_link_answers_a_request),
        TEST(test_link_waits_for_a_booting_guest),
        TEST(test_link_ignores_a_foreign_hello_ack),
        TEST(test_link_other_version_fails_for_good),
        TEST(test_link_slow_reader_gives_no_credit),
        TEST(test_link_streams_more_than_a_window),
        TEST(test_link_over_credit_ends_the_connection),
        TEST(test_link_write_respects_credit),
        TEST(test_link_bounds_what_waits),
        TEST(test_link_request_limits),
        TEST(test_link_loss_ends_streams_once),
        TEST(test_link_close_ends_streams_with_reason),
        TEST(test_link_cancel),
        TEST(test_link_cancel_before_ready),
        TEST(test_link_ignores_frames_after_the_end),
        TEST(test_link_contains_unknown_stream),
        TEST(test_link_contains_garbage),
        TEST(test_link_contains_oversize),
        TEST(test_link_contains_two_heads),
        TEST(test_link_contains_bad_response),
        TEST(test_link_contains_positive_code),
        TEST(test_link_contains_request),
        TEST(test_link_contains_foreign_ack),
        TEST(test_link_contains_short_credit),
        TEST(test_link_cleans_the_message),
        TEST(test_link_path_limit),
    };

    return cmocka_run_group_tests_name("node/agent_link", tests, NULL, NULL);
}
