#include "tests/node/mesh/raw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

static const struct mesh_envelope env = {1, test_cluster};

static void set_int(void *socket, int option, int value)
{
    assert_int_equal(zmq_setsockopt(socket, option, &value, sizeof(value)), 0);
}

static uint16_t bind_router(struct raw *raw, int channel)
{
    char endpoint[64] = "tcp://127.0.0.1:*";
    size_t size = sizeof(endpoint);
    void *router = zmq_socket(raw->ctx, ZMQ_ROUTER);

    set_int(router, ZMQ_LINGER, 0);
    set_int(router, ZMQ_CURVE_SERVER, 1);
    set_int(router, ZMQ_RCVHWM, 4);
    assert_int_equal(zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, raw->keys.secret_key, 32), 0);
    assert_int_equal(zmq_bind(router, endpoint), 0);
    assert_int_equal(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size), 0);
    raw->router[channel] = router;
    return (uint16_t)atoi(strrchr(endpoint, ':') + 1);
}

void raw_open(struct raw *raw)
{
    memset(raw, 0, sizeof(*raw));
    node_mesh_keys_make(&raw->keys);
    raw->nonce = 7;
    raw->ctx = zmq_ctx_new();
    (void)snprintf(raw->addr.host, sizeof(raw->addr.host), "127.0.0.1");
    raw->addr.control_port = bind_router(raw, MESH_CONTROL);
    raw->addr.bulk_port = bind_router(raw, MESH_BULK);
}

void raw_hang_up(struct raw *raw, enum mesh_channel channel)
{
    if (raw->dealer[channel]) {
        (void)zmq_close(raw->dealer[channel]);
        raw->dealer[channel] = NULL;
    }
}

void raw_close(struct raw *raw)
{
    raw_hang_up(raw, MESH_CONTROL);
    raw_hang_up(raw, MESH_BULK);
    (void)zmq_close(raw->router[MESH_CONTROL]);
    (void)zmq_close(raw->router[MESH_BULK]);
    (void)zmq_ctx_term(raw->ctx);
}

void raw_dial(struct raw *raw, enum mesh_channel channel, const struct test_mesh *t)
{
    char endpoint[64];
    void *dealer = zmq_socket(raw->ctx, ZMQ_DEALER);

    raw_hang_up(raw, channel);
    set_int(dealer, ZMQ_LINGER, 0);
    set_int(dealer, ZMQ_RECONNECT_IVL, -1);
    assert_int_equal(zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, t->keys.public_key, 32), 0);
    assert_int_equal(zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, raw->keys.public_key, 32), 0);
    assert_int_equal(zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, raw->keys.secret_key, 32), 0);
    (void)snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u",
                   channel == MESH_CONTROL ? t->addr.control_port : t->addr.bulk_port);
    assert_int_equal(zmq_connect(dealer, endpoint), 0);
    raw->dealer[channel] = dealer;
}

void raw_send(struct raw *raw, enum mesh_channel channel, const void *data, size_t len, bool more)
{
    int flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0);

    assert_true(zmq_send(raw->dealer[channel], data, len, flags) >= 0);
}

void raw_send_buf(struct raw *raw, enum mesh_channel channel, struct shl_buf *buf)
{
    raw_send(raw, channel, shl_buf_data(buf), shl_buf_len(buf), false);
    shl_buf_clear(buf);
}

struct mesh_message raw_hello_fields(const struct raw *raw, enum mesh_channel channel)
{
    struct mesh_message fields = {0};

    fields.hello.id = raw->keys.id;
    fields.hello.min = fields.hello.max = 1;
    fields.hello.boot = 1;
    fields.hello.nonce = raw->nonce;
    fields.hello.channel = channel;
    return fields;
}

void raw_send_hello(struct raw *raw,
                    enum mesh_channel channel,
                    const struct mesh_message *fields,
                    const uint8_t cluster[NODE_CLUSTER_BYTES])
{
    struct mesh_envelope other = {1, cluster};
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    assert_int_equal(mesh_write_hello(&buf, &other, fields), 0);
    raw_send_buf(raw, channel, &buf);
    shl_buf_release(&buf);
}

static void on_answer(struct raw *raw, const struct mesh_message *msg)
{
    if (msg->type == MESH_WELCOME) {
        raw->welcomes++;
    } else if (msg->type == MESH_REFUSE) {
        int why;

        raw->refusals++;
        for (why = 0; why < NODE_MESH_REFUSAL_COUNT; why++) {
            raw->refused[why] +=
                strcmp(msg->kind, node_mesh_refusal_name((enum node_mesh_refusal)why)) == 0;
        }
        if (strcmp(msg->kind, "reset") != 0) {
            (void)snprintf(raw->text, sizeof(raw->text), "%s", msg->text);
        }
    } else {
        raw->others++;
    }
}

static void on_request(struct raw *raw, int channel, zmq_msg_t *id, const struct mesh_message *msg)
{
    if (msg->type == MESH_HELLO) {
        struct mesh_message fields = raw_hello_fields(raw, (enum mesh_channel)channel);
        struct shl_buf buf;

        shl_buf_init(&buf, 4096);
        assert_int_equal(mesh_write_welcome(&buf, &env, &fields), 0);
        (void)zmq_send(raw->router[channel], zmq_msg_data(id), zmq_msg_size(id), ZMQ_SNDMORE);
        (void)zmq_send(raw->router[channel], shl_buf_data(&buf), shl_buf_len(&buf), 0);
        shl_buf_release(&buf);
    } else if (msg->type == MESH_OPEN) {
        raw->streams++;
        raw->stream = msg->id;
    } else if (msg->type == MESH_DATA) {
        raw->bytes += msg->body.len;
    } else if (msg->type == MESH_CUT) {
        raw->cuts++;
        raw->cut_code = msg->code;
    } else {
        raw->others++;
    }
}

static bool step_one(struct raw *raw, int channel, bool is_router)
{
    void *socket = is_router ? raw->router[channel] : raw->dealer[channel];
    struct mesh_message msg;
    zmq_msg_t id, part;
    bool has_some;

    if (!socket) {
        return false;
    }
    (void)zmq_msg_init(&id);
    (void)zmq_msg_init(&part);
    has_some = (!is_router || zmq_msg_recv(&id, socket, ZMQ_DONTWAIT) >= 0) &&
               zmq_msg_recv(&part, socket, ZMQ_DONTWAIT) >= 0;
    if (has_some) {
        struct shl_bytes bytes = shl_bytes_of(zmq_msg_data(&part), zmq_msg_size(&part));

        assert_int_equal(mesh_message_parse(&msg, bytes), 0);
        if (is_router) {
            on_request(raw, channel, &id, &msg);
        } else {
            on_answer(raw, &msg);
        }
        mesh_message_release(&msg);
    }
    (void)zmq_msg_close(&id);
    (void)zmq_msg_close(&part);
    return has_some;
}

void raw_step(struct raw *raw)
{
    int channel;

    for (channel = 0; channel < MESH_CHANNELS; channel++) {
        while (step_one(raw, channel, false)) {
        }
        while (!raw->is_deaf && step_one(raw, channel, true)) {
        }
    }
}

void raw_link(struct raw *raw, struct test_mesh *t)
{
    struct node_mesh_peer_stats peer;
    int channel;

    assert_int_equal(
        node_mesh_set_peer(t->mesh, &raw->keys.id, raw->keys.public_key, &raw->addr, 1, NULL), 0);
    for (channel = 0; channel < MESH_CHANNELS; channel++) {
        struct mesh_message fields = raw_hello_fields(raw, (enum mesh_channel)channel);

        raw_dial(raw, (enum mesh_channel)channel, t);
        raw_send_hello(raw, (enum mesh_channel)channel, &fields, test_cluster);
        RAW_UNTIL(raw, t->loop,
                  node_mesh_peers(t->mesh, &peer, 1) == 1 &&
                      (channel == MESH_CONTROL ? peer.is_up : peer.is_bulk_up));
    }
}
