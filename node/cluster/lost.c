/* Sandboxes that do not come back by themselves, and those that this node itself has lost.
 *
 * A running sandbox without onNodeLoss "restore" is its node's alone, which may run it whatever
 * the others see of it. So when that node is lost the sandbox is an error until the node is back,
 * or until somebody vouches that it will not come back (shoal node rm) and asks for it: op
 * recover. It then goes on from the newest thing that was kept of it, which the answer names.
 *
 * A node that comes back without the VMs it had (its machine was restarted) has the record of each
 * as an error that was not the sandbox's fault ("lost"). Those with "restore" come back from their
 * newest save, by a claim of the node to itself; the others when they are recovered. One that ended
 * otherwise leaves the log, so that nobody brings it back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/owners_private.h"
#include "node/cluster/replicas.h"

#define LOOK_MS  1000
#define RETRY_MS 5000
#define AT_ONCE  8
#define HEAR_MS  15000 /* after the start: who was not heard of until then is lost */

/*- How a node is. */

enum cluster_standing_of cluster_node_standing(const struct cluster *c,
                                               const struct shl_node_id *id)
{
    const struct gossip_member *member = c->gossip ? gossip_member_find(c->gossip, id) : NULL;
    uint64_t now_ms = cluster_now_ms();
    enum gossip_life life = member ? member->life : GOSSIP_UNHEARD;

    if (shl_node_id_equal(id, &c->keys.id) || cluster_members_is_live(c, id)) {
        return CLUSTER_NODE_LIVE;
    }
    if (!sched_state_node(c->state, id)) {
        return CLUSTER_NODE_LOST; /* removed */
    }
    if (life == GOSSIP_LEFT && now_ms - member->since_ms < CLUSTER_RESTART_MS) {
        return CLUSTER_NODE_AWAY;
    }
    if (life == GOSSIP_UNHEARD && now_ms - c->opened_at_ms < cluster_patience_ms(c, HEAR_MS)) {
        return CLUSTER_NODE_AWAY;
    }
    return CLUSTER_NODE_LOST;
}

/*- What people read. */

static int64_t age_s(const struct cluster *c, const struct sched_checkpoint *kept)
{
    uint64_t now_ms = sched_state_time_ms(c->state);

    return now_ms > kept->created_at_ms ? (int64_t)(now_ms - kept->created_at_ms) / 1000 : 0;
}

void cluster_lost_answer(const struct cluster *c,
                         const char *sandbox,
                         const struct shl_node_id *owner,
                         struct node_answer *ret)
{
    const struct sched_node *node = sched_state_node(c->state, owner);
    const struct sched_checkpoint *kept =
        sched_state_owner(c->state, sandbox) ? cluster_sandbox_kept(c, sandbox) : NULL;
    const char *name = cluster_node_name(c, owner);

    *ret = (struct node_answer){.code = SHL_EUNAVAILABLE, .is_lost = true};
    if (!kept) {
        (void)snprintf(
            ret->msg, sizeof(ret->msg),
            "its node %.63s is lost, and there is no copy of it on another one: it comes "
            "back with that node only",
            name);
    } else if (node && !shl_node_id_equal(owner, &c->keys.id)) {
        (void)snprintf(
            ret->msg, sizeof(ret->msg),
            "its node %.40s is lost: it comes back with it; or remove that node for good "
            "(shoal node rm), then recover it from %.36s, %lld s old",
            name, kept->id, (long long)age_s(c, kept));
    } else {
        (void)snprintf(ret->msg, sizeof(ret->msg),
                       "what ran of it is lost with its node: recover it (shoal recover) from "
                       "%.36s, %lld s old",
                       kept->id, (long long)age_s(c, kept));
    }
}

/*- Op recover. */

struct recovering {
    struct cluster_job job;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    struct node_recovery found;
    node_recovery_cb cb;
    void *arg;
};

static void answer(struct recovering *r, int code, const char *msg)
{
    r->found.code = code;
    (void)snprintf(r->found.msg, sizeof(r->found.msg), "%s", code < 0 ? msg : "");
    r->cb(r->arg, &r->found);
    cluster_job_end(&r->job);
    free(r);
}

static void on_woken(void *arg, int code, const char *msg)
{
    answer(arg, code, msg);
}

static void on_taken(void *arg, int code, const char *msg)
{
    struct recovering *r = arg;
    struct cluster *c = r->job.cluster;
    struct node_sandbox *sandbox = c ? node_manager_find(c->manager, NULL, r->sandbox) : NULL;

    if (code == 0 && sandbox) {
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "sandbox_recovered", SHL_S("sandbox", r->sandbox),
                SHL_S("from", r->found.checkpoint), SHL_S("on", c->name));
        node_manager_wake(c->manager, sandbox, NULL, on_woken, r);
    } else {
        answer(r, code < 0 ? code : SHL_EUNAVAILABLE, code < 0 ? msg : "it went elsewhere");
    }
}

static bool is_running_elsewhere(const struct cluster *c, const struct sched_owner *row)
{
    return row && !row->released && !shl_node_id_equal(&row->owner, &c->keys.id) &&
           cluster_members_is_live(c, &row->owner);
}

/* 0, or why it cannot be recovered here now. */
static int may_recover(const struct cluster *c,
                       const char *org,
                       const char *id,
                       struct shl_err *err)
{
    const struct node_sandbox *sandbox = node_manager_find(c->manager, org, id);
    const struct sched_owner *row = sched_state_owner(c->state, id);

    if (sandbox && sandbox->state == NODE_SANDBOX_ERROR && !sandbox->lost) {
        return shl_err_set(err, SHL_EBADSTATE,
                           "the sandbox ended by itself (%.100s): fork one of its checkpoints",
                           sandbox->reason);
    }
    if (sandbox && sandbox->state != NODE_SANDBOX_ERROR) {
        return shl_err_set(err, SHL_EBADSTATE, "the sandbox is %s: there is nothing to recover",
                           node_sandbox_status(sandbox));
    }
    if (!sandbox && (!row || (org && strcmp(row->org, org) != 0))) {
        return shl_err_set(err, SHL_ENOTFOUND, "sandbox not found");
    }
    if (is_running_elsewhere(c, row)) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the sandbox is on another node, try again");
    }
    return 0;
}

static const struct sched_checkpoint *comes_back_from(struct cluster *c, const char *sandbox)
{
    const struct sched_owner *row = sched_state_owner(c->state, sandbox);
    char newest[NODE_CHECKPOINT_ID_SIZE];

    if (row && (row->released || row->claimable)) {
        take_newest(c, sandbox, newest);
        return sched_state_checkpoint(c->state, newest);
    }
    return cluster_sandbox_kept(c, sandbox);
}

static int refuse(struct node_recovery *ret, const struct shl_err *err)
{
    *ret = (struct node_recovery){.code = err->code};
    (void)snprintf(ret->msg, sizeof(ret->msg), "%s", err->msg);
    return 1;
}

int cluster_recover(struct cluster *c,
                    const char *org,
                    const char *sandbox,
                    struct node_recovery *ret,
                    node_recovery_cb cb,
                    void *arg)
{
    const struct sched_checkpoint *from;
    struct recovering *r;
    struct shl_err err = {0};

    if (strlen(sandbox) >= sizeof(r->sandbox)) {
        (void)shl_err_set(&err, SHL_ENOTFOUND, "sandbox not found");
        return refuse(ret, &err);
    }
    if (may_recover(c, org, sandbox, &err) < 0) {
        return refuse(ret, &err);
    }
    from = comes_back_from(c, sandbox);
    if (!from) {
        (void)shl_err_set(&err, SHL_EBADSTATE,
                          "nothing was kept of the sandbox on a node of this cluster");
        return refuse(ret, &err);
    }
    r = calloc(1, sizeof(*r));
    if (!r) {
        (void)shl_err_sys(&err, ENOMEM, "cannot recover the sandbox");
        return refuse(ret, &err);
    }
    cluster_job_begin(c, &r->job);
    r->cb = cb;
    r->arg = arg;
    (void)snprintf(r->sandbox, sizeof(r->sandbox), "%s", sandbox);
    (void)snprintf(r->found.checkpoint, sizeof(r->found.checkpoint), "%s", from->id);
    r->found.is_named = from->kind != SCHED_CHECKPOINT_HIBERNATION;
    r->found.age_s = age_s(c, from);
    if (cluster_take(c, sandbox, CLUSTER_TAKE_RECOVER, on_taken, r, &err) < 0) {
        cluster_job_end(&r->job);
        free(r);
        return refuse(ret, &err);
    }
    return 0;
}

/*- What this node itself has lost. */

struct stale {
    struct cluster *cluster;
    struct node_sandbox *found;
};

struct healing {
    struct cluster_job job;
    char sandbox[NODE_SANDBOX_ID_SIZE];
};

static void on_healed(void *arg, int code, const char *msg)
{
    struct healing *healing = arg;
    struct cluster *c = healing->job.cluster;

    if (c) {
        c->healing_count--;
        SHL_LOG(&c->log_sink, code < 0 ? SHL_LOG_WARN : SHL_LOG_INFO,
                code < 0 ? "sandbox_not_recovered" : "sandbox_recovered",
                SHL_S("sandbox", healing->sandbox), SHL_S("on", c->name),
                SHL_S("error", code < 0 ? msg : ""));
    }
    cluster_job_end(&healing->job);
    free(healing);
}

static void on_back(void *arg, int code, const char *msg)
{
    struct healing *healing = arg;
    struct cluster *c = healing->job.cluster;
    struct node_sandbox *sandbox = c ? node_manager_find(c->manager, NULL, healing->sandbox) : NULL;

    if (code == 0 && sandbox) {
        node_manager_wake(c->manager, sandbox, NULL, on_healed, healing);
    } else {
        on_healed(healing, code < 0 ? code : SHL_EUNAVAILABLE, msg);
    }
}

static void heal(struct cluster *c, const char *sandbox)
{
    struct healing *healing = calloc(1, sizeof(*healing));
    struct shl_err err = {0};
    int rc;

    if (!healing || strlen(sandbox) >= sizeof(healing->sandbox)) {
        free(healing);
        return;
    }
    cluster_job_begin(c, &healing->job);
    c->healing_count++;
    memcpy(healing->sandbox, sandbox, strlen(sandbox) + 1);
    rc = cluster_take(c, sandbox, CLUSTER_TAKE_PLAIN, on_back, healing, &err);
    if (rc < 0) {
        on_healed(healing, rc, err.msg);
    }
}

static void on_told_the_log(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct cluster *c = arg;

    (void)result;
    if (code < 0 && code != -ECANCELED && code != SHL_EUNAVAILABLE) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "lost_sandbox_in_log", SHL_S("error", msg));
    }
}

static void leave_the_log(struct cluster *c, const struct sched_owner *row)
{
    struct sched_command command = {.kind = SCHED_OWNER_DELETE};

    memcpy(command.u.owner.sandbox, row->sandbox, sizeof(row->sandbox));
    memcpy(command.u.owner.org, row->org, sizeof(row->org));
    command.u.owner.owner = row->owner;
    command.u.owner.epoch = row->epoch;
    (void)!cluster_propose(c, &command, on_told_the_log, c, NULL);
}

static bool is_over(const struct node_sandbox *sandbox)
{
    return sandbox->state == NODE_SANDBOX_STOPPED || sandbox->state == NODE_SANDBOX_ERROR;
}

/* With "restore" it comes back, whatever the log knows of it: a node whose disk is full cannot
 * write down that a sandbox is claimable, and does not tell the log then. No other node ran it. */
static bool comes_back(const struct cluster *c, const struct node_sandbox *sandbox)
{
    return is_over(sandbox) && sandbox->lost &&
           sandbox->spec.on_node_loss == NODE_ON_LOSS_RESTORE &&
           cluster_sandbox_kept(c, sandbox->id);
}

/* The log first: healing lets go of the record here, and may fail half way. */
static void make_claimable(struct cluster *c,
                           const struct node_sandbox *sandbox,
                           const struct sched_owner *row)
{
    struct sched_command command = {.kind = SCHED_OWNER_REGISTER};

    (void)snprintf(command.u.owner.sandbox, sizeof(command.u.owner.sandbox), "%s", sandbox->id);
    (void)snprintf(command.u.owner.org, sizeof(command.u.owner.org), "%s", sandbox->spec.org);
    command.u.owner.owner = c->keys.id;
    command.u.owner.epoch = row ? row->epoch : 1;
    command.u.owner.claimable = true;
    (void)!cluster_propose(c, &command, on_told_the_log, c, NULL);
}

static void look_at(struct cluster *c, const struct sched_owner *row, uint64_t now_ms)
{
    const struct node_sandbox *sandbox = node_manager_find(c->manager, NULL, row->sandbox);
    bool is_lost = !sandbox || (is_over(sandbox) && sandbox->lost);
    bool is_held_back = is_lost && !row->claimable;

    if ((sandbox && !is_over(sandbox)) || (is_held_back && !(sandbox && comes_back(c, sandbox))) ||
        recover_is_recent(c, row->sandbox, now_ms)) {
        return;
    }
    if (is_lost && cluster_sandbox_is_coming(c, row->sandbox)) {
        return; /* what it saved last is what it comes back from */
    }
    recover_note(c, row->sandbox, now_ms + cluster_patience_ms(c, RETRY_MS));
    if (is_held_back) {
        make_claimable(c, sandbox, row);
    } else if (is_lost) {
        heal(c, row->sandbox);
    } else {
        leave_the_log(c, row);
    }
}

struct unlisted {
    struct cluster *cluster;
    uint64_t now_ms;
};

static bool look_at_unlisted(void *arg, struct node_sandbox *sandbox)
{
    const struct unlisted *unlisted = arg;
    struct cluster *c = unlisted->cluster;

    if (comes_back(c, sandbox) && !sched_state_owner(c->state, sandbox->id) &&
        !sched_state_tombstone(c->state, SCHED_TOMBSTONE_SANDBOX, sandbox->id) &&
        !recover_is_recent(c, sandbox->id, unlisted->now_ms)) {
        recover_note(c, sandbox->id, unlisted->now_ms + cluster_patience_ms(c, LOOK_MS));
        make_claimable(c, sandbox, NULL);
    }
    return true;
}

/* It went on elsewhere, or was deleted, while this node was away. */
static bool find_stale(void *arg, struct node_sandbox *sandbox)
{
    struct stale *stale = arg;
    const struct cluster *c = stale->cluster;
    const struct sched_owner *row = sched_state_owner(c->state, sandbox->id);

    if (is_over(sandbox) && sandbox->lost &&
        ((row && !shl_node_id_equal(&row->owner, &c->keys.id)) ||
         sched_state_tombstone(c->state, SCHED_TOMBSTONE_SANDBOX, sandbox->id))) {
        stale->found = sandbox;
    }
    return !stale->found;
}

/* One at a time: letting go changes the list. */
static void drop_stale(struct cluster *c)
{
    struct stale stale = {.cluster = c};

    node_manager_each(c->manager, NULL, find_stale, &stale);
    if (stale.found) {
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "sandbox_let_go", SHL_S("sandbox", stale.found->id),
                SHL_S("why", "it went on elsewhere, or was deleted"));
        owners_let_go(c, stale.found, "it went on elsewhere");
    }
}

/* Only what the log says while this node has its lease is as it is now. */
void cluster_lost_tick(struct cluster *c, uint64_t now_ms)
{
    struct unlisted unlisted = {c, now_ms};
    size_t i;

    if (!c->recovery || c->is_closing || c->is_witness || !sched_lease_valid(&c->lease, now_ms) ||
        now_ms - c->lost_looked_at_ms < LOOK_MS) {
        return;
    }
    c->lost_looked_at_ms = now_ms;
    drop_stale(c);
    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_OWNERS) && c->healing_count < AT_ONCE;
         i++) {
        const struct sched_owner *row = sched_state_at(c->state, SCHED_TABLE_OWNERS, i);

        if (!row->released && shl_node_id_equal(&row->owner, &c->keys.id)) {
            look_at(c, row, now_ms);
        }
    }
    node_manager_each(c->manager, NULL, look_at_unlisted, &unlisted);
}
