#include "scheduler/place.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "scheduler/mutate.h"

/* A score is compared as one number; the first of these that differs decides. Steps are
 * coarse so that nodes that are about as good are chosen among at random. */
#define SCORE_STEPS         16u
#define SCORE_WILLING_SHIFT 60u /* did not refuse a moment ago */
#define SCORE_HOLDS_SHIFT   56u /* 2: the checkpoint, +1: the template */
#define SCORE_MEMORY_SHIFT  48u /* share of its memory that stays free */
#define SCORE_SPREAD_SHIFT  40u /* share of its places that are free */
#define SCORE_IDLE_SHIFT    32u /* CPU time that is free */
#define SCORE_RANDOM_MASK   0xffffffffull

int sched_place_init(struct sched_place *place, uint64_t seed, uint32_t mutations)
{
    memset(place, 0, sizeof(*place));
    place->random = seed;
    place->mutations = mutations;
    return sched_reserves_init(&place->reserves);
}

void sched_place_release(struct sched_place *place)
{
    sched_reserves_release(&place->reserves);
}

/* splitmix64 */
static uint64_t next_random(struct sched_place *place)
{
    uint64_t x = place->random += 0x9e3779b97f4a7c15ull;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/*- Room. Figures come from peers: nothing may overflow. */

static uint64_t scale(uint64_t amount, uint32_t per_cent)
{
    return amount > UINT64_MAX / SCHED_RATIO_MAX ? UINT64_MAX / SCHED_RATIO_ONE
                                                 : amount * per_cent / SCHED_RATIO_ONE;
}

static uint64_t left(uint64_t capacity, uint64_t committed, uint64_t reserved)
{
    if (committed >= capacity) {
        return 0;
    }
    capacity -= committed;
    return reserved >= capacity ? 0 : capacity - reserved;
}

struct room {
    struct sched_amount total; /* with over-commitment */
    struct sched_amount free;
};

static struct room room_of(const struct sched_place *place,
                           const struct sched_view *view,
                           const struct sched_ratios *ratios)
{
    struct sched_amount reserved = {0};
    struct room room;

    if (!(place->mutations & SCHED_MUT_RESERVE_UNCOUNTED)) {
        reserved = sched_reserves_sum(&place->reserves, &view->id);
    }
    room.total.cpus = scale(view->capacity.cpus, ratios->cpus);
    room.total.memory_mb = scale(view->capacity.memory_mb, ratios->memory);
    room.total.disk_mb = scale(view->capacity.disk_mb, ratios->disk);
    room.total.sandboxes = view->capacity.sandboxes;
    room.free.cpus = left(room.total.cpus, view->committed.cpus, reserved.cpus);
    room.free.memory_mb = left(room.total.memory_mb, view->committed.memory_mb, reserved.memory_mb);
    room.free.disk_mb = left(room.total.disk_mb, view->committed.disk_mb, reserved.disk_mb);
    room.free.sandboxes = left(room.total.sandboxes, view->committed.sandboxes, reserved.sandboxes);
    return room;
}

/*- Filter. */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, *(const char *const *)b);
}

static bool holds(const char *const *list, uint32_t count, const char *wanted)
{
    return wanted && count > 0 && bsearch(wanted, list, count, sizeof(*list), compare_texts);
}

static bool is_excluded(const struct sched_place_request *request, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < request->exclude_count; i++) {
        if (shl_node_id_equal(&request->exclude[i], id)) {
            return true;
        }
    }
    return false;
}

static enum sched_refusal unfit(const struct sched_place *place,
                                const struct sched_view *view,
                                const struct sched_place_request *request)
{
    bool marks_count = !(place->mutations & SCHED_MUT_DRAIN_IGNORED);

    if (!view->alive) {
        return SCHED_REFUSED_DEAD;
    }
    if (view->witness) {
        return SCHED_REFUSED_WITNESS;
    }
    if (view->draining && marks_count) {
        return SCHED_REFUSED_DRAINING;
    }
    if (view->cordoned && marks_count) {
        return SCHED_REFUSED_CORDONED;
    }
    if (view->flapping) {
        return SCHED_REFUSED_FLAPPING;
    }
    if (is_excluded(request, &view->id)) {
        return SCHED_REFUSED_EXCLUDED;
    }
    if (request->has_cpu && memcmp(view->cpu, request->cpu, sizeof(view->cpu)) != 0) {
        return SCHED_REFUSED_CPU_MODEL;
    }
    if (request->holders_only &&
        !holds(view->checkpoints, view->checkpoint_count, request->checkpoint)) {
        return SCHED_REFUSED_NOT_HOLDER;
    }
    return SCHED_FITS;
}

static enum sched_refusal short_of(const struct room *room,
                                   const struct sched_place_request *request,
                                   struct sched_refused *ret)
{
    const struct {
        enum sched_refusal reason;
        uint64_t needed;
        uint64_t free;
    } parts[] = {
        {SCHED_REFUSED_CPUS, request->cpus, room->free.cpus},
        {SCHED_REFUSED_MEMORY, request->memory_mb, room->free.memory_mb},
        {SCHED_REFUSED_DISK, request->disk_mb, room->free.disk_mb},
        {SCHED_REFUSED_SANDBOXES, 1, room->free.sandboxes},
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(parts); i++) {
        if (parts[i].needed > parts[i].free) {
            ret->needed = parts[i].needed;
            ret->free = parts[i].free;
            return parts[i].reason;
        }
    }
    return SCHED_FITS;
}

/*- Score. */

/* 0 to SCORE_STEPS. */
static uint64_t steps(uint64_t part, uint64_t whole)
{
    if (whole == 0) {
        return 0;
    }
    if (part >= whole) {
        return SCORE_STEPS;
    }
    while (whole > UINT64_MAX / SCORE_STEPS) { /* keep the product in range */
        whole >>= 8;
        part >>= 8;
    }
    return part * SCORE_STEPS / whole;
}

static bool is_willing(const struct sched_place *place,
                       const struct shl_node_id *node,
                       uint64_t now_ms)
{
    uint32_t i;

    for (i = 0; i < place->backoff_count; i++) {
        if (shl_node_id_equal(&place->backoff[i].node, node)) {
            return place->backoff[i].until_ms <= now_ms;
        }
    }
    return true;
}

static uint64_t score_of(struct sched_place *place,
                         const struct sched_view *view,
                         const struct sched_place_request *request,
                         const struct room *room,
                         uint64_t now_ms)
{
    uint64_t holding = 2u * holds(view->checkpoints, view->checkpoint_count, request->checkpoint) +
                       holds(view->templates, view->template_count, request->template_name);
    uint64_t busy = SHL_MIN(view->load_permille, 1000u);

    return (uint64_t)is_willing(place, &view->id, now_ms) << SCORE_WILLING_SHIFT |
           holding << SCORE_HOLDS_SHIFT |
           steps(room->free.memory_mb - request->memory_mb, room->total.memory_mb)
               << SCORE_MEMORY_SHIFT |
           steps(room->free.sandboxes - 1, room->total.sandboxes) << SCORE_SPREAD_SHIFT |
           steps(1000u - busy, 1000u) << SCORE_IDLE_SHIFT |
           (next_random(place) & SCORE_RANDOM_MASK);
}

static int best_first(const void *a, const void *b)
{
    const struct sched_candidate *x = a;
    const struct sched_candidate *y = b;

    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return shl_node_id_compare(&x->id, &y->id);
}

/*- Decisions. */

static bool is_ratio(uint32_t per_cent)
{
    return per_cent >= 1 && per_cent <= SCHED_RATIO_MAX;
}

static bool is_valid(const struct sched_place_request *request)
{
    return request->cpus > 0 && request->memory_mb > 0 && is_ratio(request->ratios.cpus) &&
           is_ratio(request->ratios.memory) && is_ratio(request->ratios.disk) &&
           (request->checkpoint || !request->holders_only);
}

static void consider(struct sched_place *place,
                     const struct sched_view *view,
                     uint32_t at,
                     const struct sched_place_request *request,
                     uint64_t now_ms,
                     struct sched_placement *ret)
{
    struct sched_refused refused = {.id = view->id, .view = at};
    struct room room;

    (void)sched_reserves_seen(&place->reserves, &view->id, view->version);
    refused.reason = unfit(place, view, request);
    if (refused.reason == SCHED_FITS) {
        room = room_of(place, view, &request->ratios);
        refused.reason = short_of(&room, request, &refused);
    }
    if (refused.reason != SCHED_FITS) {
        ret->refused[ret->refused_count++] = refused;
        return;
    }
    ret->candidates[ret->candidate_count++] = (struct sched_candidate){
        .id = view->id, .view = at, .score = score_of(place, view, request, &room, now_ms)};
}

int sched_place_decide(struct sched_place *place,
                       const struct sched_view *views,
                       uint32_t view_count,
                       const struct sched_place_request *request,
                       uint64_t now_ms,
                       struct sched_placement *ret)
{
    uint32_t i;

    ret->candidate_count = 0;
    ret->refused_count = 0;
    if (!is_valid(request)) {
        return SHL_EINVALIDARG;
    }
    if (view_count > SCHED_NODES_MAX) {
        return SHL_ELIMIT;
    }
    (void)sched_reserves_expire(&place->reserves, now_ms);
    for (i = 0; i < view_count; i++) {
        consider(place, &views[i], i, request, now_ms, ret);
    }
    qsort(ret->candidates, ret->candidate_count, sizeof(ret->candidates[0]), best_first);
    return ret->candidate_count > 0 ? 0 : SHL_ENOCAPACITY;
}

int sched_place_take(struct sched_place *place,
                     const struct sched_view *view,
                     const struct sched_place_request *request,
                     uint64_t deadline_ms,
                     uint64_t *ret_id)
{
    const struct sched_amount amount = {request->cpus, request->memory_mb, request->disk_mb, 1};
    struct sched_refused refused;
    struct room room;

    if (!is_valid(request)) {
        return SHL_EINVALIDARG;
    }
    room = room_of(place, view, &request->ratios);
    if (unfit(place, view, request) != SCHED_FITS ||
        short_of(&room, request, &refused) != SCHED_FITS) {
        return SHL_ENOCAPACITY;
    }
    return sched_reserve(&place->reserves, &view->id, &amount, deadline_ms, ret_id);
}

/* The entry of @node, a free one, or the one that ends first. */
static struct sched_place_backoff *backoff_for(struct sched_place *place,
                                               const struct shl_node_id *node)
{
    struct sched_place_backoff *oldest = &place->backoff[0];
    uint32_t i;

    for (i = 0; i < place->backoff_count; i++) {
        if (shl_node_id_equal(&place->backoff[i].node, node)) {
            return &place->backoff[i];
        }
        if (place->backoff[i].until_ms < oldest->until_ms) {
            oldest = &place->backoff[i];
        }
    }
    return place->backoff_count < SCHED_NODES_MAX ? &place->backoff[place->backoff_count++]
                                                  : oldest;
}

void sched_place_node_refused(struct sched_place *place,
                              const struct shl_node_id *node,
                              uint64_t now_ms)
{
    *backoff_for(place, node) =
        (struct sched_place_backoff){.node = *node, .until_ms = now_ms + SCHED_PLACE_BACKOFF_MS};
}
