#include "bench/stream_side.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/id.h"
#include "base/io.h"

#define WAIT_MS   120000
#define ECHOES    "stty raw -echo; echo ready; exec cat"
#define READY     "ready\n"
#define ID_DIGITS 12

void stream_die(const char *format, ...)
{
    va_list args;

    (void)fputs("bench-stream: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(2);
}

/* What has come of one session or file. */
struct seen {
    struct stream_side *side;
    uint64_t bytes;
    uint64_t first_us;
    uint64_t last_us;
};

static void note(struct seen *seen, size_t len)
{
    seen->last_us = shl_monotonic_us();
    if (seen->bytes == 0) {
        seen->first_us = seen->last_us;
    }
    seen->bytes += len;
    seen->side->pieces++;
}

/* ---- the agent's link ------------------------------------------------------------ */

static void on_agent_data(struct client_call *call, uint8_t channel, struct shl_bytes bytes)
{
    (void)channel;
    note(call->arg, bytes.len);
}

static void agent_check(const struct stream_side *side, struct client_call *call, int code)
{
    char msg[SHL_ERR_TEXT_MAX];

    if (code < 0) {
        stream_die("%s: %s", side->name,
                   call->done ? client_msg(call, msg, sizeof(msg)) : shl_err_text(code));
    }
}

/* As the node starts one for its API. */
static void agent_start(struct stream_side *side, const char *id, const char *command, bool tty)
{
    struct client_call call;

    client_begin(side->agent, &call, "exec.start");
    shl_mp_kv_str(&call.w, "session", id);
    shl_mp_kv_str(&call.w, "cmd", command);
    shl_mp_kv_bool(&call.w, "pipe_stdin", !tty);
    shl_mp_kv_bool(&call.w, "tty", tty);
    shl_mp_kv_uint(&call.w, "ring_bytes", AGENT_RING_DEFAULT_BYTES);
    agent_check(side, &call, client_run(&call, WAIT_MS));
    client_call_release(&call);
}

static void agent_attach(struct seen *seen, struct client_call *call, const char *id)
{
    client_begin(seen->side->agent, call, "exec.attach");
    shl_mp_kv_str(&call->w, "session", id);
    call->on_data = on_agent_data;
    call->arg = seen;
    client_send(call);
}

static void agent_type(struct client_call *call, const char *text, size_t len)
{
    while (client_send_data(call, shl_bytes_of(text, len)) == 0) {
        agent_check(((struct seen *)call->arg)->side, call, client_pump(call->client, WAIT_MS));
    }
}

static void agent_until(struct seen *seen, struct client_call *call, uint64_t bytes)
{
    while (seen->bytes < bytes) {
        int rc = call->done ? -EPIPE : client_pump(call->client, WAIT_MS);

        agent_check(seen->side, call, rc);
    }
}

static void agent_exec(struct seen *seen, const char *command, const char *input)
{
    struct client_call call;
    char id[ID_DIGITS + 1];

    shl_id_make(id, sizeof(id), "", ID_DIGITS);
    agent_start(seen->side, id, command, false);
    agent_attach(seen, &call, id);
    agent_type(&call, input, strlen(input));
    agent_check(seen->side, &call, client_wait(&call, WAIT_MS));
    if (client_int(&call.response, "exit_code") != 0) {
        stream_die("%s: exit code %d of: %s", seen->side->name,
                   (int)client_int(&call.response, "exit_code"), command);
    }
    client_call_release(&call);
}

static void agent_file(struct seen *seen, const char *path)
{
    struct client_call call;

    client_begin(seen->side->agent, &call, "file.read");
    shl_mp_kv_str(&call.w, "path", path);
    call.on_data = on_agent_data;
    call.arg = seen;
    agent_check(seen->side, &call, client_run(&call, WAIT_MS));
    client_call_release(&call);
}

static void agent_keys(struct seen *seen, double *us, unsigned count)
{
    struct client_call call;
    char id[ID_DIGITS + 1];

    shl_id_make(id, sizeof(id), "", ID_DIGITS);
    agent_start(seen->side, id, ECHOES, true);
    agent_attach(seen, &call, id);
    agent_until(seen, &call, strlen(READY));
    for (unsigned i = 0; i < count; i++) {
        uint64_t from_us = shl_monotonic_us();

        agent_type(&call, "x", 1);
        agent_until(seen, &call, seen->bytes + 1);
        us[i] = (double)(seen->last_us - from_us);
    }
    client_send_frame(seen->side->agent, AGENT_FRAME_CANCEL, call.stream, shl_bytes_of(NULL, 0));
    (void)client_wait(&call, WAIT_MS);
    client_call_release(&call);
    client_begin(seen->side->agent, &call, "exec.end");
    shl_mp_kv_str(&call.w, "session", id);
    agent_check(seen->side, &call, client_run(&call, WAIT_MS));
    client_call_release(&call);
}

/* ---- the API --------------------------------------------------------------------- */

static void on_api_output(void *arg, int stream, const void *data, size_t len)
{
    (void)stream;
    (void)data;
    note(arg, len);
}

static int on_api_file(void *arg, const void *data, size_t len)
{
    (void)data;
    note(arg, len);
    return 0;
}

static struct shoal_stream *api_open(struct seen *seen, const char *command, bool tty, char id[128])
{
    struct stream_side *side = seen->side;
    struct shoal_command *what = shoal_command_new(command);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_stream *stream = NULL;
    int rc = tty ? shoal_terminal_create(side->client, side->sandbox, what, 80, 24, id, 128, &err)
                 : shoal_session_start(side->client, side->sandbox, what, 60, id, 128, &err);

    if (rc == 0) {
        rc = shoal_stream_open(side->client, side->sandbox, id, tty, on_api_output, seen, &stream,
                               &err);
    }
    if (rc < 0) {
        stream_die("%s: %s", side->name, err.message);
    }
    shoal_command_free(what);
    return stream;
}

/* Until there are so many bytes, or the end. */
static bool api_until(struct seen *seen, struct shoal_stream *stream, uint64_t bytes)
{
    while (shoal_stream_step(stream) == 0) {
        struct pollfd fd = {.fd = shoal_stream_fd(stream),
                            .events =
                                (short)(POLLIN | (shoal_stream_wants_write(stream) ? POLLOUT : 0))};

        if (seen->bytes >= bytes) {
            return true;
        }
        if (!shoal_stream_has_more(stream) && poll(&fd, 1, WAIT_MS) == 0) {
            stream_die("%s: nothing came for two minutes", seen->side->name);
        }
    }
    return seen->bytes >= bytes;
}

static void api_exec(struct seen *seen, const char *command, const char *input)
{
    char id[128];
    struct shoal_stream *stream = api_open(seen, command, false, id);
    int exit_code = -1;

    if (*input && shoal_stream_send(stream, input, strlen(input)) < 0) {
        stream_die("no memory");
    }
    (void)api_until(seen, stream, UINT64_MAX);
    if (!shoal_stream_exit_code(stream, &exit_code) || exit_code != 0) {
        stream_die("%s: exit code %d of: %s", seen->side->name, exit_code, command);
    }
    shoal_stream_free(stream);
}

static void api_file(struct seen *seen, const char *path)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (shoal_file_read(seen->side->client, seen->side->sandbox, path, on_api_file, seen, &err) <
        0) {
        stream_die("%s: %s", seen->side->name, err.message);
    }
}

static void api_keys(struct seen *seen, double *us, unsigned count)
{
    char id[128];
    struct shoal_stream *stream = api_open(seen, ECHOES, true, id);

    if (!api_until(seen, stream, strlen(READY))) {
        stream_die("%s: the terminal has ended", seen->side->name);
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t from_us = shl_monotonic_us();

        if (shoal_stream_send(stream, "x", 1) < 0 || !api_until(seen, stream, seen->bytes + 1)) {
            stream_die("%s: the terminal has ended", seen->side->name);
        }
        us[i] = (double)(seen->last_us - from_us);
    }
    shoal_stream_free(stream);
    (void)shoal_exec_kill(seen->side->client, seen->side->sandbox, id, 9, NULL);
}

/* ---- both ------------------------------------------------------------------------ */

static void run(struct seen *seen, const char *command, const char *input)
{
    if (seen->side->agent) {
        agent_exec(seen, command, input);
    } else {
        api_exec(seen, command, input);
    }
}

static struct stream_run run_of(const struct seen *seen, uint64_t pieces_before)
{
    return (struct stream_run){.bytes = seen->bytes,
                               .pieces = seen->side->pieces - pieces_before,
                               .ms = (double)(seen->last_us - seen->first_us) / 1e3};
}

void stream_command(struct stream_side *side, const char *command)
{
    struct seen seen = {.side = side};

    run(&seen, command, "\n");
}

struct stream_run stream_exec(struct stream_side *side, uint64_t bytes)
{
    struct seen seen = {.side = side};
    const uint64_t before = side->pieces;
    char command[96];

    /* It begins when the client is there. */
    (void)snprintf(command, sizeof(command), "read x; exec head -c %llu /dev/zero",
                   (unsigned long long)bytes);
    run(&seen, command, "\n");
    if (seen.bytes != bytes) {
        stream_die("%s: %llu bytes came of %llu", side->name, (unsigned long long)seen.bytes,
                   (unsigned long long)bytes);
    }
    return run_of(&seen, before);
}

struct stream_run stream_file(struct stream_side *side, const char *path)
{
    struct seen seen = {.side = side};
    const uint64_t before = side->pieces;

    if (side->agent) {
        agent_file(&seen, path);
    } else {
        api_file(&seen, path);
    }
    return run_of(&seen, before);
}

void stream_keys(struct stream_side *side, double *us, unsigned count)
{
    struct seen seen = {.side = side};

    if (side->agent) {
        agent_keys(&seen, us, count);
    } else {
        api_keys(&seen, us, count);
    }
}
