/* The segments of a store: their list, their open files, appending. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "checkpoint/internal.h"

#define NAME_SIZE 16

static void name_of(char name[NAME_SIZE], uint32_t number)
{
    (void)snprintf(name, NAME_SIZE, CKPT_SEGMENT_NAME, number);
}

/* Index of the first segment whose number is not below @number. */
static size_t lower_bound(const struct ckpt_store *store, uint32_t number)
{
    size_t low = 0, high = store->segment_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (store->segments[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct ckpt_segment *ckpt_segment_find(const struct ckpt_store *store, uint32_t number)
{
    size_t i = lower_bound(store, number);

    return i < store->segment_count && store->segments[i]->number == number ? store->segments[i]
                                                                            : NULL;
}

struct ckpt_segment *ckpt_segment_add(struct ckpt_store *store, uint32_t number)
{
    struct ckpt_segment *segment;
    size_t at = lower_bound(store, number);

    if (store->segment_count == store->segment_cap) {
        size_t cap = store->segment_cap ? store->segment_cap * 2 : 16;
        struct ckpt_segment **segments = realloc(store->segments, cap * sizeof(*segments));

        if (!segments) {
            return NULL;
        }
        store->segments = segments;
        store->segment_cap = cap;
    }
    segment = calloc(1, sizeof(*segment));
    if (!segment) {
        return NULL;
    }
    segment->number = number;
    segment->fd = -1;
    memmove(store->segments + at + 1, store->segments + at,
            (store->segment_count - at) * sizeof(*store->segments));
    store->segments[at] = segment;
    store->segment_count++;
    return segment;
}

static void close_fd(struct ckpt_store *store, struct ckpt_segment *segment)
{
    if (segment->fd >= 0) {
        (void)close(segment->fd);
        segment->fd = -1;
        store->open_fds--;
    }
}

/* Keep the number of open files in bounds: close what was not used for longest. */
static void close_oldest(struct ckpt_store *store)
{
    struct ckpt_segment *oldest = NULL;
    size_t i;

    if (store->open_fds < CKPT_SEGMENT_FDS) {
        return;
    }
    for (i = 0; i < store->segment_count; i++) {
        struct ckpt_segment *segment = store->segments[i];

        if (segment->fd >= 0 && segment->refs == 0 &&
            (!oldest || segment->last_use < oldest->last_use)) {
            oldest = segment;
        }
    }
    if (oldest) {
        close_fd(store, oldest);
    }
}

int ckpt_segment_ref(struct ckpt_store *store,
                     uint32_t number,
                     struct ckpt_segment **ret_segment,
                     struct shl_err *err)
{
    struct ckpt_segment *segment = ckpt_segment_find(store, number);
    char name[NAME_SIZE];

    if (!segment) {
        return shl_err_set(err, SHL_ENOTFOUND, "segment %08x of the checkpoint store is gone",
                           number);
    }
    if (segment->fd < 0) {
        close_oldest(store);
        name_of(name, number);
        segment->fd = openat(store->segments_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (segment->fd < 0) {
            return shl_err_sys(err, errno, "cannot open segment %s of the checkpoint store", name);
        }
        store->open_fds++;
    }
    segment->refs++;
    segment->last_use = ++store->use_clock;
    *ret_segment = segment;
    return 0;
}

void ckpt_segment_unref(struct ckpt_store *store, struct ckpt_segment *segment)
{
    assert(segment->refs > 0);
    segment->refs--;
    if (segment->removed && segment->refs == 0) {
        close_fd(store, segment);
        free(segment);
    }
}

void ckpt_segment_retire(struct ckpt_store *store)
{
    if (store->active) {
        ckpt_segment_unref(store, store->active);
        store->active = NULL;
    }
}

int ckpt_segment_remove(struct ckpt_store *store, struct ckpt_segment *segment, struct shl_err *err)
{
    size_t at = lower_bound(store, segment->number);
    char name[NAME_SIZE];

    assert(segment != store->active);
    name_of(name, segment->number);
    if (unlinkat(store->segments_fd, name, 0) < 0 && errno != ENOENT) {
        return shl_err_sys(err, errno, "cannot remove segment %s of the checkpoint store", name);
    }
    memmove(store->segments + at, store->segments + at + 1,
            (store->segment_count - at - 1) * sizeof(*store->segments));
    store->segment_count--;
    segment->removed = true;
    segment->refs++;
    ckpt_segment_unref(store, segment);
    return 0;
}

void ckpt_segments_release(struct ckpt_store *store)
{
    size_t i;

    ckpt_segment_retire(store);
    for (i = 0; i < store->segment_count; i++) {
        close_fd(store, store->segments[i]);
        free(store->segments[i]);
    }
    free(store->segments);
    store->segments = NULL;
    store->segment_count = 0;
}

/* The file of a new segment: its header, synced, and its name, synced. Returns the fd. */
static int create_file(struct ckpt_store *store, uint32_t number, uint64_t salt)
{
    uint8_t raw[CKPT_SEGMENT_HEADER_BYTES];
    char name[NAME_SIZE];
    int fd, rc;

    name_of(name, number);
    fd = openat(store->segments_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -errno;
    }
    ckpt_segment_header_format(raw, number, salt);
    rc = shl_pwrite_full(fd, raw, sizeof(raw), 0);
    if (rc == 0 && (fsync(fd) < 0 || fsync(store->segments_fd) < 0)) {
        rc = -errno;
    }
    if (rc < 0) {
        (void)unlinkat(store->segments_fd, name, 0);
        (void)close(fd);
        return rc;
    }
    return fd;
}

/* A segment for appends. Rare (once in segment_bytes), so its syncs run under the lock. */
static int open_active(struct ckpt_store *store, struct shl_err *err)
{
    struct ckpt_segment *segment;
    uint64_t salt;
    int fd;

    if (store->next_number == UINT32_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "the checkpoint store has used all segment numbers");
    }
    shl_random_bytes(&salt, sizeof(salt));
    fd = create_file(store, store->next_number, salt);
    while (fd == -EEXIST && store->next_number < UINT32_MAX - 1) { /* left by a failed removal */
        fd = create_file(store, ++store->next_number, salt);
    }
    if (fd < 0) {
        return shl_err_sys(err, -fd, "cannot create a segment of the checkpoint store");
    }
    segment = ckpt_segment_add(store, store->next_number);
    if (!segment) {
        (void)close(fd);
        store->next_number++; /* the empty file is swept by the next collection after a restart */
        return shl_err_sys(err, ENOMEM, "cannot create a segment of the checkpoint store");
    }
    close_oldest(store);
    store->open_fds++;
    segment->fd = fd;
    segment->refs = 1;
    segment->salt = salt;
    segment->bytes = segment->synced = CKPT_SEGMENT_HEADER_BYTES;
    store->active = segment;
    store->next_number++;
    ckpt_step(store, "segment-created");
    return 0;
}

int ckpt_append(struct ckpt_store *store,
                const struct ckpt_record *record,
                uint8_t *buffer,
                struct ckpt_place *ret_place,
                struct shl_err *err)
{
    uint64_t bytes = ckpt_record_bytes(record->stored_bytes);
    uint64_t used = (uint64_t)CKPT_RECORD_HEADER_BYTES + record->stored_bytes;
    struct ckpt_segment *segment;
    int rc;

    if (store->active && store->active->bytes > CKPT_SEGMENT_HEADER_BYTES &&
        store->active->bytes + bytes > store->segment_bytes) {
        ckpt_segment_retire(store);
    }
    rc = store->active ? 0 : open_active(store, err);
    if (rc < 0) {
        return rc;
    }
    segment = store->active;
    ckpt_record_format(buffer, record, segment->salt);
    memset(buffer + used, 0, (size_t)(bytes - used));
    rc = shl_pwrite_full(segment->fd, buffer, (size_t)bytes, segment->bytes);
    if (rc < 0) {
        /* What is left of it would be cut off at the next start, too. */
        if (ftruncate(segment->fd, (off_t)segment->bytes) < 0) {
            ckpt_segment_retire(store);
        }
        rc = rc == -EFBIG || rc == -EDQUOT ? -ENOSPC : rc;
        return shl_err_sys(err, -rc, "cannot write to the checkpoint store in %s", store->dir);
    }
    *ret_place = (struct ckpt_place){
        .segment = segment->number,
        .offset = segment->bytes,
        .raw_bytes = record->raw_bytes,
        .stored_bytes = record->stored_bytes,
        .codec = record->codec,
    };
    segment->bytes += bytes;
    ckpt_step(store, "appended");
    return 0;
}
