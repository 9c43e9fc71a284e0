/* A client that watches a session over a WebSocket: exec sessions, where the first byte of each
 * message names the stream, and terminals, whose bytes are plain.
 *
 *   entered -> exec.attach -> HEAD: 101 -> replay, marker, live ... -> exit -> close
 *
 * Until the agent has answered, failures are ordinary replies. Credit goes back to the agent
 * when a message went into the socket's queue, so a slow client holds back at most a window of
 * the agent link here; what that means for the program is the agent's to say. Freed when both the
 * agent's stream and the socket have ended.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/agent_lines.h"
#include "node/api/agent_request.h"
#include "node/api/handlers.h"
#include "node/http/websocket.h"

#define FRAME_STDIN     0x00 /* of the client */
#define FRAME_STDOUT    0x01
#define FRAME_STDERR    0x02
#define FRAME_EXIT      0x03
#define FRAME_REPLAYED  0x04
#define FRAME_STDIN_END 0x05 /* of the client; ours alone */
#define FRAME_NOTE      0x82 /* in held: stderr that the agent did not send */
#define RECORD_HEAD     5    /* in held: stream, length */

struct attach {
    struct node_call *call;
    struct node_websocket *socket;    /* NULL before and after */
    struct node_agent_stream *stream; /* NULL when it has ended */
    const char *only;                 /* the command it must be of, NULL any */
    bool is_tty;
    bool is_replayed; /* the marker is out */
    bool is_exited;   /* the outcome is known: it follows what is held */
    bool is_input_ended;
    uint64_t replay_left; /* bytes before the marker */
    uint64_t lost_bytes;  /* the client knows of */
    size_t taken;         /* of the message that is being offered */
    struct shl_buf held;  /* what the socket did not take; within the credit, but for notes */
    int exit_code;
};

static void maybe_free(struct attach *a)
{
    if (!a->stream && !a->socket) {
        node_call_unref(a->call);
        shl_buf_release(&a->held);
        free(a);
    }
}

/* Agent to client */

static bool send_frame(struct attach *a, uint8_t frame, struct shl_bytes data)
{
    const uint8_t first = frame & 0x7f;
    struct shl_bytes prefix = shl_bytes_of(&first, a->is_tty ? 0 : 1);

    return node_websocket_send(a->socket, NODE_WEBSOCKET_BINARY, prefix, data);
}

/* Is this from the agent, so that it counts against its credit? */
static bool is_output(uint8_t frame)
{
    return frame == FRAME_STDOUT || frame == FRAME_STDERR;
}

static void consumed(struct attach *a, uint8_t frame, size_t len)
{
    if (is_output(frame) && a->stream) {
        node_agent_consumed(a->stream, len);
    }
}

static void push(struct attach *a, uint8_t frame, struct shl_bytes data)
{
    uint8_t head[RECORD_HEAD] = {frame};

    if (!a->socket) {
        return;
    }
    if (shl_buf_len(&a->held) == 0 && send_frame(a, frame, data)) {
        consumed(a, frame, data.len);
        return;
    }
    shl_put_le32(head + 1, (uint32_t)data.len);
    if (shl_buf_append(&a->held, head, sizeof(head)) < 0 ||
        shl_buf_append(&a->held, data.base, data.len) < 0) {
        node_websocket_close(a->socket, NODE_WEBSOCKET_FAILED, "no memory for the output");
    }
}

static void close_done(struct attach *a)
{
    if (a->is_exited && shl_buf_len(&a->held) == 0) {
        node_websocket_close(a->socket, NODE_WEBSOCKET_DONE, "exec completed");
    }
}

static void on_writable(void *arg)
{
    struct attach *a = arg;

    while (shl_buf_len(&a->held) > 0) {
        const uint8_t *record = shl_buf_data(&a->held);
        size_t len = shl_get_le32(record + 1);

        if (!send_frame(a, record[0], shl_bytes_of(record + RECORD_HEAD, len))) {
            return;
        }
        consumed(a, record[0], len);
        shl_buf_consume(&a->held, RECORD_HEAD + len);
    }
    close_done(a);
}

static void push_replayed(struct attach *a)
{
    if (!a->is_replayed && a->replay_left == 0) {
        a->is_replayed = true;
        if (!a->is_tty) {
            push(a, FRAME_REPLAYED, shl_bytes_of(NULL, 0));
        }
    }
}

/* Never cut silently. A terminal has a scrollback, which everybody knows to end. */
static void push_lost(struct attach *a, uint64_t lost_bytes)
{
    char text[96];
    int len;

    if (lost_bytes > a->lost_bytes && !a->is_tty) {
        len = snprintf(text, sizeof(text), "[shoal: %llu bytes of this output were not kept]\n",
                       (unsigned long long)(lost_bytes - a->lost_bytes));
        push(a, FRAME_NOTE, shl_bytes_of(text, (size_t)len));
    }
    a->lost_bytes = lost_bytes;
}

static void on_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    struct attach *a = arg;
    uint8_t frame = channel == AGENT_CHANNEL_ERR ? FRAME_STDERR : FRAME_STDOUT;

    if (!a->socket) {
        node_agent_consumed(a->stream, data.len);
        return;
    }
    if (!a->is_replayed) {
        size_t len = (size_t)SHL_MIN(a->replay_left, (uint64_t)data.len);

        a->replay_left -= len;
        push(a, frame, shl_bytes_of(data.base, len));
        push_replayed(a);
        data = shl_bytes_of(data.base + len, data.len - len);
    }
    if (data.len > 0) {
        push(a, frame, data);
    }
}

/* Client to agent */

static struct shl_bytes input_of(const struct attach *a,
                                 enum node_websocket_kind kind,
                                 struct shl_bytes data)
{
    if (a->is_tty) {
        return data;
    }
    return kind == NODE_WEBSOCKET_BINARY && data.len > 0 && data.base[0] == FRAME_STDIN
               ? shl_bytes_of(data.base + 1, data.len - 1)
               : shl_bytes_of(NULL, 0);
}

static bool on_message(void *arg, enum node_websocket_kind kind, struct shl_bytes data)
{
    struct attach *a = arg;
    struct shl_bytes input = input_of(a, kind, data);

    if (!a->stream || a->is_input_ended) {
        return true; /* after the exit */
    }
    if (!a->is_tty && kind == NODE_WEBSOCKET_BINARY && data.len == 1 &&
        data.base[0] == FRAME_STDIN_END) {
        a->is_input_ended = true;
        node_agent_eof(a->stream);
        return true;
    }
    if (a->taken < input.len) {
        a->taken += node_agent_write(a->stream, AGENT_CHANNEL_RAW,
                                     shl_bytes_of(input.base + a->taken, input.len - a->taken));
    }
    if (a->taken < input.len) {
        return false;
    }
    a->taken = 0;
    return true;
}

static void on_agent_writable(void *arg)
{
    struct attach *a = arg;

    if (a->socket) {
        node_websocket_resume(a->socket);
    }
}

static void on_socket_closed(void *arg, unsigned code)
{
    struct attach *a = arg;

    (void)code;
    a->socket = NULL;
    shl_buf_release(&a->held);
    if (a->stream) {
        node_agent_cancel(a->stream);
    }
    maybe_free(a);
}

static const struct node_websocket_ops socket_ops = {.message = on_message,
                                                     .writable = on_writable,
                                                     .closed = on_socket_closed};

/* Beginning and end */

static bool read_head(struct attach *a, const msgpack_object *head)
{
    bool is_tty = false;

    if (shl_mp_get_bool(head, "tty", &is_tty) < 0 ||
        shl_mp_get_uint(head, "replay_bytes", INT64_MAX, &a->replay_left) < 0) {
        node_call_fail(a->call, SHL_EGUEST, "the sandbox's agent gave a wrong answer");
        return false;
    }
    if (is_tty != a->is_tty) {
        node_call_fail(a->call, SHL_ENOTFOUND,
                       is_tty ? "this session is a terminal: attach to it under /pty"
                              : "this session is no terminal: attach to it under /exec");
        return false;
    }
    return true;
}

static void on_head(void *arg, const msgpack_object *head)
{
    const struct node_websocket_config config = {.settles = true};
    struct attach *a = arg;
    uint64_t lost_bytes = 0;

    if (!node_call_is_open(a->call) || a->socket) {
        return;
    }
    if (!read_head(a, head) ||
        node_websocket_accept(a->call->x, &socket_ops, a, &config, &a->socket) < 0) {
        node_agent_cancel(a->stream);
        return;
    }
    a->call->on_gone = NULL;
    if (shl_mp_get_uint(head, "lost_bytes", INT64_MAX, &lost_bytes) == 0) {
        push_lost(a, lost_bytes);
    }
    push_replayed(a);
}

static void push_exit(struct attach *a, const msgpack_object *response)
{
    uint64_t lost_bytes = 0;
    int64_t code = -1;
    uint8_t exit_code[4];

    if (response) {
        if (shl_mp_get_int(response, "exit_code", &code) < 0) {
            code = -1;
        }
        if (shl_mp_get_uint(response, "lost_bytes", INT64_MAX, &lost_bytes) == 0) {
            push_lost(a, lost_bytes);
        }
    }
    a->replay_left = 0; /* a guest that promised more */
    push_replayed(a);
    if (!a->is_tty) {
        for (int i = 0; i < 4; i++) {
            exit_code[i] = (uint8_t)((uint32_t)code >> (24 - 8 * i));
        }
        push(a, FRAME_EXIT, shl_bytes_of(exit_code, sizeof(exit_code)));
    }
    a->is_exited = true;
    close_done(a);
}

static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct attach *a = arg;

    a->stream = NULL;
    if (!a->socket) {
        a->call->on_gone = NULL;
        node_call_fail(a->call, code < 0 ? node_guest_code(code) : SHL_EGUEST,
                       code < 0 ? msg : "the sandbox's agent gave no answer");
    } else if (code == 0) {
        push_exit(a, response);
    } else {
        node_websocket_close(a->socket,
                             code == SHL_EUNAVAILABLE || code == SHL_EGONE ? NODE_WEBSOCKET_GOING
                                                                           : NODE_WEBSOCKET_FAILED,
                             msg);
    }
    maybe_free(a);
}

static const struct node_agent_stream_ops stream_ops = {.on_head = on_head,
                                                        .on_data = on_data,
                                                        .on_writable = on_agent_writable,
                                                        .on_end = on_end};

/* The client left before it was answered. */
static void on_gone(void *arg)
{
    struct attach *a = arg;

    node_agent_cancel(a->stream);
}

static void attach_ready(void *arg)
{
    struct attach *a = arg;
    struct node_agent_request request;
    struct shl_err err = {0};

    node_agent_request_init(&request, "exec.attach");
    shl_mp_kv_str(&request.w, "session", a->call->sid);
    if (a->only) {
        shl_mp_kv_str(&request.w, "only", a->only);
    }
    if (node_agent_request_send(&request, a->call, &stream_ops, a, &a->stream, &err) < 0) {
        node_call_fail_err(a->call, &err);
        maybe_free(a);
        return;
    }
    a->call->on_gone = on_gone;
    a->call->gone_arg = a;
}

static void attach_refused(void *arg, int code, const char *msg)
{
    struct attach *a = arg;

    node_call_refuse(a->call, code, msg);
    maybe_free(a);
}

static void attach(struct node_call *call, bool is_tty, const char *only)
{
    const struct node_reply_header header = {"Upgrade", "websocket"};
    struct attach *a;

    if (!call->x->is_upgrade) {
        node_exchange_fail_more(call->x, -EPROTONOSUPPORT,
                                is_tty ? "this is a WebSocket endpoint"
                                       : "this is a WebSocket endpoint: read the outcome of a "
                                         "command from its result instead",
                                &header, NULL);
        return;
    }
    if (!node_call_find_sandbox(call) || !node_call_check_session(call)) {
        return;
    }
    a = calloc(1, sizeof(*a));
    if (!a) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    a->call = node_call_ref(call);
    a->is_tty = is_tty;
    a->only = only;
    /* The window of the agent link in pieces of any size, with their heads, and notes. */
    shl_buf_init(&a->held, (size_t)AGENT_WINDOW_BYTES * (1 + RECORD_HEAD) + 4096);
    node_call_enter(call, attach_ready, attach_refused, a);
}

void node_handle_exec_attach(struct node_call *call)
{
    attach(call, false, NULL);
}

void node_handle_pty_attach(struct node_call *call)
{
    attach(call, true, NULL);
}

void node_handle_agent_attach(struct node_call *call)
{
    attach(call, false, NODE_AGENT_WRAPPER);
}
