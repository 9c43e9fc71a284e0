/* Rows of the API (node/api/router.h) in the key-value table of the log, and other changes that
 * are done when this node has applied them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/cluster_private.h"

#define CATCH_UP_MS 20000  /* then it is behind for good */
#define SYNC_KEY    "sync" /* has no row, and never the revision that is asked for */

struct row_wait {
    struct shl_list link; /* of cluster.row_waits */
    struct cluster *cluster;
    struct node_order outcome;
    node_order_cb cb;
    void *arg;
    uint64_t index;    /* that this node is to have applied */
    uint64_t until_ms; /* 0: the log has not answered yet */
    bool is_sync;
};

static void finish(struct row_wait *wait)
{
    shl_list_remove(&wait->link);
    wait->cb(wait->arg, &wait->outcome);
    free(wait);
}

/* True: that was the end of it. */
static bool look(struct row_wait *wait, uint64_t now_ms)
{
    const struct cluster *c = wait->cluster;
    bool is_behind = !c->log.raft || sched_raft_applied(c->log.raft) < wait->index;

    if (wait->until_ms == 0 || (is_behind && now_ms <= wait->until_ms)) {
        return false;
    }
    if (is_behind) {
        wait->outcome =
            cluster_order_of(SHL_EUNAVAILABLE,
                             "this node does not follow the cluster's log closely, try again");
    }
    finish(wait);
    return true;
}

/* Whoever is told may ask for more, or end others. */
void cluster_rows_applied(struct cluster *c)
{
    struct shl_list *at = c->row_waits.next;
    uint64_t now_ms = cluster_now_ms();

    while (at != &c->row_waits) {
        at = look(shl_container_of(at, struct row_wait, link), now_ms) ? c->row_waits.next
                                                                       : at->next;
    }
}

static void on_result(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct row_wait *wait = arg;
    struct cluster *c = wait->cluster;

    if (wait->is_sync && result && code == SHL_ECONFLICT) {
        code = 0;
    }
    wait->outcome = cluster_order_of(code, code < 0 ? msg : NULL);
    if (result) {
        wait->outcome.revision = result->number;
        wait->index = result->index;
    }
    if (!result || c->is_closing) {
        finish(wait);
        return;
    }
    wait->until_ms = cluster_now_ms() + cluster_patience_ms(c, CATCH_UP_MS);
    (void)look(wait, cluster_now_ms());
}

static int propose(struct cluster *c,
                   const struct sched_command *command,
                   bool is_sync,
                   struct node_order *ret,
                   node_order_cb cb,
                   void *arg)
{
    struct row_wait *wait = calloc(1, sizeof(*wait));
    struct shl_err err = {0};
    int rc = -ENOMEM;

    if (wait) {
        wait->cluster = c;
        wait->cb = cb;
        wait->arg = arg;
        wait->is_sync = is_sync;
        shl_list_push_back(&c->row_waits, &wait->link);
        rc = cluster_propose(c, command, on_result, wait, &err);
        if (rc < 0) {
            shl_list_remove(&wait->link);
        }
    }
    if (rc < 0) {
        free(wait);
        *ret = cluster_order_of(rc, err.msg);
        return 1;
    }
    return 0;
}

int cluster_row_change(struct cluster *c,
                       const struct node_row_change *change,
                       struct node_order *ret,
                       node_order_cb cb,
                       void *arg)
{
    struct sched_command command = {.kind = change->is_delete ? SCHED_KV_DELETE : SCHED_KV_SET};
    struct sched_cmd_kv *kv = &command.u.kv;

    if (strlen(change->key) >= sizeof(kv->key) || change->value.len > SCHED_KV_VALUE_MAX) {
        *ret = cluster_order_of(SHL_ELIMIT, "the row is too large");
        return 1;
    }
    memcpy(kv->key, change->key, strlen(change->key) + 1);
    kv->value = change->value;
    kv->has_expected = change->has_expected;
    kv->expected = change->expected;
    return propose(c, &command, false, ret, cb, arg);
}

int cluster_forget(struct cluster *c,
                   const char *checkpoint,
                   struct node_order *ret,
                   node_order_cb cb,
                   void *arg)
{
    struct sched_command command = {.kind = SCHED_CHECKPOINT_DELETE};

    *ret = (struct node_order){.code = 0};
    if (!sched_state_checkpoint(c->state, checkpoint)) {
        return 1;
    }
    (void)snprintf(command.u.checkpoint_delete.id, SCHED_ID_SIZE, "%s", checkpoint);
    return propose(c, &command, false, ret, cb, arg);
}

int cluster_row_sync(struct cluster *c, struct node_order *ret, node_order_cb cb, void *arg)
{
    struct sched_command command = {.kind = SCHED_KV_DELETE};

    memcpy(command.u.kv.key, SYNC_KEY, sizeof(SYNC_KEY));
    command.u.kv.has_expected = true;
    command.u.kv.expected = UINT64_MAX;
    return propose(c, &command, true, ret, cb, arg);
}

static void show(const struct sched_kv *kv, struct node_row *ret)
{
    *ret = (struct node_row){.key = kv->key, .value = kv->value, .revision = kv->revision};
}

bool cluster_row(const struct cluster *c, const char *key, struct node_row *ret)
{
    const struct sched_kv *kv = c->state ? sched_state_kv(c->state, key) : NULL;

    if (kv) {
        show(kv, ret);
    }
    return kv != NULL;
}

void cluster_rows(const struct cluster *c,
                  const char *prefix,
                  bool (*each)(void *arg, const struct node_row *row),
                  void *arg)
{
    size_t count = c->state ? sched_state_count(c->state, SCHED_TABLE_KV) : 0;
    size_t i;

    for (i = count > 0 ? sched_state_kv_seek(c->state, prefix) : 0; i < count; i++) {
        const struct sched_kv *kv = sched_state_at(c->state, SCHED_TABLE_KV, i);
        struct node_row row;

        show(kv, &row);
        if (strncmp(kv->key, prefix, strlen(prefix)) != 0 || !each(arg, &row)) {
            return;
        }
    }
}

void cluster_rows_close(struct cluster *c)
{
    struct shl_list *first;

    while ((first = shl_list_first(&c->row_waits))) {
        struct row_wait *wait = shl_container_of(first, struct row_wait, link);

        wait->outcome = cluster_order_of(-ECANCELED, "the node is shutting down");
        finish(wait);
    }
}
