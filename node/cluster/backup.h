/* The file of a backup: the replicated state as one node had it, with its place in the log.
 *
 *   8 bytes  "SHLBKUP\n"
 *   4 bytes  length of the head, little endian
 *   head     msgpack map: v, cluster, index, term, at_ms, by, bytes
 *   bytes    the snapshot stream of scheduler/state.h
 *   32 bytes BLAKE2b-256 of everything before
 *
 * It has secrets: the key that signs sandbox tokens, hashes of API keys. Whoever keeps one sees
 * to it that nobody else can read it. Pure but for memory. */
#ifndef SHL_NODE_CLUSTER_BACKUP_H
#define SHL_NODE_CLUSTER_BACKUP_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "scheduler/limits.h"
#include "scheduler/state.h"

#define CLUSTER_BACKUP_VERSION 1
#define CLUSTER_BACKUP_MAX     (SCHED_SNAPSHOT_BYTES_MAX + 65536u)

struct cluster_backup {
    uint8_t cluster[SCHED_CLUSTER_ID_BYTES];
    uint64_t index; /* of the log */
    uint64_t term;
    uint64_t at_ms; /* cluster time */
    char by[SCHED_NODE_NAME_SIZE];
};

/* Appends the file to @out. 0, SHL_ELIMIT (of @out), SHL_EBADSTATE (a state without cluster),
 * -ENOMEM. */
SHL_MUST_CHECK int cluster_backup_write(const struct sched_state *state,
                                        const char *by,
                                        struct shl_buf *out,
                                        struct shl_err *err);

/* Hostile input. 0 with the head and a state of the caller's; SHL_ECORRUPT, SHL_EVERSION,
 * SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int cluster_backup_read(struct shl_bytes file,
                                       struct cluster_backup *ret,
                                       struct sched_state **ret_state,
                                       struct shl_err *err);

#endif /* SHL_NODE_CLUSTER_BACKUP_H */
