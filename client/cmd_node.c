#include <string.h>

#include "client/cli.h"

static void memory_text(int64_t mb, char *dst, size_t size)
{
    dst[0] = '\0';
    if (mb >= 0) {
        cli_size(mb * 1024 * 1024, dst, size);
    }
}

/* What an operator wants to know at a glance: "alive", "alive, draining". */
static void state_text(const struct shoal_node *node, char *dst, size_t size)
{
    const char *mark = shoal_node_mark(node);
    bool is_marked = mark && strcmp(mark, "none") != 0;

    (void)snprintf(dst, size, "%s%s%s%s", shoal_node_state(node), is_marked ? ", " : "",
                   is_marked ? mark : "", shoal_node_is_flapping(node) ? ", flapping" : "");
}

static const char *role_text(const struct shoal_node *node)
{
    return shoal_node_is_scheduler(node) ? "scheduler"
           : shoal_node_is_witness(node) ? "witness"
                                         : shoal_node_role(node);
}

void cli_node_table(struct cli *cli, const struct shoal_cluster *cluster)
{
    static const char *const titles[] = {"NAME",     "STATE",   "ROLE",    "SANDBOXES", "MEMORY",
                                         "RESERVED", "VERSION", "ADDRESS", "ID"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_cluster_node_count(cluster); i++) {
        const struct shoal_node *node = shoal_cluster_node_at(cluster, i);
        char state[64];
        char sandboxes[32];
        char memory[32];
        char reserved[32];

        state_text(node, state, sizeof(state));
        cli_int(shoal_node_sandboxes(node), sandboxes, sizeof(sandboxes));
        memory_text(shoal_node_memory_mb(node), memory, sizeof(memory));
        memory_text(shoal_node_memory_committed_mb(node), reserved, sizeof(reserved));
        cli_table_row(table,
                      (const char *const[]){shoal_node_name(node), state, role_text(node),
                                            sandboxes, memory, reserved, shoal_node_version(node),
                                            shoal_node_url(node), shoal_node_id(node)});
    }
    cli_table_print(cli, table, 1);
}

static int list(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_cluster *cluster = NULL;
    int code = CLI_OK;

    if (shoal_cluster_get(cli->client, &cluster, &err) < 0) {
        return cli_fail(cli, &err, "the nodes cannot be listed");
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_cluster_nodes_json(cluster));
    } else if (cli->quiet) {
        for (size_t i = 0; i < shoal_cluster_node_count(cluster); i++) {
            cli_print_safe(stdout, shoal_node_name(shoal_cluster_node_at(cluster, i)));
            (void)putchar('\n');
        }
    } else {
        cli_node_table(cli, cluster);
    }
    shoal_cluster_free(cluster);
    return code;
}

struct verb {
    const char *name;
    int (*run)(struct shoal_client *client, const char *node, struct shoal_error *err);
};

static const struct verb verbs[] = {
    {"ls", NULL},
    {"drain", shoal_node_drain},
    {"evict", shoal_node_evict},
    {"cordon", shoal_node_cordon},
    {"uncordon", shoal_node_uncordon},
    {"rm", shoal_node_remove},
};

static int for_each(struct cli *cli, const struct verb *verb)
{
    int code = CLI_OK;

    for (size_t i = 1; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;

        if (verb->run(cli->client, cli->operands[i], &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

/* NULL after printing what is wrong. */
static const struct verb *find_verb(struct cli *cli, const char *name)
{
    const char *names[SHL_ARRAY_SIZE(verbs)];
    const char *near;

    for (size_t i = 0; i < SHL_ARRAY_SIZE(verbs); i++) {
        if (strcmp(name, verbs[i].name) == 0) {
            return &verbs[i];
        }
        names[i] = verbs[i].name;
    }
    near = cli_suggest(name, names, SHL_ARRAY_SIZE(verbs));
    (void)cli_usage(cli, "\"%.40s\" is none of ls, drain, evict, cordon, uncordon, rm%s%s", name,
                    near ? ": did you mean " : "", near ? near : "");
    return NULL;
}

static int run(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, NULL, argc, argv, 1, (size_t)argc);
    const struct verb *verb;

    if (code != CLI_GO) {
        return code;
    }
    verb = find_verb(cli, cli->operands[0]);
    if (!verb) {
        return CLI_FAILED;
    }
    if (verb->run && cli->operand_count < 2) {
        return cli_usage(cli, "%s takes the name or the id of a node", verb->name);
    }
    if (!verb->run && cli->operand_count > 1) {
        return cli_usage(cli, "%s", "ls takes nothing more");
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    return verb->run ? for_each(cli, verb) : list(cli);
}

const struct cli_command cli_cmd_node = {
    .name = "node",
    .summary = "list nodes, take them out of service and back",
    .usage =
        "[flags] ls | drain NODE ... | evict NODE ... | cordon NODE ... | uncordon NODE ... | rm NODE ...",
    .text =
        "NODE is a name or an id. A drained node gets no new sandboxes and wakes none; what\n"
        "runs there goes on. `evict` begins to move what runs to other nodes; drain it first. A\n"
        "cordoned one gets no new sandboxes. `uncordon` ends both. `rm` removes a node for\n"
        "good: its identity can never come back. All but ls need an admin key.\n",
    .example = "shoal node drain node-b",
    .run = run,
};
