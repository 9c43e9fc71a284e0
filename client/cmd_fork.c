#include "client/cli.h"

#define ID_SIZE 160

struct fork_options {
    struct cli_number count;
    struct cli_wish wish;
};

static const struct cli_flag flags[] = {
    {'n', "count", "N", CLI_NUMBER, offsetof(struct fork_options, count), 1, 1024,
     "so many at once"},
    {'e', "env", "K=V", CLI_PAIRS, offsetof(struct fork_options, wish.envs), 0, 0,
     "variable for every command, over those of the checkpoint"},
    {0, "cpus", "N", CLI_NUMBER, offsetof(struct fork_options, wish.cpus), 1, 1024,
     "virtual processors"},
    {0, "memory", "MB", CLI_NUMBER, offsetof(struct fork_options, wish.memory_mb), 1, 1 << 30,
     "memory in MiB, not less than the checkpoint's"},
    {0, "disk", "MB", CLI_NUMBER, offsetof(struct fork_options, wish.disk_mb), 1, 1 << 30,
     "disk in MiB, not less than the checkpoint's"},
    {0, "timeout", "SECONDS", CLI_NUMBER, offsetof(struct fork_options, wish.timeout_s), 0, 1 << 30,
     "idle time until the sandbox is hibernated; 0 never"},
    {0, "secret-store", "NAME", CLI_TEXT, offsetof(struct fork_options, wish.secret_store), 0, 0,
     "one more secret store, on top of those of the checkpoint"},
    {0, "metadata", "K=V", CLI_PAIRS, offsetof(struct fork_options, wish.metadata), 0, 0,
     "note kept with the sandbox"},
};

static int fork_one(struct cli *cli, const char *id, const struct shoal_create *changes)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    int code = CLI_OK;

    cli_progress(cli, "forking ...");
    if (shoal_checkpoint_fork(cli->client, id, changes, &sandbox, &err) < 0) {
        return cli_fail(cli, &err, "%s", id);
    }
    cli_progress_end(cli);
    if (cli->json) {
        code = cli_print_json(cli, shoal_sandbox_json(sandbox));
    } else {
        (void)puts(shoal_sandbox_id(sandbox));
    }
    shoal_sandbox_free(sandbox);
    return code;
}

/* Ids of those that were made; for each that was not a line on stderr, and a failure. */
static int print_forks(struct cli *cli, struct shoal_fork_list *list)
{
    int code = CLI_OK;

    for (size_t i = 0; i < shoal_fork_list_count(list); i++) {
        const char *error = shoal_fork_list_error(list, i);

        if (!error && !cli->json) {
            cli_print_safe(stdout, shoal_fork_list_id(list, i));
            (void)putchar('\n');
        } else if (error) {
            code = CLI_FAILED;
            if (!cli->json) {
                (void)fprintf(stderr, "shoal: fork %zu: ", i + 1);
                cli_print_safe(stderr, error);
                (void)fputc('\n', stderr);
            }
        }
    }
    if (cli->json && cli_print_json(cli, shoal_fork_list_json(list)) != CLI_OK) {
        return CLI_FAILED;
    }
    return code;
}

static int fork_many(struct cli *cli, const char *id, const struct shoal_create *changes, int count)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_fork_list *list = NULL;
    int code;

    cli_progress(cli, "forking %d times ...", count);
    if (shoal_checkpoint_fork_many(cli->client, id, changes, count, &list, &err) < 0) {
        return cli_fail(cli, &err, "%s", id);
    }
    cli_progress_end(cli);
    code = print_forks(cli, list);
    shoal_fork_list_free(list);
    return code;
}

static int fork_all(struct cli *cli,
                    const struct shoal_create *changes,
                    const struct fork_options *options)
{
    const char *id = cli->operands[0];
    char found[ID_SIZE];

    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (cli->operand_count == 2) {
        if (!cli_checkpoint_id(cli, cli->operands[0], cli->operands[1], found, sizeof(found))) {
            return CLI_FAILED;
        }
        id = found;
    }
    return options->count.set ? fork_many(cli, id, changes, options->count.value)
                              : fork_one(cli, id, changes);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct fork_options options = {.count = {.set = false}};
    struct shoal_create *changes;
    int code = cli_parse(cli, &options, argc, argv, 1, 2);

    if (code != CLI_GO) {
        return code;
    }
    changes = shoal_create_new();
    if (!changes) {
        return cli_usage(cli, "%s", "out of memory");
    }
    code =
        cli_wish_add(cli, changes, &options.wish) ? fork_all(cli, changes, &options) : CLI_FAILED;
    shoal_create_free(changes);
    return code;
}

const struct cli_command cli_cmd_fork = {
    .name = "fork",
    .summary = "make new sandboxes from a checkpoint and print their ids",
    .usage = "[flags] CHECKPOINT | SANDBOX CHECKPOINT",
    .text = "CHECKPOINT is an id, or behind a sandbox also the name of one of its checkpoints.\n"
            "The new ones go on where it was made, also when that sandbox has ended.\n",
    .example = "shoal fork -n 5 sb-1a2b3c4d before-the-upgrade",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
