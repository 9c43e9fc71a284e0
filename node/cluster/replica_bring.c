/* All that a sandbox needs to run here: an artefact, then the bases that it is relative to and
 * that this node does not have as files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/cluster/replicas_private.h"

#define BRINGS_MAX  256
#define CALLERS_MAX 1024 /* of one */

struct caller {
    struct shl_list link;
    cluster_bring_cb cb;
    void *arg;
};

struct bring {
    struct shl_list link; /* of brings */
    struct cluster_replicas *r;
    enum ckpt_fetch_class class;
    char id[SCHED_ID_SIZE];
    char manifest[NODE_MANIFEST_SIZE];
    char bases[NODE_BASES_MAX][NODE_BASE_ID_SIZE];
    char base_manifests[NODE_BASES_MAX][NODE_MANIFEST_SIZE];
    uint32_t base_count, waiting;
    struct shl_list callers;
    uint32_t caller_count;
    struct shl_err err; /* the first failure */
};

static void finish(struct bring *bring)
{
    struct node_import import = {.id = bring->id, .manifest = bring->manifest};
    bool ok = bring->err.code == 0;
    struct shl_list *first;
    uint32_t i;

    shl_list_remove(&bring->link);
    for (i = 0; ok && i < bring->base_count; i++) {
        import.bases[i].id = bring->bases[i];
        import.bases[i].manifest = bring->base_manifests[i];
    }
    import.base_count = bring->base_count;
    while ((first = shl_list_first(&bring->callers))) {
        struct caller *caller = shl_container_of(first, struct caller, link);

        shl_list_remove(first);
        caller->cb(caller->arg, bring->err.code, ok ? NULL : bring->err.msg, ok ? &import : NULL);
        free(caller);
    }
    free(bring);
}

static void on_base(void *arg, int code, const char *msg)
{
    struct bring *bring = arg;

    if (code < 0 && bring->err.code == 0) {
        (void)shl_err_set(&bring->err, code, "what the checkpoint is relative to: %.200s",
                          msg ? msg : shl_err_text(code));
    }
    if (--bring->waiting == 0) {
        finish(bring);
    }
}

static int fetch_base(struct bring *bring, uint32_t i)
{
    struct cluster_replicas *r = bring->r;
    const struct sched_checkpoint *row;
    char id[SCHED_ID_SIZE];
    struct ckpt_id manifest;

    (void)snprintf(id, sizeof(id), NODE_BASE_PREFIX "%s", bring->bases[i]);
    row = sched_state_checkpoint(r->c->state, id);
    if (!row) {
        return shl_err_set(&bring->err, SHL_ENOTFOUND,
                           "the cluster does not know %s, which the checkpoint is relative to", id);
    }
    memcpy(manifest.bytes, row->manifest, sizeof(manifest.bytes));
    shl_hex_encode(bring->base_manifests[i], manifest.bytes, sizeof(manifest.bytes));
    bring->waiting++;
    if (replica_fetch(r, &manifest, bring->class, false, on_base, bring, &bring->err) < 0) {
        bring->waiting--;
    }
    return bring->err.code;
}

static void on_artefact(void *arg, int code, const char *msg)
{
    struct bring *bring = arg;
    uint32_t i;
    int rc = 0;

    if (code < 0) {
        (void)shl_err_set(&bring->err, code, "%s", msg ? msg : shl_err_text(code));
    } else {
        rc = node_import_bases(bring->r->c->manager, bring->manifest, bring->bases, &bring->err);
    }
    if (rc < 0 && bring->err.code == 0) {
        (void)shl_err_set(&bring->err, rc, "%s", shl_err_text(rc));
    }
    bring->base_count = rc > 0 ? SHL_MIN((uint32_t)rc, (uint32_t)NODE_BASES_MAX) : 0;
    for (i = 0; i < bring->base_count && bring->err.code == 0; i++) {
        if (fetch_base(bring, i) < 0) {
            break;
        }
    }
    if (bring->waiting == 0) {
        finish(bring);
    } /* else after what was begun */
}

static int add_caller(struct bring *bring, cluster_bring_cb cb, void *arg, struct shl_err *err)
{
    struct caller *caller = bring->caller_count < CALLERS_MAX ? calloc(1, sizeof(*caller)) : NULL;

    if (!caller) {
        return shl_err_set(err, SHL_ELIMIT, "too many wait for this checkpoint already");
    }
    caller->cb = cb;
    caller->arg = arg;
    bring->caller_count++;
    shl_list_push_back(&bring->callers, &caller->link);
    return 0;
}

static struct bring *find(struct cluster_replicas *r, const char *id, uint32_t *ret_count)
{
    struct shl_list *it;

    *ret_count = 0;
    SHL_LIST_FOREACH(it, &r->brings) {
        struct bring *bring = shl_container_of(it, struct bring, link);

        (*ret_count)++;
        if (strcmp(bring->id, id) == 0) {
            return bring;
        }
    }
    return NULL;
}

static int begin(struct cluster_replicas *r,
                 const struct sched_checkpoint *row,
                 enum ckpt_fetch_class class,
                 cluster_bring_cb cb,
                 void *arg,
                 struct shl_err *err)
{
    struct bring *bring = calloc(1, sizeof(*bring));
    struct ckpt_id manifest;
    int rc;

    if (!bring) {
        return shl_err_sys(err, ENOMEM, "cannot fetch a checkpoint");
    }
    bring->r = r;
    bring->class = class;
    shl_list_init(&bring->callers);
    (void)snprintf(bring->id, sizeof(bring->id), "%s", row->id);
    memcpy(manifest.bytes, row->manifest, sizeof(manifest.bytes));
    shl_hex_encode(bring->manifest, manifest.bytes, sizeof(manifest.bytes));
    rc = replica_fetch(r, &manifest, class, false, on_artefact, bring, err);
    if (rc < 0) {
        free(bring);
        return rc;
    }
    shl_list_push_back(&r->brings, &bring->link);
    return add_caller(bring, cb, arg, err); /* without one it is fetched all the same */
}

static void raise_one(struct bring *bring, const char *hex)
{
    struct shl_err err = {0};
    struct ckpt_id manifest;

    if (replicas_manifest_parse(hex, &manifest) && replica_is_fetching(bring->r, &manifest)) {
        (void)!replica_fetch(bring->r, &manifest, bring->class, false, NULL, NULL, &err);
    }
}

/* Somebody waits for it now. */
static void raise_class(struct bring *bring, enum ckpt_fetch_class class)
{
    uint32_t i;

    bring->class = class;
    raise_one(bring, bring->manifest);
    for (i = 0; i < bring->base_count; i++) {
        raise_one(bring, bring->base_manifests[i]);
    }
}

static int bring_artefact(struct cluster_replicas *r,
                          const char *artefact_id,
                          enum ckpt_fetch_class class,
                          cluster_bring_cb cb,
                          void *arg,
                          struct shl_err *err)
{
    const struct cluster *c = r->c;
    const struct sched_checkpoint *row =
        c->state ? sched_state_checkpoint(c->state, artefact_id) : NULL;
    struct bring *bring;
    uint32_t count;

    if (!row) {
        return shl_err_set(err, SHL_ENOTFOUND, "the cluster does not know a checkpoint %.40s",
                           artefact_id);
    }
    bring = find(r, artefact_id, &count);
    if (bring) {
        if (class < bring->class) {
            raise_class(bring, class);
        }
        return add_caller(bring, cb, arg, err);
    }
    if (count >= BRINGS_MAX) {
        return shl_err_set(err, SHL_ELIMIT,
                           "too many checkpoints are being brought here, try "
                           "again");
    }
    return begin(r, row, class, cb, arg, err);
}

int cluster_bring(struct cluster *c,
                  const char *artefact_id,
                  cluster_bring_cb cb,
                  void *arg,
                  struct shl_err *err)
{
    return bring_artefact(c->replicas, artefact_id, CKPT_FETCH_RESUME, cb, arg, err);
}

int replica_bring_ahead(struct cluster_replicas *r,
                        const char *artefact_id,
                        cluster_bring_cb cb,
                        void *arg,
                        struct shl_err *err)
{
    return bring_artefact(r, artefact_id, CKPT_FETCH_REBALANCE, cb, arg, err);
}

/*- Checkpoints of sandboxes that are this node's. */

static void on_imported(void *arg, int code, const char *msg)
{
    struct cluster *c = arg;

    if (code < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "checkpoint_not_imported",
                SHL_S("error", msg ? msg : shl_err_text(code)));
    }
}

static void on_brought(void *arg, int code, const char *msg, const struct node_import *ready)
{
    struct cluster_replicas *r = arg;

    if (code == 0 && !r->is_closing) {
        node_checkpoint_import(r->c->manager, ready, on_imported, r->c);
    } else if (code < 0) {
        SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "checkpoint_not_imported", SHL_S("error", msg));
    }
}

static void import_row(struct cluster_replicas *r, const struct sched_checkpoint *row)
{
    const struct sched_owner *owner = sched_state_owner(r->c->state, row->sandbox);
    struct shl_err err = {0};

    if ((row->kind != SCHED_CHECKPOINT_FULL && row->kind != SCHED_CHECKPOINT_DISK) || !owner ||
        !shl_node_id_equal(&owner->owner, &r->c->keys.id) ||
        node_checkpoint_find(r->c->manager, row->org, row->id)) {
        return;
    }
    if (cluster_bring(r->c, row->id, on_brought, r, &err) < 0) {
        SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "checkpoint_not_imported", SHL_S("error", err.msg));
    }
}

void replica_import(struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    const struct catalogue_ref *ref = catalogue_of_manifest(r, manifest);
    const struct sched_checkpoint *row = ref ? catalogue_row(r, ref) : NULL;

    if (row) {
        import_row(r, row);
    }
}
