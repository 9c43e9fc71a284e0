/* Dropping copies that are too many: asking those who keep theirs, answering others, and the
 * order in which a copy goes: out of the log first, then from the disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/replicas_private.h"

#define DROP_BYTES_MAX 256

struct asking {
    struct shl_list link; /* of asks */
    struct cluster_replicas *r;
    struct shl_node_id peer;
    struct cluster_drop question;
    struct node_mesh_rpc *rpc;
};

struct trimming {
    struct shl_list link; /* of trims */
    struct cluster_replicas *r;
    struct ckpt_id manifest;
    uint64_t until_ms;
    uint32_t waiting;
    bool failed;
};

/*- Asking. */

static void on_reply(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct asking *asking = arg;
    struct cluster_replicas *r = asking->r;
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ANSWERED};

    (void)msg;
    event.u.answered.from = asking->peer;
    event.u.answered.token = asking->question.token;
    memcpy(event.u.answered.manifest.bytes, asking->question.manifest,
           sizeof(event.u.answered.manifest.bytes));
    if (code == 0) {
        code = cluster_wire_read_drop_answer(body, &event.u.answered.yes);
    }
    shl_list_remove(&asking->link);
    free(asking);
    if (code == 0) { /* else it is as if the message was lost */
        replicas_step(r, &event);
    }
}

void replica_trim_ask(struct cluster_replicas *r, const struct ckpt_plan_action *act)
{
    struct asking *asking = calloc(1, sizeof(*asking));
    struct shl_buf body;
    int rc;

    if (!asking) {
        return;
    }
    asking->r = r;
    asking->peer = act->u.message.peer;
    asking->question.token = act->u.message.token;
    memcpy(asking->question.manifest, act->manifest.bytes, sizeof(asking->question.manifest));
    shl_buf_init(&body, DROP_BYTES_MAX);
    rc = cluster_wire_write_drop(&body, &asking->question);
    if (rc == 0) {
        rc = node_mesh_ask(r->c->mesh, &asking->peer, CLUSTER_RPC_MAY_DROP, shl_buf_bytes(&body),
                           cluster_patience_ms(r->c, CLUSTER_ASK_MS), on_reply, asking,
                           &asking->rpc, NULL);
    }
    shl_buf_release(&body);
    if (rc < 0) {
        free(asking);
    } else {
        shl_list_push_back(&r->asks, &asking->link);
    }
}

/*- Answering. */

void replica_trim_answer(struct cluster_replicas *r, const struct ckpt_plan_action *act)
{
    struct shl_buf body;
    int rc;

    if (!r->asked) {
        return;
    }
    shl_buf_init(&body, DROP_BYTES_MAX);
    rc = cluster_wire_write_drop_answer(&body, act->u.message.yes);
    node_mesh_reply(r->asked, rc, NULL, shl_buf_bytes(&body));
    shl_buf_release(&body);
    r->asked = NULL;
}

static void on_may_drop(void *arg,
                        struct node_mesh_call *call,
                        const struct shl_node_id *from,
                        struct shl_bytes body)
{
    struct cluster_replicas *r = arg;
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ASKED};
    struct cluster_drop question;
    const struct replica_copy *copy;

    if (cluster_wire_read_drop(body, &question) < 0 || r->is_closing || !r->store) {
        node_mesh_reply(call, r->is_closing ? SHL_EUNAVAILABLE : SHL_EPROTO, NULL,
                        shl_bytes_of(NULL, 0));
        return;
    }
    event.u.asked.from = *from;
    event.u.asked.token = question.token;
    memcpy(event.u.asked.manifest.bytes, question.manifest, sizeof(question.manifest));
    copy = replica_copy_find(r, &event.u.asked.manifest);
    event.u.asked.held = copy && !copy->is_leaving && !copy->is_damaged;
    r->asked = call;
    replicas_step(r, &event);
    if (r->asked) {
        node_mesh_reply(call, SHL_EUNAVAILABLE, NULL, shl_bytes_of(NULL, 0));
        r->asked = NULL;
    }
}

void replica_trim_init(struct cluster_replicas *r)
{
    shl_list_init(&r->asks);
    shl_list_init(&r->trims);
    node_mesh_serve(r->c->mesh, CLUSTER_RPC_MAY_DROP, DROP_BYTES_MAX, on_may_drop, r);
}

void replica_trim_close(struct cluster_replicas *r)
{
    struct shl_list *first;

    while ((first = shl_list_first(&r->asks))) {
        struct asking *asking = shl_container_of(first, struct asking, link);

        node_mesh_ask_cancel(asking->rpc);
        shl_list_remove(first);
        free(asking);
    }
}

/*- Trimming. */

/* Still, or by now, needed here? */
static bool is_needed(const struct cluster_replicas *r, const struct sched_checkpoint *row)
{
    const struct sched_owner *owner = sched_state_owner(r->c->state, row->sandbox);

    return (owner && shl_node_id_equal(&owner->owner, &r->c->keys.id)) ||
           (row->sandbox[0] && node_manager_find(r->c->manager, row->org, row->sandbox));
}

static void tell_trimmed(struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_TRIMMED};

    event.u.trimmed.manifest = *manifest;
    replicas_step(r, &event);
}

/* The rows say that this node has no copy: now it may go. */
static void conclude(struct trimming *trimming)
{
    struct cluster_replicas *r = trimming->r;
    struct ckpt_id manifest = trimming->manifest;
    struct replica_copy *copy = replica_copy_find(r, &manifest);
    const struct catalogue_ref *ref = catalogue_of_manifest(r, &manifest);
    bool go = !trimming->failed && cluster_now_ms() < trimming->until_ms && !r->is_closing && ref;

    shl_list_remove(&trimming->link);
    free(trimming);
    if (!go) {
        if (copy) {
            copy->is_leaving = false; /* announced again */
        }
        tell_trimmed(r, &manifest);
        return;
    }
    node_artefact_forget(r->c->manager, ref->id);
    replica_copy_drop(r, &manifest, true);
}

static void on_left(void *arg, int code)
{
    struct trimming *trimming = arg;

    trimming->failed |= code < 0 && code != SHL_ENOTFOUND && code != SHL_EGONE;
    if (--trimming->waiting == 0) {
        conclude(trimming);
    }
}

/* False: a copy that is needed after all, or an order that cannot be given. */
static bool leave_rows(struct cluster_replicas *r, struct trimming *trimming)
{
    const struct catalogue_ref key = {.manifest = trimming->manifest};
    size_t first = sorted_seek(&r->by_manifest, &key), at;
    const struct catalogue_ref *ref;

    for (at = first; at < r->by_manifest.count; at++) {
        ref = r->by_manifest.items[at];
        if (!ckpt_id_equal(&ref->manifest, &trimming->manifest)) {
            break;
        }
        if (!catalogue_row(r, ref) || is_needed(r, catalogue_row(r, ref))) {
            return false;
        }
    }
    while (first < at) {
        ref = r->by_manifest.items[first++];
        if (catalogue_order_holder(r, ref->id, false, on_left, trimming) == 0) {
            trimming->waiting++;
        } else {
            trimming->failed = true;
        }
    }
    return trimming->waiting > 0;
}

int replica_trim(struct cluster_replicas *r, const struct ckpt_plan_action *act)
{
    struct replica_copy *copy = replica_copy_find(r, &act->manifest);
    struct trimming *trimming;

    if (!copy || copy->is_made || copy->is_leaving || cluster_now_ms() >= act->u.until_ms ||
        replica_is_fetching(r, &act->manifest)) {
        return SHL_EBADSTATE;
    }
    trimming = calloc(1, sizeof(*trimming));
    if (!trimming) {
        return -ENOMEM;
    }
    trimming->r = r;
    trimming->manifest = act->manifest;
    trimming->until_ms = act->u.until_ms;
    if (!leave_rows(r, trimming)) {
        free(trimming);
        return SHL_EBADSTATE;
    }
    copy->is_leaving = true;
    shl_list_push_back(&r->trims, &trimming->link);
    return 0;
}
