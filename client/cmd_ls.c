#include "client/cli.h"

static void print_table(struct cli *cli, const struct shoal_sandbox_list *list)
{
    static const char *const titles[] = {"ID", "STATUS", "TEMPLATE", "CPUS", "MEMORY", "AGE"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_sandbox_list_count(list); i++) {
        const struct shoal_sandbox *sandbox = shoal_sandbox_list_at(list, i);
        int64_t memory_mb = shoal_sandbox_memory_mb(sandbox);
        char memory[32] = "";
        char cpus[32];
        char age[32];

        if (memory_mb >= 0) {
            cli_size(memory_mb * 1024 * 1024, memory, sizeof(memory));
        }
        cli_int(shoal_sandbox_cpus(sandbox), cpus, sizeof(cpus));
        cli_age(shoal_sandbox_started_at(sandbox), age, sizeof(age));
        cli_table_row(
            table, (const char *const[]){shoal_sandbox_id(sandbox), shoal_sandbox_status(sandbox),
                                         shoal_sandbox_template(sandbox), cpus, memory, age});
    }
    cli_table_print(cli, table, 1);
}

static void print_ids(const struct shoal_sandbox_list *list)
{
    for (size_t i = 0; i < shoal_sandbox_list_count(list); i++) {
        cli_print_safe(stdout, shoal_sandbox_id(shoal_sandbox_list_at(list, i)));
        (void)putchar('\n');
    }
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox_list *list = NULL;
    int code = cli_parse(cli, NULL, argc, argv, 0, 0);

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (shoal_sandbox_list(cli->client, &list, &err) < 0) {
        return cli_fail(cli, &err, "the sandboxes cannot be listed");
    }
    code = CLI_OK;
    if (cli->json) {
        code = cli_print_json(cli, shoal_sandbox_list_json(list));
    } else if (cli->quiet) {
        print_ids(list);
    } else {
        print_table(cli, list);
    }
    shoal_sandbox_list_free(list);
    return code;
}

const struct cli_command cli_cmd_ls = {
    .name = "ls",
    .alias = "list",
    .summary = "list sandboxes, running and hibernated, newest first",
    .usage = "[flags]",
    .example = "shoal ls -q | xargs -r shoal kill",
    .run = run,
};
