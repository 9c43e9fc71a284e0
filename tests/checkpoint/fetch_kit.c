#include "tests/checkpoint/fetch_kit.h"

#include "base/err.h"

struct ckpt_id fk_id(uint32_t number)
{
    struct ckpt_id id = {{0}};

    id.bytes[0] = 1;
    memcpy(id.bytes + 4, &number, sizeof(number));
    return id;
}

uint32_t fk_number(const struct ckpt_id *id)
{
    uint32_t number;

    memcpy(&number, id->bytes + 4, sizeof(number));
    return number;
}

struct ckpt_id fk_manifest(uint32_t number)
{
    struct ckpt_id id = fk_id(number);

    id.bytes[0] = 2;
    return id;
}

struct shl_node_id fk_peer(uint32_t number)
{
    struct shl_node_id id = {{0}};

    id.bytes[0] = (uint8_t)number;
    return id;
}

void fk_begin(struct world *w)
{
    assert_int_equal(ckpt_fetch_new(&w->config, &w->f), 0);
    w->acts = calloc(1, sizeof(*w->acts));
    w->now_ms = 1000;
    w->check_each = SHL_MAX(w->check_each, 1u);
}

int fk_setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    ckpt_fetch_config_defaults(&w->config);
    w->config.seed = 5;
    *state = w;
    return 0;
}

int fk_teardown(void **state)
{
    struct world *w = *state;

    ckpt_fetch_free(w->f);
    free(w->acts);
    free(w);
    return 0;
}

int fk_try_step(struct world *w, struct ckpt_fetch_event *event)
{
    int rc;

    event->now_ms = w->now_ms;
    rc = ckpt_fetch_step(w->f, event, w->acts);
    if (w->steps++ % (fk_stats(w).missing < 1000 ? w->check_each : 64) == 0) {
        const char *fault = ckpt_fetch_check(w->f);

        assert_string_equal(fault ? fault : "fine", "fine");
    }
    assert_true(w->acts->wake_at_ms > w->now_ms);
    return rc;
}

void fk_step(struct world *w, struct ckpt_fetch_event *event)
{
    assert_int_equal(fk_try_step(w, event), 0);
}

void fk_tick(struct world *w, uint64_t elapsed_ms)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_TICK};

    w->now_ms += elapsed_ms;
    fk_step(w, &event);
}

/* Job @job wants chunks [first, first + count); peers 1..@peers hold them. */
int fk_try_add(struct world *w,
               uint32_t job,
               enum ckpt_fetch_class class,
               uint32_t first,
               uint32_t count,
               uint32_t peers)
{
    struct ckpt_id *ids = calloc(count + 1, sizeof(*ids));
    struct shl_node_id holders[20];
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ADD};
    uint32_t i;
    int rc;

    for (i = 0; i < count; i++) {
        ids[i] = fk_id(first + i);
    }
    for (i = 0; i < peers; i++) {
        holders[i] = fk_peer(i + 1);
    }
    event.u.add.manifest = fk_manifest(job);
    event.u.add.class = class;
    event.u.add.deadline_at_ms = CKPT_FETCH_NEVER_MS;
    event.u.add.ids = ids;
    event.u.add.count = count;
    event.u.add.holders = holders;
    event.u.add.holder_count = peers;
    rc = fk_try_step(w, &event);
    free(ids);
    return rc;
}

void fk_add(struct world *w,
            uint32_t job,
            enum ckpt_fetch_class class,
            uint32_t first,
            uint32_t count,
            uint32_t peers)
{
    assert_int_equal(fk_try_add(w, job, class, first, count, peers), 0);
}

uint32_t fk_count(const struct world *w, enum ckpt_fetch_action_type type)
{
    uint32_t i, count = 0;

    for (i = 0; i < w->acts->count; i++) {
        count += w->acts->items[i].type == type;
    }
    return count;
}

/* Copy of action number @at of this type. */
struct ckpt_fetch_action fk_act(const struct world *w,
                                enum ckpt_fetch_action_type type,
                                uint32_t at)
{
    uint32_t i;

    for (i = 0; i < w->acts->count; i++) {
        if (w->acts->items[i].type == type && at-- == 0) {
            return w->acts->items[i];
        }
    }
    fail_msg("there is no such action");
    return w->acts->items[0];
}

struct ckpt_fetch_action fk_request(const struct world *w, uint32_t at)
{
    return fk_act(w, CKPT_FETCH_ACT_REQUEST, at);
}

void fk_answer(struct world *w,
               const struct ckpt_fetch_action *request_act,
               enum ckpt_fetch_outcome outcome)
{
    struct ckpt_fetch_result results[CKPT_FETCH_REQUEST_CHUNKS_MAX];
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ANSWER};
    uint32_t i;

    for (i = 0; i < request_act->u.request.count; i++) {
        results[i] = (struct ckpt_fetch_result){i, outcome, 65536};
    }
    event.u.answer.request = request_act->u.request.request;
    event.u.answer.results = results;
    event.u.answer.count = request_act->u.request.count;
    event.u.answer.last = true;
    fk_step(w, &event);
}

void fk_failed(struct world *w, const struct ckpt_fetch_action *request_act)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_FAILED};

    event.u.failed.request = request_act->u.request.request;
    fk_step(w, &event);
}

void fk_holder(struct world *w, uint32_t job, uint32_t peer, const uint8_t *has)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_HOLDER};

    event.u.holder.manifest = fk_manifest(job);
    event.u.holder.node = fk_peer(peer);
    event.u.holder.has = has;
    fk_step(w, &event);
}

void fk_holder_lost(struct world *w, uint32_t job, uint32_t peer)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_HOLDER_LOST};

    if (job > 0) {
        event.u.lost.manifest = fk_manifest(job);
    }
    event.u.lost.node = fk_peer(peer);
    fk_step(w, &event);
}

struct ckpt_fetch_stats fk_stats(const struct world *w)
{
    struct ckpt_fetch_stats s;

    ckpt_fetch_stats(w->f, &s);
    return s;
}

/* A list of requests in flight at perfect peers, answered in order; each takes @took_ms. */
void fk_serve_all(struct world *w, uint32_t took_ms)
{
    struct ckpt_fetch_action queue[4096];
    uint32_t head = 0, tail = 0, i;

    do {
        for (i = 0; i < fk_count(w, CKPT_FETCH_ACT_REQUEST); i++) {
            assert_true(tail < 4096);
            queue[tail++] = fk_request(w, i);
        }
        if (head < tail) {
            w->now_ms += took_ms;
            fk_answer(w, &queue[head++], CKPT_FETCH_ARRIVED);
        }
    } while (head < tail || fk_count(w, CKPT_FETCH_ACT_REQUEST) > 0);
}
