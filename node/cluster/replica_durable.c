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

struct newest {
    const struct cluster *c;
    const struct sched_checkpoint *row;
    bool of_any_kind;
    uint32_t alive_min; /* copies on live nodes */
};

static bool keep_newest(void *arg, const struct sched_checkpoint *row)
{
    struct newest *newest = arg;
    bool counts = row->kind == SCHED_CHECKPOINT_HIBERNATION ||
                  (newest->of_any_kind &&
                   (row->kind == SCHED_CHECKPOINT_FULL || row->kind == SCHED_CHECKPOINT_DISK));

    if (counts && (!newest->row || row->created_at_ms >= newest->row->created_at_ms) &&
        (newest->alive_min == 0 || count_alive(newest->c, row) >= newest->alive_min)) {
        newest->row = row;
    }
    return true;
}

static const struct sched_checkpoint *find_newest(const struct cluster *c,
                                                  const char *sandbox_id,
                                                  bool of_any_kind,
                                                  uint32_t alive_min)
{
    struct newest newest = {.c = c, .of_any_kind = of_any_kind, .alive_min = alive_min};

    cluster_sandbox_artefacts(c, sandbox_id, keep_newest, &newest);
    return newest.row;
}

const struct sched_checkpoint *cluster_sandbox_saved(const struct cluster *c,
                                                     const char *sandbox_id,
                                                     uint32_t alive_min)
{
    return find_newest(c, sandbox_id, false, alive_min);
}

static bool is_after(const struct sched_checkpoint *row, const struct sched_checkpoint *other)
{
    return !other || row->created_at_ms > other->created_at_ms ||
           (row->created_at_ms == other->created_at_ms && strcmp(row->id, other->id) > 0);
}

struct reachable {
    const struct cluster *c;
    const struct sched_checkpoint *row, *vain;
    bool ran; /* it did not hibernate */
};

/* A hibernated one was released when another node had its state: that is waited for, too. */
static bool is_waited_for(const struct reachable *r, const struct sched_checkpoint *row)
{
    return sched_checkpoint_is_promised(row) ||
           (!r->ran && row->holder_count > 0 && sched_checkpoint_had(row) > 1);
}

static bool keep_reachable(void *arg, const struct sched_checkpoint *row)
{
    struct reachable *r = arg;
    bool in_vain = r->vain && !is_after(r->vain, row) && !sched_checkpoint_is_promised(row);

    if (row->kind == SCHED_CHECKPOINT_HIBERNATION && !in_vain && is_after(row, r->row) &&
        (is_waited_for(r, row) || count_alive(r->c, row) > 0)) {
        r->row = row;
    }
    return true;
}

const struct sched_checkpoint *cluster_sandbox_reachable(const struct cluster *c,
                                                         const char *sandbox_id,
                                                         const char *vain_id)
{
    const struct sched_owner *owner = sched_state_owner(c->state, sandbox_id);
    struct reachable r = {.c = c, .ran = owner && !owner->released && owner->claimable};

    r.vain = vain_id ? sched_state_checkpoint(c->state, vain_id) : NULL;
    cluster_sandbox_artefacts(c, sandbox_id, keep_reachable, &r);
    return r.row;
}

struct passing {
    const struct cluster *c;
    const struct sched_checkpoint *taken, *skipped; /* NULL: none, or it is gone */
    bool misses;
};

static bool pass_over(void *arg, const struct sched_checkpoint *row)
{
    struct passing *p = arg;

    if (row->kind == SCHED_CHECKPOINT_HIBERNATION && is_after(row, p->taken)) {
        p->misses = sched_checkpoint_is_promised(row) ||
                    (is_after(row, p->skipped) && count_alive(p->c, row) > 0);
    }
    return !p->misses;
}

/* What was passed over then still may be, unless it has got a second copy before the claim: its
 * owner may have promised it. So may what that one listed since, if it is lost with it. */
bool cluster_sandbox_misses(const struct cluster *c,
                            const char *sandbox_id,
                            const char *taken_id,
                            const char *skipped_id)
{
    struct passing passing = {.c = c};

    passing.taken = sched_state_checkpoint(c->state, taken_id);
    passing.skipped = sched_state_checkpoint(c->state, skipped_id);
    cluster_sandbox_artefacts(c, sandbox_id, pass_over, &passing);
    return passing.misses;
}

const struct sched_checkpoint *cluster_sandbox_kept(const struct cluster *c, const char *sandbox_id)
{
    return find_newest(c, sandbox_id, true, 0);
}

bool cluster_sandbox_durable(const struct cluster *c,
                             const char *sandbox_id,
                             struct cluster_durable *ret)
{
    const struct sched_checkpoint *newest = find_newest(c, sandbox_id, false, 0);

    memset(ret, 0, sizeof(*ret));
    if (newest) {
        judge(c, newest, ret);
    }
    return newest != NULL;
}

/*- What a newer one takes the place of. */

struct replacing {
    const struct sched_checkpoint *old;
    const struct sched_checkpoint *newest; /* of the others of its kind */
};

static bool has_all_holders(const struct sched_checkpoint *row, const struct sched_checkpoint *old)
{
    uint32_t i;

    for (i = 0; i < old->holder_count; i++) {
        if (!catalogue_names(row, &old->holders[i])) {
            return false;
        }
    }
    return true;
}

static bool find_replacement(void *arg, const struct sched_checkpoint *row)
{
    struct replacing *replacing = arg;
    const struct sched_checkpoint *old = replacing->old, *newest = replacing->newest;

    if (row != old && row->kind == old->kind && row->created_at_ms >= old->created_at_ms &&
        (!newest || row->created_at_ms >= newest->created_at_ms)) {
        replacing->newest = row;
    }
    return true;
}

/* Not by numbers alone: the node that runs it lets go of its own copy of the older one at once, so
 * what is left of that is one copy elsewhere, and of the newer one there is one here so far. Those
 * between the two replace nothing: the order to delete one may be on its way, given when it had
 * fewer copies than now. */
bool cluster_state_is_replaced(const struct cluster *c, const struct sched_checkpoint *row)
{
    struct replacing replacing = {.old = row};

    cluster_sandbox_artefacts(c, row->sandbox, find_replacement, &replacing);
    return replacing.newest && (replacing.newest->holder_count >= row->wanted ||
                                has_all_holders(replacing.newest, row));
}
