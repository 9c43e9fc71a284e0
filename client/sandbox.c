#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

static const struct client_field sandbox_fields[] = {
    {"sandboxID", CLIENT_TEXT, true},        {"status", CLIENT_TEXT, true},
    {"templateID", CLIENT_TEXT, false},      {"workerID", CLIENT_TEXT, false},
    {"startedAt", CLIENT_TEXT, false},       {"endAt", CLIENT_TEXT, false},
    {"cpuCount", CLIENT_INT, false},         {"memoryMB", CLIENT_INT, false},
    {"diskMB", CLIENT_INT, false},           {"metadata", CLIENT_OBJECT, false},
    {"coldWoken", CLIENT_BOOL, false},       {"fromCheckpointId", CLIENT_TEXT, false},
    {"recoveredFrom", CLIENT_OBJECT, false},
};

const struct client_kind client_sandbox_kind = {
    .noun = "sandbox",
    .fields = sandbox_fields,
    .field_count = SHL_ARRAY_SIZE(sandbox_fields),
};

struct shoal_create *shoal_create_new(void)
{
    struct shoal_create *create = calloc(1, sizeof(*create));

    if (create) {
        create->json = json_object();
    }
    if (create && !create->json) {
        free(create);
        return NULL;
    }
    return create;
}

void shoal_create_free(struct shoal_create *create)
{
    if (create) {
        json_decref(create->json);
        free(create);
    }
}

int shoal_create_set_template(struct shoal_create *create, const char *name)
{
    return client_json_text(create->json, "templateID", name);
}

int shoal_create_set_cpus(struct shoal_create *create, int cpus)
{
    return client_json_int(create->json, "cpuCount", cpus);
}

int shoal_create_set_memory_mb(struct shoal_create *create, int memory_mb)
{
    return client_json_int(create->json, "memoryMB", memory_mb);
}

int shoal_create_set_disk_mb(struct shoal_create *create, int disk_mb)
{
    return client_json_int(create->json, "diskMB", disk_mb);
}

int shoal_create_set_timeout_s(struct shoal_create *create, int timeout_s)
{
    return client_json_int(create->json, "timeout", timeout_s);
}

int shoal_create_set_on_node_loss(struct shoal_create *create, const char *what)
{
    return client_json_text(create->json, "onNodeLoss", what);
}

int shoal_create_set_autosave_s(struct shoal_create *create, int autosave_s)
{
    return client_json_int(create->json, "autosaveInterval", autosave_s);
}

int shoal_create_set_secret_store(struct shoal_create *create, const char *name)
{
    return client_json_text(create->json, "secretStore", name);
}

int shoal_create_add_env(struct shoal_create *create, const char *key, const char *value)
{
    return client_json_put(create->json, "envs", key, value);
}

int shoal_create_add_metadata(struct shoal_create *create, const char *key, const char *value)
{
    return client_json_put(create->json, "metadata", key, value);
}

int shoal_sandbox_create(struct shoal_client *client,
                         const struct shoal_create *create,
                         struct shoal_sandbox **ret_sandbox,
                         struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = create ? json_dumps(create->json, JSON_COMPACT) : strdup("{}");
    struct client_doc *doc;
    int rc;

    if (!body) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    rc = client_fetch(client,
                      &(struct client_request){.method = "POST",
                                               .path = "/sandboxes",
                                               .once = true,
                                               .json = body,
                                               .json_bytes = strlen(body)},
                      &client_sandbox_kind, &doc, err);
    if (rc == 0) {
        *ret_sandbox = (struct shoal_sandbox *)doc;
    }
    return rc;
}

int shoal_sandbox_get(struct shoal_client *client,
                      const char *id,
                      struct shoal_sandbox **ret_sandbox,
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
    (void)snprintf(path, sizeof(path), "/sandboxes/%s", id);
    rc = client_fetch(client,
                      &(struct client_request){.method = "GET", .path = path, .repeatable = true},
                      &client_sandbox_kind, &doc, err);
    if (rc == 0) {
        *ret_sandbox = (struct shoal_sandbox *)doc;
    }
    return rc;
}

int shoal_sandbox_list(struct shoal_client *client,
                       struct shoal_sandbox_list **ret_list,
                       struct shoal_error *err)
{
    struct client_doc *doc;
    int rc = client_fetch_list(client,
                               &(struct client_request){.method = "GET",
                                                        .path = "/sandboxes?limit=500",
                                                        .repeatable = true},
                               &client_sandbox_kind, NULL, &doc, err);

    if (rc == 0) {
        *ret_list = (struct shoal_sandbox_list *)doc;
    }
    return rc;
}

int shoal_sandbox_kill(struct shoal_client *client, const char *id, struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[CLIENT_ID_MAX_BYTES + 64];
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s", id);
    return client_call(
        client, &(struct client_request){.method = "DELETE", .path = path, .repeatable = true},
        &answer, err);
}

int shoal_sandbox_set_timeout_s(struct shoal_client *client,
                                const char *id,
                                int timeout_s,
                                struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[CLIENT_ID_MAX_BYTES + 64];
    char body[64];
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/timeout", id);
    (void)snprintf(body, sizeof(body), "{\"timeout\":%d}", timeout_s);
    return client_call(client,
                       &(struct client_request){.method = "POST",
                                                .path = path,
                                                .repeatable = true,
                                                .json = body,
                                                .json_bytes = strlen(body)},
                       &answer, err);
}

/* POST /sandboxes/ID/@verb; the caller releases @answer. */
static int change(struct shoal_client *client,
                  const char *id,
                  const char *verb,
                  const char *body,
                  bool repeatable,
                  struct client_answer *answer,
                  struct shoal_error *err)
{
    char path[CLIENT_ID_MAX_BYTES + 64];
    int rc;

    client_error_clear(err);
    rc = client_id_check(id, "sandbox", err);
    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/%s", id, verb);
    return client_call(client,
                       &(struct client_request){.method = "POST",
                                                .path = path,
                                                .repeatable = repeatable,
                                                .json = body,
                                                .json_bytes = strlen(body)},
                       answer, err);
}

static const struct client_field hibernation_fields[] = {
    {"status", CLIENT_TEXT, true},
    {"sizeBytes", CLIENT_INT, false},
};

static const struct client_kind hibernation_kind = {
    .noun = "hibernation",
    .fields = hibernation_fields,
    .field_count = SHL_ARRAY_SIZE(hibernation_fields),
};

int shoal_sandbox_hibernate(struct shoal_client *client,
                            const char *id,
                            int64_t *ret_saved_bytes,
                            struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    struct client_doc *doc;
    int rc = change(client, id, "hibernate", "{}", true, &answer, err);

    if (rc == 0) {
        rc = client_doc_parse(&answer, &hibernation_kind, &doc, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (ret_saved_bytes) {
        *ret_saved_bytes = client_doc_int(doc, "sizeBytes");
    }
    client_doc_free(doc);
    return 0;
}

int shoal_sandbox_migrate(struct shoal_client *client,
                          const char *id,
                          const char *node,
                          struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    json_t *json = json_pack("{s:s}", "targetWorker", node);
    char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;
    int rc = body ? change(client, id, "migrate", body, false, &answer, err)
                  : client_error_set(err, SHOAL_EINVALIDARG, "the name of the node is not UTF-8");

    free(body);
    json_decref(json);
    return rc;
}

int shoal_sandbox_recover(struct shoal_client *client,
                          const char *id,
                          struct shoal_sandbox **ret_sandbox,
                          struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    struct client_doc *doc;
    int rc = change(client, id, "recover", "{}", false, &answer, err);

    if (rc == 0) {
        rc = client_doc_parse(&answer, &client_sandbox_kind, &doc, err);
    }
    if (rc == 0) {
        *ret_sandbox = (struct shoal_sandbox *)doc;
    }
    return rc;
}

static const json_t *recovered(const struct shoal_sandbox *sandbox, const char *name)
{
    return json_object_get(json_object_get(CLIENT_DOC_CONST(sandbox)->json, "recoveredFrom"), name);
}

const char *shoal_sandbox_recovered_from(const struct shoal_sandbox *sandbox)
{
    return json_string_value(recovered(sandbox, "checkpointId"));
}

int64_t shoal_sandbox_recovered_age_s(const struct shoal_sandbox *sandbox)
{
    const json_t *age = recovered(sandbox, "ageSeconds");

    return json_is_integer(age) ? json_integer_value(age) : -1;
}

int shoal_sandbox_wake(struct shoal_client *client,
                       const char *id,
                       int timeout_s,
                       struct shoal_sandbox **ret_sandbox,
                       struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char body[64] = "{}";
    struct client_doc *doc;
    int rc;

    if (timeout_s >= 0) {
        (void)snprintf(body, sizeof(body), "{\"timeout\":%d}", timeout_s);
    }
    rc = change(client, id, "wake", body, true, &answer, err);
    if (rc == 0) {
        rc = client_doc_parse(&answer, &client_sandbox_kind, &doc, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (ret_sandbox) {
        *ret_sandbox = (struct shoal_sandbox *)doc;
    } else {
        client_doc_free(doc);
    }
    return 0;
}

int shoal_sandbox_reboot(struct shoal_client *client,
                         const char *id,
                         bool hard,
                         struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};

    return change(client, id, hard ? "power-cycle" : "reboot", "{}", false, &answer, err);
}

void shoal_sandbox_free(struct shoal_sandbox *sandbox)
{
    client_doc_free(CLIENT_DOC(sandbox));
}

const char *shoal_sandbox_id(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "sandboxID");
}

const char *shoal_sandbox_status(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "status");
}

const char *shoal_sandbox_template(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "templateID");
}

const char *shoal_sandbox_reason(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "reason");
}

const char *shoal_sandbox_started_at(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "startedAt");
}

const char *shoal_sandbox_end_at(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "endAt");
}

const char *shoal_sandbox_worker(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "workerID");
}

int64_t shoal_sandbox_cpus(const struct shoal_sandbox *sandbox)
{
    return client_doc_int(CLIENT_DOC_CONST(sandbox), "cpuCount");
}

int64_t shoal_sandbox_memory_mb(const struct shoal_sandbox *sandbox)
{
    return client_doc_int(CLIENT_DOC_CONST(sandbox), "memoryMB");
}

int64_t shoal_sandbox_disk_mb(const struct shoal_sandbox *sandbox)
{
    return client_doc_int(CLIENT_DOC_CONST(sandbox), "diskMB");
}

const char *shoal_sandbox_metadata(const struct shoal_sandbox *sandbox, const char *key)
{
    const json_t *map = json_object_get(CLIENT_DOC_CONST(sandbox)->json, "metadata");

    return json_string_value(json_object_get(map, key));
}

const char *shoal_sandbox_checkpoint(const struct shoal_sandbox *sandbox)
{
    return client_doc_text(CLIENT_DOC_CONST(sandbox), "fromCheckpointId");
}

bool shoal_sandbox_cold_woken(const struct shoal_sandbox *sandbox)
{
    return client_doc_bool(CLIENT_DOC_CONST(sandbox), "coldWoken");
}

const char *shoal_sandbox_json(struct shoal_sandbox *sandbox)
{
    return client_doc_json(CLIENT_DOC(sandbox));
}

void shoal_sandbox_list_free(struct shoal_sandbox_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_sandbox_list_count(const struct shoal_sandbox_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

struct shoal_sandbox *shoal_sandbox_list_at(const struct shoal_sandbox_list *list, size_t index)
{
    return (struct shoal_sandbox *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_sandbox_list_json(struct shoal_sandbox_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}
