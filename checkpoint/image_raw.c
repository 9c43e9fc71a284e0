/* Raw files, which lie below the layers: into a manifest of one part that has no base, and
 * back into a file with holes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/image_parts.h"

#define SECTOR         512u
#define ENTRIES_GROWTH 1024u

struct raw {
    struct ckpt_session *session;
    const atomic_bool *cancel;
    struct ckpt_part *part;
    uint64_t cap;
    uint8_t *buffer;
    int fd;
    struct shl_err *err;
};

/* ---- store ------------------------------------------------------------------------- */

static int add_entry(struct raw *raw, uint64_t index, const struct ckpt_id *id)
{
    struct ckpt_part *part = raw->part;

    if (part->count == raw->cap) {
        uint64_t cap = raw->cap ? raw->cap * 2 : ENTRIES_GROWTH;
        struct ckpt_entry *entries = realloc(part->entries, cap * sizeof(*entries));

        if (!entries) {
            return shl_err_sys(raw->err, ENOMEM, "cannot list the chunks of an image");
        }
        part->entries = entries;
        raw->cap = cap;
    }
    part->entries[part->count++] = (struct ckpt_entry){index, *id};
    return 0;
}

static int store_chunk(struct raw *raw, uint64_t n)
{
    size_t len = ckpt_chunk_len(raw->part->bytes, n);
    struct ckpt_id id;
    int rc;

    if (raw->cancel && atomic_load(raw->cancel)) {
        return shl_err_set(raw->err, SHL_EUNAVAILABLE, "storing the image was interrupted");
    }
    rc = ckpt_base_read(raw->fd, raw->buffer, len, n * CKPT_CHUNK_BYTES);
    if (rc < 0) {
        return shl_err_sys(raw->err, -rc, "cannot read the image");
    }
    if (ckpt_is_zero(raw->buffer, len)) {
        return 0;
    }
    rc = ckpt_session_put(raw->session, raw->buffer, len, &id, raw->err);
    return rc < 0 ? rc : add_entry(raw, n, &id);
}

/* The next chunk from @n on that has data, or the end. Without holes in the file system
 * every chunk has. */
static int next_data(struct raw *raw, uint64_t *n, uint64_t chunks)
{
    off_t at = lseek(raw->fd, (off_t)(*n * CKPT_CHUNK_BYTES), SEEK_DATA);

    if (at >= 0) {
        *n = (uint64_t)at / CKPT_CHUNK_BYTES;
        return 0;
    }
    if (errno == ENXIO) {
        *n = chunks;
        return 0;
    }
    return errno == EINVAL ? 0 : shl_err_sys(raw->err, errno, "cannot read the image");
}

int ckpt_raw_store(struct ckpt_session *session,
                   int fd,
                   const atomic_bool *cancel,
                   struct ckpt_manifest *manifest,
                   struct shl_err *err)
{
    SHL_CLEANUP_FREE uint8_t *buffer = malloc(CKPT_CHUNK_BYTES);
    struct raw raw = {.session = session,
                      .cancel = cancel,
                      .part = &manifest->disk,
                      .buffer = buffer,
                      .fd = fd,
                      .err = err};
    uint64_t n = 0, chunks;
    struct stat st;
    int rc = 0;

    if (!buffer) {
        return shl_err_sys(err, ENOMEM, "cannot store an image");
    }
    if (fstat(fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the image");
    }
    if (!S_ISREG(st.st_mode) || st.st_size <= 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the image is empty, or not a regular file");
    }
    manifest->disk.bytes = ((uint64_t)st.st_size + SECTOR - 1) / SECTOR * SECTOR;
    chunks = (manifest->disk.bytes + CKPT_CHUNK_BYTES - 1) / CKPT_CHUNK_BYTES;
    while (rc == 0 && n < chunks) {
        rc = next_data(&raw, &n, chunks);
        if (rc == 0 && n < chunks) {
            rc = store_chunk(&raw, n++);
        }
    }
    return rc;
}

/* ---- materialise ------------------------------------------------------------------- */

static int write_chunk(struct ckpt_store *store,
                       const struct ckpt_part *part,
                       const struct ckpt_entry *entry,
                       uint64_t bytes,
                       uint8_t *buffer,
                       int fd,
                       struct shl_err *err)
{
    size_t len = ckpt_chunk_len(part->bytes, entry->index);
    uint64_t at = entry->index * CKPT_CHUNK_BYTES;
    int rc = ckpt_chunk_read(store, &entry->id, buffer, CKPT_CHUNK_BYTES, err);

    if (rc < 0) {
        return rc;
    }
    if ((size_t)rc != len) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "the manifest names a chunk of %d bytes where %zu are due", rc, len);
    }
    rc = shl_pwrite_full(fd, buffer, (size_t)SHL_MIN((uint64_t)len, bytes - at), at);
    return rc < 0 ? shl_err_sys(err, -rc, "cannot write an image") : 0;
}

int ckpt_raw_materialise(struct ckpt_store *store,
                         const struct ckpt_manifest *manifest,
                         uint64_t bytes,
                         int fd,
                         struct shl_err *err)
{
    SHL_CLEANUP_FREE uint8_t *buffer = malloc(CKPT_CHUNK_BYTES);
    const struct ckpt_part *part = &manifest->disk;
    uint64_t i;
    int rc = 0;

    if (!buffer) {
        return shl_err_sys(err, ENOMEM, "cannot write an image");
    }
    if (part->base[0] || manifest->has_memory || bytes > part->bytes ||
        bytes + SECTOR <= part->bytes) {
        return shl_err_set(err, SHL_EINVALIDARG, "the manifest is not that of a raw image");
    }
    if (ftruncate(fd, (off_t)bytes) < 0) {
        return shl_err_sys(err, errno, "cannot size an image");
    }
    for (i = 0; rc == 0 && i < part->count; i++) {
        rc = write_chunk(store, part, &part->entries[i], bytes, buffer, fd, err);
    }
    if (rc == 0 && fsync(fd) < 0) {
        rc = shl_err_sys(err, errno, "cannot sync an image");
    }
    return rc;
}
