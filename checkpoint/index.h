/* The index of a store: LevelDB, id -> place of its record.
 *
 * Keys: 'c' + id for chunks, 'm' + id for manifests, "p" for the position up to which
 * the segments are indexed, "v" for the format. Everything in it can be rebuilt from the
 * segments.
 *
 * Any thread. LevelDB refuses all writes after one has failed (a full disk), so a
 * failed index is opened again by the next caller; until that works calls fail with the
 * code of the opening.
 */
#ifndef SHL_CHECKPOINT_INDEX_H
#define SHL_CHECKPOINT_INDEX_H

#include "checkpoint/segment.h"

enum ckpt_kind {
    CKPT_KIND_CHUNK = 'c',
    CKPT_KIND_MANIFEST = 'm',
};

/* Where a record is. */
struct ckpt_place {
    uint32_t segment; /* 0: nowhere (the record was lost) */
    uint64_t offset;  /* of its header */
    uint32_t raw_bytes;
    uint32_t stored_bytes;
    enum ckpt_codec codec;
    bool damaged; /* known to be unreadable */
};

static inline bool ckpt_place_same(const struct ckpt_place *a, const struct ckpt_place *b)
{
    return a->segment == b->segment && a->offset == b->offset;
}

struct ckpt_position {
    uint32_t segment;
    uint64_t offset;
};

struct ckpt_index;
struct ckpt_batch;

/* SHL_ECORRUPT: rebuild it (ckpt_index_destroy, then open). */
SHL_MUST_CHECK int ckpt_index_open(const char *dir,
                                   struct ckpt_index **ret_index,
                                   struct shl_err *err);
void ckpt_index_close(struct ckpt_index *index);
SHL_MUST_CHECK int ckpt_index_destroy(const char *dir, struct shl_err *err);

/* 0 or SHL_ENOTFOUND. */
SHL_MUST_CHECK int ckpt_index_get(struct ckpt_index *index,
                                  enum ckpt_kind kind,
                                  const struct ckpt_id *id,
                                  struct ckpt_place *ret,
                                  struct shl_err *err);
/* {0, 0} when nothing is there. */
SHL_MUST_CHECK int ckpt_index_position(struct ckpt_index *index,
                                       struct ckpt_position *ret,
                                       struct shl_err *err);

struct ckpt_item {
    struct ckpt_id id;
    struct ckpt_place place;
};

/* Up to @max entries of @kind after *cursor (NULL or zero id: from the first) in order of
 * id. Returns how many. Entries written meanwhile may be missing. */
SHL_MUST_CHECK int ckpt_index_list(struct ckpt_index *index,
                                   enum ckpt_kind kind,
                                   const struct ckpt_id *cursor,
                                   struct ckpt_item *items,
                                   int max,
                                   struct shl_err *err);

struct ckpt_batch *ckpt_batch_new(void);
void ckpt_batch_free(struct ckpt_batch *batch);
void ckpt_batch_put(struct ckpt_batch *batch,
                    enum ckpt_kind kind,
                    const struct ckpt_id *id,
                    const struct ckpt_place *place);
void ckpt_batch_delete(struct ckpt_batch *batch, enum ckpt_kind kind, const struct ckpt_id *id);
void ckpt_batch_position(struct ckpt_batch *batch, const struct ckpt_position *position);
/* All of it or nothing; with @sync durable, together with everything written before. */
SHL_MUST_CHECK int ckpt_index_write(struct ckpt_index *index,
                                    struct ckpt_batch *batch,
                                    bool sync,
                                    struct shl_err *err);

#endif /* SHL_CHECKPOINT_INDEX_H */
