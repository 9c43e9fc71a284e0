#include "bench/vmm_client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"

#define HEADER_BYTES 4u
#define READ_STEP    4096u
#define RETRY_US     1000

/* ---- the connection ---- */

int bench_vmm_connect(struct bench_vmm *vmm, const char *dir, int wait_ms, struct shl_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t end = shl_monotonic_ms() + (uint64_t)wait_ms;
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, VMM_CONTROL_SOCKET);
    int code;

    memset(vmm, 0, sizeof(*vmm));
    vmm->fd = -1;
    vmm->next_id = 1;
    shl_buf_init(&vmm->in, 2 * (HEADER_BYTES + VMM_CONTROL_FRAME_MAX));
    if (n < 0 || (size_t)n >= sizeof(address.sun_path)) {
        return shl_err_set(err, -ENAMETOOLONG, "the folder's path is too long for a socket");
    }
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
            vmm->fd = fd;
            return 0;
        }
        code = -errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        if (shl_monotonic_ms() >= end) {
            return shl_err_sys(err, -code, "cannot connect to %s", address.sun_path);
        }
        (void)usleep(RETRY_US);
    }
}

void bench_vmm_release(struct bench_vmm *vmm)
{
    if (vmm->fd >= 0) {
        (void)close(vmm->fd);
    }
    vmm->fd = -1;
    shl_buf_release(&vmm->in);
}

/* ---- a request ---- */

void bench_call_begin(struct bench_call *call, struct bench_vmm *vmm, const char *op)
{
    memset(call, 0, sizeof(*call));
    call->vmm = vmm;
    call->id = vmm->next_id++;
    shl_buf_init(&call->request, VMM_CONTROL_FRAME_MAX);
    shl_buf_init(&call->body, VMM_CONTROL_FRAME_MAX);
    shl_mp_writer_init(&call->w, &call->request);
    shl_mp_map(&call->w);
    shl_mp_kv_uint(&call->w, "id", call->id);
    shl_mp_kv_str(&call->w, "op", op);
}

static void close_files(struct bench_call *call)
{
    while (call->fd_count > 0) {
        (void)close(call->fds[--call->fd_count]);
    }
}

void bench_call_release(struct bench_call *call)
{
    close_files(call);
    if (call->has_reply) {
        shl_mp_release(&call->reply);
    }
    call->has_reply = false;
    shl_buf_release(&call->request);
    shl_buf_release(&call->body);
}

int bench_call_file(struct bench_call *call,
                    const char *name,
                    const char *path,
                    int flags,
                    struct shl_err *err)
{
    int fd;

    assert(strlen(name) < sizeof(call->names[0]));
    if (call->fd_count == VMM_CONTROL_FDS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "more than %d files in one request",
                           VMM_CONTROL_FDS_MAX);
    }
    fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        return shl_err_sys(err, errno, "cannot open %s (%s)", path, name);
    }
    (void)snprintf(call->names[call->fd_count], sizeof(call->names[0]), "%s", name);
    call->fds[call->fd_count++] = fd;
    return 0;
}

int bench_call_tap(struct bench_call *call, const char *interface, struct shl_err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int r = bench_call_file(call, "tap", "/dev/net/tun", O_RDWR, err);

    if (r < 0) {
        return r;
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
    if (ioctl(call->fds[call->fd_count - 1], TUNSETIFF, &request) < 0) {
        return shl_err_sys(err, errno, "cannot attach to the TAP interface %s", interface);
    }
    return 0;
}

static int finish_request(struct bench_call *call)
{
    unsigned i;

    if (call->fd_count > 0) {
        shl_mp_kv_array(&call->w, "fds");
        for (i = 0; i < call->fd_count; i++) {
            shl_mp_str(&call->w, call->names[i]);
        }
        shl_mp_end(&call->w);
    }
    shl_mp_end(&call->w);
    return shl_mp_done(&call->w);
}

static int send_request(struct bench_call *call)
{
    union {
        char raw[CMSG_SPACE(sizeof(int) * VMM_CONTROL_FDS_MAX)];
        struct cmsghdr align;
    } control = {{0}};
    uint8_t header[HEADER_BYTES];
    size_t len = shl_buf_len(&call->request);
    struct iovec iov[2] = {{header, HEADER_BYTES}, {shl_buf_data(&call->request), len}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
    struct cmsghdr *part;
    ssize_t sent;

    shl_put_le32(header, (uint32_t)len);
    if (call->fd_count > 0) {
        message.msg_control = control.raw;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * call->fd_count);
        part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int) * call->fd_count);
        memcpy(CMSG_DATA(part), call->fds, sizeof(int) * call->fd_count);
    }
    sent = sendmsg(call->vmm->fd, &message, MSG_NOSIGNAL);
    if (sent < 0) {
        return -errno;
    }
    return (size_t)sent == HEADER_BYTES + len ? 0 : -EMSGSIZE;
}

/* ---- the reply ---- */

/* More bytes; 0, -ETIMEDOUT, -EPIPE (the process closed the connection), -errno. */
static int receive(struct bench_vmm *vmm, uint64_t end_ms)
{
    struct pollfd poll_fd = {vmm->fd, POLLIN, 0};
    uint64_t now = shl_monotonic_ms();
    uint8_t *space;
    ssize_t n;
    int r;

    if (now >= end_ms || poll(&poll_fd, 1, (int)(end_ms - now)) == 0) {
        return -ETIMEDOUT;
    }
    r = shl_buf_reserve(&vmm->in, READ_STEP, &space);
    if (r < 0) {
        return r;
    }
    n = recv(vmm->fd, space, READ_STEP, MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : errno == ECONNRESET ? -EPIPE : -errno;
    }
    shl_buf_commit(&vmm->in, (size_t)n);
    return n == 0 ? -EPIPE : 0;
}

/* The next frame into call->body. */
static int take_frame(struct bench_call *call, uint64_t end_ms)
{
    struct shl_buf *in = &call->vmm->in;

    for (;;) {
        uint32_t len = shl_buf_len(in) >= HEADER_BYTES ? shl_get_le32(shl_buf_data(in)) : 0;
        int r;

        if (len > VMM_CONTROL_FRAME_MAX) {
            return SHL_EPROTO;
        }
        if (len > 0 && shl_buf_len(in) - HEADER_BYTES >= len) {
            shl_buf_clear(&call->body);
            r = shl_buf_append(&call->body, shl_buf_data(in) + HEADER_BYTES, len);
            shl_buf_consume(in, HEADER_BYTES + len);
            return r;
        }
        r = receive(call->vmm, end_ms);
        if (r < 0) {
            return r;
        }
    }
}

/* Frames until the one that answers this call. */
static int await_reply(struct bench_call *call, uint64_t end_ms)
{
    for (;;) {
        uint64_t id;
        int r = take_frame(call, end_ms);

        if (r == 0) {
            r = shl_mp_parse(&call->reply, shl_buf_bytes(&call->body));
        }
        if (r < 0) {
            return r;
        }
        if (shl_mp_get_uint(call->reply.root, "id", UINT64_MAX, &id) == 0 && id == call->id) {
            call->has_reply = true;
            return 0;
        }
        shl_mp_release(&call->reply);
    }
}

int bench_call_run(struct bench_call *call, int timeout_ms, struct shl_err *err)
{
    char msg[SHL_ERR_TEXT_MAX];
    int64_t code;
    int r = finish_request(call);

    if (r == 0) {
        r = send_request(call);
    }
    close_files(call); /* the VMM has its own now */
    if (r == 0) {
        r = await_reply(call, shl_monotonic_ms() + (uint64_t)timeout_ms);
    }
    if (r < 0) {
        return shl_err_set(err, r, "no reply from the VMM: %s", shl_err_text(r));
    }
    if (shl_mp_get_int(call->reply.root, "code", &code) < 0 || code > 0 || code < INT32_MIN) {
        return shl_err_set(err, SHL_EPROTO, "the reply has no code");
    }
    if (code < 0) {
        if (shl_mp_get_cpy(call->reply.root, "msg", msg, sizeof(msg)) < 0) {
            (void)snprintf(msg, sizeof(msg), "%s", shl_err_text((int)code));
        }
        return shl_err_set(err, (int)code, "%s", msg);
    }
    return 0;
}
