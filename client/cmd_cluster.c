#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "client/cli.h"

#define BACKUP_MAX (512u << 20)

struct cluster_options {
    const char *data;
    const char *with;
    const char *name;
    const char *confirm;
};

static const struct cli_flag flags[] = {
    {0, "data", "DIR", CLI_TEXT, offsetof(struct cluster_options, data), 0, 0,
     "recover, restore: data folder of the node (default /var/lib/shoal)"},
    {0, "with", "NAMES", CLI_TEXT, offsetof(struct cluster_options, with), 0, 0,
     "recover: other nodes that are still there, by commas"},
    {0, "name", "NAME", CLI_TEXT, offsetof(struct cluster_options, name), 0, 0,
     "restore: name of the new node (default: the host name)"},
    {0, "confirm", "ID", CLI_TEXT, offsetof(struct cluster_options, confirm), 0, 0,
     "recover, restore: id of the cluster, instead of being asked for it"},
};

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

static int keep(void *arg, const void *data, size_t len)
{
    return shl_buf_append(arg, data, len);
}

/* Secrets are in it: nobody else may read the file, at no moment. */
static int backup(struct cli *cli, const char *file)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shl_buf buf;
    int code = CLI_OK;
    int rc;

    shl_buf_init(&buf, BACKUP_MAX);
    rc = shoal_cluster_backup(cli->client, keep, &buf, &err);
    if (rc < 0) {
        code = cli_fail(cli, &err, "the cluster cannot be backed up");
    } else {
        rc = shl_write_file_atomic(file, shl_buf_data(&buf), shl_buf_len(&buf), 0600);
    }
    if (code == CLI_OK && rc < 0) {
        (void)fprintf(stderr, "shoal: cannot write %s: %s\n", file, strerrordesc_np(-rc));
        code = CLI_FAILED;
    } else if (code == CLI_OK && !cli->quiet) {
        (void)fprintf(stderr, "%zu bytes in %s; it has secrets of the cluster, keep it safe\n",
                      shl_buf_len(&buf), file);
    }
    explicit_bzero(shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
    return code;
}

/* These work on the folder of a stopped daemon, which shoald itself knows. It is beside this
 * program, or in PATH. */
static int run_shoald(const struct cluster_options *options, const char *file)
{
    char path[PATH_MAX];
    char *args[12];
    size_t count = 0;
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - sizeof("shoald"));
    char *slash;

    path[len > 0 ? len : 0] = '\0';
    slash = strrchr(path, '/');
    if (slash) {
        memcpy(slash + 1, "shoald", sizeof("shoald"));
    }
    args[count++] = (char *)"shoald";
    args[count++] = (char *)(file ? "--restore-cluster" : "--recover-cluster");
    if (file) {
        args[count++] = (char *)file;
    }
    if (options->data) {
        args[count++] = (char *)"--data";
        args[count++] = (char *)options->data;
    }
    if (options->with) {
        args[count++] = (char *)"--with";
        args[count++] = (char *)options->with;
    }
    if (options->name) {
        args[count++] = (char *)"--worker-id";
        args[count++] = (char *)options->name;
    }
    if (options->confirm) { /* the last two */
        args[count++] = (char *)"--confirm";
        args[count++] = (char *)options->confirm;
    }
    args[count] = NULL;
    if (slash && access(path, X_OK) == 0) {
        (void)execv(path, args);
    }
    (void)execvp("shoald", args);
    (void)fprintf(stderr, "shoal: cannot run shoald: %s\n", strerrordesc_np(errno));
    return CLI_FAILED;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct cluster_options options = {.data = NULL};
    int code = cli_parse(cli, &options, argc, argv, 1, 2);
    const char *verb, *file;

    if (code != CLI_GO) {
        return code;
    }
    verb = cli->operands[0];
    file = cli->operand_count > 1 ? cli->operands[1] : NULL;
    if (strcmp(verb, "status") == 0 && !file) {
        return cli_connect(cli) ? status(cli) : CLI_FAILED;
    }
    if (strcmp(verb, "backup") == 0 && file) {
        return cli_connect(cli) ? backup(cli, file) : CLI_FAILED;
    }
    if ((strcmp(verb, "restore") == 0 && file && !options.with) ||
        (strcmp(verb, "recover") == 0 && !file)) {
        return run_shoald(&options, file);
    }
    return cli_usage(cli, "\"%.40s\" is none of status, backup FILE, restore FILE, recover", verb);
}

const struct cli_command cli_cmd_cluster = {
    .name = "cluster",
    .summary = "show the scheduler and all nodes, back up, restore and rescue the cluster",
    .usage = "[flags] status | backup FILE | restore FILE | recover",
    .text =
        "Two nodes that show the same digest at the same applied index have the same\n"
        "replicated state. `backup` writes what all nodes agree on: API keys, names, settings,\n"
        "the lists of sandboxes and checkpoints, not their data. `restore` makes a new cluster of\n"
        "it in an empty data folder. `recover` is for a cluster whose majority is lost for good:\n"
        "on a node that is left, with its daemon stopped. Both show what they would do, and ask\n"
        "for the id of the cluster.\n",
    .example = "shoal cluster status --url http://node-b:8080",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
