/* The operations that change the guest as a whole: setup, freeze, thaw. Each runs on the
 * one thread of the system pool, because all of them may take a while: memory that arrives, a
 * disk that is written. So they are done in the order they came, one after the other, also
 * when the link that asked for one is gone. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/server.h"
#include "agent/setup.h"
#include "base/io.h"

struct system_op {
    struct agent_work work;
    struct agent_server *server;
    struct agent_stream *stream; /* NULL: dropped */
    int (*run)(struct system_op *op);
    void (*reply)(struct system_op *op); /* of a success */
    bool sync;
    bool fs;
    struct agent_setup setup;
    struct shl_err err;
};

static void on_drop(void *arg)
{
    struct system_op *op = arg;

    op->stream = NULL;
}

static void run_op(struct agent_work *work)
{
    struct system_op *op = shl_container_of(work, struct system_op, work);

    if (op->run(op) == 0) {
        op->err.code = 0;
    }
}

static void free_op(struct system_op *op)
{
    agent_setup_release(&op->setup);
    free(op);
}

/* From the latest setup, whatever failed of it. */
static void take_guest(struct system_op *op)
{
    struct agent_guest *guest = &op->server->guest;
    struct agent_budget *budget = &op->server->sessions.budget;

    if (op->setup.has_env) {
        struct agent_environ old = guest->env;

        guest->env = op->setup.env;
        op->setup.env = old;
    }
    if (op->setup.has_cwd) {
        memcpy(guest->cwd, op->setup.cwd, sizeof(guest->cwd));
    }
    if (*op->setup.sandbox_id) {
        memcpy(guest->sandbox_id, op->setup.sandbox_id, sizeof(guest->sandbox_id));
    }
    if (guest->is_init) { /* its memory may have grown */
        budget->max_bytes = SHL_MAX(budget->max_bytes, agent_output_limit());
    }
}

static void on_done(struct agent_work *work)
{
    struct system_op *op = shl_container_of(work, struct system_op, work);

    take_guest(op);
    if (op->stream && op->err.code < 0) {
        agent_stream_finish(op->stream, op->err.code, op->err.msg);
    } else if (op->stream && op->reply) {
        op->reply(op);
    } else if (op->stream) {
        agent_stream_finish(op->stream, 0, NULL);
    }
    free_op(op);
}

/* NULL: the stream was answered. */
static struct system_op *new_op(struct agent_server *server, struct agent_stream *stream)
{
    static const struct agent_stream_ops ops = {.on_drop = on_drop};
    struct system_op *op = calloc(1, sizeof(*op));

    if (!op) {
        agent_stream_finish(stream, -ENOMEM, NULL);
        return NULL;
    }
    op->server = server;
    op->stream = stream;
    op->work.run = run_op;
    op->work.done = on_done;
    agent_stream_bind(stream, &ops, op);
    return op;
}

static void refuse(struct system_op *op)
{
    agent_stream_finish(op->stream, op->err.code, op->err.msg);
    free_op(op);
}

/* ---- setup ----------------------------------------------------------------------- */

static int run_setup(struct system_op *op)
{
    struct agent_server *server = op->server;
    struct shl_err thaw_err = {0};
    int rc = 0, thaw_rc;

    if (server->guest.is_init) {
        rc = agent_setup_apply(&op->setup, &server->guest, &server->freezer, &op->err);
    }
    thaw_rc = agent_freezer_thaw(&server->freezer, &thaw_err);
    if (rc == 0 && thaw_rc < 0) {
        op->err = thaw_err;
        rc = thaw_rc;
    }
    return rc;
}

static void reply_setup(struct system_op *op)
{
    const struct agent_phases *phases = &op->server->guest.phases;
    struct agent_reply reply;
    size_t i;

    agent_reply_response(&reply, op->stream);
    shl_mp_kv_uint(&reply.w, "boot_ms", phases->count ? phases->at_ms[phases->count - 1] : 0);
    shl_mp_kv_map(&reply.w, "phases");
    for (i = 0; i < phases->count; i++) {
        shl_mp_kv_uint(&reply.w, phases->name[i], phases->at_ms[i]);
    }
    shl_mp_end(&reply.w);
    agent_reply_end(&reply);
}

void agent_op_setup(struct agent_server *server,
                    struct agent_stream *stream,
                    const msgpack_object *request)
{
    struct system_op *op = new_op(server, stream);

    if (!op) {
        return;
    }
    if (agent_setup_decode(&op->setup, request, &op->err) < 0) {
        refuse(op);
        return;
    }
    op->run = run_setup;
    op->reply = reply_setup;
    agent_pool_submit(&server->system, &op->work);
}

/* ---- freeze and thaw ------------------------------------------------------------- */

static int run_freeze(struct system_op *op)
{
    return agent_freezer_freeze(&op->server->freezer, op->sync, op->fs, &op->err);
}

/* An optional truth value. */
static int get_flag(const msgpack_object *request, const char *key, bool *ret, struct shl_err *err)
{
    return shl_mp_get_bool(request, key, ret) == SHL_EPROTO
               ? shl_err_set(err, SHL_EINVALIDARG, "%s must be true or false", key)
               : 0;
}

void agent_op_freeze(struct agent_server *server,
                     struct agent_stream *stream,
                     const msgpack_object *request)
{
    struct system_op *op = new_op(server, stream);

    if (!op) {
        return;
    }
    if (get_flag(request, "sync", &op->sync, &op->err) < 0 ||
        get_flag(request, "fs", &op->fs, &op->err) < 0) {
        refuse(op);
        return;
    }
    op->run = run_freeze;
    agent_pool_submit(&server->system, &op->work);
}

static int run_thaw(struct system_op *op)
{
    return agent_freezer_thaw(&op->server->freezer, &op->err);
}

void agent_op_thaw(struct agent_server *server,
                   struct agent_stream *stream,
                   const msgpack_object *request)
{
    struct system_op *op = new_op(server, stream);

    (void)request;
    if (op) {
        op->run = run_thaw;
        agent_pool_submit(&server->system, &op->work);
    }
}
