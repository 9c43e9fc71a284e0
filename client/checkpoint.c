#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

#define WAIT_FIRST_MS 200
#define WAIT_MAX_MS   2000
#define PATH_MAX_SIZE (2 * CLIENT_ID_MAX_BYTES + 64)

static const struct client_field checkpoint_fields[] = {
    {"id", CLIENT_TEXT, true},        {"sandboxId", CLIENT_TEXT, true},
    {"name", CLIENT_TEXT, true},      {"status", CLIENT_TEXT, true},
    {"kind", CLIENT_TEXT, false},     {"createdAt", CLIENT_TEXT, false},
    {"errorMsg", CLIENT_TEXT, false}, {"sizeBytes", CLIENT_INT, false},
};

static const struct client_kind checkpoint_kind = {
    .noun = "checkpoint",
    .fields = checkpoint_fields,
    .field_count = SHL_ARRAY_SIZE(checkpoint_fields),
};

static const struct client_field fork_fields[] = {
    {"sandbox", CLIENT_OBJECT, false},
    {"error", CLIENT_TEXT, false},
    {"status", CLIENT_INT, false},
};

static const struct client_kind fork_kind = {
    .noun = "fork",
    .fields = fork_fields,
    .field_count = SHL_ARRAY_SIZE(fork_fields),
};

/* Both ids may be NULL where the call has none. */
static int check_ids(const char *sandbox_id, const char *checkpoint_id, struct shoal_error *err)
{
    int rc = 0;

    client_error_clear(err);
    if (sandbox_id) {
        rc = client_id_check(sandbox_id, "sandbox", err);
    }
    if (rc == 0 && checkpoint_id) {
        rc = client_id_check(checkpoint_id, "checkpoint", err);
    }
    return rc;
}

/* Create */

static char *create_body(const char *name, bool disk_only, int keep)
{
    json_t *json = json_object();
    char *body = NULL;
    int rc = client_json_text(json, "name", name);

    if (rc == 0 && disk_only) {
        rc = client_json_text(json, "kind", "disk_only");
    }
    if (rc == 0 && keep > 0) {
        rc =
            json_object_set_new(json, "retentionPolicy",
                                json_pack("{s:s, s:i}", "mode", "delete_oldest", "maxCount", keep));
    }
    if (rc == 0) {
        body = json_dumps(json, JSON_COMPACT);
    }
    json_decref(json);
    return body;
}

int shoal_checkpoint_create(struct shoal_client *client,
                            const char *sandbox_id,
                            const char *name,
                            bool disk_only,
                            int keep,
                            struct shoal_checkpoint **ret_checkpoint,
                            struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = create_body(name, disk_only, keep);
    char path[PATH_MAX_SIZE];
    struct client_doc *doc;
    int rc = check_ids(sandbox_id, NULL, err);

    if (rc < 0) {
        return rc;
    }
    if (!body) {
        return client_error_set(err, SHOAL_EINVALIDARG, "the name is not UTF-8 text");
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/checkpoints", sandbox_id);
    rc = client_fetch(client,
                      &(struct client_request){
                          .method = "POST", .path = path, .json = body, .json_bytes = strlen(body)},
                      &checkpoint_kind, &doc, err);
    if (rc == 0) {
        *ret_checkpoint = (struct shoal_checkpoint *)doc;
    }
    return rc;
}

/* List and find */

static int fetch_all(struct shoal_client *client,
                     const char *sandbox_id,
                     struct client_doc **ret_doc,
                     struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    int rc = check_ids(sandbox_id, NULL, err);

    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/checkpoints", sandbox_id);
    return client_fetch_list(
        client, &(struct client_request){.method = "GET", .path = path, .repeatable = true},
        &checkpoint_kind, NULL, ret_doc, err);
}

int shoal_checkpoint_list(struct shoal_client *client,
                          const char *sandbox_id,
                          struct shoal_checkpoint_list **ret_list,
                          struct shoal_error *err)
{
    struct client_doc *doc;
    int rc = fetch_all(client, sandbox_id, &doc, err);

    if (rc == 0) {
        *ret_list = (struct shoal_checkpoint_list *)doc;
    }
    return rc;
}

/* An entry as an object of its own. */
static struct client_doc *doc_of_entry(const struct client_doc *entry)
{
    struct client_doc *doc = calloc(1, sizeof(*doc));

    if (doc) {
        doc->json = json_incref(entry->json);
    }
    return doc;
}

int shoal_checkpoint_find(struct shoal_client *client,
                          const char *sandbox_id,
                          const char *id_or_name,
                          struct shoal_checkpoint **ret_checkpoint,
                          struct shoal_error *err)
{
    const struct client_doc *found = NULL;
    struct client_doc *list;
    struct client_doc *doc = NULL;
    int rc = fetch_all(client, sandbox_id, &list, err);

    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < list->count && !found; i++) {
        if (strcmp(client_doc_text(&list->items[i], "id"), id_or_name) == 0) {
            found = &list->items[i];
        }
    }
    for (size_t i = 0; i < list->count && !found; i++) {
        if (strcmp(client_doc_text(&list->items[i], "name"), id_or_name) == 0) {
            found = &list->items[i];
        }
    }
    if (found) {
        doc = doc_of_entry(found);
        rc = doc ? 0 : client_error_set(err, -ENOMEM, "out of memory");
    } else {
        rc = client_error_set(err, SHOAL_ENOTFOUND, "sandbox %s has no checkpoint \"%.128s\"",
                              sandbox_id, id_or_name);
    }
    client_doc_free(list);
    if (rc == 0) {
        *ret_checkpoint = (struct shoal_checkpoint *)doc;
    }
    return rc;
}

static void pause_ms(long ms)
{
    struct timespec span = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&span, NULL);
}

int shoal_checkpoint_wait(struct shoal_client *client,
                          const char *sandbox_id,
                          const char *checkpoint_id,
                          struct shoal_checkpoint **ret_checkpoint,
                          struct shoal_error *err)
{
    long delay_ms = WAIT_FIRST_MS;

    for (;;) {
        struct shoal_checkpoint *checkpoint = NULL;
        int rc = shoal_checkpoint_find(client, sandbox_id, checkpoint_id, &checkpoint, err);
        const char *status;

        if (rc < 0) {
            return rc;
        }
        status = shoal_checkpoint_status(checkpoint);
        if (strcmp(status, "ready") == 0) {
            *ret_checkpoint = checkpoint;
            return 0;
        }
        if (strcmp(status, "processing") != 0) {
            const char *reason = shoal_checkpoint_reason(checkpoint);

            rc = client_error_set(err, SHOAL_EUNAVAILABLE, "the checkpoint is %.32s: %s", status,
                                  reason ? reason : "the server does not say why");
        } else if (client->watch && client->watch(client->watch_arg) != 0) {
            rc = client_error_set(err, -ECANCELED, "stopped waiting, the checkpoint goes on");
        }
        shoal_checkpoint_free(checkpoint);
        if (rc < 0) {
            return rc;
        }
        pause_ms(delay_ms);
        delay_ms = SHL_MIN(delay_ms * 2, WAIT_MAX_MS);
    }
}

/* Delete and restore */

static int act(struct shoal_client *client,
               const char *method,
               const char *sandbox_id,
               const char *checkpoint_id,
               const char *verb,
               struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[PATH_MAX_SIZE];
    int rc = check_ids(sandbox_id, checkpoint_id, err);

    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/checkpoints/%s%s", sandbox_id, checkpoint_id,
                   verb);
    return client_call(client, &(struct client_request){.method = method, .path = path}, &answer,
                       err);
}

int shoal_checkpoint_delete(struct shoal_client *client,
                            const char *sandbox_id,
                            const char *checkpoint_id,
                            struct shoal_error *err)
{
    return act(client, "DELETE", sandbox_id, checkpoint_id, "", err);
}

int shoal_checkpoint_restore(struct shoal_client *client,
                             const char *sandbox_id,
                             const char *checkpoint_id,
                             struct shoal_error *err)
{
    return act(client, "POST", sandbox_id, checkpoint_id, "/restore", err);
}

/* Forks */

/* @count 0: the request for one alone. */
static char *fork_body(const struct shoal_create *changes, int count)
{
    json_t *json = changes ? json_copy(changes->json) : json_object();
    char *body = NULL;

    if (count == 0 || client_json_int(json, "count", count) == 0) {
        body = json_dumps(json, JSON_COMPACT);
    }
    json_decref(json);
    return body;
}

static int fork_call(struct shoal_client *client,
                     const char *checkpoint_id,
                     const struct shoal_create *changes,
                     int count,
                     struct client_doc **ret_doc,
                     struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = fork_body(changes, count);
    struct client_request request = {.method = "POST", .once = true};
    char path[PATH_MAX_SIZE];
    int rc = check_ids(NULL, checkpoint_id, err);

    if (rc < 0) {
        return rc;
    }
    if (!body) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/from-checkpoint/%s", checkpoint_id);
    request.path = path;
    request.json = body;
    request.json_bytes = strlen(body);
    return count == 0 ? client_fetch(client, &request, &client_sandbox_kind, ret_doc, err)
                      : client_fetch_list(client, &request, &fork_kind, "results", ret_doc, err);
}

int shoal_checkpoint_fork(struct shoal_client *client,
                          const char *checkpoint_id,
                          const struct shoal_create *changes,
                          struct shoal_sandbox **ret_sandbox,
                          struct shoal_error *err)
{
    struct client_doc *doc;
    int rc = fork_call(client, checkpoint_id, changes, 0, &doc, err);

    if (rc == 0) {
        *ret_sandbox = (struct shoal_sandbox *)doc;
    }
    return rc;
}

int shoal_checkpoint_fork_many(struct shoal_client *client,
                               const char *checkpoint_id,
                               const struct shoal_create *changes,
                               int count,
                               struct shoal_fork_list **ret_list,
                               struct shoal_error *err)
{
    struct client_doc *doc;
    int rc;

    client_error_clear(err);
    if (count < 1) {
        return client_error_set(err, SHOAL_EINVALIDARG, "%d is not a number of forks", count);
    }
    rc = fork_call(client, checkpoint_id, changes, count, &doc, err);
    if (rc == 0) {
        *ret_list = (struct shoal_fork_list *)doc;
    }
    return rc;
}

/* Accessors */

void shoal_checkpoint_free(struct shoal_checkpoint *checkpoint)
{
    client_doc_free(CLIENT_DOC(checkpoint));
}

const char *shoal_checkpoint_id(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_text(CLIENT_DOC_CONST(checkpoint), "id");
}

const char *shoal_checkpoint_sandbox(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_text(CLIENT_DOC_CONST(checkpoint), "sandboxId");
}

const char *shoal_checkpoint_name(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_text(CLIENT_DOC_CONST(checkpoint), "name");
}

const char *shoal_checkpoint_status(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_text(CLIENT_DOC_CONST(checkpoint), "status");
}

const char *shoal_checkpoint_kind(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_text(CLIENT_DOC_CONST(checkpoint), "kind");
}

const char *shoal_checkpoint_created_at(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_text(CLIENT_DOC_CONST(checkpoint), "createdAt");
}

const char *shoal_checkpoint_reason(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_text(CLIENT_DOC_CONST(checkpoint), "errorMsg");
}

int64_t shoal_checkpoint_size_bytes(const struct shoal_checkpoint *checkpoint)
{
    return client_doc_int(CLIENT_DOC_CONST(checkpoint), "sizeBytes");
}

const char *shoal_checkpoint_json(struct shoal_checkpoint *checkpoint)
{
    return client_doc_json(CLIENT_DOC(checkpoint));
}

void shoal_checkpoint_list_free(struct shoal_checkpoint_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_checkpoint_list_count(const struct shoal_checkpoint_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_checkpoint *shoal_checkpoint_list_at(const struct shoal_checkpoint_list *list,
                                                        size_t index)
{
    return (const struct shoal_checkpoint *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_checkpoint_list_json(struct shoal_checkpoint_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}

void shoal_fork_list_free(struct shoal_fork_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_fork_list_count(const struct shoal_fork_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const char *shoal_fork_list_id(const struct shoal_fork_list *list, size_t index)
{
    const struct client_doc *doc = client_doc_at(CLIENT_DOC_CONST(list), index);
    const json_t *sandbox = doc ? json_object_get(doc->json, "sandbox") : NULL;

    return json_string_value(json_object_get(sandbox, "sandboxID"));
}

const char *shoal_fork_list_error(const struct shoal_fork_list *list, size_t index)
{
    const struct client_doc *doc = client_doc_at(CLIENT_DOC_CONST(list), index);
    const char *error = doc ? client_doc_text(doc, "error") : NULL;

    if (!doc || shoal_fork_list_id(list, index)) {
        return NULL;
    }
    return error ? error : "the server does not say why";
}

const char *shoal_fork_list_json(struct shoal_fork_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}
