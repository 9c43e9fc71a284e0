/* Any bytes as a message of the mesh: no crash, and what parses keeps its promises; writing
 * it again and reading that gives the same. */
#include <assert.h>
#include <string.h>

#include "node/mesh/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int write_again(struct shl_buf *buf, const struct mesh_message *msg)
{
    struct mesh_envelope env = {(uint32_t)msg->version, msg->cluster};

    switch (msg->type) {
    case MESH_ONE_WAY:
        return mesh_write_one_way(buf, &env, msg->kind, msg->body);
    case MESH_HELLO:
        return mesh_write_hello(buf, &env, msg);
    case MESH_WELCOME:
        return mesh_write_welcome(buf, &env, msg);
    case MESH_REFUSE:
        return mesh_write_refuse(buf, &env, msg->kind, msg->text);
    case MESH_ASK:
        return mesh_write_ask(buf, &env, msg->id, msg->kind, (uint32_t)msg->number, msg->body);
    case MESH_REPLY:
        return mesh_write_reply(buf, &env, msg->id, (int)msg->code, msg->text, msg->body);
    case MESH_OPEN:
        return mesh_write_open(buf, &env, msg->id, msg->kind, msg->body);
    case MESH_DATA:
        return mesh_write_data(buf, &env, msg->id, msg->opened, msg->body);
    case MESH_PART:
        return mesh_write_part(buf, &env, msg->id, msg->opened, msg->number);
    case MESH_CREDIT:
        return mesh_write_credit(buf, &env, msg->id, msg->opened, msg->number);
    case MESH_END:
        return mesh_write_end(buf, &env, msg->id, msg->opened);
    case MESH_CUT:
        return mesh_write_cut(buf, &env, msg->id, msg->opened, (int)msg->code, msg->text);
    case MESH_JOIN:
        return mesh_write_join(buf, &env, (uint32_t)msg->hello.min, (uint32_t)msg->hello.max,
                               msg->body);
    case MESH_JOINED:
        return mesh_write_joined(buf, &env, (int)msg->code, msg->text, msg->body);
    case MESH_UNKNOWN:
        break;
    }
    return -1;
}

static void check_same(const struct mesh_message *a, const struct mesh_message *b)
{
    assert(a->type == b->type && a->version == b->version && a->id == b->id);
    assert(memcmp(a->cluster, b->cluster, NODE_CLUSTER_BYTES) == 0);
    assert(strcmp(a->kind, b->kind) == 0 && strcmp(a->text, b->text) == 0);
    assert(a->opened == b->opened && a->number == b->number && a->code == b->code);
    assert(a->body.len == b->body.len);
    assert(a->body.len == 0 || memcmp(a->body.base, b->body.base, a->body.len) == 0);
    assert(memcmp(&a->hello, &b->hello, sizeof(a->hello)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesh_message msg, again;
    struct shl_buf buf;

    if (mesh_message_parse(&msg, shl_bytes_of(data, size)) < 0) {
        return 0;
    }
    assert(msg.code <= 0);
    assert(strlen(msg.kind) <= MESH_KIND_MAX && strlen(msg.text) < MESH_TEXT_MAX);
    assert(msg.body.len <= size);
    shl_buf_init(&buf, size + MESH_OVERHEAD_MAX + MESH_TEXT_MAX);
    if (msg.type != MESH_UNKNOWN) {
        assert(write_again(&buf, &msg) == 0);
        assert(mesh_message_parse(&again, shl_buf_bytes(&buf)) == 0);
        check_same(&msg, &again);
        mesh_message_release(&again);
    }
    shl_buf_release(&buf);
    mesh_message_release(&msg);
    return 0;
}
