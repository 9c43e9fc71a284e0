/* What a former daemon of this node left behind.
 *
 * Happy path:
 *  1. load: every record becomes a sandbox, newest first.
 *  2. judge: a running one whose VMM process is still the same lives, and so does a
 *     hibernated one; any other record that is not over gets its end and a reason.
 *     Those that live take the references of their layers.
 *  3. strays_remove: processes, cgroups and folders of everything that does not live.
 *  4. The network opens with the living guests (the last step that can fail).
 *  5. resume: process, control and agent link are watched as if this daemon had started
 *     them.
 *
 * What can go wrong: a record is damaged or newer (the daemon refuses to start, because
 * it could not tell which VM is whose); a VMM ends between 2 and 5 (its end is seen in 5).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "node/sandbox/strays.h"

/* ---- 1. records ------------------------------------------------------------------ */

struct load {
    struct node_manager *manager;
    struct sandbox **items;
    size_t count, room;
    int rc;
    struct shl_err *err;
};

static bool on_record(void *arg, const char *id, struct shl_bytes value)
{
    struct load *load = arg;
    struct sandbox *sandbox;

    if (load->count == load->room) {
        size_t room = load->room ? load->room * 2 : 64;
        struct sandbox **items = realloc(load->items, room * sizeof(struct sandbox *));

        if (!items) {
            load->rc = shl_err_sys(load->err, ENOMEM, "cannot read the records");
            return false;
        }
        load->items = items;
        load->room = room;
    }
    sandbox = sandbox_new(load->manager);
    if (!sandbox) {
        load->rc = shl_err_sys(load->err, ENOMEM, "cannot read the records");
        return false;
    }
    load->items[load->count++] = sandbox;
    load->rc = record_decode(sandbox, id, value, load->err);
    return load->rc == 0;
}

static int by_age(const void *a, const void *b)
{
    const struct sandbox *const *left = a;
    const struct sandbox *const *right = b;
    int64_t l = (*left)->pub.created_at_ms;
    int64_t r = (*right)->pub.created_at_ms;

    return (l > r) - (l < r);
}

static int load_records(struct node_manager *manager, struct shl_err *err)
{
    struct load load = {.manager = manager, .err = err};
    size_t i;
    int rc = node_store_each(manager->store, SANDBOX_KIND, on_record, &load, err);

    rc = rc < 0 ? rc : load.rc;
    if (rc == 0 && load.count > 0) {
        qsort(load.items, load.count, sizeof(struct sandbox *), by_age);
    }
    for (i = 0; i < load.count; i++) {
        if (rc == 0) {
            manager_insert(manager, load.items[i]);
        } else {
            sandbox_free(load.items[i]);
        }
    }
    free(load.items);
    return rc;
}

/* ---- 2. who lives ---------------------------------------------------------------- */

static bool is_over(const struct sandbox *sandbox)
{
    return sandbox->pub.state == NODE_SANDBOX_STOPPED || sandbox->pub.state == NODE_SANDBOX_ERROR;
}

static bool vmm_lives(const struct sandbox *sandbox)
{
    uint64_t ticks;

    return strcmp(sandbox->machine_boot_id, sandbox->pub.manager->machine_boot_id) == 0 &&
           sandbox->vmm_id.pid > 0 && node_process_start_ticks(sandbox->vmm_id.pid, &ticks) == 0 &&
           ticks == sandbox->vmm_id.start_ticks;
}

/* Its last words are read before its folder is removed. */
static int end_record(struct sandbox *sandbox, struct shl_err *err)
{
    enum node_sandbox_state state = NODE_SANDBOX_ERROR;
    char reason[NODE_REASON_MAX];
    int code;

    if (sandbox->pub.state == NODE_SANDBOX_STOPPING) {
        state = NODE_SANDBOX_STOPPED;
        (void)snprintf(reason, sizeof(reason), "%s", sandbox->pub.reason);
    } else if (sandbox->pub.state == NODE_SANDBOX_RUNNING && !sandbox->overlay.hex[0]) {
        (void)snprintf(reason, sizeof(reason), "an older version of the node daemon started it");
    } else if (sandbox->pub.state == NODE_SANDBOX_CREATING) {
        (void)snprintf(reason, sizeof(reason),
                       "the node daemon was restarted while the sandbox was starting");
    } else if (strcmp(sandbox->machine_boot_id, sandbox->pub.manager->machine_boot_id) != 0) {
        (void)snprintf(reason, sizeof(reason), "the machine was restarted");
        sandbox->pub.lost = true;
    } else if (!watch_exit_reason(sandbox, reason, &code, &state)) {
        (void)snprintf(reason, sizeof(reason), "the VMM was killed while the node daemon was down");
        sandbox->pub.lost = true;
    }
    if (state == NODE_SANDBOX_STOPPED && sandbox->pub.state == NODE_SANDBOX_RUNNING) {
        sandbox_set_state(sandbox, NODE_SANDBOX_STOPPING, reason);
    }
    sandbox_set_state(sandbox, state, reason);
    sandbox->durable = state;
    sandbox->has_slot = false;
    sandbox->stack = (struct node_stack){0};
    sandbox->overlay.hex[0] = sandbox->next.hex[0] = '\0';
    sandbox->pub.saved_bytes = 0;
    return sandbox_save(sandbox, err);
}

static bool has_run(const struct sandbox *sandbox)
{
    return sandbox->pub.state == NODE_SANDBOX_RUNNING && sandbox->overlay.hex[0] &&
           vmm_lives(sandbox);
}

/* Living ones stay in the state running or hibernated; everything else is over afterwards. */
static int judge(struct node_manager *manager, struct shl_err *err)
{
    struct shl_list *it;
    int rc = 0;

    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (rc == 0 && !is_over(sandbox) && sandbox->pub.state != NODE_SANDBOX_HIBERNATED &&
            !has_run(sandbox)) {
            rc = end_record(sandbox, err);
        }
        if (is_over(sandbox)) {
            manager->ended++;
        } else {
            node_stack_ref(manager, &sandbox->stack);
            layers_ref(manager, sandbox->overlay.hex);
            layers_ref(manager, sandbox->next.hex);
        }
    }
    return rc;
}

static bool keep(void *arg, const char *id)
{
    const struct sandbox *sandbox = manager_lookup(arg, id);

    return sandbox && sandbox->pub.state == NODE_SANDBOX_RUNNING;
}

/* ---- 4. network ------------------------------------------------------------------ */

static int open_network(struct node_manager *manager,
                        const struct node_manager_config *config,
                        struct shl_err *err)
{
    const struct node_net_config net_config = {
        .pool_cidr = config->pool_cidr,
        .dns = config->dns,
        .log = &manager->log,
    };
    struct node_net_guest *guests = NULL;
    size_t count = 0;
    struct shl_list *it;
    int rc;

    if (config->without_network || config->without_sandboxes) {
        return 0;
    }
    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);
        struct node_net_guest *grown;

        if (sandbox->pub.state != NODE_SANDBOX_RUNNING || !sandbox->has_slot) {
            continue;
        }
        grown = realloc(guests, (count + 1) * sizeof(*guests));
        if (!grown) {
            free(guests);
            return shl_err_sys(err, ENOMEM, "cannot set up the guest network");
        }
        guests = grown;
        node_net_tap_name(guests[count].tap, sandbox->pub.id);
        guests[count++].slot = sandbox->slot;
        sandbox->attached = true;
    }
    rc = node_net_open(&net_config, guests, count, &manager->net, err);
    free(guests);
    return rc;
}

/* ---- 5. watching again ----------------------------------------------------------- */

static int resume_watching(struct sandbox *sandbox, struct shl_err *err)
{
    int rc = node_process_adopt(sandbox->pub.manager->loop, &sandbox->vmm_id, watch_on_exit,
                                sandbox, &sandbox->process, err);

    if (rc < 0) {
        sandbox->exited = true;
        return rc;
    }
    sandbox->handles++;
    rc = watch_open_control(sandbox);
    if (rc == 0) {
        rc = watch_open_agent(sandbox);
    }
    return rc < 0 ? shl_err_set(err, rc, "the VMM cannot be watched: %s", shl_err_text(rc)) : 0;
}

static void resume(struct sandbox *sandbox)
{
    enum node_sandbox_state state = NODE_SANDBOX_ERROR;
    char reason[NODE_REASON_MAX];
    struct node_process_id vmm_id = sandbox->vmm_id;
    const struct node_stack nothing = {0};
    struct shl_err err = {0};
    int code = -EIO;

    run_begin(sandbox, &nothing);
    sandbox->vmm_id = vmm_id;
    sandbox->deadline_unknown = true;
    /* it may have died in the middle of a snapshot; both do no harm when not */
    sandbox->resume_due = true;
    sandbox->thaw_due = true;
    sandbox->layers_due = true; /* or after a merge that is in the record */
    if (!sandbox->pub.manager->net) {
        sandbox->has_slot = false;
    }
    if (resume_watching(sandbox, &err) < 0) {
        if (!sandbox->exited || !watch_exit_reason(sandbox, reason, &code, &state)) {
            (void)snprintf(reason, sizeof(reason), "%s",
                           sandbox->exited ? "the VMM was killed" : err.msg);
        }
        sandbox_end(sandbox, state, code, "%s", reason);
        return;
    }
    sandbox->pub.agent = sandbox->link;
    watch_start_silence(sandbox);
    idle_start(sandbox);
    SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_INFO, "sandbox_adopted",
            SHL_S("sandbox", sandbox->pub.id), SHL_I("vmm_pid", sandbox->vmm_id.pid));
}

void adopt_resume(struct node_manager *manager)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (is_over(sandbox)) {
            continue;
        }
        sandbox_begin_life(sandbox);
        if (sandbox->pub.state == NODE_SANDBOX_RUNNING) {
            resume(sandbox);
        }
        merge_consider(sandbox);
    }
}

int adopt_load(struct node_manager *manager,
               const struct node_manager_config *config,
               struct shl_err *err)
{
    int rc = load_records(manager, err);

    if (rc == 0) {
        rc = judge(manager, err);
    }
    if (rc < 0) {
        return rc;
    }
    strays_remove(manager, keep, manager);
    return open_network(manager, config, err);
}
