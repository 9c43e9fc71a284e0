/* Log, leaders, replicated state. See sim/check.h. */
#include "sim/check.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/digest.h"
#include "sim/world.h"

void sim_check_init(struct sim_check *check)
{
    memset(check, 0, sizeof(*check));
}

void sim_check_release(struct sim_check *check)
{
    free(check->log);
    free(check->leaders);
    free(check->known);
    for (unsigned i = 0; i < SIM_REGISTERS; i++) {
        free(check->registers[i].seen);
    }
}

void sim_check_fail(struct sim_world *world, int invariant, const char *fmt, ...)
{
    struct sim_check *check = &world->check;
    va_list args;

    if (check->code) {
        return;
    }
    check->code = invariant;
    va_start(args, fmt);
    vsnprintf(check->text, sizeof(check->text), fmt, args);
    va_end(args);
    SIM_TRACE(world, -1, "VIOLATION of invariant %d: %s", invariant, check->text);
}

static struct sim_log_entry *entry_at(struct sim_check *check, uint64_t index)
{
    if (index >= check->log_cap) {
        size_t cap = check->log_cap ? check->log_cap : 256;

        while (cap <= index) {
            cap *= 2;
        }
        check->log = realloc(check->log, cap * sizeof(*check->log));
        assert(check->log);
        memset(&check->log[check->log_cap], 0, (cap - check->log_cap) * sizeof(*check->log));
        check->log_cap = cap;
    }
    return &check->log[index];
}

/*- 5, 8: leaders. */

/* Everything that was committed in earlier terms must be in the log of a new leader. */
static void check_complete(struct sim_node *node, uint64_t term)
{
    struct sim_check *check = &node->world->check;
    uint64_t last = sched_raft_last_index(node->raft);

    for (uint64_t i = check->last_index; i > 0; i--) {
        const struct sim_log_entry *known = entry_at(check, i);
        const struct sched_raft_entry *own = NULL;

        if (known->digest == 0 || known->commit_term >= term) {
            continue;
        }
        if (i > last) {
            sim_check_fail(node->world, 8, "n%u leads term %llu without entry %llu of term %llu",
                           node->index, (unsigned long long)term, (unsigned long long)i,
                           (unsigned long long)known->term);
            return;
        }
        own = sched_raft_entry_at(node->raft, i);
        if (!own) {
            return; /* in its snapshot, and all before it too */
        }
        if (own->term != known->term) {
            sim_check_fail(node->world, 8,
                           "n%u leads term %llu with entry %llu of term %llu, committed was one "
                           "of term %llu",
                           node->index, (unsigned long long)term, (unsigned long long)i,
                           (unsigned long long)own->term, (unsigned long long)known->term);
            return;
        }
        if (check->last_index - i > 64) {
            return; /* equal here: equal before, by the log matching that 6 checks */
        }
    }
}

static void check_leader(struct sim_node *node)
{
    struct sim_check *check = &node->world->check;
    struct sim_node_view *view = &check->views[node->index];
    uint64_t term = sched_raft_term(node->raft);

    if (view->led_term == term) {
        return;
    }
    view->led_term = term;
    check->elections++;
    for (size_t i = check->leader_count; i > 0; i--) {
        const struct sim_term_leader *leader = &check->leaders[i - 1];

        if (leader->term == term) {
            sim_check_fail(node->world, 5, "n%u and n%u both lead term %llu", leader->slot,
                           node->index, (unsigned long long)term);
            return;
        }
    }
    if (check->leader_count == check->leader_cap) {
        check->leader_cap = check->leader_cap ? check->leader_cap * 2 : 16;
        check->leaders = realloc(check->leaders, check->leader_cap * sizeof(*check->leaders));
        assert(check->leaders);
    }
    check->leaders[check->leader_count++] =
        (struct sim_term_leader){.term = term, .slot = node->index, .boot = node->boot};
    check_complete(node, term);
}

void sim_check_raft(struct sim_node *node)
{
    struct sim_node_view *view = &node->world->check.views[node->index];
    uint64_t commit = sched_raft_commit(node->raft);
    const char *wrong = sched_raft_check_quick(node->raft);

    if (wrong) {
        sim_check_fail(node->world, 6, "n%u: raft is inconsistent: %s", node->index, wrong);
    }
    if (commit < view->commit) {
        sim_check_fail(node->world, 8, "n%u: commit index went back from %llu to %llu", node->index,
                       (unsigned long long)view->commit, (unsigned long long)commit);
    }
    view->commit = commit;
    if (sched_raft_applied(node->raft) > commit) {
        sim_check_fail(node->world, 8, "n%u applied more than is committed", node->index);
    }
    if (sched_raft_role(node->raft) == SCHED_RAFT_LEADER) {
        struct sched_raft_status status;

        check_leader(node);
        sched_raft_status(node->raft, &status);
        if (status.peers_forgot > 0 && !node->world->check.disk_changed) {
            sim_check_fail(node->world, 7, "a member denies to n%u what it had said to have stored",
                           node->index);
        }
    }
}

void sim_check_boot(struct sim_node *node)
{
    struct sim_node_view *view = &node->world->check.views[node->index];

    view->boot = node->boot;
    view->commit = 0;
    view->applied = 0;
    view->led_term = 0;
}

/* As many live voters as a majority of the result needs, if there were enough before. */
void sim_check_voters(struct sim_node *node,
                      const struct sched_voters_input *input,
                      const struct sched_voters_change *change)
{
    uint32_t voters[2] = {0};
    uint32_t alive[2] = {0};

    for (uint32_t i = 0; i < input->count; i++) {
        const struct sched_voters_node *v = &input->nodes[i];
        bool after = v->voter;

        if (shl_node_id_equal(&v->id, &change->node)) {
            after = change->op == SCHED_VOTERS_PROMOTE ||
                    (v->voter && change->op != SCHED_VOTERS_DEMOTE &&
                     change->op != SCHED_VOTERS_REMOVE);
        }
        voters[0] += v->voter;
        alive[0] += v->voter && v->alive;
        voters[1] += after;
        alive[1] += after && v->alive;
    }
    if (alive[0] > voters[0] / 2 && alive[1] <= voters[1] / 2) {
        sim_check_fail(node->world, 8, "n%u leaves %u live voters of %u", node->index, alive[1],
                       voters[1]);
    }
}

/*- 4, 6: what is applied. */

static uint64_t digest_of(const struct sched_raft_entry *entry)
{
    uint64_t digest = SIM_DIGEST_BEGIN;

    digest = sim_digest_u64(digest, entry->term);
    digest = sim_digest_u64(digest, entry->type);
    digest = sim_digest_bytes(digest, entry->data.base, entry->data.len);
    return digest ? digest : 1;
}

static struct sim_register *register_of(struct sim_check *check, bool name, const char *text)
{
    uint64_t key = strtoull(text + (name ? 4 : 1), NULL, 10);

    return key < SIM_KEYS ? &check->registers[key + (name ? SIM_KEYS : 0)] : NULL;
}

static void on_name(struct sim_node *node,
                    struct sim_log_entry *known,
                    const struct sched_command *command,
                    const struct sched_result *result)
{
    struct sim_check *check = &node->world->check;
    const struct sched_cmd_name *name = &command->u.name;
    struct sim_register *reg = NULL;

    if (name->kind != SCHED_NAME_SNAPSHOT) {
        return;
    }
    reg = register_of(check, true, name->name);
    if (!reg) {
        return;
    }
    known->key = (uint64_t)(reg - check->registers) - SIM_KEYS;
    memcpy(&known->value, name->value.base, sizeof(known->value));
    if (command->kind == SCHED_NAME_RELEASE) {
        if (result->existed) {
            reg->holder = 0;
            reg->released = result->index;
        }
        return;
    }
    if (reg->holder && reg->holder != known->value) {
        sim_check_fail(node->world, 4, "name%llu is given to %llu while %llu has it (entry %llu)",
                       (unsigned long long)known->key, (unsigned long long)known->value,
                       (unsigned long long)reg->holder, (unsigned long long)result->index);
    }
    reg->holder = known->value;
}

static void on_join(struct sim_node *node, const struct sched_command *command)
{
    struct sim_world *world = node->world;
    const struct sched_cmd_node_join *join = &command->u.node_join;
    int slot = sim_world_find(world, &join->node.id);
    uint8_t token = join->token[0];

    if (slot < 0) {
        return;
    }
    if (world->check.views[slot].admitted && !world->nodes[slot].removed) {
        return; /* asked again: a member it is, whatever becomes of its token */
    }
    world->check.views[slot].admitted = true;
    if (world->nodes[slot].removed) {
        sim_check_fail(world, 15, "n%d was removed and is admitted again", slot);
    }
    if (world->check.tokens[token] && world->check.tokens[token] != (uint64_t)slot + 1) {
        sim_check_fail(world, 15, "token %u admits n%d after n%llu", token, slot,
                       (unsigned long long)world->check.tokens[token] - 1);
    }
    world->check.tokens[token] = (uint64_t)slot + 1;
}

/* First time that anybody applies this entry. */
static void on_first(struct sim_node *node,
                     struct sim_log_entry *known,
                     const struct sched_command *command,
                     const struct sched_result *result)
{
    struct sim_world *world = node->world;
    int slot = -1;

    known->kind = command->kind;
    known->ok = result->err.code == 0;
    if (!known->ok) {
        return;
    }
    switch (command->kind) {
    case SCHED_CLUSTER_INIT:
        world->formed = true;
        break;
    case SCHED_NAME_CLAIM:
    case SCHED_NAME_RELEASE:
        on_name(node, known, command, result);
        break;
    case SCHED_KV_SET:
        known->key = strtoull(command->u.kv.key + 1, NULL, 10);
        memcpy(&known->value, command->u.kv.value.base, sizeof(known->value));
        break;
    case SCHED_NODE_JOIN:
        on_join(node, command);
        break;
    case SCHED_NODE_REMOVE:
        slot = sim_world_find(world, &command->u.node_remove.node);
        if (slot >= 0) {
            SIM_TRACE(world, slot, "is removed from the cluster by entry %llu",
                      (unsigned long long)result->index);
            world->nodes[slot].gone = true;
            world->nodes[slot].gone_us = world->now_us;
            world->nodes[slot].removed = true;
        }
        break;
    case SCHED_CHECKPOINT_DELETE:
        sim_check_deleted(node, command->u.checkpoint_delete.id);
        break;
    case SCHED_OWNER_REGISTER:
    case SCHED_OWNER_CLAIM:
        sim_check_owner(node, command, result);
        break;
    default:
        break;
    }
}

void sim_check_applied(struct sim_node *node,
                       const struct sched_raft_entry *entry,
                       const struct sched_command *command,
                       const struct sched_result *result)
{
    struct sim_check *check = &node->world->check;
    struct sim_node_view *view = &check->views[node->index];
    struct sim_log_entry *known = entry_at(check, entry->index);
    uint64_t digest = digest_of(entry);
    uint64_t state = sched_state_digest(node->state);

    if (entry->index != view->applied + 1) {
        sim_check_fail(node->world, 6, "n%u applies entry %llu after %llu", node->index,
                       (unsigned long long)entry->index, (unsigned long long)view->applied);
    }
    view->applied = entry->index;
    if (known->digest == 0) {
        *known = (struct sim_log_entry){.digest = digest,
                                        .term = entry->term,
                                        .commit_term = sched_raft_term(node->raft),
                                        .state_digest = state,
                                        .at_us = node->world->now_us};
        check->last_index = SHL_MAX(check->last_index, entry->index);
        if (command) {
            on_first(node, known, command, result);
        }
        return;
    }
    if (known->digest != digest) {
        sim_check_fail(node->world, 6,
                       "n%u applies another entry %llu (term %llu) than was applied before "
                       "(term %llu)",
                       node->index, (unsigned long long)entry->index,
                       (unsigned long long)entry->term, (unsigned long long)known->term);
    } else if (known->state_digest != state) {
        sim_check_fail(node->world, 6, "n%u: the state after entry %llu differs from others'",
                       node->index, (unsigned long long)entry->index);
    }
}

void sim_check_installed(struct sim_node *node, uint64_t index)
{
    struct sim_check *check = &node->world->check;
    uint64_t at = sched_state_index(node->state);

    check->views[node->index].applied = index;
    if (index == 0) {
        return;
    }
    if (at > index || (at > 0 && entry_at(check, index)->state_digest &&
                       entry_at(check, index)->state_digest != sched_state_digest(node->state))) {
        sim_check_fail(node->world, 6, "n%u: the snapshot of entry %llu differs from the state",
                       node->index, (unsigned long long)index);
    }
}

/*- Now and then. */

void sim_check_second(struct sim_world *world)
{
    struct sim_node *node = &world->nodes[world->now_us / SIM_SECOND % world->node_count];
    const char *wrong = NULL;

    if (!node->up) {
        return;
    }
    wrong = sched_raft_check(node->raft);
    if (wrong) {
        sim_check_fail(world, 6, "n%u: raft is inconsistent: %s", node->index, wrong);
    }
    if (sched_state_digest(node->state) != sched_state_digest_slow(node->state)) {
        sim_check_fail(world, 6, "n%u: the running digest of the state is wrong", node->index);
    }
}
