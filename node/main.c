/* shoald: opens what a node consists of in order and closes it in reverse.
 *
 * Happy path:
 *   1. parse options; lock both folders, so that two daemons never share them
 *   2. open the record store, make the first API key (printed once)
 *   3. open the manager: adopts sandboxes that still run
 *   4. open the egress gateway: goes on with the process that a former daemon left
 *   5. open the cluster: takes up membership, founds one, or asks to be let in (--join)
 *   6. once a member, open the server: from here on requests come
 *   7. SIGTERM or SIGINT: server, cluster, gateway, then manager close; the loop runs dry; store
 *      closes. The same, and then the program again in this process, when the disk of the log was
 *      full and has room again
 * A failure in 1 to 6 prints one sentence, undoes what was opened and exits with 1.
 * Sandboxes are never ended here: they outlive the daemon.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uv.h>

#include "base/io.h"
#include "node/api/keys.h"
#include "node/api/server.h"
#include "node/api/token.h"
#include "node/authority.h"
#include "node/cluster/cluster.h"
#include "node/cluster/offline.h"
#include "node/egress/link.h"
#include "node/http/remote.h"
#include "node/net/net.h"
#include "node/options.h"
#include "node/sandbox/machine.h"
#include "node/sandbox/manager_open.h"
#include "node/store/folder.h"
#include "node/store/store.h"

/* Hashing, compressing and merging take a thread for seconds; with libuv's four a wake
 * could wait behind them. Idle threads cost nothing. */
#define POOL_THREADS "12"

struct node {
    struct node_options options;
    char vmm_path[PATH_MAX];
    char egress_path[PATH_MAX];
    struct shl_log log;
    int data_lock_fd, run_lock_fd;
    uv_loop_t loop;
    uv_signal_t signals[2];
    struct node_store *store;
    struct node_manager *manager;
    struct node_egress *egress;       /* NULL without a guest network */
    struct node_authority *authority; /* of the gateways; NULL without one */
    struct cluster *cluster;
    struct node_server *server;
    char name[NODE_NAME_SIZE];
    bool closing;
    bool failed;
    bool again; /* closing, to start anew */
};

static int lock_folder(const char *dir, const char *flag, int *ret_fd, struct shl_err *err)
{
    char path[PATH_MAX];
    int rc = shl_mkdir_all(dir, 0700);

    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot make the folder %s (%s)", dir, flag);
    }
    if (snprintf(path, sizeof(path), "%s/lock", dir) >= (int)sizeof(path)) {
        return shl_err_set(err, -ENAMETOOLONG, "%s is too long", flag);
    }
    *ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*ret_fd < 0) {
        return shl_err_sys(err, errno, "cannot open %s", path);
    }
    if (flock(*ret_fd, LOCK_EX | LOCK_NB) < 0) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "another shoald uses the folder %s: stop it, or give this one its "
                           "own --data and --run",
                           dir);
    }
    return 0;
}

/* Two daemons on one folder would each take the other's VMs for leftovers. */
static int lock_folders(struct node *node, struct shl_err *err)
{
    int rc = node_folder_check(node->options.data_dir, err);

    if (rc == 0) {
        rc = lock_folder(node->options.data_dir, "--data", &node->data_lock_fd, err);
    }
    if (rc == 0) {
        rc = node_folder_mark(node->options.data_dir, err);
    }
    return rc < 0 ? rc : lock_folder(node->options.run_dir, "--run", &node->run_lock_fd, err);
}

static bool runs_no_sandboxes(const struct node *node)
{
    return node->options.witness || node->options.sandboxes_max == 0;
}

/* shoal-vmm is installed beside shoald unless told otherwise. */
static int find_vmm(struct node *node, struct shl_err *err)
{
    char self[PATH_MAX];
    size_t size = sizeof(self);
    char *slash;

    if (runs_no_sandboxes(node)) {
        (void)snprintf(node->vmm_path, sizeof(node->vmm_path), "shoal-vmm"); /* never run */
        return 0;
    }
    if (node->options.vmm_path) {
        if (!realpath(node->options.vmm_path, node->vmm_path)) {
            return shl_err_sys(err, errno, "--vmm %s", node->options.vmm_path);
        }
    } else {
        if (uv_exepath(self, &size) < 0 || !(slash = strrchr(self, '/'))) {
            return shl_err_set(err, -ENOENT, "cannot find this program's folder: give --vmm");
        }
        *slash = '\0';
        if (snprintf(node->vmm_path, sizeof(node->vmm_path), "%s/shoal-vmm", self) >=
            (int)sizeof(node->vmm_path)) {
            return shl_err_set(err, -ENAMETOOLONG, "this program's folder has too long a name");
        }
    }
    if (access(node->vmm_path, X_OK) < 0) {
        return shl_err_sys(err, errno, "cannot run %s: give its place with --vmm", node->vmm_path);
    }
    return 0;
}

/* Beside this program. That it cannot be run is said when a sandbox needs it. */
static void find_egress(struct node *node)
{
    char self[PATH_MAX];
    size_t size = sizeof(self);
    char *slash = uv_exepath(self, &size) < 0 ? NULL : strrchr(self, '/');

    (void)snprintf(node->egress_path, sizeof(node->egress_path), "%.*sshoal-egress",
                   slash ? (int)(slash - self) + 1 : 0, self);
}

static int open_egress(struct node *node, struct shl_err *err)
{
    const struct node_egress_config config = {
        .run_dir = node->options.run_dir,
        .program_path = node->egress_path,
        .net = node_manager_net(node->manager),
        .allow_private = node->options.egress_private,
        .allow_private_count = node->options.egress_private_count,
        .log = &node->log,
    };

    if (!config.net) {
        return 0;
    }
    find_egress(node);
    return node_egress_open(&node->loop, &config, &node->egress, err);
}

static int open_store(struct node *node, struct shl_err *err)
{
    char path[PATH_MAX], key[NODE_KEY_SIZE];
    struct node_token_key signing;
    int rc;

    if (snprintf(path, sizeof(path), "%s/db", node->options.data_dir) >= (int)sizeof(path)) {
        return shl_err_set(err, -ENAMETOOLONG, "--data is too long");
    }
    rc = node_store_open(path, &node->store, err);
    if (rc < 0) {
        return rc;
    }
    if (node->options.join) { /* the keys are the cluster's */
        return 0;
    }
    rc = node_token_key_load(node->store, &signing, err);
    explicit_bzero(&signing, sizeof(signing));
    if (rc == 0) {
        rc = node_keys_ensure_first(node->store, key, err);
    }
    if (rc == 1) {
        /* The one moment its plaintext exists outside the user's hands. */
        (void)printf("api key: %s\n", key);
        (void)fflush(stdout);
    }
    explicit_bzero(key, sizeof(key));
    return rc < 0 ? rc : 0;
}

static int open_manager(struct node *node, struct shl_err *err)
{
    const struct node_manager_config config = {
        .data_dir = node->options.data_dir,
        .run_dir = node->options.run_dir,
        .vmm_path = node->vmm_path,
        .pool_cidr = node->options.pool_cidr,
        .sandboxes_max = node->options.sandboxes_max,
        .dns = node->options.dns,
        .warm = node->options.warm,
        .memory_total_mb = node->options.memory_mb,
        .without_sandboxes = runs_no_sandboxes(node),
        .log = &node->log,
    };

    return node_manager_open(&node->loop, node->store, &config, &node->manager, err);
}

static int write_egress_metrics(void *arg, struct shl_buf *out)
{
    return node_egress_metrics(arg, out);
}

static int open_server(struct node *node, struct shl_err *err)
{
    const struct node_server_config config = {
        .listen = node->options.listen,
        .domain = node->options.domain,
        .public_url = node->options.public_url,
        .region = node->options.region,
        .worker_id = cluster_name(node->cluster),
        .router = cluster_router(node->cluster),
        .memory_default_mb = node->options.memory_default_mb,
        .log = &node->log,
        .egress = node->egress ? node_egress_sink(node->egress) : (struct node_egress_sink){0},
        .more_metrics = node->egress ? write_egress_metrics : NULL,
        .more_metrics_arg = node->egress,
    };

    int rc = node_server_open(&node->loop, node->store, node->manager, &config, &node->server, err);

    if (rc == 0 && node->egress) {
        node_egress_told(node->egress);
        rc = node_authority_open(&node->loop, cluster_router(node->cluster), node->egress,
                                 node->manager, &node->log, &node->authority);
    }
    if (rc == 0) {
        cluster_accept(node->cluster, node_remote_accept, node_server_remote(node->server));
    }
    return rc;
}

static void close_signals(struct node *node)
{
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(node->signals); i++) {
        if (node->signals[i].data) {
            uv_close((uv_handle_t *)&node->signals[i], NULL);
        }
    }
}

static void on_joined(void *arg, int code, const char *msg);
static void on_restart_wanted(void *arg);

static int open_cluster(struct node *node, struct shl_err *err)
{
    const struct cluster_config config = {
        .data_dir = node->options.data_dir,
        .listen = node->options.mesh_listen,
        .address = node->options.mesh_address,
        .join = node->options.join,
        .name = node->name,
        .region = node->options.region,
        .api_url = node->options.public_url,
        .api_listen = node->options.listen,
        .failure_domain = node->options.failure_domain,
        .witness = node->options.witness,
        .version_min = node->options.version_min,
        .version_max = node->options.version_max,
        .replicas = node->options.replicas,
        .replica_grace_ms = node->options.replica_grace_s * 1000,
        .slow = machine_is_emulated(),
        .restart = on_restart_wanted,
        .log = &node->log,
    };

    return cluster_open(&node->loop, node->store, node->manager, &config, on_joined, node,
                        &node->cluster, err);
}

static void on_manager_closed(void *arg)
{
    struct node *node = arg;

    node->manager = NULL;
    close_signals(node);
}

static void on_egress_closed(void *arg)
{
    struct node *node = arg;

    node->egress = NULL;
    node_manager_close(node->manager, on_manager_closed, node);
}

static void close_egress(struct node *node)
{
    if (node->egress) {
        node_egress_close(node->egress, on_egress_closed, node);
    } else {
        node_manager_close(node->manager, on_manager_closed, node);
    }
}

static void on_cluster_closed(void *arg)
{
    struct node *node = arg;

    node->cluster = NULL;
    close_egress(node);
}

static void close_cluster(struct node *node)
{
    if (node->cluster) {
        cluster_close(node->cluster, on_cluster_closed, node);
    } else if (node->manager) {
        close_egress(node);
    } else {
        close_signals(node);
    }
}

static void on_server_closed(void *arg)
{
    struct node *node = arg;

    node->server = NULL;
    close_cluster(node);
}

static void shut_down(struct node *node)
{
    node->closing = true;
    node_authority_close(node->authority);
    node->authority = NULL;
    if (node->server) {
        cluster_accept(node->cluster, NULL, NULL);
        node_server_close(node->server, on_server_closed, node);
    } else {
        close_cluster(node);
    }
}

static void report_failure(struct node *node, int code, const char *msg)
{
    node->failed = true;
    SHL_LOG(&node->log, SHL_LOG_ERROR, "node.start_failed", SHL_S("error", msg));
    (void)fprintf(stderr, "shoald: %s\n", msg[0] ? msg : shl_err_text(code));
}

/* This node is a member: requests may come. */
static void on_joined(void *arg, int code, const char *msg)
{
    struct node *node = arg;
    struct shl_err err = {0};

    if (code == 0) {
        code = open_server(node, &err);
        msg = err.msg;
    }
    if (code < 0) {
        report_failure(node, code, msg);
        if (!node->closing) {
            shut_down(node);
        }
        return;
    }
    SHL_LOG(&node->log, SHL_LOG_INFO, "node.ready", SHL_S("version", SHL_VERSION),
            SHL_S("name", node->name), SHL_S("listen", node->options.listen),
            SHL_I("port", node_server_port(node->server)), SHL_S("data", node->options.data_dir),
            SHL_I("pid", getpid()));
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct node *node = handle->data;

    if (node->closing) {
        _exit(1); /* impatient: neither VMs nor records depend on a clean end */
    }
    SHL_LOG(&node->log, SHL_LOG_INFO, "node.stopping", SHL_S("signal", strsignal(number)));
    shut_down(node);
}

static void on_restart_wanted(void *arg)
{
    struct node *node = arg;

    if (!node->closing) {
        node->again = true;
        SHL_LOG(&node->log, SHL_LOG_INFO, "node.stopping", SHL_S("why", "to start anew"));
        shut_down(node);
    }
}

static int watch_signals(struct node *node, struct shl_err *err)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        int rc;

        (void)uv_signal_init(&node->loop, &node->signals[i]);
        node->signals[i].data = node;
        rc = uv_signal_start(&node->signals[i], on_signal, numbers[i]);
        if (rc < 0) {
            return shl_err_sys(err, -rc, "cannot watch signals");
        }
    }
    return 0;
}

/* Opens everything; on failure the caller closes whatever is not NULL. */
static int start(struct node *node, struct shl_err *err)
{
    int rc = lock_folders(node, err);

    if (rc == 0) {
        rc = find_vmm(node, err);
    }
    if (rc == 0) {
        rc = open_store(node, err);
    }
    if (rc == 0) {
        rc = open_manager(node, err);
    }
    if (rc == 0) {
        rc = open_egress(node, err);
    }
    if (rc == 0) {
        rc = watch_signals(node, err);
    }
    if (rc == 0) {
        rc = open_cluster(node, err);
    }
    return rc;
}

static void close_lock(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* Connections and guests take a few descriptors each; the usual soft limit is 1024. */
static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run(struct node *node)
{
    struct shl_err err = {0};
    int rc = uv_loop_init(&node->loop);

    if (rc < 0) {
        (void)fprintf(stderr, "shoald: cannot make an event loop: %s\n", uv_strerror(rc));
        return 1;
    }
    rc = start(node, &err);
    if (rc < 0) {
        report_failure(node, rc, err.msg);
        close_cluster(node);
    }
    (void)uv_run(&node->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&node->loop);
    if (node->store) {
        node_store_close(node->store);
    }
    close_lock(node->run_lock_fd);
    close_lock(node->data_lock_fd);
    return node->failed ? 1 : 0;
}

static void choose_name(struct node *node)
{
    if (node->options.worker_id) {
        (void)snprintf(node->name, sizeof(node->name), "%.63s", node->options.worker_id);
    } else if (gethostname(node->name, sizeof(node->name) - 1) < 0 || !node->name[0]) {
        (void)snprintf(node->name, sizeof(node->name), "node");
    }
}

/* On the folders of a daemon that is stopped. */
static int work_offline(struct node *node)
{
    bool is_restore = node->options.action == NODE_OPTIONS_RESTORE;
    struct cluster_offline job = {
        .data_dir = node->options.data_dir,
        .name = node->name,
        .file = node->options.backup_file,
        .with = node->options.with,
        .confirm = node->options.confirm,
    };
    bool is_empty = cluster_offline_is_empty(job.data_dir);
    char path[PATH_MAX];
    struct shl_err err = {0};
    bool is_ours = false;
    int rc = 0;

    if (is_restore != is_empty) {
        rc = shl_err_set(&err, SHL_EBADSTATE,
                         is_restore ? "%s is the data folder of a node: restore into an empty one"
                                    : "%s is the data folder of no node",
                         job.data_dir);
    }
    if (rc == 0) {
        rc = node_folder_check(node->options.data_dir, &err);
    }
    if (rc == 0) {
        rc = lock_folder(node->options.data_dir, "--data", &node->data_lock_fd, &err);
    }
    if (rc == 0 && is_restore && !cluster_offline_is_empty(job.data_dir)) {
        rc = shl_err_set(&err, SHL_EBADSTATE, "a node began in %s meanwhile", job.data_dir);
    }
    if (rc == 0) {
        is_ours = true;
        (void)snprintf(path, sizeof(path), "%.4000s/db", node->options.data_dir);
        rc = node_store_open(path, &node->store, &err);
    }
    if (rc == 0) {
        job.store = node->store;
        rc = is_restore ? cluster_offline_restore(&job, &err) : cluster_offline_recover(&job, &err);
    }
    if (rc < 0) {
        (void)fprintf(stderr, "shoald: %s\n", err.msg[0] ? err.msg : shl_err_text(rc));
    }
    if (node->store) {
        node_store_close(node->store);
    }
    if (rc < 0 && is_restore && is_ours) { /* as it was */
        (void)!shl_remove_tree(path);
        (void)snprintf(path, sizeof(path), "%.4000s/mesh", node->options.data_dir);
        (void)!shl_remove_tree(path);
    }
    close_lock(node->data_lock_fd);
    return rc < 0;
}

int main(int argc, char **argv)
{
    static struct node node = {.data_lock_fd = -1, .run_lock_fd = -1};
    struct shl_err err = {0};
    int result;

    (void)setenv("UV_THREADPOOL_SIZE", POOL_THREADS, 0);
    if (node_options_parse(argc, argv, &node.options, &err) < 0) {
        (void)fprintf(stderr, "shoald: %s\n", err.msg);
        return 2;
    }
    if (node.options.action == NODE_OPTIONS_HELP) {
        (void)fputs(node_options_help(), stdout);
        return 0;
    }
    if (node.options.action == NODE_OPTIONS_VERSION) {
        (void)puts("shoald " SHL_VERSION);
        return 0;
    }
    if (node.options.action == NODE_OPTIONS_CLEANUP) {
        if (node_net_cleanup(node.options.pool_cidr, &err) < 0) {
            (void)fprintf(stderr, "shoald: %s\n", err.msg);
            return 1;
        }
        return 0;
    }
    node.log =
        (struct shl_log){.fd = STDERR_FILENO, .level = node.options.log_level, .subsystem = "node"};
    choose_name(&node);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)umask(077);
    raise_limits();
    if (node.options.action == NODE_OPTIONS_RECOVER ||
        node.options.action == NODE_OPTIONS_RESTORE) {
        return work_offline(&node);
    }
    result = run(&node);
    if (node.again && result == 0) {
        (void)execv("/proc/self/exe", argv); /* the same program, process and options */
        SHL_LOG(&node.log, SHL_LOG_ERROR, "node.start_failed", SHL_S("error", strerror(errno)));
        result = 1;
    }
    return result;
}
