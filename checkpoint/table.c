#include "checkpoint/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 1024u
#define CELLS_MIN   1024u

/* Ids are uniformly distributed already; 0 marks an empty cell. */
uint64_t ckpt_id_prefix(const struct ckpt_id *id)
{
    uint64_t prefix = shl_get_le64(id->bytes);

    return prefix ? prefix : 1;
}

int ckpt_table_init(struct ckpt_table *table)
{
    *table = (struct ckpt_table){.bucket_count = BUCKETS_MIN};
    shl_list_init(&table->pending);
    table->buckets = calloc(table->bucket_count, sizeof(struct ckpt_slot *));
    return table->buckets ? 0 : -ENOMEM;
}

void ckpt_table_release(struct ckpt_table *table)
{
    struct ckpt_slot *slot, *next;
    size_t i;

    for (i = 0; table->buckets && i < table->bucket_count; i++) {
        for (slot = table->buckets[i]; slot; slot = next) {
            next = slot->next;
            free(slot);
        }
    }
    free(table->buckets);
    table->buckets = NULL;
}

static struct ckpt_slot **bucket_of(const struct ckpt_table *table, const struct ckpt_id *id)
{
    return &table->buckets[ckpt_id_prefix(id) & (table->bucket_count - 1)];
}

struct ckpt_slot *ckpt_table_find(const struct ckpt_table *table, const struct ckpt_id *id)
{
    struct ckpt_slot *slot = *bucket_of(table, id);

    while (slot && !ckpt_id_equal(&slot->id, id)) {
        slot = slot->next;
    }
    return slot;
}

/* Twice the buckets; without memory it stays as it is and only gets slower. */
static void grow(struct ckpt_table *table)
{
    size_t old_count = table->bucket_count, i;
    struct ckpt_slot **old = table->buckets;
    struct ckpt_slot **buckets = calloc(old_count * 2, sizeof(*buckets));
    struct ckpt_slot *slot, *next, **bucket;

    if (!buckets) {
        return;
    }
    table->buckets = buckets;
    table->bucket_count = old_count * 2;
    for (i = 0; i < old_count; i++) {
        for (slot = old[i]; slot; slot = next) {
            next = slot->next;
            bucket = bucket_of(table, &slot->id);
            slot->next = *bucket;
            *bucket = slot;
        }
    }
    free(old);
}

struct ckpt_slot *ckpt_table_add(struct ckpt_table *table, const struct ckpt_id *id)
{
    struct ckpt_slot *slot = calloc(1, sizeof(*slot));
    struct ckpt_slot **bucket;

    if (!slot) {
        return NULL;
    }
    if (table->count >= table->bucket_count) {
        grow(table);
    }
    slot->id = *id;
    shl_list_init(&slot->pending_link);
    bucket = bucket_of(table, id);
    slot->next = *bucket;
    *bucket = slot;
    table->count++;
    return slot;
}

void ckpt_table_set_pending(struct ckpt_table *table, struct ckpt_slot *slot, bool pending)
{
    if (slot->pending) {
        shl_list_remove(&slot->pending_link);
        table->pending_count--;
    }
    slot->pending = pending;
    if (pending) {
        shl_list_push_back(&table->pending, &slot->pending_link);
        table->pending_count++;
    }
}

void ckpt_table_drop(struct ckpt_table *table, struct ckpt_slot *slot)
{
    struct ckpt_slot **at;

    if (slot->pins > 0 || slot->pending) {
        return;
    }
    for (at = bucket_of(table, &slot->id); *at != slot; at = &(*at)->next) {
        assert(*at);
    }
    *at = slot->next;
    table->count--;
    free(slot);
}

static void set_insert(uint64_t *cells, size_t cell_count, uint64_t prefix, size_t *count)
{
    size_t i = (size_t)(prefix >> 8) & (cell_count - 1);

    while (cells[i] && cells[i] != prefix) {
        i = (i + 1) & (cell_count - 1);
    }
    *count += cells[i] == 0;
    cells[i] = prefix;
}

static int set_grow(struct ckpt_idset *set)
{
    size_t cell_count = set->cell_count ? set->cell_count * 2 : CELLS_MIN, count = 0, i;
    uint64_t *cells = calloc(cell_count, sizeof(*cells));

    if (!cells) {
        return -ENOMEM;
    }
    for (i = 0; i < set->cell_count; i++) {
        if (set->cells[i]) {
            set_insert(cells, cell_count, set->cells[i], &count);
        }
    }
    free(set->cells);
    set->cells = cells;
    set->cell_count = cell_count;
    return 0;
}

int ckpt_idset_add(struct ckpt_idset *set, uint64_t prefix)
{
    if ((set->count + 1) * 4 > set->cell_count * 3) {
        int rc = set_grow(set);

        if (rc < 0) {
            return rc;
        }
    }
    set_insert(set->cells, set->cell_count, prefix, &set->count);
    return 0;
}

bool ckpt_idset_has(const struct ckpt_idset *set, const struct ckpt_id *id)
{
    uint64_t prefix = ckpt_id_prefix(id);
    size_t i;

    if (!set->cell_count) {
        return false;
    }
    for (i = (size_t)(prefix >> 8) & (set->cell_count - 1); set->cells[i];
         i = (i + 1) & (set->cell_count - 1)) {
        if (set->cells[i] == prefix) {
            return true;
        }
    }
    return false;
}

void ckpt_idset_release(struct ckpt_idset *set)
{
    free(set->cells);
    *set = (struct ckpt_idset){0};
}
