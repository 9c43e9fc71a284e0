#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

static const struct client_field entry_fields[] = {
    {"name", CLIENT_TEXT, true},
    {"path", CLIENT_TEXT, false},
    {"isDir", CLIENT_BOOL, true},
    {"size", CLIENT_INT, false},
};

static const struct client_kind entry_kind = {
    .noun = "file",
    .fields = entry_fields,
    .field_count = SHL_ARRAY_SIZE(entry_fields),
};

/* "/sandboxes/ID/files<call>?path=PATH" into @path, which the caller releases. */
static int make_path(struct shl_buf *path,
                     const char *id,
                     const char *call,
                     const char *file,
                     struct shoal_error *err)
{
    int rc;

    client_error_clear(err);
    shl_buf_init(path, CLIENT_PATH_MAX_BYTES);
    rc = client_id_check(id, "sandbox", err);
    if (rc < 0) {
        return rc;
    }
    if (!*file) {
        return client_error_set(err, SHOAL_EINVALIDARG, "the path in the sandbox is empty");
    }
    rc = shl_buf_printf(path, "/sandboxes/%s/files%s?path=", id, call);
    rc = rc < 0 ? rc : client_path_escape(path, file);
    rc = rc < 0 ? rc : shl_buf_append(path, "", 1);
    return rc < 0 ? client_error_set(err, rc, "the path in the sandbox is too long") : 0;
}

/* @request without its path. */
static int transfer(struct shoal_client *client,
                    const char *id,
                    const char *path,
                    struct client_request *request,
                    struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    SHL_CLEANUP(shl_buf_release) struct shl_buf url;
    int rc = make_path(&url, id, "", path, err);

    if (rc < 0) {
        return rc;
    }
    request->path = (const char *)shl_buf_data(&url);
    request->repeatable = true;
    return client_call(client, request, &answer, err);
}

int shoal_file_read(struct shoal_client *client,
                    const char *id,
                    const char *path,
                    shoal_sink_cb sink,
                    void *arg,
                    struct shoal_error *err)
{
    struct client_request request = {.method = "GET", .sink = sink, .sink_arg = arg};

    return transfer(client, id, path, &request, err);
}

int shoal_file_write(struct shoal_client *client,
                     const char *id,
                     const char *path,
                     int64_t size_bytes,
                     shoal_source_cb source,
                     void *arg,
                     struct shoal_error *err)
{
    struct client_request request = {
        .method = "PUT", .source = source, .source_arg = arg, .source_bytes = size_bytes};

    return transfer(client, id, path, &request, err);
}

int shoal_file_list(struct shoal_client *client,
                    const char *id,
                    const char *path,
                    struct shoal_file_list **ret_list,
                    struct shoal_error *err)
{
    SHL_CLEANUP(shl_buf_release) struct shl_buf url;
    struct client_doc *doc;
    int rc = make_path(&url, id, "/list", path, err);

    if (rc < 0) {
        return rc;
    }
    rc = client_fetch_list(client,
                           &(struct client_request){.method = "GET",
                                                    .path = (const char *)shl_buf_data(&url),
                                                    .repeatable = true},
                           &entry_kind, NULL, &doc, err);
    if (rc == 0) {
        *ret_list = (struct shoal_file_list *)doc;
    }
    return rc;
}

/* Calls that change the tree and have nothing to say. */
static int change(struct shoal_client *client,
                  const char *method,
                  const char *id,
                  const char *call,
                  const char *path,
                  struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    SHL_CLEANUP(shl_buf_release) struct shl_buf url;
    int rc = make_path(&url, id, call, path, err);

    if (rc < 0) {
        return rc;
    }
    return client_call(client,
                       &(struct client_request){.method = method,
                                                .path = (const char *)shl_buf_data(&url),
                                                .repeatable = true},
                       &answer, err);
}

int shoal_file_mkdir(struct shoal_client *client,
                     const char *id,
                     const char *path,
                     struct shoal_error *err)
{
    return change(client, "POST", id, "/mkdir", path, err);
}

int shoal_file_remove(struct shoal_client *client,
                      const char *id,
                      const char *path,
                      struct shoal_error *err)
{
    return change(client, "DELETE", id, "", path, err);
}

void shoal_file_list_free(struct shoal_file_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_file_list_count(const struct shoal_file_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_file_entry *shoal_file_list_at(const struct shoal_file_list *list, size_t index)
{
    return (const struct shoal_file_entry *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_file_list_json(struct shoal_file_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}

const char *shoal_file_entry_name(const struct shoal_file_entry *entry)
{
    return client_doc_text(CLIENT_DOC_CONST(entry), "name");
}

const char *shoal_file_entry_path(const struct shoal_file_entry *entry)
{
    return client_doc_text(CLIENT_DOC_CONST(entry), "path");
}

bool shoal_file_entry_is_dir(const struct shoal_file_entry *entry)
{
    return client_doc_bool(CLIENT_DOC_CONST(entry), "isDir");
}

int64_t shoal_file_entry_size_bytes(const struct shoal_file_entry *entry)
{
    int64_t size = client_doc_int(CLIENT_DOC_CONST(entry), "size");

    /* Servers may leave out a size of zero. */
    return size < 0 ? 0 : size;
}
