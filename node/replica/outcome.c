/* What follows on a fetch's work on the thread pool. */
#include <assert.h>
#include <stdlib.h>

#include "node/replica/private.h"

static const char *work_msg(const struct node_replica_fetch *fetch)
{
    return fetch->work_err.code ? fetch->work_err.msg : NULL;
}

static void after_look(struct node_replica_fetch *fetch)
{
    if (fetch->work_rc == SHL_ENOTFOUND || fetch->work_rc == SHL_ECORRUPT) {
        replica_enter(fetch, REPLICA_ASKING);
        replica_ask_next(fetch);
        return;
    }
    if (fetch->work_rc < 0) {
        replica_end(fetch, fetch->work_rc, work_msg(fetch));
        return;
    }
    /* Its chunks may have turned out damaged. */
    fetch->result.was_here = true;
    replica_count_bytes(fetch);
    replica_enter(fetch, REPLICA_OPENING);
}

static bool is_whole(const struct node_replica_fetch *fetch)
{
    uint32_t i;

    for (i = 0; i < fetch->id_count; i++) {
        if (!(fetch->present[i / 8] >> i % 8 & 1u)) {
            return false;
        }
    }
    return true;
}

static void wrong_manifest(struct node_replica_fetch *fetch)
{
    struct node_replica *replica = fetch->replica;
    char peer[SHL_NODE_ID_TEXT_SIZE];

    shl_node_id_format(peer, &fetch->holders[fetch->asked - 1]);
    replica->stats.bad_manifests++;
    SHL_LOG(replica->config.log, SHL_LOG_ERROR, "replica_wrong_manifest", SHL_S("peer", peer),
            SHL_S("reason", "the manifest it sent is not the one that was asked for"));
    replica_holder_out(fetch, true);
    replica_enter(fetch, REPLICA_ASKING);
    replica_ask_next(fetch);
}

static int add_to_plan(struct node_replica_fetch *fetch)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ADD};
    int rc;

    event.u.add.manifest = fetch->manifest;
    event.u.add.class = fetch->class;
    event.u.add.deadline_at_ms = CKPT_FETCH_NEVER_MS;
    event.u.add.ids = fetch->ids;
    event.u.add.count = fetch->id_count;
    event.u.add.present = fetch->present;
    event.u.add.holders = fetch->holders;
    event.u.add.holder_count = fetch->holder_count;
    fetch->is_planned = true;
    rc = replica_step(fetch->replica, &event);
    if (rc < 0) {
        fetch->is_planned = false;
    }
    return rc;
}

static void after_open(struct node_replica_fetch *fetch)
{
    int rc = fetch->work_rc;

    if (rc == SHL_EPROTO) {
        wrong_manifest(fetch);
        return;
    }
    if (rc < 0) {
        replica_end(fetch, rc, work_msg(fetch));
        return;
    }
    fetch->result.was_here &= is_whole(fetch);
    if (fetch->result.was_here) {
        replica_end(fetch, 0, NULL);
        return;
    }
    replica_enter(fetch, REPLICA_FETCHING);
    rc = add_to_plan(fetch);
    free(fetch->ids);
    free(fetch->present);
    fetch->ids = NULL;
    fetch->present = NULL;
    if (rc < 0) {
        replica_end(fetch, rc,
                    rc == SHL_ELIMIT ? "too many chunks are being fetched already" : NULL);
    }
}

/* What became of chunks of one request. */
static void report(struct node_replica_fetch *fetch,
                   struct replica_request *request,
                   const struct ckpt_fetch_result *results,
                   const struct ckpt_id *ids,
                   uint32_t count)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ANSWER};
    struct ckpt_id present[REPLICA_BATCH_MAX];
    uint32_t i, present_count = 0;

    if (!request->is_cancelled) {
        event.u.answer.request = request->id;
        event.u.answer.results = results;
        event.u.answer.count = count;
        (void)replica_step(fetch->replica, &event);
        return;
    }
    for (i = 0; i < count; i++) {
        if (results[i].outcome == CKPT_FETCH_ARRIVED) {
            present[present_count++] = ids[i];
        }
    }
    if (present_count > 0 && fetch->state == REPLICA_FETCHING) {
        event.type = CKPT_FETCH_EV_PRESENT;
        event.u.present.ids = present;
        event.u.present.count = present_count;
        (void)replica_step(fetch->replica, &event);
    }
}

/* The first chunks of @batch that are of one request; each is freed once it was told of. */
static void report_some(struct node_replica_fetch *fetch, struct shl_list *batch, bool is_put)
{
    struct ckpt_fetch_result results[REPLICA_BATCH_MAX];
    struct ckpt_id ids[REPLICA_BATCH_MAX];
    struct replica_request *request = NULL;
    struct shl_list *it;
    uint32_t count = 0;

    SHL_LIST_FOREACH(it, batch) {
        const struct replica_chunk *chunk = shl_container_of(it, struct replica_chunk, link);

        if (request && chunk->request != request) {
            break;
        }
        fetch->result.raw_bytes += is_put ? chunk->arrival.raw_bytes : 0;
        request = chunk->request;
        ids[count] = chunk->arrival.id;
        results[count++] = (struct ckpt_fetch_result){chunk->index, chunk->outcome, chunk->length};
    }
    assert(request && count <= REPLICA_BATCH_MAX);
    if (is_put) {
        report(fetch, request, results, ids, count);
    }
    for (; count > 0; count--) {
        replica_chunk_free(shl_container_of(shl_list_first(batch), struct replica_chunk, link));
    }
    replica_request_settle(request);
}

void replica_put_done(struct node_replica_fetch *fetch,
                      struct shl_list *batch,
                      int rc,
                      const struct shl_err *err)
{
    if (rc < 0) {
        replica_end(fetch, rc, err->code ? err->msg : NULL);
    }
    while (!shl_list_empty(batch)) {
        report_some(fetch, batch, rc == 0);
    }
    replica_questions_resume(fetch->replica);
}

static void after_commit(struct node_replica_fetch *fetch)
{
    int rc = fetch->work_rc;

    if ((rc == SHL_ENOTFOUND || rc == SHL_ECORRUPT) &&
        fetch->rounds + 1 < NODE_REPLICA_ROUNDS_MAX) {
        fetch->rounds++;
        replica_enter(fetch, REPLICA_OPENING);
        return;
    }
    replica_end(fetch, rc, work_msg(fetch));
}

void replica_worked(struct node_replica_fetch *fetch, enum replica_state state)
{
    if (state == REPLICA_ENDING) {
        replica_finish(fetch);
        return;
    }
    if (fetch->state != state) {
        /* Ended meanwhile; what was published is here all the same. */
        if (state == REPLICA_COMMITTING && fetch->work_rc == 0) {
            fetch->result.code = 0;
        }
    } else if (state == REPLICA_LOOKING) {
        after_look(fetch);
    } else if (state == REPLICA_OPENING) {
        after_open(fetch);
    } else {
        after_commit(fetch);
    }
    replica_work(fetch);
}
