#include "client/cli.h"

struct health {
    const char *state; /* "ready", "not ready", "unreachable" */
    char why[768];
};

static struct health probe(struct cli *cli, size_t index)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct health health = {.state = "unreachable"};
    bool ready = false;

    if (shoal_endpoint_health(cli->client, index, &ready, &err) == 0) {
        health.state = ready ? "ready" : "not ready";
    }
    if (!ready) {
        (void)snprintf(health.why, sizeof(health.why), "%s", err.message);
    }
    return health;
}

/* How many servers are ready. */
static size_t print_endpoints(struct cli *cli)
{
    static const char *const titles[] = {"SERVER", "STATE", "WHY"};
    struct cli_table *table = cli->json ? NULL : cli_table_new(titles, SHL_ARRAY_SIZE(titles));
    size_t count = shoal_client_endpoint_count(cli->client);
    size_t ready = 0;

    for (size_t i = 0; i < count; i++) {
        const char *url = shoal_client_endpoint(cli->client, i);
        struct health health = probe(cli, i);

        ready += health.why[0] == '\0';
        if (cli->json) {
            (void)printf("%s    {\"url\": ", i ? ",\n" : "");
            cli_json_text(stdout, url);
            (void)printf(", \"state\": \"%s\", \"why\": ", health.state);
            cli_json_text(stdout, health.why);
            (void)putchar('}');
        } else {
            cli_table_row(table, (const char *const[]){url, health.state, health.why});
        }
    }
    if (table) {
        cli_table_print(cli, table, 1);
    }
    return ready;
}

static void print_workers(struct cli *cli, const struct shoal_worker_list *list)
{
    static const char *const titles[] = {"WORKER", "VERSION",  "SANDBOXES",
                                         "MEMORY", "RESERVED", "DRAINING"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_worker_list_count(list); i++) {
        const struct shoal_worker *worker = shoal_worker_list_at(list, i);
        int64_t total_mb = shoal_worker_memory_total_mb(worker);
        int64_t committed_mb = shoal_worker_memory_committed_mb(worker);
        char current[32];
        char total[32] = "";
        char committed[32] = "";

        cli_int(shoal_worker_current(worker), current, sizeof(current));
        if (total_mb >= 0) {
            cli_size(total_mb * 1024 * 1024, total, sizeof(total));
        }
        if (committed_mb >= 0) {
            cli_size(committed_mb * 1024 * 1024, committed, sizeof(committed));
        }
        cli_table_row(table, (const char *const[]){
                                 shoal_worker_id(worker), shoal_worker_version(worker), current,
                                 total, committed, shoal_worker_draining(worker) ? "yes" : "no"});
    }
    cli_table_print(cli, table, -1);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_worker_list *list = NULL;
    size_t ready;
    int code = cli_parse(cli, NULL, argc, argv, 0, 0);
    int rc;

    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    (void)fputs(cli->json ? "{\n  \"servers\": [\n" : "", stdout);
    ready = print_endpoints(cli);
    code = ready == shoal_client_endpoint_count(cli->client) ? CLI_OK : CLI_NOT_READY;
    rc = shoal_worker_list(cli->client, &list, &err);
    if (cli->json) {
        const char *json = rc == 0 ? shoal_worker_list_json(list) : NULL;

        (void)printf("\n  ],\n  \"workers\": %s\n}\n", json ? json : "[]");
    } else if (rc == 0) {
        (void)putchar('\n');
        print_workers(cli, list);
    }
    shoal_worker_list_free(list);
    (void)fflush(stdout);
    return rc < 0 ? cli_fail(cli, &err, "the workers cannot be listed") : code;
}

const struct cli_command cli_cmd_status = {
    .name = "status",
    .summary = "show how servers and workers are",
    .usage = "[flags]",
    .text = "Exit code 0 when every server is ready, 1 when one is not, 125 when the workers\n"
            "cannot be listed.\n",
    .example = "shoal status --url http://127.0.0.1:8080",
    .run = run,
};
