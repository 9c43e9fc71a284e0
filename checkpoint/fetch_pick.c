/* Which class, job, holder and chunks the next request is for. */
#include <string.h>

#include "checkpoint/fetch_core.h"

#define PASS_SCALE 256u

static bool is_urgent(enum ckpt_fetch_class class)
{
    return class <= CKPT_FETCH_UNACKED;
}

/*- Rates: one bucket of bytes per class. */

void fetch_refill(struct ckpt_fetch *f, uint64_t elapsed_ms)
{
    uint64_t span = SHL_MIN(elapsed_ms, 3600u * 1000u);
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_CLASS_COUNT; i++) {
        uint64_t rate = f->config.rates[i];
        int64_t most = (int64_t)(rate * f->config.burst_ms);

        f->classes[i].tokens += (int64_t)(rate * span);
        f->classes[i].tokens = SHL_MIN(f->classes[i].tokens, most);
    }
}

/* When requests of the class may start again; at or before now: they may. */
uint64_t fetch_throttle_until_ms(const struct ckpt_fetch *f, enum ckpt_fetch_class class)
{
    uint64_t rate = f->config.rates[class];
    int64_t tokens = f->classes[class].tokens;

    if (rate == 0 || tokens > 0) {
        return 0;
    }
    return f->now_ms + (uint64_t)-tokens / rate + 1;
}

static bool is_throttled(const struct ckpt_fetch *f, enum ckpt_fetch_class class)
{
    return fetch_throttle_until_ms(f, class) > f->now_ms;
}

/*- Room. Bulk classes leave a share of it to the urgent ones. */

static uint64_t share(const struct ckpt_fetch *f, enum ckpt_fetch_class class, uint64_t limit)
{
    return is_urgent(class) ? limit : limit - limit * f->config.urgent_percent / 100;
}

/* Chunks that one more request to @peer could have; 0: none. */
static uint32_t room_at(const struct ckpt_fetch *f,
                        const struct fetch_job *job,
                        const struct fetch_peer *peer)
{
    uint64_t peer_bytes = share(f, job->class, f->config.peer_bytes);
    uint64_t total_bytes = share(f, job->class, f->config.total_bytes);
    uint64_t bytes = f->config.request_bytes;

    if (f->request_count >= share(f, job->class, f->config.total_requests) ||
        peer->requests >= SHL_MIN(share(f, job->class, f->config.peer_requests), peer->window) ||
        peer->bytes >= peer_bytes || f->in_flight_bytes >= total_bytes) {
        return 0;
    }
    bytes = SHL_MIN(bytes, peer_bytes - peer->bytes);
    bytes = SHL_MIN(bytes, total_bytes - f->in_flight_bytes);
    return (uint32_t)SHL_MIN(bytes / CKPT_CHUNK_BYTES, (uint64_t)f->config.request_chunks);
}

/*- Holders. */

/* Some holder has a chunk that waits. */
bool fetch_job_is_askable(const struct fetch_job *job)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_HOLDERS_MAX; i++) {
        if (job->holders[i].peer && job->holders[i].waiting > 0) {
            return true;
        }
    }
    return false;
}

/* ... that did not fail lately. */
static bool has_healthy(const struct ckpt_fetch *f, const struct fetch_job *job)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_HOLDERS_MAX; i++) {
        const struct fetch_holder *holder = &job->holders[i];

        if (holder->peer && holder->waiting > 0 && !fetch_peer_is_demoted(f, holder->peer)) {
            return true;
        }
    }
    return false;
}

static bool may_ask(const struct ckpt_fetch *f, const struct fetch_peer *peer, bool healthy)
{
    return !fetch_peer_is_demoted(f, peer) || (!healthy && f->now_ms >= peer->retry_at_ms);
}

/* The one with the fewest requests, and of these the one asked least lately. */
static uint32_t best_holder(const struct ckpt_fetch *f, const struct fetch_job *job)
{
    bool healthy = has_healthy(f, job);
    uint32_t i, best = FETCH_NO_SLOT;

    for (i = 0; i < CKPT_FETCH_HOLDERS_MAX; i++) {
        const struct fetch_peer *peer = job->holders[i].peer;
        const struct fetch_peer *other = best == FETCH_NO_SLOT ? NULL : job->holders[best].peer;

        if (!peer || job->holders[i].waiting == 0 || !may_ask(f, peer, healthy) ||
            room_at(f, job, peer) == 0) {
            continue;
        }
        if (!other || peer->requests < other->requests ||
            (peer->requests == other->requests && peer->asked_seq < other->asked_seq)) {
            best = i;
        }
    }
    return best;
}

/*- Chunks. */

/* The array is in random order: walk it. */
static uint32_t take_random(struct fetch_job *job,
                            uint32_t slot,
                            struct fetch_chunk **chunks,
                            uint32_t most)
{
    uint32_t count = 0, steps;

    for (steps = 0; steps < job->count && count < most; steps++) {
        struct fetch_chunk *chunk = &job->chunks[job->cursor];

        if (chunk->state == FETCH_WAITING && fetch_chunk_has(chunk, slot)) {
            chunks[count++] = chunk;
        }
        job->cursor = job->cursor + 1 < job->count ? job->cursor + 1 : 0;
    }
    return count;
}

static uint32_t take_rarest(struct fetch_job *job,
                            uint32_t slot,
                            struct fetch_chunk **chunks,
                            uint32_t most)
{
    uint32_t count = 0, holders;
    struct shl_list *it;

    for (holders = 1; holders <= CKPT_FETCH_HOLDERS_MAX; holders++) {
        SHL_LIST_FOREACH(it, &job->lists[holders]) {
            struct fetch_chunk *chunk = shl_container_of(it, struct fetch_chunk, link);

            if (count == most) {
                return count;
            }
            if (fetch_chunk_has(chunk, slot)) {
                chunks[count++] = chunk;
            }
        }
    }
    return count;
}

static bool ask(struct ckpt_fetch *f, struct fetch_job *job)
{
    struct fetch_chunk *chunks[CKPT_FETCH_REQUEST_CHUNKS_MAX];
    uint32_t slot = best_holder(f, job);
    uint32_t most, count;

    if (slot == FETCH_NO_SLOT) {
        return false;
    }
    most = room_at(f, job, job->holders[slot].peer);
    count = job->got < f->config.random_first ? take_random(job, slot, chunks, most)
                                              : take_rarest(job, slot, chunks, most);
    fetch_request_send(f, job, job->holders[slot].peer, chunks, count);
    return true;
}

/*- Endgame: the last chunks of a job, late, asked of a second holder. */

bool fetch_job_is_last(const struct ckpt_fetch *f, const struct fetch_job *job)
{
    return job->missing > 0 && job->waiting == 0 && job->missing <= f->config.endgame;
}

static uint32_t second_holder(const struct ckpt_fetch *f,
                              const struct fetch_job *job,
                              const struct fetch_request *r,
                              const struct fetch_chunk *chunk)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_HOLDERS_MAX; i++) {
        const struct fetch_peer *peer = job->holders[i].peer;

        if (peer && peer != r->peer && fetch_chunk_has(chunk, i) &&
            !fetch_peer_is_demoted(f, peer) && room_at(f, job, peer) > 0) {
            return i;
        }
    }
    return FETCH_NO_SLOT;
}

static void ask_again(struct ckpt_fetch *f, struct fetch_job *job, const struct fetch_request *r)
{
    struct fetch_chunk *chunks[CKPT_FETCH_REQUEST_CHUNKS_MAX];
    uint32_t slot = FETCH_NO_SLOT, most = 0, count = 0, i;

    for (i = 0; i < r->count; i++) {
        struct fetch_chunk *chunk = r->chunks[i];

        if (!(r->pending >> i & 1u) || chunk->asked > 1) {
            continue;
        }
        if (slot == FETCH_NO_SLOT) {
            slot = second_holder(f, job, r, chunk);
            most = slot == FETCH_NO_SLOT ? 0 : room_at(f, job, job->holders[slot].peer);
        }
        if (slot != FETCH_NO_SLOT && count < most && fetch_chunk_has(chunk, slot)) {
            chunks[count++] = chunk;
        }
    }
    if (count > 0) {
        f->stats.duplicates += count;
        fetch_request_send(f, job, job->holders[slot].peer, chunks, count);
    }
}

static void endgame(struct ckpt_fetch *f, enum ckpt_fetch_class class)
{
    uint32_t i, j;

    for (i = 0; i < f->job_count; i++) {
        struct fetch_job *job = f->order[i];

        if (job->class != class || !fetch_job_is_last(f, job) || is_throttled(f, class)) {
            continue;
        }
        for (j = 0; j < CKPT_FETCH_REQUESTS_MAX; j++) {
            const struct fetch_request *r = &f->requests[j];

            if (r->id != 0 && r->job == job && r->late_at_ms <= f->now_ms) {
                ask_again(f, job, r);
            }
        }
    }
}

/*- Classes. */

/* One request for the oldest job of the class that can have one. */
static bool start_one(struct ckpt_fetch *f, enum ckpt_fetch_class class)
{
    uint32_t i;

    if (is_throttled(f, class)) {
        return false;
    }
    for (i = 0; i < f->job_count; i++) {
        if (f->order[i]->class == class && ask(f, f->order[i])) {
            return true;
        }
    }
    return false;
}

/* An urgent class has something to ask of somebody who answers: others wait. */
static bool is_pressing(const struct ckpt_fetch *f, enum ckpt_fetch_class class)
{
    uint32_t i;

    for (i = 0; i < f->job_count; i++) {
        if (f->order[i]->class == class && has_healthy(f, f->order[i])) {
            return !is_throttled(f, class);
        }
    }
    return false;
}

/* Stride scheduling: the class that had least for its weight is next. */
static bool start_weighted(struct ckpt_fetch *f)
{
    bool tried[CKPT_FETCH_CLASS_COUNT] = {false};
    uint32_t i, turn;

    for (turn = CKPT_FETCH_REPAIR; turn < CKPT_FETCH_CLASS_COUNT; turn++) {
        uint32_t best = CKPT_FETCH_CLASS_COUNT;
        uint64_t before = f->next_request;

        for (i = CKPT_FETCH_REPAIR; i < CKPT_FETCH_CLASS_COUNT; i++) {
            if (!tried[i] &&
                (best == CKPT_FETCH_CLASS_COUNT || f->classes[i].pass < f->classes[best].pass)) {
                best = i;
            }
        }
        tried[best] = true;
        if (start_one(f, (enum ckpt_fetch_class)best)) {
            struct fetch_bucket *class = &f->classes[best];

            /* Who was idle does not catch up. */
            class->pass = SHL_MAX(class->pass, f->pass);
            f->pass = class->pass;
            class->pass +=
                fetch_request_find(f, before)->charged * PASS_SCALE / f->config.weights[best];
            return true;
        }
    }
    return false;
}

void fetch_fill(struct ckpt_fetch *f)
{
    uint32_t i;

    for (i = CKPT_FETCH_RESUME; i <= CKPT_FETCH_UNACKED; i++) {
        while (start_one(f, (enum ckpt_fetch_class)i)) {
        }
        endgame(f, (enum ckpt_fetch_class)i);
        if (is_pressing(f, (enum ckpt_fetch_class)i)) {
            return;
        }
    }
    while (start_weighted(f)) {
    }
    for (i = CKPT_FETCH_REPAIR; i < CKPT_FETCH_CLASS_COUNT; i++) {
        endgame(f, (enum ckpt_fetch_class)i);
    }
}
