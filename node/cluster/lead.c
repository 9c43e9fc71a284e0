/* Duties of the node that leads: founding, time, who votes, what has expired. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/cluster_private.h"
#include "node/cluster/owners.h"

#define EXPIRE_EVERY_MS   60000
#define VOTER_STABLE_MS   10000
#define VOTER_GROW_MS     2000
#define VOTER_INTERVAL_MS 1000
#define LAG_MAX           64    /* entries a learner may lack and count as caught up */
#define CLOCK_OFF_MS      30000 /* more than the state's time may lag behind where it is copied */
#define CLOCK_TOLD_MS     (3600u * 1000)

uint64_t cluster_lead_time_ms(const struct cluster *c)
{
    return sched_cluster_time_now(&c->lead.time, cluster_now_ms());
}

void cluster_lead_role_changed(struct cluster *c, enum sched_raft_role role, uint64_t term)
{
    bool leads = role == SCHED_RAFT_LEADER;

    if (leads && !(c->lead.is_leader && c->lead.term == term)) {
        c->lead = (struct cluster_lead){.is_leader = true, .term = term};
        sched_reserves_clear(&c->place.reserves);
        sched_leases_elected(&c->leases, term, cluster_now_ms());
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "elected", SHL_I("term", (int64_t)term));
    } else if (!leads && c->lead.is_leader) {
        c->lead = (struct cluster_lead){0};
        sched_leases_deposed(&c->leases);
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "deposed", SHL_I("term", (int64_t)term));
    }
}

/* ---- founding -------------------------------------------------------------------- */

static void on_founded(void *arg, enum sched_raft_reason reason, const struct sched_result *result)
{
    struct cluster *c = arg;

    if (reason != SCHED_RAFT_DONE || !result || result->err.code < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "cluster_not_founded",
                SHL_S("error", result ? result->err.msg : sched_raft_reason_text(reason)));
    }
}

static void found(struct cluster *c)
{
    struct sched_command command = {.kind = SCHED_CLUSTER_INIT, .at_ms = cluster_lead_time_ms(c)};
    struct shl_err err = {0};
    struct shl_buf buf;

    memcpy(command.u.cluster_init.cluster, c->id, sizeof(command.u.cluster_init.cluster));
    command.u.cluster_init.lease_ms = SCHED_LEASE_MS;
    cluster_describe(c, &command.u.cluster_init.node);
    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    if (sched_command_encode(&command, &buf, &err) < 0 ||
        cluster_log_propose(c, shl_buf_bytes(&buf), on_founded, c) < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "cluster_not_founded", SHL_S("error", err.msg));
    }
    shl_buf_release(&buf);
}

/* An entry of @term was applied: once it is one of this leader's own, the state is current. */
void cluster_lead_applied(struct cluster *c, uint64_t term)
{
    if (!c->lead.is_leader || c->lead.is_ready || term != c->lead.term) {
        return;
    }
    c->lead.is_ready = true;
    c->keyring.looked_at_ms = 0; /* it may be this node's duty now */
    sched_cluster_time_start(&c->lead.time, sched_state_time_ms(c->state), cluster_wall_ms(),
                             cluster_now_ms());
    cluster_join_watch(c);
}

/* ---- voters ---------------------------------------------------------------------- */

static void on_changed(void *arg, enum sched_raft_reason reason, const struct sched_result *result)
{
    struct cluster *c = arg;

    (void)result;
    c->lead.is_changing = false;
    if (reason != SCHED_RAFT_DONE && reason != SCHED_RAFT_STOPPED) {
        SHL_LOG(&c->log_sink, SHL_LOG_DEBUG, "membership_change",
                SHL_S("outcome", sched_raft_reason_text(reason)));
    }
}

static bool is_caught_up(const struct sched_raft_status *status, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < status->peer_count; i++) {
        const struct sched_raft_peer_status *peer = &status->peers[i];

        if (shl_node_id_equal(&peer->member.id, id)) {
            return peer->state != SCHED_RAFT_PEER_SNAPSHOT &&
                   peer->match + LAG_MAX >= status->last_index;
        }
    }
    return false;
}

static void look_at_life(const struct cluster *c, struct sched_voters_node *node, uint64_t now_ms)
{
    const struct gossip_member *member = gossip_member_find(c->gossip, &node->id);
    uint64_t since_ms = member && now_ms > member->since_ms ? now_ms - member->since_ms : 0;

    node->alive = member && (member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT);
    if (shl_node_id_equal(&node->id, &c->keys.id)) {
        node->alive = true;
    }
    node->alive_ms = node->alive ? since_ms : 0;
    node->dead_ms = node->alive ? 0 : since_ms;
    node->flapping = member && node->alive && !gossip_is_placeable(c->gossip, &node->id, now_ms) &&
                     member->life == GOSSIP_ALIVE;
}

static struct sched_voters_node *find_node(struct sched_voters_node *nodes,
                                           uint32_t count,
                                           const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        if (shl_node_id_equal(&nodes[i].id, id)) {
            return &nodes[i];
        }
    }
    return NULL;
}

/* Members by the replicated state, and those that only Raft still knows. */
static uint32_t collect(const struct cluster *c,
                        const struct sched_raft_status *status,
                        struct sched_voters_node nodes[SCHED_NODES_MAX],
                        uint64_t now_ms)
{
    const struct sched_raft_membership *m = sched_raft_membership(c->log.raft);
    uint32_t count = 0, i;

    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_NODES) && count < SCHED_NODES_MAX;
         i++) {
        const struct sched_node *row = sched_state_at(c->state, SCHED_TABLE_NODES, i);

        nodes[count] = (struct sched_voters_node){
            .id = row->spec.id,
            .member = true,
            .draining = row->draining.on,
            .role = row->spec.role,
            .domain = row->spec.domain,
        };
        look_at_life(c, &nodes[count], now_ms);
        count++;
    }
    for (i = 0; i < m->count; i++) {
        struct sched_voters_node *node = find_node(nodes, count, &m->members[i].id);

        if (!node && count < SCHED_NODES_MAX) {
            node = &nodes[count++];
            *node = (struct sched_voters_node){.id = m->members[i].id};
        }
        if (node) {
            node->in_raft = true;
            node->voter = m->members[i].standing == SCHED_RAFT_VOTER;
            node->caught_up = node->voter || is_caught_up(status, &node->id);
        }
    }
    return count;
}

static void carry_out(struct cluster *c, const struct sched_voters_change *change, uint64_t now_ms)
{
    SHL_LOG(&c->log_sink, SHL_LOG_INFO, "voters", SHL_I("change", change->op),
            SHL_S("node", cluster_node_name(c, &change->node)), SHL_S("why", change->why));
    if (change->op == SCHED_VOTERS_TRANSFER) {
        (void)cluster_log_transfer(c, &change->node);
        return;
    }
    c->lead.is_changing = true;
    if (change->op != SCHED_VOTERS_ADD_LEARNER) {
        c->lead.voters_changed_at_ms = now_ms;
    }
    if (cluster_log_change(c, (enum sched_raft_change_op)change->op, &change->node, change->witness,
                           on_changed, c) < 0) {
        c->lead.is_changing = false;
    }
}

static void choose_voters(struct cluster *c, uint64_t now_ms)
{
    struct sched_voters_node *nodes = calloc(SCHED_NODES_MAX, sizeof(*nodes));
    struct sched_raft_status *status = calloc(1, sizeof(*status));
    struct sched_voters_config config;
    struct sched_voters_change change;

    if (nodes && status && sched_state_has_cluster(c->state)) {
        struct sched_voters_input input = {.nodes = nodes, .leader = c->keys.id};

        sched_raft_status(c->log.raft, status);
        input.count = collect(c, status, nodes, now_ms);
        input.change_under_way = c->lead.is_changing || !status->membership_committed;
        input.since_change_ms =
            c->lead.voters_changed_at_ms ? now_ms - c->lead.voters_changed_at_ms : UINT64_MAX;
        sched_voters_config_init(&config);
        /* a young cluster should bear the loss of its founder soon; who flaps is left out */
        config.stable_ms = cluster_patience_ms(c, VOTER_STABLE_MS);
        config.grow_ms = cluster_patience_ms(c, VOTER_GROW_MS);
        config.interval_ms = cluster_patience_ms(c, VOTER_INTERVAL_MS);
        change = sched_voters_next(&config, &input);
        if (change.op != SCHED_VOTERS_NONE) {
            carry_out(c, &change, now_ms);
        }
    }
    free(nodes);
    free(status);
}

/* ---- expiry ---------------------------------------------------------------------- */

static void expire(struct cluster *c)
{
    struct sched_command command = {.kind = SCHED_EXPIRE, .at_ms = cluster_lead_time_ms(c)};
    struct shl_buf buf;

    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    if (sched_command_encode(&command, &buf, NULL) < 0 ||
        cluster_log_propose(c, shl_buf_bytes(&buf), NULL, NULL) < 0) {
        c->lead.expired_at_ms = 0; /* at the next tick again */
    }
    shl_buf_release(&buf);
}

void cluster_lead_tick(struct cluster *c, uint64_t now_ms)
{
    if (!c->lead.is_ready || !c->gossip) {
        return;
    }
    if (!sched_state_has_cluster(c->state)) {
        found(c); /* a founder that died before its first entry tries again */
        return;
    }
    (void)sched_reserves_expire(&c->place.reserves, now_ms);
    choose_voters(c, now_ms);
    if (c->lead.is_ready && now_ms - c->lead.expired_at_ms >= EXPIRE_EVERY_MS) {
        c->lead.expired_at_ms = now_ms;
        expire(c);
    }
}

/* ---- this node's own rows -------------------------------------------------------- */

struct renewal {
    struct cluster *cluster;
    uint64_t seq;
};

/* Nothing depends on wall clocks but what people are told: when tokens and keys end. */
static void compare_clocks(struct cluster *c, uint64_t now_ms)
{
    int64_t off_ms = (int64_t)(cluster_wall_ms() - sched_state_time_ms(c->state));

    c->clock_off_ms = off_ms;
    if (llabs(off_ms) < CLOCK_OFF_MS ||
        (c->clock_told_at_ms && now_ms - c->clock_told_at_ms < CLOCK_TOLD_MS)) {
        return;
    }
    c->clock_told_at_ms = now_ms;
    SHL_LOG(&c->log_sink, SHL_LOG_WARN, "clock_off", SHL_I("ahead_s", off_ms / 1000),
            SHL_S("effect", "the clock of this machine and the time of the cluster differ: join "
                            "tokens and API keys end by the time of the cluster"));
}

static void on_renewed(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct renewal *renewal = arg;

    struct cluster *c = renewal->cluster;

    (void)msg;
    if (code == 0 && result) {
        /* what was decided before it about this node's sandboxes must be known, too */
        c->lease_seq = renewal->seq;
        c->lease_index = result->index;
        compare_clocks(c, cluster_now_ms());
        cluster_own_applied(c);
    }
    free(renewal);
}

void cluster_own_applied(struct cluster *c)
{
    if (c->lease_index > 0 && sched_state_index(c->state) >= c->lease_index) {
        c->lease_index = 0;
        sched_lease_granted(&c->lease, c->lease_seq, cluster_now_ms());
        cluster_owners_leased(c);
    }
}

static void renew_lease(struct cluster *c, uint64_t now_ms)
{
    struct renewal *renewal = calloc(1, sizeof(*renewal));
    struct sched_command command = {.kind = SCHED_LEASE_RENEW};
    struct sched_cmd_lease_renew *renew = &command.u.lease_renew;

    if (!renewal) {
        return;
    }
    renewal->cluster = c;
    renewal->seq = sched_lease_sent(&c->lease, now_ms);
    renew->node = c->keys.id;
    renew->boot = c->keys.boot;
    renew->seq = renewal->seq;
    if (cluster_propose(c, &command, on_renewed, renewal, NULL) < 0) {
        free(renewal);
    }
}

static void on_updated(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct cluster *c = arg;

    (void)result;
    c->is_updating = false;
    if (code < 0 && code != -ECANCELED) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "own_row_not_updated", SHL_S("error", msg));
    }
}

static bool is_same(const struct sched_node_spec *a, const struct sched_node_spec *b)
{
    return strcmp(a->control, b->control) == 0 && strcmp(a->bulk, b->bulk) == 0 &&
           strcmp(a->domain, b->domain) == 0 && a->role == b->role && a->features == b->features;
}

/* After a restart with other settings. The name stays that of the admission. */
static void update_row(struct cluster *c, const struct sched_node *row)
{
    struct sched_command command = {.kind = SCHED_NODE_UPDATE};
    struct sched_node_spec *spec = &command.u.node_update.node;

    cluster_describe(c, spec);
    (void)snprintf(spec->name, sizeof(spec->name), "%s", row->spec.name);
    if (!is_same(spec, &row->spec) && !c->is_updating &&
        cluster_propose(c, &command, on_updated, c, NULL) == 0) {
        c->is_updating = true;
    }
}

void cluster_own_tick(struct cluster *c, uint64_t now_ms)
{
    const struct sched_node *row = sched_state_node(c->state, &c->keys.id);

    if (!row) {
        return;
    }
    if (now_ms >= sched_lease_ask_at(&c->lease)) {
        renew_lease(c, now_ms);
    }
    update_row(c, row);
}
