/* Scheduler on a simulated node: what it does when it leads, its own lease, joining. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/node.h"
#include "sim/replica.h"
#include "sim/route_task.h"
#include "sim/world.h"

#define TICK_MS 100
#define JOIN_MS 400 /* between two attempts to be admitted */
#define POKE_MS 300 /* between two restores that the scheduler asks for */

void sim_sched_boot(struct sim_node *node)
{
    const struct sim_world *world = node->world;
    uint32_t mutations = world->mutate.sched;

    sched_leases_init(&node->leases, world->tuning.lease_ms, mutations);
    sched_lease_init(&node->lease, world->tuning.lease_ms, mutations);
    if (sched_place_init(&node->place, sim_rng_next(&node->rng), mutations) < 0) {
        assert(false);
    }
    node->leading = false;
    node->ready = false;
    node->join_ms = 0;
    node->granted_index = 0;
    node->renew_sent = 0;
    node->had_voters_change = false;
    memset(node->alive_ms, 0, sizeof(node->alive_ms));
    memset(node->dead_ms, 0, sizeof(node->dead_ms));
}

void sim_sched_role(struct sim_node *node)
{
    uint64_t now_ms = sim_node_now_ms(node);

    if (sched_raft_role(node->raft) != SCHED_RAFT_LEADER) {
        if (node->leading) {
            sched_leases_deposed(&node->leases);
        }
        node->leading = false;
        node->ready = false;
        return;
    }
    if (node->leading && node->lead_term == sched_raft_term(node->raft)) {
        return;
    }
    node->leading = true;
    node->ready = false;
    node->lead_term = sched_raft_term(node->raft);
    node->change_under_way = false;
    node->had_voters_change = false;
    memset(node->alive_ms, 0, sizeof(node->alive_ms));
    memset(node->dead_ms, 0, sizeof(node->dead_ms));
    sched_leases_elected(&node->leases, node->lead_term, now_ms);
    sched_reserves_clear(&node->place.reserves);
}

/*- What the log says. */

static void tell_gossip(struct sim_node *node, const struct sched_node_spec *spec)
{
    struct gossip_info info = {.id = spec->id, .proto_min = 1, .proto_max = 1};
    struct gossip_event event = {.type = GOSSIP_EV_ADMIT, .now_ms = sim_node_now_ms(node)};

    if (!node->gossip || shl_node_id_equal(&spec->id, &node->id)) {
        return;
    }
    memcpy(info.key, spec->key, sizeof(info.key));
    snprintf(info.name, sizeof(info.name), "%.63s", spec->name);
    snprintf(info.control, sizeof(info.control), "%.127s", spec->control);
    snprintf(info.bulk, sizeof(info.bulk), "%.127s", spec->bulk);
    snprintf(info.api, sizeof(info.api), "%.127s", spec->api);
    event.admit.infos = &info;
    event.admit.info_count = 1;
    sim_gossip_step(node, &event);
}

static void tell_removed(struct sim_node *node, const struct shl_node_id *id)
{
    struct gossip_event event = {.type = GOSSIP_EV_REMOVED, .now_ms = sim_node_now_ms(node)};

    if (node->gossip && !shl_node_id_equal(id, &node->id)) {
        event.removed = *id;
        sim_gossip_step(node, &event);
    }
}

void sim_sched_installed(struct sim_node *node)
{
    size_t nodes = sched_state_count(node->state, SCHED_TABLE_NODES);
    size_t removed = sched_state_count(node->state, SCHED_TABLE_REMOVED);

    node->joined = sched_state_node(node->state, &node->id) != NULL;
    for (size_t i = 0; i < nodes; i++) {
        const struct sched_node *row = sched_state_at(node->state, SCHED_TABLE_NODES, i);

        tell_gossip(node, &row->spec);
    }
    for (size_t i = 0; i < removed; i++) {
        const struct sched_removed *row = sched_state_at(node->state, SCHED_TABLE_REMOVED, i);

        tell_removed(node, &row->id);
    }
    sim_hold_row(node, NULL);
}

void sim_sched_applied(struct sim_node *node,
                       uint64_t index,
                       uint64_t term,
                       const struct sched_command *command,
                       const struct sched_result *result)
{
    uint64_t now_ms = sim_node_now_ms(node);

    if (node->leading && !node->ready && term == node->lead_term) {
        node->ready = true;
        sched_cluster_time_start(&node->time, sched_state_time_ms(node->state),
                                 sim_clock_wall_ms(&node->clock, node->world->now_us), now_ms);
    }
    if (command && result->err.code == 0) {
        if (command->kind == SCHED_NODE_JOIN) {
            tell_gossip(node, &command->u.node_join.node);
        } else if (command->kind == SCHED_NODE_REMOVE) {
            tell_removed(node, &command->u.node_remove.node);
        } else if (command->kind == SCHED_LEASE_RENEW) {
            (void)sched_leases_renewed(&node->leases, &command->u.lease_renew.node, now_ms);
        } else if (command->kind >= SCHED_OWNER_REGISTER && command->kind <= SCHED_OWNER_DELETE) {
            sim_hold_row(node, command->u.owner.sandbox);
        }
        sim_replica_applied(node, command);
        if (command->kind == SCHED_NODE_REMOVE) {
            sim_hold_row(node, NULL);
        }
        node->joined = sched_state_node(node->state, &node->id) != NULL;
    }
    /* A renewal counts once everything before it is known here, claims of this node's
     * sandboxes above all. */
    if (node->granted_index > 0 && index >= node->granted_index) {
        node->granted_index = 0;
        sched_lease_granted(&node->lease, node->granted_seq, now_ms);
        sim_hold_lease(node);
    }
}

void sim_sched_granted(struct sim_node *node, uint64_t seq, uint64_t index)
{
    if (sched_state_index(node->state) >= index ||
        (node->world->mutate.sim & SIM_MUT_GRANT_EARLY)) {
        sched_lease_granted(&node->lease, seq, sim_node_now_ms(node));
        sim_hold_lease(node);
        return;
    }
    node->granted_seq = seq;
    node->granted_index = index;
}

/*- Leader. */

static void propose(struct sim_node *node, const struct sched_command *command)
{
    struct shl_buf buf;

    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    if (sched_command_encode(command, &buf, NULL) < 0) {
        assert(false);
    }
    sim_raft_propose(node, shl_buf_bytes(&buf), SIM_NOBODY, 0);
    shl_buf_release(&buf);
}

void sim_sched_spec(const struct sim_node *node, struct sched_node_spec *spec)
{
    *spec = (struct sched_node_spec){.id = node->id, .role = node->role};
    memcpy(spec->key, node->key, sizeof(spec->key));
    snprintf(spec->name, sizeof(spec->name), "%s", node->name);
    snprintf(spec->control, sizeof(spec->control), "%u:1", node->index);
    snprintf(spec->bulk, sizeof(spec->bulk), "%u:2", node->index);
    snprintf(spec->api, sizeof(spec->api), "%u:3", node->index);
    snprintf(spec->domain, sizeof(spec->domain), "%s", node->domain);
}

/* First entries of a cluster: its id, and a token for each who may come. */
static void found(struct sim_node *node)
{
    struct sched_command command = {.kind = SCHED_CLUSTER_INIT, .at_ms = 1};
    uint32_t tokens = node->world->node_count * 2;

    memset(command.u.cluster_init.cluster, 7, sizeof(command.u.cluster_init.cluster));
    command.u.cluster_init.lease_ms = node->world->tuning.lease_ms;
    sim_sched_spec(node, &command.u.cluster_init.node);
    propose(node, &command);
    for (uint32_t i = 0; i < tokens; i++) {
        command = (struct sched_command){.kind = SCHED_TOKEN_CREATE, .at_ms = 1};
        command.u.token_create.token[0] = (uint8_t)(i + 1);
        memset(command.u.token_create.secret_hash, (int)i + 1,
               sizeof(command.u.token_create.secret_hash));
        command.u.token_create.ttl_ms = SCHED_TTL_MAX_MS;
        snprintf(command.u.token_create.by, sizeof(command.u.token_create.by), "sim");
        propose(node, &command);
    }
    node->founded = true;
}

static void watch_members(struct sim_node *node, uint64_t now_ms)
{
    uint32_t count = gossip_member_count(node->gossip);
    bool alive[SIM_NODES_MAX] = {false};

    for (uint32_t i = 0; i < count; i++) {
        const struct gossip_member *member = gossip_member_at(node->gossip, i);
        int slot = sim_world_find(node->world, &member->info.id);

        if (slot >= 0) {
            alive[slot] = member->life == GOSSIP_ALIVE;
        }
    }
    for (uint32_t slot = 0; slot < node->world->node_count; slot++) {
        if (alive[slot]) {
            node->dead_ms[slot] = 0;
            node->alive_ms[slot] = node->alive_ms[slot] ? node->alive_ms[slot] : now_ms;
        } else {
            node->alive_ms[slot] = 0;
            node->dead_ms[slot] = node->dead_ms[slot] ? node->dead_ms[slot] : now_ms;
        }
    }
}

static uint64_t since(uint64_t from_ms, uint64_t now_ms)
{
    return from_ms ? now_ms - from_ms + 1 : 0;
}

static void fill_voter(const struct sim_node *node,
                       struct sched_voters_node *v,
                       uint32_t slot,
                       const struct sched_raft_status *status,
                       uint64_t now_ms)
{
    const struct shl_node_id *id = &node->world->nodes[slot].id;
    const struct sched_node *row = sched_state_node(node->state, id);
    const struct sched_raft_member *member =
        sched_raft_membership_find(sched_raft_membership(node->raft), id);

    *v = (struct sched_voters_node){.id = *id, .domain = ""};
    v->member = row != NULL;
    v->alive = node->alive_ms[slot] != 0;
    v->alive_ms = since(node->alive_ms[slot], now_ms);
    v->dead_ms = since(node->dead_ms[slot], now_ms);
    v->flapping = v->alive && !gossip_is_placeable(node->gossip, id, now_ms);
    v->draining = row && row->draining.on;
    v->role = row ? row->spec.role : 0;
    v->in_raft = member != NULL;
    v->voter = member && member->standing == SCHED_RAFT_VOTER;
    for (uint32_t i = 0; i < status->peer_count; i++) {
        if (shl_node_id_equal(&status->peers[i].member.id, id)) {
            v->caught_up = status->peers[i].match + 100 >= status->last_index;
        }
    }
}

static void change_voters(struct sim_node *node, uint64_t now_ms)
{
    const struct sim_world *world = node->world;
    struct sched_voters_node nodes[SIM_NODES_MAX];
    struct sched_raft_status status;
    struct sched_voters_config config;
    struct sched_voters_input input = {.nodes = nodes, .leader = node->id};
    struct sched_voters_change change;
    struct sched_raft_event event = {.now_ms = now_ms};

    sched_voters_config_init(&config);
    config.stable_ms = world->tuning.voters_stable_ms;
    config.dead_ms = world->tuning.voters_dead_ms;
    config.interval_ms = 300;
    config.mutations = world->mutate.sched;
    sched_raft_status(node->raft, &status);
    for (uint32_t slot = 0; slot < world->node_count; slot++) {
        const struct shl_node_id *id = &world->nodes[slot].id;

        if (world->nodes[slot].copy_of) {
            continue;
        }
        if (sched_state_node(node->state, id) ||
            sched_raft_membership_find(sched_raft_membership(node->raft), id)) {
            fill_voter(node, &nodes[input.count++], slot, &status, now_ms);
        }
    }
    input.change_under_way = node->change_under_way || !status.membership_committed;
    input.since_change_ms = node->had_voters_change ? now_ms - node->voters_change_ms : UINT64_MAX;
    change = sched_voters_next(&config, &input);
    if (change.op == SCHED_VOTERS_NONE) {
        return;
    }
    SIM_TRACE(node->world, node->index, "voters: op %d for n%d (%s)", (int)change.op,
              sim_world_find(world, &change.node), change.why);
    sim_check_voters(node, &input, &change);
    node->had_voters_change = true;
    node->voters_change_ms = now_ms;
    if (change.op == SCHED_VOTERS_TRANSFER) {
        event.type = SCHED_RAFT_TRANSFER;
        event.u.transfer.tag = SIM_TAG_CHANGE;
        event.u.transfer.target = change.node;
    } else {
        node->change_under_way = true;
        event.type = SCHED_RAFT_CHANGE;
        event.u.change.tag = SIM_TAG_CHANGE;
        event.u.change.op = (enum sched_raft_change_op)change.op;
        event.u.change.id = change.node;
        event.u.change.witness = change.witness;
    }
    sim_raft_step(node, &event);
}

/* Somebody alive who may run sandboxes; this node if nobody else does. */
static uint32_t pick_owner(struct sim_node *node)
{
    uint32_t first = (uint32_t)sim_rng_below(&node->rng, node->world->node_count);

    for (uint32_t i = 0; i < node->world->node_count; i++) {
        uint32_t slot = (first + i) % node->world->node_count;
        const struct sched_node *row = sched_state_node(node->state, &node->world->nodes[slot].id);

        if (row && row->spec.role != SCHED_ROLE_WITNESS && node->alive_ms[slot] != 0) {
            return slot;
        }
    }
    return node->index;
}

/* Sandboxes of a node whose lease has certainly ended: another one is asked to go on with them. */
static void restore_lost(struct sim_node *node, uint64_t now_ms)
{
    size_t count = sched_state_count(node->state, SCHED_TABLE_OWNERS);
    size_t first = count ? (size_t)sim_rng_below(&node->rng, count) : 0;

    if (now_ms < node->poke_ms + POKE_MS) {
        return;
    }
    node->poke_ms = now_ms;
    for (size_t i = 0; i < count; i++) {
        const struct sched_owner *row =
            sched_state_at(node->state, SCHED_TABLE_OWNERS, (first + i) % count);
        uint64_t n[5] = {0};
        int slot = sim_world_find(node->world, &row->owner);

        if (!row->claimable || row->released || slot < 0 || node->alive_ms[slot] != 0 ||
            !sched_leases_lapsed(&node->leases, &row->owner, now_ms)) {
            continue;
        }
        n[0] = sim_sandbox_parse(row->sandbox);
        sim_route_tell(node, pick_owner(node), SIM_RPC_RESTORE, n, (struct shl_bytes){0});
        return;
    }
}

static void lead(struct sim_node *node, uint64_t now_ms)
{
    if (!sched_state_has_cluster(node->state)) {
        if (!node->founded) {
            found(node);
        }
        return;
    }
    (void)sched_reserves_expire(&node->place.reserves, now_ms);
    sched_leases_trim(&node->leases, now_ms);
    watch_members(node, now_ms);
    if (!node->change_under_way) {
        change_voters(node, now_ms);
    }
    restore_lost(node, now_ms);
}

void sim_sched_tick(struct sim_node *node)
{
    uint64_t now_ms = sim_node_now_ms(node);

    node->sched_wake_ms = now_ms + TICK_MS;
    if (node->index == 0 && !node->world->formed && sched_raft_last_index(node->raft) == 0) {
        sim_raft_bootstrap(node);
    }
    if (node->ready) {
        lead(node, now_ms);
    }
    if ((!node->joined || node->told_removed) && node->world->formed && now_ms >= node->join_ms) {
        node->join_ms = now_ms + JOIN_MS;
        sim_route_join(node);
    }
    if (node->joined && now_ms >= sched_lease_ask_at(&node->lease)) {
        sim_route_renew(node);
    }
    if (!node->dying) {
        sim_hold_tick(node);
    }
}

/*- Placement, by the leader or by an entry node on its own. */

static uint32_t make_views(struct sim_node *node, struct sched_view *views, uint64_t now_ms)
{
    uint32_t members = gossip_member_count(node->gossip);
    uint32_t count = 0;

    for (uint32_t i = 0; i < members && count < SCHED_NODES_MAX; i++) {
        const struct gossip_member *member = gossip_member_at(node->gossip, i);
        const struct sched_node *row = sched_state_node(node->state, &member->info.id);
        const struct gossip_record *record =
            gossip_record_get(node->gossip, &member->info.id, "load");
        struct sched_view *view = &views[count];
        uint64_t load[2] = {0};

        /* A node that the log has not admitted yet is no place for anything: an idempotency
         * key that names it looks as if its node had been removed. */
        if ((!row && !(node->world->mutate.sim & SIM_MUT_TAKEOVER_STALE)) || !record ||
            record->value.len != sizeof(load)) {
            continue;
        }
        memcpy(load, record->value.base, sizeof(load));
        *view = (struct sched_view){.id = member->info.id, .version = record->version};
        view->alive = member->life == GOSSIP_ALIVE;
        view->flapping = view->alive && !gossip_is_placeable(node->gossip, &view->id, now_ms);
        view->cordoned = row && row->cordoned.on;
        view->draining = row && row->draining.on;
        view->witness = row && row->spec.role == SCHED_ROLE_WITNESS;
        view->capacity = (struct sched_amount){1000, load[0], 1000000, 1000};
        view->committed = (struct sched_amount){0, load[1], 0, 0};
        (void)sched_reserves_seen(&node->place.reserves, &view->id, view->version);
        count++;
    }
    return count;
}

int sim_sched_place(struct sim_node *node,
                    uint32_t memory_mb,
                    uint64_t excluded,
                    uint32_t *ret_target,
                    uint64_t *ret_reservation)
{
    struct sim_world *world = node->world;
    uint64_t now_ms = sim_node_now_ms(node);
    struct shl_node_id exclude[SIM_NODES_MAX];
    struct sched_place_request request = {
        .cpus = 1, .memory_mb = memory_mb, .disk_mb = 1, .exclude = exclude};
    uint32_t count = make_views(node, world->scratch_views, now_ms);
    int rc = 0;

    request.ratios = (struct sched_ratios){100, 100, 100};
    for (uint32_t slot = 0; slot < world->node_count; slot++) {
        if (excluded >> slot & 1) {
            exclude[request.exclude_count++] = world->nodes[slot].id;
        }
    }
    rc = sched_place_decide(&node->place, world->scratch_views, count, &request, now_ms,
                            &world->scratch_placement);
    if (rc < 0) {
        return rc;
    }
    for (uint32_t i = 0; i < world->scratch_placement.candidate_count; i++) {
        const struct sched_candidate *candidate = &world->scratch_placement.candidates[i];
        const struct sched_view *view = &world->scratch_views[candidate->view];

        if (sched_place_take(&node->place, view, &request, now_ms + 2000, ret_reservation) == 0) {
            *ret_target = (uint32_t)sim_world_find(world, &candidate->id);
            sim_check_placed(node, *ret_target, view);
            return 0;
        }
    }
    return SHL_ENOCAPACITY;
}

void sim_sched_placed(struct sim_node *node,
                      uint32_t target,
                      uint64_t reservation,
                      bool accepted,
                      uint64_t version)
{
    uint64_t now_ms = sim_node_now_ms(node);

    if (accepted) {
        /* One that had expired is in the node's own figures by now. */
        if (sched_reserve_commit(&node->place.reserves, reservation, version, now_ms + 5000) < 0) {
            return;
        }
    } else {
        (void)sched_reserve_release(&node->place.reserves, reservation);
        sched_place_node_refused(&node->place, &node->world->nodes[target].id, now_ms);
    }
}
