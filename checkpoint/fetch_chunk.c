/* Chunks: where each stands, and the lists that requests are chosen from. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/buf.h"
#include "checkpoint/fetch_core.h"

#define BUCKETS_MIN 1024u

/* Ids come from manifests of peers: without a secret they could all fall into one bucket. */
static size_t bucket_of(const struct ckpt_fetch *f, const struct ckpt_id *id)
{
    uint8_t key[crypto_shorthash_KEYBYTES] = {0};
    uint8_t out[crypto_shorthash_BYTES];

    shl_put_le64(key, f->config.seed);
    (void)crypto_shorthash(out, id->bytes, sizeof(id->bytes), key);
    return (size_t)shl_get_le64(out) & (f->bucket_count - 1);
}

int fetch_chunks_reserve(struct ckpt_fetch *f, uint32_t more)
{
    size_t wanted = SHL_MAX(f->bucket_count, (size_t)BUCKETS_MIN), old_count = f->bucket_count, i;
    struct fetch_chunk **old = f->buckets, **buckets;

    while (wanted < (size_t)f->chunk_count + more) {
        wanted *= 2;
    }
    if (wanted == old_count) {
        return 0;
    }
    buckets = calloc(wanted, sizeof(struct fetch_chunk *));
    if (!buckets) {
        return -ENOMEM;
    }
    f->buckets = buckets;
    f->bucket_count = wanted;
    for (i = 0; i < old_count; i++) {
        struct fetch_chunk *chunk = old[i], *next;

        for (; chunk; chunk = next) {
            size_t at = bucket_of(f, &chunk->id);

            next = chunk->hash_next;
            chunk->hash_next = buckets[at];
            buckets[at] = chunk;
        }
    }
    free(old);
    return 0;
}

/* The first of the bucket or behind @chunk with the same id. */
static struct fetch_chunk *same(struct fetch_chunk *chunk, const struct ckpt_id *id)
{
    while (chunk && !ckpt_id_equal(&chunk->id, id)) {
        chunk = chunk->hash_next;
    }
    return chunk;
}

static struct fetch_chunk *first_of(const struct ckpt_fetch *f, const struct ckpt_id *id)
{
    return f->bucket_count > 0 ? same(f->buckets[bucket_of(f, id)], id) : NULL;
}

struct fetch_chunk *fetch_chunk_find(const struct ckpt_fetch *f,
                                     const struct fetch_job *job,
                                     const struct ckpt_id *id)
{
    struct fetch_chunk *chunk = first_of(f, id);

    while (chunk && job && chunk->job != job) {
        chunk = same(chunk->hash_next, id);
    }
    return chunk;
}

/*- Lists of waiting chunks. */

bool fetch_chunk_has(const struct fetch_chunk *chunk, uint32_t slot)
{
    return !(((uint32_t)chunk->lacks | chunk->bad) >> slot & 1u);
}

static uint32_t holders_of(const struct fetch_chunk *chunk)
{
    return chunk->job->present & ~((uint32_t)chunk->lacks | chunk->bad);
}

static void count_waiting(struct fetch_chunk *chunk, bool more)
{
    struct fetch_job *job = chunk->job;
    uint32_t mask = holders_of(chunk);

    job->waiting = more ? job->waiting + 1 : job->waiting - 1;
    for (; mask; mask &= mask - 1) {
        uint32_t *waiting = &job->holders[__builtin_ctz(mask)].waiting;

        *waiting = more ? *waiting + 1 : *waiting - 1;
    }
}

void fetch_chunk_list(struct fetch_chunk *chunk, bool first)
{
    struct shl_list *list = &chunk->job->lists[__builtin_popcount(holders_of(chunk))];

    assert(chunk->state == FETCH_WAITING);
    if (first) {
        shl_list_push_front(list, &chunk->link);
    } else {
        shl_list_push_back(list, &chunk->link);
    }
    count_waiting(chunk, true);
}

void fetch_chunk_unlist(struct fetch_chunk *chunk)
{
    assert(chunk->state == FETCH_WAITING);
    shl_list_remove(&chunk->link);
    count_waiting(chunk, false);
}

void fetch_chunk_add(struct ckpt_fetch *f, struct fetch_chunk *chunk)
{
    struct fetch_chunk *twin = first_of(f, &chunk->id);
    size_t at = bucket_of(f, &chunk->id);

    chunk->asked = twin ? twin->asked : 0;
    chunk->state = chunk->asked > 0 ? FETCH_ASKED : FETCH_WAITING;
    chunk->hash_next = f->buckets[at];
    f->buckets[at] = chunk;
    f->chunk_count++;
    chunk->job->missing++;
    shl_list_init(&chunk->link);
    if (chunk->state == FETCH_WAITING) {
        fetch_chunk_list(chunk, false);
    }
}

void fetch_chunk_remove(struct ckpt_fetch *f, struct fetch_chunk *chunk)
{
    struct fetch_chunk **link = &f->buckets[bucket_of(f, &chunk->id)];

    while (*link != chunk) {
        link = &(*link)->hash_next;
    }
    *link = chunk->hash_next;
    f->chunk_count--;
    if (chunk->state == FETCH_WAITING) {
        fetch_chunk_unlist(chunk);
    }
}

/*- One id, in all jobs that want it. */

void fetch_id_ask(struct ckpt_fetch *f, const struct ckpt_id *id)
{
    struct fetch_chunk *chunk;

    for (chunk = first_of(f, id); chunk; chunk = same(chunk->hash_next, id)) {
        if (chunk->state == FETCH_WAITING) {
            fetch_chunk_unlist(chunk);
            chunk->state = FETCH_ASKED;
        }
        chunk->asked++;
    }
}

void fetch_id_release(struct ckpt_fetch *f, const struct ckpt_id *id)
{
    struct fetch_chunk *chunk;

    for (chunk = first_of(f, id); chunk; chunk = same(chunk->hash_next, id)) {
        assert(chunk->state == FETCH_ASKED);
        if (--chunk->asked == 0) {
            chunk->state = FETCH_WAITING;
            fetch_chunk_list(chunk, true);
        }
    }
}

void fetch_id_done(struct ckpt_fetch *f, const struct ckpt_id *id)
{
    struct fetch_chunk *chunk;

    for (chunk = first_of(f, id); chunk; chunk = same(chunk->hash_next, id)) {
        if (chunk->state == FETCH_DONE) {
            continue;
        }
        if (chunk->state == FETCH_WAITING) {
            fetch_chunk_unlist(chunk);
        }
        chunk->state = FETCH_DONE;
        chunk->asked = 0;
        chunk->job->missing--;
        chunk->job->got++;
        chunk->job->strikes = 0;
    }
}

void fetch_id_lost(struct ckpt_fetch *f, const struct ckpt_id *id)
{
    struct fetch_chunk *chunk;

    for (chunk = first_of(f, id); chunk; chunk = same(chunk->hash_next, id)) {
        assert(chunk->state == FETCH_DONE);
        chunk->state = FETCH_WAITING;
        chunk->job->missing++;
        chunk->job->got--;
        fetch_chunk_list(chunk, false);
    }
}

void fetch_id_refuse(struct ckpt_fetch *f,
                     const struct ckpt_id *id,
                     const struct fetch_peer *peer,
                     bool bad)
{
    struct fetch_chunk *chunk;

    for (chunk = first_of(f, id); chunk; chunk = same(chunk->hash_next, id)) {
        uint32_t slot = fetch_job_slot(chunk->job, peer);

        if (slot == FETCH_NO_SLOT) {
            continue;
        }
        if (chunk->state == FETCH_WAITING) {
            fetch_chunk_unlist(chunk);
        }
        if (bad) {
            chunk->bad |= (uint16_t)(1u << slot);
        } else {
            chunk->lacks |= (uint16_t)(1u << slot);
        }
        if (chunk->state == FETCH_WAITING) {
            fetch_chunk_list(chunk, false);
        }
    }
}
