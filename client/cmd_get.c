#include "client/cli.h"

static void print_lines(struct cli *cli, const struct shoal_sandbox *sandbox)
{
    int64_t memory_mb = shoal_sandbox_memory_mb(sandbox);
    int64_t disk_mb = shoal_sandbox_disk_mb(sandbox);
    char text[32];

    cli_line(cli, "id", shoal_sandbox_id(sandbox));
    cli_line(cli, "status", shoal_sandbox_status(sandbox));
    cli_line(cli, "reason", shoal_sandbox_reason(sandbox));
    if (shoal_sandbox_cold_woken(sandbox)) {
        cli_line(cli, "woken", "by a boot: files were kept, processes lost");
    }
    cli_line(cli, "checkpoint", shoal_sandbox_checkpoint(sandbox));
    cli_line(cli, "template", shoal_sandbox_template(sandbox));
    cli_int(shoal_sandbox_cpus(sandbox), text, sizeof(text));
    cli_line(cli, "cpus", text);
    if (memory_mb >= 0) {
        cli_size(memory_mb * 1024 * 1024, text, sizeof(text));
        cli_line(cli, "memory", text);
    }
    if (disk_mb >= 0) {
        cli_size(disk_mb * 1024 * 1024, text, sizeof(text));
        cli_line(cli, "disk", text);
    }
    cli_line(cli, "worker", shoal_sandbox_worker(sandbox));
    cli_line(cli, "started", shoal_sandbox_started_at(sandbox));
    cli_line(cli, "ends", shoal_sandbox_end_at(sandbox));
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    int code = cli_parse(cli, NULL, argc, argv, 1, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (shoal_sandbox_get(cli->client, cli->operands[0], &sandbox, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[0]);
    }
    code = CLI_OK;
    if (cli->json) {
        code = cli_print_json(cli, shoal_sandbox_json(sandbox));
    } else if (cli->quiet) {
        (void)puts(shoal_sandbox_id(sandbox));
    } else {
        print_lines(cli, sandbox);
    }
    shoal_sandbox_free(sandbox);
    return code;
}

const struct cli_command cli_cmd_get = {
    .name = "get",
    .summary = "show one sandbox",
    .usage = "[flags] ID",
    .text = "Does not restart its idle timer.\n",
    .example = "shoal get sb-1a2b3c4d --json | jq -r .status",
    .run = run,
};
