#include "node/sandbox/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

#define GRACE_MS 10000  /* over its time-out until a program has ended */
#define WAIT_MS  300000 /* of one question how it ended */

struct node_command {
    struct node_agent_link *link;
    const struct node_command_ops *ops;
    void *arg;
    char session[AGENT_SESSION_ID_MAX + 1];
    uint64_t until_ms; /* monotonic */
    struct node_agent_stream *stream;
    struct shl_buf out, err;
    bool has_head, running, canceled;
    struct node_command_result result;
};

static void end(struct node_command *command, int code, const char *msg)
{
    struct node_command_result *result = &command->result;

    result->code = command->canceled ? -ECANCELED : code;
    result->msg = msg ? msg : "";
    result->out = shl_buf_bytes(&command->out);
    result->err = shl_buf_bytes(&command->err);
    command->ops->end(command->arg, result);
    shl_buf_release(&command->out);
    shl_buf_release(&command->err);
    free(command);
}

/* ---- its result --------------------------------------------------------------------- */

static void on_head(void *arg, const msgpack_object *head)
{
    struct node_command *command = arg;
    struct node_command_result *result = &command->result;

    command->has_head =
        shl_mp_get_bool(head, "running", &command->running) == 0 &&
        (command->running || shl_mp_get_int(head, "exit_code", &result->exit_code) == 0);
    (void)!shl_mp_get_bool(head, "timed_out", &result->timed_out);
}

/* The last NODE_COMMAND_TAIL_MAX bytes. */
static void keep(struct shl_buf *tail, struct shl_bytes data)
{
    size_t over;

    if (data.len > NODE_COMMAND_TAIL_MAX) {
        data.base += data.len - NODE_COMMAND_TAIL_MAX;
        data.len = NODE_COMMAND_TAIL_MAX;
    }
    over = shl_buf_len(tail) + data.len;
    if (over > NODE_COMMAND_TAIL_MAX) {
        shl_buf_consume(tail, over - NODE_COMMAND_TAIL_MAX);
    }
    (void)!shl_buf_append(tail, data.base, data.len); /* it is for messages alone */
}

static void on_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    struct node_command *command = arg;

    keep(channel == AGENT_CHANNEL_ERR ? &command->err : &command->out, data);
    if (command->ops->output && !command->canceled) {
        command->ops->output(command->arg, data);
    }
    node_agent_consumed(command->stream, data.len);
}

static int ask_result(struct node_command *command);

static void on_result(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct node_command *command = arg;

    (void)response;
    command->stream = NULL;
    if (code == 0 && command->has_head && command->running && !command->canceled &&
        shl_monotonic_ms() < command->until_ms) {
        code = ask_result(command);
        if (code == 0) {
            return;
        }
        msg = shl_err_text(code);
    }
    if (code == 0 && (!command->has_head || command->running)) {
        code = command->has_head ? -ETIMEDOUT : SHL_EGUEST;
        msg = command->has_head ? "the command did not end after its time-out"
                                : "the guest agent gave no answer that makes sense";
    }
    end(command, code, msg);
}

/* ---- its start ---------------------------------------------------------------------- */

static int ask_result(struct node_command *command)
{
    static const struct node_agent_stream_ops ops = {
        .on_head = on_head, .on_data = on_data, .on_end = on_result};
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, 1024);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "exec.result");
    shl_mp_kv_str(&w, "session", command->session);
    shl_mp_kv_uint(&w, "wait_ms", WAIT_MS);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_agent_open(command->link, shl_buf_bytes(&buf), &ops, command, &command->stream);
    }
    shl_buf_release(&buf);
    return rc;
}

static void on_started(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct node_command *command = arg;

    (void)response;
    command->stream = NULL;
    if (code == 0 && !command->canceled) {
        code = ask_result(command);
        msg = shl_err_text(code);
    }
    if (code < 0 || command->canceled) {
        end(command, code < 0 ? code : -ECANCELED, msg);
    }
}

static int write_start(const struct node_command_spec *spec, struct shl_buf *buf)
{
    struct shl_mp_writer w;
    size_t i;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "exec.start");
    shl_mp_kv_str(&w, "session", spec->session);
    shl_mp_kv_str(&w, "cmd", spec->argv[0]);
    if (spec->argv[1]) {
        shl_mp_kv_array(&w, "args");
        for (i = 1; spec->argv[i]; i++) {
            shl_mp_str(&w, spec->argv[i]);
        }
        shl_mp_end(&w);
    }
    shl_mp_kv_map(&w, "envs");
    for (i = 0; spec->envs && spec->envs[i]; i += 2) {
        shl_mp_kv_str(&w, spec->envs[i], spec->envs[i + 1]);
    }
    shl_mp_end(&w);
    if (spec->cwd) {
        shl_mp_kv_str(&w, "cwd", spec->cwd);
    }
    if (spec->user) {
        shl_mp_kv_str(&w, "user", spec->user);
    }
    shl_mp_kv_uint(&w, "timeout_ms", (uint64_t)spec->timeout_s * 1000);
    shl_mp_kv_uint(&w, "keep_bytes", NODE_COMMAND_OUTPUT_MAX);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int node_command_start(struct node_agent_link *link,
                       const struct node_command_spec *spec,
                       const struct node_command_ops *ops,
                       void *arg,
                       struct node_command **ret_command,
                       struct shl_err *err)
{
    static const struct node_agent_stream_ops start_ops = {.on_end = on_started};
    struct node_command *command = calloc(1, sizeof(*command));
    struct shl_buf buf;
    int rc;

    if (!command) {
        return shl_err_sys(err, ENOMEM, "cannot run a command");
    }
    command->link = link;
    command->ops = ops;
    command->arg = arg;
    command->until_ms = shl_monotonic_ms() + (uint64_t)spec->timeout_s * 1000 + GRACE_MS;
    (void)snprintf(command->session, sizeof(command->session), "%s", spec->session);
    shl_buf_init(&command->out, NODE_COMMAND_TAIL_MAX);
    shl_buf_init(&command->err, NODE_COMMAND_TAIL_MAX);
    shl_buf_init(&buf, AGENT_REQUEST_MAX);
    rc = write_start(spec, &buf);
    if (rc == 0) {
        rc = node_agent_open(link, shl_buf_bytes(&buf), &start_ops, command, &command->stream);
    }
    shl_buf_release(&buf);
    if (rc < 0) {
        free(command);
        return shl_err_set(err, rc,
                           rc == SHL_ELIMIT ? "the command and its environment are too large"
                                            : "the command could not be started: %s",
                           shl_err_text(rc));
    }
    *ret_command = command;
    return 0;
}

void node_command_cancel(struct node_command *command)
{
    command->canceled = true;
    if (command->stream) {
        node_agent_cancel(command->stream);
    }
}
