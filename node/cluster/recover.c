/* The leader brings back what ran on nodes that are lost and is to go on elsewhere.
 *
 * A sandbox with onNodeLoss "restore" is claimable: once its owner's lease has ended for certain,
 * a node that holds its newest save is asked to take and wake it. That node's claim is
 * what counts (scheduler/claim.h); asking twice, or two leaders asking, does no harm. One that
 * fails is asked for again RETRY_MS later, perhaps of another node. Hibernated ones wait for
 * their next call. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/owners_private.h"

#define LOOK_MS     500
#define RETRY_MS    3000
#define AT_ONCE     8
#define TAKE_MS     60000
#define REQUEST_MAX 256
#define RECENT_MAX  256

/* Asked for a moment ago, so that others get their turn. */
struct recent {
    char sandbox[NODE_SANDBOX_ID_SIZE];
    uint64_t until_ms;
};

struct cluster_recovery {
    struct recent recent[RECENT_MAX];
    uint32_t next;
    uint32_t running;
    uint64_t looked_at_ms;
};

struct recovery {
    struct cluster_job job;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    struct shl_node_id node;
};

bool recover_is_recent(const struct cluster *c, const char *sandbox, uint64_t now_ms)
{
    const struct cluster_recovery *set = c->recovery;
    uint32_t i;

    for (i = 0; i < RECENT_MAX; i++) {
        if (now_ms < set->recent[i].until_ms && strcmp(set->recent[i].sandbox, sandbox) == 0) {
            return true;
        }
    }
    return false;
}

void recover_note(struct cluster *c, const char *sandbox, uint64_t until_ms)
{
    struct cluster_recovery *set = c->recovery;
    struct recent *recent = &set->recent[set->next++ % RECENT_MAX];

    (void)snprintf(recent->sandbox, sizeof(recent->sandbox), "%.*s",
                   (int)sizeof(recent->sandbox) - 1, sandbox);
    recent->until_ms = until_ms;
}

static void end(struct recovery *recovery, int code, const char *msg)
{
    struct cluster *c = recovery->job.cluster;

    if (c) {
        c->recovery->running--;
        SHL_LOG(&c->log_sink, code < 0 ? SHL_LOG_WARN : SHL_LOG_INFO,
                code < 0 ? "sandbox_not_recovered" : "sandbox_recovered",
                SHL_S("sandbox", recovery->sandbox),
                SHL_S("on", cluster_node_name(c, &recovery->node)),
                SHL_S("error", code < 0 ? msg : ""));
    }
    cluster_job_end(&recovery->job);
    free(recovery);
}

static void on_answer(void *arg, int code, const char *msg, struct shl_bytes body)
{
    (void)body;
    end(arg, code, msg ? msg : "");
}

static void on_woken(void *arg, int code, const char *msg)
{
    end(arg, code, msg);
}

static void on_taken(void *arg, int code, const char *msg)
{
    struct recovery *recovery = arg;
    struct cluster *c = recovery->job.cluster;
    struct node_sandbox *sandbox =
        c ? node_manager_find(c->manager, NULL, recovery->sandbox) : NULL;

    if (code == 0 && sandbox) {
        node_manager_wake(c->manager, sandbox, NULL, on_woken, recovery);
    } else {
        end(recovery, code < 0 ? code : SHL_EUNAVAILABLE, msg);
    }
}

static int ask(struct recovery *recovery, struct shl_err *err)
{
    struct cluster *c = recovery->job.cluster;
    struct shl_buf body;
    int rc;

    if (shl_node_id_equal(&recovery->node, &c->keys.id)) {
        return cluster_take(c, recovery->sandbox, CLUSTER_TAKE_PLAIN, on_taken, recovery, err);
    }
    shl_buf_init(&body, REQUEST_MAX);
    rc = cluster_take_write(&body, recovery->sandbox, true);
    if (rc == 0) {
        rc = node_mesh_ask(c->mesh, &recovery->node, CLUSTER_RPC_TAKE, shl_buf_bytes(&body),
                           cluster_patience_ms(c, TAKE_MS), on_answer, recovery, NULL, err);
    }
    shl_buf_release(&body);
    return rc;
}

static void recover(struct cluster *c, const struct sched_owner *row, uint64_t now_ms)
{
    struct recovery *recovery = calloc(1, sizeof(*recovery));
    char artefact[NODE_CHECKPOINT_ID_SIZE];
    struct node_answer answer = {0};
    struct shl_err err = {0};
    int rc;

    recover_note(c, row->sandbox, now_ms + cluster_patience_ms(c, RETRY_MS));
    take_newest(c, row->sandbox, artefact);
    cluster_candidates(c, sched_state_checkpoint(c->state, artefact), &row->owner, &answer);
    if (!recovery || !artefact[0] || answer.target_count == 0 ||
        strlen(row->sandbox) >= sizeof(recovery->sandbox)) {
        free(recovery);
        return;
    }
    cluster_job_begin(c, &recovery->job);
    memcpy(recovery->sandbox, row->sandbox, strlen(row->sandbox) + 1);
    recovery->node = answer.targets[0].id;
    c->recovery->running++;
    rc = ask(recovery, &err);
    if (rc < 0) {
        end(recovery, rc, err.msg);
    }
}

void cluster_recover_tick(struct cluster *c, uint64_t now_ms)
{
    size_t i;

    if (!c->recovery) {
        c->recovery = calloc(1, sizeof(*c->recovery));
    }
    if (!c->recovery || !c->lead.is_ready || c->is_closing ||
        now_ms - c->recovery->looked_at_ms < LOOK_MS) {
        return;
    }
    c->recovery->looked_at_ms = now_ms;
    for (i = 0;
         i < sched_state_count(c->state, SCHED_TABLE_OWNERS) && c->recovery->running < AT_ONCE;
         i++) {
        const struct sched_owner *row = sched_state_at(c->state, SCHED_TABLE_OWNERS, i);

        if (row->claimable && !row->released &&
            cluster_node_standing(c, &row->owner) == CLUSTER_NODE_LOST &&
            !shl_node_id_equal(&row->owner, &c->keys.id) &&
            sched_leases_lapsed(&c->leases, &row->owner, now_ms) &&
            !recover_is_recent(c, row->sandbox, now_ms)) {
            recover(c, row, now_ms);
        }
    }
}
