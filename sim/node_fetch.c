/* The fetch core on a simulated node: the manifest from a holder, then the chunks from all of them,
 * each verified before it counts; published when the disk is certain of it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/route_task.h"
#include "sim/world.h"

#define MANIFEST_MS  150  /* for an answer */
#define MANIFEST_MAX 6    /* tries */
#define RESUME_MS    2000 /* a sandbox waits no longer */
#define PIECE_CHUNKS 2u   /* of one message */

struct piece {
    uint64_t has;
    uint64_t data;
};

/*- Jobs. */

struct sim_job *sim_job_find(const struct sim_node *node, const struct sim_point_id *point)
{
    for (uint32_t i = 0; node->replica && i < node->replica->job_count; i++) {
        struct sim_job *job = &node->replica->jobs[i];

        if (job->step != SIM_JOB_FREE && sim_point_compare(&job->point, point) == 0) {
            return job;
        }
    }
    return NULL;
}

static void wake_now(struct sim_node *node)
{
    node->copy_wake_ms = 0;
}

static void add_job(struct sim_node *node, struct sim_job *job);

struct sim_job *sim_job_want(struct sim_node *node,
                             const struct sim_point_id *point,
                             enum ckpt_fetch_class class)
{
    struct sim_replica *r = node->replica;
    struct sim_job *job = sim_job_find(node, point);
    uint64_t now_ms = sim_node_now_ms(node);

    if (job) {
        bool rose = class < job->class;

        job->class = SHL_MIN(job->class, class);
        if (rose && job->step == SIM_JOB_CHUNKS && !job->done && !job->failed) {
            job->end_ms = class == CKPT_FETCH_RESUME ? now_ms + RESUME_MS : job->end_ms;
            add_job(node, job);
        }
        wake_now(node);
        return job;
    }
    for (uint32_t i = 0; i < SIM_JOBS_MAX; i++) {
        job = &r->jobs[i];
        if (job->step == SIM_JOB_FREE) {
            *job = (struct sim_job){.step = SIM_JOB_MANIFEST, .point = *point, .class = class};
            job->end_ms = class == CKPT_FETCH_RESUME ? now_ms + RESUME_MS : CKPT_FETCH_NEVER_MS;
            r->job_count = SHL_MAX(r->job_count, i + 1);
            wake_now(node);
            return job;
        }
    }
    return NULL;
}

static void free_job(struct sim_node *node, struct sim_job *job)
{
    job->step = SIM_JOB_FREE;
    while (node->replica->job_count > 0 &&
           node->replica->jobs[node->replica->job_count - 1].step == SIM_JOB_FREE) {
        node->replica->job_count--;
    }
}

static void end_job(struct sim_node *node, struct sim_job *job, int code)
{
    struct sim_job old = *job;

    free_job(node, job);
    if (code < 0) {
        SIM_TRACE(node->world, node->index, "has not got %llx.%llu.%llu: %s",
                  (unsigned long long)old.point.sandbox, (unsigned long long)old.point.epoch,
                  (unsigned long long)old.point.count, shl_err_name(code));
    }
    if (old.planned) {
        sim_job_plan_ended(node, &old.point, code == 0);
    }
    if (old.wanted) {
        sim_hold_fetched(node, &old.point, code);
    }
}

/*- Steps of the core. */

static void make_fetch(struct sim_node *node)
{
    struct ckpt_fetch_config config;

    ckpt_fetch_config_defaults(&config);
    config.seed = node->boot * 1000 + node->index;
    config.request_chunks = 2; /* small, so that every limit is met */
    config.peer_requests = 2;
    config.total_requests = 6;
    config.deadline_first_ms = 400;
    config.deadline_min_ms = 60;
    config.deadline_max_ms = 1500;
    config.demote_ms = 500;
    config.retry_ms = 50;
    config.distrust_ms = 3000;
    config.holder_wait_ms = 1500;
    config.random_first = 2;
    config.endgame = 2;
    if (ckpt_fetch_new(&config, &node->replica->fetch) < 0) {
        abort();
    }
}

static void send_request(struct sim_node *node, const struct ckpt_fetch_action *act)
{
    struct sim_replica *r = node->replica;
    struct sim_request *request = r->requests;
    int to = sim_world_find(node->world, &act->u.request.peer);
    uint64_t n[5] = {act->u.request.request, node->boot, 0, 0, 0};

    while (request->id != 0) {
        request++;
        assert(request < &r->requests[SIM_REQUESTS_MAX]);
    }
    request->id = act->u.request.request;
    request->peer = (uint32_t)to;
    request->count = act->u.request.count;
    request->got = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        request->keys[i] = sim_chunk_of_id(&act->u.request.ids[i]);
        sim_check_asked(node, request->keys[i]);
    }
    sim_route_tell(node, (uint32_t)to, SIM_RPC_CHUNKS, n,
                   shl_bytes_of(request->keys, request->count * sizeof(request->keys[0])));
}

static struct sim_request *find_request(struct sim_node *node, uint64_t id)
{
    for (uint32_t i = 0; id > 0 && i < SIM_REQUESTS_MAX; i++) {
        if (node->replica->requests[i].id == id) {
            return &node->replica->requests[i];
        }
    }
    return NULL;
}

static void act(struct sim_node *node, const struct ckpt_fetch_action *a)
{
    struct sim_point_id point;
    struct sim_job *job = NULL;
    struct sim_request *request = NULL;

    sim_point_of_manifest(&a->manifest, &point);
    job = sim_job_find(node, &point);
    switch (a->type) {
    case CKPT_FETCH_ACT_REQUEST:
        send_request(node, a);
        break;
    case CKPT_FETCH_ACT_CANCEL:
        request = find_request(node, a->u.cancel);
        if (request) {
            request->id = 0;
        }
        break;
    case CKPT_FETCH_ACT_QUARANTINE:
        SIM_TRACE(node->world, node->index, "got wrong bytes from n%d",
                  sim_world_find(node->world, &a->u.quarantine.peer));
        node->world->check.quarantines++;
        break;
    case CKPT_FETCH_ACT_DONE:
        if (job) {
            job->done = true;
        }
        break;
    case CKPT_FETCH_ACT_FAILED:
        if (job) {
            SIM_TRACE(node->world, node->index, "fetch fails: %s",
                      ckpt_fetch_reason_text(a->u.failed.reason));
            job->failed = true;
            job->nobody = a->u.failed.reason == CKPT_FETCH_NO_CHUNK ||
                          a->u.failed.reason == CKPT_FETCH_NO_HOLDER;
        }
        break;
    }
}

static void fetch_step(struct sim_node *node, struct ckpt_fetch_event *event)
{
    struct sim_world *world = node->world;
    const char *wrong = NULL;
    int rc = 0;

    if (!node->replica->fetch) {
        make_fetch(node);
    }
    event->now_ms = sim_node_now_ms(node);
    rc = ckpt_fetch_step(node->replica->fetch, event, &world->scratch_fetch);
    if (rc < 0) {
        sim_check_fail(world, 26, "n%u: the fetch core refuses event %d: %s", node->index,
                       (int)event->type, shl_err_name(rc));
    }
    node->replica->fetch_wake_ms = world->scratch_fetch.wake_at_ms;
    wake_now(node);
    for (uint32_t i = 0; i < world->scratch_fetch.count; i++) {
        act(node, &world->scratch_fetch.items[i]);
    }
    wrong = ckpt_fetch_check(node->replica->fetch);
    if (wrong) {
        sim_check_fail(world, 23, "n%u: fetching: %s", node->index, wrong);
    }
}

/*- Holders. */

static bool is_live(const struct sim_node *node, const struct shl_node_id *id)
{
    const struct gossip_member *member = gossip_member_find(node->gossip, id);

    return member && (member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT);
}

static uint64_t live_holders(const struct sim_node *node, const struct sim_point_id *point)
{
    const struct sched_checkpoint *row = sim_copy_row(node->state, point);
    uint64_t set = 0;

    for (uint32_t i = 0; row && i < row->holder_count; i++) {
        int slot = sim_world_find(node->world, &row->holders[i]);

        if (slot >= 0 && (uint32_t)slot != node->index && is_live(node, &row->holders[i])) {
            set |= UINT64_C(1) << slot;
        }
    }
    return set;
}

int sim_fetch_holder(const struct sim_node *node, const struct sim_point_id *point, uint32_t turn)
{
    uint64_t set = live_holders(node, point);
    uint32_t count = (uint32_t)__builtin_popcountll(set);

    for (uint32_t slot = 0, k = count ? turn % count : 0; slot < node->world->node_count; slot++) {
        if ((set >> slot & 1) && k-- == 0) {
            return (int)slot;
        }
    }
    return -1;
}

void sim_fetch_holders(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->replica->job_count; i++) {
        struct sim_job *job = &node->replica->jobs[i];
        uint64_t now = job->step == SIM_JOB_CHUNKS ? live_holders(node, &job->point) : 0;

        for (uint32_t slot = 0; job->step == SIM_JOB_CHUNKS && slot < node->world->node_count;
             slot++) {
            struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_HOLDER};

            if (((now ^ job->holders) >> slot & 1) == 0) {
                continue;
            }
            if (now >> slot & 1) {
                sim_point_manifest(&job->point, &event.u.holder.manifest);
                event.u.holder.node = node->world->nodes[slot].id;
            } else {
                event.type = CKPT_FETCH_EV_HOLDER_LOST;
                sim_point_manifest(&job->point, &event.u.lost.manifest);
                event.u.lost.node = node->world->nodes[slot].id;
            }
            fetch_step(node, &event);
        }
        job->holders = now;
    }
}

/*- A job's way. */

/* What is here already stays and is not asked for: also after a transfer that broke. */
static uint8_t present_chunks(struct sim_node *node, const struct sim_job *job)
{
    uint8_t present = 0;

    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        uint64_t key = sim_chunk_key(sim_point_chunk(&job->point, i));

        if (sim_store_has(node, key)) {
            present = (uint8_t)(present | 1u << i);
        }
    }
    return node->world->mutate.sim & SIM_MUT_RESUME_DROPS ? 0 : present;
}

static void add_job(struct sim_node *node, struct sim_job *job)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ADD};
    struct ckpt_id ids[SIM_POINT_CHUNKS];
    struct shl_node_id holders[CKPT_FETCH_HOLDERS_MAX];
    uint8_t present = present_chunks(node, job);

    job->step = SIM_JOB_CHUNKS;
    job->holders = live_holders(node, &job->point);
    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        sim_chunk_id(sim_chunk_key(sim_point_chunk(&job->point, i)), &ids[i]);
    }
    for (uint32_t slot = 0; slot < node->world->node_count; slot++) {
        if (job->holders >> slot & 1) {
            holders[event.u.add.holder_count++] = node->world->nodes[slot].id;
        }
    }
    sim_point_manifest(&job->point, &event.u.add.manifest);
    event.u.add.class = job->class;
    event.u.add.deadline_at_ms = job->end_ms;
    event.u.add.ids = ids;
    event.u.add.count = SIM_POINT_CHUNKS;
    event.u.add.present = &present;
    event.u.add.holders = holders;
    fetch_step(node, &event);
}

static void ask_manifest(struct sim_node *node, struct sim_job *job, uint64_t now_ms)
{
    const struct sim_manifest *m = sim_store_find(node, &job->point);
    int holder = sim_fetch_holder(node, &job->point, job->turn++);
    uint64_t n[5] = {job->point.sandbox, job->point.epoch, job->point.count, node->boot, 0};

    if (m) { /* a copy that lost chunks */
        job->manifest = *m;
        add_job(node, job);
        return;
    }
    if (holder < 0 || job->tries++ >= MANIFEST_MAX || now_ms >= job->end_ms) {
        end_job(node, job, SHL_EUNAVAILABLE);
        return;
    }
    job->ask_ms = now_ms + MANIFEST_MS;
    sim_route_tell(node, (uint32_t)holder, SIM_RPC_MANIFEST, n, (struct shl_bytes){0});
}

/* All chunks have come; the manifest is written once every one of them is pinned. */
static void commit(struct sim_node *node, struct sim_job *job)
{
    struct sim_manifest m = {.point = job->point,
                             .memory_mb = job->manifest.memory_mb,
                             .restore = job->manifest.restore};
    const struct sim_manifest *have = sim_store_find(node, &job->point);
    struct sim_manifest *kept = NULL;

    job->done = false;
    m.durable = have && have->durable;
    m.leaving = have && have->leaving;
    kept = sim_store_put_manifest(node, &m);
    if (!sim_store_is_whole(node, kept, false)) { /* one was gone again */
        kept->damaged = true;
        add_job(node, job);
        return;
    }
    job->step = SIM_JOB_COMMIT;
    sim_check_published(node, kept);
    (void)sim_node_sync(node, (struct sim_sync){.kind = SIM_SYNC_COPY,
                                                .a = m.point.sandbox,
                                                .req = m.point.epoch,
                                                .peer = (uint32_t)m.point.count});
}

void sim_fetch_synced(struct sim_node *node, const struct sim_point_id *point)
{
    struct sim_manifest *m = sim_store_find(node, point);
    struct sim_job *job = sim_job_find(node, point);

    if (m) {
        m->durable = true;
        node->world->check.copies++;
    }
    if (job && job->step == SIM_JOB_COMMIT) {
        end_job(node, job, m ? 0 : SHL_ENOTFOUND);
    }
    sim_replica_soon(node);
}

void sim_job_drop(struct sim_node *node, struct sim_job *job)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_DROP};
    bool running = job->step == SIM_JOB_CHUNKS && !job->done && !job->failed;

    sim_point_manifest(&job->point, &event.u.drop.manifest);
    free_job(node, job);
    if (running) {
        fetch_step(node, &event);
    }
}

void sim_fetch_tick(struct sim_node *node)
{
    struct sim_replica *r = node->replica;
    uint64_t now_ms = sim_node_now_ms(node);

    if (r->fetch && now_ms >= r->fetch_wake_ms) {
        struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_TICK};

        fetch_step(node, &event);
    }
    for (uint32_t i = 0; i < r->job_count && !node->dying; i++) {
        struct sim_job *job = &r->jobs[i];

        if (job->step == SIM_JOB_MANIFEST && now_ms >= job->ask_ms) {
            ask_manifest(node, job, now_ms);
        } else if (job->step == SIM_JOB_CHUNKS && job->done) {
            commit(node, job);
        } else if (job->step == SIM_JOB_CHUNKS && job->failed) {
            end_job(node, job, job->nobody ? SHL_ENOTFOUND : SHL_EUNAVAILABLE);
        }
    }
}

uint64_t sim_fetch_wake_ms(const struct sim_node *node)
{
    const struct sim_replica *r = node->replica;
    uint64_t wake_ms = r->fetch ? r->fetch_wake_ms : UINT64_MAX;

    for (uint32_t i = 0; i < r->job_count; i++) {
        const struct sim_job *job = &r->jobs[i];

        if (job->step == SIM_JOB_MANIFEST) {
            wake_ms = SHL_MIN(wake_ms, job->ask_ms);
        } else if (job->step == SIM_JOB_CHUNKS && (job->done || job->failed)) {
            wake_ms = 0;
        }
    }
    return wake_ms;
}

bool sim_fetch_pins(const struct sim_node *node, uint64_t key)
{
    for (uint32_t i = 0; i < node->replica->job_count; i++) {
        const struct sim_job *job = &node->replica->jobs[i];

        for (uint32_t k = 0; job->step != SIM_JOB_FREE && k < SIM_POINT_CHUNKS; k++) {
            if (sim_chunk_key(sim_point_chunk(&job->point, k)) == key) {
                return true;
            }
        }
    }
    return false;
}

void sim_fetch_present(struct sim_node *node, const struct sim_manifest *m)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_PRESENT};
    struct ckpt_id ids[SIM_POINT_CHUNKS];

    if (!node->replica || !node->replica->fetch || node->replica->job_count == 0) {
        return;
    }
    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        sim_chunk_id(m->keys[i], &ids[i]);
    }
    event.u.present.ids = ids;
    event.u.present.count = SIM_POINT_CHUNKS;
    fetch_step(node, &event);
}

/*- Messages. */

static void on_manifest(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    const struct sim_point_id point = {rpc->n[0], rpc->n[1], rpc->n[2]};
    const struct sim_manifest *m = sim_store_find(node, &point);
    uint64_t n[5] = {point.sandbox, point.epoch, point.count, rpc->n[3], 0};

    if (m && m->durable) {
        n[4] = 1 | (uint64_t)m->restore << 1 | (uint64_t)m->memory_mb << 2;
    }
    sim_route_tell(node, from, SIM_RPC_MANIFEST_IS, n, (struct shl_bytes){0});
}

static void on_manifest_is(struct sim_node *node, const struct sim_rpc *rpc)
{
    const struct sim_point_id point = {rpc->n[0], rpc->n[1], rpc->n[2]};
    struct sim_job *job = sim_job_find(node, &point);

    if (!job || job->step != SIM_JOB_MANIFEST || rpc->n[3] != node->boot) {
        return;
    }
    if (rpc->n[4] == 0) {
        job->ask_ms = 0; /* the next one */
        wake_now(node);
        return;
    }
    job->manifest.memory_mb = (uint32_t)(rpc->n[4] >> 2);
    job->manifest.restore = (rpc->n[4] >> 1 & 1) != 0;
    add_job(node, job);
}

static void on_chunks(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    uint32_t count = rpc->len / (uint32_t)sizeof(uint64_t), sent = 0;
    struct piece pieces[PIECE_CHUNKS];
    uint64_t keys[CKPT_FETCH_REQUEST_CHUNKS_MAX];

    count = SHL_MIN(count, CKPT_FETCH_REQUEST_CHUNKS_MAX);
    memcpy(keys, rpc->bytes, count * sizeof(keys[0]));
    while (sent < count) {
        /* One chunk at first, so that an answer is in more than one piece now and then. */
        uint32_t most = sim_rng_below(&node->rng, 2) ? 1 : PIECE_CHUNKS, k = 0;
        uint64_t n[5] = {rpc->n[0], rpc->n[1], sent, 0, 0};

        for (; k < most && sent < count; k++, sent++) {
            pieces[k] = (struct piece){0};
            pieces[k].has = sim_store_read(node, keys[sent], &pieces[k].data);
            if (sim_rng_chance(&node->rng, node->garble_ppm)) {
                pieces[k].data ^= 2;
            }
        }
        n[3] = sent == count;
        sim_route_tell(node, from, SIM_RPC_PIECES, n, shl_bytes_of(pieces, k * sizeof(pieces[0])));
    }
}

/* What the hash says; a chunk that is good is in the store before the core hears of it. */
static enum ckpt_fetch_outcome take_piece(struct sim_node *node,
                                          uint64_t key,
                                          const struct piece *piece)
{
    if (!piece->has) {
        return CKPT_FETCH_LACKS;
    }
    if (sim_chunk_key(piece->data) != key &&
        !(node->world->mutate.sim & SIM_MUT_FETCH_UNVERIFIED)) {
        return CKPT_FETCH_BAD;
    }
    if (!sim_store_has(node, key)) {
        sim_store_put_chunk(node, key, piece->data);
    }
    return CKPT_FETCH_ARRIVED;
}

static void on_pieces(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ANSWER};
    struct ckpt_fetch_result results[PIECE_CHUNKS];
    struct piece pieces[PIECE_CHUNKS];
    struct sim_request *request = rpc->n[1] == node->boot ? find_request(node, rpc->n[0]) : NULL;
    uint32_t count = rpc->len / (uint32_t)sizeof(pieces[0]);

    if (!request || request->peer != from || count > PIECE_CHUNKS ||
        rpc->n[2] + count > request->count) {
        return; /* cancelled, or of an earlier process */
    }
    request->got += count;
    if (rpc->n[3] != 0 && request->got < request->count) { /* the stream broke in between */
        event.type = CKPT_FETCH_EV_FAILED;
        event.u.failed.request = request->id;
        request->id = 0;
        fetch_step(node, &event);
        return;
    }
    memcpy(pieces, rpc->bytes, count * sizeof(pieces[0]));
    event.u.answer.request = request->id;
    event.u.answer.results = results;
    event.u.answer.count = count;
    event.u.answer.last = rpc->n[3] != 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (uint32_t)rpc->n[2] + i;

        results[i] = (struct ckpt_fetch_result){.index = at, .bytes = CKPT_CHUNK_BYTES};
        results[i].outcome = take_piece(node, request->keys[at], &pieces[i]);
    }
    if (event.u.answer.last) {
        request->id = 0;
    }
    if (sim_disk_commit(&node->disk) < 0) {
        node->dying = true;
        return;
    }
    fetch_step(node, &event);
}

void sim_fetch_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    if (rpc->kind == SIM_RPC_MANIFEST) {
        on_manifest(node, from, rpc);
    } else if (rpc->kind == SIM_RPC_MANIFEST_IS) {
        on_manifest_is(node, rpc);
    } else if (rpc->kind == SIM_RPC_CHUNKS) {
        on_chunks(node, from, rpc);
    } else {
        on_pieces(node, from, rpc);
    }
}
