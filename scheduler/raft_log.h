/* The log in memory: contiguous entries above a base, each owning its bytes.
 *
 * The base is the entry in front of the first one; only its index and term are known. It
 * moves up when a snapshot lets entries go. Whoever changes the log here also has to keep
 * storage (raft_store.c) and the list of memberships (raft_change.c) in step; the functions
 * that do all three are in raft_internal.h.
 */
#ifndef SHL_SCHEDULER_RAFT_LOG_H
#define SHL_SCHEDULER_RAFT_LOG_H

#include "scheduler/raft.h"

/* Counted per entry besides its bytes, so that empty ones have a cost too. */
#define SCHED_RAFT_ENTRY_OVERHEAD 64u

struct sched_raft_log {
    struct sched_raft_entry *entries; /* count of them, from head */
    size_t head;
    size_t count;
    size_t capacity;
    uint64_t base_index;
    uint64_t base_term;
    uint64_t bytes; /* of all entries, overhead included */
};

void sched_raft_log_release(struct sched_raft_log *log);

static inline uint64_t sched_raft_log_last(const struct sched_raft_log *log)
{
    return log->base_index + log->count;
}

static inline uint64_t sched_raft_entry_bytes(const struct sched_raft_entry *entry)
{
    return entry->data.len + SCHED_RAFT_ENTRY_OVERHEAD;
}

/* Entry at @index, NULL when it is not in memory. Valid until the log changes. */
static inline struct sched_raft_entry *sched_raft_log_at(const struct sched_raft_log *log,
                                                         uint64_t index)
{
    if (index <= log->base_index || index > log->base_index + log->count) {
        return NULL;
    }
    return &log->entries[log->head + (size_t)(index - log->base_index - 1)];
}

/* Term of the entry or the base at @index; 0 when it is not known (and for index 0). */
static inline uint64_t sched_raft_log_term(const struct sched_raft_log *log, uint64_t index)
{
    const struct sched_raft_entry *entry = sched_raft_log_at(log, index);

    if (entry) {
        return entry->term;
    }
    return index == log->base_index ? log->base_term : 0;
}

static inline uint64_t sched_raft_log_last_term(const struct sched_raft_log *log)
{
    return sched_raft_log_term(log, sched_raft_log_last(log));
}

/* Highest index at most @index, not below the base, whose term is at most @term. */
uint64_t sched_raft_log_find(const struct sched_raft_log *log, uint64_t index, uint64_t term);

/* Append a copy of @entry (bytes copied) at last + 1. Returns 0 or -ENOMEM, unchanged. */
SHL_MUST_CHECK int sched_raft_log_append(struct sched_raft_log *log,
                                         const struct sched_raft_entry *entry);

/* Drop entries at and above @from, which is above the base. */
void sched_raft_log_truncate(struct sched_raft_log *log, uint64_t from);

/* Move the base up to @index, an entry in memory (or the base itself). */
void sched_raft_log_compact(struct sched_raft_log *log, uint64_t index);

/* Drop all entries; the base becomes @index. */
void sched_raft_log_reset(struct sched_raft_log *log, uint64_t index, uint64_t term);

#endif /* SHL_SCHEDULER_RAFT_LOG_H */
