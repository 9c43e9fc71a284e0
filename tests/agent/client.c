#include "tests/agent/client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"

void client_init(struct client *client, int fd)
{
    *client = (struct client){.fd = fd, .next_stream = 1};
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    agent_parser_init(&client->parser, AGENT_FRAME_HELLO_ACK);
    shl_buf_init(&client->out, CLIENT_DATA_MAX);
    shl_list_init(&client->calls);
}

void client_release(struct client *client)
{
    if (client->fd >= 0) {
        (void)close(client->fd);
    }
    agent_parser_release(&client->parser);
    shl_buf_release(&client->out);
}

void client_send_frame(struct client *client,
                       enum agent_frame_type type,
                       uint32_t stream,
                       struct shl_bytes payload)
{
    int rc = agent_frame_write(&client->out, type, 0, stream, payload);

    assert(rc == 0);
    (void)rc;
}

static struct client_call *find_call(struct client *client, uint32_t stream)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &client->calls) {
        struct client_call *call = shl_container_of(it, struct client_call, node);

        if (call->stream == stream) {
            return call;
        }
    }
    return NULL;
}

static void take_doc(struct shl_buf *copy, struct shl_mp_doc *doc, struct shl_bytes payload)
{
    int rc = shl_buf_append(copy, payload.base, payload.len);

    assert(rc == 0);
    rc = shl_mp_parse(doc, shl_buf_bytes(copy));
    assert(rc == 0);
    (void)rc;
}

static void take_data(struct client_call *call, const struct agent_frame *frame)
{
    uint8_t credit[4];
    int rc = 0;

    call->data_bytes[frame->channel] += frame->payload.len;
    if (call->on_data) {
        call->on_data(call, frame->channel, frame->payload);
    } else {
        rc = shl_buf_append(&call->data[frame->channel], frame->payload.base, frame->payload.len);
    }
    assert(rc == 0);
    if (!call->hold_credit && frame->payload.len > 0) {
        shl_put_le32(credit, (uint32_t)frame->payload.len);
        client_send_frame(call->client, AGENT_FRAME_CREDIT, call->stream, shl_bytes_of(credit, 4));
    }
}

static void take_ack(struct client *client, const struct agent_frame *frame)
{
    struct shl_mp_doc doc;
    struct shl_bytes token;

    if (shl_mp_parse(&doc, frame->payload) < 0) {
        agent_parser_reject(&client->parser);
        return;
    }
    if (shl_mp_get_bin(doc.root, "token", &token) == 0 && token.len == sizeof(client->token) &&
        memcmp(token.base, client->token, token.len) == 0) {
        client->greeted = true;
        (void)!shl_mp_get_cpy(doc.root, "boot_id", client->boot_id, sizeof(client->boot_id));
    }
    shl_mp_release(&doc);
    if (!client->greeted) {
        agent_parser_reject(&client->parser);
    }
}

static void take_frame(struct client *client, const struct agent_frame *frame)
{
    struct client_call *call;

    if (frame->type == AGENT_FRAME_HELLO_ACK) {
        take_ack(client, frame);
        return;
    }
    call = find_call(client, frame->stream);
    if (!call || call->done) {
        return;
    }
    switch (frame->type) {
    case AGENT_FRAME_HEAD:
        assert(!call->has_head && call->data_bytes[0] + call->data_bytes[1] == 0);
        call->has_head = true;
        take_doc(&call->head_bytes, &call->head, frame->payload);
        break;
    case AGENT_FRAME_DATA:
        take_data(call, frame);
        break;
    case AGENT_FRAME_CREDIT:
        assert(frame->payload.len == 4);
        call->send_credit += shl_get_le32(frame->payload.base);
        break;
    case AGENT_FRAME_RESPONSE:
        call->done = true;
        take_doc(&call->response_bytes, &call->response, frame->payload);
        break;
    case AGENT_FRAME_EOF:
        call->has_eof = true;
        break;
    case AGENT_FRAME_HELLO:
    case AGENT_FRAME_HELLO_ACK:
    case AGENT_FRAME_REQUEST:
    case AGENT_FRAME_CANCEL:
        assert(!"a frame that no agent sends");
        break;
    }
}

static int read_in(struct client *client)
{
    struct agent_frame frame;
    uint8_t *space;
    size_t room;
    ssize_t got;
    int rc = agent_parser_space(&client->parser, &space, &room);

    if (rc < 0) {
        return rc;
    }
    got = read(client->fd, space, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (got <= 0) {
        return -EPIPE;
    }
    agent_parser_filled(&client->parser, (size_t)got);
    while (agent_parser_next(&client->parser, &frame)) {
        take_frame(client, &frame);
    }
    return 0;
}

static int write_out(struct client *client)
{
    ssize_t put = write(client->fd, shl_buf_data(&client->out), shl_buf_len(&client->out));

    if (put < 0 && errno != EAGAIN) {
        return -EPIPE;
    }
    shl_buf_consume(&client->out, put > 0 ? (size_t)put : 0);
    return 0;
}

int client_write(struct client *client, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = client->fd, .events = POLLOUT};

    while (shl_buf_len(&client->out) > 0) {
        if (poll(&poll_fd, 1, timeout_ms) == 0) {
            return -ETIMEDOUT;
        }
        if (write_out(client) < 0) {
            return -EPIPE;
        }
    }
    return 0;
}

int client_pump(struct client *client, int timeout_ms)
{
    short events = shl_buf_len(&client->out) > 0 ? POLLIN | POLLOUT : POLLIN;
    struct pollfd poll_fd = {.fd = client->fd, .events = events};
    int rc = poll(&poll_fd, 1, timeout_ms);

    if (rc == 0) {
        return -ETIMEDOUT;
    }
    if (rc < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    if ((poll_fd.revents & POLLOUT) && write_out(client) < 0) {
        return -EPIPE;
    }
    return poll_fd.revents & (POLLIN | POLLHUP) ? read_in(client) : 0;
}

int client_hello(struct client *client, int timeout_ms)
{
    static const uint8_t zeros[AGENT_SYNC_BYTES];
    uint64_t end_ms = shl_monotonic_ms() + (uint64_t)timeout_ms;
    struct shl_mp_writer w;
    struct shl_buf hello;
    int rc = shl_buf_append(&client->out, zeros, sizeof(zeros));

    shl_random_bytes(client->token, sizeof(client->token));
    client->greeted = false;
    shl_buf_init(&hello, AGENT_HELLO_MAX);
    shl_mp_writer_init(&w, &hello);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", AGENT_PROTOCOL_VERSION);
    shl_mp_kv_bin(&w, "token", client->token, sizeof(client->token));
    shl_mp_end(&w);
    rc = rc < 0 ? rc : shl_mp_done(&w);
    if (rc == 0) {
        client_send_frame(client, AGENT_FRAME_HELLO, 0, shl_buf_bytes(&hello));
    }
    shl_buf_release(&hello);
    while (rc == 0 && !client->greeted) {
        uint64_t now_ms = shl_monotonic_ms();

        rc = now_ms >= end_ms ? -ETIMEDOUT : client_pump(client, (int)(end_ms - now_ms));
    }
    return rc;
}

void client_begin(struct client *client, struct client_call *call, const char *op)
{
    int i;

    *call = (struct client_call){.client = client, .stream = client->next_stream++};
    call->send_credit = AGENT_WINDOW_BYTES;
    shl_buf_init(&call->request, AGENT_REQUEST_MAX);
    shl_buf_init(&call->head_bytes, AGENT_PAYLOAD_MAX);
    shl_buf_init(&call->response_bytes, AGENT_PAYLOAD_MAX);
    for (i = 0; i < 3; i++) {
        shl_buf_init(&call->data[i], CLIENT_DATA_MAX);
    }
    shl_list_push_back(&client->calls, &call->node);
    shl_mp_writer_init(&call->w, &call->request);
    shl_mp_map(&call->w);
    shl_mp_kv_str(&call->w, "op", op);
}

void client_send(struct client_call *call)
{
    int rc;

    shl_mp_end(&call->w);
    rc = shl_mp_done(&call->w);
    assert(rc == 0);
    (void)rc;
    client_send_frame(call->client, AGENT_FRAME_REQUEST, call->stream,
                      shl_buf_bytes(&call->request));
}

void client_call_release(struct client_call *call)
{
    int i;

    shl_list_remove(&call->node);
    if (call->has_head) {
        shl_mp_release(&call->head);
    }
    if (call->done) {
        shl_mp_release(&call->response);
    }
    shl_buf_release(&call->request);
    shl_buf_release(&call->head_bytes);
    shl_buf_release(&call->response_bytes);
    for (i = 0; i < 3; i++) {
        shl_buf_release(&call->data[i]);
    }
}

size_t client_send_data(struct client_call *call, struct shl_bytes data)
{
    size_t len = SHL_MIN(data.len, SHL_MIN(call->send_credit, AGENT_PAYLOAD_MAX));

    if (len > 0) {
        client_send_frame(call->client, AGENT_FRAME_DATA, call->stream,
                          shl_bytes_of(data.base, len));
        call->send_credit -= (uint32_t)len;
    }
    return len;
}

int client_wait(struct client_call *call, int timeout_ms)
{
    uint64_t end_ms = shl_monotonic_ms() + (uint64_t)timeout_ms;

    while (!call->done) {
        uint64_t now_ms = shl_monotonic_ms();
        int rc = now_ms >= end_ms ? -ETIMEDOUT : client_pump(call->client, (int)(end_ms - now_ms));

        if (rc < 0) {
            return rc;
        }
    }
    return (int)client_int(&call->response, "code");
}

int client_run(struct client_call *call, int timeout_ms)
{
    client_send(call);
    return client_wait(call, timeout_ms);
}

int64_t client_int(const struct shl_mp_doc *doc, const char *key)
{
    int64_t value = 0;

    return shl_mp_get_int(doc->root, key, &value) == 0 ? value : 0;
}

bool client_bool(const struct shl_mp_doc *doc, const char *key)
{
    bool value = false;

    return shl_mp_get_bool(doc->root, key, &value) == 0 && value;
}

const char *client_msg(struct client_call *call, char *dst, size_t size)
{
    struct shl_bytes text = {0};
    size_t len;

    (void)!shl_mp_get_str(call->response.root, "msg", &text);
    len = SHL_MIN(text.len, size - 1);
    if (len > 0) {
        memcpy(dst, text.base, len);
    }
    dst[len] = '\0';
    return dst;
}
