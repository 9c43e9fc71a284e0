#include "tests/node/api/mesh.h"

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/api/router_local.h"
#include "node/http/remote.h"

struct mesh *mesh;

static struct mesh_node *node_of(struct node_router *router)
{
    return shl_container_of(router, struct mesh_node, router);
}

/* Answers, at once or later */

struct later {
    uv_timer_t timer;
    node_answer_cb cb;
    void *arg;
    struct node_answer answer;
};

static void on_later_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_later(uv_timer_t *timer)
{
    struct later *later = timer->data;

    later->cb(later->arg, &later->answer);
    uv_close((uv_handle_t *)timer, on_later_closed);
}

static int answer(struct node_answer *ret, node_answer_cb cb, void *arg, bool must_be_now)
{
    struct later *later;

    if (!mesh->answers_later || must_be_now) {
        return 1;
    }
    later = calloc(1, sizeof(*later));
    later->cb = cb;
    later->arg = arg;
    later->answer = *ret;
    memset(ret, 0x5a, sizeof(*ret)); /* nobody may look at it */
    later->timer.data = later;
    uv_timer_init(&mesh->loop, &later->timer);
    uv_timer_start(&later->timer, on_later, 1, 0);
    return 0;
}

static void add_target(struct node_answer *ret, struct node_router *router, unsigned index)
{
    struct node_target *target = &ret->targets[ret->target_count++];

    target->is_local = node_of(router)->index == index;
    target->id = fake_node_id(index + 1);
    (void)snprintf(target->name, sizeof(target->name), "w%u", index + 1);
}

static int mesh_where(struct node_router *router,
                      const struct node_where *what,
                      struct node_answer *ret,
                      node_answer_cb cb,
                      void *arg)
{
    *ret = (struct node_answer){.code = 0};
    if (what->is_forwarded) {
        ret->code = SHL_ENOTFOUND;
        if (node_manager_find(node_of(router)->manager, what->org, what->id)) {
            ret->code = 0;
            add_target(ret, router, node_of(router)->index);
        }
        return 1;
    }
    mesh->where_asked++;
    if (mesh->lies >= 0 && (!what->is_again || mesh->keeps_lying)) {
        add_target(ret, router, (unsigned)mesh->lies);
        return answer(ret, cb, arg, false);
    }
    if (what->is_again) {
        struct shl_node_id liar = fake_node_id((unsigned)mesh->lies + 1);

        assert(mesh->lies < 0 || shl_node_id_equal(&what->not_there, &liar));
    }
    for (unsigned i = 0; i < MESH_NODES && ret->target_count == 0; i++) {
        if (node_manager_find(mesh->nodes[i].manager, what->org, what->id)) {
            add_target(ret, router, i);
        }
    }
    ret->code = ret->target_count > 0 ? 0 : SHL_ENOTFOUND;
    return answer(ret, cb, arg, false);
}

static int mesh_where_checkpoint(struct node_router *router,
                                 const struct node_where *what,
                                 struct node_answer *ret,
                                 node_answer_cb cb,
                                 void *arg)
{
    *ret = (struct node_answer){.code = SHL_ENOTFOUND};
    for (unsigned i = 0; i < MESH_NODES; i++) {
        if (node_checkpoint_find(mesh->nodes[i].manager, what->org, what->id)) {
            ret->code = 0;
            add_target(ret, router, i);
        }
    }
    return answer(ret, cb, arg, false);
}

static int mesh_place(struct node_router *router,
                      const struct node_place *what,
                      struct node_answer *ret,
                      node_answer_cb cb,
                      void *arg)
{
    assert(what->memory_mb >= NODE_MEMORY_MIN_MB && what->cpus > 0 && what->template_name[0]);
    mesh->places_asked++;
    mesh->place_mb = what->memory_mb;
    mesh->place_joined_mb = what->joined_mb;
    (void)snprintf(mesh->place_build, sizeof(mesh->place_build), "%s",
                   what->build ? what->build : "");
    *ret = (struct node_answer){.code = mesh->place_code};
    if (mesh->place_code < 0) {
        (void)snprintf(ret->msg, sizeof(ret->msg), "no node has room");
        ret->refusal_count = 1;
        (void)snprintf(ret->refusals[0].name, sizeof(ret->refusals[0].name), "w2");
        (void)snprintf(ret->refusals[0].reason, sizeof(ret->refusals[0].reason), "is \"full\"");
    }
    if (mesh->places_asked > 1 && mesh->place_again < MESH_NODES) {
        add_target(ret, router, mesh->place_again);
        return answer(ret, cb, arg, false);
    }
    for (unsigned i = 0; i < MESH_NODES && mesh->place[i] < MESH_NODES; i++) {
        add_target(ret, router, mesh->place[i]);
    }
    return answer(ret, cb, arg, false);
}

static int mesh_claim(struct node_router *router,
                      const struct node_claim *what,
                      struct node_answer *ret,
                      node_answer_cb cb,
                      void *arg)
{
    unsigned wanted = what->node.id.bytes[0] - 1u;
    unsigned i = 0;

    mesh->claims_asked++;
    *ret = (struct node_answer){.code = 0};
    while (i < mesh->claim_count && strcmp(mesh->claims[i].key, what->key) != 0) {
        i++;
    }
    if (i == mesh->claim_count) {
        assert(i < SHL_ARRAY_SIZE(mesh->claims));
        mesh->claim_count++;
        memcpy(mesh->claims[i].key, what->key, sizeof(mesh->claims[i].key));
        memcpy(mesh->claims[i].body, what->body, sizeof(mesh->claims[i].body));
        mesh->claims[i].node = wanted;
        ret->is_new = true;
    } else if (strcmp(mesh->claims[i].body, what->body) != 0) {
        ret->code = SHL_ECONFLICT;
        (void)snprintf(ret->msg, sizeof(ret->msg), "another body");
    } else if (!shl_node_id_is_none(&what->instead_of) &&
               what->instead_of.bytes[0] == mesh->claims[i].node + 1) {
        mesh->claims[i].node = wanted;
    }
    add_target(ret, router, mesh->claims[i].node);
    return answer(ret, cb, arg, false);
}

static enum node_mark mesh_mark(struct node_router *router)
{
    return node_of(router)->mark;
}

static void mesh_cluster(struct node_router *router, struct node_cluster *ret)
{
    *ret = (struct node_cluster){.id = "c0ffee",
                                 .self = fake_node_id(node_of(router)->index + 1),
                                 .leader = fake_node_id(2),
                                 .has_quorum = true,
                                 .term = 7,
                                 .commit_index = 100,
                                 .applied_index = 99,
                                 .digest = "abc",
                                 .voter_count = 2,
                                 .voters = {fake_node_id(1), fake_node_id(2)}};
}

static void mesh_peers(struct node_router *router,
                       bool (*each)(void *arg, const struct node_peer *peer),
                       void *arg)
{
    for (unsigned i = 0; i < MESH_NODES; i++) {
        struct node_peer peer = {.id = fake_node_id(i + 1),
                                 .state = NODE_PEER_ALIVE,
                                 .region = "r",
                                 .version = "1",
                                 .url = "http://10.0.0.9:8080",
                                 .mark = mesh->nodes[i].mark,
                                 .disk_percent = 12.5,
                                 .memory_total_mb = 4096};

        (void)snprintf(peer.name, sizeof(peer.name), "w%u", mesh->has_twins ? 2 : i + 1);
        if (i == 2 && mesh->has_dead) {
            peer.state = NODE_PEER_DEAD;
        }
        if (i != node_of(router)->index && !each(arg, &peer)) {
            return;
        }
    }
}

static void mesh_records(struct node_router *router,
                         const struct shl_node_id *node,
                         const char *org,
                         bool (*each)(void *arg, const struct node_record *record),
                         void *arg)
{
    struct node_record record = {.id = "sb-gossip",
                                 .status = "running",
                                 .template_name = "base",
                                 .node_name = "w3",
                                 .created_at_ms = 1000};

    (void)router;
    if (node->bytes[0] == 3 && strcmp(org, NODE_ORG_FIRST) == 0) {
        (void)each(arg, &record);
        record.id = mesh->moved_id;
        record.status = "hibernated";
        (void)(!record.id || each(arg, &record));
    }
}

static int mesh_set_mark(struct node_router *router,
                         const struct node_target *node,
                         enum node_mark mark,
                         struct node_order *ret,
                         node_order_cb cb,
                         void *arg)
{
    unsigned index = node->id.bytes[0] - 1u;

    (void)cb;
    (void)arg;
    assert(node->is_local == (index == node_of(router)->index));
    *ret = (struct node_order){.code = 0};
    mesh->marks_set[index] = mark;
    mesh->nodes[index].mark = mark;
    return 1;
}

static int mesh_remove(struct node_router *router,
                       const struct node_target *node,
                       struct node_order *ret,
                       node_order_cb cb,
                       void *arg)
{
    (void)router;
    (void)cb;
    (void)arg;
    mesh->removed = node->id.bytes[0];
    *ret = (struct node_order){.code = node->is_local ? SHL_EBADSTATE : 0, .msg = "it is me"};
    return 1;
}

static int mesh_join_token(struct node_router *router,
                           uint32_t ttl_s,
                           struct node_order *ret,
                           node_order_cb cb,
                           void *arg)
{
    (void)router;
    (void)cb;
    (void)arg;
    *ret = (struct node_order){.expires_at_ms = (int64_t)ttl_s * 1000};
    (void)snprintf(ret->token, sizeof(ret->token), "shoal1-token");
    return 1;
}

static int mesh_drop(struct node_router *router,
                     const struct node_sandbox *sandbox,
                     struct node_order *ret,
                     node_order_cb cb,
                     void *arg)
{
    (void)router;
    (void)sandbox;
    *ret = (struct node_order){0};
    if (!mesh->holds_drop) {
        return 1;
    }
    mesh->drop_cb = cb;
    mesh->drop_arg = arg;
    return 0;
}

/* Rows: one table for all. */

static bool mesh_row(struct node_router *router, const char *key, struct node_row *ret)
{
    (void)router;
    return mesh->rows->ops->row(mesh->rows, key, ret);
}

static void mesh_rows(struct node_router *router,
                      const char *prefix,
                      bool (*each)(void *arg, const struct node_row *row),
                      void *arg)
{
    (void)router;
    mesh->rows->ops->rows(mesh->rows, prefix, each, arg);
}

static int mesh_row_change(struct node_router *router,
                           const struct node_row_change *change,
                           struct node_order *ret,
                           node_order_cb cb,
                           void *arg)
{
    (void)router;
    return mesh->rows->ops->row_change(mesh->rows, change, ret, cb, arg);
}

static int mesh_row_sync(struct node_router *router,
                         struct node_order *ret,
                         node_order_cb cb,
                         void *arg)
{
    (void)router;
    return mesh->rows->ops->row_sync(mesh->rows, ret, cb, arg);
}

static const struct node_router_ops mesh_ops = {.where = mesh_where,
                                                .where_checkpoint = mesh_where_checkpoint,
                                                .place = mesh_place,
                                                .claim = mesh_claim,
                                                .mark = mesh_mark,
                                                .cluster = mesh_cluster,
                                                .peers = mesh_peers,
                                                .records = mesh_records,
                                                .set_mark = mesh_set_mark,
                                                .remove = mesh_remove,
                                                .join_token = mesh_join_token,
                                                .drop = mesh_drop,
                                                .row = mesh_row,
                                                .rows = mesh_rows,
                                                .row_change = mesh_row_change,
                                                .row_sync = mesh_row_sync};

/* Fixture */

static bool copy_record(void *arg, const char *id, struct shl_bytes value)
{
    void **to = arg;

    assert_int_equal(node_store_put(to[0], to[1], id, value, NULL), 0);
    return true;
}

/* What the replicated log will do: keys and the token key are on every node. */
static void replicate(unsigned from, unsigned to)
{
    const char *const kinds[] = {"apikey", "secret"};

    for (size_t i = 0; i < SHL_ARRAY_SIZE(kinds); i++) {
        void *arg[] = {mesh->nodes[to].store, (void *)kinds[i]};

        assert_int_equal(node_store_each(mesh->nodes[from].store, kinds[i], copy_record, arg, NULL),
                         0);
    }
}

static void open_node(unsigned index)
{
    struct mesh_node *node = &mesh->nodes[index];
    char name[8];
    struct node_server_config config = {.listen = "127.0.0.1:0",
                                        .domain = "sandboxes.test",
                                        .worker_id = name,
                                        .memory_default_mb = 1024,
                                        .pad_after_ms = 500,
                                        .router = &node->router};
    struct shl_err err = {0};

    (void)snprintf(name, sizeof(name), "w%u", index + 1);
    node->index = index;
    node->router.ops = &mesh_ops;
    fake_opener_init(&node->opener, &mesh->net, index + 1);
    node->router.opener = &node->opener.base;
    node->store = fake_store_new();
    node->manager = fake_manager_new(&mesh->loop);
    if (index == 0) {
        assert_int_equal(node_router_local_new(node->store, &mesh->rows, &err), 0);
        assert_int_equal(node_keys_ensure_first(node->store, mesh->key, &err), 1);
        assert_int_equal(
            node_keys_create(node->store, NODE_ORG_FIRST, false, 0, mesh->plain_key, &err), 0);
    } else {
        replicate(0, index);
    }
    if (node_server_open(&mesh->loop, node->store, node->manager, &config, &node->server, &err) <
        0) {
        fail_msg("%s", err.msg);
    }
    node->port = node_server_port(node->server);
    fake_net_add(&mesh->net, index + 1, node_remote_accept, node_server_remote(node->server));
}

int mesh_setup(void **state)
{
    (void)state;
    mesh = calloc(1, sizeof(*mesh));
    uv_loop_init(&mesh->loop);
    fake_net_init(&mesh->net, &mesh->loop, 1);
    mesh->lies = -1;
    mesh->place_again = MESH_NODES;
    for (unsigned i = 0; i < MESH_NODES; i++) {
        mesh->place[i] = MESH_NODES;
        open_node(i);
    }
    return 0;
}

static void on_closed(void *arg)
{
    (void)arg;
    mesh->closing--;
}

static bool all_closed(void *arg)
{
    (void)arg;
    return mesh->closing == 0;
}

int mesh_teardown(void **state)
{
    (void)state;
    run_for(&mesh->loop, 10); /* what was under way ends */
    mesh->closing = MESH_NODES;
    for (unsigned i = 0; i < MESH_NODES; i++) {
        node_server_close(mesh->nodes[i].server, on_closed, NULL);
    }
    run_until(&mesh->loop, all_closed, NULL);
    fake_net_close(&mesh->net);
    for (unsigned i = 0; i < MESH_NODES; i++) {
        fake_manager_free(mesh->nodes[i].manager);
    }
    while (uv_run(&mesh->loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(uv_loop_close(&mesh->loop), 0);
    assert_int_equal(mesh->net.open_now, 0);
    node_router_local_free(mesh->rows);
    for (unsigned i = 0; i < MESH_NODES; i++) {
        node_store_close(mesh->nodes[i].store);
    }
    free(mesh);
    return 0;
}

json_t *mesh_ask_with(unsigned index,
                      const char *headers,
                      const char *target,
                      const char *body,
                      struct reply *ret)
{
    char *head = NULL;
    char type[64];
    json_t *json = NULL;

    assert_true(asprintf(&head, "%s HTTP/1.1\r\n%s", target, headers) > 0);
    request(&mesh->loop, mesh->nodes[index].port, head, body, body ? strlen(body) : 0, ret);
    free(head);
    if (ret->body_len > 0 && reply_header(ret, "Content-Type", type, sizeof(type)) &&
        strcmp(type, "application/json") == 0) {
        json = json_loadb((char *)ret->body, ret->body_len, JSON_DECODE_ANY, NULL);
        if (!json) {
            fail_msg("not JSON: %s", (char *)ret->body);
        }
    }
    return json;
}

json_t *mesh_ask(unsigned index, const char *target, const char *body, struct reply *ret)
{
    char header[128];

    (void)snprintf(header, sizeof(header), "X-API-Key: %s", mesh->key);
    return mesh_ask_with(index, header, target, body, ret);
}

json_t *mesh_call(unsigned index,
                  int status,
                  const char *served_by,
                  const char *format,
                  const char *id,
                  const char *body)
{
    const char *mark = strstr(format, "%s");
    char *target = NULL;
    char name[64] = "";
    struct reply reply;
    json_t *json;

    assert_true(asprintf(&target, "%.*s%s%s", mark ? (int)(mark - format) : (int)strlen(format),
                         format, mark ? id : "", mark ? mark + 2 : "") > 0);
    json = mesh_ask(index, target, body, &reply);
    if (reply.status != status || !reply_header(&reply, "X-Shoal-Node", name, sizeof(name)) ||
        strcmp(name, served_by) != 0) {
        fail_msg("%s: %d by %s: %s", target, reply.status, name, (char *)reply.body);
    }
    free(target);
    reply_release(&reply);
    return json;
}

void mesh_create_on(unsigned entry, unsigned owner, char ret_id[NODE_SANDBOX_ID_SIZE])
{
    char name[8];
    json_t *json;

    (void)snprintf(name, sizeof(name), "w%u", owner + 1);
    mesh->place[0] = owner;
    mesh->place[1] = MESH_NODES;
    json = mesh_call(entry, 201, name, "POST /api/sandboxes", NULL, "{}");
    (void)snprintf(ret_id, NODE_SANDBOX_ID_SIZE, "%s",
                   json_string_value(json_object_get(json, "sandboxID")));
    json_decref(json);
}

static bool count_one(void *arg, struct node_sandbox *sandbox)
{
    (void)sandbox;
    (*(unsigned *)arg)++;
    return true;
}

unsigned mesh_count(unsigned index)
{
    unsigned count = 0;

    node_manager_each(mesh->nodes[index].manager, NODE_ORG_FIRST, count_one, &count);
    return count;
}
