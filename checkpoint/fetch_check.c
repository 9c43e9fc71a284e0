/* Looking at a fetch core: figures, and whether it fits together. */
#include <string.h>

#include "checkpoint/fetch_core.h"

void ckpt_fetch_stats(const struct ckpt_fetch *f, struct ckpt_fetch_stats *ret)
{
    uint32_t i;

    *ret = f->stats;
    ret->jobs = f->job_count;
    ret->requests = f->request_count;
    ret->in_flight_bytes = f->in_flight_bytes;
    ret->missing = 0;
    for (i = 0; i < f->job_count; i++) {
        ret->missing += f->order[i]->missing;
    }
}

bool ckpt_fetch_progress(const struct ckpt_fetch *f,
                         const struct ckpt_id *manifest,
                         uint64_t *ret_missing,
                         uint64_t *ret_total)
{
    uint32_t i;

    for (i = 0; i < f->job_count; i++) {
        if (ckpt_id_equal(&f->order[i]->manifest, manifest)) {
            *ret_missing = f->order[i]->missing;
            *ret_total = f->order[i]->count;
            return true;
        }
    }
    return false;
}

/* Chunks with this id, over all jobs. */
static uint32_t count_twins(const struct ckpt_fetch *f, const struct ckpt_id *id)
{
    uint32_t i, count = 0;

    for (i = 0; i < f->job_count; i++) {
        count += fetch_chunk_find(f, f->order[i], id) != NULL;
    }
    return count;
}

static const char *check_job(const struct fetch_job *job, uint64_t *asked)
{
    uint32_t waiting = 0, missing = 0, had[CKPT_FETCH_HOLDERS_MAX] = {0}, i, j;

    for (i = 0; i < job->count; i++) {
        const struct fetch_chunk *chunk = &job->chunks[i];

        missing += chunk->state != FETCH_DONE;
        waiting += chunk->state == FETCH_WAITING;
        *asked += chunk->asked;
        if ((chunk->state == FETCH_ASKED) != (chunk->asked > 0)) {
            return "a chunk's state does not fit its requests";
        }
        for (j = 0; chunk->state == FETCH_WAITING && j < CKPT_FETCH_HOLDERS_MAX; j++) {
            had[j] += job->holders[j].peer && fetch_chunk_has(chunk, j);
        }
    }
    if (missing != job->missing || waiting != job->waiting) {
        return "a job counts its chunks wrongly";
    }
    for (j = 0; j < CKPT_FETCH_HOLDERS_MAX; j++) {
        if ((job->present >> j & 1u) != (job->holders[j].peer != NULL)) {
            return "a holder is there and is not";
        }
        if (job->holders[j].peer && had[j] != job->holders[j].waiting) {
            return "a holder counts its chunks wrongly";
        }
    }
    return NULL;
}

static const char *check_peer(const struct ckpt_fetch *f, const struct fetch_peer *peer)
{
    uint32_t requests = 0, holdings = 0, i;
    uint64_t bytes = 0;

    for (i = 0; i < CKPT_FETCH_REQUESTS_MAX; i++) {
        if (f->requests[i].id != 0 && f->requests[i].peer == peer) {
            requests++;
            bytes += f->requests[i].reserved;
        }
    }
    for (i = 0; i < f->job_count; i++) {
        holdings += fetch_job_slot(f->order[i], peer) != FETCH_NO_SLOT;
    }
    if (requests != peer->requests || bytes != peer->bytes || holdings != peer->holdings) {
        return "a peer's requests or holdings are counted wrongly";
    }
    if (requests > f->config.peer_requests || bytes > f->config.peer_bytes) {
        return "too much is in flight at a peer";
    }
    return NULL;
}

/* @asked: by what the chunks say. */
static const char *check_totals(const struct ckpt_fetch *f, uint64_t asked)
{
    uint32_t requests = 0, i, j;
    uint64_t bytes = 0, pending = 0;

    for (i = 0; i < CKPT_FETCH_REQUESTS_MAX; i++) {
        const struct fetch_request *r = &f->requests[i];

        if (r->id != 0) {
            requests++;
            bytes += r->reserved;
            if (r->pending == 0 || !r->job->used) {
                return "a request has nothing left to wait for";
            }
        }
        for (j = 0; r->id != 0 && j < r->count; j++) {
            if (r->pending >> j & 1u) {
                pending += count_twins(f, &r->ids[j]);
                if (r->chunks[j]->asked == 0 || !ckpt_id_equal(&r->chunks[j]->id, &r->ids[j])) {
                    return "a request asks for a chunk that does not know of it";
                }
            }
        }
    }
    if (pending != asked) {
        return "chunks are in other requests than they say";
    }
    if (requests != f->request_count || bytes != f->in_flight_bytes) {
        return "what is in flight is counted wrongly";
    }
    if (requests > f->config.total_requests || bytes > f->config.total_bytes) {
        return "too much is in flight";
    }
    return NULL;
}

const char *ckpt_fetch_check(const struct ckpt_fetch *f)
{
    const char *fault = NULL;
    uint64_t chunks = 0, asked = 0;
    uint32_t i;

    for (i = 0; !fault && i < f->job_count; i++) {
        chunks += f->order[i]->count;
        fault = check_job(f->order[i], &asked);
        if (!fault && i > 0 && f->order[i - 1]->class > f->order[i]->class) {
            fault = "jobs are out of order";
        }
    }
    fault = fault ? fault : check_totals(f, asked);
    for (i = 0; !fault && i < CKPT_FETCH_PEERS_MAX; i++) {
        fault = f->peers[i].used ? check_peer(f, &f->peers[i]) : NULL;
    }
    if (!fault && (chunks != f->chunk_count || chunks > CKPT_FETCH_CHUNKS_MAX)) {
        fault = "chunks are counted wrongly";
    }
    return fault;
}
