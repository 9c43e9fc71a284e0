#include <assert.h>
#include <stdio.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define RECORD_MAX (512 * 1024) /* both key-value lists at their limit, and room */

const char *sandbox_state_name(enum node_sandbox_state state)
{
    switch (state) {
    case NODE_SANDBOX_CREATING:
        return "creating";
    case NODE_SANDBOX_RUNNING:
        return "running";
    case NODE_SANDBOX_HIBERNATING:
        return "hibernating";
    case NODE_SANDBOX_HIBERNATED:
        return "hibernated";
    case NODE_SANDBOX_WAKING:
        return "waking";
    case NODE_SANDBOX_STOPPING:
        return "stopping";
    case NODE_SANDBOX_STOPPED:
        return "stopped";
    case NODE_SANDBOX_ERROR:
        return "error";
    }
    return "?";
}

/* What the outside sees: the nearest stable state. */
const char *node_sandbox_status(const struct node_sandbox *sandbox)
{
    switch (sandbox->state) {
    case NODE_SANDBOX_CREATING:
    case NODE_SANDBOX_RUNNING:
    case NODE_SANDBOX_HIBERNATING:
    case NODE_SANDBOX_WAKING:
        return "running";
    case NODE_SANDBOX_HIBERNATED:
        return "hibernated";
    case NODE_SANDBOX_STOPPING:
    case NODE_SANDBOX_STOPPED:
        return "stopped";
    case NODE_SANDBOX_ERROR:
        return "error";
    }
    return "?";
}

static bool may_change(enum node_sandbox_state from, enum node_sandbox_state to)
{
    switch (to) {
    case NODE_SANDBOX_CREATING:
        return false;
    case NODE_SANDBOX_RUNNING:
        return from == NODE_SANDBOX_CREATING || from == NODE_SANDBOX_HIBERNATING ||
               from == NODE_SANDBOX_WAKING;
    case NODE_SANDBOX_HIBERNATING:
        return from == NODE_SANDBOX_RUNNING;
    case NODE_SANDBOX_HIBERNATED:
        return from == NODE_SANDBOX_HIBERNATING || from == NODE_SANDBOX_WAKING;
    case NODE_SANDBOX_WAKING:
        return from == NODE_SANDBOX_HIBERNATED || from == NODE_SANDBOX_RUNNING;
    case NODE_SANDBOX_STOPPING:
        return from != NODE_SANDBOX_STOPPING && from != NODE_SANDBOX_STOPPED &&
               from != NODE_SANDBOX_ERROR;
    case NODE_SANDBOX_STOPPED:
        return from == NODE_SANDBOX_STOPPING;
    case NODE_SANDBOX_ERROR:
        return from != NODE_SANDBOX_STOPPED && from != NODE_SANDBOX_ERROR;
    }
    return false;
}

void sandbox_set_state(struct sandbox *sandbox, enum node_sandbox_state state, const char *reason)
{
    struct node_sandbox *pub = &sandbox->pub;
    int64_t now_ms = shl_realtime_ms();
    bool over = state == NODE_SANDBOX_STOPPED || state == NODE_SANDBOX_ERROR;

    assert(may_change(pub->state, state));
    SHL_LOG(&pub->manager->log, state == NODE_SANDBOX_ERROR ? SHL_LOG_WARN : SHL_LOG_INFO,
            "sandbox_state", SHL_S("sandbox", pub->id),
            SHL_S("from", sandbox_state_name(pub->state)), SHL_S("to", sandbox_state_name(state)),
            SHL_S("reason", reason), SHL_I("age_ms", now_ms - pub->created_at_ms));
    pub->state = state;
    (void)snprintf(pub->reason, sizeof(pub->reason), "%s", reason);
    if (over) {
        pub->ended_at_ms = now_ms;
    }
    if (state != NODE_SANDBOX_RUNNING) {
        pub->end_at_ms = 0;
        pub->agent = NULL;
    }
    manager_tell_sandbox(sandbox, false);
}

int sandbox_save(struct sandbox *sandbox, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    if (sandbox->hidden || sandbox->moved) {
        return 0;
    }
    shl_buf_init(&buf, RECORD_MAX);
    rc = record_encode(sandbox, &buf);
    rc = rc < 0 ? shl_err_set(err, rc, "the record of %s cannot be written", sandbox->pub.id)
                : node_store_put(sandbox->pub.manager->store, SANDBOX_KIND, sandbox->pub.id,
                                 shl_buf_bytes(&buf), err);
    shl_buf_release(&buf);
    if (rc == 0) {
        manager_tell_sandbox(sandbox, false);
    }
    return rc;
}
