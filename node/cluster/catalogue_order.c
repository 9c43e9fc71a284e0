/* What this node has to tell the log about artefacts.
 *
 * Happy path: the manager tells of one that is durable here; it goes into the catalogue with this
 * node as its holder; other nodes add themselves. When its user deletes it, it goes again.
 *
 * Each order is made from the difference between what was told and what the state has, so that it
 * may be given twice, and is repeated until there is no difference. What is there is told again
 * after a restart; what is gone is not, so that is written down until the log knows.
 *
 * What can go wrong: no leader (later again), the catalogue is full (later again), it was deleted
 * through another node meanwhile (this node forgets it, too), another node had made the same base
 * with other bytes (that one is as good; this one stays out of the catalogue).
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/cluster/replicas_private.h"

#define AGAIN_MS      1000  /* after an order, for this node's state to follow */
#define FAILED_MS     3000  /* after one that failed */
#define FULL_MS       60000 /* the catalogue is full */
#define TOLD_LOW_MARK (REPLICA_TOLD_MAX / 2)

struct catalogue_order {
    struct shl_list link; /* of orders */
    struct cluster_replicas *r;
    char id[SCHED_ID_SIZE];
    bool is_told; /* about an artefact that was told; else about a copy */
    void (*done)(void *arg, int code);
    void *arg;
};

static int compare_told(const void *a, const void *b)
{
    return strcmp(((const struct catalogue_told *)a)->artefact.id,
                  ((const struct catalogue_told *)b)->artefact.id);
}

static struct catalogue_told *find_told(const struct cluster_replicas *r, const char *id)
{
    struct catalogue_told key;

    (void)snprintf(key.artefact.id, sizeof(key.artefact.id), "%s", id);
    return sorted_find(&r->told, &key);
}

bool catalogue_is_told(const struct cluster_replicas *r, const struct ckpt_id *manifest)
{
    char hex[NODE_MANIFEST_SIZE];
    size_t i;

    shl_hex_encode(hex, manifest->bytes, sizeof(manifest->bytes));
    for (i = 0; i < r->told.count; i++) {
        const struct catalogue_told *told = r->told.items[i];

        if (!told->is_gone && strcmp(told->artefact.manifest, hex) == 0) {
            return true;
        }
    }
    return false;
}

bool cluster_sandbox_is_coming(const struct cluster *c, const char *sandbox_id)
{
    const struct cluster_replicas *r = c->replicas;
    size_t i;

    for (i = 0; i < r->told.count; i++) {
        const struct catalogue_told *told = r->told.items[i];

        if (!told->is_gone && told->artefact.kind == NODE_ARTEFACT_HIBERNATION &&
            strcmp(told->artefact.sandbox_id, sandbox_id) == 0 &&
            !sched_state_checkpoint(c->state, told->artefact.id)) {
            return true;
        }
    }
    return false;
}

/* The state of this node may lag behind what was ordered. Renewals are given one after the other,
 * so the second that is applied from now on was given later than what is on its way now. */
static bool may_be_listed(const struct cluster_replicas *r, const struct catalogue_told *told)
{
    return told->is_ordered || r->renewals < told->settled_at;
}

/*- What is gone is written down. */

static void remember_gone(struct cluster_replicas *r, const char *id)
{
    struct shl_err err = {0};

    if (node_store_put(r->c->store, REPLICA_GONE_KIND, id, shl_bytes_of("", 1), &err) < 0) {
        SHL_LOG(&r->c->log_sink, SHL_LOG_ERROR, "artefact_gone_not_noted", SHL_S("artefact", id),
                SHL_S("error", err.msg));
    }
}

static void end_told(struct cluster_replicas *r, struct catalogue_told *told)
{
    if (told->is_gone) {
        struct shl_err err = {0};
        int rc = node_store_delete(r->c->store, REPLICA_GONE_KIND, told->artefact.id, &err);

        if (rc < 0 && rc != SHL_ENOTFOUND) {
            SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "artefact_gone_kept",
                    SHL_S("artefact", told->artefact.id), SHL_S("error", err.msg));
        }
    }
    sorted_remove(&r->told, told);
    free(told);
}

/*- What the manager tells. */

static struct catalogue_told *add_told(struct cluster_replicas *r, const char *id)
{
    struct catalogue_told *told = find_told(r, id);

    if (told) {
        return told;
    }
    told = r->told.count < REPLICA_TOLD_MAX ? calloc(1, sizeof(*told)) : NULL;
    if (!told) {
        r->told_lost = true;
        return NULL;
    }
    (void)snprintf(told->artefact.id, sizeof(told->artefact.id), "%s", id);
    if (sorted_insert(&r->told, told) < 0) {
        free(told);
        r->told_lost = true;
        return NULL;
    }
    return told;
}

static void on_artefact(void *arg, const struct node_artefact *artefact, bool is_gone)
{
    struct cluster_replicas *r = arg;
    struct catalogue_told *told;
    struct ckpt_id manifest;

    if (replicas_manifest_parse(artefact->manifest, &manifest)) {
        if (is_gone) {
            replica_copy_gone(r, &manifest);
        } else {
            replica_copy_add(r, &manifest, true);
        }
    }
    told = find_told(r, artefact->id);
    if (is_gone && r->is_caught_up && !sched_state_checkpoint(r->c->state, artefact->id) &&
        (!told || !may_be_listed(r, told))) {
        if (told) {
            end_told(r, told); /* the log never heard of it */
        }
        return;
    }
    if (is_gone) {
        remember_gone(r, artefact->id);
    }
    told = add_told(r, artefact->id);
    if (told) {
        told->artefact = *artefact;
        told->is_gone = is_gone;
        told->again_at_ms = 0;
    }
    replicas_survey(r);
}

/* The row of one that was told may be on its way, and other nodes may count on the copy here. */
static bool is_listing(const struct cluster_replicas *r, const char manifest[NODE_MANIFEST_SIZE])
{
    size_t i;

    for (i = 0; i < r->told.count; i++) {
        const struct catalogue_told *told = r->told.items[i];

        if (may_be_listed(r, told) && strcmp(told->artefact.manifest, manifest) == 0) {
            return true;
        }
    }
    return false;
}

static int on_may_drop(void *arg, const char manifest[NODE_MANIFEST_SIZE])
{
    struct cluster_replicas *r = arg;
    struct ckpt_id id;

    if (!r->is_caught_up || is_listing(r, manifest)) {
        return SHL_EUNAVAILABLE;
    }
    if (!replicas_manifest_parse(manifest, &id)) {
        return 1;
    }
    if (catalogue_of_manifest(r, &id) || replica_is_fetching(r, &id)) {
        return 0;
    }
    replica_copy_gone(r, &id);
    return 1;
}

static bool on_gone_record(void *arg, const char *id, struct shl_bytes value)
{
    struct catalogue_told *told = add_told(arg, id);

    (void)value;
    if (told) {
        told->is_gone = true;
    }
    return true;
}

void catalogue_watch(struct cluster_replicas *r, bool on)
{
    static const struct node_artefact_watch watch = {on_artefact, on_may_drop};
    struct shl_err err = {0};

    if (!on) {
        node_manager_set_artefact_watch(r->c->manager, NULL, NULL);
        while (r->told.count > 0) {
            free(r->told.items[--r->told.count]);
        }
        sorted_release(&r->told);
        return;
    }
    r->told.compare = compare_told;
    if (node_store_each(r->c->store, REPLICA_GONE_KIND, on_gone_record, r, &err) < 0) {
        SHL_LOG(&r->c->log_sink, SHL_LOG_ERROR, "artefacts_gone_not_read", SHL_S("error", err.msg));
    }
    node_manager_set_artefact_watch(r->c->manager, &watch, r);
}

/*- Orders. */

static uint64_t pause_after(int code)
{
    return code == 0 ? AGAIN_MS : code == SHL_ELIMIT ? FULL_MS : FAILED_MS;
}

/* How an order about @told ended. The next one is made from the state. */
static void take_outcome(struct cluster_replicas *r,
                         struct catalogue_told *told,
                         int code,
                         const char *msg)
{
    told->is_ordered = false;
    told->again_at_ms = cluster_now_ms() + pause_after(code);
    told->settled_at = r->renewals + 2;
    if (code == 0 || code == SHL_EUNAVAILABLE || code == -ECANCELED) {
        return;
    }
    if (told->is_gone && (code == SHL_EGONE || code == SHL_ENOTFOUND)) {
        end_told(r, told);
    } else if (!told->is_gone && code == SHL_ECONFLICT) {
        SHL_LOG(&r->c->log_sink,
                told->artefact.kind == NODE_ARTEFACT_BASE ? SHL_LOG_INFO : SHL_LOG_ERROR,
                "artefact_not_in_catalogue", SHL_S("artefact", told->artefact.id),
                SHL_S("reason", msg));
        end_told(r, told);
    } else if (code != SHL_EGONE) { /* that is seen when the state has it */
        SHL_LOG(&r->c->log_sink, SHL_LOG_WARN, "artefact_order_failed",
                SHL_S("artefact", told->artefact.id), SHL_S("reason", msg));
    }
}

static void on_ordered(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct catalogue_order *order = arg;
    struct cluster_replicas *r = order->r;
    struct catalogue_told *told = order->is_told ? find_told(r, order->id) : NULL;

    (void)result;
    shl_list_remove(&order->link);
    r->order_count--;
    if (told && told->is_ordered) {
        take_outcome(r, told, code, msg ? msg : "");
    }
    if (order->done) {
        order->done(order->arg, code);
    }
    free(order);
    if (code == 0) {
        replicas_survey(r);
    }
}

static int give(struct cluster_replicas *r,
                const struct sched_command *command,
                const char *id,
                bool is_told,
                void (*done)(void *arg, int code),
                void *arg)
{
    struct catalogue_order *order = calloc(1, sizeof(*order));
    struct shl_err err = {0};
    int rc;

    if (!order) {
        return -ENOMEM;
    }
    order->r = r;
    (void)snprintf(order->id, sizeof(order->id), "%s", id);
    order->is_told = is_told;
    order->done = done;
    order->arg = arg;
    rc = cluster_propose(r->c, command, on_ordered, order, &err);
    if (rc < 0) {
        free(order);
        return rc;
    }
    shl_list_push_back(&r->orders, &order->link);
    r->order_count++;
    return 0;
}

int catalogue_order_holder(struct cluster_replicas *r,
                           const char *id,
                           bool held,
                           void (*done)(void *arg, int code),
                           void *arg)
{
    struct sched_command command = {.kind = SCHED_CHECKPOINT_HOLDER};
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &r->orders) {
        if (strcmp(shl_container_of(it, struct catalogue_order, link)->id, id) == 0) {
            return SHL_EBADSTATE;
        }
    }
    (void)snprintf(command.u.checkpoint_holder.id, SCHED_ID_SIZE, "%s", id);
    command.u.checkpoint_holder.node = r->c->keys.id;
    command.u.checkpoint_holder.held = held;
    return give(r, &command, id, false, done, arg);
}

/*- From what was told to orders. */

static void write_bases(const struct node_artefact *artefact, char ret[SCHED_BASES_SIZE])
{
    size_t len = 0;
    int i;

    for (i = 0; i < NODE_BASES_MAX; i++) {
        if (artefact->bases[i][0]) {
            len += (size_t)snprintf(ret + len, SCHED_BASES_SIZE - len, "%s%s", len ? " " : "",
                                    artefact->bases[i]);
        }
    }
}

static void fill_put(const struct cluster_replicas *r,
                     const struct node_artefact *artefact,
                     struct sched_cmd_checkpoint *put)
{
    bool is_base = artefact->kind == NODE_ARTEFACT_BASE;
    struct ckpt_id manifest = {{0}};

    (void)replicas_manifest_parse(artefact->manifest, &manifest);
    (void)snprintf(put->id, sizeof(put->id), "%s", artefact->id);
    (void)snprintf(put->org, sizeof(put->org), "%.*s", (int)sizeof(put->org) - 1,
                   is_base ? CLUSTER_BASE_ORG : artefact->org);
    (void)snprintf(put->sandbox, sizeof(put->sandbox), "%.*s", (int)sizeof(put->sandbox) - 1,
                   artefact->sandbox_id);
    (void)snprintf(put->label, sizeof(put->label), "%.*s", (int)sizeof(put->label) - 1,
                   artefact->label);
    put->kind = artefact->kind;
    memcpy(put->manifest, manifest.bytes, sizeof(put->manifest));
    put->bytes = artefact->bytes;
    put->wanted = r->wanted;
    write_bases(artefact, put->bases);
    put->holders[0] = r->c->keys.id;
    put->holder_count = 1;
}

/* A sandbox that another node runs by now is not saved from here. */
static bool is_foreign(const struct cluster_replicas *r, const struct node_artefact *artefact)
{
    const struct sched_owner *owner = artefact->kind == NODE_ARTEFACT_HIBERNATION
                                          ? sched_state_owner(r->c->state, artefact->sandbox_id)
                                          : NULL;

    return owner && !shl_node_id_equal(&owner->owner, &r->c->keys.id);
}

/* Nobody will go on with it. */
static bool is_over(const struct cluster *c, const char *sandbox_id)
{
    const struct node_sandbox *local = node_manager_find(c->manager, NULL, sandbox_id);

    if (sched_state_tombstone(c->state, SCHED_TOMBSTONE_SANDBOX, sandbox_id)) {
        return true;
    }
    if (!local || local->state == NODE_SANDBOX_STOPPED) {
        return !sched_state_owner(c->state, sandbox_id);
    }
    return local->state == NODE_SANDBOX_ERROR && !local->lost;
}

/* A state of a sandbox that lives: until a newer one is as safe. */
static bool is_still_needed(const struct cluster *c, const struct sched_checkpoint *row)
{
    return row->kind == SCHED_CHECKPOINT_HIBERNATION && !is_over(c, row->sandbox) &&
           !cluster_state_is_replaced(c, row);
}

#define NOT_YET 2

/* 1: nothing is left to be said; NOT_YET; 0: @command says it; negative: it must not be said. */
static int choose(const struct cluster_replicas *r,
                  const struct catalogue_told *told,
                  struct sched_command *command)
{
    const struct node_artefact *artefact = &told->artefact;
    const struct sched_checkpoint *row = sched_state_checkpoint(r->c->state, artefact->id);
    struct ckpt_id manifest = {{0}};

    if (told->is_gone) {
        command->kind = SCHED_CHECKPOINT_DELETE;
        (void)snprintf(command->u.checkpoint_delete.id, SCHED_ID_SIZE, "%s", artefact->id);
        if (row ? is_still_needed(r->c, row) : may_be_listed(r, told)) {
            return NOT_YET;
        }
        return row ? 0 : 1;
    }
    if (!row && sched_state_tombstone(r->c->state, SCHED_TOMBSTONE_CHECKPOINT, artefact->id)) {
        return SHL_EGONE;
    }
    if (!row) {
        command->kind = SCHED_CHECKPOINT_PUT;
        fill_put(r, artefact, &command->u.checkpoint);
        return is_foreign(r, artefact) ? SHL_ECONFLICT : 0;
    }
    if (!replicas_manifest_parse(artefact->manifest, &manifest) ||
        memcmp(row->manifest, manifest.bytes, sizeof(row->manifest)) != 0) {
        return SHL_ECONFLICT;
    }
    if (!catalogue_names(row, &r->c->keys.id)) {
        command->kind = SCHED_CHECKPOINT_HOLDER;
        (void)snprintf(command->u.checkpoint_holder.id, SCHED_ID_SIZE, "%s", artefact->id);
        command->u.checkpoint_holder.node = r->c->keys.id;
        command->u.checkpoint_holder.held = true;
        return 0;
    }
    /* Several nodes have a base; the one that wants most copies of it is right. */
    if (artefact->kind == NODE_ARTEFACT_BASE ? row->wanted < r->wanted : row->wanted != r->wanted) {
        command->kind = SCHED_CHECKPOINT_WANTED;
        (void)snprintf(command->u.checkpoint_wanted.id, SCHED_ID_SIZE, "%s", artefact->id);
        command->u.checkpoint_wanted.wanted = r->wanted;
        return 0;
    }
    return 1;
}

static void forget_told(struct cluster_replicas *r, struct catalogue_told *told, int why)
{
    char id[SCHED_ID_SIZE];

    (void)snprintf(id, sizeof(id), "%.*s", (int)sizeof(id) - 1, told->artefact.id);
    SHL_LOG(&r->c->log_sink, SHL_LOG_INFO, "artefact_not_in_catalogue", SHL_S("artefact", id),
            SHL_S("reason", why == SHL_EGONE ? "it was deleted through another node"
                                             : "another node has one that counts"));
    end_told(r, told);
    if (why == SHL_EGONE) {
        node_artefact_forget(r->c->manager, id);
    }
}

void catalogue_pump(struct cluster_replicas *r)
{
    uint64_t now_ms = cluster_now_ms();
    size_t i = r->told.count;

    if (!r->is_caught_up) {
        return;
    }
    while (i-- > 0 && r->order_count < REPLICA_ORDERS_MAX) {
        struct catalogue_told *told = r->told.items[i];
        struct sched_command command = {0};
        int rc;

        if (told->is_ordered || told->again_at_ms > now_ms) {
            continue;
        }
        rc = choose(r, told, &command);
        if (rc == NOT_YET) {
            continue; /* the next survey, or a row that changes, asks again */
        }
        if (rc > 0) {
            end_told(r, told);
        } else if (rc < 0) {
            forget_told(r, told, rc);
            i = SHL_MIN(i, r->told.count);
        } else {
            rc = give(r, &command, told->artefact.id, true, NULL, NULL);
            told->is_ordered = rc == 0;
            told->again_at_ms = now_ms + FAILED_MS;
        }
    }
    if (r->told_lost && r->told.count < TOLD_LOW_MARK) {
        r->told_lost = false;
        catalogue_watch(r, true); /* tells all of them again */
    }
}
