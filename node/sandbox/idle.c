/* The idle timer: runs while the sandbox runs and nobody holds it; each touch starts it
 * anew. When it fires the sandbox hibernates. A restarted daemon starts it from the
 * beginning. */
#include <assert.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"

static void on_idle(uv_timer_t *timer)
{
    struct sandbox *sandbox = timer->data;

    if (sandbox->pub.state == NODE_SANDBOX_RUNNING && !sandbox->ending) {
        hibernate_begin(sandbox);
    }
}

void idle_start_after(struct sandbox *sandbox, uint64_t ms)
{
    if (sandbox->pub.spec.timeout_s > 0 && sandbox->holds == 0 && !sandbox->paused) {
        sandbox->pub.end_at_ms = shl_realtime_ms() + (int64_t)ms;
        /* the loop's clock may be older by what the record took to save */
        uv_update_time(sandbox->pub.manager->loop);
        (void)uv_timer_start(&sandbox->idle, on_idle, ms, 0);
    }
}

void idle_start(struct sandbox *sandbox)
{
    uint64_t timeout_ms = (uint64_t)sandbox->pub.spec.timeout_s * 1000;

    if (sandbox->ending || sandbox->hidden || sandbox->pub.state != NODE_SANDBOX_RUNNING) {
        return;
    }
    if (timeout_ms == 0 || sandbox->holds > 0 || sandbox->paused) {
        idle_stop(sandbox);
        return;
    }
    idle_start_after(sandbox, timeout_ms);
}

void idle_stop(struct sandbox *sandbox)
{
    sandbox->pub.end_at_ms = 0;
    if (sandbox->alive) {
        (void)uv_timer_stop(&sandbox->idle);
    }
}

int node_sandbox_set_timeout(struct node_sandbox *pub, uint32_t timeout_s)
{
    struct sandbox *sandbox = sandbox_of(pub);
    uint32_t before = pub->spec.timeout_s;
    int rc;

    if (sandbox->over || !sandbox->alive) {
        return SHL_EGONE;
    }
    pub->spec.timeout_s = timeout_s;
    rc = sandbox_save(sandbox, NULL);
    if (rc < 0) {
        pub->spec.timeout_s = before;
        return rc;
    }
    idle_start(sandbox);
    return 0;
}

int node_sandbox_set_previews(struct node_sandbox *pub,
                              const struct node_previews *previews,
                              struct shl_err *err)
{
    struct sandbox *sandbox = sandbox_of(pub);
    struct node_previews before = pub->spec.previews;
    int rc;

    if (sandbox->over || !sandbox->alive) {
        return shl_err_set(err, SHL_EGONE, "the sandbox has ended");
    }
    rc = node_previews_copy(&pub->spec.previews, previews);
    rc =
        rc < 0 ? shl_err_set(err, rc, "no memory for preview records") : sandbox_save(sandbox, err);
    if (rc < 0) {
        node_previews_release(&pub->spec.previews);
        pub->spec.previews = before;
        return rc;
    }
    node_previews_release(&before);
    if (pub->state == NODE_SANDBOX_HIBERNATED) {
        saves_on_hibernated(sandbox); /* what other nodes have says it as before */
    }
    return 0;
}

void node_sandbox_touch(struct node_sandbox *pub)
{
    idle_start(sandbox_of(pub));
}

void node_sandbox_hold(struct node_sandbox *pub)
{
    struct sandbox *sandbox = sandbox_of(pub);

    sandbox->holds++;
    if (pub->state == NODE_SANDBOX_RUNNING) {
        idle_stop(sandbox);
    }
}

void node_sandbox_release(struct node_sandbox *pub)
{
    struct sandbox *sandbox = sandbox_of(pub);

    assert(sandbox->holds > 0);
    sandbox->holds--;
    idle_start(sandbox);
    hibernate_on_release(sandbox);
}
