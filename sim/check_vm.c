/* Who executes what, and from where: the witness of all VMs. */
#include <stdio.h>

#include "sim/check.h"
#include "sim/hold.h"
#include "sim/world.h"

typedef unsigned long long ull;

/*- 2: never in two places. Execution only begins with a start, a pause that ends, or a deadline
 * that moves, so these are the moments to look at. */

/* What an operator removed by force is vouched for: he says that it runs no more. */
static bool is_vouched_for(const struct sim_node *node)
{
    return node->removed;
}

void sim_check_vm(struct sim_node *node, const struct sim_vm *vm)
{
    struct sim_world *world = node->world;

    if (!sim_vm_executes(node, vm) || is_vouched_for(node)) {
        return;
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_node *other = &world->nodes[i];
        const struct sim_vm *twin = i == node->index ? NULL : sim_vm_find(other, vm->id);

        if (twin && !is_vouched_for(other) && sim_vm_executes(other, twin)) {
            sim_check_fail(world, 2, "n%u and n%u execute sandbox %llx at the same time",
                           node->index, i, (ull)vm->id);
        }
    }
}

/*- 10: what is durable. */

void sim_check_durable(struct sim_node *node, uint64_t id, uint64_t count)
{
    struct sim_known *known = sim_check_known(&node->world->check, id);

    SIM_TRACE(node->world, node->index, "tells that %llx is durable up to %llu", (ull)id,
              (ull)count);
    node->world->check.points++;
    known->durable = SHL_MAX(known->durable, count);
}

void sim_check_vm_from(struct sim_node *node, uint64_t id, uint64_t count)
{
    struct sim_known *known = sim_check_known(&node->world->check, id);
    const struct sim_sandbox *sandbox = sim_sandbox_find(node, id);

    node->world->check.starts++;
    if (sandbox && sandbox->epoch > known->from_epoch && !is_vouched_for(node)) {
        known->from_epoch = sandbox->epoch;
        known->from_count = count;
    }
    if (count < known->durable && !is_vouched_for(node)) {
        sim_check_fail(node->world, 10,
                       "n%u starts sandbox %llx from %llu, %llu was told to be durable",
                       node->index, (ull)id, (ull)count, (ull)known->durable);
    }
}

/*- 1, 3: what the log says of owners. */

void sim_check_owner(struct sim_node *node,
                     const struct sched_command *command,
                     const struct sched_result *result)
{
    struct sim_world *world = node->world;
    const struct sched_cmd_owner *owner = &command->u.owner;
    uint64_t id = sim_sandbox_parse(owner->sandbox);
    struct sim_known *known = sim_check_known(&world->check, id);

    if (result->number < known->epoch) {
        sim_check_fail(world, 1, "epoch of %s goes back from %llu to %llu", owner->sandbox,
                       (ull)known->epoch, (ull)result->number);
    }
    if (command->kind != SCHED_OWNER_CLAIM) {
        known->epoch_owner = (uint32_t)sim_world_find(world, &owner->owner);
        known->epoch = result->number;
        return;
    }
    world->check.claims += !result->existed;
    world->check.lapsed += !result->existed && owner->lapsed;
    for (uint32_t i = 0; i < world->node_count && !result->existed; i++) {
        const struct sim_node *old = &world->nodes[i];
        const struct sim_vm *vm = sim_vm_find(old, id);

        if (vm && !shl_node_id_equal(&old->id, &owner->new_owner) && !is_vouched_for(old) &&
            sim_vm_executes(old, vm)) {
            sim_check_fail(world, 3, "%s is given away while n%u runs it", owner->sandbox, i);
        }
    }
    known->epoch_owner = (uint32_t)sim_world_find(world, &owner->new_owner);
    known->epoch = result->number;
}

/* Everything works again, and somebody has a copy: what is durable wakes, unless it runs
 * somewhere, or its node is lost and it was not to be started elsewhere. */
static bool must_wake(const struct sim_world *world,
                      const struct sim_known *known,
                      const struct sim_node *entry)
{
    const struct sched_owner *row = NULL;
    struct sim_point point, newest;
    char text[SCHED_ID_SIZE];
    bool has_copy = false;

    if (known->durable == 0 || known->kill_us || !entry->up || entry->gone ||
        entry->role == SCHED_ROLE_WITNESS) {
        return false;
    }
    sim_sandbox_text(text, known->id);
    row = sched_state_owner(entry->state, text);
    if (!row || sched_state_tombstone(entry->state, SCHED_TOMBSTONE_SANDBOX, text)) {
        return false;
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_vm *vm = sim_vm_find(&world->nodes[i], known->id);

        if (vm && !world->nodes[i].gone) {
            return false;
        }
    }
    sim_copy_choose(entry, known->id, NULL, &point, &newest);
    for (uint32_t i = 0; i < point.holder_count; i++) {
        has_copy =
            has_copy || (world->nodes[point.holders[i]].up && !world->nodes[point.holders[i]].gone);
    }
    return has_copy &&
           (row->released || row->claimable || shl_node_id_equal(&row->owner, &entry->id) ||
            !sched_state_node(entry->state, &row->owner));
}

bool sim_check_is_asleep(struct sim_world *world, uint64_t id)
{
    const struct sim_known *known = sim_check_known(&world->check, id);

    for (uint32_t i = 0; i < world->node_count; i++) {
        if (!world->nodes[i].gone && sim_vm_find(&world->nodes[i], id)) {
            return false;
        }
    }
    return known->durable > 0 && known->kill_us == 0;
}

void sim_check_wake(struct sim_world *world, const struct sim_op *op)
{
    const struct sim_known *known = sim_check_known(&world->check, op->sandbox);

    world->check.wakes += op->state == SIM_OP_DONE;
    if (op->probe && op->state != SIM_OP_DONE &&
        must_wake(world, known, &world->nodes[op->entry])) {
        sim_check_fail(world, 10, "n%u does not wake sandbox %llx: %s", op->entry, (ull)op->sandbox,
                       shl_err_name(op->code));
    }
}

/*- At the end. */

static void check_one(struct sim_world *world, const struct sim_known *known)
{
    uint32_t records = 0;

    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_node *node = &world->nodes[i];
        const struct sim_sandbox *sandbox = node->up ? sim_sandbox_find(node, known->id) : NULL;

        if (node->gone || !sandbox ||
            (sandbox->status != SIM_SANDBOX_RUNNING && sandbox->status != SIM_SANDBOX_HIBERNATED)) {
            continue;
        }
        records += !sandbox->copy;
        if (known->killed_us && known->killed_us < world->now_us && !sandbox->copy) {
            sim_check_fail(world, 15, "n%u keeps sandbox %llx, which was deleted", i,
                           (ull)known->id);
        }
    }
    if (records > 1) {
        sim_check_fail(world, 1, "%u nodes keep sandbox %llx in the end", records, (ull)known->id);
    }
}

void sim_check_vms_end(struct sim_world *world)
{
    for (size_t i = 0; i < world->check.known_count; i++) {
        check_one(world, &world->check.known[i]);
    }
}
