/* Sandboxes of a simulated node: records on its disk, admission, end. */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/node.h"
#include "sim/route.h"
#include "sim/world.h"

#define SPACE_SANDBOX 6 /* disk keys: by id */
#define ID_MASK       0x00ffffffffffffffu
#define REFUSED_MS    30000 /* longer than a request is under way */

void sim_sandbox_text(char dst[SCHED_ID_SIZE], uint64_t id)
{
    snprintf(dst, SCHED_ID_SIZE, "sb-%014llx", (unsigned long long)(id & ID_MASK));
}

uint64_t sim_sandbox_parse(const char *text)
{
    return strncmp(text, "sb-", 3) == 0 ? strtoull(text + 3, NULL, 16) : 0;
}

struct sim_sandbox *sim_sandbox_find(const struct sim_node *node, uint64_t id)
{
    for (uint32_t i = 0; i < node->sandbox_count; i++) {
        if (node->sandboxes[i].id == id) {
            return &node->sandboxes[i];
        }
    }
    return NULL;
}

struct sim_sandbox *sim_sandbox_add(struct sim_node *node, const struct sim_sandbox *sandbox)
{
    if (node->sandbox_count == SIM_SANDBOXES_MAX) {
        return NULL;
    }
    if (node->sandbox_count == node->sandbox_cap) {
        node->sandbox_cap = node->sandbox_cap ? node->sandbox_cap * 2 : 16;
        assert(node->sandbox_cap <= SIM_SANDBOXES_MAX);
        node->sandboxes = realloc(node->sandboxes, node->sandbox_cap * sizeof(*node->sandboxes));
        assert(node->sandboxes);
    }
    node->sandboxes[node->sandbox_count] = *sandbox;
    if (sandbox->status == SIM_SANDBOX_RUNNING || sandbox->status == SIM_SANDBOX_HIBERNATED) {
        node->committed_mb += sandbox->memory_mb;
    }
    return &node->sandboxes[node->sandbox_count++];
}

void sim_sandbox_load(struct sim_node *node)
{
    size_t i = sim_disk_lower(&node->disk, SIM_DISK_KEY(SPACE_SANDBOX, 0));
    size_t end = sim_disk_lower(&node->disk, SIM_DISK_KEY(SPACE_SANDBOX + 1, 0));

    for (; i < end; i++) {
        struct sim_sandbox sandbox = {0};

        memcpy(&sandbox, node->disk.map.items[i].data, offsetof(struct sim_sandbox, stored));
        sandbox.stored = true;
        (void)sim_sandbox_add(node, &sandbox);
    }
}

void sim_sandbox_put(struct sim_node *node, const struct sim_sandbox *sandbox)
{
    sim_disk_put(&node->disk, SIM_DISK_KEY(SPACE_SANDBOX, sandbox->id), sandbox,
                 offsetof(struct sim_sandbox, stored));
}

static bool is_marked(const struct sim_node *node)
{
    const struct sched_node *self = sched_state_node(node->state, &node->id);

    return self && (self->cordoned.on || self->draining.on);
}

/* Who was refused asks elsewhere. Others may still come with the same key, having read that it
 * is this node's: they must not be let in, though there is room again. */
static bool was_refused(const struct sim_node *node, uint64_t sandbox)
{
    for (uint32_t i = 0; i < SIM_REFUSED_MAX; i++) {
        if (node->refused[i].sandbox == sandbox &&
            sim_node_now_ms(node) < node->refused[i].until_ms) {
            return true;
        }
    }
    return false;
}

static void remember_refusal(struct sim_node *node, uint64_t sandbox)
{
    node->refused[node->refused_next].sandbox = sandbox;
    node->refused[node->refused_next].until_ms = sim_node_now_ms(node) + REFUSED_MS;
    node->refused_next = (node->refused_next + 1) % SIM_REFUSED_MAX;
}

void sim_sandbox_admit(struct sim_node *node, const struct sim_rpc *rpc, uint32_t peer)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, rpc->n[0]);
    struct sim_sandbox fresh = {.id = rpc->n[0],
                                .key = rpc->n[1],
                                .memory_mb = (uint32_t)rpc->n[2],
                                .status = SIM_SANDBOX_RUNNING,
                                .restore = rpc->n[3] != 0};

    if (sandbox && sandbox->status == SIM_SANDBOX_DELETED) {
        sim_route_reply(node, peer, rpc->req, SHL_EGONE, 0, NULL, (struct shl_bytes){0});
        return;
    }
    if (sandbox && sandbox->stored) {
        sim_route_reply(node, peer, rpc->req, 0, node->index + 1, NULL, (struct shl_bytes){0});
        return;
    }
    if (!sandbox) {
        /* The node has the last word: what it knows itself is newer than any view of it. */
        if (is_marked(node) || node->sandbox_count == SIM_SANDBOXES_MAX ||
            node->committed_mb + fresh.memory_mb > node->world->tuning.memory_mb ||
            was_refused(node, fresh.id)) {
            remember_refusal(node, fresh.id);
            sim_route_reply(node, peer, rpc->req, SHL_ENOCAPACITY, 0, NULL, (struct shl_bytes){0});
            return;
        }
        sandbox = sim_sandbox_add(node, &fresh);
    }
    sim_sandbox_put(node, sandbox);
    (void)sim_node_sync(
        node,
        (struct sim_sync){.kind = SIM_SYNC_ADMIT, .a = sandbox->id, .req = rpc->req, .peer = peer});
}

void sim_sandbox_kill(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, id);

    assert(sandbox);
    if (sandbox->status == SIM_SANDBOX_RUNNING || sandbox->status == SIM_SANDBOX_HIBERNATED) {
        sandbox->status = SIM_SANDBOX_DELETED;
        node->committed_mb -= sandbox->memory_mb;
    }
    sim_sandbox_put(node, sandbox);
    (void)sim_node_sync(
        node, (struct sim_sync){.kind = SIM_SYNC_KILL, .a = id, .req = req, .peer = peer});
}
