/* A VM that may be paused, or whose user processes may be frozen, goes on: after a snapshot,
 * a hibernation that failed, or a daemon that died in the middle of one.
 *
 * Happy path: resume, then thaw. Both may be sent once too often, and are sent again when a
 * connection broke: go_on is called each time one is up, and when the deadline of the VM, which
 * may have paused it, was put off (pause.c). What cannot be sent for another reason (no memory for
 * the request, too many of them) is tried again after a moment.
 */
#include <string.h>
#include <sys/stat.h>

#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define REQUEST_MAX 1024
#define AGAIN_MS    500

/* A snapshot was cut off: does the VMM write the new overlay? It does when that is not
 * empty any more. When it failed after that it writes the old one, and the new one is empty
 * of data: as a stack they are the same, only merging must not touch them in this run. */
static void settle_overlay(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    char path[SANDBOX_PATH_MAX];
    struct shl_err err = {0};
    struct stat st;

    if (!sandbox->next.hex[0] || sandbox->snapshot) {
        return;
    }
    layers_path(manager, sandbox->next.hex, LAYERS_DISK, path, sizeof(path));
    if (stat(path, &st) == 0 && st.st_size > 0 && sandbox->stack.disk_count < VMM_DISK_LAYERS_MAX) {
        sandbox->no_merge = true;
        sandbox->stack.disk[sandbox->stack.disk_count++] = sandbox->overlay;
        sandbox->overlay = sandbox->next;
    } else {
        layers_unref(manager, sandbox->next.hex);
    }
    sandbox->next.hex[0] = '\0';
    if (sandbox_save(sandbox, &err) < 0) {
        SHL_LOG(&manager->log, SHL_LOG_ERROR, "record_not_saved", SHL_S("sandbox", sandbox->pub.id),
                SHL_S("reason", err.msg));
    }
}

static void on_again(uv_timer_t *timer)
{
    go_on(timer->data);
}

/* The connection is up or comes by itself: nothing else would call go_on. */
static void go_on_later(struct sandbox *sandbox, const char *what, int code)
{
    SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "go_on_again",
            SHL_S("sandbox", sandbox->pub.id), SHL_S("request", what),
            SHL_S("reason", shl_err_text(code)));
    (void)uv_timer_start(&sandbox->go_timer, on_again, AGAIN_MS, 0);
}

static void on_thawed(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct sandbox *sandbox = arg;

    (void)response;
    sandbox->thawing = false;
    if (sandbox->ending || code == SHL_EUNAVAILABLE) {
        return; /* again when the link is back */
    }
    sandbox->thaw_due = false;
    if (code < 0) {
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_ERROR, "not_thawed",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", msg));
    }
}

static void thaw(struct sandbox *sandbox)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_thawed};
    struct node_agent_stream *stream;
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, REQUEST_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "thaw");
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_agent_open_kept(sandbox->link, shl_buf_bytes(&buf), &ops, sandbox, &stream);
    }
    shl_buf_release(&buf);
    sandbox->thawing = rc == 0;
    if (rc < 0 && rc != SHL_EGONE) { /* the link ends: so does this run, or another one comes */
        go_on_later(sandbox, "thaw", rc);
    }
}

static void on_resumed(void *arg, int code, const char *msg, const msgpack_object *reply);

static void resume(struct sandbox *sandbox)
{
    int rc = node_vmm_link_request(sandbox->control, "resume", NULL, NULL, 0, on_resumed, sandbox);

    sandbox->resuming = rc == 0;
    if (rc < 0 && rc != SHL_EUNAVAILABLE) { /* it is called when the link is up */
        go_on_later(sandbox, "resume", rc);
    }
}

static void on_resumed(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct sandbox *sandbox = arg;

    (void)reply;
    sandbox->resuming = false;
    if (sandbox->ending || code == SHL_EUNAVAILABLE || code == SHL_EBADSTATE) {
        return; /* again when the link is back, or the VMM has its next deadline */
    }
    if (code < 0) {
        run_fail(sandbox, NODE_SANDBOX_ERROR, code, "the guest could not go on: %s", msg);
        return;
    }
    sandbox->resume_due = false;
    sandbox->struck = false;
    settle_overlay(sandbox);
    if (sandbox->paused) {
        sandbox->pause_due = true; /* it was on its way when that was wanted */
        pause_apply(sandbox);
    }
    go_on(sandbox);
}

void go_on(struct sandbox *sandbox)
{
    if (sandbox->ending || sandbox->over) {
        return;
    }
    if (sandbox->resume_due && !sandbox->paused && !sandbox->resuming && sandbox->control &&
        deadline_lies_ahead(sandbox)) {
        resume(sandbox);
    }
    if (sandbox->thaw_due && !sandbox->resume_due && !sandbox->thawing && sandbox->link) {
        thaw(sandbox);
    }
}
