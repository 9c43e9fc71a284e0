#include "client/cli.h"

#define ID_SIZE 160

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int code = cli_parse(cli, NULL, argc, argv, 2, 2);
    char id[ID_SIZE];

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli) ||
        !cli_checkpoint_id(cli, cli->operands[0], cli->operands[1], id, sizeof(id))) {
        return CLI_FAILED;
    }
    cli_progress(cli, "restoring %.40s ...", cli->operands[0]);
    if (shoal_checkpoint_restore(cli->client, cli->operands[0], id, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[0]);
    }
    cli_progress_end(cli);
    return CLI_OK;
}

const struct cli_command cli_cmd_restore = {
    .name = "restore",
    .summary = "put a sandbox back to one of its checkpoints",
    .usage = "[flags] SANDBOX CHECKPOINT",
    .text = "CHECKPOINT is an id or a name. What was done since is lost; the id stays. Ready for\n"
            "commands when it returns.\n",
    .example = "shoal restore sb-1a2b3c4d before-the-upgrade",
    .run = run,
};
