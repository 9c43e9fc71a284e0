/* Starting from a checkpoint: forks, restore in place, and those who wait for its layers.
 *
 * Happy path:
 *  1. The request is checked and joins those who wait for the checkpoint.
 *  2. As soon as the snapshot is taken (a fork does not wait for the ingest) the layers are
 *     looked at (layers_again.c).
 *  3. Everyone gets the stack: sandbox_create_from or sandbox_switch go on.
 *
 * What can go wrong: the snapshot is not taken within NODE_CHECKPOINT_WAIT_MS, fails, or
 * the checkpoint is deleted before; the layers are lost for good; the sandbox to restore
 * ended meanwhile. Whoever waits hears it. From 3 on nothing depends on the checkpoint.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"

/* ---- those who wait ----------------------------------------------------------------- */

static void leave_lists(struct checkpoint_waiter *waiter)
{
    shl_list_remove(&waiter->node);
    shl_list_remove(&waiter->limit_node);
}

static void arm_limit(struct checkpoints *set)
{
    struct shl_list *first = shl_list_first(&set->limited);
    uint64_t now_ms = shl_monotonic_ms();
    uint64_t at_ms;

    if (!first) {
        (void)uv_timer_stop(&set->limit_timer);
        return;
    }
    at_ms = shl_container_of(first, struct checkpoint_waiter, limit_node)->deadline_ms;
    (void)uv_timer_start(&set->limit_timer, checkpoint_on_limit,
                         at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

void checkpoint_on_limit(uv_timer_t *timer)
{
    struct checkpoints *set = timer->data;
    uint64_t now_ms = shl_monotonic_ms();
    struct shl_list *first;

    while ((first = shl_list_first(&set->limited))) {
        struct checkpoint_waiter *waiter =
            shl_container_of(first, struct checkpoint_waiter, limit_node);

        if (waiter->deadline_ms > now_ms) {
            break;
        }
        leave_lists(waiter);
        waiter->go(waiter, SHL_EBADSTATE, "checkpoint not ready: its sandbox is still being saved",
                   NULL);
    }
    arm_limit(set);
}

int checkpoint_wait(struct checkpoint *checkpoint,
                    struct checkpoint_waiter *waiter,
                    struct shl_err *err)
{
    struct checkpoints *set = checkpoint->set;

    if (set->closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the node is shutting down, try again");
    }
    if (checkpoint->pub.status == NODE_CHECKPOINT_FAILED) {
        return shl_err_set(err, SHL_EBADSTATE, "the checkpoint failed: %s", checkpoint->pub.error);
    }
    if (checkpoint->has_stack && layers_look(checkpoint) < 0) {
        return shl_err_sys(err, ENOMEM, "cannot start from the checkpoint");
    }
    waiter->checkpoint = checkpoint;
    shl_list_init(&waiter->limit_node);
    shl_list_push_back(&checkpoint->waiters, &waiter->node);
    if (!checkpoint->has_stack) {
        /* all wait equally long, so the list is in the order of their deadlines */
        waiter->deadline_ms = shl_monotonic_ms() + NODE_CHECKPOINT_WAIT_MS;
        shl_list_push_back(&set->limited, &waiter->limit_node);
        arm_limit(set);
    }
    return 0;
}

void checkpoint_answer(struct checkpoint *checkpoint,
                       int code,
                       const char *msg,
                       const struct node_stack *stack)
{
    struct shl_list *node;
    size_t count = 0;

    /* who joins from inside a callback is not part of this answer */
    SHL_LIST_FOREACH(node, &checkpoint->waiters) {
        count++;
    }
    while (count-- > 0 && (node = shl_list_first(&checkpoint->waiters))) {
        struct checkpoint_waiter *waiter = shl_container_of(node, struct checkpoint_waiter, node);

        leave_lists(waiter);
        waiter->go(waiter, code, msg, stack);
    }
}

/* ---- forks -------------------------------------------------------------------------- */

struct fork {
    struct checkpoint_waiter waiter;
    struct node_manager *manager;
    struct node_sandbox_spec spec;
    char from[NODE_CHECKPOINT_ID_SIZE];
    node_create_cb cb;
    void *arg;
};

static int merge_kv(struct node_kv_list *into, const struct node_kv_list *over, struct shl_err *err)
{
    size_t i;

    for (i = 0; i < over->count; i++) {
        int rc = node_kv_set(into, over->items[i].key, over->items[i].value);

        if (rc == SHL_ELIMIT) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "with those of the checkpoint there are more than %d variables or "
                               "%d bytes of them",
                               NODE_KV_MAX, NODE_KV_BYTES_MAX);
        }
        if (rc < 0) {
            return shl_err_set(err, rc, "cannot fork: %s", shl_err_text(rc));
        }
    }
    return 0;
}

int fork_spec_merge(const struct node_sandbox_spec *from,
                    const struct node_fork_spec *changes,
                    struct node_sandbox_spec *ret,
                    struct shl_err *err)
{
    int rc = sandbox_spec_copy(ret, from);

    if (rc < 0) {
        return shl_err_set(err, rc, "cannot fork: %s", shl_err_text(rc));
    }
    while (ret->previews.count > 0) { /* of the other's hosts; its token holds for the fork, too */
        (void)node_previews_remove(&ret->previews, ret->previews.items[0].port);
    }
    ret->is_build = false;
    ret->patched = 0; /* it has another base */
    ret->patch_error[0] = '\0';
    if (changes->secrets) {
        node_secret_use_release(&ret->secrets);
        rc = node_secret_use_copy(&ret->secrets, changes->secrets, true);
        if (rc < 0) {
            sandbox_spec_release(ret);
            return shl_err_set(err, rc, "cannot fork: %s", shl_err_text(rc));
        }
    }
    ret->timeout_s = changes->timeout_s;
    /* what is in memory must fit; what is on the disk too */
    ret->memory_mb = SHL_MIN(SHL_MAX(changes->memory_mb, from->memory_mb), NODE_MEMORY_MAX_MB);
    ret->disk_mb = SHL_MAX(changes->disk_mb, from->disk_mb);
    if (changes->has_loss) {
        ret->on_node_loss = changes->on_node_loss;
        ret->autosave_s = changes->autosave_s;
    }
    if (changes->cpus > 0) {
        ret->cpus = changes->cpus;
    }
    rc = merge_kv(&ret->envs, &changes->envs, err);
    if (rc == 0) {
        rc = merge_kv(&ret->metadata, &changes->metadata, err);
    }
    if (rc == 0) {
        rc = sandbox_spec_check(ret, err);
    }
    if (rc < 0) {
        sandbox_spec_release(ret);
    }
    return rc;
}

static void fork_free(struct fork *fork)
{
    sandbox_spec_release(&fork->spec);
    free(fork);
}

static void on_fork(struct checkpoint_waiter *waiter,
                    int code,
                    const char *msg,
                    const struct node_stack *stack)
{
    struct fork *fork = shl_container_of(waiter, struct fork, waiter);
    struct shl_err err = {0};

    if (code == 0) {
        code = sandbox_create_from(fork->manager, &fork->spec, stack, fork->from, fork->cb,
                                   fork->arg, &err);
        msg = err.msg;
    }
    if (code < 0) {
        fork->cb(fork->arg, code, msg, NULL);
    }
    fork_free(fork);
}

int node_manager_fork(struct node_manager *manager,
                      struct node_checkpoint *pub,
                      const struct node_fork_spec *spec,
                      node_create_cb cb,
                      void *arg,
                      struct shl_err *err)
{
    struct fork *fork = calloc(1, sizeof(*fork));
    int rc;

    if (!fork) {
        return shl_err_sys(err, ENOMEM, "cannot fork");
    }
    rc = fork_spec_merge(&pub->spec, spec, &fork->spec, err);
    if (rc < 0) {
        free(fork);
        return rc;
    }
    fork->waiter.go = on_fork;
    fork->manager = manager;
    (void)snprintf(fork->from, sizeof(fork->from), "%s", pub->id);
    fork->cb = cb;
    fork->arg = arg;
    rc = checkpoint_wait(checkpoint_of(pub), &fork->waiter, err);
    if (rc < 0) {
        fork_free(fork);
    }
    return rc;
}

/* ---- restore in place --------------------------------------------------------------- */

struct restore {
    struct checkpoint_waiter waiter;
    struct sandbox *sandbox; /* referenced */
    node_sandbox_cb cb;
    void *arg;
};

static bool may_restore(const struct node_sandbox *sandbox)
{
    return sandbox->state == NODE_SANDBOX_RUNNING || sandbox->state == NODE_SANDBOX_HIBERNATED;
}

static void on_restore(struct checkpoint_waiter *waiter,
                       int code,
                       const char *msg,
                       const struct node_stack *stack)
{
    struct restore *restore = shl_container_of(waiter, struct restore, waiter);
    struct node_sandbox *pub = &restore->sandbox->pub;

    if (code == 0 && !may_restore(pub)) {
        code = SHL_EBADSTATE;
        msg = "sandbox is not running";
    }
    if (code == 0) {
        SHL_LOG(&pub->manager->log, SHL_LOG_INFO, "sandbox_restore", SHL_S("sandbox", pub->id),
                SHL_S("checkpoint", waiter->checkpoint->pub.id));
        sandbox_switch(restore->sandbox, stack, restore->cb, restore->arg);
    } else {
        restore->cb(restore->arg, code, msg);
    }
    node_sandbox_unref(pub);
    free(restore);
}

static int check_restore(const struct node_sandbox *sandbox,
                         const struct node_checkpoint *checkpoint,
                         struct shl_err *err)
{
    if (strcmp(checkpoint->sandbox_id, sandbox->id) != 0) {
        return shl_err_set(err, SHL_EBADSTATE, "the checkpoint belongs to another sandbox");
    }
    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        return shl_err_set(err, SHL_EBADSTATE, "checkpoint not ready: it is %s",
                           node_checkpoint_status(checkpoint));
    }
    if (!may_restore(sandbox)) {
        return shl_err_set(err, SHL_EBADSTATE, "sandbox is not running");
    }
    return 0;
}

void node_manager_restore(struct node_manager *manager,
                          struct node_sandbox *sandbox,
                          struct node_checkpoint *checkpoint,
                          node_sandbox_cb cb,
                          void *arg)
{
    struct restore *restore;
    struct shl_err err = {0};
    int rc = check_restore(sandbox, checkpoint, &err);

    restore = rc < 0 ? NULL : calloc(1, sizeof(*restore));
    if (rc == 0 && !restore) {
        rc = shl_err_sys(&err, ENOMEM, "cannot restore");
    }
    if (rc == 0) {
        restore->waiter.go = on_restore;
        restore->sandbox = sandbox_of(sandbox);
        restore->cb = cb;
        restore->arg = arg;
        rc = checkpoint_wait(checkpoint_of(checkpoint), &restore->waiter, &err);
    }
    if (rc < 0) {
        free(restore);
        answer_later(manager, cb, arg, rc, err.msg);
        return;
    }
    node_sandbox_ref(sandbox);
}
