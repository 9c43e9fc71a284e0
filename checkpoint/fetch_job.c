/* Jobs: what is to be fetched, and who holds it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/fetch_core.h"

struct fetch_job *fetch_job_find(struct ckpt_fetch *f, const struct ckpt_id *manifest)
{
    uint32_t i;

    for (i = 0; i < f->job_count; i++) {
        if (ckpt_id_equal(&f->order[i]->manifest, manifest)) {
            return f->order[i];
        }
    }
    return NULL;
}

uint32_t fetch_job_slot(const struct fetch_job *job, const struct fetch_peer *peer)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_HOLDERS_MAX; i++) {
        if (job->holders[i].peer == peer) {
            return i;
        }
    }
    return FETCH_NO_SLOT;
}

/*- Order: by class, then age. */

static void put_in_order(struct ckpt_fetch *f, struct fetch_job *job)
{
    uint32_t at = f->job_count++;

    while (at > 0 &&
           (f->order[at - 1]->class > job->class ||
            (f->order[at - 1]->class == job->class && f->order[at - 1]->seq > job->seq))) {
        f->order[at] = f->order[at - 1];
        at--;
    }
    f->order[at] = job;
}

static void take_from_order(struct ckpt_fetch *f, const struct fetch_job *job)
{
    uint32_t at = 0;

    while (f->order[at] != job) {
        at++;
    }
    f->job_count--;
    memmove(&f->order[at], &f->order[at + 1], (f->job_count - at) * sizeof(f->order[0]));
}

/*- Holders. A change of them changes what is rare: all lists are made anew. */

static void unlist_all(struct fetch_job *job)
{
    uint32_t i;

    for (i = 0; i < job->count; i++) {
        if (job->chunks[i].state == FETCH_WAITING) {
            fetch_chunk_unlist(&job->chunks[i]);
        }
    }
}

static void list_all(struct fetch_job *job)
{
    uint32_t i;

    for (i = 0; i < job->count; i++) {
        if (job->chunks[i].state == FETCH_WAITING) {
            fetch_chunk_list(&job->chunks[i], false);
        }
    }
}

static void set_lacks(struct fetch_job *job, uint32_t slot, const uint8_t *has, bool is_new)
{
    uint16_t bit = (uint16_t)(1u << slot);
    uint32_t i;

    for (i = 0; i < job->count; i++) {
        struct fetch_chunk *chunk = &job->chunks[i];
        bool lacks = has && !(has[chunk->index / 8] >> chunk->index % 8 & 1);

        chunk->lacks = (uint16_t)(lacks ? chunk->lacks | bit : chunk->lacks & ~bit);
        if (is_new) {
            chunk->bad = (uint16_t)(chunk->bad & ~bit);
        }
    }
}

void fetch_holder_add(struct ckpt_fetch *f,
                      struct fetch_job *job,
                      const struct shl_node_id *node,
                      const uint8_t *has)
{
    struct fetch_peer *peer = fetch_peer_get(f, node);
    uint32_t slot;
    bool is_new;

    if (!peer || f->now_ms < peer->distrusted_until_ms) {
        return;
    }
    slot = fetch_job_slot(job, peer);
    is_new = slot == FETCH_NO_SLOT;
    if (is_new) {
        slot = fetch_job_slot(job, NULL); /* a free one */
        if (slot == FETCH_NO_SLOT) {
            return; /* there are plenty of holders */
        }
    }
    unlist_all(job);
    set_lacks(job, slot, has, is_new);
    if (is_new) {
        job->holders[slot].peer = peer;
        job->present |= (uint16_t)(1u << slot);
        peer->holdings++;
    }
    list_all(job);
}

static void end_requests(struct ckpt_fetch *f,
                         const struct fetch_job *job,
                         const struct fetch_peer *peer /* NULL: all */)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_REQUESTS_MAX; i++) {
        struct fetch_request *r = &f->requests[i];

        if (r->id != 0 && r->job == job && (!peer || r->peer == peer)) {
            fetch_request_end(f, r, true);
        }
    }
}

void fetch_holder_lost(struct ckpt_fetch *f, struct fetch_job *job, struct fetch_peer *peer)
{
    uint32_t slot = fetch_job_slot(job, peer);

    if (slot == FETCH_NO_SLOT) {
        return;
    }
    end_requests(f, job, peer);
    unlist_all(job);
    job->holders[slot].peer = NULL;
    job->present = (uint16_t)(job->present & ~(1u << slot));
    peer->holdings--;
    list_all(job);
}

/*- Life. */

static bool is_present(const struct ckpt_fetch_event *event, uint32_t i)
{
    const uint8_t *present = event->u.add.present;

    return (present && (present[i / 8] >> i % 8 & 1)) || ckpt_id_is_zero(&event->u.add.ids[i]);
}

/* Positions of what is missing; heap. */
static uint32_t *find_missing(const struct ckpt_fetch_event *event, uint32_t *ret_count)
{
    uint32_t *missing = malloc(((size_t)event->u.add.count + 1) * sizeof(*missing));
    uint32_t i, count = 0;

    for (i = 0; missing && i < event->u.add.count; i++) {
        if (!is_present(event, i)) {
            missing[count++] = i;
        }
    }
    *ret_count = count;
    return missing;
}

/* Whole requests change places, not single chunks: what was written together lies together
 * on the holder's disk. */
static void shuffle_groups(struct ckpt_fetch *f, uint32_t *items, uint32_t count)
{
    uint32_t size = f->config.request_chunks, left = count / size, i;

    for (; left > 1; left--) {
        uint32_t *a = items + (size_t)(left - 1) * size;
        uint32_t *b = items + (size_t)(fetch_random(f) % left) * size;

        for (i = 0; i < size; i++) {
            uint32_t item = a[i];

            a[i] = b[i];
            b[i] = item;
        }
    }
}

static void add_chunks(struct ckpt_fetch *f,
                       struct fetch_job *job,
                       const struct ckpt_fetch_event *event,
                       const uint32_t *missing,
                       uint32_t count)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        const struct ckpt_id *id = &event->u.add.ids[missing[i]];
        const struct fetch_chunk *twin = fetch_chunk_find(f, NULL, id);
        struct fetch_chunk *chunk = &job->chunks[job->count];

        if (twin && fetch_chunk_find(f, job, id)) {
            continue; /* is in this list twice */
        }
        if (twin && twin->state == FETCH_DONE) { /* it came, and is gone again */
            fetch_id_lost(f, id);
        }
        *chunk = (struct fetch_chunk){.id = *id, .job = job, .index = missing[i]};
        job->count++;
        fetch_chunk_add(f, chunk);
    }
}

static struct fetch_job *new_job(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    struct fetch_job *job = &f->jobs[0];
    uint32_t i;

    while (job->used) {
        job++;
    }
    memset(job, 0, sizeof(*job));
    job->used = true;
    job->manifest = event->u.add.manifest;
    job->class = event->u.add.class;
    job->seq = f->next_seq++;
    job->deadline_at_ms = event->u.add.deadline_at_ms;
    job->dry_since_ms = CKPT_FETCH_NEVER_MS;
    for (i = 0; i <= CKPT_FETCH_HOLDERS_MAX; i++) {
        shl_list_init(&job->lists[i]);
    }
    put_in_order(f, job);
    return job;
}

static int begin(struct ckpt_fetch *f, const struct ckpt_fetch_event *event, struct fetch_job **ret)
{
    uint32_t count;
    uint32_t *missing;
    struct fetch_chunk *chunks;
    int rc;

    if (f->job_count == CKPT_FETCH_JOBS_MAX) {
        return SHL_ELIMIT;
    }
    missing = find_missing(event, &count);
    if (!missing) {
        return -ENOMEM;
    }
    chunks = NULL;
    if (count > CKPT_FETCH_CHUNKS_MAX - f->chunk_count) {
        rc = SHL_ELIMIT;
    } else {
        rc = fetch_chunks_reserve(f, count);
        chunks = rc == 0 ? malloc(((size_t)count + 1) * sizeof(*chunks)) : NULL;
        rc = rc == 0 && !chunks ? -ENOMEM : rc;
    }
    if (rc == 0) {
        shuffle_groups(f, missing, count);
        *ret = new_job(f, event);
        (*ret)->chunks = chunks;
        add_chunks(f, *ret, event, missing, count);
    }
    free(missing);
    return rc;
}

int fetch_job_add(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    struct fetch_job *job = fetch_job_find(f, &event->u.add.manifest);
    uint32_t i;
    int rc;

    if ((unsigned)event->u.add.class >= CKPT_FETCH_CLASS_COUNT ||
        event->u.add.count > CKPT_FETCH_LIST_MAX || ckpt_id_is_zero(&event->u.add.manifest)) {
        return SHL_EINVALIDARG;
    }
    if (!job) {
        rc = begin(f, event, &job);
        if (rc < 0) {
            return rc;
        }
    } else {
        take_from_order(f, job);
        job->class = SHL_MIN(job->class, event->u.add.class);
        job->deadline_at_ms = SHL_MIN(job->deadline_at_ms, event->u.add.deadline_at_ms);
        put_in_order(f, job);
    }
    for (i = 0; i < event->u.add.holder_count; i++) {
        fetch_holder_add(f, job, &event->u.add.holders[i], NULL);
    }
    return 0;
}

void fetch_job_end(struct ckpt_fetch *f, struct fetch_job *job)
{
    uint32_t i;

    end_requests(f, job, NULL);
    for (i = 0; i < job->count; i++) {
        fetch_chunk_remove(f, &job->chunks[i]);
    }
    for (i = 0; i < CKPT_FETCH_HOLDERS_MAX; i++) {
        if (job->holders[i].peer) {
            job->holders[i].peer->holdings--;
        }
    }
    free(job->chunks);
    take_from_order(f, job);
    memset(job, 0, sizeof(*job));
}

void fetch_job_fail(struct ckpt_fetch *f, struct fetch_job *job, enum ckpt_fetch_reason reason)
{
    struct ckpt_id manifest = job->manifest;
    struct ckpt_id lost = {{0}};
    uint64_t missing = job->missing;
    struct ckpt_fetch_action *act;
    uint32_t i;

    for (i = 0; reason == CKPT_FETCH_NO_CHUNK && i < job->count; i++) {
        if (job->chunks[i].state != FETCH_DONE) {
            lost = job->chunks[i].id;
            break;
        }
    }
    fetch_job_end(f, job);
    act = fetch_act(f, CKPT_FETCH_ACT_FAILED, &manifest);
    act->u.failed.reason = reason;
    act->u.failed.chunk = lost;
    act->u.failed.missing = missing;
    f->stats.failed++;
}
