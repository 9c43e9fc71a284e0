#include "client/cli.h"

struct create_options {
    const char *template_name;
    struct cli_number cpus;
    struct cli_number memory_mb;
    struct cli_number disk_mb;
    struct cli_number timeout_s;
    struct cli_pairs envs;
    struct cli_pairs metadata;
};

static const struct cli_flag flags[] = {
    {'t', "template", "NAME", CLI_TEXT, offsetof(struct create_options, template_name), 0, 0,
     "what to start from (the server's default: base)"},
    {'e', "env", "K=V", CLI_PAIRS, offsetof(struct create_options, envs), 0, 0,
     "variable for every command; K alone takes the value from here"},
    {0, "cpus", "N", CLI_NUMBER, offsetof(struct create_options, cpus), 1, 1024,
     "virtual processors"},
    {0, "memory", "MB", CLI_NUMBER, offsetof(struct create_options, memory_mb), 1, 1 << 30,
     "memory in MiB"},
    {0, "disk", "MB", CLI_NUMBER, offsetof(struct create_options, disk_mb), 1, 1 << 30,
     "disk in MiB"},
    {0, "timeout", "SECONDS", CLI_NUMBER, offsetof(struct create_options, timeout_s), 0, 1 << 30,
     "idle time until the sandbox is hibernated; 0 never"},
    {0, "metadata", "K=V", CLI_PAIRS, offsetof(struct create_options, metadata), 0, 0,
     "note kept with the sandbox"},
};

bool cli_create_add(struct cli *cli,
                    struct shoal_create *create,
                    const struct cli_pairs *pairs,
                    cli_add_pair_cb add)
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

/* False after printing what is wrong. */
static bool fill(struct cli *cli, struct shoal_create *create, const struct create_options *options)
{
    int rc = 0;

    if (options->template_name) {
        rc = shoal_create_set_template(create, options->template_name);
    }
    if (rc == 0 && options->cpus.set) {
        rc = shoal_create_set_cpus(create, options->cpus.value);
    }
    if (rc == 0 && options->memory_mb.set) {
        rc = shoal_create_set_memory_mb(create, options->memory_mb.value);
    }
    if (rc == 0 && options->disk_mb.set) {
        rc = shoal_create_set_disk_mb(create, options->disk_mb.value);
    }
    if (rc == 0 && options->timeout_s.set) {
        rc = shoal_create_set_timeout_s(create, options->timeout_s.value);
    }
    if (rc < 0) {
        (void)cli_usage(cli, "%s", "the template name is not UTF-8 text");
        return false;
    }
    return cli_create_add(cli, create, &options->envs, shoal_create_add_env) &&
           cli_create_add(cli, create, &options->metadata, shoal_create_add_metadata);
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
