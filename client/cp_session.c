/* A script in the sandbox with pipes to it, for whole archives. It does not outlive us: alone it
 * ends after a few seconds. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "client/cp.h"

#define ALONE_S       5
#define OUT_MAX_BYTES (8u * 1024 * 1024) /* of one step; it takes 1 MiB and what is in a frame */
#define PIECE_BYTES   (64u * 1024)
#define LOOK_MS       500 /* whether Ctrl-C was pressed in between */

static void on_output(void *arg, int stream, const void *data, size_t len)
{
    struct cp_session *s = arg;

    if (stream != 2) {
        if (shl_buf_append(&s->out, data, len) < 0) {
            s->is_over = true; /* no memory: the connection is given up */
        }
        return;
    }
    len = SHL_MIN(len, sizeof(s->said) - 1 - s->said_len);
    memcpy(s->said + s->said_len, data, len);
    s->said_len += len;
}

/* Move bytes; wait for some when there are none. 0, or -ECANCELED. */
static int turn(struct cp_session *s, bool wait)
{
    struct pollfd fd = {.fd = shoal_stream_fd(s->stream),
                        .events =
                            (short)(POLLIN | (shoal_stream_wants_write(s->stream) ? POLLOUT : 0))};

    if (wait && !shoal_stream_has_more(s->stream)) {
        (void)poll(&fd, 1, LOOK_MS);
    }
    if (cp_is_interrupted()) {
        return -ECANCELED;
    }
    s->is_over = shoal_stream_step(s->stream) != 0 || s->is_over;
    return 0;
}

static struct shoal_command *make_command(const char *script, const char *const *args)
{
    struct shoal_command *command = shoal_command_new("/bin/sh");
    int rc = command ? 0 : -ENOMEM;

    rc = rc < 0 ? rc : shoal_command_add_arg(command, "-c");
    rc = rc < 0 ? rc : shoal_command_add_arg(command, script);
    rc = rc < 0 ? rc : shoal_command_add_arg(command, "shoal-cp");
    for (; rc == 0 && *args; args++) {
        rc = shoal_command_add_arg(command, *args);
    }
    if (rc < 0) {
        shoal_command_free(command);
        return NULL;
    }
    return command;
}

int cp_session_open(struct cp_session *s,
                    struct cli *cli,
                    const char *id,
                    const char *script,
                    const char *const *args,
                    struct shl_err *err)
{
    struct shoal_command *command = make_command(script, args);
    int rc;

    *s = (struct cp_session){.cli = cli, .id = id, .failed = SHOAL_ERROR_INIT};
    shl_buf_init(&s->out, OUT_MAX_BYTES);
    if (!command) {
        return shl_err_set(err, SHL_EINVALIDARG, "a name is not UTF-8 text");
    }
    rc = shoal_session_start(cli->client, id, command, ALONE_S, s->session, sizeof(s->session),
                             &s->failed);
    shoal_command_free(command);
    if (rc == 0) {
        rc = shoal_stream_open(cli->client, id, s->session, false, on_output, s, &s->stream,
                               &s->failed);
    }
    return rc < 0 ? shl_err_set(err, rc, "%s", s->failed.message) : 0;
}

ssize_t cp_session_read(struct cp_session *s, const void **ret_data)
{
    shl_buf_consume(&s->out, s->taken);
    s->taken = 0;
    while (shl_buf_len(&s->out) == 0 && !s->is_over) {
        int rc = turn(s, true);

        if (rc < 0) {
            return rc;
        }
    }
    *ret_data = shl_buf_data(&s->out);
    s->taken = shl_buf_len(&s->out);
    return (ssize_t)s->taken;
}

int cp_session_write(struct cp_session *s, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len > 0) {
        size_t n = SHL_MIN(len, (size_t)PIECE_BYTES);
        int rc = turn(s, !shoal_stream_has_room(s->stream));

        if (rc < 0) {
            return rc;
        }
        if (s->is_over) {
            return SHL_EGONE;
        }
        if (!shoal_stream_has_room(s->stream)) {
            continue;
        }
        rc = shoal_stream_send(s->stream, p, n);
        if (rc < 0) {
            return rc;
        }
        p += n;
        len -= n;
    }
    return turn(s, false);
}

int cp_session_finish(struct cp_session *s, int *ret_exit_code, struct shl_err *err)
{
    int rc = s->is_over ? 0 : shoal_stream_end_input(s->stream);
    int close_code;

    while (rc == 0 && !s->is_over) {
        shl_buf_clear(&s->out);
        s->taken = 0;
        rc = turn(s, true);
    }
    if (rc < 0) {
        return shl_err_set(err, rc, rc == -ECANCELED ? "interrupted" : "no memory");
    }
    close_code = shoal_stream_close_code(s->stream);
    if (!shoal_stream_exit_code(s->stream, ret_exit_code)) {
        *ret_exit_code = -1;
    }
    if (close_code != 1000) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           close_code == 1001 ? "the sandbox hibernates, moves or stops: try again"
                                              : "the connection was lost: try again");
    }
    return 0;
}

void cp_session_close(struct cp_session *s)
{
    shoal_stream_free(s->stream);
    shl_buf_release(&s->out);
    s->stream = NULL;
}
