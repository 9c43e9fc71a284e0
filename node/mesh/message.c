#include "node/mesh/message.h"

#include <string.h>

#include "base/err.h"

#define CHANNEL_NUMBERS_MAX 255

static const char *const type_texts[] = {[MESH_ONE_WAY] = "",
#define TYPE_TEXT(name, text) [MESH_##name] = (text),
                                         MESH_TYPE_MAP(TYPE_TEXT)
#undef TYPE_TEXT
};

bool mesh_kind_is_valid(const char *kind)
{
    size_t i;

    if (kind[0] < 'a' || kind[0] > 'z') {
        return false;
    }
    for (i = 1; kind[i]; i++) {
        if (!((kind[i] >= 'a' && kind[i] <= 'z') || (kind[i] >= '0' && kind[i] <= '9') ||
              kind[i] == '.' || kind[i] == '-')) {
            return false;
        }
    }
    return i <= MESH_KIND_MAX;
}

/*- Reading. A cursor over the array's elements; the first wrong one sticks. */

struct cursor {
    const msgpack_object *at;
    uint32_t left;
    bool bad;
};

static const msgpack_object *next(struct cursor *c)
{
    if (c->bad || c->left == 0) {
        c->bad = true;
        return NULL;
    }
    c->left--;
    return c->at++;
}

static uint64_t next_uint(struct cursor *c, uint64_t max)
{
    const msgpack_object *obj = next(c);

    if (!obj || obj->type != MSGPACK_OBJECT_POSITIVE_INTEGER || obj->via.u64 > max) {
        c->bad = true;
        return 0;
    }
    return obj->via.u64;
}

static bool next_bool(struct cursor *c)
{
    const msgpack_object *obj = next(c);

    if (!obj || obj->type != MSGPACK_OBJECT_BOOLEAN) {
        c->bad = true;
        return false;
    }
    return obj->via.boolean;
}

static struct shl_bytes next_bin(struct cursor *c)
{
    const msgpack_object *obj = next(c);

    if (!obj || obj->type != MSGPACK_OBJECT_BIN) {
        c->bad = true;
        return shl_bytes_of(NULL, 0);
    }
    return shl_bytes_of(obj->via.bin.ptr, obj->via.bin.size);
}

/* Codes of errors only: 0 or negative, in the range of an int. */
static int64_t next_code(struct cursor *c)
{
    const msgpack_object *obj = next(c);

    if (obj && obj->type == MSGPACK_OBJECT_POSITIVE_INTEGER && obj->via.u64 == 0) {
        return 0;
    }
    if (!obj || obj->type != MSGPACK_OBJECT_NEGATIVE_INTEGER || obj->via.i64 < INT32_MIN) {
        c->bad = true;
        return 0;
    }
    return obj->via.i64;
}

static void next_kind(struct cursor *c, char dst[MESH_KIND_MAX + 1])
{
    const msgpack_object *obj = next(c);

    if (!obj || obj->type != MSGPACK_OBJECT_STR || obj->via.str.size > MESH_KIND_MAX) {
        c->bad = true;
        return;
    }
    memcpy(dst, obj->via.str.ptr, obj->via.str.size);
    dst[obj->via.str.size] = 0;
}

/* A sentence for logs and people: cut, and without control characters. */
static void next_text(struct cursor *c, char dst[MESH_TEXT_MAX])
{
    const msgpack_object *obj = next(c);
    size_t i, len;

    dst[0] = 0;
    if (obj && obj->type == MSGPACK_OBJECT_NIL) {
        return;
    }
    if (!obj || obj->type != MSGPACK_OBJECT_STR) {
        c->bad = true;
        return;
    }
    len = SHL_MIN((size_t)obj->via.str.size, (size_t)MESH_TEXT_MAX - 1);
    for (i = 0; i < len; i++) {
        char ch = obj->via.str.ptr[i];

        dst[i] = (unsigned char)ch < 0x20 || ch == 0x7f ? ' ' : ch;
    }
    dst[len] = 0;
}

/* Optional, and no reason to refuse anybody. */
static void take_address(const msgpack_object *map, struct mesh_message *msg)
{
    char text[NODE_MESH_ADDR_TEXT_SIZE];

    if (shl_mp_get_cpy(map, "addr", text, sizeof(text)) < 0 ||
        node_mesh_addr_parse(text, &msg->hello.addr) < 0) {
        msg->hello.addr = (struct node_mesh_addr){.host = ""};
    }
}

static void next_hello(struct cursor *c, struct mesh_message *msg, bool is_welcome)
{
    const msgpack_object *map = next(c);
    struct shl_bytes id;

    if (!map || shl_mp_get_bin(map, "id", &id) < 0 || id.len != SHL_NODE_ID_BYTES ||
        shl_mp_get_uint(map, "boot", UINT64_MAX, &msg->hello.boot) < 0 ||
        shl_mp_get_uint(map, "nonce", UINT64_MAX, &msg->hello.nonce) < 0) {
        c->bad = true;
        return;
    }
    memcpy(msg->hello.id.bytes, id.base, SHL_NODE_ID_BYTES);
    take_address(map, msg);
    if (is_welcome) {
        if (shl_mp_get_uint(map, "version", UINT32_MAX, &msg->hello.min) < 0) {
            c->bad = true;
        }
        msg->hello.max = msg->hello.min;
    } else if (shl_mp_get_uint(map, "min", UINT32_MAX, &msg->hello.min) < 0 ||
               shl_mp_get_uint(map, "max", UINT32_MAX, &msg->hello.max) < 0 ||
               msg->hello.min > msg->hello.max ||
               shl_mp_get_uint(map, "channel", CHANNEL_NUMBERS_MAX, &msg->hello.channel) < 0) {
        c->bad = true;
    }
}

static enum mesh_type type_of(const char *kind)
{
    size_t i;

    if (kind[0] != '.') {
        return MESH_ONE_WAY;
    }
    for (i = MESH_ONE_WAY + 1; i < SHL_ARRAY_SIZE(type_texts); i++) {
        if (strcmp(kind, type_texts[i]) == 0) {
            return (enum mesh_type)i;
        }
    }
    return MESH_UNKNOWN;
}

static void parse_stream(struct mesh_message *msg, struct cursor *c)
{
    msg->id = next_uint(c, UINT64_MAX);
    msg->opened = next_bool(c);
}

static void parse_rest(struct mesh_message *msg, struct cursor *c)
{
    switch (msg->type) {
    case MESH_ONE_WAY:
        msg->body = next_bin(c);
        break;
    case MESH_HELLO:
    case MESH_WELCOME:
        next_hello(c, msg, msg->type == MESH_WELCOME);
        break;
    case MESH_REFUSE:
        next_kind(c, msg->kind);
        next_text(c, msg->text);
        break;
    case MESH_ASK:
        msg->id = next_uint(c, UINT64_MAX);
        next_kind(c, msg->kind);
        msg->number = next_uint(c, UINT32_MAX);
        msg->body = next_bin(c);
        break;
    case MESH_REPLY:
        msg->id = next_uint(c, UINT64_MAX);
        msg->code = next_code(c);
        next_text(c, msg->text);
        msg->body = next_bin(c);
        break;
    case MESH_OPEN:
        msg->id = next_uint(c, UINT64_MAX);
        next_kind(c, msg->kind);
        msg->body = next_bin(c);
        break;
    case MESH_DATA:
        parse_stream(msg, c);
        msg->body = next_bin(c);
        break;
    case MESH_PART:
    case MESH_CREDIT:
        parse_stream(msg, c);
        msg->number = next_uint(c, UINT32_MAX);
        break;
    case MESH_END:
        parse_stream(msg, c);
        break;
    case MESH_CUT:
        parse_stream(msg, c);
        msg->code = next_code(c);
        next_text(c, msg->text);
        break;
    case MESH_JOIN:
        msg->hello.min = next_uint(c, UINT32_MAX);
        msg->hello.max = next_uint(c, UINT32_MAX);
        msg->body = next_bin(c);
        break;
    case MESH_JOINED:
        msg->code = next_code(c);
        next_text(c, msg->text);
        msg->body = next_bin(c);
        break;
    case MESH_UNKNOWN:
        break;
    }
}

int mesh_message_parse(struct mesh_message *msg, struct shl_bytes bytes)
{
    struct cursor c;
    struct shl_bytes cluster;

    if (bytes.len == 0 || shl_mp_parse(&msg->doc, bytes) < 0) {
        return SHL_EPROTO;
    }
    msg->id = msg->number = 0;
    msg->opened = false;
    msg->code = 0;
    msg->kind[0] = msg->text[0] = 0;
    msg->body = shl_bytes_of(NULL, 0);
    memset(&msg->hello, 0, sizeof(msg->hello));
    if (msg->doc.root->type != MSGPACK_OBJECT_ARRAY) {
        shl_mp_release(&msg->doc);
        return SHL_EPROTO;
    }
    c = (struct cursor){msg->doc.root->via.array.ptr, msg->doc.root->via.array.size, false};
    msg->version = next_uint(&c, UINT32_MAX);
    cluster = next_bin(&c);
    next_kind(&c, msg->kind);
    if (!c.bad && cluster.len == NODE_CLUSTER_BYTES) {
        msg->cluster = cluster.base;
        msg->type = type_of(msg->kind);
        if (msg->type != MESH_ONE_WAY) {
            msg->kind[0] = 0;
        }
        parse_rest(msg, &c);
        if (!c.bad) {
            return 0;
        }
    }
    shl_mp_release(&msg->doc);
    return SHL_EPROTO;
}

void mesh_message_release(struct mesh_message *msg)
{
    shl_mp_release(&msg->doc);
}

/*- Writing. */

static void begin(struct shl_mp_writer *w,
                  struct shl_buf *buf,
                  const struct mesh_envelope *env,
                  const char *kind,
                  size_t body_bytes)
{
    uint8_t *space;
    int rc = shl_buf_reserve(buf, body_bytes + MESH_OVERHEAD_MAX, &space);

    shl_mp_writer_init(w, buf);
    w->error = rc;
    shl_mp_array(w);
    shl_mp_uint(w, env->version);
    shl_mp_bin(w, env->cluster, NODE_CLUSTER_BYTES);
    shl_mp_str(w, kind);
}

static int finish(struct shl_mp_writer *w)
{
    shl_mp_end(w);
    return shl_mp_done(w);
}

static void put_text(struct shl_mp_writer *w, const char *text)
{
    if (text) {
        shl_mp_strn(w, text, strnlen(text, MESH_TEXT_MAX - 1));
    } else {
        shl_mp_nil(w);
    }
}

int mesh_write_one_way(struct shl_buf *buf,
                       const struct mesh_envelope *env,
                       const char *kind,
                       struct shl_bytes body)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, kind, body.len);
    shl_mp_bin(&w, body.base, body.len);
    return finish(&w);
}

int mesh_write_hello(struct shl_buf *buf,
                     const struct mesh_envelope *env,
                     const struct mesh_message *fields)
{
    char text[NODE_MESH_ADDR_TEXT_SIZE];
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_HELLO], 0);
    shl_mp_map(&w);
    shl_mp_kv_bin(&w, "id", fields->hello.id.bytes, SHL_NODE_ID_BYTES);
    shl_mp_kv_uint(&w, "min", fields->hello.min);
    shl_mp_kv_uint(&w, "max", fields->hello.max);
    shl_mp_kv_uint(&w, "boot", fields->hello.boot);
    shl_mp_kv_uint(&w, "nonce", fields->hello.nonce);
    shl_mp_kv_uint(&w, "channel", fields->hello.channel);
    if (fields->hello.addr.host[0]) {
        node_mesh_addr_format(text, &fields->hello.addr);
        shl_mp_kv_str(&w, "addr", text);
    }
    shl_mp_end(&w);
    return finish(&w);
}

int mesh_write_welcome(struct shl_buf *buf,
                       const struct mesh_envelope *env,
                       const struct mesh_message *fields)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_WELCOME], 0);
    shl_mp_map(&w);
    shl_mp_kv_bin(&w, "id", fields->hello.id.bytes, SHL_NODE_ID_BYTES);
    shl_mp_kv_uint(&w, "version", fields->hello.max);
    shl_mp_kv_uint(&w, "boot", fields->hello.boot);
    shl_mp_kv_uint(&w, "nonce", fields->hello.nonce);
    shl_mp_end(&w);
    return finish(&w);
}

int mesh_write_refuse(struct shl_buf *buf,
                      const struct mesh_envelope *env,
                      const char *reason,
                      const char *text)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_REFUSE], MESH_TEXT_MAX);
    shl_mp_str(&w, reason);
    put_text(&w, text);
    return finish(&w);
}

int mesh_write_ask(struct shl_buf *buf,
                   const struct mesh_envelope *env,
                   uint64_t id,
                   const char *method,
                   uint32_t timeout_ms,
                   struct shl_bytes body)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_ASK], body.len);
    shl_mp_uint(&w, id);
    shl_mp_str(&w, method);
    shl_mp_uint(&w, timeout_ms);
    shl_mp_bin(&w, body.base, body.len);
    return finish(&w);
}

static void put_outcome(struct shl_mp_writer *w, int code, const char *text)
{
    shl_mp_int(w, code);
    put_text(w, text);
}

int mesh_write_reply(struct shl_buf *buf,
                     const struct mesh_envelope *env,
                     uint64_t id,
                     int code,
                     const char *text,
                     struct shl_bytes body)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_REPLY], body.len + MESH_TEXT_MAX);
    shl_mp_uint(&w, id);
    put_outcome(&w, code, text);
    shl_mp_bin(&w, body.base, body.len);
    return finish(&w);
}

int mesh_write_open(struct shl_buf *buf,
                    const struct mesh_envelope *env,
                    uint64_t stream,
                    const char *kind,
                    struct shl_bytes head)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_OPEN], head.len);
    shl_mp_uint(&w, stream);
    shl_mp_str(&w, kind);
    shl_mp_bin(&w, head.base, head.len);
    return finish(&w);
}

/* What all messages of an open stream begin with. */
static void begin_of_stream(struct shl_mp_writer *w,
                            struct shl_buf *buf,
                            const struct mesh_envelope *env,
                            enum mesh_type type,
                            uint64_t stream,
                            bool opened,
                            size_t more)
{
    begin(w, buf, env, type_texts[type], more);
    shl_mp_uint(w, stream);
    shl_mp_bool(w, opened);
}

int mesh_write_data(struct shl_buf *buf,
                    const struct mesh_envelope *env,
                    uint64_t stream,
                    bool opened,
                    struct shl_bytes bytes)
{
    struct shl_mp_writer w;

    begin_of_stream(&w, buf, env, MESH_DATA, stream, opened, bytes.len);
    shl_mp_bin(&w, bytes.base, bytes.len);
    return finish(&w);
}

int mesh_write_part(struct shl_buf *buf,
                    const struct mesh_envelope *env,
                    uint64_t stream,
                    bool opened,
                    size_t bytes)
{
    struct shl_mp_writer w;

    begin_of_stream(&w, buf, env, MESH_PART, stream, opened, 0);
    shl_mp_uint(&w, bytes);
    return finish(&w);
}

int mesh_write_credit(struct shl_buf *buf,
                      const struct mesh_envelope *env,
                      uint64_t stream,
                      bool opened,
                      uint64_t bytes)
{
    struct shl_mp_writer w;

    begin_of_stream(&w, buf, env, MESH_CREDIT, stream, opened, 0);
    shl_mp_uint(&w, bytes);
    return finish(&w);
}

int mesh_write_end(struct shl_buf *buf,
                   const struct mesh_envelope *env,
                   uint64_t stream,
                   bool opened)
{
    struct shl_mp_writer w;

    begin_of_stream(&w, buf, env, MESH_END, stream, opened, 0);
    return finish(&w);
}

int mesh_write_cut(struct shl_buf *buf,
                   const struct mesh_envelope *env,
                   uint64_t stream,
                   bool opened,
                   int code,
                   const char *text)
{
    struct shl_mp_writer w;

    begin_of_stream(&w, buf, env, MESH_CUT, stream, opened, MESH_TEXT_MAX);
    put_outcome(&w, code, text);
    return finish(&w);
}

int mesh_write_join(struct shl_buf *buf,
                    const struct mesh_envelope *env,
                    uint32_t version_min,
                    uint32_t version_max,
                    struct shl_bytes body)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_JOIN], body.len);
    shl_mp_uint(&w, version_min);
    shl_mp_uint(&w, version_max);
    shl_mp_bin(&w, body.base, body.len);
    return finish(&w);
}

int mesh_write_joined(struct shl_buf *buf,
                      const struct mesh_envelope *env,
                      int code,
                      const char *text,
                      struct shl_bytes body)
{
    struct shl_mp_writer w;

    begin(&w, buf, env, type_texts[MESH_JOINED], body.len + MESH_TEXT_MAX);
    put_outcome(&w, code, text);
    shl_mp_bin(&w, body.base, body.len);
    return finish(&w);
}
