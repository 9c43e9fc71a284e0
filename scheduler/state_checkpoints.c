/* The catalogue of checkpoints: what exists, and which nodes were told to keep it and do. */
#include <errno.h>
#include <string.h>

#include "scheduler/state_private.h"

static struct sched_checkpoint *find(const struct sched_state *state, const char *id)
{
    struct sched_checkpoint probe;

    memset(probe.id, 0, sizeof(probe.id));
    sched_text_set(probe.id, sizeof(probe.id), id);
    return sched_table_find(&state->tables[SCHED_TABLE_CHECKPOINTS], &probe);
}

const struct sched_checkpoint *sched_state_checkpoint(const struct sched_state *state,
                                                      const char *id)
{
    return strlen(id) < SCHED_ID_SIZE ? find(state, id) : NULL;
}

uint32_t sched_checkpoint_had(const struct sched_checkpoint *row)
{
    return SHL_MAX(row->holder_count, row->had_copies);
}

static bool had_enough(const struct sched_checkpoint *row)
{
    return row->wanted > 1 && sched_checkpoint_had(row) >= row->wanted;
}

bool sched_checkpoint_is_promised(const struct sched_checkpoint *row)
{
    return row->holder_count > 0 && had_enough(row);
}

static int refuse_absent(struct sched_apply *a, const char *id)
{
    if (sched_state_tombstone(a->state, SCHED_TOMBSTONE_CHECKPOINT, id)) {
        return sched_refuse(a, SHL_EGONE, "checkpoint %s was deleted", id);
    }
    return sched_refuse(a, SHL_ENOTFOUND, "there is no checkpoint %s", id);
}

/*- Holders: ascending, no node twice. */

/* Position of @node, or where it belongs; @ret_there says which. */
static uint32_t seek_holder(const struct sched_checkpoint *row,
                            const struct shl_node_id *node,
                            bool *ret_there)
{
    uint32_t i;

    *ret_there = false;
    for (i = 0; i < row->holder_count; i++) {
        int order = shl_node_id_compare(&row->holders[i], node);

        if (order >= 0) {
            *ret_there = order == 0;
            break;
        }
    }
    return i;
}

/* False when there is no room. */
static bool add_holder(struct sched_checkpoint *row, const struct shl_node_id *node)
{
    bool there;
    uint32_t at = seek_holder(row, node, &there);

    if (there) {
        return true;
    }
    if (row->holder_count == SCHED_HOLDERS_MAX) {
        return false;
    }
    memmove(&row->holders[at + 1], &row->holders[at],
            (row->holder_count - at) * sizeof(row->holders[0]));
    row->holders[at] = *node;
    row->holder_count++;
    return true;
}

static bool drop_holder(struct sched_checkpoint *row, const struct shl_node_id *node)
{
    bool there;
    uint32_t at = seek_holder(row, node, &there);

    if (there) {
        row->had_copies = sched_checkpoint_had(row);
        row->holder_count--;
        memmove(&row->holders[at], &row->holders[at + 1],
                (row->holder_count - at) * sizeof(row->holders[0]));
        memset(&row->holders[row->holder_count], 0, sizeof(row->holders[0]));
    }
    return there;
}

void sched_checkpoints_forget_node(struct sched_apply *a, const struct shl_node_id *node)
{
    struct sched_table *table = &a->state->tables[SCHED_TABLE_CHECKPOINTS];
    size_t i;

    for (i = 0; i < table->count; i++) {
        struct sched_checkpoint *row = (struct sched_checkpoint *)table->rows[i];

        if (drop_holder(row, node)) {
            if (a->state->mutations & SCHED_MUT_PROMISE_LOST) {
                row->had_copies = 0;
            }
            row->index = a->index;
            sched_table_touch(table, row);
        }
    }
}

/*- Commands. */

static int insert(struct sched_apply *a, const struct sched_cmd_checkpoint *c)
{
    struct sched_table *table = &a->state->tables[SCHED_TABLE_CHECKPOINTS];
    struct sched_checkpoint *row = sched_table_row_new(table);
    uint32_t i;

    if (!row || sched_table_grow(table) < 0) {
        sched_table_row_free(table, row);
        return -ENOMEM;
    }
    memcpy(row->id, c->id, sizeof(row->id));
    memcpy(row->org, c->org, sizeof(row->org));
    memcpy(row->sandbox, c->sandbox, sizeof(row->sandbox));
    memcpy(row->label, c->label, sizeof(row->label));
    memcpy(row->manifest, c->manifest, sizeof(row->manifest));
    memcpy(row->bases, c->bases, sizeof(row->bases));
    row->kind = c->kind;
    row->bytes = c->bytes;
    row->wanted = c->wanted;
    for (i = 0; i < c->holder_count; i++) {
        (void)add_holder(row, &c->holders[i]); /* as many as fit into the command fit here */
    }
    row->created_at_ms = a->now_ms;
    row->index = a->index;
    sched_table_insert(table, row);
    return 0;
}

/* What a node saved that the sandbox has left since is older than what it goes on from elsewhere,
 * however late it is listed: it must not become the newest. Its maker is the first holder. */
static bool is_late(const struct sched_apply *a, const struct sched_cmd_checkpoint *c)
{
    const struct sched_owner *owner =
        c->kind == SCHED_CHECKPOINT_HIBERNATION ? sched_state_owner(a->state, c->sandbox) : NULL;

    return owner && c->holder_count > 0 && !shl_node_id_equal(&c->holders[0], &owner->owner);
}

int sched_apply_checkpoint_put(struct sched_apply *a, const struct sched_cmd_checkpoint *c)
{
    const struct sched_checkpoint *row = find(a->state, c->id);
    uint32_t i;

    if (row) {
        if (memcmp(row->manifest, c->manifest, sizeof(row->manifest)) != 0 ||
            strcmp(row->org, c->org) != 0) {
            return sched_refuse(a, SHL_ECONFLICT, "there is another checkpoint %s already", c->id);
        }
        a->result->existed = true;
        return 0;
    }
    if (sched_state_tombstone(a->state, SCHED_TOMBSTONE_CHECKPOINT, c->id)) {
        return refuse_absent(a, c->id);
    }
    for (i = 0; i < c->holder_count; i++) {
        if (!sched_node_find(a->state, &c->holders[i])) {
            return sched_refuse(a, SHL_ENOTFOUND, "a holder is not a member of the cluster");
        }
    }
    if (is_late(a, c)) {
        return sched_refuse(a, SHL_ECONFLICT, "sandbox %s has gone on since %s was saved",
                            c->sandbox, c->id);
    }
    if (sched_table_is_full(&a->state->tables[SCHED_TABLE_CHECKPOINTS])) {
        return sched_refuse_full(a, SCHED_TABLE_CHECKPOINTS, "delete some that are not needed");
    }
    return insert(a, c);
}

int sched_apply_checkpoint_holder(struct sched_apply *a,
                                  const struct sched_cmd_checkpoint_holder *c)
{
    struct sched_checkpoint *row = find(a->state, c->id);
    uint32_t before;

    if (!row) {
        return refuse_absent(a, c->id);
    }
    if (!sched_node_find(a->state, &c->node)) {
        return sched_refuse(a, SHL_ENOTFOUND, "the holder is not a member of the cluster");
    }
    before = row->holder_count;
    if (!c->held) {
        (void)drop_holder(row, &c->node);
    } else if (!add_holder(row, &c->node)) {
        return sched_refuse(a, SHL_ELIMIT, "checkpoint %s has %u holders, which is the limit",
                            c->id, SCHED_HOLDERS_MAX);
    }
    a->result->number = row->holder_count;
    a->result->existed = row->holder_count == before;
    if (row->holder_count != before) {
        row->index = a->index;
        sched_table_touch(&a->state->tables[SCHED_TABLE_CHECKPOINTS], row);
    }
    return 0;
}

int sched_apply_checkpoint_wanted(struct sched_apply *a,
                                  const struct sched_cmd_checkpoint_wanted *c)
{
    struct sched_checkpoint *row = find(a->state, c->id);

    if (!row) {
        return refuse_absent(a, c->id);
    }
    a->result->existed = row->wanted == c->wanted;
    if (row->wanted != c->wanted) {
        if (had_enough(row)) { /* what was promised of it still is */
            row->had_copies = SHL_MAX(sched_checkpoint_had(row), c->wanted);
        }
        row->wanted = c->wanted;
        row->index = a->index;
        sched_table_touch(&a->state->tables[SCHED_TABLE_CHECKPOINTS], row);
    }
    return 0;
}

int sched_apply_checkpoint_delete(struct sched_apply *a,
                                  const struct sched_cmd_checkpoint_delete *c)
{
    struct sched_checkpoint *row = find(a->state, c->id);
    struct sched_tombstone *stone;

    if (!row) {
        if (sched_state_tombstone(a->state, SCHED_TOMBSTONE_CHECKPOINT, c->id)) {
            return 0; /* deleted before */
        }
        return refuse_absent(a, c->id);
    }
    if (sched_tombstone_prepare(a, SCHED_TOMBSTONE_CHECKPOINT, c->id, 0, &stone) < 0) {
        return -ENOMEM;
    }
    sched_tombstone_put(a->state, stone);
    sched_table_remove(&a->state->tables[SCHED_TABLE_CHECKPOINTS], row);
    a->result->existed = true;
    return 0;
}
