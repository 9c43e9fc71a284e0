/* Command line client of the agent's protocol, for trying a guest by hand and for the
 * VMM tests: connects to the Unix socket that stands for the guest's port.
 *
 * usage: agentctl [--wait SECONDS] [--timeout SECONDS] SOCKET COMMAND [ARG...]
 *   hello                             boot id of the guest
 *   ping
 *   setup HOSTNAME [IP/PREFIX GATEWAY DNS] [mac=M] [machine_id=I] [cpus=N] [memory_bytes=N]
 *                                     with fresh entropy and the time of this machine
 *   freeze [sync] [fs]                stops user processes; thaw
 *   grow DISK_BYTES                   setup that only grows the root file system
 *   exec [--user U] [--cwd D] [--env K=V]... [--limit-ms N] -- CMD [ARG...]
 *                                     prints the output, exits with the exit code
 *   read PATH                         to standard output
 *   write PATH                        from standard input
 *   list PATH   mkdir PATH   remove PATH   sessions   stats   shutdown
 *
 * Exit status: that of the command; 125 when the link or the request failed.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/id.h"
#include "base/io.h"
#include "tests/agent/client.h"

#define EXIT_LINK 125
#define ENTROPY   32
#define RETRY_MS  50
#define HELLO_MS  1000

struct ctl {
    struct client client;
    int timeout_ms;
};

static int connect_once(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || strlen(path) >= sizeof(addr.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(addr.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int rc = -errno;

        (void)close(fd);
        return rc;
    }
    return fd;
}

/* Until an agent answers: the socket may not be there yet, nor the guest up. */
static int connect_agent(struct ctl *ctl, const char *path, int wait_ms)
{
    uint64_t end_ms = shl_monotonic_ms() + (uint64_t)wait_ms;
    int rc;

    for (;;) {
        struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};
        int fd = connect_once(path);

        rc = fd;
        if (fd >= 0) {
            client_init(&ctl->client, fd);
            rc = client_hello(&ctl->client, wait_ms > 0 ? HELLO_MS : ctl->timeout_ms);
            if (rc == 0) {
                return 0;
            }
            client_release(&ctl->client);
        }
        if (shl_monotonic_ms() >= end_ms) {
            return rc;
        }
        (void)nanosleep(&pause, NULL);
    }
}

static int fail(struct client_call *call, int rc)
{
    char msg[SHL_ERR_TEXT_MAX];

    if (call->done) {
        fprintf(stderr, "agentctl: %s (%s)\n", client_msg(call, msg, sizeof(msg)),
                shl_err_name(rc));
    } else {
        fprintf(stderr, "agentctl: %s\n", shl_err_text(rc));
    }
    return EXIT_LINK;
}

static void print_object(const msgpack_object *object)
{
    msgpack_object_print(stdout, *object);
    putchar('\n');
}

/* Run and print the answer. */
static int finish(struct ctl *ctl, struct client_call *call)
{
    int rc = client_run(call, ctl->timeout_ms);
    int status = 0;

    if (rc < 0) {
        status = fail(call, rc);
    } else {
        print_object(call->response.root);
    }
    client_call_release(call);
    return status;
}

static int run_plain(struct ctl *ctl, const char *op, const char *path)
{
    struct client_call call;

    client_begin(&ctl->client, &call, op);
    if (path) {
        shl_mp_kv_str(&call.w, "path", path);
    }
    return finish(ctl, &call);
}

/* "key=value" at the end of a setup; false when it is none. */
static bool add_setup_option(struct client_call *call, const char *option)
{
    static const char *const texts[] = {"mac", "machine_id"};
    static const char *const numbers[] = {"cpus", "memory_bytes", "disk_bytes"};
    const char *equals = strchr(option, '=');
    char key[32];
    size_t i;

    if (!equals || (size_t)(equals - option) >= sizeof(key)) {
        return false;
    }
    memcpy(key, option, (size_t)(equals - option));
    key[equals - option] = '\0';
    for (i = 0; i < SHL_ARRAY_SIZE(texts); i++) {
        if (strcmp(key, texts[i]) == 0) {
            shl_mp_kv_str(&call->w, key, equals + 1);
            return true;
        }
    }
    for (i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        if (strcmp(key, numbers[i]) == 0) {
            shl_mp_kv_uint(&call->w, key, strtoull(equals + 1, NULL, 10));
            return true;
        }
    }
    return false;
}

static int run_setup(struct ctl *ctl, int argc, char **argv)
{
    struct client_call call;
    uint8_t entropy[ENTROPY];
    char *slash;
    int i = 1;

    shl_random_bytes(entropy, sizeof(entropy));
    client_begin(&ctl->client, &call, "setup");
    shl_mp_kv_str(&call.w, "hostname", argv[0]);
    shl_mp_kv_bin(&call.w, "entropy", entropy, sizeof(entropy));
    shl_mp_kv_uint(&call.w, "time_ms", (uint64_t)shl_realtime_ms());
    if (argc >= 4 && (slash = strchr(argv[1], '/')) != NULL) {
        *slash = '\0';
        shl_mp_kv_str(&call.w, "ip", argv[1]);
        shl_mp_kv_uint(&call.w, "prefix", strtoul(slash + 1, NULL, 10));
        shl_mp_kv_str(&call.w, "gateway", argv[2]);
        shl_mp_kv_array(&call.w, "dns");
        shl_mp_str(&call.w, argv[3]);
        shl_mp_end(&call.w);
        i = 4;
    }
    for (; i < argc; i++) {
        if (!add_setup_option(&call, argv[i])) {
            fprintf(stderr, "agentctl: setup does not know '%s'\n", argv[i]);
            client_call_release(&call);
            return EXIT_LINK;
        }
    }
    return finish(ctl, &call);
}

static int run_freeze(struct ctl *ctl, int argc, char **argv)
{
    struct client_call call;
    int i;

    client_begin(&ctl->client, &call, "freeze");
    for (i = 0; i < argc; i++) {
        shl_mp_kv_bool(&call.w, argv[i], true);
    }
    return finish(ctl, &call);
}

static int run_grow(struct ctl *ctl, const char *bytes)
{
    struct client_call call;

    client_begin(&ctl->client, &call, "setup");
    shl_mp_kv_uint(&call.w, "disk_bytes", strtoull(bytes, NULL, 10));
    return finish(ctl, &call);
}

/* Lists: one value after the other. */
static int run_list(struct ctl *ctl, const char *op, const char *path)
{
    struct client_call call;
    struct shl_bytes left;
    int rc, status = 0;

    client_begin(&ctl->client, &call, op);
    if (path) {
        shl_mp_kv_str(&call.w, "path", path);
    }
    rc = client_run(&call, ctl->timeout_ms);
    if (rc < 0) {
        status = fail(&call, rc);
    }
    left = shl_buf_bytes(&call.data[0]);
    while (status == 0 && left.len > 0) {
        struct shl_mp_doc doc;
        size_t used;

        if (shl_mp_parse_first(&doc, left, &used) < 0) {
            fprintf(stderr, "agentctl: the list is not valid\n");
            status = EXIT_LINK;
            break;
        }
        print_object(doc.root);
        shl_mp_release(&doc);
        left.base += used;
        left.len -= used;
    }
    client_call_release(&call);
    return status;
}

static void write_through(struct client_call *call, uint8_t channel, struct shl_bytes bytes)
{
    (void)call;
    (void)!shl_write_full(channel == AGENT_CHANNEL_ERR ? STDERR_FILENO : STDOUT_FILENO, bytes.base,
                          bytes.len);
}

static int run_read(struct ctl *ctl, const char *path)
{
    struct client_call call;
    int rc, status = 0;

    client_begin(&ctl->client, &call, "file.read");
    shl_mp_kv_str(&call.w, "path", path);
    call.on_data = write_through;
    rc = client_run(&call, ctl->timeout_ms);
    if (rc < 0) {
        status = fail(&call, rc);
    }
    client_call_release(&call);
    return status;
}

static int run_write(struct ctl *ctl, const char *path)
{
    static uint8_t chunk[AGENT_PAYLOAD_MAX];
    struct client_call call;
    ssize_t got = 0;
    int rc = 0, status = 0;

    client_begin(&ctl->client, &call, "file.write");
    shl_mp_kv_str(&call.w, "path", path);
    client_send(&call);
    while (!call.done && rc == 0 && (got = read(STDIN_FILENO, chunk, sizeof(chunk))) > 0) {
        size_t at = 0;

        while (!call.done && rc == 0 && at < (size_t)got) {
            at += client_send_data(&call, shl_bytes_of(chunk + at, (size_t)got - at));
            if (at < (size_t)got || shl_buf_len(&ctl->client.out) > 0) {
                rc = client_pump(&ctl->client, ctl->timeout_ms);
            }
        }
    }
    if (rc == 0 && !call.done) {
        client_send_frame(&ctl->client, AGENT_FRAME_EOF, call.stream, shl_bytes_of(NULL, 0));
        rc = client_wait(&call, ctl->timeout_ms);
    } else if (rc == 0) {
        rc = client_wait(&call, 0);
    }
    if (rc < 0) {
        status = fail(&call, rc);
    } else {
        print_object(call.response.root);
    }
    client_call_release(&call);
    return status;
}

/* Options of exec; returns the index of the command. */
static int write_exec_options(struct client_call *call, int argc, char **argv)
{
    int i;

    for (i = 0; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--user") == 0) {
            shl_mp_kv_str(&call->w, "user", argv[i + 1]);
        } else if (strcmp(argv[i], "--cwd") == 0) {
            shl_mp_kv_str(&call->w, "cwd", argv[i + 1]);
        } else if (strcmp(argv[i], "--limit-ms") == 0) {
            shl_mp_kv_uint(&call->w, "timeout_ms", strtoul(argv[i + 1], NULL, 10));
        } else if (strcmp(argv[i], "--env") == 0 && strchr(argv[i + 1], '=')) {
            char *equals = strchr(argv[i + 1], '=');

            *equals = '\0';
            shl_mp_kv_map(&call->w, "envs");
            shl_mp_kv_str(&call->w, argv[i + 1], equals + 1);
            shl_mp_end(&call->w);
        } else {
            return -1;
        }
    }
    return i + 1 < argc ? i + 1 : -1;
}

static int start_exec(struct ctl *ctl, const char *id, int argc, char **argv)
{
    struct client_call call;
    int at, rc, status = 0;

    client_begin(&ctl->client, &call, "exec.start");
    shl_mp_kv_str(&call.w, "session", id);
    at = write_exec_options(&call, argc, argv);
    if (at < 0) {
        fprintf(stderr, "agentctl: exec needs '-- COMMAND'; see the head of agentctl.c\n");
        return EXIT_LINK;
    }
    shl_mp_kv_str(&call.w, "cmd", argv[at]);
    shl_mp_kv_array(&call.w, "args");
    for (at++; at < argc; at++) {
        shl_mp_str(&call.w, argv[at]);
    }
    shl_mp_end(&call.w);
    rc = client_run(&call, ctl->timeout_ms);
    if (rc < 0) {
        status = fail(&call, rc);
    }
    client_call_release(&call);
    return status;
}

static int run_exec(struct ctl *ctl, int argc, char **argv)
{
    struct client_call call;
    char id[16];
    int rc, status;

    shl_id_make(id, sizeof(id), "", 8);
    status = start_exec(ctl, id, argc, argv);
    if (status != 0) {
        return status;
    }
    client_begin(&ctl->client, &call, "exec.result");
    shl_mp_kv_str(&call.w, "session", id);
    shl_mp_kv_uint(&call.w, "wait_ms", (uint64_t)ctl->timeout_ms);
    call.on_data = write_through;
    rc = client_run(&call, ctl->timeout_ms + 1000);
    if (rc < 0) {
        status = fail(&call, rc);
    } else {
        status = (int)client_int(&call.head, "exit_code") & 0xff;
        if (client_bool(&call.head, "running")) {
            fprintf(stderr, "agentctl: still running\n");
            status = EXIT_LINK;
        }
    }
    client_call_release(&call);
    return status;
}

static int run_command(struct ctl *ctl, int argc, char **argv)
{
    const char *name = argv[0];
    const char *arg = argc > 1 ? argv[1] : NULL;

    if (strcmp(name, "hello") == 0) {
        printf("%s\n", ctl->client.boot_id);
        return 0;
    }
    if (strcmp(name, "ping") == 0 || strcmp(name, "stats") == 0 || strcmp(name, "shutdown") == 0 ||
        strcmp(name, "thaw") == 0) {
        return run_plain(ctl, name, NULL);
    }
    if (strcmp(name, "freeze") == 0) {
        return run_freeze(ctl, argc - 1, argv + 1);
    }
    if (strcmp(name, "sessions") == 0) {
        return run_list(ctl, "exec.list", NULL);
    }
    if (strcmp(name, "exec") == 0) {
        return run_exec(ctl, argc - 1, argv + 1);
    }
    if (!arg) {
        fprintf(stderr, "agentctl: unknown command or argument missing\n");
        return EXIT_LINK;
    }
    if (strcmp(name, "setup") == 0) {
        return run_setup(ctl, argc - 1, argv + 1);
    }
    if (strcmp(name, "grow") == 0) {
        return run_grow(ctl, arg);
    }
    if (strcmp(name, "read") == 0) {
        return run_read(ctl, arg);
    }
    if (strcmp(name, "write") == 0) {
        return run_write(ctl, arg);
    }
    if (strcmp(name, "list") == 0) {
        return run_list(ctl, "file.list", arg);
    }
    if (strcmp(name, "mkdir") == 0) {
        return run_plain(ctl, "file.mkdir", arg);
    }
    if (strcmp(name, "remove") == 0) {
        return run_plain(ctl, "file.remove", arg);
    }
    fprintf(stderr, "agentctl: unknown command '%s'\n", name);
    return EXIT_LINK;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"wait", required_argument, NULL, 'w'},
                                          {"timeout", required_argument, NULL, 't'},
                                          {NULL, 0, NULL, 0}};
    struct ctl ctl = {.timeout_ms = 60000};
    int option, rc, wait_ms = 0;

    while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1) {
        if (option == 'w') {
            wait_ms = (int)strtol(optarg, NULL, 10) * 1000;
        } else if (option == 't') {
            ctl.timeout_ms = (int)strtol(optarg, NULL, 10) * 1000;
        } else {
            return EXIT_LINK;
        }
    }
    if (argc - optind < 2) {
        fprintf(stderr, "usage: agentctl [--wait S] [--timeout S] SOCKET COMMAND [ARG...]\n");
        return EXIT_LINK;
    }
    rc = connect_agent(&ctl, argv[optind], wait_ms);
    if (rc < 0) {
        fprintf(stderr, "agentctl: no agent answers on %s: %s\n", argv[optind], shl_err_text(rc));
        return EXIT_LINK;
    }
    rc = run_command(&ctl, argc - optind - 1, argv + optind + 1);
    client_release(&ctl.client);
    return rc;
}
