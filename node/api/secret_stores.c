/* Secret stores: create, list, get, update, delete. Their secrets: secrets.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/api/row_job.h"
#include "node/api/secret_json.h"
#include "node/api/secret_rows.h"
#include "node/api/server_private.h"

/* What is to become of one store. */
struct change {
    struct node_row_job job;
    char org[NODE_SECRET_ORG_SIZE];
    struct node_store_row wanted; /* .id of the path or fresh; .name "": as it is */
    bool has_allowlist;
    bool is_new;
    bool has_name;
};

static void free_change(struct change *change)
{
    node_store_row_release(&change->wanted);
    node_row_job_end(&change->job);
    free(change);
}

/*- What clients write. */

static bool is_store_name(const char *name)
{
    size_t i;

    for (i = 0; name[i] != '\0'; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return false;
        }
    }
    return i > 0 && i < NODE_STORE_NAME_SIZE && name[0] != ' ' && name[i - 1] != ' ';
}

static int parse_name(const json_t *body, char name[NODE_STORE_NAME_SIZE], struct shl_err *err)
{
    const char *text = NULL;
    int rc = node_params_str(body, "name", &text, err);

    if (rc <= 0) {
        return rc;
    }
    if (!is_store_name(text)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "name must have 1 to %d characters, none of them a control character, "
                           "and no blank at its ends",
                           NODE_STORE_NAME_SIZE - 1);
    }
    memcpy(name, text, strlen(text) + 1);
    return 1;
}

int node_params_hosts(const json_t *body,
                      const char *name,
                      size_t max,
                      struct node_host_list *ret,
                      struct shl_err *err)
{
    const json_t *array = NULL, *item;
    struct node_host_list list = {NULL, 0};
    int rc = node_params_strings(body, name, &array, err);
    size_t i;

    if (rc <= 0) {
        return rc;
    }
    json_array_foreach(array, i, item)
    {
        const char *text = json_string_value(item);

        rc = node_host_list_add(&list, text, json_string_length(item), max);
        if (rc == SHL_ELIMIT) {
            rc = shl_err_set(err, SHL_EINVALIDARG, "%s may hold %zu hosts at most", name, max);
        } else if (rc == -EINVAL) {
            rc = shl_err_set(err, SHL_EINVALIDARG,
                             "%s: \"%.100s\" is no host: write api.example.com, *.example.com for "
                             "everything below it, or *",
                             name, text);
        }
        if (rc < 0) {
            node_host_list_release(&list);
            return rc;
        }
    }
    *ret = list;
    return 1;
}

static int parse_body(struct node_call *call, struct change *change, struct shl_err *err)
{
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc == 0) {
        rc = parse_name(body, change->wanted.name, err);
        change->has_name = rc > 0;
        if (rc == 0 && change->is_new) {
            rc = shl_err_set(err, SHL_EINVALIDARG, "name is required");
        }
    }
    if (rc >= 0) {
        rc = node_params_hosts(body, "egressAllowlist", NODE_STORE_PATTERNS_MAX,
                               &change->wanted.allowlist, err);
        change->has_allowlist = rc > 0;
    }
    json_decref(body);
    return rc < 0 ? rc : 0;
}

/*- Replies. */

static json_t *store_json(const struct node_store_row *row)
{
    char created[NODE_TIME_TEXT_SIZE], updated[NODE_TIME_TEXT_SIZE];

    node_time_text(created, row->created_at_ms);
    node_time_text(updated, row->updated_at_ms);
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:s}", "id", row->id, "orgId", row->org,
                     "orgID", row->org, "name", row->name, "egressAllowlist",
                     node_hosts_json(&row->allowlist), "createdAt", created, "updatedAt", updated);
}

json_t *node_hosts_json(const struct node_host_list *list)
{
    json_t *array = json_array();
    size_t i;

    for (i = 0; array && i < list->count; i++) {
        (void)json_array_append_new(array, json_string(list->items[i]));
    }
    return array;
}

static void reply_change(struct node_row_job *job, int code, const char *msg)
{
    struct change *change = shl_container_of(job, struct change, job);

    if (code < 0) {
        node_call_fail(job->call, code, msg);
    } else {
        node_call_reply_json(job->call, change->is_new ? 201 : 200, store_json(&change->wanted));
    }
    free_change(change);
}

static void reply_deleted(struct node_row_job *job, int code, const char *msg)
{
    if (code < 0) {
        node_call_fail(job->call, code, msg);
    } else {
        node_call_reply_empty(job->call, 204);
    }
    free_change(shl_container_of(job, struct change, job));
}

static struct change *change_new(struct node_call *call)
{
    struct change *change = calloc(1, sizeof(*change));

    if (!change) {
        node_call_fail(call, -ENOMEM, NULL);
        return NULL;
    }
    node_row_job_init(&change->job, NULL, call);
    memcpy(change->org, call->caller.org, sizeof(change->org));
    memcpy(change->wanted.org, call->caller.org, sizeof(change->wanted.org));
    change->job.done = reply_change;
    return change;
}

static int put_row(struct change *change, uint64_t expected)
{
    node_store_key(change->job.key, change->org, change->wanted.name);
    change->job.expected = expected;
    return node_store_row_encode(&change->wanted, &change->job.value) < 0 ? -ENOMEM : 1;
}

static int refuse_taken(const struct change *change, struct shl_err *err)
{
    return shl_err_set(err, SHL_ECONFLICT, "a secret store named \"%.128s\" already exists",
                       change->wanted.name);
}

/* 0 with the revision that a row of this name may be written over: 0, or that of a leftover. */
static int check_name_is_free(struct change *change, uint64_t *ret_expected, struct shl_err *err)
{
    struct node_router *router = change->job.server->router;
    char key[NODE_ROW_KEY_SIZE];
    struct secret_store store;
    struct node_row row;
    int rc = secret_store_by_name(router, change->org, change->wanted.name, &store, err);

    if (rc == 0) {
        node_store_row_release(&store.row);
        return refuse_taken(change, err);
    }
    if (rc != SHL_ENOTFOUND) {
        return rc;
    }
    node_store_key(key, change->org, change->wanted.name);
    *ret_expected = router->ops->row(router, key, &row) ? row.revision : 0;
    return 0;
}

/*- Create. */

static bool count_store(void *arg, const struct secret_store *store)
{
    (void)store;
    ++*(size_t *)arg;
    return true;
}

static int plan_create(struct node_row_job *job, struct shl_err *err)
{
    struct change *change = shl_container_of(job, struct change, job);
    uint64_t expected = 0;
    size_t count = 0;
    int rc;

    if (job->made > 0) {
        return 0;
    }
    rc = check_name_is_free(change, &expected, err);
    if (rc == 0) {
        secret_store_each(job->server->router, change->org, count_store, &count);
        if (count >= NODE_STORES_MAX) {
            rc = shl_err_set(err, SHL_EQUOTA,
                             "the organisation has %d secret stores, which is the "
                             "limit: delete some that are not needed",
                             NODE_STORES_MAX);
        }
    }
    if (rc < 0) {
        return rc;
    }
    change->wanted.created_at_ms = shl_realtime_ms();
    change->wanted.updated_at_ms = change->wanted.created_at_ms;
    return put_row(change, expected);
}

void node_handle_secret_store_create(struct node_call *call)
{
    struct change *change = change_new(call);
    struct shl_err err = {0};

    if (!change) {
        return;
    }
    change->is_new = true;
    change->job.plan = plan_create;
    shl_uuid_make(change->wanted.id);
    if (parse_body(call, change, &err) < 0) {
        node_call_fail_err(call, &err);
        free_change(change);
        return;
    }
    node_row_job_begin(&change->job);
}

/*- Update: a new name is a new row, after which the old one goes. */

static void finish_wanted(struct change *change, struct secret_store *now)
{
    if (!change->has_name) {
        memcpy(change->wanted.name, now->row.name, sizeof(now->row.name));
    }
    if (!change->has_allowlist) {
        node_host_list_release(&change->wanted.allowlist);
        change->wanted.allowlist = now->row.allowlist; /* taken over */
        now->row.allowlist = (struct node_host_list){NULL, 0};
    }
    change->wanted.created_at_ms = now->row.created_at_ms;
    change->wanted.updated_at_ms = shl_realtime_ms();
}

static int plan_leftover(struct change *change)
{
    char key[NODE_ROW_KEY_SIZE];

    node_store_key(key, change->org, change->wanted.name);
    if (!secret_store_leftover(change->job.server->router, change->org, change->wanted.id, key,
                               change->job.key, &change->job.expected)) {
        return 0;
    }
    change->job.is_delete = true;
    return 1;
}

static int plan_update(struct node_row_job *job, struct shl_err *err)
{
    struct change *change = shl_container_of(job, struct change, job);
    struct secret_store now;
    uint64_t expected = 0;
    bool renamed;
    int rc;

    if (job->made > 0) {
        return plan_leftover(change);
    }
    rc = secret_store_by_id(job->server->router, change->org, change->wanted.id, &now, err);
    if (rc < 0) {
        return rc;
    }
    renamed = change->has_name && strcmp(change->wanted.name, now.row.name) != 0;
    finish_wanted(change, &now);
    expected = now.revision;
    if (renamed) {
        rc = check_name_is_free(change, &expected, err);
    }
    node_store_row_release(&now.row);
    if (rc < 0) {
        return rc;
    }
    return put_row(change, expected);
}

void node_handle_secret_store_update(struct node_call *call)
{
    struct change *change;
    struct shl_err err = {0};

    if (!node_store_id_is_valid(call->id)) {
        node_call_fail(call, SHL_ENOTFOUND, "secret store not found");
        return;
    }
    change = change_new(call);
    if (!change) {
        return;
    }
    change->job.plan = plan_update;
    memcpy(change->wanted.id, call->id, NODE_STORE_ID_SIZE);
    if (parse_body(call, change, &err) < 0) {
        node_call_fail_err(call, &err);
        free_change(change);
        return;
    }
    node_row_job_begin(&change->job);
}

/*- Delete: the store first, so that nothing is left half; then what was in it. */

static bool note_first(void *arg, const struct secret_entry *secret)
{
    struct node_row_job *job = arg;

    memcpy(job->key, secret->key, sizeof(job->key));
    job->expected = secret->revision;
    job->is_delete = true;
    return false;
}

static int plan_delete(struct node_row_job *job, struct shl_err *err)
{
    struct change *change = shl_container_of(job, struct change, job);
    struct node_router *router = job->server->router;
    struct secret_store now;
    int rc = secret_store_by_id(router, change->org, change->wanted.id, &now, err);

    if (rc == 0) {
        /* an older row first: it would count again without the newer one */
        if (!secret_store_leftover(router, change->org, change->wanted.id, now.key, job->key,
                                   &job->expected)) {
            memcpy(job->key, now.key, sizeof(job->key));
            job->expected = now.revision;
        }
        job->is_delete = true;
        node_store_row_release(&now.row);
        return 1;
    }
    if (rc == SHL_ENOTFOUND && job->made > 0) {
        secret_each(router, change->wanted.id, note_first, job);
        return job->is_delete ? 1 : 0;
    }
    return rc;
}

void node_handle_secret_store_delete(struct node_call *call)
{
    struct change *change;

    if (!node_store_id_is_valid(call->id)) {
        node_call_fail(call, SHL_ENOTFOUND, "secret store not found");
        return;
    }
    change = change_new(call);
    if (change) {
        change->job.plan = plan_delete;
        change->job.done = reply_deleted;
        memcpy(change->wanted.id, call->id, NODE_STORE_ID_SIZE);
        node_row_job_begin(&change->job);
    }
}

/*- Get and list. */

bool node_call_store(struct node_call *call, struct secret_store *ret)
{
    struct shl_err err = {0};

    if (secret_store_by_id(call->server->router, call->caller.org, call->id, ret, &err) < 0) {
        node_call_fail_err(call, &err);
        return false;
    }
    return true;
}

static void reply_store(struct node_call *call)
{
    struct secret_store store;

    if (node_call_store(call, &store)) {
        node_call_reply_json(call, 200, store_json(&store.row));
        node_store_row_release(&store.row);
    }
}

void node_handle_secret_store_get(struct node_call *call)
{
    node_row_read(call, reply_store);
}

static bool add_store(void *arg, const struct secret_store *store)
{
    (void)json_array_append_new(arg, store_json(&store->row));
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "name")),
                  json_string_value(json_object_get(*(json_t *const *)b, "name")));
}

json_t *node_json_by_name(json_t *array)
{
    size_t count = json_array_size(array), i;
    json_t **items = calloc(count > 0 ? count : 1, sizeof(json_t *));
    json_t *sorted = json_array();

    for (i = 0; items && i < count; i++) {
        items[i] = json_array_get(array, i);
    }
    if (items) {
        qsort(items, count, sizeof(json_t *), by_name);
    }
    for (i = 0; items && i < count; i++) {
        (void)json_array_append(sorted, items[i]);
    }
    free(items);
    json_decref(array);
    return sorted;
}

static void reply_stores(struct node_call *call)
{
    json_t *array = json_array();

    secret_store_each(call->server->router, call->caller.org, add_store, array);
    node_call_reply_json(call, 200, node_json_by_name(array));
}

void node_handle_secret_store_list(struct node_call *call)
{
    node_row_read(call, reply_stores);
}
