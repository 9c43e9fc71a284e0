#include "tests/scheduler/hold_world.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/claim.h"
#include "scheduler/hold.h"
#include "scheduler/leases.h"
#include "tests/scheduler/kit.h"

#define NODES     3u
#define SANDBOXES 3u
#define ORDERS    256u
#define ENTRIES   4096u
#define LEASE_MS  1000u

struct vm { /* a process of its own: it stays when the daemon dies */
    bool alive;
    bool paused;
    uint64_t deadline_ms; /* 0 none */
    uint64_t counter;
};

struct copy { /* of one sandbox on one node: the newest durable point */
    bool there;
    uint64_t epoch, counter;
};

struct record { /* on disk */
    bool there, copy, claimable, hibernated;
    uint64_t epoch;
    uint64_t counter; /* of its hibernation image */
};

struct local {
    struct record disk;
    struct record memory;
    struct vm vm;
    struct copy copy;
    bool starting, elsewhere;
    bool save_due; /* SAVE asked for, not done yet */
    uint64_t save_epoch;
    bool save_claimable;
};

struct node {
    struct shl_node_id id;
    struct sched_hold *hold;
    struct sched_lease lease;
    bool up, cut;
    uint64_t stalled_until_ms;
    struct kit kit; /* its replica */
    uint32_t applied;
    struct local local[SANDBOXES];
    uint64_t grant_seq;
    uint32_t grant_index;
};

struct request {
    bool used;
    uint32_t from;
    uint64_t token, boot, at_ms;
    struct sched_command command;
};

struct world {
    uint64_t random;
    uint64_t now_ms;
    uint32_t mutations;
    struct node nodes[NODES];
    struct kit leader; /* the log as committed, applied */
    struct sched_command log[ENTRIES];
    uint64_t log_ms[ENTRIES];
    uint32_t log_count;
    struct sched_leases leases;
    uint64_t term;
    struct request requests[ORDERS];
    struct request answers[ORDERS];
    struct sched_result results[ORDERS];
    uint64_t boots[NODES];
    bool restore[SANDBOXES];
    bool deleted[SANDBOXES];
    uint64_t acked[SANDBOXES]; /* counter of the newest point that was told to be durable */
    struct sched_hold_actions actions;
    struct hold_world_result *ret;
};

static uint64_t below(struct world *w, uint64_t n)
{
    return kit_random(&w->random) % n;
}

static void text_of(char dst[SCHED_ID_SIZE], uint32_t s)
{
    snprintf(dst, SCHED_ID_SIZE, "sb-%u", s);
}

static uint32_t number_of(const char *text)
{
    return (uint32_t)strtoul(text + 3, NULL, 10);
}

static void broken(struct world *w, const char *what, uint32_t node, uint32_t s)
{
    if (!w->ret->broken) {
        w->ret->broken = what;
        snprintf(w->ret->text, sizeof(w->ret->text), "%s: node %u sandbox %u at %llu ms", what,
                 node, s, (unsigned long long)w->now_ms);
    }
}

/*- The witness. */

static bool executes(const struct world *w, const struct vm *vm)
{
    return vm->alive && !vm->paused && (vm->deadline_ms == 0 || w->now_ms < vm->deadline_ms);
}

static void witness(struct world *w)
{
    for (uint32_t s = 0; s < SANDBOXES; s++) {
        uint32_t running = 0;

        for (uint32_t n = 0; n < NODES; n++) {
            struct vm *vm = &w->nodes[n].local[s].vm;

            if (executes(w, vm)) {
                vm->counter++;
                running++;
            }
        }
        if (running > 1) {
            broken(w, "two nodes execute one sandbox", 0, s);
        }
    }
}

/*- Nodes. */

static void step(struct world *w, struct node *node, struct sched_hold_event *event);

static void tell_facts(struct world *w, struct node *node, uint32_t s)
{
    struct local *l = &node->local[s];
    struct sched_hold_facts facts = {.copy = l->memory.copy,
                                     .epoch = l->memory.epoch,
                                     .claimable = l->memory.claimable,
                                     .restore = w->restore[s],
                                     .elsewhere = l->elsewhere};
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_FACTS};

    if (!l->memory.there) {
        return;
    }
    text_of(facts.sandbox, s);
    snprintf(facts.org, sizeof(facts.org), "org");
    facts.phase = l->vm.alive   ? SCHED_HOLD_RUNNING
                  : l->starting ? SCHED_HOLD_STARTING
                                : SCHED_HOLD_HIBERNATED;
    facts.deadline_ms = l->vm.deadline_ms;
    event.u.facts.facts = &facts;
    event.u.facts.state = node->kit.state;
    step(w, node, &event);
}

static void gone(struct world *w, struct node *node, uint32_t s)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_GONE};
    struct copy copy = node->local[s].copy;
    char text[SCHED_ID_SIZE];

    text_of(text, s);
    event.sandbox = text;
    node->local[s] = (struct local){.copy = copy};
    step(w, node, &event);
}

static void send(struct world *w, struct node *node, const struct sched_hold_action *a)
{
    uint32_t n = (uint32_t)(node - w->nodes);
    unsigned times = below(w, 10) == 0 ? 2 : 1;

    w->ret->orders++;
    for (uint32_t i = 0; i < ORDERS && times > 0; i++) {
        struct request *r = &w->requests[i];

        if (r->used || below(w, 20) == 0) {
            continue;
        }
        *r = (struct request){.used = true, .from = n, .boot = w->boots[n]};
        r->token = a->u.order.token;
        /* Now and then one that comes very late. */
        r->at_ms = w->now_ms + 1 + below(w, below(w, 8) == 0 ? 6000 : 50);
        r->command = kit_command(&w->leader, a->u.order.kind);
        r->command.u.owner = a->u.order.owner;
        times--;
    }
}

/* What the VM goes on from: the hibernation image of this node. */
static void start_vm(struct world *w, struct node *node, uint32_t s)
{
    struct local *l = &node->local[s];

    w->ret->allowed++;
    l->starting = false;
    l->elsewhere = l->memory.epoch > 0;
    l->vm.alive = true;
    l->vm.paused = false;
    l->vm.counter = l->memory.counter;
    l->memory.hibernated = false;
    l->disk.hibernated = false; /* durable before it runs, as its VMM's runtime folder is */
    if (l->vm.counter < w->acked[s] && !w->deleted[s]) {
        broken(w, "a sandbox goes on from an older point than was told",
               (uint32_t)(node - w->nodes), s);
    }
    tell_facts(w, node, s);
}

static void act(struct world *w, struct node *node, const struct sched_hold_action *a)
{
    uint32_t s = number_of(a->sandbox);
    struct local *l = &node->local[s];

    switch (a->type) {
    case SCHED_HOLD_ACT_ORDER:
        send(w, node, a);
        break;
    case SCHED_HOLD_ACT_SAVE:
        w->ret->saves++;
        l->save_due = true;
        l->save_epoch = a->u.save.epoch;
        l->save_claimable = a->u.save.claimable;
        break;
    case SCHED_HOLD_ACT_ALLOW:
        start_vm(w, node, s);
        break;
    case SCHED_HOLD_ACT_REFUSE:
        w->ret->refused++;
        l->starting = false;
        if (l->memory.copy) {
            gone(w, node, s);
        } else {
            tell_facts(w, node, s);
        }
        break;
    case SCHED_HOLD_ACT_PAUSE:
        w->ret->paused++;
        l->vm.paused = true;
        break;
    case SCHED_HOLD_ACT_GO_ON:
        w->ret->went_on++;
        l->vm.paused = false;
        break;
    case SCHED_HOLD_ACT_DEADLINE:
        l->vm.deadline_ms = a->u.at_ms;
        break;
    case SCHED_HOLD_ACT_LET_GO:
        w->ret->let_go++;
        gone(w, node, s);
        break;
    case SCHED_HOLD_ACT_DELETED:
        w->ret->deleted += a->u.err.code == 0;
        w->deleted[s] = w->deleted[s] || a->u.err.code == 0;
        break;
    }
}

static void step(struct world *w, struct node *node, struct sched_hold_event *event)
{
    struct sched_hold_actions *actions = malloc(sizeof(*actions));
    int rc;

    assert(actions);
    event->now_ms = w->now_ms;
    do {
        rc = sched_hold_step(node->hold, event, actions);
        assert(rc == 0 || event->type == SCHED_HOLD_EV_WAKE || event->type == SCHED_HOLD_EV_DELETE);
        for (uint32_t i = 0; i < actions->count; i++) {
            act(w, node, &actions->items[i]);
        }
        event->type = SCHED_HOLD_EV_TICK;
    } while (actions->more);
    free(actions);
}

static void boot(struct world *w, uint32_t n)
{
    struct node *node = &w->nodes[n];
    struct sched_hold_config config;

    sched_hold_config_defaults(&config);
    config.self = node->id;
    config.margin_ms = 100;
    config.wait_ms = 1500;
    config.retry_ms = 100;
    config.mutations = w->mutations;
    assert(sched_hold_new(&config, &node->hold) == 0);
    sched_lease_init(&node->lease, LEASE_MS, 0);
    node->up = true;
    node->grant_index = 0;
    w->boots[n]++;
    /* The log again from some earlier snapshot: all that was applied may lie before it, or
     * nothing. */
    for (uint32_t s = 0; s < SANDBOXES; s++) {
        struct local *l = &node->local[s];

        l->memory = l->disk;
        l->starting = false;
        l->save_due = false;
        l->elsewhere = l->vm.alive && l->memory.epoch > 0;
        tell_facts(w, node, s);
    }
}

static void crash(struct world *w, uint32_t n, bool power)
{
    struct node *node = &w->nodes[n];

    if (!node->up) {
        return;
    }
    sched_hold_free(node->hold);
    node->hold = NULL;
    node->up = false;
    kit_close(&node->kit);
    kit_open(&node->kit, NULL);
    node->applied = 0;
    for (uint32_t s = 0; s < SANDBOXES && power; s++) {
        struct local *l = &node->local[s];

        if (l->vm.alive) {
            l->vm = (struct vm){0};
            l->disk.hibernated = true; /* comes back from its newest image */
        }
    }
}

/*- The log. */

static void commit(struct world *w, const struct sched_command *command)
{
    assert(w->log_count < ENTRIES);
    w->log[w->log_count] = *command;
    w->log_ms[w->log_count++] = w->now_ms;
    (void)kit_apply(&w->leader, command);
    if (command->kind == SCHED_OWNER_CLAIM && w->leader.result.err.code == 0) {
        w->ret->claims++;
    }
}

static void apply(struct world *w, struct node *node, uint32_t upto)
{
    while (node->applied < upto) {
        const struct sched_command *command = &w->log[node->applied++];
        struct sched_hold_event event = {.type = SCHED_HOLD_EV_ROW};

        (void)kit_apply(&node->kit, command);
        event.u.row = node->kit.state;
        if (command->kind >= SCHED_OWNER_REGISTER && command->kind <= SCHED_OWNER_DELETE) {
            event.sandbox = command->u.owner.sandbox;
            step(w, node, &event);
        }
    }
    if (node->grant_index > 0 && node->applied >= node->grant_index) {
        struct sched_hold_event event = {.type = SCHED_HOLD_EV_ROW};

        event.u.row = node->kit.state;
        step(w, node, &event);
        event = (struct sched_hold_event){.type = SCHED_HOLD_EV_LEASE};
        sched_lease_granted(&node->lease, node->grant_seq, w->now_ms);
        event.u.lease_until_ms = node->lease.valid_until_ms;
        node->grant_index = 0;
        if (node->lease.valid_until_ms > 0) {
            step(w, node, &event);
        }
    }
}

static void renew(struct world *w, struct node *node)
{
    struct sched_command c = kit_command(&w->leader, SCHED_LEASE_RENEW);

    if (node->cut || w->now_ms < sched_lease_ask_at(&node->lease)) {
        return;
    }
    c.u.lease_renew.node = node->id;
    c.u.lease_renew.boot = 1;
    c.u.lease_renew.term = w->term;
    c.u.lease_renew.seq = sched_lease_sent(&node->lease, w->now_ms);
    (void)sched_leases_renewed(&w->leases, &node->id, w->now_ms);
    commit(w, &c);
    if (node->grant_index == 0) {
        node->grant_seq = c.u.lease_renew.seq;
        node->grant_index = w->log_count;
    }
}

static void propose(struct world *w, struct request *r)
{
    uint32_t slot = (uint32_t)(r - w->requests);
    struct request *answer = &w->answers[slot];

    r->used = false;
    if (w->nodes[r->from].cut) {
        return;
    }
    *answer = *r;
    answer->used = below(w, 12) != 0;
    answer->at_ms = w->now_ms + 1 + below(w, below(w, 10) == 0 ? 3000 : 30);
    if (below(w, 10) == 0) { /* a proposer that says more than it knows */
        r->command.u.owner.lapsed = true;
    }
    memset(&w->results[slot], 0, sizeof(w->results[slot]));
    w->results[slot].err.code = sched_claim_stamp(&w->leases, &w->nodes[r->from].id, w->now_ms,
                                                  &r->command, &w->results[slot].err);
    if (w->results[slot].err.code == 0) {
        r->command.at_ms = w->leader.now_ms;
        commit(w, &r->command);
        w->results[slot] = w->leader.result;
    }
}

static void answer(struct world *w, struct request *r)
{
    const struct sched_result *result = &w->results[r - w->answers];
    struct node *node = &w->nodes[r->from];
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_OUTCOME};

    r->used = false;
    if (!node->up || node->cut || w->boots[r->from] != r->boot) {
        return;
    }
    event.u.outcome.token = r->token;
    event.u.outcome.code = result->err.code;
    event.u.outcome.index = result->index;
    event.u.outcome.number = result->number;
    event.u.outcome.err = &result->err;
    step(w, node, &event);
}

/*- What users and nodes do. */

static uint32_t newest_holder(const struct world *w, uint32_t s, struct copy *ret)
{
    uint32_t at = NODES;

    *ret = (struct copy){0};
    for (uint32_t n = 0; n < NODES; n++) {
        const struct copy *copy = &w->nodes[n].local[s].copy;

        if (copy->there && (copy->epoch > ret->epoch ||
                            (copy->epoch == ret->epoch && copy->counter >= ret->counter))) {
            *ret = *copy;
            at = n;
        }
    }
    return at;
}

/* A durable point of what is here onto another node; that is told when the log still says
 * that this node owns it. */
static void replicate(struct world *w, uint32_t n, uint32_t s)
{
    struct node *node = &w->nodes[n];
    struct local *l = &node->local[s];
    struct node *peer = &w->nodes[(n + 1 + below(w, NODES - 1)) % NODES];
    uint64_t counter = l->vm.alive ? l->vm.counter : l->memory.counter;
    const struct sched_owner *row;
    char text[SCHED_ID_SIZE];

    text_of(text, s);
    row = sched_state_owner(w->leader.state, text);
    if (!l->memory.there || l->memory.copy || l->starting || node->cut || !peer->up || peer->cut ||
        (!l->vm.alive && !l->memory.hibernated) || l->save_due ||
        (l->vm.alive && !executes(w, &l->vm)) ||
        (row && (row->epoch != l->memory.epoch || !shl_node_id_equal(&row->owner, &node->id)))) {
        return;
    }
    peer->local[s].copy =
        (struct copy){.there = true, .epoch = SHL_MAX(l->memory.epoch, 1), .counter = counter};
    l->memory.counter = counter; /* it is durable here first */
    l->disk.counter = counter;
    w->acked[s] = SHL_MAX(w->acked[s], counter);
    l->elsewhere = true;
    tell_facts(w, node, s);
}

static void hibernate(struct world *w, uint32_t n, uint32_t s)
{
    struct node *node = &w->nodes[n];
    struct local *l = &node->local[s];

    if (!executes(w, &l->vm)) {
        return;
    }
    l->memory.counter = l->vm.counter;
    l->memory.hibernated = true;
    l->disk.counter = l->memory.counter;
    l->disk.hibernated = true;
    l->vm = (struct vm){0};
    l->elsewhere = false;
    tell_facts(w, node, s);
}

static void wake(struct world *w, uint32_t n, uint32_t s)
{
    struct node *node = &w->nodes[n];
    struct local *l = &node->local[s];
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_WAKE};
    char text[SCHED_ID_SIZE];
    struct sched_claim claim;
    struct copy copy;

    text_of(text, s);
    if (l->vm.alive || l->starting) {
        return;
    }
    if (!l->memory.there) {
        sched_claim_judge(node->kit.state, NULL, text, &node->id, w->now_ms, &claim);
        if (claim.verdict == SCHED_CLAIM_NEVER || newest_holder(w, s, &copy) == NODES) {
            return;
        }
        l->memory = (struct record){
            .there = true, .copy = true, .hibernated = true, .epoch = claim.command.epoch};
        l->memory.counter = copy.counter;
        if (claim.command.epoch == 0) {
            const struct sched_owner *row = sched_state_owner(node->kit.state, text);

            l->memory.epoch = row ? row->epoch : 1;
        }
        l->disk = l->memory;
        l->elsewhere = true;
        tell_facts(w, node, s);
        if (!l->memory.there) {
            return;
        }
    }
    w->ret->wakes++;
    l->starting = true;
    event.sandbox = text;
    step(w, node, &event);
}

static void delete (struct world *w, uint32_t n, uint32_t s)
{
    struct node *node = &w->nodes[n];
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_DELETE};
    char text[SCHED_ID_SIZE];

    text_of(text, s);
    if (!node->local[s].memory.there) {
        return;
    }
    event.sandbox = text;
    step(w, node, &event);
}

static void finish_save(struct world *w, uint32_t n, uint32_t s)
{
    struct node *node = &w->nodes[n];
    struct local *l = &node->local[s];
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_SAVED};
    char text[SCHED_ID_SIZE];

    if (!l->save_due) {
        return;
    }
    l->save_due = false;
    /* What it goes on from is the newest that there is: the claim has ended all other sources. */
    if (l->memory.copy) {
        struct copy copy;

        if (newest_holder(w, s, &copy) < NODES && copy.counter > l->memory.counter) {
            l->memory.counter = copy.counter;
            l->disk.counter = copy.counter;
        }
    }
    l->memory.epoch = l->save_epoch;
    l->memory.claimable = l->save_claimable;
    l->memory.copy = false;
    l->disk.epoch = l->save_epoch;
    l->disk.claimable = l->save_claimable;
    l->disk.copy = false;
    text_of(text, s);
    event.sandbox = text;
    event.u.saved.epoch = l->save_epoch;
    event.u.saved.claimable = l->save_claimable;
    step(w, node, &event);
}

static void pass_time(struct world *w, bool calm);

static void disturb(struct world *w)
{
    uint32_t n = (uint32_t)below(w, NODES);
    uint32_t s = (uint32_t)below(w, SANDBOXES);
    struct node *node = &w->nodes[n];
    bool awake = node->up && w->now_ms >= node->stalled_until_ms;

    switch (below(w, 30)) {
    case 0:
        crash(w, n, below(w, 2) == 0);
        break;
    case 1:
        node->cut = !node->cut || below(w, 3) > 0;
        break;
    case 2:
        node->stalled_until_ms = w->now_ms + below(w, 5000);
        break;
    case 3:
        if (below(w, 4) == 0) {
            w->term++;
            sched_leases_elected(&w->leases, w->term, w->now_ms);
        }
        break;
    case 4:
        w->restore[s] = below(w, 8) > 0 ? w->restore[s] : !w->restore[s];
        for (uint32_t i = 0; i < NODES; i++) {
            if (w->nodes[i].up) {
                tell_facts(w, &w->nodes[i], s);
            }
        }
        break;
    case 5:
        if (awake && below(w, 20) == 0) {
            delete (w, n, s);
        }
        break;
    case 6:
    case 7:
    case 8:
        if (awake) {
            hibernate(w, n, s);
        }
        break;
    case 9:
    case 10:
    case 11:
    case 12:
        if (awake) {
            replicate(w, n, s);
        }
        break;
    case 13:
    case 14:
    case 15:
        if (awake) {
            wake(w, n, s);
        }
        break;
    case 16:
        if (!node->up) {
            boot(w, n);
        }
        break;
    case 17:
        if (awake) { /* at once, and again: orders overtake each other */
            hibernate(w, n, s);
            replicate(w, n, s);
            pass_time(w, false);
            if (node->up) {
                wake(w, n, s);
            }
        }
        break;
    case 18:
    case 19:
    case 20:
    case 21:
        /* A user who needs it asks everywhere. */
        for (uint32_t i = 0; i < NODES; i++) {
            if (w->nodes[i].up && !w->nodes[i].cut && w->now_ms >= w->nodes[i].stalled_until_ms) {
                wake(w, i, s);
            }
        }
        break;
    default:
        break;
    }
}

static void pass_time(struct world *w, bool calm)
{
    struct sched_hold_event tick = {.type = SCHED_HOLD_EV_TICK};

    w->now_ms += 1 + below(w, 20);
    w->leader.now_ms = KIT_START_MS + w->now_ms;
    witness(w);
    for (uint32_t i = 0; i < ORDERS; i++) {
        if (w->requests[i].used && w->requests[i].at_ms <= w->now_ms) {
            propose(w, &w->requests[i]);
        }
        if (w->answers[i].used && w->answers[i].at_ms <= w->now_ms) {
            answer(w, &w->answers[i]);
        }
    }
    for (uint32_t n = 0; n < NODES; n++) {
        struct node *node = &w->nodes[n];

        if (!node->up || w->now_ms < node->stalled_until_ms) {
            continue;
        }
        for (uint32_t s = 0; s < SANDBOXES; s++) {
            if (calm || below(w, 3) == 0) {
                finish_save(w, n, s);
            }
        }
        tick.type = SCHED_HOLD_EV_TICK;
        step(w, node, &tick);
        renew(w, node);
        if (!node->cut && node->applied < w->log_count && (calm || below(w, 2) == 0)) {
            apply(w, node, node->applied + 1 + (uint32_t)below(w, w->log_count - node->applied));
        }
        if (calm) {
            apply(w, node, w->log_count);
        }
    }
    witness(w);
}

static void open_world(struct world *w, uint64_t seed, uint32_t mutations)
{
    w->random = seed * 0x9e3779b97f4a7c15u + 1;
    w->mutations = mutations;
    w->now_ms = 1000;
    kit_open(&w->leader, NULL);
    sched_leases_init(&w->leases, LEASE_MS, mutations);
    sched_leases_elected(&w->leases, ++w->term, w->now_ms);
}

/* A cluster of all nodes, and one running sandbox that the log does not know on each. */
static void begin(struct world *w)
{
    struct sched_command c = kit_command(&w->leader, SCHED_CLUSTER_INIT);

    c.at_ms = KIT_START_MS;
    memset(c.u.cluster_init.cluster, 7, sizeof(c.u.cluster_init.cluster));
    c.u.cluster_init.lease_ms = LEASE_MS;
    c.u.cluster_init.node = kit_spec(1);
    commit(w, &c);
    for (unsigned n = 2; n <= NODES; n++) {
        c = kit_command(&w->leader, SCHED_TOKEN_CREATE);
        c.u.token_create.token[0] = (uint8_t)n;
        c.u.token_create.secret_hash[0] = 1;
        c.u.token_create.ttl_ms = SCHED_TTL_MAX_MS;
        commit(w, &c);
        c = kit_command(&w->leader, SCHED_NODE_JOIN);
        c.u.node_join.token[0] = (uint8_t)n;
        c.u.node_join.secret_hash[0] = 1;
        c.u.node_join.node = kit_spec(n);
        commit(w, &c);
        assert(w->leader.result.err.code == 0);
    }
    for (uint32_t n = 0; n < NODES; n++) {
        w->nodes[n].id = kit_id(n + 1);
        kit_open(&w->nodes[n].kit, NULL);
        w->nodes[n].local[n % SANDBOXES].disk = (struct record){.there = true, .hibernated = false};
        w->nodes[n].local[n % SANDBOXES].vm.alive = true;
        w->restore[n % SANDBOXES] = below(w, 3) > 0;
        boot(w, n);
    }
}

/* Everything is well again: what was not deleted wakes somewhere, and stays in one place. */
static void heal(struct world *w)
{
    for (uint32_t n = 0; n < NODES; n++) {
        w->nodes[n].cut = false;
        w->nodes[n].stalled_until_ms = 0;
        if (!w->nodes[n].up) {
            boot(w, n);
        }
    }
    for (unsigned i = 0; i < 800; i++) {
        pass_time(w, true);
        for (uint32_t s = 0; s < SANDBOXES && i > 400 && i % 100 == 0; s++) {
            bool lives = false;

            for (uint32_t n = 0; n < NODES; n++) {
                lives = lives || w->nodes[n].local[s].vm.alive || w->nodes[n].local[s].starting;
            }
            for (uint32_t n = 0; n < NODES && !lives; n++) {
                uint32_t at = (n + (uint32_t)(i / 100)) % NODES;

                wake(w, at, s);
                lives = w->nodes[at].local[s].vm.alive || w->nodes[at].local[s].starting;
            }
        }
    }
    for (uint32_t s = 0; s < SANDBOXES; s++) {
        uint32_t running = 0, records = 0;
        char text[SCHED_ID_SIZE];

        text_of(text, s);
        w->deleted[s] =
            w->deleted[s] || sched_state_tombstone(w->leader.state, SCHED_TOMBSTONE_SANDBOX, text);
        for (uint32_t n = 0; n < NODES; n++) {
            running += executes(w, &w->nodes[n].local[s].vm);
            records += w->nodes[n].local[s].memory.there && !w->nodes[n].local[s].memory.copy;
        }
        if (w->deleted[s] && records > 0) {
            broken(w, "what was deleted is still here", 0, s);
        } else if (!w->deleted[s] && running != 1) {
            broken(w, running ? "two run it in the end" : "a sandbox does not come back", 0, s);
        } else if (records > 1) {
            broken(w, "more than one node keeps it in the end", 0, s);
        }
    }
}

void hold_world_run(uint64_t seed,
                    uint32_t steps,
                    uint32_t mutations,
                    struct hold_world_result *ret)
{
    struct world *w = calloc(1, sizeof(*w));

    assert(w);
    memset(ret, 0, sizeof(*ret));
    w->ret = ret;
    open_world(w, seed, mutations);
    begin(w);
    for (ret->step = 0; ret->step < steps && !ret->broken; ret->step++) {
        pass_time(w, false);
        disturb(w);
    }
    if (!ret->broken) {
        heal(w);
    }
    for (uint32_t n = 0; n < NODES; n++) {
        sched_hold_free(w->nodes[n].hold);
        kit_close(&w->nodes[n].kit);
    }
    kit_close(&w->leader);
    free(w);
}
