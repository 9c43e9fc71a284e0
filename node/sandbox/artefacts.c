/* What other nodes hear of this one's checkpoints and hibernations.
 *
 * A "save" is a checkpoint nobody asked for: what a sandbox comes back from when its node is lost.
 *
 *  1. A sandbox hibernated, or its autosave is due: a save (processing) with its stack, ingested
 *     like any other checkpoint.
 *  2. It is ready: its bases are recorded first (bases.c), then it is told.
 *  3. Once it is told, older ones of the sandbox go. The end of the sandbox deletes all.
 *
 * What can go wrong: a save fails (nothing is left of it; tried again by housekeeping, or at the
 * next interval); the sandbox wakes, hibernates again or ends meanwhile (the newest
 * counts); the daemon dies in between (checkpoints_resume goes on; what belongs to a sandbox
 * that is over is deleted as soon as somebody can be told).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"

#define TICK_MS 1000

/* ---- telling ------------------------------------------------------------------------ */

static void fill(const struct checkpoint *checkpoint, struct node_artefact *artefact)
{
    const struct node_checkpoint *pub = &checkpoint->pub;

    *artefact = (struct node_artefact){
        .kind = checkpoint->save ? NODE_ARTEFACT_HIBERNATION
                : pub->disk_only ? NODE_ARTEFACT_DISK
                                 : NODE_ARTEFACT_FULL,
        .bytes = checkpoint->chunk_bytes,
        .created_at_ms = pub->created_at_ms,
    };
    (void)memcpy(artefact->id, pub->id, sizeof(artefact->id));
    (void)memcpy(artefact->org, pub->spec.org, sizeof(artefact->org));
    (void)memcpy(artefact->sandbox_id, pub->sandbox_id, sizeof(artefact->sandbox_id));
    (void)memcpy(artefact->label, pub->name, sizeof(artefact->label));
    (void)memcpy(artefact->manifest, pub->manifest, sizeof(artefact->manifest));
    (void)memcpy(artefact->bases, checkpoint->bases, sizeof(artefact->bases));
}

static void tell(struct checkpoint *checkpoint)
{
    struct checkpoints *set = checkpoint->set;
    struct node_artefact artefact;

    /* a node alone does not store the image of a template for nobody */
    if (!set->watch || !set->wanted || checkpoint->told || checkpoint->imported ||
        checkpoint->gone || checkpoint->pub.status != NODE_CHECKPOINT_READY ||
        !bases_ready(set, checkpoint)) {
        return;
    }
    checkpoint->told = true;
    fill(checkpoint, &artefact);
    set->watch->artefact(set->watch_arg, &artefact, false);
}

void artefacts_tell_base(struct checkpoints *set,
                         const struct node_artefact *artefact,
                         bool is_gone)
{
    if (set->watch) {
        set->watch->artefact(set->watch_arg, artefact, is_gone);
    }
}

void artefacts_on_ready(struct checkpoint *checkpoint)
{
    checkpoint->told = false;
    tell(checkpoint);
}

void artefacts_on_gone(const struct checkpoint *checkpoint)
{
    struct checkpoints *set = checkpoint->set;
    struct node_artefact artefact;

    if (set->watch && checkpoint->pub.status == NODE_CHECKPOINT_READY) {
        fill(checkpoint, &artefact);
        set->watch->artefact(set->watch_arg, &artefact, true);
    }
}

static void consider_list(struct shl_list *list)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, list) {
        tell(shl_container_of(it, struct checkpoint, pub.link));
    }
}

struct checkpoint *artefact_find(struct checkpoints *set, const char *id)
{
    struct shl_list *lists[] = {&set->all, &set->saves};
    struct shl_list *it;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(lists); i++) {
        SHL_LIST_FOREACH(it, lists[i]) {
            struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

            if (strcmp(checkpoint->pub.id, id) == 0) {
                return checkpoint;
            }
        }
    }
    return NULL;
}

/* ---- 3. saves that are superfluous --------------------------------------------------- */

static bool is_of(const struct checkpoint *checkpoint, const char *sandbox_id)
{
    return strcmp(checkpoint->pub.sandbox_id, sandbox_id) == 0;
}

/* It is what the sandbox comes back from now. */
static bool counts(const struct checkpoint *checkpoint)
{
    return checkpoint->pub.status == NODE_CHECKPOINT_READY &&
           (checkpoint->told || checkpoint->imported || !checkpoint->set->watch);
}

static void drop_older(struct checkpoints *set, const char *sandbox_id)
{
    struct shl_list *it, *next;
    bool newer = false;

    SHL_LIST_FOREACH_SAFE(it, next, &set->saves) {
        struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        if (!is_of(checkpoint, sandbox_id)) {
            continue;
        }
        if (newer) {
            checkpoint_remove_or_log(checkpoint, CHECKPOINT_DELETED);
        } else {
            newer = counts(checkpoint);
        }
    }
}

void saves_settle(struct checkpoints *set, const char *sandbox_id)
{
    char id[NODE_SANDBOX_ID_SIZE];

    (void)snprintf(id, sizeof(id), "%s", sandbox_id); /* it may be that of one that goes */
    drop_older(set, id);
    saves_pump(set);
}

void artefacts_consider(struct checkpoints *set)
{
    struct shl_list *it;

    consider_list(&set->all);
    for (it = set->saves.next; it != &set->saves; it = it->next) {
        struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);
        bool was_told = checkpoint->told;

        tell(checkpoint);
        if (checkpoint->told && !was_told) {
            drop_older(set, checkpoint->pub.sandbox_id); /* those are behind @it */
        }
    }
}

void saves_on_ended(struct sandbox *sandbox, bool moved)
{
    struct checkpoints *set = sandbox->pub.manager->checkpoints;
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &set->saves) {
        struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        if (is_of(checkpoint, sandbox->pub.id)) {
            checkpoint_remove_or_log(checkpoint, moved ? CHECKPOINT_FORGOTTEN : CHECKPOINT_DELETED);
        }
    }
}

/* A daemon died between the end of a sandbox and that of its saves. One that was lost with its
 * machine keeps them until it is recovered, killed or forgotten. */
static void drop_orphans(struct checkpoints *set)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &set->saves) {
        struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);
        const struct sandbox *sandbox = manager_lookup(set->manager, checkpoint->pub.sandbox_id);

        if (!sandbox) {
            /* no word of how it ended: it is somewhere else */
            checkpoint_remove_or_log(checkpoint, CHECKPOINT_FORGOTTEN);
        } else if (sandbox->pub.state == NODE_SANDBOX_STOPPED ||
                   (sandbox->pub.state == NODE_SANDBOX_ERROR && !sandbox->pub.lost)) {
            checkpoint_remove_or_log(checkpoint, CHECKPOINT_DELETED);
        }
    }
}

const char *node_sandbox_artefact(const struct node_sandbox *pub)
{
    const struct sandbox *sandbox = sandbox_of((struct node_sandbox *)pub);
    const struct checkpoints *set = pub->manager->checkpoints;
    const struct shl_list *it;

    if (pub->state != NODE_SANDBOX_HIBERNATED || !sandbox->stack.state.hex[0]) {
        return NULL;
    }
    SHL_LIST_FOREACH(it, &set->saves) {
        const struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        if (is_of(checkpoint, pub->id) && counts(checkpoint) &&
            strcmp(checkpoint->of_state, sandbox->stack.state.hex) == 0) {
            return checkpoint->pub.id;
        }
    }
    return NULL;
}

bool saves_any_ready(const struct sandbox *sandbox)
{
    const struct shl_list *it;
    const struct checkpoints *set = sandbox->pub.manager->checkpoints;

    SHL_LIST_FOREACH(it, &set->saves) {
        const struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        if (checkpoint->pub.status == NODE_CHECKPOINT_READY && is_of(checkpoint, sandbox->pub.id)) {
            return true;
        }
    }
    return false;
}

/* ---- 1. a save ------------------------------------------------------------------------ */

/* Those that only wait to be ingested would be superfluous when it is their turn. */
static void drop_waiting(struct checkpoints *set, const char *sandbox_id)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &set->saves) {
        struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        if (is_of(checkpoint, sandbox_id) && checkpoint->queued && checkpoint->busy == 0 &&
            checkpoint->pub.status == NODE_CHECKPOINT_PROCESSING) {
            checkpoint_remove_or_log(checkpoint, CHECKPOINT_DELETED);
        }
    }
}

static struct checkpoint *save_new(struct sandbox *sandbox)
{
    const struct node_sandbox *from = &sandbox->pub;
    struct checkpoint *checkpoint = checkpoint_new(from->manager->checkpoints);
    struct node_checkpoint *pub;

    if (!checkpoint) {
        return NULL;
    }
    pub = &checkpoint->pub;
    checkpoint->save = true;
    if (sandbox_spec_copy(&pub->spec, &from->spec) < 0) {
        checkpoint_free(checkpoint);
        return NULL;
    }
    shl_uuid_make(pub->id);
    (void)memcpy(pub->sandbox_id, from->id, sizeof(pub->sandbox_id));
    pub->status = NODE_CHECKPOINT_PROCESSING;
    pub->created_at_ms = shl_realtime_ms();
    checkpoint->sandbox_created_at_ms = from->created_at_ms;
    (void)memcpy(checkpoint->sandbox_from, from->from_checkpoint, sizeof(checkpoint->sandbox_from));
    return checkpoint;
}

static void save_hibernated(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    struct checkpoint *checkpoint = save_new(sandbox);
    struct shl_err err = {0};
    int rc = checkpoint ? 0 : shl_err_sys(&err, ENOMEM, "cannot save it for other nodes");

    if (rc == 0) {
        checkpoint->stack = sandbox->stack;
        checkpoint->has_stack = true;
        (void)memcpy(checkpoint->of_state, sandbox->stack.state.hex, sizeof(checkpoint->of_state));
        checkpoint->layer_bytes = sandbox->pub.saved_bytes;
        rc = checkpoint_save(checkpoint, &err);
    }
    if (rc < 0) {
        sandbox->save_failed = true;
        SHL_LOG(&manager->log, SHL_LOG_WARN, "sandbox_not_saved", SHL_S("sandbox", sandbox->pub.id),
                SHL_S("reason", err.msg));
        if (checkpoint) {
            checkpoint_free(checkpoint);
        }
        return;
    }
    node_stack_ref(manager, &checkpoint->stack);
    drop_waiting(manager->checkpoints, sandbox->pub.id);
    sandbox->saved = true;
    checkpoint_insert(checkpoint);
    ingest_enqueue(checkpoint);
}

static bool may_save(const struct sandbox *sandbox)
{
    return sandbox->pub.state == NODE_SANDBOX_HIBERNATED && sandbox->alive && !sandbox->over &&
           sandbox->stack.state.hex[0];
}

void saves_on_hibernated(struct sandbox *sandbox)
{
    const struct checkpoints *set = sandbox->pub.manager->checkpoints;

    sandbox->saved = sandbox->save_failed = false;
    if (set->wanted && !set->closing && may_save(sandbox)) {
        save_hibernated(sandbox);
    }
}

static bool is_under_way(const struct checkpoints *set, const char *sandbox_id)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->saves) {
        const struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        if (checkpoint->pub.status == NODE_CHECKPOINT_PROCESSING &&
            (!sandbox_id || is_of(checkpoint, sandbox_id))) {
            return true;
        }
    }
    return false;
}

/* Those that hibernated before it was wanted, one after the other. */
void saves_pump(struct checkpoints *set)
{
    struct shl_list *it;

    if (!set->wanted || set->closing || is_under_way(set, NULL)) {
        return;
    }
    SHL_LIST_FOREACH(it, &set->manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (may_save(sandbox) && !sandbox->saved && !sandbox->save_failed) {
            save_hibernated(sandbox);
            if (sandbox->saved) {
                return;
            }
        }
    }
}

/* ---- autosave ------------------------------------------------------------------------- */

static void autosave(struct sandbox *sandbox)
{
    struct checkpoints *set = sandbox->pub.manager->checkpoints;
    struct checkpoint *checkpoint;

    if (sandbox->paused || sandbox->ending || is_under_way(set, sandbox->pub.id)) {
        return;
    }
    checkpoint = save_new(sandbox);
    if (checkpoint) {
        /* no record before the snapshot: nothing would have to be cleaned up */
        checkpoint_insert(checkpoint);
        (void)!checkpoint_take(checkpoint, sandbox);
    }
}

void saves_tick(struct checkpoints *set, uint64_t now_ms)
{
    struct shl_list *it, *next;

    if (set->closing) {
        return;
    }
    SHL_LIST_FOREACH_SAFE(it, next, &set->manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);
        const struct node_sandbox_spec *spec = &sandbox->pub.spec;
        uint64_t every_ms =
            (spec->autosave_s ? spec->autosave_s : (uint64_t)NODE_AUTOSAVE_DEFAULT_S) * 1000;

        if (spec->on_node_loss != NODE_ON_LOSS_RESTORE ||
            sandbox->pub.state != NODE_SANDBOX_RUNNING) {
            sandbox->autosave_at_ms = 0;
        } else if (sandbox->autosave_at_ms == 0) {
            sandbox->autosave_at_ms = now_ms + every_ms;
        } else if (now_ms >= sandbox->autosave_at_ms) {
            sandbox->autosave_at_ms = now_ms + every_ms;
            autosave(sandbox);
        }
    }
}

void saves_on_tick(uv_timer_t *timer)
{
    saves_tick(timer->data, shl_monotonic_ms());
}

/* ---- the watcher ----------------------------------------------------------------------- */

void artefacts_housekeeping(struct checkpoints *set)
{
    struct shl_list *it;

    if (set->closing) {
        return;
    }
    SHL_LIST_FOREACH(it, &set->manager->sandboxes) {
        shl_container_of(it, struct sandbox, pub.link)->save_failed = false;
    }
    drop_orphans(set);
    upkeep_ask_again(set);
    bases_retry(set);
    artefacts_consider(set);
    saves_pump(set);
}

void node_manager_set_artefact_watch(struct node_manager *manager,
                                     const struct node_artefact_watch *watch,
                                     void *arg)
{
    struct checkpoints *set = manager->checkpoints;
    struct shl_list *lists[] = {&set->all, &set->saves};
    struct shl_list *it;
    size_t i;

    set->watch = watch;
    set->watch_arg = arg;
    for (i = 0; i < SHL_ARRAY_SIZE(lists); i++) {
        SHL_LIST_FOREACH(it, lists[i]) {
            shl_container_of(it, struct checkpoint, pub.link)->told = false;
        }
    }
    if (!watch) {
        return;
    }
    drop_orphans(set);
    bases_tell(set);
    artefacts_consider(set);
}

static void mark_saved(struct checkpoints *set)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->saves) {
        const struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);
        struct sandbox *sandbox = manager_lookup(set->manager, checkpoint->pub.sandbox_id);

        if (sandbox && checkpoint->of_state[0] &&
            strcmp(sandbox->stack.state.hex, checkpoint->of_state) == 0) {
            sandbox->saved = true;
        }
    }
}

void node_manager_want_artefacts(struct node_manager *manager, bool wanted)
{
    struct checkpoints *set = manager->checkpoints;

    if (set->wanted == wanted || set->closing) {
        return;
    }
    set->wanted = wanted;
    if (wanted) {
        mark_saved(set);
        artefacts_consider(set);
        (void)uv_timer_start(&set->save_tick, saves_on_tick, TICK_MS, TICK_MS);
        saves_pump(set);
    } else {
        (void)uv_timer_stop(&set->save_tick);
    }
}

struct ckpt_store *node_manager_store(struct node_manager *manager)
{
    return manager->checkpoints->store;
}

void node_artefact_forget(struct node_manager *manager, const char *id)
{
    struct checkpoints *set = manager->checkpoints;
    struct checkpoint *checkpoint;

    if (strncmp(id, NODE_BASE_PREFIX, strlen(NODE_BASE_PREFIX)) == 0) {
        (void)bases_forget(set, id + strlen(NODE_BASE_PREFIX));
        return;
    }
    node_import_unready(manager, id);
    checkpoint = artefact_find(set, id);
    if (checkpoint) {
        checkpoint_remove_or_log(checkpoint, CHECKPOINT_FORGOTTEN);
    }
}
