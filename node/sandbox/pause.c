/* A running sandbox that is to stand still, because the lease of its node ends.
 *
 * Happy path: op pause, later op resume. Calls that come meanwhile wait as for a wake, calls
 * in flight wait because their guest does; the idle timer stands still.
 *
 * What can go wrong: the connection to the VMM breaks (told again when it is back, go_on.c); it
 * starts, hibernates or is snapshotted at that moment (told when it runs: the VMM keeps a
 * paused one paused after a snapshot). A run that ends forgets it.
 *
 * The deadline: op deadline with each renewal of the lease. It strikes when this daemon stands
 * still; the reply to the next one says so, and op resume follows. Op resume is never sent
 * before the deadline that allows it; when the VMM refuses it anyhow, because time passed
 * on the way, the next deadline brings it again.
 */
#include "base/io.h"
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
    if (code == SHL_EBADSTATE && !sandbox->pause_told) {
        if (sandbox->paused) { /* else the next deadline brings it again */
            pause_apply(sandbox);
        }
        return;
    }
    if (code < 0) {
        /* whatever it does now, it must not run on unseen */
        run_fail(sandbox, NODE_SANDBOX_ERROR, code, "the guest could not be %s: %s",
                 sandbox->paused ? "paused" : "let go on", msg);
        return;
    }
    sandbox->struck = sandbox->struck && sandbox->pause_told;
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
        sandbox->over || !sandbox->control || sandbox->pub.state != NODE_SANDBOX_RUNNING ||
        (!sandbox->paused && !deadline_lies_ahead(sandbox))) {
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

/* ---- the deadline ----------------------------------------------------------------- */

bool deadline_lies_ahead(const struct sandbox *sandbox)
{
    if (sandbox->deadline_due &&
        (!sandbox->deadline_telling || sandbox->deadline_told_ms != sandbox->deadline_ms)) {
        return false;
    }
    return sandbox->deadline_ms == 0 || shl_monotonic_ms() < sandbox->deadline_ms;
}

/* Not in the middle of a hibernation: what runs after its snapshot would be lost. */
void deadline_go_on(struct sandbox *sandbox)
{
    if (!sandbox->struck || sandbox->paused || sandbox->ending || sandbox->over ||
        (sandbox->pub.state != NODE_SANDBOX_RUNNING && !sandbox->booting)) {
        return;
    }
    sandbox->resume_due = true;
    go_on(sandbox);
}

void deadline_forget(struct sandbox *sandbox)
{
    sandbox->deadline_ms = 0;
    sandbox->deadline_due = false;
}

static void settle_deadline(struct sandbox *sandbox, const msgpack_object *reply, const char *key)
{
    struct node_manager *manager = sandbox->pub.manager;
    bool struck = false;

    (void)!shl_mp_get_bool(reply, key, &struck);
    if (struck && !sandbox->struck) {
        SHL_LOG(&manager->log, SHL_LOG_WARN, "sandbox_deadline_struck",
                SHL_S("sandbox", sandbox->pub.id));
    }
    sandbox->struck = struck;
}

static void on_deadline_told(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct sandbox *sandbox = arg;

    sandbox->deadline_telling = false;
    if (sandbox->ending || sandbox->over || code == SHL_EUNAVAILABLE) {
        return;
    }
    sandbox->deadline_due = sandbox->deadline_told_ms != sandbox->deadline_ms;
    if (code == 0) {
        settle_deadline(sandbox, reply, "struck");
    } else if (!sandbox->deadline_refused) { /* a VMM of an older version */
        sandbox->deadline_refused = true;
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "deadline_not_kept",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", msg),
                SHL_S("effect", "only the daemon pauses it"));
    }
    node_sandbox_ref(&sandbox->pub);
    deadline_apply(sandbox);
    pause_apply(sandbox);
    go_on(sandbox);
    deadline_go_on(sandbox);
    node_sandbox_unref(&sandbox->pub);
}

/* What a former daemon told the VMM, unless this one has said another already. */
static void on_deadline_asked(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct sandbox *sandbox = arg;

    (void)msg;
    sandbox->deadline_telling = false;
    if (sandbox->ending || sandbox->over || code == SHL_EUNAVAILABLE) {
        return;
    }
    sandbox->deadline_unknown = false;
    if (code == 0) {
        settle_deadline(sandbox, reply, "deadline_struck");
    }
    if (code == 0 && !sandbox->deadline_due) {
        (void)!shl_mp_get_uint(reply, "deadline_ms", UINT64_MAX, &sandbox->deadline_ms);
    }
    node_sandbox_ref(&sandbox->pub);
    manager_tell_sandbox(sandbox, false);
    deadline_apply(sandbox);
    node_sandbox_unref(&sandbox->pub);
}

static void add_deadline(void *arg, struct shl_mp_writer *w)
{
    const struct sandbox *sandbox = arg;

    shl_mp_kv_uint(w, "at_ms", sandbox->deadline_ms);
}

/* The VMM has a guest from the reply to its start on, which is when the agent's link opens. */
static bool has_guest(const struct sandbox *sandbox)
{
    return sandbox->run && sandbox->control && !sandbox->ending && !sandbox->over &&
           !sandbox->start_pending && (!sandbox->booting || sandbox->link);
}

void deadline_apply(struct sandbox *sandbox)
{
    int rc = SHL_EUNAVAILABLE;

    if (sandbox->deadline_telling || !has_guest(sandbox)) {
        return;
    }
    if (sandbox->deadline_due) {
        rc = node_vmm_link_request(sandbox->control, "deadline", add_deadline, NULL, 0,
                                   on_deadline_told, sandbox);
        sandbox->deadline_told_ms = sandbox->deadline_ms;
    } else if (sandbox->deadline_unknown) {
        rc = node_vmm_link_request(sandbox->control, "status", NULL, NULL, 0, on_deadline_asked,
                                   sandbox);
    }
    sandbox->deadline_telling = rc == 0;
}

void node_sandbox_set_deadline(struct node_sandbox *pub, uint64_t at_ms)
{
    struct sandbox *sandbox = sandbox_of(pub);

    if (!sandbox->alive || sandbox->over || sandbox->letting_go) {
        return;
    }
    sandbox->deadline_ms = at_ms;
    sandbox->deadline_due = true;
    deadline_apply(sandbox);
}

bool node_sandbox_deadline(const struct node_sandbox *pub, uint64_t *ret_at_ms)
{
    const struct sandbox *sandbox = sandbox_of((struct node_sandbox *)pub);

    *ret_at_ms = sandbox->deadline_ms;
    return !sandbox->deadline_unknown;
}
