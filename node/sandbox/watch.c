/* What is watched while a VMM lives: its process, its control connection, its agent.
 *
 * Happy path: the control link says it is connected (boot.c sends start), the agent link
 * says it is ready (boot.c sends setup), and then nothing happens until the end.
 *
 * What can go wrong:
 *  - the process ends: the exit file says why, else the signal does (watch_on_exit);
 *  - the control connection does not come (back): the VMM is taken down;
 *  - the agent link breaks: it connects again by itself; when the agent stays silent for
 *    silent_ms the sandbox ends; when it breaks its protocol repeatedly, too.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"
#include "node/sandbox/text.h"

#define EXIT_FILE_MAX 65536
#define CANCEL_MS     10000
#define PANIC         "kernel panic"

/* ---- why a VMM ended ------------------------------------------------------------- */

static void explain(const char *reason,
                    const char *detail,
                    char text[NODE_REASON_MAX],
                    int *ret_code,
                    enum node_sandbox_state *ret_state)
{
    const char *colon = detail[0] ? ": " : "";

    *ret_state = NODE_SANDBOX_ERROR;
    *ret_code = SHL_EGUEST;
    if (strcmp(reason, VMM_REASON_SHUTDOWN) == 0) {
        *ret_state = NODE_SANDBOX_STOPPED;
        (void)snprintf(text, NODE_REASON_MAX, "%s",
                       strstr(detail, "reboot") ? "the guest rebooted, which ends its sandbox"
                                                : "the guest powered itself off");
    } else if (strcmp(reason, VMM_REASON_STOPPED) == 0) {
        *ret_state = NODE_SANDBOX_STOPPED;
        (void)snprintf(text, NODE_REASON_MAX, "the VMM was told to stop");
    } else if (strcmp(reason, VMM_REASON_PANIC) == 0) {
        bool says_so = strncasecmp(detail, PANIC, strlen(PANIC)) == 0;

        (void)snprintf(text, NODE_REASON_MAX, PANIC "%s%s", says_so ? "" : colon,
                       says_so ? detail + strlen(PANIC) : detail);
    } else if (strcmp(reason, VMM_REASON_GUEST_ERROR) == 0) {
        (void)snprintf(text, NODE_REASON_MAX, "the guest broke the rules of a device%s%s", colon,
                       detail);
    } else if (strcmp(reason, VMM_REASON_HOST_ERROR) == 0) {
        *ret_code = -EIO;
        (void)snprintf(text, NODE_REASON_MAX, "this machine failed the VM%s%s", colon, detail);
    } else {
        *ret_code = -EIO;
        (void)snprintf(text, NODE_REASON_MAX, "the VMM ended (%.32s)%s%s", reason, colon, detail);
    }
}

bool watch_exit_reason(struct sandbox *sandbox,
                       char text[NODE_REASON_MAX],
                       int *ret_code,
                       enum node_sandbox_state *ret_state)
{
    char reason[64] = "";
    char detail[NODE_REASON_MAX / 2] = "";
    struct shl_bytes bytes;
    struct shl_mp_doc doc;
    struct shl_buf buf;
    bool known = false;

    shl_buf_init(&buf, EXIT_FILE_MAX);
    if (files_read_tail(sandbox, VMM_EXIT_FILE, &buf) == 0 &&
        shl_mp_parse(&doc, shl_buf_bytes(&buf)) == 0) {
        if (shl_mp_get_str(doc.root, "reason", &bytes) == 0) {
            node_text_clean(reason, sizeof(reason), bytes);
        }
        if (shl_mp_get_str(doc.root, "detail", &bytes) == 0) {
            node_text_clean(detail, sizeof(detail), bytes);
        }
        known = reason[0] != '\0';
        if (known) {
            explain(reason, detail, text, ret_code, ret_state);
        }
        shl_mp_release(&doc);
    }
    shl_buf_release(&buf);
    return known;
}

void watch_judge_exit(struct sandbox *sandbox, const char *otherwise)
{
    enum node_sandbox_state state = NODE_SANDBOX_ERROR;
    char reason[NODE_REASON_MAX];
    char line[NODE_REASON_MAX / 2];
    int code = -EIO;
    int signal = sandbox->exit_signal;

    if (!watch_exit_reason(sandbox, reason, &code, &state)) {
        files_last_line(sandbox, FILES_VMM_LOG, line, sizeof(line));
        if (sandbox->exit_known && signal != 0) {
            (void)snprintf(reason, sizeof(reason), "the VMM was killed by signal %d (%s)", signal,
                           sigabbrev_np(signal) ? sigabbrev_np(signal) : "?");
        } else if (sandbox->exit_known) {
            (void)snprintf(reason, sizeof(reason), "the VMM exited with status %d%s%s",
                           sandbox->exit_status, line[0] ? ": " : "", line);
        } else {
            (void)snprintf(reason, sizeof(reason), "%s", otherwise);
        }
    }
    /* a guest that powers off before it was ever usable is a failed create */
    if (sandbox->pub.state == NODE_SANDBOX_CREATING) {
        state = NODE_SANDBOX_ERROR;
    }
    run_fail(sandbox, state, code, "%s", reason);
}

void watch_on_exit(void *arg, bool known, int64_t status, int signal)
{
    struct sandbox *sandbox = arg;

    sandbox->exited = true;
    sandbox->exit_known = known;
    sandbox->exit_status = (int)status;
    sandbox->exit_signal = signal;
    if (sandbox->ending || sandbox->over) {
        end_advance(sandbox);
    } else if (sandbox->shutting_down) {
        reboot_on_exit(sandbox);
    } else if ((sandbox->start_pending && sandbox->control) || snapshot_survives_exit(sandbox)) {
        /* a reply may still be on its way, or all that was needed is on its way to disk */
    } else {
        watch_judge_exit(sandbox, "the VMM was killed");
    }
}

/* ---- control --------------------------------------------------------------------- */

static void on_control_ready(void *arg)
{
    struct sandbox *sandbox = arg;

    if (sandbox->ending || sandbox->shutting_down) {
        return;
    }
    if (sandbox->booting) {
        boot_on_control(sandbox);
        deadline_apply(sandbox);
        return;
    }
    snapshot_on_control(sandbox);
    deadline_apply(sandbox);
    go_on(sandbox);
    pause_apply(sandbox);
}

static void on_control_lost(void *arg, const char *msg)
{
    struct sandbox *sandbox = arg;

    if (!sandbox->exited) {
        run_fail(sandbox, NODE_SANDBOX_ERROR, SHL_EUNAVAILABLE, "%s", msg);
    }
}

int watch_open_control(struct sandbox *sandbox)
{
    char path[SANDBOX_PATH_MAX];
    struct node_vmm_link_config config = {
        .socket_path = path,
        .on_ready = on_control_ready,
        .on_lost = on_control_lost,
        .arg = sandbox,
    };
    int rc;

    files_run_path(sandbox, path, VMM_CONTROL_SOCKET);
    rc = node_vmm_link_open(sandbox->pub.manager->loop, &config, &sandbox->control);
    if (rc == 0) {
        sandbox->handles++;
    }
    return rc;
}

/* ---- agent ----------------------------------------------------------------------- */

static void on_silence(uv_timer_t *timer)
{
    struct sandbox *sandbox = timer->data;

    if (sandbox->resume_due || sandbox->snapshot || sandbox->paused) {
        watch_start_silence(sandbox); /* it stands still, as it should */
        return;
    }
    run_fail(sandbox, NODE_SANDBOX_ERROR, SHL_EGUEST, "the guest agent does not answer since %u s",
             sandbox->pub.manager->silent_ms / 1000);
}

void watch_start_silence(struct sandbox *sandbox)
{
    (void)uv_timer_start(&sandbox->timer, on_silence, sandbox->pub.manager->silent_ms, 0);
}

static void on_agent_state(void *arg, enum node_agent_link_state state, int code, const char *msg)
{
    struct sandbox *sandbox = arg;
    bool running = sandbox->pub.state == NODE_SANDBOX_RUNNING;

    assert(!sandbox->ending);
    switch (state) {
    case NODE_AGENT_LINK_READY:
        if (sandbox->booting) {
            boot_on_agent(sandbox);
        } else {
            (void)uv_timer_stop(&sandbox->timer);
            go_on(sandbox);
        }
        break;
    case NODE_AGENT_LINK_WAITING:
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "agent_link_lost",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", msg));
        if (running) {
            watch_start_silence(sandbox);
        }
        break;
    case NODE_AGENT_LINK_FAILED:
        if (!sandbox->shutting_down) {
            run_fail(sandbox, NODE_SANDBOX_ERROR, code, "%s", msg);
        }
        break;
    }
}

int watch_open_agent(struct sandbox *sandbox)
{
    char path[SANDBOX_PATH_MAX];
    struct node_agent_link_config config = {
        .socket_path = path,
        /* the end of a stream is not waited for longer than an agent may be silent */
        .cancel_ms = SHL_MIN(sandbox->pub.manager->silent_ms, (uint32_t)CANCEL_MS),
        .on_state = on_agent_state,
        .arg = sandbox,
    };
    int rc;

    files_run_path(sandbox, path, VMM_AGENT_SOCKET);
    rc = node_agent_link_open(sandbox->pub.manager->loop, &config, &sandbox->link);
    if (rc == 0) {
        sandbox->handles++;
    }
    return rc;
}
