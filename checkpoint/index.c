#include "checkpoint/index.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <leveldb/c.h>

#include "base/io.h"

#define KEY_BYTES     (1 + CKPT_ID_BYTES)
#define PLACE_BYTES   22u
#define POSITION_KEY  "p"
#define VERSION_KEY   "v"
#define VERSION       "1"
#define BLOOM_BITS    10
#define DB_FILES_MAX  64
#define POSITION_SIZE 12u

struct ckpt_index {
    pthread_rwlock_t lock; /* shared: use db; exclusive: open it again */
    leveldb_t *db;         /* NULL after a failure */
    bool failed;           /* written with @lock shared, so only with atomics */
    char *dir;
    leveldb_options_t *options;
    leveldb_filterpolicy_t *bloom;
    leveldb_readoptions_t *read;
    leveldb_readoptions_t *scan; /* does not fill the cache */
    leveldb_writeoptions_t *write;
    leveldb_writeoptions_t *write_sync;
};

/* Takes LevelDB's message; it has no codes, so the text decides. */
static int db_error(struct shl_err *err, const char *what, char *message)
{
    int code = -EIO;

    if (strstr(message, "No space left") || strstr(message, "File too large")) {
        code = -ENOSPC;
    } else if (strstr(message, "Corruption")) {
        code = SHL_ECORRUPT;
    }
    code = shl_err_set(err, code, "%s the index of the checkpoint store: %s", what, message);
    leveldb_free(message);
    return code;
}

/*- Opening. */

static int check_version(struct ckpt_index *index, struct shl_err *err)
{
    char *message = NULL;
    char *value;
    size_t len;
    bool same;

    value = leveldb_get(index->db, index->read, VERSION_KEY, 1, &len, &message);
    if (message) {
        return db_error(err, "cannot read", message);
    }
    if (!value) {
        leveldb_put(index->db, index->write_sync, VERSION_KEY, 1, VERSION, 1, &message);
        return message ? db_error(err, "cannot write", message) : 0;
    }
    same = len == 1 && value[0] == VERSION[0];
    leveldb_free(value);
    return same ? 0
                : shl_err_set(err, SHL_EVERSION, "the index in %s is of another version of shoald",
                              index->dir);
}

static int open_db(struct ckpt_index *index, struct shl_err *err)
{
    char *message = NULL;
    int rc;

    index->db = leveldb_open(index->options, index->dir, &message);
    if (!index->db) {
        return db_error(err, "cannot open", message);
    }
    rc = check_version(index, err);
    if (rc < 0) {
        leveldb_close(index->db);
        index->db = NULL;
        return rc;
    }
    __atomic_store_n(&index->failed, false, __ATOMIC_RELEASE);
    return 0;
}

static struct ckpt_index *index_new(const char *dir)
{
    struct ckpt_index *index = calloc(1, sizeof(*index));

    if (!index) {
        return NULL;
    }
    index->dir = strdup(dir);
    if (!index->dir) {
        free(index);
        return NULL;
    }
    (void)pthread_rwlock_init(&index->lock, NULL);
    index->options = leveldb_options_create();
    index->bloom = leveldb_filterpolicy_create_bloom(BLOOM_BITS);
    leveldb_options_set_create_if_missing(index->options, 1);
    leveldb_options_set_paranoid_checks(index->options, 1);
    leveldb_options_set_max_open_files(index->options, DB_FILES_MAX + 10);
    leveldb_options_set_filter_policy(index->options, index->bloom);
    index->read = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(index->read, 1);
    index->scan = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(index->scan, 1);
    leveldb_readoptions_set_fill_cache(index->scan, 0);
    index->write = leveldb_writeoptions_create();
    index->write_sync = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(index->write_sync, 1);
    return index;
}

int ckpt_index_open(const char *dir, struct ckpt_index **ret_index, struct shl_err *err)
{
    struct ckpt_index *index = index_new(dir);
    int rc;

    if (!index) {
        return shl_err_sys(err, ENOMEM, "cannot open the index in %s", dir);
    }
    rc = open_db(index, err);
    if (rc < 0) {
        ckpt_index_close(index);
        return rc;
    }
    *ret_index = index;
    return 0;
}

void ckpt_index_close(struct ckpt_index *index)
{
    if (!index) {
        return;
    }
    if (index->db) {
        leveldb_close(index->db);
    }
    leveldb_options_destroy(index->options);
    leveldb_filterpolicy_destroy(index->bloom);
    leveldb_readoptions_destroy(index->read);
    leveldb_readoptions_destroy(index->scan);
    leveldb_writeoptions_destroy(index->write);
    leveldb_writeoptions_destroy(index->write_sync);
    (void)pthread_rwlock_destroy(&index->lock);
    free(index->dir);
    free(index);
}

int ckpt_index_destroy(const char *dir, struct shl_err *err)
{
    int rc = shl_remove_tree(dir);

    return rc < 0 ? shl_err_sys(err, -rc, "cannot remove the damaged index %s", dir) : 0;
}

/* Share the database; opens it again when a write has failed. Pairs with leave. */
static int enter(struct ckpt_index *index, struct shl_err *err)
{
    int rc = 0;

    (void)pthread_rwlock_rdlock(&index->lock);
    if (!__atomic_load_n(&index->failed, __ATOMIC_ACQUIRE)) {
        return 0;
    }
    (void)pthread_rwlock_unlock(&index->lock);
    (void)pthread_rwlock_wrlock(&index->lock);
    if (__atomic_load_n(&index->failed, __ATOMIC_ACQUIRE)) {
        if (index->db) {
            leveldb_close(index->db);
            index->db = NULL;
        }
        rc = open_db(index, err);
    }
    (void)pthread_rwlock_unlock(&index->lock);
    if (rc < 0) {
        return rc;
    }
    (void)pthread_rwlock_rdlock(&index->lock);
    if (__atomic_load_n(&index->failed, __ATOMIC_ACQUIRE)) { /* failed again meanwhile */
        (void)pthread_rwlock_unlock(&index->lock);
        return shl_err_set(err, SHL_EUNAVAILABLE, "the index of the checkpoint store failed");
    }
    return 0;
}

static void leave(struct ckpt_index *index)
{
    (void)pthread_rwlock_unlock(&index->lock);
}

/*- Keys and values. */

static void make_key(char key[KEY_BYTES], enum ckpt_kind kind, const struct ckpt_id *id)
{
    key[0] = (char)kind;
    memcpy(key + 1, id->bytes, CKPT_ID_BYTES);
}

static void format_place(uint8_t raw[PLACE_BYTES], const struct ckpt_place *place)
{
    shl_put_le32(raw, place->segment);
    shl_put_le64(raw + 4, place->offset);
    shl_put_le32(raw + 12, place->raw_bytes);
    shl_put_le32(raw + 16, place->stored_bytes);
    raw[20] = (uint8_t)place->codec;
    raw[21] = place->damaged;
}

static int parse_place(enum ckpt_kind kind, const char *value, size_t len, struct ckpt_place *ret)
{
    uint32_t raw_max = kind == CKPT_KIND_CHUNK ? CKPT_CHUNK_BYTES : CKPT_MANIFEST_MAX;
    const uint8_t *raw = (const uint8_t *)value;

    if (len != PLACE_BYTES || raw[20] > CKPT_CODEC_ZSTD || raw[21] > 1) {
        return SHL_ECORRUPT;
    }
    *ret = (struct ckpt_place){
        .segment = shl_get_le32(raw),
        .offset = shl_get_le64(raw + 4),
        .raw_bytes = shl_get_le32(raw + 12),
        .stored_bytes = shl_get_le32(raw + 16),
        .codec = (enum ckpt_codec)raw[20],
        .damaged = raw[21],
    };
    if (ret->raw_bytes == 0 || ret->raw_bytes > raw_max || ret->stored_bytes == 0 ||
        ret->stored_bytes > ret->raw_bytes) {
        return SHL_ECORRUPT;
    }
    return 0;
}

static int damaged(struct shl_err *err)
{
    return shl_err_set(err, SHL_ECORRUPT,
                       "the index of the checkpoint store is damaged: remove the folder \"index\" "
                       "of the store while shoald is stopped, it is rebuilt at the next start");
}

/*- Reading. */

int ckpt_index_get(struct ckpt_index *index,
                   enum ckpt_kind kind,
                   const struct ckpt_id *id,
                   struct ckpt_place *ret,
                   struct shl_err *err)
{
    char key[KEY_BYTES];
    char *message = NULL;
    char *value;
    size_t len;
    int rc = enter(index, err);

    if (rc < 0) {
        return rc;
    }
    make_key(key, kind, id);
    value = leveldb_get(index->db, index->read, key, sizeof(key), &len, &message);
    leave(index);
    if (message) {
        return db_error(err, "cannot read", message);
    }
    if (!value) {
        return SHL_ENOTFOUND;
    }
    rc = parse_place(kind, value, len, ret);
    leveldb_free(value);
    return rc < 0 ? damaged(err) : 0;
}

int ckpt_index_position(struct ckpt_index *index, struct ckpt_position *ret, struct shl_err *err)
{
    char *message = NULL;
    char *value;
    size_t len;
    int rc = enter(index, err);

    if (rc < 0) {
        return rc;
    }
    *ret = (struct ckpt_position){0, 0};
    value = leveldb_get(index->db, index->read, POSITION_KEY, 1, &len, &message);
    leave(index);
    if (message) {
        return db_error(err, "cannot read", message);
    }
    if (value && len == POSITION_SIZE) {
        ret->segment = shl_get_le32((const uint8_t *)value);
        ret->offset = shl_get_le64((const uint8_t *)value + 4);
    }
    rc = value && len != POSITION_SIZE ? damaged(err) : 0;
    leveldb_free(value);
    return rc;
}

static int read_items(leveldb_iterator_t *it, enum ckpt_kind kind, struct ckpt_item *items, int max)
{
    const char *text;
    size_t len;
    int count = 0;

    for (; count < max && leveldb_iter_valid(it); leveldb_iter_next(it)) {
        text = leveldb_iter_key(it, &len);
        if (len != KEY_BYTES || text[0] != (char)kind) {
            break;
        }
        memcpy(items[count].id.bytes, text + 1, CKPT_ID_BYTES);
        text = leveldb_iter_value(it, &len);
        if (parse_place(kind, text, len, &items[count].place) < 0) {
            return SHL_ECORRUPT;
        }
        count++;
    }
    return count;
}

int ckpt_index_list(struct ckpt_index *index,
                    enum ckpt_kind kind,
                    const struct ckpt_id *cursor,
                    struct ckpt_item *items,
                    int max,
                    struct shl_err *err)
{
    static const struct ckpt_id zero;
    leveldb_iterator_t *it;
    char key[KEY_BYTES];
    const char *found;
    char *message = NULL;
    size_t len;
    int count, rc = enter(index, err);

    if (rc < 0) {
        return rc;
    }
    make_key(key, kind, cursor ? cursor : &zero);
    it = leveldb_create_iterator(index->db, index->scan);
    leveldb_iter_seek(it, key, sizeof(key));
    if (cursor && leveldb_iter_valid(it)) {
        found = leveldb_iter_key(it, &len);
        if (len == sizeof(key) && memcmp(found, key, len) == 0) {
            leveldb_iter_next(it);
        }
    }
    count = read_items(it, kind, items, max);
    leveldb_iter_get_error(it, &message);
    leveldb_iter_destroy(it);
    leave(index);
    if (message) {
        return db_error(err, "cannot read", message);
    }
    return count < 0 ? damaged(err) : count;
}

/*- Writing. */

struct ckpt_batch *ckpt_batch_new(void)
{
    return (struct ckpt_batch *)leveldb_writebatch_create();
}

void ckpt_batch_free(struct ckpt_batch *batch)
{
    if (batch) {
        leveldb_writebatch_destroy((leveldb_writebatch_t *)batch);
    }
}

void ckpt_batch_put(struct ckpt_batch *batch,
                    enum ckpt_kind kind,
                    const struct ckpt_id *id,
                    const struct ckpt_place *place)
{
    uint8_t value[PLACE_BYTES];
    char key[KEY_BYTES];

    make_key(key, kind, id);
    format_place(value, place);
    leveldb_writebatch_put((leveldb_writebatch_t *)batch, key, sizeof(key), (const char *)value,
                           sizeof(value));
}

void ckpt_batch_delete(struct ckpt_batch *batch, enum ckpt_kind kind, const struct ckpt_id *id)
{
    char key[KEY_BYTES];

    make_key(key, kind, id);
    leveldb_writebatch_delete((leveldb_writebatch_t *)batch, key, sizeof(key));
}

void ckpt_batch_position(struct ckpt_batch *batch, const struct ckpt_position *position)
{
    uint8_t value[POSITION_SIZE];

    shl_put_le32(value, position->segment);
    shl_put_le64(value + 4, position->offset);
    leveldb_writebatch_put((leveldb_writebatch_t *)batch, POSITION_KEY, 1, (const char *)value,
                           sizeof(value));
}

int ckpt_index_write(struct ckpt_index *index,
                     struct ckpt_batch *batch,
                     bool sync,
                     struct shl_err *err)
{
    char *message = NULL;
    int rc = enter(index, err);

    if (rc < 0) {
        return rc;
    }
    leveldb_write(index->db, sync ? index->write_sync : index->write, (leveldb_writebatch_t *)batch,
                  &message);
    if (message) {
        __atomic_store_n(&index->failed, true, __ATOMIC_RELEASE);
    }
    leave(index);
    return message ? db_error(err, "cannot write", message) : 0;
}
