/* Opening and closing a store. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/internal.h"

#define DEFAULT_LEVEL 1

const struct shl_log *ckpt_log(const struct ckpt_store *store)
{
    return store->has_log ? &store->log : NULL;
}

void ckpt_step(const struct ckpt_store *store, const char *step)
{
    if (store->step_hook) {
        store->step_hook(store->step_ctx, step);
    }
}

static struct ckpt_store *store_new(const struct ckpt_store_config *config)
{
    struct ckpt_store *store = calloc(1, sizeof(*store));

    if (!store) {
        return NULL;
    }
    store->dir = strdup(config->dir);
    if (!store->dir || ckpt_table_init(&store->table) < 0) {
        free(store->dir);
        free(store);
        return NULL;
    }
    store->segments_fd = store->lock_fd = -1;
    store->has_log = config->log != NULL;
    if (config->log) {
        store->log = *config->log;
    }
    store->segment_bytes = config->segment_bytes ? config->segment_bytes : CKPT_SEGMENT_BYTES;
    store->zstd_level = config->zstd_level ? config->zstd_level : DEFAULT_LEVEL;
    store->step_hook = config->step_hook;
    store->step_ctx = config->step_ctx;
    store->next_number = 1;
    shl_list_init(&store->pins);
    (void)pthread_mutex_init(&store->collect_lock, NULL);
    (void)pthread_mutex_init(&store->gate, NULL);
    (void)pthread_mutex_init(&store->flush_lock, NULL);
    (void)pthread_mutex_init(&store->scrub_lock, NULL);
    (void)pthread_mutex_init(&store->lock, NULL);
    return store;
}

static void store_free(struct ckpt_store *store)
{
    ckpt_segments_release(store);
    ckpt_table_release(&store->table);
    ckpt_index_close(store->index);
    if (store->segments_fd >= 0) {
        (void)close(store->segments_fd);
    }
    if (store->lock_fd >= 0) {
        (void)close(store->lock_fd);
    }
    (void)pthread_mutex_destroy(&store->collect_lock);
    (void)pthread_mutex_destroy(&store->gate);
    (void)pthread_mutex_destroy(&store->flush_lock);
    (void)pthread_mutex_destroy(&store->scrub_lock);
    (void)pthread_mutex_destroy(&store->lock);
    free(store->dir);
    free(store);
}

static int take_lock(struct ckpt_store *store, struct shl_err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    SHL_CLEANUP_FREE char *path = NULL;

    if (asprintf(&path, "%s/LOCK", store->dir) < 0) {
        path = NULL;
        return shl_err_sys(err, ENOMEM, "cannot open the checkpoint store in %s", store->dir);
    }
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0) {
        return shl_err_sys(err, errno, "cannot open %s", path);
    }
    if (fcntl(store->lock_fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "the checkpoint store in %s is in use by another process", store->dir);
    }
    return shl_err_sys(err, errno, "cannot lock %s", path);
}

static int open_folder(struct ckpt_store *store, struct shl_err *err)
{
    SHL_CLEANUP_FREE char *path = NULL;
    SHL_CLEANUP_FD int dir_fd = -1;
    int rc;

    if (asprintf(&path, "%s/segments", store->dir) < 0) {
        path = NULL;
        return shl_err_sys(err, ENOMEM, "cannot open the checkpoint store in %s", store->dir);
    }
    rc = shl_mkdir_all(path, 0700);
    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot make the folder %s", path);
    }
    store->segments_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir_fd = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->segments_fd < 0 || dir_fd < 0 || fsync(dir_fd) < 0) {
        return shl_err_sys(err, errno, "cannot open the checkpoint store in %s", store->dir);
    }
    return take_lock(store, err);
}

static int open_index(struct ckpt_store *store, bool anew, struct shl_err *err)
{
    SHL_CLEANUP_FREE char *path = NULL;
    int rc = 0;

    if (asprintf(&path, "%s/index", store->dir) < 0) {
        path = NULL;
        return shl_err_sys(err, ENOMEM, "cannot open the checkpoint store in %s", store->dir);
    }
    if (anew) {
        SHL_LOG(ckpt_log(store), SHL_LOG_ERROR, "checkpoint_index_rebuilt", SHL_S("path", path));
        rc = ckpt_index_destroy(path, err);
    }
    return rc < 0 ? rc : ckpt_index_open(path, &store->index, err);
}

int ckpt_store_open(const struct ckpt_store_config *config,
                    struct ckpt_store **ret_store,
                    struct shl_err *err)
{
    struct ckpt_store *store = store_new(config);
    int rc;

    if (!store) {
        return shl_err_sys(err, ENOMEM, "cannot open the checkpoint store in %s", config->dir);
    }
    rc = open_folder(store, err);
    if (rc == 0) {
        ckpt_reserve_drop(store); /* a full disk must not keep the store from opening */
        rc = open_index(store, false, err);
    }
    if (rc == 0) {
        rc = ckpt_recover(store, err);
    }
    if (rc == SHL_ECORRUPT) { /* found only now */
        ckpt_index_close(store->index);
        store->index = NULL;
        ckpt_segments_release(store);
        store->manifest_count = store->chunk_count = store->damaged_count = 0;
        rc = open_index(store, true, err);
        rc = rc == 0 ? ckpt_recover(store, err) : rc;
    }
    if (rc < 0) {
        store_free(store);
        return rc;
    }
    ckpt_reserve_make(store);
    *ret_store = store;
    return 0;
}

void ckpt_store_close(struct ckpt_store *store)
{
    if (!store) {
        return;
    }
    assert(store->session_count == 0);
    assert(store->pin_count == 0);
    if (ckpt_flush(store, NULL) < 0) { /* spares the next opening a scan, nothing else */
        SHL_LOG(ckpt_log(store), SHL_LOG_WARN, "checkpoint_store_not_flushed",
                SHL_S("path", store->dir));
    }
    store_free(store);
}

void ckpt_store_stats(struct ckpt_store *store, struct ckpt_store_stats *ret)
{
    size_t i;

    (void)pthread_mutex_lock(&store->lock);
    *ret = (struct ckpt_store_stats){
        .manifests = store->manifest_count,
        .chunks = store->chunk_count,
        .segments = store->segment_count,
        .damaged = store->damaged_count,
        .sessions = store->session_count,
        .pins = store->pin_count,
    };
    for (i = 0; i < store->segment_count; i++) {
        ret->bytes += store->segments[i]->bytes;
    }
    (void)pthread_mutex_unlock(&store->lock);
}
