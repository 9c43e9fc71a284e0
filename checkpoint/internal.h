/* The inside of a store: shared by the files of this folder, nobody else's business.
 *
 * Locks, in the order they are taken:
 *   collect_lock  one collection at a time
 *   gate          a reader's pin, a deletion, and the moment a collection looks at what
 *                 is published exclude each other
 *   flush_lock    one flush or publication at a time: the indexed position in the index
 *                 never passes a record that is not indexed
 *   lock          everything in memory, and appending; never held over an fsync
 * The index has a lock of its own below all of them.
 */
#ifndef SHL_CHECKPOINT_INTERNAL_H
#define SHL_CHECKPOINT_INTERNAL_H

#include <pthread.h>

#include "checkpoint/codec.h"
#include "checkpoint/manifest.h"
#include "checkpoint/table.h"

#define CKPT_PENDING_MAX    4096u /* chunks written and not indexed before a put flushes */
#define CKPT_SEGMENT_FDS    64u   /* segments kept open */
#define CKPT_RESERVE_BYTES  (8ull << 20)
#define CKPT_LIST_BATCH     512
#define CKPT_SEGMENT_NAME   "%08x"
#define CKPT_LIVE_PERCENT   50u /* a segment with less of it in use is rewritten */
#define CKPT_SESSION_GROWTH 1024u

struct ckpt_segment {
    uint32_t number;
    int fd; /* -1: closed, opened again when needed */
    unsigned refs;
    uint64_t bytes;  /* end of the last record */
    uint64_t synced; /* of these on disk */
    uint64_t salt;
    uint64_t last_use;
    uint64_t live; /* of a running collection: bytes of records the index names */
    bool victim;   /* of a running collection: to be rewritten and removed */
    bool removed;
};

struct ckpt_pin {
    struct ckpt_store *store;
    struct shl_list link;
    uint64_t *prefixes;
    size_t count;
};

struct ckpt_store {
    char *dir;
    int segments_fd; /* the folder */
    int lock_fd;
    struct shl_log log;
    bool has_log;
    uint64_t segment_bytes;
    int zstd_level;
    void (*step_hook)(void *ctx, const char *step);
    void *step_ctx;
    struct ckpt_index *index;

    pthread_mutex_t collect_lock;
    pthread_mutex_t gate;
    pthread_mutex_t flush_lock;
    pthread_mutex_t scrub_lock;
    pthread_mutex_t lock;

    /* Under lock. */
    struct ckpt_table table;
    struct ckpt_segment **segments; /* ascending numbers */
    size_t segment_count, segment_cap;
    struct ckpt_segment *active; /* takes appends; NULL: the next append makes one */
    uint32_t next_number;
    size_t open_fds;
    uint64_t use_clock;
    struct ckpt_idset *marking; /* of a running collection: what it must keep */
    bool marking_failed;        /* no memory to add something to it */
    struct shl_list pins;
    uint64_t pin_count, session_count;
    uint64_t poison_count; /* fsyncs that failed; who waits for one checks that it is the same */
    uint64_t manifest_count, chunk_count, damaged_count; /* in the index */

    struct ckpt_id scrub_cursor; /* under scrub_lock */
    bool scrub_resumes;
};

struct ckpt_session {
    struct ckpt_store *store;
    struct ckpt_slot **slots; /* a pin each */
    size_t count, cap;
    struct ckpt_codec_writer *writer;
    uint8_t *buffer; /* one record with header and padding */
    struct ckpt_session_stats stats;
    int failed;
};

const struct shl_log *ckpt_log(const struct ckpt_store *store);
void ckpt_step(const struct ckpt_store *store, const char *step);

/*- segments.c; with the store's lock held. */

struct ckpt_segment *ckpt_segment_find(const struct ckpt_store *store, uint32_t number);
/* Known from now on, closed; NULL: no memory. */
struct ckpt_segment *ckpt_segment_add(struct ckpt_store *store, uint32_t number);
/* Open for as long as the reference lasts. SHL_ENOTFOUND, -errno. */
SHL_MUST_CHECK int ckpt_segment_ref(struct ckpt_store *store,
                                    uint32_t number,
                                    struct ckpt_segment **ret_segment,
                                    struct shl_err *err);
void ckpt_segment_unref(struct ckpt_store *store, struct ckpt_segment *segment);
void ckpt_segment_retire(struct ckpt_store *store); /* no more appends to the active one */
SHL_MUST_CHECK int ckpt_segment_remove(struct ckpt_store *store,
                                       struct ckpt_segment *segment,
                                       struct shl_err *err);
void ckpt_segments_release(struct ckpt_store *store);
/* Write a record whose body is at @buffer + header; the buffer has room for header and
 * padding, which are filled in. On failure nothing is left of it. */
SHL_MUST_CHECK int ckpt_append(struct ckpt_store *store,
                               const struct ckpt_record *record,
                               uint8_t *buffer,
                               struct ckpt_place *ret_place,
                               struct shl_err *err);

/*- check.c */

bool ckpt_is_zeros(const uint8_t *data, size_t len); /* at least one byte */

/*- flush.c */

/* Everything appended so far on disk. No lock held. */
SHL_MUST_CHECK int ckpt_sync_segments(struct ckpt_store *store, struct shl_err *err);
uint64_t ckpt_poison_count(struct ckpt_store *store);
/* ... and indexed durably. flush_lock held. */
SHL_MUST_CHECK int ckpt_flush_locked(struct ckpt_store *store, struct shl_err *err);
SHL_MUST_CHECK int ckpt_flush(struct ckpt_store *store, struct shl_err *err);

/*- place.c */

/* The slot of @id, taken from the index if need be. store->lock held. It must be pinned,
 * set pending or dropped before the lock is. 0 or SHL_ENOTFOUND. */
SHL_MUST_CHECK int ckpt_slot_get(struct ckpt_store *store,
                                 const struct ckpt_id *id,
                                 struct ckpt_slot **ret_slot,
                                 struct shl_err *err);
void ckpt_slot_unpin(struct ckpt_store *store, struct ckpt_slot *slot); /* lock held */
/* The raw bytes (place->raw_bytes) into @dst, verified. No lock held. SHL_ECORRUPT. */
SHL_MUST_CHECK int ckpt_place_read(struct ckpt_store *store,
                                   const struct ckpt_id *id,
                                   const struct ckpt_place *place,
                                   uint8_t *dst,
                                   struct shl_err *err);
/* The same, and the stored form into @body (place->stored_bytes). */
SHL_MUST_CHECK int ckpt_place_read_stored(struct ckpt_store *store,
                                          const struct ckpt_id *id,
                                          const struct ckpt_place *place,
                                          uint8_t *body,
                                          uint8_t *dst,
                                          struct shl_err *err);
/* Remember that what is at @place cannot be read. No lock held. */
void ckpt_place_damaged(struct ckpt_store *store,
                        const struct ckpt_id *id,
                        const struct ckpt_place *place);

/*- publish.c */

/* The header of a manifest's record as it is on disk. No lock held. */
SHL_MUST_CHECK int ckpt_manifest_header(struct ckpt_store *store,
                                        const struct ckpt_place *place,
                                        struct ckpt_record *ret,
                                        struct shl_err *err);
/* Set the type of a manifest's record in place, durably. flush_lock held. */
SHL_MUST_CHECK int ckpt_manifest_kill(struct ckpt_store *store,
                                      const struct ckpt_id *id,
                                      const struct ckpt_place *place,
                                      struct shl_err *err);
/* The encoded manifest at @place, appended to @buf. */
SHL_MUST_CHECK int ckpt_manifest_load(struct ckpt_store *store,
                                      const struct ckpt_id *id,
                                      const struct ckpt_place *place,
                                      struct shl_buf *buf,
                                      struct shl_err *err);
/* Append @manifest's record, sync it, point the index at it. With @old it replaces a
 * copy there (a scan takes the last record of an id). flush_lock held, all flushed. */
SHL_MUST_CHECK int ckpt_manifest_publish(struct ckpt_store *store,
                                         const struct ckpt_id *id,
                                         struct shl_bytes manifest,
                                         const struct ckpt_place *old,
                                         struct shl_err *err);

/*- recover.c */

/* Find the segments, cut torn tails, bring the index up to date; from nothing when it is
 * empty. */
SHL_MUST_CHECK int ckpt_recover(struct ckpt_store *store, struct shl_err *err);

/*- reserve.c: room for the index on a full disk, given back while a collection frees more. */

void ckpt_reserve_make(struct ckpt_store *store);
void ckpt_reserve_drop(struct ckpt_store *store);

/* Chunk ids of all parts, zero ids left out. False from @each stops; returns that. */
bool ckpt_manifest_ids(const struct ckpt_manifest *manifest,
                       bool (*each)(void *arg, const struct ckpt_id *id),
                       void *arg);

#endif /* SHL_CHECKPOINT_INTERNAL_H */
