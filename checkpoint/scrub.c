/* Scrubbing: reading everything once in a while, so that damage is known while another
 * copy of the content may still come by. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "checkpoint/internal.h"

/* One chunk; false when it cannot be read. It may have been collected meanwhile. */
static bool is_sound(struct ckpt_store *store, const struct ckpt_id *id, uint8_t *buffer)
{
    int rc = ckpt_chunk_read(store, id, buffer, CKPT_CHUNK_BYTES, NULL);

    return rc != SHL_ECORRUPT;
}

int ckpt_store_scrub(struct ckpt_store *store,
                     uint64_t max_bytes,
                     struct ckpt_scrub_stats *ret,
                     struct shl_err *err)
{
    SHL_CLEANUP_FREE struct ckpt_item *items = malloc(CKPT_LIST_BATCH * sizeof(*items));
    SHL_CLEANUP_FREE uint8_t *buffer = malloc(CKPT_CHUNK_BYTES);
    bool finished = false;
    int count = 0, i;

    *ret = (struct ckpt_scrub_stats){0};
    if (!items || !buffer) {
        return shl_err_sys(err, ENOMEM, "cannot check the checkpoint store");
    }
    (void)pthread_mutex_lock(&store->scrub_lock);
    while (!finished && ret->bytes < max_bytes) {
        count = ckpt_index_list(store->index, CKPT_KIND_CHUNK,
                                store->scrub_resumes ? &store->scrub_cursor : NULL, items,
                                CKPT_LIST_BATCH, err);
        for (i = 0; i < count && ret->bytes < max_bytes; i++) {
            ret->chunks++;
            ret->bytes += items[i].place.stored_bytes;
            ret->damaged += !is_sound(store, &items[i].id, buffer);
            store->scrub_cursor = items[i].id;
        }
        finished = count < CKPT_LIST_BATCH && i >= count;
        store->scrub_resumes = !finished; /* the next call begins at the first again */
    }
    (void)pthread_mutex_unlock(&store->scrub_lock);
    if (ret->damaged) {
        SHL_LOG(ckpt_log(store), SHL_LOG_ERROR, "checkpoint_chunks_damaged",
                SHL_I("chunks", ret->damaged));
    }
    return count < 0 ? count : 0;
}
