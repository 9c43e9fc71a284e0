#include "client/cli.h"

struct wake_options {
    struct cli_number timeout_s;
};

static const struct cli_flag flags[] = {
    {0, "timeout", "SECONDS", CLI_NUMBER, offsetof(struct wake_options, timeout_s), 0, 1 << 30,
     "new idle time until it is hibernated; 0 never"},
};

static int wake_one(struct cli *cli, const char *id, int timeout_s)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    int code = CLI_OK;

    cli_progress(cli, "waking %.40s ...", id);
    if (shoal_sandbox_wake(cli->client, id, timeout_s, &sandbox, &err) < 0) {
        return cli_fail(cli, &err, "%s", id);
    }
    cli_progress_end(cli);
    if (shoal_sandbox_cold_woken(sandbox) && !cli->json) {
        (void)fprintf(stderr,
                      "%s: its memory could not be restored: it was booted, files were "
                      "kept, processes lost\n",
                      id);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_sandbox_json(sandbox));
    }
    shoal_sandbox_free(sandbox);
    return code;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct wake_options options = {.timeout_s = {.set = false}};
    int code = cli_parse(cli, &options, argc, argv, 1, (size_t)argc);
    int timeout_s = options.timeout_s.set ? options.timeout_s.value : -1;

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    code = CLI_OK;
    for (size_t i = 0; i < cli->operand_count; i++) {
        int rc = wake_one(cli, cli->operands[i], timeout_s);

        code = rc != CLI_OK ? rc : code;
    }
    return code;
}

const struct cli_command cli_cmd_wake = {
    .name = "wake",
    .summary = "let hibernated sandboxes run again",
    .usage = "[flags] ID ...",
    .text = "Commands and file calls wake a sandbox too. One that runs already is fine.\n",
    .example = "shoal wake --timeout 600 sb-1a2b3c4d",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
