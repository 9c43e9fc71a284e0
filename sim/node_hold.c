/* The holding core on a simulated node. No decision about ownership is made here. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/claim.h"
#include "scheduler/mutate.h"
#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/route_task.h"
#include "sim/world.h"

#define DEPTH_MAX 16
#define PUSH_MS   300
#define FETCH_MS  300

/*- VMs. */

struct sim_vm *sim_vm_find(const struct sim_node *node, uint64_t id)
{
    for (uint32_t i = 0; i < node->vm_count; i++) {
        if (node->vms[i].id == id && node->vms[i].alive) {
            return &node->vms[i];
        }
    }
    return NULL;
}

bool sim_vm_executes(const struct sim_node *node, const struct sim_vm *vm)
{
    return vm->alive && !vm->paused &&
           (vm->deadline_ms == 0 ||
            sim_clock_mono_ms(&node->clock, node->world->now_us) < vm->deadline_ms);
}

static struct sim_vm *vm_new(struct sim_node *node, uint64_t id)
{
    uint32_t i = 0;

    while (i < node->vm_count && node->vms[i].alive) {
        i++;
    }
    if (i == node->vm_count) {
        if (node->vm_count == node->vm_cap) {
            node->vm_cap = node->vm_cap ? node->vm_cap * 2 : 16;
            assert(node->vm_cap <= SIM_VMS_MAX);
            node->vms = realloc(node->vms, node->vm_cap * sizeof(*node->vms));
            assert(node->vms);
        }
        node->vm_count++;
    }
    node->vms[i] = (struct sim_vm){.id = id, .alive = true};
    return &node->vms[i];
}

void sim_vm_kill(struct sim_node *node, uint64_t id)
{
    struct sim_vm *vm = sim_vm_find(node, id);

    if (vm) {
        vm->alive = false;
    }
}

/*- Steps. */

static void act(struct sim_node *node, const struct sched_hold_action *a);

static int step(struct sim_node *node, struct sched_hold_event *event)
{
    struct sched_hold_actions *actions = NULL;
    int rc = 0;

    if (!node->hold || node->dying) {
        return SHL_EUNAVAILABLE;
    }
    assert(node->hold_depth < DEPTH_MAX);
    if (!node->hold_actions[node->hold_depth]) {
        node->hold_actions[node->hold_depth] = malloc(sizeof(*actions));
        assert(node->hold_actions[node->hold_depth]);
    }
    actions = node->hold_actions[node->hold_depth++];
    event->now_ms = sim_node_now_ms(node);
    do {
        int one = sched_hold_step(node->hold, event, actions);

        rc = rc ? rc : one;
        node->hold_wake_ms = actions->wake_at_ms;
        for (uint32_t i = 0; i < actions->count && !node->dying; i++) {
            act(node, &actions->items[i]);
        }
        event->type = SCHED_HOLD_EV_TICK;
    } while (actions->more && !node->dying);
    node->hold_depth--;
    return rc;
}

static void tell_facts(struct sim_node *node, const struct sim_sandbox *sandbox)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_FACTS};
    struct sched_hold_facts facts = {.restore = sandbox->restore,
                                     .elsewhere = sandbox->elsewhere,
                                     .copy = sandbox->copy,
                                     .epoch = sandbox->epoch,
                                     .claimable = sandbox->claimable};
    const struct sim_vm *vm = sim_vm_find(node, sandbox->id);

    sim_sandbox_text(facts.sandbox, sandbox->id);
    snprintf(facts.org, sizeof(facts.org), ORG);
    facts.phase = vm                  ? SCHED_HOLD_RUNNING
                  : sandbox->starting ? SCHED_HOLD_STARTING
                                      : SCHED_HOLD_HIBERNATED;
    facts.deadline_ms = vm ? vm->deadline_ms : 0;
    event.u.facts.facts = &facts;
    event.u.facts.state = node->state;
    if (step(node, &event) < 0 && !node->dying && node->hold) {
        sim_check_fail(node->world, 26, "n%u: facts are refused", node->index);
    }
}

static void named(struct sim_node *node, uint64_t id, enum sched_hold_event_type type)
{
    struct sched_hold_event event = {.type = type};
    char text[SCHED_ID_SIZE];

    sim_sandbox_text(text, id);
    event.sandbox = text;
    (void)step(node, &event);
}

void sim_hold_row(struct sim_node *node, const char *sandbox)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_ROW, .sandbox = sandbox};

    event.u.row = node->state;
    (void)step(node, &event);
}

void sim_hold_lease(struct sim_node *node)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_LEASE};
    struct sched_hold_status status;

    sched_hold_status(node->hold, &status);
    event.u.lease_until_ms = node->lease.valid_until_ms;
    (void)step(node, &event);
    if (!status.caught_up) {
        sim_hold_row(node, NULL);
    }
}

void sim_hold_outcome(struct sim_node *node,
                      uint64_t token,
                      int code,
                      const struct sim_outcome *outcome)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_OUTCOME};

    event.u.outcome.token = token;
    event.u.outcome.code = code == SIM_CODE_UNKNOWN ? SHL_EUNAVAILABLE : code;
    event.u.outcome.index = outcome->index;
    event.u.outcome.number = outcome->number;
    (void)step(node, &event);
}

/*- Answers that wait. */

static void answer(struct sim_node *node, struct sim_waiter *waiter, int code)
{
    struct sim_waiter old = *waiter;

    waiter->there = false;
    if (old.there) {
        sim_route_reply(node, old.peer, old.req, code, node->index + 1, NULL,
                        (struct shl_bytes){0});
    }
}

static void wait_for(struct sim_node *node, struct sim_waiter *waiter, uint32_t peer, uint64_t req)
{
    answer(node, waiter, SHL_EUNAVAILABLE);
    *waiter = (struct sim_waiter){.there = true, .peer = peer, .req = req};
}

/*- Actions. */

static void run_vm(struct sim_node *node, struct sim_sandbox *sandbox)
{
    struct sim_vm *vm = sim_vm_find(node, sandbox->id);

    if (!vm) {
        vm = vm_new(node, sandbox->id);
        vm->count = sandbox->count;
        vm->deadline_ms = sandbox->deadline_ms;
        sim_check_vm_from(node, sandbox->id, vm->count);
    }
    sandbox->starting = false;
    sandbox->status = SIM_SANDBOX_RUNNING;
    sandbox->elsewhere = sandbox->epoch > 0; /* the image that it was started from */
    sandbox->autosave_ms = sim_node_now_ms(node) + node->world->tuning.autosave_ms;
    SIM_TRACE(node->world, node->index, "runs sandbox %llx from %llu, epoch %llu, deadline %llu",
              (unsigned long long)sandbox->id, (unsigned long long)vm->count,
              (unsigned long long)sandbox->epoch, (unsigned long long)vm->deadline_ms);
    sim_check_vm(node, vm);
    tell_facts(node, sandbox);
}

void sim_hold_start(struct sim_node *node, struct sim_sandbox *sandbox)
{
    if (sandbox->status == SIM_SANDBOX_RUNNING && !sim_vm_find(node, sandbox->id)) {
        sandbox->deadline_ms = 0;
        run_vm(node, sandbox);
    }
}

static void let_go(struct sim_node *node, struct sim_sandbox *sandbox, int code)
{
    SIM_TRACE(node->world, node->index, "lets go of %llx: %s", (unsigned long long)sandbox->id,
              shl_err_name(code));
    sim_vm_kill(node, sandbox->id);
    named(node, sandbox->id, SCHED_HOLD_EV_GONE);
    sandbox->starting = false;
    sandbox->saving = false;
    sandbox->listing = false;
    if (sandbox->status != SIM_SANDBOX_DELETED && sandbox->status != SIM_SANDBOX_MOVED) {
        node->committed_mb -= sandbox->memory_mb;
        sandbox->status = code == SHL_EGONE ? SIM_SANDBOX_DELETED : SIM_SANDBOX_MOVED;
        sim_sandbox_put(node, sandbox);
    }
    if (sim_node_sync(node, (struct sim_sync){.kind = SIM_SYNC_OTHER})) {
        sim_gossip_publish_sandbox(node, sandbox);
    }
}

static void save_now(struct sim_node *node, struct sim_sandbox *sandbox)
{
    bool was_copy = sandbox->copy;

    sandbox->saving = false;
    sandbox->epoch = sandbox->saving_epoch;
    sandbox->claimable = sandbox->saving_claimable;
    sandbox->copy = false;
    sim_sandbox_put(node, sandbox);
    (void)sim_node_sync(node, (struct sim_sync){.kind = SIM_SYNC_SAVE,
                                                .a = sandbox->id,
                                                .req = sandbox->epoch,
                                                .peer = sandbox->claimable});
    if (was_copy) {
        sim_gossip_publish_sandbox(node, sandbox);
    }
}

static bool is_newer(const struct sim_point_id *point, uint64_t epoch, uint64_t count)
{
    return point->epoch > epoch || (point->epoch == epoch && point->count > count);
}

/* A copy is saved once it is the newest: by now nobody adds to what there is. */
static void try_save(struct sim_node *node, struct sim_sandbox *sandbox)
{
    const struct sim_manifest *own = sim_store_newest(node, sandbox->id);
    struct sim_point point;

    if (!sandbox->copy) {
        save_now(node, sandbox);
        return;
    }
    if (own && is_newer(&own->point, sandbox->count_epoch, sandbox->count)) {
        sandbox->count_epoch = own->point.epoch;
        sandbox->count = own->point.count;
    }
    if (!(node->world->mutate.sim & SIM_MUT_COPY_OLD) && sim_copy_awaited(node, sandbox, &point)) {
        sandbox->fetch_ms = sim_node_now_ms(node) + FETCH_MS;
        (void)sim_copy_fetch(node, &point);
        return;
    }
    save_now(node, sandbox);
}

static void send_order(struct sim_node *node, const struct sched_hold_action *a)
{
    struct sim_task *task = sim_route_task_new(node, SIM_TASK_ORDER, 1000);
    struct sched_command command = {.kind = a->u.order.kind};

    if (!task) {
        return; /* it is sent again */
    }
    command.u.owner = a->u.order.owner;
    if (node->world->mutate.sched & SCHED_MUT_CLAIM_BELIEVED) {
        command.u.owner.lapsed = true; /* as a node that means well would say */
    }
    task->sandbox = sim_sandbox_parse(a->sandbox);
    task->lease_seq = a->u.order.token;
    sim_task_encode(task, &command);
    sim_task_ask_leader(node, task);
}

static void set_paused(struct sim_node *node, struct sim_vm *vm, bool paused)
{
    if (vm) {
        vm->paused = paused;
        sim_check_vm(node, vm);
    }
}

static bool may_lapse(const struct sim_node *node, const struct sim_sandbox *sandbox)
{
    const struct sched_owner *row = NULL;
    char text[SCHED_ID_SIZE];

    sim_sandbox_text(text, sandbox->id);
    row = sched_state_owner(node->state, text);
    return row && row->claimable;
}

static void act(struct sim_node *node, const struct sched_hold_action *a)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, sim_sandbox_parse(a->sandbox));
    struct sim_vm *vm = NULL;

    if (a->type == SCHED_HOLD_ACT_ORDER && a->u.order.is_orphan) {
        if (!sandbox && !sim_vm_find(node, sim_sandbox_parse(a->sandbox))) {
            SIM_TRACE(node->world, node->index, "releases the orphan %s", a->sandbox);
            send_order(node, a);
        }
        return;
    }
    if (!sandbox) {
        return;
    }
    vm = sim_vm_find(node, sandbox->id);
    switch (a->type) {
    case SCHED_HOLD_ACT_ORDER:
        send_order(node, a);
        break;
    case SCHED_HOLD_ACT_SAVE:
        sandbox->saving = true;
        sandbox->saving_epoch = a->u.save.epoch;
        sandbox->saving_claimable = a->u.save.claimable;
        try_save(node, sandbox);
        break;
    case SCHED_HOLD_ACT_ALLOW:
        run_vm(node, sandbox);
        answer(node, &sandbox->wake, 0);
        break;
    case SCHED_HOLD_ACT_REFUSE:
        SIM_TRACE(node->world, node->index, "does not wake: %s", a->u.err.msg);
        sandbox->starting = false;
        /* Its owner may have a lease: that ends, if nothing else does. */
        answer(node, &sandbox->wake,
               a->u.err.code == SHL_EBADSTATE && may_lapse(node, sandbox) ? SHL_EUNAVAILABLE
                                                                          : a->u.err.code);
        break;
    case SCHED_HOLD_ACT_PAUSE:
        SIM_TRACE(node->world, node->index, "pauses %s", a->sandbox);
        node->world->check.pauses++;
        set_paused(node, vm, true);
        break;
    case SCHED_HOLD_ACT_GO_ON:
        set_paused(node, vm, false);
        break;
    case SCHED_HOLD_ACT_DEADLINE:
        sandbox->deadline_ms = a->u.at_ms;
        if (vm) { /* one that has stopped by itself needs to be let go on */
            vm->paused = vm->paused || !sim_vm_executes(node, vm);
            vm->deadline_ms = a->u.at_ms;
        }
        break;
    case SCHED_HOLD_ACT_LET_GO:
        let_go(node, sandbox, a->u.err.code);
        break;
    case SCHED_HOLD_ACT_DELETED:
        if (a->u.err.code == 0) {
            sim_vm_kill(node, sandbox->id);
            sim_sandbox_kill(node, sandbox->id, sandbox->kill.peer, sandbox->kill.req);
            sandbox->kill.there = false;
        }
        answer(node, &sandbox->kill, a->u.err.code);
        break;
    }
}

/*- Life of the process. */

void sim_hold_boot(struct sim_node *node)
{
    struct sched_hold_config config;

    sched_hold_config_defaults(&config);
    config.self = node->id;
    config.margin_ms = node->world->tuning.lease_ms / 10;
    config.wait_ms = 2000;
    config.retry_ms = 200;
    config.mutations = node->world->mutate.sched;
    if (sched_hold_new(&config, &node->hold) < 0) {
        abort();
    }
    node->hold_wake_ms = 0;
}

void sim_hold_shut(struct sim_node *node)
{
    sched_hold_free(node->hold);
    node->hold = NULL;
    node->hold_wake_ms = UINT64_MAX;
    node->hold_depth = 0;
}

void sim_hold_release(struct sim_node *node)
{
    for (uint32_t i = 0; i < DEPTH_MAX; i++) {
        free(node->hold_actions[i]);
    }
    free(node->vms);
}

void sim_hold_power_cut(struct sim_node *node)
{
    node->vm_count = 0;
}

static void wake(struct sim_node *node, struct sim_sandbox *sandbox)
{
    sandbox->starting = true;
    sandbox->deadline_ms = 0;
    named(node, sandbox->id, SCHED_HOLD_EV_WAKE);
}

/* VMs are adopted; what ran when the power went is woken from its last point. */
void sim_hold_begin(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->sandbox_count; i++) {
        struct sim_sandbox *sandbox = &node->sandboxes[i];
        const struct sim_vm *vm = sim_vm_find(node, sandbox->id);
        bool ran = sandbox->status == SIM_SANDBOX_RUNNING;

        if (!ran && sandbox->status != SIM_SANDBOX_HIBERNATED) {
            sim_vm_kill(node, sandbox->id);
            continue;
        }
        sandbox->status = vm ? SIM_SANDBOX_RUNNING : SIM_SANDBOX_HIBERNATED;
        sandbox->elsewhere = vm && sandbox->epoch > 0;
        sandbox->autosave_ms = sim_node_now_ms(node) + node->world->tuning.autosave_ms;
        tell_facts(node, sandbox);
        if (ran && !vm && sandbox->status == SIM_SANDBOX_HIBERNATED) {
            wake(node, sandbox);
        }
    }
    /* A VM of a record that never became durable. */
    for (uint32_t i = 0; i < node->vm_count; i++) {
        if (node->vms[i].alive && !sim_sandbox_find(node, node->vms[i].id)) {
            node->vms[i].alive = false;
        }
    }
}

static void point_durable(struct sim_node *node, struct sim_sandbox *sandbox, uint64_t count)
{
    struct sim_store *store = &node->store;

    for (uint32_t i = 0; i < store->manifest_count; i++) {
        struct sim_manifest *m = &store->manifests[i];

        m->durable = m->durable || (m->point.sandbox == sandbox->id && m->point.count == count);
    }
    if (sandbox->count == count && !sandbox->copy) {
        sandbox->listing = true;
        sim_copy_list(node, sandbox);
    }
}

void sim_hold_synced(struct sim_node *node, const struct sim_sync *sync)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, sync->a);

    if (!sandbox) {
        return;
    }
    if (sync->kind == SIM_SYNC_SAVE) {
        struct sched_hold_event event = {.type = SCHED_HOLD_EV_SAVED};
        char text[SCHED_ID_SIZE];

        sim_sandbox_text(text, sandbox->id);
        event.sandbox = text;
        event.u.saved.epoch = sync->req;
        event.u.saved.claimable = sync->peer != 0;
        (void)step(node, &event);
        return;
    }
    point_durable(node, sandbox, sync->req);
}

/*- What users ask for. */

void sim_hold_fetched(struct sim_node *node, const struct sim_point_id *fetched, int code)
{
    uint64_t id = fetched->sandbox;
    struct sim_sandbox *sandbox = sim_sandbox_find(node, id);
    const struct sim_manifest *copy = sim_store_newest(node, id);
    struct sim_point point, newest;
    char text[SCHED_ID_SIZE];
    struct sched_claim claim;

    if (sandbox && sandbox->saving && sandbox->copy) {
        if (code == 0) {
            try_save(node, sandbox);
        }
        return;
    }
    if (!sandbox || sandbox->status != SIM_SANDBOX_MOVED) {
        return;
    }
    if (code == SHL_ENOTFOUND) {
        sandbox->vain = *fetched;
        code = SHL_EUNAVAILABLE;
    }
    sim_copy_choose(node, id, sandbox->vain.sandbox ? &sandbox->vain : NULL, &point, &newest);
    if (code < 0 && point.there && sim_point_compare(&point.id, fetched) < 0) {
        if (copy && !is_newer(&point.id, copy->point.epoch, copy->point.count)) {
            code = 0;
        } else if (sim_copy_fetch(node, &point)) {
            return;
        }
    } else if (code < 0 && point.there && sandbox->fetch_tries++ < 1 &&
               sim_copy_fetch(node, &point)) {
        return;
    }
    sim_sandbox_text(text, id);
    sched_claim_judge(node->state, node->ready ? &node->leases : NULL, text, &node->id,
                      sim_node_now_ms(node), &claim);
    if (code < 0 || !copy || claim.verdict == SCHED_CLAIM_NEVER ||
        (point.there && is_newer(&point.id, copy->point.epoch, copy->point.count))) {
        answer(node, &sandbox->wake, code < 0 ? code : SHL_EUNAVAILABLE);
        return;
    }
    sandbox->skip_epoch = newest.id.epoch;
    sandbox->skip_count = newest.id.count;
    sandbox->status = SIM_SANDBOX_HIBERNATED;
    sandbox->copy = true;
    sandbox->stored = true;
    sandbox->epoch = claim.command.epoch;
    sandbox->claimable = false;
    sandbox->count_epoch = copy->point.epoch;
    sandbox->count = copy->point.count;
    sandbox->restore = copy->restore;
    sandbox->elsewhere = true;
    sandbox->memory_mb = 0; /* what was planned for it is gone with the old owner */
    sim_sandbox_put(node, sandbox);
    (void)sim_node_sync(node, (struct sim_sync){.kind = SIM_SYNC_OTHER});
    tell_facts(node, sandbox);
    if (sandbox->status == SIM_SANDBOX_HIBERNATED && sandbox->copy) {
        wake(node, sandbox);
    }
}

static int begin_import(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, id);
    const struct sim_manifest *own = sim_store_newest(node, id);
    struct sim_point point, newest;
    char text[SCHED_ID_SIZE];
    struct sched_claim claim;

    sim_sandbox_text(text, id);
    sched_claim_judge(node->state, node->ready ? &node->leases : NULL, text, &node->id,
                      sim_node_now_ms(node), &claim);
    if (claim.verdict == SCHED_CLAIM_NEVER) {
        return claim.err.code;
    }
    sim_copy_choose(node, id, NULL, &point, &newest);
    if (!point.there) {
        return SHL_ENOTFOUND;
    }
    if (!sandbox) {
        struct sim_sandbox fresh = {.id = id, .status = SIM_SANDBOX_MOVED};

        sandbox = sim_sandbox_add(node, &fresh);
        if (!sandbox) {
            return SHL_ENOCAPACITY;
        }
    }
    wait_for(node, &sandbox->wake, peer, req);
    sandbox->fetch_tries = 0;
    sandbox->vain = (struct sim_point_id){0};
    if (own && !is_newer(&point.id, own->point.epoch, own->point.count)) {
        sim_hold_fetched(node, &point.id, 0);
    } else if (!sim_copy_fetch(node, &point)) {
        answer(node, &sandbox->wake, SHL_EUNAVAILABLE);
    }
    return 0;
}

void sim_hold_wake(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, id);
    const struct sim_vm *vm = sim_vm_find(node, id);
    int code = SHL_EUNAVAILABLE;

    if (sandbox && sandbox->status == SIM_SANDBOX_DELETED) {
        code = SHL_EGONE;
    } else if (sandbox && sandbox->status == SIM_SANDBOX_RUNNING && sandbox->stored) {
        code = vm && sim_vm_executes(node, vm) ? 0 : SHL_EUNAVAILABLE;
    } else if (sandbox && sandbox->status == SIM_SANDBOX_HIBERNATED && !sandbox->starting) {
        wait_for(node, &sandbox->wake, peer, req);
        wake(node, sandbox);
        return;
    } else if (!sandbox || sandbox->status == SIM_SANDBOX_MOVED) {
        code = begin_import(node, id, peer, req);
        if (code == 0) {
            return;
        }
    }
    sim_route_reply(node, peer, req, code, node->index + 1, NULL, (struct shl_bytes){0});
}

static void put_point(struct sim_node *node, const struct sim_sandbox *sandbox)
{
    const struct sim_manifest m = {.point = {sandbox->id, sandbox->count_epoch, sandbox->count},
                                   .memory_mb = sandbox->memory_mb,
                                   .restore = sandbox->restore};
    const struct sim_manifest *kept = sim_store_put_manifest(node, &m);

    sim_store_put_chunks(node, kept);
    sim_check_published(node, kept);
    sim_fetch_present(node, kept);
}

/* A durable point of what runs; @ends: and the VM ends with it. */
static void make_point(struct sim_node *node,
                       struct sim_sandbox *sandbox,
                       struct sim_vm *vm,
                       bool ends)
{
    vm->count++;
    sandbox->count = vm->count;
    sandbox->count_epoch = SHL_MAX(sandbox->epoch, 1);
    put_point(node, sandbox);
    if (ends) {
        vm->alive = false;
        sandbox->status = SIM_SANDBOX_HIBERNATED;
        sandbox->elsewhere = false;
    }
    sim_sandbox_put(node, sandbox);
    (void)sim_node_sync(
        node, (struct sim_sync){.kind = SIM_SYNC_POINT, .a = sandbox->id, .req = sandbox->count});
    if (ends) {
        sandbox->push_ms = sim_node_now_ms(node) + PUSH_MS;
        tell_facts(node, sandbox);
    }
}

void sim_hold_hibernate(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, id);
    struct sim_vm *vm = sim_vm_find(node, id);
    int code = SHL_EUNAVAILABLE;

    if (sandbox && sandbox->status == SIM_SANDBOX_HIBERNATED && !sandbox->copy) {
        code = 0;
    } else if (vm && sim_vm_executes(node, vm) && !sandbox->kill.there) {
        make_point(node, sandbox, vm, true);
        code = 0;
    }
    sim_route_reply(node, peer, req, code, node->index + 1, NULL, (struct shl_bytes){0});
}

void sim_hold_delete(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, id);

    if (sandbox->kill.there) {
        sim_route_reply(node, peer, req, SHL_EUNAVAILABLE, 0, NULL, (struct shl_bytes){0});
        return;
    }
    wait_for(node, &sandbox->kill, peer, req);
    named(node, id, SCHED_HOLD_EV_DELETE);
}

/* As many nodes have the newest point as are wanted; of an older one the row may be on its way out.
 * That is promised only when the log still says that this node owns it. */
static void promise(struct sim_node *node, struct sim_sandbox *sandbox)
{
    struct sim_point newest;
    struct sim_point_id point;
    const struct sched_checkpoint *saved = NULL;
    const struct sched_owner *row = NULL;
    char text[SCHED_ID_SIZE];

    if (!sandbox->listing) {
        return;
    }
    sim_copy_newest(node->state, sandbox->id, &newest);
    point = newest.id;
    if (!newest.there || !is_newer(&point, sandbox->told_epoch, sandbox->told_count)) {
        return;
    }
    saved = sim_copy_row(node->state, &point);
    if (saved->wanted < 2 || saved->holder_count < saved->wanted) {
        return;
    }
    sandbox->told_epoch = point.epoch;
    sandbox->told_count = point.count;
    sandbox->listing = point.epoch != sandbox->count_epoch || point.count != sandbox->count;
    sim_sandbox_text(text, sandbox->id);
    row = sched_state_owner(node->state, text);
    if (sched_state_tombstone(node->state, SCHED_TOMBSTONE_SANDBOX, text) || sandbox->copy ||
        (sandbox->status != SIM_SANDBOX_RUNNING && sandbox->status != SIM_SANDBOX_HIBERNATED) ||
        SHL_MAX(sandbox->epoch, 1) != point.epoch ||
        (row && (row->epoch != point.epoch || !shl_node_id_equal(&row->owner, &node->id)))) {
        return;
    }
    sim_check_acked(node, &point, saved->wanted);
    sim_check_durable(node, sandbox->id, point.count);
    if (sandbox->status == SIM_SANDBOX_RUNNING || sandbox->count == point.count) {
        sandbox->elsewhere = true;
        tell_facts(node, sandbox);
    }
}

/* The image that it would be woken from is in the catalogue already, with another holder. */
static bool is_listed(const struct sim_node *node, const struct sim_sandbox *sandbox)
{
    struct sim_point point;
    bool is_there = false;

    sim_copy_newest(node->state, sandbox->id, &point);
    for (uint32_t i = 0; i < point.holder_count; i++) {
        is_there = is_there || point.holders[i] != node->index;
    }
    return is_there && point.id.epoch == sandbox->count_epoch && point.id.count == sandbox->count;
}

static void tend(struct sim_node *node, struct sim_sandbox *sandbox, uint64_t now_ms)
{
    struct sim_vm *vm = sim_vm_find(node, sandbox->id);

    promise(node, sandbox);
    if (sandbox->saving && sandbox->copy && now_ms >= sandbox->fetch_ms) {
        try_save(node, sandbox);
    }
    if (sandbox->status == SIM_SANDBOX_RUNNING && vm && sandbox->restore && !node->world->quiet &&
        now_ms >= sandbox->autosave_ms && sim_vm_executes(node, vm) && !sandbox->saving) {
        sandbox->autosave_ms = now_ms + node->world->tuning.autosave_ms;
        make_point(node, sandbox, vm, false);
    }
    if (sandbox->status == SIM_SANDBOX_HIBERNATED && !sandbox->copy && !sandbox->elsewhere &&
        !sandbox->starting && sandbox->count_epoch > 0 && now_ms >= sandbox->push_ms) {
        sandbox->push_ms = now_ms + PUSH_MS;
        if (sandbox->epoch > 0 && is_listed(node, sandbox)) {
            sandbox->elsewhere = true;
            tell_facts(node, sandbox);
        } else {
            sim_copy_list(node, sandbox);
        }
    }
}

void sim_hold_tick(struct sim_node *node)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_TICK};
    uint64_t now_ms = sim_node_now_ms(node);

    (void)step(node, &event);
    for (uint32_t i = 0; i < node->sandbox_count && !node->dying; i++) {
        if (node->sandboxes[i].stored) {
            tend(node, &node->sandboxes[i], now_ms);
        }
    }
}
