/* What this node may have to go on with is made ready before it is asked for.
 *
 *   bases    of every artefact this node holds a copy of: their files are written in the
 *            background, one at a time, with a rest of STANDBY_REST times as long in between, and
 *            stay as long as a copy names them. They are what takes long: the memory of a warm
 *            template is hundreds of megabytes
 *   layers   of the newest save of each sandbox whose node is suspected or lost, and which others
 *            may then start: while its lease runs out. Nothing runs before it has ended and
 *            the log agrees (scheduler/claim.h). When that node is back, they go again
 *
 * A node whose disk is nearly full makes nothing ready, one that has STANDBY_BYTES_MAX of others
 * nothing more: then everything is written when it is needed (take.c), as after a failure here. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/owners_private.h"
#include "node/cluster/replicas_private.h"

#define STANDBY_BYTES_MAX   (16ull << 30) /* of bases and layers, as the catalogue counts them */
#define STANDBY_REST        4
#define STANDBY_REST_MAX_MS 60000
#define STANDBY_RETRY_MS    30000 /* after a failure, of anything */
#define STANDBY_LAYERS_MAX  4     /* written at the same time */

enum stage {
    STAGE_MAKING,
    STAGE_READY
};

/* An artefact whose layers are written, or being written. */
struct standby_item {
    char id[NODE_CHECKPOINT_ID_SIZE];
    enum stage stage;
    uint64_t bytes;
};

struct standby {
    char bases[NODE_KEPT_BASES_MAX][NODE_BASE_ID_SIZE]; /* whose files are here */
    uint32_t base_count;
    struct standby_item items[NODE_READY_MAX];
    uint32_t item_count;
    uint32_t making; /* of them */
    bool is_basing;
    uint64_t rest_until_ms, retry_at_ms;
};

struct standby_job {
    struct cluster_job job;
    char id[NODE_CHECKPOINT_ID_SIZE];
    char bases[SCHED_BASES_SIZE];
    bool layers;
    uint64_t began_ms;
};

/* What one look finds. */
struct look {
    struct cluster_replicas *r;
    const struct sched_checkpoint *base_of;             /* a row with a base that is missing */
    char named[NODE_KEPT_BASES_MAX][NODE_BASE_ID_SIZE]; /* bases of copies here */
    uint32_t named_count;
    bool is_cut; /* there are more */
    uint64_t bytes;
};

/* ---- lists ------------------------------------------------------------------------- */

static bool has_id(const char (*ids)[NODE_BASE_ID_SIZE], uint32_t count, const char *id)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        if (strcmp(ids[i], id) == 0) {
            return true;
        }
    }
    return false;
}

/* False: there is no room. */
static bool add_id(char (*ids)[NODE_BASE_ID_SIZE], uint32_t *count, const char *id)
{
    if (has_id((const char(*)[NODE_BASE_ID_SIZE])ids, *count, id)) {
        return true;
    }
    if (*count >= NODE_KEPT_BASES_MAX) {
        return false;
    }
    (void)snprintf(ids[(*count)++], NODE_BASE_ID_SIZE, "%s", id);
    return true;
}

/* The next of "a b"; false at the end. */
static bool next_base(const char **at, char ret[NODE_BASE_ID_SIZE])
{
    size_t len;

    *at += strspn(*at, " ");
    len = strcspn(*at, " ");
    if (len == 0) {
        return false;
    }
    (void)snprintf(ret, NODE_BASE_ID_SIZE, "%.*s", (int)len, *at);
    *at += len;
    return true;
}

static struct standby_item *find_item(struct standby *standby, const char *id)
{
    uint32_t i;

    for (i = 0; i < standby->item_count; i++) {
        if (strcmp(standby->items[i].id, id) == 0) {
            return &standby->items[i];
        }
    }
    return NULL;
}

static void remove_item(struct standby *standby, struct standby_item *item)
{
    *item = standby->items[--standby->item_count];
}

/* ---- making ------------------------------------------------------------------------ */

static void end(struct standby_job *job, int code, const char *msg)
{
    struct cluster *c = job->job.cluster;
    struct standby *standby = c && c->replicas ? c->replicas->standby : NULL;
    uint64_t now_ms = cluster_now_ms(), took_ms = now_ms - job->began_ms;
    struct standby_item *item = standby ? find_item(standby, job->id) : NULL;
    char base[NODE_BASE_ID_SIZE];
    const char *at = job->bases;

    if (standby && code < 0) {
        standby->retry_at_ms = now_ms + STANDBY_RETRY_MS;
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "standby_failed", SHL_S("artefact", job->id),
                SHL_S("error", msg ? msg : shl_err_text(code)));
    }
    if (standby && job->layers) {
        standby->making--;
        if (item && code < 0) {
            remove_item(standby, item);
        } else if (item) {
            item->stage = STAGE_READY;
        } else if (code == 0) { /* not wanted any more */
            node_import_unready(c->manager, job->id);
        }
    } else if (standby) {
        standby->is_basing = false;
        standby->rest_until_ms = now_ms + SHL_MIN(took_ms * STANDBY_REST, STANDBY_REST_MAX_MS);
    }
    while (standby && code == 0 && next_base(&at, base)) {
        (void)add_id(standby->bases, &standby->base_count, base);
    }
    if (standby) {
        replicas_survey(c->replicas);
    }
    cluster_job_end(&job->job);
    free(job);
}

static void on_ready(void *arg, int code, const char *msg)
{
    end(arg, code, msg);
}

static void on_brought(void *arg, int code, const char *msg, const struct node_import *import)
{
    struct standby_job *job = arg;
    struct cluster *c = job->job.cluster;

    if (code < 0 || !c || c->is_closing) {
        end(job, code < 0 ? code : SHL_EUNAVAILABLE, msg);
        return;
    }
    node_import_ready(c->manager, import, job->layers, on_ready, job);
}

static int make(struct cluster_replicas *r, const struct sched_checkpoint *row, bool layers)
{
    struct standby_job *job = strlen(row->id) < sizeof(job->id) ? calloc(1, sizeof(*job)) : NULL;
    struct shl_err err = {0};
    int rc;

    if (!job) {
        return -ENOMEM;
    }
    cluster_job_begin(r->c, &job->job);
    memcpy(job->id, row->id, strlen(row->id) + 1);
    memcpy(job->bases, row->bases, sizeof(job->bases));
    job->layers = layers;
    job->began_ms = cluster_now_ms();
    rc = layers ? cluster_bring(r->c, job->id, on_brought, job, &err)
                : replica_bring_ahead(r, job->id, on_brought, job, &err);
    if (rc < 0) {
        cluster_job_end(&job->job);
        free(job);
        r->standby->retry_at_ms = cluster_now_ms() + STANDBY_RETRY_MS;
    }
    return rc;
}

/* ---- bases ------------------------------------------------------------------------- */

static uint64_t base_bytes(const struct cluster_replicas *r, const char *base)
{
    const struct sched_checkpoint *row;
    char id[SCHED_ID_SIZE];

    (void)snprintf(id, sizeof(id), NODE_BASE_PREFIX "%s", base);
    row = sched_state_checkpoint(r->c->state, id);
    return row ? row->bytes : 0;
}

static void note_bases(struct look *look, const struct sched_checkpoint *row)
{
    const struct standby *standby = look->r->standby;
    char base[NODE_BASE_ID_SIZE];
    const char *at = row->bases;

    while (next_base(&at, base)) {
        if (!has_id((const char(*)[NODE_BASE_ID_SIZE])look->named, look->named_count, base)) {
            if (!add_id(look->named, &look->named_count, base)) {
                look->is_cut = true;
                continue;
            }
            look->bytes += base_bytes(look->r, base);
        }
        if (!look->base_of && look->bytes <= STANDBY_BYTES_MAX &&
            standby->base_count < NODE_KEPT_BASES_MAX &&
            !has_id((const char(*)[NODE_BASE_ID_SIZE])standby->bases, standby->base_count, base)) {
            look->base_of = row;
        }
    }
}

/* Those that no copy names any more may go. */
static void forget_bases(struct look *look)
{
    struct standby *standby = look->r->standby;
    uint32_t i;

    if (look->is_cut) {
        return;
    }
    for (i = standby->base_count; i > 0; i--) {
        if (!has_id((const char(*)[NODE_BASE_ID_SIZE])look->named, look->named_count,
                    standby->bases[i - 1])) {
            memcpy(standby->bases[i - 1], standby->bases[--standby->base_count], NODE_BASE_ID_SIZE);
        }
    }
    if (!standby->is_basing && standby->making == 0) {
        node_bases_keep(look->r->c->manager, (const char(*)[NODE_BASE_ID_SIZE])look->named,
                        look->named_count);
    }
}

/* ---- layers ------------------------------------------------------------------------ */

/* Suspected, or lost. One that was not heard of since this node started may be about to be. */
static bool is_missed(const struct cluster *c, const struct shl_node_id *node)
{
    const struct gossip_member *member = c->gossip ? gossip_member_find(c->gossip, node) : NULL;

    if (!member || member->life == GOSSIP_UNHEARD) {
        return cluster_now_ms() - c->replicas->opened_at_ms > REPLICA_HEAR_MS;
    }
    return member->life != GOSSIP_ALIVE;
}

/* Is it what its sandbox would be started from, were its node lost? */
static bool is_wanted(struct cluster *c, const struct sched_checkpoint *row)
{
    const struct sched_owner *owner = sched_state_owner(c->state, row->sandbox);
    char newest[NODE_CHECKPOINT_ID_SIZE];

    if (row->kind != SCHED_CHECKPOINT_HIBERNATION || !owner ||
        (!owner->released && !owner->claimable) || shl_node_id_equal(&owner->owner, &c->keys.id) ||
        !is_missed(c, &owner->owner) || node_manager_find(c->manager, NULL, row->sandbox)) {
        return false;
    }
    take_newest(c, row->sandbox, newest);
    return strcmp(newest, row->id) == 0;
}

static void note_layers(struct look *look, const struct sched_checkpoint *row)
{
    struct standby *standby = look->r->standby;
    struct standby_item *item;

    if (standby->making >= STANDBY_LAYERS_MAX || standby->item_count >= NODE_READY_MAX ||
        look->bytes + row->bytes > STANDBY_BYTES_MAX || strlen(row->id) >= sizeof(item->id) ||
        find_item(standby, row->id) || !is_wanted(look->r->c, row)) {
        return;
    }
    item = &standby->items[standby->item_count];
    memcpy(item->id, row->id, strlen(row->id) + 1);
    item->stage = STAGE_MAKING;
    item->bytes = row->bytes;
    if (make(look->r, row, true) == 0) {
        standby->item_count++;
        standby->making++;
        look->bytes += row->bytes;
    }
}

/* Of those that are not wanted any more: the node is back, the sandbox went on here or there. */
static void drop_layers(struct look *look)
{
    struct standby *standby = look->r->standby;
    struct cluster *c = look->r->c;
    uint32_t i;

    for (i = standby->item_count; i > 0; i--) {
        struct standby_item *item = &standby->items[i - 1];
        const struct sched_checkpoint *row = sched_state_checkpoint(c->state, item->id);

        if (row && is_wanted(c, row)) {
            look->bytes += item->bytes;
            continue;
        }
        if (item->stage == STAGE_READY) {
            node_import_unready(c->manager, item->id);
        }
        remove_item(standby, item);
    }
}

/* ---- looking ----------------------------------------------------------------------- */

static bool is_disk_full(const struct cluster *c)
{
    struct cluster_figures figures;

    return cluster_figures_get(c, &c->keys.id, &figures) == 0 && replica_view_is_full(&figures);
}

void standby_look(struct cluster_replicas *r, uint64_t now_ms)
{
    struct look look = {.r = r};
    size_t i;

    if (!r->standby) {
        r->standby = calloc(1, sizeof(*r->standby));
    }
    if (!r->standby || !r->is_caught_up || !r->is_scanned || r->is_closing || !r->c->owners) {
        return;
    }
    drop_layers(&look);
    for (i = 0; i < r->by_id.count; i++) {
        const struct catalogue_ref *ref = r->by_id.items[i];
        const struct replica_copy *copy = replica_copy_find(r, &ref->manifest);
        const struct sched_checkpoint *row =
            copy && !copy->is_leaving ? catalogue_row(r, ref) : NULL;

        if (row) {
            note_bases(&look, row);
        }
    }
    forget_bases(&look);
    if (now_ms < r->standby->retry_at_ms || is_disk_full(r->c)) {
        return;
    }
    for (i = 0; i < r->by_id.count; i++) {
        const struct catalogue_ref *ref = r->by_id.items[i];
        const struct replica_copy *copy = replica_copy_find(r, &ref->manifest);
        const struct sched_checkpoint *row =
            copy && !copy->is_leaving ? catalogue_row(r, ref) : NULL;

        if (row) {
            note_layers(&look, row);
        }
    }
    if (look.base_of && !r->standby->is_basing && now_ms >= r->standby->rest_until_ms &&
        r->standby->making == 0) {
        r->standby->is_basing = make(r, look.base_of, false) == 0;
    }
}

void standby_release(struct cluster_replicas *r)
{
    free(r->standby);
    r->standby = NULL;
}
