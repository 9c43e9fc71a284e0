#include "client/cli.h"

static int run(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, NULL, argc, argv, 0, 0);

    if (code != CLI_GO) {
        return code;
    }
    (void)printf(cli->json ? "{\n  \"version\": \"%s\"\n}\n" : "shoal %s\n", shoal_version());
    return CLI_OK;
}

const struct cli_command cli_cmd_version = {
    .name = "version",
    .summary = "print the version of this program",
    .usage = "[flags]",
    .example = "shoal version --json",
    .run = run,
};
