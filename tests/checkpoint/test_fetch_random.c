/* The fetch core among peers drawn at random: honest, slow, lossy, lying, incomplete, refusing,
 * vanishing. Every seed is a schedule; equal seeds give equal runs.
 *
 * Must hold: every job ends, in DONE or FAILED; DONE only with all chunks there; nothing
 * that is there, zero or asked elsewhere is asked for; nobody is asked who is not a holder, or
 * sent wrong bytes for the chunk; no limit is passed; with one honest holder a job succeeds. */
#include "tests/checkpoint/fetch_kit.h"

#define SEEDS    2000u
#define UNIVERSE 300u
#define JOBS     6u
#define PEERS    6u
#define MESSAGES 1024u
#define FLIGHTS  512u

enum kind {
    HONEST,
    SLOW,
    LOSSY,
    LIAR,
    POOR,
    REFUSER,
    VANISHING,
    KINDS
};

struct message {
    uint64_t at_ms;
    uint64_t seq;
    uint64_t request;
    bool refuse, last;
    uint32_t first, count; /* chunks of the request */
};

struct flight {
    bool used, cancelled;
    uint64_t id;
    uint32_t peer, count;
    uint32_t pending; /* bit per chunk that was not answered yet */
    uint32_t chunks[CKPT_FETCH_REQUEST_CHUNKS_MAX];
};

struct job {
    bool active, dropped, limited; /* by a deadline */
    bool trusted;                  /* an honest peer holds it, for all of its time */
    bool chunks[UNIVERSE];
    bool holder[PEERS + 1];
    bool wrong[PEERS + 1][UNIVERSE]; /* quarantined */
    uint32_t starts;
};

struct model {
    struct world w;
    uint64_t random;
    enum kind kind[PEERS + 1];
    uint64_t vanish_at_ms[PEERS + 1];
    bool told[PEERS + 1];
    bool poor[PEERS + 1][UNIVERSE];
    bool store[UNIVERSE];
    struct job jobs[JOBS];
    struct flight flights[FLIGHTS];
    struct message messages[MESSAGES];
    uint32_t message_count;
    uint64_t seq, digest;
    bool quiet;             /* nothing goes wrong */
    uint64_t needed, moved; /* chunks */
    uint64_t done, failed;
};

static uint32_t below(struct model *m, uint32_t limit)
{
    return next_random(&m->random) % limit;
}

static bool chance(struct model *m, uint32_t percent)
{
    return below(m, 100) < percent;
}

static void digest(struct model *m, uint64_t value)
{
    m->digest = (m->digest ^ value ^ m->w.now_ms << 20) * 0x100000001b3ull;
}

/*- Messages. */

static void post(struct model *m, const struct message *message)
{
    assert_true(m->message_count < MESSAGES);
    m->messages[m->message_count] = *message;
    m->messages[m->message_count++].seq = m->seq++;
}

static uint32_t earliest(const struct model *m)
{
    uint32_t i, best = 0;

    for (i = 1; i < m->message_count; i++) {
        if (m->messages[i].at_ms < m->messages[best].at_ms ||
            (m->messages[i].at_ms == m->messages[best].at_ms &&
             m->messages[i].seq < m->messages[best].seq)) {
            best = i;
        }
    }
    return best;
}

/* Whether something will still be heard of the request. */
static bool is_coming(const struct model *m, uint64_t request)
{
    uint32_t i;

    for (i = 0; i < m->message_count; i++) {
        if (m->messages[i].request == request) {
            return true;
        }
    }
    return false;
}

static struct flight *flight_of(struct model *m, uint64_t request)
{
    uint32_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(m->flights); i++) {
        if (m->flights[i].used && m->flights[i].id == request) {
            return &m->flights[i];
        }
    }
    return NULL;
}

/* How the peer will answer: 1 to 3 pieces, one refusal, or nothing. */
static void answer_later(struct model *m, const struct flight *flight)
{
    enum kind kind = m->kind[flight->peer];
    uint64_t at_ms = m->w.now_ms + 1 + below(m, kind == SLOW ? 8000 : m->quiet ? 400 : 20);
    struct message message = {.request = flight->id};
    uint32_t pieces = 1 + below(m, 3), at = 0;

    if ((kind == LOSSY && chance(m, 30)) ||
        (kind == VANISHING && at_ms >= m->vanish_at_ms[flight->peer])) {
        return;
    }
    if (kind == REFUSER && chance(m, 70)) {
        message.at_ms = at_ms;
        message.refuse = true;
        post(m, &message);
        return;
    }
    for (; pieces > 0; pieces--) {
        message.at_ms = at_ms;
        message.first = at;
        message.count = pieces == 1 ? flight->count - at : below(m, flight->count - at + 1);
        message.last = pieces == 1;
        post(m, &message);
        at += message.count;
        at_ms += 1 + below(m, 5);
    }
}

/*- Actions. */

static void check_request(struct model *m, struct job *job, const struct flight *flight)
{
    uint32_t requests = 0, total = 0, total_chunks = 0, chunks = 0, i, j, k;

    assert_true(job->active);
    assert_true(job->holder[flight->peer]);
    assert_in_range(flight->count, 1, m->w.config.request_chunks);
    for (i = 0; i < flight->count; i++) {
        uint32_t chunk = flight->chunks[i], times = 0;

        assert_true(chunk < UNIVERSE);
        assert_true(job->chunks[chunk]);
        assert_false(m->store[chunk]);
        assert_false(job->wrong[flight->peer][chunk]);
        for (j = 0; j < SHL_ARRAY_SIZE(m->flights); j++) {
            const struct flight *other = &m->flights[j];

            for (k = 0; other->used && !other->cancelled && k < other->count; k++) {
                if ((other->pending >> k & 1u) && other->chunks[k] == chunk) {
                    times++;
                    assert_true(other == flight || other->peer != flight->peer);
                }
            }
        }
        assert_in_range(times, 1, 2); /* itself, and one more at the end of a job */
    }
    for (j = 0; j < SHL_ARRAY_SIZE(m->flights); j++) {
        const struct flight *other = &m->flights[j];

        if (other->used && !other->cancelled) {
            total++;
            total_chunks += other->count;
            requests += other->peer == flight->peer;
            chunks += other->peer == flight->peer ? other->count : 0;
        }
    }
    assert_true(requests <= m->w.config.peer_requests);
    assert_true((uint64_t)chunks * CKPT_CHUNK_BYTES <= m->w.config.peer_bytes);
    assert_true(total <= m->w.config.total_requests);
    assert_true((uint64_t)total_chunks * CKPT_CHUNK_BYTES <= m->w.config.total_bytes);
}

static void on_request(struct model *m, struct job *job, const struct ckpt_fetch_action *act)
{
    struct flight *flight = &m->flights[0];
    uint32_t i;

    while (flight->used) {
        flight++;
        assert_true(flight < m->flights + SHL_ARRAY_SIZE(m->flights));
    }
    *flight = (struct flight){.used = true,
                              .id = act->u.request.request,
                              .peer = act->u.request.peer.bytes[0],
                              .count = act->u.request.count,
                              .pending = (uint32_t)((1ull << act->u.request.count) - 1)};
    for (i = 0; i < flight->count; i++) {
        flight->chunks[i] = fk_number(&act->u.request.ids[i]);
        digest(m, flight->chunks[i]);
    }
    check_request(m, job, flight);
    answer_later(m, flight);
}

static void on_done(struct model *m, struct job *job)
{
    uint32_t i;

    assert_true(job->active);
    for (i = 0; i < UNIVERSE; i++) {
        assert_true(!job->chunks[i] || m->store[i]);
    }
    job->active = false;
    m->done++;
}

static void on_failed(struct model *m, struct job *job, const struct ckpt_fetch_action *act)
{
    assert_true(job->active);
    job->active = false;
    m->failed++;
    assert_true((act->u.failed.reason == CKPT_FETCH_DROPPED) == job->dropped);
    assert_true(act->u.failed.reason != CKPT_FETCH_TIMED_OUT || job->limited);
    assert_false(job->trusted && !job->dropped && !job->limited);
    assert_true(act->u.failed.missing > 0);
}

static void on_quarantine(struct model *m, const struct ckpt_fetch_action *act)
{
    uint32_t peer = act->u.quarantine.peer.bytes[0], i;

    for (i = 0; i < JOBS; i++) {
        m->jobs[i].wrong[peer][fk_number(&act->u.quarantine.chunk)] |= m->jobs[i].holder[peer];
    }
}

static void carry_out(struct model *m)
{
    uint32_t i;

    for (i = 0; i < m->w.acts->count; i++) {
        const struct ckpt_fetch_action *act = &m->w.acts->items[i];
        struct job *job = &m->jobs[fk_number(&act->manifest)];
        struct flight *flight;

        digest(m, act->type);
        switch (act->type) {
        case CKPT_FETCH_ACT_REQUEST:
            on_request(m, job, act);
            break;
        case CKPT_FETCH_ACT_CANCEL:
            flight = flight_of(m, act->u.cancel);
            assert_true(flight && !flight->cancelled);
            flight->cancelled = true;
            flight->used = is_coming(m, act->u.cancel);
            break;
        case CKPT_FETCH_ACT_QUARANTINE:
            on_quarantine(m, act);
            break;
        case CKPT_FETCH_ACT_DONE:
            on_done(m, job);
            break;
        case CKPT_FETCH_ACT_FAILED:
            on_failed(m, job, act);
            break;
        }
    }
}

static void step(struct model *m, struct ckpt_fetch_event *event)
{
    fk_step(&m->w, event);
    carry_out(m);
}

/*- Events. */

static void start_job(struct model *m, uint32_t number)
{
    struct job *job = &m->jobs[number];
    struct ckpt_id ids[UNIVERSE + 1];
    uint8_t present[UNIVERSE / 8 + 1] = {0};
    struct shl_node_id holders[PEERS];
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ADD};
    uint32_t i, count = 0;

    for (i = 0; i < UNIVERSE; i++) {
        if (job->chunks[i]) {
            present[count / 8] |= (uint8_t)(m->store[i] << count % 8);
            ids[count++] = fk_id(i);
        }
    }
    memset(&ids[count++], 0, sizeof(ids[0]));
    job->trusted = false;
    for (i = 1; i <= PEERS; i++) {
        job->holder[i] = chance(m, 60);
        if (job->holder[i]) {
            job->trusted = job->trusted || m->kind[i] == HONEST;
            holders[event.u.add.holder_count++] = fk_peer(i);
        }
    }
    memset(job->wrong, 0, sizeof(job->wrong));
    job->active = true;
    job->dropped = false;
    job->limited = !m->quiet && chance(m, 10);
    job->starts++;
    event.u.add.manifest = fk_manifest(number);
    event.u.add.class = (enum ckpt_fetch_class)below(m, CKPT_FETCH_CLASS_COUNT);
    event.u.add.deadline_at_ms = job->limited ? m->w.now_ms + below(m, 9000) : CKPT_FETCH_NEVER_MS;
    event.u.add.ids = ids;
    event.u.add.count = count;
    event.u.add.present = present;
    event.u.add.holders = holders;
    step(m, &event);
}

/* No request waits for it any more. */
static void settle(struct model *m, uint32_t chunk)
{
    uint32_t i, j;

    m->needed += !m->store[chunk];
    m->store[chunk] = true;
    for (i = 0; i < SHL_ARRAY_SIZE(m->flights); i++) {
        for (j = 0; m->flights[i].used && j < m->flights[i].count; j++) {
            if (m->flights[i].chunks[j] == chunk) {
                m->flights[i].pending &= ~(1u << j);
            }
        }
    }
}

/* Bytes of cancelled requests may arrive all the same. */
static void arrive_late(struct model *m, const struct flight *flight, const struct message *message)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_PRESENT};
    struct ckpt_id ids[CKPT_FETCH_REQUEST_CHUNKS_MAX];
    uint32_t i;

    if (m->kind[flight->peer] != HONEST && m->kind[flight->peer] != SLOW) {
        return;
    }
    for (i = 0; i < message->count; i++) {
        ids[i] = fk_id(flight->chunks[message->first + i]);
    }
    for (i = 0; i < message->count; i++) {
        settle(m, flight->chunks[message->first + i]);
    }
    event.u.present.ids = ids;
    event.u.present.count = message->count;
    step(m, &event);
}

static void arrive(struct model *m, struct flight *flight, const struct message *message)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ANSWER};
    struct ckpt_fetch_result results[CKPT_FETCH_REQUEST_CHUNKS_MAX + 1];
    uint32_t i, count = 0;

    for (i = message->first; i < message->first + message->count; i++) {
        uint32_t chunk = flight->chunks[i];
        struct ckpt_fetch_result result = {i, CKPT_FETCH_ARRIVED, 1000 + below(m, 64000)};

        if (m->kind[flight->peer] == POOR && m->poor[flight->peer][chunk]) {
            if (chance(m, 50)) {
                continue; /* says nothing of it */
            }
            result = (struct ckpt_fetch_result){i, CKPT_FETCH_LACKS, 0};
        } else if (m->kind[flight->peer] == LIAR && chance(m, 40)) {
            result.outcome = CKPT_FETCH_BAD;
        } else {
            settle(m, chunk);
        }
        flight->pending &= ~(1u << i);
        results[count++] = result;
    }
    if (m->kind[flight->peer] == LIAR && chance(m, 20)) {
        i = below(m, 40); /* an index of no chunk, perhaps */
        results[count++] = (struct ckpt_fetch_result){i, CKPT_FETCH_LACKS, 5};
        flight->pending &= i < 32 ? ~(1u << i) : UINT32_MAX;
    }
    event.u.answer.request = flight->id;
    event.u.answer.results = results;
    event.u.answer.count = count;
    event.u.answer.last = message->last;
    if (message->last || flight->pending == 0) {
        flight->used = false;
    }
    step(m, &event);
}

static void deliver(struct model *m)
{
    uint32_t at = earliest(m);
    struct message message = m->messages[at];
    struct flight *flight = flight_of(m, message.request);
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_FAILED};

    m->messages[at] = m->messages[--m->message_count];
    m->moved += message.count;
    if (!flight) {
        return; /* all it could say was said before */
    }
    if (flight->cancelled) {
        flight->used = is_coming(m, message.request);
        arrive_late(m, flight, &message);
    } else if (message.refuse) {
        flight->used = false;
        event.u.failed.request = message.request;
        step(m, &event);
    } else {
        arrive(m, flight, &message);
    }
}

/* Something from outside, now and then. */
static void disturb(struct model *m)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_DROP};
    uint32_t number = below(m, JOBS), peer = 1 + below(m, PEERS);
    struct job *job = &m->jobs[number];

    if (chance(m, 3) && job->active) {
        job->dropped = true;
        event.u.drop.manifest = fk_manifest(number);
        step(m, &event);
    } else if (chance(m, 10) && !job->active && job->starts < 4) {
        start_job(m, number);
    } else if (chance(m, 5) && m->kind[peer] != HONEST) {
        bool add = chance(m, 60);

        event.type = add ? CKPT_FETCH_EV_HOLDER : CKPT_FETCH_EV_HOLDER_LOST;
        if (add) {
            if (job->active) {
                job->holder[peer] = true;
            }
            memset(job->wrong[peer], 0, sizeof(job->wrong[peer])); /* starts afresh, perhaps */
            event.u.holder.manifest = fk_manifest(number);
            event.u.holder.node = fk_peer(peer);
        } else {
            uint32_t i;

            for (i = 0; i < JOBS; i++) {
                m->jobs[i].holder[peer] = false;
            }
            event.u.lost.node = fk_peer(peer);
        }
        step(m, &event);
    }
}

static void prepare(struct model *m, uint64_t seed)
{
    struct ckpt_fetch_config *c = &m->w.config;
    uint32_t i, j;

    m->random = seed * 7919 + 1;
    ckpt_fetch_config_defaults(c);
    c->seed = seed;
    if (chance(m, 50)) {
        c->request_chunks = 1 + below(m, 8);
        c->peer_requests = 1 + below(m, 4);
        c->total_requests = 1 + below(m, 8);
        c->total_bytes = (2 + below(m, 64)) * CKPT_CHUNK_BYTES;
        c->random_first = below(m, 20);
        c->endgame = below(m, 30);
    }
    for (i = 0; i < CKPT_FETCH_CLASS_COUNT; i++) {
        c->rates[i] = chance(m, 30) ? (1u << 18) + below(m, 1u << 24) : 0;
    }
    for (i = 1; i <= PEERS; i++) {
        m->kind[i] = m->quiet ? HONEST : (enum kind)below(m, KINDS);
        m->vanish_at_ms[i] = 1000 + below(m, 300);
        for (j = 0; j < UNIVERSE; j++) {
            m->poor[i][j] = chance(m, 40);
        }
    }
    for (i = 0; i < JOBS; i++) {
        uint32_t first = below(m, UNIVERSE), count = below(m, UNIVERSE - first + 1);

        for (j = first; j < first + count; j++) {
            m->jobs[i].chunks[j] = true;
        }
    }
    for (j = 0; j < UNIVERSE; j++) {
        m->store[j] = chance(m, 10);
    }
    m->w.check_each = 5; /* it walks everything */
    fk_begin(&m->w);
}

struct totals {
    uint64_t done, failed, needed, moved;
};

/* Digest of the run. */
static uint64_t run(uint64_t seed, bool quiet, struct totals *totals)
{
    struct model *m = calloc(1, sizeof(*m));
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_TICK};
    uint64_t result, end_ms;
    uint32_t i, steps = 0;

    m->quiet = quiet;
    prepare(m, seed);
    for (i = 0; i < JOBS; i++) {
        start_job(m, i);
    }
    end_ms = m->w.now_ms + 4 * 3600 * 1000;
    while (m->message_count > 0 || m->w.acts->wake_at_ms != CKPT_FETCH_NEVER_MS) {
        uint64_t next_ms = m->w.acts->wake_at_ms;
        bool message = m->message_count > 0 && m->messages[earliest(m)].at_ms <= next_ms;

        assert_true(++steps < 200000);
        m->w.now_ms = SHL_MAX(m->w.now_ms, message ? m->messages[earliest(m)].at_ms : next_ms);
        assert_true(m->w.now_ms < end_ms);
        if (message) {
            deliver(m);
        } else {
            step(m, &event);
        }
        if (steps < 2000 && !quiet) {
            disturb(m);
        }
    }
    for (i = 0; i < JOBS; i++) {
        assert_false(m->jobs[i].active);
    }
    assert_int_equal(fk_stats(&m->w).requests, 0);
    assert_int_equal(fk_stats(&m->w).jobs, 0);
    assert_int_equal(fk_stats(&m->w).in_flight_bytes, 0);
    assert_int_equal(fk_stats(&m->w).done, m->done);
    totals->done += m->done;
    totals->failed += m->failed;
    totals->needed += m->needed;
    totals->moved += m->moved;
    result = m->digest;
    ckpt_fetch_free(m->w.f);
    free(m->w.acts);
    free(m);
    return result;
}

static void test_fetch_random_every_job_ends(void **state)
{
    struct totals totals = {0};
    uint64_t seed;

    (void)state;
    for (seed = 1; seed <= SEEDS; seed++) {
        uint64_t digest_of_run = run(seed, false, &totals);

        if (seed % 50 == 0) {
            assert_true(run(seed, false, &totals) == digest_of_run);
        }
    }
    print_message("%u seeds: %llu jobs done, %llu failed\n", SEEDS, (unsigned long long)totals.done,
                  (unsigned long long)totals.failed);
    assert_true(totals.done > SEEDS && totals.failed > SEEDS / 10);
}

/* Without faults, but with answers that take up to 400 times as long as others. */
static void test_fetch_random_moves_little_twice(void **state)
{
    struct totals totals = {0};
    uint64_t seed;

    (void)state;
    for (seed = 1; seed <= SEEDS / 10; seed++) {
        (void)run(seed, true, &totals);
    }
    print_message("%llu chunks moved, %llu were missing: %.4f\n", (unsigned long long)totals.moved,
                  (unsigned long long)totals.needed, (double)totals.moved / (double)totals.needed);
    assert_true((double)totals.moved <= 1.05 * (double)totals.needed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fetch_random_every_job_ends),
        cmocka_unit_test(test_fetch_random_moves_little_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
