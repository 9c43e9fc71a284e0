/* Deep stacks are made flat in the background.
 *
 * Happy path:
 *  1. merge_consider: more layers than wanted, and nothing else is being merged for
 *     this sandbox. The layers get references of their own.
 *  2. run_merge (thread pool): all disk layers into one new layer, or all memory
 *     layers.
 *  3. on_merged: the stack still begins with these layers: they are replaced by the new one,
 *     the record is saved, a running VMM is told (op layers). Its memory stays
 *     mapped from the old files, which is the same.
 *  4. References of the old layers go.
 *
 * What can go wrong: the stack changed meanwhile (woken on another one, ended): the result is
 * dropped; the disk is full or a layer damaged: logged, tried again after the next
 * change of the stack; the VMM refuses the new layers: it goes on with its old ones, which
 * it has open, and is told again after the next snapshot. Snapshots wait until the VMM was
 * told: each adds a layer to those it has, and it has no room for two stacks.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

struct merge {
    struct sandbox *sandbox;
    bool disk; /* else memory */
    struct node_layer_id ids[VMM_DISK_LAYERS_MAX];
    unsigned count;
    struct node_layer_id result;
    char warm[NODE_LAYER_ID_SIZE]; /* below the memory; referenced */
    uint64_t began_us;

    /* job */
    uv_work_t work;
    int rc;
    struct shl_err err;
};

/* Op layers, once a merge was applied. */
struct telling {
    struct sandbox *sandbox;
    uv_work_t work;
    struct node_stack stack; /* what is told; referenced */
    struct node_stack_fds fds;
    int rc;
    struct shl_err err;
};

static void queue(struct sandbox *sandbox, uv_work_t *work, uv_work_cb run, uv_after_work_cb done)
{
    int rc SHL_UNUSED;

    sandbox->pub.manager->jobs++;
    rc = uv_queue_work(sandbox->pub.manager->loop, work, run, done);
    assert(rc == 0);
}

/* ---- 4. a running VMM is told ----------------------------------------------------- */

/* Its sealed layers are those of the stack only while nothing changes either. */
static bool may_tell(const struct sandbox *sandbox)
{
    return sandbox->run && !sandbox->ending && !sandbox->booting && !sandbox->snapshot &&
           !sandbox->resume_due && !sandbox->no_merge &&
           sandbox->pub.state == NODE_SANDBOX_RUNNING && sandbox->control && !sandbox->exited;
}

/* Not told: it was not the time, or it @failed, and is not tried again at once. */
static void not_told(struct sandbox *sandbox, bool failed, const char *msg)
{
    sandbox->telling = false;
    sandbox->layers_due = true;
    sandbox->tell_failed = failed;
    if (sandbox->ending) {
        return;
    }
    if (failed) {
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "layers_not_changed",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", msg));
    }
    merge_consider(sandbox);
    snapshot_on_merged(sandbox);
}

static void on_told(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct sandbox *sandbox = arg;

    (void)reply;
    if (code < 0) {
        not_told(sandbox, true, msg);
        return;
    }
    sandbox->telling = false;
    merge_consider(sandbox);
    snapshot_on_merged(sandbox);
}

static void send_layers(struct telling *telling)
{
    struct sandbox *sandbox = telling->sandbox;
    struct node_vmm_fd fds[VMM_DISK_LAYERS_MAX + 1];
    unsigned i;
    int rc;

    for (i = 0; i < telling->fds.disk_count; i++) {
        fds[i] = (struct node_vmm_fd){"layer", telling->fds.disk[i]};
    }
    rc = node_vmm_link_request(sandbox->control, "layers", NULL, fds, telling->fds.disk_count,
                               on_told, sandbox);
    if (rc < 0) {
        not_told(sandbox, true, shl_err_text(rc));
    }
}

static void run_open(uv_work_t *work)
{
    struct telling *telling = work->data;

    telling->rc =
        node_stack_open(telling->sandbox->pub.manager, telling->sandbox->pub.spec.template_name,
                        &telling->stack, &telling->fds, &telling->err);
}

static void on_opened(uv_work_t *work, int status)
{
    struct telling *telling = work->data;
    struct sandbox *sandbox = telling->sandbox;
    struct node_manager *manager = sandbox->pub.manager;
    const struct node_stack *stack = &telling->stack;

    (void)status;
    if (telling->rc < 0) {
        not_told(sandbox, true, telling->err.msg);
    } else if (may_tell(sandbox) && sandbox->stack.disk_count == stack->disk_count &&
               memcmp(sandbox->stack.disk, stack->disk,
                      stack->disk_count * sizeof(stack->disk[0])) == 0) {
        send_layers(telling);
    } else {
        not_told(sandbox, false, "");
    }
    node_stack_close(&telling->fds);
    node_stack_unref(manager, &telling->stack);
    node_sandbox_unref(&sandbox->pub);
    free(telling);
    manager_job_ended(manager);
}

static void tell(struct sandbox *sandbox)
{
    struct telling *telling = calloc(1, sizeof(*telling));

    if (!telling) {
        sandbox->tell_failed = true; /* after the next change of the stack */
        return;
    }
    sandbox->layers_due = false;
    sandbox->telling = true;
    telling->sandbox = sandbox;
    telling->stack = sandbox->stack;
    telling->stack.state.hex[0] = '\0';
    node_stack_ref(sandbox->pub.manager, &telling->stack);
    node_stack_fds_init(&telling->fds);
    telling->work.data = telling;
    node_sandbox_ref(&sandbox->pub);
    queue(sandbox, &telling->work, run_open, on_opened);
}

/* ---- 3. the stack with the result -------------------------------------------------- */

static struct node_layer_id *layers_of(struct node_stack *stack, bool disk, unsigned **ret_count)
{
    *ret_count = disk ? &stack->disk_count : &stack->mem_count;
    return disk ? stack->disk : stack->mem;
}

/* False when the stack does not begin with what was merged. */
static bool replace(const struct merge *merge, struct node_stack *stack)
{
    unsigned *count;
    struct node_layer_id *ids = layers_of(stack, merge->disk, &count);

    if (*count < merge->count || memcmp(ids, merge->ids, merge->count * sizeof(*ids)) != 0) {
        return false;
    }
    ids[0] = merge->result;
    (void)memmove(&ids[1], &ids[merge->count], (*count - merge->count) * sizeof(*ids));
    *count -= merge->count - 1;
    return true;
}

static int apply(const struct merge *merge, struct shl_err *err)
{
    struct sandbox *sandbox = merge->sandbox;
    struct node_stack before = sandbox->stack;
    struct node_stack after = before;
    int rc;

    if (!sandbox->alive || sandbox->over || sandbox->letting_go || !replace(merge, &after)) {
        return shl_err_set(err, SHL_EBADSTATE, "it is not needed any more");
    }
    sandbox->stack = after;
    rc = sandbox_save(sandbox, err);
    sandbox->stack = before;
    if (rc == 0) {
        sandbox_set_stack(sandbox, &after);
    }
    return rc;
}

static void on_merged(uv_work_t *work, int status)
{
    struct merge *merge = work->data;
    struct sandbox *sandbox = merge->sandbox;
    struct node_manager *manager = sandbox->pub.manager;
    struct shl_err err = merge->err;
    int rc = merge->rc == 0 ? apply(merge, &err) : merge->rc;
    unsigned i;

    (void)status;
    SHL_LOG(&manager->log, rc < 0 ? SHL_LOG_WARN : SHL_LOG_INFO, "layers_merged",
            SHL_S("sandbox", sandbox->pub.id), SHL_S("kind", merge->disk ? "disk" : "memory"),
            SHL_I("layers", merge->count), SHL_S("failed", rc < 0 ? err.msg : ""),
            SHL_I("ms", (int64_t)((shl_monotonic_us() - merge->began_us) / 1000)));
    sandbox->merging = false;
    sandbox->merge_failed = rc < 0;
    if (rc == 0 && merge->disk && sandbox->run) {
        sandbox->layers_due = true;
        sandbox->tell_failed = false;
    }
    for (i = 0; i < merge->count; i++) {
        layers_unref(manager, merge->ids[i].hex);
    }
    layers_unref(manager, merge->result.hex);
    layers_unref(manager, merge->warm);
    merge_consider(sandbox);
    snapshot_on_merged(sandbox);
    node_sandbox_unref(&sandbox->pub);
    free(merge);
    manager_job_ended(manager);
}

/* ---- 2. merging -------------------------------------------------------------------- */

static int open_layers(const struct merge *merge, int *fds, struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    unsigned i;

    for (i = 0; i < merge->count; i++) {
        layers_path(merge->sandbox->pub.manager, merge->ids[i].hex,
                    merge->disk ? LAYERS_DISK : LAYERS_MEM, path, sizeof(path));
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (fds[i] < 0) {
            return shl_err_sys(err, errno, "cannot open %s", path);
        }
    }
    return 0;
}

static int merge_memory(const struct merge *merge, const int *fds, int out_fd, struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    int base_fd = -1;
    int rc;

    if (merge->warm[0]) {
        layers_warm_path(merge->sandbox->pub.manager, merge->warm, "mem", path, sizeof(path));
        base_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (base_fd < 0) {
            return shl_err_sys(err, errno, "cannot open %s", path);
        }
    }
    rc = ckpt_merge_memory(fds, merge->count, base_fd, 0, out_fd, err);
    if (base_fd >= 0) {
        (void)close(base_fd);
    }
    return rc;
}

static int merge_into(const struct merge *merge, const int *fds, int out_fd, struct shl_err *err)
{
    const struct sandbox *sandbox = merge->sandbox;
    char identity[NODE_LAYER_ID_SIZE];
    int base_fd;
    int rc;

    if (!merge->disk) {
        return merge_memory(merge, fds, out_fd, err);
    }
    rc = files_open_template(sandbox->pub.manager, sandbox->pub.spec.template_name, &base_fd,
                             identity, err);
    if (rc == 0) {
        rc = ckpt_merge_disk(fds, merge->count, base_fd, out_fd, err);
        (void)close(base_fd);
    }
    return rc;
}

static void run_merge(uv_work_t *work)
{
    struct merge *merge = work->data;
    const struct node_manager *manager = merge->sandbox->pub.manager;
    struct shl_err *err = &merge->err;
    int fds[VMM_DISK_LAYERS_MAX];
    int out_fd = -1;
    unsigned i;
    int rc;

    (void)memset(fds, -1, sizeof(fds));
    rc = open_layers(merge, fds, err);
    if (rc == 0) {
        out_fd = rc = files_new_layer(manager, merge->result.hex,
                                      merge->disk ? LAYERS_DISK : LAYERS_MEM, err);
    }
    if (rc >= 0) {
        rc = merge_into(merge, fds, out_fd, err);
    }
    if (rc == 0) {
        rc = files_sync_folder(manager, "layers", err);
    }
    for (i = 0; i < merge->count; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    if (out_fd >= 0) {
        (void)close(out_fd);
    }
    merge->rc = rc;
}

/* ---- 1. is it needed? --------------------------------------------------------------- */

static void begin(struct sandbox *sandbox, bool disk)
{
    struct node_manager *manager = sandbox->pub.manager;
    struct merge *merge = calloc(1, sizeof(*merge));
    const struct node_layer_id *ids;
    unsigned *count;
    unsigned i;

    if (!merge) {
        return;
    }
    merge->sandbox = sandbox;
    merge->disk = disk;
    merge->began_us = shl_monotonic_us();
    ids = layers_of(&sandbox->stack, disk, &count);
    merge->count = *count;
    for (i = 0; i < merge->count; i++) {
        merge->ids[i] = ids[i];
        layers_ref(manager, ids[i].hex);
    }
    layers_new(manager, &merge->result);
    if (!disk && sandbox->stack.warm_mem) {
        (void)snprintf(merge->warm, sizeof(merge->warm), "%s", sandbox->stack.warm);
        layers_ref(manager, merge->warm);
    }
    merge->work.data = merge;
    sandbox->merging = true;
    node_sandbox_ref(&sandbox->pub);
    queue(sandbox, &merge->work, run_merge, on_merged);
}

void merge_consider(struct sandbox *sandbox)
{
    const struct node_stack *stack = &sandbox->stack;
    bool sleeps = sandbox->pub.state == NODE_SANDBOX_HIBERNATED;
    /* of a running one only so that the next snapshot has room */
    unsigned mem_max = sleeps ? NODE_STACK_MEM_MERGE : VMM_MEM_LAYERS_MAX - 2;

    if (!sandbox->alive || sandbox->over || sandbox->letting_go ||
        (sandbox->hidden && !sandbox->builder)) {
        return;
    }
    if (sandbox->layers_due && !sandbox->telling && !sandbox->tell_failed && may_tell(sandbox)) {
        tell(sandbox);
    }
    if (sandbox->merging || sandbox->merge_failed || sandbox->no_merge ||
        sandbox->pub.state == NODE_SANDBOX_WAKING) {
        return;
    }
    if (stack->disk_count > NODE_STACK_DISK_MERGE) {
        begin(sandbox, true);
    } else if (stack->mem_count > mem_max) {
        begin(sandbox, false);
    }
}
