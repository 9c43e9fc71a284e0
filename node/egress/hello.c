#include "node/egress/hello.h"

#include <string.h>

#define RECORD_HANDSHAKE     22
#define RECORD_HEAD_BYTES    5
#define RECORD_MAX           16384
#define MESSAGE_HEAD_BYTES   4
#define MESSAGE_CLIENT_HELLO 1
#define RANDOM_BYTES         32
#define SESSION_ID_MAX       32

#define EXTENSION_SERVER_NAME     0
#define EXTENSION_ALPN            16
#define EXTENSION_ENCRYPTED_HELLO 0xfe0d

/* Reads big-endian fields; the first one that is not there sticks in @bad. */
struct cursor {
    const uint8_t *at, *end;
    bool bad;
};

static struct cursor take(struct cursor *c, size_t len)
{
    struct cursor part = {c->at, c->at, false};

    if (c->bad || (size_t)(c->end - c->at) < len) {
        c->bad = true;
        c->at = c->end;
        part.bad = true;
        return part;
    }
    part.end = c->at + len;
    c->at += len;
    return part;
}

static uint32_t take_number(struct cursor *c, size_t bytes)
{
    struct cursor part = take(c, bytes);
    uint32_t value = 0;

    while (part.at < part.end) {
        value = value << 8 | *part.at++;
    }
    return value;
}

/* A vector with a length of @length_bytes in front. */
static struct cursor take_vector(struct cursor *c, size_t length_bytes)
{
    return take(c, take_number(c, length_bytes));
}

static bool is_host_character(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
}

static bool read_server_name(struct cursor *body, struct egress_hello *ret)
{
    struct cursor list = take_vector(body, 2);

    if (list.bad || body->at != body->end || ret->server_name[0]) {
        return false;
    }
    while (list.at < list.end) {
        uint32_t type = take_number(&list, 1);
        struct cursor name = take_vector(&list, 2);
        size_t len = (size_t)(name.end - name.at), i;

        if (list.bad || type != 0 || ret->server_name[0] || len == 0 || len > EGRESS_HOST_MAX) {
            return false; /* only host names exist, and one of them */
        }
        for (i = 0; i < len; i++) {
            if (!is_host_character(name.at[i])) {
                return false;
            }
        }
        memcpy(ret->server_name, name.at, len);
        ret->server_name[len] = '\0';
    }
    return ret->server_name[0] != '\0';
}

static bool read_alpn(struct cursor *body, struct egress_hello *ret)
{
    struct cursor list = take_vector(body, 2);

    if (list.bad || body->at != body->end || ret->has_alpn) {
        return false;
    }
    ret->has_alpn = true;
    while (list.at < list.end) {
        struct cursor name = take_vector(&list, 1);
        size_t len = (size_t)(name.end - name.at);

        if (list.bad || len == 0) {
            return false;
        }
        ret->offers_http11 |= len == 8 && memcmp(name.at, "http/1.1", 8) == 0;
        ret->offers_h2 |= len == 2 && memcmp(name.at, "h2", 2) == 0;
    }
    return true;
}

static bool read_extensions(struct cursor *c, struct egress_hello *ret)
{
    struct cursor list;

    if (c->at == c->end) {
        return true; /* TLS 1.2 allows none at all */
    }
    list = take_vector(c, 2);
    if (list.bad || c->at != c->end) {
        return false;
    }
    while (list.at < list.end) {
        uint32_t type = take_number(&list, 2);
        struct cursor body = take_vector(&list, 2);

        if (list.bad) {
            return false;
        }
        if (type == EXTENSION_SERVER_NAME && !read_server_name(&body, ret)) {
            return false;
        }
        if (type == EXTENSION_ALPN && !read_alpn(&body, ret)) {
            return false;
        }
        ret->has_encrypted_hello |= type == EXTENSION_ENCRYPTED_HELLO;
    }
    return true;
}

static bool read_hello(struct cursor c, struct egress_hello *ret)
{
    struct cursor session, ciphers, compressions;

    if (take_number(&c, 2) >> 8 != 3) {
        return false;
    }
    (void)take(&c, RANDOM_BYTES);
    session = take_vector(&c, 1);
    ciphers = take_vector(&c, 2);
    compressions = take_vector(&c, 1);
    if (c.bad || session.end - session.at > SESSION_ID_MAX || ciphers.end - ciphers.at < 2 ||
        compressions.end == compressions.at) {
        return false;
    }
    return read_extensions(&c, ret);
}

/* Joins the payloads of the records. @message has room for the head and the largest message. */
static enum egress_hello_result join_records(struct shl_bytes bytes,
                                             uint8_t *message,
                                             size_t *ret_len)
{
    size_t at = 0, len = 0, wanted = MESSAGE_HEAD_BYTES;
    unsigned records;

    for (records = 0; records < EGRESS_HELLO_RECORDS_MAX; records++) {
        size_t left = bytes.len - at, payload, part;
        const uint8_t *head;

        if (left == 0) {
            return EGRESS_HELLO_MORE;
        }
        head = bytes.base + at;
        if (head[0] != RECORD_HANDSHAKE || (left > 1 && head[1] != 3)) {
            return EGRESS_HELLO_BAD;
        }
        if (left < RECORD_HEAD_BYTES) {
            return EGRESS_HELLO_MORE;
        }
        payload = (size_t)head[3] << 8 | head[4];
        if (payload == 0 || payload > RECORD_MAX) {
            return EGRESS_HELLO_BAD;
        }
        part = SHL_MIN(payload, left - RECORD_HEAD_BYTES);
        if (part > MESSAGE_HEAD_BYTES + EGRESS_HELLO_MAX - len) {
            return EGRESS_HELLO_BAD;
        }
        memcpy(message + len, head + RECORD_HEAD_BYTES, part);
        len += part;
        if (len > 0 && message[0] != MESSAGE_CLIENT_HELLO) {
            return EGRESS_HELLO_BAD;
        }
        if (len >= MESSAGE_HEAD_BYTES) {
            wanted = MESSAGE_HEAD_BYTES +
                     ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
            if (wanted > MESSAGE_HEAD_BYTES + EGRESS_HELLO_MAX || len > wanted) {
                return EGRESS_HELLO_BAD; /* nothing may follow before the server answers */
            }
            if (len == wanted) {
                *ret_len = len;
                return part == payload ? EGRESS_HELLO_OK : EGRESS_HELLO_BAD;
            }
        }
        if (part < payload) {
            return EGRESS_HELLO_MORE;
        }
        at += RECORD_HEAD_BYTES + payload;
    }
    return EGRESS_HELLO_BAD;
}

enum egress_hello_result egress_hello_parse(struct shl_bytes bytes, struct egress_hello *ret)
{
    uint8_t message[MESSAGE_HEAD_BYTES + EGRESS_HELLO_MAX];
    struct egress_hello hello = {0};
    enum egress_hello_result result;
    struct cursor c = {0};
    size_t len = 0;

    result = join_records(bytes, message, &len);
    if (result != EGRESS_HELLO_OK) {
        return result;
    }
    c.at = message + MESSAGE_HEAD_BYTES;
    c.end = message + len;
    if (!read_hello(c, &hello)) {
        return EGRESS_HELLO_BAD;
    }
    *ret = hello;
    return EGRESS_HELLO_OK;
}
