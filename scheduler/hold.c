/* What is known: events change it. What follows from it: scheduler/hold_settle.c. */
#include "scheduler/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/hold_private.h"
#include "scheduler/mutate.h"

void sched_hold_config_defaults(struct sched_hold_config *config)
{
    *config = (struct sched_hold_config){.margin_ms = 1000, .wait_ms = 5000, .retry_ms = 1000};
}

int sched_hold_new(const struct sched_hold_config *config, struct sched_hold **ret)
{
    struct sched_hold *hold;

    if (shl_node_id_is_none(&config->self) || config->wait_ms == 0 || config->retry_ms == 0) {
        return SHL_EINVALIDARG;
    }
    hold = calloc(1, sizeof(*hold));
    if (!hold) {
        return -ENOMEM;
    }
    hold->config = *config;
    hold->next_token = 1;
    hold->member = true;
    *ret = hold;
    return 0;
}

void sched_hold_free(struct sched_hold *hold)
{
    if (!hold) {
        return;
    }
    for (uint32_t i = 0; i < hold->count; i++) {
        free(hold->held[i]);
    }
    free(hold->held);
    free(hold);
}

/*- The list, by sandbox. */

static uint32_t seek(const struct sched_hold *hold, const char *sandbox)
{
    uint32_t low = 0, high = hold->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (strcmp(hold->held[middle]->facts.sandbox, sandbox) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct held *find(const struct sched_hold *hold, const char *sandbox)
{
    uint32_t at = sandbox ? seek(hold, sandbox) : hold->count;

    return at < hold->count && strcmp(hold->held[at]->facts.sandbox, sandbox) == 0 ? hold->held[at]
                                                                                   : NULL;
}

static int add(struct sched_hold *hold, const struct sched_hold_facts *facts, struct held **ret)
{
    uint32_t at = seek(hold, facts->sandbox);
    struct held *h;

    if (hold->count == SCHED_HOLD_MAX) {
        return SHL_ELIMIT;
    }
    if (hold->count == hold->cap) {
        uint32_t cap = hold->cap ? hold->cap * 2 : 16;
        struct held **grown = realloc(hold->held, cap * sizeof(struct held *));

        if (!grown) {
            return -ENOMEM;
        }
        hold->held = grown;
        hold->cap = cap;
    }
    h = calloc(1, sizeof(*h));
    if (!h) {
        return -ENOMEM;
    }
    h->facts = *facts;
    memmove(&hold->held[at + 1], &hold->held[at], (hold->count - at) * sizeof(struct held *));
    hold->held[at] = h;
    hold->count++;
    *ret = h;
    return 0;
}

static void drop(struct sched_hold *hold, const char *sandbox)
{
    uint32_t at = seek(hold, sandbox);

    if (!find(hold, sandbox)) {
        return;
    }
    free(hold->held[at]);
    hold->count--;
    memmove(&hold->held[at], &hold->held[at + 1], (hold->count - at) * sizeof(struct held *));
}

/*- What the log says. */

/* A row of its own that was not there before: no earlier process can have sent a release, since
 * that needs the row. Only when its absence was certain: not of a copy, whose row is older. */
static void learn(struct sched_hold *hold, struct held *h, const struct hold_row *row)
{
    if (row->at < h->row.at) {
        return; /* an outcome has told more */
    }
    if (!h->row.there && !h->facts.copy && hold->caught_up && row->there && !row->released &&
        row->epoch == h->facts.epoch && shl_node_id_equal(&row->owner, &hold->config.self)) {
        h->fresh = row->epoch;
    }
    h->row = *row;
    h->dirty = true;
}

static void read_row(struct sched_hold *hold, struct held *h, const struct sched_state *state)
{
    const struct sched_owner *owner = sched_state_owner(state, h->facts.sandbox);
    struct hold_row row = {.there = owner != NULL, .at = sched_state_index(state)};

    row.stone = sched_state_tombstone(state, SCHED_TOMBSTONE_SANDBOX, h->facts.sandbox) != NULL;
    if (owner) {
        row.owner = owner->owner;
        row.epoch = owner->epoch;
        row.claimable = owner->claimable;
        row.released = owner->released;
    }
    learn(hold, h, &row);
}

/* One that has not joined yet, or whose log is not that far, is not one that was removed. */
static void note_member(struct sched_hold *hold, const struct sched_state *state)
{
    if (sched_state_node(state, &hold->config.self)) {
        hold->member = true;
        hold->was_member = true;
    } else if (hold->was_member) {
        hold->member = false;
    }
}

/* What fits is released; the others are found by the next look at all rows. */
static void take_in_orphan(struct sched_hold *hold,
                           const struct sched_owner *row,
                           const struct sched_state *state)
{
    struct sched_hold_facts facts = {.phase = SCHED_HOLD_HIBERNATED, .elsewhere = true};
    struct held *h;

    if (!hold->caught_up || row->released || !shl_node_id_equal(&row->owner, &hold->config.self) ||
        find(hold, row->sandbox)) {
        return;
    }
    memcpy(facts.sandbox, row->sandbox, sizeof(facts.sandbox));
    memcpy(facts.org, row->org, sizeof(facts.org));
    facts.epoch = row->epoch;
    if (add(hold, &facts, &h) == 0) {
        h->orphan = true;
        read_row(hold, h, state);
    }
}

static void take_in_orphans(struct sched_hold *hold, const struct sched_state *state)
{
    size_t count = sched_state_count(state, SCHED_TABLE_OWNERS);

    for (size_t i = 0; i < count; i++) {
        take_in_orphan(hold, sched_state_at(state, SCHED_TABLE_OWNERS, i), state);
    }
}

static void on_row(struct sched_hold *hold, const struct sched_hold_event *event)
{
    const struct sched_owner *row =
        event->sandbox ? sched_state_owner(event->u.row, event->sandbox) : NULL;
    struct held *h = find(hold, event->sandbox);

    note_member(hold, event->u.row);
    if (h) {
        read_row(hold, h, event->u.row);
    } else if (row) {
        take_in_orphan(hold, row, event->u.row);
    }
    if (!event->sandbox) {
        take_in_orphans(hold, event->u.row);
    }
    for (uint32_t i = 0; !event->sandbox && i < hold->count; i++) {
        read_row(hold, hold->held[i], event->u.row);
        hold->held[i]->dirty = true;
    }
}

/*- Events. */

static int on_facts(struct sched_hold *hold, const struct sched_hold_event *event)
{
    const struct sched_hold_facts *facts = event->u.facts.facts;
    struct held *h;
    int rc;

    if (memchr(facts->sandbox, 0, sizeof(facts->sandbox)) == NULL ||
        memchr(facts->org, 0, sizeof(facts->org)) == NULL || facts->sandbox[0] == 0 ||
        facts->phase > SCHED_HOLD_RUNNING || (facts->copy && facts->epoch == 0)) {
        return SHL_EINVALIDARG;
    }
    h = find(hold, facts->sandbox);
    if (h && h->orphan) {
        /* A release that is on its way is of this epoch, not of a later one. */
        drop(hold, facts->sandbox);
        h = NULL;
    }
    if (!h) {
        rc = add(hold, facts, &h);
        if (rc < 0) {
            return rc;
        }
        h->adopted = facts->phase == SCHED_HOLD_RUNNING;
        h->deadline_ms = facts->phase == SCHED_HOLD_RUNNING ? facts->deadline_ms : 0;
        if (event->u.facts.state) {
            note_member(hold, event->u.facts.state);
            read_row(hold, h, event->u.facts.state);
        }
    }
    h->facts.phase = h->waking ? SCHED_HOLD_STARTING : facts->phase;
    h->facts.restore = facts->restore;
    h->facts.elsewhere = facts->elsewhere;
    h->dirty = true;
    return 0;
}

static void on_saved(struct held *h, const struct sched_hold_event *event)
{
    if (!h->saving || event->u.saved.epoch != h->saving_epoch ||
        event->u.saved.claimable != h->saving_claimable) {
        return;
    }
    h->saving = false;
    /* Of its own claim: nobody can have released this epoch, that needs the saved record. */
    if (h->saving_epoch > h->facts.epoch && h->facts.epoch > 0) {
        h->fresh = h->saving_epoch;
    }
    h->facts.epoch = h->saving_epoch;
    h->facts.claimable = h->saving_claimable;
    h->facts.copy = false;
    h->dirty = true;
}

static void on_lease(struct sched_hold *hold, const struct sched_hold_event *event)
{
    bool had_ended = !hold_is_leased(hold, event->now_ms);

    if (event->u.lease_until_ms <= hold->lease_until_ms && hold->caught_up) {
        return;
    }
    hold->caught_up = true;
    hold->lease_until_ms = event->u.lease_until_ms;
    for (uint32_t i = 0; i < hold->count; i++) {
        struct held *h = hold->held[i];

        /* Its VMM may have stopped it by itself meanwhile. */
        if (had_ended && h->deadline_ms > 0) {
            h->paused = true;
        }
        h->dirty = true;
    }
}

static int on_wake(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    if (!h) {
        return SHL_ENOTFOUND;
    }
    if (h->facts.phase == SCHED_HOLD_RUNNING || h->waking) {
        return SHL_EINVALIDARG;
    }
    h->facts.phase = SCHED_HOLD_STARTING;
    h->waking = true;
    h->wake_until_ms = now_ms + hold->config.wait_ms;
    h->paused = false;
    h->deadline_ms = 0;
    h->dirty = true;
    return 0;
}

static int on_delete(struct sched_hold *hold, struct held *h, uint64_t now_ms)
{
    if (!h) {
        return SHL_ENOTFOUND;
    }
    if (h->deleting) {
        return SHL_EINVALIDARG;
    }
    h->deleting = true;
    h->delete_until_ms = now_ms + hold->config.wait_ms;
    h->dirty = true;
    return 0;
}

/* What an accepted order means for the row, if the log has not told more yet. */
static void believe(struct sched_hold *hold,
                    struct held *h,
                    uint32_t kind,
                    const struct sched_hold_event *event)
{
    struct hold_row row = h->row;

    if (event->u.outcome.index <= h->row.at) {
        return;
    }
    row.at = event->u.outcome.index;
    row.believed = true;
    if (kind == SCHED_OWNER_CLAIM || (kind == SCHED_OWNER_REGISTER && !row.there)) {
        row = (struct hold_row){.there = true,
                                .believed = true,
                                .owner = hold->config.self,
                                .epoch = event->u.outcome.number,
                                .claimable = h->order.claimable,
                                .at = row.at};
    } else if (kind == SCHED_OWNER_REGISTER) {
        row.claimable = row.claimable || h->order.claimable;
    } else if (kind == SCHED_OWNER_RELEASE) {
        row.released = true;
    } else {
        row.there = false;
        row.stone = true;
    }
    learn(hold, h, &row);
}

static void on_outcome(struct sched_hold *hold, const struct sched_hold_event *event)
{
    struct held *h = NULL;
    int code = event->u.outcome.code;

    for (uint32_t i = 0; i < hold->count; i++) {
        if (hold->held[i]->order.open && hold->held[i]->order.token == event->u.outcome.token) {
            h = hold->held[i];
        }
    }
    if (!h) {
        return;
    }
    h->order.open = false;
    h->dirty = true;
    if (code == 0) {
        believe(hold, h, h->order.kind, event);
        h->order.again_ms = event->now_ms;
        return;
    }
    h->order.again_ms = event->now_ms + hold->config.retry_ms;
    if (code == SHL_ECONFLICT && h->order.kind == SCHED_OWNER_CLAIM) {
        return; /* another epoch, maybe of its own earlier claim: ROW will tell whose */
    }
    if (code != SHL_EUNAVAILABLE && (h->order.kind == SCHED_OWNER_CLAIM || h->deleting ||
                                     (h->waking && h->order.kind == SCHED_OWNER_REGISTER))) {
        struct shl_err err = {0};

        if (event->u.outcome.err && event->u.outcome.err->code == code) {
            err = *event->u.outcome.err;
        } else {
            (void)shl_err_set(&err, code, "%s", shl_err_text(code));
        }
        hold_refuse(hold, h, &err);
    }
}

static int take(struct sched_hold *hold, const struct sched_hold_event *event)
{
    struct held *h = event->type == SCHED_HOLD_EV_ROW ? NULL : find(hold, event->sandbox);

    if (h && h->orphan && event->type != SCHED_HOLD_EV_FACTS) {
        h = NULL; /* it is not here */
    }
    switch (event->type) {
    case SCHED_HOLD_EV_TICK:
        return 0;
    case SCHED_HOLD_EV_FACTS:
        return on_facts(hold, event);
    case SCHED_HOLD_EV_GONE:
        if (h) {
            drop(hold, event->sandbox);
        }
        return 0;
    case SCHED_HOLD_EV_SAVED:
        if (h) {
            on_saved(h, event);
        }
        return 0;
    case SCHED_HOLD_EV_ROW:
        on_row(hold, event);
        return 0;
    case SCHED_HOLD_EV_LEASE:
        on_lease(hold, event);
        return 0;
    case SCHED_HOLD_EV_WAKE:
        return on_wake(hold, h, event->now_ms);
    case SCHED_HOLD_EV_DELETE:
        return on_delete(hold, h, event->now_ms);
    case SCHED_HOLD_EV_OUTCOME:
        on_outcome(hold, event);
        return 0;
    }
    return SHL_EINVALIDARG;
}

static void drop_orphans(struct sched_hold *hold)
{
    for (uint32_t i = hold->count; i-- > 0;) {
        if (hold->held[i]->orphan && hold->held[i]->ending) {
            drop(hold, hold->held[i]->facts.sandbox);
        }
    }
}

int sched_hold_step(struct sched_hold *hold,
                    const struct sched_hold_event *event,
                    struct sched_hold_actions *actions)
{
    int rc;

    actions->count = 0;
    actions->more = false;
    actions->wake_at_ms = UINT64_MAX;
    hold->actions = actions;
    rc = take(hold, event);
    for (uint32_t i = 0; i < hold->count; i++) {
        struct held *h = hold->held[i];

        if (h->dirty || h->due_ms <= event->now_ms) {
            h->dirty = true;
            if (actions->count + HOLD_SETTLE_ACTIONS > SCHED_HOLD_ACTIONS_MAX) {
                actions->more = true;
                actions->wake_at_ms = event->now_ms;
                continue;
            }
            h->dirty = false;
            hold_settle(hold, h, event->now_ms);
        }
        actions->wake_at_ms = SHL_MIN(actions->wake_at_ms, h->due_ms);
    }
    hold->actions = NULL;
    drop_orphans(hold);
    return rc;
}

/*- For people. */

void sched_hold_status(const struct sched_hold *hold, struct sched_hold_status *ret)
{
    *ret = (struct sched_hold_status){.caught_up = hold->caught_up,
                                      .lease_until_ms = hold->lease_until_ms,
                                      .sandboxes = hold->count};
    for (uint32_t i = 0; i < hold->count; i++) {
        ret->orphans += hold->held[i]->orphan;
        ret->registered += hold->held[i]->facts.epoch > 0;
        ret->paused += hold->held[i]->paused;
        ret->waiting += hold->held[i]->waking;
    }
}

const char *sched_hold_reason(const struct sched_hold *hold, const char *sandbox, uint64_t now_ms)
{
    const struct held *h = find(hold, sandbox);

    return h ? hold_reason(hold, h, now_ms) : "";
}
