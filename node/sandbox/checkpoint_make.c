/* From a request to a checkpoint that is ready, and away again.
 *
 * Happy path:
 *  1. create: name and limits; the record (processing) is durable; the sandbox is asked
 *     for a snapshot.
 *  2. on_snapshot: the layers are synced and referenced; the record says so; forks that
 *     wait go on from here.
 *  3. ingest.c: chunks and manifest are durable.
 *  4. ready: the record says so; retention deletes what is too old.
 *
 * What can go wrong: the snapshot or the ingest fails (failed, with the reason; layers are
 * given back; the sandbox goes on); the checkpoint is deleted while it is made (whatever
 * is under way ends and its result is dropped); the daemon dies (checkpoints_resume).
 *
 * A failed one holds no name and counts for no limit: the same request may be made again.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"
#include "node/sandbox/text.h"

/* ---- what is allowed --------------------------------------------------------------- */

int checkpoint_name_check(const char *name, struct shl_err *err)
{
    size_t len = strnlen(name, NODE_CHECKPOINT_NAME_MAX + 1);
    char printable[NODE_CHECKPOINT_NAME_MAX + 1];

    if (len < 1 || len > NODE_CHECKPOINT_NAME_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "the name of a checkpoint has 1 to %d bytes",
                           NODE_CHECKPOINT_NAME_MAX);
    }
    node_text_clean(printable, sizeof(printable), shl_bytes_of(name, len));
    if (strcmp(printable, name) != 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the name of a checkpoint must be printable text");
    }
    return 0;
}

static bool is_used(const struct checkpoint *checkpoint)
{
    return checkpoint->busy > 0 || !shl_list_empty(&checkpoint->waiters);
}

/* Of one sandbox and kind, without failed ones. */
struct tally {
    unsigned all;
    unsigned fixed; /* retention cannot delete them now */
};

static struct tally count_kind(struct checkpoints *set, const char *sandbox_id, bool disk_only)
{
    struct tally tally = {0};
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->all) {
        const struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);
        const struct node_checkpoint *pub = &checkpoint->pub;

        if (pub->disk_only != disk_only || pub->status == NODE_CHECKPOINT_FAILED ||
            strcmp(pub->sandbox_id, sandbox_id) != 0) {
            continue;
        }
        tally.all++;
        tally.fixed += pub->status == NODE_CHECKPOINT_PROCESSING || is_used(checkpoint);
    }
    return tally;
}

static bool name_is_taken(struct checkpoints *set, const char *sandbox_id, const char *name)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->all) {
        const struct node_checkpoint *pub = shl_container_of(it, struct node_checkpoint, link);

        if (pub->status != NODE_CHECKPOINT_FAILED && strcmp(pub->sandbox_id, sandbox_id) == 0 &&
            strcmp(pub->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_limits(struct checkpoints *set,
                        const char *sandbox_id,
                        const struct node_checkpoint_spec *spec,
                        struct shl_err *err)
{
    unsigned max = spec->disk_only ? NODE_CHECKPOINTS_DISK_MAX : NODE_CHECKPOINTS_FULL_MAX;
    struct tally tally = count_kind(set, sandbox_id, spec->disk_only);

    /* with retention the old ones make room as soon as this one is ready */
    if ((spec->keep_max > 0 ? tally.fixed : tally.all) >= max) {
        return shl_err_set(err, SHL_EBADSTATE,
                           "the sandbox has %u %s checkpoints, the maximum: delete one first",
                           tally.all, spec->disk_only ? "disk_only" : "full");
    }
    if (set->count >= CHECKPOINTS_MAX) {
        return shl_err_set(err, SHL_EQUOTA,
                           "this node keeps %d checkpoints, its maximum: delete some first",
                           CHECKPOINTS_MAX);
    }
    return 0;
}

static int check(struct checkpoints *set,
                 const struct node_sandbox *sandbox,
                 const struct node_checkpoint_spec *spec,
                 struct shl_err *err)
{
    int rc = checkpoint_name_check(spec->name, err);

    if (rc < 0) {
        return rc;
    }
    if (set->closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the node is shutting down, try again");
    }
    if (sandbox->state != NODE_SANDBOX_RUNNING) {
        return shl_err_set(err, SHL_EBADSTATE, "sandbox is not running");
    }
    if (sandbox_of((struct node_sandbox *)sandbox)->paused) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the sandbox is paused, try again");
    }
    if (name_is_taken(set, sandbox->id, spec->name)) {
        return shl_err_set(err, SHL_ECONFLICT, "a checkpoint named %s already exists", spec->name);
    }
    return check_limits(set, sandbox->id, spec, err);
}

/* ---- deleting ---------------------------------------------------------------------- */

void checkpoint_drop_stack(struct checkpoint *checkpoint)
{
    if (checkpoint->has_stack) {
        checkpoint->has_stack = false;
        node_stack_unref(checkpoint->set->manager, &checkpoint->stack);
    }
}

int checkpoint_remove(struct checkpoint *checkpoint, enum checkpoint_end how, struct shl_err *err)
{
    struct node_checkpoint *pub = &checkpoint->pub;
    struct checkpoints *set = checkpoint->set;
    struct node_manager *manager = set->manager;
    struct ckpt_id manifest;
    int rc = node_store_delete(manager->store, CHECKPOINT_KIND, pub->id, err);

    if (rc < 0) {
        return rc;
    }
    SHL_LOG(&manager->log, SHL_LOG_INFO, "checkpoint_deleted", SHL_S("checkpoint", pub->id),
            SHL_S("sandbox", pub->sandbox_id), SHL_S("status", node_checkpoint_status(pub)));
    checkpoint->gone = true;
    atomic_store(&checkpoint->cancel, true);
    if (how == CHECKPOINT_DELETED) {
        artefacts_on_gone(checkpoint);
    }
    if (!checkpoint->save) {
        manager_tell_checkpoint(manager, pub, true);
        set->count--;
    }
    shl_list_remove(&pub->link);
    ingest_forget(checkpoint);
    checkpoint_drop_stack(checkpoint);
    if (manifest_id_parse(pub->manifest, &manifest) && how == CHECKPOINT_DELETED) {
        upkeep_doom(set, &manifest);
    } else if (pub->manifest[0] && how == CHECKPOINT_FORGOTTEN) {
        upkeep_release(set, &manifest);
    }
    if (!checkpoint->layers) {
        checkpoint_answer(checkpoint, SHL_ENOTFOUND, "the checkpoint was deleted", NULL);
    }
    if (checkpoint->busy == 0) {
        checkpoint_free(checkpoint);
    }
    return 0;
}

int node_checkpoint_delete(struct node_manager *manager,
                           struct node_checkpoint *pub,
                           struct shl_err *err)
{
    (void)manager;
    return checkpoint_remove(checkpoint_of(pub), CHECKPOINT_DELETED, err);
}

void checkpoint_remove_or_log(struct checkpoint *checkpoint, enum checkpoint_end how)
{
    struct node_manager *manager = checkpoint->set->manager;
    struct shl_err err = {0};

    if (checkpoint_remove(checkpoint, how, &err) < 0) {
        SHL_LOG(&manager->log, SHL_LOG_ERROR, "checkpoint_not_deleted",
                SHL_S("checkpoint", checkpoint->pub.id), SHL_S("reason", err.msg));
    }
}

/* The oldest of @newest's sandbox that retention may delete; NULL when there is none. */
static struct checkpoint *find_old(const struct checkpoint *newest)
{
    struct checkpoints *set = newest->set;
    struct shl_list *it;

    for (it = set->all.prev; it != &set->all; it = it->prev) {
        struct checkpoint *old = shl_container_of(it, struct checkpoint, pub.link);

        if (old != newest && old->pub.status == NODE_CHECKPOINT_READY && !is_used(old) &&
            old->pub.disk_only == newest->pub.disk_only &&
            strcmp(old->pub.sandbox_id, newest->pub.sandbox_id) == 0) {
            return old;
        }
    }
    return NULL;
}

static void retain(struct checkpoint *checkpoint)
{
    const struct node_checkpoint *pub = &checkpoint->pub;
    unsigned max = pub->disk_only ? NODE_CHECKPOINTS_DISK_MAX : NODE_CHECKPOINTS_FULL_MAX;
    unsigned keep = SHL_MIN(checkpoint->keep_max, max);
    unsigned count;

    if (keep == 0) {
        return;
    }
    for (count = count_kind(checkpoint->set, pub->sandbox_id, pub->disk_only).all; count > keep;
         count--) {
        struct checkpoint *old = find_old(checkpoint);

        if (!old) {
            return;
        }
        checkpoint_remove_or_log(old, CHECKPOINT_DELETED);
    }
}

/* ---- how it ends -------------------------------------------------------------------- */

static void save_or_log(struct checkpoint *checkpoint)
{
    struct shl_err err = {0};

    if (checkpoint_save(checkpoint, &err) < 0) {
        SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_ERROR, "checkpoint_record_not_saved",
                SHL_S("checkpoint", checkpoint->pub.id), SHL_S("reason", err.msg));
    }
}

/* Their records would grow without a limit otherwise. */
static void bound_failed(const struct checkpoint *newest)
{
    struct checkpoints *set = newest->set;
    struct shl_list *it, *next;
    unsigned kept = 0;

    SHL_LIST_FOREACH_SAFE(it, next, &set->all) {
        struct checkpoint *old = shl_container_of(it, struct checkpoint, pub.link);

        if (old->pub.status == NODE_CHECKPOINT_FAILED &&
            strcmp(old->pub.sandbox_id, newest->pub.sandbox_id) == 0 &&
            ++kept > CHECKPOINTS_FAILED_MAX && !is_used(old) && old != newest) {
            checkpoint_remove_or_log(old, CHECKPOINT_DELETED);
        }
    }
}

/* Nobody asked for it, so nothing is left of it; it is tried again. */
static void save_failed(struct checkpoint *checkpoint, const char *reason)
{
    struct checkpoints *set = checkpoint->set;
    struct sandbox *sandbox = manager_lookup(set->manager, checkpoint->pub.sandbox_id);
    char id[NODE_SANDBOX_ID_SIZE];

    if (sandbox && !sandbox->save_failed) {
        sandbox->save_failed = true;
        SHL_LOG(&set->manager->log, SHL_LOG_WARN, "sandbox_not_saved",
                SHL_S("sandbox", checkpoint->pub.sandbox_id), SHL_S("reason", reason));
    }
    (void)memcpy(id, checkpoint->pub.sandbox_id, sizeof(id));
    checkpoint_remove_or_log(checkpoint, CHECKPOINT_DELETED);
    saves_settle(set, id);
}

void checkpoint_fail(struct checkpoint *checkpoint, const char *reason)
{
    struct node_checkpoint *pub = &checkpoint->pub;

    if (checkpoint->gone) {
        checkpoint_drop_stack(checkpoint);
        return;
    }
    if (checkpoint->save) {
        save_failed(checkpoint, reason);
        return;
    }
    SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_WARN, "checkpoint_failed",
            SHL_S("checkpoint", pub->id), SHL_S("sandbox", pub->sandbox_id),
            SHL_S("reason", reason));
    pub->status = NODE_CHECKPOINT_FAILED;
    pub->failed_at_ms = shl_realtime_ms();
    (void)snprintf(pub->error, sizeof(pub->error), "%s", reason);
    if (checkpoint->has_stack) {
        /* the record first: layers it names must be there */
        checkpoint->has_stack = false;
        save_or_log(checkpoint);
        node_stack_unref(checkpoint->set->manager, &checkpoint->stack);
    } else {
        save_or_log(checkpoint);
    }
    if (!checkpoint->layers) {
        char msg[NODE_REASON_MAX + 32];

        (void)snprintf(msg, sizeof(msg), "the checkpoint failed: %s", pub->error);
        checkpoint_answer(checkpoint, SHL_EBADSTATE, msg, NULL);
    }
    bound_failed(checkpoint);
}

/* A ready one was stored again. Usually it is the same manifest; layers that were made again may
 * cover more of the memory than the first ones. */
static void replace_manifest(struct checkpoint *checkpoint, const struct ckpt_id *manifest)
{
    struct node_checkpoint *pub = &checkpoint->pub;
    char hex[sizeof(pub->manifest)], old_hex[sizeof(pub->manifest)];
    struct shl_err err = {0};
    struct ckpt_id old;

    shl_hex_encode(hex, manifest->bytes, sizeof(manifest->bytes));
    SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_INFO, "checkpoint_stored_again",
            SHL_S("checkpoint", pub->id), SHL_S("manifest", hex));
    if (strcmp(hex, pub->manifest) == 0) {
        return;
    }
    (void)memcpy(old_hex, pub->manifest, sizeof(old_hex));
    (void)memcpy(pub->manifest, hex, sizeof(hex));
    if (checkpoint_save(checkpoint, &err) < 0) {
        SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_ERROR, "checkpoint_record_not_saved",
                SHL_S("checkpoint", pub->id), SHL_S("reason", err.msg));
        (void)memcpy(pub->manifest, old_hex, sizeof(old_hex));
        upkeep_doom(checkpoint->set, manifest);
    } else if (manifest_id_parse(old_hex, &old)) {
        upkeep_doom(checkpoint->set, &old);
        artefacts_on_ready(checkpoint);
    }
}

void checkpoint_ready(struct checkpoint *checkpoint, const struct ckpt_id *manifest)
{
    struct node_checkpoint *pub = &checkpoint->pub;
    struct shl_err err = {0};
    bool had_stack;

    if (checkpoint->gone) {
        upkeep_doom(checkpoint->set, manifest);
        return;
    }
    if (pub->status == NODE_CHECKPOINT_READY) {
        replace_manifest(checkpoint, manifest);
        return;
    }
    had_stack = checkpoint->has_stack;
    pub->status = NODE_CHECKPOINT_READY;
    checkpoint->has_stack = had_stack && !checkpoint->save;
    pub->size_bytes = checkpoint->layer_bytes;
    shl_hex_encode(pub->manifest, manifest->bytes, sizeof(manifest->bytes));
    if (checkpoint_save(checkpoint, &err) < 0) {
        checkpoint->has_stack = had_stack;
        pub->status = NODE_CHECKPOINT_PROCESSING;
        pub->size_bytes = 0;
        pub->manifest[0] = '\0';
        upkeep_doom(checkpoint->set, manifest);
        checkpoint_fail(checkpoint, err.msg);
        return;
    }
    SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_INFO, "checkpoint_ready",
            SHL_S("checkpoint", pub->id), SHL_S("sandbox", pub->sandbox_id),
            SHL_I("size_bytes", pub->size_bytes),
            SHL_I("age_ms", shl_realtime_ms() - pub->created_at_ms));
    artefacts_on_ready(checkpoint);
    if (checkpoint->save) {
        node_stack_unref(checkpoint->set->manager, &checkpoint->stack);
        saves_settle(checkpoint->set, pub->sandbox_id);
        return;
    }
    /* now, so that the first fork need not wait for it */
    if (layers_are_deep(&checkpoint->stack) && layers_look(checkpoint) < 0) {
        SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_WARN, "checkpoint_stays_deep",
                SHL_S("checkpoint", pub->id), SHL_S("effect", "the first fork does it"));
    }
    retain(checkpoint);
}

/* ---- 2. the snapshot ---------------------------------------------------------------- */

static void take_stack(struct checkpoint *checkpoint,
                       const struct node_stack *stack,
                       const struct sandbox_snapshot_stats *stats)
{
    struct shl_err err = {0};

    checkpoint->stack = *stack;
    checkpoint->has_stack = true;
    if (checkpoint->save) {
        (void)memcpy(checkpoint->of_state, stack->state.hex, sizeof(checkpoint->of_state));
    }
    checkpoint->layer_bytes = stats->mem_bytes + stats->state_bytes + stats->disk_bytes;
    if (checkpoint->gone) {
        checkpoint_drop_stack(checkpoint);
        return;
    }
    if (checkpoint_save(checkpoint, &err) < 0) {
        checkpoint_fail(checkpoint, err.msg);
        return;
    }
    SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_INFO, "checkpoint_taken",
            SHL_S("checkpoint", checkpoint->pub.id), SHL_S("sandbox", checkpoint->pub.sandbox_id),
            SHL_I("pause_us", stats->pause_us), SHL_I("layer_bytes", checkpoint->layer_bytes),
            SHL_I("age_ms", shl_realtime_ms() - checkpoint->pub.created_at_ms));
    if (!shl_list_empty(&checkpoint->waiters) && layers_look(checkpoint) < 0) {
        checkpoint_answer(checkpoint, -ENOMEM, shl_err_text(-ENOMEM), NULL);
    }
    ingest_enqueue(checkpoint);
}

static void on_snapshot(void *arg,
                        int code,
                        const char *msg,
                        const struct node_stack *stack,
                        const struct sandbox_snapshot_stats *stats)
{
    struct checkpoint *checkpoint = arg;

    if (code == 0) {
        take_stack(checkpoint, stack, stats);
    } else if (!checkpoint->set->closing) {
        checkpoint_fail(checkpoint, msg);
    } /* else the next daemon says what happened to it */
    checkpoint_leave(checkpoint);
}

/* ---- 1. the request ----------------------------------------------------------------- */

static int fill(struct checkpoint *checkpoint,
                const struct node_sandbox *sandbox,
                const struct node_checkpoint_spec *spec,
                struct shl_err *err)
{
    struct node_checkpoint *pub = &checkpoint->pub;
    int rc = sandbox_spec_copy(&pub->spec, &sandbox->spec);

    if (rc < 0) {
        return shl_err_set(err, rc, "cannot make a checkpoint: %s", shl_err_text(rc));
    }
    node_secret_use_drop_tokens(&pub->spec.secrets); /* they are of this sandbox alone */
    shl_uuid_make(pub->id);
    (void)snprintf(pub->sandbox_id, sizeof(pub->sandbox_id), "%s", sandbox->id);
    (void)snprintf(pub->name, sizeof(pub->name), "%s", spec->name);
    pub->disk_only = spec->disk_only;
    pub->status = NODE_CHECKPOINT_PROCESSING;
    pub->created_at_ms = shl_realtime_ms();
    checkpoint->keep_max = spec->keep_max;
    checkpoint->fresh = true;
    return checkpoint_save(checkpoint, err);
}

int checkpoint_take(struct checkpoint *checkpoint, struct sandbox *sandbox)
{
    int rc;

    checkpoint_enter(checkpoint);
    rc = sandbox_snapshot(sandbox,
                          checkpoint->pub.disk_only ? SANDBOX_SNAPSHOT_DISK : SANDBOX_SNAPSHOT_FULL,
                          on_snapshot, checkpoint);
    if (rc < 0) {
        checkpoint_remove_or_log(checkpoint, CHECKPOINT_DELETED);
        checkpoint_leave(checkpoint);
    }
    return rc;
}

int node_checkpoint_create(struct node_manager *manager,
                           struct node_sandbox *sandbox,
                           const struct node_checkpoint_spec *spec,
                           struct node_checkpoint **ret_checkpoint,
                           struct shl_err *err)
{
    struct checkpoints *set = manager->checkpoints;
    struct checkpoint *checkpoint;
    int rc = check(set, sandbox, spec, err);

    if (rc < 0) {
        return rc;
    }
    checkpoint = checkpoint_new(set);
    if (!checkpoint) {
        return shl_err_sys(err, ENOMEM, "cannot make a checkpoint");
    }
    rc = fill(checkpoint, sandbox, spec, err);
    if (rc < 0) {
        checkpoint_free(checkpoint);
        return rc;
    }
    checkpoint_insert(checkpoint);
    rc = checkpoint_take(checkpoint, sandbox_of(sandbox));
    if (rc < 0) {
        return shl_err_set(err, rc, "cannot make a checkpoint of sandbox %s: %s", sandbox->id,
                           shl_err_text(rc));
    }
    *ret_checkpoint = &checkpoint->pub;
    return 0;
}
