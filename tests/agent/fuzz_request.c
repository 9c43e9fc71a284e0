/* Frames and requests of any kind, in any order, through the whole agent but for the
 * world: starting a program, killing, the disk and dialling are fakes here.
 *
 * Input: records of type (1 byte), stream (1), length (2, little-endian), payload.
 * Types up to 9 are frames; others let time pass: 10 completes pool work, 11 ends the
 * newest program with the payload's first bytes as its status, 12 takes what was sent, 13 is an
 * event of the newest connection (payload: which) and 14 what its server sends (nothing: its end).
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/server.h"

#define FIRST_PID    0x40000000 /* no process has it */
#define RECORD_BYTES 4
#define SESSIONS_MAX 8

enum {
    RECORD_POLL = 10,
    RECORD_EXIT = 11,
    RECORD_TAKE = 12,
    RECORD_EVENT = 13,
    RECORD_SERVER = 14,
    RECORD_KINDS = 15,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static pid_t next_pid = FIRST_PID;

/* A command that begins with '!' cannot be started. */
static int fake_spawn(struct agent_spawn *spawn)
{
    const char *cmd = spawn->argv[1] && spawn->argv[2] && !strcmp(spawn->argv[0], "/bin/sh")
                          ? spawn->argv[2]
                          : spawn->argv[0];

    assert(spawn->cwd && spawn->envp && spawn->user);
    if (cmd[0] == '!') {
        spawn->failed_step = cmd[1] == 'c' ? AGENT_SPAWN_CWD : AGENT_SPAWN_FORK;
        return -ENOENT;
    }
    return next_pid++;
}

static int fake_kill(pid_t pid, int signal)
{
    assert(pid <= -FIRST_PID);
    assert(signal > 0 && signal < NSIG);
    errno = ESRCH;
    return -1;
}

static int server_fd = -1; /* the other end of the newest connection */

/* Even ports have a server; the first two places of ports that a multiple of four follows do not
 * answer at once. */
static int fake_dial(struct agent_server *server, unsigned place, uint16_t port)
{
    int fds[2];
    int rc;

    (void)server;
    assert(place < AGENT_TCP_PLACES && port > 0);
    if (port % 2 != 0) {
        return place == 0 ? -ECONNREFUSED : port % 4 == 3 ? -EMFILE : -EADDRNOTAVAIL;
    }
    rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
    assert(rc == 0);
    if (server_fd >= 0) {
        (void)close(server_fd);
    }
    server_fd = fds[1];
    return fds[0];
}

/* What epoll would tell: any of its bits, in any order. */
static void take_event(struct agent_server *server, struct shl_bytes payload)
{
    struct agent_tcp *tcp;

    if (server->tcps.count == 0 || payload.len == 0) {
        return;
    }
    tcp = shl_container_of(server->tcps.all.prev, struct agent_tcp, node);
    if (tcp->fd >= 0) {
        tcp->watch.fn(tcp->watch.arg, payload.base[0]);
    }
}

static void serve(struct shl_bytes payload)
{
    uint8_t waste[4096];

    if (server_fd < 0) {
        return;
    }
    (void)!read(server_fd, waste, sizeof(waste));
    if (payload.len > 0) {
        (void)!send(server_fd, payload.base, payload.len, MSG_NOSIGNAL);
    } else {
        (void)close(server_fd);
        server_fd = -1;
    }
}

static void no_disk(struct agent_work *work)
{
    (void)work;
}

static struct agent_server *new_server(void)
{
    struct agent_server *server = calloc(1, sizeof(*server));
    sigset_t set;
    int rc;

    assert(server);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    agent_limits_default(&server->limits);
    server->limits.sessions_max = SESSIONS_MAX;
    server->limits.output_bytes = 100000;
    agent_freezer_init(&server->freezer);
    agent_guest_init_here(&server->guest, "/nonexistent");
    rc = agent_server_init(server, NULL);
    assert(rc == 0);
    server->spawner.thread_max = 0;
    server->system.thread_max = 0; /* its work is done at once: there is no guest to change */
    server->disk.run_here = no_disk;
    server->sessions.spawn = fake_spawn;
    server->sessions.kill = fake_kill;
    server->tcps.dial = fake_dial;
    server->link.connected = true;
    return server;
}

static void take_record(struct agent_server *server,
                        uint8_t type,
                        uint8_t stream,
                        struct shl_bytes payload)
{
    struct agent_frame frame = {.payload = payload};

    if (type == RECORD_POLL) {
        agent_pool_poll(&server->spawner);
        agent_pool_poll(&server->disk);
        agent_pool_poll(&server->system);
    } else if (type == RECORD_EXIT) {
        agent_sessions_exited(&server->sessions, next_pid - 1,
                              payload.len >= 2 ? shl_get_le16(payload.base) : 0);
    } else if (type == RECORD_EVENT) {
        take_event(server, payload);
    } else if (type == RECORD_SERVER) {
        serve(payload);
    } else if (type == RECORD_TAKE) {
        shl_buf_clear(&server->mux.out);
    } else if (type >= AGENT_FRAME_HELLO && type <= AGENT_FRAME_RESPONSE) {
        frame.type = type;
        frame.stream = type <= AGENT_FRAME_HELLO_ACK ? 0 : stream;
        agent_link_frame(&server->link, &frame);
    }
    agent_link_flush(&server->link);
    assert(server->mux.stream_count <= AGENT_STREAMS_MAX);
    assert(server->sessions.count <= SESSIONS_MAX);
    assert(server->tcps.count <= AGENT_TCP_MAX);
    assert(server->sessions.budget.used_bytes <= server->sessions.budget.max_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agent_server *server = new_server();

    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    while (size >= RECORD_BYTES) {
        uint8_t type = data[0] % RECORD_KINDS;
        uint8_t stream = data[1];
        size_t len = SHL_MIN((size_t)shl_get_le16(data + 2), size - RECORD_BYTES);

        take_record(server, type, stream ? stream : 1, shl_bytes_of(data + RECORD_BYTES, len));
        data += RECORD_BYTES + len;
        size -= RECORD_BYTES + len;
    }
    agent_server_release(server);
    assert(server->tcps.count == 0);
    serve(shl_bytes_of(NULL, 0));
    agent_guest_release(&server->guest);
    free(server);
    return 0;
}
