/* What a checkpoint costs for a known amount of dirty memory, and what an idle fork keeps for
 * itself, as bytes and pages counted from outside the VMM. */
#ifndef SHL_BENCH_CHECKPOINTS_H
#define SHL_BENCH_CHECKPOINTS_H

#include "bench/box.h"
#include "bench/smaps.h"

struct bench_checkpoint {
    unsigned memory_mb;                /* of the guest, hot-plugged part included */
    unsigned written_mb;               /* by a process of the guest, before the snapshot */
    uint64_t dirty_bytes;              /* pages that differ from the base (smaps, while paused) */
    struct bench_snapshot_reply reply; /* what the VMM says about it */
    uint64_t file_bytes;               /* memory layer and state, as they are on disk */
};

/* A fresh fork of the warm snapshot with @memory_mb in which @written_mb were written. */
bool bench_checkpoint(const struct bench_world *world,
                      unsigned memory_mb,
                      unsigned written_mb,
                      struct bench_checkpoint *ret);

/* @count forks at once, each set up and idle. */
bool bench_idle_forks(const struct bench_world *world, struct bench_smaps *ret, unsigned count);

#define BENCH_FORKS_MAX 16

#endif /* SHL_BENCH_CHECKPOINTS_H */
