#include "node/api/once.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "base/io.h"
#include "base/mp.h"
#include "node/api/routes.h"
#include "node/api/routing.h"
#include "node/api/sandbox_json.h"
#include "node/api/server_private.h"
#include "node/sandbox/checkpoints.h"
#include "node/store/store.h"

#define STORE_KIND     "once"
#define RECORD_VERSION 1
#define RECORD_MAX     (8 * 1024)
#define HASH_BYTES     ((NODE_CLAIM_HASH_SIZE - 1) / 2)
#define SWEEP_MAX      512 /* records dropped at once */

/* A key whose first request is under way. */
struct node_once {
    struct shl_list link; /* of the server */
    struct node_server *server;
    char key[NODE_CLAIM_HASH_SIZE];
    char body[NODE_CLAIM_HASH_SIZE];
    int64_t at_ms;
    struct shl_list waiters;
};

struct waiter {
    struct shl_list link;
    struct node_call *call;
};

/* What is stored. */
struct record {
    char body[NODE_CLAIM_HASH_SIZE];
    int64_t at_ms;
    bool is_done; /* else the first request is under way, or was when the node stopped */
    bool is_single;
    size_t count;
    char ids[NODE_FORK_COUNT_MAX][NODE_SANDBOX_ID_SIZE]; /* "" was not made */
};

/* Hashes */

static void hash_text(crypto_generichash_state *state, const char *text)
{
    (void)crypto_generichash_update(state, (const uint8_t *)text, strlen(text) + 1);
}

static void hash_end(crypto_generichash_state *state, char ret[NODE_CLAIM_HASH_SIZE])
{
    uint8_t hash[HASH_BYTES];

    (void)crypto_generichash_final(state, hash, sizeof(hash));
    shl_hex_encode(ret, hash, sizeof(hash));
}

static bool is_key(const char *text)
{
    size_t len = strnlen(text, NODE_ONCE_KEY_MAX + 1);

    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return false;
        }
    }
    return len > 0 && len <= NODE_ONCE_KEY_MAX;
}

int node_once_hash(const struct node_call *call,
                   char ret_key[NODE_CLAIM_HASH_SIZE],
                   char ret_body[NODE_CLAIM_HASH_SIZE],
                   struct shl_err *err)
{
    const char *key = node_exchange_header(call->x, NODE_ONCE_HEADER);
    struct shl_bytes body = shl_buf_bytes(&call->x->body);
    crypto_generichash_state state;

    if (!key) {
        return 0;
    }
    if (!is_key(key)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           NODE_ONCE_HEADER " must be 1 to %d printable ASCII characters without "
                                            "blanks",
                           NODE_ONCE_KEY_MAX);
    }
    (void)crypto_generichash_init(&state, NULL, 0, HASH_BYTES);
    hash_text(&state, call->caller.org);
    hash_text(&state, key);
    hash_end(&state, ret_key);
    (void)crypto_generichash_init(&state, NULL, 0, HASH_BYTES);
    hash_text(&state, call->route->pattern);
    hash_text(&state, call->cid ? call->cid : "");
    (void)crypto_generichash_update(&state, body.base, body.len);
    hash_end(&state, ret_body);
    return 1;
}

/* Records */

static int record_save(const struct node_once *once, const struct record *record)
{
    struct shl_mp_writer w;
    struct shl_buf value;
    int rc;

    shl_buf_init(&value, RECORD_MAX);
    shl_mp_writer_init(&w, &value);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", RECORD_VERSION);
    shl_mp_kv_str(&w, "body", record->body);
    shl_mp_kv_int(&w, "at", record->at_ms);
    shl_mp_kv_bool(&w, "done", record->is_done);
    shl_mp_kv_bool(&w, "single", record->is_single);
    shl_mp_kv_array(&w, "ids");
    for (size_t i = 0; i < record->count; i++) {
        shl_mp_str(&w, record->ids[i]);
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc =
            node_store_put(once->server->store, STORE_KIND, once->key, shl_buf_bytes(&value), NULL);
    }
    shl_buf_release(&value);
    return rc;
}

static int read_ids(const msgpack_object *ids, struct record *ret)
{
    if (!ids || ids->type != MSGPACK_OBJECT_ARRAY ||
        ids->via.array.size > SHL_ARRAY_SIZE(ret->ids)) {
        return SHL_EPROTO;
    }
    for (uint32_t i = 0; i < ids->via.array.size; i++) {
        const msgpack_object *id = &ids->via.array.ptr[i];

        if (id->type != MSGPACK_OBJECT_STR || id->via.str.size >= NODE_SANDBOX_ID_SIZE) {
            return SHL_EPROTO;
        }
        memcpy(ret->ids[i], id->via.str.ptr, id->via.str.size);
    }
    ret->count = ids->via.array.size;
    return 0;
}

static int record_read(struct shl_bytes value, struct record *ret)
{
    struct shl_mp_doc doc;
    uint64_t version;
    int rc = shl_mp_parse(&doc, value);

    *ret = (struct record){.count = 0};
    if (rc < 0) {
        return SHL_ECORRUPT;
    }
    rc = shl_mp_get_uint(doc.root, "v", RECORD_VERSION, &version);
    rc = rc < 0 ? rc : shl_mp_get_cpy(doc.root, "body", ret->body, sizeof(ret->body));
    rc = rc < 0 ? rc : shl_mp_get_int(doc.root, "at", &ret->at_ms);
    rc = rc < 0 ? rc : shl_mp_get_bool(doc.root, "done", &ret->is_done);
    rc = rc < 0 ? rc : shl_mp_get_bool(doc.root, "single", &ret->is_single);
    rc = rc < 0 ? rc : read_ids(shl_mp_find(doc.root, "ids"), ret);
    shl_mp_release(&doc);
    return rc < 0 ? SHL_ECORRUPT : 0;
}

static bool is_expired(const struct record *record, int64_t now_ms)
{
    return now_ms - record->at_ms >= NODE_CLAIM_KEEP_MS;
}

/* 0, SHL_ENOTFOUND (also when expired) or an error. */
static int record_load(struct node_server *server,
                       const char *key,
                       struct record *ret,
                       struct shl_err *err)
{
    struct shl_buf value;
    int rc;

    shl_buf_init(&value, RECORD_MAX);
    rc = node_store_get(server->store, STORE_KIND, key, &value, err);
    if (rc == 0) {
        rc = record_read(shl_buf_bytes(&value), ret);
        if (rc < 0) {
            (void)shl_err_set(err, rc, "the record of this " NODE_ONCE_HEADER " is damaged");
        }
    }
    shl_buf_release(&value);
    return rc == 0 && is_expired(ret, shl_realtime_ms()) ? SHL_ENOTFOUND : rc;
}

struct sweep {
    int64_t now_ms;
    uint32_t seen;
    size_t count;
    char keys[SWEEP_MAX][NODE_CLAIM_HASH_SIZE];
};

static bool sweep_one(void *arg, const char *id, struct shl_bytes value)
{
    struct sweep *sweep = arg;
    struct record record;

    sweep->seen++;
    if ((record_read(value, &record) < 0 || is_expired(&record, sweep->now_ms)) &&
        sweep->count < SWEEP_MAX && strlen(id) < NODE_CLAIM_HASH_SIZE) {
        memcpy(sweep->keys[sweep->count++], id, strlen(id) + 1);
    }
    return true;
}

/* Drops what has expired, now and then, and counts what is there. */
static void sweep(struct node_server *server)
{
    int64_t now_ms = shl_realtime_ms();
    struct sweep *sweep;

    if (server->once_swept_at_ms != 0 && now_ms - server->once_swept_at_ms < NODE_ONCE_SWEEP_MS &&
        server->once_count < NODE_ONCE_MAX) {
        return;
    }
    sweep = calloc(1, sizeof(*sweep));
    if (!sweep) {
        return;
    }
    sweep->now_ms = now_ms;
    if (node_store_each(server->store, STORE_KIND, sweep_one, sweep, NULL) == 0) {
        server->once_count = sweep->seen;
        server->once_swept_at_ms = now_ms;
    }
    for (size_t i = 0; i < sweep->count; i++) {
        server->once_count -=
            node_store_delete(server->store, STORE_KIND, sweep->keys[i], NULL) == 0;
    }
    free(sweep);
}

/* Answering again */

static json_t *slot_json(struct node_call *call, const char *id)
{
    struct node_sandbox *sandbox =
        id[0] != '\0' ? node_manager_find(call->server->manager, call->caller.org, id) : NULL;

    if (sandbox) {
        return json_pack("{s:o}", "sandbox", node_sandbox_json(call, sandbox));
    }
    return id[0] != '\0' ? json_pack("{s:s, s:i}", "error", "the sandbox is gone", "status", 410)
                         : json_pack("{s:s, s:i}", "error", "the first request did not make it",
                                     "status", 503);
}

static json_t *many_json(struct node_call *call, const struct record *record)
{
    json_t *results = json_array();
    int created = 0;

    for (size_t i = 0; i < record->count; i++) {
        (void)json_array_append_new(results, slot_json(call, record->ids[i]));
        created += record->ids[i][0] != '\0';
    }
    return json_pack("{s:o, s:i}", "results", results, "created", created);
}

static void replay(struct node_call *call, const struct record *record)
{
    struct node_reply reply = {.status = 201,
                               .content_type = "application/json",
                               .headers = {{NODE_ONCE_REPLAYED, "true"}},
                               .header_count = 1};
    json_t *json;

    if (record->is_single) {
        struct node_sandbox *sandbox =
            node_manager_find(call->server->manager, call->caller.org, record->ids[0]);

        if (!sandbox) {
            node_call_failf(call, SHL_EGONE,
                            "the sandbox that was made with this " NODE_ONCE_HEADER " (%s) is gone",
                            record->ids[0]);
            return;
        }
        json = node_sandbox_json(call, sandbox);
    } else {
        json = many_json(call, record);
    }
    reply.heap = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!reply.heap) {
        node_call_fail(call, -ENOMEM, "no memory for the reply");
    } else {
        reply.heap_len = strlen(reply.heap);
        node_exchange_reply(call->x, &reply);
    }
}

/* Beginning */

static struct node_once *find(struct node_server *server, const char *key)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &server->onces) {
        struct node_once *once = shl_container_of(it, struct node_once, link);

        if (strcmp(once->key, key) == 0) {
            return once;
        }
    }
    return NULL;
}

static void fail_other_body(struct node_call *call)
{
    node_call_fail(call, SHL_ECONFLICT,
                   "this " NODE_ONCE_HEADER " was used for a request with another body: use a new "
                   "key");
}

static void wait_for(struct node_call *call, struct node_once *once)
{
    struct node_server *server = call->server;
    struct waiter *waiter =
        server->once_waiting < NODE_ONCE_WAIT_MAX ? calloc(1, sizeof(*waiter)) : NULL;

    if (!waiter) {
        node_call_fail(call, SHL_EUNAVAILABLE,
                       "too many requests wait for the first one of their " NODE_ONCE_HEADER);
        return;
    }
    server->once_waiting++;
    waiter->call = node_call_ref(call);
    shl_list_push_back(&once->waiters, &waiter->link);
}

/* Refusals */

static bool was_refused(const struct node_server *server, const char *key)
{
    uint64_t now_ms = uv_now(server->loop);

    for (size_t i = 0; i < NODE_ONCE_REFUSED_MAX; i++) {
        if (now_ms < server->once_refused[i].until_ms &&
            strcmp(server->once_refused[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

static void remember_refusal(struct node_server *server, const char *key)
{
    struct node_once_refusal *refusal = &server->once_refused[server->once_refused_next];

    server->once_refused_next = (server->once_refused_next + 1) % NODE_ONCE_REFUSED_MAX;
    refusal->until_ms = uv_now(server->loop) + NODE_ONCE_REFUSED_MS;
    (void)snprintf(refusal->key, sizeof(refusal->key), "%s", key);
}

/* Nobody used the key, or nothing came of it. */
static bool begin_first(struct node_call *call, const char *key, const char *body)
{
    struct node_server *server = call->server;
    struct record record = {.at_ms = shl_realtime_ms()};
    struct node_once *once;
    int rc;

    if (was_refused(server, key)) {
        node_call_fail_create(call, SHL_ENOCAPACITY,
                              "this node had no room for the sandbox of this " NODE_ONCE_HEADER
                              " a moment ago");
        return false;
    }
    sweep(server);
    if (server->once_count >= NODE_ONCE_MAX) {
        node_call_fail(call, SHL_EUNAVAILABLE,
                       "this node remembers as many " NODE_ONCE_HEADER "s as it may");
        return false;
    }
    once = calloc(1, sizeof(*once));
    if (!once) {
        node_call_fail(call, -ENOMEM, NULL);
        return false;
    }
    once->server = server;
    once->at_ms = record.at_ms;
    memcpy(once->key, key, sizeof(once->key));
    memcpy(once->body, body, sizeof(once->body));
    memcpy(record.body, body, sizeof(record.body));
    shl_list_init(&once->waiters);
    rc = record_save(once, &record);
    if (rc < 0) {
        free(once);
        node_call_fail(call, rc, "the " NODE_ONCE_HEADER " cannot be stored");
        return false;
    }
    server->once_count++;
    shl_list_push_back(&server->onces, &once->link);
    call->once = once;
    return true;
}

static bool begin_known(struct node_call *call, const struct record *record, const char *body)
{
    if (strcmp(record->body, body) != 0) {
        fail_other_body(call);
    } else if (record->is_done) {
        replay(call, record);
    } else {
        node_call_fail(
            call, SHL_ECONFLICT,
            "the node stopped while it served the first request with this " NODE_ONCE_HEADER
            ", and cannot say what came of it: look at the list of "
            "sandboxes, then use a new key");
    }
    return false;
}

bool node_once_begin(struct node_call *call)
{
    char key[NODE_CLAIM_HASH_SIZE];
    char body[NODE_CLAIM_HASH_SIZE];
    struct shl_err err = {0};
    struct record *record;
    struct node_once *once;
    int rc = node_once_hash(call, key, body, &err);

    if (rc <= 0) {
        if (rc < 0) {
            node_call_fail_err(call, &err);
        }
        return rc == 0;
    }
    once = find(call->server, key);
    if (once && strcmp(once->body, body) == 0) {
        wait_for(call, once);
        return false;
    }
    if (once) {
        fail_other_body(call);
        return false;
    }
    record = calloc(1, sizeof(*record));
    rc = record ? record_load(call->server, key, record, &err) : -ENOMEM;
    if (rc == SHL_ENOTFOUND) {
        free(record);
        return begin_first(call, key, body);
    }
    if (rc < 0) {
        node_call_fail(call, rc, err.msg);
    } else {
        (void)begin_known(call, record, body);
    }
    free(record);
    return false;
}

/* Ending */

/* Those who waited begin anew: they find the record, or one of them is the first now. */
static void end(struct node_call *call)
{
    struct node_once *once = call->once;
    struct node_server *server = once->server;

    call->once = NULL;
    shl_list_remove(&once->link);
    while (!shl_list_empty(&once->waiters)) {
        struct waiter *waiter =
            shl_container_of(shl_list_first(&once->waiters), struct waiter, link);
        struct node_call *other = waiter->call;

        shl_list_remove(&waiter->link);
        free(waiter);
        server->once_waiting--;
        if (node_call_is_open(other)) {
            node_routing_serve(other);
        }
        node_call_unref(other);
    }
    free(once);
}

void node_once_made(struct node_call *call,
                    const char (*ids)[NODE_SANDBOX_ID_SIZE],
                    size_t count,
                    bool is_single)
{
    struct node_once *once = call->once;
    struct record *record = once ? calloc(1, sizeof(*record)) : NULL;
    int rc = -ENOMEM;

    if (!once) {
        return;
    }
    if (record) {
        record->at_ms = once->at_ms;
        record->is_done = true;
        record->is_single = is_single;
        record->count = SHL_MIN(count, SHL_ARRAY_SIZE(record->ids));
        memcpy(record->body, once->body, sizeof(record->body));
        memcpy(record->ids, ids, record->count * sizeof(record->ids[0]));
        rc = record_save(once, record);
        free(record);
    }
    if (rc < 0) {
        /* It is made all the same; only a repetition will not be told which it was. */
        SHL_LOG(call->server->log, SHL_LOG_ERROR, "once_not_stored", SHL_S("key", once->key),
                SHL_S("error", shl_err_name(rc)));
    }
    end(call);
}

void node_once_failed(struct node_call *call, bool moves_on)
{
    struct node_once *once = call->once;

    if (once) {
        if (moves_on) {
            remember_refusal(once->server, once->key);
        }
        once->server->once_count -=
            node_store_delete(once->server->store, STORE_KIND, once->key, NULL) == 0;
        end(call);
    }
}
