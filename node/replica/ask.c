/* The manifest: one holder after the other is asked for it. */
#include <assert.h>
#include <stdlib.h>

#include "node/replica/private.h"

void replica_count_bytes(struct node_replica_fetch *fetch)
{
    struct node_replica *replica = fetch->replica;

    replica->manifest_bytes -= fetch->counted_bytes;
    fetch->counted_bytes = shl_buf_len(&fetch->bytes);
    replica->manifest_bytes += fetch->counted_bytes;
}

static int on_part(void *arg, const struct node_replica_part *part)
{
    struct node_replica_fetch *fetch = arg;
    size_t before = shl_buf_len(&fetch->bytes) / CKPT_CHUNK_BYTES;
    int rc;

    if (part->record.outcome == NODE_REPLICA_LACKS) {
        return 0; /* the end says the same */
    }
    rc = shl_buf_append(&fetch->bytes, part->bytes.base, part->bytes.len);
    if (rc < 0) {
        return rc;
    }
    fetch->result.manifest_bytes += part->bytes.len;
    replica_count_bytes(fetch);
    /* Time for as long as it moves, not for a byte now and then. */
    if (shl_buf_len(&fetch->bytes) / CKPT_CHUNK_BYTES > before) {
        fetch->ask_until_ms = uv_now(fetch->replica->loop) + fetch->replica->config.manifest_ms;
    }
    return 0;
}

void replica_holder_out(struct node_replica_fetch *fetch, bool failed)
{
    assert(fetch->asked > 0);
    fetch->out |= 1u << (fetch->asked - 1);
    fetch->failed += failed;
}

static void on_over(void *arg, int code, const char *msg)
{
    struct node_replica_fetch *fetch = arg;

    (void)msg; /* of one holder among many */
    fetch->question = NULL;
    if (code == 0 && shl_buf_len(&fetch->bytes) > 0) {
        replica_enter(fetch, REPLICA_OPENING);
        return;
    }
    if (code == SHL_EQUOTA) {
        fetch->is_busy = true;
    } else {
        replica_holder_out(fetch, code < 0);
    }
    replica_ask_next(fetch);
}

/* Holders that had no room for the question are asked once more, after a pause. */
static bool ask_later(struct node_replica_fetch *fetch)
{
    if (!fetch->is_busy || fetch->busy_rounds >= REPLICA_BUSY_ROUNDS_MAX) {
        return false;
    }
    fetch->busy_rounds++;
    fetch->is_busy = false;
    fetch->asked = 0;
    fetch->ask_until_ms = uv_now(fetch->replica->loop) + REPLICA_BUSY_MS;
    replica_arm(fetch->replica);
    return true;
}

static const struct replica_question_user user = {.part = on_part, .over = on_over};

void replica_ask_next(struct node_replica_fetch *fetch)
{
    struct node_replica *replica = fetch->replica;
    struct node_replica_ask ask = {.is_manifest = true, .count = 1};

    assert(fetch->state == REPLICA_ASKING && !fetch->question);
    shl_buf_clear(&fetch->bytes);
    replica_count_bytes(fetch);
    ask.ids[0] = fetch->manifest;
    while (fetch->asked < fetch->holder_count) {
        const struct shl_node_id *holder = &fetch->holders[fetch->asked++];

        if (fetch->out & 1u << (fetch->asked - 1)) {
            continue;
        }
        if (replica_ask(replica, holder, &ask, false, &user, fetch, &fetch->question, NULL) == 0) {
            fetch->ask_until_ms = uv_now(replica->loop) + replica->config.manifest_ms;
            replica_arm(replica);
            return;
        }
        replica_holder_out(fetch, true);
    }
    if (ask_later(fetch)) {
        return;
    }
    if (fetch->failed > 0 || fetch->is_busy) {
        replica_end(fetch, SHL_EUNAVAILABLE, "no holder of the checkpoint answers as it should");
    } else {
        replica_end(fetch, SHL_ENOTFOUND, "none of the nodes asked has the checkpoint");
    }
}

void replica_fetch_tick(struct node_replica_fetch *fetch, uint64_t now_ms)
{
    if (fetch->state == REPLICA_ASKING && now_ms >= fetch->ask_until_ms) {
        if (fetch->question) { /* else it was a pause */
            replica_holder_out(fetch, true);
        }
        replica_question_drop(fetch->question);
        fetch->question = NULL;
        replica_ask_next(fetch);
    }
}
