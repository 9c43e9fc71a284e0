#include "base/mp.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* map32 / array32 headers are patched when the container closes, so the count
 * need not be known in advance. */
#define HEADER_BYTES 5
#define TAG_MAP32    0xdf
#define TAG_ARRAY32  0xdd

static int write_bytes(void *arg, const char *data, size_t len)
{
    struct shl_mp_writer *w = arg;
    int rc;

    if (w->error) {
        return -1;
    }
    rc = shl_buf_append(w->buf, data, len);
    if (rc < 0) {
        w->error = rc;
        return -1;
    }
    return 0;
}

void shl_mp_writer_init(struct shl_mp_writer *w, struct shl_buf *buf)
{
    *w = (struct shl_mp_writer){.buf = buf, .base_len = shl_buf_len(buf)};
    msgpack_packer_init(&w->packer, w, write_bytes);
}

static void count_item(struct shl_mp_writer *w)
{
    if (w->depth > 0) {
        w->open[w->depth - 1].items++;
    }
}

static void open_container(struct shl_mp_writer *w, bool is_map)
{
    char header[HEADER_BYTES] = {(char)(is_map ? TAG_MAP32 : TAG_ARRAY32), 0, 0, 0, 0};

    assert(w->depth < SHL_MP_DEPTH_MAX);
    count_item(w);
    w->open[w->depth].header_at = shl_buf_len(w->buf) - w->base_len;
    w->open[w->depth].items = 0;
    w->open[w->depth].is_map = is_map;
    w->depth++;
    (void)write_bytes(w, header, sizeof(header));
}

void shl_mp_map(struct shl_mp_writer *w)
{
    open_container(w, true);
}

void shl_mp_array(struct shl_mp_writer *w)
{
    open_container(w, false);
}

void shl_mp_end(struct shl_mp_writer *w)
{
    uint32_t count;
    uint8_t *header;

    assert(w->depth > 0);
    w->depth--;
    if (w->error) {
        return;
    }
    count = w->open[w->depth].items;
    if (w->open[w->depth].is_map) {
        assert(count % 2 == 0);
        count /= 2;
    }
    header = shl_buf_data(w->buf) + w->base_len + w->open[w->depth].header_at;
    header[1] = (uint8_t)(count >> 24);
    header[2] = (uint8_t)(count >> 16);
    header[3] = (uint8_t)(count >> 8);
    header[4] = (uint8_t)count;
}

void shl_mp_strn(struct shl_mp_writer *w, const char *text, size_t len)
{
    count_item(w);
    if (msgpack_pack_str(&w->packer, len) == 0 && len > 0) {
        (void)msgpack_pack_str_body(&w->packer, text, len);
    }
}

void shl_mp_str(struct shl_mp_writer *w, const char *text)
{
    if (text) {
        shl_mp_strn(w, text, strlen(text));
    } else {
        shl_mp_nil(w);
    }
}

void shl_mp_bin(struct shl_mp_writer *w, const void *data, size_t len)
{
    count_item(w);
    if (msgpack_pack_bin(&w->packer, len) == 0 && len > 0) {
        (void)msgpack_pack_bin_body(&w->packer, data, len);
    }
}

void shl_mp_uint(struct shl_mp_writer *w, uint64_t value)
{
    count_item(w);
    (void)msgpack_pack_uint64(&w->packer, value);
}

void shl_mp_int(struct shl_mp_writer *w, int64_t value)
{
    count_item(w);
    (void)msgpack_pack_int64(&w->packer, value);
}

void shl_mp_bool(struct shl_mp_writer *w, bool value)
{
    count_item(w);
    (void)(value ? msgpack_pack_true(&w->packer) : msgpack_pack_false(&w->packer));
}

void shl_mp_nil(struct shl_mp_writer *w)
{
    count_item(w);
    (void)msgpack_pack_nil(&w->packer);
}

void shl_mp_kv_str(struct shl_mp_writer *w, const char *key, const char *text)
{
    shl_mp_str(w, key);
    shl_mp_str(w, text);
}

void shl_mp_kv_bin(struct shl_mp_writer *w, const char *key, const void *data, size_t len)
{
    shl_mp_str(w, key);
    shl_mp_bin(w, data, len);
}

void shl_mp_kv_uint(struct shl_mp_writer *w, const char *key, uint64_t value)
{
    shl_mp_str(w, key);
    shl_mp_uint(w, value);
}

void shl_mp_kv_int(struct shl_mp_writer *w, const char *key, int64_t value)
{
    shl_mp_str(w, key);
    shl_mp_int(w, value);
}

void shl_mp_kv_bool(struct shl_mp_writer *w, const char *key, bool value)
{
    shl_mp_str(w, key);
    shl_mp_bool(w, value);
}

void shl_mp_kv_map(struct shl_mp_writer *w, const char *key)
{
    shl_mp_str(w, key);
    shl_mp_map(w);
}

void shl_mp_kv_array(struct shl_mp_writer *w, const char *key)
{
    shl_mp_str(w, key);
    shl_mp_array(w);
}

int shl_mp_done(struct shl_mp_writer *w)
{
    assert(w->error || w->depth == 0);
    return w->error;
}

/*- Check before msgpack-c sees the bytes (msgpack specification, "Formats"). */

struct walk {
    const uint8_t *at;
    const uint8_t *end;
    uint32_t objects;
};

static int take_be(struct walk *walk, unsigned bytes, uint32_t *ret)
{
    uint32_t value = 0;

    if ((size_t)(walk->end - walk->at) < bytes) {
        return SHL_EPROTO;
    }
    while (bytes-- > 0) {
        value = value << 8 | *walk->at++;
    }
    *ret = value;
    return 0;
}

static int skip(struct walk *walk, uint64_t bytes)
{
    if ((uint64_t)(walk->end - walk->at) < bytes) {
        return SHL_EPROTO;
    }
    walk->at += bytes;
    return 0;
}

/* One tag: how many body bytes to skip and how many values follow inside it. */
static int read_tag(struct walk *walk, uint8_t tag, uint64_t *ret_skip, uint64_t *ret_values)
{
    static const uint8_t len_bytes[] = {1, 2, 4};
    uint32_t n = 0;
    int rc = 0;

    *ret_skip = 0;
    *ret_values = 0;
    if (tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3) {
        return 0;
    }
    if (tag <= 0x8f) {
        *ret_values = 2ull * (tag & 0x0f);
    } else if (tag <= 0x9f) {
        *ret_values = tag & 0x0f;
    } else if (tag <= 0xbf) {
        *ret_skip = tag & 0x1f;
    } else if (tag >= 0xc4 && tag <= 0xc6) { /* bin */
        rc = take_be(walk, len_bytes[tag - 0xc4], &n);
        *ret_skip = n;
    } else if (tag >= 0xca && tag <= 0xd3) { /* float32/64, uint8..64, int8..64 */
        static const uint8_t widths[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8};

        *ret_skip = widths[tag - 0xca];
    } else if (tag >= 0xd9 && tag <= 0xdb) { /* str */
        rc = take_be(walk, len_bytes[tag - 0xd9], &n);
        *ret_skip = n;
    } else if (tag == 0xdc || tag == 0xdd) { /* array */
        rc = take_be(walk, tag == 0xdc ? 2 : 4, &n);
        *ret_values = n;
    } else if (tag == 0xde || tag == 0xdf) { /* map */
        rc = take_be(walk, tag == 0xde ? 2 : 4, &n);
        *ret_values = 2ull * n;
    } else {
        return SHL_EPROTO; /* 0xc1 never used; extension types are not part of our formats */
    }
    return rc;
}

static int walk_value(struct walk *walk, unsigned depth)
{
    uint64_t body, values;
    int rc;

    if (depth > SHL_MP_DEPTH_MAX) {
        return SHL_EPROTO;
    }
    if (walk->at == walk->end) {
        return SHL_EPROTO;
    }
    if (++walk->objects > SHL_MP_OBJECTS_MAX) {
        return SHL_ELIMIT;
    }
    rc = read_tag(walk, *walk->at++, &body, &values);
    if (rc == 0) {
        rc = skip(walk, body);
    }
    /* Every value needs at least one byte: a count beyond them is a lie. */
    if (rc == 0 && values > (uint64_t)(walk->end - walk->at)) {
        rc = SHL_EPROTO;
    }
    while (rc == 0 && values-- > 0) {
        rc = walk_value(walk, depth + 1);
    }
    return rc;
}

int shl_mp_parse_first(struct shl_mp_doc *doc, struct shl_bytes bytes, size_t *ret_used)
{
    struct walk walk = {bytes.base, bytes.base + bytes.len, 0};
    msgpack_unpack_return outcome;
    size_t used, offset = 0;
    int rc;

    rc = walk_value(&walk, 0);
    if (rc < 0) {
        return rc;
    }
    used = (size_t)(walk.at - bytes.base);
    msgpack_unpacked_init(&doc->unpacked);
    outcome = msgpack_unpack_next(&doc->unpacked, (const char *)bytes.base, used, &offset);
    if (outcome != MSGPACK_UNPACK_SUCCESS || offset != used) {
        msgpack_unpacked_destroy(&doc->unpacked);
        return outcome == MSGPACK_UNPACK_NOMEM_ERROR ? -ENOMEM : SHL_EPROTO;
    }
    doc->root = &doc->unpacked.data;
    *ret_used = used;
    return 0;
}

int shl_mp_parse(struct shl_mp_doc *doc, struct shl_bytes bytes)
{
    size_t used;
    int rc = shl_mp_parse_first(doc, bytes, &used);

    if (rc == 0 && used != bytes.len) {
        shl_mp_release(doc);
        return SHL_EPROTO;
    }
    return rc;
}

void shl_mp_release(struct shl_mp_doc *doc)
{
    msgpack_unpacked_destroy(&doc->unpacked);
    doc->root = NULL;
}

const msgpack_object *shl_mp_find(const msgpack_object *map, const char *key)
{
    size_t key_len = strlen(key);
    uint32_t i;

    if (!map || map->type != MSGPACK_OBJECT_MAP) {
        return NULL;
    }
    for (i = 0; i < map->via.map.size; i++) {
        const msgpack_object_kv *kv = &map->via.map.ptr[i];

        if (kv->key.type == MSGPACK_OBJECT_STR && kv->key.via.str.size == key_len &&
            memcmp(kv->key.via.str.ptr, key, key_len) == 0) {
            return kv->val.type == MSGPACK_OBJECT_NIL ? NULL : &kv->val;
        }
    }
    return NULL;
}

int shl_mp_get_str(const msgpack_object *map, const char *key, struct shl_bytes *ret)
{
    const msgpack_object *value = shl_mp_find(map, key);

    if (!value) {
        return SHL_ENOTFOUND;
    }
    if (value->type != MSGPACK_OBJECT_STR) {
        return SHL_EPROTO;
    }
    *ret = shl_bytes_of(value->via.str.ptr, value->via.str.size);
    return 0;
}

int shl_mp_obj_dup(const msgpack_object *obj, char **ret)
{
    char *text;

    if (obj->type != MSGPACK_OBJECT_STR) {
        return SHL_EPROTO;
    }
    if (obj->via.str.size > 0 && memchr(obj->via.str.ptr, 0, obj->via.str.size)) {
        return SHL_EPROTO;
    }
    text = shl_bytes_dup_str(shl_bytes_of(obj->via.str.ptr, obj->via.str.size));
    if (!text) {
        return -ENOMEM;
    }
    *ret = text;
    return 0;
}

int shl_mp_get_dup(const msgpack_object *map, const char *key, char **ret)
{
    const msgpack_object *value = shl_mp_find(map, key);

    return value ? shl_mp_obj_dup(value, ret) : SHL_ENOTFOUND;
}

int shl_mp_get_cpy(const msgpack_object *map, const char *key, char *dst, size_t size)
{
    struct shl_bytes text;
    int rc = shl_mp_get_str(map, key, &text);

    if (rc < 0) {
        return rc;
    }
    if (text.len >= size || (text.len > 0 && memchr(text.base, 0, text.len))) {
        return SHL_EPROTO;
    }
    if (text.len > 0) {
        memcpy(dst, text.base, text.len);
    }
    dst[text.len] = '\0';
    return 0;
}

int shl_mp_get_bin(const msgpack_object *map, const char *key, struct shl_bytes *ret)
{
    const msgpack_object *value = shl_mp_find(map, key);

    if (!value) {
        return SHL_ENOTFOUND;
    }
    if (value->type != MSGPACK_OBJECT_BIN) {
        return SHL_EPROTO;
    }
    *ret = shl_bytes_of(value->via.bin.ptr, value->via.bin.size);
    return 0;
}

int shl_mp_get_uint(const msgpack_object *map, const char *key, uint64_t max, uint64_t *ret)
{
    const msgpack_object *value = shl_mp_find(map, key);

    if (!value) {
        return SHL_ENOTFOUND;
    }
    if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER || value->via.u64 > max) {
        return SHL_EPROTO;
    }
    *ret = value->via.u64;
    return 0;
}

int shl_mp_get_int(const msgpack_object *map, const char *key, int64_t *ret)
{
    const msgpack_object *value = shl_mp_find(map, key);

    if (!value) {
        return SHL_ENOTFOUND;
    }
    if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        *ret = value->via.i64;
        return 0;
    }
    if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER || value->via.u64 > INT64_MAX) {
        return SHL_EPROTO;
    }
    *ret = (int64_t)value->via.u64;
    return 0;
}

int shl_mp_get_bool(const msgpack_object *map, const char *key, bool *ret)
{
    const msgpack_object *value = shl_mp_find(map, key);

    if (!value) {
        return SHL_ENOTFOUND;
    }
    if (value->type != MSGPACK_OBJECT_BOOLEAN) {
        return SHL_EPROTO;
    }
    *ret = value->via.boolean;
    return 0;
}
