/* One checkpoint.
 *
 * Happy path:
 *  1. WAITING until few enough manifests are being read (replica_schedule).
 *  2. LOOKING: it may be here already. Then 4., and if no chunk is damaged that is all.
 *  3. ASKING: one holder after the other for the manifest.
 *  4. OPENING: its hash, its chunks, and which of them are here; those are held by the session.
 *  5. FETCHING: the plan asks for chunks (request.c), which are put as they come.
 *  6. COMMITTING: the manifest is published.
 *  7. ENDING: the session is let go of, the callback runs.
 *
 * What can go wrong: a holder has no manifest, a wrong one, or falls silent (the next one), or
 * no room for the question (once more, later); the plan gives up; the disk is full (this fetch
 * ends, the others go on); a chunk that was here is gone or damaged when it is to be published
 * (from 4. again); the user cancels or the object closes, at any point (7., after the work that is
 * under way).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/replica/private.h"

static bool has_slot(enum replica_state state)
{
    return state == REPLICA_LOOKING || state == REPLICA_ASKING || state == REPLICA_OPENING;
}

void replica_enter(struct node_replica_fetch *fetch, enum replica_state state)
{
    struct node_replica *replica = fetch->replica;
    bool had = has_slot(fetch->state);

    assert(fetch->state != REPLICA_ENDING);
    replica->reading += has_slot(state);
    replica->reading -= had;
    fetch->state = state;
    replica_work(fetch);
    if (had && !has_slot(state)) {
        replica_schedule(replica);
    }
}

/*- Ending. */

void replica_end(struct node_replica_fetch *fetch, int code, const char *msg)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_DROP};
    bool was_planned = fetch->is_planned;

    if (fetch->state == REPLICA_ENDING) {
        return;
    }
    fetch->result.code = code;
    if (code < 0) {
        (void)shl_err_set(&fetch->err, code, "%s", msg ? msg : shl_err_text(code));
    }
    replica_question_drop(fetch->question);
    fetch->question = NULL;
    fetch->is_planned = false;
    replica_enter(fetch, REPLICA_ENDING);
    replica_requests_drop(fetch);
    if (was_planned) {
        event.u.drop.manifest = fetch->manifest;
        (void)replica_step(fetch->replica, &event);
    }
}

void replica_finish(struct node_replica_fetch *fetch)
{
    struct node_replica *replica = fetch->replica;
    struct node_replica_result result = fetch->result;
    struct shl_err err = fetch->err;
    node_replica_done done = fetch->done;
    void *arg = fetch->arg;

    assert(!fetch->session && shl_list_empty(&fetch->arrived));
    assert(fetch->puts == 0);
    replica->stats.fetches--;
    replica->stats.done += result.code == 0;
    replica->stats.failed += result.code < 0;
    shl_buf_release(&fetch->bytes);
    shl_buf_init(&fetch->bytes, CKPT_MANIFEST_MAX);
    replica_count_bytes(fetch);
    shl_list_remove(&fetch->link);
    free(fetch->ids);
    free(fetch->present);
    uv_mutex_destroy(&fetch->put_lock);
    free(fetch);
    replica_schedule(replica);
    result.msg = result.code < 0 ? err.msg : NULL;
    if (done) {
        done(arg, &result);
    }
    replica_consider_closed(replica);
}

/*- What the plan says. */

void replica_on_done(struct node_replica_fetch *fetch, const struct ckpt_fetch_action *act)
{
    fetch->is_planned = false;
    fetch->result.chunks = SHL_MAX(fetch->result.chunks, act->u.done.chunks);
    fetch->result.bytes += act->u.done.bytes;
    replica_enter(fetch, REPLICA_COMMITTING);
    replica_requests_drop(fetch);
}

void replica_on_failed(struct node_replica_fetch *fetch, const struct ckpt_fetch_action *act)
{
    enum ckpt_fetch_reason reason = act->u.failed.reason;
    bool is_lost = reason == CKPT_FETCH_NO_HOLDER || reason == CKPT_FETCH_NO_CHUNK;

    fetch->is_planned = false;
    fetch->result.reason = reason;
    replica_end(fetch, is_lost ? SHL_ENOTFOUND : SHL_EUNAVAILABLE, ckpt_fetch_reason_text(reason));
}

/*- Beginning. */

static bool may_begin(const struct node_replica *replica, enum ckpt_fetch_class class)
{
    uint32_t share = class <= CKPT_FETCH_UNACKED ? 2 : 1;

    return replica->reading < share * NODE_REPLICA_READING_MAX &&
           replica->manifest_bytes < (uint64_t)share * NODE_REPLICA_MANIFEST_BYTES_MAX;
}

void replica_schedule(struct node_replica *replica)
{
    struct node_replica_fetch *next;
    struct shl_list *it;

    do {
        next = NULL;
        SHL_LIST_FOREACH(it, &replica->fetches) {
            struct node_replica_fetch *fetch =
                shl_container_of(it, struct node_replica_fetch, link);

            if (fetch->state == REPLICA_WAITING && (!next || fetch->class < next->class)) {
                next = fetch;
            }
        }
        if (next && (replica->is_closing || !may_begin(replica, next->class))) {
            next = NULL;
        }
        if (next) {
            replica_enter(next, REPLICA_LOOKING);
        }
    } while (next);
}

static struct node_replica_fetch *find(struct node_replica *replica, const struct ckpt_id *manifest)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &replica->fetches) {
        struct node_replica_fetch *fetch = shl_container_of(it, struct node_replica_fetch, link);

        if (fetch->state != REPLICA_ENDING && ckpt_id_equal(&fetch->manifest, manifest)) {
            return fetch;
        }
    }
    return NULL;
}

static int check_fetch(struct node_replica *replica,
                       const struct ckpt_id *manifest,
                       enum ckpt_fetch_class class,
                       struct shl_err *err)
{
    if (replica->is_closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "this node is stopping");
    }
    if (ckpt_id_is_zero(manifest) || (unsigned)class >= CKPT_FETCH_CLASS_COUNT) {
        return shl_err_set(err, SHL_EINVALIDARG, "this is no checkpoint that can be fetched");
    }
    if (find(replica, manifest)) {
        return shl_err_set(err, SHL_ECONFLICT, "the checkpoint is being fetched already");
    }
    if (replica->stats.fetches >= NODE_REPLICA_FETCHES_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "too many checkpoints are being fetched already");
    }
    return 0;
}

static void add_holder(struct node_replica_fetch *fetch, const struct shl_node_id *node)
{
    uint32_t i;

    for (i = 0; i < fetch->holder_count; i++) {
        if (shl_node_id_equal(&fetch->holders[i], node)) {
            return;
        }
    }
    if (fetch->holder_count < CKPT_FETCH_HOLDERS_MAX) {
        fetch->holders[fetch->holder_count++] = *node;
    }
}

int node_replica_fetch(struct node_replica *replica,
                       const struct ckpt_id *manifest,
                       enum ckpt_fetch_class class,
                       const struct shl_node_id *holders,
                       uint32_t holder_count,
                       node_replica_done done,
                       void *arg,
                       struct node_replica_fetch **ret,
                       struct shl_err *err)
{
    int rc = check_fetch(replica, manifest, class, err);
    struct node_replica_fetch *fetch = rc == 0 ? calloc(1, sizeof(*fetch)) : NULL;
    uint32_t i;

    if (fetch && uv_mutex_init(&fetch->put_lock) != 0) {
        free(fetch);
        fetch = NULL;
    }
    if (!fetch) {
        return rc < 0 ? rc : shl_err_sys(err, ENOMEM, "cannot fetch a checkpoint");
    }
    fetch->replica = replica;
    fetch->manifest = *manifest;
    fetch->class = class;
    fetch->done = done;
    fetch->arg = arg;
    for (i = 0; i < holder_count; i++) {
        add_holder(fetch, &holders[i]);
    }
    shl_buf_init(&fetch->bytes, CKPT_MANIFEST_MAX);
    shl_list_init(&fetch->arrived);
    shl_list_push_back(&replica->fetches, &fetch->link);
    replica->stats.fetches++;
    if (ret) {
        *ret = fetch;
    }
    replica_schedule(replica);
    return 0;
}

void node_replica_raise(struct node_replica_fetch *fetch, enum ckpt_fetch_class class)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ADD};

    if (class >= fetch->class) {
        return;
    }
    fetch->class = class;
    if (fetch->is_planned) { /* the plan knows its chunks */
        event.u.add.manifest = fetch->manifest;
        event.u.add.class = class;
        event.u.add.deadline_at_ms = CKPT_FETCH_NEVER_MS;
        (void)replica_step(fetch->replica, &event);
    } else {
        replica_schedule(fetch->replica);
    }
}

void node_replica_cancel(struct node_replica_fetch *fetch)
{
    fetch->done = NULL;
    replica_end(fetch, -ECANCELED, "nobody wants it any more");
}

/* Those not asked yet for the manifest. */
static void remove_holder(struct node_replica_fetch *fetch, const struct shl_node_id *node)
{
    uint32_t i;

    for (i = fetch->asked; i < fetch->holder_count; i++) {
        if (shl_node_id_equal(&fetch->holders[i], node)) {
            uint32_t below = (1u << i) - 1;

            fetch->out = (fetch->out & below) | (fetch->out >> 1 & ~below);
            fetch->holder_count--;
            memmove(&fetch->holders[i], &fetch->holders[i + 1],
                    (fetch->holder_count - i) * sizeof(fetch->holders[0]));
            return;
        }
    }
}

void node_replica_holder(struct node_replica *replica,
                         const struct ckpt_id *manifest,
                         const struct shl_node_id *node,
                         bool has)
{
    struct node_replica_fetch *fetch = find(replica, manifest);
    struct ckpt_fetch_event event = {0};

    if (!fetch) {
        return;
    }
    if (has) {
        add_holder(fetch, node);
    } else {
        remove_holder(fetch, node);
    }
    if (fetch->is_planned) {
        event.type = has ? CKPT_FETCH_EV_HOLDER : CKPT_FETCH_EV_HOLDER_LOST;
        if (has) {
            event.u.holder.manifest = *manifest;
            event.u.holder.node = *node;
        } else {
            event.u.lost.manifest = *manifest;
            event.u.lost.node = *node;
        }
        (void)replica_step(replica, &event);
    }
}
