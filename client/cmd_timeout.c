#include "client/cli.h"

#define SECONDS_MAX (1 << 30)

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int seconds = 0;
    int code = cli_parse(cli, NULL, argc, argv, 2, 2);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_number_parse(cli->operands[1], 0, SECONDS_MAX, &seconds)) {
        return cli_usage(cli, "SECONDS is a whole number from 0 to %d, not \"%.40s\"", SECONDS_MAX,
                         cli->operands[1]);
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (shoal_sandbox_set_timeout_s(cli->client, cli->operands[0], seconds, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[0]);
    }
    return CLI_OK;
}

const struct cli_command cli_cmd_timeout = {
    .name = "timeout",
    .summary = "set how long a sandbox may be idle",
    .usage = "[flags] ID SECONDS",
    .text = "The timer starts anew; an idle sandbox is hibernated when it is over. 0 means never.\n"
            "One that is hibernated stays so.\n",
    .example = "shoal timeout sb-1a2b3c4d 3600",
    .run = run,
};
