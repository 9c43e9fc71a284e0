/* Happy path:
 *  1. start_connect -> on_connect: reading begins, the owner hears on_ready.
 *  2. node_vmm_link_request: one frame, with descriptors by sendmsg, else by uv_write.
 *  3. on_read -> take_frame: the reply finds its request by id. Events go to whoever wants
 *     them.
 *
 * What can go wrong:
 *  - nobody listens yet, or the connection breaks: open requests are answered with
 *    SHL_EUNAVAILABLE, the next attempt follows after retry_ms;
 *  - no connection for give_up_ms, or nonsense from the VMM: on_lost, and no more attempts;
 *  - close at any point: handles close, then open requests are answered.
 */
#include "node/sandbox/vmm_link.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/io.h"
#include "node/sandbox/text.h"

#define RETRY_MS      20
#define GIVE_UP_MS    20000
#define HEADER_BYTES  4
#define READ_BYTES    4096
#define SLOWER_FACTOR 10 /* attempts get rarer after the first second */

struct request {
    uint32_t id; /* 0: free */
    node_vmm_reply_cb cb;
    void *arg;
};

struct conn {
    uv_pipe_t pipe;
    uv_connect_t connect;
    struct node_vmm_link *link;
};

struct node_vmm_link {
    uv_loop_t *loop;
    struct node_vmm_link_config config;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct conn *conn;
    bool ready;
    bool lost;
    uv_timer_t timer;
    uint64_t down_since_ms;
    int handles;
    struct shl_buf in;
    struct request requests[NODE_VMM_REQUESTS_MAX];
    uint32_t next_id;
    bool closing;
    void (*close_cb)(void *arg);
    void *close_arg;
};

struct frame_write {
    uv_write_t write;
    struct shl_buf buf;
};

static void on_timer(uv_timer_t *timer);

/* ---- leaving --------------------------------------------------------------------- */

static void answer_all(struct node_vmm_link *link, int code, const char *msg)
{
    size_t i;

    for (i = 0; i < NODE_VMM_REQUESTS_MAX; i++) {
        struct request request = link->requests[i];

        link->requests[i].id = 0;
        if (request.id != 0) {
            request.cb(request.arg, code, msg, NULL);
        }
    }
}

static void handle_closed(struct node_vmm_link *link)
{
    void (*cb)(void *arg) = link->close_cb;
    void *arg = link->close_arg;

    assert(link->handles > 0);
    if (--link->handles > 0) {
        return;
    }
    assert(link->closing);
    answer_all(link, SHL_EGONE, "the sandbox is being taken down");
    shl_buf_release(&link->in);
    free(link);
    if (cb) {
        cb(arg);
    }
}

static void on_conn_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    struct node_vmm_link *link = conn->link;

    free(conn);
    handle_closed(link);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void drop_conn(struct node_vmm_link *link)
{
    if (link->conn) {
        uv_close((uv_handle_t *)&link->conn->pipe, on_conn_closed);
        link->conn = NULL;
    }
    link->ready = false;
    shl_buf_clear(&link->in);
}

static void give_up(struct node_vmm_link *link, const char *msg)
{
    drop_conn(link);
    link->lost = true;
    (void)uv_timer_stop(&link->timer);
    answer_all(link, SHL_EUNAVAILABLE, msg);
    if (!link->closing) {
        link->config.on_lost(link->config.arg, msg);
    }
}

static void retry_later(struct node_vmm_link *link)
{
    uint64_t down_ms = shl_monotonic_ms() - link->down_since_ms;
    uint64_t wait_ms = link->config.retry_ms * (down_ms > 1000 ? SLOWER_FACTOR : 1);

    if (down_ms >= link->config.give_up_ms) {
        give_up(link, "the VMM does not answer on its control socket");
        return;
    }
    (void)uv_timer_start(&link->timer, on_timer, wait_ms, 0);
}

static void lose_conn(struct node_vmm_link *link)
{
    if (link->ready) {
        link->down_since_ms = shl_monotonic_ms();
    }
    drop_conn(link);
    answer_all(link, SHL_EUNAVAILABLE, "the connection to the VMM was lost");
    if (!link->closing) {
        retry_later(link);
    }
}

/* ---- reading --------------------------------------------------------------------- */

static void take_reply(struct node_vmm_link *link, const msgpack_object *reply)
{
    char msg[SHL_ERR_TEXT_MAX] = "";
    struct request request = {0};
    struct shl_bytes text;
    int64_t code = 0;
    uint64_t id;
    size_t i;

    if (shl_mp_get_uint(reply, "id", UINT32_MAX, &id) < 0) {
        if (link->config.on_event && !link->closing) {
            link->config.on_event(link->config.arg, reply);
        }
        return;
    }
    for (i = 0; i < NODE_VMM_REQUESTS_MAX; i++) {
        if (id != 0 && link->requests[i].id == id) {
            request = link->requests[i];
            link->requests[i].id = 0;
        }
    }
    if (request.id == 0) {
        return;
    }
    if (shl_mp_get_int(reply, "code", &code) < 0 || code > 0 || code < INT32_MIN) {
        code = SHL_EPROTO;
    }
    if (shl_mp_get_str(reply, "msg", &text) == 0) {
        node_text_clean(msg, sizeof(msg), text);
    }
    if (code < 0 && !msg[0]) {
        (void)snprintf(msg, sizeof(msg), "%s", shl_err_text((int)code));
    }
    request.cb(request.arg, (int)code, msg, reply);
}

/* False when more bytes are needed, or the connection is gone. */
static bool take_frame(struct node_vmm_link *link, struct conn *conn)
{
    struct shl_bytes bytes = shl_buf_bytes(&link->in);
    struct shl_mp_doc doc;
    uint32_t len;

    if (link->conn != conn || bytes.len < HEADER_BYTES) {
        return false;
    }
    len = shl_get_le32(bytes.base);
    if (len > VMM_CONTROL_FRAME_MAX) {
        give_up(link, "the VMM sent a control frame that is not valid");
        return false;
    }
    if (bytes.len - HEADER_BYTES < len) {
        return false;
    }
    if (shl_mp_parse(&doc, shl_bytes_of(bytes.base + HEADER_BYTES, len)) < 0) {
        give_up(link, "the VMM sent a control frame that is not valid");
        return false;
    }
    take_reply(link, doc.root);
    shl_mp_release(&doc);
    if (link->conn != conn) {
        return false;
    }
    shl_buf_consume(&link->in, HEADER_BYTES + len);
    return true;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct conn *conn = handle->data;
    uint8_t *space;

    (void)suggested;
    if (conn->link->conn != conn || shl_buf_reserve(&conn->link->in, READ_BYTES, &space) < 0) {
        *ret_buf = uv_buf_init(NULL, 0);
        return;
    }
    *ret_buf = uv_buf_init((char *)space, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    struct node_vmm_link *link = conn->link;

    (void)buf;
    if (link->conn != conn) {
        return;
    }
    if (len < 0) {
        lose_conn(link);
        return;
    }
    shl_buf_commit(&link->in, (size_t)len);
    while (take_frame(link, conn)) {
    }
}

/* ---- writing --------------------------------------------------------------------- */

static int make_frame(struct shl_buf *buf,
                      uint32_t id,
                      const char *op,
                      void (*add)(void *arg, struct shl_mp_writer *writer),
                      void *arg,
                      const struct node_vmm_fd *fds,
                      size_t fd_count)
{
    struct shl_mp_writer writer;
    uint8_t *header;
    size_t i;
    int rc;

    rc = shl_buf_reserve(buf, HEADER_BYTES, &header);
    if (rc < 0) {
        return rc;
    }
    shl_buf_commit(buf, HEADER_BYTES);
    shl_mp_writer_init(&writer, buf);
    shl_mp_map(&writer);
    shl_mp_kv_uint(&writer, "id", id);
    shl_mp_kv_str(&writer, "op", op);
    if (add) {
        add(arg, &writer);
    }
    if (fd_count > 0) {
        shl_mp_kv_array(&writer, "fds");
        for (i = 0; i < fd_count; i++) {
            if (fds[i].fd >= 0) {
                shl_mp_str(&writer, fds[i].name);
            }
        }
        shl_mp_end(&writer);
    }
    shl_mp_end(&writer);
    rc = shl_mp_done(&writer);
    if (rc == 0) {
        shl_put_le32(shl_buf_data(buf), (uint32_t)(shl_buf_len(buf) - HEADER_BYTES));
    }
    return rc;
}

/* The whole frame in one sendmsg: libuv cannot attach arbitrary descriptors, and an idle
 * connection takes a frame of at most 64 KiB at once. */
static int send_with_fds(struct node_vmm_link *link,
                         const struct shl_buf *frame,
                         const struct node_vmm_fd *fds,
                         size_t fd_count)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * VMM_CONTROL_FDS_MAX)];
    } control = {0};
    struct iovec iov = {shl_buf_data(frame), shl_buf_len(frame)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    int list[VMM_CONTROL_FDS_MAX];
    struct cmsghdr *header;
    size_t count = 0;
    uv_os_fd_t fd;
    ssize_t sent;
    size_t i;

    for (i = 0; i < fd_count; i++) {
        assert(count < VMM_CONTROL_FDS_MAX);
        if (fds[i].fd >= 0) {
            list[count++] = fds[i].fd;
        }
    }
    if (uv_stream_get_write_queue_size((uv_stream_t *)&link->conn->pipe) > 0 ||
        uv_fileno((uv_handle_t *)&link->conn->pipe, &fd) < 0) {
        return SHL_EUNAVAILABLE;
    }
    message.msg_control = control.space;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), list, sizeof(int) * count);
    sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        return -errno;
    }
    return (size_t)sent == shl_buf_len(frame) ? 0 : SHL_EUNAVAILABLE;
}

static void on_write(uv_write_t *write, int status)
{
    struct frame_write *out = shl_container_of(write, struct frame_write, write);

    (void)status; /* a broken connection is on_read's to report */
    shl_buf_release(&out->buf);
    free(out);
}

/* Takes the bytes of @frame. */
static int send_plain(struct node_vmm_link *link, struct shl_buf *frame)
{
    struct frame_write *out = calloc(1, sizeof(*out));
    uv_buf_t buf;
    int rc;

    if (!out) {
        return -ENOMEM;
    }
    out->buf = *frame;
    shl_buf_init(frame, frame->max_bytes);
    buf = uv_buf_init((char *)shl_buf_data(&out->buf), (unsigned)shl_buf_len(&out->buf));
    rc = uv_write(&out->write, (uv_stream_t *)&link->conn->pipe, &buf, 1, on_write);
    if (rc < 0) {
        on_write(&out->write, rc);
    }
    return rc;
}

static struct request *free_request(struct node_vmm_link *link)
{
    size_t i;

    for (i = 0; i < NODE_VMM_REQUESTS_MAX; i++) {
        if (link->requests[i].id == 0) {
            return &link->requests[i];
        }
    }
    return NULL;
}

int node_vmm_link_request(struct node_vmm_link *link,
                          const char *op,
                          void (*add)(void *arg, struct shl_mp_writer *writer),
                          const struct node_vmm_fd *fds,
                          size_t fd_count,
                          node_vmm_reply_cb cb,
                          void *arg)
{
    struct request *request = free_request(link);
    struct shl_buf frame;
    uint32_t id;
    int rc;

    assert(!link->closing);
    if (!link->ready) {
        return SHL_EUNAVAILABLE;
    }
    if (!request) {
        return SHL_ELIMIT;
    }
    id = ++link->next_id ? link->next_id : ++link->next_id;
    shl_buf_init(&frame, HEADER_BYTES + VMM_CONTROL_FRAME_MAX);
    rc = make_frame(&frame, id, op, add, arg, fds, fd_count);
    if (rc == 0) {
        rc = fd_count > 0 ? send_with_fds(link, &frame, fds, fd_count) : send_plain(link, &frame);
    }
    shl_buf_release(&frame);
    if (rc == 0) {
        *request = (struct request){id, cb, arg};
    }
    return rc;
}

/* ---- connecting, opening, closing ------------------------------------------------ */

static void on_connect(uv_connect_t *connect, int status)
{
    struct conn *conn = connect->data;
    struct node_vmm_link *link = conn->link;

    if (link->conn != conn) {
        return;
    }
    if (status < 0 || uv_read_start((uv_stream_t *)&conn->pipe, on_alloc, on_read) < 0) {
        lose_conn(link);
        return;
    }
    link->ready = true;
    link->config.on_ready(link->config.arg);
}

static void on_timer(uv_timer_t *timer)
{
    struct node_vmm_link *link = timer->data;
    struct conn *conn = calloc(1, sizeof(*conn));

    assert(!link->conn);
    if (!conn || uv_pipe_init(link->loop, &conn->pipe, 0) < 0) {
        free(conn);
        retry_later(link);
        return;
    }
    conn->link = link;
    conn->pipe.data = conn;
    conn->connect.data = conn;
    link->conn = conn;
    link->handles++;
    uv_pipe_connect(&conn->connect, &conn->pipe, link->path, on_connect);
}

int node_vmm_link_open(uv_loop_t *loop,
                       const struct node_vmm_link_config *config,
                       struct node_vmm_link **ret_link)
{
    struct node_vmm_link *link;

    if (strlen(config->socket_path) >= sizeof(link->path)) {
        return -ENAMETOOLONG;
    }
    link = calloc(1, sizeof(*link));
    if (!link) {
        return -ENOMEM;
    }
    link->loop = loop;
    link->config = *config;
    link->config.retry_ms = config->retry_ms ? config->retry_ms : RETRY_MS;
    link->config.give_up_ms = config->give_up_ms ? config->give_up_ms : GIVE_UP_MS;
    (void)snprintf(link->path, sizeof(link->path), "%s", config->socket_path);
    shl_buf_init(&link->in, HEADER_BYTES + VMM_CONTROL_FRAME_MAX + READ_BYTES);
    (void)uv_timer_init(loop, &link->timer);
    link->timer.data = link;
    link->handles = 1;
    link->down_since_ms = shl_monotonic_ms();
    (void)uv_timer_start(&link->timer, on_timer, 0, 0);
    *ret_link = link;
    return 0;
}

bool node_vmm_link_is_ready(const struct node_vmm_link *link)
{
    return link->ready;
}

void node_vmm_link_close(struct node_vmm_link *link, void (*cb)(void *arg), void *arg)
{
    assert(!link->closing);
    link->closing = true;
    link->close_cb = cb;
    link->close_arg = arg;
    drop_conn(link);
    uv_close((uv_handle_t *)&link->timer, on_timer_closed);
}
