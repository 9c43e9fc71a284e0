/* shoal-agent: the first process of a guest, or, for tests, a server on a socket.
 *
 * As process 1 it takes no arguments. Otherwise:
 *   shoal-agent --serve FD --home DIR [--output-bytes N] [--retain-ms N] [--sessions N]
 *               [--cgroup DIR] [--path DIRS]
 * serves the protocol on the connected socket FD as the current user and ends with it; commands
 * run in the cgroup v2 DIR/sandbox and are looked for in DIRS.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/boot.h"
#include "agent/server.h"
#include "base/io.h"

#define EXIT_USAGE 2

/* Children get what is on 0 to 2 replaced, so these must not be anything else. */
static void open_standard_fds(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= 2);
    if (fd > 2) {
        (void)close(fd);
    }
}

static void block_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static struct agent_server *new_server(void)
{
    struct agent_server *server = calloc(1, sizeof(*server));

    if (server) {
        agent_limits_default(&server->limits);
        agent_freezer_init(&server->freezer);
    }
    return server;
}

/* ---- process 1 ------------------------------------------------------------------- */

static int serve_guest(struct shl_log *log, struct shl_err *err)
{
    struct agent_server *server = new_server();
    struct agent_phases phases = {0};
    struct agent_memory_base memory = {0};
    int port, rc;

    rc = server ? agent_boot(&phases, &memory, err) : shl_err_set(err, -ENOMEM, "out of memory");
    if (rc < 0) {
        return rc;
    }
    open_standard_fds();
    log->level = agent_boot_option("shoal.console=1") ? SHL_LOG_DEBUG : SHL_LOG_WARN;
    agent_guest_init_system(&server->guest);
    port = agent_boot_open_port(err);
    if (port < 0) {
        return port;
    }
    agent_phases_mark(&phases, "ready");
    server->guest.phases = phases;
    server->guest.memory = memory;
    rc = agent_freezer_open(&server->freezer, AGENT_CGROUP_ROOT, "/");
    if (rc < 0) { /* freeze will say so to whoever needs it */
        SHL_LOG(log, SHL_LOG_WARN, "agent.no_cgroup", SHL_I("code", rc));
    }
    rc = agent_server_init(server, log);
    if (rc == 0) {
        SHL_LOG(log, SHL_LOG_INFO, "agent.ready", SHL_I("uptime_ms", shl_boottime_ms()));
        rc = agent_server_run(server, port, true);
    }
    if (rc < 0) {
        return shl_err_sys(err, -rc, "the event loop failed");
    }
    agent_boot_power_off();
}

SHL_NORETURN static void run_as_init(void)
{
    struct shl_log log = {.fd = STDERR_FILENO, .level = SHL_LOG_WARN, .subsystem = "agent"};
    struct shl_err err = {0};

    block_signals();
    (void)umask(022);
    (void)serve_guest(&log, &err);
    agent_boot_panic(err.msg);
}

/* ---- tests ----------------------------------------------------------------------- */

struct options {
    long fd;
    const char *home;
    const char *cgroup;
    const char *path;
    struct agent_limits *limits;
};

static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"serve", required_argument, NULL, 's'},
        {"home", required_argument, NULL, 'h'},
        {"output-bytes", required_argument, NULL, 'o'},
        {"retain-ms", required_argument, NULL, 'r'},
        {"sessions", required_argument, NULL, 'n'},
        {"first-client-ms", required_argument, NULL, 'f'},
        {"cgroup", required_argument, NULL, 'c'},
        {"path", required_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 's':
            options->fd = strtol(optarg, NULL, 10);
            break;
        case 'h':
            options->home = optarg;
            break;
        case 'c':
            options->cgroup = optarg;
            break;
        case 'p':
            options->path = optarg;
            break;
        case 'o':
            options->limits->output_bytes = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            options->limits->retain_ms = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            options->limits->first_ms = strtoull(optarg, NULL, 10);
            break;
        case 'n':
            options->limits->sessions_max = (unsigned)strtoul(optarg, NULL, 10);
            break;
        default:
            return -EINVAL;
        }
    }
    return options->fd > 2 && options->home && optind == argc ? 0 : -EINVAL;
}

static int serve_socket(int argc, char **argv)
{
    struct shl_log log = {.fd = STDERR_FILENO, .level = SHL_LOG_ERROR, .subsystem = "agent"};
    struct agent_server *server = new_server();
    struct options options = {.fd = -1};
    int rc;

    if (!server) {
        return EXIT_FAILURE;
    }
    options.limits = &server->limits;
    if (parse_options(argc, argv, &options) < 0) {
        fprintf(stderr, "usage: shoal-agent --serve FD --home DIR [--output-bytes N] "
                        "[--retain-ms N] [--sessions N] [--cgroup DIR] [--path DIRS]\n"
                        "Without arguments it is the first process of a guest.\n");
        free(server);
        return EXIT_USAGE;
    }
    block_signals();
    (void)umask(022);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)fcntl((int)options.fd, F_SETFL, O_NONBLOCK);
    (void)fcntl((int)options.fd, F_SETFD, FD_CLOEXEC);
    agent_guest_init_here(&server->guest, options.home);
    rc = options.path ? agent_environ_set_str(&server->guest.env, "PATH", options.path) : 0;
    if (rc == 0 && options.cgroup) {
        rc = agent_freezer_open(&server->freezer, options.cgroup, NULL);
    }
    if (rc == 0) {
        rc = agent_server_init(server, &log);
    }
    if (rc == 0) {
        rc = agent_server_run(server, (int)options.fd, false);
        agent_server_release(server);
    }
    agent_guest_release(&server->guest);
    free(server);
    if (rc < 0) {
        fprintf(stderr, "shoal-agent: %s\n", shl_err_text(rc));
    }
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (getpid() == 1 && argc == 1) {
        run_as_init();
    }
    return serve_socket(argc, argv);
}
