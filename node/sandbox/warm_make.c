/* Making a warm template.
 *
 * Two rounds of the same steps; in the second, the trial, what the first one made is restored
 * as a create will restore it. So no user's sandbox ever starts from a snapshot that was
 * not restored before, and it is known which pages a run writes at its beginning.
 *
 * Happy path:
 *  1. warm_make: a hidden sandbox boots, with the smallest memory and all CPUs, of which
 *     setup leaves one online. Trial: one is restored. -> on_running
 *  2. A few common programs run, so that they and their libraries are in the page
 *     cache of every sandbox to come. Trial: a small command, as a user's first. -> on_result
 *  3. The last snapshot of it. -> on_snapshot
 *  4. run_job (thread pool): memory flattened into a raw image, state and disk linked
 *     beside it, in a folder under a random id, the draft. Trial: its memory layer is
 *     linked there as the working set, all is synced, the folder gets its name. -> on_job
 *  5. The hidden sandbox ends. -> on_ended, round_over: the trial begins; warm_made.
 *
 * What can go wrong: any step fails or the VM ends: the hidden sandbox ends, its files and
 * the draft go, warm_made hears the reason. The daemon dies: the next one removes VM, folder
 * and layers as leftovers; nothing names a draft.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/warm.h"

#define REQUEST_MAX 4096
#define WARM_UP_MS  30000
#define SESSION     "_warm-up"
#define TRY_SESSION "_trial" /* the other one is known in the restored guest, too */
/* Each for itself: none of them has to be there, and none may hang. */
#define WARM_UP_COMMAND                                                                      \
    "for c in 'bash -c true' 'python3 -c \"import json, os, subprocess, sys\"' 'node -e 0' " \
    "'git --version' 'ls /' 'cat /etc/passwd'; do timeout 10 sh -c \"$c\"; done "            \
    ">/dev/null 2>&1; true"
#define TRY_COMMAND "echo ready"

/* ---- 5. the end of a round ------------------------------------------------------- */

static int begin_round(struct warm *warm, const struct node_stack *start, struct shl_err *err);

static int begin_trial(struct warm *warm, struct shl_err *err)
{
    struct node_stack start = {.warm_mem = true, .state = warm->draft};

    (void)snprintf(start.base, sizeof(start.base), "%s", warm->base);
    (void)snprintf(start.warm, sizeof(start.warm), "%s", warm->draft.hex);
    warm->trying = true;
    return begin_round(warm, &start, err);
}

/* The hidden sandbox is gone and no job is under way. */
static void round_over(struct warm *warm)
{
    struct node_manager *manager = warm->manager;
    struct node_layer_id draft = warm->draft;

    node_stack_unref(manager, &warm->stack);
    warm->stack = (struct node_stack){0};
    if (warm->rc == 0 && !warm->trying && !manager->closing) {
        warm->rc = begin_trial(warm, &warm->err);
        if (warm->rc == 0) {
            return;
        }
    }
    warm->draft.hex[0] = '\0';
    layers_unref(manager, draft.hex);
    if (warm->rc < 0 && warm->trying) {
        (void)shl_err_wrap(&warm->err, warm->rc, "the trial of it failed");
    }
    warm_made(warm, warm->rc, warm->err.msg);
}

/* The hidden sandbox is gone, as it should, or before that. */
static void on_ended(void *arg, int code, const char *msg)
{
    struct warm *warm = arg;

    (void)code;
    (void)msg;
    if (warm->working) {
        warm->maker = NULL; /* its snapshot is taken; rc and err are the thread's until then */
        return;
    }
    if (warm->rc == 0 && !warm->worked) {
        warm->rc = shl_err_set(&warm->err, SHL_EGUEST, "%s", warm->maker->end_reason);
    }
    warm->maker = NULL;
    round_over(warm);
}

static void fail(struct warm *warm, int code, const char *msg)
{
    warm->rc = shl_err_set(&warm->err, code, "%s", msg);
    sandbox_end(warm->maker, NODE_SANDBOX_ERROR, code, "%s", msg);
}

/* ---- 4. files -------------------------------------------------------------------- */

static int link_layer(const struct warm *warm,
                      const struct node_layer_id *id,
                      const char *kind,
                      const char *name,
                      struct shl_err *err)
{
    char from[SANDBOX_PATH_MAX];
    char to[SANDBOX_PATH_MAX];

    layers_path(warm->manager, id->hex, kind, from, sizeof(from));
    layers_warm_path(warm->manager, warm->draft.hex, name, to, sizeof(to));
    return link(from, to) < 0 ? shl_err_sys(err, errno, "cannot link %s", to) : 0;
}

static int flatten(const struct warm *warm, struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    int in_fd, out_fd;
    int rc;

    layers_path(warm->manager, warm->stack.mem[0].hex, LAYERS_MEM, path, sizeof(path));
    in_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (in_fd < 0) {
        return shl_err_sys(err, errno, "cannot open %s", path);
    }
    layers_warm_path(warm->manager, warm->draft.hex, LAYERS_MEM, path, sizeof(path));
    out_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    rc = out_fd < 0
             ? shl_err_sys(err, errno, "cannot create %s", path)
             : ckpt_flatten_memory(&in_fd, 1, (uint64_t)NODE_MEMORY_MIN_MB << 20, out_fd, err);
    (void)close(in_fd);
    if (out_fd >= 0) {
        (void)close(out_fd);
    }
    return rc;
}

/* First round: everything a restore needs. */
static int fill_draft(const struct warm *warm, struct shl_err *err)
{
    const struct node_stack *stack = &warm->stack;
    char folder[SANDBOX_PATH_MAX];
    int rc;

    layers_warm_path(warm->manager, warm->draft.hex, "", folder, sizeof(folder));
    rc = shl_mkdir_all(folder, 0700);
    rc = rc < 0 ? shl_err_sys(err, -rc, "cannot make %s", folder) : flatten(warm, err);
    if (rc == 0) {
        rc = link_layer(warm, &stack->state, LAYERS_STATE, LAYERS_STATE, err);
    }
    return rc == 0 ? link_layer(warm, &stack->disk[0], LAYERS_DISK, LAYERS_DISK, err) : rc;
}

/* Second round: what its run wrote; then the folder is complete. */
static int publish(const struct warm *warm, struct shl_err *err)
{
    char from[SANDBOX_PATH_MAX];
    char to[SANDBOX_PATH_MAX];
    int rc = link_layer(warm, &warm->stack.mem[0], LAYERS_MEM, LAYERS_WORK, err);
    int fd;

    if (rc < 0) {
        return rc;
    }
    layers_warm_path(warm->manager, warm->draft.hex, "", from, sizeof(from));
    layers_warm_path(warm->manager, warm->id, "", to, sizeof(to));
    fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        rc = shl_err_sys(err, errno, "cannot write %s to disk", from);
    } else if (rename(from, to) < 0) {
        rc = shl_err_sys(err, errno, "cannot name %s", to);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc == 0 ? files_sync_folder(warm->manager, "warm", err) : rc;
}

static void run_job(uv_work_t *work)
{
    struct warm *warm = work->data;

    warm->rc = warm->trying ? publish(warm, &warm->err) : fill_draft(warm, &warm->err);
}

static void on_job(uv_work_t *work, int status)
{
    struct warm *warm = work->data;
    struct node_manager *manager = warm->manager;

    (void)status;
    warm->working = false;
    warm->worked = warm->rc == 0;
    if (warm->maker) {
        sandbox_end(warm->maker, NODE_SANDBOX_STOPPED, SHL_EGONE, "the template is warm");
    } else {
        round_over(warm);
    }
    manager_job_ended(manager);
}

/* ---- 3. the snapshot ------------------------------------------------------------- */

static void on_snapshot(void *arg,
                        int code,
                        const char *msg,
                        const struct node_stack *stack,
                        const struct sandbox_snapshot_stats *stats)
{
    struct warm *warm = arg;
    int rc SHL_UNUSED;

    (void)stats;
    if (code == 0) {
        warm->stack = *stack;
    }
    if (warm->maker->over || warm->maker->letting_go) {
        return; /* on_ended follows */
    }
    if (code < 0) {
        fail(warm, code, msg);
        return;
    }
    if (!warm->trying) {
        layers_new(warm->manager, &warm->draft);
    }
    warm->working = true;
    warm->manager->jobs++;
    warm->work.data = warm;
    rc = uv_queue_work(warm->manager->loop, &warm->work, run_job, on_job);
    assert(rc == 0);
}

static void take_snapshot(struct warm *warm)
{
    int rc;

    idle_stop(warm->maker);
    sandbox_set_state(warm->maker, NODE_SANDBOX_HIBERNATING, "");
    rc = sandbox_snapshot(warm->maker, SANDBOX_SNAPSHOT_LAST, on_snapshot, warm);
    if (rc < 0) {
        fail(warm, rc, shl_err_text(rc));
    }
}

/* ---- 2. the command -------------------------------------------------------------- */

static int open_request(struct warm *warm,
                        const char *op,
                        void (*add)(const struct warm *warm, struct shl_mp_writer *w),
                        const struct node_agent_stream_ops *ops)
{
    struct node_agent_stream *stream;
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, REQUEST_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", op);
    shl_mp_kv_str(&w, "session", warm->trying ? TRY_SESSION : SESSION);
    add(warm, &w);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_agent_open(warm->maker->link, shl_buf_bytes(&buf), ops, warm, &stream);
    }
    shl_buf_release(&buf);
    return rc;
}

/* How warming up went does not matter, as long as the guest is there. */
static void on_result(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct warm *warm = arg;

    (void)response;
    if (warm->maker->ending || warm->maker->over) {
        return;
    }
    if (warm->trying && code < 0) {
        fail(warm, code, msg);
    } else if (warm->trying && warm->exit_code != 0) {
        fail(warm, SHL_EGUEST, "a first command did not succeed");
    } else {
        take_snapshot(warm);
    }
}

static void on_head(void *arg, const msgpack_object *head)
{
    struct warm *warm = arg;

    (void)!shl_mp_get_int(head, "exit_code", &warm->exit_code);
}

static void ignore_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    (void)arg;
    (void)channel;
    (void)data;
}

static void add_wait(const struct warm *warm, struct shl_mp_writer *w)
{
    (void)warm;
    shl_mp_kv_uint(w, "wait_ms", WARM_UP_MS);
}

static void on_exec_started(void *arg, int code, const char *msg, const msgpack_object *response)
{
    static const struct node_agent_stream_ops ops = {
        .on_head = on_head, .on_data = ignore_data, .on_end = on_result};
    struct warm *warm = arg;

    if (warm->maker->ending || warm->maker->over) {
        return;
    }
    if (code == 0) {
        code = open_request(warm, "exec.result", add_wait, &ops);
        msg = shl_err_text(code);
    }
    if (code < 0) {
        on_result(arg, code, msg, response);
    }
}

static void add_command(const struct warm *warm, struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "cmd", warm->trying ? TRY_COMMAND : WARM_UP_COMMAND);
    shl_mp_kv_str(w, "cwd", "/");
    shl_mp_kv_uint(w, "timeout_ms", WARM_UP_MS);
}

/* ---- 1. the sandbox -------------------------------------------------------------- */

/* Called when it runs, or with an error when it ended before. */
static void on_running(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_exec_started};
    struct warm *warm = arg;

    (void)sandbox;
    if (code < 0) {
        warm->maker = NULL;
        warm->rc = shl_err_set(&warm->err, code, "%s", msg);
        round_over(warm);
        return;
    }
    if (waiter_add(&warm->maker->waiters, on_ended, warm) < 0) {
        abort(); /* a few bytes, at the start of a daemon */
    }
    code = open_request(warm, "exec.start", add_command, &ops);
    if (code < 0) {
        fail(warm, code, shl_err_text(code));
    }
}

static int begin_round(struct warm *warm, const struct node_stack *start, struct shl_err *err)
{
    struct node_sandbox_spec spec = {
        .cpus = 1, .memory_mb = NODE_MEMORY_MIN_MB, .disk_mb = NODE_DISK_MIN_MB};
    uint64_t bytes;
    int rc = files_template(warm->manager, warm->template_name, &bytes, err);

    if (rc < 0) {
        return rc;
    }
    spec.disk_mb = SHL_MAX(spec.disk_mb, (uint32_t)((bytes + (1 << 20) - 1) >> 20));
    (void)snprintf(spec.template_name, sizeof(spec.template_name), "%s", warm->template_name);
    warm->worked = false;
    warm->exit_code = -1;
    return sandbox_create_hidden(warm->manager, &spec, start, on_running, warm, &warm->maker, err);
}

int warm_make(struct warm *warm, struct shl_err *err)
{
    const struct node_stack nothing = {0};

    warm->making = true;
    warm->trying = false;
    warm->began_us = shl_monotonic_us();
    warm->rc = 0;
    warm->err = (struct shl_err){0};
    return begin_round(warm, &nothing, err);
}
