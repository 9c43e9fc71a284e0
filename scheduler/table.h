/* A table of the replicated state: heap rows ordered by their key fields, with a running
 * hash over all of them. Internal to scheduler/. */
#ifndef SHL_SCHEDULER_TABLE_H
#define SHL_SCHEDULER_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/fields.h"
#include "scheduler/state.h"

struct sched_table_type {
    const char *what;           /* plural, for sentences */
    struct sched_fields fields; /* the key fields first */
    size_t keys;                /* how many of them are the key */
    size_t row_bytes;           /* structure whose first member is struct sched_row */
    uint32_t rows_max;
};

extern const struct sched_table_type sched_table_types[SCHED_TABLE_COUNT];

struct sched_table {
    const struct sched_table_type *type;
    struct sched_row **rows;
    size_t count;
    size_t capacity;
    uint32_t rows_max;
    uint64_t hash; /* sum of the rows' */
};

void sched_table_init(struct sched_table *table, enum sched_table_id id, uint32_t rows_max);
void sched_table_release(struct sched_table *table);

/* Position of the first row not below @probe (a row of which only the key is read). */
size_t sched_table_seek(const struct sched_table *table, const void *probe);
/* The row with the key of @probe, or NULL. */
void *sched_table_find(const struct sched_table *table, const void *probe);

/* A zeroed heap row, not in the table yet; NULL without memory. */
void *sched_table_row_new(const struct sched_table *table);
void sched_table_row_free(const struct sched_table *table, void *row);

/* Room for one more, so that the insert cannot fail. 0 or -ENOMEM. */
SHL_MUST_CHECK int sched_table_grow(struct sched_table *table);
/* Takes @row, whose key must be new; sched_table_grow came before. */
void sched_table_insert(struct sched_table *table, void *row);
/* @row in the table was changed (not its key). */
void sched_table_touch(struct sched_table *table, void *row);
void sched_table_remove(struct sched_table *table, void *row);
/* Remove all rows for which @drop is true. Returns how many. */
size_t sched_table_filter(struct sched_table *table,
                          bool (*drop)(const void *row, const void *arg),
                          const void *arg);

/* Hash of one row, of all rows anew. */
uint64_t sched_table_row_hash(const struct sched_table *table, const void *row);
uint64_t sched_table_hash_slow(const struct sched_table *table);

#endif /* SHL_SCHEDULER_TABLE_H */
