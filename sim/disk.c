#include "sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sim_disk_op {
    uint64_t batch;
    uint64_t from;
    uint64_t to;   /* deletes: last key */
    uint8_t *data; /* puts; NULL with is_delete */
    uint32_t len;
    bool is_delete;
};

void sim_disk_init(struct sim_disk *disk)
{
    *disk = (struct sim_disk){.batch = 1, .synced = 1};
}

static struct sim_disk_op *op_at(const struct sim_disk *disk, size_t i)
{
    return &disk->ops[(disk->op_start + i) % disk->op_cap];
}

static void drop_ops(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->op_count; i++) {
        free(op_at(disk, i)->data);
    }
    disk->op_count = 0;
}

static void clear_map(struct sim_disk_map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        free(map->items[i].data);
    }
    map->count = 0;
}

void sim_disk_release(struct sim_disk *disk)
{
    drop_ops(disk);
    clear_map(&disk->map);
    free(disk->ops);
    free(disk->map.items);
    *disk = (struct sim_disk){0};
}

static struct sim_disk_op *push_op(struct sim_disk *disk)
{
    struct sim_disk_op *op = NULL;

    if (disk->op_count == disk->op_cap) {
        size_t cap = disk->op_cap ? disk->op_cap * 2 : 32;
        struct sim_disk_op *ops = calloc(cap, sizeof(*ops));

        assert(ops && cap <= SIM_DISK_PENDING_MAX);
        for (size_t i = 0; i < disk->op_count; i++) {
            ops[i] = *op_at(disk, i);
        }
        free(disk->ops);
        disk->ops = ops;
        disk->op_cap = cap;
        disk->op_start = 0;
    }
    disk->op_count++;
    op = op_at(disk, disk->op_count - 1);
    *op = (struct sim_disk_op){.batch = disk->batch};
    return op;
}

void sim_disk_put(struct sim_disk *disk, uint64_t key, const void *data, size_t len)
{
    struct sim_disk_op *op = push_op(disk);

    assert(len <= SIM_DISK_VALUE_MAX);
    op->from = key;
    op->to = key;
    op->len = (uint32_t)len;
    op->data = malloc(len ? len : 1);
    assert(op->data);
    if (len) {
        memcpy(op->data, data, len);
    }
}

void sim_disk_delete(struct sim_disk *disk, uint64_t from, uint64_t to)
{
    struct sim_disk_op *op = push_op(disk);

    op->from = from;
    op->to = to;
    op->is_delete = true;
}

int sim_disk_commit(struct sim_disk *disk)
{
    if (disk->fail_writes) {
        while (disk->op_count > 0 && op_at(disk, disk->op_count - 1)->batch == disk->batch) {
            free(op_at(disk, disk->op_count - 1)->data);
            disk->op_count--;
        }
        return -EIO;
    }
    disk->batch++;
    return 0;
}

uint64_t sim_disk_sync(struct sim_disk *disk,
                       uint64_t now_us,
                       uint64_t delay_us,
                       uint64_t *ret_batch)
{
    uint64_t done = now_us + delay_us;

    if (done < disk->last_done) {
        done = disk->last_done;
    }
    disk->last_done = done;
    *ret_batch = disk->batch;
    return done;
}

size_t sim_disk_lower(const struct sim_disk *disk, uint64_t key)
{
    const struct sim_disk_map *map = &disk->map;
    size_t lo = 0;
    size_t hi = map->count;

    if (map->count > 0 && map->items[map->count - 1].key < key) {
        return map->count;
    }
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (map->items[mid].key < key) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void map_put(struct sim_disk *disk, struct sim_disk_op *op)
{
    struct sim_disk_map *map = &disk->map;
    size_t at = sim_disk_lower(disk, op->from);

    if (at < map->count && map->items[at].key == op->from) {
        free(map->items[at].data);
    } else {
        if (map->count == map->cap) {
            map->cap = map->cap ? map->cap * 2 : 64;
            map->items = realloc(map->items, map->cap * sizeof(*map->items));
            assert(map->items);
        }
        memmove(&map->items[at + 1], &map->items[at], (map->count - at) * sizeof(*map->items));
        map->count++;
    }
    map->items[at] = (struct sim_disk_entry){.key = op->from, .data = op->data, .len = op->len};
    op->data = NULL;
}

static void map_delete(struct sim_disk *disk, uint64_t from, uint64_t to)
{
    struct sim_disk_map *map = &disk->map;
    size_t begin = sim_disk_lower(disk, from);
    size_t end = begin;

    while (end < map->count && map->items[end].key <= to) {
        free(map->items[end].data);
        end++;
    }
    if (end > begin) {
        memmove(&map->items[begin], &map->items[end], (map->count - end) * sizeof(*map->items));
        map->count -= end - begin;
    }
}

/* The batches below @batch become certain. */
static void apply_until(struct sim_disk *disk, uint64_t batch)
{
    while (disk->op_count > 0 && op_at(disk, 0)->batch < batch) {
        struct sim_disk_op *op = op_at(disk, 0);

        if (op->is_delete) {
            map_delete(disk, op->from, op->to);
        } else {
            map_put(disk, op);
        }
        disk->op_start = (disk->op_start + 1) % disk->op_cap;
        disk->op_count--;
    }
    if (disk->synced < batch) {
        disk->synced = batch;
    }
}

void sim_disk_synced(struct sim_disk *disk, uint64_t batch)
{
    assert(batch <= disk->batch);
    apply_until(disk, batch);
}

void sim_disk_crash(struct sim_disk *disk, struct sim_rng *rng, enum sim_disk_crash how)
{
    uint64_t keep = disk->synced;

    if (how == SIM_DISK_CRASH_PREFIX) {
        keep = sim_rng_range(rng, disk->synced, disk->batch);
    } else if (how == SIM_DISK_CRASH_KEEP_ALL) {
        keep = disk->batch;
    }
    apply_until(disk, keep);
    disk->lost_ops += disk->op_count;
    drop_ops(disk);
    disk->batch++;
    disk->synced = disk->batch;
    disk->last_done = 0;
}

void sim_disk_wipe(struct sim_disk *disk)
{
    drop_ops(disk);
    clear_map(&disk->map);
    disk->batch++;
    disk->synced = disk->batch;
    disk->last_done = 0;
}

void sim_disk_copy(struct sim_disk *disk, const struct sim_disk *from)
{
    assert(from->op_count == 0);
    sim_disk_wipe(disk);
    for (size_t i = 0; i < from->map.count; i++) {
        const struct sim_disk_entry *entry = &from->map.items[i];

        sim_disk_put(disk, entry->key, entry->data, entry->len);
    }
    sim_disk_crash(disk, NULL, SIM_DISK_CRASH_KEEP_ALL);
}

bool sim_disk_find(const struct sim_disk *disk, uint64_t key, struct shl_bytes *ret)
{
    size_t at = sim_disk_lower(disk, key);

    assert(disk->op_count == 0);
    if (at == disk->map.count || disk->map.items[at].key != key) {
        return false;
    }
    *ret = shl_bytes_of(disk->map.items[at].data, disk->map.items[at].len);
    return true;
}
