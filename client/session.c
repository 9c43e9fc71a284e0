/* Sessions that clients attach to: starting a command in one, with pipes or on a terminal.
 * stream.c has the clients. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

static const struct client_field session_fields[] = {{"sessionID", CLIENT_TEXT, true}};

static const struct client_kind session_kind = {.noun = "session",
                                                .fields = session_fields,
                                                .field_count = SHL_ARRAY_SIZE(session_fields)};

/* POST what @json says; it is released here. */
static int start(struct shoal_client *client,
                 const char *id,
                 const char *call,
                 json_t *json,
                 char *ret_session,
                 size_t size,
                 struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;
    struct client_doc *doc = NULL;
    char path[CLIENT_ID_MAX_BYTES + 64];
    int rc;

    json_decref(json);
    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc < 0) {
        return rc;
    }
    if (!body) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/%s", id, call);
    rc = client_fetch(client,
                      &(struct client_request){
                          .method = "POST", .path = path, .json = body, .json_bytes = strlen(body)},
                      &session_kind, &doc, err);
    if (rc == 0) {
        (void)snprintf(ret_session, size, "%s", client_doc_text(doc, "sessionID"));
        client_doc_free(doc);
    }
    return rc;
}

int shoal_session_start(struct shoal_client *client,
                        const char *id,
                        const struct shoal_command *command,
                        int linger_s,
                        char *ret_session,
                        size_t size,
                        struct shoal_error *err)
{
    json_t *json = json_copy(command->json);

    if (json && client_json_int(json, "maxRunAfterDisconnect", linger_s) < 0) {
        json_decref(json);
        json = NULL;
    }
    return start(client, id, "exec", json, ret_session, size, err);
}

int shoal_terminal_create(struct shoal_client *client,
                          const char *id,
                          const struct shoal_command *command,
                          int cols,
                          int rows,
                          char *ret_session,
                          size_t size,
                          struct shoal_error *err)
{
    json_t *json = command ? json_copy(command->json) : json_object();

    if (json &&
        (client_json_int(json, "cols", cols) < 0 || client_json_int(json, "rows", rows) < 0)) {
        json_decref(json);
        json = NULL;
    }
    return start(client, id, "pty", json, ret_session, size, err);
}

int shoal_terminal_resize(struct shoal_client *client,
                          const char *id,
                          const char *session,
                          int cols,
                          int rows,
                          struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[512];
    char body[64];
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc == 0) {
        rc = client_id_check(session, "session", err);
    }
    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/pty/%s/resize", id, session);
    (void)snprintf(body, sizeof(body), "{\"cols\":%d,\"rows\":%d}", cols, rows);
    return client_call(client,
                       &(struct client_request){.method = "POST",
                                                .path = path,
                                                .json = body,
                                                .json_bytes = strlen(body),
                                                .repeatable = true},
                       &answer, err);
}
