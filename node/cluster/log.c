/* The Raft core in this daemon: its messages over the mesh, its log on disk, its entries
 * into the replicated state. Everything the core asks for is carried out in order; callers
 * are told outside of its step, so that they may begin the next one. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/cluster/cluster_private.h"
#include "node/cluster/state.h"

#define SLOW_FACTOR 6 /* timings on an emulated machine, whose processes stand still at times */

static void settle(struct cluster *c);

/* ---- results --------------------------------------------------------------------- */

static struct cluster_proposal *find_proposal(struct cluster *c, uint64_t tag)
{
    struct shl_list *at;

    for (at = c->log.proposals.next; at != &c->log.proposals; at = at->next) {
        struct cluster_proposal *proposal = shl_container_of(at, struct cluster_proposal, link);

        if (proposal->tag == tag) {
            return proposal;
        }
    }
    return NULL;
}

static void finish(struct cluster *c,
                   struct cluster_proposal *proposal,
                   enum sched_raft_reason reason)
{
    proposal->reason = reason;
    shl_list_remove(&proposal->link);
    shl_list_push_back(&c->log.done, &proposal->link);
}

static void take_result(struct cluster *c, uint64_t tag, enum sched_raft_reason reason)
{
    struct cluster_proposal *proposal = find_proposal(c, tag);

    if (proposal) {
        finish(c, proposal, reason);
    }
}

/* ---- the state machine ----------------------------------------------------------- */

static void fail(struct cluster *c, const char *what, const char *error)
{
    bool comes_back = cluster_log_is_disk_full(c, error);

    SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "log_failed", SHL_S("what", what), SHL_S("error", error),
            SHL_S("effect", comes_back
                                ? "this node takes no part in the log until there is room, and "
                                  "starts anew then; its sandboxes run on"
                                : "this node takes no part in the log until it is restarted; its "
                                  "sandboxes run on"));
    c->log.is_failed = true;
    if (comes_back) {
        cluster_log_wait_for_disk(c);
    }
}

static void apply(struct cluster *c, const struct sched_raft_entry *entry)
{
    struct cluster_proposal *proposal = entry->has_tag ? find_proposal(c, entry->tag) : NULL;
    struct sched_command command;
    struct sched_result result;
    struct shl_err err = {0};
    int rc;

    if (entry->type == SCHED_RAFT_COMMAND) {
        rc = cluster_state_apply(c->state, entry, &result, &err);
        if (rc < 0) {
            fail(c, err.msg, shl_err_text(rc));
            return;
        }
        if (proposal) {
            proposal->result = result;
            proposal->is_applied = true;
        }
        if (result.err.code == 0 && sched_command_decode(&command, entry->data, NULL) == 0) {
            cluster_apply_effects(c, command.kind, &command);
        }
    } else {
        sched_state_skip(c->state, entry->index, entry->term);
    }
    cluster_lead_applied(c, entry->term);
}

static int load_state(struct cluster *c,
                      const struct sched_raft_snapshot_meta *meta,
                      struct shl_bytes data,
                      struct shl_err *err)
{
    struct sched_state *state;
    int rc = cluster_state_load(data, meta->index, meta->term, &state, err);

    if (rc == 0) {
        sched_state_free(c->state);
        c->state = state;
    }
    return rc;
}

static void install(struct cluster *c,
                    const struct sched_raft_snapshot_meta *meta,
                    struct shl_bytes data)
{
    struct shl_err err = {0};

    if (load_state(c, meta, data, &err) < 0) {
        fail(c, "a snapshot cannot be installed", err.msg);
        return;
    }
    cluster_apply_all(c);
}

/* At the next turn: the core is not in a step then. */
static void take_snapshot(struct cluster *c)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_SNAPSHOT_TAKEN};
    struct shl_buf buf;
    int rc;

    c->log.wants_snapshot = false;
    shl_buf_init(&buf, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    rc = cluster_state_save(c->state, &buf);
    if (rc < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "log_snapshot", SHL_S("error", shl_err_text(rc)));
    } else {
        event.u.snapshot_taken.index = sched_raft_applied(c->log.raft);
        event.u.snapshot_taken.data = &buf;
        cluster_log_event(c, &event);
    }
    shl_buf_release(&buf);
}

/* ---- what the core asks for ------------------------------------------------------ */

static void persist(struct cluster *c, const struct sched_raft_persist *request)
{
    struct node_raft_batch *batch = node_raft_log_prepare(c->log.store, request);

    if (!batch) {
        fail(c, "a write cannot be prepared", shl_err_text(-ENOMEM));
        return;
    }
    cluster_writer_give(c->log.writer, batch, request->seq);
}

static void carry_out(struct cluster *c, const struct sched_raft_action *action)
{
    switch (action->type) {
    case SCHED_RAFT_ACT_SEND:
        (void)node_mesh_send(c->mesh, &action->u.send.to, CLUSTER_MSG_RAFT, action->u.send.bytes);
        break;
    case SCHED_RAFT_ACT_PERSIST:
        persist(c, &action->u.persist);
        break;
    case SCHED_RAFT_ACT_APPLY:
        if (!c->log.is_failed) {
            apply(c, action->u.apply);
        }
        break;
    case SCHED_RAFT_ACT_RESULT:
        take_result(c, action->u.result.tag, action->u.result.reason);
        break;
    case SCHED_RAFT_ACT_READ_READY:
        take_result(c, action->u.read.tag, SCHED_RAFT_DONE);
        break;
    case SCHED_RAFT_ACT_READ_FAILED:
        take_result(c, action->u.read.tag, action->u.read.reason);
        break;
    case SCHED_RAFT_ACT_ROLE_CHANGED:
        cluster_lead_role_changed(c, action->u.role.role, action->u.role.term);
        break;
    case SCHED_RAFT_ACT_SNAPSHOT_WANTED:
        c->log.wants_snapshot = true;
        break;
    case SCHED_RAFT_ACT_SNAPSHOT_INSTALL:
        install(c, action->u.install.meta, action->u.install.data);
        break;
    case SCHED_RAFT_ACT_MEMBERSHIP_APPLIED:
        break;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_TICK};

    cluster_log_event(timer->data, &event);
}

static void arm(struct cluster *c, uint64_t wake_at_ms)
{
    uint64_t now_ms = cluster_now_ms();

    if (c->is_closing || wake_at_ms == SCHED_RAFT_NEVER_MS) {
        (void)uv_timer_stop(&c->log.timer);
        return;
    }
    (void)uv_timer_start(&c->log.timer, on_timer, wake_at_ms > now_ms ? wake_at_ms - now_ms : 0, 0);
}

/* Without a writer it is closed already, while the mesh still brings messages. */
static bool takes_part(const struct cluster *c)
{
    return c->log.raft && c->log.writer && !c->log.is_failed;
}

void cluster_log_event(struct cluster *c, struct sched_raft_event *event)
{
    uint32_t i;
    int rc;

    if (!takes_part(c)) {
        return;
    }
    assert(!c->log.is_stepping);
    event->now_ms = cluster_now_ms();
    c->log.is_stepping = true;
    rc = sched_raft_step(c->log.raft, event, &c->log.actions);
    if (rc < 0 && rc != SHL_EPROTO) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "log_step", SHL_I("event", event->type),
                SHL_S("error", shl_err_text(rc)));
    }
    for (i = 0; i < c->log.actions.count; i++) {
        carry_out(c, &c->log.actions.items[i]);
    }
    arm(c, c->log.actions.wake_at_ms);
    c->log.is_stepping = false;
    settle(c);
    cluster_rows_applied(c);
}

static void tell(struct cluster_proposal *proposal)
{
    if (proposal->cb) {
        proposal->cb(proposal->arg, proposal->reason,
                     proposal->is_applied ? &proposal->result : NULL);
    }
    free(proposal);
}

/* What follows from a step; each of it may lead to further steps, which only add to the list. */
static void settle(struct cluster *c)
{
    struct shl_list *first;

    if (c->log.is_settling) {
        return;
    }
    c->log.is_settling = true;
    for (;;) {
        if (c->log.wants_snapshot && !c->log.is_failed) {
            take_snapshot(c);
        }
        first = shl_list_first(&c->log.done);
        if (!first) {
            break;
        }
        shl_list_remove(first);
        tell(shl_container_of(first, struct cluster_proposal, link));
    }
    c->log.is_settling = false;
}

static void on_written(void *arg, uint64_t seq, int code, const char *msg)
{
    struct cluster *c = arg;
    struct sched_raft_event event = {.type = SCHED_RAFT_PERSISTED, .u.persisted.seq = seq};

    if (code < 0) {
        event.type = SCHED_RAFT_PERSIST_FAILED;
        cluster_log_event(c, &event);
        fail(c, "the log cannot be written", msg);
        return;
    }
    cluster_log_event(c, &event);
}

/* ---- asking the core ------------------------------------------------------------- */

/* Gives @event to the core, with its tag where @tag points into it. */
static int ask(struct cluster *c,
               struct sched_raft_event *event,
               uint64_t *tag,
               void (*cb)(void *arg,
                          enum sched_raft_reason reason,
                          const struct sched_result *result),
               void *arg)
{
    struct cluster_proposal *proposal;

    if (!takes_part(c)) {
        return SHL_EUNAVAILABLE;
    }
    proposal = calloc(1, sizeof(*proposal));
    if (!proposal) {
        return -ENOMEM;
    }
    proposal->tag = c->log.next_tag++;
    proposal->cb = cb;
    proposal->arg = arg;
    shl_list_push_back(&c->log.proposals, &proposal->link);
    *tag = proposal->tag;
    cluster_log_event(c, event);
    return 0;
}

int cluster_log_propose(struct cluster *c,
                        struct shl_bytes command,
                        void (*cb)(void *arg,
                                   enum sched_raft_reason reason,
                                   const struct sched_result *result),
                        void *arg)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_PROPOSE, .u.propose.command = command};

    return ask(c, &event, &event.u.propose.tag, cb, arg);
}

int cluster_log_change(struct cluster *c,
                       enum sched_raft_change_op op,
                       const struct shl_node_id *node,
                       bool witness,
                       void (*cb)(void *arg,
                                  enum sched_raft_reason reason,
                                  const struct sched_result *result),
                       void *arg)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_CHANGE,
                                     .u.change = {.op = op, .id = *node, .witness = witness}};

    return ask(c, &event, &event.u.change.tag, cb, arg);
}

int cluster_log_transfer(struct cluster *c, const struct shl_node_id *target)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_TRANSFER, .u.transfer.target = *target};

    return ask(c, &event, &event.u.transfer.tag, NULL, NULL);
}

static void on_message(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_RECV, .u.recv = {*from, body}};

    cluster_log_event(arg, &event);
}

/* ---- opening and closing --------------------------------------------------------- */

static void take_stored(struct sched_raft_config *config, struct node_raft_stored *stored)
{
    config->term = stored->term;
    config->vote = stored->vote;
    config->snapshot = stored->snapshot;
    if (stored->snapshot.index > 0) {
        config->snapshot_data = &stored->snapshot_data;
    }
    config->entries = stored->entries;
    config->entry_count = stored->entry_count;
}

static int make_core(struct cluster *c, struct node_raft_stored *stored, struct shl_err *err)
{
    const struct sched_state_config state_config = {0};
    struct sched_raft_config config;
    int rc;

    c->state = sched_state_new(&state_config);
    if (!c->state) {
        return shl_err_sys(err, ENOMEM, "cannot make the replicated state");
    }
    if (stored->snapshot.index > 0) {
        rc = load_state(c, &stored->snapshot, shl_buf_bytes(&stored->snapshot_data), err);
        if (rc < 0) {
            return shl_err_wrap(err, rc, "the stored snapshot of the cluster's state");
        }
    }
    sched_raft_config_init(&config);
    config.self = c->keys.id;
    config.now_ms = cluster_now_ms();
    shl_random_bytes(&config.seed, sizeof(config.seed));
    if (c->is_slow) {
        config.heartbeat_ms *= SLOW_FACTOR;
        config.election_min_ms *= SLOW_FACTOR;
        config.election_max_ms *= SLOW_FACTOR;
    }
    take_stored(&config, stored);
    rc = sched_raft_new(&config, &c->log.raft);
    return rc < 0 ? shl_err_set(err, rc,
                                "the cluster's log on this disk does not fit together (%s): remove "
                                "this node from the cluster and let it join anew with an empty "
                                "data folder",
                                shl_err_text(rc))
                  : 0;
}

int cluster_log_open(struct cluster *c, const char *dir, struct shl_err *err)
{
    struct node_raft_stored stored;
    int rc = node_raft_log_open(dir, &c->log.store, err);

    if (rc < 0) {
        return rc;
    }
    rc = node_raft_log_load(c->log.store, &stored, err);
    if (rc < 0) {
        return rc;
    }
    rc = make_core(c, &stored, err);
    node_raft_stored_release(&stored);
    if (rc == 0) {
        rc = cluster_writer_open(c->loop, c->log.store, on_written, c, &c->log.writer, err);
    }
    if (rc == 0) {
        c->log.next_tag = 1;
        sched_raft_actions_init(&c->log.actions);
        node_mesh_on(c->mesh, CLUSTER_MSG_RAFT, SCHED_RAFT_MESSAGE_BYTES_MAX, on_message, c);
    }
    return rc;
}

void cluster_log_close(struct cluster *c)
{
    struct shl_list *first;

    (void)uv_timer_stop(&c->log.timer);
    while ((first = shl_list_first(&c->log.proposals))) {
        finish(c, shl_container_of(first, struct cluster_proposal, link), SCHED_RAFT_STOPPED);
    }
    settle(c);
    if (c->log.writer) {
        c->handles++;
        cluster_writer_close(c->log.writer, cluster_close_part, c);
        c->log.writer = NULL;
    }
}

void cluster_log_free(struct cluster *c)
{
    if (c->log.raft) {
        sched_raft_free(c->log.raft);
        sched_raft_actions_release(&c->log.actions);
    }
    sched_state_free(c->state);
    node_raft_log_close(c->log.store);
}
