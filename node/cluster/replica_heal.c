/* Bit rot: a copy in the store of this node that has lost chunks gets them from another holder.
 *
 * Happy path:
 *  1. A scrub, a read or a collection finds a chunk that does not match its id. It is marked, and
 *     not given to anybody any more (checkpoint/store.h).
 *  2. replica_heal, in a survey: the store counts marks, so its manifests are looked through.
 *  3. on_look (thread pool): which of them are not whole?
 *  4. Each that another live node holds is fetched, which brings what is missing only.
 *
 * What can go wrong: no other holder, or a fetch that fails (looked at again after HEAL_AGAIN_MS;
 * what this node has the layers of, it stores anew from them all the same: node/sandbox/upkeep.c);
 * marks of chunks that nobody needs any more (the next collection removes them).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/manifest.h"
#include "node/cluster/replicas_private.h"

#define HEAL_AGAIN_MS 60000u
#define HEAL_AT_ONCE  8u     /* copies being healed */
#define HEAL_LOOK_MAX 10000u /* copies looked through in one go; the others in the next */

struct replica_heal {
    uv_work_t work;
    struct cluster_replicas *r;
    struct ckpt_id *ids;
    size_t count;
    size_t broken; /* of them, moved to the front */
};

/*- Looking, on the thread pool. */

static int pin_part(struct ckpt_session *session, const struct ckpt_part *part)
{
    uint64_t i;
    int rc = 0;

    for (i = 0; i < part->count && rc == 0; i++) {
        if (!ckpt_id_is_zero(&part->entries[i].id)) {
            rc = ckpt_session_pin(session, &part->entries[i].id, NULL);
        }
    }
    return rc;
}

/* A chunk that is damaged cannot be pinned. */
static int pin_all(struct ckpt_store *store, const struct ckpt_manifest *manifest)
{
    struct ckpt_session *session;
    int rc = ckpt_session_begin(store, &session, NULL);

    if (rc < 0) {
        return rc;
    }
    rc = pin_part(session, &manifest->disk);
    rc = rc == 0 ? pin_part(session, &manifest->memory) : rc;
    rc = rc == 0 ? pin_part(session, &manifest->state) : rc;
    ckpt_session_abort(session);
    return rc;
}

static bool is_broken(struct ckpt_store *store, const struct ckpt_id *id)
{
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin = NULL;
    struct shl_buf bytes;
    int rc;

    shl_buf_init(&bytes, CKPT_MANIFEST_MAX);
    rc = ckpt_manifest_read(store, id, &bytes, &pin, NULL);
    if (rc == SHL_ENOTFOUND) { /* deleted meanwhile */
        shl_buf_release(&bytes);
        return false;
    }
    if (rc == 0 && (rc = ckpt_manifest_decode(&manifest, shl_buf_bytes(&bytes), NULL)) == 0) {
        rc = pin_all(store, &manifest);
        ckpt_manifest_release(&manifest);
    }
    ckpt_pin_release(pin);
    shl_buf_release(&bytes);
    return rc == SHL_ENOTFOUND || rc == SHL_ECORRUPT;
}

static void on_look(uv_work_t *work)
{
    struct replica_heal *heal = work->data;
    size_t i;

    for (i = 0; i < heal->count; i++) {
        if (is_broken(heal->r->store, &heal->ids[i])) {
            struct ckpt_id id = heal->ids[i];

            heal->ids[i] = heal->ids[heal->broken];
            heal->ids[heal->broken++] = id;
        }
    }
}

/*- Healing. */

static void on_healed(void *arg, int code, const char *msg)
{
    struct cluster_replicas *r = arg;

    assert(r->healing > 0);
    r->healing--;
    if (code == 0) {
        r->totals.healed++;
        r->heal_at_ms = 0; /* was it the last one? */
        SHL_LOG(&r->c->log_sink, SHL_LOG_INFO, "copy_healed", SHL_I("left", r->healing));
    } else {
        SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "copy_not_healed", SHL_S("error", msg ? msg : ""));
    }
}

static void heal_one(struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    struct shl_err err = {0};

    if (r->healing >= HEAL_AT_ONCE || !replica_copy_find(r, manifest) ||
        replica_is_fetching(r, manifest)) {
        return;
    }
    if (!replica_has_holder(r, manifest)) {
        SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "copy_damaged",
                SHL_S("effect", "no other node that is live has a copy it could be healed from"));
        return;
    }
    r->healing++;
    if (replica_fetch(r, manifest, CKPT_FETCH_SCRUB, false, on_healed, r, &err) < 0) {
        r->healing--;
        SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "copy_not_healed", SHL_S("error", err.msg));
    }
}

/* Until it is whole again no other node may drop its copy because of this one. */
static void set_damaged(struct cluster_replicas *r, const struct ckpt_id *manifest, bool is_damaged)
{
    struct replica_copy *copy = replica_copy_find(r, manifest);

    if (copy) {
        copy->is_damaged = is_damaged;
    }
}

/* The store has no damage left. */
static void clear_damaged(struct cluster_replicas *r)
{
    size_t i;

    for (i = 0; i < r->copies.count; i++) {
        ((struct replica_copy *)r->copies.items[i])->is_damaged = false;
    }
}

static void on_looked(uv_work_t *work, int status)
{
    struct replica_heal *heal = work->data;
    struct cluster_replicas *r = heal->r;
    struct cluster *c = r->c;
    size_t i;

    (void)status;
    r->heal = NULL;
    for (i = 0; i < heal->count; i++) {
        set_damaged(r, &heal->ids[i], i < heal->broken);
    }
    for (i = 0; i < heal->broken && !r->is_closing; i++) {
        heal_one(r, &heal->ids[i]);
    }
    free(heal->ids);
    free(heal);
    cluster_close_part(c);
}

static struct replica_heal *heal_new(struct cluster_replicas *r)
{
    struct replica_heal *heal = calloc(1, sizeof(*heal));
    size_t count = SHL_MIN(r->copies.count, (size_t)HEAL_LOOK_MAX), i;

    if (heal) {
        heal->ids = calloc(count + 1, sizeof(*heal->ids));
    }
    if (!heal || !heal->ids) {
        free(heal);
        return NULL;
    }
    for (i = 0; i < count; i++) {
        const struct replica_copy *copy = r->copies.items[(r->heal_from + i) % r->copies.count];

        if (!copy->is_leaving) {
            heal->ids[heal->count++] = copy->manifest;
        }
    }
    r->heal_from = r->copies.count > 0 ? (r->heal_from + count) % r->copies.count : 0;
    heal->r = r;
    heal->work.data = heal;
    return heal;
}

void replica_heal(struct cluster_replicas *r, uint64_t now_ms)
{
    struct ckpt_store_stats stats;
    int rc SHL_UNUSED;

    if (r->heal || r->healing > 0 || r->is_closing || !r->store || !r->transfer ||
        r->copies.count == 0) {
        return;
    }
    ckpt_store_stats(r->store, &stats);
    /* More damage than at the last look is looked at in this survey already. */
    if (stats.damaged == 0 || (now_ms < r->heal_at_ms && stats.damaged <= r->heal_seen)) {
        if (stats.damaged == 0 && r->heal_seen > 0) {
            clear_damaged(r);
        }
        r->heal_seen = SHL_MIN(r->heal_seen, stats.damaged);
        return;
    }
    r->heal_at_ms = now_ms + HEAL_AGAIN_MS;
    r->heal_seen = stats.damaged;
    r->heal = heal_new(r);
    if (r->heal) {
        r->c->handles++;
        rc = uv_queue_work(r->c->loop, &r->heal->work, on_look, on_looked);
        assert(rc == 0);
    }
}
