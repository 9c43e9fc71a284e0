/* In memory: the chunks somebody holds or that are not indexed yet, and sets of ids.
 *
 * No locks here; the store's lock guards the table.
 */
#ifndef SHL_CHECKPOINT_TABLE_H
#define SHL_CHECKPOINT_TABLE_H

#include "base/list.h"
#include "checkpoint/index.h"

/* One chunk. Exists while it is pinned or pending. */
struct ckpt_slot {
    struct ckpt_slot *next; /* in its bucket */
    struct shl_list pending_link;
    struct ckpt_id id;
    struct ckpt_place place;
    uint32_t pins;
    bool pending; /* written to a segment, place not in the index yet */
    bool indexed; /* the index has an entry for the id */
};

struct ckpt_table {
    struct ckpt_slot **buckets;
    size_t bucket_count; /* power of two */
    size_t count;
    struct shl_list pending; /* in the order of writing */
    size_t pending_count;
};

SHL_MUST_CHECK int ckpt_table_init(struct ckpt_table *table);
void ckpt_table_release(struct ckpt_table *table); /* frees what is left */
struct ckpt_slot *ckpt_table_find(const struct ckpt_table *table, const struct ckpt_id *id);
/* A new slot, neither pinned nor pending; NULL: no memory. */
struct ckpt_slot *ckpt_table_add(struct ckpt_table *table, const struct ckpt_id *id);
void ckpt_table_set_pending(struct ckpt_table *table, struct ckpt_slot *slot, bool pending);
/* Free @slot if nobody needs it any more. */
void ckpt_table_drop(struct ckpt_table *table, struct ckpt_slot *slot);

/* Ids by their first 8 bytes: what a collection must keep. Two ids with the same 8 bytes
 * cost a chunk of garbage, never a chunk in use. */
struct ckpt_idset {
    uint64_t *cells; /* 0: empty */
    size_t cell_count;
    size_t count;
};

uint64_t ckpt_id_prefix(const struct ckpt_id *id);
SHL_MUST_CHECK int ckpt_idset_add(struct ckpt_idset *set, uint64_t prefix);
bool ckpt_idset_has(const struct ckpt_idset *set, const struct ckpt_id *id);
void ckpt_idset_release(struct ckpt_idset *set);

#endif /* SHL_CHECKPOINT_TABLE_H */
