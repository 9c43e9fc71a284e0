/* Images, named snapshots and patches of checkpoints. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

#define EVENT_MAX     (8u * 1024 * 1024)
#define PATH_MAX_SIZE (2 * CLIENT_ID_MAX_BYTES + 64)

static const struct client_field snapshot_fields[] = {
    {"id", CLIENT_TEXT, true},
    {"name", CLIENT_TEXT, true},
    {"status", CLIENT_TEXT, true},
    {"contentHash", CLIENT_TEXT, false},
    {"checkpointId", CLIENT_TEXT, false},
    {"createdAt", CLIENT_TEXT, false},
    {"lastUsedAt", CLIENT_TEXT, false},
    {"error", CLIENT_TEXT, false},
};

static const struct client_kind snapshot_kind = {.noun = "snapshot",
                                                 .fields = snapshot_fields,
                                                 .field_count = SHL_ARRAY_SIZE(snapshot_fields)};

static const struct client_field patch_fields[] = {
    {"id", CLIENT_TEXT, true},         {"sequence", CLIENT_INT, true},
    {"script", CLIENT_TEXT, true},     {"description", CLIENT_TEXT, false},
    {"createdAt", CLIENT_TEXT, false},
};

static const struct client_kind patch_kind = {.noun = "patch",
                                              .fields = patch_fields,
                                              .field_count = SHL_ARRAY_SIZE(patch_fields)};

/* ---- events --------------------------------------------------------------------------- */

struct events {
    struct shl_buf waiting;
    shoal_log_cb log;
    void *arg;
    struct client_answer result; /* the data of the result */
    char *failure;
    int rc;
};

static const char *line_of(const char *event, const char *name, size_t *ret_len)
{
    size_t name_len = strlen(name);
    const char *found = NULL;

    for (const char *line = event; line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, name_len) == 0) {
            found = line + name_len;
            *ret_len = strcspn(found, "\n");
        }
    }
    return found;
}

static void on_event(struct events *events, const char *event)
{
    size_t name_len = 0, data_len = 0;
    const char *name = line_of(event, "event: ", &name_len);
    const char *data = line_of(event, "data: ", &data_len);
    json_t *json;

    if (!name || !data) {
        return; /* a comment */
    }
    if (name_len == 6 && memcmp(name, "result", 6) == 0) {
        shl_buf_clear(&events->result.body);
        events->rc = shl_buf_append(&events->result.body, data, data_len);
        return;
    }
    json = json_loadb(data, data_len, 0, NULL);
    if (name_len == 5 && memcmp(name, "error", 5) == 0 && !events->failure) {
        const char *text = json_string_value(json_object_get(json, "error"));

        events->failure = strdup(text ? text : "the build failed");
    } else if (events->log && json_is_string(json_object_get(json, "message"))) {
        events->log(events->arg, json_string_value(json_object_get(json, "message")));
    }
    json_decref(json);
}

static int on_data(void *arg, const void *data, size_t len)
{
    struct events *events = arg;
    char *text, *end, *at;

    if (shl_buf_append(&events->waiting, data, len) < 0) {
        return -1;
    }
    text = at = shl_bytes_dup_str(shl_buf_bytes(&events->waiting));
    if (!text) {
        return -1;
    }
    while ((end = strstr(at, "\n\n")) != NULL) {
        *end = '\0';
        on_event(events, at);
        at = end + 2;
    }
    shl_buf_consume(&events->waiting, (size_t)(at - text));
    free(text);
    return events->rc < 0 ? -1 : 0;
}

/* POST with progress; the result checked against @kind. */
static int post_events(struct shoal_client *client,
                       const char *path,
                       const char *body,
                       shoal_log_cb log,
                       void *arg,
                       const struct client_kind *kind,
                       struct client_doc **ret_doc,
                       struct shoal_error *err)
{
    struct events events = {.log = log, .arg = arg};
    struct client_answer answer;
    int rc;

    shl_buf_init(&events.waiting, EVENT_MAX);
    shl_buf_init(&events.result.body, EVENT_MAX);
    rc = client_call(client,
                     &(struct client_request){.method = "POST",
                                              .path = path,
                                              .json = body,
                                              .json_bytes = strlen(body),
                                              .events = true,
                                              .sink = on_data,
                                              .sink_arg = &events},
                     &answer, err);
    if (rc == 0 && events.failure) {
        rc = client_error_set(err, SHOAL_EINVALIDARG, "%s", events.failure);
    } else if (rc == 0 && shl_buf_len(&events.result.body) == 0) {
        rc = client_error_set(err, SHOAL_EPROTO, "the server ended the build without a result");
    } else if (rc == 0) {
        rc = client_doc_parse(&events.result, kind, ret_doc, err);
    }
    free(events.failure);
    shl_buf_release(&events.waiting);
    shl_buf_release(&events.result.body);
    client_answer_release(&answer);
    return rc;
}

/* ---- images and snapshots --------------------------------------------------------------- */

static char *body_of(const char *name, const char *manifest, struct shoal_error *err)
{
    json_error_t why;
    json_t *image = json_loads(manifest, 0, &why);
    json_t *body = json_object();
    char *text = NULL;

    if (!image) {
        (void)client_error_set(err, SHOAL_EINVALIDARG, "the manifest is not JSON: line %d: %s",
                               why.line, why.text);
    } else if (json_object_set_new(body, "image", image) == 0 &&
               (!name || client_json_text(body, "name", name) == 0)) {
        text = json_dumps(body, JSON_COMPACT);
    }
    if (image && !text) {
        (void)client_error_set(err, SHOAL_EINVALIDARG, "the name is not UTF-8 text");
    }
    json_decref(body);
    return text;
}

int shoal_image_build(struct shoal_client *client,
                      const char *manifest,
                      shoal_log_cb log,
                      void *arg,
                      struct shoal_sandbox **ret_sandbox,
                      struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = NULL;
    struct client_doc *doc;
    int rc;

    client_error_clear(err);
    body = body_of(NULL, manifest, err);
    if (!body) {
        return SHOAL_EINVALIDARG;
    }
    rc = post_events(client, "/sandboxes", body, log, arg, &client_sandbox_kind, &doc, err);
    if (rc == 0) {
        *ret_sandbox = (struct shoal_sandbox *)doc;
    }
    return rc;
}

int shoal_snapshot_create(struct shoal_client *client,
                          const char *name,
                          const char *manifest,
                          shoal_log_cb log,
                          void *arg,
                          struct shoal_snapshot **ret_snapshot,
                          struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = NULL;
    struct client_doc *doc;
    int rc;

    client_error_clear(err);
    body = body_of(name, manifest, err);
    if (!body) {
        return SHOAL_EINVALIDARG;
    }
    rc = post_events(client, "/snapshots", body, log, arg, &snapshot_kind, &doc, err);
    if (rc == 0) {
        *ret_snapshot = (struct shoal_snapshot *)doc;
    }
    return rc;
}

int shoal_snapshot_list(struct shoal_client *client,
                        struct shoal_snapshot_list **ret_list,
                        struct shoal_error *err)
{
    struct client_doc *doc;
    int rc;

    client_error_clear(err);
    rc = client_fetch_list(
        client, &(struct client_request){.method = "GET", .path = "/snapshots", .repeatable = true},
        &snapshot_kind, NULL, &doc, err);
    if (rc == 0) {
        *ret_list = (struct shoal_snapshot_list *)doc;
    }
    return rc;
}

/* "/snapshots/NAME"; the caller releases. */
static int snapshot_path(const char *name, struct shl_buf *path, struct shoal_error *err)
{
    int rc;

    client_error_clear(err);
    shl_buf_init(path, PATH_MAX_SIZE * 3);
    if (*name == '\0' || strchr(name, '/')) {
        return client_error_set(err, SHOAL_EINVALIDARG, "\"%.80s\" is not the name of a snapshot",
                                name);
    }
    rc = shl_buf_append_str(path, "/snapshots/");
    if (rc == 0) {
        rc = client_path_escape(path, name);
    }
    if (rc == 0) {
        rc = shl_buf_append(path, "", 1);
    }
    return rc < 0 ? client_error_set(err, rc, "the name is too long") : 0;
}

int shoal_snapshot_get(struct shoal_client *client,
                       const char *name,
                       struct shoal_snapshot **ret_snapshot,
                       struct shoal_error *err)
{
    struct client_doc *doc;
    struct shl_buf path;
    int rc = snapshot_path(name, &path, err);

    if (rc == 0) {
        rc = client_fetch(client,
                          &(struct client_request){.method = "GET",
                                                   .path = (const char *)shl_buf_data(&path),
                                                   .repeatable = true},
                          &snapshot_kind, &doc, err);
    }
    if (rc == 0) {
        *ret_snapshot = (struct shoal_snapshot *)doc;
    }
    shl_buf_release(&path);
    return rc;
}

static int call_empty(struct shoal_client *client,
                      const char *method,
                      const char *path,
                      struct shoal_error *err)
{
    struct client_answer answer;
    int rc =
        client_call(client,
                    &(struct client_request){.method = method, .path = path, .repeatable = true},
                    &answer, err);

    client_answer_release(&answer);
    return rc;
}

int shoal_snapshot_delete(struct shoal_client *client, const char *name, struct shoal_error *err)
{
    struct shl_buf path;
    int rc = snapshot_path(name, &path, err);

    if (rc == 0) {
        rc = call_empty(client, "DELETE", (const char *)shl_buf_data(&path), err);
    }
    shl_buf_release(&path);
    return rc;
}

void shoal_snapshot_free(struct shoal_snapshot *snapshot)
{
    client_doc_free(CLIENT_DOC(snapshot));
}

const char *shoal_snapshot_text(const struct shoal_snapshot *snapshot, const char *field)
{
    return client_doc_text(CLIENT_DOC_CONST(snapshot), field);
}

const char *shoal_snapshot_json(struct shoal_snapshot *snapshot)
{
    return client_doc_json(CLIENT_DOC(snapshot));
}

void shoal_snapshot_list_free(struct shoal_snapshot_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_snapshot_list_count(const struct shoal_snapshot_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_snapshot *shoal_snapshot_list_at(const struct shoal_snapshot_list *list,
                                                    size_t index)
{
    return (const struct shoal_snapshot *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_snapshot_list_json(struct shoal_snapshot_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}

/* ---- patches ---------------------------------------------------------------------------- */

static int patch_path(char path[PATH_MAX_SIZE],
                      const char *checkpoint_id,
                      const char *patch_id,
                      struct shoal_error *err)
{
    int rc;

    client_error_clear(err);
    rc = client_id_check(checkpoint_id, "checkpoint", err);
    if (rc == 0 && patch_id) {
        rc = client_id_check(patch_id, "patch", err);
    }
    (void)snprintf(path, PATH_MAX_SIZE, "/sandboxes/checkpoints/%.*s/patches%s%.*s",
                   CLIENT_ID_MAX_BYTES, checkpoint_id, patch_id ? "/" : "", CLIENT_ID_MAX_BYTES,
                   patch_id ? patch_id : "");
    return rc;
}

int shoal_patch_add(struct shoal_client *client,
                    const char *checkpoint_id,
                    const char *script,
                    const char *description,
                    struct shoal_patch **ret_patch,
                    struct shoal_error *err)
{
    static const struct client_field fields[] = {{"patch", CLIENT_OBJECT, true}};
    static const struct client_kind kind = {.noun = "patch", .fields = fields, .field_count = 1};
    SHL_CLEANUP_FREE char *body = NULL;
    char path[PATH_MAX_SIZE];
    struct client_doc *doc;
    json_t *json, *inner;
    int rc = patch_path(path, checkpoint_id, NULL, err);

    if (rc < 0) {
        return rc;
    }
    json = json_object();
    if (client_json_text(json, "script", script) == 0 &&
        (!description || client_json_text(json, "description", description) == 0)) {
        body = json_dumps(json, JSON_COMPACT);
    }
    json_decref(json);
    if (!body) {
        return client_error_set(err, SHOAL_EINVALIDARG, "the script is not UTF-8 text");
    }
    rc = client_fetch(client,
                      &(struct client_request){
                          .method = "POST", .path = path, .json = body, .json_bytes = strlen(body)},
                      &kind, &doc, err);
    if (rc < 0) {
        return rc;
    }
    inner = json_incref(json_object_get(doc->json, "patch"));
    json_decref(doc->json);
    doc->json = inner;
    *ret_patch = (struct shoal_patch *)doc;
    return 0;
}

int shoal_patch_list(struct shoal_client *client,
                     const char *checkpoint_id,
                     struct shoal_patch_list **ret_list,
                     struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    struct client_doc *doc;
    int rc = patch_path(path, checkpoint_id, NULL, err);

    if (rc == 0) {
        rc = client_fetch_list(
            client, &(struct client_request){.method = "GET", .path = path, .repeatable = true},
            &patch_kind, NULL, &doc, err);
    }
    if (rc == 0) {
        *ret_list = (struct shoal_patch_list *)doc;
    }
    return rc;
}

int shoal_patch_delete(struct shoal_client *client,
                       const char *checkpoint_id,
                       const char *patch_id,
                       struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    int rc = patch_path(path, checkpoint_id, patch_id, err);

    return rc == 0 ? call_empty(client, "DELETE", path, err) : rc;
}

void shoal_patch_free(struct shoal_patch *patch)
{
    client_doc_free(CLIENT_DOC(patch));
}

const char *shoal_patch_text(const struct shoal_patch *patch, const char *field)
{
    return client_doc_text(CLIENT_DOC_CONST(patch), field);
}

int64_t shoal_patch_sequence(const struct shoal_patch *patch)
{
    return client_doc_int(CLIENT_DOC_CONST(patch), "sequence");
}

const char *shoal_patch_json(struct shoal_patch *patch)
{
    return client_doc_json(CLIENT_DOC(patch));
}

void shoal_patch_list_free(struct shoal_patch_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_patch_list_count(const struct shoal_patch_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_patch *shoal_patch_list_at(const struct shoal_patch_list *list, size_t index)
{
    return (const struct shoal_patch *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_patch_list_json(struct shoal_patch_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}
