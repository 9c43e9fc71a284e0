#include "client/cli.h"

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    char age[32];
    int code = cli_parse(cli, NULL, argc, argv, 1, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    cli_progress(cli, "recovering %.40s ...", cli->operands[0]);
    if (shoal_sandbox_recover(cli->client, cli->operands[0], &sandbox, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[0]);
    }
    cli_progress_end(cli);
    if (cli->json) {
        code = cli_print_json(cli, shoal_sandbox_json(sandbox));
    } else if (cli->quiet) {
        cli_print_safe(stdout, shoal_sandbox_recovered_from(sandbox));
        (void)putchar('\n');
        code = CLI_OK;
    } else {
        cli_line(cli, "runs on", shoal_sandbox_worker(sandbox));
        cli_line(cli, "from", shoal_sandbox_recovered_from(sandbox));
        (void)snprintf(age, sizeof(age), "%lld s",
                       (long long)shoal_sandbox_recovered_age_s(sandbox));
        cli_line(cli, "age", age);
        code = CLI_OK;
    }
    shoal_sandbox_free(sandbox);
    return code;
}

const struct cli_command cli_cmd_recover = {
    .name = "recover",
    .summary = "bring back a sandbox whose node is lost",
    .usage = "[flags] ID",
    .text = "It goes on on another node from the newest checkpoint, autosave or hibernation that\n"
            "was kept of it; what came after that is lost. When its node may still run it, remove\n"
            "that node first (shoal node rm). -q prints the id of what it came back from.\n",
    .example = "shoal recover sb-1a2b3c4d",
    .run = run,
};
