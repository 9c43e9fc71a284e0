/* Disk of one simulated node: an ordered map with the promises of LevelDB.
 *
 * A batch is atomic. A batch is certain to survive only when a sync that came after it
 * has completed; a crash keeps a random prefix of the batches that are not certain
 * yet. Syncs complete in order, each after a delay that the world draws. Keys are
 * a space (one byte) and a number. Reading sees what would be there after a crash that
 * lost nothing; a node reads only when it starts.
 *
 * Not thread-safe. Values are copied in.
 */
#ifndef SHL_SIM_DISK_H
#define SHL_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "sim/rng.h"

#define SIM_DISK_VALUE_MAX   (16u << 20)
#define SIM_DISK_PENDING_MAX 65536

struct sim_disk_entry {
    uint64_t key;
    uint8_t *data;
    uint32_t len;
};

struct sim_disk_map {
    struct sim_disk_entry *items; /* by key */
    size_t count;
    size_t cap;
};

struct sim_disk_op; /* one put or delete that is not certain yet */

struct sim_disk {
    struct sim_disk_map map; /* the certain part */
    struct sim_disk_op *ops; /* ring of what was written after it */
    size_t op_start;
    size_t op_count;
    size_t op_cap;
    uint64_t batch;     /* number of the batch that is being written */
    uint64_t synced;    /* batches below this are certain */
    uint64_t last_done; /* virtual time at which the latest sync completes */
    bool fail_writes;   /* every commit fails: the fault "write error" */
    uint64_t lost_ops;  /* dropped by crashes so far */
};

#define SIM_DISK_KEY(space, number) \
    ((uint64_t)(space) << 56 | ((uint64_t)(number)&0x00ffffffffffffffu))

void sim_disk_init(struct sim_disk *disk);
void sim_disk_release(struct sim_disk *disk);

/* Into the open batch. */
void sim_disk_put(struct sim_disk *disk, uint64_t key, const void *data, size_t len);
/* Every key of @from..@to, both included. */
void sim_disk_delete(struct sim_disk *disk, uint64_t from, uint64_t to);

/* Close the open batch. Returns 0 or -EIO (write error; the batch is gone). */
SHL_MUST_CHECK int sim_disk_commit(struct sim_disk *disk);

/* A sync issued at @now_us that takes @delay_us: returns when it completes (never before
 * an earlier one), and in @ret_batch what to hand to sim_disk_synced at that time. */
uint64_t sim_disk_sync(struct sim_disk *disk,
                       uint64_t now_us,
                       uint64_t delay_us,
                       uint64_t *ret_batch);
void sim_disk_synced(struct sim_disk *disk, uint64_t batch);

/* Power cut: a prefix of the uncertain batches survives, how many @rng decides. With
 * @lose_all none survives, with @keep_all (a process crash) all do. */
enum sim_disk_crash {
    SIM_DISK_CRASH_PREFIX,
    SIM_DISK_CRASH_LOSE_ALL,
    SIM_DISK_CRASH_KEEP_ALL,
};
void sim_disk_crash(struct sim_disk *disk, struct sim_rng *rng, enum sim_disk_crash how);
/* Everything gone, as after a replaced disk. */
void sim_disk_wipe(struct sim_disk *disk);

/* An image of @from, both of a node that does not run: what a backup of the data folder is. */
void sim_disk_copy(struct sim_disk *disk, const struct sim_disk *from);

/* After a crash or at a start only, when nothing is uncertain. */
bool sim_disk_find(const struct sim_disk *disk, uint64_t key, struct shl_bytes *ret);
/* Index of the first entry with a key >= @key in disk->map.items. */
size_t sim_disk_lower(const struct sim_disk *disk, uint64_t key);

#endif /* SHL_SIM_DISK_H */
