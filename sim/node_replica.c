/* The planner of copies on a simulated node, and what node/cluster/replica*.c does around it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/route_task.h"
#include "sim/world.h"

#define SURVEY_MS   1000
#define SOON_MS     60
#define SWEEP_MS    1000
#define SWEEP_AGE   700  /* of chunks that nothing names */
#define UNLISTED_MS 1500 /* a manifest without a row may have one on its way */
#define HEAR_MS     1500
#define ORDERS_MAX  12 /* of one survey */

/*- The view. */

/* As in node/cluster/replica_view.c. */
static void set_life(const struct sim_node *node,
                     const struct gossip_member *member,
                     struct ckpt_plan_node *ret)
{
    uint64_t now_ms = sim_node_now_ms(node);

    ret->since_ms = member ? member->since_ms : node->replica->opened_ms;
    switch (member ? member->life : GOSSIP_UNHEARD) {
    case GOSSIP_ALIVE:
        ret->life = CKPT_PLAN_ALIVE;
        ret->flapping = !gossip_is_placeable(node->gossip, &ret->id, now_ms);
        break;
    case GOSSIP_SUSPECT:
        ret->life = CKPT_PLAN_SUSPECT;
        break;
    case GOSSIP_LEFT:
        ret->planned = true;
        ret->life = CKPT_PLAN_DEAD;
        break;
    case GOSSIP_UNHEARD:
        ret->since_ms = node->replica->opened_ms;
        ret->life =
            now_ms - node->replica->opened_ms < HEAR_MS ? CKPT_PLAN_SUSPECT : CKPT_PLAN_DEAD;
        break;
    case GOSSIP_DEAD:
    case GOSSIP_REMOVED:
        ret->life = CKPT_PLAN_DEAD;
        break;
    }
}

struct view {
    struct ckpt_plan_node nodes[SIM_NODES_MAX];
    uint32_t count;
    bool has_self, is_heard, is_majority;
};

static void add_nodes(const struct sim_node *node, struct view *view)
{
    size_t count = sched_state_count(node->state, SCHED_TABLE_NODES);
    uint32_t live = 0;

    view->is_heard = true;
    for (size_t i = 0; i < count && i < SIM_NODES_MAX; i++) {
        const struct sched_node *row = sched_state_at(node->state, SCHED_TABLE_NODES, i);
        const struct gossip_member *member = gossip_member_find(node->gossip, &row->spec.id);
        struct ckpt_plan_node *n = &view->nodes[view->count++];

        *n = (struct ckpt_plan_node){.id = row->spec.id, .domain = row->spec.domain};
        n->draining = row->draining.on;
        n->weight = row->spec.role == SCHED_ROLE_WITNESS ? 0 : 100;
        set_life(node, member, n);
        live += n->life == CKPT_PLAN_ALIVE ||
                (n->life == CKPT_PLAN_SUSPECT && member && member->life == GOSSIP_SUSPECT);
        if (shl_node_id_equal(&n->id, &node->id)) {
            n->life = CKPT_PLAN_ALIVE;
            view->has_self = true;
        } else if (n->life == CKPT_PLAN_SUSPECT && (!member || member->life == GOSSIP_UNHEARD)) {
            view->is_heard = false;
        }
    }
    view->is_majority = live * 2 > view->count;
}

static struct shl_node_id owner_of(const struct sim_node *node, const struct sched_checkpoint *row)
{
    const struct sched_owner *owner = sched_state_owner(node->state, row->sandbox);
    struct shl_node_id none = {{0}};
    int slot = -1;

    if (owner) {
        return owner->owner;
    }
    slot = sim_route_owner(node, sim_sandbox_parse(row->sandbox));
    if (slot >= 0) {
        return node->world->nodes[slot].id;
    }
    return row->holder_count > 0 ? row->holders[0] : none;
}

/* What runs here, or would be woken here, is made from this point. */
static const struct sim_sandbox *user_of(const struct sim_node *node,
                                         const struct sim_point_id *point)
{
    const struct sim_sandbox *sandbox = sim_sandbox_find(node, point->sandbox);

    return sandbox &&
                   (sandbox->status == SIM_SANDBOX_RUNNING ||
                    sandbox->status == SIM_SANDBOX_HIBERNATED) &&
                   sandbox->count_epoch == point->epoch && sandbox->count == point->count
               ? sandbox
               : NULL;
}

static uint32_t add_entry(struct sim_node *node,
                          const struct sched_checkpoint *row,
                          struct ckpt_plan_entry *entry,
                          struct shl_node_id *holders)
{
    const struct sim_manifest *m = NULL;
    struct sim_point_id point;

    *entry = (struct ckpt_plan_entry){.bytes = row->bytes, .holders = holders};
    memcpy(entry->manifest.bytes, row->manifest, sizeof(entry->manifest.bytes));
    entry->copies = row->wanted;
    entry->owner = owner_of(node, row);
    for (uint32_t i = 0; i < row->holder_count; i++) {
        if (!shl_node_id_equal(&row->holders[i], &node->id)) {
            holders[entry->holder_count++] = row->holders[i];
        }
    }
    sim_point_of_manifest(&entry->manifest, &point);
    m = sim_store_find(node, &point);
    if (m && m->durable && !m->leaving) { /* of itself, the truth */
        const struct sim_sandbox *user = user_of(node, &point);

        holders[entry->holder_count++] = node->id;
        if (user && !user->copy) {
            entry->owner = node->id;
        }
    }
    return entry->holder_count;
}

static void grow_view(struct sim_world *world, size_t rows)
{
    if (rows <= world->view_cap) {
        return;
    }
    world->view_cap = rows * 2;
    world->view_entries =
        realloc(world->view_entries, world->view_cap * sizeof(*world->view_entries));
    world->view_holders = realloc(world->view_holders, world->view_cap * (SCHED_HOLDERS_MAX + 1) *
                                                           sizeof(*world->view_holders));
    assert(world->view_entries && world->view_holders);
}

/*- The planner's steps. */

static void plan_step(struct sim_node *node, struct ckpt_plan_event *event);

static bool start_trim(struct sim_node *node, const struct ckpt_plan_action *act)
{
    struct sim_point_id point;
    struct sim_manifest *m = NULL;
    const struct sched_owner *owner = NULL;
    char text[SCHED_ID_SIZE];

    sim_point_of_manifest(&act->manifest, &point);
    m = sim_store_find(node, &point);
    sim_sandbox_text(text, point.sandbox);
    owner = sched_state_owner(node->state, text);
    if (!m || m->leaving || sim_job_find(node, &point) || user_of(node, &point) ||
        sim_node_now_ms(node) >= act->u.until_ms || !sim_copy_row(node->state, &point) ||
        (owner && shl_node_id_equal(&owner->owner, &node->id))) {
        return false;
    }
    for (uint32_t i = 0; i < SIM_TRIMS_MAX; i++) {
        struct sim_trim *trim = &node->replica->trims[i];

        if (!trim->used) {
            *trim = (struct sim_trim){.used = true, .point = point, .until_ms = act->u.until_ms};
            m->leaving = true;
            node->copy_wake_ms = 0;
            return true;
        }
    }
    return false;
}

static void tell(struct sim_node *node, const struct ckpt_plan_action *act, uint32_t kind)
{
    struct sim_point_id point;
    int to = sim_world_find(node->world, &act->u.message.peer);
    uint64_t n[5] = {0};

    sim_point_of_manifest(&act->manifest, &point);
    n[0] = point.sandbox;
    n[1] = point.epoch;
    n[2] = point.count;
    n[3] = act->u.message.token;
    n[4] = act->u.message.yes;
    if (to >= 0) {
        sim_route_tell(node, (uint32_t)to, kind, n, (struct shl_bytes){0});
    }
}

static bool start_fetch(struct sim_node *node, const struct ckpt_plan_action *act)
{
    struct sim_point_id point;
    struct sim_job *job = NULL;

    sim_point_of_manifest(&act->manifest, &point);
    sim_check_planned(node, &point, act->u.fetch.class == CKPT_FETCH_REPAIR);
    job = sim_job_want(node, &point, act->u.fetch.class);
    if (job) {
        SIM_TRACE(node->world, node->index, "is to have a copy of %llx.%llu.%llu, %u are left",
                  (unsigned long long)point.sandbox, (unsigned long long)point.epoch,
                  (unsigned long long)point.count, act->u.fetch.remaining);
        job->planned = true;
    }
    return job != NULL;
}

static void cancel_fetch(struct sim_node *node, const struct ckpt_plan_action *act)
{
    struct sim_point_id point;
    struct sim_job *job = NULL;

    sim_point_of_manifest(&act->manifest, &point);
    job = sim_job_find(node, &point);
    if (job) {
        job->planned = false;
        if (!job->wanted && job->step != SIM_JOB_COMMIT) {
            sim_job_drop(node, job);
        }
    }
}

/* False: it is not done, and the planner is to hear so. */
static bool carry_out(struct sim_node *node, const struct ckpt_plan_action *act)
{
    switch (act->type) {
    case CKPT_PLAN_ACT_FETCH:
        return start_fetch(node, act);
    case CKPT_PLAN_ACT_CANCEL:
        cancel_fetch(node, act);
        return true;
    case CKPT_PLAN_ACT_ASK:
        tell(node, act, SIM_RPC_MAY_DROP);
        return true;
    case CKPT_PLAN_ACT_ANSWER:
        tell(node, act, SIM_RPC_MAY_DROP_IS);
        return true;
    case CKPT_PLAN_ACT_TRIM:
        return start_trim(node, act);
    }
    return true;
}

static void plan_step(struct sim_node *node, struct ckpt_plan_event *event)
{
    struct ckpt_plan_actions *actions = &node->world->scratch_plan;
    struct ckpt_plan_event failures[CKPT_PLAN_FETCHES_MAX + CKPT_PLAN_TRIMS_MAX];
    uint32_t count = 0;
    int rc = 0;

    if (node->dying) {
        return;
    }
    event->now_ms = sim_node_now_ms(node);
    rc = ckpt_plan_step(node->replica->plan, event, actions);
    if (rc < 0) {
        sim_check_fail(node->world, 26, "n%u: the planner refuses event %d: %s", node->index,
                       (int)event->type, shl_err_name(rc));
        return;
    }
    if (event->type == CKPT_PLAN_EV_VIEW) {
        node->replica->report = actions->report;
    }
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct ckpt_plan_action *act = &actions->items[i];

        if (!carry_out(node, act) && count < SHL_ARRAY_SIZE(failures)) {
            failures[count] = (struct ckpt_plan_event){.type = CKPT_PLAN_EV_ENDED};
            if (act->type == CKPT_PLAN_ACT_FETCH) {
                failures[count].u.ended.manifest = act->manifest;
            } else {
                failures[count].type = CKPT_PLAN_EV_TRIMMED;
                failures[count].u.trimmed.manifest = act->manifest;
            }
            count++;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        plan_step(node, &failures[i]);
    }
}

void sim_job_plan_ended(struct sim_node *node, const struct sim_point_id *point, bool ok)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ENDED};

    sim_point_manifest(point, &event.u.ended.manifest);
    event.u.ended.ok = ok;
    plan_step(node, &event);
}

/* The order of the real one: out of the log first, then from the disk. */
void sim_replica_left(struct sim_node *node, const struct sim_point_id *point, int code)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_TRIMMED};
    struct sim_manifest *m = sim_store_find(node, point);
    struct sim_trim *trim = NULL;
    bool go = code == 0 || code == SHL_ENOTFOUND || code == SHL_EGONE;

    for (uint32_t i = 0; node->replica && i < SIM_TRIMS_MAX; i++) {
        if (node->replica->trims[i].used &&
            sim_point_compare(&node->replica->trims[i].point, point) == 0) {
            trim = &node->replica->trims[i];
        }
    }
    if (!trim) {
        return;
    }
    trim->used = false;
    go = go && m && sim_node_now_ms(node) < trim->until_ms;
    if (go) {
        sim_check_trimmed(node, m);
        sim_store_drop(node, m);
        node->world->check.trims++;
        node->dying = node->dying || sim_disk_commit(&node->disk) < 0;
    } else if (m) {
        m->leaving = false; /* announced again */
    }
    sim_point_manifest(point, &event.u.trimmed.manifest);
    plan_step(node, &event);
}

static void order_trims(struct sim_node *node)
{
    for (uint32_t i = 0; i < SIM_TRIMS_MAX; i++) {
        struct sim_trim *trim = &node->replica->trims[i];

        if (!trim->used || trim->ordered) {
            continue;
        }
        trim->ordered = true;
        if (!sim_copy_order(node, &trim->point, SCHED_CHECKPOINT_HOLDER, false, true)) {
            const struct sim_point_id point = trim->point;

            sim_replica_left(node, &point, SHL_EUNAVAILABLE);
        }
    }
}

/*- The survey. */

static bool names_self(const struct sim_node *node, const struct sched_checkpoint *row)
{
    for (uint32_t i = 0; i < row->holder_count; i++) {
        if (shl_node_id_equal(&row->holders[i], &node->id)) {
            return true;
        }
    }
    return false;
}

static bool has_all_holders(const struct sched_checkpoint *row, const struct sched_checkpoint *old)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < old->holder_count; i++) {
        for (uint32_t k = 0; k < row->holder_count; k++) {
            found += shl_node_id_equal(&row->holders[k], &old->holders[i]);
        }
    }
    return found == old->holder_count;
}

/* As in node/cluster/replica_durable.c: the newest of the sandbox has as many copies as are wanted,
 * or is wherever the old one is; rows are in order. One between them may be on its way out itself,
 * and replaces nothing. */
static bool is_replaced(const struct sim_node *node, size_t at)
{
    const struct sched_checkpoint *old = sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, at);
    size_t count = sched_state_count(node->state, SCHED_TABLE_CHECKPOINTS);
    bool early = node->world->mutate.sim & SIM_MUT_RETIRE_EARLY;

    for (size_t i = at + 1; i < count; i++) {
        const struct sched_checkpoint *row =
            sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, i);
        const struct sched_checkpoint *next =
            i + 1 < count ? sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, i + 1) : NULL;
        bool is_newest = !next || strcmp(next->sandbox, old->sandbox) != 0;

        if (strcmp(row->sandbox, old->sandbox) != 0) {
            return false;
        }
        if ((early || row->holder_count >= old->wanted || has_all_holders(row, old)) &&
            (is_newest || (node->world->mutate.sim & SIM_MUT_RETIRE_CHAIN))) {
            return true;
        }
    }
    return false;
}

/* Nobody needs the point any more, and this node is the one to say so. */
static bool is_over(const struct sim_node *node, const struct sched_checkpoint *row, size_t at)
{
    const struct sim_sandbox *sandbox = sim_sandbox_find(node, sim_sandbox_parse(row->sandbox));

    if (sandbox && sandbox->status == SIM_SANDBOX_DELETED) {
        return true;
    }
    if (sched_state_tombstone(node->state, SCHED_TOMBSTONE_SANDBOX, row->sandbox)) {
        return names_self(node, row) || sandbox;
    }
    return sandbox && !sandbox->copy &&
           (sandbox->status == SIM_SANDBOX_RUNNING || sandbox->status == SIM_SANDBOX_HIBERNATED) &&
           is_replaced(node, at);
}

static void correct_rows(struct sim_node *node)
{
    struct sim_point_id gone[ORDERS_MAX], told[ORDERS_MAX];
    bool held[ORDERS_MAX];
    uint32_t gone_count = 0, told_count = 0;
    size_t count = sched_state_count(node->state, SCHED_TABLE_CHECKPOINTS);

    for (size_t i = 0; i < count && gone_count < ORDERS_MAX && told_count < ORDERS_MAX; i++) {
        const struct sched_checkpoint *row =
            sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, i);
        const struct sim_manifest *m = NULL;
        struct ckpt_id manifest;
        struct sim_point_id point;
        bool has = false;

        memcpy(manifest.bytes, row->manifest, sizeof(manifest.bytes));
        sim_point_of_manifest(&manifest, &point);
        if (is_over(node, row, i)) {
            gone[gone_count++] = point;
            continue;
        }
        m = sim_store_find(node, &point);
        has = m && m->durable && !m->leaving;
        if (has != names_self(node, row) && (has || !m)) {
            told[told_count] = point;
            held[told_count++] = has;
        }
    }
    for (uint32_t i = 0; i < gone_count; i++) {
        (void)sim_copy_order(node, &gone[i], SCHED_CHECKPOINT_DELETE, false, false);
    }
    for (uint32_t i = 0; i < told_count; i++) {
        (void)sim_copy_order(node, &told[i], SCHED_CHECKPOINT_HOLDER, held[i], false);
    }
}

static bool is_unlisted(const struct sim_node *node, const struct sim_manifest *m)
{
    return !m->leaving && !user_of(node, &m->point) && !sim_copy_row(node->state, &m->point) &&
           !sim_job_find(node, &m->point) && !sim_copy_is_ordered(node, &m->point);
}

/* What this node had listed may be in the log by now, and others may have copied it, though its own
 * state lags. An entry that was given later tells. */
static bool is_row_unknown(struct sim_node *node, struct sim_manifest *m)
{
    char text[SCHED_ID_SIZE];

    sim_copy_text(text, &m->point);
    if (sched_state_tombstone(node->state, SCHED_TOMBSTONE_CHECKPOINT, text) ||
        (node->world->mutate.sim & SIM_MUT_DROP_UNASKED)) {
        return false;
    }
    if (m->fence == 0 && sim_node_now_ms(node) >= m->born_ms + UNLISTED_MS) {
        m->fence = node->renew_sent + 1;
    }
    return m->fence == 0 || node->replica->renewed < m->fence;
}

/* Manifests that no row names, and that nothing here is made from. */
static void drop_unlisted(struct sim_node *node)
{
    for (uint32_t i = node->store.manifest_count; i > 0; i--) {
        struct sim_manifest *m = &node->store.manifests[i - 1];

        if (!is_unlisted(node, m)) {
            m->fence = 0;
        } else if (!is_row_unknown(node, m)) {
            sim_store_drop(node, m);
        }
    }
    node->dying = node->dying || sim_disk_commit(&node->disk) < 0;
}

/* What lost chunks gets them from the layers of the sandbox here, or from another holder. */
static void heal(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->store.manifest_count && !node->dying; i++) {
        struct sim_manifest *m = &node->store.manifests[i];

        if (!m->damaged || m->leaving || sim_job_find(node, &m->point)) {
            continue;
        }
        if (user_of(node, &m->point)) {
            sim_store_put_chunks(node, m);
            (void)sim_node_sync(node, (struct sim_sync){.kind = SIM_SYNC_OTHER});
            sim_fetch_present(node, m);
        } else if (sim_fetch_holder(node, &m->point, 0) >= 0) {
            (void)sim_job_want(node, &m->point, CKPT_FETCH_SCRUB);
        }
    }
}

static void view_step(struct sim_node *node, const struct view *view, bool settled)
{
    struct sim_world *world = node->world;
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_VIEW};
    size_t count = sched_state_count(node->state, SCHED_TABLE_CHECKPOINTS);
    size_t used = 0;

    grow_view(world, count);
    for (size_t i = 0; i < count; i++) {
        used += add_entry(node, sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, i),
                          &world->view_entries[i], &world->view_holders[used]);
    }
    event.u.view.nodes = view->nodes;
    event.u.view.node_count = view->count;
    event.u.view.entries = world->view_entries;
    event.u.view.entry_count = (uint32_t)count;
    event.u.view.settled = settled;
    event.u.view.budget =
        (struct ckpt_plan_budget){8, 2, (uint64_t)20 * SIM_POINT_CHUNKS * CKPT_CHUNK_BYTES};
    plan_step(node, &event);
}

static void survey(struct sim_node *node)
{
    struct shl_node_id leader = sched_raft_leader(node->raft);
    bool ready = node->replica->caught_up && !shl_node_id_is_none(&leader);
    struct view *view = calloc(1, sizeof(*view));

    assert(view);
    if (ready) {
        correct_rows(node);
        drop_unlisted(node);
        heal(node);
    }
    if (!node->dying) {
        sim_fetch_holders(node);
        add_nodes(node, view);
        if (view->has_self) {
            view_step(node, view, ready && view->is_heard && view->is_majority);
        }
    }
    free(view);
}

static void look_after_chunks(struct sim_node *node)
{
    sim_store_scrub(node, node->store.chunk_count / 4 + 1);
    sim_store_sweep(node, SWEEP_AGE, sim_fetch_pins);
    sim_check_store(node);
    node->dying = node->dying || sim_disk_commit(&node->disk) < 0;
}

void sim_replica_tick(struct sim_node *node)
{
    struct sim_replica *r = node->replica;
    uint64_t now_ms = sim_node_now_ms(node);

    sim_fetch_tick(node);
    if (now_ms >= r->survey_ms && !node->dying) {
        r->survey_ms = now_ms + SURVEY_MS;
        survey(node);
    }
    if (now_ms >= r->sweep_ms && !node->dying) {
        r->sweep_ms = now_ms + SWEEP_MS;
        look_after_chunks(node);
    }
    if (!node->dying) {
        order_trims(node);
    }
    node->copy_wake_ms = SHL_MIN(SHL_MIN(r->survey_ms, r->sweep_ms), sim_fetch_wake_ms(node));
}

void sim_replica_soon(struct sim_node *node)
{
    uint64_t soon_ms = sim_node_now_ms(node) + SOON_MS;

    if (node->replica && soon_ms < node->replica->survey_ms) {
        node->replica->survey_ms = soon_ms;
        node->copy_wake_ms = SHL_MIN(node->copy_wake_ms, soon_ms);
    }
}

void sim_replica_applied(struct sim_node *node, const struct sched_command *command)
{
    const struct sched_cmd_lease_renew *renew = &command->u.lease_renew;

    if (!node->replica) {
        return;
    }
    if (command->kind == SCHED_LEASE_RENEW && renew->boot == node->lease_boot &&
        shl_node_id_equal(&renew->node, &node->id)) {
        node->replica->renewed = renew->seq;
        if (!node->replica->caught_up) {
            node->replica->caught_up = true;
            sim_replica_soon(node);
        }
    }
    if (command->kind == SCHED_CHECKPOINT_PUT) {
        sim_replica_soon(node);
    }
}

/*- Messages. */

void sim_replica_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    const struct sim_point_id point = {rpc->n[0], rpc->n[1], rpc->n[2]};
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ASKED};
    const struct sim_manifest *m = NULL;

    if (!node->replica) {
        return; /* a witness */
    }
    if (rpc->kind != SIM_RPC_MAY_DROP && rpc->kind != SIM_RPC_MAY_DROP_IS) {
        sim_fetch_receive(node, from, rpc);
        return;
    }
    if (rpc->kind == SIM_RPC_MAY_DROP) {
        m = sim_store_find(node, &point);
        event.u.asked.from = node->world->nodes[from].id;
        event.u.asked.token = rpc->n[3];
        sim_point_manifest(&point, &event.u.asked.manifest);
        event.u.asked.held = m && m->durable && !m->leaving &&
                             (!m->damaged || (node->world->mutate.sim & SIM_MUT_ROT_SAYS_YES));
    } else {
        event.type = CKPT_PLAN_EV_ANSWERED;
        event.u.answered.from = node->world->nodes[from].id;
        event.u.answered.token = rpc->n[3];
        sim_point_manifest(&point, &event.u.answered.manifest);
        event.u.answered.yes = rpc->n[4] != 0;
    }
    plan_step(node, &event);
}

/*- Life. */

void sim_replica_boot(struct sim_node *node)
{
    const struct sim_tuning *t = &node->world->tuning;
    struct ckpt_plan_config config;

    node->copy_wake_ms = UINT64_MAX;
    if (node->role == SCHED_ROLE_WITNESS) {
        return;
    }
    node->replica = calloc(1, sizeof(*node->replica));
    assert(node->replica);
    ckpt_plan_config_defaults(&config);
    config.self = node->id;
    config.seed = sim_rng_next(&node->rng);
    memset(config.key, 7, sizeof(config.key));
    config.grace_ms = t->grace_ms;
    config.planned_ms = SHL_MAX(t->grace_ms, t->grace_ms * 10);
    config.settle_ms = SHL_MIN(t->grace_ms, 800u);
    config.confirm_ms = 800;
    config.rest_ms = 700;
    config.mutations = node->world->mutate.ckpt;
    if (ckpt_plan_new(&config, &node->replica->plan) < 0) {
        abort();
    }
    node->replica->opened_ms = sim_node_now_ms(node);
    node->replica->survey_ms = node->replica->opened_ms + SURVEY_MS;
    node->replica->sweep_ms = node->replica->opened_ms + SWEEP_MS;
    node->replica->fetch_wake_ms = UINT64_MAX;
    node->copy_wake_ms = node->replica->survey_ms;
}

void sim_replica_shut(struct sim_node *node)
{
    if (node->replica) {
        ckpt_plan_free(node->replica->plan);
        ckpt_fetch_free(node->replica->fetch);
        free(node->replica);
        node->replica = NULL;
    }
    node->copy_wake_ms = UINT64_MAX;
}

bool sim_replica_is_idle(const struct sim_node *node,
                         bool (*is_lost)(const struct sim_node *node,
                                         const struct sim_point_id *point))
{
    const struct sim_replica *r = node->replica;
    struct ckpt_plan_status status;
    struct ckpt_fetch_stats stats = {0};
    uint32_t vain = 0, requests = 0;

    if (!r) {
        return true;
    }
    ckpt_plan_status(r->plan, &status);
    if (r->fetch) {
        ckpt_fetch_stats(r->fetch, &stats);
    }
    for (uint32_t i = 0; i < r->job_count; i++) {
        if (r->jobs[i].step != SIM_JOB_FREE && !is_lost(node, &r->jobs[i].point)) {
            return false;
        }
        vain += r->jobs[i].step != SIM_JOB_FREE;
    }
    for (uint32_t i = 0; i < SIM_REQUESTS_MAX; i++) {
        requests += r->requests[i].id != 0;
    }
    return status.trims == 0 && status.fetches <= vain && stats.jobs <= vain &&
           (vain > 0 || (stats.requests == 0 && requests == 0));
}
