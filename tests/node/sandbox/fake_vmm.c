/* Stands in for shoal-vmm: speaks vmm-kvm/control.h and plays the guest agent, without
 * KVM. What it does beyond that is written in its "disk" (descriptor base), as words:
 *
 *   start_fails    op start is refused      panic          panics once started
 *   silent         the agent never answers  gate           ... until the file "open" exists
 *   setup_fails    op setup is refused        beside the disk
 *   ignore_stop    op stop does nothing     bad_reply      start is answered with nonsense
 *   no_reply       ops are not answered     real_agent     the program "shoal-agent" beside the
 *                                             disk serves the link, as a process of the host
 *
 * Files beside the disk change it at any time: no_space and snapshot_dies (op snapshot),
 * freeze_fails, freeze_silent, restore_corrupt, restore_fails, restore_dies, setup_refused,
 * no_shutdown, exec_fails (exit code 1), no_deadline (it is of an older version), drop_control
 * (op deadline breaks the connection once).
 *
 * Command "beat PORT": its memory grows by one ten times a second while it runs, and each number
 * goes to that UDP port of BEAT_ADDRESS; a copy of it goes on so.
 *
 * Its memory is one number (agent ops set and get), its disk the overlay stack of the real
 * one (write and read: one byte in a cluster). Snapshots are valid layers of both and a state of
 * its own; restore checks and loads them. A paused one does not hear its agent. At its deadline
 * it pauses itself, by the rule of the real one.
 * Commands: "set N", "raise N" (never lower) and "get" are of its memory, "fill MIB SEED" writes so
 * much to its disk, everything else does nothing. Further agent ops: panic, poweroff, drop (the
 * link), mute (and stay silent), garbage. The requests start, restore and setup are kept in DIR for
 * the test to read.
 */
#include "tests/node/sandbox/fake_vmm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mp.h"
#include "vmm-kvm/control.h"

#define POLL_MS 10

void die(const char *what)
{
    (void)fprintf(stderr, "fake-vmm: %s: %s\n", what, strerror(errno));
    exit(3);
}

void check(int rc, const char *what)
{
    if (rc < 0) {
        die(what);
    }
}

bool has_word(const struct fake *fake, const char *word)
{
    return strstr(fake->words, word);
}

bool has_file(const struct fake *fake, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", fake->folder, name);
    return access(path, F_OK) == 0;
}

void save(const struct fake *fake, const char *name, struct shl_bytes bytes)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", fake->dir, name);
    check(shl_write_file_atomic(path, bytes.base, bytes.len, 0600), name);
}

void end(const struct fake *fake, const char *reason, const char *detail)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "state", VMM_STATE_ENDED);
    shl_mp_kv_str(&w, "reason", reason);
    shl_mp_kv_str(&w, "detail", detail);
    shl_mp_end(&w);
    check(shl_mp_done(&w), "exit file");
    save(fake, VMM_EXIT_FILE, shl_buf_bytes(&buf));
    _exit(0);
}

static int listen_at(const struct fake *fake, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", fake->dir, name);
    check(fd, "socket");
    check(bind(fd, (struct sockaddr *)&address, sizeof(address)), "bind");
    check(listen(fd, 8), "listen");
    return fd;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static void accept_control(struct fake *fake)
{
    int fd = accept4(fake->control_listener, NULL, NULL, SOCK_CLOEXEC);
    int i;

    for (i = 0; i < CLIENTS_MAX; i++) {
        if (fake->control[i] < 0) {
            fake->control[i] = fd;
            return;
        }
    }
    (void)close(fd);
}

static void accept_agent(struct fake *fake)
{
    if (fake->agent >= 0) {
        agent_drop(fake);
    }
    fake->agent = accept4(fake->agent_listener, NULL, NULL, SOCK_CLOEXEC);
    agent_parser_reset(&fake->parser);
    shl_buf_clear(&fake->hello);
}

static void beat(struct fake *fake)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)fake->beat_port)};
    uint64_t now_ms = shl_monotonic_ms();
    char text[64];
    int fd;

    if (fake->beat_port == 0 || !fake->started || fake->paused || fake->frozen ||
        now_ms - fake->beaten_at_ms < BEAT_MS) {
        return;
    }
    fake->beaten_at_ms = now_ms;
    fake->memory++;
    (void)snprintf(text, sizeof(text), "%llu fake %llu", (unsigned long long)fake->memory,
                   (unsigned long long)now_ms);
    (void)inet_pton(AF_INET, BEAT_ADDRESS, &to.sin_addr);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)!sendto(fd, text, strlen(text), 0, (struct sockaddr *)&to, sizeof(to));
    (void)close(fd);
}

static void turn(struct fake *fake)
{
    struct pollfd polled[3 + CLIENTS_MAX] = {
        {.fd = fake->control_listener, .events = POLLIN},
        {.fd = fake->agent_listener, .events = POLLIN},
        {.fd = -1, .events = POLLIN},
    };
    int i;

    keep_deadline(fake);
    beat(fake);
    if (fake->agent >= 0 && has_word(fake, "real_agent") && agent_awake(fake)) {
        hand_to_agent(fake);
    }
    /* its bytes are for another one, as soon as that is known */
    polled[2].fd = fake->paused || !fake->started ? -1 : fake->agent;
    for (i = 0; i < CLIENTS_MAX; i++) {
        polled[3 + i] = (struct pollfd){.fd = fake->control[i], .events = POLLIN};
    }
    (void)poll(polled, 3 + CLIENTS_MAX, POLL_MS);
    keep_deadline(fake);
    for (i = 0; i < CLIENTS_MAX; i++) {
        if (polled[3 + i].revents) {
            control_readable(fake, &fake->control[i]);
        }
    }
    if (polled[2].revents && !fake->paused) {
        agent_readable(fake);
    }
    if (polled[0].revents) {
        accept_control(fake);
    }
    if (polled[1].revents) {
        accept_agent(fake);
    }
    if (fake->agent >= 0 && shl_buf_len(&fake->hello) > 0 && agent_awake(fake)) {
        agent_ack(fake);
    }
}

int main(int argc, char **argv)
{
    struct fake fake = {.agent = -1, .control = {-1, -1, -1, -1}};

    if (argc < 3 || strcmp(argv[1], "--dir") != 0) {
        (void)fprintf(stderr, "usage: fake-vmm --dir DIR\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_IGN);
    fake.dir = argv[2];
    agent_parser_init(&fake.parser, AGENT_FRAME_HELLO);
    shl_buf_init(&fake.hello, AGENT_HELLO_MAX);
    fake.agent_listener = listen_at(&fake, VMM_AGENT_SOCKET);
    fake.control_listener = listen_at(&fake, VMM_CONTROL_SOCKET);
    for (;;) {
        turn(&fake);
    }
}
