/* The list of sandboxes, over all nodes.
 *
 * The node that is asked asks every other one with the client's own credentials and puts the
 * answers together, so what was made through any node a moment ago is there. Of a node that
 * cannot be asked, or does not answer in time, it shows what gossip knows, and names the node
 * in NODE_LIST_MISSING: such a list may lack what is newest there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/api/sandbox_json.h"
#include "node/api/server_private.h"
#include "node/http/fetch.h"

#define LIST_LIMIT_MAX        500
#define NODE_LIST_MISSING     "X-Shoal-Missing-Nodes"
#define NODE_LIST_NODES_MAX   64                 /* asked at once */
#define NODE_LIST_WAIT_MS     3000               /* for all of them */
#define NODE_LIST_ANSWER_MAX  (8u * 1024 * 1024) /* of one node */
#define NODE_LIST_MISSING_MAX (NODE_LIST_NODES_MAX * (NODE_NAME_SIZE + 2) + 16)

struct listing {
    struct node_call *call;
    const char *status; /* NULL: running and hibernated */
    int64_t limit;
    json_t *array;
    bool failed;
};

struct merge;

/* A node that is asked. */
struct asked {
    struct merge *merge;
    struct shl_node_id id;
    char name[NODE_NAME_SIZE];
    bool is_dead;             /* not worth asking */
    struct node_fetch *fetch; /* under way */
    bool has_answered;
};

struct merge {
    uv_timer_t timer;
    struct node_call *call;
    struct listing listing;
    uint32_t left; /* answers to come */
    uint32_t count;
    struct shl_buf missing; /* names */
    struct asked asked[];
};

static bool is_kept(const struct listing *listing, const char *status)
{
    return listing->status ? strcmp(status, listing->status) == 0
                           : strcmp(status, "running") == 0 || strcmp(status, "hibernated") == 0;
}

/* @json is taken. */
static void add(struct listing *listing, json_t *json)
{
    listing->failed |= json_array_append_new(listing->array, json) < 0;
}

static bool list_one(void *arg, struct node_sandbox *sandbox)
{
    struct listing *listing = arg;

    if (is_kept(listing, node_sandbox_status(sandbox))) {
        add(listing, node_sandbox_json(listing->call, sandbox));
    }
    return !listing->failed && (int64_t)json_array_size(listing->array) < listing->limit;
}

static void list_local(struct listing *listing)
{
    struct node_call *call = listing->call;

    listing->array = json_array();
    node_manager_each(call->server->manager, call->caller.org, list_one, listing);
}

static bool is_status(const char *text)
{
    return strcmp(text, "running") == 0 || strcmp(text, "hibernated") == 0 ||
           strcmp(text, "stopped") == 0 || strcmp(text, "error") == 0;
}

static int parse(struct node_call *call, struct listing *ret, struct shl_err *err)
{
    const char *limit = node_url_query(&call->x->url, "limit");
    int rc = 0;

    *ret = (struct listing){
        .call = call, .status = node_url_query(&call->x->url, "status"), .limit = LIST_LIMIT_MAX};
    if (limit) {
        rc = node_params_query_int("limit", limit, 1, LIST_LIMIT_MAX, &ret->limit, err);
    }
    if (rc == 0 && ret->status && !is_status(ret->status)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "status must be running, hibernated, stopped or error");
    }
    return rc;
}

/* Putting together */

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text ? text : "";
}

static unsigned rank_of(const json_t *json)
{
    const char *status = text_of(json, "status");

    return strcmp(status, "running") == 0 ? 2 : strcmp(status, "hibernated") == 0 ? 1 : 0;
}

/* By id; of two with one id the living one first. */
static int compare_ids(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a;
    const json_t *y = *(json_t *const *)b;
    int order = strcmp(text_of(x, "sandboxID"), text_of(y, "sandboxID"));

    return order != 0 ? order : (int)rank_of(y) - (int)rank_of(x);
}

/* Newest first. Times are texts of one form. */
static int compare_times(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a;
    const json_t *y = *(json_t *const *)b;
    int order = strcmp(text_of(y, "startedAt"), text_of(x, "startedAt"));

    return order != 0 ? order : strcmp(text_of(x, "sandboxID"), text_of(y, "sandboxID"));
}

/* One entry per sandbox, newest first, up to the limit. NULL without memory. */
static json_t *sorted(const struct listing *listing)
{
    size_t count = json_array_size(listing->array);
    json_t **items = calloc(count + 1, sizeof(json_t *));
    json_t *ret = items ? json_array() : NULL;
    size_t kept = 0;

    if (!ret) {
        free(items);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        items[i] = json_array_get(listing->array, i);
    }
    qsort(items, count, sizeof(json_t *), compare_ids);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 ||
            strcmp(text_of(items[kept - 1], "sandboxID"), text_of(items[i], "sandboxID")) != 0) {
            items[kept++] = items[i];
        }
    }
    qsort(items, kept, sizeof(json_t *), compare_times);
    for (size_t i = 0; i < kept && (int64_t)i < listing->limit; i++) {
        if (json_array_append(ret, items[i]) < 0) {
            json_decref(ret);
            ret = NULL;
            break;
        }
    }
    free(items);
    return ret;
}

/* What a node answered, as far as it is what it should be. */
static bool take_answer(struct merge *merge, int status, struct shl_bytes body)
{
    json_t *array = status == 200 ? json_loadb((const char *)body.base, body.len, 0, NULL) : NULL;
    json_t *item;
    size_t i;

    if (!json_is_array(array)) {
        json_decref(array);
        return false;
    }
    json_array_foreach(array, i, item)
    {
        if (text_of(item, "sandboxID")[0] != '\0' &&
            is_kept(&merge->listing, text_of(item, "status"))) {
            add(&merge->listing, json_incref(item));
        }
    }
    json_decref(array);
    return true;
}

static bool add_record(void *arg, const struct node_record *record)
{
    struct merge *merge = arg;
    char started_at[NODE_TIME_TEXT_SIZE];

    if (record->id && record->status && is_kept(&merge->listing, record->status)) {
        node_time_text(started_at, record->created_at_ms);
        add(&merge->listing,
            json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s, s:i, s:i, s:i, s:i, s:{}}", "sandboxID",
                      record->id, "status", record->status, "templateID", record->template_name,
                      "workerID", record->node_name, "reason", record->reason, "startedAt",
                      started_at, "cpuCount", (int)record->cpus, "memoryMB", (int)record->memory_mb,
                      "diskMB", (int)record->disk_mb, "timeout", (int)record->timeout_s,
                      "metadata"));
    }
    return !merge->listing.failed;
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void end(struct merge *merge)
{
    for (uint32_t i = 0; i < merge->count; i++) {
        if (merge->asked[i].fetch) {
            node_fetch_cancel(merge->asked[i].fetch);
            merge->asked[i].fetch = NULL;
        }
    }
    merge->call->on_gone = NULL;
    json_decref(merge->listing.array);
    shl_buf_release(&merge->missing);
    node_call_unref(merge->call);
    uv_close((uv_handle_t *)&merge->timer, on_timer_closed);
}

static void note_missing(struct merge *merge, const struct asked *asked)
{
    const struct node_router_ops *ops = merge->call->server->router->ops;

    merge->listing.failed |=
        shl_buf_printf(&merge->missing, "%s%s", shl_buf_len(&merge->missing) > 0 ? ", " : "",
                       asked->name) < 0;
    if (ops->records) {
        ops->records(merge->call->server->router, &asked->id, merge->call->caller.org, add_record,
                     merge);
    }
}

static void reply(struct merge *merge)
{
    struct node_reply reply = {.status = 200, .content_type = "application/json"};
    char *missing = NULL;
    json_t *json;

    for (uint32_t i = 0; i < merge->count; i++) {
        if (!merge->asked[i].has_answered) {
            note_missing(merge, &merge->asked[i]);
        }
    }
    json = merge->listing.failed ? NULL : sorted(&merge->listing);
    reply.heap = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (shl_buf_len(&merge->missing) > 0) {
        missing = shl_bytes_dup_str(shl_buf_bytes(&merge->missing));
    }
    if (!reply.heap) {
        node_call_fail(merge->call, -ENOMEM, "no memory for the reply");
    } else {
        reply.heap_len = strlen(reply.heap);
        if (missing) {
            reply.headers[reply.header_count++] =
                (struct node_reply_header){NODE_LIST_MISSING, missing};
        }
        node_exchange_reply(merge->call->x, &reply);
    }
    free(missing);
}

static void put(struct merge *merge)
{
    if (--merge->left == 0) {
        reply(merge);
        end(merge);
    }
}

static void on_answer(void *arg, int status, struct shl_bytes body)
{
    struct asked *asked = arg;

    asked->fetch = NULL;
    asked->has_answered = take_answer(asked->merge, status, body);
    put(asked->merge);
}

static void on_timer(uv_timer_t *timer)
{
    struct merge *merge = timer->data;

    reply(merge); /* without those who did not answer */
    end(merge);
}

static void on_gone(void *arg)
{
    end(arg);
}

/* Asking */

static bool add_peer(void *arg, const struct node_peer *peer)
{
    struct merge *merge = arg;
    struct asked *asked = &merge->asked[merge->count];

    if (peer->is_witness || peer->state == NODE_PEER_LEFT) {
        return true;
    }
    if (merge->count == NODE_LIST_NODES_MAX) {
        merge->listing.failed |= shl_buf_append_str(&merge->missing, "and more") < 0;
        return false;
    }
    merge->count++;
    asked->merge = merge;
    asked->id = peer->id;
    asked->is_dead = peer->state == NODE_PEER_DEAD;
    memcpy(asked->name, peer->name, sizeof(asked->name));
    return true;
}

static void ask(struct merge *merge, struct asked *asked, const char *origin)
{
    struct node_call *call = merge->call;
    struct node_fetch_config config = {.opener = call->server->router->opener,
                                       .node = &asked->id,
                                       .origin = origin,
                                       .via = call->server->worker_id,
                                       .body_max = NODE_LIST_ANSWER_MAX,
                                       .cb = on_answer,
                                       .arg = asked};

    if (!asked->is_dead && node_fetch_start(call->x, &config, &asked->fetch) == 0) {
        merge->left++;
    }
}

static void merge_start(struct node_call *call, const struct listing *listing)
{
    struct node_router *router = call->server->router;
    struct merge *merge = calloc(1, sizeof(*merge) + NODE_LIST_NODES_MAX * sizeof(merge->asked[0]));
    char origin[NODE_ORIGIN_SIZE];

    if (!merge) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    merge->call = node_call_ref(call);
    merge->listing = *listing;
    merge->left = 1; /* until all are asked */
    shl_buf_init(&merge->missing, NODE_LIST_MISSING_MAX);
    (void)uv_timer_init(call->server->loop, &merge->timer);
    merge->timer.data = merge;
    (void)uv_timer_start(&merge->timer, on_timer, NODE_LIST_WAIT_MS, 0);
    call->on_gone = on_gone;
    call->gone_arg = merge;
    list_local(&merge->listing);
    router->ops->peers(router, add_peer, merge);
    node_server_origin(call, origin);
    for (uint32_t i = 0; i < merge->count; i++) {
        ask(merge, &merge->asked[i], origin);
    }
    put(merge);
}

void node_handle_sandbox_list(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct shl_err err = {0};
    struct listing listing;

    if (parse(call, &listing, &err) < 0) {
        node_call_fail_err(call, &err);
    } else if (router->ops->peers && router->opener && call->x->hops == 0) {
        merge_start(call, &listing);
    } else {
        list_local(&listing);
        if (listing.failed) {
            json_decref(listing.array);
            listing.array = NULL;
        }
        node_call_reply_json(call, 200, listing.array);
    }
}
