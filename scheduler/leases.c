#include "scheduler/leases.h"

#include <string.h>

#include "base/err.h"
#include "scheduler/mutate.h"

/* Both bounds together cover clocks at either end: a node at 0.9 of true time holds its
 * 0.9 lease for one true lease, a leader at 1.1 waits its 1.1 lease for one. */
static uint64_t leader_span(uint32_t lease_ms)
{
    return (uint64_t)lease_ms * (1000u + SCHED_CLOCK_RATE_PERMILLE) / 1000u + 1;
}

static uint64_t node_span(uint32_t lease_ms)
{
    return (uint64_t)lease_ms * (1000u - SCHED_CLOCK_RATE_PERMILLE) / 1000u;
}

/*- Leader's side. */

void sched_leases_init(struct sched_leases *l, uint32_t lease_ms, uint32_t mutations)
{
    memset(l, 0, sizeof(*l));
    l->lease_ms = lease_ms;
    l->mutations = mutations;
}

void sched_leases_elected(struct sched_leases *l, uint64_t term, uint64_t now_ms)
{
    l->leading = true;
    l->term = term;
    l->count = 0;
    l->floor_ms = now_ms;
    if (!(l->mutations & SCHED_MUT_LEASE_UNWAITED)) {
        l->floor_ms += leader_span(l->lease_ms);
    }
}

void sched_leases_deposed(struct sched_leases *l)
{
    l->leading = false;
    l->count = 0;
}

static uint32_t seek(const struct sched_leases *l, const struct shl_node_id *node)
{
    uint32_t low = 0, high = l->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (shl_node_id_compare(&l->deadlines[middle].node, node) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int sched_leases_renewed(struct sched_leases *l, const struct shl_node_id *node, uint64_t now_ms)
{
    uint64_t at_ms = now_ms + leader_span(l->lease_ms);
    uint32_t at = seek(l, node);

    if (!l->leading) {
        return 0;
    }
    if (at < l->count && shl_node_id_equal(&l->deadlines[at].node, node)) {
        l->deadlines[at].at_ms = SHL_MAX(l->deadlines[at].at_ms, at_ms);
        return 0;
    }
    if (l->count == SCHED_NODES_MAX) {
        sched_leases_trim(l, now_ms);
        at = seek(l, node);
    }
    if (l->count == SCHED_NODES_MAX) { /* removed nodes fill it: nobody lapses for a while */
        l->floor_ms = SHL_MAX(l->floor_ms, at_ms);
        return SHL_ELIMIT;
    }
    memmove(&l->deadlines[at + 1], &l->deadlines[at], (l->count - at) * sizeof(l->deadlines[0]));
    l->deadlines[at] = (struct sched_lease_deadline){.node = *node, .at_ms = at_ms};
    l->count++;
    return 0;
}

uint64_t sched_leases_lapses_at(const struct sched_leases *l, const struct shl_node_id *node)
{
    uint32_t at = seek(l, node);

    if (!l->leading) {
        return UINT64_MAX;
    }
    if (at < l->count && shl_node_id_equal(&l->deadlines[at].node, node)) {
        return SHL_MAX(l->floor_ms, l->deadlines[at].at_ms);
    }
    return l->floor_ms;
}

bool sched_leases_lapsed(const struct sched_leases *l,
                         const struct shl_node_id *node,
                         uint64_t now_ms)
{
    return l->leading && now_ms >= sched_leases_lapses_at(l, node);
}

void sched_leases_trim(struct sched_leases *l, uint64_t now_ms)
{
    uint32_t from, to = 0;

    if (now_ms < l->floor_ms) { /* until then an absent entry would say less */
        return;
    }
    for (from = 0; from < l->count; from++) {
        if (l->deadlines[from].at_ms > now_ms) {
            l->deadlines[to++] = l->deadlines[from];
        }
    }
    l->count = to;
}

/*- Node's side. */

void sched_lease_init(struct sched_lease *l, uint32_t lease_ms, uint32_t mutations)
{
    memset(l, 0, sizeof(*l));
    l->lease_ms = lease_ms;
    l->mutations = mutations;
    l->next_seq = 1;
}

uint64_t sched_lease_ask_at(const struct sched_lease *l)
{
    uint64_t due = l->valid_until_ms ? l->renewed_ms + l->lease_ms / 3 : 0;

    if (l->asked_count > 0) {
        due = SHL_MAX(due, l->asked[l->asked_count - 1].sent_ms + l->lease_ms / 10);
    }
    return due;
}

uint64_t sched_lease_sent(struct sched_lease *l, uint64_t now_ms)
{
    if (l->asked_count == SCHED_LEASE_ASKED_MAX) { /* the oldest would give least */
        l->asked_count--;
        memmove(&l->asked[0], &l->asked[1], l->asked_count * sizeof(l->asked[0]));
    }
    l->asked[l->asked_count++] = (struct sched_lease_asked){.seq = l->next_seq, .sent_ms = now_ms};
    return l->next_seq++;
}

void sched_lease_granted(struct sched_lease *l, uint64_t seq, uint64_t now_ms)
{
    uint32_t i;
    uint64_t from_ms;

    for (i = 0; i < l->asked_count && l->asked[i].seq != seq; i++) {
    }
    if (i == l->asked_count) {
        return;
    }
    from_ms = l->mutations & SCHED_MUT_LEASE_FROM_ACK ? now_ms : l->asked[i].sent_ms;
    l->renewed_ms = SHL_MAX(l->renewed_ms, from_ms);
    l->valid_until_ms = l->renewed_ms + node_span(l->lease_ms);
    l->asked_count -= i + 1; /* older ones give less */
    memmove(&l->asked[0], &l->asked[i + 1], l->asked_count * sizeof(l->asked[0]));
}

bool sched_lease_valid(const struct sched_lease *l, uint64_t now_ms)
{
    return now_ms < l->valid_until_ms;
}

uint64_t sched_lease_pause_at(const struct sched_lease *l, uint64_t margin_ms)
{
    return l->valid_until_ms > margin_ms ? l->valid_until_ms - margin_ms : 0;
}
