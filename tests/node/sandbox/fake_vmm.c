/* Stands in for shoal-vmm: speaks vmm-kvm/control.h and plays the guest agent, without
 * KVM. What it does beyond that is written in its "disk" (descriptor base), as words:
 *
 *   start_fails    op start is refused      panic          panics once started
 *   silent         the agent never answers  gate           ... until the file "open" exists
 *   setup_fails    op setup is refused        beside the disk
 *   ignore_stop    op stop does nothing     bad_reply      start is answered with nonsense
 *   no_reply       ops are not answered
 *
 * Agent ops besides setup and ping: panic, poweroff, drop (the link), mute (and stay
 * silent), garbage. The requests start and setup are kept in DIR for the test to read.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/frame.h"
#include "base/err.h"
#include "base/io.h"
#include "base/mp.h"
#include "vmm-kvm/control.h"

#define POLL_MS     10
#define CLIENTS_MAX 4

struct fake {
    const char *dir;
    char words[512]; /* content of the disk */
    char gate[512];
    bool started, mute;
    int control_listener, agent_listener;
    int control[CLIENTS_MAX];
    int agent;
    int fds[VMM_CONTROL_FDS_MAX];
    size_t fd_count;
    struct agent_parser parser;
    struct shl_buf hello; /* payload of the HELLO that waits for an answer */
};

static void die(const char *what)
{
    (void)fprintf(stderr, "fake-vmm: %s: %s\n", what, strerror(errno));
    exit(3);
}

static void check(int rc, const char *what)
{
    if (rc < 0) {
        die(what);
    }
}

static bool has_word(const struct fake *fake, const char *word)
{
    return strstr(fake->words, word);
}

static void save(const struct fake *fake, const char *name, struct shl_bytes bytes)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", fake->dir, name);
    check(shl_write_file_atomic(path, bytes.base, bytes.len, 0600), name);
}

static void end(const struct fake *fake, const char *reason, const char *detail)
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

/* ---- the agent ------------------------------------------------------------------- */

static void agent_send(struct fake *fake,
                       enum agent_frame_type type,
                       uint32_t stream,
                       const struct shl_buf *payload)
{
    struct shl_buf out;

    shl_buf_init(&out, AGENT_FRAME_MAX);
    check(agent_frame_write(&out, type, 0, stream, shl_buf_bytes(payload)), "frame");
    (void)!write(fake->agent, shl_buf_data(&out), shl_buf_len(&out));
    shl_buf_release(&out);
}

static void agent_ack(struct fake *fake)
{
    struct shl_bytes token;
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    check(shl_mp_parse(&doc, shl_buf_bytes(&fake->hello)), "HELLO");
    check(shl_mp_get_bin(doc.root, "token", &token), "token");
    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", AGENT_PROTOCOL_VERSION);
    shl_mp_kv_bin(&w, "token", token.base, token.len);
    shl_mp_kv_str(&w, "boot_id", "fake");
    shl_mp_kv_str(&w, "agent", "fake");
    shl_mp_end(&w);
    check(shl_mp_done(&w), "HELLO_ACK");
    agent_send(fake, AGENT_FRAME_HELLO_ACK, 0, &buf);
    shl_buf_release(&buf);
    shl_mp_release(&doc);
    shl_buf_clear(&fake->hello);
}

static void agent_respond(struct fake *fake, uint32_t stream, int code, const char *msg)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", code);
    shl_mp_kv_str(&w, "msg", msg);
    shl_mp_end(&w);
    check(shl_mp_done(&w), "RESPONSE");
    agent_send(fake, AGENT_FRAME_RESPONSE, stream, &buf);
    shl_buf_release(&buf);
}

static void agent_drop(struct fake *fake)
{
    (void)close(fake->agent);
    fake->agent = -1;
}

static void agent_request(struct fake *fake, const struct agent_frame *frame)
{
    struct shl_mp_doc doc;
    char op[32] = "";

    check(shl_mp_parse(&doc, frame->payload), "REQUEST");
    check(shl_mp_get_cpy(doc.root, "op", op, sizeof(op)), "op");
    shl_mp_release(&doc);
    if (strcmp(op, "setup") == 0) {
        bool fails = has_word(fake, "setup_fails");

        save(fake, "setup.msgpack", frame->payload);
        agent_respond(fake, frame->stream, fails ? SHL_EGUEST : 0, fails ? "no such disk" : "");
    } else if (strcmp(op, "panic") == 0) {
        end(fake, VMM_REASON_PANIC, "Kernel panic - not syncing: \x1b[1mtest");
    } else if (strcmp(op, "poweroff") == 0) {
        end(fake, VMM_REASON_SHUTDOWN, "");
    } else if (strcmp(op, "drop") == 0) {
        agent_drop(fake);
    } else if (strcmp(op, "mute") == 0) {
        fake->mute = true;
        agent_drop(fake);
    } else if (strcmp(op, "garbage") == 0) {
        (void)!write(fake->agent, "this is not a frame at all", 26);
    } else {
        agent_respond(fake, frame->stream, 0, "");
    }
}

static void agent_readable(struct fake *fake)
{
    struct agent_frame frame;
    uint8_t *space;
    size_t len;
    ssize_t got;

    check(agent_parser_space(&fake->parser, &space, &len), "space");
    got = read(fake->agent, space, len);
    if (got <= 0) {
        agent_drop(fake);
        return;
    }
    agent_parser_filled(&fake->parser, (size_t)got);
    while (fake->agent >= 0 && agent_parser_next(&fake->parser, &frame)) {
        if (frame.type == AGENT_FRAME_HELLO) {
            shl_buf_clear(&fake->hello);
            check(shl_buf_append(&fake->hello, frame.payload.base, frame.payload.len), "HELLO");
        } else if (frame.type == AGENT_FRAME_REQUEST) {
            agent_request(fake, &frame);
        }
    }
}

/* The guest is up and answers? */
static bool agent_awake(const struct fake *fake)
{
    return fake->started && !fake->mute && !has_word(fake, "silent") &&
           (!has_word(fake, "gate") || access(fake->gate, F_OK) == 0);
}

/* ---- control --------------------------------------------------------------------- */

static void control_reply(int fd, uint64_t id, int code, const char *msg)
{
    struct shl_mp_writer w;
    struct shl_buf buf;
    uint8_t *header;

    shl_buf_init(&buf, 4096);
    check(shl_buf_reserve(&buf, 4, &header), "reply");
    shl_buf_commit(&buf, 4);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "id", id);
    shl_mp_kv_int(&w, "code", code);
    shl_mp_kv_str(&w, "msg", msg);
    shl_mp_end(&w);
    check(shl_mp_done(&w), "reply");
    shl_put_le32(shl_buf_data(&buf), (uint32_t)shl_buf_len(&buf) - 4);
    (void)!write(fd, shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
}

static void read_disk(struct fake *fake, int fd)
{
    char link[64];
    char path[400];
    ssize_t len = pread(fd, fake->words, sizeof(fake->words) - 1, 0);

    check((int)len, "disk");
    fake->words[len] = '\0';
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    check((int)len, "disk path");
    path[len] = '\0';
    (void)snprintf(fake->gate, sizeof(fake->gate), "%s/open", dirname(path));
}

static int named_fd(const struct fake *fake, const msgpack_object *request, const char *name)
{
    const msgpack_object *names = shl_mp_find(request, "fds");
    uint32_t i;

    for (i = 0; names && i < names->via.array.size && i < fake->fd_count; i++) {
        const msgpack_object_str *str = &names->via.array.ptr[i].via.str;

        if (str->size == strlen(name) && memcmp(str->ptr, name, str->size) == 0) {
            return fake->fds[i];
        }
    }
    return -1;
}

static void control_start(struct fake *fake,
                          int fd,
                          uint64_t id,
                          const msgpack_object *request,
                          struct shl_bytes bytes)
{
    int base = named_fd(fake, request, "base");
    int serial = named_fd(fake, request, "serial");

    if (base < 0 || serial < 0 || named_fd(fake, request, "kernel") < 0 ||
        named_fd(fake, request, "initrd") < 0 || named_fd(fake, request, "overlay") < 0) {
        control_reply(fd, id, SHL_EINVALIDARG, "a descriptor is missing");
        return;
    }
    save(fake, "start.msgpack", bytes);
    read_disk(fake, base);
    (void)!write(serial, "line one\r\nno root device\r\n", 26);
    if (has_word(fake, "start_fails")) {
        control_reply(fd, id, SHL_ENOKVM, "KVM said no");
        return;
    }
    if (has_word(fake, "bad_reply")) {
        (void)!write(fd, "\xff\xff\xff\xff", 4);
        return;
    }
    if (has_word(fake, "no_reply")) {
        return;
    }
    fake->started = true;
    control_reply(fd, id, 0, "");
    if (has_word(fake, "panic")) {
        end(fake, VMM_REASON_PANIC, "Kernel panic - not syncing: VFS");
    }
}

static void control_request(struct fake *fake, int fd, struct shl_bytes bytes)
{
    struct shl_mp_doc doc;
    char op[32] = "";
    uint64_t id = 0;

    check(shl_mp_parse(&doc, bytes), "control frame");
    check(shl_mp_get_cpy(doc.root, "op", op, sizeof(op)), "op");
    check(shl_mp_get_uint(doc.root, "id", UINT32_MAX, &id), "id");
    if (strcmp(op, "start") == 0) {
        control_start(fake, fd, id, doc.root, bytes);
    } else if (strcmp(op, "stop") == 0 && !has_word(fake, "ignore_stop")) {
        end(fake, VMM_REASON_STOPPED, "");
    }
    shl_mp_release(&doc);
}

/* A whole frame: blocking reads are fine for a test helper. */
static void control_readable(struct fake *fake, int *client)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * VMM_CONTROL_FDS_MAX)];
    } control;
    uint8_t frame[4 + 65536];
    struct iovec iov = {frame, 4};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    struct cmsghdr *header;
    uint32_t len;

    if (recvmsg(*client, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != 4) {
        (void)close(*client);
        *client = -1;
        return;
    }
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) {
        fake->fd_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fake->fds, CMSG_DATA(header), fake->fd_count * sizeof(int));
    }
    len = shl_get_le32(frame);
    if (len > sizeof(frame) - 4 || recv(*client, frame + 4, len, MSG_WAITALL) != (ssize_t)len) {
        die("control frame");
    }
    control_request(fake, *client, shl_bytes_of(frame + 4, len));
}

/* ---- the loop -------------------------------------------------------------------- */

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

static void turn(struct fake *fake)
{
    struct pollfd polled[3 + CLIENTS_MAX] = {
        {.fd = fake->control_listener, .events = POLLIN},
        {.fd = fake->agent_listener, .events = POLLIN},
        {.fd = fake->agent, .events = POLLIN},
    };
    int i;

    for (i = 0; i < CLIENTS_MAX; i++) {
        polled[3 + i] = (struct pollfd){.fd = fake->control[i], .events = POLLIN};
    }
    (void)poll(polled, 3 + CLIENTS_MAX, POLL_MS);
    for (i = 0; i < CLIENTS_MAX; i++) {
        if (polled[3 + i].revents) {
            control_readable(fake, &fake->control[i]);
        }
    }
    if (polled[2].revents) {
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
    fake.dir = argv[2];
    agent_parser_init(&fake.parser, AGENT_FRAME_HELLO);
    shl_buf_init(&fake.hello, AGENT_HELLO_MAX);
    fake.agent_listener = listen_at(&fake, VMM_AGENT_SOCKET);
    fake.control_listener = listen_at(&fake, VMM_CONTROL_SOCKET);
    for (;;) {
        turn(&fake);
    }
}
