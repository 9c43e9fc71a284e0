/* A running sandbox of this node goes on on another one.
 *
 *   1. It is hibernated; wakes wait from here on.
 *   2. What was saved becomes an artefact, is copied, and the log says that the sandbox is
 *      released (owners.c does all that for every hibernated one).
 *   3. The other node takes and wakes it; the log names that node the owner, and this one
 *      lets its own go.
 *
 * What can go wrong: a step fails or takes longer than MOVE_MS: the sandbox stays here,
 * hibernated, and the next call wakes it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/owners_private.h"

#define MOVE_MS   60000
#define LOOK_MS   100
#define AGAIN_MS  500
#define TAKE_MAX  256
#define MOVES_MAX 16

struct move {
    struct shl_list link; /* of the cluster, until it is over */
    struct cluster *cluster;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    struct shl_node_id target;
    uint64_t until_ms;
    uv_timer_t timer;
    bool is_over;
    bool is_asking;     /* manager or mesh have yet to answer */
    bool is_timer_gone; /* the last of these two frees it */
    node_order_cb cb;
    void *arg;
};

static void on_closed(uv_handle_t *handle)
{
    struct move *move = handle->data;
    struct cluster *c = move->cluster;

    move->is_timer_gone = true;
    if (!move->is_asking) {
        free(move);
    }
    cluster_close_part(c);
}

static void end(struct move *move, int code, const char *msg)
{
    struct cluster *c = move->cluster;
    struct owned *o = c->owners ? owned_find(c->owners, move->sandbox) : NULL;
    struct node_order order = cluster_order_of(code, msg);

    if (move->is_over) {
        return;
    }
    move->is_over = true;
    shl_list_remove(&move->link);
    c->move_count--;
    if (o) {
        o->is_moving = false;
        owned_touch(o);
    }
    if (code < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "sandbox_not_moved", SHL_S("sandbox", move->sandbox),
                SHL_S("to", cluster_node_name(c, &move->target)), SHL_S("error", order.msg));
    }
    move->cb(move->arg, &order);
    c->handles++;
    uv_close((uv_handle_t *)&move->timer, on_closed);
}

/* False: it was over before this answer came, and perhaps the cluster is gone. */
static bool is_answered(struct move *move)
{
    move->is_asking = false;
    if (move->is_over && move->is_timer_gone) {
        free(move);
        return false;
    }
    return !move->is_over;
}

void cluster_moves_close(struct cluster *c)
{
    struct shl_list *first;

    while ((first = shl_list_first(&c->moves))) {
        end(shl_container_of(first, struct move, link), SHL_EUNAVAILABLE,
            "the node daemon is being stopped");
    }
}

/* ---- 3. ---------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

static void on_taken(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct move *move = arg;
    char text[SHL_ERR_TEXT_MAX];

    (void)body;
    if (!is_answered(move)) {
        return;
    }
    if ((code == SHL_EUNAVAILABLE || code == SHL_EBADSTATE) && cluster_now_ms() < move->until_ms) {
        /* Its log may be behind this one, in which the sandbox is released: it may not run there
         * yet, or as far as that node knows never. */
        (void)uv_timer_start(&move->timer, on_timer, AGAIN_MS, 0);
        return;
    }
    (void)snprintf(text, sizeof(text), "node %.63s did not take the sandbox: %.150s",
                   cluster_node_name(move->cluster, &move->target), msg ? msg : "");
    end(move, code == -ETIMEDOUT ? SHL_EUNAVAILABLE : code, code < 0 ? text : "");
}

static void hand_over(struct move *move, uint64_t now_ms)
{
    struct cluster *c = move->cluster;
    struct shl_err err = {0};
    struct shl_buf body;
    int rc;

    shl_buf_init(&body, TAKE_MAX);
    rc = cluster_take_write(&body, move->sandbox, true);
    if (rc == 0) {
        rc = node_mesh_ask(c->mesh, &move->target, CLUSTER_RPC_TAKE, shl_buf_bytes(&body),
                           (uint32_t)(move->until_ms - now_ms), on_taken, move, NULL, &err);
    }
    shl_buf_release(&body);
    move->is_asking = rc == 0;
    if (rc < 0) {
        end(move, rc, err.msg);
    }
}

/* ---- 2. ---------------------------------------------------------------------------- */

static bool is_released(const struct move *move)
{
    const struct sched_owner *row = sched_state_owner(move->cluster->state, move->sandbox);

    return row && row->released;
}

static void on_timer(uv_timer_t *timer)
{
    struct move *move = timer->data;
    uint64_t now_ms = cluster_now_ms();

    if (is_released(move)) {
        hand_over(move, now_ms);
    } else if (now_ms >= move->until_ms) {
        end(move, SHL_EUNAVAILABLE,
            "the sandbox is hibernated, but its state was not copied to another node in time; its "
            "next call wakes it here");
    } else {
        (void)uv_timer_start(timer, on_timer, LOOK_MS, 0);
    }
}

/* ---- 1. ---------------------------------------------------------------------------- */

static void on_hibernated(void *arg, int code, const char *msg)
{
    struct move *move = arg;

    if (!is_answered(move)) {
        return;
    }
    if (code < 0) {
        end(move, code, msg);
    } else {
        (void)uv_timer_start(&move->timer, on_timer, 0, 0);
    }
}

int cluster_move(struct cluster *c,
                 struct node_sandbox *sandbox,
                 const struct node_target *node,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg)
{
    struct owned *o = owned_find_or_add(c->owners, sandbox->id);
    struct move *move =
        o && !o->is_moving && c->move_count < MOVES_MAX ? calloc(1, sizeof(*move)) : NULL;

    if (!cluster_members_is_live(c, &node->id)) {
        free(move);
        *ret = cluster_order_of(SHL_EUNAVAILABLE, "that node cannot be reached");
        return 1;
    }
    if (!move) {
        *ret = o && o->is_moving
                   ? cluster_order_of(SHL_ECONFLICT, "the sandbox is being moved already")
                   : cluster_order_of(SHL_EUNAVAILABLE, "too many sandboxes are being moved");
        return 1;
    }
    move->cluster = c;
    (void)snprintf(move->sandbox, sizeof(move->sandbox), "%s", sandbox->id);
    move->target = node->id;
    move->until_ms = cluster_now_ms() + cluster_patience_ms(c, MOVE_MS);
    move->cb = cb;
    move->arg = arg;
    (void)uv_timer_init(c->loop, &move->timer);
    move->timer.data = move;
    o->is_moving = true;
    move->is_asking = true;
    shl_list_push_back(&c->moves, &move->link);
    c->move_count++;
    node_manager_hibernate(c->manager, sandbox, on_hibernated, move);
    return 0;
}
