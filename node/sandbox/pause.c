/* A running sandbox that is to stand still, because the lease of its node ends.
 *
 * Happy path: op pause, later op resume. Calls that come meanwhile wait as for a wake, calls
 * in flight wait because their guest does; the idle timer stands still.
 *
 * What can go wrong: the connection to the VMM breaks (told again when it is back, go_on.c); it
 * starts, hibernates or is snapshotted at that moment (told when it runs: the VMM keeps a
 * paused one paused after a snapshot). A run that ends forgets it.
 */
#include "node/sandbox/sandbox.h"

static void go(struct sandbox *sandbox)
{
    idle_start(sandbox);
    waiters_answer(&sandbox->wakers, 0, "");
    if (!shl_list_empty(&sandbox->sleepers) && sandbox->pub.state == NODE_SANDBOX_RUNNING &&
        !sandbox->ending) {
        hibernate_begin(sandbox);
    }
}

static void on_told(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct sandbox *sandbox = arg;

    (void)reply;
    sandbox->pausing = false;
    if (sandbox->ending || sandbox->over || code == SHL_EUNAVAILABLE) {
        return;
    }
    if (code < 0) {
        /* whatever it does now, it must not run on unseen */
        run_fail(sandbox, NODE_SANDBOX_ERROR, code, "the guest could not be %s: %s",
                 sandbox->paused ? "paused" : "let go on", msg);
        return;
    }
    sandbox->pause_due = sandbox->pause_told != sandbox->paused;
    pause_apply(sandbox);
    if (!sandbox->pause_due && !sandbox->paused) {
        node_sandbox_ref(&sandbox->pub);
        go_on(sandbox); /* what it owed before it was paused */
        go(sandbox);
        node_sandbox_unref(&sandbox->pub);
    }
}

void pause_apply(struct sandbox *sandbox)
{
    if (!sandbox->run || !sandbox->pause_due || sandbox->pausing || sandbox->ending ||
        sandbox->over || !sandbox->control || sandbox->pub.state != NODE_SANDBOX_RUNNING) {
        return;
    }
    if (sandbox->paused) {
        idle_stop(sandbox);
    }
    if (node_vmm_link_request(sandbox->control, sandbox->paused ? "pause" : "resume", NULL, NULL, 0,
                              on_told, sandbox) == 0) {
        sandbox->pausing = true;
        sandbox->pause_told = sandbox->paused;
    }
}

void node_sandbox_set_paused(struct node_sandbox *pub, bool paused)
{
    struct sandbox *sandbox = sandbox_of(pub);

    if (sandbox->paused == paused || !sandbox->run || sandbox->ending || sandbox->over ||
        sandbox->letting_go) {
        return;
    }
    sandbox->paused = paused;
    sandbox->pause_due = true;
    SHL_LOG(&pub->manager->log, SHL_LOG_INFO, "sandbox_paused", SHL_S("sandbox", pub->id),
            SHL_S("paused", paused ? "yes" : "no"));
    pause_apply(sandbox);
}
