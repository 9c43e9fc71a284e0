#include "tests/checkpoint/plan_kit.h"

struct shl_node_id pk_node_id(uint32_t number)
{
    struct shl_node_id id = {{0}};

    id.bytes[0] = (uint8_t)(number + 1);
    return id;
}

struct ckpt_id pk_manifest(uint32_t number)
{
    struct ckpt_id id = {{0}};

    id.bytes[0] = (uint8_t)number;
    id.bytes[31] = 1;
    return id;
}

int pk_setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    uint32_t i;

    for (i = 0; i < NODES; i++) {
        w->nodes[i].id = pk_node_id(i);
        w->nodes[i].weight = 100;
    }
    w->now_ms = 1000000;
    w->settled = true;
    w->budget = (struct ckpt_plan_budget){16, 4, UINT64_MAX};
    *state = w;
    return 0;
}

int pk_teardown(void **state)
{
    struct world *w = *state;

    ckpt_plan_free(w->plan);
    free(w);
    return 0;
}

/* A new planner of this node. */
void pk_begin(struct world *w, uint32_t self)
{
    ckpt_plan_free(w->plan);
    ckpt_plan_config_defaults(&w->config);
    w->config.self = pk_node_id(self);
    w->config.seed = 77;
    assert_int_equal(ckpt_plan_new(&w->config, &w->plan), 0);
}

/* Entry number @at, held by the nodes whose bits are in @held. */
void pk_entry(struct world *w, uint32_t at, uint32_t copies, uint32_t owner, uint32_t held)
{
    struct ckpt_plan_entry *e = &w->entries[at];
    uint32_t i;

    memset(e, 0, sizeof(*e));
    e->manifest = pk_manifest(at);
    e->bytes = 1000;
    e->copies = copies;
    if (owner < NODES) {
        e->owner = pk_node_id(owner);
    }
    e->holders = w->holders[at];
    for (i = 0; i < NODES; i++) {
        if (held >> i & 1u) {
            w->holders[at][e->holder_count++] = pk_node_id(i);
        }
    }
    w->entry_count = SHL_MAX(w->entry_count, at + 1);
}

int pk_try_view(struct world *w)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_VIEW, .now_ms = w->now_ms};

    event.u.view.nodes = w->nodes;
    event.u.view.node_count = NODES;
    event.u.view.entries = w->entries;
    event.u.view.entry_count = w->entry_count;
    event.u.view.settled = w->settled;
    event.u.view.budget = w->budget;
    return ckpt_plan_step(w->plan, &event, &w->acts);
}

void pk_view(struct world *w, uint64_t elapsed_ms)
{
    w->now_ms += elapsed_ms;
    assert_int_equal(pk_try_view(w), 0);
}

void pk_life(struct world *w, uint32_t node, enum ckpt_plan_life state)
{
    w->nodes[node].life = state;
    w->nodes[node].since_ms = w->now_ms;
}

uint32_t pk_count(const struct world *w, enum ckpt_plan_action_type type)
{
    uint32_t i, found = 0;

    for (i = 0; i < w->acts.count; i++) {
        found += w->acts.items[i].type == type;
    }
    return found;
}

void pk_ended(struct world *w, uint32_t at, bool ok)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ENDED, .now_ms = w->now_ms};

    event.u.ended.manifest = pk_manifest(at);
    event.u.ended.ok = ok;
    assert_int_equal(ckpt_plan_step(w->plan, &event, &w->acts), 0);
}

/* Who would be told to fetch entry 0: asks the planner of every node; NOBODY, or the only one. */
uint32_t pk_fetcher(struct world *w)
{
    uint32_t i, who = NOBODY;

    for (i = 0; i < NODES; i++) {
        pk_begin(w, i);
        pk_view(w, 0);
        if (pk_count(w, CKPT_PLAN_ACT_FETCH) > 0) {
            assert_int_equal(who, NOBODY); /* not all of them do it */
            who = i;
        }
    }
    return who;
}
