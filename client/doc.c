#include "client/doc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/error.h"

static bool field_fits(const struct client_field *field, const json_t *value)
{
    switch (field->type) {
    case CLIENT_TEXT:
        return json_is_string(value);
    case CLIENT_INT:
        return json_is_integer(value);
    case CLIENT_BOOL:
        return json_is_boolean(value);
    case CLIENT_OBJECT:
        return json_is_object(value);
    case CLIENT_ANY:
        return true;
    }
    return false;
}

static int check(const json_t *json, const struct client_kind *kind, struct shoal_error *err)
{
    if (!json_is_object(json)) {
        return client_error_set(err, SHOAL_EPROTO,
                                "the server described a %s with something that is no JSON object",
                                kind->noun);
    }
    for (size_t i = 0; i < kind->field_count; i++) {
        const struct client_field *field = &kind->fields[i];
        const json_t *value = json_object_get(json, field->name);
        bool absent = !value || json_is_null(value);

        if (absent ? field->required : !field_fits(field, value)) {
            return client_error_set(err, SHOAL_EPROTO,
                                    "the server described a %s %s \"%s\": is it a Shoal server?",
                                    kind->noun, absent ? "without" : "with an unusable",
                                    field->name);
        }
    }
    return 0;
}

static struct client_doc *doc_new(json_t *json)
{
    struct client_doc *doc = calloc(1, sizeof(*doc));

    if (doc) {
        doc->json = json_incref(json);
    }
    return doc;
}

static int load(const struct client_answer *answer,
                const struct client_kind *kind,
                json_t **ret_json,
                struct shoal_error *err)
{
    struct shl_bytes body = shl_buf_bytes(&answer->body);
    json_error_t json_err = {.text = "it is empty"};
    /* Output of a command may hold zero bytes. */
    json_t *json =
        body.len ? json_loadb((const char *)body.base, body.len, JSON_ALLOW_NUL, &json_err) : NULL;

    if (!json) {
        if (err) {
            err->http_status = (int)answer->status;
            memcpy(err->request_id, answer->request_id, sizeof(err->request_id));
        }
        return client_error_set(err, SHOAL_EPROTO,
                                "the server's answer about a %s is not JSON (%s): is it a Shoal "
                                "server?",
                                kind->noun, json_err.text);
    }
    *ret_json = json;
    return 0;
}

int client_doc_parse(const struct client_answer *answer,
                     const struct client_kind *kind,
                     struct client_doc **ret_doc,
                     struct shoal_error *err)
{
    json_t *json = NULL;
    int rc = load(answer, kind, &json, err);

    rc = rc < 0 ? rc : check(json, kind, err);
    if (rc == 0) {
        *ret_doc = doc_new(json);
        rc = *ret_doc ? 0 : client_error_set(err, -ENOMEM, "out of memory");
    }
    json_decref(json);
    return rc;
}

static int fill_items(struct client_doc *doc,
                      const struct client_kind *kind,
                      struct shoal_error *err)
{
    size_t count = json_array_size(doc->json);

    doc->items = calloc(count ? count : 1, sizeof(*doc->items));
    if (!doc->items) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    for (; doc->count < count; doc->count++) {
        json_t *entry = json_array_get(doc->json, doc->count);
        int rc = check(entry, kind, err);

        if (rc < 0) {
            return rc;
        }
        doc->items[doc->count].json = json_incref(entry);
    }
    return 0;
}

int client_doc_parse_list(const struct client_answer *answer,
                          const struct client_kind *kind,
                          const char *member,
                          struct client_doc **ret_doc,
                          struct shoal_error *err)
{
    struct client_doc *doc = NULL;
    json_t *json = NULL;
    json_t *array;
    int rc = load(answer, kind, &json, err);

    if (rc < 0) {
        return rc;
    }
    array = member && json_is_object(json) ? json_object_get(json, member) : json;
    if (!json_is_array(array)) {
        rc = client_error_set(err, SHOAL_EPROTO, "the server's list of %ss is not a JSON array",
                              kind->noun);
    } else if (!(doc = doc_new(array))) {
        rc = client_error_set(err, -ENOMEM, "out of memory");
    } else {
        rc = fill_items(doc, kind, err);
    }
    json_decref(json);
    if (rc < 0) {
        client_doc_free(doc);
        return rc;
    }
    *ret_doc = doc;
    return 0;
}

static void doc_release(struct client_doc *doc)
{
    json_decref(doc->json);
    free(doc->text);
    free(doc->items);
}

void client_doc_free(struct client_doc *doc)
{
    if (!doc) {
        return;
    }
    for (size_t i = 0; i < doc->count; i++) {
        doc_release(&doc->items[i]);
    }
    doc_release(doc);
    free(doc);
}

const char *client_doc_text(const struct client_doc *doc, const char *field)
{
    return json_string_value(json_object_get(doc->json, field));
}

int64_t client_doc_int(const struct client_doc *doc, const char *field)
{
    const json_t *value = json_object_get(doc->json, field);

    return json_is_integer(value) ? (int64_t)json_integer_value(value) : -1;
}

bool client_doc_bool(const struct client_doc *doc, const char *field)
{
    return json_is_true(json_object_get(doc->json, field));
}

const char *client_doc_json(struct client_doc *doc)
{
    if (!doc->text) {
        doc->text = json_dumps(doc->json, JSON_INDENT(2));
    }
    return doc->text;
}

struct client_doc *client_doc_at(const struct client_doc *doc, size_t index)
{
    return index < doc->count ? &doc->items[index] : NULL;
}

int client_fetch(struct shoal_client *client,
                 const struct client_request *request,
                 const struct client_kind *kind,
                 struct client_doc **ret_doc,
                 struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer;
    int rc = client_call(client, request, &answer, err);

    return rc < 0 ? rc : client_doc_parse(&answer, kind, ret_doc, err);
}

int client_fetch_list(struct shoal_client *client,
                      const struct client_request *request,
                      const struct client_kind *kind,
                      const char *member,
                      struct client_doc **ret_doc,
                      struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer;
    int rc = client_call(client, request, &answer, err);

    return rc < 0 ? rc : client_doc_parse_list(&answer, kind, member, ret_doc, err);
}

int client_json_text(json_t *object, const char *key, const char *value)
{
    json_t *text = json_string(value);

    /* jansson refuses what is not UTF-8, in values and in keys. */
    return json_object_set_new(object, key, text) == 0 ? 0 : SHOAL_EINVALIDARG;
}

int client_json_int(json_t *object, const char *key, int64_t value)
{
    return json_object_set_new(object, key, json_integer(value)) == 0 ? 0 : -ENOMEM;
}

int client_json_put(json_t *object, const char *group, const char *key, const char *value)
{
    json_t *map = json_object_get(object, group);

    if (!*key) {
        return SHOAL_EINVALIDARG;
    }
    if (!map) {
        map = json_object();
        if (json_object_set_new(object, group, map) < 0) {
            return -ENOMEM;
        }
    }
    return client_json_text(map, key, value);
}
