/* How safe an artefact is: copies of it, and of what it is relative to, on live nodes. */
#include <stdio.h>
#include <string.h>

#include "node/cluster/replicas_private.h"

const char *cluster_durability_name(enum cluster_durability durability)
{
    switch (durability) {
    case CLUSTER_DURABLE_LOCAL:
        return "local";
    case CLUSTER_DURABLE_REPLICATING:
        return "replicating";
    case CLUSTER_DURABLE_REPLICATED:
        return "replicated";
    }
    return "local";
}

static uint32_t count_alive(const struct cluster *c, const struct sched_checkpoint *row)
{
    uint32_t alive = 0, i;

    for (i = 0; i < row->holder_count; i++) {
        alive += shl_node_id_equal(&row->holders[i], &c->keys.id) ||
                 cluster_members_is_live(c, &row->holders[i]);
    }
    return alive;
}

/* Is there a second node that could hold one? */
static bool has_others(const struct cluster *c)
{
    size_t count = sched_state_count(c->state, SCHED_TABLE_NODES), i;
    uint32_t able = 0;

    for (i = 0; i < count; i++) {
        const struct sched_node *row = sched_state_at(c->state, SCHED_TABLE_NODES, i);

        able += row->spec.role != SCHED_ROLE_WITNESS;
    }
    return able > 1;
}

/* The base with the fewest copies of its own need counts in place of the artefact. */
static bool count_base(const struct cluster *c, const char *base, struct cluster_durable *ret)
{
    char id[SCHED_ID_SIZE];
    const struct sched_checkpoint *row;
    uint32_t alive;

    if (snprintf(id, sizeof(id), NODE_BASE_PREFIX "%s", base) >= (int)sizeof(id)) {
        return false;
    }
    row = sched_state_checkpoint(c->state, id);
    alive = row ? count_alive(c, row) : 0;
    ret->alive = SHL_MIN(ret->alive, alive);
    return row && alive >= row->wanted;
}

static bool count_bases(const struct cluster *c,
                        const struct sched_checkpoint *row,
                        struct cluster_durable *ret)
{
    const char *at = row->bases;
    bool all = true;

    while (*at) {
        size_t len = strcspn(at, " ");
        char base[SCHED_BASES_SIZE];

        (void)snprintf(base, sizeof(base), "%.*s", (int)len, at);
        if (len > 0 && !count_base(c, base, ret)) {
            all = false;
        }
        at += len + (at[len] == ' ');
    }
    return all;
}

static void judge(const struct cluster *c,
                  const struct sched_checkpoint *row,
                  struct cluster_durable *ret)
{
    bool enough;

    (void)snprintf(ret->id, sizeof(ret->id), "%s", row->id);
    ret->created_at_ms = row->created_at_ms;
    ret->wanted = row->wanted;
    ret->alive = count_alive(c, row);
    enough = ret->alive >= row->wanted;
    enough &= count_bases(c, row, ret);
    if (row->wanted <= 1 || !has_others(c)) {
        ret->durability = CLUSTER_DURABLE_LOCAL;
    } else {
        ret->durability = enough ? CLUSTER_DURABLE_REPLICATED : CLUSTER_DURABLE_REPLICATING;
    }
}

bool cluster_artefact_durable(const struct cluster *c,
                              const char *artefact_id,
                              struct cluster_durable *ret)
{
    const struct sched_checkpoint *row =
        c->state ? sched_state_checkpoint(c->state, artefact_id) : NULL;

    memset(ret, 0, sizeof(*ret));
    if (row) {
        judge(c, row, ret);
    }
    return row != NULL;
}

/*- By sandbox. */

void cluster_sandbox_artefacts(const struct cluster *c,
                               const char *sandbox_id,
                               bool (*each)(void *arg, const struct sched_checkpoint *row),
                               void *arg)
{
    const struct cluster_replicas *r = c->replicas;
    struct catalogue_ref key = {.id = ""};
    size_t at;

    if (!c->state || strlen(sandbox_id) >= sizeof(key.sandbox)) {
        return;
    }
    (void)snprintf(key.sandbox, sizeof(key.sandbox), "%s", sandbox_id);
    for (at = sorted_seek(&r->by_sandbox, &key); at < r->by_sandbox.count; at++) {
        const struct catalogue_ref *ref = r->by_sandbox.items[at];
        const struct sched_checkpoint *row;

        if (strcmp(ref->sandbox, sandbox_id) != 0) {
            return;
        }
        row = catalogue_row(r, ref);
        if (row && !each(arg, row)) {
            return;
        }
    }
}

static bool keep_newest(void *arg, const struct sched_checkpoint *row)
{
    const struct sched_checkpoint **newest = arg;

    if (row->kind == SCHED_CHECKPOINT_HIBERNATION &&
        (!*newest || row->created_at_ms >= (*newest)->created_at_ms)) {
        *newest = row;
    }
    return true;
}

bool cluster_sandbox_durable(const struct cluster *c,
                             const char *sandbox_id,
                             struct cluster_durable *ret)
{
    const struct sched_checkpoint *newest = NULL;

    memset(ret, 0, sizeof(*ret));
    cluster_sandbox_artefacts(c, sandbox_id, keep_newest, &newest);
    if (newest) {
        judge(c, newest, ret);
    }
    return newest != NULL;
}
