/* What a fetch does on the thread pool besides putting chunks (put.c): all hashing, and everything
 * about the store. One piece of work per fetch at a time, since a session is used by one thread
 * at a time. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/manifest.h"
#include "node/replica/private.h"

/*- LOOKING. */

static int run_look(struct node_replica_fetch *fetch)
{
    struct ckpt_pin *pin = NULL;
    int rc = ckpt_manifest_read(fetch->replica->config.store, &fetch->manifest, &fetch->bytes, &pin,
                                &fetch->work_err);

    ckpt_pin_release(pin);
    if (rc < 0) {
        shl_buf_clear(&fetch->bytes);
    }
    return rc;
}

/*- OPENING. */

static void take_ids(struct node_replica_fetch *fetch, const struct ckpt_part *part)
{
    uint64_t i;

    for (i = 0; i < part->count; i++) {
        fetch->ids[fetch->id_count++] = part->entries[i].id;
    }
}

static int list_ids(struct node_replica_fetch *fetch)
{
    struct ckpt_manifest manifest;
    size_t count;
    int rc = ckpt_manifest_decode(&manifest, shl_buf_bytes(&fetch->bytes), &fetch->work_err);

    if (rc < 0) {
        return rc;
    }
    count = manifest.disk.count + manifest.memory.count + manifest.state.count;
    assert(count <= CKPT_FETCH_LIST_MAX); /* that many do not fit into its bytes */
    fetch->id_count = 0;
    fetch->ids = malloc((count + 1) * sizeof(*fetch->ids));
    fetch->present = calloc(count / 8 + 1, 1);
    if (fetch->ids && fetch->present) {
        take_ids(fetch, &manifest.disk);
        take_ids(fetch, &manifest.memory);
        take_ids(fetch, &manifest.state);
    } else {
        rc = shl_err_sys(&fetch->work_err, ENOMEM, "cannot fetch a checkpoint");
    }
    ckpt_manifest_release(&manifest);
    return rc;
}

static int pin_present(struct node_replica_fetch *fetch)
{
    uint32_t i;

    for (i = 0; i < fetch->id_count; i++) {
        int rc = ckpt_session_pin(fetch->session, &fetch->ids[i], &fetch->work_err);

        if (rc == 0) {
            fetch->present[i / 8] |= (uint8_t)(1u << i % 8);
        } else if (rc != SHL_ENOTFOUND) {
            return rc;
        }
    }
    return 0;
}

/* Also again, after a commit that found a chunk gone: a new session, which holds what is
 * here before the old one lets go. */
static int run_open(struct node_replica_fetch *fetch)
{
    struct ckpt_session *before = fetch->session;
    struct ckpt_id id;
    int rc;

    ckpt_id_of(&id, shl_buf_data(&fetch->bytes), shl_buf_len(&fetch->bytes));
    if (!ckpt_id_equal(&id, &fetch->manifest)) {
        return SHL_EPROTO;
    }
    rc = list_ids(fetch);
    if (rc < 0) {
        return rc;
    }
    rc = ckpt_session_begin(fetch->replica->config.store, &fetch->session, &fetch->work_err);
    if (rc < 0) {
        return rc; /* fetch->session is as before */
    }
    rc = pin_present(fetch);
    if (before) {
        ckpt_session_abort(before);
    }
    return rc;
}

/*- COMMITTING, ENDING. */

static int run_commit(struct node_replica_fetch *fetch)
{
    struct ckpt_id id;
    int rc =
        ckpt_session_commit(fetch->session, shl_buf_bytes(&fetch->bytes), &id, &fetch->work_err);

    if (rc == 0) {
        fetch->session = NULL;
        assert(ckpt_id_equal(&id, &fetch->manifest));
    }
    return rc;
}

static int run_end(struct node_replica_fetch *fetch)
{
    if (fetch->session) {
        ckpt_session_abort(fetch->session);
        fetch->session = NULL;
    }
    return 0;
}

static void run(uv_work_t *work)
{
    struct node_replica_fetch *fetch = shl_container_of(work, struct node_replica_fetch, work);

    fetch->work_err.code = 0;
    switch (fetch->working) {
    case REPLICA_LOOKING:
        fetch->work_rc = run_look(fetch);
        return;
    case REPLICA_OPENING:
        fetch->work_rc = run_open(fetch);
        return;
    case REPLICA_COMMITTING:
        fetch->work_rc = run_commit(fetch);
        return;
    case REPLICA_WAITING:
    case REPLICA_ASKING:
    case REPLICA_FETCHING:
    case REPLICA_ENDING:
        break;
    }
    fetch->work_rc = run_end(fetch);
}

static void on_done(uv_work_t *work, int status)
{
    struct node_replica_fetch *fetch = shl_container_of(work, struct node_replica_fetch, work);

    assert(status == 0); /* nobody cancels it */
    fetch->is_working = false;
    replica_worked(fetch, fetch->working);
}

void replica_work(struct node_replica_fetch *fetch)
{
    int rc SHL_UNUSED;

    if (fetch->state == REPLICA_FETCHING) {
        replica_put_begin(fetch);
        return;
    }
    /* A session is used by one thread at a time. */
    if (fetch->is_working || fetch->puts > 0 || fetch->state == REPLICA_WAITING ||
        fetch->state == REPLICA_ASKING) {
        return;
    }
    fetch->working = fetch->state;
    fetch->is_working = true;
    rc = uv_queue_work(fetch->replica->loop, &fetch->work, run, on_done);
    assert(rc == 0);
}
