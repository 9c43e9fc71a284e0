#include "scheduler/claim.h"

#include <string.h>

#include "scheduler/mutate.h"

/* By its name where the cluster still knows it. */
static const char *name_of(const struct sched_state *state,
                           const struct shl_node_id *id,
                           char text[SHL_NODE_ID_TEXT_SIZE])
{
    const struct sched_node *node = sched_state_node(state, id);

    if (node) {
        return node->spec.name;
    }
    shl_node_id_format(text, id);
    return text;
}

static void never(struct sched_claim *ret, int code)
{
    ret->verdict = SCHED_CLAIM_NEVER;
    ret->err.code = code;
}

static bool may_run(const struct sched_state *state,
                    const struct shl_node_id *node,
                    struct sched_claim *ret)
{
    const struct sched_node *row = sched_state_node(state, node);

    if (!row) {
        never(ret,
              shl_err_set(&ret->err, SHL_EFORBIDDEN, "this node is not a member of the cluster"));
        return false;
    }
    if (row->spec.role == SCHED_ROLE_WITNESS) {
        never(ret, shl_err_set(&ret->err, SHL_EINVALIDARG,
                               "node \"%s\" is a witness and runs no sandboxes", row->spec.name));
        return false;
    }
    return true;
}

static void judge_held(const struct sched_state *state,
                       const struct sched_leases *leases,
                       const struct sched_owner *row,
                       uint64_t now_ms,
                       struct sched_claim *ret)
{
    char text[SHL_NODE_ID_TEXT_SIZE];
    const char *owner = name_of(state, &row->owner, text);

    if (!row->claimable) {
        never(ret, shl_err_set(&ret->err, SHL_EBADSTATE,
                               "sandbox %s comes back with its node \"%s\" only; when that is lost "
                               "for good remove it (shoal node rm --force), then recover",
                               row->sandbox, owner));
        return;
    }
    if (leases && sched_leases_lapsed(leases, &row->owner, now_ms)) {
        ret->verdict = SCHED_CLAIM_GO_LAPSED;
        ret->command.lapsed = true;
        return;
    }
    ret->verdict = SCHED_CLAIM_NOT_YET;
    if (leases && leases->leading) {
        ret->at_ms = sched_leases_lapses_at(leases, &row->owner);
    }
    (void)shl_err_set(&ret->err, SHL_EUNAVAILABLE,
                      "sandbox %s may still run on node \"%s\": it starts elsewhere when the lease "
                      "of that node has ended",
                      row->sandbox, owner);
}

void sched_claim_judge(const struct sched_state *state,
                       const struct sched_leases *leases,
                       const char *sandbox,
                       const struct shl_node_id *node,
                       uint64_t now_ms,
                       struct sched_claim *ret)
{
    const struct sched_owner *row = sched_state_owner(state, sandbox);

    memset(ret, 0, sizeof(*ret));
    if (sched_state_tombstone(state, SCHED_TOMBSTONE_SANDBOX, sandbox)) {
        never(ret, shl_err_set(&ret->err, SHL_EGONE, "sandbox %s was deleted", sandbox));
        return;
    }
    if (!row) {
        never(ret, shl_err_set(&ret->err, SHL_ENOTFOUND,
                               "sandbox %s has no copy on another node than the one that has it",
                               sandbox));
        return;
    }
    if (!may_run(state, node, ret)) {
        return;
    }
    memcpy(ret->command.sandbox, row->sandbox, sizeof(ret->command.sandbox));
    memcpy(ret->command.org, row->org, sizeof(ret->command.org));
    ret->command.owner = row->owner;
    ret->command.epoch = row->epoch;
    ret->command.new_owner = *node;
    if (row->released || shl_node_id_equal(&row->owner, node) ||
        !sched_state_node(state, &row->owner)) {
        ret->verdict = SCHED_CLAIM_GO;
        return;
    }
    judge_held(state, leases, row, now_ms, ret);
}

int sched_claim_stamp(const struct sched_leases *leases,
                      const struct shl_node_id *from,
                      uint64_t now_ms,
                      struct sched_command *command,
                      struct shl_err *err)
{
    struct sched_cmd_owner *c = &command->u.owner;
    const struct shl_node_id *speaker = NULL;

    if (command->kind == SCHED_OWNER_CLAIM) {
        speaker = &c->new_owner;
    } else if (command->kind == SCHED_OWNER_REGISTER || command->kind == SCHED_OWNER_RELEASE) {
        speaker = &c->owner;
    } else {
        return 0; /* a deletion may come through any node */
    }
    if (!shl_node_id_equal(speaker, from)) {
        return shl_err_set(err, SHL_EFORBIDDEN, "a node speaks for itself only");
    }
    if (!leases->leading) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "this node does not lead the cluster");
    }
    if (command->kind == SCHED_OWNER_CLAIM) {
        bool lapsed = sched_leases_lapsed(leases, &c->owner, now_ms);

        c->lapsed = lapsed || (c->lapsed && (leases->mutations & SCHED_MUT_CLAIM_BELIEVED));
    } else {
        c->lapsed = false;
    }
    return 0;
}
