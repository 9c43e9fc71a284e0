/* Running a command: POST run-async, then poll its result.
 *
 * Happy path: the first answer already holds the exit code (a short command), or a
 * handle whose result is polled after 0, 200, 400 ... 2000 ms.
 * Failure modes: no asynchronous call on the server (404): one synchronous request.
 * A poll that finds no server, or one that is not ready (a node being restarted), is
 * repeated for POLL_GRACE_MS, since the result stays with the sandbox.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "client/doc.h"
#include "client/error.h"

#define POLL_FIRST_MS 200
#define POLL_MAX_MS   2000
#define POLL_GRACE_MS 30000

static const struct client_field result_fields[] = {
    {"execId", CLIENT_TEXT, false},  {"running", CLIENT_BOOL, false},
    {"exitCode", CLIENT_INT, false}, {"stdout", CLIENT_TEXT, false},
    {"stderr", CLIENT_TEXT, false},  {"truncated", CLIENT_BOOL, false},
    {"error", CLIENT_TEXT, false},
};

static const struct client_kind result_kind = {
    .noun = "command's result",
    .fields = result_fields,
    .field_count = SHL_ARRAY_SIZE(result_fields),
};

static const struct client_field session_fields[] = {
    {"sessionID", CLIENT_TEXT, true},  {"command", CLIENT_TEXT, false},
    {"running", CLIENT_BOOL, true},    {"exitCode", CLIENT_INT, false},
    {"startedAt", CLIENT_TEXT, false},
};

static const struct client_kind session_kind = {
    .noun = "exec session",
    .fields = session_fields,
    .field_count = SHL_ARRAY_SIZE(session_fields),
};

struct shoal_command *shoal_command_new(const char *cmd)
{
    struct shoal_command *command = calloc(1, sizeof(*command));

    if (!command) {
        return NULL;
    }
    command->json = json_object();
    if (!command->json || client_json_text(command->json, "cmd", cmd) < 0) {
        shoal_command_free(command);
        return NULL;
    }
    return command;
}

void shoal_command_free(struct shoal_command *command)
{
    if (command) {
        json_decref(command->json);
        free(command);
    }
}

int shoal_command_add_arg(struct shoal_command *command, const char *arg)
{
    json_t *args = json_object_get(command->json, "args");

    if (!args) {
        args = json_array();
        if (json_object_set_new(command->json, "args", args) < 0) {
            return -ENOMEM;
        }
    }
    return json_array_append_new(args, json_string(arg)) == 0 ? 0 : SHOAL_EINVALIDARG;
}

int shoal_command_add_env(struct shoal_command *command, const char *key, const char *value)
{
    return client_json_put(command->json, "envs", key, value);
}

int shoal_command_set_cwd(struct shoal_command *command, const char *cwd)
{
    return client_json_text(command->json, "cwd", cwd);
}

int shoal_command_set_timeout_s(struct shoal_command *command, int timeout_s)
{
    return client_json_int(command->json, "timeout", timeout_s);
}

/* One request that may come back with a result. @verb is a POST body when @body is set. */
static int ask(struct shoal_client *client,
               const char *id,
               const char *call,
               const char *body,
               struct client_doc **ret_doc,
               struct shoal_error *err)
{
    char path[2 * CLIENT_ID_MAX_BYTES + 64];

    (void)snprintf(path, sizeof(path), "/sandboxes/%s/exec/%s", id, call);
    return client_fetch(client,
                        &(struct client_request){.method = body ? "POST" : "GET",
                                                 .path = path,
                                                 .repeatable = !body,
                                                 .json = body,
                                                 .json_bytes = body ? strlen(body) : 0,
                                                 .answer_bytes_max = CLIENT_EXEC_MAX_BYTES},
                        &result_kind, ret_doc, err);
}

/* Does a failed poll say nothing about the command itself? */
static bool poll_may_recover(int code)
{
    return code == SHOAL_EUNAVAILABLE || code == -ECONNREFUSED || code == -ECONNRESET ||
           code == -ETIMEDOUT || code == -EHOSTUNREACH || code == -ENETUNREACH;
}

static void pause_ms(long ms)
{
    struct timespec span = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    /* A signal ends the pause early, so that on_wait runs soon after Ctrl-C. */
    (void)nanosleep(&span, NULL);
}

/* Poll until the command has ended. @exec_id is copied from the handle. */
static int wait_result(struct shoal_client *client,
                       const char *id,
                       const char *exec_id,
                       shoal_exec_wait_cb on_wait,
                       void *arg,
                       struct client_doc **ret_doc,
                       struct shoal_error *err)
{
    uint64_t heard_at_ms = shl_monotonic_ms();
    char call[CLIENT_ID_MAX_BYTES + 16];
    long delay_ms = POLL_FIRST_MS;

    (void)snprintf(call, sizeof(call), "%s/result", exec_id);
    for (;;) {
        struct client_doc *doc = NULL;
        int rc = ask(client, id, call, NULL, &doc, err);

        if (rc == 0) {
            heard_at_ms = shl_monotonic_ms();
            if (!client_doc_bool(doc, "running")) {
                *ret_doc = doc;
                return 0;
            }
            client_doc_free(doc);
        } else if (!poll_may_recover(rc) || shl_monotonic_ms() - heard_at_ms > POLL_GRACE_MS) {
            (void)client_error_wrap(err, "the result of command %s is not known", exec_id);
            return rc;
        }
        if ((on_wait && on_wait(arg, exec_id) != 0) ||
            (client->watch && client->watch(client->watch_arg) != 0)) {
            return client_error_set(err, -ECANCELED, "stopped waiting, command %s goes on",
                                    exec_id);
        }
        pause_ms(delay_ms);
        delay_ms = SHL_MIN(delay_ms * 2, POLL_MAX_MS);
    }
}

/* What came back in the end must say how the command ended. */
static int check_result(struct client_doc *doc, struct shoal_error *err)
{
    const char *error = client_doc_text(doc, "error");

    if (error && *error) {
        return client_error_set(err, SHOAL_EUNAVAILABLE, "the command could not run: %s", error);
    }
    if (!json_is_integer(json_object_get(doc->json, "exitCode"))) {
        return client_error_set(err, SHOAL_EPROTO,
                                "the server's answer to a command has neither an exit code nor "
                                "an execId: is it a Shoal server?");
    }
    return 0;
}

/* @doc is the answer to run-async; it is replaced by the result when that must be polled. */
static int follow(struct shoal_client *client,
                  const char *id,
                  shoal_exec_wait_cb on_wait,
                  void *arg,
                  struct client_doc **doc,
                  struct shoal_error *err)
{
    const char *exec_id = client_doc_text(*doc, "execId");
    struct client_doc *result = NULL;
    int rc;

    if (!exec_id) {
        return 0;
    }
    if (client_id_check(exec_id, "command", err) < 0) {
        return client_error_set(err, SHOAL_EPROTO,
                                "the server named a command in a way that "
                                "cannot be an id");
    }
    rc = wait_result(client, id, exec_id, on_wait, arg, &result, err);
    if (rc == 0) {
        client_doc_free(*doc);
        *doc = result;
    }
    return rc;
}

int shoal_exec_run(struct shoal_client *client,
                   const char *id,
                   const struct shoal_command *command,
                   shoal_exec_wait_cb on_wait,
                   void *arg,
                   struct shoal_exec_result **ret_result,
                   struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = json_dumps(command->json, JSON_COMPACT);
    struct client_doc *doc = NULL;
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc < 0) {
        return rc;
    }
    if (!body) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    rc = ask(client, id, "run-async", body, &doc, err);
    if (rc == SHOAL_ENOTFOUND) {
        /* Either the server has no such call or there is no such sandbox; the older
         * call tells which. */
        rc = ask(client, id, "run", body, &doc, err);
    } else if (rc == 0) {
        rc = follow(client, id, on_wait, arg, &doc, err);
    }
    rc = rc < 0 ? rc : check_result(doc, err);
    if (rc < 0) {
        client_doc_free(doc);
        return rc;
    }
    *ret_result = (struct shoal_exec_result *)doc;
    return 0;
}

int shoal_exec_wait(struct shoal_client *client,
                    const char *id,
                    const char *exec_id,
                    shoal_exec_wait_cb on_wait,
                    void *arg,
                    struct shoal_exec_result **ret_result,
                    struct shoal_error *err)
{
    struct client_doc *doc = NULL;
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    rc = rc < 0 ? rc : client_id_check(exec_id, "command", err);
    rc = rc < 0 ? rc : wait_result(client, id, exec_id, on_wait, arg, &doc, err);
    rc = rc < 0 ? rc : check_result(doc, err);
    if (rc < 0) {
        client_doc_free(doc);
        return rc;
    }
    *ret_result = (struct shoal_exec_result *)doc;
    return 0;
}

static int list(struct shoal_client *client,
                const char *id,
                const char *what,
                struct shoal_exec_list **ret_list,
                struct shoal_error *err)
{
    char path[CLIENT_ID_MAX_BYTES + 64];
    struct client_doc *doc;
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/%s", id, what);
    rc = client_fetch_list(
        client, &(struct client_request){.method = "GET", .path = path, .repeatable = true},
        &session_kind, NULL, &doc, err);
    if (rc == 0) {
        *ret_list = (struct shoal_exec_list *)doc;
    }
    return rc;
}

int shoal_exec_list(struct shoal_client *client,
                    const char *id,
                    struct shoal_exec_list **ret_list,
                    struct shoal_error *err)
{
    return list(client, id, "exec", ret_list, err);
}

int shoal_agent_list(struct shoal_client *client,
                     const char *id,
                     struct shoal_exec_list **ret_list,
                     struct shoal_error *err)
{
    return list(client, id, "agent", ret_list, err);
}

int shoal_exec_kill(struct shoal_client *client,
                    const char *id,
                    const char *exec_id,
                    int signal,
                    struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[2 * CLIENT_ID_MAX_BYTES + 64];
    char body[64];
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    rc = rc < 0 ? rc : client_id_check(exec_id, "command", err);
    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/exec/%s/kill", id, exec_id);
    (void)snprintf(body, sizeof(body), "{\"signal\":%d}", signal);
    return client_call(client,
                       &(struct client_request){.method = "POST",
                                                .path = path,
                                                .json = body,
                                                .json_bytes = strlen(body)},
                       &answer, err);
}

void shoal_exec_result_free(struct shoal_exec_result *result)
{
    client_doc_free(CLIENT_DOC(result));
}

int shoal_exec_result_exit_code(const struct shoal_exec_result *result)
{
    return (int)client_doc_int(CLIENT_DOC_CONST(result), "exitCode");
}

static const char *stream_of(const struct shoal_exec_result *result,
                             const char *field,
                             size_t *ret_len_bytes)
{
    const json_t *text = json_object_get(CLIENT_DOC_CONST(result)->json, field);

    *ret_len_bytes = json_string_length(text);
    return json_is_string(text) ? json_string_value(text) : "";
}

const char *shoal_exec_result_stdout(const struct shoal_exec_result *result, size_t *ret_len_bytes)
{
    return stream_of(result, "stdout", ret_len_bytes);
}

const char *shoal_exec_result_stderr(const struct shoal_exec_result *result, size_t *ret_len_bytes)
{
    return stream_of(result, "stderr", ret_len_bytes);
}

bool shoal_exec_result_truncated(const struct shoal_exec_result *result)
{
    return client_doc_bool(CLIENT_DOC_CONST(result), "truncated");
}

const char *shoal_exec_result_json(struct shoal_exec_result *result)
{
    return client_doc_json(CLIENT_DOC(result));
}

void shoal_exec_list_free(struct shoal_exec_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_exec_list_count(const struct shoal_exec_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_exec_session *shoal_exec_list_at(const struct shoal_exec_list *list,
                                                    size_t index)
{
    return (const struct shoal_exec_session *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_exec_list_json(struct shoal_exec_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}

const char *shoal_exec_session_id(const struct shoal_exec_session *session)
{
    return client_doc_text(CLIENT_DOC_CONST(session), "sessionID");
}

const char *shoal_exec_session_command(const struct shoal_exec_session *session)
{
    return client_doc_text(CLIENT_DOC_CONST(session), "command");
}

bool shoal_exec_session_running(const struct shoal_exec_session *session)
{
    return client_doc_bool(CLIENT_DOC_CONST(session), "running");
}

int shoal_exec_session_exit_code(const struct shoal_exec_session *session)
{
    return (int)client_doc_int(CLIENT_DOC_CONST(session), "exitCode");
}

const char *shoal_exec_session_started_at(const struct shoal_exec_session *session)
{
    return client_doc_text(CLIENT_DOC_CONST(session), "startedAt");
}
