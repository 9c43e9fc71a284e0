/* A sandbox of another node is to be had here: what it comes back from is copied and imported.
 *
 *   1. take: may this node claim it at all, as far as it can tell? What is its newest state?
 *   2. cluster_bring: all of that is in the store of this node.
 *   3. The record that says "a copy" is durable, then it is imported, hibernated.
 *   4. Whoever wakes it asks the gate, and there the log decides (scheduler/hold.h); when it
 *      was not the newest any more it goes again (take_confirm).
 *
 * What can go wrong: no holder answers, the disk is full, it is damaged: those who asked are told
 * and nothing stays behind. Nobody has it whole, and it was not promised: an older one is brought.
 * The daemon dies between record and import: the record goes at the next start. Two nodes take it:
 * both have a copy, one gets it, the other lets it go.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mp.h"
#include "node/cluster/owners_private.h"
#include "node/cluster/replicas.h"

#define TAKE_BYTES_MAX 256
#define TAKES_MAX      256

struct take_waiter {
    struct shl_list link;
    node_sandbox_cb cb;
    void *arg;
};

struct take {
    struct shl_list link; /* of the cluster */
    struct cluster_job job;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    char artefact[NODE_CHECKPOINT_ID_SIZE];
    char newest[NODE_CHECKPOINT_ID_SIZE]; /* as in struct owner_record */
    enum cluster_take_how how;
    bool is_own; /* the log does not know it, and this node has its record */
    uint64_t epoch;
    struct shl_list waiters;
    struct { /* what was brought, while the record of one that is lost goes */
        char manifest[NODE_MANIFEST_SIZE];
        char bases[NODE_BASES_MAX][NODE_BASE_ID_SIZE];
        char base_manifests[NODE_BASES_MAX][NODE_MANIFEST_SIZE];
        uint32_t base_count;
    } brought;
};

static void tell_waiters(struct take *take, int code, const char *msg)
{
    struct shl_list *first;

    while ((first = shl_list_first(&take->waiters))) {
        struct take_waiter *waiter = shl_container_of(first, struct take_waiter, link);

        shl_list_remove(first);
        waiter->cb(waiter->arg, code, msg);
        free(waiter);
    }
}

static void take_free(struct take *take)
{
    if (take->job.cluster) {
        take->job.cluster->take_count--;
    }
    cluster_job_end(&take->job);
    shl_list_remove(&take->link);
    free(take);
}

static void end(struct take *take, int code, const char *msg)
{
    struct cluster *c = take->job.cluster;

    shl_list_remove(&take->link); /* who comes now begins another one */
    if (code < 0 && c && !c->is_closing) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "sandbox_not_taken", SHL_S("sandbox", take->sandbox),
                SHL_S("error", msg));
    }
    tell_waiters(take, code, msg);
    take_free(take);
}

void cluster_takes_close(struct cluster *c)
{
    struct shl_list *first;

    while ((first = shl_list_first(&c->takes))) {
        shl_list_remove(first);
        tell_waiters(shl_container_of(first, struct take, link), SHL_EUNAVAILABLE,
                     "the node daemon is being stopped");
    }
}

/* ---- what it comes back from ------------------------------------------------------ */

static void copy_id(const struct sched_checkpoint *row, char ret[NODE_CHECKPOINT_ID_SIZE])
{
    ret[0] = '\0';
    if (row && strlen(row->id) < NODE_CHECKPOINT_ID_SIZE) {
        memcpy(ret, row->id, strlen(row->id) + 1);
    }
}

/* One that ran goes on from the newest state that a node has which lives: what its own node alone
 * had is as lost as what ran. What may have been promised is waited for, also while its nodes are
 * silent, as is the state of one that was hibernated. */
void take_newest(struct cluster *c, const char *sandbox, char ret[NODE_CHECKPOINT_ID_SIZE])
{
    const struct sched_checkpoint *row = cluster_sandbox_reachable(c, sandbox, NULL);

    copy_id(row ? row : cluster_sandbox_saved(c, sandbox, 0), ret);
}

/* Of whatever kind. */
static void take_kept(struct cluster *c, const char *sandbox, char ret[NODE_CHECKPOINT_ID_SIZE])
{
    copy_id(cluster_sandbox_kept(c, sandbox), ret);
}

/* The row tells no more what it was: it is this node's by now. */
static bool is_newest(struct cluster *c, const char *sandbox, const struct owner_record *record)
{
    const struct sched_checkpoint *row = sched_state_checkpoint(c->state, record->artefact);
    char newest[NODE_CHECKPOINT_ID_SIZE];

    if (row && row->kind != SCHED_CHECKPOINT_HIBERNATION) {
        take_kept(c, sandbox, newest);
        return !newest[0] || strcmp(newest, record->artefact) == 0;
    }
    return !cluster_sandbox_misses(c, sandbox, record->artefact, record->newest);
}

int take_confirm(struct owned *o, struct shl_err *err)
{
    struct owner_record record = o->record;

    if (!record.artefact[0]) {
        return 0;
    }
    if (!is_newest(o->set->cluster, o->sandbox, &record)) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "a newer state of the sandbox is on another node, try again");
    }
    record.artefact[0] = '\0';
    record.newest[0] = '\0';
    return owner_record_save(o, &record, err);
}

/* ---- 3. import -------------------------------------------------------------------- */

static void on_imported(void *arg, int code, const char *msg)
{
    struct take *take = arg;
    struct cluster *c = take->job.cluster;
    struct owned *o = c && c->owners ? owned_find(c->owners, take->sandbox) : NULL;

    if (o) {
        o->is_importing = false;
    }
    if (code == 0 && c) {
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "sandbox_taken", SHL_S("sandbox", take->sandbox),
                SHL_S("artefact", take->artefact), SHL_I("epoch", (int64_t)take->epoch));
    } else if (o) {
        owned_touch(o); /* the record goes */
    }
    end(take, code, msg);
}

static void bring_in(struct take *take)
{
    struct cluster *c = take->job.cluster;
    struct owner_record record = {.epoch = take->epoch, .is_copy = !take->is_own};
    struct node_import import = {
        .id = take->artefact,
        .manifest = take->brought.manifest,
        .base_count = take->brought.base_count,
        .of_checkpoint = take->how == CLUSTER_TAKE_RECOVER,
    };
    struct shl_err err = {0};
    struct owned *o;
    uint32_t i;

    for (i = 0; i < import.base_count; i++) {
        import.bases[i].id = take->brought.bases[i];
        import.bases[i].manifest = take->brought.base_manifests[i];
    }
    o = owned_find_or_add(c->owners, take->sandbox);
    memcpy(record.artefact, take->artefact, sizeof(record.artefact));
    memcpy(record.newest, take->newest, sizeof(record.newest));
    if (!o || owner_record_save(o, &record, &err) < 0) {
        end(take, o ? err.code : -ENOMEM, err.msg);
        return;
    }
    o->is_importing = true;
    o->is_ended = false;
    node_sandbox_import(c->manager, &import, on_imported, take);
}

static void on_record_gone(void *arg, int code, const char *msg)
{
    struct take *take = arg;
    struct cluster *c = take->job.cluster;

    if (code < 0 || !c || c->is_closing) {
        end(take, code < 0 ? code : SHL_EUNAVAILABLE, code < 0 ? msg : "the daemon is stopped");
    } else {
        bring_in(take);
    }
}

static void keep_brought(struct take *take, const struct node_import *import)
{
    uint32_t i;

    (void)snprintf(take->brought.manifest, sizeof(take->brought.manifest), "%s", import->manifest);
    take->brought.base_count = import->base_count;
    for (i = 0; i < import->base_count; i++) {
        (void)snprintf(take->brought.bases[i], sizeof(take->brought.bases[i]), "%s",
                       import->bases[i].id);
        (void)snprintf(take->brought.base_manifests[i], sizeof(take->brought.base_manifests[i]),
                       "%s", import->bases[i].manifest);
    }
}

static void on_brought(void *arg, int code, const char *msg, const struct node_import *ready);

/* Nobody has it whole: unless it may have been promised it is as lost as what ran, and what was
 * saved before it is gone on from. False: there is nothing. */
static bool bring_older(struct take *take)
{
    struct cluster *c = take->job.cluster;
    const struct sched_checkpoint *row = NULL;
    char vain[NODE_CHECKPOINT_ID_SIZE];
    struct shl_err err = {0};

    if (take->how == CLUSTER_TAKE_PLAIN) {
        row = cluster_sandbox_reachable(c, take->sandbox, take->artefact);
    }
    if (!row || strcmp(row->id, take->artefact) == 0) {
        return false;
    }
    memcpy(vain, take->artefact, sizeof(vain));
    copy_id(row, take->artefact);
    SHL_LOG(&c->log_sink, SHL_LOG_WARN, "save_passed_over", SHL_S("sandbox", take->sandbox),
            SHL_S("artefact", vain), SHL_S("for", take->artefact));
    return cluster_bring(c, take->artefact, on_brought, take, &err) == 0;
}

static void on_brought(void *arg, int code, const char *msg, const struct node_import *ready)
{
    struct take *take = arg;
    struct cluster *c = take->job.cluster;
    struct node_sandbox *sandbox;

    if (code == SHL_ENOTFOUND && !c->is_closing && bring_older(take)) {
        return;
    }
    if (code < 0 || c->is_closing) { /* the sandbox is there, whatever is not */
        end(take, code < 0 && code != SHL_ENOTFOUND ? code : SHL_EUNAVAILABLE, msg);
        return;
    }
    keep_brought(take, ready);
    sandbox = node_manager_find(c->manager, NULL, take->sandbox);
    if (!sandbox) {
        bring_in(take);
    } else if (sandbox->lost) {
        node_sandbox_let_go(c->manager, sandbox, "it is recovered", on_record_gone, take);
    } else {
        end(take, 0, "");
    }
}

/* ---- 1. ask ----------------------------------------------------------------------- */

static int nothing_kept(const struct take *take, struct shl_err *err)
{
    return shl_err_set(err, SHL_EUNAVAILABLE,
                       "nothing is known that sandbox %s could come back from", take->sandbox);
}

/* NOT_YET of an owner that is alive is no reason to copy anything. */
static int judge(struct cluster *c, struct take *take, struct shl_err *err)
{
    const struct sched_owner *row = sched_state_owner(c->state, take->sandbox);
    const struct node_sandbox *sandbox = node_manager_find(c->manager, NULL, take->sandbox);
    struct sched_claim claim;

    sched_claim_judge(c->state, c->lead.is_ready ? &c->leases : NULL, take->sandbox, &c->keys.id,
                      cluster_now_ms(), &claim);
    take->is_own = claim.err.code == SHL_ENOTFOUND && sandbox && sandbox->lost;
    if (take->is_own && take->how == CLUSTER_TAKE_RECOVER) {
        take_kept(c, take->sandbox, take->artefact);
        return take->artefact[0] ? 0 : nothing_kept(take, err);
    }
    if (claim.verdict == SCHED_CLAIM_NEVER ||
        (claim.verdict == SCHED_CLAIM_NOT_YET && row && cluster_members_is_live(c, &row->owner))) {
        *err = claim.err;
        return err->code;
    }
    take->epoch = row ? row->epoch : 0;
    if (!row || row->released || row->claimable) {
        take->how = CLUSTER_TAKE_PLAIN;
        take_newest(c, take->sandbox, take->artefact);
        copy_id(cluster_sandbox_saved(c, take->sandbox, 0), take->newest);
    } else if (take->how == CLUSTER_TAKE_RECOVER) {
        take_kept(c, take->sandbox, take->artefact);
    } else {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "what ran of sandbox %s is lost with its node: recover it",
                           take->sandbox);
    }
    return take->artefact[0] ? 0 : nothing_kept(take, err);
}

static struct take *find(struct cluster *c, const char *sandbox)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &c->takes) {
        struct take *take = shl_container_of(it, struct take, link);

        if (strcmp(take->sandbox, sandbox) == 0) {
            return take;
        }
    }
    return NULL;
}

static struct take *take_new(struct cluster *c, const char *sandbox)
{
    struct take *take = calloc(1, sizeof(*take));

    if (take) {
        cluster_job_begin(c, &take->job);
        (void)snprintf(take->sandbox, sizeof(take->sandbox), "%s", sandbox);
        shl_list_init(&take->waiters);
        shl_list_push_back(&c->takes, &take->link);
        c->take_count++;
    }
    return take;
}

/* 0 and *ret_take, or why not. */
static int begin(struct cluster *c,
                 const char *sandbox,
                 enum cluster_take_how how,
                 struct take **ret_take,
                 struct shl_err *err)
{
    struct take *take;
    int rc;

    if (c->is_closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the node daemon is being stopped");
    }
    if (c->take_count >= TAKES_MAX) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "this node takes over %d sandboxes already, try again", TAKES_MAX);
    }
    take = take_new(c, sandbox);
    if (!take) {
        return shl_err_sys(err, ENOMEM, "cannot take a sandbox over");
    }
    take->how = how;
    rc = judge(c, take, err);
    if (rc == 0) {
        rc = cluster_bring(c, take->artefact, on_brought, take, err);
    }
    if (rc < 0) {
        take_free(take);
        return rc;
    }
    *ret_take = take;
    return 0;
}

int cluster_take(struct cluster *c,
                 const char *sandbox,
                 enum cluster_take_how how,
                 node_sandbox_cb cb,
                 void *arg,
                 struct shl_err *err)
{
    struct take_waiter *waiter = calloc(1, sizeof(*waiter));
    struct take *take = find(c, sandbox);
    int rc = 0;

    if (!waiter) {
        return shl_err_sys(err, ENOMEM, "cannot take a sandbox over");
    }
    if (!take) {
        rc = begin(c, sandbox, how, &take, err);
    }
    if (rc < 0) {
        free(waiter);
        return rc;
    }
    waiter->cb = cb;
    waiter->arg = arg;
    shl_list_push_back(&take->waiters, &waiter->link);
    return 0;
}

/* ---- for another node ------------------------------------------------------------- */

struct request {
    struct cluster_job job;
    struct node_mesh_call *call;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    bool is_to_run;
};

static void reply(struct request *request, int code, const char *msg)
{
    node_mesh_reply(request->call, code, code < 0 ? msg : NULL, shl_bytes_of(NULL, 0));
    cluster_job_end(&request->job);
    free(request);
}

static void on_woken(void *arg, int code, const char *msg)
{
    reply(arg, code, msg);
}

static void on_taken(void *arg, int code, const char *msg)
{
    struct request *request = arg;
    struct cluster *c = request->job.cluster;
    struct node_sandbox *sandbox = c ? node_manager_find(c->manager, NULL, request->sandbox) : NULL;

    if (code == 0 && !sandbox) {
        code = SHL_EUNAVAILABLE;
    }
    if (code < 0 || !request->is_to_run) {
        reply(request, code, msg);
    } else {
        node_manager_wake(c->manager, sandbox, NULL, on_woken, request);
    }
}

int cluster_take_write(struct shl_buf *buf, const char *sandbox, bool is_to_run)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "sandbox", sandbox);
    shl_mp_kv_bool(&w, "run", is_to_run);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int read_request(struct shl_bytes body, struct request *request)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, body);

    if (rc < 0) {
        return SHL_EPROTO;
    }
    rc = shl_mp_get_cpy(doc.root, "sandbox", request->sandbox, sizeof(request->sandbox));
    if (rc == 0) {
        rc = shl_mp_get_bool(doc.root, "run", &request->is_to_run);
    }
    shl_mp_release(&doc);
    return rc < 0 ? SHL_EPROTO : 0;
}

static void on_take(void *arg,
                    struct node_mesh_call *call,
                    const struct shl_node_id *from,
                    struct shl_bytes body)
{
    struct cluster *c = arg;
    struct request *request = calloc(1, sizeof(*request));
    int rc = request ? read_request(body, request) : -ENOMEM;
    struct shl_err err = {0};

    (void)from;
    if (rc < 0 || c->is_closing || !c->owners) {
        free(request);
        node_mesh_reply(call, rc < 0 ? rc : SHL_EUNAVAILABLE, NULL, shl_bytes_of(NULL, 0));
        return;
    }
    cluster_job_begin(c, &request->job);
    request->call = call;
    rc = cluster_take(c, request->sandbox, CLUSTER_TAKE_PLAIN, on_taken, request, &err);
    if (rc < 0) {
        reply(request, rc, err.msg);
    }
}

void cluster_take_init(struct cluster *c)
{
    node_mesh_serve(c->mesh, CLUSTER_RPC_TAKE, TAKE_BYTES_MAX, on_take, c);
}
