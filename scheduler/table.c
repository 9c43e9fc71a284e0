#include "scheduler/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sum.h"

#define TABLE_FIRST_ROWS 16u

void sched_table_init(struct sched_table *table, enum sched_table_id id, uint32_t rows_max)
{
    const struct sched_table_type *type = &sched_table_types[id];

    *table = (struct sched_table){.type = type, .rows_max = rows_max ? rows_max : type->rows_max};
}

void sched_table_row_free(const struct sched_table *table, void *row)
{
    if (row) {
        sched_fields_release(&table->type->fields, row);
        free(row);
    }
}

void sched_table_release(struct sched_table *table)
{
    size_t i;

    for (i = 0; i < table->count; i++) {
        sched_table_row_free(table, table->rows[i]);
    }
    free(table->rows);
    *table = (struct sched_table){.type = table->type, .rows_max = table->rows_max};
}

static int compare(const struct sched_table *table, const void *a, const void *b)
{
    return sched_fields_compare(&table->type->fields, table->type->keys, a, b);
}

size_t sched_table_seek(const struct sched_table *table, const void *probe)
{
    size_t low = 0, high = table->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare(table, table->rows[middle], probe) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void *sched_table_find(const struct sched_table *table, const void *probe)
{
    size_t at = sched_table_seek(table, probe);

    return at < table->count && compare(table, table->rows[at], probe) == 0 ? table->rows[at]
                                                                            : NULL;
}

void *sched_table_row_new(const struct sched_table *table)
{
    return calloc(1, table->type->row_bytes);
}

int sched_table_grow(struct sched_table *table)
{
    size_t want = table->capacity ? table->capacity * 2 : TABLE_FIRST_ROWS;
    struct sched_row **rows;

    if (table->count < table->capacity) {
        return 0;
    }
    rows = realloc(table->rows, want * sizeof(*rows));
    if (!rows) {
        return -ENOMEM;
    }
    table->rows = rows;
    table->capacity = want;
    return 0;
}

/* The sum over all rows must not let similar rows cancel out: spread the bits. */
static uint64_t spread(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

uint64_t sched_table_row_hash(const struct sched_table *table, const void *row)
{
    uint64_t id = (uint64_t)(table->type - sched_table_types);

    return spread(sched_fields_hash(SHL_SUM_START + id, &table->type->fields, row));
}

uint64_t sched_table_hash_slow(const struct sched_table *table)
{
    uint64_t sum = 0;
    size_t i;

    for (i = 0; i < table->count; i++) {
        sum += sched_table_row_hash(table, table->rows[i]);
    }
    return sum;
}

void sched_table_insert(struct sched_table *table, void *row)
{
    struct sched_row *head = row;
    size_t at = sched_table_seek(table, row);

    assert(table->count < table->capacity);
    assert(at == table->count || compare(table, table->rows[at], row) != 0);
    memmove(&table->rows[at + 1], &table->rows[at], (table->count - at) * sizeof(*table->rows));
    table->rows[at] = head;
    table->count++;
    head->hash = sched_table_row_hash(table, row);
    table->hash += head->hash;
}

void sched_table_touch(struct sched_table *table, void *row)
{
    struct sched_row *head = row;

    table->hash -= head->hash;
    head->hash = sched_table_row_hash(table, row);
    table->hash += head->hash;
}

void sched_table_remove(struct sched_table *table, void *row)
{
    size_t at = sched_table_seek(table, row);

    assert(at < table->count);
    assert(table->rows[at] == row);
    table->hash -= table->rows[at]->hash;
    table->count--;
    memmove(&table->rows[at], &table->rows[at + 1], (table->count - at) * sizeof(*table->rows));
    sched_table_row_free(table, row);
}

size_t sched_table_filter(struct sched_table *table,
                          bool (*drop)(const void *row, const void *arg),
                          const void *arg)
{
    size_t from, to = 0, dropped;

    for (from = 0; from < table->count; from++) {
        struct sched_row *row = table->rows[from];

        if (drop(row, arg)) {
            table->hash -= row->hash;
            sched_table_row_free(table, row);
        } else {
            table->rows[to++] = row;
        }
    }
    dropped = table->count - to;
    table->count = to;
    return dropped;
}
