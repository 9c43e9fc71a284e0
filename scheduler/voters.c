#include "scheduler/voters.h"

#include <string.h>

#include "scheduler/command.h"
#include "scheduler/mutate.h"

#define VOTERS_ENOUGH 3u /* below this a newcomer need not prove itself for long */

void sched_voters_config_init(struct sched_voters_config *config)
{
    *config = (struct sched_voters_config){.voters_max = 5,
                                           .members_max = 64,
                                           .stable_ms = 30000,
                                           .grow_ms = 5000,
                                           .dead_ms = 30000,
                                           .interval_ms = 5000};
}

uint32_t sched_voters_wanted(uint32_t count, uint32_t voters_max)
{
    count = SHL_MIN(count, voters_max);
    return count <= 2 ? count : count - (count % 2 == 0);
}

/* One run: the nodes by id, and what the choice is made of. */
struct choice {
    const struct sched_voters_config *config;
    const struct sched_voters_input *input;
    const struct sched_voters_node *nodes[SCHED_NODES_MAX]; /* by id */
    bool wanted[SCHED_NODES_MAX];                           /* should be a voter */
    uint32_t order[SCHED_NODES_MAX];                        /* of the wanted: best first */
    uint32_t wanted_count;
    uint32_t count;
    uint32_t voters;
    uint32_t live; /* voters that are alive */
};

static uint32_t quorum(uint32_t voters)
{
    return voters / 2 + 1;
}

static int margin(uint32_t live, uint32_t voters)
{
    return (int)live - (int)quorum(voters);
}

static void sort_nodes(struct choice *c)
{
    uint32_t i, at;

    for (i = 0; i < c->input->count && i < SCHED_NODES_MAX; i++) {
        const struct sched_voters_node *node = &c->input->nodes[i];

        for (at = i; at > 0 && shl_node_id_compare(&c->nodes[at - 1]->id, &node->id) > 0; at--) {
            c->nodes[at] = c->nodes[at - 1];
        }
        c->nodes[at] = node;
        c->voters += node->voter;
        c->live += node->voter && node->alive;
    }
    c->count = i;
}

/*- Who could vote, and who best. */

static bool is_leader(const struct choice *c, const struct sched_voters_node *node)
{
    return shl_node_id_equal(&node->id, &c->input->leader);
}

static bool is_eligible(const struct choice *c, const struct sched_voters_node *node)
{
    uint64_t proof_ms = c->voters < VOTERS_ENOUGH ? c->config->grow_ms : c->config->stable_ms;

    if (!node->member || node->role == SCHED_ROLE_STANDBY) {
        return false;
    }
    if (node->voter) { /* it stays until it is dead for long: no change for a hiccup */
        return node->alive || node->dead_ms < c->config->dead_ms;
    }
    return node->alive && node->alive_ms >= proof_ms && !node->flapping && !node->draining;
}

static uint32_t domain_use(const struct choice *c, const struct sched_voters_node *node)
{
    uint32_t i, used = 0;

    if (!node->domain || node->domain[0] == '\0') {
        return 0;
    }
    for (i = 0; i < c->wanted_count; i++) {
        const char *other = c->nodes[c->order[i]]->domain;

        used += other && strcmp(other, node->domain) == 0;
    }
    return used;
}

/* Is @a the better next voter? The first difference decides; nodes[] is by id, so equal
 * ones are taken in that order. */
static bool is_better(const struct choice *c,
                      const struct sched_voters_node *a,
                      const struct sched_voters_node *b)
{
    bool a_bad = a->flapping || a->draining;
    bool b_bad = b->flapping || b->draining;
    uint32_t a_use = domain_use(c, a);
    uint32_t b_use = domain_use(c, b);

    if (a_bad != b_bad) {
        return b_bad;
    }
    if (a_use != b_use) {
        return a_use < b_use;
    }
    if (a->voter != b->voter) {
        return a->voter;
    }
    if (is_leader(c, a) != is_leader(c, b)) {
        return is_leader(c, a);
    }
    if ((a->role == SCHED_ROLE_WITNESS) != (b->role == SCHED_ROLE_WITNESS)) {
        return a->role == SCHED_ROLE_WITNESS;
    }
    return !a->voter && a->alive_ms > b->alive_ms;
}

static void choose_wanted(struct choice *c)
{
    uint32_t eligible = 0, target, i;

    for (i = 0; i < c->count; i++) {
        eligible += is_eligible(c, c->nodes[i]);
    }
    target = sched_voters_wanted(eligible, c->config->voters_max);
    while (c->wanted_count < target) {
        uint32_t best = c->count;

        for (i = 0; i < c->count; i++) {
            if (!c->wanted[i] && is_eligible(c, c->nodes[i]) &&
                (best == c->count || is_better(c, c->nodes[i], c->nodes[best]))) {
                best = i;
            }
        }
        c->wanted[best] = true;
        c->order[c->wanted_count++] = best;
    }
}

/*- Which step. */

static bool is_lost(const struct choice *c, const struct sched_voters_node *node)
{
    return !node->alive && node->dead_ms >= c->config->dead_ms;
}

/* The best wanted node that can be promoted now, or NULL; @ret_waiting: one is not ready. */
static const struct sched_voters_node *find_promote(const struct choice *c, bool *ret_waiting)
{
    uint32_t i;

    *ret_waiting = false;
    for (i = 0; i < c->wanted_count; i++) {
        const struct sched_voters_node *node = c->nodes[c->order[i]];

        if (node->voter) {
            continue;
        }
        if (node->in_raft && node->caught_up) {
            return node;
        }
        *ret_waiting = true;
    }
    return NULL;
}

/* How much a voter that is not wanted should go: removed ones first, then lost ones. */
static int urgency(const struct choice *c, const struct sched_voters_node *node)
{
    if (c->config->mutations & SCHED_MUT_VOTERS_UNSAFE) {
        return node->alive;
    }
    return (node->member ? 0 : 4) + (node->alive ? 0 : 2) + (is_leader(c, node) ? 0 : 1);
}

static const struct sched_voters_node *find_demote(const struct choice *c)
{
    const struct sched_voters_node *found = NULL;
    uint32_t i;

    for (i = 0; i < c->count; i++) {
        const struct sched_voters_node *node = c->nodes[i];

        if (node->voter && !c->wanted[i] && (!found || urgency(c, node) > urgency(c, found))) {
            found = node;
        }
    }
    return found;
}

/* Lost voters without a replacement only go when the cluster bears more losses then. */
static bool is_worth_it(const struct choice *c)
{
    uint32_t i, live = 0;
    bool lost = false;

    for (i = 0; i < c->count; i++) {
        const struct sched_voters_node *node = c->nodes[i];

        live += c->wanted[i] && node->alive;
        if (c->wanted[i] && !node->voter) {
            return true; /* there is a replacement */
        }
        if (node->voter && (!node->member || node->role == SCHED_ROLE_STANDBY)) {
            return true; /* somebody asked for it */
        }
        lost = lost || (node->voter && is_lost(c, node));
    }
    return !lost || margin(live, c->wanted_count) > margin(c->live, c->voters);
}

static const struct sched_voters_node *find_heir(const struct choice *c)
{
    const struct sched_voters_node *witness = NULL;
    uint32_t i;

    for (i = 0; i < c->wanted_count; i++) {
        const struct sched_voters_node *node = c->nodes[c->order[i]];

        if (!node->voter || !node->alive || is_leader(c, node)) {
            continue;
        }
        if (node->role != SCHED_ROLE_WITNESS) {
            return node;
        }
        witness = witness ? witness : node;
    }
    return witness;
}

static struct sched_voters_change none(void)
{
    return (struct sched_voters_change){.op = SCHED_VOTERS_NONE, .why = ""};
}

static struct sched_voters_change change_of(enum sched_voters_op op,
                                            const struct sched_voters_node *node,
                                            const char *why)
{
    return (struct sched_voters_change){
        .op = op, .node = node->id, .witness = node->role == SCHED_ROLE_WITNESS, .why = why};
}

static struct sched_voters_change demotion(const struct choice *c,
                                           const struct sched_voters_node *node)
{
    const struct sched_voters_node *heir;

    if (is_leader(c, node)) {
        heir = find_heir(c);
        return heir ? change_of(SCHED_VOTERS_TRANSFER, heir, "the leader is to vote no more")
                    : none();
    }
    if (!node->member) {
        return change_of(SCHED_VOTERS_REMOVE, node, "it was removed from the cluster");
    }
    return change_of(SCHED_VOTERS_DEMOTE, node,
                     is_lost(c, node) ? "it is dead for too long" : "others are better voters");
}

static struct sched_voters_change next_voter_change(const struct choice *c)
{
    bool waiting;
    const struct sched_voters_node *up = find_promote(c, &waiting);
    const struct sched_voters_node *down = find_demote(c);
    int now = margin(c->live, c->voters);
    int after_up = up ? margin(c->live + 1, c->voters + 1) : -1;
    int after_down = down ? margin(c->live - down->alive, c->voters - 1) : -1;

    if (c->config->mutations & SCHED_MUT_VOTERS_UNSAFE) {
        return down ? demotion(c, down) : none();
    }
    if (c->voters <= 1 || c->voters > c->wanted_count) {
        after_up = c->voters > c->wanted_count ? -1 : after_up; /* not more than one too many */
        after_down = c->voters <= 1 ? -1 : after_down;
    }
    if (down && waiting && !up && after_down <= now && down->member) {
        after_down = -1; /* its replacement is on the way */
    }
    if (up && after_up >= 0 && after_up >= after_down) {
        return change_of(SCHED_VOTERS_PROMOTE, up, "the cluster should have more or other voters");
    }
    return down && after_down >= 0 ? demotion(c, down) : none();
}

/* Nodes that only follow the log: no influence on quorums, no waiting. */
static struct sched_voters_change next_learner_change(const struct choice *c)
{
    uint32_t i, known = 0;

    for (i = 0; i < c->count; i++) {
        const struct sched_voters_node *node = c->nodes[i];

        known += node->in_raft;
        if (!node->member && node->in_raft && !node->voter) {
            return change_of(SCHED_VOTERS_REMOVE, node, "it was removed from the cluster");
        }
    }
    for (i = 0; i < c->count; i++) {
        const struct sched_voters_node *node = c->nodes[i];

        if (node->member && node->alive && !node->in_raft && known < c->config->members_max) {
            return change_of(SCHED_VOTERS_ADD_LEARNER, node, "it joined the cluster");
        }
    }
    return none();
}

struct sched_voters_change sched_voters_next(const struct sched_voters_config *config,
                                             const struct sched_voters_input *input)
{
    struct choice c;
    struct sched_voters_change change;

    memset(&c, 0, sizeof(c));
    c.config = config;
    c.input = input;
    sort_nodes(&c);
    if (input->change_under_way || c.live < quorum(c.voters)) {
        return none(); /* nothing could be committed */
    }
    change = next_learner_change(&c);
    if (change.op != SCHED_VOTERS_NONE || input->since_change_ms < config->interval_ms) {
        return change;
    }
    choose_wanted(&c);
    if (c.wanted_count == 0 || !is_worth_it(&c)) {
        return none();
    }
    return next_voter_change(&c);
}
