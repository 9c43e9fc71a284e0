/* A running sandbox into layers.
 *
 * Happy path:
 *  1. snapshot_begin: ids for the new layers; run_create (thread pool) makes the files.
 *  2. on_created: the record names the next overlay, so that whoever finds this sandbox
 *     after a crash knows both candidates. Agent op freeze. -> on_frozen
 *  3. VMM op snapshot: pause, write, go on (the last one stays paused). -> on_saved
 *  4. The sealed overlay joins the stack; thaw; run_sync (thread pool). -> on_synced
 *  5. The record is saved, the caller gets the stack.
 *
 * The last snapshot of a run writes no new overlay: the present one is complete, and
 * the caller ends the VM or lets it go on with it.
 *
 * What can go wrong: a file cannot be made or synced, the disk is full, the guest does not
 * freeze in time, the VMM refuses: layers are given back (their files go), the VM goes on,
 * the caller gets the reason. The connection to the VMM breaks in 3: it may have
 * changed to the next overlay or not, which go_on.c finds out. The run ends: every
 * step is answered with an error and the caller hears it.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define REQUEST_MAX 1024

struct snapshot {
    struct shl_list node; /* of those that wait */
    struct sandbox *sandbox;
    enum sandbox_snapshot_kind kind;
    sandbox_snapshot_cb cb;
    void *arg;
    struct node_layer_id state, mem; /* referenced */
    struct node_agent_stream *freeze;
    bool asked;   /* the VMM was */
    bool lost;    /* the connection to it, so it answers no more */
    bool replied; /* by the VMM: all that is saved is in the files */
    struct sandbox_snapshot_stats stats;
    struct node_stack stack; /* the result; referenced from 4 on */
    bool has_stack;

    /* job */
    uv_work_t work;
    int state_fd, mem_fd, overlay_fd;
    struct node_layer_id overlay; /* next one; borrowed from the sandbox once recorded */
    struct node_layer_id sealed;  /* the one that is complete now */
    int rc;
    struct shl_err err;
};

static void snapshot_begin(struct snapshot *snapshot);

static bool is_full(const struct snapshot *snapshot)
{
    return snapshot->kind != SANDBOX_SNAPSHOT_DISK;
}

static bool goes_on(const struct snapshot *snapshot)
{
    return snapshot->kind != SANDBOX_SNAPSHOT_LAST;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static void close_fds(struct snapshot *snapshot)
{
    close_fd(&snapshot->state_fd);
    close_fd(&snapshot->mem_fd);
    close_fd(&snapshot->overlay_fd);
}

/* ---- 5. the end of it ------------------------------------------------------------ */

static bool is_too_deep(const struct snapshot *snapshot)
{
    const struct node_stack *stack = &snapshot->sandbox->stack;
    unsigned disk_max = VMM_DISK_LAYERS_MAX - (stack->warm[0] != '\0');

    return stack->disk_count >= disk_max ||
           (is_full(snapshot) && stack->mem_count >= VMM_MEM_LAYERS_MAX);
}

/* For a merge that makes room, or until the VMM was told of the last one. */
static bool must_wait(const struct snapshot *snapshot)
{
    struct sandbox *sandbox = snapshot->sandbox;

    if (is_too_deep(snapshot) || (goes_on(snapshot) && sandbox->layers_due)) {
        merge_consider(sandbox);
    }
    return (is_too_deep(snapshot) && sandbox->merging) || (goes_on(snapshot) && sandbox->telling);
}

static void start_next(struct sandbox *sandbox)
{
    struct shl_list *node = shl_list_first(&sandbox->snapshots);
    struct snapshot *snapshot;

    if (!node || sandbox->snapshot || sandbox->ending) {
        return;
    }
    snapshot = shl_container_of(node, struct snapshot, node);
    if (must_wait(snapshot)) {
        return; /* snapshot_on_merged */
    }
    shl_list_remove(node);
    snapshot_begin(snapshot);
}

void snapshot_on_merged(struct sandbox *sandbox)
{
    if (sandbox->alive && !sandbox->ending) {
        start_next(sandbox);
    }
}

/* The VM goes on as it is. A next overlay that the VMM may have seen is left to go_on. */
static void let_go_on(struct snapshot *snapshot, int code)
{
    struct sandbox *sandbox = snapshot->sandbox;
    bool in_doubt = snapshot->asked && (code == SHL_EUNAVAILABLE || sandbox->ending);

    if (sandbox->next.hex[0] && !in_doubt) {
        layers_unref(sandbox->pub.manager, sandbox->next.hex);
        sandbox->next.hex[0] = '\0';
    }
    sandbox->resume_due = !goes_on(snapshot) || in_doubt;
    sandbox->thaw_due = true;
}

static void finish(struct snapshot *snapshot, int code, const char *msg)
{
    struct sandbox *sandbox = snapshot->sandbox;
    struct node_manager *manager = sandbox->pub.manager;

    close_fds(snapshot);
    (void)uv_timer_stop(&sandbox->op_timer);
    if (code < 0) {
        SHL_LOG(&manager->log, SHL_LOG_WARN, "snapshot_failed", SHL_S("sandbox", sandbox->pub.id),
                SHL_S("reason", msg));
        if (snapshot->has_stack) {
            node_stack_unref(manager, &snapshot->stack);
        }
        if (!goes_on(snapshot) || !snapshot->replied) {
            let_go_on(snapshot, code);
        }
    }
    sandbox->merge_failed = sandbox->merge_failed && code < 0;
    sandbox->tell_failed = false;
    layers_unref(manager, snapshot->state.hex);
    layers_unref(manager, snapshot->mem.hex);
    sandbox->snapshot = NULL;
    sandbox->handles--;
    node_sandbox_ref(&sandbox->pub);
    if (code < 0) {
        go_on(sandbox);
    }
    snapshot->cb(snapshot->arg, code, msg, code < 0 ? NULL : &snapshot->stack, &snapshot->stats);
    free(snapshot);
    node_sandbox_unref(&sandbox->pub);
    if (sandbox->ending || sandbox->over) {
        end_advance(sandbox);
    } else {
        merge_consider(sandbox);
        start_next(sandbox);
    }
}

/* Only for steps that were answered: nothing calls back any more. */
static bool stopped(struct snapshot *snapshot)
{
    struct sandbox *sandbox = snapshot->sandbox;

    if (sandbox->ending && !(snapshot->replied && !sandbox->over)) {
        finish(snapshot, sandbox->over ? SHL_EGONE : SHL_EUNAVAILABLE,
               sandbox->over ? sandbox->end_reason : "the sandbox is not running any more");
        return true;
    }
    return false;
}

static void on_synced(uv_work_t *work, int status)
{
    struct snapshot *snapshot = work->data;
    struct sandbox *sandbox = snapshot->sandbox;
    struct shl_err err = {0};

    (void)status;
    if (stopped(snapshot)) {
        return;
    }
    if (snapshot->rc < 0) {
        finish(snapshot, snapshot->rc, snapshot->err.msg);
    } else if (goes_on(snapshot) && sandbox_save(sandbox, &err) < 0) {
        finish(snapshot, err.code, err.msg);
    } else {
        finish(snapshot, 0, "");
    }
}

/* ---- 4. what was written reaches the disk ---------------------------------------- */

static void run_sync(uv_work_t *work)
{
    struct snapshot *snapshot = work->data;
    const struct node_manager *manager = snapshot->sandbox->pub.manager;
    struct sandbox_snapshot_stats *stats = &snapshot->stats;
    struct shl_err *err = &snapshot->err;
    int rc = files_sync_layer(manager, snapshot->sealed.hex, LAYERS_DISK, &stats->disk_bytes, err);

    if (rc == 0 && is_full(snapshot)) {
        rc = files_sync_layer(manager, snapshot->mem.hex, LAYERS_MEM, &stats->mem_bytes, err);
    }
    if (rc == 0 && is_full(snapshot)) {
        rc = files_sync_layer(manager, snapshot->state.hex, LAYERS_STATE, &stats->state_bytes, err);
    }
    snapshot->rc = rc == 0 ? files_sync_folder(manager, "layers", err) : rc;
}

static void queue(struct snapshot *snapshot, uv_work_cb run, uv_after_work_cb done)
{
    int rc SHL_UNUSED;

    snapshot->work.data = snapshot;
    rc = uv_queue_work(snapshot->sandbox->pub.manager->loop, &snapshot->work, run, done);
    assert(rc == 0);
}

/* The sealed overlay joins the stack of the run; references move along. */
static void change_overlay(struct snapshot *snapshot)
{
    struct sandbox *sandbox = snapshot->sandbox;

    snapshot->sealed = sandbox->overlay;
    if (goes_on(snapshot)) {
        sandbox->stack.disk[sandbox->stack.disk_count++] = sandbox->overlay;
        sandbox->overlay = sandbox->next;
        sandbox->next.hex[0] = '\0';
    }
}

static void make_stack(struct snapshot *snapshot)
{
    const struct sandbox *sandbox = snapshot->sandbox;
    struct node_stack *stack = &snapshot->stack;

    *stack = sandbox->stack;
    if (!goes_on(snapshot)) {
        stack->disk[stack->disk_count++] = sandbox->overlay;
    }
    if (is_full(snapshot)) {
        stack->mem[stack->mem_count++] = snapshot->mem;
        stack->state = snapshot->state;
    } else {
        stack->mem_count = 0;
        stack->warm_mem = false;
        stack->state.hex[0] = '\0';
    }
    node_stack_ref(sandbox->pub.manager, stack);
    snapshot->has_stack = true;
}

static uint64_t get_stat(const msgpack_object *reply, const char *key)
{
    uint64_t value = 0;

    return shl_mp_get_uint(reply, key, UINT64_MAX, &value) == 0 ? value : 0;
}

static void on_saved(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct snapshot *snapshot = arg;
    struct sandbox *sandbox = snapshot->sandbox;

    close_fds(snapshot);
    if (code == SHL_EUNAVAILABLE && !sandbox->ending) {
        snapshot->lost = true; /* it comes back, or the process is found to be gone */
        if (sandbox->exited) {
            watch_judge_exit(sandbox, "the VMM was killed");
        }
        return;
    }
    if (code < 0) {
        finish(snapshot, code, msg);
        return;
    }
    snapshot->replied = true;
    snapshot->stats.pause_us = get_stat(reply, "pause_us");
    snapshot->stats.dirty_pages = get_stat(reply, "dirty_pages");
    change_overlay(snapshot);
    make_stack(snapshot);
    if (goes_on(snapshot)) {
        sandbox->thaw_due = true;
        go_on(sandbox);
    }
    queue(snapshot, run_sync, on_synced);
}

/* ---- 3. the VMM ------------------------------------------------------------------ */

static void add_snapshot(void *arg, struct shl_mp_writer *w)
{
    const struct snapshot *snapshot = arg;

    shl_mp_kv_bool(w, "keep_paused", !goes_on(snapshot));
    shl_mp_kv_bool(w, "disk_only", !is_full(snapshot));
}

static void on_frozen(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct snapshot *snapshot = arg;
    struct sandbox *sandbox = snapshot->sandbox;
    const struct node_vmm_fd fds[] = {
        {"state", snapshot->state_fd},
        {"mem", snapshot->mem_fd},
        {"overlay", snapshot->overlay_fd},
    };
    char text[SHL_ERR_TEXT_MAX];
    int rc;

    (void)response;
    snapshot->freeze = NULL;
    (void)uv_timer_stop(&sandbox->op_timer);
    if (stopped(snapshot)) {
        return;
    }
    if (code < 0) {
        (void)snprintf(text, sizeof(text), "the guest could not be frozen: %s",
                       code == -ECANCELED ? "its agent does not answer in time" : msg);
        finish(snapshot, code == -ECANCELED ? -ETIMEDOUT : code, text);
        return;
    }
    rc = sandbox->control && !sandbox->exited
             ? node_vmm_link_request(sandbox->control, "snapshot", add_snapshot, fds,
                                     SHL_ARRAY_SIZE(fds), on_saved, snapshot)
             : SHL_EUNAVAILABLE;
    if (rc < 0) {
        (void)snprintf(text, sizeof(text), "the VMM could not be asked: %s", shl_err_text(rc));
        finish(snapshot, rc, text);
        return;
    }
    snapshot->asked = true;
}

/* ---- 2. the guest ---------------------------------------------------------------- */

static void on_freeze_limit(uv_timer_t *timer)
{
    struct sandbox *sandbox = timer->data;

    if (sandbox->snapshot && sandbox->snapshot->freeze) {
        node_agent_cancel(sandbox->snapshot->freeze);
    }
}

static int send_freeze(struct snapshot *snapshot)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_frozen};
    struct sandbox *sandbox = snapshot->sandbox;
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, REQUEST_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "freeze");
    shl_mp_kv_bool(&w, "sync", true);
    shl_mp_kv_bool(&w, "fs", !is_full(snapshot));
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_agent_open_kept(sandbox->link, shl_buf_bytes(&buf), &ops, snapshot,
                                  &snapshot->freeze);
    }
    shl_buf_release(&buf);
    if (rc == 0) {
        (void)uv_timer_start(&sandbox->op_timer, on_freeze_limit, sandbox->pub.manager->silent_ms,
                             0);
    }
    return rc;
}

static int record_next(struct snapshot *snapshot, struct shl_err *err)
{
    struct sandbox *sandbox = snapshot->sandbox;

    if (!goes_on(snapshot)) {
        return 0;
    }
    sandbox->next = snapshot->overlay;
    return sandbox_save(sandbox, err);
}

static void on_created(uv_work_t *work, int status)
{
    struct snapshot *snapshot = work->data;
    struct shl_err err = {0};
    int rc;

    (void)status;
    /* from here on it is the sandbox's */
    rc = record_next(snapshot, &err);
    if (stopped(snapshot)) {
        return;
    }
    if (snapshot->rc < 0) {
        finish(snapshot, snapshot->rc, snapshot->err.msg);
        return;
    }
    if (rc < 0) {
        finish(snapshot, rc, err.msg);
        return;
    }
    if (is_too_deep(snapshot)) {
        finish(snapshot, SHL_EUNAVAILABLE,
               "its layers could not be merged, see the log of the node");
        return;
    }
    rc = send_freeze(snapshot);
    if (rc < 0) {
        finish(snapshot, rc, shl_err_text(rc));
    }
}

/* ---- 1. files -------------------------------------------------------------------- */

static int create_one(struct snapshot *snapshot,
                      const struct node_layer_id *id,
                      const char *kind,
                      int *ret_fd)
{
    *ret_fd = files_new_layer(snapshot->sandbox->pub.manager, id->hex, kind, &snapshot->err);
    return *ret_fd < 0 ? *ret_fd : 0;
}

static void run_create(uv_work_t *work)
{
    struct snapshot *snapshot = work->data;
    int rc = 0;

    if (is_full(snapshot)) {
        rc = create_one(snapshot, &snapshot->state, LAYERS_STATE, &snapshot->state_fd);
    }
    if (rc == 0 && is_full(snapshot)) {
        rc = create_one(snapshot, &snapshot->mem, LAYERS_MEM, &snapshot->mem_fd);
    }
    if (rc == 0 && goes_on(snapshot)) {
        rc = create_one(snapshot, &snapshot->overlay, LAYERS_DISK, &snapshot->overlay_fd);
    }
    snapshot->rc = rc;
}

static void snapshot_begin(struct snapshot *snapshot)
{
    struct sandbox *sandbox = snapshot->sandbox;
    struct node_manager *manager = sandbox->pub.manager;

    sandbox->snapshot = snapshot;
    sandbox->handles++;
    if (is_full(snapshot)) {
        layers_new(manager, &snapshot->state);
        layers_new(manager, &snapshot->mem);
    }
    if (goes_on(snapshot)) {
        layers_new(manager, &snapshot->overlay);
    }
    queue(snapshot, run_create, on_created);
}

int sandbox_snapshot(struct sandbox *sandbox,
                     enum sandbox_snapshot_kind kind,
                     sandbox_snapshot_cb cb,
                     void *arg)
{
    enum node_sandbox_state wanted =
        kind == SANDBOX_SNAPSHOT_LAST ? NODE_SANDBOX_HIBERNATING : NODE_SANDBOX_RUNNING;
    struct snapshot *snapshot;

    if (sandbox->pub.state != wanted || !sandbox->run || sandbox->ending || !sandbox->link) {
        return SHL_EBADSTATE;
    }
    snapshot = calloc(1, sizeof(*snapshot));
    if (!snapshot) {
        return -ENOMEM;
    }
    snapshot->sandbox = sandbox;
    snapshot->kind = kind;
    snapshot->cb = cb;
    snapshot->arg = arg;
    snapshot->state_fd = snapshot->mem_fd = snapshot->overlay_fd = -1;
    shl_list_push_back(&sandbox->snapshots, &snapshot->node);
    start_next(sandbox);
    return 0;
}

void snapshot_on_control(struct sandbox *sandbox)
{
    if (sandbox->snapshot && sandbox->snapshot->lost) {
        finish(sandbox->snapshot, SHL_EUNAVAILABLE, "the connection to the VMM was lost");
    }
}

void snapshot_refuse_waiting(struct sandbox *sandbox, int code, const char *msg)
{
    struct shl_list *node;

    if (sandbox->snapshot && sandbox->snapshot->lost) {
        finish(sandbox->snapshot, code, msg);
    }
    while ((node = shl_list_first(&sandbox->snapshots))) {
        struct snapshot *snapshot = shl_container_of(node, struct snapshot, node);

        shl_list_remove(node);
        snapshot->cb(snapshot->arg, code, msg, NULL, NULL);
        free(snapshot);
    }
}

/* All of the guest is in the files, so its VMM is not needed any more. */
bool snapshot_survives_exit(const struct sandbox *sandbox)
{
    return sandbox->snapshot && !goes_on(sandbox->snapshot) && sandbox->snapshot->replied;
}
