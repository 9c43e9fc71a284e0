#include "node/sandbox/patch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/sandbox/command.h"
#include "node/sandbox/sandbox.h"
#include "node/sandbox/text.h"

#define EXTRA_MS 30000 /* of a script over its time, until the boot is given up */

/* Of a boot: on its way to the source, which cannot take it back. */
struct patch_wait {
    struct sandbox *sandbox; /* NULL: not interested any more */
};

static bool next(struct sandbox *sandbox);

static void failed(struct sandbox *sandbox, const struct node_command_result *result)
{
    struct shl_bytes tail = result->err.len > 0 ? result->err : result->out;
    char output[NODE_REASON_MAX / 2];
    char how[48];

    if (tail.len > sizeof(output) - 1) {
        tail.base += tail.len - (sizeof(output) - 1);
        tail.len = sizeof(output) - 1;
    }
    node_text_clean(output, sizeof(output),
                    result->code < 0 ? shl_bytes_of(result->msg, strlen(result->msg)) : tail);
    if (result->code < 0) {
        (void)snprintf(how, sizeof(how), "could not run");
    } else if (result->timed_out) {
        (void)snprintf(how, sizeof(how), "did not end within %d s", NODE_PATCH_S);
    } else {
        (void)snprintf(how, sizeof(how), "failed (exit %lld)", (long long)result->exit_code);
    }
    (void)snprintf(sandbox->run_patch_error, sizeof(sandbox->run_patch_error), "patch %u %s: %s",
                   sandbox->patch_sequence, how, output);
    SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "patch_failed",
            SHL_S("sandbox", sandbox->pub.id), SHL_I("sequence", sandbox->patch_sequence),
            SHL_S("reason", how));
}

static void on_end(void *arg, const struct node_command_result *result)
{
    struct sandbox *sandbox = arg;

    sandbox->patch = NULL;
    if (sandbox->ending) {
        return;
    }
    if (result->code < 0 || result->exit_code != 0 || result->timed_out) {
        failed(sandbox, result);
        sandbox->patches_over = true;
    } else {
        sandbox->run_patched = sandbox->patch_sequence;
        sandbox->run_patch_error[0] = '\0';
    }
    if (sandbox->patches_over || !next(sandbox)) {
        boot_become_running(sandbox);
    }
}

static int start(struct sandbox *sandbox, const char *script)
{
    static const struct node_command_ops ops = {.end = on_end};
    const char *const argv[] = {"bash", "-c", script, NULL};
    const char *const envs[] = {"HOME", "/root", "DEBIAN_FRONTEND", "noninteractive", NULL};
    char session[AGENT_SESSION_ID_MAX + 1];
    struct node_command_spec spec = {.session = session,
                                     .argv = argv,
                                     .envs = envs,
                                     .cwd = "/home/sandbox",
                                     .user = "root",
                                     .timeout_s = NODE_PATCH_S};
    struct shl_err err = {0};
    int rc;

    shl_id_make(session, sizeof(session), "_patch-", 12);
    rc = node_command_start(sandbox->link, &spec, &ops, sandbox, &sandbox->patch, &err);
    if (rc < 0) {
        struct node_command_result result = {.code = rc, .msg = err.msg};

        failed(sandbox, &result);
    }
    return rc;
}

/* True: it runs. */
static bool next(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    char *script = NULL;
    int rc;

    if (!manager->patches) { /* the node closes; what is left runs at the next wake */
        return false;
    }
    rc = manager->patches->next(manager->patches_arg, sandbox->pub.from_checkpoint,
                                sandbox->run_patched, &sandbox->patch_sequence, &script);
    if (rc > 0) {
        boot_extend(sandbox, NODE_PATCH_S * 1000 + EXTRA_MS);
        rc = start(sandbox, script) == 0 ? 1 : -1;
    } else if (rc == 0) {
        sandbox->run_patch_error[0] = '\0'; /* what failed was deleted */
    }
    free(script);
    sandbox->patches_over = rc <= 0;
    return rc > 0;
}

/* ---- which there are ----------------------------------------------------------------- */

static bool may_have(const struct sandbox *sandbox)
{
    return sandbox->pub.from_checkpoint[0] && !sandbox->hidden && !sandbox->rebooting &&
           !sandbox->switch_to;
}

static void on_known(void *arg)
{
    struct patch_wait *wait = arg;
    struct sandbox *sandbox = wait->sandbox;
    bool due;

    free(wait);
    if (!sandbox) {
        return;
    }
    due = sandbox->patches_due && !sandbox->ending;
    sandbox->patch_wait = NULL;
    sandbox->patches_due = false;
    if (due && !next(sandbox)) {
        boot_become_running(sandbox);
    }
}

void patches_ask(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    struct patch_wait *wait;

    if (!may_have(sandbox) || !manager->patches || !manager->patches->catch_up) {
        return;
    }
    wait = calloc(1, sizeof(*wait));
    if (!wait) {
        return; /* then with what is known */
    }
    wait->sandbox = sandbox;
    if (manager->patches->catch_up(manager->patches_arg, on_known, wait)) {
        free(wait);
    } else {
        sandbox->patch_wait = wait;
    }
}

void patches_forget(struct sandbox *sandbox)
{
    if (sandbox->patch_wait) {
        sandbox->patch_wait->sandbox = NULL;
        sandbox->patch_wait = NULL;
    }
    sandbox->patches_due = false;
}

bool patches_begin(struct sandbox *sandbox)
{
    if (!may_have(sandbox) || sandbox->patches_over) {
        return false;
    }
    sandbox->patches_due = sandbox->patch_wait != NULL;
    return sandbox->patches_due || next(sandbox);
}

void node_manager_set_patches(struct node_manager *manager,
                              const struct node_patch_source *source,
                              void *arg)
{
    manager->patches = source;
    manager->patches_arg = arg;
}
