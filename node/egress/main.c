/* shoal-egress: the gateway as a process of its own, because it reads what guests send and
 * holds what they must not have. control.h says how it is started and told what to do.
 *
 * Everything is opened first: sockets, trusted certificates, the loop. Then the jail closes,
 * and only then the first byte of anybody else is read.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>
#include <uv.h>

#include "node/egress/control.h"
#include "node/egress/gateway.h"
#include "node/egress/jail.h"
#include "node/net/rules.h"

#define DEFAULT_USER 65534 /* nobody */
#define BACKLOG      1024

struct program {
    const char *dir;
    uid_t uid;
    gid_t gid;
    bool jail;
    struct egress_gateway_config gateway_config;
    struct node_net_ports ports; /* as the kernel chose */
    int control_fd;
    uv_loop_t loop;
    uv_signal_t term;
    struct egress_gateway *gateway;
    struct egress_control *control;
    struct shl_log log;
    bool closing;
};

static const char usage[] =
    "usage: shoal-egress --dir DIR [--uid N] [--gid N] [--dns ADDR[:PORT]] [--trust FILE]\n"
    "                    [--allow-private CIDR]... [--no-jail]\n"
    "The gateway of one node's sandboxes; shoald starts it. See docs/architecture.md.\n";

/* ---- options --------------------------------------------------------------------- */

static int parse_number(const char *text, unsigned long max, unsigned long *ret)
{
    char *end;

    errno = 0;
    *ret = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && errno == 0 && *ret <= max ? 0 : -EINVAL;
}

static int parse_dns(struct program *program, const char *text)
{
    struct egress_address address;
    char host[EGRESS_ADDRESS_TEXT_SIZE];
    const char *colon = strchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : strlen(text);
    unsigned long port = 53;

    if (len >= sizeof(host)) {
        return -EINVAL;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    if (egress_address_parse(&address, host) < 0 || address.family != AF_INET ||
        (colon && (parse_number(colon + 1, UINT16_MAX, &port) < 0 || port == 0))) {
        return -EINVAL;
    }
    program->gateway_config.dns = ntohl(address.v4.s_addr);
    program->gateway_config.dns_port = (uint16_t)port;
    return 0;
}

static int add_prefix(struct program *program, const char *text)
{
    struct egress_gateway_config *config = &program->gateway_config;

    if (config->allowed_count == EGRESS_PREFIXES_MAX) {
        return SHL_ELIMIT;
    }
    return egress_prefix_parse(&config->allowed[config->allowed_count++], text);
}

static int parse_option(struct program *program, int option, const char *value)
{
    unsigned long number;

    switch (option) {
    case 'd':
        program->dir = value;
        return 0;
    case 'u':
    case 'g':
        if (parse_number(value, UINT32_MAX - 1, &number) < 0 || number == 0) {
            return -EINVAL;
        }
        if (option == 'u') {
            program->uid = (uid_t)number;
        } else {
            program->gid = (gid_t)number;
        }
        return 0;
    case 'n':
        return parse_dns(program, value);
    case 't':
        program->gateway_config.trust_file = value;
        return 0;
    case 'a':
        return add_prefix(program, value);
    case 'j':
        program->jail = false;
        return 0;
    default:
        return -EINVAL;
    }
}

static int parse(struct program *program, int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},
        {"uid", required_argument, NULL, 'u'},
        {"gid", required_argument, NULL, 'g'},
        {"dns", required_argument, NULL, 'n'},
        {"trust", required_argument, NULL, 't'},
        {"allow-private", required_argument, NULL, 'a'},
        {"no-jail", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(usage, stdout);
            exit(0);
        }
        if (parse_option(program, option, optarg) < 0) {
            if (option != '?') {
                (void)fprintf(stderr, "shoal-egress: '%s' is not valid here\n", optarg);
            }
            return -EINVAL;
        }
    }
    return program->dir && optind == argc ? 0 : -EINVAL;
}

/* ---- opening --------------------------------------------------------------------- */

static int bind_any(int type, uint16_t *ret_port, struct shl_err *err)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

    if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 ||
        getsockname(fd, (struct sockaddr *)&in, &len) < 0 ||
        (type == SOCK_STREAM ? listen(fd, BACKLOG)
                             : setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on))) < 0) {
        return shl_err_sys(err, errno, "cannot open a port for guests");
    }
    *ret_port = ntohs(in.sin_port);
    return fd;
}

static int bind_control(struct program *program, struct shl_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", program->dir,
                 EGRESS_CONTROL_SOCKET) >= (int)sizeof(address.sun_path)) {
        return shl_err_set(err, -ENAMETOOLONG, "--dir is too long");
    }
    (void)unlink(address.sun_path);
    (void)umask(077);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0) {
        return shl_err_sys(err, errno, "cannot listen at %s", address.sun_path);
    }
    program->control_fd = fd;
    return 0;
}

static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void on_closed(void *arg)
{
    struct program *program = arg;

    program->gateway = NULL;
}

static void shut_down(void *arg)
{
    struct program *program = arg;

    if (!program->closing) {
        program->closing = true;
        egress_control_close(program->control);
        egress_gateway_close(program->gateway, on_closed, program);
        uv_close((uv_handle_t *)&program->term, NULL);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    shut_down(handle->data);
}

static int start(struct program *program, struct shl_err *err)
{
    struct egress_gateway_config *config = &program->gateway_config;
    int rc = bind_control(program, err);

    if (rc == 0) {
        rc = config->listen_fd = bind_any(SOCK_STREAM, &program->ports.tcp, err);
    }
    if (rc >= 0) {
        rc = config->metadata_fd = bind_any(SOCK_STREAM, &program->ports.metadata, err);
    }
    if (rc >= 0) {
        rc = config->dns_fd = bind_any(SOCK_DGRAM, &program->ports.dns, err);
    }
    if (rc >= 0) {
        rc = uv_loop_init(&program->loop);
        rc = rc < 0 ? shl_err_sys(err, -rc, "cannot make an event loop") : 0;
    }
    if (rc == 0) {
        rc = egress_gateway_open(&program->loop, config, &program->gateway, err);
    }
    if (rc == 0) {
        rc = egress_control_open(&program->loop, program->control_fd, program->gateway,
                                 &program->ports, &program->log, shut_down, program,
                                 &program->control);
        rc = rc < 0 ? shl_err_sys(err, -rc, "cannot listen to the daemon") : 0;
    }
    if (rc == 0) {
        (void)uv_signal_init(&program->loop, &program->term);
        program->term.data = program;
        (void)uv_signal_start(&program->term, on_signal, SIGTERM);
        rc = program->jail ? egress_jail_enter(program->dir, program->uid, program->gid, err) : 0;
    }
    return rc;
}

int main(int argc, char **argv)
{
    static struct program program = {
        .uid = DEFAULT_USER,
        .gid = DEFAULT_USER,
        .jail = true,
        .gateway_config = {.trust_file = EGRESS_TRUST_DEFAULT, .dns_port = 53},
        .log = {.fd = STDERR_FILENO, .level = SHL_LOG_INFO, .subsystem = "egress"},
    };
    struct shl_err err = {0};

    if (parse(&program, argc, argv) < 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (sodium_init() < 0) {
        (void)fputs("shoal-egress: libsodium cannot be used\n", stderr);
        return 1;
    }
    tzset(); /* reads files, which the log would want later */
    raise_limits();
    program.gateway_config.log = &program.log;
    if (start(&program, &err) < 0) {
        (void)fprintf(stderr, "shoal-egress: %s\n", err.msg);
        return 1;
    }
    SHL_LOG(&program.log, SHL_LOG_INFO, "egress.ready", SHL_I("port", program.ports.tcp),
            SHL_I("dns_port", program.ports.dns), SHL_I("metadata_port", program.ports.metadata),
            SHL_I("pid", getpid()), SHL_B("jail", program.jail));
    (void)uv_run(&program.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&program.loop);
    return 0;
}
