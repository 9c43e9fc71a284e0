/* Which manifests the store of this node has. The store is asked at the start; after that
 * everything that brings or removes one says so here. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/replicas_private.h"

#define SCAN_AGAIN_MS 30000

struct replica_scan {
    uv_work_t work;
    struct cluster_replicas *r;
    struct ckpt_id *ids;
    size_t count, room;
    int rc;
    struct shl_err err;
};

struct drop_job {
    uv_work_t work;
    struct cluster_replicas *r;
    struct ckpt_id manifest;
    bool is_trim;
    int rc;
    struct shl_err err;
};

static int compare(const void *a, const void *b)
{
    return memcmp(&((const struct replica_copy *)a)->manifest,
                  &((const struct replica_copy *)b)->manifest, sizeof(struct ckpt_id));
}

void replica_copies_init(struct cluster_replicas *r)
{
    r->copies.compare = compare;
    shl_list_init(&r->drops);
}

void replica_copies_release(struct cluster_replicas *r)
{
    struct shl_list *first;

    while (r->copies.count > 0) {
        free(r->copies.items[--r->copies.count]);
    }
    sorted_release(&r->copies);
    while ((first = shl_list_first(&r->drops))) {
        shl_list_remove(first);
        free(shl_container_of(first, struct replica_drop, link));
    }
}

struct replica_copy *replica_copy_find(const struct cluster_replicas *r,
                                       const struct ckpt_id *manifest)
{
    const struct replica_copy key = {.manifest = *manifest};

    return sorted_find(&r->copies, &key);
}

void replica_copy_add(struct cluster_replicas *r, const struct ckpt_id *manifest, bool is_made)
{
    struct replica_copy *copy = replica_copy_find(r, manifest);

    if (copy) {
        copy->is_made |= is_made;
        return;
    }
    copy = calloc(1, sizeof(*copy));
    if (copy) {
        copy->manifest = *manifest;
        copy->is_made = is_made;
    }
    if (!copy || sorted_insert(&r->copies, copy) < 0) {
        free(copy);
        r->is_scanned = false; /* found by the next scan */
        r->scan_at_ms = cluster_now_ms() + SCAN_AGAIN_MS;
    }
    replicas_survey(r);
}

void replica_copy_gone(struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    struct replica_copy *copy = replica_copy_find(r, manifest);

    if (copy) {
        sorted_remove(&r->copies, copy);
        free(copy);
        replicas_survey(r);
    }
}

/*- Looking. */

static bool on_manifest(void *arg, const struct ckpt_id *id)
{
    struct replica_scan *scan = arg;

    if (scan->count == scan->room) {
        size_t room = scan->room ? scan->room * 2 : 64;
        struct ckpt_id *ids = realloc(scan->ids, room * sizeof(*ids));

        if (!ids) {
            scan->rc = -ENOMEM;
            return false;
        }
        scan->ids = ids;
        scan->room = room;
    }
    scan->ids[scan->count++] = *id;
    return true;
}

static void on_scan(uv_work_t *work)
{
    struct replica_scan *scan = work->data;
    int rc = ckpt_manifest_each(scan->r->store, on_manifest, scan, &scan->err);

    if (rc < 0) {
        scan->rc = rc;
    }
}

static void on_scan_done(uv_work_t *work, int status)
{
    struct replica_scan *scan = work->data;
    struct cluster_replicas *r = scan->r;
    struct cluster *c = r->c;
    size_t i;

    (void)status;
    r->scan = NULL;
    if (scan->rc < 0) {
        r->scan_at_ms = cluster_now_ms() + SCAN_AGAIN_MS;
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "replica_scan",
                SHL_S("error", scan->err.msg[0] ? scan->err.msg : shl_err_text(scan->rc)));
    } else {
        r->is_scanned = true;
        for (i = 0; i < scan->count; i++) {
            replica_copy_add(r, &scan->ids[i], false);
        }
        replicas_survey(r);
    }
    free(scan->ids);
    free(scan);
    cluster_close_part(c);
}

/* A manifest that is deleted while it is looked for is found gone by its next reader; it is
 * not looked for while this node deletes some. */
void replica_copies_scan(struct cluster_replicas *r, uint64_t now_ms)
{
    struct replica_scan *scan;
    int rc SHL_UNUSED;

    if (now_ms < r->scan_at_ms || r->scan || r->is_dropping || r->is_closing || !r->store) {
        return;
    }
    scan = calloc(1, sizeof(*scan));
    if (!scan) {
        return;
    }
    r->scan_at_ms = UINT64_MAX;
    r->scan = scan;
    scan->r = r;
    scan->work.data = scan;
    r->c->handles++;
    rc = uv_queue_work(r->c->loop, &scan->work, on_scan, on_scan_done);
    assert(rc == 0);
}

/*- Dropping, one after the other. */

static void drop_next(struct cluster_replicas *r);

static void on_drop(uv_work_t *work)
{
    struct drop_job *job = work->data;

    job->rc = ckpt_manifest_delete(job->r->store, &job->manifest, &job->err);
}

static void tell_trimmed(struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_TRIMMED};

    event.u.trimmed.manifest = *manifest;
    replicas_step(r, &event);
}

static void on_drop_done(uv_work_t *work, int status)
{
    struct drop_job *job = work->data;
    struct cluster_replicas *r = job->r;
    struct cluster *c = r->c;
    struct replica_copy *copy = replica_copy_find(r, &job->manifest);

    (void)status;
    r->is_dropping = false;
    if (job->rc == 0 || job->rc == SHL_ENOTFOUND) {
        replica_copy_gone(r, &job->manifest);
        r->totals.dropped += !job->is_trim;
        r->totals.trimmed += job->is_trim;
    } else {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "copy_not_dropped", SHL_S("error", job->err.msg));
        if (copy) {
            copy->is_leaving = false; /* it is announced again */
        }
    }
    if (job->is_trim) {
        tell_trimmed(r, &job->manifest);
    }
    free(job);
    drop_next(r);
    cluster_close_part(c);
}

static void drop_next(struct cluster_replicas *r)
{
    struct shl_list *first = shl_list_first(&r->drops);
    struct drop_job *job =
        first && !r->is_dropping && !r->is_closing && !r->scan ? calloc(1, sizeof(*job)) : NULL;
    struct replica_drop *drop;
    int rc SHL_UNUSED;

    if (!job) {
        return; /* the survey tries again */
    }
    drop = shl_container_of(first, struct replica_drop, link);
    job->r = r;
    job->manifest = drop->manifest;
    job->is_trim = drop->is_trim;
    job->work.data = job;
    shl_list_remove(&drop->link);
    free(drop);
    r->is_dropping = true;
    r->c->handles++;
    rc = uv_queue_work(r->c->loop, &job->work, on_drop, on_drop_done);
    assert(rc == 0);
}

void replica_copy_drop(struct cluster_replicas *r, const struct ckpt_id *manifest, bool is_trim)
{
    struct replica_copy *copy = replica_copy_find(r, manifest);
    struct replica_drop *drop;

    if (copy && copy->is_leaving && !is_trim) {
        return;
    }
    drop = calloc(1, sizeof(*drop));
    if (!drop) {
        if (copy) {
            copy->is_leaving = false;
        }
        return;
    }
    if (copy) {
        copy->is_leaving = true;
    }
    drop->manifest = *manifest;
    drop->is_trim = is_trim;
    shl_list_push_back(&r->drops, &drop->link);
    drop_next(r);
}

void replica_copies_continue(struct cluster_replicas *r)
{
    drop_next(r);
}
