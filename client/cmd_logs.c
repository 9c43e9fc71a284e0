/* What a session has printed, and prints. */
#include <poll.h>
#include <stdio.h>

#include "client/cli.h"

struct logs_options {
    bool follow;
};

static const struct cli_flag flags[] = {
    {'f', "follow", NULL, CLI_SWITCH, offsetof(struct logs_options, follow), 0, 0,
     "go on until the session ends; its exit code is that of shoal"},
};

static void on_output(void *arg, int stream, const void *data, size_t len)
{
    (void)arg;
    (void)fwrite(data, 1, len, stream == 2 ? stderr : stdout);
}

static int watch(struct cli *cli, struct shoal_stream *stream, bool follow)
{
    int exit_code;

    while (shoal_stream_step(stream) == 0) {
        struct pollfd fd = {.fd = shoal_stream_fd(stream),
                            .events =
                                (short)(POLLIN | (shoal_stream_wants_write(stream) ? POLLOUT : 0))};

        (void)fflush(stdout);
        if (!follow && shoal_stream_is_replayed(stream)) {
            return CLI_OK;
        }
        (void)poll(&fd, 1, shoal_stream_has_more(stream) ? 0 : -1);
    }
    (void)fflush(stdout);
    if (shoal_stream_exit_code(stream, &exit_code)) {
        return !follow ? CLI_OK : exit_code < 0 ? CLI_TIMED_OUT : exit_code & 255;
    }
    (void)fprintf(stderr, "shoal: the connection has ended (code %d), the session may go on\n",
                  shoal_stream_close_code(stream));
    (void)cli;
    return CLI_FAILED;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct logs_options options = {.follow = false};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_stream *stream = NULL;
    int code = cli_parse(cli, &options, argc, argv, 2, 2);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (shoal_stream_open(cli->client, cli->operands[0], cli->operands[1], false, on_output, NULL,
                          &stream, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    code = watch(cli, stream, options.follow);
    shoal_stream_free(stream);
    return code;
}

const struct cli_command cli_cmd_logs = {
    .name = "logs",
    .summary = "print the output of a session",
    .usage = "[flags] ID SESSION",
    .text =
        "What it has kept, stdout and stderr apart. Sessions are what `shoal exec` and the API\n"
        "start.\n",
    .example = "shoal logs -f sb-1a2b3c4d 1f0c9d5e7a42",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
