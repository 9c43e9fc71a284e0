#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

#define PATH_MAX_SIZE (CLIENT_ID_MAX_BYTES + 64)
#define PORT_MAX      65535

static const struct client_field preview_fields[] = {
    {"hostname", CLIENT_TEXT, true},
    {"port", CLIENT_INT, true},
    {"url", CLIENT_TEXT, false},
    {"createdAt", CLIENT_TEXT, false},
};

static const struct client_kind preview_kind = {
    .noun = "preview",
    .fields = preview_fields,
    .field_count = SHL_ARRAY_SIZE(preview_fields),
};

static int make_path(const char *sandbox_id,
                     int port,
                     char path[PATH_MAX_SIZE],
                     struct shoal_error *err)
{
    int rc;

    client_error_clear(err);
    rc = client_id_check(sandbox_id, "sandbox", err);
    if (rc == 0 && (port < 0 || port > PORT_MAX)) {
        rc = client_error_set(err, SHOAL_EINVALIDARG, "the port must be from 1 to %d", PORT_MAX);
    }
    if (rc == 0 && port > 0) {
        (void)snprintf(path, PATH_MAX_SIZE, "/sandboxes/%s/preview/%d", sandbox_id, port);
    } else if (rc == 0) {
        (void)snprintf(path, PATH_MAX_SIZE, "/sandboxes/%s/preview", sandbox_id);
    }
    return rc;
}

int shoal_preview_create(struct shoal_client *client,
                         const char *sandbox_id,
                         int port,
                         struct shoal_preview **ret_preview,
                         struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    char body[32];
    struct client_doc *doc;
    int rc = make_path(sandbox_id, 0, path, err);

    if (rc < 0) {
        return rc;
    }
    (void)snprintf(body, sizeof(body), "{\"port\":%d}", port);
    rc = client_fetch(client,
                      &(struct client_request){.method = "POST",
                                               .path = path,
                                               .json = body,
                                               .json_bytes = strlen(body),
                                               .repeatable = true},
                      &preview_kind, &doc, err);
    if (rc == 0) {
        *ret_preview = (struct shoal_preview *)doc;
    }
    return rc;
}

int shoal_preview_list(struct shoal_client *client,
                       const char *sandbox_id,
                       struct shoal_preview_list **ret_list,
                       struct shoal_error *err)
{
    char path[PATH_MAX_SIZE];
    struct client_doc *doc;
    int rc = make_path(sandbox_id, 0, path, err);

    if (rc < 0) {
        return rc;
    }
    rc = client_fetch_list(
        client, &(struct client_request){.method = "GET", .path = path, .repeatable = true},
        &preview_kind, NULL, &doc, err);
    if (rc == 0) {
        *ret_list = (struct shoal_preview_list *)doc;
    }
    return rc;
}

int shoal_preview_delete(struct shoal_client *client,
                         const char *sandbox_id,
                         int port,
                         struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[PATH_MAX_SIZE];
    int rc;

    if (port < 1) {
        client_error_clear(err);
        return client_error_set(err, SHOAL_EINVALIDARG, "the port must be from 1 to %d", PORT_MAX);
    }
    rc = make_path(sandbox_id, port, path, err);
    return rc < 0 ? rc
                  : client_call(client, &(struct client_request){.method = "DELETE", .path = path},
                                &answer, err);
}

void shoal_preview_free(struct shoal_preview *preview)
{
    client_doc_free(CLIENT_DOC(preview));
}

const char *shoal_preview_hostname(const struct shoal_preview *preview)
{
    return client_doc_text(CLIENT_DOC_CONST(preview), "hostname");
}

const char *shoal_preview_url(const struct shoal_preview *preview)
{
    return client_doc_text(CLIENT_DOC_CONST(preview), "url");
}

int64_t shoal_preview_port(const struct shoal_preview *preview)
{
    return client_doc_int(CLIENT_DOC_CONST(preview), "port");
}

const char *shoal_preview_created_at(const struct shoal_preview *preview)
{
    return client_doc_text(CLIENT_DOC_CONST(preview), "createdAt");
}

const char *shoal_preview_json(struct shoal_preview *preview)
{
    return client_doc_json(CLIENT_DOC(preview));
}

void shoal_preview_list_free(struct shoal_preview_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_preview_list_count(const struct shoal_preview_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_preview *shoal_preview_list_at(const struct shoal_preview_list *list,
                                                  size_t index)
{
    return (const struct shoal_preview *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_preview_list_json(struct shoal_preview_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}
