/* What follows from what is known of a sandbox. */
#include <string.h>

#include "scheduler/hold_private.h"
#include "scheduler/mutate.h"

static bool is_mutated(const struct sched_hold *hold, uint32_t bit)
{
    return (hold->config.mutations & bit) != 0;
}

bool hold_is_leased(const struct sched_hold *hold, uint64_t now_ms)
{
    return hold->caught_up && hold->member &&
           now_ms + hold->config.margin_ms < hold->lease_until_ms;
}

bool hold_owns(const struct sched_hold *hold, const struct held *h)
{
    return h->row.there && h->row.epoch == h->facts.epoch &&
           shl_node_id_equal(&h->row.owner, &hold->config.self);
}

/* Others may start it: by its record, which is never behind the log in this. */
static bool is_claimable(const struct sched_hold *hold, const struct held *h)
{
    return h->facts.claimable || (h->saving && h->saving_claimable) ||
           (hold_owns(hold, h) && h->row.claimable);
}

const char *hold_reason(const struct sched_hold *hold, const struct held *h, uint64_t now_ms)
{
    if (h->facts.epoch == 0) {
        return "";
    }
    if (!hold->member) {
        return "this node was removed from the cluster";
    }
    if (!hold->caught_up) {
        return "this node has not heard from the cluster since it started, which may have "
               "given the sandbox to another node";
    }
    if (is_claimable(hold, h) && !hold_is_leased(hold, now_ms)) {
        return "this node has no contact to the scheduler, which may give the sandbox to another "
               "node";
    }
    return h->waking ? "the scheduler does not answer" : "";
}

/*- Actions. */

static struct sched_hold_action *emit(struct sched_hold *hold,
                                      const struct held *h,
                                      enum sched_hold_action_type type)
{
    struct sched_hold_action *action = &hold->actions->items[hold->actions->count++];

    memset(action, 0, sizeof(*action));
    action->type = type;
    memcpy(action->sandbox, h->facts.sandbox, sizeof(action->sandbox));
    return action;
}

static void due(struct held *h, uint64_t at_ms)
{
    h->due_ms = SHL_MIN(h->due_ms, at_ms);
}

static void save(struct sched_hold *hold, struct held *h, uint64_t epoch, bool claimable)
{
    struct sched_hold_action *action;

    if (h->saving) {
        return;
    }
    if (is_mutated(hold, SCHED_MUT_HOLD_UNSAVED)) { /* in memory alone */
        h->fresh = epoch > h->facts.epoch && h->facts.epoch > 0 ? epoch : h->fresh;
        h->facts.epoch = epoch;
        h->facts.claimable = claimable;
        h->facts.copy = false;
        h->dirty = true;
        due(h, 0);
        return;
    }
    h->saving = true;
    h->saving_epoch = epoch;
    h->saving_claimable = claimable;
    action = emit(hold, h, SCHED_HOLD_ACT_SAVE);
    action->u.save.epoch = epoch;
    action->u.save.claimable = claimable;
}

/* The same order again only after a while; another one at once. */
static void order(struct sched_hold *hold,
                  struct held *h,
                  uint32_t kind,
                  bool claimable,
                  uint64_t now_ms)
{
    struct sched_hold_action *action;
    struct sched_cmd_owner *c;

    if (h->order.kind == kind && now_ms < h->order.again_ms) {
        due(h, h->order.again_ms);
        return;
    }
    h->order = (struct hold_order){.kind = kind,
                                   .open = true,
                                   .claimable = claimable,
                                   .token = hold->next_token++,
                                   .again_ms = now_ms + hold->config.retry_ms};
    due(h, h->order.again_ms);
    action = emit(hold, h, SCHED_HOLD_ACT_ORDER);
    action->u.order.token = h->order.token;
    action->u.order.kind = kind;
    action->u.order.is_orphan = h->orphan;
    c = &action->u.order.owner;
    memcpy(c->sandbox, h->facts.sandbox, sizeof(c->sandbox));
    memcpy(c->org, h->facts.org, sizeof(c->org));
    c->owner = h->row.there ? h->row.owner : hold->config.self;
    c->epoch = h->row.there ? h->row.epoch : h->facts.epoch;
    c->claimable = claimable;
    if (kind == SCHED_OWNER_CLAIM) {
        c->new_owner = hold->config.self;
    }
}

static void set_deadline(struct sched_hold *hold, struct held *h, uint64_t at_ms)
{
    if ((h->deadline_ms == at_ms && !h->adopted) || is_mutated(hold, SCHED_MUT_HOLD_NO_DEADLINE) ||
        is_mutated(hold, SCHED_MUT_HOLD_NO_PAUSE)) {
        return;
    }
    h->deadline_ms = at_ms;
    emit(hold, h, SCHED_HOLD_ACT_DEADLINE)->u.at_ms = at_ms;
}

static void set_paused(struct sched_hold *hold, struct held *h, bool paused)
{
    if ((h->paused == paused && !h->adopted) ||
        (paused && is_mutated(hold, SCHED_MUT_HOLD_NO_PAUSE))) {
        return;
    }
    h->paused = paused;
    h->adopted = false;
    emit(hold, h, paused ? SCHED_HOLD_ACT_PAUSE : SCHED_HOLD_ACT_GO_ON);
}

void hold_refuse(struct sched_hold *hold, struct held *h, const struct shl_err *err)
{
    if (h->waking) {
        h->waking = false;
        h->facts.phase = SCHED_HOLD_HIBERNATED;
        emit(hold, h, SCHED_HOLD_ACT_REFUSE)->u.err = *err;
    }
    if (h->deleting) {
        h->deleting = false;
        emit(hold, h, SCHED_HOLD_ACT_DELETED)->u.err = *err;
    }
}

static void refuse_unavailable(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    const char *why = hold_reason(hold, h, now_ms);
    struct shl_err err;

    (void)shl_err_set(&err, SHL_EUNAVAILABLE, "sandbox %s: %s; try again", h->facts.sandbox,
                      why[0] ? why : "the scheduler does not answer");
    hold_refuse(hold, h, &err);
}

/*- It is not this node's any more. */

static void let_go(struct sched_hold *hold, struct held *h, const struct shl_err *err)
{
    hold_refuse(hold, h, err);
    h->ending = true;
    h->due_ms = UINT64_MAX;
    emit(hold, h, SCHED_HOLD_ACT_LET_GO)->u.err = *err;
}

/* In the log, by whomever, or where the log knows nothing of it. */
static void end_deleted(struct sched_hold *hold, struct held *h)
{
    struct shl_err err;

    (void)shl_err_set(&err, SHL_EGONE, "sandbox %s was deleted", h->facts.sandbox);
    if (h->deleting) {
        h->deleting = false;
        emit(hold, h, SCHED_HOLD_ACT_DELETED);
    }
    let_go(hold, h, &err);
}

/* Its own claim, made from what the record has: no other epoch lies between. */
static bool is_own_next(const struct sched_hold *hold, const struct held *h)
{
    return h->row.there && h->row.epoch == h->facts.epoch + 1 &&
           shl_node_id_equal(&h->row.owner, &hold->config.self);
}

static bool has_moved_on(const struct sched_hold *hold, const struct held *h)
{
    if (!h->row.there) {
        return false;
    }
    if (h->row.epoch > h->facts.epoch) {
        return !is_own_next(hold, h) && !is_mutated(hold, SCHED_MUT_HOLD_KEEPS_STALE);
    }
    /* The same epoch with another owner: a copy that was fetched, and not claimed so far. */
    return h->row.epoch == h->facts.epoch && !h->facts.copy && hold->caught_up &&
           !shl_node_id_equal(&h->row.owner, &hold->config.self);
}

/* Who waits for it here finds it there when asking again. */
static void refuse_moved_on(struct sched_hold *hold, struct held *h, const struct shl_err *why)
{
    struct shl_err err;

    (void)shl_err_set(&err, SHL_EUNAVAILABLE, "%s; try again", why->msg);
    hold_refuse(hold, h, &err);
}

static bool has_ended(struct sched_hold *hold, struct held *h)
{
    char text[SHL_NODE_ID_TEXT_SIZE];
    struct shl_err err;

    if (h->row.stone && !is_mutated(hold, SCHED_MUT_HOLD_STONE_IGNORED)) {
        end_deleted(hold, h);
        return true;
    }
    if (has_moved_on(hold, h)) {
        shl_node_id_format(text, &h->row.owner);
        (void)shl_err_set(&err, SHL_ECONFLICT, "sandbox %s went on elsewhere: node %s, epoch %llu",
                          h->facts.sandbox, text, (unsigned long long)h->row.epoch);
        refuse_moved_on(hold, h, &err);
        let_go(hold, h, &err);
        return true;
    }
    return false;
}

/*- A VM that runs, or is being started. */

static void keep_lease(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    bool is_free = h->facts.epoch == 0 && !h->saving;

    if (!is_free && hold->caught_up && !hold->member) {
        set_paused(hold, h, true);
    } else if (is_free || !is_claimable(hold, h)) {
        set_deadline(hold, h, 0);
        set_paused(hold, h, false);
    } else if (hold_is_leased(hold, now_ms)) {
        set_deadline(hold, h, hold->lease_until_ms);
        set_paused(hold, h, false);
        due(h, hold->lease_until_ms - hold->config.margin_ms);
    } else if (!hold->caught_up && now_ms + hold->config.margin_ms < h->deadline_ms) {
        due(h, h->deadline_ms - hold->config.margin_ms); /* this daemon was restarted */
    } else {
        set_paused(hold, h, true);
    }
}

static void run(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    const struct sched_hold_facts *facts = &h->facts;

    if (h->saving || !hold_is_leased(hold, now_ms)) {
        return; /* LEASE and SAVED come here again */
    }
    if (!facts->claimable) {
        if (facts->restore && facts->elsewhere) {
            save(hold, h, SHL_MAX(facts->epoch, 1), true);
        } else if (facts->elsewhere && facts->epoch == 0) {
            save(hold, h, 1, false); /* so that it can be recovered when this node was removed */
        } else if (facts->elsewhere && !h->row.there) {
            order(hold, h, SCHED_OWNER_REGISTER, false, now_ms);
        }
    } else if (!h->row.there || (hold_owns(hold, h) && !h->row.claimable)) {
        order(hold, h, SCHED_OWNER_REGISTER, true, now_ms);
    } else if (!facts->restore && hold_owns(hold, h)) {
        order(hold, h, SCHED_OWNER_CLAIM, false, now_ms); /* an epoch that is not claimable */
    }
}

/*- Before it runs again. */

static void allow(struct sched_hold *hold, struct held *h)
{
    h->waking = false;
    emit(hold, h, SCHED_HOLD_ACT_ALLOW);
}

static bool may_use_epoch(const struct sched_hold *hold, const struct held *h)
{
    if (is_mutated(hold, SCHED_MUT_HOLD_UNREGISTERED) ||
        (is_mutated(hold, SCHED_MUT_HOLD_STALE_LOG) && !hold->caught_up)) {
        return true;
    }
    if (is_mutated(hold, SCHED_MUT_HOLD_SAME_EPOCH) && hold_owns(hold, h) && !h->row.released) {
        return true;
    }
    return h->fresh == h->facts.epoch && hold_owns(hold, h);
}

static void wake(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    const struct sched_hold_facts *facts = &h->facts;

    if (facts->epoch == 0 && !h->saving) {
        allow(hold, h);
        return;
    }
    if (now_ms >= h->wake_until_ms || (hold->caught_up && !hold->member)) {
        refuse_unavailable(hold, h, now_ms);
        return;
    }
    due(h, h->wake_until_ms);
    if (h->saving || (!hold->caught_up && !is_mutated(hold, SCHED_MUT_HOLD_STALE_LOG))) {
        return;
    }
    if (!may_use_epoch(hold, h)) {
        if (h->row.there && h->row.epoch == facts->epoch) {
            order(hold, h, SCHED_OWNER_CLAIM, facts->restore && facts->elsewhere, now_ms);
        } else if (!h->row.there && !facts->copy) {
            order(hold, h, SCHED_OWNER_REGISTER, facts->claimable, now_ms);
        }
        return;
    }
    if (is_claimable(hold, h)) {
        if (!hold_is_leased(hold, now_ms)) {
            return;
        }
        set_deadline(hold, h, hold->lease_until_ms);
    }
    allow(hold, h);
}

/*- Nobody runs it. */

static void rest(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    const struct sched_hold_facts *facts = &h->facts;

    h->paused = false;
    h->adopted = false;
    h->deadline_ms = 0;
    if (!facts->elsewhere || facts->copy || h->saving) {
        return;
    }
    if (facts->epoch == 0 || (!h->row.there && !facts->claimable)) {
        save(hold, h, SHL_MAX(facts->epoch, 1), true);
    } else if (!hold->caught_up) {
        return;
    } else if (!h->row.there) {
        order(hold, h, SCHED_OWNER_REGISTER, true, now_ms);
    } else if (hold_owns(hold, h) && !h->row.released) {
        h->fresh = 0; /* from here on a release of this epoch may come at any time */
        order(hold, h, SCHED_OWNER_RELEASE, false, now_ms);
    }
}

/*- Somebody deletes it. */

static void end(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    if (h->facts.epoch == 0 && !h->saving) {
        end_deleted(hold, h);
    } else if (now_ms >= h->delete_until_ms) {
        refuse_unavailable(hold, h, now_ms);
    } else {
        due(h, h->delete_until_ms);
        if (!h->saving) {
            order(hold, h, SCHED_OWNER_DELETE, false, now_ms);
        }
    }
}

/* Released, claimed by another, deleted: then there is nothing left to do about it. */
static void settle_orphan(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    h->ending = h->row.stone || h->row.released || !hold_owns(hold, h) || !hold->member;
    if (!h->ending) {
        order(hold, h, SCHED_OWNER_RELEASE, false, now_ms);
    }
}

void hold_settle(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    h->due_ms = UINT64_MAX;
    if (h->orphan) {
        settle_orphan(hold, h, now_ms);
        return;
    }
    if (h->ending || has_ended(hold, h)) {
        return;
    }
    /* What a copy goes on from is looked up in the log as of the claim. */
    if (is_own_next(hold, h) && !(h->facts.copy && h->row.believed)) {
        save(hold, h, h->row.epoch, h->row.claimable);
    }
    if (h->facts.phase != SCHED_HOLD_HIBERNATED && !h->waking) {
        keep_lease(hold, h, now_ms);
    }
    if (h->deleting) {
        end(hold, h, now_ms);
    } else if (h->waking) {
        wake(hold, h, now_ms);
    } else if (h->facts.phase == SCHED_HOLD_RUNNING) {
        run(hold, h, now_ms);
    } else if (h->facts.phase == SCHED_HOLD_HIBERNATED) {
        rest(hold, h, now_ms);
    }
}
