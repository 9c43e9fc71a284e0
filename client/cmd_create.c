#include "client/cli.h"

struct create_options {
    const char *template_name;
    const char *on_node_loss;
    struct cli_number autosave_s;
    struct cli_wish wish;
};

static const struct cli_flag flags[] = {
    {'t', "template", "NAME", CLI_TEXT, offsetof(struct create_options, template_name), 0, 0,
     "what to start from (the server's default: base)"},
    {'e', "env", "K=V", CLI_PAIRS, offsetof(struct create_options, wish.envs), 0, 0,
     "variable for every command; K alone takes the value from here"},
    {0, "cpus", "N", CLI_NUMBER, offsetof(struct create_options, wish.cpus), 1, 1024,
     "virtual processors"},
    {0, "memory", "MB", CLI_NUMBER, offsetof(struct create_options, wish.memory_mb), 1, 1 << 30,
     "memory in MiB"},
    {0, "disk", "MB", CLI_NUMBER, offsetof(struct create_options, wish.disk_mb), 1, 1 << 30,
     "disk in MiB"},
    {0, "timeout", "SECONDS", CLI_NUMBER, offsetof(struct create_options, wish.timeout_s), 0,
     1 << 30, "idle time until the sandbox is hibernated; 0 never"},
    {0, "on-node-loss", "WHAT", CLI_TEXT, offsetof(struct create_options, on_node_loss), 0, 0,
     "error, or restore: it goes on elsewhere from what was saved last"},
    {0, "autosave", "SECONDS", CLI_NUMBER, offsetof(struct create_options, autosave_s), 1, 1 << 30,
     "with restore: save the running sandbox so often (60)"},
    {0, "secret-store", "NAME", CLI_TEXT, offsetof(struct create_options, wish.secret_store), 0, 0,
     "its secrets are in the environment, sealed; see `shoal help secret`"},
    {0, "metadata", "K=V", CLI_PAIRS, offsetof(struct create_options, wish.metadata), 0, 0,
     "note kept with the sandbox"},
};

typedef int (*add_pair_cb)(struct shoal_create *create, const char *key, const char *value);

static bool add_pairs(struct cli *cli,
                      struct shoal_create *create,
                      const struct cli_pairs *pairs,
                      add_pair_cb add)
{
    for (size_t i = 0; i < pairs->count; i++) {
        const char *value = NULL;
        char key[256];

        if (!cli_pair_split(cli, pairs->items[i], key, sizeof(key), &value)) {
            return false;
        }
        if (add(create, key, value) < 0) {
            (void)cli_usage(cli, "the value of %s is not UTF-8 text", key);
            return false;
        }
    }
    return true;
}

bool cli_wish_add(struct cli *cli, struct shoal_create *create, const struct cli_wish *wish)
{
    int rc = 0;

    if (wish->cpus.set) {
        rc = shoal_create_set_cpus(create, wish->cpus.value);
    }
    if (rc == 0 && wish->memory_mb.set) {
        rc = shoal_create_set_memory_mb(create, wish->memory_mb.value);
    }
    if (rc == 0 && wish->disk_mb.set) {
        rc = shoal_create_set_disk_mb(create, wish->disk_mb.value);
    }
    if (rc == 0 && wish->timeout_s.set) {
        rc = shoal_create_set_timeout_s(create, wish->timeout_s.value);
    }
    if (rc < 0) {
        (void)cli_usage(cli, "%s", "out of memory");
        return false;
    }
    if (wish->secret_store && shoal_create_set_secret_store(create, wish->secret_store) < 0) {
        (void)cli_usage(cli, "%s", "the name of the secret store is not UTF-8 text");
        return false;
    }
    return add_pairs(cli, create, &wish->envs, shoal_create_add_env) &&
           add_pairs(cli, create, &wish->metadata, shoal_create_add_metadata);
}

/* False after printing what is wrong. */
static bool fill(struct cli *cli, struct shoal_create *create, const struct create_options *options)
{
    if (options->template_name && shoal_create_set_template(create, options->template_name) < 0) {
        (void)cli_usage(cli, "%s", "the template name is not UTF-8 text");
        return false;
    }
    if (options->on_node_loss && shoal_create_set_on_node_loss(create, options->on_node_loss) < 0) {
        (void)cli_usage(cli, "%s", "--on-node-loss takes error or restore");
        return false;
    }
    if (options->autosave_s.set &&
        shoal_create_set_autosave_s(create, options->autosave_s.value) < 0) {
        (void)cli_usage(cli, "%s", "out of memory");
        return false;
    }
    return cli_wish_add(cli, create, &options->wish);
}

static int create_one(struct cli *cli, const struct shoal_create *create)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    int code = CLI_OK;

    cli_progress(cli, "creating a sandbox ...");
    if (shoal_sandbox_create(cli->client, create, &sandbox, &err) < 0) {
        return cli_fail(cli, &err, "no sandbox was created");
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

static int run(struct cli *cli, int argc, char **argv)
{
    struct create_options options = {.template_name = NULL};
    struct shoal_create *create;
    int code = cli_parse(cli, &options, argc, argv, 0, 0);

    if (code != CLI_GO) {
        return code;
    }
    create = shoal_create_new();
    if (!create) {
        return cli_usage(cli, "%s", "out of memory");
    }
    code = fill(cli, create, &options) && cli_connect(cli) ? create_one(cli, create) : CLI_FAILED;
    shoal_create_free(create);
    return code;
}

const struct cli_command cli_cmd_create = {
    .name = "create",
    .summary = "make a sandbox and print its id",
    .usage = "[flags]",
    .text = "The sandbox is ready for commands when its id is printed.\n",
    .example = "shoal create -t base --cpus 2 --memory 1024 -e LANG=C.UTF-8 --timeout 600",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
