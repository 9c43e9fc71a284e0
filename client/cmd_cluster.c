#include <string.h>

#include "client/cli.h"

static void print_scheduler(struct cli *cli, const struct shoal_cluster *cluster)
{
    const char *id = shoal_cluster_id(cluster);
    const char *leader = shoal_cluster_leader(cluster);
    char text[96];

    cli_line(cli, "cluster", id ? id : "none: a node on its own");
    cli_line(cli, "seen by", shoal_cluster_self(cluster));
    cli_line(cli, "scheduler", leader ? leader : "none at the moment");
    cli_line(cli, "majority", shoal_cluster_has_quorum(cluster) ? "yes" : "no");
    cli_int(shoal_cluster_term(cluster), text, sizeof(text));
    cli_line(cli, "term", text);
    (void)snprintf(text, sizeof(text), "%lld of %lld",
                   (long long)shoal_cluster_applied_index(cluster),
                   (long long)shoal_cluster_commit_index(cluster));
    cli_line(cli, "applied", text);
    cli_line(cli, "digest", shoal_cluster_digest(cluster));
}

static int status(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_cluster *cluster = NULL;
    int code = CLI_OK;

    if (shoal_cluster_get(cli->client, &cluster, &err) < 0) {
        return cli_fail(cli, &err, "the cluster cannot be looked at");
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_cluster_json(cluster));
    } else {
        print_scheduler(cli, cluster);
        (void)putchar('\n');
        cli_node_table(cli, cluster);
    }
    shoal_cluster_free(cluster);
    return code;
}

static int run(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, NULL, argc, argv, 1, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (strcmp(cli->operands[0], "status") != 0) {
        return cli_usage(cli, "\"%.40s\" is not status", cli->operands[0]);
    }
    return cli_connect(cli) ? status(cli) : CLI_FAILED;
}

const struct cli_command cli_cmd_cluster = {
    .name = "cluster",
    .summary = "show the scheduler and all nodes, as one node sees them",
    .usage = "[flags] status",
    .text = "Two nodes that show the same digest at the same applied index have the same\n"
            "replicated state.\n",
    .example = "shoal cluster status --url http://node-b:8080",
    .run = run,
};
