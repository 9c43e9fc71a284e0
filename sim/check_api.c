/* What clients and owners of sandboxes see. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/check.h"
#include "sim/world.h"

typedef unsigned long long ull;

static struct sim_known *known_of(struct sim_check *check, uint64_t id)
{
    for (size_t i = check->known_count; i > 0; i--) {
        if (check->known[i - 1].id == id) {
            return &check->known[i - 1];
        }
    }
    return NULL;
}

struct sim_known *sim_check_known(struct sim_check *check, uint64_t id)
{
    struct sim_known *known = known_of(check, id);

    if (known) {
        return known;
    }
    if (check->known_count == check->known_cap) {
        check->known_cap = check->known_cap ? check->known_cap * 2 : 64;
        check->known = realloc(check->known, check->known_cap * sizeof(*check->known));
        assert(check->known);
    }
    known = &check->known[check->known_count++];
    *known = (struct sim_known){.id = id};
    return known;
}

/*- 16, 17: placement. */

void sim_check_placed(struct sim_node *placer, uint32_t target, const struct sched_view *view)
{
    const struct sched_node *row =
        sched_state_node(placer->state, &placer->world->nodes[target].id);
    struct sched_amount reserved = sched_reserves_sum(&placer->place.reserves, &view->id);

    if (row && (row->cordoned.on || row->draining.on)) {
        sim_check_fail(placer->world, 17,
                       "n%u places on n%u, which is %s by entry %llu that it has applied",
                       placer->index, target, row->draining.on ? "draining" : "cordoned",
                       (ull)(row->draining.on ? row->draining.index : row->cordoned.index));
    }
    if (row && row->spec.role == SCHED_ROLE_WITNESS) {
        sim_check_fail(placer->world, 17, "n%u places on n%u, a witness", placer->index, target);
    }
    if (view->committed.memory_mb + reserved.memory_mb > view->capacity.memory_mb) {
        sim_check_fail(placer->world, 16, "n%u promises %llu MB on n%u, which has %llu",
                       placer->index, (ull)(view->committed.memory_mb + reserved.memory_mb), target,
                       (ull)view->capacity.memory_mb);
    }
}

void sim_check_admitted(struct sim_node *node)
{
    if (node->committed_mb > node->world->tuning.memory_mb) {
        sim_check_fail(node->world, 16, "n%u holds %llu MB of %u", node->index,
                       (ull)node->committed_mb, node->world->tuning.memory_mb);
    }
}

/*- 7, 9, 15, 22: answers. */

static struct sim_register *register_of(struct sim_world *world, const struct sim_op *op)
{
    bool name = op->kind == SIM_OP_NAME_CLAIM || op->kind == SIM_OP_NAME_RELEASE ||
                op->kind == SIM_OP_NAME_GET;

    return &world->check.registers[op->key + (name ? SIM_KEYS : 0)];
}

static void remember(struct sim_register *reg, const struct sim_op *op)
{
    uint64_t before = reg->count ? reg->seen[reg->count - 1].index : 0;

    if (op->index == 0 || op->index <= before) {
        return;
    }
    if (reg->count == reg->cap) {
        reg->cap = reg->cap ? reg->cap * 2 : 32;
        reg->seen = realloc(reg->seen, reg->cap * sizeof(*reg->seen));
        assert(reg->seen);
    }
    reg->seen[reg->count++] = (struct sim_seen){.at_us = op->ended_us, .index = op->index};
}

/* Highest index that somebody was told of before @at_us. */
static uint64_t told_before(const struct sim_register *reg, uint64_t at_us)
{
    for (size_t i = reg->count; i > 0; i--) {
        if (reg->seen[i - 1].at_us < at_us) {
            return reg->seen[i - 1].index;
        }
    }
    return 0;
}

/* The order of all writes is the log, so a history of reads and writes with their
 * indices is linearizable exactly when every read returns what the log has at its index
 * and nothing older than what was told before it began. */
static void check_read(struct sim_world *world, const struct sim_op *op)
{
    struct sim_check *check = &world->check;
    struct sim_register *reg = register_of(world, op);
    uint64_t told = told_before(reg, op->begun_us);
    uint32_t kind = op->kind == SIM_OP_KV_GET ? SCHED_KV_SET : SCHED_NAME_CLAIM;

    if (op->index == 0) {
        if (told > 0 && !(op->kind == SIM_OP_NAME_GET && reg->released >= told)) {
            sim_check_fail(world, 9, "%s of key %llu finds nothing, entry %llu was told before",
                           sim_op_name(op->kind), (ull)op->key, (ull)told);
        }
        return;
    }
    if (op->index < told) {
        sim_check_fail(world, 9, "%s of key %llu returns entry %llu, %llu was told before",
                       sim_op_name(op->kind), (ull)op->key, (ull)op->index, (ull)told);
    } else if (op->index > check->last_index || check->log[op->index].kind != kind ||
               check->log[op->index].key != op->key || check->log[op->index].value != op->value) {
        sim_check_fail(world, 9, "%s of key %llu returns what entry %llu did not write",
                       sim_op_name(op->kind), (ull)op->key, (ull)op->index);
    }
    remember(reg, op);
}

static void check_write(struct sim_world *world, const struct sim_op *op)
{
    struct sim_check *check = &world->check;
    uint64_t i = op->index;

    if (i == 0) {
        return;
    }
    if (i > check->last_index || check->log[i].digest == 0 || !check->log[i].ok) {
        sim_check_fail(world, 7, "%s was acknowledged as entry %llu, which nobody applied",
                       sim_op_name(op->kind), (ull)i);
    } else if (op->kind == SIM_OP_KV_SET || op->kind == SIM_OP_NAME_CLAIM) {
        if (check->log[i].key != op->key || check->log[i].value != op->value) {
            sim_check_fail(world, 7, "%s was acknowledged as entry %llu, which is another one",
                           sim_op_name(op->kind), (ull)i);
        }
    }
    if (op->kind == SIM_OP_KV_SET || op->kind == SIM_OP_NAME_CLAIM ||
        op->kind == SIM_OP_NAME_RELEASE) {
        remember(register_of(world, op), op);
    }
}

static void check_create(struct sim_world *world, const struct sim_op *op)
{
    struct sim_check *check = &world->check;
    struct sim_known *known = NULL;

    for (size_t i = 0; op->key && i < check->known_count; i++) {
        if (check->known[i].key == op->key && check->known[i].id != op->sandbox &&
            !world->nodes[check->known[i].owner].gone) {
            sim_check_fail(world, 22, "key %llu made two sandboxes, on n%u and n%u", (ull)op->key,
                           check->known[i].owner, op->owner);
        }
    }
    known = sim_check_known(check, op->sandbox);
    known->key = op->key;
    known->owner = op->owner;
    if (known->made_us == 0) {
        known->made_us = op->ended_us;
    }
}

static bool may_be_lost(const struct sim_world *world, const struct sim_known *known)
{
    return world->nodes[known->owner].gone ||
           (known->epoch > 0 && world->nodes[known->epoch_owner].gone);
}

static void check_get(struct sim_world *world, const struct sim_op *op)
{
    const struct sim_known *known = known_of(&world->check, op->sandbox);

    if (!known || known->made_us == 0) {
        return;
    }
    if (op->state == SIM_OP_DONE && known->killed_us && known->killed_us < op->begun_us) {
        sim_check_fail(world, 15, "a sandbox answers that was killed on n%u", known->owner);
    } else if (op->state == SIM_OP_REFUSED && op->code == SHL_EGONE && known->kill_us == 0) {
        sim_check_fail(world, 7, "a sandbox of n%u is gone, and nobody killed it", known->owner);
    } else if (op->probe && op->state != SIM_OP_DONE && known->kill_us == 0 &&
               !may_be_lost(world, known) && !sim_check_is_asleep(world, op->sandbox)) {
        sim_check_fail(world, 22, "n%u does not find a sandbox of n%u: %s", op->entry, known->owner,
                       shl_err_name(op->code));
    }
    if (op->hops > SIM_HOPS_MAX) {
        sim_check_fail(world, 22, "a call was forwarded %u times", op->hops);
    }
}

static void check_kill(struct sim_world *world, const struct sim_op *op)
{
    /* A deletion by the log reaches the former owner a little later: by the end of its lease. */
    uint64_t late_us = op->kind == SIM_OP_DELETE ? 2000ull * world->tuning.lease_ms : 0;

    struct sim_known *known = known_of(&world->check, op->sandbox);

    if (!known) {
        return;
    }
    if (known->kill_us == 0) {
        known->kill_us = op->begun_us ? op->begun_us : 1;
    }
    if (op->state == SIM_OP_DONE && known->killed_us == 0) {
        known->killed_us = op->ended_us + late_us;
    }
}

void sim_check_begun(struct sim_world *world, const struct sim_op *op)
{
    struct sim_known *known = op->kind == SIM_OP_KILL || op->kind == SIM_OP_DELETE
                                  ? known_of(&world->check, op->sandbox)
                                  : NULL;

    if (known && known->kill_us == 0) {
        known->kill_us = op->begun_us ? op->begun_us : 1;
    }
}

void sim_check_answer(struct sim_world *world, const struct sim_op *op)
{
    bool done = op->state == SIM_OP_DONE;

    switch (op->kind) {
    case SIM_OP_CREATE:
        if (done) {
            check_create(world, op);
        }
        return;
    case SIM_OP_GET:
        check_get(world, op);
        return;
    case SIM_OP_KILL:
    case SIM_OP_DELETE:
        check_kill(world, op);
        return;
    case SIM_OP_WAKE:
        sim_check_wake(world, op);
        return;
    case SIM_OP_HIBERNATE:
        return;
    case SIM_OP_NAME_GET:
    case SIM_OP_KV_GET:
        if (done) {
            check_read(world, op);
        } else if (op->probe) {
            sim_check_fail(world, 21, "%s is not answered by a whole cluster",
                           sim_op_name(op->kind));
        }
        return;
    case SIM_OP_NAME_CLAIM:
    case SIM_OP_NAME_RELEASE:
    case SIM_OP_KV_SET:
    case SIM_OP_CORDON:
    case SIM_OP_DRAIN:
    case SIM_OP_UNMARK:
    case SIM_OP_REMOVE:
        if (done) {
            check_write(world, op);
        }
        return;
    case SIM_OP_KINDS:
        return;
    }
}

/*- At the end. */

static void check_twins(struct sim_world *world, const struct sim_node *a, uint32_t i)
{
    const struct sim_sandbox *one = &a->sandboxes[i];

    for (uint32_t slot = a->index; slot < world->node_count; slot++) {
        const struct sim_node *b = &world->nodes[slot];

        if (!b->up || b->gone) {
            continue;
        }
        for (uint32_t k = slot == a->index ? i + 1 : 0; k < b->sandbox_count; k++) {
            const struct sim_sandbox *two = &b->sandboxes[k];

            if (two->status != SIM_SANDBOX_RUNNING) {
                continue;
            }
            if (two->id == one->id) {
                sim_check_fail(world, 2, "n%u and n%u both run one sandbox", a->index, slot);
            } else if (one->key && one->key == two->key) {
                sim_check_fail(world, 22, "key %llu has two sandboxes, on n%u and n%u",
                               (ull)one->key, a->index, slot);
            }
        }
    }
}

void sim_check_end(struct sim_world *world)
{
    sim_check_vms_end(world);
    for (uint32_t slot = 0; slot < world->node_count; slot++) {
        const struct sim_node *node = &world->nodes[slot];

        for (uint32_t i = 0; node->up && !node->gone && i < node->sandbox_count; i++) {
            if (node->sandboxes[i].status == SIM_SANDBOX_RUNNING) {
                check_twins(world, node, i);
            }
        }
    }
}
