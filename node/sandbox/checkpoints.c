/* The set of checkpoints of a node: opening, closing, looking up.
 *
 * Happy path of opening:
 *  1. load: every record becomes a struct and takes the references of its layers.
 *  2. resume: what a former daemon left is judged. A processing one with layers is
 *     ingested again, one without is failed: its sandbox was never snapshotted.
 *  3. upkeep looks for manifests that no record names; then ingest begins.
 *
 * What can go wrong: a record is damaged or newer (the daemon refuses to start, because
 * it could not tell which layers are whose); the store does not open (likewise).
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"

/* ---- one checkpoint --------------------------------------------------------------- */

struct checkpoint *checkpoint_new(struct checkpoints *set)
{
    struct checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));

    if (!checkpoint) {
        return NULL;
    }
    checkpoint->set = set;
    checkpoint->pub.manager = set->manager;
    checkpoint->pub.runtime = checkpoint;
    shl_list_init(&checkpoint->pub.link);
    shl_list_init(&checkpoint->queue_node);
    shl_list_init(&checkpoint->waiters);
    return checkpoint;
}

void checkpoint_free(struct checkpoint *checkpoint)
{
    assert(checkpoint->busy == 0);
    assert(shl_list_empty(&checkpoint->waiters));
    sandbox_spec_release(&checkpoint->pub.spec);
    free(checkpoint);
}

void checkpoint_insert(struct checkpoint *checkpoint)
{
    if (checkpoint->save) {
        shl_list_push_front(&checkpoint->set->saves, &checkpoint->pub.link);
        return;
    }
    shl_list_push_front(&checkpoint->set->all, &checkpoint->pub.link);
    checkpoint->set->count++;
    manager_tell_checkpoint(checkpoint->set->manager, &checkpoint->pub, false);
}

void checkpoints_tell(struct node_manager *manager)
{
    struct shl_list *head = &manager->checkpoints->all;
    struct shl_list *node;

    for (node = head->next; node != head; node = node->next) {
        manager_tell_checkpoint(manager, shl_container_of(node, struct node_checkpoint, link),
                                false);
    }
}

void checkpoint_enter(struct checkpoint *checkpoint)
{
    checkpoint->busy++;
    checkpoint->set->manager->jobs++;
}

void checkpoint_leave(struct checkpoint *checkpoint)
{
    struct node_manager *manager = checkpoint->set->manager;

    assert(checkpoint->busy > 0);
    if (--checkpoint->busy == 0 && checkpoint->gone) {
        checkpoint_free(checkpoint);
    }
    manager_job_ended(manager);
}

/* ---- looking up ------------------------------------------------------------------- */

struct node_checkpoint *node_checkpoint_find(struct node_manager *manager,
                                             const char *org,
                                             const char *id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->checkpoints->all) {
        struct node_checkpoint *pub = shl_container_of(it, struct node_checkpoint, link);

        if (strcmp(pub->id, id) == 0) {
            return strcmp(pub->spec.org, org) == 0 ? pub : NULL;
        }
    }
    return NULL;
}

void node_checkpoint_each(struct node_manager *manager,
                          const char *org,
                          const char *sandbox_id,
                          bool (*each)(void *arg, struct node_checkpoint *checkpoint),
                          void *arg)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->checkpoints->all) {
        struct node_checkpoint *pub = shl_container_of(it, struct node_checkpoint, link);

        if (strcmp(pub->sandbox_id, sandbox_id) == 0 && (!org || strcmp(pub->spec.org, org) == 0) &&
            !each(arg, pub)) {
            return;
        }
    }
}

void checkpoints_count(const struct node_manager *manager, struct node_manager_counts *counts)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->checkpoints->all) {
        const struct node_checkpoint *pub = shl_container_of(it, struct node_checkpoint, link);

        counts->checkpoints++;
        counts->checkpoints_processing += pub->status == NODE_CHECKPOINT_PROCESSING;
        counts->checkpoints_failed += pub->status == NODE_CHECKPOINT_FAILED;
    }
}

/* ---- 1. records ------------------------------------------------------------------- */

struct load {
    struct checkpoints *set;
    struct checkpoint **items;
    size_t count, room;
    int rc;
    struct shl_err *err;
};

static int make_room(struct load *load)
{
    size_t room = load->room ? load->room * 2 : 64;
    struct checkpoint **items;

    if (load->count < load->room) {
        return 0;
    }
    items = realloc(load->items, room * sizeof(struct checkpoint *));
    if (!items) {
        return -ENOMEM;
    }
    load->items = items;
    load->room = room;
    return 0;
}

static bool on_record(void *arg, const char *id, struct shl_bytes value)
{
    struct load *load = arg;
    struct checkpoint *checkpoint = make_room(load) < 0 ? NULL : checkpoint_new(load->set);

    if (!checkpoint) {
        load->rc = shl_err_sys(load->err, ENOMEM, "cannot read the records of checkpoints");
        return false;
    }
    load->items[load->count++] = checkpoint;
    load->rc = checkpoint_decode(checkpoint, id, value, load->err);
    return load->rc == 0;
}

static int by_age(const void *a, const void *b)
{
    const struct checkpoint *const *left = a;
    const struct checkpoint *const *right = b;
    int64_t l = (*left)->pub.created_at_ms;
    int64_t r = (*right)->pub.created_at_ms;

    return (l > r) - (l < r);
}

static int load_records(struct checkpoints *set, struct shl_err *err)
{
    struct load load = {.set = set, .err = err};
    size_t i;
    int rc = node_store_each(set->manager->store, CHECKPOINT_KIND, on_record, &load, err);

    rc = rc < 0 ? rc : load.rc;
    if (rc == 0 && load.count > 0) {
        qsort(load.items, load.count, sizeof(struct checkpoint *), by_age);
    }
    for (i = 0; i < load.count; i++) {
        if (rc == 0) {
            checkpoint_insert(load.items[i]);
            if (load.items[i]->has_stack) {
                node_stack_ref(set->manager, &load.items[i]->stack);
            }
        } else {
            checkpoint_free(load.items[i]);
        }
    }
    free(load.items);
    return rc;
}

/* ---- opening ---------------------------------------------------------------------- */

static int open_store(struct checkpoints *set, struct shl_err *err)
{
    char dir[SANDBOX_PATH_MAX];
    const struct ckpt_store_config config = {.dir = dir, .log = &set->manager->log};
    int rc;

    (void)snprintf(dir, sizeof(dir), "%s/" CHECKPOINT_STORE_FOLDER, set->manager->data_dir);
    rc = shl_mkdir_all(dir, 0700);
    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot create the data folder %s", dir);
    }
    rc = ckpt_store_open(&config, &set->store, err);
    return rc < 0 ? shl_err_wrap(err, rc, "cannot open the checkpoint store %s", dir) : 0;
}

int checkpoints_load(struct node_manager *manager, struct shl_err *err)
{
    struct checkpoints *set = calloc(1, sizeof(*set));
    int rc;

    if (!set) {
        return shl_err_sys(err, ENOMEM, "cannot start the sandbox manager");
    }
    manager->checkpoints = set;
    set->manager = manager;
    shl_list_init(&set->all);
    shl_list_init(&set->saves);
    shl_list_init(&set->bases);
    shl_list_init(&set->imports);
    shl_list_init(&set->readies);
    shl_list_init(&set->unknown);
    shl_list_init(&set->ingest_queue);
    shl_list_init(&set->makes);
    shl_list_init(&set->limited);
    shl_list_init(&set->doomed);
    rc = open_store(set, err);
    if (rc == 0) {
        rc = load_records(set, err);
    }
    if (rc == 0) {
        rc = bases_load(set, err);
    }
    return rc; /* the manager frees what is there */
}

void checkpoints_free(struct node_manager *manager)
{
    struct checkpoints *set = manager->checkpoints;
    struct shl_list *node;

    if (!set) {
        return;
    }
    while ((node = shl_list_first(&set->all)) || (node = shl_list_first(&set->saves))) {
        shl_list_remove(node);
        checkpoint_free(shl_container_of(node, struct checkpoint, pub.link));
    }
    bases_free(set);
    readies_free(set);
    while ((node = shl_list_first(&set->doomed)) || (node = shl_list_first(&set->unknown))) {
        shl_list_remove(node);
        free(shl_container_of(node, struct doomed_manifest, node));
    }
    if (set->store) {
        ckpt_store_close(set->store);
    }
    free(set);
    manager->checkpoints = NULL;
}

/* ---- 2. what a former daemon left -------------------------------------------------- */

static void resume_list(struct shl_list *list)
{
    struct shl_list *it, *before;

    /* from the oldest on: a failure may drop the record of an older failed one */
    for (it = list->prev; it != list; it = before) {
        struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        before = it->prev;
        if (checkpoint->pub.status != NODE_CHECKPOINT_PROCESSING) {
            continue;
        }
        if (checkpoint->has_stack) {
            ingest_enqueue(checkpoint);
        } else {
            checkpoint_fail(checkpoint,
                            "the node daemon was restarted while the checkpoint was being made");
        }
    }
}

void checkpoints_resume(struct node_manager *manager)
{
    struct checkpoints *set = manager->checkpoints;

    (void)uv_timer_init(manager->loop, &set->limit_timer);
    (void)uv_timer_init(manager->loop, &set->save_tick);
    set->limit_timer.data = set->save_tick.data = set;
    set->scrubbed_at_ms = set->collected_at_ms = shl_monotonic_ms();
    set->collect_wanted = true; /* an ingest that was cut off left chunks behind */
    resume_list(&set->saves);
    resume_list(&set->all);
    upkeep_pump(set);
}

void checkpoints_housekeeping(struct node_manager *manager)
{
    artefacts_housekeeping(manager->checkpoints);
    upkeep_pump(manager->checkpoints);
}

/* ---- closing ----------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct checkpoints *set = handle->data;

    manager_job_ended(set->manager);
}

/* Jobs under way end first, an ingest early; it and what waits in the queue is for the next
 * daemon. */
void checkpoints_close(struct node_manager *manager)
{
    struct checkpoints *set = manager->checkpoints;
    struct shl_list *it, *next;

    assert(!set->closing);
    set->closing = true;
    atomic_store(&set->base_cancel, true);
    SHL_LIST_FOREACH_SAFE(it, next, &set->saves) {
        atomic_store(&shl_container_of(it, struct checkpoint, pub.link)->cancel, true);
    }
    SHL_LIST_FOREACH_SAFE(it, next, &set->all) {
        struct checkpoint *checkpoint = shl_container_of(it, struct checkpoint, pub.link);

        atomic_store(&checkpoint->cancel, true);
        if (!checkpoint->layers) {
            checkpoint_answer(checkpoint, SHL_EUNAVAILABLE, "the node daemon is being stopped",
                              NULL);
        }
    }
    manager->jobs += 2;
    uv_close((uv_handle_t *)&set->save_tick, on_timer_closed);
    layers_make_next(set);
    uv_close((uv_handle_t *)&set->limit_timer, on_timer_closed);
}
