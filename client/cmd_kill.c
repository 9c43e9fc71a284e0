#include "client/cli.h"

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
    /* One that fails does not save the others. */
    for (size_t i = 0; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;

        if (shoal_sandbox_kill(cli->client, cli->operands[i], &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

const struct cli_command cli_cmd_kill = {
    .name = "kill",
    .alias = "rm",
    .summary = "end sandboxes and drop their disks",
    .usage = "[flags] ID ...",
    .text = "One that has ended already is fine. Checkpoints stay.\n",
    .example = "shoal kill sb-1a2b3c4d",
    .run = run,
};
