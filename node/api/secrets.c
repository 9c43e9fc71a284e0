/* The secrets of a store: set, list, delete.
 *
 * A value is sealed as soon as it was read; what it was read from is wiped. From then on only the
 * sealed one is kept, here and everywhere. */
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
#include "node/secret/use.h"

struct set {
    struct node_row_job job;
    char org[NODE_SECRET_ORG_SIZE];
    char store[NODE_STORE_ID_SIZE];
    char name[NODE_SECRET_NAME_SIZE];
    struct node_host_list hosts;
    bool has_hosts;
    struct shl_buf sealed;
    uint32_t generation;
};

static void free_set(struct set *set)
{
    node_host_list_release(&set->hosts);
    shl_buf_release(&set->sealed);
    node_row_job_end(&set->job);
    free(set);
}

/* The path names a store and a secret that can be; false after a reply. */
static bool check_path(struct node_call *call)
{
    if (!node_store_id_is_valid(call->id)) {
        node_call_fail(call, SHL_ENOTFOUND, "secret store not found");
        return false;
    }
    if (!node_secret_name_is_valid(call->sid)) {
        node_call_failf(call, SHL_EINVALIDARG,
                        "the name of a secret is that of an environment variable: letters, digits "
                        "and _, not beginning with a digit, at most %d characters",
                        NODE_SECRET_NAME_SIZE - 1);
        return false;
    }
    return true;
}

static struct set *set_new(struct node_call *call)
{
    struct set *set = calloc(1, sizeof(*set));

    if (!set) {
        node_call_fail(call, -ENOMEM, NULL);
        return NULL;
    }
    node_row_job_init(&set->job, NULL, call);
    shl_buf_init(&set->sealed, NODE_SECRET_VALUE_MAX + NODE_SEAL_VALUE_EXTRA);
    memcpy(set->org, call->caller.org, sizeof(set->org));
    memcpy(set->store, call->id, sizeof(set->store));
    memcpy(set->name, call->sid, strlen(call->sid) + 1);
    return set;
}

/*- Set. */

static int seal_value(struct set *set, struct shl_bytes value, struct shl_err *err)
{
    struct node_router *router = set->job.server->router;
    char place[NODE_ROW_KEY_SIZE];
    struct node_seal_key key;
    int rc;

    if (value.len == 0 || value.len > NODE_SECRET_VALUE_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "value must have 1 to %d bytes",
                           NODE_SECRET_VALUE_MAX);
    }
    if (!router->ops->seal_key) {
        return shl_err_set(err, -ENOSYS, "this node keeps no secret stores");
    }
    rc = router->ops->seal_key(router, 0, &key, err);
    if (rc < 0) {
        return rc;
    }
    node_secret_key(place, set->store, set->name);
    rc = node_seal_value(&key, place, value, &set->sealed);
    set->generation = key.generation;
    node_seal_key_wipe(&key);
    return rc < 0 ? shl_err_set(err, rc, "no memory for a secret") : 0;
}

static int parse_set(struct node_call *call, struct set *set, struct shl_err *err)
{
    const char *value = NULL;
    json_t *body = NULL, *text;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc == 0) {
        rc = node_params_str(body, "value", &value, err);
        if (rc == 0) {
            rc = shl_err_set(err, SHL_EINVALIDARG, "value is required");
        }
    }
    if (rc >= 0) {
        rc = node_params_hosts(body, "allowedHosts", NODE_SECRET_HOSTS_MAX, &set->hosts, err);
        set->has_hosts = rc > 0;
    }
    text = json_object_get(body, "value");
    if (rc >= 0) {
        rc = seal_value(set, shl_bytes_of(value, json_string_length(text)), err);
    }
    if (json_is_string(text)) { /* jansson gives no other way to its own copy */
        sodium_memzero((void *)(uintptr_t)json_string_value(text), json_string_length(text));
    }
    json_decref(body);
    if (shl_buf_len(&call->x->body) > 0) {
        sodium_memzero(shl_buf_data(&call->x->body), shl_buf_len(&call->x->body));
    }
    return rc < 0 ? rc : 0;
}

static bool count_secret(void *arg, const struct secret_entry *secret)
{
    (void)secret;
    ++*(size_t *)arg;
    return true;
}

static int check_room(struct set *set, struct shl_err *err)
{
    size_t count = 0;

    secret_each(set->job.server->router, set->store, count_secret, &count);
    return count < NODE_STORE_SECRETS_MAX
               ? 0
               : shl_err_set(err, SHL_EQUOTA,
                             "the store has %d secrets, which is the limit: delete some, or make "
                             "another store",
                             NODE_STORE_SECRETS_MAX);
}

static int find_store(struct set *set, struct shl_err *err)
{
    struct secret_store store;
    int rc = secret_store_by_id(set->job.server->router, set->org, set->store, &store, err);

    if (rc == 0) {
        node_store_row_release(&store.row);
    }
    return rc;
}

static int plan_set(struct node_row_job *job, struct shl_err *err)
{
    struct set *set = shl_container_of(job, struct set, job);
    struct node_secret_row row = {.generation = set->generation,
                                  .sealed = shl_buf_bytes(&set->sealed)};
    struct secret_entry old = {.revision = 0};
    int rc;

    if (job->made > 0) {
        return 0;
    }
    rc = find_store(set, err);
    if (rc == 0) {
        rc = secret_by_name(job->server->router, set->store, set->name, &old, err);
        rc = rc == SHL_ENOTFOUND ? check_room(set, err) : rc;
    }
    if (rc < 0) {
        return rc;
    }
    row.updated_at_ms = shl_realtime_ms();
    row.created_at_ms = old.revision > 0 ? old.row.created_at_ms : row.updated_at_ms;
    row.hosts = set->has_hosts ? set->hosts : old.row.hosts;
    memcpy(row.store, set->store, sizeof(row.store));
    memcpy(row.name, set->name, sizeof(row.name));
    if (old.revision > 0) {
        memcpy(row.id, old.row.id, sizeof(row.id));
    } else {
        shl_uuid_make(row.id);
    }
    node_secret_key(job->key, set->store, set->name);
    job->expected = old.revision;
    rc = node_secret_row_encode(&row, &job->value);
    node_secret_row_release(&old.row);
    return rc < 0 ? shl_err_set(err, rc, "the secret is too large") : 1;
}

static void reply_set(struct node_row_job *job, int code, const char *msg)
{
    struct set *set = shl_container_of(job, struct set, job);

    if (code < 0) {
        node_call_fail(job->call, code, msg);
    } else {
        node_call_reply_json(job->call, 200,
                             json_pack("{s:s, s:s}", "name", set->name, "status", "set"));
    }
    free_set(set);
}

void node_handle_secret_set(struct node_call *call)
{
    struct shl_err err = {0};
    struct set *set;

    if (!check_path(call)) {
        return;
    }
    set = set_new(call);
    if (!set) {
        return;
    }
    set->job.plan = plan_set;
    set->job.done = reply_set;
    if (parse_set(call, set, &err) < 0) {
        node_call_fail_err(call, &err);
        free_set(set);
        return;
    }
    node_row_job_begin(&set->job);
}

/*- Delete. */

static int plan_unset(struct node_row_job *job, struct shl_err *err)
{
    struct set *set = shl_container_of(job, struct set, job);
    struct secret_entry old;
    int rc = find_store(set, err);

    if (rc == 0) {
        rc = secret_by_name(job->server->router, set->store, set->name, &old, err);
    }
    if (rc < 0) {
        return rc == SHL_ENOTFOUND && job->made > 0 ? 0 : rc;
    }
    memcpy(job->key, old.key, sizeof(job->key));
    job->expected = old.revision;
    job->is_delete = true;
    node_secret_row_release(&old.row);
    return 1;
}

static void reply_unset(struct node_row_job *job, int code, const char *msg)
{
    if (code < 0) {
        node_call_fail(job->call, code, msg);
    } else {
        node_call_reply_empty(job->call, 204);
    }
    free_set(shl_container_of(job, struct set, job));
}

void node_handle_secret_delete(struct node_call *call)
{
    struct set *set = check_path(call) ? set_new(call) : NULL;

    if (set) {
        set->job.plan = plan_unset;
        set->job.done = reply_unset;
        node_row_job_begin(&set->job);
    }
}

/*- List. */

static bool add_secret(void *arg, const struct secret_entry *secret)
{
    const struct node_secret_row *row = &secret->row;
    char created[NODE_TIME_TEXT_SIZE], updated[NODE_TIME_TEXT_SIZE];

    node_time_text(created, row->created_at_ms);
    node_time_text(updated, row->updated_at_ms);
    (void)json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:o, s:s, s:s}", "id", row->id,
                                               "storeId", row->store, "name", row->name,
                                               "allowedHosts", node_hosts_json(&row->hosts),
                                               "createdAt", created, "updatedAt", updated));
    return true;
}

static void reply_secrets(struct node_call *call)
{
    struct secret_store store;
    json_t *array;

    if (!node_call_store(call, &store)) {
        return;
    }
    array = json_array();
    secret_each(call->server->router, store.row.id, add_secret, array);
    node_call_reply_json(call, 200, node_json_by_name(array));
    node_store_row_release(&store.row);
}

void node_handle_secret_list(struct node_call *call)
{
    node_row_read(call, reply_secrets);
}
