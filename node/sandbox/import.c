/* From a manifest that another node wrote to a checkpoint or a hibernated sandbox of this one.
 *
 * Happy path:
 *  1. import_run_read (thread pool): the manifest, its config, which bases are missing.
 *     -> on_read: references on everything that is about to be, and on the bases.
 *  2. import_run_write (thread pool): bases, and the layers of a sandbox, synced.
 *     -> on_written: the records of the bases, then that of the checkpoint or the sandbox.
 *  3. The watchers hear of it, @cb is told.
 * Files that node_import_ready had written before are taken instead of 2; bases are written by
 * one import at a time, the others wait and find them.
 *
 * What can go wrong: the manifest is not what it says (refused with the reason); a base is not in
 * the store; there is no space; there is a sandbox of that id, also one that came meanwhile: the
 * references go, and with them the files. The daemon dies: what no record names is removed.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/sandbox/import_job.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

/* ---- the end of it -------------------------------------------------------------------- */

static void pump(struct checkpoints *set);

static void finish(struct import_job *job, int code, const char *msg)
{
    struct node_manager *manager = job->set->manager;
    struct checkpoints *set = job->set;

    SHL_LOG(&manager->log, code < 0 ? SHL_LOG_WARN : SHL_LOG_INFO,
            job->is_ready ? "artefact_made_ready" : "artefact_imported", SHL_S("artefact", job->id),
            SHL_S("manifest", job->manifest_hex),
            SHL_S("kind", job->has_layers ? "sandbox"
                          : job->is_ready ? "bases"
                                          : "checkpoint"),
            SHL_I("code", code), SHL_S("reason", msg), SHL_I("bytes", (int64_t)job->bytes),
            SHL_I("ms", (int64_t)(shl_monotonic_ms() - job->began_ms)));
    shl_list_remove(&job->link);
    set->importing_base = set->importing_base && !job->writes_base;
    if (job->has_stack) {
        node_stack_unref(manager, &job->stack);
    }
    if (job->checkpoint) {
        checkpoint_free(job->checkpoint);
    }
    import_release(job);
    job->cb(job->arg, code, msg);
    free(job);
    pump(set);
    manager_job_ended(manager);
}

static void fail(struct import_job *job)
{
    finish(job, job->rc, job->err.msg);
}

static void queue(struct import_job *job, uv_work_cb run, uv_after_work_cb done)
{
    int rc SHL_UNUSED;

    job->work.data = job;
    rc = uv_queue_work(job->set->manager->loop, &job->work, run, done);
    assert(rc == 0);
}

/* ---- 2. records ------------------------------------------------------------------------ */

static int check_conflict(struct import_job *job)
{
    const struct node_checkpoint *pub = &job->checkpoint->pub;

    if (job->set->closing) {
        return shl_err_set(&job->err, SHL_EUNAVAILABLE, "the node is shutting down, try another");
    }
    if (job->is_sandbox && !job->is_ready && manager_lookup(job->set->manager, pub->sandbox_id)) {
        return shl_err_set(&job->err, SHL_ECONFLICT, "sandbox %s is on this node already",
                           pub->sandbox_id);
    }
    return 0;
}

static int add_bases(struct import_job *job)
{
    uint32_t i;
    int kind, rc = 0;

    for (kind = 0; rc == 0 && kind < NODE_BASES_MAX; kind++) {
        for (i = 0; rc == 0 && job->missing[kind] && i < job->base_count; i++) {
            if (strcmp(job->bases[i].id, job->checkpoint->bases[kind]) == 0) {
                rc = bases_add(job->set, job->bases[i].id, kind == 1, job->bases[i].manifest_hex,
                               &job->err);
            }
        }
    }
    return rc;
}

/* A record of that artefact that is here already: its manifest stays. */
static int drop_former(struct import_job *job)
{
    struct checkpoint *former = artefact_find(job->set, job->id);

    return former ? checkpoint_remove(former, CHECKPOINT_REPLACED, &job->err) : 0;
}

static int save_artefact(struct import_job *job)
{
    struct checkpoint *checkpoint = job->checkpoint;

    checkpoint->imported = true;
    checkpoint->pub.status = NODE_CHECKPOINT_READY;
    (void)memcpy(checkpoint->pub.manifest, job->manifest_hex, sizeof(job->manifest_hex));
    if (checkpoint->save) {
        (void)memcpy(checkpoint->of_state, job->stack.state.hex, sizeof(checkpoint->of_state));
    } else {
        checkpoint->pub.size_bytes = checkpoint->layer_bytes;
        checkpoint->stack = job->stack;
        checkpoint->has_stack = true;
    }
    return checkpoint_save(checkpoint, &job->err);
}

static void insert_artefact(struct import_job *job)
{
    struct checkpoint *checkpoint = job->checkpoint;

    if (checkpoint->has_stack) {
        node_stack_ref(job->set->manager, &checkpoint->stack);
    }
    job->checkpoint = NULL;
    checkpoint_insert(checkpoint);
}

static int make_sandbox(struct import_job *job, struct sandbox **ret)
{
    const struct checkpoint *from = job->checkpoint;
    struct sandbox *sandbox = sandbox_new(job->set->manager);
    struct node_sandbox *pub;
    int rc;

    if (!sandbox) {
        return shl_err_sys(&job->err, ENOMEM, "cannot import a sandbox");
    }
    pub = &sandbox->pub;
    rc = sandbox_spec_copy(&pub->spec, &from->pub.spec);
    if (rc < 0) {
        sandbox_free(sandbox);
        return shl_err_set(&job->err, rc, "cannot import a sandbox: %s", shl_err_text(rc));
    }
    (void)memcpy(pub->id, from->pub.sandbox_id, sizeof(pub->id));
    pub->state = sandbox->durable = NODE_SANDBOX_HIBERNATED;
    pub->created_at_ms =
        from->sandbox_created_at_ms ? from->sandbox_created_at_ms : from->pub.created_at_ms;
    pub->saved_bytes = job->bytes;
    (void)memcpy(pub->from_checkpoint, from->sandbox_from, sizeof(pub->from_checkpoint));
    sandbox->stack = job->stack;
    sandbox->imported = true;
    sandbox->saved = from->save;
    *ret = sandbox;
    return 0;
}

/* Its record first: without it nobody knows what the artefact is for. Until both are there the
 * gate is asked because it is imported. */
static int add_sandbox(struct import_job *job)
{
    struct node_manager *manager = job->set->manager;
    struct sandbox *sandbox = NULL;
    int rc = make_sandbox(job, &sandbox);

    if (rc < 0) {
        return rc;
    }
    rc = sandbox_save(sandbox, &job->err);
    if (rc == 0 && job->checkpoint->save) {
        rc = drop_former(job);
        rc = rc < 0 ? rc : save_artefact(job);
        if (rc < 0) {
            (void)!node_store_delete(manager->store, SANDBOX_KIND, sandbox->pub.id, NULL);
        }
    }
    if (rc < 0) {
        sandbox_free(sandbox);
        return rc;
    }
    node_stack_ref(manager, &sandbox->stack);
    manager_insert(manager, sandbox);
    sandbox_begin_life(sandbox);
    if (job->checkpoint->save) {
        insert_artefact(job);
    }
    manager_tell_sandbox(sandbox, false);
    return 0;
}

static int add_checkpoint(struct import_job *job)
{
    int rc;

    if (artefact_find(job->set, job->id)) {
        return 0; /* meanwhile */
    }
    if (job->set->count >= CHECKPOINTS_MAX) {
        return shl_err_set(&job->err, SHL_EQUOTA,
                           "this node keeps %d checkpoints, its maximum: delete some first",
                           CHECKPOINTS_MAX);
    }
    rc = save_artefact(job);
    if (rc == 0) {
        insert_artefact(job);
    }
    return rc;
}

static int make_ready(struct import_job *job)
{
    int i;

    for (i = 0; i < NODE_BASES_MAX; i++) {
        bases_keep(job->set, job->checkpoint->bases[i]);
    }
    return job->has_layers
               ? ready_add(job->set, job->id, job->manifest_hex, &job->stack, job->bytes, &job->err)
               : 0;
}

static void on_written(uv_work_t *work, int status)
{
    struct import_job *job = work->data;

    (void)status;
    if (job->rc == 0) {
        job->rc = check_conflict(job);
    }
    if (job->rc == 0) {
        job->rc = add_bases(job);
    }
    if (job->rc == 0 && job->is_ready) {
        job->rc = make_ready(job);
    } else if (job->rc == 0) {
        job->rc = job->is_sandbox ? add_sandbox(job) : add_checkpoint(job);
    }
    if (job->rc == 0) {
        finish(job, 0, "");
    } else {
        fail(job);
    }
}

/* ---- 1. checks --------------------------------------------------------------------------- */

/* The layers of a checkpoint are made from its manifest, since no file of these ids is there. */
static void make_stack(struct import_job *job)
{
    struct node_manager *manager = job->set->manager;
    const struct checkpoint *checkpoint = job->checkpoint;
    struct node_stack *stack = &job->stack;

    *stack = (struct node_stack){.whole_disk = true, .disk_count = 1};
    (void)memcpy(stack->base, checkpoint->bases[0], sizeof(stack->base));
    (void)memcpy(stack->warm, checkpoint->bases[1], sizeof(stack->warm));
    stack->warm_mem = stack->warm[0] != '\0';
    layers_ref(manager, stack->base);
    layers_ref(manager, stack->warm);
    layers_new(manager, &stack->disk[0]);
    if (job->manifest.has_memory) {
        stack->mem_count = 1;
        layers_new(manager, &stack->mem[0]);
        layers_new(manager, &stack->state);
    }
    job->has_stack = true;
}

static int check(struct import_job *job)
{
    const struct checkpoint *checkpoint = job->checkpoint;
    int i;

    if (strcmp(checkpoint->pub.id, job->id) != 0) {
        return shl_err_set(&job->err, SHL_ECORRUPT, "the manifest is that of artefact %s",
                           checkpoint->pub.id);
    }
    if (!(job->is_ready && !job->has_layers) && checkpoint->save != job->is_sandbox &&
        !(job->is_sandbox && job->of_checkpoint)) {
        return shl_err_set(&job->err, SHL_EINVALIDARG, "the artefact is %s",
                           checkpoint->save ? "a hibernated sandbox" : "a checkpoint");
    }
    for (i = 0; i < NODE_BASES_MAX; i++) {
        if (checkpoint->bases[i][0] && layers_is_going(job->manager, checkpoint->bases[i])) {
            return shl_err_set(&job->err, SHL_EUNAVAILABLE,
                               "former files of its base are being removed, try again");
        }
    }
    return check_conflict(job);
}

static void write_files(struct import_job *job)
{
    import_look(job);
    if (job->missing[0] || job->missing[1]) {
        job->waits_for_base = job->set->importing_base;
        job->writes_base = !job->waits_for_base;
        job->set->importing_base = true;
    }
    if (!job->waits_for_base) {
        queue(job, import_run_write, on_written);
    }
}

/* Another one writes the same. */
static bool is_behind(const struct import_job *job)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &job->set->imports) {
        const struct import_job *other = shl_container_of(it, struct import_job, link);

        if (other == job) {
            return false;
        }
        if (strcmp(other->id, job->id) == 0) {
            return true;
        }
    }
    return false;
}

static void on_read(uv_work_t *work, int status)
{
    struct import_job *job = work->data;

    (void)status;
    if (job->rc == 0) {
        job->rc = check(job);
    }
    if (job->rc < 0) {
        fail(job);
        return;
    }
    if (!job->is_ready && job->is_sandbox &&
        ready_take(job->set, job->id, job->manifest_hex, &job->stack, &job->bytes)) {
        job->has_stack = true;
        job->has_layers = false;
    } else {
        make_stack(job);
    }
    write_files(job);
}

/* The next one, or those that waited for bases. */
static void pump(struct checkpoints *set)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &set->imports) {
        struct import_job *job = shl_container_of(it, struct import_job, link);

        if (!job->is_started && !is_behind(job)) {
            job->is_started = true;
            queue(job, import_run_read, on_read);
        } else if (job->waits_for_base && !set->importing_base) {
            job->waits_for_base = false;
            write_files(job);
        }
    }
}

static int take(struct import_job *job, const struct node_import *import)
{
    uint32_t i;

    (void)snprintf(job->id, sizeof(job->id), "%s", import->id);
    (void)snprintf(job->manifest_hex, sizeof(job->manifest_hex), "%s", import->manifest);
    if (!manifest_id_parse(import->manifest, &job->manifest_id) ||
        import->base_count > NODE_BASES_MAX) {
        return SHL_EINVALIDARG;
    }
    for (i = 0; i < import->base_count; i++) {
        if (!layers_id_is_valid(import->bases[i].id) ||
            !manifest_id_parse(import->bases[i].manifest, &job->bases[i].manifest_id)) {
            return SHL_EINVALIDARG;
        }
        (void)snprintf(job->bases[i].id, sizeof(job->bases[i].id), "%s", import->bases[i].id);
        (void)snprintf(job->bases[i].manifest_hex, sizeof(job->bases[i].manifest_hex), "%s",
                       import->bases[i].manifest);
    }
    job->base_count = import->base_count;
    job->of_checkpoint = import->of_checkpoint;
    return 0;
}

/* A deletion that was decided before must not take them away. */
static bool spare_all(const struct import_job *job)
{
    bool there = upkeep_spare(job->set, &job->manifest_id);
    uint32_t i;

    for (i = 0; i < job->base_count; i++) {
        there = upkeep_spare(job->set, &job->bases[i].manifest_id) && there;
    }
    return there;
}

static struct import_job *job_new(struct node_manager *manager)
{
    struct import_job *job = calloc(1, sizeof(*job));

    if (!job) {
        return NULL;
    }
    job->manager = manager;
    job->set = manager->checkpoints;
    ckpt_manifest_init(&job->manifest);
    job->checkpoint = checkpoint_new(job->set);
    if (!job->checkpoint) {
        free(job);
        return NULL;
    }
    return job;
}

enum import_what {
    IMPORT_CHECKPOINT,
    IMPORT_SANDBOX,
    IMPORT_READY_BASES,
    IMPORT_READY_LAYERS,
};

static void begin(struct node_manager *manager,
                  const struct node_import *import,
                  enum import_what what,
                  node_sandbox_cb cb,
                  void *arg)
{
    struct import_job *job = job_new(manager);
    int rc = job ? take(job, import) : -ENOMEM;

    if (rc < 0 || manager->closing || !spare_all(job)) {
        if (job) {
            checkpoint_free(job->checkpoint);
            free(job);
        }
        answer_later(manager, cb, arg, rc < 0 ? rc : SHL_EUNAVAILABLE,
                     rc == -ENOMEM ? "there is not enough memory"
                     : rc < 0      ? "the artefact has no valid manifest"
                                   : "the node is shutting down, or its manifest is being deleted");
        return;
    }
    job->is_sandbox = what == IMPORT_SANDBOX || what == IMPORT_READY_LAYERS;
    job->has_layers = job->is_sandbox;
    job->is_ready = what == IMPORT_READY_BASES || what == IMPORT_READY_LAYERS;
    job->began_ms = shl_monotonic_ms();
    job->cb = cb;
    job->arg = arg;
    manager->jobs++;
    shl_list_push_back(&job->set->imports, &job->link);
    pump(job->set);
}

void node_checkpoint_import(struct node_manager *manager,
                            const struct node_import *import,
                            node_sandbox_cb cb,
                            void *arg)
{
    const struct checkpoint *there = artefact_find(manager->checkpoints, import->id);

    if (there && there->pub.status == NODE_CHECKPOINT_READY && !there->save) {
        answer_later(manager, cb, arg, 0, "");
        return;
    }
    begin(manager, import, IMPORT_CHECKPOINT, cb, arg);
}

void node_sandbox_import(struct node_manager *manager,
                         const struct node_import *import,
                         node_sandbox_cb cb,
                         void *arg)
{
    begin(manager, import, IMPORT_SANDBOX, cb, arg);
}

void node_import_ready(struct node_manager *manager,
                       const struct node_import *import,
                       bool layers,
                       node_sandbox_cb cb,
                       void *arg)
{
    if (layers && ready_has(manager->checkpoints, import->id, import->manifest)) {
        answer_later(manager, cb, arg, 0, "");
        return;
    }
    begin(manager, import, layers ? IMPORT_READY_LAYERS : IMPORT_READY_BASES, cb, arg);
}

int node_import_bases(struct node_manager *manager,
                      const char *manifest,
                      char ret[NODE_BASES_MAX][NODE_BASE_ID_SIZE],
                      struct shl_err *err)
{
    struct import_job *job = job_new(manager);
    int i, rc, count = 0;

    if (!job) {
        return shl_err_sys(err, ENOMEM, "cannot look at a manifest");
    }
    rc = manifest_id_parse(manifest, &job->manifest_id)
             ? import_read(job)
             : shl_err_set(&job->err, SHL_EINVALIDARG, "that is not the id of a manifest");
    for (i = 0; rc == 0 && i < NODE_BASES_MAX; i++) {
        if (job->missing[i]) {
            (void)memcpy(ret[count++], job->checkpoint->bases[i], NODE_BASE_ID_SIZE);
        }
    }
    if (rc < 0) {
        (void)shl_err_set(err, rc, "%s", job->err.msg);
    }
    checkpoint_free(job->checkpoint);
    import_release(job);
    free(job);
    return rc < 0 ? rc : count;
}
