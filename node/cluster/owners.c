#include "node/cluster/owners.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sum.h"
#include "node/cluster/owners_private.h"
#include "node/cluster/replicas.h"

#define LEASE_MARGIN_MS 1500 /* for pausing all that has to be paused */
#define WAIT_MS         8000 /* how long a wake waits for the scheduler */

static void step(struct cluster_owners *set, struct sched_hold_event *event);

/* ---- the set --------------------------------------------------------------------- */

static struct shl_list *bucket(const struct cluster_owners *set, const char *sandbox)
{
    return (struct shl_list *)&set->buckets[shl_hash_text(sandbox) % OWNERS_BUCKETS];
}

struct owned *owned_find(const struct cluster_owners *set, const char *sandbox)
{
    struct shl_list *head = bucket(set, sandbox);
    struct shl_list *it;

    SHL_LIST_FOREACH(it, head) {
        struct owned *o = shl_container_of(it, struct owned, link);

        if (strcmp(o->sandbox, sandbox) == 0) {
            return o;
        }
    }
    return NULL;
}

struct owned *owned_find_or_add(struct cluster_owners *set, const char *sandbox)
{
    struct owned *o = owned_find(set, sandbox);

    if (!o) {
        o = calloc(1, sizeof(*o));
        if (!o) {
            return NULL;
        }
        o->set = set;
        (void)snprintf(o->sandbox, sizeof(o->sandbox), "%s", sandbox);
        shl_list_init(&o->due_link);
        shl_list_init(&o->deletions);
        shl_list_push_back(bucket(set, sandbox), &o->link);
    }
    return o;
}

static void owned_free(struct owned *o)
{
    shl_list_remove(&o->link);
    shl_list_remove(&o->due_link);
    free(o);
}

static void run_soon(struct cluster_owners *set);

void owned_touch(struct owned *o)
{
    if (shl_list_empty(&o->due_link)) {
        shl_list_push_back(&o->set->due, &o->due_link);
    }
    run_soon(o->set);
}

/* ---- answers --------------------------------------------------------------------- */

static void answer_gate(struct owned *o, int code, const char *msg)
{
    node_sandbox_cb cb = o->gate;

    o->gate = NULL;
    o->gate_due = false;
    if (cb) {
        owned_touch(o); /* what the manager makes of it is a fact */
        cb(o->gate_arg, code, msg);
    }
}

static void answer_deletions(struct owned *o, int code, const char *msg)
{
    struct node_order order = cluster_order_of(code, msg);
    struct shl_list *first;

    o->delete_due = false;
    while ((first = shl_list_first(&o->deletions))) {
        struct owner_deletion *deletion = shl_container_of(first, struct owner_deletion, link);

        shl_list_remove(first);
        deletion->cb(deletion->arg, &order);
        free(deletion);
    }
}

/* ---- actions --------------------------------------------------------------------- */

struct ordered {
    struct cluster_owners *set;
    uint64_t token;
};

static void on_ordered(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct ordered *ordered = arg;
    struct shl_err err = {.code = code};
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_OUTCOME};

    (void)snprintf(err.msg, sizeof(err.msg), "%s", msg ? msg : "");
    event.u.outcome.token = ordered->token;
    event.u.outcome.code = code;
    event.u.outcome.err = &err;
    if (result) {
        event.u.outcome.index = result->index;
        event.u.outcome.number = result->number;
    }
    if (code != -ECANCELED) {
        step(ordered->set, &event);
    }
    free(ordered);
}

static void order(struct cluster_owners *set, const struct sched_hold_action *action)
{
    struct sched_command command = {.kind = action->u.order.kind, .u.owner = action->u.order.owner};
    struct ordered *ordered = malloc(sizeof(*ordered));

    if (!ordered) {
        return; /* the core tries again */
    }
    ordered->set = set;
    ordered->token = action->u.order.token;
    if (cluster_propose(set->cluster, &command, on_ordered, ordered, NULL) < 0) {
        free(ordered);
    }
}

static void save(struct owned *o, const struct sched_hold_action *action)
{
    struct cluster *c = o->set->cluster;
    struct owner_record record = o->record;
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_SAVED, .sandbox = o->sandbox};
    struct shl_err err = {0};

    record.epoch = action->u.save.epoch;
    record.claimable = action->u.save.claimable;
    record.is_copy = false;
    if (owner_record_save(o, &record, &err) < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "owner_not_recorded", SHL_S("sandbox", o->sandbox),
                SHL_S("error", err.msg));
        return;
    }
    event.u.saved.epoch = record.epoch;
    event.u.saved.claimable = record.claimable;
    step(o->set, &event);
}

static struct node_sandbox *local(const struct owned *o)
{
    return node_manager_find(o->set->cluster->manager, NULL, o->sandbox);
}

static void on_let_go(void *arg, int code, const char *msg)
{
    struct cluster_job *job = arg;

    if (!job) {
        return;
    }
    if (job->cluster && code < 0) {
        SHL_LOG(&job->cluster->log_sink, SHL_LOG_ERROR, "sandbox_not_let_go", SHL_S("reason", msg));
    }
    cluster_job_end(job);
    free(job);
}

void owners_let_go(struct cluster *c, struct node_sandbox *sandbox, const char *why)
{
    struct cluster_job *job = calloc(1, sizeof(*job)); /* without one it goes all the same */

    if (job) {
        cluster_job_begin(c, job);
    }
    node_sandbox_let_go(c->manager, sandbox, why, on_let_go, job);
}

static void let_go(struct owned *o, const char *why)
{
    struct cluster *c = o->set->cluster;
    struct node_sandbox *sandbox = local(o);

    SHL_LOG(&c->log_sink, SHL_LOG_INFO, "sandbox_let_go", SHL_S("sandbox", o->sandbox),
            SHL_I("epoch", (int64_t)o->record.epoch), SHL_S("why", why));
    answer_gate(o, SHL_EUNAVAILABLE, why);
    if (sandbox) {
        owners_let_go(c, sandbox, why);
    }
}

/* The log allows it; is it still what it should continue from? */
static void allow(struct owned *o)
{
    struct shl_err err = {0};
    int rc = take_confirm(o, &err);

    if (rc == SHL_ECONFLICT) {
        let_go(o, err.msg);
    } else {
        answer_gate(o, rc, err.msg);
    }
}

static void set_paused(struct owned *o, bool paused)
{
    struct cluster *c = o->set->cluster;
    struct node_sandbox *sandbox = local(o);

    if (sandbox) {
        if (paused) {
            SHL_LOG(&c->log_sink, SHL_LOG_WARN, "lease_ends", SHL_S("sandbox", o->sandbox),
                    SHL_S("effect", "it stands still: another node may start it"));
        }
        node_sandbox_set_paused(sandbox, paused);
    }
}

static void set_deadline(struct owned *o, uint64_t at_ms)
{
    struct node_sandbox *sandbox = local(o);

    if (sandbox) {
        node_sandbox_set_deadline(sandbox, at_ms);
    }
}

static void carry_out(struct cluster_owners *set, const struct sched_hold_action *action)
{
    struct owned *o = owned_find(set, action->sandbox);

    if (action->type == SCHED_HOLD_ACT_ORDER) {
        if (!action->u.order.is_orphan) {
            order(set, action);
        } else if (!o && !node_manager_find(set->cluster->manager, NULL, action->sandbox)) {
            SHL_LOG(&set->cluster->log_sink, SHL_LOG_WARN, "orphan_released",
                    SHL_S("sandbox", action->sandbox),
                    SHL_S("why", "the log says that it is on this node, which has nothing of it"));
            order(set, action);
        }
        return;
    }
    if (!o) {
        return;
    }
    switch (action->type) {
    case SCHED_HOLD_ACT_ORDER:
        break;
    case SCHED_HOLD_ACT_SAVE:
        save(o, action);
        break;
    case SCHED_HOLD_ACT_ALLOW:
        allow(o);
        break;
    case SCHED_HOLD_ACT_REFUSE:
        answer_gate(o, action->u.err.code, action->u.err.msg);
        break;
    case SCHED_HOLD_ACT_PAUSE:
    case SCHED_HOLD_ACT_GO_ON:
        set_paused(o, action->type == SCHED_HOLD_ACT_PAUSE);
        break;
    case SCHED_HOLD_ACT_DEADLINE:
        set_deadline(o, action->u.at_ms);
        break;
    case SCHED_HOLD_ACT_LET_GO:
        let_go(o, action->u.err.msg);
        break;
    case SCHED_HOLD_ACT_DELETED:
        answer_deletions(o, action->u.err.code, action->u.err.msg);
        break;
    }
}

/* ---- stepping -------------------------------------------------------------------- */

static void arm(struct cluster_owners *set, uint64_t at_ms);

/* Actions may lead to further events: these step on their own copy, in their turn. */
static void step(struct cluster_owners *set, struct sched_hold_event *event)
{
    struct sched_hold_actions *actions = malloc(sizeof(*actions));
    uint64_t wake_at_ms = 0;
    uint32_t i;
    int rc;

    if (!actions) {
        run_soon(set);
        return;
    }
    do {
        event->now_ms = cluster_now_ms();
        rc = sched_hold_step(set->hold, event, actions);
        wake_at_ms = rc < 0 ? event->now_ms + CLUSTER_TICK_MS : actions->wake_at_ms;
        for (i = 0; rc == 0 && i < actions->count; i++) {
            carry_out(set, &actions->items[i]);
        }
        if (rc < 0 && rc != SHL_ENOTFOUND) {
            SHL_LOG(&set->cluster->log_sink, SHL_LOG_WARN, "ownership", SHL_I("event", event->type),
                    SHL_S("sandbox", event->sandbox), SHL_S("error", shl_err_text(rc)));
        }
        event->type = SCHED_HOLD_EV_TICK;
    } while (rc == 0 && actions->more);
    free(actions);
    arm(set, wake_at_ms);
}

/* ---- facts ----------------------------------------------------------------------- */

static uint8_t phase_of(const struct owned *o, const struct node_sandbox *sandbox)
{
    if (o->gate || sandbox->state == NODE_SANDBOX_WAKING) {
        return SCHED_HOLD_STARTING;
    }
    return sandbox->state == NODE_SANDBOX_HIBERNATED ? SCHED_HOLD_HIBERNATED : SCHED_HOLD_RUNNING;
}

/* Is it hibernated, and that very state on another node, too? Does it run, and could it be
 * gone on with elsewhere? */
static bool is_elsewhere(struct cluster *c, struct node_sandbox *sandbox)
{
    const struct sched_checkpoint *kept;
    struct cluster_durable durable;
    const char *artefact;

    if (sandbox->state != NODE_SANDBOX_HIBERNATED &&
        sandbox->spec.on_node_loss == NODE_ON_LOSS_RESTORE) {
        return cluster_sandbox_saved(c, sandbox->id, 2) != NULL;
    }
    if (sandbox->state != NODE_SANDBOX_HIBERNATED) {
        kept = cluster_sandbox_kept(c, sandbox->id);
        return kept && cluster_artefact_durable(c, kept->id, &durable) && durable.alive > 1;
    }
    artefact = node_sandbox_artefact(sandbox);
    return artefact && cluster_artefact_durable(c, artefact, &durable) && durable.alive > 1;
}

/* Of one that ran on while this daemon did not, its VMM says until when: that is waited for,
 * which is a moment, unless somebody waits for this sandbox. False: not told yet, the
 * manager tells when it is known. */
static bool tell_facts(struct owned *o, struct node_sandbox *sandbox)
{
    struct sched_hold_facts facts = {
        .phase = phase_of(o, sandbox),
        .restore = sandbox->spec.on_node_loss == NODE_ON_LOSS_RESTORE,
        .elsewhere = is_elsewhere(o->set->cluster, sandbox),
        .copy = o->record.is_copy,
        .epoch = o->record.epoch,
        .claimable = o->record.claimable,
    };
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_FACTS, .sandbox = o->sandbox};

    if (!node_sandbox_deadline(sandbox, &facts.deadline_ms) && !o->is_known && !o->delete_due) {
        return false;
    }
    (void)snprintf(facts.sandbox, sizeof(facts.sandbox), "%s", o->sandbox);
    (void)snprintf(facts.org, sizeof(facts.org), "%s", sandbox->spec.org);
    event.u.facts.facts = &facts;
    event.u.facts.state = o->set->cluster->state;
    o->is_known = true;
    step(o->set, &event);
    return true;
}

/* What the log still gives to this node, after a claim that it could not use, is released. */
static void tell_gone(struct owned *o)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_GONE, .sandbox = o->sandbox};
    struct cluster *c = o->set->cluster;
    char sandbox[NODE_SANDBOX_ID_SIZE];

    (void)snprintf(sandbox, sizeof(sandbox), "%s", o->sandbox);
    answer_gate(o, SHL_EGONE, "the sandbox has ended");
    answer_deletions(o, 0, "");
    if (o->is_known) {
        step(o->set, &event);
    }
    owner_record_drop(o);
    owned_free(o);
    cluster_owners_applied(c, sandbox);
}

static void look_at(struct owned *o)
{
    struct sched_hold_event event = {.sandbox = o->sandbox};
    struct node_sandbox *sandbox = local(o);

    if (!sandbox && o->is_importing) {
        return;
    }
    if (!sandbox || o->is_ended) {
        tell_gone(o);
        return;
    }
    if (!tell_facts(o, sandbox)) {
        return;
    }
    if (o->gate && o->gate_due && !o->is_moving) {
        o->gate_due = false;
        event.type = SCHED_HOLD_EV_WAKE;
        step(o->set, &event);
    }
    if (o->delete_due) {
        o->delete_due = false;
        event.type = SCHED_HOLD_EV_DELETE;
        step(o->set, &event);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct cluster_owners *set = timer->data;
    struct sched_hold_event tick = {.type = SCHED_HOLD_EV_TICK};
    struct shl_list *first;

    while ((first = shl_list_first(&set->due))) {
        struct owned *o = shl_container_of(first, struct owned, due_link);

        shl_list_remove(first);
        look_at(o);
    }
    step(set, &tick);
}

static void arm(struct cluster_owners *set, uint64_t at_ms)
{
    uint64_t now_ms = cluster_now_ms();

    if (!set->cluster->is_closing && shl_list_empty(&set->due) && at_ms != UINT64_MAX) {
        (void)uv_timer_start(&set->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
    }
}

static void run_soon(struct cluster_owners *set)
{
    if (!set->cluster->is_closing) {
        (void)uv_timer_start(&set->timer, on_timer, 0, 0);
    }
}

/* ---- copies that nobody needs ------------------------------------------------------ */

/* Taken while its node was missing, which is back and has never let go of it: a copy that no claim
 * will ever be granted for, and that would answer in the place of the sandbox. */
static bool is_idle_copy(const struct owned *o)
{
    struct cluster *c = o->set->cluster;
    const struct sched_owner *row = sched_state_owner(c->state, o->sandbox);
    const struct node_sandbox *sandbox = local(o);

    return o->record.is_copy && !o->is_importing && !o->is_moving && sandbox &&
           sandbox->state == NODE_SANDBOX_HIBERNATED && row && !row->released &&
           !shl_node_id_equal(&row->owner, &c->keys.id) && cluster_members_is_alive(c, &row->owner);
}

void cluster_owners_survey(struct cluster *c)
{
    size_t i;

    for (i = 0; c->owners && c->state && !c->is_closing && i < OWNERS_BUCKETS; i++) {
        struct shl_list *it, *next;

        SHL_LIST_FOREACH_SAFE(it, next, &c->owners->buckets[i]) {
            struct owned *o = shl_container_of(it, struct owned, link);

            if (is_idle_copy(o)) {
                let_go(o, "the node that has it is back");
            }
        }
    }
}

/* ---- events ----------------------------------------------------------------------- */

void cluster_owners_sandbox(struct cluster *c, const struct node_sandbox *sandbox, bool is_gone)
{
    struct owned *o = c->owners ? owned_find_or_add(c->owners, sandbox->id) : NULL;

    if (o) {
        o->is_ended = is_gone || sandbox->state == NODE_SANDBOX_STOPPED ||
                      sandbox->state == NODE_SANDBOX_ERROR;
        owned_touch(o);
    }
}

void cluster_owners_applied(struct cluster *c, const char *sandbox)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_ROW, .sandbox = sandbox};

    if (c->owners && !c->is_closing) {
        event.u.row = c->state;
        step(c->owners, &event);
    }
}

static void on_replicated(void *arg, const char *artefact, const char *sandbox)
{
    struct cluster *c = arg;
    struct owned *o;
    size_t i;

    if (artefact || sandbox) {
        o = sandbox ? owned_find(c->owners, sandbox) : NULL;
        if (o) {
            owned_touch(o);
        }
        if (o || !sandbox || sandbox[0]) {
            return;
        }
    }
    for (i = 0; i < OWNERS_BUCKETS; i++) { /* a base: of many */
        struct shl_list *it;

        SHL_LIST_FOREACH(it, &c->owners->buckets[i]) {
            owned_touch(shl_container_of(it, struct owned, link));
        }
    }
}

void cluster_owners_leased(struct cluster *c)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_LEASE};
    struct sched_hold_status status;

    if (c->owners && !c->is_closing) {
        sched_hold_status(c->owners->hold, &status);
        event.u.lease_until_ms = c->lease.valid_until_ms;
        step(c->owners, &event);
        if (!status.caught_up) {
            cluster_owners_applied(c, NULL);
        }
    }
}

static void gate(void *arg, struct node_sandbox *sandbox, node_sandbox_cb cb, void *cb_arg)
{
    struct cluster *c = arg;
    struct owned *o = owned_find_or_add(c->owners, sandbox->id);

    if (!o) {
        cb(cb_arg, -ENOMEM, "there is not enough memory to wake a sandbox");
    } else if (o->gate) {
        cb(cb_arg, SHL_EUNAVAILABLE, "the sandbox is being woken, try again");
    } else {
        o->gate = cb;
        o->gate_arg = cb_arg;
        o->gate_due = true;
        owned_touch(o);
    }
}

int cluster_owners_drop(struct cluster *c,
                        const char *sandbox,
                        struct node_order *ret,
                        node_order_cb cb,
                        void *arg)
{
    struct owned *o = owned_find(c->owners, sandbox);
    struct owner_deletion *deletion;

    if (!o || (!o->has_record && o->is_known)) {
        *ret = cluster_order_of(0, "");
        return 1;
    }
    deletion = calloc(1, sizeof(*deletion));
    if (!deletion) {
        *ret = cluster_order_of(-ENOMEM, "");
        return 1;
    }
    deletion->cb = cb;
    deletion->arg = arg;
    o->delete_due = o->delete_due || shl_list_empty(&o->deletions);
    shl_list_push_back(&o->deletions, &deletion->link);
    owned_touch(o);
    return 0;
}

/* ---- life ------------------------------------------------------------------------- */

int cluster_owners_open(struct cluster *c, struct shl_err *err)
{
    struct cluster_owners *set = calloc(1, sizeof(*set));
    struct sched_hold_config config;
    size_t i;
    int rc;

    if (!set) {
        return shl_err_sys(err, ENOMEM, "cannot open the cluster");
    }
    set->cluster = c;
    c->owners = set;
    shl_list_init(&set->due);
    for (i = 0; i < OWNERS_BUCKETS; i++) {
        shl_list_init(&set->buckets[i]);
    }
    (void)uv_timer_init(c->loop, &set->timer);
    set->timer.data = set;
    sched_hold_config_defaults(&config);
    config.self = c->keys.id;
    config.margin_ms = LEASE_MARGIN_MS;
    config.wait_ms = cluster_patience_ms(c, WAIT_MS);
    rc = sched_hold_new(&config, &set->hold);
    rc = rc < 0 ? shl_err_set(err, rc, "cannot open the cluster") : owner_records_load(set, err);
    if (rc == 0) {
        node_manager_set_gate(c->manager, gate, c);
        cluster_replicas_on_change(c, on_replicated, c);
    }
    return rc;
}

static void on_closed(uv_handle_t *handle)
{
    struct cluster_owners *set = handle->data;

    cluster_close_part(set->cluster);
}

void cluster_owners_close(struct cluster *c)
{
    size_t i;

    if (!c->owners) {
        return;
    }
    node_manager_set_gate(c->manager, NULL, NULL);
    cluster_replicas_on_change(c, NULL, NULL);
    for (i = 0; i < OWNERS_BUCKETS; i++) {
        struct shl_list *it, *next;

        SHL_LIST_FOREACH_SAFE(it, next, &c->owners->buckets[i]) {
            struct owned *o = shl_container_of(it, struct owned, link);

            answer_gate(o, SHL_EUNAVAILABLE, "the node daemon is being stopped");
            answer_deletions(o, -ECANCELED, "the node daemon is being stopped");
        }
    }
    c->handles++;
    uv_close((uv_handle_t *)&c->owners->timer, on_closed);
}

void cluster_owners_free(struct cluster *c)
{
    size_t i;

    for (i = 0; c->owners && i < OWNERS_BUCKETS; i++) {
        struct shl_list *it, *next;

        SHL_LIST_FOREACH_SAFE(it, next, &c->owners->buckets[i]) {
            owned_free(shl_container_of(it, struct owned, link));
        }
    }
    if (c->owners) {
        sched_hold_free(c->owners->hold);
    }
    free(c->owners);
    c->owners = NULL;
}
