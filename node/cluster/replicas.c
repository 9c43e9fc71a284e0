/* Life of replication on this node, and the steps of its planner.
 *
 * Happy path: the survey looks at log, gossip and store every few seconds and soon after a change;
 * what differs between log and store is told to the log; the planner says what to fetch and what to
 * drop; what became of that is the next change.
 *
 * The VIEW step runs on the loop: it costs about 0.2 us per entry and node, 10 ms for ten thousand
 * entries on five nodes, and the pause after it is REPLICA_SURVEY_SHARE times as long.
 */
#include "node/cluster/replicas.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/cluster/owners.h"
#include "node/cluster/replicas_private.h"

bool replicas_manifest_parse(const char *hex, struct ckpt_id *ret)
{
    return strlen(hex) == 2 * sizeof(ret->bytes) &&
           shl_hex_decode(ret->bytes, sizeof(ret->bytes), hex) == 0;
}

/*- The planner. */

static int fetch_planned(struct cluster_replicas *r, const struct ckpt_plan_action *act)
{
    struct shl_err err = {0};
    int rc = replica_fetch(r, &act->manifest, act->u.fetch.class, true, NULL, NULL, &err);

    if (rc < 0) {
        SHL_LOG(&r->c->log_sink, SHL_LOG_INFO, "copy_not_fetched", SHL_S("error", err.msg));
    }
    return rc;
}

/* False: it is not done, and the planner is to hear so. */
static bool carry_out(struct cluster_replicas *r, const struct ckpt_plan_action *act)
{
    switch (act->type) {
    case CKPT_PLAN_ACT_FETCH:
        return fetch_planned(r, act) == 0;
    case CKPT_PLAN_ACT_CANCEL:
        replica_fetch_cancel(r, &act->manifest);
        return true;
    case CKPT_PLAN_ACT_ASK:
        replica_trim_ask(r, act);
        return true;
    case CKPT_PLAN_ACT_ANSWER:
        replica_trim_answer(r, act);
        return true;
    case CKPT_PLAN_ACT_TRIM:
        return replica_trim(r, act) == 0;
    }
    return true;
}

static struct ckpt_plan_event failure_of(const struct ckpt_plan_action *act)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ENDED};

    if (act->type == CKPT_PLAN_ACT_FETCH) {
        event.u.ended.manifest = act->manifest;
    } else {
        event.type = CKPT_PLAN_EV_TRIMMED;
        event.u.trimmed.manifest = act->manifest;
    }
    return event;
}

void replicas_step(struct cluster_replicas *r, const struct ckpt_plan_event *event)
{
    struct ckpt_plan_event failures[CKPT_PLAN_FETCHES_MAX + CKPT_PLAN_TRIMS_MAX];
    struct ckpt_plan_event timed = *event;
    uint32_t count = 0, i;
    int rc;

    if (!r->plan || r->is_closing) {
        return;
    }
    assert(!r->is_stepping);
    r->is_stepping = true;
    timed.now_ms = cluster_now_ms();
    rc = ckpt_plan_step(r->plan, &timed, &r->actions);
    if (rc < 0) {
        SHL_LOG(&r->c->log_sink, SHL_LOG_ERROR, "replica_plan", SHL_I("event", event->type),
                SHL_S("error", shl_err_text(rc)));
        r->actions.count = 0;
    } else if (event->type == CKPT_PLAN_EV_VIEW) {
        r->report = r->actions.report;
    }
    for (i = 0; i < r->actions.count; i++) {
        if (!carry_out(r, &r->actions.items[i]) && count < SHL_ARRAY_SIZE(failures)) {
            failures[count++] = failure_of(&r->actions.items[i]);
        }
    }
    r->is_stepping = false;
    for (i = 0; i < count; i++) {
        replicas_step(r, &failures[i]);
    }
}

static int make_plan(struct cluster_replicas *r)
{
    struct ckpt_plan_config config;

    ckpt_plan_config_defaults(&config);
    config.self = r->c->keys.id;
    config.grace_ms = r->grace_ms;
    config.planned_ms = SHL_MAX(config.planned_ms, r->grace_ms);
    config.settle_ms = SHL_MIN(config.settle_ms, r->grace_ms);
    shl_random_bytes(&config.seed, sizeof(config.seed));
    memcpy(config.key, r->c->id, sizeof(config.key));
    return ckpt_plan_new(&config, &r->plan);
}

/*- The survey. */

static bool has_leader(const struct cluster *c)
{
    struct shl_node_id leader = {{0}};

    if (c->log.raft && !c->log.is_failed) {
        leader = sched_raft_leader(c->log.raft);
    }
    return !shl_node_id_is_none(&leader);
}

/* Rows that say of this node what is not so. */
static void correct_rows(struct cluster_replicas *r)
{
    size_t i;

    for (i = 0; i < r->by_manifest.count && r->order_count < REPLICA_ORDERS_MAX; i++) {
        const struct catalogue_ref *ref = r->by_manifest.items[i];
        const struct sched_checkpoint *row = catalogue_row(r, ref);
        const struct replica_copy *copy = replica_copy_find(r, &ref->manifest);
        bool held = copy && !copy->is_leaving;

        if (row && held != catalogue_names(row, &r->c->keys.id) && (held || !copy) &&
            catalogue_order_holder(r, ref->id, held, NULL, NULL) == 0) {
            SHL_LOG(&r->c->log_sink, SHL_LOG_DEBUG, "copy_told", SHL_S("artefact", ref->id),
                    SHL_I("held", held));
        }
    }
}

static void plan_all(struct cluster_replicas *r)
{
    const struct replica_view_source source = {
        .state = r->c->state,
        .gossip = r->c->gossip,
        .self = r->c->keys.id,
        .now_ms = cluster_now_ms(),
        .opened_at_ms = r->opened_at_ms,
        .by_manifest = &r->by_manifest,
        .copies = &r->copies,
    };
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_VIEW};
    struct replica_view view;

    if (replica_view_make(&source, &view) < 0) {
        return;
    }
    if (r->is_caught_up && view.others > 0 && r->wanted > 1 && !r->is_wanting) {
        r->is_wanting = true;
        node_manager_want_artefacts(r->c->manager, true);
    }
    event.u.view.nodes = view.nodes;
    event.u.view.node_count = view.node_count;
    event.u.view.entries = view.entries;
    event.u.view.entry_count = view.entry_count;
    event.u.view.settled = r->is_caught_up && r->is_scanned && has_leader(r->c) && view.is_heard &&
                           view.is_measured && view.is_majority;
    event.u.view.budget =
        (struct ckpt_plan_budget){REPLICA_FETCHES_MAX, REPLICA_REBALANCES_MAX, REPLICA_BYTES_MAX};
    if (view.has_self && (r->plan || make_plan(r) == 0)) {
        replicas_step(r, &event);
    }
    replica_view_release(&view);
}

static void on_survey(uv_timer_t *timer)
{
    struct cluster_replicas *r = timer->data;
    uint64_t began_ms = cluster_now_ms(), took_ms;

    replica_copies_scan(r, began_ms);
    replica_copies_continue(r);
    if (r->c->state && r->c->gossip && r->c->has_id) {
        catalogue_pump(r);
        if (r->is_caught_up && r->is_scanned && has_leader(r->c)) {
            correct_rows(r);
        }
        replica_fetch_holders(r);
        replica_heal(r, began_ms);
        plan_all(r);
        standby_look(r, began_ms);
        if (r->is_caught_up) {
            cluster_owners_survey(r->c);
        }
    }
    took_ms = cluster_now_ms() - began_ms;
    r->survey_pause_ms = SHL_MAX(took_ms * REPLICA_SURVEY_SHARE, (uint64_t)REPLICA_SURVEY_SOON_MS);
    r->is_surveying = false;
    r->surveyed_at_ms = cluster_now_ms();
    (void)uv_timer_start(&r->survey_timer, on_survey,
                         SHL_MAX(r->survey_pause_ms, (uint64_t)REPLICA_SURVEY_MS), 0);
}

/* The pause is one between two surveys: a copy takes several steps, each of which would wait for it
 * otherwise. What changes together with this one is waited for. */
void replicas_survey(struct cluster_replicas *r)
{
    uint64_t now = cluster_now_ms(), due = r->surveyed_at_ms + r->survey_pause_ms;

    if (!r->is_surveying && !r->is_closing && r->store) {
        r->is_surveying = true;
        (void)uv_timer_start(&r->survey_timer, on_survey,
                             SHL_MAX(due, now + REPLICA_SURVEY_WITH_MS) - now, 0);
    }
}

static void on_soon(uv_timer_t *timer)
{
    struct cluster_replicas *r = timer->data;
    uint32_t i;

    for (i = 0; i < r->lost_count && r->transfer; i++) {
        node_replica_node_lost(r->transfer, &r->lost[i]);
    }
    r->lost_count = 0;
    catalogue_settle(r);
}

void replicas_soon(struct cluster_replicas *r)
{
    if (!r->is_closing && !uv_is_active((const uv_handle_t *)&r->soon_timer)) {
        (void)uv_timer_start(&r->soon_timer, on_soon, 0, 0);
    }
}

/*- What is told. */

void cluster_replicas_applied(struct cluster *c, const struct sched_command *command)
{
    struct cluster_replicas *r = c->replicas;
    const struct sched_cmd_lease_renew *renew = &command->u.lease_renew;

    if (!r || r->is_closing) {
        return;
    }
    /* Given to the log after this start: all that was in it before is applied by now. */
    if (command->kind == SCHED_LEASE_RENEW && renew->boot == c->keys.boot &&
        shl_node_id_equal(&renew->node, &c->keys.id)) {
        r->renewals++;
        if (!r->is_caught_up) {
            r->is_caught_up = true;
            replicas_soon(r);
            replicas_survey(r);
        }
    }
    catalogue_applied(r, command);
}

void cluster_replicas_loaded(struct cluster *c)
{
    if (c->replicas && !c->replicas->is_closing) {
        catalogue_load(c->replicas);
    }
}

void cluster_replicas_member(struct cluster *c, const struct shl_node_id *node, bool is_lost)
{
    struct cluster_replicas *r = c->replicas;

    if (!r || r->is_closing) {
        return;
    }
    if (is_lost && r->lost_count < SHL_ARRAY_SIZE(r->lost)) {
        r->lost[r->lost_count++] = *node;
        replicas_soon(r);
    }
    if (!is_lost) {
        r->heal_at_ms = 0; /* it may have what is damaged here */
    }
    replicas_survey(r);
}

void cluster_replicas_on_change(struct cluster *c, cluster_replicas_changed changed, void *arg)
{
    c->replicas->changed = changed;
    c->replicas->changed_arg = arg;
}

/*- Opening. */

static int open_parts(struct cluster_replicas *r, struct shl_err *err)
{
    struct cluster *c = r->c;
    struct node_replica_server_config serve = {.log = &c->log_sink};
    struct node_replica_config transfer = {.opener = node_mesh_opener(c->mesh),
                                           .log = &c->log_sink};
    int rc;

    r->store = node_manager_store(c->manager);
    if (!r->store) {
        return 0;
    }
    serve.store = transfer.store = r->store;
    ckpt_fetch_config_defaults(&transfer.fetch);
    shl_random_bytes(&transfer.fetch.seed, sizeof(transfer.fetch.seed));
    rc = node_replica_server_open(c->loop, c->mesh, &serve, &r->server, err);
    if (rc == 0) {
        rc = node_replica_open(c->loop, &transfer, &r->transfer, err);
    }
    if (rc == 0) {
        catalogue_watch(r, true);
    }
    return rc;
}

int cluster_replicas_open(struct cluster *c,
                          const struct cluster_replicas_config *config,
                          struct shl_err *err)
{
    struct cluster_replicas *r = calloc(1, sizeof(*r));

    if (!r) {
        return shl_err_sys(err, ENOMEM, "cannot open the cluster");
    }
    r->c = c;
    r->wanted = config->wanted;
    r->grace_ms = config->grace_ms;
    r->opened_at_ms = cluster_now_ms();
    r->survey_pause_ms = REPLICA_SURVEY_SOON_MS;
    shl_list_init(&r->orders);
    shl_list_init(&r->fetches);
    shl_list_init(&r->brings);
    catalogue_init(r);
    replica_copies_init(r);
    (void)uv_timer_init(c->loop, &r->survey_timer);
    (void)uv_timer_init(c->loop, &r->soon_timer);
    r->survey_timer.data = r->soon_timer.data = r;
    c->replicas = r;
    replica_trim_init(r);
    if (c->is_witness) {
        return 0; /* it holds nothing, but knows who does */
    }
    (void)uv_timer_start(&r->survey_timer, on_survey, 0, 0);
    return open_parts(r, err);
}

/*- Closing. */

static void on_timer_closed(uv_handle_t *handle)
{
    struct cluster_replicas *r = handle->data;

    cluster_close_part(r->c);
}

static void on_transfer_closed(void *arg)
{
    struct cluster_replicas *r = arg;

    r->transfer = NULL;
    r->closed(r->c);
}

void cluster_replicas_close(struct cluster *c, void (*closed)(void *arg))
{
    struct cluster_replicas *r = c->replicas;

    if (!r) {
        closed(c);
        return;
    }
    if (r->store) {
        catalogue_watch(r, false);
    }
    r->is_closing = true;
    r->closed = closed;
    replica_trim_close(r);
    c->handles += 2;
    uv_close((uv_handle_t *)&r->survey_timer, on_timer_closed);
    uv_close((uv_handle_t *)&r->soon_timer, on_timer_closed);
    if (r->transfer) {
        node_replica_close(r->transfer, on_transfer_closed, r);
    } else {
        closed(c);
    }
}

void cluster_replicas_close_server(struct cluster *c, void (*closed)(void *arg))
{
    struct node_replica_server *server = c->replicas ? c->replicas->server : NULL;

    if (server) {
        c->replicas->server = NULL;
        node_replica_server_close(server, closed, c);
    } else {
        closed(c);
    }
}

void cluster_replicas_free(struct cluster *c)
{
    struct cluster_replicas *r = c->replicas;

    if (r) {
        catalogue_release(r);
        replica_copies_release(r);
        ckpt_plan_free(r->plan);
        standby_release(r);
        free(r);
        c->replicas = NULL;
    }
}
