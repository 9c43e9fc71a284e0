#include <string.h>

#include "client/cli.h"

#define ID_SIZE 160

struct checkpoint_options {
    bool disk_only;
    bool wait;
    struct cli_number keep;
};

static const struct cli_flag flags[] = {
    {0, "disk-only", NULL, CLI_SWITCH, offsetof(struct checkpoint_options, disk_only), 0, 0,
     "create: the disk alone, no memory"},
    {'w', "wait", NULL, CLI_SWITCH, offsetof(struct checkpoint_options, wait), 0, 0,
     "create: return when it is ready"},
    {0, "keep", "N", CLI_NUMBER, offsetof(struct checkpoint_options, keep), 1, 1000,
     "create: delete the oldest of the kind so that N are left"},
};

bool cli_checkpoint_id(struct cli *cli,
                       const char *sandbox_id,
                       const char *id_or_name,
                       char *ret_id,
                       size_t size)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_checkpoint *checkpoint = NULL;

    if (shoal_checkpoint_find(cli->client, sandbox_id, id_or_name, &checkpoint, &err) < 0) {
        (void)cli_fail(cli, &err, "%s", sandbox_id);
        return false;
    }
    (void)snprintf(ret_id, size, "%s", shoal_checkpoint_id(checkpoint));
    shoal_checkpoint_free(checkpoint);
    return true;
}

/* Replaces *checkpoint by what it is when it is ready. */
static int wait_ready(struct cli *cli, struct shoal_checkpoint **checkpoint)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_checkpoint *ready = NULL;

    cli_progress(cli, "saving ...");
    if (shoal_checkpoint_wait(cli->client, cli->operands[1], shoal_checkpoint_id(*checkpoint),
                              &ready, &err) < 0) {
        return cli_fail(cli, &err, "%s", shoal_checkpoint_id(*checkpoint));
    }
    cli_progress_end(cli);
    shoal_checkpoint_free(*checkpoint);
    *checkpoint = ready;
    return CLI_OK;
}

static int create(struct cli *cli, const struct checkpoint_options *options)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_checkpoint *checkpoint = NULL;
    int code = CLI_OK;

    cli_progress(cli, "making a checkpoint ...");
    if (shoal_checkpoint_create(cli->client, cli->operands[1], cli->operands[2], options->disk_only,
                                options->keep.set ? options->keep.value : 0, &checkpoint,
                                &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    cli_progress_end(cli);
    if (options->wait) {
        code = wait_ready(cli, &checkpoint);
    }
    if (code == CLI_OK && cli->json) {
        code = cli_print_json(cli, shoal_checkpoint_json(checkpoint));
    } else if (code == CLI_OK) {
        cli_print_safe(stdout, shoal_checkpoint_id(checkpoint));
        (void)putchar('\n');
    }
    shoal_checkpoint_free(checkpoint);
    return code;
}

static void print_table(struct cli *cli, const struct shoal_checkpoint_list *list)
{
    static const char *const titles[] = {"ID", "NAME", "KIND", "STATUS", "SIZE", "AGE", "WHY"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_checkpoint_list_count(list); i++) {
        const struct shoal_checkpoint *checkpoint = shoal_checkpoint_list_at(list, i);
        int64_t bytes = shoal_checkpoint_size_bytes(checkpoint);
        const char *created_at = shoal_checkpoint_created_at(checkpoint);
        char size[32] = "";
        char age[32];

        if (bytes > 0) {
            cli_size(bytes, size, sizeof(size));
        }
        cli_age(created_at, age, sizeof(age));
        cli_table_row(table, (const char *const[]){shoal_checkpoint_id(checkpoint),
                                                   shoal_checkpoint_name(checkpoint),
                                                   shoal_checkpoint_kind(checkpoint),
                                                   shoal_checkpoint_status(checkpoint), size, age,
                                                   shoal_checkpoint_reason(checkpoint)});
    }
    cli_table_print(cli, table, 3);
}

static int list(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_checkpoint_list *checkpoints = NULL;
    int code = CLI_OK;

    if (shoal_checkpoint_list(cli->client, cli->operands[1], &checkpoints, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_checkpoint_list_json(checkpoints));
    } else if (cli->quiet) {
        for (size_t i = 0; i < shoal_checkpoint_list_count(checkpoints); i++) {
            cli_print_safe(stdout, shoal_checkpoint_id(shoal_checkpoint_list_at(checkpoints, i)));
            (void)putchar('\n');
        }
    } else {
        print_table(cli, checkpoints);
    }
    shoal_checkpoint_list_free(checkpoints);
    return code;
}

static int remove_each(struct cli *cli)
{
    int code = CLI_OK;

    for (size_t i = 2; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        char id[ID_SIZE];

        if (!cli_checkpoint_id(cli, cli->operands[1], cli->operands[i], id, sizeof(id))) {
            code = CLI_FAILED;
        } else if (shoal_checkpoint_delete(cli->client, cli->operands[1], id, &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

/* CLI_GO when the operands fit @verb. */
static int check_operands(struct cli *cli, const char *verb)
{
    static const char *const verbs[] = {"create", "ls", "rm"};
    const char *near;

    if (strcmp(verb, "create") == 0 && cli->operand_count != 3) {
        return cli_usage(cli, "%s", "create takes a sandbox and a name");
    }
    if (strcmp(verb, "ls") == 0 && cli->operand_count != 2) {
        return cli_usage(cli, "%s", "ls takes one sandbox");
    }
    if (strcmp(verb, "rm") == 0 && cli->operand_count < 3) {
        return cli_usage(cli, "%s", "the checkpoint is missing");
    }
    for (size_t i = 0; i < SHL_ARRAY_SIZE(verbs); i++) {
        if (strcmp(verb, verbs[i]) == 0) {
            return CLI_GO;
        }
    }
    near = cli_suggest(verb, verbs, SHL_ARRAY_SIZE(verbs));
    return cli_usage(cli, "\"%.40s\" is none of create, ls, rm%s%s", verb,
                     near ? ": did you mean " : "", near ? near : "");
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct checkpoint_options options = {.wait = false};
    int code = cli_parse(cli, &options, argc, argv, 2, (size_t)argc);
    const char *verb;

    if (code != CLI_GO) {
        return code;
    }
    verb = cli->operands[0];
    code = check_operands(cli, verb);
    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (strcmp(verb, "create") == 0) {
        return create(cli, &options);
    }
    return strcmp(verb, "ls") == 0 ? list(cli) : remove_each(cli);
}

const struct cli_command cli_cmd_checkpoint = {
    .name = "checkpoint",
    .summary = "make, list and remove checkpoints of a sandbox",
    .usage = "[flags] create SANDBOX NAME | ls SANDBOX | rm SANDBOX CHECKPOINT ...",
    .text = "The sandbox runs on while its checkpoint is saved. CHECKPOINT is an id or a name.\n"
            "A checkpoint outlives its sandbox: `shoal fork` makes new ones from it.\n",
    .example = "shoal checkpoint create --wait sb-1a2b3c4d before-the-upgrade",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
