#include "node/api/keys.h"

#include <assert.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "base/io.h"
#include "base/mp.h"
#include "node/store/store.h"

#define KEY_KIND       "apikey"
#define KEY_VERSION    1
#define RECORD_MAX     4096
#define HASH_TEXT_SIZE (2 * crypto_hash_sha256_BYTES + 1)

static void hash_key(char dst[HASH_TEXT_SIZE], const char *key)
{
    uint8_t digest[crypto_hash_sha256_BYTES];

    (void)crypto_hash_sha256(digest, (const uint8_t *)key, strlen(key)); /* cannot fail */
    shl_hex_encode(dst, digest, sizeof(digest));
}

static int write_record(struct shl_buf *buf, const char *hash, const struct node_key_info *info)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", KEY_VERSION);
    shl_mp_kv_str(&w, "hash", hash);
    shl_mp_kv_str(&w, "display", info->display);
    shl_mp_kv_str(&w, "org", info->org);
    shl_mp_kv_bool(&w, "admin", info->admin);
    shl_mp_kv_int(&w, "created_at_ms", info->created_at_ms);
    shl_mp_kv_int(&w, "expires_at_ms", info->expires_at_ms);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int read_fields(const msgpack_object *root, char *hash, struct node_key_info *info)
{
    uint64_t version = 0;
    int rc = shl_mp_get_uint(root, "v", KEY_VERSION, &version);

    if (rc == 0) {
        rc = shl_mp_get_cpy(root, "hash", hash, HASH_TEXT_SIZE);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(root, "display", info->display, sizeof(info->display));
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(root, "org", info->org, sizeof(info->org));
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(root, "admin", &info->admin);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(root, "created_at_ms", &info->created_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(root, "expires_at_ms", &info->expires_at_ms);
    }
    return rc;
}

static int read_record(struct shl_bytes value, char *hash, struct node_key_info *info)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, value);

    if (rc == 0) {
        rc = read_fields(doc.root, hash, info);
        shl_mp_release(&doc);
    }
    return rc;
}

static bool is_stored(struct node_store *store, const char *hash, struct shl_bytes record)
{
    struct shl_buf old;
    bool same;

    shl_buf_init(&old, RECORD_MAX);
    same = node_store_get(store, KEY_KIND, hash, &old, NULL) == 0 &&
           shl_buf_len(&old) == record.len &&
           memcmp(shl_buf_data(&old), record.base, record.len) == 0;
    shl_buf_release(&old);
    return same;
}

int node_keys_import(struct node_store *store,
                     const char *hash,
                     const struct node_key_info *info,
                     struct shl_err *err)
{
    struct shl_buf record;
    int rc;

    assert(strlen(hash) == HASH_TEXT_SIZE - 1);
    shl_buf_init(&record, RECORD_MAX);
    rc = write_record(&record, hash, info);
    if (rc < 0) {
        rc = shl_err_set(err, rc, "no memory for an API key");
    } else if (!is_stored(store, hash, shl_buf_bytes(&record))) {
        rc = node_store_put(store, KEY_KIND, hash, shl_buf_bytes(&record), err);
    }
    shl_buf_release(&record);
    return rc;
}

int node_keys_drop(struct node_store *store, const char *hash, struct shl_err *err)
{
    return node_store_delete(store, KEY_KIND, hash, err);
}

struct walk {
    void (*each)(void *arg, const char *hash, const struct node_key_info *info);
    void *arg;
};

static bool visit(void *arg, const char *id, struct shl_bytes value)
{
    const struct walk *walk = arg;
    struct node_key_info info = {.admin = false};
    char hash[HASH_TEXT_SIZE] = "";

    if (read_record(value, hash, &info) == 0 && strcmp(hash, id) == 0) {
        walk->each(walk->arg, hash, &info);
    }
    return true;
}

int node_keys_each(struct node_store *store,
                   void (*each)(void *arg, const char *hash, const struct node_key_info *info),
                   void *arg,
                   struct shl_err *err)
{
    struct walk walk = {each, arg};

    return node_store_each(store, KEY_KIND, visit, &walk, err);
}

int node_keys_create(struct node_store *store,
                     const char *org,
                     bool admin,
                     int64_t expires_at_ms,
                     char ret_key[NODE_KEY_SIZE],
                     struct shl_err *err)
{
    struct node_key_info info = {
        .admin = admin, .created_at_ms = shl_realtime_ms(), .expires_at_ms = expires_at_ms};
    char hash[HASH_TEXT_SIZE];

    assert(strlen(org) < sizeof(info.org));
    shl_id_make(ret_key, NODE_KEY_SIZE, NODE_KEY_PREFIX, 40);
    memcpy(info.display, ret_key, sizeof(info.display) - 1);
    memcpy(info.org, org, strlen(org) + 1);
    hash_key(hash, ret_key);
    return node_keys_import(store, hash, &info, err);
}

static bool note_any(void *arg, const char *id, struct shl_bytes value)
{
    (void)id;
    (void)value;
    *(bool *)arg = true;
    return false;
}

int node_keys_ensure_first(struct node_store *store,
                           char ret_key[NODE_KEY_SIZE],
                           struct shl_err *err)
{
    bool has_any = false;
    int rc = node_store_each(store, KEY_KIND, note_any, &has_any, err);

    if (rc < 0 || has_any) {
        return rc < 0 ? rc : 0;
    }
    rc = node_keys_create(store, NODE_ORG_FIRST, true, 0, ret_key, err);
    return rc < 0 ? rc : 1;
}

int node_keys_check(struct node_store *store,
                    const char *key,
                    int64_t now_ms,
                    struct node_key_info *ret_info,
                    struct shl_err *err)
{
    struct node_key_info info = {.admin = false};
    char asked[HASH_TEXT_SIZE];
    char stored[HASH_TEXT_SIZE] = "";
    struct shl_buf record;
    int rc;

    if (strnlen(key, NODE_KEY_TEXT_MAX + 1) > NODE_KEY_TEXT_MAX) {
        return shl_err_set(err, SHL_EAUTH, "invalid API key");
    }
    hash_key(asked, key);
    shl_buf_init(&record, RECORD_MAX);
    rc = node_store_get(store, KEY_KIND, asked, &record, err);
    if (rc == 0) {
        rc = read_record(shl_buf_bytes(&record), stored, &info);
        rc = rc < 0 ? shl_err_set(err, SHL_ECORRUPT, "the record of an API key is damaged") : 0;
    } else if (rc == SHL_ENOTFOUND) {
        rc = shl_err_set(err, SHL_EAUTH, "invalid API key");
    }
    shl_buf_release(&record);
    if (rc < 0) {
        return rc;
    }
    if (sodium_memcmp(asked, stored, sizeof(asked)) != 0) {
        return shl_err_set(err, SHL_EAUTH, "invalid API key");
    }
    if (info.expires_at_ms > 0 && now_ms >= info.expires_at_ms) {
        return shl_err_set(err, SHL_EAUTH, "invalid API key: it has expired");
    }
    *ret_info = info;
    return 0;
}
