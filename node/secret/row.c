#include "node/secret/row.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "base/err.h"
#include "base/id.h"
#include "base/mp.h"

#define ROW_VERSION 1
#define HASH_BYTES  16

/*- Keys. */

static void hash_text(char dst[2 * HASH_BYTES + 1], const char *name)
{
    uint8_t hash[HASH_BYTES];

    (void)crypto_generichash(hash, sizeof(hash), (const uint8_t *)name, strlen(name), NULL, 0);
    shl_hex_encode(dst, hash, sizeof(hash));
}

void node_store_key(char *key, const char *org, const char *name)
{
    char hash[2 * HASH_BYTES + 1];

    hash_text(hash, name);
    (void)snprintf(key, NODE_SECRET_KEY_SIZE, NODE_STORE_PREFIX "%.39s/%s", org, hash);
}

void node_stores_prefix(char *key, const char *org)
{
    (void)snprintf(key, NODE_SECRET_KEY_SIZE, NODE_STORE_PREFIX "%.39s/", org);
}

void node_secret_key(char *key, const char *store_id, const char *name)
{
    char hash[2 * HASH_BYTES + 1];

    hash_text(hash, name);
    (void)snprintf(key, NODE_SECRET_KEY_SIZE, NODE_SECRET_PREFIX "%.36s/%s", store_id, hash);
}

void node_secrets_prefix(char *key, const char *store_id)
{
    (void)snprintf(key, NODE_SECRET_KEY_SIZE, NODE_SECRET_PREFIX "%.36s/", store_id);
}

void node_seal_row_key(char *key, uint32_t generation)
{
    (void)snprintf(key, NODE_SECRET_KEY_SIZE, NODE_SEAL_PREFIX "%08x", generation);
}

bool node_store_id_is_valid(const char *id)
{
    size_t i;

    for (i = 0; i < NODE_STORE_ID_SIZE - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (id[i] == '\0' || (dash ? id[i] != '-' : !strchr("0123456789abcdef", id[i]))) {
            return false;
        }
    }
    return id[i] == '\0';
}

/*- Encode. */

void node_host_list_encode(struct shl_mp_writer *w,
                           const char *key,
                           const struct node_host_list *list)
{
    size_t i;

    shl_mp_kv_array(w, key);
    for (i = 0; i < list->count; i++) {
        shl_mp_str(w, list->items[i]);
    }
    shl_mp_end(w);
}

static void begin(struct shl_mp_writer *w, struct shl_buf *buf)
{
    shl_mp_writer_init(w, buf);
    shl_mp_map(w);
    shl_mp_kv_uint(w, "v", ROW_VERSION);
}

int node_store_row_encode(const struct node_store_row *row, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    begin(&w, buf);
    shl_mp_kv_str(&w, "org", row->org);
    shl_mp_kv_str(&w, "id", row->id);
    shl_mp_kv_str(&w, "name", row->name);
    node_host_list_encode(&w, "allow", &row->allowlist);
    shl_mp_kv_int(&w, "created_at_ms", row->created_at_ms);
    shl_mp_kv_int(&w, "updated_at_ms", row->updated_at_ms);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int node_secret_row_encode(const struct node_secret_row *row, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    begin(&w, buf);
    shl_mp_kv_str(&w, "id", row->id);
    shl_mp_kv_str(&w, "store", row->store);
    shl_mp_kv_str(&w, "name", row->name);
    node_host_list_encode(&w, "hosts", &row->hosts);
    shl_mp_kv_uint(&w, "generation", row->generation);
    shl_mp_kv_bin(&w, "sealed", row->sealed.base, row->sealed.len);
    shl_mp_kv_int(&w, "created_at_ms", row->created_at_ms);
    shl_mp_kv_int(&w, "updated_at_ms", row->updated_at_ms);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int node_sealed_row_encode(const struct node_sealed_row *row, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    begin(&w, buf);
    shl_mp_kv_uint(&w, "generation", row->generation);
    shl_mp_kv_bin(&w, "sealed", row->sealed.base, row->sealed.len);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int node_seal_row_encode(const struct node_seal_row *row, struct shl_buf *buf)
{
    struct shl_mp_writer w;
    uint32_t i;

    begin(&w, buf);
    shl_mp_kv_uint(&w, "generation", row->generation);
    shl_mp_kv_int(&w, "made_at_ms", row->made_at_ms);
    shl_mp_kv_array(&w, "holders");
    for (i = 0; i < row->count; i++) {
        shl_mp_bin(&w, row->holders[i].node.bytes, SHL_NODE_ID_BYTES);
        shl_mp_bin(&w, row->holders[i].box, NODE_SEAL_BOX_BYTES);
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

/*- Decode. */

int node_host_list_decode(const msgpack_object *map,
                          const char *key,
                          size_t max,
                          struct node_host_list *ret)
{
    const msgpack_object *found = shl_mp_find(map, key);
    struct node_host_list list = {NULL, 0};
    uint32_t i;
    int rc = 0;

    if (!found || found->type != MSGPACK_OBJECT_ARRAY || found->via.array.size > max) {
        return SHL_EPROTO;
    }
    for (i = 0; rc == 0 && i < found->via.array.size; i++) {
        const msgpack_object *item = &found->via.array.ptr[i];

        rc = item->type == MSGPACK_OBJECT_STR
                 ? node_host_list_add(&list, item->via.str.ptr, item->via.str.size, max)
                 : SHL_EPROTO;
    }
    if (rc < 0) {
        node_host_list_release(&list);
        return rc == -ENOMEM ? rc : SHL_EPROTO;
    }
    *ret = list;
    return 0;
}

static int open_row(struct shl_mp_doc *doc, struct shl_bytes bytes)
{
    uint64_t version = 0;
    int rc = bytes.len > NODE_SECRET_ROW_MAX ? SHL_ECORRUPT : shl_mp_parse(doc, bytes);

    if (rc < 0) {
        return rc == -ENOMEM ? rc : SHL_ECORRUPT;
    }
    rc = shl_mp_get_uint(doc->root, "v", UINT32_MAX, &version);
    if (rc < 0 || version != ROW_VERSION) {
        shl_mp_release(doc);
        return rc < 0 ? SHL_ECORRUPT : SHL_EVERSION;
    }
    return 0;
}

static int end_row(struct shl_mp_doc *doc, int rc)
{
    shl_mp_release(doc);
    return rc == 0 || rc == -ENOMEM ? rc : SHL_ECORRUPT;
}

static int get_id(const msgpack_object *map, const char *key, char id[NODE_STORE_ID_SIZE])
{
    int rc = shl_mp_get_cpy(map, key, id, NODE_STORE_ID_SIZE);

    return rc == 0 && !node_store_id_is_valid(id) ? SHL_EPROTO : rc;
}

static int get_times(const msgpack_object *map, int64_t *created_at_ms, int64_t *updated_at_ms)
{
    int rc = shl_mp_get_int(map, "created_at_ms", created_at_ms);

    return rc < 0 ? rc : shl_mp_get_int(map, "updated_at_ms", updated_at_ms);
}

int node_store_row_decode(struct node_store_row *ret, struct shl_bytes bytes)
{
    struct node_store_row row = {.org = ""};
    struct shl_mp_doc doc;
    int rc = open_row(&doc, bytes);

    if (rc < 0) {
        return rc;
    }
    rc = shl_mp_get_cpy(doc.root, "org", row.org, sizeof(row.org));
    if (rc == 0) {
        rc = get_id(doc.root, "id", row.id);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(doc.root, "name", row.name, sizeof(row.name));
    }
    if (rc == 0) {
        rc = get_times(doc.root, &row.created_at_ms, &row.updated_at_ms);
    }
    if (rc == 0) {
        rc = node_host_list_decode(doc.root, "allow", NODE_STORE_PATTERNS_MAX, &row.allowlist);
    }
    if (rc == 0) {
        *ret = row;
    }
    return end_row(&doc, rc);
}

int node_secret_row_decode(struct node_secret_row *ret, struct shl_bytes bytes)
{
    struct node_secret_row row = {.store = ""};
    struct shl_mp_doc doc;
    uint64_t generation = 0;
    int rc = open_row(&doc, bytes);

    if (rc < 0) {
        return rc;
    }
    rc = get_id(doc.root, "id", row.id);
    if (rc == 0) {
        rc = get_id(doc.root, "store", row.store);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(doc.root, "name", row.name, sizeof(row.name));
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(doc.root, "generation", UINT32_MAX, &generation);
        row.generation = (uint32_t)generation;
    }
    if (rc == 0) {
        rc = shl_mp_get_bin(doc.root, "sealed", &row.sealed);
    }
    if (rc == 0 && row.sealed.len > NODE_SECRET_VALUE_MAX + NODE_SEAL_VALUE_EXTRA) {
        rc = SHL_EPROTO;
    }
    if (rc == 0) {
        rc = get_times(doc.root, &row.created_at_ms, &row.updated_at_ms);
    }
    if (rc == 0) {
        rc = node_host_list_decode(doc.root, "hosts", NODE_SECRET_HOSTS_MAX, &row.hosts);
    }
    if (rc == 0) {
        *ret = row;
    }
    return end_row(&doc, rc);
}

static bool is_bin(const msgpack_object *object, size_t len)
{
    return object->type == MSGPACK_OBJECT_BIN && object->via.bin.size == len;
}

static int get_holders(const msgpack_object *map, struct node_seal_row *row)
{
    const msgpack_object *found = shl_mp_find(map, "holders");
    uint32_t i;

    if (!found || found->type != MSGPACK_OBJECT_ARRAY || found->via.array.size % 2 != 0 ||
        found->via.array.size / 2 > NODE_SEAL_HOLDERS_MAX) {
        return SHL_EPROTO;
    }
    row->count = found->via.array.size / 2;
    for (i = 0; i < row->count; i++) {
        const msgpack_object *node = &found->via.array.ptr[2 * i];

        if (!is_bin(&node[0], SHL_NODE_ID_BYTES) || !is_bin(&node[1], NODE_SEAL_BOX_BYTES)) {
            return SHL_EPROTO;
        }
        memcpy(row->holders[i].node.bytes, node[0].via.bin.ptr, SHL_NODE_ID_BYTES);
        memcpy(row->holders[i].box, node[1].via.bin.ptr, NODE_SEAL_BOX_BYTES);
    }
    return 0;
}

int node_sealed_row_decode(struct node_sealed_row *ret, struct shl_bytes bytes)
{
    struct shl_mp_doc doc;
    uint64_t generation = 0;
    int rc = open_row(&doc, bytes);

    if (rc < 0) {
        return rc;
    }
    rc = shl_mp_get_uint(doc.root, "generation", UINT32_MAX, &generation);
    ret->generation = (uint32_t)generation;
    if (rc == 0) {
        rc = shl_mp_get_bin(doc.root, "sealed", &ret->sealed);
    }
    return end_row(&doc, rc);
}

int node_seal_row_decode(struct node_seal_row *ret, struct shl_bytes bytes)
{
    struct shl_mp_doc doc;
    uint64_t generation = 0;
    int rc = open_row(&doc, bytes);

    if (rc < 0) {
        return rc;
    }
    memset(ret, 0, sizeof(*ret));
    rc = shl_mp_get_uint(doc.root, "generation", UINT32_MAX, &generation);
    ret->generation = (uint32_t)generation;
    if (rc == 0) {
        rc = shl_mp_get_int(doc.root, "made_at_ms", &ret->made_at_ms);
    }
    if (rc == 0) {
        rc = generation > 0 ? get_holders(doc.root, ret) : SHL_EPROTO;
    }
    return end_row(&doc, rc);
}

void node_store_row_release(struct node_store_row *row)
{
    node_host_list_release(&row->allowlist);
}

void node_secret_row_release(struct node_secret_row *row)
{
    node_host_list_release(&row->hosts);
}

const struct node_seal_holder *node_seal_row_find(const struct node_seal_row *row,
                                                  const struct shl_node_id *node)
{
    uint32_t i;

    for (i = 0; i < row->count; i++) {
        if (shl_node_id_equal(&row->holders[i].node, node)) {
            return &row->holders[i];
        }
    }
    return NULL;
}
