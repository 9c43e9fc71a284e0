/* Raft on a simulated node: storage, messages, state machine. No decision of the protocol
 * is made here. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/claim.h"
#include "sim/node.h"
#include "sim/route.h"
#include "sim/world.h"

#define SPACE_HARD     2 /* disk keys: term and vote */
#define SPACE_LOG      3 /* by index */
#define SPACE_SNAPSHOT 4
#define LOG_KEY(index) SIM_DISK_KEY(SPACE_LOG, index)
#define CALLS_MAX      1024

/* An event that came up while the core was busy. */
struct sim_raft_call {
    struct sched_raft_event event;
    struct shl_buf bytes;
};

struct hard_state {
    uint64_t term;
    struct shl_node_id vote;
};

struct stored_entry {
    uint64_t term;
    uint8_t type;
};

/*- Storage. */

static void write_entries(struct sim_node *node, const struct sched_raft_persist *persist)
{
    for (uint32_t i = 0; i < persist->entry_count; i++) {
        const struct sched_raft_entry *entry = &persist->entries[i];
        struct stored_entry head = {.term = entry->term, .type = entry->type};
        uint8_t stack[512];
        uint8_t *value = stack;
        size_t len = sizeof(head) + entry->data.len;

        if (len > sizeof(stack)) {
            value = malloc(len);
            assert(value);
        }
        memset(value, 0, sizeof(head));
        memcpy(value, &head.term, sizeof(head.term));
        value[offsetof(struct stored_entry, type)] = head.type;
        if (entry->data.len) {
            memcpy(value + sizeof(head), entry->data.base, entry->data.len);
        }
        sim_disk_put(&node->disk, LOG_KEY(entry->index), value, len);
        if (value != stack) {
            free(value);
        }
    }
}

static void write_snapshot(struct sim_node *node, const struct sched_raft_persist *persist)
{
    size_t len = sizeof(*persist->meta) + persist->snapshot_data.len;
    uint8_t *value = malloc(len);

    assert(value);
    memcpy(value, persist->meta, sizeof(*persist->meta));
    if (persist->snapshot_data.len) {
        memcpy(value + sizeof(*persist->meta), persist->snapshot_data.base,
               persist->snapshot_data.len);
    }
    sim_disk_put(&node->disk, SIM_DISK_KEY(SPACE_SNAPSHOT, 0), value, len);
    free(value);
    if (persist->snapshot == SCHED_RAFT_SNAPSHOT_INSTALL) {
        sim_disk_delete(&node->disk, LOG_KEY(0), LOG_KEY(UINT64_MAX));
    } else if (persist->log_first > 0) {
        sim_disk_delete(&node->disk, LOG_KEY(0), LOG_KEY(persist->log_first - 1));
    }
}

static void persist(struct sim_node *node, const struct sched_raft_persist *persist)
{
    if (persist->snapshot != SCHED_RAFT_SNAPSHOT_NONE) {
        write_snapshot(node, persist);
    }
    if (persist->truncate_from > 0) {
        sim_disk_delete(&node->disk, LOG_KEY(persist->truncate_from), LOG_KEY(UINT64_MAX));
    }
    write_entries(node, persist);
    if (persist->has_hard_state) {
        struct hard_state hard = {.term = persist->term, .vote = persist->vote};

        sim_disk_put(&node->disk, SIM_DISK_KEY(SPACE_HARD, 0), &hard, sizeof(hard));
    }
    (void)sim_node_sync(node, (struct sim_sync){.kind = SIM_SYNC_RAFT, .a = persist->seq});
}

static bool load_state(struct sim_node *node,
                       const struct sched_raft_snapshot_meta *meta,
                       struct shl_bytes bytes)
{
    struct sched_state_config config = {.mutations = node->world->mutate.sched};
    struct sched_load *load = sched_load_new(&config);
    struct sched_state *state = NULL;
    bool ok = false;

    assert(load);
    ok = sched_load_feed(load, bytes, NULL) == 0 &&
         sched_load_end(load, meta->index, meta->term, &state, NULL) == 0;
    sched_load_free(load);
    if (ok) {
        sched_state_free(node->state);
        node->state = state;
    }
    return ok;
}

static void tune(const struct sim_node *node, struct sched_raft_config *config)
{
    const struct sim_tuning *tuning = &node->world->tuning;

    config->limits.msg_entries = tuning->msg_entries;
    config->limits.inflight = tuning->inflight;
    config->limits.chunk_bytes = tuning->chunk_bytes;
    config->limits.snapshot_after_entries = tuning->snapshot_entries;
    /* A peer must be able to take a snapshot while this many more are added. */
    config->limits.trailing_entries =
        tuning->snapshot_entries / 4 + node->world->node_count * node->world->node_count / 4;
    config->mutations = node->world->mutate.raft;
}

/* The snapshot of the disk into the config and the state machine. */
static bool load_snapshot(struct sim_node *node,
                          struct sched_raft_config *config,
                          struct shl_buf *data)
{
    struct shl_bytes bytes;

    if (!sim_disk_find(&node->disk, SIM_DISK_KEY(SPACE_SNAPSHOT, 0), &bytes)) {
        return true;
    }
    memcpy(&config->snapshot, bytes.base, sizeof(config->snapshot));
    bytes.base += sizeof(config->snapshot);
    bytes.len -= sizeof(config->snapshot);
    config->snapshot_data = data;
    return shl_buf_append(data, bytes.base, bytes.len) == 0 &&
           load_state(node, &config->snapshot, bytes);
}

static struct sched_raft_entry *load_entries(struct sim_node *node, uint64_t *ret_count)
{
    size_t at = sim_disk_lower(&node->disk, LOG_KEY(0));
    size_t end = sim_disk_lower(&node->disk, SIM_DISK_KEY(SPACE_LOG + 1, 0));
    struct sched_raft_entry *entries = calloc(end - at + 1, sizeof(*entries));

    assert(entries);
    *ret_count = end - at;
    for (uint64_t i = 0; i < *ret_count; i++) {
        const struct sim_disk_entry *item = &node->disk.map.items[at + i];

        entries[i].index = item->key & 0x00ffffffffffffffu;
        memcpy(&entries[i].term, item->data, sizeof(entries[i].term));
        entries[i].type = item->data[offsetof(struct stored_entry, type)];
        entries[i].data = shl_bytes_of(item->data + sizeof(struct stored_entry),
                                       item->len - sizeof(struct stored_entry));
    }
    return entries;
}

bool sim_raft_boot(struct sim_node *node)
{
    struct sched_state_config state_config = {.mutations = node->world->mutate.sched};
    struct sched_raft_config config;
    struct sched_raft_entry *entries = NULL;
    struct shl_bytes bytes;
    struct shl_buf data;
    int rc = 0;

    node->state = sched_state_new(&state_config);
    assert(node->state);
    sched_raft_config_init(&config);
    tune(node, &config);
    config.self = node->id;
    config.seed = sim_rng_next(&node->rng);
    config.now_ms = sim_node_now_ms(node);
    shl_buf_init(&data, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    if (!load_snapshot(node, &config, &data)) {
        shl_buf_release(&data);
        return false;
    }
    if (sim_disk_find(&node->disk, SIM_DISK_KEY(SPACE_HARD, 0), &bytes)) {
        struct hard_state hard;

        memcpy(&hard, bytes.base, sizeof(hard));
        config.term = hard.term;
        config.vote = hard.vote;
    }
    entries = load_entries(node, &config.entry_count);
    config.entries = entries;
    rc = sched_raft_new(&config, &node->raft);
    shl_buf_release(&data);
    free(entries);
    if (rc < 0) {
        SIM_TRACE(node->world, node->index, "raft refuses its disk: %s", shl_err_name(rc));
        return false;
    }
    sim_check_installed(node, config.snapshot.index);
    return true;
}

void sim_raft_shut(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->call_count; i++) {
        shl_buf_release(&node->calls[i].bytes);
    }
    node->call_count = 0;
    node->raft_busy = false;
    sched_raft_free(node->raft);
    node->raft = NULL;
    sched_state_free(node->state);
    node->state = NULL;
}

void sim_raft_store(struct sim_node *node,
                    uint64_t term,
                    const struct sched_raft_entry *entries,
                    uint32_t count)
{
    struct sched_raft_persist request = {.entries = entries, .entry_count = count};
    struct hard_state hard = {.term = term};

    write_entries(node, &request);
    sim_disk_put(&node->disk, SIM_DISK_KEY(SPACE_HARD, 0), &hard, sizeof(hard));
    if (sim_disk_commit(&node->disk) == 0) {
        sim_disk_synced(&node->disk, node->disk.batch);
    }
}

/*- Actions. */

static bool take_wait(struct sim_node *node, uint64_t tag, struct sim_wait *ret)
{
    for (uint32_t i = 0; i < node->wait_count; i++) {
        if (node->waits[i].tag == tag) {
            *ret = node->waits[i];
            node->waits[i] = node->waits[--node->wait_count];
            return true;
        }
    }
    return false;
}

static uint32_t hint_of(const struct sim_node *node, const struct shl_node_id *leader)
{
    int slot = shl_node_id_is_none(leader) ? -1 : sim_world_find(node->world, leader);

    return (uint32_t)(slot + 1);
}

static int code_of(enum sched_raft_reason reason)
{
    switch (reason) {
    case SCHED_RAFT_DONE:
        return 0;
    case SCHED_RAFT_LOST:
    case SCHED_RAFT_STOPPED:
        return SIM_CODE_UNKNOWN;
    case SCHED_RAFT_TOO_LARGE:
        return SHL_ELIMIT;
    case SCHED_RAFT_NOT_LEADER:
    case SCHED_RAFT_TRANSFERRING:
    case SCHED_RAFT_LOG_FULL:
    case SCHED_RAFT_BUSY:
    case SCHED_RAFT_EXISTS:
    case SCHED_RAFT_NO_MEMBER:
    case SCHED_RAFT_NOT_CAUGHT_UP:
    case SCHED_RAFT_LAST_VOTER:
    case SCHED_RAFT_MEMBER_LIMIT:
    case SCHED_RAFT_TIMED_OUT:
    case SCHED_RAFT_REASON_COUNT:
        break;
    }
    return SHL_EUNAVAILABLE;
}

static void on_result(struct sim_node *node, const struct sched_raft_action *action)
{
    struct sim_wait wait;

    if (action->u.result.tag == SIM_TAG_CHANGE) {
        node->change_under_way = false;
        SIM_TRACE(node->world, node->index, "membership change: %s",
                  sched_raft_reason_text(action->u.result.reason));
        return;
    }
    /* A proposal that is done is answered with what applying it gave. */
    if (action->u.result.reason != SCHED_RAFT_DONE &&
        take_wait(node, action->u.result.tag, &wait)) {
        sim_route_reply(node, wait.peer, wait.req, code_of(action->u.result.reason),
                        hint_of(node, &action->u.result.leader), NULL, (struct shl_bytes){0});
    }
}

static void answer_applied(struct sim_node *node,
                           const struct sched_raft_entry *entry,
                           const struct sched_result *result)
{
    struct sim_outcome outcome = {0};
    struct sim_wait wait;

    if (!entry->has_tag || !take_wait(node, entry->tag, &wait)) {
        return;
    }
    outcome.index = entry->index;
    outcome.number = result->number;
    outcome.existed = result->existed;
    outcome.value_len = result->value_len;
    memcpy(outcome.value, result->value, result->value_len);
    sim_route_reply(node, wait.peer, wait.req, result->err.code, 0, NULL,
                    shl_bytes_of(&outcome,
                                 offsetof(struct sim_outcome, value) + outcome.value_len));
}

static void apply(struct sim_node *node, const struct sched_raft_entry *entry)
{
    struct sched_result result = {0};
    struct sched_command command = {0};

    if (entry->type != SCHED_RAFT_COMMAND) {
        sched_state_skip(node->state, entry->index, entry->term);
        sim_check_applied(node, entry, NULL, NULL);
        sim_sched_applied(node, entry->index, entry->term, NULL, NULL);
        return;
    }
    if (sched_command_decode(&command, entry->data, NULL) < 0) {
        sim_check_fail(node->world, 6, "entry %llu is no command",
                       (unsigned long long)entry->index);
        return;
    }
    sim_check_applying(node, &command);
    if (sched_state_apply(node->state, entry->index, entry->term, entry->data, &result) < 0) {
        sim_check_fail(node->world, 6, "n%u cannot apply entry %llu", node->index,
                       (unsigned long long)entry->index);
        return;
    }
    sim_check_applied(node, entry, &command, &result);
    sim_sched_applied(node, entry->index, entry->term, &command, &result);
    answer_applied(node, entry, &result);
}

static void on_read(struct sim_node *node, const struct sched_raft_action *action)
{
    struct sim_wait wait;
    uint64_t n[5] = {0};

    if (!take_wait(node, action->u.read.tag, &wait)) {
        return;
    }
    if (action->type == SCHED_RAFT_ACT_READ_FAILED) {
        sim_route_reply(node, wait.peer, wait.req, SHL_EUNAVAILABLE,
                        hint_of(node, &action->u.read.leader), NULL, (struct shl_bytes){0});
        return;
    }
    sim_read_row(node->state, wait.table, wait.key, n);
    sim_route_reply(node, wait.peer, wait.req, 0, 0, n, (struct shl_bytes){0});
}

static void take_snapshot(struct sim_node *node)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_SNAPSHOT_TAKEN,
                                     .now_ms = sim_node_now_ms(node)};
    struct sched_save save;
    struct shl_buf data;
    int rc = 0;

    shl_buf_init(&data, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    sched_save_begin(&save, node->state);
    do {
        rc = sched_save_next(&save, &data);
    } while (rc == 1);
    assert(rc == 0);
    event.u.snapshot_taken.index = sched_raft_applied(node->raft);
    event.u.snapshot_taken.data = &data;
    sim_raft_step(node, &event);
    shl_buf_release(&data);
}

static void act(struct sim_node *node, const struct sched_raft_action *action)
{
    switch (action->type) {
    case SCHED_RAFT_ACT_SEND: {
        int to = sim_world_find(node->world, &action->u.send.to);

        if (to >= 0) {
            sim_node_send(node, (uint32_t)to,
                          sim_msg_new(SIM_MSG_RAFT, 0, action->u.send.bytes.base,
                                      action->u.send.bytes.len));
        }
        break;
    }
    case SCHED_RAFT_ACT_PERSIST:
        persist(node, &action->u.persist);
        break;
    case SCHED_RAFT_ACT_APPLY:
        apply(node, action->u.apply);
        break;
    case SCHED_RAFT_ACT_RESULT:
        on_result(node, action);
        break;
    case SCHED_RAFT_ACT_READ_READY:
    case SCHED_RAFT_ACT_READ_FAILED:
        on_read(node, action);
        break;
    case SCHED_RAFT_ACT_ROLE_CHANGED:
        SIM_TRACE(node->world, node->index, "%s in term %llu",
                  sched_raft_role_name(action->u.role.role),
                  (unsigned long long)action->u.role.term);
        sim_sched_role(node);
        break;
    case SCHED_RAFT_ACT_SNAPSHOT_WANTED:
        node->snapshot_wanted = action->u.wanted.index;
        break;
    case SCHED_RAFT_ACT_SNAPSHOT_INSTALL:
        SIM_TRACE(node->world, node->index, "installs a snapshot of entry %llu",
                  (unsigned long long)action->u.install.meta->index);
        if (!load_state(node, action->u.install.meta, action->u.install.data)) {
            sim_check_fail(node->world, 6, "n%u cannot load the snapshot it was sent", node->index);
        }
        sim_check_installed(node, action->u.install.meta->index);
        sim_sched_installed(node);
        break;
    case SCHED_RAFT_ACT_MEMBERSHIP_APPLIED:
        break;
    }
}

static void step_once(struct sim_node *node, const struct sched_raft_event *event)
{
    int rc = sched_raft_step(node->raft, event, &node->raft_actions);

    if (rc < 0) {
        /* A message of a newer or odd peer is no fault; anything else is ours. */
        if (event->type != SCHED_RAFT_RECV && event->type != SCHED_RAFT_BOOTSTRAP) {
            sim_check_fail(node->world, 6, "n%u: raft refuses event %d: %s", node->index,
                           (int)event->type, shl_err_name(rc));
        } else if (event->type == SCHED_RAFT_RECV) {
            sim_check_fail(node->world, 6, "n%u: raft does not understand a peer: %s", node->index,
                           shl_err_name(rc));
        }
    }
    for (uint32_t i = 0; i < node->raft_actions.count && !node->dying; i++) {
        act(node, &node->raft_actions.items[i]);
    }
    node->raft_wake_ms = node->raft_actions.wake_at_ms;
    sim_check_raft(node);
}

static struct sim_raft_call *defer(struct sim_node *node, const struct sched_raft_event *event)
{
    struct sim_raft_call *call = NULL;
    struct shl_bytes bytes = {0};

    if (node->call_count == node->call_cap) {
        node->call_cap = node->call_cap ? node->call_cap * 2 : 16;
        assert(node->call_cap <= CALLS_MAX);
        node->calls = realloc(node->calls, node->call_cap * sizeof(*node->calls));
        assert(node->calls);
    }
    call = &node->calls[node->call_count++];
    call->event = *event;
    shl_buf_init(&call->bytes, SCHED_RAFT_MESSAGE_BYTES_MAX);
    assert(event->type != SCHED_RAFT_SNAPSHOT_TAKEN && event->type != SCHED_RAFT_RECV);
    if (event->type == SCHED_RAFT_PROPOSE) {
        bytes = event->u.propose.command;
        if (shl_buf_append(&call->bytes, bytes.base, bytes.len) < 0) {
            abort();
        }
        call->event.u.propose.command = shl_buf_bytes(&call->bytes);
    }
    return call;
}

void sim_raft_step(struct sim_node *node, const struct sched_raft_event *event)
{
    if (!node->raft || node->dying) {
        return;
    }
    if (node->raft_busy) {
        (void)defer(node, event);
        return;
    }
    node->raft_busy = true;
    step_once(node, event);
    for (uint32_t i = 0; i < node->call_count; i++) {
        struct sim_raft_call call = node->calls[i];

        if (!node->dying) {
            step_once(node, &call.event);
        }
        shl_buf_release(&call.bytes);
    }
    node->call_count = 0;
    node->raft_busy = false;
    if (node->snapshot_wanted > 0 && !node->dying) {
        node->snapshot_wanted = 0;
        take_snapshot(node);
    }
}

void sim_raft_bootstrap(struct sim_node *node)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_BOOTSTRAP, .now_ms = sim_node_now_ms(node)};
    struct sched_raft_membership membership = {.count = 1};

    membership.members[0] =
        (struct sched_raft_member){.id = node->id, .standing = SCHED_RAFT_VOTER};
    event.u.bootstrap.membership = &membership;
    sim_raft_step(node, &event);
}

/*- What the routing layer asks for. */

static bool add_wait(struct sim_node *node, struct sim_wait wait)
{
    if (node->wait_count == SIM_WAITS_MAX) {
        return false;
    }
    node->waits[node->wait_count++] = wait;
    return true;
}

void sim_raft_propose(struct sim_node *node, struct shl_bytes command, uint32_t peer, uint64_t req)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_PROPOSE, .now_ms = sim_node_now_ms(node)};
    struct sched_command decoded;
    struct shl_buf stamped;

    /* Before everything of earlier terms is applied the cluster's time is not known. */
    if (!node->ready || sched_command_decode(&decoded, command, NULL) < 0) {
        struct shl_node_id leader = sched_raft_leader(node->raft);

        sim_route_reply(node, peer, req, SHL_EUNAVAILABLE, hint_of(node, &leader), NULL,
                        (struct shl_bytes){0});
        return;
    }
    decoded.at_ms = sched_cluster_time_now(&node->time, event.now_ms);
    if (peer != SIM_NOBODY) {
        int rc = sched_claim_stamp(&node->leases, &node->world->nodes[peer].id, event.now_ms,
                                   &decoded, NULL);

        if (rc < 0) {
            sim_route_reply(node, peer, req, rc, 0, NULL, (struct shl_bytes){0});
            return;
        }
    }
    if (decoded.kind == SCHED_LEASE_RENEW) {
        decoded.u.lease_renew.term = node->lead_term;
        /* From here on, not only from its application: a claim must not be proposed behind a
         * renewal that is under way. */
        if (!(node->world->mutate.sim & SIM_MUT_LEASE_LATE)) {
            (void)sched_leases_renewed(&node->leases, &decoded.u.lease_renew.node, event.now_ms);
        }
    }
    shl_buf_init(&stamped, SCHED_COMMAND_MAX);
    if (sched_command_encode(&decoded, &stamped, NULL) < 0 ||
        !add_wait(node, (struct sim_wait){.tag = ++node->next_tag, .req = req, .peer = peer})) {
        sim_route_reply(node, peer, req, SHL_ELIMIT, 0, NULL, (struct shl_bytes){0});
    } else {
        event.u.propose.tag = node->next_tag;
        event.u.propose.command = shl_buf_bytes(&stamped);
        sim_raft_step(node, &event);
    }
    shl_buf_release(&stamped);
}

void sim_raft_read(struct sim_node *node, uint8_t table, uint64_t key, uint32_t peer, uint64_t req)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_READ, .now_ms = sim_node_now_ms(node)};
    struct sim_wait wait = {.tag = ++node->next_tag,
                            .is_read = true,
                            .table = table,
                            .key = key,
                            .req = req,
                            .peer = peer};

    if (!add_wait(node, wait)) {
        sim_route_reply(node, peer, req, SHL_EUNAVAILABLE, 0, NULL, (struct shl_bytes){0});
        return;
    }
    event.u.read.tag = wait.tag;
    sim_raft_step(node, &event);
}
