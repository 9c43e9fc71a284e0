/* A small store of settings, each with the revision of its last change. */
#include <errno.h>
#include <string.h>

#include "scheduler/state_private.h"

static void set_probe(struct sched_kv *probe, const char *key)
{
    memset(probe, 0, sizeof(*probe));
    sched_text_set(probe->key, sizeof(probe->key), key);
}

static struct sched_kv *find(const struct sched_state *state, const char *key)
{
    struct sched_kv probe;

    set_probe(&probe, key);
    return sched_table_find(&state->tables[SCHED_TABLE_KV], &probe);
}

const struct sched_kv *sched_state_kv(const struct sched_state *state, const char *key)
{
    return strlen(key) < SCHED_KV_KEY_SIZE ? find(state, key) : NULL;
}

size_t sched_state_kv_seek(const struct sched_state *state, const char *key)
{
    struct sched_kv probe;

    set_probe(&probe, key);
    return sched_table_seek(&state->tables[SCHED_TABLE_KV], &probe);
}

static bool is_expected(struct sched_apply *a,
                        const struct sched_kv *row,
                        const struct sched_cmd_kv *c)
{
    uint64_t revision = row ? row->revision : 0;

    a->result->number = revision;
    if (!c->has_expected || c->expected == revision) {
        return true;
    }
    (void)sched_refuse(a, SHL_ECONFLICT,
                       "\"%.100s\" was changed meanwhile: read it again and repeat", c->key);
    return false;
}

int sched_apply_kv_set(struct sched_apply *a, const struct sched_cmd_kv *c)
{
    struct sched_table *table = &a->state->tables[SCHED_TABLE_KV];
    struct sched_kv *row = find(a->state, c->key);
    uint64_t others = a->state->kv_bytes - (row ? row->value.len : 0);
    struct sched_kv fresh = {.value = c->value};

    if (!is_expected(a, row, c)) {
        return 0;
    }
    if (others + c->value.len > SCHED_KV_BYTES_MAX) {
        return sched_refuse(a, SHL_ELIMIT,
                            "all settings together hold at most %u bytes: delete some",
                            SCHED_KV_BYTES_MAX);
    }
    if (!row && sched_table_is_full(table)) {
        return sched_refuse_full(a, SCHED_TABLE_KV, "delete some");
    }
    if (sched_fields_own(&table->type->fields, &fresh) < 0) {
        return -ENOMEM;
    }
    if (row) {
        sched_fields_release(&table->type->fields, row);
        row->value = fresh.value;
        row->revision = a->index;
        sched_table_touch(table, row);
    } else {
        row = sched_table_row_new(table);
        if (!row || sched_table_grow(table) < 0) {
            sched_table_row_free(table, row);
            sched_fields_release(&table->type->fields, &fresh);
            return -ENOMEM;
        }
        memcpy(row->key, c->key, sizeof(row->key));
        row->value = fresh.value;
        row->revision = a->index;
        sched_table_insert(table, row);
    }
    a->state->kv_bytes = others + c->value.len;
    a->result->number = a->index;
    return 0;
}

int sched_apply_kv_delete(struct sched_apply *a, const struct sched_cmd_kv *c)
{
    struct sched_kv *row = find(a->state, c->key);

    if (!is_expected(a, row, c) || !row) {
        return 0;
    }
    a->result->existed = true;
    a->state->kv_bytes -= row->value.len;
    sched_table_remove(&a->state->tables[SCHED_TABLE_KV], row);
    return 0;
}
