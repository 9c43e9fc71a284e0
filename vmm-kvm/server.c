#include "vmm-kvm/server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_MAX   (4u * VMM_CONTROL_FRAME_MAX) /* a client that does not read is dropped */
#define READ_STEP 4096u

static void close_fds(struct vmm_client *client)
{
    unsigned i;

    for (i = 0; i < client->fd_count; i++) {
        if (client->fds[i] >= 0) {
            (void)close(client->fds[i]);
        }
    }
    client->fd_count = 0;
}

static void drop_client(struct vmm_client *client)
{
    if (client->fd < 0) {
        return;
    }
    vmm_loop_remove(client->server->loop, &client->watch);
    (void)close(client->fd);
    client->fd = -1;
    close_fds(client);
    shl_buf_release(&client->in);
    shl_buf_release(&client->out);
}

static void flush_client(struct vmm_client *client)
{
    while (client->fd >= 0 && shl_buf_len(&client->out) > 0) {
        ssize_t n = send(client->fd, shl_buf_data(&client->out), shl_buf_len(&client->out),
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n <= 0) {
            drop_client(client);
            return;
        }
        shl_buf_consume(&client->out, (size_t)n);
    }
    vmm_loop_modify(client->server->loop, &client->watch,
                    EPOLLIN | (shl_buf_len(&client->out) > 0 ? EPOLLOUT : 0u));
}

static void send_body(struct vmm_client *client, struct shl_bytes body)
{
    uint8_t header[VMM_FRAME_HEADER_BYTES];

    if (client->fd < 0) {
        return;
    }
    shl_put_le32(header, (uint32_t)body.len);
    if (shl_buf_append(&client->out, header, sizeof(header)) < 0 ||
        shl_buf_append(&client->out, body.base, body.len) < 0) {
        drop_client(client);
        return;
    }
    flush_client(client);
}

static void send_refusal(struct vmm_client *client, uint64_t id, const struct shl_err *err)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, VMM_CONTROL_FRAME_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "id", id);
    shl_mp_kv_int(&w, "code", err->code);
    shl_mp_kv_str(&w, "msg", err->msg);
    shl_mp_end(&w);
    if (shl_mp_done(&w) == 0) {
        send_body(client, shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
}

static int answer(struct vmm_client *client,
                  const struct vmm_request *request,
                  const msgpack_object *map,
                  struct shl_err *err)
{
    struct vmm_server *server = client->server;
    struct shl_mp_writer w;
    struct shl_buf buf;
    int r;

    shl_buf_init(&buf, VMM_CONTROL_FRAME_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "id", request->id);
    shl_mp_kv_int(&w, "code", 0);
    r = server->on_request(server->ctx, request, map, client->fds, client->fd_count, &w, err);
    if (r == 0) {
        shl_mp_end(&w);
        r = shl_mp_done(&w);
        if (r < 0) {
            (void)shl_err_set(err, r, "the reply does not fit into a frame");
        }
    }
    if (r == 0) {
        send_body(client, shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
    return r;
}

/* One frame. A malformed one ends the connection: what follows cannot be trusted. */
static int handle_frame(struct vmm_client *client, struct shl_bytes body)
{
    struct vmm_server *server = client->server;
    struct shl_err err = {0};
    struct vmm_request request;
    struct shl_mp_doc doc;
    int r = shl_mp_parse(&doc, body);

    if (r < 0) {
        return r;
    }
    r = vmm_request_decode(doc.root, &request, &err);
    if (r == 0) {
        r = answer(client, &request, doc.root, &err);
        if (r < 0) {
            send_refusal(client, request.id, &err);
        }
        server->after_request(server->ctx, &request, r);
    } else {
        send_refusal(client, request.id, &err);
    }
    close_fds(client);
    shl_mp_release(&doc);
    return 0;
}

static int take_fds(struct vmm_client *client, struct msghdr *message)
{
    struct cmsghdr *part;

    for (part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        unsigned i, count;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        count = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
            if (client->fd_count < VMM_CONTROL_FDS_MAX) {
                client->fds[client->fd_count++] = fd;
            } else {
                (void)close(fd);
                message->msg_flags |= MSG_CTRUNC;
            }
        }
    }
    return message->msg_flags & MSG_CTRUNC ? SHL_ELIMIT : 0;
}

static int receive(struct vmm_client *client)
{
    union {
        char raw[CMSG_SPACE(VMM_CONTROL_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = {0};
    struct iovec iov = {.iov_len = READ_STEP};
    uint8_t *space;
    ssize_t n;
    int r = shl_buf_reserve(&client->in, READ_STEP, &space);

    if (r < 0) {
        return r;
    }
    iov.iov_base = space;
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control.raw;
    message.msg_controllen = sizeof(control.raw);
    n = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    r = take_fds(client, &message);
    if (n == 0 || r < 0) {
        return r < 0 ? r : SHL_EGONE;
    }
    shl_buf_commit(&client->in, (size_t)n);
    return 0;
}

static void on_client(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_client *client = shl_container_of(watch, struct vmm_client, watch);
    struct shl_bytes body;
    int r = 0;

    if (events & EPOLLOUT) {
        flush_client(client);
    }
    if (client->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        r = receive(client);
        while (r >= 0 && client->fd >= 0) {
            r = vmm_frame_next(shl_buf_bytes(&client->in), &body);
            if (r <= 0) {
                break;
            }
            r = handle_frame(client, body);
            if (client->fd >= 0) {
                shl_buf_consume(&client->in, VMM_FRAME_HEADER_BYTES + body.len);
            }
        }
    }
    if (r < 0) {
        drop_client(client);
    }
}

static void on_connect(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_server *server = shl_container_of(watch, struct vmm_server, watch);
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    unsigned i;

    (void)events;
    if (fd < 0) {
        return;
    }
    for (i = 0; i < VMM_CONTROL_CLIENTS_MAX; i++) {
        struct vmm_client *client = &server->clients[i];

        if (client->fd >= 0) {
            continue;
        }
        memset(client, 0, sizeof(*client));
        client->server = server;
        client->fd = fd;
        shl_buf_init(&client->in, VMM_FRAME_HEADER_BYTES + VMM_CONTROL_FRAME_MAX + READ_STEP);
        shl_buf_init(&client->out, OUT_MAX);
        if (vmm_loop_add(server->loop, &client->watch, fd, EPOLLIN, on_client) < 0) {
            drop_client(client);
        }
        return;
    }
    (void)close(fd); /* all places taken */
}

int vmm_server_init(struct vmm_server *server, struct vmm_loop *loop, int listen_fd)
{
    unsigned i;

    server->loop = loop;
    server->listen_fd = listen_fd;
    for (i = 0; i < VMM_CONTROL_CLIENTS_MAX; i++) {
        server->clients[i].fd = -1;
        server->clients[i].server = server;
    }
    return vmm_loop_add(loop, &server->watch, listen_fd, EPOLLIN, on_connect);
}

void vmm_server_release(struct vmm_server *server)
{
    unsigned i;

    for (i = 0; i < VMM_CONTROL_CLIENTS_MAX; i++) {
        drop_client(&server->clients[i]);
    }
    vmm_loop_remove(server->loop, &server->watch);
}

void vmm_server_broadcast(struct vmm_server *server, struct shl_bytes body)
{
    unsigned i;

    for (i = 0; i < VMM_CONTROL_CLIENTS_MAX; i++) {
        send_body(&server->clients[i], body);
    }
}

void vmm_server_flush(struct vmm_server *server)
{
    unsigned i;

    for (i = 0; i < VMM_CONTROL_CLIENTS_MAX; i++) {
        flush_client(&server->clients[i]);
    }
}
