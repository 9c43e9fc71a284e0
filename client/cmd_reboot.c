#include "client/cli.h"

struct reboot_options {
    bool hard;
};

static const struct cli_flag flags[] = {
    {0, "hard", NULL, CLI_SWITCH, offsetof(struct reboot_options, hard), 0, 0,
     "pull the plug: the guest is not asked to shut down"},
};

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct reboot_options options = {.hard = false};
    int code = cli_parse(cli, &options, argc, argv, 1, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    cli_progress(cli, "rebooting %.40s ...", cli->operands[0]);
    if (shoal_sandbox_reboot(cli->client, cli->operands[0], options.hard, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[0]);
    }
    cli_progress_end(cli);
    return CLI_OK;
}

const struct cli_command cli_cmd_reboot = {
    .name = "reboot",
    .summary = "boot a sandbox again from its disk",
    .usage = "[flags] ID",
    .text = "Files stay, processes end. Ready for commands when it returns.\n",
    .example = "shoal reboot sb-1a2b3c4d",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
