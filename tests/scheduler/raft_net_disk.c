/* Disks of the network in raft_net.h: what is there, and the one write under way. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "raft_net.h"

static void net_entry_free(struct net_entry *entry)
{
    free(entry->data);
}

struct net_entry net_entry_copy(uint64_t index,
                                uint64_t term,
                                uint8_t type,
                                const void *data,
                                size_t len)
{
    struct net_entry entry = {index, term, type, malloc(len + 1), len};

    assert(entry.data);
    if (len > 0) {
        memcpy(entry.data, data, len);
    }
    return entry;
}

void net_disk_push(struct net_disk *disk, struct net_entry entry)
{
    assert(disk->count == 0 || disk->entries[disk->count - 1].index + 1 == entry.index);
    if (disk->count == disk->capacity) {
        disk->capacity = disk->capacity ? 2 * disk->capacity : 64;
        disk->entries = realloc(disk->entries, disk->capacity * sizeof(*disk->entries));
        assert(disk->entries);
    }
    disk->entries[disk->count++] = entry;
}

/* Keep entries in [first, end). */
void net_disk_keep(struct net_disk *disk, uint64_t first, uint64_t end)
{
    size_t i, kept = 0;

    for (i = 0; i < disk->count; i++) {
        if (disk->entries[i].index >= first && disk->entries[i].index < end) {
            disk->entries[kept++] = disk->entries[i];
        } else {
            net_entry_free(&disk->entries[i]);
        }
    }
    disk->count = kept;
}

void net_request_take(struct net_request *q, const struct sched_raft_persist *p)
{
    uint32_t i;
    int rc;

    assert(!q->active);
    q->active = true;
    q->head = *p;
    shl_buf_init(&q->snapshot, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    if (p->snapshot != SCHED_RAFT_SNAPSHOT_NONE) {
        q->meta = *p->meta;
        rc = shl_buf_append(&q->snapshot, p->snapshot_data.base, p->snapshot_data.len);
        assert(rc == 0);
    }
    q->count = p->entry_count;
    q->entries = calloc(q->count + 1, sizeof(*q->entries));
    assert(q->entries);
    for (i = 0; i < q->count; i++) {
        q->entries[i] = net_entry_copy(p->entries[i].index, p->entries[i].term, p->entries[i].type,
                                       p->entries[i].data.base, p->entries[i].data.len);
    }
}

void net_request_drop(struct net_request *q)
{
    size_t i;

    if (!q->active) {
        return;
    }
    for (i = 0; i < q->count; i++) {
        net_entry_free(&q->entries[i]);
    }
    free(q->entries);
    shl_buf_release(&q->snapshot);
    *q = (struct net_request){0};
}

void net_request_write(struct net_request *q, struct net_disk *disk)
{
    size_t i;

    if (q->head.snapshot != SCHED_RAFT_SNAPSHOT_NONE) {
        disk->meta = q->meta;
        shl_buf_release(&disk->snapshot);
        disk->snapshot = q->snapshot;
        shl_buf_init(&q->snapshot, 1);
        net_disk_keep(disk,
                      q->head.snapshot == SCHED_RAFT_SNAPSHOT_SAVE ? q->head.log_first : UINT64_MAX,
                      UINT64_MAX);
    }
    if (q->head.truncate_from > 0) {
        net_disk_keep(disk, 0, q->head.truncate_from);
    }
    for (i = 0; i < q->count; i++) {
        net_disk_push(disk, q->entries[i]);
    }
    q->count = 0;
    if (q->head.has_hard_state) {
        disk->term = q->head.term;
        disk->vote = q->head.vote;
    }
    net_request_drop(q);
}
