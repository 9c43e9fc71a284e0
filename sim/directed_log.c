#include "sim/directed_log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sim/world.h"

#define ENTRIES_MAX 128

struct log {
    struct sched_raft_entry entries[ENTRIES_MAX];
    struct shl_buf bytes[ENTRIES_MAX];
    uint32_t count;
};

static struct sched_raft_entry *next(struct log *log, uint64_t term, uint8_t type)
{
    struct sched_raft_entry *entry = &log->entries[log->count];

    assert(log->count < ENTRIES_MAX);
    shl_buf_init(&log->bytes[log->count], SCHED_COMMAND_MAX);
    *entry = (struct sched_raft_entry){.index = log->count + 1, .term = term, .type = type};
    log->count++;
    return entry;
}

static void add_command(struct log *log, uint64_t term, struct sched_command *command)
{
    struct sched_raft_entry *entry = next(log, term, SCHED_RAFT_COMMAND);
    struct shl_buf *buf = &log->bytes[log->count - 1];

    command->at_ms = 1700000000000;
    if (sched_command_encode(command, buf, NULL) < 0) {
        assert(false);
    }
    entry->data = shl_buf_bytes(buf);
}

static void add_membership(struct log *log, const struct sim_world *world, uint32_t count)
{
    struct sched_raft_membership membership = {0};
    struct sched_raft_entry *entry = next(log, 1, SCHED_RAFT_MEMBERSHIP);

    for (uint32_t i = 0; i < count; i++) {
        struct sched_raft_member member = {.id = world->nodes[i].id, .standing = SCHED_RAFT_VOTER};

        if (sched_raft_membership_set(&membership, &member) < 0) {
            assert(false);
        }
    }
    if (sched_raft_membership_encode(&membership, &log->bytes[log->count - 1]) < 0) {
        assert(false);
    }
    entry->data = shl_buf_bytes(&log->bytes[log->count - 1]);
}

/* What every node has: membership, cluster, tokens, nodes. */
static void add_prefix(struct log *log, struct sim_world *world, uint32_t count)
{
    struct sched_command command = {.kind = SCHED_CLUSTER_INIT};

    add_membership(log, world, count);
    memset(command.u.cluster_init.cluster, 7, sizeof(command.u.cluster_init.cluster));
    command.u.cluster_init.lease_ms = world->tuning.lease_ms;
    sim_sched_spec(&world->nodes[0], &command.u.cluster_init.node);
    add_command(log, 1, &command);
    for (uint32_t i = 1; i < count; i++) {
        command = (struct sched_command){.kind = SCHED_TOKEN_CREATE};
        command.u.token_create.token[0] = (uint8_t)(i + 1);
        memset(command.u.token_create.secret_hash, (int)i + 1, SCHED_HASH_BYTES);
        command.u.token_create.ttl_ms = SCHED_TTL_MAX_MS;
        snprintf(command.u.token_create.by, sizeof(command.u.token_create.by), "sim");
        add_command(log, 1, &command);
        command = (struct sched_command){.kind = SCHED_NODE_JOIN};
        command.u.node_join.token[0] = (uint8_t)(i + 1);
        memset(command.u.node_join.secret_hash, (int)i + 1, SCHED_HASH_BYTES);
        sim_sched_spec(&world->nodes[i], &command.u.node_join.node);
        add_command(log, 1, &command);
    }
}

uint64_t sim_directed_logs(struct sim_world *world,
                           const uint8_t (*terms)[13],
                           uint32_t count,
                           uint64_t term)
{
    static struct log log; /* too large for a stack; a directed schedule runs alone */
    uint64_t first = 0;

    for (uint32_t i = 0; i < count; i++) {
        log.count = 0;
        add_prefix(&log, world, count);
        first = log.count + 1;
        for (uint32_t k = 0; k < 13 && terms[i][k] != 0; k++) {
            struct sched_command command = {.kind = SCHED_KV_SET};
            /* One leader per term wrote these: equal place and term, equal bytes. */
            uint64_t value = 1000 + 100 * (uint64_t)terms[i][k] + k;

            snprintf(command.u.kv.key, sizeof(command.u.kv.key), "k9");
            command.u.kv.value = shl_bytes_of(&value, sizeof(value));
            add_command(&log, terms[i][k], &command);
        }
        sim_raft_store(&world->nodes[i], term, log.entries, log.count);
        for (uint32_t k = 0; k < log.count; k++) {
            shl_buf_release(&log.bytes[k]);
        }
    }
    world->formed = true;
    return first;
}
