/* Secret stores and their secrets. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

#define NAME_MAX_BYTES 256
#define PATH_MAX_SIZE  (CLIENT_ID_MAX_BYTES + NAME_MAX_BYTES + 64)

static const struct client_field store_fields[] = {
    {"id", CLIENT_TEXT, true},
    {"name", CLIENT_TEXT, true},
    {"egressAllowlist", CLIENT_ANY, false},
    {"createdAt", CLIENT_TEXT, false},
    {"updatedAt", CLIENT_TEXT, false},
};

static const struct client_kind store_kind = {.noun = "secret store",
                                              .fields = store_fields,
                                              .field_count = SHL_ARRAY_SIZE(store_fields)};

static const struct client_field secret_fields[] = {
    {"name", CLIENT_TEXT, true},         {"id", CLIENT_TEXT, false},
    {"allowedHosts", CLIENT_ANY, false}, {"createdAt", CLIENT_TEXT, false},
    {"updatedAt", CLIENT_TEXT, false},
};

static const struct client_kind secret_kind = {.noun = "secret",
                                               .fields = secret_fields,
                                               .field_count = SHL_ARRAY_SIZE(secret_fields)};

/* ---- requests --------------------------------------------------------------------------- */

static int add_hosts(json_t *body, const char *key, const struct shoal_hosts *hosts)
{
    json_t *array = hosts ? json_array() : NULL;
    int rc = 0;

    for (size_t i = 0; array && rc == 0 && i < hosts->count; i++) {
        rc = json_array_append_new(array, json_string(hosts->items[i]));
    }
    if (rc == 0 && array) {
        return json_object_set_new(body, key, array) == 0 ? 0 : -ENOMEM;
    }
    json_decref(array);
    return rc == 0 ? 0 : SHOAL_EINVALIDARG;
}

/* A store on its way to the server; NULL after filling @err. */
static char *store_body(const char *name, const struct shoal_hosts *allow, struct shoal_error *err)
{
    json_t *body = json_object();
    char *text = NULL;

    if ((!name || client_json_text(body, "name", name) == 0) &&
        add_hosts(body, "egressAllowlist", allow) == 0) {
        text = json_dumps(body, JSON_COMPACT);
    }
    json_decref(body);
    if (!text) {
        (void)client_error_set(err, SHOAL_EINVALIDARG, "name or hosts are not UTF-8 text");
    }
    return text;
}

static int store_path(char path[PATH_MAX_SIZE], const char *store_id, struct shoal_error *err)
{
    int rc;

    client_error_clear(err);
    rc = client_id_check(store_id, "secret store", err);
    if (rc == 0) {
        (void)snprintf(path, PATH_MAX_SIZE, "/secret-stores/%s", store_id);
    }
    return rc;
}

/* What the server takes for a name needs no escaping; it is the one to say so of others. */
static int secret_path(char path[PATH_MAX_SIZE],
                       const char *store_id,
                       const char *name,
                       struct shoal_error *err)
{
    size_t len = strlen(name);
    int rc;

    client_error_clear(err);
    rc = client_id_check(store_id, "secret store", err);
    if (rc == 0 &&
        (len == 0 || len > NAME_MAX_BYTES || (name[0] >= '0' && name[0] <= '9') ||
         strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != len)) {
        rc = client_error_set(err, SHOAL_EINVALIDARG,
                              "\"%.80s\" is not the name of a secret: it is that of an environment "
                              "variable, letters, digits and _",
                              name);
    }
    if (rc == 0) {
        (void)snprintf(path, PATH_MAX_SIZE, "/secret-stores/%s/secrets/%s", store_id, name);
    }
    return rc;
}

static int call_empty(struct shoal_client *client,
                      const char *method,
                      const char *path,
                      struct shl_bytes body,
                      struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer;

    return client_call(client,
                       &(struct client_request){.method = method,
                                                .path = path,
                                                .repeatable = strcmp(method, "PUT") == 0,
                                                .json = (const char *)body.base,
                                                .json_bytes = body.len},
                       &answer, err);
}

/* ---- stores ----------------------------------------------------------------------------- */

int shoal_secret_store_create(struct shoal_client *client,
                              const char *name,
                              const struct shoal_hosts *allow,
                              struct shoal_secret_store **ret_store,
                              struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = NULL;
    struct client_doc *doc;
    int rc;

    client_error_clear(err);
    body = store_body(name, allow && allow->count > 0 ? allow : NULL, err);
    if (!body) {
        return SHOAL_EINVALIDARG;
    }
    rc = client_fetch(client,
                      &(struct client_request){.method = "POST",
                                               .path = "/secret-stores",
                                               .json = body,
                                               .json_bytes = strlen(body)},
                      &store_kind, &doc, err);
    if (rc == 0) {
        *ret_store = (struct shoal_secret_store *)doc;
    }
    return rc;
}

int shoal_secret_store_list(struct shoal_client *client,
                            struct shoal_secret_store_list **ret_list,
                            struct shoal_error *err)
{
    struct client_doc *doc;
    int rc;

    client_error_clear(err);
    rc = client_fetch_list(
        client,
        &(struct client_request){.method = "GET", .path = "/secret-stores", .repeatable = true},
        &store_kind, NULL, &doc, err);
    if (rc == 0) {
        *ret_list = (struct shoal_secret_store_list *)doc;
    }
    return rc;
}

int shoal_secret_store_get(struct shoal_client *client,
                           const char *store_id,
                           struct shoal_secret_store **ret_store,
                           struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    struct client_doc *doc;
    int rc = store_path(path, store_id, err);

    if (rc == 0) {
        rc = client_fetch(
            client, &(struct client_request){.method = "GET", .path = path, .repeatable = true},
            &store_kind, &doc, err);
    }
    if (rc == 0) {
        *ret_store = (struct shoal_secret_store *)doc;
    }
    return rc;
}

int shoal_secret_store_update(struct shoal_client *client,
                              const char *store_id,
                              const char *name,
                              const struct shoal_hosts *allow,
                              struct shoal_secret_store **ret_store,
                              struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *body = NULL;
    char path[PATH_MAX_SIZE];
    struct client_doc *doc;
    int rc = store_path(path, store_id, err);

    if (rc < 0) {
        return rc;
    }
    body = store_body(name, allow, err);
    if (!body) {
        return SHOAL_EINVALIDARG;
    }
    rc = client_fetch(client,
                      &(struct client_request){.method = "PUT",
                                               .path = path,
                                               .json = body,
                                               .json_bytes = strlen(body),
                                               .repeatable = true},
                      &store_kind, &doc, err);
    if (rc == 0) {
        *ret_store = (struct shoal_secret_store *)doc;
    }
    return rc;
}

int shoal_secret_store_delete(struct shoal_client *client,
                              const char *store_id,
                              struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    int rc = store_path(path, store_id, err);

    return rc < 0 ? rc : call_empty(client, "DELETE", path, shl_bytes_of(NULL, 0), err);
}

void shoal_secret_store_free(struct shoal_secret_store *store)
{
    client_doc_free(CLIENT_DOC(store));
}

const char *shoal_secret_store_text(const struct shoal_secret_store *store, const char *field)
{
    return client_doc_text(CLIENT_DOC_CONST(store), field);
}

static const char *text_at(const struct client_doc *doc, const char *field, size_t index)
{
    return json_string_value(json_array_get(json_object_get(doc->json, field), index));
}

const char *shoal_secret_store_allowed(const struct shoal_secret_store *store, size_t index)
{
    return text_at(CLIENT_DOC_CONST(store), "egressAllowlist", index);
}

const char *shoal_secret_store_json(struct shoal_secret_store *store)
{
    return client_doc_json(CLIENT_DOC(store));
}

void shoal_secret_store_list_free(struct shoal_secret_store_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_secret_store_list_count(const struct shoal_secret_store_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_secret_store *shoal_secret_store_list_at(
    const struct shoal_secret_store_list *list,
    size_t index)
{
    return (const struct shoal_secret_store *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_secret_store_list_json(struct shoal_secret_store_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}

/* ---- secrets ---------------------------------------------------------------------------- */

/* The body in memory of exactly its size, so that no copy is left where it grew. */
static int value_body(const char *value,
                      size_t value_bytes,
                      const struct shoal_hosts *hosts,
                      struct shl_buf *ret,
                      struct shoal_error *err)
{
    json_t *body = json_object();
    json_t *text = json_stringn(value, value_bytes);
    uint8_t *space;
    size_t size;
    int rc = text ? add_hosts(body, "allowedHosts", hosts) : SHOAL_EINVALIDARG;

    if (rc == 0 && json_object_set(body, "value", text) < 0) {
        rc = -ENOMEM;
    }
    if (rc == 0) {
        size = json_dumpb(body, NULL, 0, JSON_COMPACT);
        shl_buf_init(ret, size);
        rc = size > 0 ? shl_buf_reserve(ret, size, &space) : -ENOMEM;
        if (rc == 0) {
            (void)json_dumpb(body, (char *)space, size, JSON_COMPACT);
            shl_buf_commit(ret, size);
        }
    }
    if (text) { /* jansson gives no other way to its own copy */
        explicit_bzero((void *)(uintptr_t)json_string_value(text), json_string_length(text));
    }
    json_decref(text);
    json_decref(body);
    return rc == 0 ? 0
           : rc == SHOAL_EINVALIDARG
               ? client_error_set(err, rc, "value or hosts are not UTF-8 text")
               : client_error_set(err, rc, "out of memory");
}

int shoal_secret_set(struct shoal_client *client,
                     const char *store_id,
                     const char *name,
                     const char *value,
                     size_t value_bytes,
                     const struct shoal_hosts *hosts,
                     struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    struct shl_buf body;
    int rc = secret_path(path, store_id, name, err);

    if (rc == 0) {
        rc = value_body(value, value_bytes, hosts, &body, err);
    }
    if (rc == 0) {
        rc = call_empty(client, "PUT", path, shl_buf_bytes(&body), err);
        shl_buf_wipe(&body);
    }
    return rc;
}

int shoal_secret_list(struct shoal_client *client,
                      const char *store_id,
                      struct shoal_secret_list **ret_list,
                      struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    struct client_doc *doc;
    int rc = store_path(path, store_id, err);

    if (rc == 0) {
        (void)snprintf(path, sizeof(path), "/secret-stores/%s/secrets", store_id);
        rc = client_fetch_list(
            client, &(struct client_request){.method = "GET", .path = path, .repeatable = true},
            &secret_kind, NULL, &doc, err);
    }
    if (rc == 0) {
        *ret_list = (struct shoal_secret_list *)doc;
    }
    return rc;
}

int shoal_secret_delete(struct shoal_client *client,
                        const char *store_id,
                        const char *name,
                        struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    int rc = secret_path(path, store_id, name, err);

    return rc < 0 ? rc : call_empty(client, "DELETE", path, shl_bytes_of(NULL, 0), err);
}

void shoal_secret_list_free(struct shoal_secret_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_secret_list_count(const struct shoal_secret_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_secret *shoal_secret_list_at(const struct shoal_secret_list *list, size_t index)
{
    return (const struct shoal_secret *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_secret_list_json(struct shoal_secret_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}

const char *shoal_secret_text(const struct shoal_secret *secret, const char *field)
{
    return client_doc_text(CLIENT_DOC_CONST(secret), field);
}

const char *shoal_secret_host(const struct shoal_secret *secret, size_t index)
{
    return text_at(CLIENT_DOC_CONST(secret), "allowedHosts", index);
}
