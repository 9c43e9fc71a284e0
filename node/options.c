#include "node/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/sandbox/manager.h"

enum {
    OPT_DATA = 1,
    OPT_RUN,
    OPT_LISTEN,
    OPT_DOMAIN,
    OPT_PUBLIC_URL,
    OPT_REGION,
    OPT_WORKER_ID,
    OPT_VMM,
    OPT_POOL,
    OPT_DNS,
    OPT_EGRESS_PRIVATE,
    OPT_SANDBOXES_MAX,
    OPT_MEMORY_DEFAULT,
    OPT_WARM,
    OPT_MEMORY,
    OPT_MESH,
    OPT_MESH_ADDRESS,
    OPT_JOIN,
    OPT_FAILURE_DOMAIN,
    OPT_REPLICAS,
    OPT_REPLICA_GRACE,
    OPT_WITNESS,
    OPT_MESH_VERSIONS,
    OPT_LOG_LEVEL,
    OPT_CLEANUP,
    OPT_RECOVER,
    OPT_RESTORE,
    OPT_WITH,
    OPT_CONFIRM,
    OPT_VERSION,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"data", required_argument, NULL, OPT_DATA},
    {"run", required_argument, NULL, OPT_RUN},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"domain", required_argument, NULL, OPT_DOMAIN},
    {"public-url", required_argument, NULL, OPT_PUBLIC_URL},
    {"region", required_argument, NULL, OPT_REGION},
    {"worker-id", required_argument, NULL, OPT_WORKER_ID},
    {"vmm", required_argument, NULL, OPT_VMM},
    {"pool", required_argument, NULL, OPT_POOL},
    {"dns", required_argument, NULL, OPT_DNS},
    {"sandboxes-max", required_argument, NULL, OPT_SANDBOXES_MAX},
    {"memory-default-mb", required_argument, NULL, OPT_MEMORY_DEFAULT},
    {"warm", required_argument, NULL, OPT_WARM},
    {"memory-mb", required_argument, NULL, OPT_MEMORY},
    {"mesh", required_argument, NULL, OPT_MESH},
    {"egress-private", required_argument, NULL, OPT_EGRESS_PRIVATE},
    {"mesh-address", required_argument, NULL, OPT_MESH_ADDRESS},
    {"join", required_argument, NULL, OPT_JOIN},
    {"failure-domain", required_argument, NULL, OPT_FAILURE_DOMAIN},
    {"replicas", required_argument, NULL, OPT_REPLICAS},
    {"replica-grace-s", required_argument, NULL, OPT_REPLICA_GRACE},
    {"witness", no_argument, NULL, OPT_WITNESS},
    {"mesh-versions", required_argument, NULL, OPT_MESH_VERSIONS},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"cleanup", no_argument, NULL, OPT_CLEANUP},
    {"recover-cluster", no_argument, NULL, OPT_RECOVER},
    {"restore-cluster", required_argument, NULL, OPT_RESTORE},
    {"with", required_argument, NULL, OPT_WITH},
    {"confirm", required_argument, NULL, OPT_CONFIRM},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char help_text[] =
    "usage: shoald [option]...\n"
    "\n"
    "The node daemon: serves the public API and runs sandboxes. Needs root, KVM and nftables.\n"
    "Sandboxes outlive it; started again on the same folders it takes them over.\n"
    "\n"
    "  --data DIR              templates, kernel, disks, records (/var/lib/shoal)\n"
    "  --run DIR               sockets and logs of living sandboxes (/run/shoal)\n"
    "  --listen ADDR:PORT      where the API listens (127.0.0.1:8080)\n"
    "  --domain HOST[:PORT]    base of preview host names (localhost and the port)\n"
    "  --public-url URL        how clients reach this API; otherwise the Host they used\n"
    "  --region NAME           shown by the API (local)\n"
    "  --worker-id NAME        name of this node (the host name)\n"
    "  --vmm PATH              program shoal-vmm (beside shoald)\n"
    "  --pool CIDR             addresses of guests (10.201.0.0/16)\n"
    "  --dns ADDR              name server of guests (the first one of this machine)\n"
    "  --egress-private CIDR   a private network that sandboxes with secret stores may reach through\n"
    "                          the egress gateway, at ports 80 and 443; more than once (none)\n"
    "  --sandboxes-max N       living sandboxes at a time (200); 0: none, then no KVM is needed\n"
    "  --memory-default-mb N   of a sandbox that asks for none (1024)\n"
    "  --warm on|off           restore sandboxes from a snapshot of their template (on)\n"
    "  --memory-mb N           memory of this machine that may be used (all of it)\n"
    "  --log-level LEVEL       error, warn, info, debug (info); JSON lines on stderr\n"
    "\n"
    "  --join TOKEN | @FILE    become a member of the cluster that made the token\n"
    "  --mesh ADDR:PORT        where other nodes reach this one; the next port too (0.0.0.0:8090)\n"
    "  --mesh-address HOST     its address as they see it (that of the default route)\n"
    "  --failure-domain NAME   copies of data go to different ones (the node's name)\n"
    "  --replicas N            nodes that keep each checkpoint made here, 1 to 5 (2)\n"
    "  --replica-grace-s N     until a silent node's copies are made again elsewhere (60)\n"
    "  --mesh-versions MIN-MAX protocol versions to speak with other nodes (those of this build);\n"
    "                          for trying out clusters of several versions\n"
    "  --witness               vote and answer the API, but run no sandboxes; needs no KVM\n"
    "\n"
    "  --recover-cluster       the majority is lost for good: go on without it, and end. Shows what\n"
    "                          that means and asks for the id of the cluster (or --confirm ID);\n"
    "                          --with NAME,NAME: other nodes that are still there\n"
    "  --restore-cluster FILE  make a new cluster of a backup in an empty folder, and end; likewise\n"
    "  --cleanup               remove the guest network rules of --pool and end\n"
    "  --version, --help\n"
    "\n"
    "The first start prints the first API key, once:  api key: osb_...\n";

const char *node_options_help(void)
{
    return help_text;
}

static int parse_number(const char *flag,
                        const char *text,
                        uint32_t min,
                        uint32_t max,
                        uint32_t *ret,
                        struct shl_err *err)
{
    char *end;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (errno || *text < '0' || *text > '9' || *end || value < min || value > max) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s takes a number from %u to %u, not '%s'", flag,
                           min, max, text);
    }
    *ret = (uint32_t)value;
    return 0;
}

/* The options whose value is kept as it is; NULL for the others. */
static const char **text_option(struct node_options *o, int flag)
{
    switch (flag) {
    case OPT_DATA:
        return &o->data_dir;
    case OPT_RUN:
        return &o->run_dir;
    case OPT_LISTEN:
        return &o->listen;
    case OPT_DOMAIN:
        return &o->domain;
    case OPT_PUBLIC_URL:
        return &o->public_url;
    case OPT_REGION:
        return &o->region;
    case OPT_WORKER_ID:
        return &o->worker_id;
    case OPT_VMM:
        return &o->vmm_path;
    case OPT_POOL:
        return &o->pool_cidr;
    case OPT_DNS:
        return &o->dns;
    case OPT_MESH:
        return &o->mesh_listen;
    case OPT_MESH_ADDRESS:
        return &o->mesh_address;
    case OPT_JOIN:
        return &o->join;
    case OPT_FAILURE_DOMAIN:
        return &o->failure_domain;
    case OPT_WITH:
        return &o->with;
    case OPT_CONFIRM:
        return &o->confirm;
    default:
        return NULL;
    }
}

static int take_warm(struct node_options *o, const char *value, struct shl_err *err)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "--warm takes on or off, not '%s'", value);
    }
    o->warm = strcmp(value, "on") == 0;
    return 0;
}

static int take_versions(struct node_options *o, const char *value, struct shl_err *err)
{
    unsigned min = 0, max = 0;
    char end;

    if (sscanf(value, "%3u-%3u%c", &min, &max, &end) != 2 || min == 0 || max < min) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "--mesh-versions takes two numbers like 1-2, not '%s'", value);
    }
    o->version_min = min;
    o->version_max = max;
    return 0;
}

static int take_log_level(struct node_options *o, const char *value, struct shl_err *err)
{
    int level = shl_log_level_parse(value);

    if (level < 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "--log-level takes error, warn, info or debug, not '%s'", value);
    }
    o->log_level = (enum shl_log_level)level;
    return 0;
}

static int take_private(struct node_options *o, const char *value, struct shl_err *err)
{
    struct egress_prefix prefix;

    if (egress_prefix_parse(&prefix, value) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "--egress-private takes a network like 10.1.0.0/16, not '%s'", value);
    }
    if (o->egress_private_count == EGRESS_PREFIXES_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "--egress-private may be given %d times",
                           EGRESS_PREFIXES_MAX);
    }
    o->egress_private[o->egress_private_count++] = value;
    return 0;
}

static int take(struct node_options *o, int flag, const char *value, struct shl_err *err)
{
    const char **text = text_option(o, flag);

    if (text) {
        *text = value;
        return 0;
    }
    switch (flag) {
    case OPT_SANDBOXES_MAX:
        return parse_number("--sandboxes-max", value, 0, NODE_OPTIONS_SANDBOXES_MAX,
                            &o->sandboxes_max, err);
    case OPT_MEMORY_DEFAULT:
        return parse_number("--memory-default-mb", value, NODE_MEMORY_MIN_MB, NODE_MEMORY_MAX_MB,
                            &o->memory_default_mb, err);
    case OPT_MEMORY:
        return parse_number("--memory-mb", value, NODE_MEMORY_MIN_MB, NODE_OPTIONS_MEMORY_MAX_MB,
                            &o->memory_mb, err);
    case OPT_REPLICAS:
        return parse_number("--replicas", value, 1, NODE_OPTIONS_REPLICAS_MAX, &o->replicas, err);
    case OPT_REPLICA_GRACE:
        return parse_number("--replica-grace-s", value, 1, NODE_OPTIONS_GRACE_MAX_S,
                            &o->replica_grace_s, err);
    case OPT_EGRESS_PRIVATE:
        return take_private(o, value, err);
    case OPT_WARM:
        return take_warm(o, value, err);
    case OPT_LOG_LEVEL:
        return take_log_level(o, value, err);
    case OPT_MESH_VERSIONS:
        return take_versions(o, value, err);
    case OPT_WITNESS:
        o->witness = true;
        return 0;
    case OPT_CLEANUP:
        o->action = NODE_OPTIONS_CLEANUP;
        return 0;
    case OPT_RECOVER:
        o->action = NODE_OPTIONS_RECOVER;
        return 0;
    case OPT_RESTORE:
        o->action = NODE_OPTIONS_RESTORE;
        o->backup_file = value;
        return 0;
    case OPT_VERSION:
        o->action = NODE_OPTIONS_VERSION;
        return 0;
    case OPT_HELP:
        o->action = NODE_OPTIONS_HELP;
        return 0;
    default:
        return shl_err_set(err, SHL_EINVALIDARG, "unknown or incomplete option: see shoald --help");
    }
}

int node_options_parse(int argc, char **argv, struct node_options *ret, struct shl_err *err)
{
    struct node_options options = {
        .data_dir = "/var/lib/shoal",
        .run_dir = "/run/shoal",
        .listen = "127.0.0.1:8080",
        .region = "local",
        .pool_cidr = "10.201.0.0/16",
        .sandboxes_max = 200,
        .warm = true,
        .replicas = 2,
        .replica_grace_s = 60,
        .mesh_listen = "0.0.0.0:8090",
        .log_level = SHL_LOG_INFO,
    };
    int flag, rc;

    optind = 1;
    opterr = 0;
    while ((flag = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        rc = take(&options, flag, optarg, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (optind < argc) {
        return shl_err_set(err, SHL_EINVALIDARG, "unexpected argument '%s': see shoald --help",
                           argv[optind]);
    }
    if (options.with && options.action != NODE_OPTIONS_RECOVER) {
        return shl_err_set(err, SHL_EINVALIDARG, "--with belongs to --recover-cluster");
    }
    if (options.confirm && options.action != NODE_OPTIONS_RECOVER &&
        options.action != NODE_OPTIONS_RESTORE) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "--confirm belongs to --recover-cluster and --restore-cluster");
    }
    *ret = options;
    return 0;
}
