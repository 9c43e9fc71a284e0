#include "sim/client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/route.h"
#include "sim/world.h"

#define WAIT_US      (3u * SIM_SECOND) /* for one answer */
#define AGAIN_US     20000u
#define ATTEMPTS_MAX 4
#define PROBES_MAX   40 /* sandboxes asked for at the end, the newest */
#define KEY_OPEN     (1u << 20)
#define PROBE_END    UINT64_MAX
#define SETTLED_US   (20u * SIM_SECOND) /* for copies and leftovers, once nothing new comes */

static const char *const op_names[] = {
    [SIM_OP_CREATE] = "create",
    [SIM_OP_GET] = "get",
    [SIM_OP_KILL] = "kill",
    [SIM_OP_HIBERNATE] = "hibernate",
    [SIM_OP_WAKE] = "wake",
    [SIM_OP_DELETE] = "delete",
    [SIM_OP_NAME_CLAIM] = "name-claim",
    [SIM_OP_NAME_RELEASE] = "name-release",
    [SIM_OP_NAME_GET] = "name-get",
    [SIM_OP_KV_SET] = "kv-set",
    [SIM_OP_KV_GET] = "kv-get",
    [SIM_OP_CORDON] = "cordon",
    [SIM_OP_DRAIN] = "drain",
    [SIM_OP_UNMARK] = "unmark",
    [SIM_OP_REMOVE] = "remove",
};

const char *sim_op_name(enum sim_op_kind kind)
{
    return op_names[kind];
}

/* Swarm here too: some kinds do not occur in a run, so that others meet more often. */
static void draw_weights(struct sim_clients *clients, struct sim_rng *rng)
{
    static const uint32_t usual[SIM_OP_KINDS] = {
        [SIM_OP_CREATE] = 12,    [SIM_OP_GET] = 12,         [SIM_OP_KILL] = 6,
        [SIM_OP_NAME_CLAIM] = 8, [SIM_OP_NAME_RELEASE] = 4, [SIM_OP_NAME_GET] = 6,
        [SIM_OP_KV_SET] = 8,     [SIM_OP_KV_GET] = 10,      [SIM_OP_CORDON] = 1,
        [SIM_OP_DRAIN] = 1,      [SIM_OP_UNMARK] = 4,       [SIM_OP_HIBERNATE] = 6,
        [SIM_OP_WAKE] = 10,      [SIM_OP_DELETE] = 1,
    };

    for (unsigned kind = 0; kind < SIM_OP_KINDS; kind++) {
        bool on = sim_rng_below(rng, 3) > 0;

        clients->weights[kind] = on || kind == SIM_OP_CREATE ? usual[kind] : 0;
    }
}

void sim_clients_init(struct sim_clients *clients, struct sim_world *world)
{
    struct sim_rng rng;

    *clients = (struct sim_clients){.client_count = world->tuning.clients};
    sim_rng_split(&rng, world->schedule->seed, SIM_SUBJECT_WORKLOAD, SIM_CLIENTS_MAX);
    draw_weights(clients, &rng);
    for (uint32_t i = 0; i < SIM_CLIENTS_MAX; i++) {
        sim_rng_split(&clients->clients[i].rng, world->schedule->seed, SIM_SUBJECT_WORKLOAD, i);
    }
}

void sim_clients_release(struct sim_clients *clients)
{
    free(clients->ops);
    clients->ops = NULL;
}

static void wake_later(struct sim_world *world, uint32_t client, uint64_t in_us, uint64_t attempt)
{
    sim_world_push(world, world->now_us + in_us, SIM_EV_CLIENT, client, attempt);
}

void sim_clients_start(struct sim_world *world)
{
    for (uint32_t i = 0; i < world->clients.client_count; i++) {
        wake_later(world, i, sim_rng_below(&world->clients.clients[i].rng, 100000), 0);
    }
}

static bool names_sandbox(enum sim_op_kind kind)
{
    return kind == SIM_OP_GET || kind == SIM_OP_KILL || kind == SIM_OP_HIBERNATE ||
           kind == SIM_OP_WAKE || kind == SIM_OP_DELETE;
}

/* A node that a client would have in its list. */
static uint32_t pick_entry(struct sim_world *world, struct sim_rng *rng)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < world->node_count; i++) {
        count += world->nodes[i].present && !world->nodes[i].gone;
    }
    if (count > 0) {
        uint64_t pick = sim_rng_below(rng, count);

        for (uint32_t i = 0; i < world->node_count; i++) {
            if (world->nodes[i].present && !world->nodes[i].gone && pick-- == 0) {
                return i;
            }
        }
    }
    return 0;
}

static struct sim_op *op_new(struct sim_world *world, uint32_t client, enum sim_op_kind kind)
{
    struct sim_clients *clients = &world->clients;
    struct sim_op *op = NULL;

    if (clients->count == SIM_OPS_MAX) {
        return NULL;
    }
    if (clients->count == clients->cap) {
        clients->cap = clients->cap ? clients->cap * 2 : 256;
        clients->ops = realloc(clients->ops, clients->cap * sizeof(*clients->ops));
        assert(clients->ops);
    }
    op = &clients->ops[clients->count];
    *op = (struct sim_op){.number = clients->count++, .kind = kind, .client = client};
    op->begun_us = world->now_us;
    clients->clients[client].op = op->number + 1;
    return op;
}

static uint64_t token_of(const struct sim_op *op)
{
    return op->number << 16 | op->attempt;
}

static void send(struct sim_world *world, struct sim_op *op)
{
    struct sim_rng *rng = &world->clients.clients[op->client].rng;

    op->attempt++;
    if (!op->fixed) {
        op->entry = pick_entry(world, rng);
    }
    SIM_TRACE(world, op->entry, "client %u: %s #%llu attempt %u key %llu value %llu", op->client,
              sim_op_name(op->kind), (unsigned long long)op->number, op->attempt,
              (unsigned long long)op->key, (unsigned long long)op->value);
    sim_world_push(world, world->now_us + 200 + sim_rng_below(rng, 800), SIM_EV_CALL, op->entry,
                   token_of(op));
    wake_later(world, op->client, WAIT_US, token_of(op));
}

uint64_t sim_client_call(struct sim_world *world,
                         enum sim_op_kind kind,
                         uint32_t entry,
                         uint64_t key,
                         uint64_t value)
{
    struct sim_op *op = op_new(world, SIM_CLIENTS_MAX - 1, kind);

    assert(op);
    op->fixed = true;
    op->entry = entry;
    op->key = key;
    op->value = value;
    op->sandbox = names_sandbox(kind) ? value : 0;
    op->memory_mb = 256;
    op->claimable = kind == SIM_OP_CREATE && value != 0;
    send(world, op);
    return op->number;
}

/* A sandbox that was acknowledged, newest ones more often. */
static const struct sim_op *pick_created(struct sim_world *world, struct sim_rng *rng)
{
    const struct sim_clients *clients = &world->clients;

    for (unsigned i = 0; i < 16 && clients->count > 0; i++) {
        uint64_t back = sim_rng_exp(rng, 20);
        const struct sim_op *op = NULL;

        if (back < clients->count) {
            op = &clients->ops[clients->count - 1 - back];
            if (op->kind == SIM_OP_CREATE && op->state == SIM_OP_DONE) {
                return op;
            }
        }
    }
    return NULL;
}

static enum sim_op_kind pick_kind(struct sim_world *world, struct sim_rng *rng)
{
    const uint32_t *weights = world->clients.weights;
    uint32_t sum = 0;
    uint64_t roll = 0;

    for (unsigned kind = 0; kind < SIM_OP_KINDS; kind++) {
        sum += weights[kind];
    }
    roll = sim_rng_below(rng, sum);
    for (unsigned kind = 0; kind < SIM_OP_KINDS; kind++) {
        if (roll < weights[kind]) {
            return (enum sim_op_kind)kind;
        }
        roll -= weights[kind];
    }
    return SIM_OP_CREATE;
}

/* The last claim of a name that was acknowledged: what a release would name. */
static uint64_t last_claim(const struct sim_world *world, uint64_t key)
{
    for (size_t i = world->clients.count; i > 0; i--) {
        const struct sim_op *op = &world->clients.ops[i - 1];

        if (op->kind == SIM_OP_NAME_CLAIM && op->key == key && op->state == SIM_OP_DONE) {
            return op->value;
        }
    }
    return 0;
}

static void begin(struct sim_world *world, uint32_t client)
{
    struct sim_rng *rng = &world->clients.clients[client].rng;
    enum sim_op_kind kind = pick_kind(world, rng);
    const struct sim_op *created = NULL;
    uint64_t sandbox = 0;
    struct sim_op *op = NULL;

    if (names_sandbox(kind)) {
        created = pick_created(world, rng);
        sandbox = created ? created->sandbox : 0;
        kind = created ? kind : SIM_OP_CREATE;
    }
    op = op_new(world, client, kind);
    if (!op) {
        return;
    }
    op->value = op->number + 1;
    switch (kind) {
    case SIM_OP_CREATE:
        op->key = sim_rng_below(rng, 2) ? op->number + KEY_OPEN : 0;
        /* Sometimes a key that another client uses right now. */
        if (op->key && op->number > 0 && sim_rng_below(rng, 4) == 0 &&
            world->clients.ops[op->number - 1].kind == SIM_OP_CREATE) {
            op->key = world->clients.ops[op->number - 1].key;
        }
        op->memory_mb = 256u << sim_rng_below(rng, 3);
        op->claimable = op->key == 0 && sim_rng_below(rng, 2) == 0;
        break;
    case SIM_OP_GET:
    case SIM_OP_KILL:
    case SIM_OP_HIBERNATE:
    case SIM_OP_WAKE:
    case SIM_OP_DELETE:
        op->sandbox = sandbox;
        break;
    case SIM_OP_NAME_RELEASE:
        op->key = sim_rng_below(rng, SIM_KEYS);
        op->value = last_claim(world, op->key);
        break;
    case SIM_OP_CORDON:
    case SIM_OP_DRAIN:
    case SIM_OP_UNMARK:
    case SIM_OP_REMOVE:
        op->key = sim_rng_below(rng, world->schedule->nodes);
        break;
    case SIM_OP_NAME_CLAIM:
    case SIM_OP_NAME_GET:
    case SIM_OP_KV_SET:
    case SIM_OP_KV_GET:
    case SIM_OP_KINDS:
        op->key = sim_rng_below(rng, SIM_KEYS);
        break;
    }
    sim_check_begun(world, op);
    send(world, op);
}

static void probe(struct sim_world *world);

static void end(struct sim_world *world, struct sim_op *op, enum sim_op_state state)
{
    struct sim_rng *rng = &world->clients.clients[op->client].rng;

    op->state = state;
    op->ended_us = world->now_us;
    world->clients.clients[op->client].op = 0;
    world->clients.done += state == SIM_OP_DONE;
    world->clients.refused += state == SIM_OP_REFUSED;
    world->clients.unknown += state == SIM_OP_UNKNOWN;
    SIM_TRACE(world, op->entry, "client %u: %s #%llu ends: %s, code %d index %llu value %llu",
              op->client, sim_op_name(op->kind), (unsigned long long)op->number,
              state == SIM_OP_DONE      ? "done"
              : state == SIM_OP_REFUSED ? "refused"
                                        : "unknown",
              op->code, (unsigned long long)op->index, (unsigned long long)op->value);
    sim_check_answer(world, op);
    if (op->probe) {
        probe(world);
    } else if (op->client < world->clients.client_count) {
        wake_later(world, op->client, 1000 + sim_rng_exp(rng, world->tuning.think_us), 0);
    }
}

static bool can_repeat(const struct sim_op *op)
{
    return !op->fixed && op->kind != SIM_OP_KV_SET && (op->kind != SIM_OP_CREATE || op->key != 0);
}

static void try_elsewhere(struct sim_world *world, struct sim_op *op)
{
    if (can_repeat(op) && op->attempt < ATTEMPTS_MAX) {
        world->clients.retries++;
        send(world, op);
    } else {
        end(world, op, SIM_OP_UNKNOWN);
    }
}

/* No new points any more; what there is must have all its copies before long. */
static void settle(struct sim_world *world)
{
    if (!world->quiet) {
        world->quiet = true;
        world->quiet_us = world->now_us;
    }
    if (!sim_check_settled(world)) {
        if (world->now_us > world->quiet_us + SETTLED_US) {
            sim_check_fail(world, 10, "not settled %u s after the last call: %s",
                           SETTLED_US / SIM_SECOND, world->check.waiting);
        }
        wake_later(world, 0, SIM_SECOND / 4, PROBE_END);
        return;
    }
    sim_check_end(world);
    world->phase = SIM_PHASE_DONE;
}

void sim_client_wake(struct sim_world *world, uint32_t client, uint64_t attempt)
{
    uint64_t open = world->clients.clients[client].op;
    struct sim_op *op = open ? &world->clients.ops[open - 1] : NULL;

    if (attempt == PROBE_END) {
        settle(world);
        return;
    }
    if (attempt == 0) {
        if (!op && world->phase == SIM_PHASE_FAULTS && !world->no_clients) {
            begin(world, client);
        }
        return;
    }
    if (op && token_of(op) == attempt) {
        try_elsewhere(world, op);
    }
}

/* Probes ask whether it comes in the end: a lease may have to end, or to be renewed, first. */
static uint64_t again_us(const struct sim_world *world, const struct sim_op *op)
{
    if (!op->probe) {
        return AGAIN_US;
    }
    return op->kind == SIM_OP_WAKE ? 2 * SIM_SECOND : 1000ull * world->tuning.lease_ms;
}

void sim_client_answer(struct sim_world *world, uint64_t number, uint32_t attempt, int code)
{
    struct sim_op *op = &world->clients.ops[number];

    if (op->state != SIM_OP_OPEN || op->attempt != attempt) {
        return;
    }
    op->code = code;
    if (code == 0) {
        end(world, op, SIM_OP_DONE);
    } else if (code != SIM_CODE_UNKNOWN && code != SHL_EUNAVAILABLE) {
        end(world, op, SIM_OP_REFUSED);
    } else if (op->attempt < ATTEMPTS_MAX && can_repeat(op)) {
        wake_later(world, op->client, again_us(world, op), token_of(op));
    } else if (op->kind == SIM_OP_KV_SET && code == SHL_EUNAVAILABLE) {
        end(world, op, SIM_OP_REFUSED);
    } else {
        end(world, op, SIM_OP_UNKNOWN);
    }
}

void sim_client_broken(struct sim_world *world, uint32_t slot)
{
    for (uint32_t i = 0; i < SIM_CLIENTS_MAX; i++) {
        uint64_t open = world->clients.clients[i].op;

        if (open && world->clients.ops[open - 1].entry == slot) {
            wake_later(world, i, AGAIN_US, token_of(&world->clients.ops[open - 1]));
        }
    }
}

/*- The end: every promise is asked for. */

static struct sim_op *next_probe(struct sim_world *world)
{
    struct sim_clients *clients = &world->clients;

    while (clients->probe_next < clients->count) {
        const struct sim_op created = clients->ops[clients->probe_next];

        if (created.probe) {
            break;
        }
        if (created.kind == SIM_OP_CREATE && created.state == SIM_OP_DONE &&
            !(clients->probe_wake && !sim_check_is_asleep(world, created.sandbox))) {
            struct sim_op *op = op_new(world, 0, clients->probe_wake ? SIM_OP_WAKE : SIM_OP_GET);

            if (op) {
                op->sandbox = created.sandbox;
            }
            clients->probe_next += clients->probe_wake;
            clients->probe_wake = !clients->probe_wake;
            return op;
        }
        clients->probe_wake = false;
        clients->probe_next++;
    }
    if (clients->probe_next < SIM_OPS_MAX) {
        clients->probe_next = SIM_OPS_MAX; /* then the keys, counted from here */
    }
    if (clients->probe_next < SIM_OPS_MAX + 2 * SIM_KEYS) {
        uint64_t i = clients->probe_next++ - SIM_OPS_MAX;
        struct sim_op *op = op_new(world, 0, i < SIM_KEYS ? SIM_OP_KV_GET : SIM_OP_NAME_GET);

        if (op) {
            op->key = i % SIM_KEYS;
        }
        return op;
    }
    return NULL;
}

static void probe(struct sim_world *world)
{
    struct sim_op *op = next_probe(world);

    if (!op) { /* a moment for all to hear of the last ones */
        wake_later(world, 0, SIM_SECOND, PROBE_END);
        return;
    }
    op->probe = true;
    send(world, op);
}

void sim_clients_probe(struct sim_world *world)
{
    struct sim_clients *clients = &world->clients;
    size_t seen = 0;
    size_t i = clients->count;

    while (i > 0 && seen < PROBES_MAX) {
        i--;
        seen += clients->ops[i].kind == SIM_OP_CREATE && clients->ops[i].state == SIM_OP_DONE;
    }
    clients->probe_next = i;
    probe(world);
}
