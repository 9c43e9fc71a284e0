/* The operations on sessions: decode the request, answer, stream output. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/attach.h"
#include "agent/blob.h"
#include "agent/input.h"
#include "agent/server.h"
#include "base/cleanup.h"

#define KEEP_MAX_BYTES (1024u * 1024 * 1024)
#define WAIT_MAX_MS    (10u * 60 * 1000)

/* Session ids travel in URLs and logs of the node. */
static int get_session_id(const msgpack_object *request, char *dst, struct shl_err *err)
{
    int rc = shl_mp_get_cpy(request, "session", dst, AGENT_SESSION_ID_MAX + 1);
    const char *at = dst;

    while (rc == 0 && (isalnum((unsigned char)*at) || *at == '-' || *at == '_')) {
        at++;
    }
    if (rc < 0 || at == dst || *at) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "session must be 1 to %u letters, digits, '-' or '_'",
                           AGENT_SESSION_ID_MAX);
    }
    return 0;
}

/* With "only", just sessions of that command are there. */
static bool is_wanted(const struct agent_session *session, const msgpack_object *request)
{
    struct shl_bytes only;
    int rc = shl_mp_get_str(request, "only", &only);

    return rc == SHL_ENOTFOUND || (rc == 0 && only.len == strlen(session->cmd) &&
                                   memcmp(only.base, session->cmd, only.len) == 0);
}

static struct agent_session *find_session(struct agent_server *server,
                                          const msgpack_object *request,
                                          struct shl_err *err)
{
    char id[AGENT_SESSION_ID_MAX + 1];
    struct agent_session *session;

    if (get_session_id(request, id, err) < 0) {
        return NULL;
    }
    session = agent_sessions_find(&server->sessions, id);
    if (!session || !is_wanted(session, request)) {
        session = NULL;
        (void)shl_err_set(err, SHL_ENOTFOUND, "there is no session '%s'", id);
    }
    return session;
}

/* An optional number up to @max; @ret keeps its value when absent. */
static int get_number(const msgpack_object *request,
                      const char *key,
                      uint64_t max,
                      uint64_t *ret,
                      struct shl_err *err)
{
    int rc = shl_mp_get_uint(request, key, max, ret);

    if (rc < 0 && rc != SHL_ENOTFOUND) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be a number from 0 to %llu", key,
                           (unsigned long long)max);
    }
    return 0;
}

/* Optional, false when absent. */
static int get_switch(const msgpack_object *request,
                      const char *key,
                      bool *ret,
                      struct shl_err *err)
{
    return shl_mp_get_bool(request, key, ret) == SHL_EPROTO
               ? shl_err_set(err, SHL_EINVALIDARG, "%s must be true or false", key)
               : 0;
}

/* ---- exec.start ------------------------------------------------------------------ */

static int get_args(const msgpack_object *request, struct agent_session_spec *spec)
{
    const msgpack_object *list = shl_mp_find(request, "args");
    uint32_t i;

    if (!list) {
        return 0;
    }
    if (list->type != MSGPACK_OBJECT_ARRAY) {
        return SHL_EINVALIDARG;
    }
    spec->args = calloc((size_t)list->via.array.size + 1, sizeof(*spec->args));
    if (!spec->args) {
        return -ENOMEM;
    }
    for (i = 0; i < list->via.array.size; i++) {
        int rc = shl_mp_obj_dup(&list->via.array.ptr[i], &spec->args[i]);

        if (rc < 0) {
            return rc == -ENOMEM ? rc : SHL_EINVALIDARG;
        }
        spec->arg_count++;
    }
    return 0;
}

static int get_command(const msgpack_object *request,
                       struct agent_session_spec *spec,
                       struct shl_err *err)
{
    int rc = shl_mp_get_dup(request, "cmd", &spec->cmd);

    if (rc < 0 || *spec->cmd == '\0') {
        return shl_err_set(err, rc == -ENOMEM ? rc : SHL_EINVALIDARG,
                           "cmd is required, a text without zero bytes");
    }
    rc = get_args(request, spec);
    if (rc < 0) {
        return shl_err_set(err, rc, "args must be a list of texts without zero bytes");
    }
    return 0;
}

static int get_user(const struct agent_guest *guest,
                    const msgpack_object *request,
                    struct agent_user *ret,
                    struct shl_err *err)
{
    SHL_CLEANUP_FREE char *name = NULL;
    int rc = shl_mp_get_dup(request, "user", &name);

    if (rc < 0 && rc != SHL_ENOTFOUND) {
        return shl_err_set(err, SHL_EINVALIDARG, "user must be a name");
    }
    return agent_guest_user(guest, name, ret, err);
}

/* 1 to UINT16_MAX each. */
static int get_size(const msgpack_object *request,
                    uint16_t *ret_cols,
                    uint16_t *ret_rows,
                    struct shl_err *err)
{
    uint64_t cols = 80;
    uint64_t rows = 24;
    int rc = get_number(request, "cols", UINT16_MAX, &cols, err);

    if (rc == 0) {
        rc = get_number(request, "rows", UINT16_MAX, &rows, err);
    }
    if (rc == 0 && (cols == 0 || rows == 0)) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "cols and rows must be above 0");
    }
    *ret_cols = (uint16_t)cols;
    *ret_rows = (uint16_t)rows;
    return rc;
}

static int get_tty(const msgpack_object *request,
                   struct agent_session_spec *spec,
                   struct shl_err *err)
{
    int rc = get_switch(request, "tty", &spec->is_tty, err);

    if (rc < 0) {
        return rc;
    }
    if (spec->ring_bytes > 0 && spec->ring_bytes < AGENT_RING_MIN_BYTES) {
        return shl_err_set(err, SHL_EINVALIDARG, "ring_bytes must be at least %u",
                           AGENT_RING_MIN_BYTES);
    }
    return get_size(request, &spec->cols, &spec->rows, err);
}

static int decode_start(struct agent_server *server,
                        const msgpack_object *request,
                        struct agent_session_spec *spec,
                        struct shl_err *err)
{
    int rc = get_session_id(request, spec->id, err);

    spec->keep_bytes = AGENT_KEEP_DEFAULT_BYTES;
    if (rc == 0) {
        rc = get_command(request, spec, err);
    }
    if (rc == 0) {
        rc = get_user(&server->guest, request, &spec->user, err);
    }
    if (rc == 0) {
        rc = agent_guest_path(&server->guest, request, "cwd", false, &spec->cwd, err);
    }
    if (rc == 0) {
        rc = get_number(request, "timeout_ms", AGENT_EXEC_TIMEOUT_MAX_MS, &spec->timeout_ms, err);
    }
    if (rc == 0) {
        rc = get_number(request, "keep_bytes", KEEP_MAX_BYTES, &spec->keep_bytes, err);
    }
    if (rc == 0) {
        rc = get_switch(request, "pipe_stdin", &spec->pipe_stdin, err);
    }
    if (rc == 0) {
        rc = get_switch(request, "program", &spec->is_program, err);
    }
    if (rc == 0) {
        rc = get_number(request, "ring_bytes", KEEP_MAX_BYTES, &spec->ring_bytes, err);
    }
    if (rc == 0) {
        rc = get_number(request, "linger_ms", UINT32_MAX * 1000ull, &spec->linger_ms, err);
    }
    if (rc == 0) {
        rc = get_tty(request, spec, err);
    }
    if (rc == 0) {
        rc = agent_guest_environ(&server->guest, &spec->user, shl_mp_find(request, "envs"),
                                 &spec->env, err);
    }
    return rc;
}

/* While the program starts, op of the stream is the session. */
static void on_start_drop(void *op)
{
    agent_session_forget_start(op);
}

static const struct agent_stream_ops start_ops = {.on_drop = on_start_drop};

static void on_started(void *arg, struct agent_session *session, const struct shl_err *err)
{
    struct agent_stream *stream = arg;
    struct agent_reply reply;

    if (err->code < 0) {
        agent_stream_finish(stream, err->code, err->msg);
        return;
    }
    agent_reply_response(&reply, stream);
    shl_mp_kv_int(&reply.w, "pid", session->pid);
    shl_mp_kv_int(&reply.w, "started_at_ms", session->started_at_ms);
    agent_reply_end(&reply);
}

void agent_op_exec_start(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request)
{
    struct agent_session_spec spec = {.started = on_started, .started_arg = stream};
    struct shl_err err = {0};
    char id[AGENT_SESSION_ID_MAX + 1];
    int rc = decode_start(server, request, &spec, &err);

    memcpy(id, spec.id, sizeof(id));
    if (rc == 0) {
        rc = agent_sessions_start(&server->sessions, &server->guest, &spec, &err);
    }
    agent_session_spec_release(&spec);
    if (rc < 0) {
        agent_stream_finish(stream, rc, err.msg);
    } else {
        agent_stream_bind(stream, &start_ops, agent_sessions_find(&server->sessions, id));
    }
}

/* ---- exec.result ----------------------------------------------------------------- */

struct result_op {
    struct agent_stream *stream;
    struct agent_session *session; /* pinned */
    struct agent_session_waiter waiter;
    struct agent_timer timer;
    struct shl_list *chunk; /* next to send, in session->output.chunks */
    size_t chunk_offset;
};

static void free_result(struct result_op *op)
{
    shl_list_remove(&op->waiter.node);
    agent_timer_stop(&op->timer);
    op->session->pins--;
    free(op);
}

static void send_result_head(struct result_op *op)
{
    const struct agent_session *session = op->session;
    const struct agent_output *output = &session->output;
    bool running = session->state != AGENT_SESSION_DONE;
    struct agent_reply reply;

    agent_reply_head(&reply, op->stream);
    shl_mp_kv_bool(&reply.w, "running", running);
    if (!running) {
        shl_mp_kv_int(&reply.w, "exit_code", session->exit_code);
    }
    shl_mp_kv_bool(&reply.w, "truncated", agent_output_lost(output) > 0);
    shl_mp_kv_bool(&reply.w, "timed_out", session->timed_out);
    shl_mp_kv_uint(&reply.w, "stdout_bytes", output->kept_bytes[AGENT_CHANNEL_OUT]);
    shl_mp_kv_uint(&reply.w, "stderr_bytes", output->kept_bytes[AGENT_CHANNEL_ERR]);
    shl_mp_kv_uint(&reply.w, "lost_stdout_bytes", output->lost_bytes[AGENT_CHANNEL_OUT]);
    shl_mp_kv_uint(&reply.w, "lost_stderr_bytes", output->lost_bytes[AGENT_CHANNEL_ERR]);
    agent_reply_end(&reply);
}

static void finish_result(struct result_op *op)
{
    struct agent_stream *stream = op->stream;

    free_result(op);
    agent_stream_finish(stream, 0, NULL);
}

static void on_result_writable(void *arg)
{
    struct result_op *op = arg;
    struct agent_chunk *chunk;
    size_t len;

    if (op->chunk == &op->session->output.chunks) {
        finish_result(op);
        return;
    }
    chunk = shl_container_of(op->chunk, struct agent_chunk, node);
    len = SHL_MIN(chunk->len - op->chunk_offset, agent_stream_room(op->stream));
    agent_stream_send(op->stream, chunk->channel,
                      shl_bytes_of(chunk->data + op->chunk_offset, len));
    op->chunk_offset += len;
    if (op->chunk_offset == chunk->len) {
        op->chunk = op->chunk->next;
        op->chunk_offset = 0;
    }
    if (op->chunk == &op->session->output.chunks) {
        finish_result(op);
    } else {
        agent_stream_want_write(op->stream);
    }
}

static void answer_result(void *arg)
{
    struct result_op *op = arg;

    shl_list_remove(&op->waiter.node);
    agent_timer_stop(&op->timer);
    send_result_head(op);
    op->chunk = op->session->output.chunks.next;
    if (op->session->state != AGENT_SESSION_DONE || op->chunk == &op->session->output.chunks) {
        finish_result(op);
    } else {
        agent_stream_want_write(op->stream);
    }
}

static void on_result_drop(void *arg)
{
    free_result(arg);
}

static const struct agent_stream_ops result_ops = {
    .on_writable = on_result_writable,
    .on_drop = on_result_drop,
};

void agent_op_exec_result(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request)
{
    struct shl_err err = {0};
    struct agent_session *session = find_session(server, request, &err);
    struct result_op *op;
    uint64_t wait_ms = 0;

    if (!session || get_number(request, "wait_ms", WAIT_MAX_MS, &wait_ms, &err) < 0) {
        agent_stream_finish(stream, err.code, err.msg);
        return;
    }
    op = calloc(1, sizeof(*op));
    if (!op) {
        agent_stream_finish(stream, -ENOMEM, NULL);
        return;
    }
    op->stream = stream;
    op->session = session;
    session->pins++;
    op->waiter.fn = answer_result;
    op->waiter.arg = op;
    shl_list_init(&op->waiter.node);
    agent_timer_init(&op->timer, answer_result, op);
    agent_stream_bind(stream, &result_ops, op);
    if (session->state == AGENT_SESSION_DONE || wait_ms == 0) {
        answer_result(op);
        return;
    }
    shl_list_push_back(&session->waiters, &op->waiter.node);
    agent_timer_start(&server->loop, &op->timer, wait_ms);
}

/* ---- exec.list ------------------------------------------------------------------- */

static int write_session(struct shl_buf *buf, const struct agent_session *session)
{
    struct shl_mp_writer w;
    size_t i;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "session", session->id);
    shl_mp_kv_str(&w, "cmd", session->cmd);
    shl_mp_kv_array(&w, "args");
    for (i = 0; i < session->arg_count; i++) {
        shl_mp_str(&w, session->args[i]);
    }
    shl_mp_end(&w);
    shl_mp_kv_bool(&w, "running", session->state != AGENT_SESSION_DONE);
    if (session->state == AGENT_SESSION_DONE) {
        shl_mp_kv_int(&w, "exit_code", session->exit_code);
    }
    shl_mp_kv_int(&w, "started_at_ms", session->started_at_ms);
    shl_mp_kv_uint(&w, "attached", session->attached_count);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

void agent_op_exec_list(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request)
{
    struct shl_list *it;
    struct shl_buf buf;
    int rc = 0;

    /* A request is at most one frame, so this is above any real list. */
    shl_buf_init(&buf, (size_t)AGENT_SESSIONS_MAX * AGENT_REQUEST_MAX);
    SHL_LIST_FOREACH(it, &server->sessions.all) {
        const struct agent_session *session = shl_container_of(it, struct agent_session, node);

        if (rc == 0 && session->state != AGENT_SESSION_STARTING && session->id[0] != '_' &&
            !session->is_tty && is_wanted(session, request)) {
            rc = write_session(&buf, session);
        }
    }
    if (rc < 0) {
        shl_buf_release(&buf);
        agent_stream_finish(stream, rc, NULL);
        return;
    }
    agent_blob_reply(stream, &buf);
}

/* ---- exec.kill ------------------------------------------------------------------- */

void agent_op_exec_kill(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request)
{
    struct shl_err err = {0};
    struct agent_session *session = find_session(server, request, &err);
    uint64_t signal = 0;
    int rc;

    if (!session) {
        agent_stream_finish(stream, err.code, err.msg);
        return;
    }
    rc = shl_mp_get_uint(request, "signal", 64, &signal);
    rc = rc < 0 ? SHL_EINVALIDARG : agent_session_kill(session, (int)signal);
    agent_stream_finish(stream, rc,
                        rc == SHL_EINVALIDARG ? "signal must be a number from 1 to 64" : NULL);
}

/* ---- exec.end, exec.resize, exec.attach, exec.input ------------------------------------------ */

void agent_op_exec_end(struct agent_server *server,
                       struct agent_stream *stream,
                       const msgpack_object *request)
{
    struct shl_err err = {0};
    struct agent_session *session = find_session(server, request, &err);

    if (session && agent_session_is_ending(session)) {
        (void)shl_err_set(&err, SHL_ENOTFOUND, "session '%s' has ended", session->id);
    } else if (session) {
        agent_session_end(session);
    }
    agent_stream_finish(stream, err.code, err.code < 0 ? err.msg : NULL);
}

void agent_op_exec_resize(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request)
{
    struct shl_err err = {0};
    struct agent_session *session = find_session(server, request, &err);
    uint16_t cols;
    uint16_t rows;

    if (session && get_size(request, &cols, &rows, &err) == 0) {
        int rc = agent_session_resize(session, cols, rows);

        if (rc < 0) {
            (void)shl_err_set(&err, rc, "session '%s' has no terminal", session->id);
        }
    }
    agent_stream_finish(stream, err.code, err.code < 0 ? err.msg : NULL);
}

/* A session whose program runs, so that it can have clients. */
static struct agent_session *find_started(struct agent_server *server,
                                          const msgpack_object *request,
                                          struct shl_err *err)
{
    struct agent_session *session = find_session(server, request, err);

    if (session && session->state == AGENT_SESSION_STARTING) {
        (void)shl_err_set(err, SHL_EBADSTATE, "session '%s' is being started", session->id);
        return NULL;
    }
    return session;
}

void agent_op_exec_attach(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request)
{
    struct shl_err err = {0};
    struct agent_session *session = find_started(server, request, &err);

    if (session && agent_attach(session, stream) < 0) {
        (void)shl_err_set(&err, -ENOMEM, "no memory for another client");
    }
    if (err.code < 0) {
        agent_stream_finish(stream, err.code, err.msg);
    }
}

void agent_op_exec_input(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request)
{
    struct shl_err err = {0};
    struct agent_session *session = find_started(server, request, &err);

    if (!session || agent_input_begin(session, stream, &err) < 0) {
        agent_stream_finish(stream, err.code, err.msg);
    }
}
