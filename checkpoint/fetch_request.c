/* Requests: sending, answers, failures. */
#include <assert.h>
#include <string.h>

#include "checkpoint/fetch_core.h"

/* Bytes of a chunk of this job on the wire, as far as known. */
static uint64_t expected_bytes(const struct fetch_job *job)
{
    uint64_t mean = job->got > 0 ? job->bytes / job->got : CKPT_CHUNK_BYTES;

    return SHL_MIN(SHL_MAX(mean, 1u), (uint64_t)CKPT_CHUNK_BYTES);
}

/* Take @bytes from the class's rate; negative gives back. */
static void charge(struct ckpt_fetch *f, enum ckpt_fetch_class class, int64_t bytes)
{
    if (f->config.rates[class] > 0) {
        f->classes[class].tokens -= bytes * 1000;
    }
}

static struct fetch_request *free_request(struct ckpt_fetch *f)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_REQUESTS_MAX; i++) {
        if (f->requests[i].id == 0) {
            return &f->requests[i];
        }
    }
    return NULL;
}

void fetch_request_send(struct ckpt_fetch *f,
                        struct fetch_job *job,
                        struct fetch_peer *peer,
                        struct fetch_chunk *const *chunks,
                        uint32_t count)
{
    struct fetch_request *r = free_request(f);
    struct ckpt_fetch_action *act;
    uint32_t i;

    assert(r && count > 0 && count <= CKPT_FETCH_REQUEST_CHUNKS_MAX);
    memset(r, 0, sizeof(*r));
    r->id = f->next_request++;
    r->job = job;
    r->peer = peer;
    r->class = job->class;
    r->count = count;
    r->pending = count == 32 ? UINT32_MAX : (1u << count) - 1;
    for (i = 0; i < count; i++) {
        r->chunks[i] = chunks[i];
        r->ids[i] = chunks[i]->id;
        fetch_id_ask(f, &r->ids[i]);
    }
    r->sent_at_ms = f->now_ms;
    r->span_ms = fetch_peer_span_ms(f, peer);
    r->deadline_at_ms = f->now_ms + r->span_ms;
    r->late_at_ms = f->now_ms + SHL_MAX(r->span_ms / FETCH_LATE_FACTOR, 1u);
    r->reserved = (uint64_t)count * CKPT_CHUNK_BYTES;
    r->charged = count * expected_bytes(job);
    charge(f, r->class, (int64_t)r->charged);
    peer->requests++;
    peer->bytes += r->reserved;
    peer->asked_seq = r->id;
    f->request_count++;
    f->in_flight_bytes += r->reserved;
    act = fetch_act(f, CKPT_FETCH_ACT_REQUEST, &job->manifest);
    act->u.request.request = r->id;
    act->u.request.peer = peer->id;
    act->u.request.class = r->class;
    act->u.request.ids = r->ids;
    act->u.request.count = count;
    act->u.request.deadline_at_ms = r->deadline_at_ms;
}

struct fetch_request *fetch_request_find(struct ckpt_fetch *f, uint64_t id)
{
    uint32_t i;

    for (i = 0; id > 0 && i < CKPT_FETCH_REQUESTS_MAX; i++) {
        if (f->requests[i].id == id) {
            return &f->requests[i];
        }
    }
    return NULL;
}

void fetch_request_end(struct ckpt_fetch *f, struct fetch_request *r, bool tell)
{
    uint32_t i;

    for (i = 0; i < r->count; i++) {
        if (r->pending >> i & 1u) {
            fetch_id_release(f, &r->ids[i]);
        }
    }
    charge(f, r->class, (int64_t)r->arrived - (int64_t)r->charged);
    r->peer->requests--;
    r->peer->bytes -= r->reserved;
    f->request_count--;
    f->in_flight_bytes -= r->reserved;
    if (tell) {
        fetch_act(f, CKPT_FETCH_ACT_CANCEL, &r->job->manifest)->u.cancel = r->id;
    }
    r->id = 0;
}

/* One per round of retries: a peer that dies takes all requests to it along. */
static void strike(struct ckpt_fetch *f, struct fetch_job *job, uint64_t sent_at_ms)
{
    if (job->strikes == 0 || sent_at_ms >= job->struck_at_ms) {
        job->strikes++;
        job->struck_at_ms = f->now_ms;
    }
}

void fetch_request_failed(struct ckpt_fetch *f, struct fetch_request *r, bool timed_out)
{
    struct fetch_peer *peer = r->peer;

    if (timed_out) {
        f->stats.timeouts++;
    } else {
        f->stats.failures++;
    }
    if (r->sent_at_ms >= peer->failed_at_ms) {
        fetch_peer_failed(f, peer);
        if (timed_out) {
            peer->backoff = SHL_MIN(peer->backoff + 1, FETCH_BACKOFF_MAX);
        }
    }
    strike(f, r->job, r->sent_at_ms);
    fetch_request_end(f, r, timed_out);
}

void fetch_settle(struct ckpt_fetch *f, const struct ckpt_id *id, struct fetch_request *except)
{
    uint32_t slot, i;

    for (slot = 0; slot < CKPT_FETCH_REQUESTS_MAX; slot++) {
        struct fetch_request *r = &f->requests[slot];

        if (r->id == 0) {
            continue;
        }
        for (i = 0; i < r->count; i++) {
            if ((r->pending >> i & 1u) && ckpt_id_equal(&r->ids[i], id)) {
                r->pending &= ~(1u << i);
            }
        }
        if (r->pending == 0 && r != except) {
            fetch_request_end(f, r, true);
        }
    }
}

/*- Answers. */

static void on_arrived(struct ckpt_fetch *f,
                       struct fetch_request *r,
                       const struct ckpt_fetch_result *result,
                       bool pending)
{
    bool elsewhere = r->chunks[result->index]->asked > pending;

    f->stats.arrived++;
    f->stats.arrived_bytes += result->bytes;
    fetch_id_done(f, &r->ids[result->index]);
    if (elsewhere) {
        fetch_settle(f, &r->ids[result->index], r);
    }
}

/* The peer has no (good) copy of the chunk. */
static void on_refused(struct ckpt_fetch *f, struct fetch_request *r, uint32_t at, bool bad)
{
    if (bad) {
        struct ckpt_fetch_action *act = fetch_act(f, CKPT_FETCH_ACT_QUARANTINE, &r->job->manifest);

        act->u.quarantine.peer = r->peer->id;
        act->u.quarantine.chunk = r->ids[at];
        r->peer->bad++;
        f->stats.bad++;
    } else {
        f->stats.lacks++;
    }
    fetch_id_refuse(f, &r->ids[at], r->peer, bad);
    fetch_id_release(f, &r->ids[at]);
}

/* Whether it was a chunk that arrived. */
static bool take_result(struct ckpt_fetch *f,
                        struct fetch_request *r,
                        const struct ckpt_fetch_result *result)
{
    uint32_t bit = result->index < r->count ? 1u << result->index : 0;
    bool pending = r->pending & bit;

    r->arrived += result->bytes;
    r->job->bytes += result->bytes;
    r->pending &= ~bit;
    /* Also after the peer said that it has it not: it is here, whatever was said. */
    if (bit && result->outcome == CKPT_FETCH_ARRIVED &&
        r->chunks[result->index]->state != FETCH_DONE) {
        on_arrived(f, r, result, pending);
        return true;
    }
    if (!pending) {
        f->stats.wasted_bytes += result->bytes;
        return false;
    }
    f->stats.wasted_bytes += result->bytes;
    on_refused(f, r, result->index, result->outcome == CKPT_FETCH_BAD);
    return false;
}

/* Its other copies are not worth the transfer. */
static void distrust(struct ckpt_fetch *f, struct fetch_peer *peer)
{
    uint32_t i;

    peer->bad = 0;
    peer->distrusted_until_ms = f->now_ms + f->config.distrust_ms;
    for (i = 0; i < f->job_count; i++) {
        fetch_holder_lost(f, f->order[i], peer);
    }
}

void fetch_answer(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    struct fetch_request *r = fetch_request_find(f, event->u.answer.request);
    struct fetch_peer *peer;
    uint32_t i, before;

    if (!r) {
        return; /* cancelled a moment ago */
    }
    peer = r->peer;
    before = r->pending;
    for (i = 0; i < event->u.answer.count; i++) {
        r->useful |= take_result(f, r, &event->u.answer.results[i]);
    }
    for (i = 0; event->u.answer.last && i < r->count; i++) {
        if (r->pending >> i & 1u) {
            r->pending &= ~(1u << i);
            on_refused(f, r, i, false);
        }
    }
    if (r->pending > 0) {
        if (r->pending != before) { /* it goes on */
            r->deadline_at_ms = f->now_ms + r->span_ms;
        }
    } else {
        if (r->useful) {
            fetch_peer_answered(f, peer, f->now_ms - r->sent_at_ms);
        } else {
            strike(f, r->job, r->sent_at_ms);
        }
        fetch_request_end(f, r, false);
    }
    if (peer->bad >= f->config.bad_max) {
        distrust(f, peer);
    }
}
