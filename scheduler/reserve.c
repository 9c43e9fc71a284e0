#include "scheduler/reserve.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int sched_reserves_init(struct sched_reserves *r)
{
    memset(r, 0, sizeof(*r));
    r->next_id = 1;
    r->wake_at_ms = UINT64_MAX;
    r->items = calloc(SCHED_RESERVATIONS_MAX, sizeof(*r->items));
    return r->items ? 0 : -ENOMEM;
}

void sched_reserves_release(struct sched_reserves *r)
{
    free(r->items);
    memset(r, 0, sizeof(*r));
}

void sched_reserves_clear(struct sched_reserves *r)
{
    r->count = 0;
    r->node_count = 0;
    r->wake_at_ms = UINT64_MAX;
}

/*- Sums per node, ordered by id; a node without reservations has no entry. */

static uint32_t seek_node(const struct sched_reserves *r, const struct shl_node_id *node)
{
    uint32_t low = 0, high = r->node_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (shl_node_id_compare(&r->nodes[middle].node, node) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct sched_reserved_node *find_node(const struct sched_reserves *r,
                                             const struct shl_node_id *node)
{
    uint32_t at = seek_node(r, node);

    if (at < r->node_count && shl_node_id_equal(&r->nodes[at].node, node)) {
        return (struct sched_reserved_node *)&r->nodes[at];
    }
    return NULL;
}

static struct sched_reserved_node *make_node(struct sched_reserves *r,
                                             const struct shl_node_id *node)
{
    uint32_t at = seek_node(r, node);

    if (at < r->node_count && shl_node_id_equal(&r->nodes[at].node, node)) {
        return &r->nodes[at];
    }
    if (r->node_count == SCHED_NODES_MAX) {
        return NULL;
    }
    memmove(&r->nodes[at + 1], &r->nodes[at], (r->node_count - at) * sizeof(r->nodes[0]));
    r->nodes[at] = (struct sched_reserved_node){.node = *node, .seen_at = UINT64_MAX};
    r->node_count++;
    return &r->nodes[at];
}

static void drop_from_node(struct sched_reserves *r, const struct sched_reservation *item)
{
    struct sched_reserved_node *node = find_node(r, &item->node);
    uint32_t at;

    assert(node);
    node->sum.cpus -= item->amount.cpus;
    node->sum.memory_mb -= item->amount.memory_mb;
    node->sum.disk_mb -= item->amount.disk_mb;
    node->sum.sandboxes -= item->amount.sandboxes;
    node->count--;
    if (node->count == 0) {
        at = (uint32_t)(node - r->nodes);
        r->node_count--;
        memmove(node, node + 1, (r->node_count - at) * sizeof(*node));
    }
}

struct sched_amount sched_reserves_sum(const struct sched_reserves *r,
                                       const struct shl_node_id *node)
{
    const struct sched_reserved_node *found = find_node(r, node);

    return found ? found->sum : (struct sched_amount){0};
}

/*- Single reservations. */

int sched_reserve(struct sched_reserves *r,
                  const struct shl_node_id *node,
                  const struct sched_amount *amount,
                  uint64_t deadline_ms,
                  uint64_t *ret_id)
{
    struct sched_reserved_node *sums;

    if (r->count == SCHED_RESERVATIONS_MAX) {
        return SHL_ELIMIT;
    }
    sums = make_node(r, node);
    if (!sums) {
        return SHL_ELIMIT;
    }
    sums->sum.cpus += amount->cpus;
    sums->sum.memory_mb += amount->memory_mb;
    sums->sum.disk_mb += amount->disk_mb;
    sums->sum.sandboxes += amount->sandboxes;
    sums->count++;
    r->items[r->count++] = (struct sched_reservation){
        .id = r->next_id, .node = *node, .amount = *amount, .deadline_ms = deadline_ms};
    r->wake_at_ms = SHL_MIN(r->wake_at_ms, deadline_ms);
    *ret_id = r->next_id++;
    return 0;
}

static struct sched_reservation *find_item(const struct sched_reserves *r, uint64_t id)
{
    uint32_t low = 0, high = r->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (r->items[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < r->count && r->items[low].id == id ? &r->items[low] : NULL;
}

int sched_reserve_commit(struct sched_reserves *r,
                         uint64_t id,
                         uint64_t version,
                         uint64_t deadline_ms)
{
    struct sched_reservation *item = find_item(r, id);
    struct sched_reserved_node *sums;

    if (!item) {
        return SHL_ENOTFOUND;
    }
    item->committed = true;
    item->version = version;
    item->deadline_ms = deadline_ms;
    r->wake_at_ms = SHL_MIN(r->wake_at_ms, deadline_ms);
    sums = find_node(r, &item->node);
    assert(sums);
    sums->seen_at = SHL_MIN(sums->seen_at, version);
    return 0;
}

int sched_reserve_release(struct sched_reserves *r, uint64_t id)
{
    struct sched_reservation *item = find_item(r, id);
    uint32_t at;

    if (!item) {
        return SHL_ENOTFOUND;
    }
    at = (uint32_t)(item - r->items);
    drop_from_node(r, item);
    r->count--;
    memmove(item, item + 1, (r->count - at) * sizeof(*item));
    return 0;
}

/*- Many at once. */

uint32_t sched_reserves_seen(struct sched_reserves *r,
                             const struct shl_node_id *node,
                             uint64_t version)
{
    struct sched_reserved_node *sums = find_node(r, node);
    uint64_t next = UINT64_MAX;
    uint32_t from, to = 0, dropped;

    if (!sums || version < sums->seen_at) {
        return 0;
    }
    for (from = 0; from < r->count; from++) {
        struct sched_reservation *item = &r->items[from];
        bool ours = item->committed && shl_node_id_equal(&item->node, node);

        if (ours && item->version <= version) {
            drop_from_node(r, item);
            continue;
        }
        if (ours) {
            next = SHL_MIN(next, item->version);
        }
        r->items[to++] = *item;
    }
    dropped = r->count - to;
    r->count = to;
    sums = find_node(r, node);
    if (sums) {
        sums->seen_at = next;
    }
    return dropped;
}

uint32_t sched_reserves_expire(struct sched_reserves *r, uint64_t now_ms)
{
    uint32_t from, to = 0, dropped;

    if (now_ms < r->wake_at_ms) {
        return 0;
    }
    r->wake_at_ms = UINT64_MAX;
    for (from = 0; from < r->count; from++) {
        struct sched_reservation *item = &r->items[from];

        if (item->deadline_ms <= now_ms) {
            drop_from_node(r, item);
            continue;
        }
        r->wake_at_ms = SHL_MIN(r->wake_at_ms, item->deadline_ms);
        r->items[to++] = *item;
    }
    dropped = r->count - to;
    r->count = to;
    return dropped;
}

uint64_t sched_reserves_wake_at(const struct sched_reserves *r)
{
    return r->wake_at_ms;
}
