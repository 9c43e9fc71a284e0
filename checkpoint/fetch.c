#include "checkpoint/fetch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/fetch_core.h"

void ckpt_fetch_config_defaults(struct ckpt_fetch_config *config)
{
    *config = (struct ckpt_fetch_config){
        .request_chunks = 32,
        .request_bytes = 2u << 20,
        .peer_requests = 8,
        .peer_bytes = 16u << 20,
        .total_requests = 64,
        .total_bytes = 64u << 20,
        .urgent_percent = 25,
        .deadline_first_ms = 5000,
        .deadline_min_ms = 250,
        .deadline_max_ms = 30000,
        .demote_ms = 10000,
        .retry_ms = 500,
        .distrust_ms = 600000,
        .holder_wait_ms = 30000,
        .strikes_max = 8,
        .bad_max = 3,
        .random_first = 64,
        .endgame = 16,
        .weights = {1, 1, 8, 3, 1},
        .burst_ms = 1000,
    };
}

static bool are_rates(const uint64_t *rates)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_CLASS_COUNT; i++) {
        if (rates[i] > CKPT_FETCH_RATE_MAX) {
            return false;
        }
    }
    return true;
}

static bool is_valid(const struct ckpt_fetch_config *c)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_CLASS_COUNT; i++) {
        if (c->weights[i] == 0 || c->weights[i] > 1000) {
            return false;
        }
    }
    return c->request_chunks > 0 && c->request_chunks <= CKPT_FETCH_REQUEST_CHUNKS_MAX &&
           c->request_bytes >= CKPT_CHUNK_BYTES && c->peer_requests > 0 &&
           c->peer_bytes >= 2 * CKPT_CHUNK_BYTES && c->total_requests > 0 &&
           c->total_requests <= CKPT_FETCH_REQUESTS_MAX && c->total_bytes >= 2 * CKPT_CHUNK_BYTES &&
           c->urgent_percent <= 50 && c->deadline_min_ms > 0 &&
           c->deadline_first_ms >= c->deadline_min_ms &&
           c->deadline_max_ms >= c->deadline_first_ms && c->demote_ms > 0 && c->retry_ms > 0 &&
           c->holder_wait_ms > 0 && c->strikes_max > 0 && c->bad_max > 0 && c->burst_ms > 0 &&
           c->burst_ms <= 60000 && are_rates(c->rates);
}

int ckpt_fetch_new(const struct ckpt_fetch_config *config, struct ckpt_fetch **ret)
{
    struct ckpt_fetch *f;
    uint32_t i;

    if (!is_valid(config)) {
        return SHL_EINVALIDARG;
    }
    f = calloc(1, sizeof(*f));
    if (!f) {
        return -ENOMEM;
    }
    f->config = *config;
    f->random = config->seed;
    f->next_request = 1;
    f->next_seq = 1;
    for (i = 0; i < CKPT_FETCH_CLASS_COUNT; i++) { /* buckets start full */
        f->classes[i].tokens = (int64_t)(config->rates[i] * config->burst_ms);
    }
    *ret = f;
    return 0;
}

void ckpt_fetch_free(struct ckpt_fetch *f)
{
    uint32_t i;

    if (f) {
        for (i = 0; i < f->job_count; i++) {
            free(f->order[i]->chunks);
        }
        free(f->buckets);
        free(f);
    }
}

/* splitmix64 */
uint64_t fetch_random(struct ckpt_fetch *f)
{
    uint64_t x = f->random += 0x9e3779b97f4a7c15ull;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

struct ckpt_fetch_action *fetch_act(struct ckpt_fetch *f,
                                    enum ckpt_fetch_action_type type,
                                    const struct ckpt_id *manifest)
{
    struct ckpt_fetch_action *act;

    assert(f->actions->count < CKPT_FETCH_ACTIONS_MAX);
    act = &f->actions->items[f->actions->count++];
    memset(act, 0, sizeof(*act));
    act->type = type;
    act->manifest = *manifest;
    return act;
}

/*- Events. */

static void on_holder(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    struct fetch_job *job = fetch_job_find(f, &event->u.holder.manifest);

    if (job) {
        fetch_holder_add(f, job, &event->u.holder.node, event->u.holder.has);
    }
}

static void on_holder_lost(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    struct fetch_peer *peer = fetch_peer_find(f, &event->u.lost.node);
    uint32_t i;

    for (i = 0; peer && i < f->job_count; i++) {
        if (ckpt_id_is_zero(&event->u.lost.manifest) ||
            ckpt_id_equal(&event->u.lost.manifest, &f->order[i]->manifest)) {
            fetch_holder_lost(f, f->order[i], peer);
        }
    }
}

static void on_present(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    uint32_t i;

    for (i = 0; i < event->u.present.count; i++) {
        fetch_id_done(f, &event->u.present.ids[i]);
        fetch_settle(f, &event->u.present.ids[i], NULL);
    }
}

static int on_rates(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    uint32_t i;

    if (!are_rates(event->u.rates)) {
        return SHL_EINVALIDARG;
    }
    for (i = 0; i < CKPT_FETCH_CLASS_COUNT; i++) {
        if (f->config.rates[i] != event->u.rates[i]) {
            f->config.rates[i] = event->u.rates[i];
            f->classes[i].tokens = (int64_t)(event->u.rates[i] * f->config.burst_ms);
        }
    }
    return 0;
}

static int dispatch(struct ckpt_fetch *f, const struct ckpt_fetch_event *event)
{
    struct fetch_job *job;
    struct fetch_request *r;

    switch (event->type) {
    case CKPT_FETCH_EV_TICK:
        return 0;
    case CKPT_FETCH_EV_ADD:
        return fetch_job_add(f, event);
    case CKPT_FETCH_EV_DROP:
        job = fetch_job_find(f, &event->u.drop.manifest);
        if (job) {
            fetch_job_fail(f, job, CKPT_FETCH_DROPPED);
        }
        return 0;
    case CKPT_FETCH_EV_HOLDER:
        on_holder(f, event);
        return 0;
    case CKPT_FETCH_EV_HOLDER_LOST:
        on_holder_lost(f, event);
        return 0;
    case CKPT_FETCH_EV_ANSWER:
        fetch_answer(f, event);
        return 0;
    case CKPT_FETCH_EV_FAILED:
        r = fetch_request_find(f, event->u.failed.request);
        if (r) {
            fetch_request_failed(f, r, false);
        }
        return 0;
    case CKPT_FETCH_EV_PRESENT:
        on_present(f, event);
        return 0;
    case CKPT_FETCH_EV_RATES:
        return on_rates(f, event);
    }
    return SHL_EINVALIDARG;
}

/*- What time brings. */

static void expire(struct ckpt_fetch *f)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_REQUESTS_MAX; i++) {
        if (f->requests[i].id != 0 && f->requests[i].deadline_at_ms <= f->now_ms) {
            fetch_request_failed(f, &f->requests[i], true);
        }
    }
}

static void finish(struct ckpt_fetch *f, struct fetch_job *job)
{
    struct ckpt_id manifest = job->manifest;
    uint64_t chunks = job->count, bytes = job->bytes;
    struct ckpt_fetch_action *act;

    fetch_job_end(f, job);
    act = fetch_act(f, CKPT_FETCH_ACT_DONE, &manifest);
    act->u.done.chunks = chunks;
    act->u.done.bytes = bytes;
    f->stats.done++;
}

/* Nobody can be asked for what is left, and nothing is under way. */
static bool is_dry(const struct fetch_job *job)
{
    return job->waiting == job->missing && !fetch_job_is_askable(job);
}

/* Whether the job ended. */
static bool judge(struct ckpt_fetch *f, struct fetch_job *job)
{
    if (job->missing == 0) {
        finish(f, job);
        return true;
    }
    if (!is_dry(job)) {
        job->dry_since_ms = CKPT_FETCH_NEVER_MS;
    } else if (job->dry_since_ms == CKPT_FETCH_NEVER_MS) {
        job->dry_since_ms = f->now_ms;
    }
    if (job->deadline_at_ms <= f->now_ms) {
        fetch_job_fail(f, job, CKPT_FETCH_TIMED_OUT);
    } else if (job->strikes >= f->config.strikes_max) {
        fetch_job_fail(f, job, CKPT_FETCH_NO_ANSWER);
    } else if (job->dry_since_ms != CKPT_FETCH_NEVER_MS &&
               f->now_ms - job->dry_since_ms >= f->config.holder_wait_ms) {
        fetch_job_fail(f, job, job->present ? CKPT_FETCH_NO_CHUNK : CKPT_FETCH_NO_HOLDER);
    } else {
        return false;
    }
    return true;
}

static void judge_all(struct ckpt_fetch *f)
{
    uint32_t i = 0;

    while (i < f->job_count) {
        if (!judge(f, f->order[i])) {
            i++;
        }
    }
}

/*- When time brings something next. */

static void wake_by(struct ckpt_fetch *f, uint64_t at_ms)
{
    uint64_t at = SHL_MAX(at_ms, f->now_ms + 1);

    f->actions->wake_at_ms = SHL_MIN(f->actions->wake_at_ms, at);
}

static void wake_for_job(struct ckpt_fetch *f, const struct fetch_job *job)
{
    uint64_t throttled = fetch_throttle_until_ms(f, job->class);
    uint32_t i;

    if (job->deadline_at_ms != CKPT_FETCH_NEVER_MS) {
        wake_by(f, job->deadline_at_ms);
    }
    if (job->dry_since_ms != CKPT_FETCH_NEVER_MS) {
        wake_by(f, job->dry_since_ms + f->config.holder_wait_ms);
    }
    if (throttled > f->now_ms) {
        wake_by(f, throttled);
    }
    for (i = 0; job->waiting > 0 && i < CKPT_FETCH_HOLDERS_MAX; i++) {
        const struct fetch_peer *peer = job->holders[i].peer;

        if (peer && fetch_peer_is_demoted(f, peer)) {
            wake_by(f, peer->demoted_until_ms);
            if (peer->retry_at_ms > f->now_ms) {
                wake_by(f, peer->retry_at_ms);
            }
        }
    }
}

static void set_wake(struct ckpt_fetch *f)
{
    uint32_t i;

    for (i = 0; i < f->job_count; i++) {
        wake_for_job(f, f->order[i]);
    }
    for (i = 0; i < CKPT_FETCH_REQUESTS_MAX; i++) {
        const struct fetch_request *r = &f->requests[i];

        if (r->id != 0) {
            wake_by(f, r->deadline_at_ms);
            if (fetch_job_is_last(f, r->job) && r->late_at_ms > f->now_ms) {
                wake_by(f, r->late_at_ms);
            }
        }
    }
}

int ckpt_fetch_step(struct ckpt_fetch *f,
                    const struct ckpt_fetch_event *event,
                    struct ckpt_fetch_actions *actions)
{
    int rc;

    actions->count = 0;
    actions->wake_at_ms = CKPT_FETCH_NEVER_MS;
    f->actions = actions;
    if (f->started && event->now_ms > f->now_ms) {
        fetch_refill(f, event->now_ms - f->now_ms);
    }
    f->now_ms = SHL_MAX(f->now_ms, event->now_ms);
    f->started = true;
    rc = dispatch(f, event);
    expire(f);
    judge_all(f);
    fetch_fill(f);
    set_wake(f);
    f->actions = NULL;
    return rc;
}

const char *ckpt_fetch_reason_text(enum ckpt_fetch_reason reason)
{
    static const char *const texts[CKPT_FETCH_REASON_COUNT] = {
        [CKPT_FETCH_DROPPED] = "it is not wanted any more",
        [CKPT_FETCH_TIMED_OUT] = "it took longer than it may",
        [CKPT_FETCH_NO_HOLDER] = "no node within reach has the checkpoint",
        [CKPT_FETCH_NO_CHUNK] = "no node within reach has all of the checkpoint undamaged",
        [CKPT_FETCH_NO_ANSWER] = "the nodes that have the checkpoint do not answer",
    };

    return (unsigned)reason < CKPT_FETCH_REASON_COUNT && texts[reason] ? texts[reason] : "?";
}
