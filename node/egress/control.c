#include "node/egress/control.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mp.h"
#include "node/egress/authority.h"
#include "node/egress/gateway.h"
#include "node/egress/policy.h"
#include "node/net/rules.h"
#include "vmm-kvm/control.h"

#define HEADER_BYTES 4
#define READ_BYTES   16384
#define FDS_MAX      8 /* received and not yet used */

struct client {
    struct egress_control *control;
    int fd;
    uv_poll_t poll;
    struct shl_buf in, out;
    int fds[FDS_MAX];
    size_t fd_count;
    int mask;
    bool broken; /* what it was sent makes no sense from here on */
};

struct egress_control {
    uv_loop_t *loop;
    int listen_fd;
    uv_poll_t listener;
    uv_timer_t alone; /* while no daemon is connected */
    int handles;
    struct egress_gateway *gateway;
    struct node_net_ports ports;
    const struct shl_log *log;
    void (*on_quit)(void *arg);
    void *arg;
    struct client *client;
    bool quit;
};

static void on_client(uv_poll_t *poll, int status, int events);

static void on_client_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    size_t i;

    for (i = 0; i < client->fd_count; i++) {
        (void)close(client->fds[i]);
    }
    (void)close(client->fd);
    shl_buf_release(&client->in);
    shl_buf_release(&client->out);
    free(client);
}

/* Guests that live are told to the daemon that comes next, which may take its time. */
static void on_alone(uv_timer_t *timer)
{
    struct egress_control *control = timer->data;
    struct egress_counters counters;

    egress_gateway_counters(control->gateway, &counters);
    if (counters.guests == 0) {
        SHL_LOG(control->log, SHL_LOG_INFO, "egress.alone");
        control->on_quit(control->arg);
    }
}

static void watch_alone(struct egress_control *control)
{
    if (!uv_is_closing((uv_handle_t *)&control->alone)) {
        (void)uv_timer_start(&control->alone, on_alone, EGRESS_CONTROL_ALONE_MS,
                             EGRESS_CONTROL_ALONE_MS);
    }
}

static void drop_client(struct egress_control *control)
{
    if (control->client) {
        uv_close((uv_handle_t *)&control->client->poll, on_client_closed);
        control->client = NULL;
        egress_gateway_set_ask(control->gateway, NULL, NULL);
        watch_alone(control);
    }
}

/* ---- operations ------------------------------------------------------------------ */

/* The whole of a descriptor's file, which is closed. Wipe the buffer after use. */
static int take_file(struct client *client, struct shl_buf *ret)
{
    struct stat info;
    uint8_t *space;
    int fd, rc;

    if (client->fd_count == 0) {
        return SHL_EPROTO;
    }
    fd = client->fds[0];
    memmove(client->fds, client->fds + 1, --client->fd_count * sizeof(int));
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        rc = SHL_EPROTO;
    } else if (info.st_size > (off_t)ret->max_bytes) {
        rc = SHL_ELIMIT;
    } else {
        rc = shl_buf_reserve(ret, (size_t)info.st_size + 1, &space);
        rc = rc < 0 ? rc : shl_pread_full(fd, space, (size_t)info.st_size, 0);
        if (rc == 0) {
            shl_buf_commit(ret, (size_t)info.st_size);
        }
    }
    (void)close(fd);
    return rc;
}

static int op_guest(struct client *client, const msgpack_object *request, struct shl_err *err)
{
    struct node_egress_facts facts = {.memory_bytes = 0};
    struct node_egress_policy policy;
    char id[EGRESS_GUEST_ID_SIZE];
    struct shl_buf bytes;
    uint64_t address;
    int rc;

    if (shl_mp_get_uint(request, "address", UINT32_MAX, &address) < 0 ||
        shl_mp_get_cpy(request, "sandbox", id, sizeof(id)) < 0 ||
        shl_mp_get_cpy(request, "region", facts.region, sizeof(facts.region)) < 0 ||
        shl_mp_get_cpy(request, "template", facts.template_name, sizeof(facts.template_name)) < 0 ||
        shl_mp_get_uint(request, "memory_bytes", UINT64_MAX, &facts.memory_bytes) < 0 ||
        shl_mp_get_uint(request, "began_ms", UINT64_MAX, &facts.began_ms) < 0) {
        return shl_err_set(err, SHL_EPROTO, "guest needs address, sandbox and facts");
    }
    shl_buf_init(&bytes, EGRESS_POLICY_BYTES_MAX);
    rc = take_file(client, &bytes);
    rc = rc < 0 ? rc : egress_policy_read(shl_buf_bytes(&bytes), &policy);
    shl_buf_wipe(&bytes);
    if (rc < 0) {
        return shl_err_set(err, rc, "the policy cannot be read: %s", shl_err_text(rc));
    }
    rc = egress_gateway_set_guest(client->control->gateway, (uint32_t)address, id, &facts, &policy);
    return rc < 0 ? shl_err_set(err, rc, "the guest cannot be taken: %s", shl_err_text(rc)) : 0;
}

static int op_figures(struct client *client, const msgpack_object *request, struct shl_err *err)
{
    struct egress_gateway *gateway = client->control->gateway;
    struct node_egress_figures figures;
    char id[EGRESS_GUEST_ID_SIZE];
    uint64_t address;
    int rc;

    if (shl_mp_get_uint(request, "address", UINT32_MAX, &address) < 0 ||
        shl_mp_get_cpy(request, "sandbox", id, sizeof(id)) < 0) {
        return shl_err_set(err, SHL_EPROTO, "figures needs address and sandbox");
    }
    rc = shl_mp_get_uint(request, "cpu_permille", UINT64_MAX, &figures.cpu_permille);
    if (rc == SHL_ENOTFOUND) {
        egress_gateway_figures(gateway, (uint32_t)address, id, NULL);
        return 0;
    }
    if (rc < 0 ||
        shl_mp_get_uint(request, "memory_used_bytes", UINT64_MAX, &figures.memory_used_bytes) < 0 ||
        shl_mp_get_uint(request, "processes", UINT64_MAX, &figures.processes) < 0 ||
        shl_mp_get_uint(request, "net_in_bytes", UINT64_MAX, &figures.net_in_bytes) < 0 ||
        shl_mp_get_uint(request, "net_out_bytes", UINT64_MAX, &figures.net_out_bytes) < 0) {
        return shl_err_set(err, SHL_EPROTO, "a figure is missing");
    }
    egress_gateway_figures(gateway, (uint32_t)address, id, &figures);
    return 0;
}

static int op_authority(struct client *client, struct shl_err *err)
{
    struct shl_buf pem;
    int rc;

    shl_buf_init(&pem, EGRESS_AUTHORITY_PEM_MAX + 1);
    rc = take_file(client, &pem);
    if (rc == 0) {
        rc = egress_gateway_set_authority(client->control->gateway, shl_buf_bytes(&pem), err);
    } else {
        (void)shl_err_set(err, rc, "the authority cannot be read: %s", shl_err_text(rc));
    }
    shl_buf_wipe(&pem);
    return rc;
}

static int op_trust(struct client *client, struct shl_err *err)
{
    struct shl_buf pem;
    int rc;

    shl_buf_init(&pem, EGRESS_TRUST_FILE_MAX + 1);
    rc = take_file(client, &pem);
    if (rc == 0) {
        rc = egress_gateway_set_trust(client->control->gateway, shl_buf_bytes(&pem), err);
    } else {
        (void)shl_err_set(err, rc, "the certificates cannot be read: %s", shl_err_text(rc));
    }
    shl_buf_release(&pem);
    return rc;
}

static int op_private(struct client *client, const msgpack_object *request, struct shl_err *err)
{
    const msgpack_object *list = shl_mp_find(request, "prefixes");
    struct egress_prefix prefixes[EGRESS_PREFIXES_MAX];
    uint32_t i;

    if (!list || list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size > EGRESS_PREFIXES_MAX) {
        return shl_err_set(err, SHL_EPROTO, "private needs at most %d prefixes",
                           EGRESS_PREFIXES_MAX);
    }
    for (i = 0; i < list->via.array.size; i++) {
        const msgpack_object *item = &list->via.array.ptr[i];
        char text[EGRESS_PREFIX_TEXT_SIZE];

        if (item->type != MSGPACK_OBJECT_STR || item->via.str.size >= sizeof(text)) {
            return shl_err_set(err, SHL_EPROTO, "a prefix is not valid");
        }
        memcpy(text, item->via.str.ptr, item->via.str.size);
        text[item->via.str.size] = '\0';
        if (egress_prefix_parse(&prefixes[i], text) < 0) {
            return shl_err_set(err, SHL_EPROTO, "a prefix is not valid");
        }
    }
    egress_gateway_set_private(client->control->gateway, prefixes, i);
    return 0;
}

static void put_stats(struct shl_mp_writer *w, const struct egress_gateway *gateway)
{
    struct egress_counters c;

    egress_gateway_counters(gateway, &c);
    shl_mp_kv_uint(w, "accepted", c.accepted);
    shl_mp_kv_uint(w, "refused", c.refused);
    shl_mp_kv_uint(w, "spliced", c.spliced);
    shl_mp_kv_uint(w, "intercepted", c.intercepted);
    shl_mp_kv_uint(w, "plain_http", c.plain_http);
    shl_mp_kv_uint(w, "replaced", c.replaced);
    shl_mp_kv_uint(w, "over_limit", c.over_limit);
    shl_mp_kv_uint(w, "upstream_failed", c.upstream_failed);
    shl_mp_kv_uint(w, "unverified", c.unverified);
    shl_mp_kv_uint(w, "bytes_out", c.bytes_out);
    shl_mp_kv_uint(w, "bytes_in", c.bytes_in);
    shl_mp_kv_uint(w, "dns_passed", c.dns_passed);
    shl_mp_kv_uint(w, "dns_refused", c.dns_refused);
    shl_mp_kv_uint(w, "metadata", c.metadata);
    shl_mp_kv_uint(w, "open", c.open);
    shl_mp_kv_uint(w, "guests", c.guests);
}

static int run(struct client *client,
               const msgpack_object *request,
               struct shl_mp_writer *reply,
               struct shl_err *err)
{
    struct egress_control *control = client->control;
    uint64_t address;
    char op[16];

    if (shl_mp_get_cpy(request, "op", op, sizeof(op)) < 0) {
        return shl_err_set(err, SHL_EPROTO, "a request needs an op");
    }
    if (strcmp(op, "hello") == 0) {
        shl_mp_kv_uint(reply, "version", EGRESS_CONTROL_VERSION);
        shl_mp_kv_uint(reply, "port", control->ports.tcp);
        shl_mp_kv_uint(reply, "dns_port", control->ports.dns);
        shl_mp_kv_uint(reply, "metadata_port", control->ports.metadata);
    } else if (strcmp(op, "guest") == 0) {
        return op_guest(client, request, err);
    } else if (strcmp(op, "figures") == 0) {
        return op_figures(client, request, err);
    } else if (strcmp(op, "authority") == 0) {
        return op_authority(client, err);
    } else if (strcmp(op, "trust") == 0) {
        return op_trust(client, err);
    } else if (strcmp(op, "private") == 0) {
        return op_private(client, request, err);
    } else if (strcmp(op, "drop") == 0) {
        if (shl_mp_get_uint(request, "address", UINT32_MAX, &address) < 0) {
            return shl_err_set(err, SHL_EPROTO, "drop needs an address");
        }
        egress_gateway_drop_guest(control->gateway, (uint32_t)address);
    } else if (strcmp(op, "mark") == 0) {
        egress_gateway_mark(control->gateway);
    } else if (strcmp(op, "sweep") == 0) {
        egress_gateway_sweep(control->gateway);
    } else if (strcmp(op, "stats") == 0) {
        put_stats(reply, control->gateway);
    } else if (strcmp(op, "quit") == 0) {
        control->quit = true;
    } else {
        return shl_err_set(err, SHL_ENOTFOUND, "there is no op %s", op);
    }
    return 0;
}

/* ---- frames ---------------------------------------------------------------------- */

/* A map is open in @w. 0, SHL_ELIMIT, -ENOMEM. */
static int begin_frame(struct client *client, struct shl_mp_writer *w, size_t *ret_start)
{
    uint8_t *header;
    int rc = shl_buf_reserve(&client->out, HEADER_BYTES, &header);

    if (rc == 0) {
        *ret_start = shl_buf_len(&client->out);
        shl_buf_commit(&client->out, HEADER_BYTES);
        shl_mp_writer_init(w, &client->out);
        shl_mp_map(w);
    }
    return rc;
}

static int end_frame(struct client *client, struct shl_mp_writer *w, size_t start)
{
    int rc;

    shl_mp_end(w);
    rc = shl_mp_done(w);
    if (rc == 0) {
        shl_put_le32(shl_buf_data(&client->out) + start,
                     (uint32_t)(shl_buf_len(&client->out) - start - HEADER_BYTES));
    }
    return rc;
}

/* A frame that did not fit is half there: no other may follow it. */
static void on_ask(void *arg, uint32_t address, const char *sandbox)
{
    struct egress_control *control = arg;
    struct client *client = control->client;
    struct shl_mp_writer w;
    size_t start = 0;

    if (begin_frame(client, &w, &start) < 0) {
        return; /* the guest is told that nobody answered */
    }
    shl_mp_kv_str(&w, "event", "figures");
    shl_mp_kv_uint(&w, "address", address);
    shl_mp_kv_str(&w, "sandbox", sandbox);
    client->broken |= end_frame(client, &w, start) < 0;
    client->mask = UV_READABLE | UV_WRITABLE;
    (void)uv_poll_start(&client->poll, client->mask, on_client);
}

static int answer(struct client *client, const msgpack_object *request)
{
    struct shl_mp_writer w;
    struct shl_err err = {0};
    size_t start = 0;
    uint64_t id;
    int rc;

    if (shl_mp_get_uint(request, "id", UINT32_MAX, &id) < 0 || id == 0 ||
        begin_frame(client, &w, &start) < 0) {
        return SHL_EPROTO;
    }
    shl_mp_kv_uint(&w, "id", id);
    rc = run(client, request, &w, &err);
    shl_mp_kv_int(&w, "code", rc);
    if (rc < 0) {
        shl_mp_kv_str(&w, "msg", err.msg);
    }
    return end_frame(client, &w, start);
}

/* 1 when a frame was worked through, 0 when more is needed. */
static int take_frame(struct client *client)
{
    struct shl_bytes bytes = shl_buf_bytes(&client->in);
    struct shl_mp_doc doc;
    uint32_t len;
    int rc;

    if (bytes.len < HEADER_BYTES) {
        return 0;
    }
    len = shl_get_le32(bytes.base);
    if (len > VMM_CONTROL_FRAME_MAX) {
        return SHL_EPROTO;
    }
    if (bytes.len - HEADER_BYTES < len) {
        return 0;
    }
    rc = shl_mp_parse(&doc, shl_bytes_of(bytes.base + HEADER_BYTES, len));
    if (rc < 0) {
        return rc;
    }
    rc = answer(client, doc.root);
    shl_mp_release(&doc);
    shl_buf_consume(&client->in, HEADER_BYTES + len);
    return rc < 0 ? rc : 1;
}

static void take_fds(struct client *client, struct msghdr *message)
{
    struct cmsghdr *header;

    for (header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        size_t count, i;

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (client->fd_count < FDS_MAX) {
                client->fds[client->fd_count++] = fd;
            } else {
                (void)close(fd);
            }
        }
    }
}

static int receive(struct client *client)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    uint8_t *space;
    struct iovec iov;
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    ssize_t n;

    if (shl_buf_reserve(&client->in, READ_BYTES, &space) < 0) {
        return SHL_ELIMIT;
    }
    iov = (struct iovec){space, READ_BYTES};
    n = recvmsg(client->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        return -EPIPE;
    }
    take_fds(client, &message);
    shl_buf_commit(&client->in, (size_t)n);
    return 0;
}

static int send_out(struct client *client)
{
    while (shl_buf_len(&client->out) > 0) {
        ssize_t n = send(client->fd, shl_buf_data(&client->out), shl_buf_len(&client->out),
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        shl_buf_consume(&client->out, (size_t)n);
    }
    return 0;
}

static void on_client(uv_poll_t *poll, int status, int events)
{
    struct client *client = poll->data;
    struct egress_control *control = client->control;
    int rc = client->broken ? SHL_EPROTO : status;

    if (control->client != client) {
        return;
    }
    if (rc == 0 && (events & UV_READABLE)) {
        rc = receive(client);
    }
    while (rc >= 0 && (rc = take_frame(client)) > 0) {
    }
    rc = rc < 0 ? rc : send_out(client);
    if (rc < 0) {
        drop_client(control);
        return;
    }
    if (control->quit && shl_buf_len(&client->out) == 0) {
        control->on_quit(control->arg);
        return;
    }
    rc = UV_READABLE | (shl_buf_len(&client->out) > 0 ? UV_WRITABLE : 0);
    if (client->mask != rc) {
        client->mask = rc;
        (void)uv_poll_start(&client->poll, rc, on_client);
    }
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct egress_control *control = poll->data;
    struct client *client;
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)status;
    (void)events;
    if (fd < 0) {
        return;
    }
    client = calloc(1, sizeof(*client));
    if (!client || uv_poll_init(control->loop, &client->poll, fd) < 0) {
        free(client);
        (void)close(fd);
        return;
    }
    client->control = control;
    client->fd = fd;
    client->poll.data = client;
    shl_buf_init(&client->in, HEADER_BYTES + VMM_CONTROL_FRAME_MAX + READ_BYTES);
    shl_buf_init(&client->out, 4 * VMM_CONTROL_FRAME_MAX);
    drop_client(control);
    control->client = client;
    (void)uv_timer_stop(&control->alone);
    egress_gateway_set_ask(control->gateway, on_ask, control);
    client->mask = UV_READABLE;
    (void)uv_poll_start(&client->poll, UV_READABLE, on_client);
}

int egress_control_open(uv_loop_t *loop,
                        int listen_fd,
                        struct egress_gateway *gateway,
                        const struct node_net_ports *ports,
                        const struct shl_log *log,
                        void (*on_quit)(void *arg),
                        void *arg,
                        struct egress_control **ret)
{
    struct egress_control *control = calloc(1, sizeof(*control));

    if (!control || uv_poll_init(loop, &control->listener, listen_fd) < 0) {
        free(control);
        return -ENOMEM;
    }
    control->loop = loop;
    control->listen_fd = listen_fd;
    control->gateway = gateway;
    control->ports = *ports;
    control->log = log;
    control->on_quit = on_quit;
    control->arg = arg;
    control->listener.data = control;
    control->handles = 2;
    (void)uv_timer_init(loop, &control->alone);
    control->alone.data = control;
    watch_alone(control);
    (void)uv_poll_start(&control->listener, UV_READABLE, on_connection);
    *ret = control;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct egress_control *control = handle->data;

    if (--control->handles == 0) {
        (void)close(control->listen_fd);
        free(control);
    }
}

void egress_control_close(struct egress_control *control)
{
    uv_close((uv_handle_t *)&control->alone, on_closed);
    drop_client(control);
    uv_close((uv_handle_t *)&control->listener, on_closed);
}
