/* Who may run a sandbox that others could start: owner and epoch, and what was deleted.
 * The epoch only grows; every change of owner is an entry of its own.
 *
 * Within one epoch things only go one way: not claimable -> claimable, held -> released. So an
 * order that arrives twice, or long after a later one, changes nothing that its sender does
 * not expect. The way back is a claim by the owner itself, which begins a new epoch: a release
 * that was on its way when it woke its sandbox again must not reach the running one. */
#include <errno.h>
#include <string.h>

#include "scheduler/state_private.h"

static struct sched_owner *find(const struct sched_state *state, const char *sandbox)
{
    struct sched_owner probe = {0};

    sched_text_set(probe.sandbox, sizeof(probe.sandbox), sandbox);
    return sched_table_find(&state->tables[SCHED_TABLE_OWNERS], &probe);
}

const struct sched_owner *sched_state_owner(const struct sched_state *state, const char *sandbox)
{
    return strlen(sandbox) < SCHED_ID_SIZE ? find(state, sandbox) : NULL;
}

/*- Tombstones. */

const struct sched_tombstone *sched_state_tombstone(const struct sched_state *state,
                                                    uint32_t kind,
                                                    const char *id)
{
    struct sched_tombstone probe = {.kind = kind};

    if (strlen(id) >= SCHED_ID_SIZE) {
        return NULL;
    }
    sched_text_set(probe.id, sizeof(probe.id), id);
    return sched_table_find(&state->tables[SCHED_TABLE_TOMBSTONES], &probe);
}

static uint64_t tombstone_index(const void *row)
{
    return ((const struct sched_tombstone *)row)->index;
}

int sched_tombstone_prepare(struct sched_apply *a,
                            uint32_t kind,
                            const char *id,
                            uint64_t epoch,
                            struct sched_tombstone **ret)
{
    struct sched_table *stones = &a->state->tables[SCHED_TABLE_TOMBSTONES];
    struct sched_tombstone *row;

    if (sched_table_is_full(stones) && sched_drop_oldest(stones, tombstone_index) < 0) {
        return -ENOMEM;
    }
    row = sched_table_row_new(stones);
    if (!row || sched_table_grow(stones) < 0) {
        sched_table_row_free(stones, row);
        return -ENOMEM;
    }
    row->kind = kind;
    memcpy(row->id, id, sizeof(row->id));
    row->epoch = epoch;
    row->index = a->index;
    row->at_ms = a->now_ms;
    *ret = row;
    return 0;
}

void sched_tombstone_put(struct sched_state *state, struct sched_tombstone *row)
{
    sched_table_insert(&state->tables[SCHED_TABLE_TOMBSTONES], row);
}

static bool is_deleted(const struct sched_state *state, const char *sandbox)
{
    return sched_state_tombstone(state, SCHED_TOMBSTONE_SANDBOX, sandbox) != NULL;
}

/*- Refusals that several commands share. */

static int refuse_absent(struct sched_apply *a, const char *sandbox)
{
    if (is_deleted(a->state, sandbox)) {
        return sched_refuse(a, SHL_EGONE, "sandbox %s was deleted", sandbox);
    }
    return sched_refuse(a, SHL_ENOTFOUND, "sandbox %s is not registered: only its owner runs it",
                        sandbox);
}

static int refuse_epoch(struct sched_apply *a, const struct sched_owner *row)
{
    char text[SHL_NODE_ID_TEXT_SIZE];

    shl_node_id_format(text, &row->owner);
    a->result->number = row->epoch;
    return sched_refuse(a, SHL_ECONFLICT, "sandbox %s belongs to node %s in epoch %llu by now",
                        row->sandbox, text, (unsigned long long)row->epoch);
}

static bool is_at(const struct sched_owner *row, const struct sched_cmd_owner *c)
{
    return row->epoch == c->epoch && shl_node_id_equal(&row->owner, &c->owner);
}

/*- Commands. */

static int add_owner(struct sched_apply *a, const struct sched_cmd_owner *c)
{
    struct sched_table *owners = &a->state->tables[SCHED_TABLE_OWNERS];
    struct sched_owner *row;

    if (sched_table_is_full(owners)) {
        return sched_refuse_full(a, SCHED_TABLE_OWNERS,
                                 "further ones come back only with their node");
    }
    row = sched_table_row_new(owners);
    if (!row || sched_table_grow(owners) < 0) {
        sched_table_row_free(owners, row);
        return -ENOMEM;
    }
    memcpy(row->sandbox, c->sandbox, sizeof(row->sandbox));
    memcpy(row->org, c->org, sizeof(row->org));
    row->owner = c->owner;
    row->epoch = c->epoch;
    row->claimable = c->claimable;
    row->index = a->index;
    row->term = a->term;
    sched_table_insert(owners, row);
    a->result->number = row->epoch;
    return 0;
}

int sched_apply_owner_register(struct sched_apply *a, const struct sched_cmd_owner *c)
{
    struct sched_owner *row = find(a->state, c->sandbox);

    if (!row && is_deleted(a->state, c->sandbox)) {
        return refuse_absent(a, c->sandbox);
    }
    if (!sched_node_find(a->state, &c->owner)) {
        return sched_refuse(a, SHL_ENOTFOUND, "the owner is not a member of the cluster");
    }
    if (!row) {
        return add_owner(a, c);
    }
    if (!is_at(row, c)) {
        return refuse_epoch(a, row);
    }
    a->result->existed = true;
    a->result->number = row->epoch;
    row->claimable = row->claimable || c->claimable;
    sched_table_touch(&a->state->tables[SCHED_TABLE_OWNERS], row);
    return 0;
}

int sched_apply_owner_release(struct sched_apply *a, const struct sched_cmd_owner *c)
{
    struct sched_owner *row = find(a->state, c->sandbox);

    if (!row) {
        return refuse_absent(a, c->sandbox);
    }
    if (!is_at(row, c)) {
        return refuse_epoch(a, row);
    }
    a->result->existed = row->released;
    a->result->number = row->epoch;
    row->released = true;
    sched_table_touch(&a->state->tables[SCHED_TABLE_OWNERS], row);
    return 0;
}

static bool may_claim(struct sched_apply *a,
                      const struct sched_owner *row,
                      const struct sched_cmd_owner *c)
{
    const struct sched_node *node = sched_node_find(a->state, &c->new_owner);
    /* The owner itself; or nobody who could still be running it: it left the cluster. */
    bool is_free = row->released || shl_node_id_equal(&row->owner, &c->new_owner) ||
                   !sched_node_find(a->state, &row->owner);

    if (!is_at(row, c) && !(a->state->mutations & SCHED_MUT_EPOCH_UNCHECKED)) {
        (void)refuse_epoch(a, row);
    } else if (!node) {
        (void)sched_refuse(a, SHL_ENOTFOUND, "the new owner is not a member of the cluster");
    } else if (node->spec.role == SCHED_ROLE_WITNESS) {
        (void)sched_refuse(a, SHL_EINVALIDARG, "node \"%s\" is a witness and runs no sandboxes",
                           node->spec.name);
    } else if (!is_free && !row->claimable) {
        (void)sched_refuse(a, SHL_EBADSTATE,
                           "sandbox %s is not to be started elsewhere: it comes back with its node",
                           row->sandbox);
    } else if (!is_free && !c->lapsed) {
        (void)sched_refuse(a, SHL_EBADSTATE,
                           "the owner of sandbox %s has neither released it nor lost its lease",
                           row->sandbox);
    } else {
        return true;
    }
    return false;
}

int sched_apply_owner_claim(struct sched_apply *a, const struct sched_cmd_owner *c)
{
    struct sched_owner *row = find(a->state, c->sandbox);

    if (!row) {
        return refuse_absent(a, c->sandbox);
    }
    if (row->epoch == c->epoch + 1 && shl_node_id_equal(&row->owner, &c->new_owner) &&
        !row->released) {
        a->result->existed = true; /* the same claim again, after a lost answer */
        a->result->number = row->epoch;
        return 0;
    }
    if (!may_claim(a, row, c)) {
        return 0;
    }
    row->owner = c->new_owner;
    row->epoch++;
    row->released = false;
    row->claimable = c->claimable; /* as the new owner wants to run it */
    row->index = a->index;
    row->term = a->term;
    a->result->number = row->epoch;
    sched_table_touch(&a->state->tables[SCHED_TABLE_OWNERS], row);
    return 0;
}

int sched_apply_owner_delete(struct sched_apply *a, const struct sched_cmd_owner *c)
{
    struct sched_owner *row = find(a->state, c->sandbox);
    struct sched_tombstone *stone;

    if (row && !is_at(row, c)) {
        return refuse_epoch(a, row);
    }
    if (!row && is_deleted(a->state, c->sandbox)) {
        return 0;
    }
    if (sched_tombstone_prepare(a, SCHED_TOMBSTONE_SANDBOX, c->sandbox, c->epoch, &stone) < 0) {
        return -ENOMEM;
    }
    sched_tombstone_put(a->state, stone);
    if (row) {
        a->result->existed = true;
        sched_table_remove(&a->state->tables[SCHED_TABLE_OWNERS], row);
    }
    return 0;
}
