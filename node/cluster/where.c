/* Who has a sandbox or checkpoint: this node itself, what gossip has told, and when neither
 * knows, all live members at once (so that what was created a moment ago through one node
 * is found through every other).
 *
 * When all who said they had it are lost, or may not start it, the log is asked: what it has
 * copies of can be had on another node (candidates.c), which takes a sandbox over as soon
 * as a call for it comes in (take.c). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/owners_private.h"
#include "node/cluster/replicas.h"
#include "node/sandbox/checkpoints.h"

#define WHERE_BYTES_MAX 1024

struct search {
    struct cluster *cluster;
    node_answer_cb cb;
    void *arg;
    struct node_answer answer;
    uint32_t waiting;
    uint32_t silent; /* live members that did not answer */
    bool is_told;
    bool is_checkpoint;
    struct shl_buf body;
};

struct probe {
    struct search *search;
    struct shl_node_id node;
};

/* ---- what this node has ---------------------------------------------------------- */

static bool note(void *arg, struct node_checkpoint *checkpoint)
{
    (void)checkpoint;
    *(bool *)arg = true;
    return false;
}

/* "" is asked for by requests that no organisation makes: signed URLs, previews. */
static bool is_asked_org(const char *org, const char *asked)
{
    return *asked == '\0' || strcmp(org, asked) == 0;
}

static bool has_here(struct cluster *c, bool is_checkpoint, const char *asked, const char *id)
{
    const char *org = *asked != '\0' ? asked : NULL;
    bool found = false;

    if (is_checkpoint) {
        return node_checkpoint_find(c->manager, org, id) != NULL;
    }
    if (node_manager_find(c->manager, org, id)) {
        return true;
    }
    if (sched_state_owner(c->state, id)) {
        return false; /* it goes on elsewhere, or from a copy; its checkpoints are also here */
    }
    /* its record is gone, its checkpoints are not */
    node_checkpoint_each(c->manager, org, id, note, &found);
    return found;
}

/* ---- what gossip has told -------------------------------------------------------- */

static bool is_of_org(const struct gossip_record *record, const char *org)
{
    char text[NODE_ORG_ID_SIZE];

    return cluster_wire_read_org(record->value, text) == 0 && is_asked_org(text, org);
}

void cluster_add_target(const struct cluster *c,
                        struct node_answer *ret,
                        const struct shl_node_id *id)
{
    struct node_target *target;

    if (ret->target_count >= NODE_TARGETS_MAX) {
        return;
    }
    target = &ret->targets[ret->target_count++];
    target->id = *id;
    target->is_local = shl_node_id_equal(id, &c->keys.id);
    (void)snprintf(target->name, sizeof(target->name), "%.63s", cluster_node_name(c, id));
}

/* Live holders first. */
static void look_up(struct cluster *c,
                    bool is_checkpoint,
                    const struct node_where *what,
                    struct node_answer *ret)
{
    const struct gossip_record *record;
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    int pass;

    if (!c->gossip || snprintf(key, sizeof(key), "%s%s",
                               is_checkpoint ? CLUSTER_KEY_CHECKPOINT : CLUSTER_KEY_SANDBOX,
                               what->id) >= (int)sizeof(key)) {
        return;
    }
    for (pass = 0; pass < 2; pass++) {
        for (record = gossip_key_first(c->gossip, key); record; record = gossip_key_next(record)) {
            bool live = cluster_members_is_live(c, &record->node);

            if (live == (pass == 0) && !shl_node_id_equal(&record->node, &c->keys.id) &&
                !(what->is_again && shl_node_id_equal(&record->node, &what->not_there)) &&
                is_of_org(record, what->org)) {
                cluster_add_target(c, ret, &record->node);
            }
        }
    }
}

/* ---- asking all ------------------------------------------------------------------ */

/* Nobody who was asked has it. That it does not exist is said only by a node that has what the log
 * says: another one may have been cut off while it moved. */
static void answer_nobody(const struct cluster *c,
                          bool is_checkpoint,
                          uint32_t silent,
                          struct node_answer *ret)
{
    bool is_up_to_date = sched_lease_valid(&c->lease, cluster_now_ms()) && !c->log.is_failed;

    ret->code = silent > 0 || !is_up_to_date ? SHL_EUNAVAILABLE : SHL_ENOTFOUND;
    if (silent > 0) {
        (void)snprintf(ret->msg, sizeof(ret->msg),
                       "%u of the nodes did not answer, one of them may have it: try again",
                       silent);
    } else if (!is_up_to_date) {
        (void)snprintf(ret->msg, sizeof(ret->msg),
                       "no node that answers has it, and this one has no contact to the "
                       "scheduler: try again");
    } else {
        (void)snprintf(ret->msg, sizeof(ret->msg), "%s not found",
                       is_checkpoint ? "checkpoint" : "sandbox");
    }
}

static void conclude(struct search *search)
{
    struct node_answer *answer = &search->answer;

    if (answer->target_count > 0) {
        answer->code = 0;
    } else if (search->cluster->is_closing) {
        answer->code = -ECANCELED;
    } else {
        answer_nobody(search->cluster, search->is_checkpoint, search->silent, answer);
    }
    search->is_told = true;
    search->cb(search->arg, answer);
}

/* The first who has it is enough; the others are only waited for. */
static void on_answer(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct probe *probe = arg;
    struct search *search = probe->search;

    (void)msg;
    (void)body;
    search->waiting--;
    if (code == 0) {
        cluster_add_target(search->cluster, &search->answer, &probe->node);
    } else if (code != SHL_ENOTFOUND) {
        search->silent++;
    }
    if (!search->is_told && (code == 0 || search->waiting == 0)) {
        conclude(search);
    }
    if (search->waiting == 0) {
        shl_buf_release(&search->body);
        free(search);
    }
    free(probe);
}

static bool ask_one(void *arg, const struct gossip_member *member)
{
    struct search *search = arg;
    struct cluster *c = search->cluster;
    struct probe *probe = calloc(1, sizeof(*probe));

    if (member->info.flags & GOSSIP_FLAG_WITNESS) {
        free(probe);
        return true;
    }
    if (!probe) {
        search->silent++;
        return true;
    }
    probe->search = search;
    probe->node = member->info.id;
    if (node_mesh_ask(c->mesh, &member->info.id, CLUSTER_RPC_WHERE, shl_buf_bytes(&search->body),
                      cluster_patience_ms(c, CLUSTER_ASK_MS), on_answer, probe, NULL, NULL) < 0) {
        search->silent++;
        free(probe);
    } else {
        search->waiting++;
    }
    return true;
}

/* 1 when nobody could be asked and *ret says so, 0 when answers come. */
static int ask_all(struct cluster *c,
                   bool is_checkpoint,
                   const struct node_where *what,
                   struct node_answer *ret,
                   node_answer_cb cb,
                   void *arg)
{
    struct search *search = calloc(1, sizeof(*search));
    uint32_t silent;

    if (!search) {
        ret->code = -ENOMEM;
        return 1;
    }
    search->cluster = c;
    search->cb = cb;
    search->arg = arg;
    search->is_checkpoint = is_checkpoint;
    shl_buf_init(&search->body, WHERE_BYTES_MAX);
    if (cluster_wire_write_where(&search->body, is_checkpoint, what) == 0) {
        cluster_members_each_live(c, ask_one, search);
    }
    if (search->waiting > 0) {
        return 0;
    }
    silent = search->silent;
    shl_buf_release(&search->body);
    free(search);
    answer_nobody(c, is_checkpoint, silent, ret);
    return 1;
}

static void on_where(void *arg,
                     struct node_mesh_call *call,
                     const struct shl_node_id *from,
                     struct shl_bytes body)
{
    struct cluster *c = arg;
    struct cluster_question question;
    int rc = cluster_wire_read_where(body, &question);

    (void)from;
    if (rc == 0 && !has_here(c, question.is_checkpoint, question.org, question.id)) {
        rc = SHL_ENOTFOUND;
    }
    node_mesh_reply(call, rc, NULL, shl_bytes_of(NULL, 0));
}

/* ---- on another node than it was -------------------------------------------------- */

struct taking {
    struct node_answer answer; /* this node */
    node_answer_cb cb;
    void *arg;
};

static void on_taken(void *arg, int code, const char *msg)
{
    struct taking *taking = arg;

    if (code < 0) {
        taking->answer = (struct node_answer){.code = code};
        (void)snprintf(taking->answer.msg, sizeof(taking->answer.msg), "%s", msg);
    }
    taking->cb(taking->arg, &taking->answer);
    free(taking);
}

static int take_here(struct cluster *c,
                     const char *sandbox,
                     struct node_answer *ret,
                     node_answer_cb cb,
                     void *arg)
{
    struct taking *taking = malloc(sizeof(*taking));
    struct shl_err err = {0};

    ret->target_count = 0;
    ret->code = -ENOMEM;
    if (taking) {
        *taking = (struct taking){.cb = cb, .arg = arg};
        cluster_add_target(c, &taking->answer, &c->keys.id);
        ret->code = cluster_take(c, sandbox, CLUSTER_TAKE_PLAIN, on_taken, taking, &err);
    }
    if (ret->code < 0) {
        (void)snprintf(ret->msg, sizeof(ret->msg), "%s", err.msg);
        free(taking);
        return 1;
    }
    return 0;
}

static bool is_live_target(const struct cluster *c, const struct node_answer *answer)
{
    return answer->target_count > 0 && cluster_members_is_live(c, &answer->targets[0].id);
}

/* The owner by the log comes first where several have it: the others let it go. */
static void prefer_owner(const struct sched_owner *row, struct node_answer *answer)
{
    size_t i;

    for (i = 1; i < answer->target_count; i++) {
        if (shl_node_id_equal(&answer->targets[i].id, &row->owner)) {
            struct node_target first = answer->targets[0];

            answer->targets[0] = answer->targets[i];
            answer->targets[i] = first;
        }
    }
}

/* May it be woken where it is? Not on a node that is being drained, when it can be elsewhere. */
static bool is_to_leave(const struct cluster *c,
                        const struct sched_owner *row,
                        const struct shl_node_id *at)
{
    const struct sched_node *node = sched_state_node(c->state, at);

    return row->released && node && node->draining.on;
}

static bool is_excluded(const struct node_where *what, const struct shl_node_id *node)
{
    return what->is_again && shl_node_id_equal(&what->not_there, node);
}

/* Its owner cannot be reached. True: nobody else may start it, or not yet; *ret says why. */
static bool stays_away(const struct cluster *c,
                       const struct node_where *what,
                       const struct sched_owner *row,
                       struct node_answer *ret)
{
    enum cluster_standing_of standing = cluster_node_standing(c, &row->owner);

    if (standing != CLUSTER_NODE_LOST) {
        *ret = (struct node_answer){.code = SHL_EUNAVAILABLE};
        (void)snprintf(ret->msg, sizeof(ret->msg), "its node %.63s %s: try again",
                       cluster_node_name(c, &row->owner),
                       standing == CLUSTER_NODE_LIVE ? "does not answer"
                                                     : "restarts, or was not heard of yet");
        return true;
    }
    if (row->claimable || (what->is_recovery && !sched_state_node(c->state, &row->owner))) {
        return false;
    }
    cluster_lost_answer(c, what->id, &row->owner, ret);
    if (what->is_recovery) {
        ret->code = SHL_EBADSTATE;
    }
    return true;
}

/* @ret has what gossip told. As op where of the router, or -1: the log does not help. */
static int look_in_log(struct cluster *c,
                       const struct node_where *what,
                       struct node_answer *ret,
                       node_answer_cb cb,
                       void *arg)
{
    const struct sched_owner *row = sched_state_owner(c->state, what->id);
    const struct sched_checkpoint *kept;
    char artefact[NODE_CHECKPOINT_ID_SIZE];
    struct sched_claim claim;

    if (!row || !is_asked_org(row->org, what->org)) {
        return -1;
    }
    if (!row->released && !is_excluded(what, &row->owner) &&
        cluster_node_standing(c, &row->owner) == CLUSTER_NODE_LIVE) {
        /* whatever gossip has heard by now */
        ret->target_count = 0;
        cluster_add_target(c, ret, &row->owner);
        if (ret->targets[0].is_local && !what->is_recovery && !row->claimable) {
            cluster_lost_answer(c, what->id, &row->owner, ret);
            return 1;
        }
        return ret->targets[0].is_local && !what->is_recovery ? take_here(c, what->id, ret, cb, arg)
                                                              : 1;
    }
    prefer_owner(row, ret);
    if (is_live_target(c, ret) && !is_to_leave(c, row, &ret->targets[0].id)) {
        return 1;
    }
    if (!row->released && stays_away(c, what, row, ret)) {
        return 1;
    }
    sched_claim_judge(c->state, c->lead.is_ready ? &c->leases : NULL, what->id, &c->keys.id,
                      cluster_now_ms(), &claim);
    if (claim.verdict == SCHED_CLAIM_NEVER) {
        ret->target_count = 0;
        ret->code = claim.err.code;
        (void)snprintf(ret->msg, sizeof(ret->msg), "%s", claim.err.msg);
        return 1;
    }
    ret->target_count = 0;
    take_newest(c, what->id, artefact);
    kept = row->released || row->claimable ? sched_state_checkpoint(c->state, artefact)
                                           : cluster_sandbox_kept(c, what->id);
    cluster_candidates(c, kept, what->is_again ? &what->not_there : NULL, ret);
    if (ret->target_count == 0) {
        ret->code = SHL_EUNAVAILABLE;
        (void)snprintf(ret->msg, sizeof(ret->msg),
                       "no node that is alive can take the sandbox over right now, try again");
        return 1;
    }
    return ret->targets[0].is_local && !what->is_recovery ? take_here(c, what->id, ret, cb, arg)
                                                          : 1;
}

/* No row: nobody else can have it. */
static bool is_lost_alone(struct cluster *c, const struct node_where *what, struct node_answer *ret)
{
    struct shl_node_id owner;

    if (ret->target_count == 0 ||
        cluster_node_standing(c, &ret->targets[0].id) != CLUSTER_NODE_LOST) {
        return false;
    }
    owner = ret->targets[0].id;
    cluster_lost_answer(c, what->id, &owner, ret);
    if (what->is_recovery) {
        ret->code = SHL_EBADSTATE;
    }
    return true;
}

static int where_sandbox(struct cluster *c,
                         const struct node_where *what,
                         struct node_answer *ret,
                         node_answer_cb cb,
                         void *arg)
{
    const struct sched_owner *row = sched_state_owner(c->state, what->id);
    int rc;

    if (what->is_forwarded) {
        if (row && is_asked_org(row->org, what->org)) {
            if (what->is_recovery) {
                cluster_add_target(c, ret, &c->keys.id);
                return 1;
            }
            return take_here(c, what->id, ret, cb, arg);
        }
        ret->code = SHL_ENOTFOUND;
        (void)snprintf(ret->msg, sizeof(ret->msg), "sandbox not found on this node");
        return 1;
    }
    look_up(c, false, what, ret);
    rc = look_in_log(c, what, ret, cb, arg);
    if (rc >= 0) {
        return rc;
    }
    if (is_lost_alone(c, what, ret)) {
        return 1;
    }
    return ret->target_count > 0 ? 1 : ask_all(c, false, what, ret, cb, arg);
}

/* This node when it has it; the others are for when it has no room. */
static int where_checkpoint(struct cluster *c,
                            const struct node_where *what,
                            struct node_answer *ret,
                            node_answer_cb cb,
                            void *arg)
{
    const struct sched_checkpoint *row = sched_state_checkpoint(c->state, what->id);
    bool is_here = has_here(c, true, what->org, what->id);

    if (is_here) {
        cluster_add_target(c, ret, &c->keys.id);
    } else if (what->is_forwarded) {
        ret->code = SHL_ENOTFOUND;
        (void)snprintf(ret->msg, sizeof(ret->msg), "checkpoint not found on this node");
    }
    if (what->is_forwarded) {
        return 1;
    }
    if (!is_here) {
        look_up(c, true, what, ret);
    }
    if (row && is_asked_org(row->org, what->org)) {
        if (!is_here && !is_live_target(c, ret)) {
            ret->target_count = 0; /* those that are lost */
        }
        cluster_candidates(c, row, NULL, ret);
    }
    return ret->target_count > 0 ? 1 : ask_all(c, true, what, ret, cb, arg);
}

/* It is hibernated here, and this node is drained: the nodes that can take it over, as when it is
 * asked for through another one. Whoever looks again gets it from here, with the reason why it does
 * not wake. */
static bool leaves_here(struct cluster *c, const struct node_where *what, struct node_answer *ret)
{
    const char *org = *what->org != '\0' ? what->org : NULL;
    const struct node_sandbox *sandbox = node_manager_find(c->manager, org, what->id);
    const struct sched_owner *row = sched_state_owner(c->state, what->id);
    char artefact[NODE_CHECKPOINT_ID_SIZE];

    if (what->is_forwarded || what->is_again || !sandbox || !row ||
        sandbox->state != NODE_SANDBOX_HIBERNATED || !is_to_leave(c, row, &c->keys.id)) {
        return false;
    }
    take_newest(c, what->id, artefact);
    cluster_candidates(c, sched_state_checkpoint(c->state, artefact), &c->keys.id, ret);
    return ret->target_count > 0;
}

int cluster_where(struct cluster *c,
                  bool is_checkpoint,
                  const struct node_where *what,
                  struct node_answer *ret,
                  node_answer_cb cb,
                  void *arg)
{
    *ret = (struct node_answer){0};
    if (!is_checkpoint && leaves_here(c, what, ret)) {
        return 1;
    }
    if (is_checkpoint) {
        return where_checkpoint(c, what, ret, cb, arg);
    }
    if (has_here(c, false, what->org, what->id)) {
        cluster_add_target(c, ret, &c->keys.id);
        return 1;
    }
    return where_sandbox(c, what, ret, cb, arg);
}

void cluster_where_init(struct cluster *c)
{
    node_mesh_serve(c->mesh, CLUSTER_RPC_WHERE, WHERE_BYTES_MAX, on_where, c);
}
