#include "scheduler/raft_log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 64u

static void free_entry(struct sched_raft_log *log, struct sched_raft_entry *entry)
{
    log->bytes -= sched_raft_entry_bytes(entry);
    free((void *)(uintptr_t)entry->data.base);
    entry->data = shl_bytes_of(NULL, 0);
}

void sched_raft_log_release(struct sched_raft_log *log)
{
    sched_raft_log_reset(log, 0, 0);
    free(log->entries);
    *log = (struct sched_raft_log){0};
}

uint64_t sched_raft_log_find(const struct sched_raft_log *log, uint64_t index, uint64_t term)
{
    uint64_t at = SHL_MIN(index, sched_raft_log_last(log));

    at = SHL_MAX(at, log->base_index);
    while (at > log->base_index && sched_raft_log_term(log, at) > term) {
        at--;
    }
    return at;
}

/* Room for one more entry at the end: grow, or move down when half of the room is behind. */
static int make_room(struct sched_raft_log *log)
{
    struct sched_raft_entry *grown;
    size_t capacity;

    if (log->head + log->count < log->capacity) {
        return 0;
    }
    if (log->head > 0 && log->head >= log->count) {
        memmove(log->entries, log->entries + log->head, log->count * sizeof(*log->entries));
        log->head = 0;
        return 0;
    }
    capacity = SHL_MAX(log->capacity * 2, CAPACITY_MIN);
    grown = reallocarray(log->entries, capacity, sizeof(*grown));
    if (!grown) {
        return -ENOMEM;
    }
    log->entries = grown;
    log->capacity = capacity;
    return 0;
}

int sched_raft_log_append(struct sched_raft_log *log, const struct sched_raft_entry *entry)
{
    struct sched_raft_entry *slot;
    uint8_t *copy = NULL;

    assert(entry->index == sched_raft_log_last(log) + 1);
    if (make_room(log) < 0) {
        return -ENOMEM;
    }
    if (entry->data.len > 0) {
        copy = malloc(entry->data.len);
        if (!copy) {
            return -ENOMEM;
        }
        memcpy(copy, entry->data.base, entry->data.len);
    }
    slot = &log->entries[log->head + log->count];
    *slot = *entry;
    slot->data = shl_bytes_of(copy, entry->data.len);
    log->count++;
    log->bytes += sched_raft_entry_bytes(slot);
    return 0;
}

void sched_raft_log_truncate(struct sched_raft_log *log, uint64_t from)
{
    assert(from > log->base_index);
    while (sched_raft_log_last(log) >= from) {
        free_entry(log, &log->entries[log->head + log->count - 1]);
        log->count--;
    }
}

void sched_raft_log_compact(struct sched_raft_log *log, uint64_t index)
{
    assert(index >= log->base_index);
    assert(index <= sched_raft_log_last(log));
    log->base_term = sched_raft_log_term(log, index);
    while (log->base_index < index) {
        free_entry(log, &log->entries[log->head]);
        log->head++;
        log->count--;
        log->base_index++;
    }
    if (log->count == 0) {
        log->head = 0;
    }
}

void sched_raft_log_reset(struct sched_raft_log *log, uint64_t index, uint64_t term)
{
    while (log->count > 0) {
        log->count--;
        free_entry(log, &log->entries[log->head + log->count]);
    }
    log->head = 0;
    log->base_index = index;
    log->base_term = term;
}
