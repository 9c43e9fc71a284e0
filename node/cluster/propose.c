/* Commands from any node to the log: straight into the core when this node leads, to the
 * leader otherwise. Asked again while there is no leader or its answer was lost; all
 * commands may be given twice (claims and joins answer the same to the same asker). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/cluster_private.h"
#include "scheduler/claim.h"

struct order {
    struct shl_list link; /* of cluster.orders */
    struct cluster *cluster;
    struct shl_buf command;
    uint64_t until_ms;
    cluster_command_cb cb;
    void *arg;
    uv_timer_t timer;
    struct node_mesh_rpc *rpc;
    bool is_over;
    char why[SHL_ERR_TEXT_MAX]; /* of the last attempt */
};

/* A question of another node about the log, being answered by this one. */
struct answer {
    struct node_mesh_call *call;
};

static void attempt(struct order *order);

int cluster_reason_code(enum sched_raft_reason reason)
{
    switch (reason) {
    case SCHED_RAFT_DONE:
        return 0;
    case SCHED_RAFT_TOO_LARGE:
    case SCHED_RAFT_MEMBER_LIMIT:
        return SHL_ELIMIT;
    case SCHED_RAFT_EXISTS:
        return SHL_ECONFLICT;
    case SCHED_RAFT_NO_MEMBER:
        return SHL_ENOTFOUND;
    case SCHED_RAFT_LAST_VOTER:
    case SCHED_RAFT_NOT_CAUGHT_UP:
        return SHL_EBADSTATE;
    case SCHED_RAFT_NOT_LEADER:
    case SCHED_RAFT_LOST:
    case SCHED_RAFT_TRANSFERRING:
    case SCHED_RAFT_LOG_FULL:
    case SCHED_RAFT_BUSY:
    case SCHED_RAFT_TIMED_OUT:
    case SCHED_RAFT_STOPPED:
    case SCHED_RAFT_REASON_COUNT:
        return SHL_EUNAVAILABLE;
    }
    return SHL_EUNAVAILABLE;
}

/* ---- the asking side ------------------------------------------------------------- */

static void on_order_closed(uv_handle_t *handle)
{
    struct order *order = handle->data;
    struct cluster *c = order->cluster;

    shl_buf_release(&order->command);
    free(order);
    cluster_close_part(c);
}

/* The last thing done with it. */
static void end(struct order *order, int code, const char *msg, const struct sched_result *result)
{
    cluster_command_cb cb = order->cb;
    void *arg = order->arg;

    order->is_over = true;
    shl_list_remove(&order->link);
    order->cluster->order_count--;
    order->cluster->handles++;
    uv_close((uv_handle_t *)&order->timer, on_order_closed);
    if (cb) {
        cb(arg, code, msg, result);
    }
}

static void end_with_result(struct order *order, const struct sched_result *result)
{
    end(order, result->err.code, result->err.msg, result);
}

static void on_timer(uv_timer_t *timer)
{
    attempt(timer->data);
}

static void again(struct order *order, const char *why)
{
    uint64_t now_ms = cluster_now_ms();
    char msg[SHL_ERR_TEXT_MAX];

    (void)snprintf(order->why, sizeof(order->why), "%s", why);
    if (now_ms >= order->until_ms || order->cluster->is_closing) {
        (void)snprintf(msg, sizeof(msg), "the cluster did not take the change: %.180s, try again",
                       order->why);
        end(order, SHL_EUNAVAILABLE, msg, NULL);
        return;
    }
    (void)uv_timer_start(&order->timer, on_timer, CLUSTER_ORDER_PAUSE_MS, 0);
}

static void on_local(void *arg, enum sched_raft_reason reason, const struct sched_result *result)
{
    struct order *order = arg;
    int code = cluster_reason_code(reason);

    if (code == 0 && result) {
        end_with_result(order, result);
    } else if (code == SHL_EUNAVAILABLE) {
        again(order, sched_raft_reason_text(reason));
    } else {
        end(order, code ? code : SHL_EUNAVAILABLE, sched_raft_reason_text(reason), NULL);
    }
}

static void on_remote(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct order *order = arg;
    struct sched_result result;

    order->rpc = NULL;
    if (code == 0 && sched_result_decode(&result, body) == 0) {
        end_with_result(order, &result);
    } else if (code == 0) {
        end(order, SHL_EPROTO, "the scheduler's answer cannot be understood", NULL);
    } else if (code == SHL_EUNAVAILABLE || code == -ETIMEDOUT) {
        again(order, msg);
    } else {
        end(order, code, msg, NULL);
    }
}

/* The leader stamps the time, here and in on_propose. */
static int stamp(struct cluster *c,
                 const struct shl_node_id *from,
                 struct shl_bytes bytes,
                 struct shl_buf *out,
                 struct shl_err *err)
{
    struct sched_command command;
    int rc = sched_command_decode(&command, bytes, err);

    if (rc == 0) {
        command.at_ms = cluster_lead_time_ms(c);
        if (command.kind == SCHED_LEASE_RENEW) {
            command.u.lease_renew.term = c->lead.term;
            /* it may be applied by the time a successor counts */
            (void)sched_leases_renewed(&c->leases, &command.u.lease_renew.node, cluster_now_ms());
        }
        rc = sched_claim_stamp(&c->leases, from, cluster_now_ms(), &command, err);
    }
    if (rc == 0) {
        rc = sched_command_encode(&command, out, err);
    }
    return rc;
}

static void attempt_here(struct order *order)
{
    struct cluster *c = order->cluster;
    struct shl_err err = {0};
    struct shl_buf stamped;
    int rc;

    shl_buf_init(&stamped, SCHED_COMMAND_MAX);
    rc = stamp(c, &c->keys.id, shl_buf_bytes(&order->command), &stamped, &err);
    if (rc == 0) {
        rc = cluster_log_propose(c, shl_buf_bytes(&stamped), on_local, order);
    }
    shl_buf_release(&stamped);
    if (rc < 0) {
        again(order, err.msg[0] ? err.msg : shl_err_text(rc));
    }
}

static void attempt(struct order *order)
{
    struct cluster *c = order->cluster;
    struct shl_node_id leader = {0};
    struct shl_err err = {0};

    if (c->log.raft) {
        leader = sched_raft_leader(c->log.raft);
    }
    if (c->lead.is_ready) {
        attempt_here(order);
    } else if (shl_node_id_is_none(&leader) || shl_node_id_equal(&leader, &c->keys.id)) {
        again(order, "no scheduler is elected right now");
    } else if (node_mesh_ask(c->mesh, &leader, CLUSTER_RPC_PROPOSE, shl_buf_bytes(&order->command),
                             cluster_patience_ms(c, CLUSTER_ASK_MS), on_remote, order, &order->rpc,
                             &err) < 0) {
        again(order, err.msg);
    }
}

int cluster_propose(struct cluster *c,
                    const struct sched_command *command,
                    cluster_command_cb cb,
                    void *arg,
                    struct shl_err *err)
{
    struct order *order;
    int rc;

    if (c->order_count >= CLUSTER_ORDERS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "too many changes of this node wait for the scheduler");
    }
    order = calloc(1, sizeof(*order));
    if (!order) {
        return shl_err_sys(err, ENOMEM, "cannot ask the scheduler");
    }
    shl_buf_init(&order->command, SCHED_COMMAND_MAX);
    rc = sched_command_encode(command, &order->command, err);
    if (rc < 0) {
        shl_buf_release(&order->command);
        free(order);
        return rc;
    }
    order->cluster = c;
    order->cb = cb;
    order->arg = arg;
    order->until_ms = cluster_now_ms() + cluster_patience_ms(c, CLUSTER_ORDER_MS);
    shl_list_push_back(&c->orders, &order->link);
    c->order_count++;
    (void)uv_timer_init(c->loop, &order->timer);
    order->timer.data = order;
    (void)uv_timer_start(&order->timer, on_timer, 0, 0); /* later, as promised */
    return 0;
}

/* ---- the leader's side ----------------------------------------------------------- */

static void reply_failure(struct node_mesh_call *call, int code, const char *msg)
{
    node_mesh_reply(call, code, msg, shl_bytes_of(NULL, 0));
}

static void on_proposed(void *arg, enum sched_raft_reason reason, const struct sched_result *result)
{
    struct answer *answer = arg;
    int code = cluster_reason_code(reason);
    struct shl_buf buf;

    shl_buf_init(&buf, SCHED_RESULT_MAX);
    if (code < 0 || !result) {
        reply_failure(answer->call, code ? code : SHL_EUNAVAILABLE, sched_raft_reason_text(reason));
    } else if (sched_result_encode(result, &buf) < 0) {
        reply_failure(answer->call, -ENOMEM, NULL);
    } else {
        node_mesh_reply(answer->call, 0, NULL, shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
    free(answer);
}

/* What only the node itself may say of itself. */
static bool is_of(const struct sched_command *command, const struct shl_node_id *from)
{
    if (command->kind == SCHED_LEASE_RENEW) {
        return shl_node_id_equal(&command->u.lease_renew.node, from);
    }
    if (command->kind == SCHED_NODE_UPDATE) {
        return shl_node_id_equal(&command->u.node_update.node.id, from);
    }
    /* founding and the clean-up of expired rows are the leader's own */
    return command->kind != SCHED_CLUSTER_INIT && command->kind != SCHED_EXPIRE;
}

static int take_call(struct cluster *c,
                     struct answer *answer,
                     const struct shl_node_id *from,
                     struct shl_bytes body,
                     struct shl_err *err)
{
    struct sched_command command;
    struct shl_buf stamped;
    int rc;

    if (!c->lead.is_ready) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "this node does not schedule");
    }
    rc = sched_command_decode(&command, body, err);
    if (rc < 0) {
        return rc;
    }
    if (!is_of(&command, from)) {
        return shl_err_set(err, SHL_EFORBIDDEN, "a node may not say that of another");
    }
    shl_buf_init(&stamped, SCHED_COMMAND_MAX);
    rc = stamp(c, from, body, &stamped, err);
    if (rc == 0) {
        rc = cluster_log_propose(c, shl_buf_bytes(&stamped), on_proposed, answer);
    }
    shl_buf_release(&stamped);
    return rc;
}

static void on_propose(void *arg,
                       struct node_mesh_call *call,
                       const struct shl_node_id *from,
                       struct shl_bytes body)
{
    struct answer *answer = calloc(1, sizeof(*answer));
    struct shl_err err = {0};
    int rc;

    if (!answer) {
        reply_failure(call, -ENOMEM, NULL);
        return;
    }
    answer->call = call;
    rc = take_call(arg, answer, from, body, &err);
    if (rc < 0) {
        reply_failure(call, rc, err.msg[0] ? err.msg : NULL);
        free(answer);
    }
}

void cluster_propose_init(struct cluster *c)
{
    node_mesh_serve(c->mesh, CLUSTER_RPC_PROPOSE, SCHED_COMMAND_MAX, on_propose, c);
}

void cluster_propose_close(struct cluster *c)
{
    struct shl_list *first;

    while ((first = shl_list_first(&c->orders))) {
        struct order *order = shl_container_of(first, struct order, link);

        if (order->rpc) {
            node_mesh_ask_cancel(order->rpc);
            order->rpc = NULL;
        }
        end(order, -ECANCELED, "the node is shutting down", NULL);
    }
}
