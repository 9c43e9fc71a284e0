/* Planners of a whole cluster, under faults drawn at random: views that lag and differ, nodes that
 * die, return, are wiped, drain, partitions that both sides take for deaths, nodes that see
 * drains, owners and deaths that are not, lost and late messages, fetches that fail, trims carried
 * out late.
 *
 * Must hold: at the moment of a trim R other nodes have the checkpoint, so trimming never
 * leaves fewer than R copies, and an owner's copy is never trimmed. At the end, without faults,
 * every checkpoint that survived is on exactly the R nodes that placement names (and on
 * an owner that is draining), and nothing is under way. */
#include "checkpoint/replica_plan.h"
#include "tests/checkpoint/helper.h"

#define SEEDS    2000u
#define NODES    7u
#define ITEMS    6u
#define HISTORY  32u /* ticks that views can lag */
#define TICK_MS  1000u
#define FAULTS   300u /* ticks with faults */
#define CALM     500u /* ticks without */
#define MESSAGES 4096u

struct message {
    uint64_t at_ms;
    bool is_answer, yes;
    uint32_t from, to, item;
    uint64_t token;
    uint64_t life; /* of the node that asked: an answer to an earlier life is for the core to see */
};

struct task { /* a fetch or a trim under way */
    bool active;
    uint64_t at_ms, until_ms;
};

struct node {
    bool up, draining;
    bool confused; /* what it sees of drains, deaths and owners is partly made up: */
    bool wrong_drain[NODES], wrong_left[NODES];
    uint32_t wrong_owner[ITEMS];
    bool gone; /* for good */
    uint64_t life;
    uint32_t group; /* of the partition */
    uint32_t lag;   /* ticks */
    uint64_t changed_at_ms;
    struct ckpt_plan *plan;
    struct task fetch[ITEMS], trim[ITEMS];
    enum ckpt_plan_life seen[NODES]; /* what it thinks of the others, and since when */
    uint64_t since_ms[NODES];
};

struct model {
    uint64_t random, now_ms, tick;
    uint32_t node_count;
    struct node nodes[NODES];
    bool held[HISTORY][NODES][ITEMS];   /* by tick; [tick % HISTORY] is now */
    uint64_t wiped_at_ms[NODES][ITEMS]; /* while it held the checkpoint; 0: never */
    uint32_t copies[ITEMS];
    uint32_t owner[ITEMS];
    struct message messages[MESSAGES];
    uint32_t message_count;
    struct ckpt_plan_actions acts;
    bool calm;
    uint64_t fetches, cancels, trims, refused, digest;
};

static uint32_t below(struct model *m, uint32_t limit)
{
    return next_random(&m->random) % limit;
}

static bool chance(struct model *m, uint32_t permille)
{
    return below(m, 1000) < permille;
}

static bool *held(struct model *m, uint32_t node, uint32_t item)
{
    return &m->held[m->tick % HISTORY][node][item];
}

static struct shl_node_id node_id(uint32_t number)
{
    struct shl_node_id id = {{0}};

    id.bytes[0] = (uint8_t)(number + 1);
    return id;
}

static struct ckpt_id manifest(uint32_t number)
{
    struct ckpt_id id = {{0}};

    id.bytes[0] = (uint8_t)number;
    id.bytes[31] = 1;
    return id;
}

static bool reach(const struct model *m, uint32_t a, uint32_t b)
{
    return m->nodes[a].up && m->nodes[b].up && m->nodes[a].group == m->nodes[b].group;
}

static void start(struct model *m, uint32_t number)
{
    struct node *node = &m->nodes[number];
    struct ckpt_plan_config config;
    uint32_t i;

    ckpt_plan_config_defaults(&config);
    config.self = node_id(number);
    config.seed = (uint64_t)next_random(&m->random) << 20;
    ckpt_plan_free(node->plan);
    assert_int_equal(ckpt_plan_new(&config, &node->plan), 0);
    node->up = true;
    node->life++;
    node->changed_at_ms = m->now_ms;
    memset(node->fetch, 0, sizeof(node->fetch));
    memset(node->trim, 0, sizeof(node->trim));
    for (i = 0; i < NODES; i++) {
        node->seen[i] = CKPT_PLAN_SUSPECT; /* not heard of yet */
        node->since_ms[i] = m->now_ms;
    }
}

/*- Acting. */

static void post(struct model *m, const struct message *message)
{
    if (m->message_count < MESSAGES && (m->calm || !chance(m, 100))) {
        m->messages[m->message_count] = *message;
        m->messages[m->message_count++].at_ms =
            m->now_ms + 1 + below(m, m->calm || !chance(m, 100) ? 1500 : 40000);
    }
}

static void carry_out(struct model *m, uint32_t number)
{
    struct node *node = &m->nodes[number];
    uint32_t i;

    for (i = 0; i < m->acts.count; i++) {
        const struct ckpt_plan_action *act = &m->acts.items[i];
        uint32_t item = act->manifest.bytes[0];

        m->digest =
            (m->digest ^ (uint64_t)act->type << 8 ^ item ^ m->now_ms << 16) * 0x100000001b3ull;
        switch (act->type) {
        case CKPT_PLAN_ACT_FETCH:
            assert_false(*held(m, number, item));
            if (!node->fetch[item].active) {
                node->fetch[item] = (struct task){true, m->now_ms + 1000 + below(m, 20000), 0};
                m->fetches++;
            }
            break;
        case CKPT_PLAN_ACT_CANCEL:
            assert_true(node->fetch[item].active);
            node->fetch[item].active = false;
            m->cancels++;
            break;
        case CKPT_PLAN_ACT_TRIM:
            assert_false(node->trim[item].active);
            node->trim[item] =
                (struct task){true, m->now_ms + below(m, m->calm ? 5000 : 15000), act->u.until_ms};
            break;
        case CKPT_PLAN_ACT_ASK:
        case CKPT_PLAN_ACT_ANSWER:
            post(m, &(struct message){.is_answer = act->type == CKPT_PLAN_ACT_ANSWER,
                                      .yes = act->u.message.yes,
                                      .from = number,
                                      .to = act->u.message.peer.bytes[0] - 1u,
                                      .item = item,
                                      .token = act->u.message.token});
            break;
        }
    }
}

static void step(struct model *m, uint32_t number, struct ckpt_plan_event *event)
{
    event->now_ms = m->now_ms;
    assert_int_equal(ckpt_plan_step(m->nodes[number].plan, event, &m->acts), 0);
    carry_out(m, number);
}

static void deliver(struct model *m)
{
    uint32_t i = 0;

    while (i < m->message_count) {
        struct message msg = m->messages[i];
        struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ASKED};

        if (msg.at_ms > m->now_ms) {
            i++;
            continue;
        }
        m->messages[i] = m->messages[--m->message_count];
        if (!reach(m, msg.from, msg.to)) {
            continue;
        }
        if (msg.is_answer) {
            event.type = CKPT_PLAN_EV_ANSWERED;
            event.u.answered.from = node_id(msg.from);
            event.u.answered.manifest = manifest(msg.item);
            event.u.answered.token = msg.token;
            event.u.answered.yes = msg.yes;
        } else {
            event.u.asked.from = node_id(msg.from);
            event.u.asked.manifest = manifest(msg.item);
            event.u.asked.token = msg.token;
            event.u.asked.held = *held(m, msg.to, msg.item);
        }
        step(m, msg.to, &event);
    }
}

/* Where a copy is on a disk, whether its node is up or not; or was until a moment ago, when a
 * fault outside of the planner destroyed it. */
static uint32_t others_with(struct model *m, uint32_t number, uint32_t item)
{
    uint32_t i, count = 0;

    for (i = 0; i < m->node_count; i++) {
        if (i != number) {
            count += *held(m, i, item) ||
                     (m->wiped_at_ms[i][item] > 0 && m->now_ms - m->wiped_at_ms[i][item] < 60000);
        }
    }
    return count;
}

static void end_trim(struct model *m, uint32_t number, uint32_t item)
{
    struct node *node = &m->nodes[number];
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_TRIMMED};

    node->trim[item].active = false;
    if (m->owner[item] == number || m->now_ms > node->trim[item].until_ms) {
        m->refused++; /* the wiring's part */
    } else {
        assert_true(others_with(m, number, item) >= m->copies[item]);
        *held(m, number, item) = false;
        m->trims++;
    }
    event.u.trimmed.manifest = manifest(item);
    step(m, number, &event);
}

static void end_fetch(struct model *m, uint32_t number, uint32_t item)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ENDED};
    bool ok = false;
    uint32_t i;

    for (i = 0; i < m->node_count; i++) {
        ok = ok || (i != number && reach(m, i, number) && *held(m, i, item));
    }
    ok = ok && (m->calm || !chance(m, 100));
    m->nodes[number].fetch[item].active = false;
    *held(m, number, item) |= ok;
    event.u.ended.manifest = manifest(item);
    event.u.ended.ok = ok;
    step(m, number, &event);
}

static void work(struct model *m)
{
    uint32_t i, item;

    for (i = 0; i < m->node_count; i++) {
        for (item = 0; m->nodes[i].up && item < ITEMS; item++) {
            if (m->nodes[i].fetch[item].active && m->nodes[i].fetch[item].at_ms <= m->now_ms) {
                end_fetch(m, i, item);
            }
            if (m->nodes[i].trim[item].active && m->nodes[i].trim[item].at_ms <= m->now_ms) {
                end_trim(m, i, item);
            }
        }
    }
}

/*- Seeing. */

/* Failure detection: a node out of reach is suspect, and dead after 6 s. */
static void look(struct model *m, uint32_t number)
{
    struct node *node = &m->nodes[number];
    uint32_t i;

    for (i = 0; i < m->node_count; i++) {
        bool there = i == number || reach(m, i, number);
        enum ckpt_plan_life now = node->seen[i];

        if (there) {
            now = CKPT_PLAN_ALIVE;
        } else if (now == CKPT_PLAN_ALIVE) {
            now = CKPT_PLAN_SUSPECT;
        } else if (now == CKPT_PLAN_SUSPECT && m->now_ms - node->since_ms[i] >= 6000) {
            now = CKPT_PLAN_DEAD;
        }
        if (now != node->seen[i]) {
            node->seen[i] = now;
            node->since_ms[i] = m->now_ms;
        }
    }
}

/* What @number sees of others is as old as its lag; of itself, the truth. */
static void view(struct model *m, uint32_t number)
{
    struct node *node = &m->nodes[number];
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_VIEW};
    struct ckpt_plan_node nodes[NODES] = {0};
    struct ckpt_plan_entry entries[ITEMS] = {0};
    struct shl_node_id holders[ITEMS][NODES];
    uint32_t i, item;
    uint64_t then = m->tick - SHL_MIN((uint64_t)node->lag, m->tick);

    for (i = 0; i < m->node_count; i++) {
        nodes[i].id = node_id(i);
        nodes[i].weight = 100;
        nodes[i].life = node->seen[i];
        nodes[i].since_ms = node->since_ms[i];
        nodes[i].draining = m->nodes[i].draining ^ (node->confused && node->wrong_drain[i]);
        if (node->confused && i != number) {
            nodes[i].life = node->wrong_left[i] ? CKPT_PLAN_LEFT : CKPT_PLAN_ALIVE;
            nodes[i].since_ms = 0;
        }
    }
    for (item = 0; item < ITEMS; item++) {
        entries[item].manifest = manifest(item);
        entries[item].bytes = 1000;
        entries[item].copies = m->copies[item];
        entries[item].owner = node_id(node->confused ? node->wrong_owner[item] : m->owner[item]);
        entries[item].holders = holders[item];
        for (i = 0; i < m->node_count; i++) {
            if (i == number ? *held(m, i, item) : m->held[then % HISTORY][i][item]) {
                holders[item][entries[item].holder_count++] = node_id(i);
            }
        }
    }
    event.u.view.nodes = nodes;
    event.u.view.node_count = m->node_count;
    event.u.view.entries = entries;
    event.u.view.entry_count = ITEMS;
    event.u.view.settled = true; /* also on the small side of a partition: worse than life */
    event.u.view.budget = (struct ckpt_plan_budget){1 + below(m, 8), 1 + below(m, 4), UINT64_MAX};
    step(m, number, &event);
}

/*- Faults. */

static void stop(struct model *m, uint32_t number)
{
    m->nodes[number].up = false;
    m->nodes[number].changed_at_ms = m->now_ms;
}

static uint32_t up_count(const struct model *m)
{
    uint32_t i, count = 0;

    for (i = 0; i < m->node_count; i++) {
        count += m->nodes[i].up;
    }
    return count;
}

/* Or not any more. */
static void confuse(struct model *m, struct node *node)
{
    uint32_t i;

    node->confused = !node->confused;
    for (i = 0; i < m->node_count; i++) {
        node->wrong_drain[i] = chance(m, 300);
        node->wrong_left[i] = chance(m, 200);
    }
    for (i = 0; i < ITEMS; i++) {
        node->wrong_owner[i] = below(m, m->node_count);
    }
}

static void disturb(struct model *m)
{
    uint32_t number = below(m, m->node_count), i;
    struct node *node = &m->nodes[number];

    if (chance(m, 15) && node->up && up_count(m) > 2) {
        stop(m, number);
    } else if (chance(m, 40) && !node->up) {
        start(m, number);
    } else if (chance(m, 2) && !node->up) { /* its disk is gone */
        for (i = 0; i < ITEMS; i++) {
            m->wiped_at_ms[number][i] = *held(m, number, i) ? m->now_ms : 0;
            *held(m, number, i) = false;
        }
    } else if (chance(m, 8)) {
        for (i = 0; i < m->node_count; i++) {
            m->nodes[i].group = below(m, 2);
        }
    } else if (chance(m, 20)) {
        for (i = 0; i < m->node_count; i++) {
            m->nodes[i].group = 0;
        }
    } else if (chance(m, 4)) {
        node->draining = !node->draining;
    } else if (chance(m, 6)) {
        uint32_t item = below(m, ITEMS);

        if (*held(m, number, item) && node->up) { /* the sandbox moved here */
            m->owner[item] = number;
        }
    }
    if (chance(m, 20)) {
        for (i = chance(m, 300) ? 0 : number; i < m->node_count; i++) { /* some, or all */
            confuse(m, &m->nodes[i]);
        }
    }
    if (chance(m, 20)) {
        node->lag = below(m, HISTORY - 1);
    }
}

static void heal(struct model *m)
{
    uint32_t i;

    m->calm = true;
    for (i = 0; i < m->node_count; i++) {
        struct node *node = &m->nodes[i];

        node->group = 0;
        node->confused = false;
        node->lag = below(m, 4);
        if (!node->up && (chance(m, 500) || up_count(m) < 2)) {
            start(m, i);
        }
    }
}

/*- The run. */

static void prepare(struct model *m, uint64_t seed)
{
    uint32_t i, item;

    m->random = seed * 104729 + 3;
    m->now_ms = 1000000;
    m->node_count = 3 + below(m, NODES - 2);
    for (i = 0; i < m->node_count; i++) {
        start(m, i);
    }
    for (item = 0; item < ITEMS; item++) {
        m->copies[item] = 1 + below(m, SHL_MIN(3u, m->node_count));
        m->owner[item] = below(m, m->node_count);
        for (i = 0; i < m->node_count; i++) {
            *held(m, i, item) = i == m->owner[item] || chance(m, 300);
        }
    }
}

static void advance(struct model *m)
{
    uint64_t before = m->tick++;
    uint32_t i;

    m->now_ms += TICK_MS;
    memcpy(m->held[m->tick % HISTORY], m->held[before % HISTORY], sizeof(m->held[0]));
    if (!m->calm) {
        disturb(m);
    }
    deliver(m);
    work(m);
    for (i = 0; i < m->node_count; i++) {
        if (m->nodes[i].up) {
            look(m, i);
            if ((m->tick + i) % 5 == 0) {
                view(m, i);
            }
        }
    }
}

/* Exactly the places that any node would compute now. */
static void check_end(struct model *m)
{
    static const uint8_t key[CKPT_REPLICA_KEY_BYTES];
    struct ckpt_replica_node nodes[NODES] = {0};
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX] = {false};
    uint32_t i, item;

    for (i = 0; i < m->node_count; i++) {
        nodes[i].id = node_id(i);
        nodes[i].weight = 100;
        eligible[i] = m->nodes[i].up && !m->nodes[i].draining;
    }
    assert_int_equal(ckpt_replica_map_init(&map, key, nodes, m->node_count), 0);
    for (item = 0; item < ITEMS; item++) {
        struct ckpt_replica_places places;
        struct ckpt_id id = manifest(item);
        uint32_t owner = m->owner[item], live = 0;

        assert_int_equal(ckpt_replica_place(&map, &id,
                                            eligible[owner] ? owner : CKPT_REPLICA_NOWHERE,
                                            m->copies[item], eligible, &places),
                         0);
        for (i = 0; i < m->node_count; i++) {
            live += m->nodes[i].up && *held(m, i, item);
        }
        for (i = 0; i < m->node_count && live > 0; i++) {
            bool wanted = ckpt_replica_places_have(&places, i);
            /* With fewer nodes than copies wanted nothing is dropped. */
            bool allowed = wanted || i == owner || places.count < m->copies[item];

            assert_true(!m->nodes[i].up || *held(m, i, item) || !wanted);
            assert_true(!m->nodes[i].up || !*held(m, i, item) || allowed);
        }
    }
    for (i = 0; i < m->node_count; i++) {
        struct ckpt_plan_status status;

        ckpt_plan_status(m->nodes[i].plan, &status);
        assert_true(!m->nodes[i].up || (status.fetches == 0 && status.trims == 0));
    }
}

static uint64_t run(uint64_t seed, uint64_t totals[4])
{
    struct model *m = calloc(1, sizeof(*m));
    uint64_t digest;
    uint32_t i;

    prepare(m, seed);
    for (i = 0; i < FAULTS; i++) {
        advance(m);
    }
    heal(m);
    for (i = 0; i < CALM; i++) {
        advance(m);
    }
    check_end(m);
    totals[0] += m->fetches;
    totals[1] += m->cancels;
    totals[2] += m->trims;
    totals[3] += m->refused;
    digest = m->digest;
    for (i = 0; i < m->node_count; i++) {
        ckpt_plan_free(m->nodes[i].plan);
    }
    free(m);
    return digest;
}

static void test_replica_random_converges_and_never_trims_too_much(void **state)
{
    uint64_t seed, totals[4] = {0};

    (void)state;
    for (seed = 1; seed <= SEEDS; seed++) {
        uint64_t digest = run(seed, totals);

        if (seed % 100 == 0) {
            assert_true(run(seed, totals) == digest);
        }
    }
    print_message("%u seeds: %llu fetches, %llu cancelled, %llu trims, %llu refused\n", SEEDS,
                  (unsigned long long)totals[0], (unsigned long long)totals[1],
                  (unsigned long long)totals[2], (unsigned long long)totals[3]);
    for (seed = 0; seed < 4; seed++) {
        assert_true(totals[seed] > SEEDS / 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica_random_converges_and_never_trims_too_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
