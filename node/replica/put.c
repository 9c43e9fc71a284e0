/* Chunks that arrived go into the store.
 *
 * Unpacking and hashing take most of the time, more than a core has while a fast link delivers. So
 * several threads of the pool do that, for one fetch or for several; appending, which is
 * short, is done under the lock of the fetch's session. A chunk is not in the store, and nobody
 * is told of it, before its check. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "node/replica/private.h"

/*- On the thread pool. */

static bool check_chunk(struct replica_put *put, struct replica_chunk *chunk)
{
    int rc = ckpt_chunk_check(put->checker, &chunk->arrival, NULL);

    chunk->outcome = rc == 0 ? CKPT_FETCH_ARRIVED : CKPT_FETCH_BAD;
    return rc == 0;
}

static int put_chunks(struct replica_put *put)
{
    struct ckpt_session *session = put->fetch->session;
    struct shl_list *it;
    int rc = 0;

    SHL_LIST_FOREACH(it, &put->batch) {
        const struct replica_chunk *chunk = shl_container_of(it, struct replica_chunk, link);

        if (chunk->outcome == CKPT_FETCH_ARRIVED) {
            rc = ckpt_session_put_checked(session, &chunk->arrival, &put->err);
        }
        if (rc < 0) {
            break;
        }
    }
    return rc;
}

static void run(uv_work_t *work)
{
    struct replica_put *put = shl_container_of(work, struct replica_put, work);
    struct node_replica_fetch *fetch = put->fetch;
    struct shl_list *it;
    uint32_t sound = 0;

    put->err.code = 0;
    put->rc = 0;
    if (!put->checker) {
        put->checker = ckpt_checker_new(fetch->replica->config.store);
    }
    if (!put->checker) {
        put->rc = shl_err_sys(&put->err, ENOMEM, "cannot look at a chunk");
        return;
    }
    SHL_LIST_FOREACH(it, &put->batch) {
        sound += check_chunk(put, shl_container_of(it, struct replica_chunk, link));
    }
    if (sound > 0) {
        uv_mutex_lock(&fetch->put_lock);
        put->rc = put_chunks(put);
        uv_mutex_unlock(&fetch->put_lock);
    }
}

/*- On the loop. */

static struct replica_put *find_idle(struct node_replica *replica)
{
    uint32_t i;

    for (i = 0; i < replica->put_count; i++) {
        if (!replica->puts[i].fetch) {
            return &replica->puts[i];
        }
    }
    return NULL;
}

/* The most urgent fetch that has something to put; of those, the one with the fewest puts. */
static struct node_replica_fetch *find_next(struct node_replica *replica)
{
    struct node_replica_fetch *next = NULL;
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &replica->fetches) {
        struct node_replica_fetch *fetch = shl_container_of(it, struct node_replica_fetch, link);

        if (fetch->state == REPLICA_FETCHING && !shl_list_empty(&fetch->arrived) &&
            (!next || fetch->class < next->class ||
             (fetch->class == next->class && fetch->puts < next->puts))) {
            next = fetch;
        }
    }
    return next;
}

static void begin_all(struct node_replica *replica)
{
    struct node_replica_fetch *next;

    while (find_idle(replica) && (next = find_next(replica))) {
        replica_put_begin(next);
    }
}

static void on_done(uv_work_t *work, int status)
{
    struct replica_put *put = shl_container_of(work, struct replica_put, work);
    struct node_replica_fetch *fetch = put->fetch;
    struct node_replica *replica = fetch->replica;
    struct shl_list batch = SHL_LIST_INIT(batch);
    struct shl_list *first;
    struct shl_err err = put->err;
    int rc = put->rc;

    assert(status == 0); /* nobody cancels it */
    while ((first = shl_list_first(&put->batch))) {
        shl_list_remove(first);
        shl_list_push_back(&batch, first);
    }
    put->fetch = NULL; /* the steps that follow may begin the next one */
    fetch->puts--;
    replica_put_done(fetch, &batch, rc, &err);
    replica_work(fetch);
    begin_all(replica);
}

static void begin(struct replica_put *put, struct node_replica_fetch *fetch)
{
    struct shl_list *first;
    uint32_t count;
    int rc SHL_UNUSED;

    shl_list_init(&put->batch);
    for (count = 0; count < REPLICA_BATCH_MAX && (first = shl_list_first(&fetch->arrived));
         count++) {
        shl_list_remove(first);
        shl_list_push_back(&put->batch, first);
    }
    put->fetch = fetch;
    fetch->puts++;
    rc = uv_queue_work(fetch->replica->loop, &put->work, run, on_done);
    assert(rc == 0);
}

void replica_put_begin(struct node_replica_fetch *fetch)
{
    struct replica_put *put;

    assert(fetch->state == REPLICA_FETCHING);
    if (!shl_list_empty(&fetch->arrived) && (put = find_idle(fetch->replica))) {
        begin(put, fetch);
    }
}

static void on_soon(uv_idle_t *idle)
{
    (void)uv_idle_stop(idle);
    begin_all(idle->data);
}

/* A put for each chunk as it comes would cost more in waking threads than in hashing. */
void replica_put_soon(struct node_replica *replica)
{
    (void)uv_idle_start(&replica->soon, on_soon);
}
