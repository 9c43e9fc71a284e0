#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

static const struct client_field worker_fields[] = {
    {"worker_id", CLIENT_TEXT, true},       {"worker_version", CLIENT_TEXT, false},
    {"capacity", CLIENT_INT, false},        {"current", CLIENT_INT, false},
    {"total_memory_mb", CLIENT_INT, false}, {"committed_memory_mb", CLIENT_INT, false},
    {"draining", CLIENT_BOOL, false},
};

static const struct client_kind worker_kind = {
    .noun = "worker",
    .fields = worker_fields,
    .field_count = SHL_ARRAY_SIZE(worker_fields),
};

static int probe(struct shoal_client *client,
                 size_t index,
                 const char *path,
                 struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};

    return client_call(client,
                       &(struct client_request){.method = "GET",
                                                .path = path,
                                                .at_root = true,
                                                .no_key = true,
                                                .repeatable = true,
                                                .pinned = true,
                                                .endpoint = index},
                       &answer, err);
}

int shoal_endpoint_health(struct shoal_client *client,
                          size_t index,
                          bool *ret_ready,
                          struct shoal_error *err)
{
    int rc;

    client_error_clear(err);
    if (index >= client->endpoint_count) {
        return client_error_set(err, SHOAL_EINVALIDARG, "there is no server %zu in the list",
                                index + 1);
    }
    rc = probe(client, index, "/healthz", err);
    if (rc < 0) {
        return rc;
    }
    rc = probe(client, index, "/readyz", err);
    if (rc < 0 && rc != SHOAL_EUNAVAILABLE) {
        return rc;
    }
    *ret_ready = rc == 0;
    return 0;
}

int shoal_worker_list(struct shoal_client *client,
                      struct shoal_worker_list **ret_list,
                      struct shoal_error *err)
{
    struct client_doc *doc;
    int rc = client_fetch_list(
        client, &(struct client_request){.method = "GET", .path = "/workers", .repeatable = true},
        &worker_kind, "workers", &doc, err);

    if (rc == 0) {
        *ret_list = (struct shoal_worker_list *)doc;
    }
    return rc;
}

void shoal_worker_list_free(struct shoal_worker_list *list)
{
    client_doc_free(CLIENT_DOC(list));
}

size_t shoal_worker_list_count(const struct shoal_worker_list *list)
{
    return CLIENT_DOC_CONST(list)->count;
}

const struct shoal_worker *shoal_worker_list_at(const struct shoal_worker_list *list, size_t index)
{
    return (const struct shoal_worker *)client_doc_at(CLIENT_DOC_CONST(list), index);
}

const char *shoal_worker_list_json(struct shoal_worker_list *list)
{
    return client_doc_json(CLIENT_DOC(list));
}

const char *shoal_worker_id(const struct shoal_worker *worker)
{
    return client_doc_text(CLIENT_DOC_CONST(worker), "worker_id");
}

const char *shoal_worker_version(const struct shoal_worker *worker)
{
    return client_doc_text(CLIENT_DOC_CONST(worker), "worker_version");
}

int64_t shoal_worker_capacity(const struct shoal_worker *worker)
{
    return client_doc_int(CLIENT_DOC_CONST(worker), "capacity");
}

int64_t shoal_worker_current(const struct shoal_worker *worker)
{
    return client_doc_int(CLIENT_DOC_CONST(worker), "current");
}

int64_t shoal_worker_memory_total_mb(const struct shoal_worker *worker)
{
    return client_doc_int(CLIENT_DOC_CONST(worker), "total_memory_mb");
}

int64_t shoal_worker_memory_committed_mb(const struct shoal_worker *worker)
{
    return client_doc_int(CLIENT_DOC_CONST(worker), "committed_memory_mb");
}

bool shoal_worker_draining(const struct shoal_worker *worker)
{
    return client_doc_bool(CLIENT_DOC_CONST(worker), "draining");
}
