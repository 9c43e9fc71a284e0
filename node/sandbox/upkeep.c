/* Upkeep of the checkpoint store, one step at a time on the thread pool:
 *
 *   tidy      once, before the first ingest: manifests that no record names are deleted
 *             (the daemon died between deleting a record and its manifest, or between a
 *             commit and its record; the latter is ingested again), unless the watcher of
 *             artefacts wants them: copies for other nodes. While it does not know yet they stay
 *   delete    manifests of deleted checkpoints
 *   collect   chunks that no manifest names, soon after a deletion and every hour
 *   scrub     1 % of the bytes per hour are read and verified
 *
 * What can go wrong: a step fails (logged; it is tried again when it is due again); a manifest
 * is missing or a chunk damaged (checkpoints are ingested again from their layers, which heals
 * the store as long as those are there).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"

struct upkeep_job {
    uv_work_t work;
    struct checkpoints *set;
    struct ckpt_store *store;
    const char *step;
    void (*done)(struct upkeep_job *job);
    int (*run)(struct upkeep_job *job);
    int rc;
    struct shl_err err;

    struct ckpt_id *ids; /* tidy: found; delete: to go */
    size_t count, room;
    uint64_t bytes; /* scrub: at most */
    struct ckpt_collect_stats collected;
    struct ckpt_scrub_stats scrubbed;
};

bool manifest_id_parse(const char *hex, struct ckpt_id *ret)
{
    return strlen(hex) == 2 * sizeof(ret->bytes) &&
           shl_hex_decode(ret->bytes, sizeof(ret->bytes), hex) == 0;
}

/* ---- one step ----------------------------------------------------------------------- */

static void job_free(struct upkeep_job *job)
{
    free(job->ids);
    free(job);
}

static void on_work(uv_work_t *work)
{
    struct upkeep_job *job = work->data;

    job->rc = job->run(job);
}

static void on_work_done(uv_work_t *work, int status)
{
    struct upkeep_job *job = work->data;
    struct checkpoints *set = job->set;
    struct node_manager *manager = set->manager;

    (void)status;
    set->upkeep = NULL;
    if (job->rc < 0) {
        SHL_LOG(&manager->log, SHL_LOG_ERROR, "checkpoint_upkeep_failed", SHL_S("step", job->step),
                SHL_S("reason", job->err.msg[0] ? job->err.msg : shl_err_text(job->rc)));
    }
    job->done(job);
    job_free(job);
    upkeep_pump(set);
    ingest_pump(set);
    bases_pump(set);
    manager_job_ended(manager);
}

static struct upkeep_job *job_new(struct checkpoints *set, const char *step)
{
    struct upkeep_job *job = calloc(1, sizeof(*job));

    if (!job) {
        SHL_LOG(&set->manager->log, SHL_LOG_ERROR, "checkpoint_upkeep_failed", SHL_S("step", step),
                SHL_S("reason", shl_err_text(-ENOMEM)));
        return NULL;
    }
    job->work.data = job;
    job->set = set;
    job->store = set->store;
    job->step = step;
    return job;
}

static void job_start(struct upkeep_job *job,
                      int (*run)(struct upkeep_job *job),
                      void (*done)(struct upkeep_job *job))
{
    struct checkpoints *set = job->set;
    int rc SHL_UNUSED;

    job->run = run;
    job->done = done;
    set->upkeep = job;
    set->manager->jobs++;
    rc = uv_queue_work(set->manager->loop, &job->work, on_work, on_work_done);
    assert(rc == 0);
}

static int add_id(struct upkeep_job *job, const struct ckpt_id *id)
{
    if (job->count == job->room) {
        size_t room = job->room ? job->room * 2 : 64;
        struct ckpt_id *ids = realloc(job->ids, room * sizeof(*ids));

        if (!ids) {
            return -ENOMEM;
        }
        job->ids = ids;
        job->room = room;
    }
    job->ids[job->count++] = *id;
    return 0;
}

/* ---- tidy --------------------------------------------------------------------------- */

static bool on_manifest(void *arg, const struct ckpt_id *id)
{
    struct upkeep_job *job = arg;

    job->rc = add_id(job, id);
    return job->rc == 0;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct ckpt_id));
}

static int run_tidy(struct upkeep_job *job)
{
    int rc;

    job->rc = 0;
    rc = ckpt_manifest_each(job->store, on_manifest, job, &job->err);
    rc = rc < 0 ? rc : job->rc;
    if (rc == 0 && job->count > 0) {
        qsort(job->ids, job->count, sizeof(struct ckpt_id), compare_ids);
    }
    return rc;
}

static bool mark(struct upkeep_job *job, bool *named, const char *manifest)
{
    struct ckpt_id id, *found = NULL;

    if (manifest_id_parse(manifest, &id) && job->count > 0) {
        found = bsearch(&id, job->ids, job->count, sizeof(id), compare_ids);
    }
    if (found) {
        named[found - job->ids] = true;
    }
    return found;
}

struct marking {
    struct upkeep_job *job;
    bool *named;
};

static void mark_base(void *arg, const char *manifest)
{
    struct marking *marking = arg;

    (void)mark(marking->job, marking->named, manifest);
}

static void mark_list(struct upkeep_job *job, bool *named, struct shl_list *list)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, list) {
        struct node_checkpoint *pub = shl_container_of(it, struct node_checkpoint, link);

        if (mark(job, named, pub->manifest)) {
            continue;
        }
        if (pub->manifest[0]) {
            SHL_LOG(&job->set->manager->log, SHL_LOG_ERROR, "checkpoint_manifest_missing",
                    SHL_S("checkpoint", pub->id), SHL_S("manifest", pub->manifest));
            ingest_repair(checkpoint_of(pub));
        }
    }
}

static void mark_named(struct upkeep_job *job, bool *named)
{
    struct marking marking = {job, named};

    mark_list(job, named, &job->set->all);
    mark_list(job, named, &job->set->saves);
    bases_each_manifest(job->set, mark_base, &marking);
}

static void on_tidied(struct upkeep_job *job)
{
    struct checkpoints *set = job->set;
    bool *named = job->rc == 0 ? calloc(job->count + 1, sizeof(*named)) : NULL;
    size_t i;

    set->tidied = true;
    if (!named) {
        return;
    }
    mark_named(job, named);
    for (i = 0; i < job->count; i++) {
        if (!named[i]) {
            upkeep_release(set, &job->ids[i]);
        }
    }
    free(named);
}

static void start_tidy(struct checkpoints *set)
{
    struct upkeep_job *job = job_new(set, "tidy");

    if (job) {
        job_start(job, run_tidy, on_tidied);
    } else {
        set->tidied = true;
    }
}

/* ---- delete ------------------------------------------------------------------------- */

static int run_delete(struct upkeep_job *job)
{
    int first = 0;
    size_t i;

    for (i = 0; i < job->count; i++) {
        struct shl_err err = {0};
        int rc = ckpt_manifest_delete(job->store, &job->ids[i], &err);

        if (rc < 0 && rc != SHL_ENOTFOUND && first == 0) {
            first = rc;
            job->err = err;
        }
    }
    return first;
}

static void on_deleted(struct upkeep_job *job)
{
    job->set->collect_wanted = true;
}

struct naming {
    const char *manifest;
    bool found;
};

static void compare_name(void *arg, const char *manifest)
{
    struct naming *naming = arg;

    naming->found = naming->found || strcmp(naming->manifest, manifest) == 0;
}

/* It may have been made again since nobody named it. */
static bool is_named(struct checkpoints *set, const struct ckpt_id *id)
{
    struct shl_list *lists[] = {&set->all, &set->saves};
    char hex[NODE_MANIFEST_SIZE];
    struct naming naming = {.manifest = hex};
    struct shl_list *it;
    size_t i;

    shl_hex_encode(hex, id->bytes, sizeof(id->bytes));
    for (i = 0; i < SHL_ARRAY_SIZE(lists); i++) {
        SHL_LIST_FOREACH(it, lists[i]) {
            compare_name(&naming, shl_container_of(it, struct node_checkpoint, link)->manifest);
        }
    }
    bases_each_manifest(set, compare_name, &naming);
    return naming.found;
}

static void start_delete(struct checkpoints *set)
{
    struct upkeep_job *job = job_new(set, "delete");
    struct shl_list *node;

    while (job && (node = shl_list_first(&set->doomed))) {
        struct doomed_manifest *doomed = shl_container_of(node, struct doomed_manifest, node);

        if (!is_named(set, &doomed->id) && add_id(job, &doomed->id) < 0) {
            break;
        }
        shl_list_remove(node);
        free(doomed);
    }
    if (job && job->count > 0) {
        job_start(job, run_delete, on_deleted);
    } else if (job) {
        job_free(job);
    }
}

void upkeep_doom(struct checkpoints *set, const struct ckpt_id *manifest)
{
    struct doomed_manifest *doomed = calloc(1, sizeof(*doomed));

    if (!doomed) {
        return; /* the next start finds it */
    }
    doomed->id = *manifest;
    shl_list_push_back(&set->doomed, &doomed->node);
    upkeep_pump(set);
}

static void push(struct shl_list *list, const struct ckpt_id *manifest)
{
    struct doomed_manifest *doomed = calloc(1, sizeof(*doomed));

    if (doomed) { /* else the next start finds it */
        doomed->id = *manifest;
        shl_list_push_back(list, &doomed->node);
    }
}

void upkeep_release(struct checkpoints *set, const struct ckpt_id *manifest)
{
    char hex[NODE_MANIFEST_SIZE];
    int may = 1;

    shl_hex_encode(hex, manifest->bytes, sizeof(manifest->bytes));
    if (set->watch) {
        may = set->watch->may_drop(set->watch_arg, hex);
    }
    if (may > 0) {
        upkeep_doom(set, manifest);
    } else if (may < 0) {
        push(&set->unknown, manifest);
    }
}

void upkeep_ask_again(struct checkpoints *set)
{
    struct shl_list asked;
    struct shl_list *node;

    shl_list_init(&asked);
    while ((node = shl_list_first(&set->unknown))) {
        shl_list_remove(node);
        shl_list_push_back(&asked, node);
    }
    while ((node = shl_list_first(&asked))) {
        struct doomed_manifest *doomed = shl_container_of(node, struct doomed_manifest, node);

        shl_list_remove(node);
        upkeep_release(set, &doomed->id);
        free(doomed);
    }
}

static void spare(struct shl_list *list, const struct ckpt_id *manifest)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, list) {
        struct doomed_manifest *doomed = shl_container_of(it, struct doomed_manifest, node);

        if (ckpt_id_equal(&doomed->id, manifest)) {
            shl_list_remove(it);
            free(doomed);
        }
    }
}

bool upkeep_spare(struct checkpoints *set, const struct ckpt_id *manifest)
{
    const struct upkeep_job *job = set->upkeep;
    size_t i;

    spare(&set->doomed, manifest);
    spare(&set->unknown, manifest);
    for (i = 0; job && job->run == run_delete && i < job->count; i++) {
        if (ckpt_id_equal(&job->ids[i], manifest)) {
            return false;
        }
    }
    return true;
}

/* ---- collect ------------------------------------------------------------------------ */

static int run_collect(struct upkeep_job *job)
{
    return ckpt_store_collect(job->store, &job->collected, &job->err);
}

static void on_collected(struct upkeep_job *job)
{
    if (job->rc == 0 && job->collected.swept_chunks > 0) {
        SHL_LOG(&job->set->manager->log, SHL_LOG_INFO, "checkpoint_store_collected",
                SHL_I("live_chunks", job->collected.live_chunks),
                SHL_I("swept_chunks", job->collected.swept_chunks),
                SHL_I("freed_bytes", job->collected.freed_bytes));
    }
}

static bool collect_is_due(const struct checkpoints *set)
{
    uint64_t age_ms = shl_monotonic_ms() - set->collected_at_ms;

    return age_ms >= (set->collect_wanted ? CHECKPOINT_COLLECT_GAP_MS : CHECKPOINT_COLLECT_MS);
}

static void start_collect(struct checkpoints *set)
{
    struct upkeep_job *job = job_new(set, "collect");

    set->collected_at_ms = shl_monotonic_ms();
    set->collect_wanted = false;
    if (job) {
        job_start(job, run_collect, on_collected);
    }
}

/* ---- scrub -------------------------------------------------------------------------- */

static int run_scrub(struct upkeep_job *job)
{
    struct ckpt_store_stats stats;

    ckpt_store_stats(job->store, &stats);
    job->bytes = SHL_MAX(stats.bytes / CHECKPOINT_SCRUB_SHARE, CHECKPOINT_SCRUB_MIN);
    return ckpt_store_scrub(job->store, job->bytes, &job->scrubbed, &job->err);
}

static void on_scrubbed(struct upkeep_job *job)
{
    struct shl_list *it;

    if (job->rc < 0 || job->scrubbed.damaged == 0) {
        return;
    }
    SHL_LOG(&job->set->manager->log, SHL_LOG_WARN, "checkpoint_store_heals",
            SHL_I("damaged", job->scrubbed.damaged), SHL_I("looked_at", job->scrubbed.chunks),
            SHL_S("effect", "checkpoints are stored again from their layers"));
    SHL_LIST_FOREACH(it, &job->set->all) {
        ingest_repair(shl_container_of(it, struct checkpoint, pub.link));
    }
}

static void start_scrub(struct checkpoints *set)
{
    struct upkeep_job *job = job_new(set, "scrub");

    set->scrubbed_at_ms = shl_monotonic_ms();
    if (job) {
        job_start(job, run_scrub, on_scrubbed);
    }
}

/* ---- what is next ------------------------------------------------------------------- */

void upkeep_pump(struct checkpoints *set)
{
    if (set->upkeep || set->closing) {
        return;
    }
    if (!set->tidied) {
        start_tidy(set);
    } else if (!shl_list_empty(&set->doomed)) {
        start_delete(set);
    } else if (collect_is_due(set)) {
        start_collect(set);
    } else if (shl_monotonic_ms() - set->scrubbed_at_ms >= CHECKPOINT_SCRUB_MS) {
        start_scrub(set);
    }
}
