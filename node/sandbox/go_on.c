/* A VM that may be paused, or whose user processes may be frozen, goes on: after a snapshot,
 * a hibernation that failed, or a daemon that died in the middle of one.
 *
 * Happy path: resume, then thaw. Both may be sent once too often, and are sent again when a
 * connection broke: go_on is called each time one is up, and when the deadline of the VM, which
 * may have paused it, was put off (pause.c).
 */
#include <string.h>
#include <sys/stat.h>

#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define REQUEST_MAX 1024

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

    shl_buf_init(&buf, REQUEST_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "thaw");
    shl_mp_end(&w);
    if (shl_mp_done(&w) == 0 &&
        node_agent_open_kept(sandbox->link, shl_buf_bytes(&buf), &ops, sandbox, &stream) == 0) {
        sandbox->thawing = true;
    }
    shl_buf_release(&buf);
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
        deadline_lies_ahead(sandbox) &&
        node_vmm_link_request(sandbox->control, "resume", NULL, NULL, 0, on_resumed, sandbox) ==
            0) {
        sandbox->resuming = true;
    }
    if (sandbox->thaw_due && !sandbox->resume_due && !sandbox->thawing && sandbox->link) {
        thaw(sandbox);
    }
}
