/* One pass over the view: what there is of each checkpoint, and what follows for this node. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "checkpoint/mutate.h"
#include "checkpoint/replica_plan_core.h"

struct pass {
    const struct ckpt_plan_node *nodes;
    struct ckpt_replica_map map;
    uint32_t self;
    bool lost[CKPT_REPLICA_NODES_MAX];
    bool keeps[CKPT_REPLICA_NODES_MAX];            /* may have a copy it holds already */
    bool accepts[CKPT_REPLICA_NODES_MAX];          /* ... and a new one */
    bool eligible[CKPT_REPLICA_NODES_MAX];         /* for the entry at hand */
    struct plan_fetch best[CKPT_PLAN_FETCHES_MAX]; /* that could be started, in order */
    uint32_t best_count;
};

static bool is_lost(const struct ckpt_plan *plan, const struct ckpt_plan_node *node)
{
    uint64_t grace = node->planned ? plan->config.planned_ms : plan->config.grace_ms;

    if (plan->config.mutations & CKPT_MUT_LOST_COUNTED) {
        return false;
    }
    if (plan->config.mutations & CKPT_MUT_GRACE_IGNORED) {
        grace = 0;
    }
    switch (node->life) {
    case CKPT_PLAN_ALIVE:
    case CKPT_PLAN_SUSPECT:
        return false;
    case CKPT_PLAN_DEAD:
        return plan->now_ms >= node->since_ms && plan->now_ms - node->since_ms >= grace;
    case CKPT_PLAN_LEFT:
        return true;
    }
    return true;
}

static int pass_init(const struct ckpt_plan *plan,
                     const struct ckpt_plan_event *event,
                     struct pass *pass)
{
    struct ckpt_replica_node nodes[CKPT_REPLICA_NODES_MAX];
    uint32_t count = event->u.view.node_count, i;
    int rc;

    if (count > CKPT_REPLICA_NODES_MAX) {
        return SHL_ELIMIT;
    }
    memset(pass, 0, sizeof(*pass));
    pass->nodes = event->u.view.nodes;
    for (i = 0; i < count; i++) {
        const struct ckpt_plan_node *node = &pass->nodes[i];

        nodes[i] = (struct ckpt_replica_node){node->id, node->domain, node->weight};
        if (plan->config.mutations & CKPT_MUT_DOMAINS_IGNORED) {
            nodes[i].domain = NULL;
        }
        pass->keeps[i] = !is_lost(plan, node) && !node->draining && node->weight > 0;
        pass->lost[i] = is_lost(plan, node) && !shl_node_id_equal(&node->id, &plan->config.self);
        /* What is made while it is away must not wait for it to come back, or for its grace. */
        pass->accepts[i] =
            pass->keeps[i] && node->life != CKPT_PLAN_DEAD && !node->flapping && !node->full;
    }
    rc = ckpt_replica_map_init(&pass->map, plan->config.key, nodes, count);
    if (rc < 0) {
        return rc;
    }
    pass->self = ckpt_replica_map_find(&pass->map, &plan->config.self);
    return pass->self == CKPT_REPLICA_NOWHERE ? SHL_EINVALIDARG : 0;
}

/* What there is of one checkpoint. */
struct census {
    bool holds[CKPT_REPLICA_NODES_MAX];
    uint32_t counted; /* copies on nodes that are neither lost nor draining */
    uint32_t graced;  /* of these, on dead nodes that may come back */
    uint32_t sources; /* other nodes to fetch from */
    uint32_t present; /* copies on nodes that are not lost */
    bool self;
    uint32_t owner; /* index, or NOWHERE */
    struct ckpt_replica_places places;
};

static void count_holder(const struct pass *pass, uint32_t node, struct census *c)
{
    const struct ckpt_plan_node *seen = &pass->nodes[node];

    if (c->holds[node] || pass->lost[node]) {
        return;
    }
    c->holds[node] = true;
    c->present++;
    if (!seen->draining) {
        c->counted++;
        c->graced += seen->life == CKPT_PLAN_DEAD;
    }
    if (node == pass->self) {
        c->self = true;
    } else {
        c->sources += seen->life != CKPT_PLAN_DEAD;
    }
}

static int take_census(struct pass *pass, const struct ckpt_plan_entry *entry, struct census *c)
{
    uint32_t i, pinned;

    memset(c, 0, sizeof(*c));
    memcpy(pass->eligible, pass->accepts, sizeof(pass->eligible));
    for (i = 0; i < entry->holder_count; i++) {
        uint32_t node = ckpt_replica_map_find(&pass->map, &entry->holders[i]);

        if (node != CKPT_REPLICA_NOWHERE) {
            count_holder(pass, node, c);
            pass->eligible[node] = pass->keeps[node];
        }
    }
    c->owner = ckpt_replica_map_find(&pass->map, &entry->owner);
    pinned = c->owner;
    if (pinned != CKPT_REPLICA_NOWHERE && !pass->keeps[pinned]) {
        pinned = CKPT_REPLICA_NOWHERE;
    }
    return ckpt_replica_place(&pass->map, &entry->manifest, pinned, entry->copies, pass->eligible,
                              &c->places);
}

static void report(const struct ckpt_plan_entry *entry,
                   const struct pass *pass,
                   const struct census *c,
                   struct ckpt_plan_report *r)
{
    r->entries++;
    r->full += c->counted >= entry->copies;
    r->short_of += c->counted < entry->copies;
    r->graced += c->counted >= entry->copies && c->counted - c->graced < entry->copies;
    r->lost += c->present == 0;
    r->extra +=
        c->self && !ckpt_replica_places_have(&c->places, pass->self) && c->owner != pass->self;
    r->cramped += c->places.count < entry->copies || c->places.domains < c->places.count;
}

/*- Fetching. */

static void give_fetch(struct ckpt_plan *plan, const struct plan_fetch *fetch)
{
    struct ckpt_plan_action *act = plan_act(plan, CKPT_PLAN_ACT_FETCH, &fetch->manifest);

    act->u.fetch.class = fetch->class;
    act->u.fetch.remaining = fetch->remaining;
}

/* Repairs first, those with the fewest copies left first of all. */
static bool is_before(const struct plan_fetch *a, const struct plan_fetch *b)
{
    if (a->class != b->class) {
        return a->class < b->class;
    }
    if (a->remaining != b->remaining) {
        return a->remaining < b->remaining;
    }
    return memcmp(&a->manifest, &b->manifest, sizeof(a->manifest)) < 0;
}

static void propose(struct pass *pass, const struct plan_fetch *fetch)
{
    uint32_t at = pass->best_count;

    if (at == CKPT_PLAN_FETCHES_MAX) {
        at--;
        if (!is_before(fetch, &pass->best[at])) {
            return;
        }
    } else {
        pass->best_count++;
    }
    for (; at > 0 && is_before(fetch, &pass->best[at - 1]); at--) {
        pass->best[at] = pass->best[at - 1];
    }
    pass->best[at] = *fetch;
}

/* A fetch that runs goes on while it makes up for a lost copy, also when another node has
 * become the place for it meanwhile: what is too much is trimmed later. */
static void consider_fetch(struct ckpt_plan *plan,
                           struct pass *pass,
                           const struct ckpt_plan_entry *entry,
                           const struct census *c)
{
    bool is_short = c->counted < entry->copies;
    bool placed = ckpt_replica_places_have(&c->places, pass->self);
    struct plan_fetch *running = plan_fetch_find(plan, &entry->manifest);
    struct plan_fetch fetch = {.manifest = entry->manifest,
                               .class = is_short ? CKPT_FETCH_REPAIR : CKPT_FETCH_REBALANCE,
                               .remaining = c->counted,
                               .bytes = entry->bytes,
                               .seen = true};

    if (running) {
        running->seen = c->self || placed || is_short;
        if (running->seen && fetch.class < running->class) {
            running->class = fetch.class;
            running->remaining = fetch.remaining;
            give_fetch(plan, running);
        }
        return;
    }
    if (!c->self && placed && c->sources > 0 && !plan_rests(plan, &entry->manifest)) {
        propose(pass, &fetch);
    }
}

static void drop_unneeded(struct ckpt_plan *plan)
{
    uint32_t i = 0;

    while (i < plan->fetch_count) {
        if (!plan->fetches[i].seen) {
            (void)plan_act(plan, CKPT_PLAN_ACT_CANCEL, &plan->fetches[i].manifest);
            plan->fetches[i] = plan->fetches[--plan->fetch_count];
        } else {
            i++;
        }
    }
}

static void start_fetches(struct ckpt_plan *plan,
                          const struct pass *pass,
                          const struct ckpt_plan_budget *budget)
{
    uint32_t most = SHL_MIN(budget->fetches, CKPT_PLAN_FETCHES_MAX), rebalances = 0, i;
    uint64_t bytes = 0;

    for (i = 0; i < plan->fetch_count; i++) {
        bytes += plan->fetches[i].bytes;
        rebalances += plan->fetches[i].class == CKPT_FETCH_REBALANCE;
    }
    for (i = 0; i < pass->best_count && plan->fetch_count < most; i++) {
        const struct plan_fetch *fetch = &pass->best[i];
        bool rebalance = fetch->class == CKPT_FETCH_REBALANCE;

        if ((rebalance && rebalances >= budget->rebalances) ||
            (plan->fetch_count > 0 &&
             (bytes >= budget->bytes || fetch->bytes > budget->bytes - bytes))) {
            break; /* in order: what is more urgent is not passed by what is smaller */
        }
        bytes += fetch->bytes;
        rebalances += rebalance;
        plan->fetches[plan->fetch_count++] = *fetch;
        give_fetch(plan, fetch);
    }
}

/*- Trimming. */

/* All places are held by nodes that are well, and this node is none of them. */
static void consider_trim(struct ckpt_plan *plan,
                          const struct pass *pass,
                          const struct ckpt_plan_entry *entry,
                          const struct census *c)
{
    struct shl_node_id peers[CKPT_REPLICA_COPIES_MAX];
    uint32_t i;

    if (!c->self || c->owner == pass->self || c->places.count < entry->copies) {
        return;
    }
    for (i = 0; i < c->places.count; i++) {
        uint32_t at = c->places.nodes[i];
        const struct ckpt_plan_node *node = &pass->nodes[at];

        if (at == pass->self || !c->holds[at] || node->life != CKPT_PLAN_ALIVE ||
            plan->now_ms < node->since_ms ||
            plan->now_ms - node->since_ms < plan->config.settle_ms) {
            return;
        }
        peers[i] = node->id;
    }
    plan_trim_wanted(plan, &entry->manifest, peers, c->places.count);
}

/*- All of it. */

static bool are_entries(const struct ckpt_plan_event *event)
{
    uint32_t i;

    for (i = 0; i < event->u.view.entry_count; i++) {
        const struct ckpt_plan_entry *entry = &event->u.view.entries[i];

        if (entry->copies < 1 || entry->copies > CKPT_REPLICA_COPIES_MAX ||
            (i > 0 &&
             memcmp(&entry[-1].manifest, &entry->manifest, sizeof(entry->manifest)) >= 0)) {
            return false;
        }
    }
    return true;
}

int plan_view(struct ckpt_plan *plan, const struct ckpt_plan_event *event)
{
    struct pass pass;
    struct census census;
    uint32_t i;
    int rc = are_entries(event) ? pass_init(plan, event, &pass) : SHL_EINVALIDARG;

    if (rc < 0) {
        return rc;
    }
    plan->is_draining = pass.nodes[pass.self].draining;
    plan_trims_begin(plan);
    for (i = 0; i < plan->fetch_count; i++) {
        plan->fetches[i].seen = !event->u.view.settled;
    }
    for (i = 0; i < event->u.view.entry_count; i++) {
        const struct ckpt_plan_entry *entry = &event->u.view.entries[i];

        rc = take_census(&pass, entry, &census);
        assert(rc == 0); /* was checked */
        report(entry, &pass, &census, &plan->actions->report);
        if (event->u.view.settled) {
            consider_fetch(plan, &pass, entry, &census);
            consider_trim(plan, &pass, entry, &census);
        }
    }
    plan_trims_end(plan);
    drop_unneeded(plan);
    start_fetches(plan, &pass, &event->u.view.budget);
    return 0;
}
