#include "node/store/store.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "node/store/db.h"

#define KEY_MAX        256
#define VALUE_MAX      (1024u * 1024)
#define FORMAT_KEY     "store/format"
#define FORMAT_VERSION "1"
#define OPEN_BYTES     (1024u * 1024) /* that opening it may take */

struct node_store {
    struct node_db db; /* closed when it could not be opened again */
    char *dir;
    bool has_failed; /* a write */
};

/* What LevelDB appends after a write that failed lies behind a torn record, and cannot be read
 * at the next start. So it is opened again before anything else is written, as soon as
 * there is space for that. */
static int open_again(struct node_store *store, struct shl_err *err)
{
    struct statvfs fs;
    int rc;

    if (store->db.db && statvfs(store->dir, &fs) == 0 &&
        (uint64_t)fs.f_bavail * fs.f_frsize < OPEN_BYTES) {
        return shl_err_set(err, -ENOSPC, "cannot write a record: the disk of %s is full",
                           store->dir);
    }
    node_db_close(&store->db);
    rc = node_db_open(&store->db, store->dir, "the records", err);
    store->has_failed = rc < 0;
    return rc;
}

static int before_write(struct node_store *store, struct shl_err *err)
{
    return store->has_failed ? open_again(store, err) : 0;
}

static int before_read(struct node_store *store, struct shl_err *err)
{
    return store->db.db ? 0 : open_again(store, err);
}

static bool key_part_is_valid(const char *part)
{
    return part[0] && !strchr(part, '/');
}

static int make_key(char key[KEY_MAX], const char *kind, const char *id, struct shl_err *err)
{
    int len = snprintf(key, KEY_MAX, "%s/%s", kind, id);

    assert(key_part_is_valid(kind));
    if (!id[0] || len < 0 || len >= KEY_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "a record id must have 1 to %d bytes",
                           KEY_MAX - 32);
    }
    return 0;
}

static int check_format(struct node_store *store, const char *dir, struct shl_err *err)
{
    char *message = NULL;
    char *value;
    size_t len;
    bool same;

    value =
        leveldb_get(store->db.db, store->db.read, FORMAT_KEY, strlen(FORMAT_KEY), &len, &message);
    if (message) {
        return node_db_error(err, SHL_ECORRUPT, "cannot read the records", message);
    }
    if (!value) {
        leveldb_put(store->db.db, store->db.write, FORMAT_KEY, strlen(FORMAT_KEY), FORMAT_VERSION,
                    strlen(FORMAT_VERSION), &message);
        return message ? node_db_error(err, -EIO, "cannot write the records", message) : 0;
    }
    same = len == strlen(FORMAT_VERSION) && memcmp(value, FORMAT_VERSION, len) == 0;
    leveldb_free(value);
    if (!same) {
        return shl_err_set(err, SHL_EVERSION,
                           "the records in %s were written by another version of shoald: use "
                           "that version, or another data folder",
                           dir);
    }
    return 0;
}

int node_store_open(const char *dir, struct node_store **ret_store, struct shl_err *err)
{
    struct node_store *store = calloc(1, sizeof(*store));
    int rc;

    if (!store) {
        return shl_err_sys(err, ENOMEM, "cannot open the records in %s", dir);
    }
    store->dir = strdup(dir);
    rc = store->dir ? node_db_open(&store->db, dir, "the records", err)
                    : shl_err_sys(err, ENOMEM, "cannot open the records in %s", dir);
    if (rc == 0) {
        rc = check_format(store, dir, err);
    }
    if (rc < 0) {
        node_store_close(store);
        return rc;
    }
    *ret_store = store;
    return 0;
}

void node_store_close(struct node_store *store)
{
    if (!store) {
        return;
    }
    node_db_close(&store->db);
    free(store->dir);
    free(store);
}

int node_store_put(struct node_store *store,
                   const char *kind,
                   const char *id,
                   struct shl_bytes value,
                   struct shl_err *err)
{
    char *message = NULL;
    char key[KEY_MAX];
    int rc = make_key(key, kind, id, err);

    if (rc < 0) {
        return rc;
    }
    if (value.len > VALUE_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "the record %s has %zu bytes, more than the %u allowed",
                           key, value.len, VALUE_MAX);
    }
    rc = before_write(store, err);
    if (rc < 0) {
        return rc;
    }
    leveldb_put(store->db.db, store->db.write, key, strlen(key), (const char *)value.base,
                value.len, &message);
    if (message) {
        store->has_failed = true;
        return node_db_error(err, -EIO, "cannot write a record (is the disk full?)", message);
    }
    return 0;
}

int node_store_get(struct node_store *store,
                   const char *kind,
                   const char *id,
                   struct shl_buf *buf,
                   struct shl_err *err)
{
    char *message = NULL;
    char key[KEY_MAX];
    char *value;
    size_t len;
    int rc = make_key(key, kind, id, err);

    rc = rc < 0 ? rc : before_read(store, err);
    if (rc < 0) {
        return rc;
    }
    value = leveldb_get(store->db.db, store->db.read, key, strlen(key), &len, &message);
    if (message) {
        return node_db_error(err, SHL_ECORRUPT, "cannot read a record", message);
    }
    if (!value) {
        return shl_err_set(err, SHL_ENOTFOUND, "there is no record %s", key);
    }
    rc = shl_buf_append(buf, value, len);
    leveldb_free(value);
    return rc < 0 ? shl_err_set(err, rc, "the record %s does not fit", key) : 0;
}

int node_store_delete(struct node_store *store,
                      const char *kind,
                      const char *id,
                      struct shl_err *err)
{
    char *message = NULL;
    char key[KEY_MAX];
    int rc = make_key(key, kind, id, err);

    rc = rc < 0 ? rc : before_write(store, err);
    if (rc < 0) {
        return rc;
    }
    leveldb_delete(store->db.db, store->db.write, key, strlen(key), &message);
    if (message) {
        store->has_failed = true;
        return node_db_error(err, -EIO, "cannot delete a record (is the disk full?)", message);
    }
    return 0;
}

/* One record under the iterator. Returns false when the walk is over: another kind,
 * or the caller has enough. */
static bool visit(leveldb_iterator_t *it,
                  const char *prefix,
                  bool (*each)(void *arg, const char *id, struct shl_bytes value),
                  void *arg)
{
    size_t prefix_len = strlen(prefix);
    size_t key_len, value_len;
    const char *key = leveldb_iter_key(it, &key_len);
    const char *value;
    char id[KEY_MAX];

    if (key_len < prefix_len || key_len - prefix_len >= sizeof(id) ||
        memcmp(key, prefix, prefix_len) != 0) {
        return false;
    }
    memcpy(id, key + prefix_len, key_len - prefix_len);
    id[key_len - prefix_len] = '\0';
    value = leveldb_iter_value(it, &value_len);
    return each(arg, id, shl_bytes_of(value, value_len));
}

int node_store_each(struct node_store *store,
                    const char *kind,
                    bool (*each)(void *arg, const char *id, struct shl_bytes value),
                    void *arg,
                    struct shl_err *err)
{
    leveldb_iterator_t *it;
    char *message = NULL;
    char prefix[KEY_MAX];
    int rc = before_read(store, err);

    if (rc < 0) {
        return rc;
    }
    assert(key_part_is_valid(kind));
    (void)snprintf(prefix, sizeof(prefix), "%s/", kind);
    it = leveldb_create_iterator(store->db.db, store->db.read);
    leveldb_iter_seek(it, prefix, strlen(prefix));
    while (leveldb_iter_valid(it) && visit(it, prefix, each, arg)) {
        leveldb_iter_next(it);
    }
    leveldb_iter_get_error(it, &message);
    leveldb_iter_destroy(it);
    if (message) {
        return node_db_error(err, SHL_ECORRUPT, "cannot read the records", message);
    }
    return 0;
}
