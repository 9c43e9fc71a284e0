/* Gossip on a simulated node. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/node.h"
#include "sim/replica.h"
#include "sim/world.h"

#define SPACE_GOSSIP    5 /* disk keys */
#define KEY_INCARNATION SIM_DISK_KEY(SPACE_GOSSIP, 0)
#define KEY_BOOK        SIM_DISK_KEY(SPACE_GOSSIP, 1)
#define BOOK_MAX        (1u << 20)

/* A quarter of what a LAN uses: more of the protocol happens in one run. */
static void quicken(struct gossip_timing *t)
{
    uint32_t *const spans[] = {
        &t->probe_ms,     &t->ping_timeout_ms, &t->dead_gossip_ms, &t->suspicion_min_ms,
        &t->broken_ms,    &t->sync_ms,         &t->sync_settle_ms, &t->sync_least_ms,
        &t->heal_ms,      &t->heal_urgent_ms,  &t->view_settle_ms, &t->leave_ms,
        &t->book_save_ms, &t->unset_keep_ms,   &t->flap_stable_ms, &t->flap_half_life_ms,
    };

    for (size_t i = 0; i < SHL_ARRAY_SIZE(spans); i++) {
        *spans[i] /= 4;
    }
}

static void describe(const struct sim_node *node, struct gossip_info *info)
{
    *info = (struct gossip_info){.id = node->id, .proto_min = 1, .proto_max = 1};
    memcpy(info->key, node->key, sizeof(info->key));
    snprintf(info->name, sizeof(info->name), "%s", node->name);
    snprintf(info->control, sizeof(info->control), "%u:1", node->index);
    snprintf(info->bulk, sizeof(info->bulk), "%u:2", node->index);
    snprintf(info->api, sizeof(info->api), "%u:3", node->index);
}

static void contact(const struct sim_node *node, struct gossip_contact *ret)
{
    *ret = (struct gossip_contact){0};
    memcpy(ret->key, node->key, sizeof(ret->key));
    snprintf(ret->address, sizeof(ret->address), "%u:1", node->index);
}

/* The address in the token or in the settings: some node that is still there. */
static bool find_seed(const struct sim_node *node, struct gossip_contact *ret)
{
    for (uint32_t i = 0; i < node->world->node_count; i++) {
        const struct sim_node *other = &node->world->nodes[i];

        if (i != node->index && other->present && !other->gone) {
            contact(other, ret);
            return true;
        }
    }
    return false;
}

bool sim_gossip_boot(struct sim_node *node)
{
    struct gossip_config config = {.seed = sim_rng_next(&node->rng),
                                   .mutations = node->world->mutate.gossip};
    struct shl_bytes bytes;
    int rc = 0;

    describe(node, &config.self);
    memset(config.cluster, 7, sizeof(config.cluster));
    gossip_timing_defaults(&config.timing);
    if (!node->world->tuning.slow_gossip) {
        quicken(&config.timing);
    }
    if (sim_disk_find(&node->disk, KEY_INCARNATION, &bytes)) {
        memcpy(&config.incarnation, bytes.base, sizeof(config.incarnation));
    }
    if (sim_disk_find(&node->disk, KEY_BOOK, &bytes)) {
        config.book = bytes;
    }
    rc = gossip_new(&config, &node->gossip, NULL);
    if (rc < 0) {
        SIM_TRACE(node->world, node->index, "gossip refuses its disk: %s", shl_err_name(rc));
        return false;
    }
    return true;
}

void sim_gossip_begin(struct sim_node *node)
{
    struct gossip_event event = {.type = GOSSIP_EV_TICK, .now_ms = sim_node_now_ms(node)};
    struct gossip_contact seed;

    sim_gossip_step(node, &event);
    if (find_seed(node, &seed)) {
        event.type = GOSSIP_EV_JOIN;
        event.join.contacts = &seed;
        event.join.contact_count = 1;
        sim_gossip_step(node, &event);
    }
    sim_gossip_publish(node);
    for (uint32_t i = 0; i < node->sandbox_count; i++) {
        sim_gossip_publish_sandbox(node, &node->sandboxes[i]);
    }
}

void sim_gossip_forget(struct sim_node *node)
{
    sim_disk_delete(&node->disk, KEY_INCARNATION, KEY_BOOK);
    if (sim_disk_commit(&node->disk) == 0) {
        sim_disk_synced(&node->disk, node->disk.batch);
    }
}

void sim_gossip_shut(struct sim_node *node)
{
    gossip_free(node->gossip);
    node->gossip = NULL;
}

/* Before anything of this step leaves the node: as a blocking fsync. */
static void store_incarnation(struct sim_node *node, uint64_t incarnation)
{
    if (node->world->mutate.sim & SIM_MUT_INCARNATION_LOST) {
        return;
    }
    sim_disk_put(&node->disk, KEY_INCARNATION, &incarnation, sizeof(incarnation));
    if (sim_disk_commit(&node->disk) < 0) {
        node->dying = true;
        return;
    }
    sim_disk_synced(&node->disk, node->disk.batch);
}

static void store_book(struct sim_node *node)
{
    struct shl_buf book;

    shl_buf_init(&book, BOOK_MAX);
    if (gossip_book_encode(node->gossip, &book) == 0) {
        sim_disk_put(&node->disk, KEY_BOOK, shl_buf_data(&book), shl_buf_len(&book));
        if (sim_disk_commit(&node->disk) < 0) {
            node->dying = true;
        }
    }
    shl_buf_release(&book);
}

static void send_all(struct sim_node *node)
{
    const struct gossip_actions *actions = &node->gossip_actions;

    for (uint32_t i = 0; i < actions->send_count && !node->dying; i++) {
        const struct gossip_send *send = &actions->sends[i];
        int to = shl_node_id_is_none(&send->to.id) ? -1 : sim_world_find(node->world, &send->to.id);

        if (to >= 0 && node->via[to]) {
            to = node->via[to] - 1; /* over the link of whoever spoke last as this node */
        }
        if (to < 0 && send->to.address[0] != 0) {
            to = (int)strtoul(send->to.address, NULL, 10);
        }
        if (to >= 0 && (uint32_t)to < node->world->node_count) {
            sim_node_send(node, (uint32_t)to,
                          sim_msg_new(SIM_MSG_GOSSIP, send->lane, send->bytes.base,
                                      send->bytes.len));
        }
    }
}

static void trace_changes(struct sim_node *node)
{
    const struct gossip_actions *actions = &node->gossip_actions;

    for (uint32_t i = 0; i < actions->change_count; i++) {
        const struct gossip_change *change = &actions->changes[i];

        SIM_TRACE(node->world, node->index, "sees n%d %s -> %s",
                  sim_world_find(node->world, &change->id), gossip_life_name(change->before),
                  gossip_life_name(change->after));
    }
    for (uint32_t i = 0; i < actions->notice_count; i++) {
        SIM_TRACE(node->world, node->index, "gossip notice %d about n%d (%s)",
                  (int)actions->notices[i].type,
                  sim_world_find(node->world, &actions->notices[i].id),
                  gossip_refusal_text(actions->notices[i].reason));
    }
}

void sim_gossip_step(struct sim_node *node, struct gossip_event *event)
{
    int rc = 0;

    if (!node->gossip || node->dying) {
        return;
    }
    event->wall_s = sim_clock_wall_ms(&node->clock, node->world->now_us) / 1000;
    rc = gossip_step(node->gossip, event, &node->gossip_actions);
    if (rc < 0) {
        sim_check_fail(node->world, 18, "n%u: gossip refuses event %d: %s", node->index,
                       (int)event->type, shl_err_name(rc));
        return;
    }
    if (node->gossip_actions.persist.incarnation) {
        store_incarnation(node, node->gossip_actions.persist.incarnation);
    }
    if (node->gossip_actions.persist.book && !node->dying) {
        store_book(node);
    }
    node->gossip_wake_ms = node->gossip_actions.wake_at_ms;
    if (node->world->trace) {
        trace_changes(node);
    }
    sim_check_gossip(node, &node->gossip_actions);
    if (node->gossip_actions.change_count > 0) {
        sim_replica_soon(node);
    }
    send_all(node);
}

/* What placement needs to know of this node. */
void sim_gossip_publish(struct sim_node *node)
{
    struct gossip_event event = {.type = GOSSIP_EV_SET, .now_ms = sim_node_now_ms(node)};
    uint64_t load[2] = {node->world->tuning.memory_mb, node->committed_mb};

    event.record.key = "load";
    event.record.value = shl_bytes_of(load, sizeof(load));
    sim_gossip_step(node, &event);
}

void sim_gossip_publish_sandbox(struct sim_node *node, struct sim_sandbox *sandbox)
{
    struct gossip_event event = {.now_ms = sim_node_now_ms(node)};
    uint64_t value[2] = {sandbox->epoch + 1, sandbox->status};
    char key[SCHED_ID_SIZE + 2] = "s/";

    sim_sandbox_text(key + 2, sandbox->id);
    event.record.key = key;
    if ((sandbox->status == SIM_SANDBOX_RUNNING || sandbox->status == SIM_SANDBOX_HIBERNATED) &&
        sandbox->stored && !sandbox->copy) {
        event.type = GOSSIP_EV_SET;
        event.record.value = shl_bytes_of(value, sizeof(value));
        sandbox->published = true;
        sim_gossip_step(node, &event);
    } else if (sandbox->published) {
        event.type = GOSSIP_EV_UNSET;
        sandbox->published = false;
        sim_gossip_step(node, &event);
    }
    sim_gossip_publish(node);
}
