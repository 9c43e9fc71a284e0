#include "client/cli.h"

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int code = cli_parse(cli, NULL, argc, argv, 2, 2);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    cli_progress(cli, "moving %.40s to %.63s ...", cli->operands[0], cli->operands[1]);
    if (shoal_sandbox_migrate(cli->client, cli->operands[0], cli->operands[1], &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[0]);
    }
    cli_progress_end(cli);
    return CLI_OK;
}

const struct cli_command cli_cmd_migrate = {
    .name = "migrate",
    .summary = "let a running sandbox go on on another node",
    .usage = "[flags] ID NODE",
    .text = "It is hibernated, its state is copied, and it wakes on NODE, with its processes and\n"
            "under the same id. When that fails it stays where it was, hibernated.\n",
    .example = "shoal migrate sb-1a2b3c4d node-b",
    .run = run,
};
