#include "agent/server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/io.h"

#define DISK_THREADS     4
#define SPAWNER_THREADS  2
#define SYSTEM_THREADS   1
#define OUTPUT_MIN_BYTES (8u * 1024 * 1024)

typedef void (*op_handler)(struct agent_server *, struct agent_stream *, const msgpack_object *);

static void op_ping(struct agent_server *server,
                    struct agent_stream *stream,
                    const msgpack_object *request)
{
    struct agent_reply reply;

    (void)server;
    (void)request;
    agent_reply_response(&reply, stream);
    shl_mp_kv_uint(&reply.w, "uptime_ms", shl_boottime_ms());
    agent_reply_end(&reply);
}

static void op_shutdown(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request)
{
    (void)request;
    agent_stream_finish(stream, 0, NULL);
    server->want_shutdown = true;
}

static const struct {
    const char *name;
    op_handler handler;
} operations[] = {
    {"setup", agent_op_setup},
    {"freeze", agent_op_freeze},
    {"thaw", agent_op_thaw},
    {"ping", op_ping},
    {"exec.start", agent_op_exec_start},
    {"exec.result", agent_op_exec_result},
    {"exec.list", agent_op_exec_list},
    {"exec.kill", agent_op_exec_kill},
    {"exec.end", agent_op_exec_end},
    {"exec.resize", agent_op_exec_resize},
    {"exec.attach", agent_op_exec_attach},
    {"exec.input", agent_op_exec_input},
    {"file.read", agent_op_file_read},
    {"file.write", agent_op_file_write},
    {"file.list", agent_op_file_list},
    {"file.mkdir", agent_op_file_mkdir},
    {"file.remove", agent_op_file_remove},
    {"tcp.connect", agent_op_tcp_connect},
    {"stats", agent_op_stats},
    {"shutdown", op_shutdown},
};

static void on_request(void *arg, struct agent_stream *stream, const msgpack_object *request)
{
    struct agent_server *server = arg;
    struct shl_bytes op;
    size_t i;

    if (shl_mp_get_str(request, "op", &op) < 0) {
        agent_stream_finish(stream, SHL_EPROTO, "the request has no op");
        return;
    }
    for (i = 0; i < SHL_ARRAY_SIZE(operations); i++) {
        if (strlen(operations[i].name) == op.len &&
            memcmp(operations[i].name, op.base, op.len) == 0) {
            operations[i].handler(server, stream, request);
            return;
        }
    }
    agent_stream_finish(stream, SHL_EVERSION, "this agent does not know the operation");
}

/* End of each turn of the loop: whatever was queued goes out. */
static void on_turn(void *arg)
{
    struct agent_server *server = arg;

    agent_link_flush(&server->link);
    if (server->want_shutdown && shl_buf_len(&server->mux.out) == 0) {
        agent_loop_stop(&server->loop);
    }
}

static void on_link_end(void *arg)
{
    struct agent_server *server = arg;

    agent_loop_stop(&server->loop);
}

static void on_child(void *arg, uint32_t events)
{
    struct agent_server *server = arg;
    struct signalfd_siginfo info[16];

    (void)events;
    (void)!read(server->child_fd, info, sizeof(info)); /* several exits may share one */
    agent_sessions_reap(&server->sessions);
}

size_t agent_output_limit(void)
{
    size_t eighth = (size_t)(agent_memory_total() / 8);

    return SHL_MAX(eighth, (size_t)OUTPUT_MIN_BYTES);
}

void agent_limits_default(struct agent_limits *limits)
{
    *limits = (struct agent_limits){
        .grace_ms = 2000,
        .drain_ms = 250,
        .retain_ms = 15 * 60 * 1000,
        .first_ms = AGENT_FIRST_CLIENT_MS,
        .output_bytes = agent_output_limit(),
        .sessions_max = AGENT_SESSIONS_MAX,
    };
}

static int watch_children(struct agent_server *server)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    server->child_watch = (struct agent_watch){-1, on_child, server};
    server->child_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (server->child_fd < 0) {
        return -errno;
    }
    return agent_watch_add(&server->loop, &server->child_watch, server->child_fd, EPOLLIN);
}

int agent_server_init(struct agent_server *server, const struct shl_log *log)
{
    int rc;

    server->log = log;
    server->want_shutdown = false;
    server->child_fd = -1;
    rc = agent_loop_init(&server->loop);
    if (rc < 0) {
        return rc;
    }
    server->loop.on_turn = on_turn;
    server->loop.arg = server;
    agent_mux_init(&server->mux, on_request, server);
    agent_link_init(&server->link, &server->loop, &server->mux, log);
    server->link.on_end = on_link_end;
    server->link.arg = server;
    shl_list_init(&server->writes);
    agent_tcps_init(&server->tcps);
    rc = agent_pool_init(&server->disk, &server->loop, DISK_THREADS);
    if (rc < 0) {
        goto err_loop;
    }
    rc = agent_pool_init(&server->spawner, &server->loop, SPAWNER_THREADS);
    if (rc < 0) {
        goto err_disk;
    }
    rc = agent_pool_init(&server->system, &server->loop, SYSTEM_THREADS);
    if (rc < 0) {
        goto err_spawner;
    }
    server->spawner.urgent = server->guest.is_init;
    server->spawner.urgent_children = server->guest.is_init; /* up to the program (spawn.h) */
    server->system.urgent = server->guest.is_init;
    agent_sessions_init(&server->sessions, &server->loop, &server->spawner, &server->limits);
    server->sessions.reset_standing = server->guest.is_init;
    server->sessions.group_fd = server->freezer.group_fd;
    rc = watch_children(server);
    if (rc == 0) {
        return 0;
    }
    agent_pool_release(&server->system);
err_spawner:
    agent_pool_release(&server->spawner);
err_disk:
    agent_pool_release(&server->disk);
err_loop:
    agent_loop_release(&server->loop);
    return rc;
}

void agent_server_release(struct agent_server *server)
{
    agent_mux_release(&server->mux);
    agent_link_close(&server->link);
    agent_pool_release(&server->system);
    agent_freezer_release(&server->freezer); /* a start may wait in a frozen child */
    agent_pool_release(&server->spawner);
    agent_pool_release(&server->disk);
    agent_sessions_release(&server->sessions);
    agent_watch_remove(&server->loop, &server->child_watch);
    (void)close(server->child_fd);
    agent_loop_release(&server->loop);
}

int agent_server_run(struct agent_server *server, int fd, bool is_port)
{
    int rc = agent_link_open(&server->link, fd, is_port);

    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return agent_loop_run(&server->loop);
}
