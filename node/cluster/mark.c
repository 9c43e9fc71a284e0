/* The mark of a node (cordoned, draining) is set.
 *
 *   1. The log takes it. The scheduler, and whoever places by what the log says, sees it then.
 *   2. The node itself has applied it: from then on it refuses what others still send to it.
 *   3. Only now the order is done: nothing new starts there after that.
 *
 * What can go wrong: the node does not answer, or does not follow the log. Once it counts as dead
 * nobody sends it anything, so the order is done; while it does not, the order fails when its time
 * is over, and says that the mark is set all the same. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mp.h"
#include "node/cluster/cluster_private.h"

#define MARK_VERSION   1
#define MARK_BYTES_MAX 64
#define LOOK_MS        50 /* pause between two questions */

struct marking {
    struct shl_list link; /* of the cluster */
    struct cluster *cluster;
    struct shl_node_id node;
    uint64_t index; /* of the entry, which the node is to have applied; 0: not known yet */
    uint64_t until_ms;
    uv_timer_t timer;
    struct node_mesh_rpc *rpc;
    node_order_cb cb;
    void *arg;
};

static void on_closed(uv_handle_t *handle)
{
    struct marking *marking = handle->data;
    struct cluster *c = marking->cluster;

    free(marking);
    cluster_close_part(c);
}

static void end(struct marking *marking, int code, const char *msg)
{
    struct node_order outcome = cluster_order_of(code, code < 0 ? msg : NULL);

    if (marking->rpc) {
        node_mesh_ask_cancel(marking->rpc);
    }
    shl_list_remove(&marking->link);
    marking->cb(marking->arg, &outcome);
    marking->cluster->handles++;
    uv_close((uv_handle_t *)&marking->timer, on_closed);
}

static void look(struct marking *marking);

static void on_timer(uv_timer_t *timer)
{
    look(timer->data);
}

/* It does not have it yet, or does not say so. */
static void again(struct marking *marking)
{
    struct cluster *c = marking->cluster;
    char msg[SHL_ERR_TEXT_MAX];

    if (!shl_node_id_equal(&marking->node, &c->keys.id) &&
        !cluster_members_is_live(c, &marking->node)) {
        end(marking, 0, NULL);
    } else if (cluster_now_ms() >= marking->until_ms) {
        (void)snprintf(msg, sizeof(msg),
                       "the mark is set, but node %.63s has not said that it knows of it: until it "
                       "does it may take a sandbox, try again",
                       cluster_node_name(c, &marking->node));
        end(marking, SHL_EUNAVAILABLE, msg);
    } else {
        (void)uv_timer_start(&marking->timer, on_timer, LOOK_MS, 0);
    }
}

static void on_reply(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct marking *marking = arg;

    (void)msg;
    (void)body;
    marking->rpc = NULL;
    if (code == 0 || code == SHL_ENOTFOUND) { /* an older node cannot say it */
        end(marking, 0, NULL);
    } else {
        again(marking);
    }
}

static bool is_applied(const struct cluster *c, uint64_t index)
{
    return c->log.raft && sched_raft_applied(c->log.raft) >= index;
}

static int write_index(struct shl_buf *buf, uint64_t index)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", MARK_VERSION);
    shl_mp_kv_uint(&w, "index", index);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static void look(struct marking *marking)
{
    struct cluster *c = marking->cluster;
    struct shl_buf buf;
    int rc;

    if (shl_node_id_equal(&marking->node, &c->keys.id)) {
        if (is_applied(c, marking->index)) {
            end(marking, 0, NULL);
        } else {
            again(marking);
        }
        return;
    }
    shl_buf_init(&buf, MARK_BYTES_MAX);
    rc = write_index(&buf, marking->index);
    if (rc == 0) {
        rc = node_mesh_ask(c->mesh, &marking->node, CLUSTER_RPC_APPLIED, shl_buf_bytes(&buf),
                           cluster_patience_ms(c, CLUSTER_ASK_MS), on_reply, marking, &marking->rpc,
                           NULL);
    }
    shl_buf_release(&buf);
    if (rc < 0) {
        again(marking);
    }
}

static void on_marked(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct marking *marking = arg;

    if (code < 0 || !result || marking->cluster->is_closing) {
        end(marking, code, msg);
        return;
    }
    marking->index = result->index;
    marking->until_ms = cluster_now_ms() + cluster_patience_ms(marking->cluster, CLUSTER_ORDER_MS);
    look(marking);
}

int cluster_mark(struct cluster *c,
                 const struct shl_node_id *node,
                 enum node_mark wanted,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg)
{
    struct marking *marking = calloc(1, sizeof(*marking));
    struct sched_command command = {.kind = SCHED_NODE_MARK};
    struct shl_err err = {0};
    int rc = -ENOMEM;

    command.u.node_mark.node = *node;
    command.u.node_mark.cordoned = wanted != NODE_MARK_NONE;
    command.u.node_mark.draining = wanted == NODE_MARK_DRAINING;
    (void)snprintf(command.u.node_mark.by, sizeof(command.u.node_mark.by), "%.60s", c->name);
    if (marking) {
        *marking = (struct marking){.cluster = c, .node = *node, .cb = cb, .arg = arg};
        rc = cluster_propose(c, &command, on_marked, marking, &err);
    }
    if (rc < 0) {
        free(marking);
        *ret = cluster_order_of(rc, err.msg);
        return 1;
    }
    shl_list_push_back(&c->marks, &marking->link);
    (void)uv_timer_init(c->loop, &marking->timer);
    marking->timer.data = marking;
    return 0;
}

/* Those that the log has not answered yet end with cluster_propose_close. */
void cluster_marks_close(struct cluster *c)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &c->marks) {
        struct marking *marking = shl_container_of(it, struct marking, link);

        if (marking->index > 0) {
            end(marking, -ECANCELED, "the node is shutting down");
        }
    }
}

/* ---- the other side --------------------------------------------------------------- */

static void on_applied(void *arg,
                       struct node_mesh_call *call,
                       const struct shl_node_id *from,
                       struct shl_bytes body)
{
    const struct cluster *c = arg;
    uint64_t version, index;
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, body);

    (void)from;
    if (rc == 0) {
        if (shl_mp_get_uint(doc.root, "v", MARK_VERSION, &version) < 0 ||
            shl_mp_get_uint(doc.root, "index", UINT64_MAX, &index) < 0) {
            rc = SHL_EPROTO;
        } else if (!is_applied(c, index)) {
            rc = SHL_EUNAVAILABLE;
        }
        shl_mp_release(&doc);
    }
    node_mesh_reply(call, rc, NULL, shl_bytes_of(NULL, 0));
}

void cluster_mark_init(struct cluster *c)
{
    node_mesh_serve(c->mesh, CLUSTER_RPC_APPLIED, MARK_BYTES_MAX, on_applied, c);
}
