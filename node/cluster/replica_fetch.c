/* Fetches of whole checkpoints, shared by all who want the same: the planner, and those who
 * bring a sandbox here. The most urgent wish counts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/replicas_private.h"

struct waiter {
    struct shl_list link;
    replica_fetched fetched;
    void *arg;
};

struct fetching {
    struct shl_list link; /* of fetches */
    struct cluster_replicas *r;
    struct ckpt_id manifest;
    enum ckpt_fetch_class class;
    bool is_planned;
    struct shl_list waiters;
    struct node_replica_fetch *fetch;
    struct shl_node_id holders[CKPT_FETCH_HOLDERS_MAX];
    uint32_t holder_count;
};

static struct fetching *find(const struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &r->fetches) {
        struct fetching *f = shl_container_of(it, struct fetching, link);

        if (ckpt_id_equal(&f->manifest, manifest)) {
            return f;
        }
    }
    return NULL;
}

bool replica_is_fetching(const struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    return find(r, manifest) != NULL;
}

/*- Who has it. */

static bool has_holder(const struct shl_node_id *holders,
                       uint32_t count,
                       const struct shl_node_id *node)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        if (shl_node_id_equal(&holders[i], node)) {
            return true;
        }
    }
    return false;
}

static uint32_t add_holders(const struct cluster_replicas *r,
                            const struct sched_checkpoint *row,
                            struct shl_node_id *holders,
                            uint32_t count)
{
    uint32_t i;

    for (i = 0; row && i < row->holder_count && count < CKPT_FETCH_HOLDERS_MAX; i++) {
        const struct shl_node_id *node = &row->holders[i];

        if (!shl_node_id_equal(node, &r->c->keys.id) && cluster_members_is_live(r->c, node) &&
            !has_holder(holders, count, node)) {
            holders[count++] = *node;
        }
    }
    return count;
}

/* Live ones, over all rows with this manifest. */
static uint32_t live_holders(const struct cluster_replicas *r,
                             const struct ckpt_id *manifest,
                             struct shl_node_id holders[CKPT_FETCH_HOLDERS_MAX])
{
    const struct catalogue_ref key = {.manifest = *manifest};
    size_t at = sorted_seek(&r->by_manifest, &key);
    uint32_t count = 0;

    for (; at < r->by_manifest.count; at++) {
        const struct catalogue_ref *ref = r->by_manifest.items[at];

        if (!ckpt_id_equal(&ref->manifest, manifest)) {
            break;
        }
        count = add_holders(r, catalogue_row(r, ref), holders, count);
    }
    return count;
}

bool replica_has_holder(const struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    struct shl_node_id holders[CKPT_FETCH_HOLDERS_MAX];

    return live_holders(r, manifest, holders) > 0;
}

static void tell_holders(struct fetching *f)
{
    struct shl_node_id now[CKPT_FETCH_HOLDERS_MAX];
    uint32_t count = live_holders(f->r, &f->manifest, now), i;

    for (i = 0; i < count; i++) {
        if (!has_holder(f->holders, f->holder_count, &now[i])) {
            node_replica_holder(f->r->transfer, &f->manifest, &now[i], true);
        }
    }
    for (i = 0; i < f->holder_count; i++) {
        if (!has_holder(now, count, &f->holders[i])) {
            node_replica_holder(f->r->transfer, &f->manifest, &f->holders[i], false);
        }
    }
    memcpy(f->holders, now, sizeof(now[0]) * count);
    f->holder_count = count;
}

void replica_fetch_holders(struct cluster_replicas *r)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &r->fetches) {
        tell_holders(shl_container_of(it, struct fetching, link));
    }
}

/*- The end. */

static void tell_waiters(struct fetching *f, int code, const char *msg)
{
    struct shl_list *first;

    while ((first = shl_list_first(&f->waiters))) {
        struct waiter *waiter = shl_container_of(first, struct waiter, link);
        replica_fetched fetched = waiter->fetched;
        void *arg = waiter->arg;

        shl_list_remove(first);
        free(waiter);
        fetched(arg, code, msg);
    }
}

static void take_copy(struct cluster_replicas *r,
                      const struct fetching *f,
                      const struct node_replica_result *result)
{
    r->totals.fetched += !result->was_here;
    r->totals.fetched_bytes += result->raw_bytes + result->manifest_bytes;
    replica_copy_add(r, &f->manifest, false);
    if (!catalogue_of_manifest(r, &f->manifest)) {
        replica_copy_drop(r, &f->manifest, false); /* it was deleted meanwhile */
    }
}

static void on_done(void *arg, const struct node_replica_result *result)
{
    struct fetching *f = arg;
    struct cluster_replicas *r = f->r;
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ENDED};

    shl_list_remove(&f->link);
    if (result->code == 0) {
        take_copy(r, f, result);
    } else {
        r->totals.fetch_failed++;
        SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "copy_not_fetched", SHL_S("error", result->msg));
    }
    tell_waiters(f, result->code, result->msg);
    if (f->is_planned) {
        event.u.ended.manifest = f->manifest;
        event.u.ended.ok = result->code == 0;
        replicas_step(r, &event);
    }
    if (result->code == 0 && f->is_planned) {
        replica_import(r, &f->manifest);
    }
    free(f);
}

void replica_fetch_cancel(struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    struct fetching *f = find(r, manifest);

    if (!f) {
        return;
    }
    f->is_planned = false;
    if (shl_list_empty(&f->waiters)) {
        node_replica_cancel(f->fetch);
        shl_list_remove(&f->link);
        free(f);
        r->scan_at_ms = cluster_now_ms() + REPLICA_HEAR_MS; /* it may have come all the same */
    }
}

/*- The beginning. */

static int add_waiter(struct fetching *f, replica_fetched fetched, void *arg)
{
    struct waiter *waiter = fetched ? calloc(1, sizeof(*waiter)) : NULL;

    if (waiter) {
        waiter->fetched = fetched;
        waiter->arg = arg;
        shl_list_push_back(&f->waiters, &waiter->link);
    }
    return fetched && !waiter ? -ENOMEM : 0;
}

static int start(struct cluster_replicas *r, struct fetching *f, struct shl_err *err)
{
    const struct replica_copy *copy = replica_copy_find(r, &f->manifest);
    int rc;

    if (copy && copy->is_leaving) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "this node is just dropping its copy of the checkpoint, try again");
    }
    f->holder_count = live_holders(r, &f->manifest, f->holders);
    if (f->holder_count == 0 && !copy) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "none of the nodes that have the checkpoint can be reached, try again");
    }
    rc = node_replica_fetch(r->transfer, &f->manifest, f->class, f->holders, f->holder_count,
                            on_done, f, &f->fetch, err);
    if (rc == 0) {
        shl_list_push_back(&r->fetches, &f->link);
    }
    return rc;
}

/* Bytes that are to come, as far as the catalogue knows. */
static void count_missing(struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    const struct catalogue_ref *ref = catalogue_of_manifest(r, manifest);
    const struct sched_checkpoint *row = ref ? catalogue_row(r, ref) : NULL;

    if (row && !replica_copy_find(r, manifest)) {
        r->totals.missing_bytes += row->bytes;
    }
}

int replica_fetch(struct cluster_replicas *r,
                  const struct ckpt_id *manifest,
                  enum ckpt_fetch_class class,
                  bool is_planned,
                  replica_fetched fetched,
                  void *arg,
                  struct shl_err *err)
{
    struct fetching *f = find(r, manifest);
    bool is_new = !f;
    int rc;

    if (!r->transfer || r->is_closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "this node keeps no checkpoints");
    }
    f = f ? f : calloc(1, sizeof(*f));
    if (!f) {
        return shl_err_sys(err, ENOMEM, "cannot fetch a checkpoint");
    }
    if (is_new) {
        f->r = r;
        f->manifest = *manifest;
        f->class = class;
        shl_list_init(&f->link);
        shl_list_init(&f->waiters);
    }
    rc = add_waiter(f, fetched, arg);
    if (rc < 0) {
        rc = shl_err_sys(err, ENOMEM, "cannot fetch a checkpoint");
    } else if (is_new) {
        rc = start(r, f, err);
    } else if (class < f->class) {
        f->class = class;
        node_replica_raise(f->fetch, class);
    }
    if (rc < 0 && is_new) {
        while (!shl_list_empty(&f->waiters)) {
            struct shl_list *first = shl_list_first(&f->waiters);

            shl_list_remove(first);
            free(shl_container_of(first, struct waiter, link));
        }
        free(f);
        return rc;
    }
    if (rc == 0) {
        f->is_planned |= is_planned;
        if (is_new) {
            count_missing(r, manifest);
        }
    }
    return rc;
}
