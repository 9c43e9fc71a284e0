/* The operations on files. Each is an object that owns its path, descriptor and buffer
 * and alternates between the loop (stream, credit) and a pool thread (one bounded step
 * on the disk); list, mkdir and remove are a single step. While a step runs, only the
 * step touches what is below "step" in the object.
 *
 * Writes of one path never mix: a later one takes over, the earlier one ends with
 * SHL_ECONFLICT, and the later one opens the file only when no step of the earlier one
 * is under way. A client that gives up and tries again thus finds what the second try
 * wrote, however much of the first was still on its way. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/blob.h"
#include "agent/fs.h"
#include "agent/server.h"
#include "base/io.h"

#define STEP_BYTES AGENT_PAYLOAD_MAX

struct file_op {
    struct agent_work work;
    struct agent_server *server;
    struct agent_stream *stream; /* NULL: dropped */
    atomic_bool cancelled;       /* tells a long step to stop */
    bool busy;                   /* a step is under way */
    bool ended;                  /* write: EOF came */
    bool waiting;                /* write: for the last step of one that was taken over */
    struct shl_list write_node;  /* write: in server->writes */
    struct shl_buf incoming;     /* write: DATA that no step has taken yet */
    int (*step_fn)(struct file_op *op);
    void (*after_fn)(struct file_op *op); /* on the loop, with a stream and err.code 0 */

    /*- step */
    char *path;
    struct agent_fs_owner owner;
    struct agent_fs_file file; /* fd -1: not open */
    uint64_t done_bytes;
    struct shl_buf buf; /* read: to send; write: to store; list: entries */
    struct shl_err err;
};

static void start_waiting_write(struct agent_server *server, const char *path);

static void free_op(struct file_op *op)
{
    if (op->file.fd >= 0) {
        (void)close(op->file.fd);
    }
    if (!shl_list_empty(&op->write_node)) {
        shl_list_remove(&op->write_node);
        start_waiting_write(op->server, op->path);
    }
    shl_buf_release(&op->incoming);
    shl_buf_release(&op->buf);
    free(op->path);
    free(op);
}

/* @msg may be the operation's own. */
static void finish_op(struct file_op *op, int code, const char *msg)
{
    agent_stream_finish(op->stream, code, msg);
    free_op(op);
}

static void run_step(struct agent_work *work)
{
    struct file_op *op = shl_container_of(work, struct file_op, work);
    int rc = op->step_fn(op);

    if (rc < 0 && op->err.code == 0) {
        (void)agent_fs_error(&op->err, -rc, op->path);
    }
}

static void on_step_done(struct agent_work *work)
{
    struct file_op *op = shl_container_of(work, struct file_op, work);

    op->busy = false;
    if (!op->stream) {
        free_op(op);
    } else if (op->err.code < 0) {
        finish_op(op, op->err.code, op->err.msg);
    } else {
        op->after_fn(op);
    }
}

static void submit(struct file_op *op,
                   int (*step_fn)(struct file_op *),
                   void (*after_fn)(struct file_op *))
{
    op->busy = true;
    op->step_fn = step_fn;
    op->after_fn = after_fn;
    op->work.run = run_step;
    op->work.done = on_step_done;
    agent_pool_submit(&op->server->disk, &op->work);
}

static void on_drop(void *arg)
{
    struct file_op *op = arg;

    op->stream = NULL;
    atomic_store(&op->cancelled, true);
    if (!op->busy) {
        free_op(op);
    }
}

static const struct agent_stream_ops plain_ops = {.on_drop = on_drop};

/* NULL: the stream was answered. */
static struct file_op *new_op(struct agent_server *server,
                              struct agent_stream *stream,
                              const msgpack_object *request,
                              const struct agent_stream_ops *ops)
{
    struct file_op *op = calloc(1, sizeof(*op));
    const struct agent_guest *guest = &server->guest;

    if (!op) {
        agent_stream_finish(stream, -ENOMEM, NULL);
        return NULL;
    }
    shl_list_init(&op->write_node);
    op->server = server;
    op->stream = stream;
    op->file.fd = -1;
    op->owner = (struct agent_fs_owner){guest->user.uid, guest->user.gid, guest->is_init};
    shl_buf_init(&op->incoming, AGENT_WINDOW_BYTES);
    shl_buf_init(&op->buf, AGENT_WINDOW_BYTES);
    if (agent_guest_path(guest, request, "path", true, &op->path, &op->err) < 0) {
        finish_op(op, op->err.code, op->err.msg);
        return NULL;
    }
    agent_stream_bind(stream, ops, op);
    return op;
}

/* ---- file.read ------------------------------------------------------------------- */

static int step_read(struct file_op *op)
{
    uint64_t left = op->file.regular ? op->file.size - op->done_bytes : STEP_BYTES;
    size_t want = (size_t)SHL_MIN(left, (uint64_t)STEP_BYTES);
    uint8_t *space;
    ssize_t got;
    int rc;

    if (want == 0) {
        return 0;
    }
    rc = shl_buf_reserve(&op->buf, want, &space);
    if (rc < 0) {
        return rc;
    }
    do {
        got = read(op->file.fd, space, want);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return -errno;
    }
    if (got == 0 && op->file.regular) { /* its size was promised in HEAD */
        return shl_err_set(&op->err, SHL_EBADSTATE, "the file became shorter while it was read: %s",
                           op->path);
    }
    op->done_bytes += (uint64_t)got;
    shl_buf_commit(&op->buf, (size_t)got);
    return 0;
}

static int step_open_read(struct file_op *op)
{
    int rc = agent_fs_open_read(op->path, &op->file, &op->err);

    return rc == 0 ? step_read(op) : rc;
}

static void after_read(struct file_op *op)
{
    if (shl_buf_len(&op->buf) == 0) { /* the end */
        finish_op(op, 0, NULL);
    } else {
        agent_stream_want_write(op->stream);
    }
}

static void after_open_read(struct file_op *op)
{
    struct agent_reply reply;

    agent_reply_head(&reply, op->stream);
    shl_mp_kv_uint(&reply.w, "size", op->file.size);
    shl_mp_kv_uint(&reply.w, "mode", op->file.mode);
    shl_mp_kv_bool(&reply.w, "regular", op->file.regular);
    agent_reply_end(&reply);
    after_read(op);
}

static void on_read_writable(void *arg)
{
    struct file_op *op = arg;
    size_t len = SHL_MIN(shl_buf_len(&op->buf), agent_stream_room(op->stream));

    agent_stream_send(op->stream, AGENT_CHANNEL_RAW, shl_bytes_of(shl_buf_data(&op->buf), len));
    shl_buf_consume(&op->buf, len);
    if (shl_buf_len(&op->buf) > 0) {
        agent_stream_want_write(op->stream);
    } else {
        submit(op, step_read, after_read);
    }
}

static const struct agent_stream_ops read_ops = {
    .on_writable = on_read_writable,
    .on_drop = on_drop,
};

void agent_op_file_read(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request)
{
    struct file_op *op = new_op(server, stream, request, &read_ops);

    if (op) {
        submit(op, step_open_read, after_open_read);
    }
}

/* ---- file.write ------------------------------------------------------------------ */

static int step_write(struct file_op *op)
{
    size_t len = shl_buf_len(&op->buf);
    int rc = shl_write_full(op->file.fd, shl_buf_data(&op->buf), len);

    op->done_bytes += len;
    return rc;
}

static int step_open_write(struct file_op *op)
{
    return agent_fs_open_write(op->path, &op->owner, &op->file.fd, &op->err);
}

static void after_write(struct file_op *op);

static void continue_write(struct file_op *op)
{
    if (op->busy || op->waiting) {
        return;
    }
    if (shl_buf_len(&op->incoming) > 0) {
        struct shl_buf empty = op->buf;

        op->buf = op->incoming;
        op->incoming = empty;
        submit(op, step_write, after_write);
    } else if (op->ended) {
        struct agent_reply reply;

        agent_reply_response(&reply, op->stream);
        shl_mp_kv_uint(&reply.w, "size", op->done_bytes);
        free_op(op);
        agent_reply_end(&reply);
    }
}

static void after_write(struct file_op *op)
{
    size_t len = shl_buf_len(&op->buf);

    shl_buf_clear(&op->buf);
    if (len > 0) {
        agent_stream_consumed(op->stream, len);
    }
    continue_write(op);
}

static void on_write_data(void *arg, struct shl_bytes data)
{
    struct file_op *op = arg;
    int rc = op->ended ? SHL_EPROTO : shl_buf_append(&op->incoming, data.base, data.len);

    if (rc < 0) {
        struct agent_stream *stream = op->stream;

        on_drop(op);
        agent_stream_finish(stream, rc, NULL);
        return;
    }
    continue_write(op);
}

static void on_write_eof(void *arg)
{
    struct file_op *op = arg;

    op->ended = true;
    continue_write(op);
}

static const struct agent_stream_ops write_ops = {
    .on_data = on_write_data,
    .on_eof = on_write_eof,
    .on_drop = on_drop,
};

/* A later write of the same path begins: end the others. Returns whether one of them is
 * still in a step; it frees itself afterwards, and that starts the one that waits. */
static bool take_over(struct agent_server *server, const char *path)
{
    struct shl_list *it, *next;
    bool in_step = false;

    SHL_LIST_FOREACH_SAFE(it, next, &server->writes) {
        struct file_op *other = shl_container_of(it, struct file_op, write_node);
        struct agent_stream *stream = other->stream;

        if (strcmp(other->path, path) != 0) {
            continue;
        }
        in_step = in_step || other->busy;
        if (stream) {
            on_drop(other);
            agent_stream_finish(stream, SHL_ECONFLICT, "a later write of the same file took over");
        }
    }
    return in_step;
}

static void start_waiting_write(struct agent_server *server, const char *path)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &server->writes) {
        struct file_op *op = shl_container_of(it, struct file_op, write_node);

        if (op->waiting && strcmp(op->path, path) == 0) {
            op->waiting = false;
            submit(op, step_open_write, after_write);
            return;
        }
    }
}

void agent_op_file_write(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request)
{
    struct file_op *op = new_op(server, stream, request, &write_ops);

    if (!op) {
        return;
    }
    op->waiting = take_over(server, op->path);
    shl_list_push_back(&server->writes, &op->write_node);
    if (!op->waiting) {
        submit(op, step_open_write, after_write);
    }
}

/* ---- single steps ---------------------------------------------------------------- */

static void after_simple(struct file_op *op)
{
    finish_op(op, 0, NULL);
}

static int step_mkdir(struct file_op *op)
{
    return agent_fs_mkdir(op->path, &op->owner, &op->err);
}

void agent_op_file_mkdir(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request)
{
    struct file_op *op = new_op(server, stream, request, &plain_ops);

    if (op) {
        submit(op, step_mkdir, after_simple);
    }
}

static int step_remove(struct file_op *op)
{
    return agent_fs_remove(op->path, &op->cancelled, &op->err);
}

void agent_op_file_remove(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request)
{
    struct file_op *op = new_op(server, stream, request, &plain_ops);

    if (op) {
        submit(op, step_remove, after_simple);
    }
}

static int step_list(struct file_op *op)
{
    return agent_fs_list(op->path, &op->cancelled, &op->buf, &op->err);
}

static void after_list(struct file_op *op)
{
    struct agent_stream *stream = op->stream;
    struct shl_buf entries = op->buf;

    shl_buf_init(&op->buf, 0);
    free_op(op);
    agent_blob_reply(stream, &entries);
}

void agent_op_file_list(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request)
{
    struct file_op *op = new_op(server, stream, request, &plain_ops);

    if (op) {
        op->buf.max_bytes = AGENT_FS_LIST_MAX_BYTES;
        submit(op, step_list, after_list);
    }
}
