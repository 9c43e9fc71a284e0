/* Making a warm template.
 *
 * Happy path:
 *  1. warm_make: a hidden sandbox boots, with the smallest memory and all CPUs, of which
 *     setup leaves one online. -> on_booted
 *  2. A few common programs run, so that they and their libraries are in the page
 *     cache of every sandbox to come. -> on_warmed
 *  3. The last snapshot of it. -> on_snapshot
 *  4. run_publish (thread pool): memory flattened into a raw image, state and disk linked
 *     beside it, all synced, then the folder gets its name. -> on_published
 *  5. The hidden sandbox ends. -> warm_made
 *
 * What can go wrong: any step fails or the VM ends: the hidden sandbox ends, its files
 * go, warm_made hears the reason. The daemon dies: the next one removes VM, folder and layers
 * as leftovers.
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
/* Each for itself: none of them has to be there, and none may hang. */
#define WARM_UP_COMMAND                                                                      \
    "for c in 'bash -c true' 'python3 -c \"import json, os, subprocess, sys\"' 'node -e 0' " \
    "'git --version' 'ls /' 'cat /etc/passwd'; do timeout 10 sh -c \"$c\"; done "            \
    ">/dev/null 2>&1; true"

/* ---- 5. the end of it ------------------------------------------------------------ */

static void done(struct warm *warm)
{
    node_stack_unref(warm->manager, &warm->stack);
    warm->stack = (struct node_stack){0};
    warm_made(warm, warm->rc, warm->err.msg);
}

/* The hidden sandbox is gone, as it should, or before that. */
static void on_ended(void *arg, int code, const char *msg)
{
    struct warm *warm = arg;

    (void)code;
    (void)msg;
    if (warm->publishing) {
        warm->maker = NULL; /* its snapshot is taken; rc and err are the thread's until then */
        return;
    }
    if (warm->rc == 0 && !warm->published) {
        warm->rc = shl_err_set(&warm->err, SHL_EGUEST, "%s", warm->maker->end_reason);
    }
    warm->maker = NULL;
    done(warm);
}

static void fail(struct warm *warm, int code, const char *msg)
{
    warm->rc = shl_err_set(&warm->err, code, "%s", msg);
    sandbox_end(warm->maker, NODE_SANDBOX_ERROR, code, "%s", msg);
}

/* ---- 4. publishing --------------------------------------------------------------- */

static int link_layer(const struct warm *warm,
                      const struct node_layer_id *id,
                      const char *kind,
                      const char *folder,
                      struct shl_err *err)
{
    char from[SANDBOX_PATH_MAX];
    char to[SANDBOX_PATH_MAX];

    layers_path(warm->manager, id->hex, kind, from, sizeof(from));
    (void)snprintf(to, sizeof(to), "%.*s/%s", (int)sizeof(to) - 16, folder, kind);
    return link(from, to) < 0 ? shl_err_sys(err, errno, "cannot link %s", to) : 0;
}

static int flatten(const struct warm *warm, const char *folder, struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    int in_fd, out_fd;
    int rc;

    layers_path(warm->manager, warm->stack.mem[0].hex, LAYERS_MEM, path, sizeof(path));
    in_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (in_fd < 0) {
        return shl_err_sys(err, errno, "cannot open %s", path);
    }
    (void)snprintf(path, sizeof(path), "%.*s/mem", (int)sizeof(path) - 16, folder);
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

static int fill(const struct warm *warm, const char *folder, struct shl_err *err)
{
    const struct node_stack *stack = &warm->stack;
    int fd;
    int rc = flatten(warm, folder, err);

    if (rc == 0) {
        rc = link_layer(warm, &stack->state, LAYERS_STATE, folder, err);
    }
    if (rc == 0) {
        rc = link_layer(warm, &stack->disk[0], LAYERS_DISK, folder, err);
    }
    if (rc < 0) {
        return rc;
    }
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        rc = shl_err_sys(err, errno, "cannot write %s to disk", folder);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

static void run_publish(uv_work_t *work)
{
    struct warm *warm = work->data;
    struct shl_err *err = &warm->err;
    char making[SANDBOX_PATH_MAX];
    char path[SANDBOX_PATH_MAX];
    int rc;

    (void)snprintf(making, sizeof(making), "%s/warm/new-%s", warm->manager->data_dir, warm->id);
    layers_warm_path(warm->manager, warm->id, "", path, sizeof(path));
    rc = shl_remove_tree(making);
    rc = rc < 0 ? rc : shl_mkdir_all(making, 0700);
    rc = rc < 0 ? shl_err_sys(err, -rc, "cannot make %s", making) : fill(warm, making, err);
    if (rc == 0 && rename(making, path) < 0) {
        rc = shl_err_sys(err, errno, "cannot name %s", path);
    }
    warm->rc = rc == 0 ? files_sync_folder(warm->manager, "warm", err) : rc;
}

static void on_published(uv_work_t *work, int status)
{
    struct warm *warm = work->data;
    struct node_manager *manager = warm->manager;

    (void)status;
    warm->publishing = false;
    warm->published = warm->rc == 0;
    if (warm->maker) {
        sandbox_end(warm->maker, NODE_SANDBOX_STOPPED, SHL_EGONE, "the template is warm");
    } else {
        done(warm);
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
    warm->publishing = true;
    warm->manager->jobs++;
    warm->work.data = warm;
    rc = uv_queue_work(warm->manager->loop, &warm->work, run_publish, on_published);
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

/* ---- 2. warming up --------------------------------------------------------------- */

static int open_request(struct warm *warm,
                        const char *op,
                        void (*add)(struct shl_mp_writer *w),
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
    shl_mp_kv_str(&w, "session", SESSION);
    add(&w);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_agent_open(warm->maker->link, shl_buf_bytes(&buf), ops, warm, &stream);
    }
    shl_buf_release(&buf);
    return rc;
}

/* How it went does not matter, as long as the guest is there. */
static void on_warmed(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct warm *warm = arg;

    (void)code;
    (void)msg;
    (void)response;
    if (!warm->maker->ending && !warm->maker->over) {
        take_snapshot(warm);
    }
}

static void ignore_head(void *arg, const msgpack_object *head)
{
    (void)arg;
    (void)head;
}

static void ignore_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    (void)arg;
    (void)channel;
    (void)data;
}

static void add_wait(struct shl_mp_writer *w)
{
    shl_mp_kv_uint(w, "wait_ms", WARM_UP_MS);
}

static void on_exec_started(void *arg, int code, const char *msg, const msgpack_object *response)
{
    static const struct node_agent_stream_ops ops = {
        .on_head = ignore_head, .on_data = ignore_data, .on_end = on_warmed};
    struct warm *warm = arg;

    if (warm->maker->ending || warm->maker->over) {
        return;
    }
    if (code < 0 || open_request(warm, "exec.result", add_wait, &ops) < 0) {
        on_warmed(arg, code, msg, response);
    }
}

static void add_command(struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "cmd", WARM_UP_COMMAND);
    shl_mp_kv_str(w, "cwd", "/");
    shl_mp_kv_uint(w, "timeout_ms", WARM_UP_MS);
}

/* ---- 1. the boot ----------------------------------------------------------------- */

/* Called when it runs, or with an error when it ended before. */
static void on_booted(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_exec_started};
    struct warm *warm = arg;

    (void)sandbox;
    if (code < 0) {
        warm->maker = NULL;
        warm_made(warm, code, msg);
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

int warm_make(struct warm *warm, struct shl_err *err)
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
    warm->began_us = shl_monotonic_us();
    warm->rc = 0;
    warm->err = (struct shl_err){0};
    warm->published = false;
    return sandbox_create_hidden(warm->manager, &spec, on_booted, warm, &warm->maker, err);
}
