#include "client/cli.h"

static int hibernate_one(struct cli *cli, const char *id)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int64_t saved_bytes = -1;
    char size[32] = "";

    cli_progress(cli, "hibernating %.40s ...", id);
    if (shoal_sandbox_hibernate(cli->client, id, &saved_bytes, &err) < 0) {
        return cli_fail(cli, &err, "%s", id);
    }
    cli_progress_end(cli);
    if (cli->json) {
        (void)fputs("{\"sandboxID\": ", stdout);
        cli_json_text(stdout, id);
        (void)printf(", \"status\": \"hibernated\", \"sizeBytes\": %lld}\n",
                     (long long)saved_bytes);
    } else if (!cli->quiet && cli->err_tty && saved_bytes >= 0) {
        cli_size(saved_bytes, size, sizeof(size));
        (void)fprintf(stderr, "%s: %s saved\n", id, size);
    }
    return CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, NULL, argc, argv, 1, (size_t)argc);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    code = CLI_OK;
    for (size_t i = 0; i < cli->operand_count; i++) { /* all of them, whatever the first says */
        int rc = hibernate_one(cli, cli->operands[i]);

        code = rc != CLI_OK ? rc : code;
    }
    return code;
}

const struct cli_command cli_cmd_hibernate = {
    .name = "hibernate",
    .summary = "save sandboxes with their memory and stop them",
    .usage = "[flags] ID ...",
    .text = "Programs go on where they were when the sandbox is woken: by `shoal wake`, or by\n"
            "any command or file call. One that is hibernated already is fine.\n",
    .example = "shoal hibernate sb-1a2b3c4d",
    .run = run,
};
