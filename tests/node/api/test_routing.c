/* Any node answers: three servers, a router that may lie, links that may break. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/api/server_private.h"
#include "tests/node/api/mesh.h"

static const char *text_of(json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text ? text : "";
}

/* The error's text must contain @part. */
static void call_fails(unsigned index,
                       int status,
                       const char *served_by,
                       const char *part,
                       const char *format,
                       const char *id,
                       const char *body)
{
    json_t *json = mesh_call(index, status, served_by, format, id, body);

    if (!strstr(text_of(json, "error"), part)) {
        fail_msg("%s: \"%s\" has no \"%s\"", format, text_of(json, "error"), part);
    }
    json_decref(json);
}

static void test_routing_any_node_answers(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    char origin[64];
    struct reply reply;
    char header[2200];
    json_t *json;

    (void)state;
    for (int later = 0; later < 2; later++) {
        mesh->answers_later = later;
        mesh_create_on(0, 1, id);
        json = mesh_call(2, 200, "w2", "GET /api/sandboxes/%s", id, NULL);
        assert_string_equal(text_of(json, "workerID"), "w2");
        (void)snprintf(origin, sizeof(origin), "http://test:%u/api", mesh->nodes[2].port);
        assert_string_equal(text_of(json, "connectURL"), origin); /* where the client is */
        (void)snprintf(header, sizeof(header), "Authorization: Bearer %s", text_of(json, "token"));
        json_decref(json);

        json = mesh_call(2, 200, "w2", "POST /api/sandboxes/%s/exec/run", id,
                         "{\"cmd\":\"echo\",\"args\":[\"hi\"]}");
        assert_string_equal(text_of(json, "stdout"), "hi\n");
        json_decref(json);
        /* A token of the owner opens the door at every node. */
        (void)snprintf(origin, sizeof(origin), "GET /sandboxes/%s/exec", id);
        json = mesh_ask_with(0, header, origin, NULL, &reply);
        assert_int_equal(reply.status, 200);
        json_decref(json);
        reply_release(&reply);

        assert_null(mesh_call(0, 204, "w2", "PUT /api/sandboxes/%s/files?path=/a%20b", id, "body"));
        (void)snprintf(origin, sizeof(origin), "GET /api/sandboxes/%s/files?path=/a%%20b", id);
        (void)mesh_ask(2, origin, NULL, &reply);
        assert_int_equal(reply.status, 200);
        assert_string_equal((char *)reply.body, "body");
        reply_release(&reply);
        call_fails(0, 404, "w2", "", "GET /api/sandboxes/%s/files?path=/none", id, NULL);
        assert_null(mesh_call(2, 204, "w2", "DELETE /api/sandboxes/%s", id, NULL));
        call_fails(0, 410, "w2", "has stopped", "POST /api/sandboxes/%s/exec/run", id,
                   "{\"cmd\":\"true\"}");
        call_fails(0, 404, "w1", "sandbox not found", "GET /api/sandboxes/%s", "sb-none", NULL);
        json_decref(mesh_call(1, 200, "w2", "GET /api/sandboxes/%s", id, NULL));
    }
    assert_int_equal(mesh_count(0) + mesh_count(2), 0);
}

/* Large bodies either way, through a node that is not the owner, in small pieces. */
static void test_routing_streams(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    char target[128];
    struct reply reply;
    uint8_t *body = malloc(3000000);

    (void)state;
    mesh_create_on(0, 1, id);
    mesh->answers_later = true;
    mesh->net.window = 30000;
    mesh->net.piece_max = 7000;
    for (size_t i = 0; i < 3000000; i++) {
        body[i] = fake_pattern(i);
    }
    (void)snprintf(target, sizeof(target),
                   "PUT /api/sandboxes/%s/files?path=/pattern HTTP/1.1\r\nX-API-Key: %s", id,
                   mesh->key);
    request(&mesh->loop, mesh->nodes[0].port, target, body, 3000000, &reply);
    assert_int_equal(reply.status, 204);
    reply_release(&reply);
    {
        struct node_sandbox *sandbox =
            node_manager_find(mesh->nodes[1].manager, NODE_ORG_FIRST, id);

        assert_int_equal(fake_agent_stats(sandbox->agent)->written_bytes, 3000000);
    }
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/files?path=/big/2000000", id);
    (void)mesh_ask(2, target, NULL, &reply);
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body_len, 2000000);
    assert_memory_equal(reply.body, body, 2000000);
    reply_release(&reply);
    free(body);
}

/* The router named a node that does not have it: it is asked once more, and nothing of the
 * request is lost, not even a body that streams. */
static void test_routing_looks_again_once(void **state)
{
    struct shl_node_id second = fake_node_id(2);
    char id[NODE_SANDBOX_ID_SIZE];
    json_t *json;

    (void)state;
    mesh_create_on(0, 1, id);
    for (int later = 0; later < 2; later++) {
        mesh->answers_later = later;
        mesh->lies = 2;
        mesh->where_asked = 0;
        json_decref(mesh_call(0, 200, "w2", "GET /api/sandboxes/%s", id, NULL));
        assert_int_equal(mesh->where_asked, 2);
        assert_null(mesh_call(0, 204, "w2", "PUT /api/sandboxes/%s/files?path=/x", id, "hello"));
        json = mesh_call(0, 200, "w2", "POST /api/sandboxes/%s/exec/run", id,
                         "{\"cmd\":\"echo\",\"args\":[\"x\"]}");
        assert_string_equal(text_of(json, "stdout"), "x\n");
        json_decref(json);
        assert_int_equal(mesh->where_asked, 6);
        /* It stays wrong: no loop, no third try. */
        mesh->keeps_lying = true;
        mesh->where_asked = 0;
        call_fails(0, 503, "w1", "node w3 does not have it any more", "GET /api/sandboxes/%s", id,
                   NULL);
        assert_int_equal(mesh->where_asked, 2);
        mesh->keeps_lying = false;
    }
    /* A node that is down counts as not there; the truth about it is told. */
    fake_net_find(&mesh->net, &second)->is_down = true;
    mesh->lies = -1;
    mesh->where_asked = 0;
    call_fails(0, 503, "w1", "node w2, which serves this, cannot be reached: there is no link",
               "GET /api/sandboxes/%s", id, NULL);
    assert_int_equal(mesh->where_asked, 2);
}

static void test_routing_lost_in_the_middle(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];

    (void)state;
    mesh_create_on(0, 1, id);
    mesh->net.cut_to_opener = 10;
    call_fails(0, 503, "w1", "node w2, which serves this, did not answer: the link was lost",
               "GET /api/sandboxes/%s", id, NULL);
    /* A create that may have arrived is not made elsewhere. */
    mesh->place[0] = 1;
    mesh->place[1] = 2;
    call_fails(0, 503, "w1", "did not answer", "POST /api/sandboxes", NULL, "{}");
    assert_int_equal(mesh_count(1), 2);
    assert_int_equal(mesh_count(2), 0);
}

static void refuse_on(unsigned index, int code, const char *msg)
{
    fake_manager_knobs(mesh->nodes[index].manager)->refuse_code = code;
    fake_manager_knobs(mesh->nodes[index].manager)->refuse_msg = msg;
}

static void test_routing_creates_where_there_is_room(void **state)
{
    (void)state;
    for (int later = 0; later < 2; later++) {
        unsigned before = mesh_count(2);

        mesh->answers_later = later;
        mesh->place[0] = 1;
        mesh->place[1] = 0;
        mesh->place[2] = 2;
        refuse_on(1, SHL_ENOCAPACITY, "w2 is full");
        refuse_on(0, SHL_EQUOTA, "w1 has enough");
        json_decref(mesh_call(0, 201, "w3", "POST /api/sandboxes", NULL, "{}"));
        assert_int_equal(mesh_count(2), before + 1);
        /* One that fails later, after it had begun. */
        refuse_on(0, 0, NULL);
        fake_manager_knobs(mesh->nodes[0].manager)->create_code = SHL_EUNAVAILABLE;
        json_decref(mesh_call(0, 201, "w3", "POST /api/sandboxes", NULL, "{}"));
        fake_manager_knobs(mesh->nodes[0].manager)->create_code = 0;
        /* Nobody: the last one says why. */
        refuse_on(2, SHL_ENOCAPACITY, "w3 is full");
        mesh->place[1] = 2;
        mesh->place[2] = MESH_NODES;
        call_fails(0, 503, "w3", "w3 is full", "POST /api/sandboxes", NULL, "{}");
        /* Other errors are final. */
        refuse_on(1, SHL_EINVALIDARG, "not this way");
        call_fails(0, 400, "w2", "not this way", "POST /api/sandboxes", NULL, "{}");
        refuse_on(1, 0, NULL);
        refuse_on(2, 0, NULL);
    }
}

static bool is_building(void *arg)
{
    return fake_manager_knobs(arg)->builders > 0;
}

/* A client that leaves after another node was asked: the exchange is not touched any more. */
static void test_routing_client_of_an_image_leaves(void **state)
{
    static const char body[] = "{\"image\":{\"steps\":[{\"type\":\"run\",\"args\":"
                               "{\"commands\":[\"sleep 30\"]}}]}}";
    struct client client;

    (void)state;
    mesh->place[0] = 0;
    mesh->place[1] = 1;
    fake_manager_knobs(mesh->nodes[0].manager)->create_code = SHL_ENOCAPACITY;
    client_open(&client, &mesh->loop, mesh->nodes[0].port);
    client_text(&client,
                "POST /api/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: %zu\r\n\r\n%s",
                mesh->key, strlen(body), body);
    run_until(&mesh->loop, is_building, mesh->nodes[1].manager);
    assert_int_equal(fake_manager_knobs(mesh->nodes[0].manager)->builders, 0);
    client_close(&client); /* the entry node hears of it when it closes, before the owner's reply */
}

static bool is_dropping(void *arg)
{
    (void)arg;
    return mesh->drop_cb != NULL;
}

static bool has_left(void *arg)
{
    (void)arg;
    return shl_list_empty(&mesh->nodes[1].server->calls);
}

static bool is_stopped(void *arg)
{
    return node_manager_find(mesh->nodes[1].manager, NULL, arg)->state == NODE_SANDBOX_STOPPED;
}

/* The link to who asked breaks while the cluster is told: the sandbox goes, whoever waits for it.
 */
static void test_routing_lost_while_it_is_killed(void **state)
{
    const struct node_order done = {0};
    char id[NODE_SANDBOX_ID_SIZE];
    struct client client;

    (void)state;
    mesh_create_on(0, 1, id);
    mesh->holds_drop = true;
    client_open(&client, &mesh->loop, mesh->nodes[0].port);
    client_text(&client, "DELETE /api/sandboxes/%s HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n\r\n",
                id, mesh->key);
    run_until(&mesh->loop, is_dropping, NULL);
    fake_net_cut_all(&mesh->net, SHL_EUNAVAILABLE, "the link was lost");
    run_until(&mesh->loop, has_left, NULL);
    mesh->drop_cb(mesh->drop_arg, &done);
    run_until(&mesh->loop, is_stopped, id);
    client_close(&client);
}

static void test_routing_snapshots_where_there_is_room(void **state)
{
    static const char body[] = "{\"name\":\"a\",\"image\":{\"steps\":[]}}";
    json_t *json;

    (void)state;
    mesh->place[0] = 0;
    mesh->place[1] = 1;
    fake_manager_knobs(mesh->nodes[0].manager)->create_code = SHL_ENOCAPACITY;
    fake_manager_knobs(mesh->nodes[0].manager)->create_msg = "w1 is full";
    json = mesh_call(0, 201, "w2", "POST /api/snapshots", NULL, body);
    assert_string_equal(text_of(json, "status"), "ready");
    json_decref(json);
    mesh->place[1] = MESH_NODES;
    call_fails(0, 409, "w2", "already exists", "POST /api/snapshots", NULL, body);
    call_fails(
        0, 503, "w1", "w1 is full", "POST /api/snapshots", NULL,
        "{\"name\":\"b\",\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"true\"]}]}}");
}

/* What a builder needs, and what one needs that finds its image being built. */
static void test_routing_places_of_images(void **state)
{
    static const char snapshot[] = "{\"name\":\"%s\",\"image\":{\"steps\":[]}}";
    char body[128];

    (void)state;
    mesh->place[0] = 1;
    (void)snprintf(body, sizeof(body), snapshot, "a");
    json_decref(mesh_call(0, 201, "w2", "POST /api/snapshots", NULL, body));
    assert_memory_equal(mesh->place_build, "img/", 4);
    assert_int_equal(mesh->place_mb, 1024);
    assert_int_equal(mesh->place_joined_mb, 0);
    json_decref(mesh_call(0, 201, "w2", "POST /api/sandboxes", NULL,
                          "{\"memoryMB\":2048,\"image\":{\"builderMemoryMB\":4096,"
                          "\"base\":\"minimal\"}}"));
    assert_memory_equal(mesh->place_build, "img/", 4);
    assert_int_equal(mesh->place_mb, 4096);
    assert_int_equal(mesh->place_joined_mb, 2048);
    call_fails(0, 400, "w1", "memoryMB", "POST /api/sandboxes", NULL,
               "{\"memoryMB\":7,\"image\":{\"steps\":[]}}");
    json_decref(mesh_call(0, 201, "w2", "POST /api/sandboxes", NULL, "{}"));
    assert_string_equal(mesh->place_build, "");
    /* it is built: no place is asked for */
    mesh->places_asked = 0;
    (void)snprintf(body, sizeof(body), snapshot, "b");
    json_decref(mesh_call(0, 201, "w2", "POST /api/snapshots", NULL, body));
    assert_int_equal(mesh->places_asked, 0);
}

static void refuse_builders_on(unsigned index, int code)
{
    fake_manager_knobs(mesh->nodes[index].manager)->builder_refuse_code = code;
}

/* No node had room for a builder, and meanwhile another one builds it. */
static void place_twice(const char *more)
{
    static const char *const bodies[] = {"{\"image\":{\"base\":\"base\"}}",
                                         "{\"image\":{\"base\":\"minimal\"}}"};
    char header[200];
    struct reply reply;

    mesh->place_again = 2;
    for (unsigned full = 0; full < 2; full++) { /* this node, another one */
        mesh->place[0] = full;
        mesh->places_asked = 0;
        refuse_builders_on(full, SHL_ENOCAPACITY);
        (void)snprintf(header, sizeof(header), "X-API-Key: %s%s%u", mesh->key, more, full);
        json_decref(mesh_ask_with(0, header, "POST /api/sandboxes", bodies[full], &reply));
        assert_int_equal(reply.status, 201);
        reply_release(&reply);
        assert_int_equal(mesh->places_asked, 2);
        assert_int_equal(mesh_count(2), full + 1);
        refuse_builders_on(full, 0);
    }
}

static void test_routing_image_is_placed_again(void **state)
{
    (void)state;
    place_twice("\r\nX-Turn: ");
}

static void test_routing_image_with_a_key_is_placed_again(void **state)
{
    (void)state;
    place_twice("\r\nIdempotency-Key: key-");
}

static void test_routing_image_is_placed_again_once(void **state)
{
    (void)state;
    mesh->place[0] = 1;
    mesh->place_again = 2;
    refuse_builders_on(1, SHL_ENOCAPACITY);
    refuse_builders_on(2, SHL_ENOCAPACITY);
    call_fails(0, 503, "w3", "no room for a builder", "POST /api/sandboxes", NULL,
               "{\"image\":{}}");
    assert_int_equal(mesh->places_asked, 2);
    /* of what is no image nothing could have changed */
    mesh->places_asked = 0;
    refuse_on(1, SHL_ENOCAPACITY, "w2 is full");
    call_fails(0, 503, "w2", "w2 is full", "POST /api/sandboxes", NULL, "{}");
    assert_int_equal(mesh->places_asked, 1);
}

static void test_routing_place_refuses(void **state)
{
    json_t *json;
    json_t *first;

    (void)state;
    mesh->place_code = SHL_ENOCAPACITY;
    json = mesh_call(0, 503, "w1", "POST /api/sandboxes", NULL, "{}");
    assert_string_equal(text_of(json, "error"), "no node has room");
    first = json_array_get(json_object_get(json, "refusals"), 0);
    assert_string_equal(text_of(first, "node"), "w2");
    assert_string_equal(text_of(first, "reason"), "is \"full\"");
    json_decref(json);
    /* What is wrong is told before anybody is asked. */
    mesh->places_asked = 0;
    call_fails(0, 400, "w1", "cpuCount", "POST /api/sandboxes", NULL, "{\"cpuCount\":99}");
    assert_int_equal(mesh->places_asked, 0);
}

static void test_routing_passes_over_what_is_down(void **state)
{
    struct shl_node_id second = fake_node_id(2);
    struct shl_node_id third = fake_node_id(3);

    (void)state;
    mesh->place[0] = 1;
    mesh->place[1] = 2;
    fake_net_find(&mesh->net, &second)->is_down = true;
    json_decref(mesh_call(0, 201, "w3", "POST /api/sandboxes", NULL, "{}"));
    fake_net_find(&mesh->net, &third)->is_down = true;
    call_fails(0, 503, "w1", "node w3, which serves this, cannot be reached", "POST /api/sandboxes",
               NULL, "{}");
}

/* Checkpoints */

static void test_routing_forks(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    char cid[NODE_CHECKPOINT_ID_SIZE];
    json_t *json;

    (void)state;
    mesh->answers_later = true;
    mesh_create_on(0, 1, id);
    json = mesh_call(2, 201, "w2", "POST /api/sandboxes/%s/checkpoints", id, "{\"name\":\"a\"}");
    (void)snprintf(cid, sizeof(cid), "%s", text_of(json, "id"));
    json_decref(json);
    run_for(&mesh->loop, 50);
    json = mesh_call(0, 201, "w2", "POST /api/sandboxes/from-checkpoint/%s", cid, "{}");
    assert_string_equal(text_of(json, "fromCheckpointId"), cid);
    json_decref(json);
    json = mesh_call(2, 201, "w2", "POST /api/sandboxes/from-checkpoint/%s", cid, "{\"count\":3}");
    assert_int_equal(json_integer_value(json_object_get(json, "created")), 3);
    json_decref(json);
    assert_int_equal(mesh_count(1), 5);
    call_fails(2, 400, "w3", "not the id of a checkpoint", "POST /api/sandboxes/from-checkpoint/%s",
               "junk", "{}");
    call_fails(2, 404, "w3", "checkpoint not found", "POST /api/sandboxes/from-checkpoint/%s",
               "11111111-2222-4333-8444-555555555555", "{}");
}

/* Keys */

static json_t *keyed(unsigned index,
                     const char *key,
                     const char *target,
                     const char *body,
                     int status,
                     const char *replayed)
{
    char headers[400];
    char buf[32];
    struct reply reply;
    json_t *json;

    (void)snprintf(headers, sizeof(headers), "X-API-Key: %s\r\nIdempotency-Key: %s", mesh->key,
                   key);
    json = mesh_ask_with(index, headers, target, body, &reply);
    if (reply.status != status) {
        fail_msg("%s with %s: %d %s", target, key, reply.status, (char *)reply.body);
    }
    if (replayed) {
        assert_string_equal(reply_header(&reply, "Idempotency-Replayed", buf, sizeof(buf)),
                            replayed);
    } else {
        assert_null(reply_header(&reply, "Idempotency-Replayed", buf, sizeof(buf)));
    }
    reply_release(&reply);
    return json;
}

/* Whichever node gets it again, the same sandbox. */
static void test_routing_idempotent_create(void **state)
{
    json_t *first;
    json_t *again;

    (void)state;
    for (int later = 0; later < 2; later++) {
        const char *key = later ? "key-b" : "key-a";

        mesh->answers_later = later;
        mesh->place[0] = 1;
        first = keyed(0, key, "POST /api/sandboxes", "{\"timeout\":9}", 201, NULL);
        for (unsigned entry = 0; entry < MESH_NODES; entry++) {
            mesh->place[0] = entry; /* the router would put it elsewhere now */
            again = keyed(entry, key, "POST /api/sandboxes", "{\"timeout\":9}", 201, "true");
            assert_string_equal(text_of(first, "sandboxID"), text_of(again, "sandboxID"));
            assert_string_equal(text_of(again, "workerID"), "w2");
            json_decref(again);
        }
        json_decref(first);
        json_decref(keyed(2, key, "POST /api/sandboxes", "{\"timeout\":8}", 409, NULL));
    }
    assert_int_equal(mesh_count(0) + mesh_count(2), 0);
    assert_int_equal(mesh_count(1), 2);
    json_decref(keyed(0, "with blank", "POST /api/sandboxes", "{}", 400, NULL));
}

/* The node that had the key has no room: another one takes it over, and keeps it. */
static void test_routing_idempotent_create_moves_on(void **state)
{
    struct shl_node_id third = fake_node_id(3);

    (void)state;
    mesh->place[0] = 1;
    mesh->place[1] = 2;
    refuse_on(1, SHL_ENOCAPACITY, "full");
    json_decref(keyed(0, "k", "POST /api/sandboxes", "{}", 201, NULL));
    refuse_on(1, 0, NULL);
    json_decref(keyed(0, "k", "POST /api/sandboxes", "{}", 201, "true"));
    assert_int_equal(mesh_count(1), 0);
    assert_int_equal(mesh_count(2), 1);
    /* The node that has a key is full now and the router names one that does not have it. */
    mesh->place[0] = 2;
    refuse_on(2, SHL_ENOCAPACITY, "full");
    mesh->place[1] = MESH_NODES;
    json_decref(keyed(0, "x", "POST /api/sandboxes", "{}", 503, NULL));
    mesh->place[0] = 1;
    json_decref(keyed(0, "x", "POST /api/sandboxes", "{}", 201, NULL));
    assert_int_equal(mesh_count(1), 1);
    refuse_on(2, 0, NULL);
    /* It cannot be reached: nobody else makes another one. */
    fake_net_find(&mesh->net, &third)->is_down = true;
    mesh->place[1] = 0;
    json_decref(keyed(0, "k", "POST /api/sandboxes", "{}", 503, NULL));
    assert_int_equal(mesh_count(0) + mesh_count(1), 1);
    /* A key that is new may move on. */
    mesh->place[0] = 2;
    mesh->place[1] = 1;
    json_decref(keyed(0, "new", "POST /api/sandboxes", "{}", 201, NULL));
    assert_int_equal(mesh_count(1), 2);
}

/* Another node has read who has the key before that changed, and asks the one that had no room
 * when there is room again: it must not make a second sandbox. */
static void test_routing_idempotent_create_by_an_old_claim(void **state)
{
    json_t *first;
    json_t *again;

    (void)state;
    mesh->place[0] = 1;
    mesh->place[1] = 2;
    mesh->place[2] = MESH_NODES;
    refuse_on(1, SHL_ENOCAPACITY, "full");
    first = keyed(0, "k", "POST /api/sandboxes", "{}", 201, NULL);
    assert_string_equal(text_of(first, "workerID"), "w3");
    refuse_on(1, 0, NULL);
    mesh->claims[0].node = 1;
    again = keyed(0, "k", "POST /api/sandboxes", "{}", 201, "true");
    assert_string_equal(text_of(first, "sandboxID"), text_of(again, "sandboxID"));
    json_decref(first);
    json_decref(again);
    assert_int_equal(mesh_count(1), 0);
    json_decref(keyed(0, "other", "POST /api/sandboxes", "{}", 201, NULL));
    assert_int_equal(mesh_count(1), 1);
}

/* The reply was lost: the same request through another node finds what was made. */
static void test_routing_idempotent_after_a_loss(void **state)
{
    json_t *json;

    (void)state;
    mesh->place[0] = 1;
    mesh->net.cut_to_opener = 10;
    json_decref(keyed(0, "k", "POST /api/sandboxes", "{}", 503, NULL));
    mesh->net.cut_to_opener = -1;
    assert_int_equal(mesh_count(1), 1);
    json = keyed(2, "k", "POST /api/sandboxes", "{}", 201, "true");
    assert_string_equal(text_of(json, "sandboxID"), fake_manager_last(mesh->nodes[1].manager)->id);
    json_decref(json);
    assert_int_equal(mesh_count(1), 1);
}

/* List */

static bool has_id(json_t *array, const char *id)
{
    json_t *item;
    size_t i;

    json_array_foreach(array, i, item)
    {
        if (strcmp(text_of(item, "sandboxID"), id) == 0) {
            return true;
        }
    }
    return false;
}

static void test_routing_list_is_of_all_nodes(void **state)
{
    struct shl_node_id second = fake_node_id(2);
    char ids[MESH_NODES][NODE_SANDBOX_ID_SIZE];
    char buf[64];
    struct reply reply;
    json_t *json;

    (void)state;
    for (unsigned i = 0; i < MESH_NODES; i++) {
        mesh_create_on(0, i, ids[i]);
        run_for(&mesh->loop, 3);
    }
    for (unsigned i = 0; i < MESH_NODES; i++) {
        json = mesh_ask(i, "GET /api/sandboxes", NULL, &reply);
        assert_int_equal(json_array_size(json), 3);
        for (unsigned k = 0; k < MESH_NODES; k++) { /* newest first */
            assert_string_equal(text_of(json_array_get(json, k), "sandboxID"), ids[2 - k]);
        }
        assert_null(reply_header(&reply, "X-Shoal-Missing-Nodes", buf, sizeof(buf)));
        json_decref(json);
        reply_release(&reply);
    }
    json = mesh_call(0, 200, "w1", "GET /api/sandboxes?limit=2", NULL, NULL);
    assert_int_equal(json_array_size(json), 2);
    assert_true(has_id(json, ids[2]) && has_id(json, ids[1]));
    json_decref(json);
    assert_null(mesh_call(0, 204, "w2", "DELETE /api/sandboxes/%s", ids[1], NULL));
    json = mesh_call(0, 200, "w1", "GET /api/sandboxes?status=stopped", NULL, NULL);
    assert_int_equal(json_array_size(json), 1);
    assert_true(has_id(json, ids[1]));
    json_decref(json);

    /* One is dead, one cannot be reached: what gossip knows, and who is missing. */
    mesh->has_dead = true;
    fake_net_find(&mesh->net, &second)->is_down = true;
    mesh->moved_id = ids[0];
    json = mesh_ask(0, "GET /api/sandboxes", NULL, &reply);
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(text_of(json_array_get(json, 0), "status"), "running");
    assert_true(has_id(json, ids[0]) && has_id(json, "sb-gossip"));
    assert_string_equal(reply_header(&reply, "X-Shoal-Missing-Nodes", buf, sizeof(buf)), "w2, w3");
    json_decref(json);
    reply_release(&reply);
    call_fails(0, 400, "w1", "limit", "GET /api/sandboxes?limit=0", NULL, NULL);
}

/* A node that never answers does not hold the list up for ever. */
static void test_routing_list_with_a_silent_node(void **state)
{
    char buf[64];
    struct reply reply;
    json_t *json;
    struct client client;

    (void)state;
    mesh->net.window = 0; /* nothing passes */
    json = mesh_ask(0, "GET /api/sandboxes", NULL, &reply);
    assert_int_equal(json_array_size(json), 1); /* of gossip */
    assert_string_equal(reply_header(&reply, "X-Shoal-Missing-Nodes", buf, sizeof(buf)), "w2, w3");
    json_decref(json);
    reply_release(&reply);
    /* The client leaves meanwhile. */
    client_open(&client, &mesh->loop, mesh->nodes[0].port);
    client_text(&client, "GET /api/sandboxes HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\n\r\n",
                mesh->key);
    while (mesh->net.open_now == 0) {
        run_for(&mesh->loop, 2);
    }
    client_close(&client);
}

/* Credentials */

static void test_routing_owner_checks_credentials(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    char target[64];
    char header[128];
    char new_key[NODE_KEY_SIZE];
    struct reply reply;
    struct shl_err err;
    json_t *json;

    (void)state;
    mesh_create_on(0, 1, id);
    /* The entry node knows a key that has not arrived at the owner. */
    assert_int_equal(node_keys_create(mesh->nodes[0].store, NODE_ORG_FIRST, true, 0, new_key, &err),
                     0);
    (void)snprintf(header, sizeof(header), "X-API-Key: %s", new_key);
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s", id);
    json = mesh_ask_with(0, header, target, NULL, &reply);
    assert_int_equal(reply.status, 503);
    assert_string_equal(text_of(json, "error"),
                        "node w2 does not know this API key or token yet, try again");
    json_decref(json);
    reply_release(&reply);
    /* One that nobody knows is refused where it came in. */
    json = mesh_ask_with(0, "X-API-Key: osb_1", target, NULL, &reply);
    assert_int_equal(reply.status, 401);
    assert_int_equal(mesh->net.open_now, 0);
    json_decref(json);
    reply_release(&reply);
}

/* Nodes and orders */

static json_t *node_named(json_t *cluster, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(cluster, "nodes"), i, item)
    {
        if (strcmp(text_of(item, "name"), name) == 0) {
            return item;
        }
    }
    fail_msg("there is no %s", name);
    return NULL;
}

static void test_routing_cluster_status(void **state)
{
    json_t *json;
    json_t *scheduler;

    (void)state;
    mesh->has_dead = true;
    json = mesh_call(0, 200, "w1", "GET /api/cluster", NULL, NULL);
    assert_string_equal(text_of(json, "clusterId"), "c0ffee");
    assert_string_equal(text_of(json, "mode"), "mesh");
    assert_string_equal(text_of(json, "self"), "w1");
    scheduler = json_object_get(json, "scheduler");
    assert_string_equal(text_of(scheduler, "leader"), "w2");
    assert_int_equal(json_integer_value(json_object_get(scheduler, "term")), 7);
    assert_int_equal(json_array_size(json_object_get(scheduler, "voters")), 2);
    assert_int_equal(json_array_size(json_object_get(json, "nodes")), 3);
    assert_string_equal(text_of(node_named(json, "w3"), "state"), "dead");
    assert_string_equal(text_of(node_named(json, "w3"), "role"), "standby");
    assert_string_equal(text_of(node_named(json, "w2"), "role"), "voter");
    assert_true(json_is_true(json_object_get(node_named(json, "w2"), "scheduler")));
    assert_false(json_is_true(json_object_get(node_named(json, "w1"), "scheduler")));
    json_decref(json);
    json = mesh_call(0, 200, "w1", "GET /api/workers", NULL, NULL);
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(text_of(json_array_get(json, 1), "worker_id"), "w2");
    json_decref(json);
}

static void test_routing_marks(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    char target[128];
    char header[128];
    char hex[SHL_NODE_ID_TEXT_SIZE];
    struct reply reply;
    json_t *json;

    (void)state;
    mesh_create_on(0, 1, id);
    json = mesh_call(0, 200, "w1", "POST /admin/workers/w2/drain", NULL, NULL);
    assert_string_equal(text_of(json, "workerID"), "w2");
    assert_true(json_is_true(json_object_get(json, "draining")));
    json_decref(json);
    assert_int_equal(mesh->marks_set[1], NODE_MARK_DRAINING);
    /* It refuses by itself, whatever the router still thinks; others are asked. */
    mesh->place[0] = 1;
    mesh->place[1] = MESH_NODES;
    call_fails(0, 503, "w2", "node w2 takes no new sandboxes: it is draining",
               "POST /api/sandboxes", NULL, "{}");
    mesh->place[1] = 2;
    json_decref(mesh_call(0, 201, "w3", "POST /api/sandboxes", NULL, "{}"));
    /* What runs goes on; what sleeps stays asleep. */
    json_decref(
        mesh_call(0, 200, "w2", "POST /api/sandboxes/%s/exec/run", id, "{\"cmd\":\"true\"}"));
    json_decref(mesh_call(0, 200, "w2", "POST /admin/sandboxes/%s/hibernate", id, NULL));
    call_fails(0, 503, "w2", "draining and wakes none", "POST /api/sandboxes/%s/exec/run", id,
               "{\"cmd\":\"true\"}");
    call_fails(0, 503, "w2", "draining and wakes none", "POST /api/sandboxes/%s/exec/run-async", id,
               "{\"cmd\":\"true\"}");
    call_fails(0, 503, "w2", "draining and wakes none", "POST /api/sandboxes/%s/wake", id, "{}");
    call_fails(0, 503, "w2", "draining and wakes none", "POST /api/sandboxes/%s/reboot", id, "{}");
    json = mesh_call(0, 200, "w1", "POST /api/nodes/w2/cordon", NULL, NULL);
    assert_string_equal(text_of(json, "mark"), "cordoned");
    json_decref(json);
    json_decref(mesh_call(0, 200, "w2", "POST /api/sandboxes/%s/wake", id, "{}"));
    shl_node_id_format(hex, &mesh->nodes[1].opener.self);
    json_decref(mesh_call(0, 200, "w1", "POST /api/nodes/%s/uncordon", hex, NULL));
    assert_int_equal(mesh->marks_set[1], NODE_MARK_NONE);
    (void)snprintf(target, sizeof(target), "POST /admin/workers/w1/drain?drain=false&key=%s",
                   mesh->key);
    json = mesh_ask_with(0, "Accept: */*", target, NULL, &reply);
    assert_int_equal(reply.status, 200);
    assert_true(json_is_false(json_object_get(json, "draining")));
    json_decref(json);
    reply_release(&reply);
    call_fails(0, 404, "w1", "there is no node \"w9\"", "POST /api/nodes/w9/drain", NULL, NULL);
    call_fails(0, 400, "w1", "drain must be", "POST /admin/workers/w1/drain?drain=2", NULL, NULL);
    mesh->has_twins = true;
    call_fails(0, 409, "w1", "2 nodes have the name", "POST /api/nodes/w2/drain", NULL, NULL);
    (void)snprintf(header, sizeof(header), "X-API-Key: %s", mesh->plain_key);
    json = mesh_ask_with(0, header, "POST /api/nodes/w1/drain", NULL, &reply);
    assert_int_equal(reply.status, 403);
    json_decref(json);
    reply_release(&reply);
}

static void test_routing_orders(void **state)
{
    json_t *json;

    (void)state;
    assert_null(mesh_call(0, 204, "w1", "DELETE /api/nodes/w3", NULL, NULL));
    assert_int_equal(mesh->removed, 3);
    call_fails(0, 400, "w1", "it is me", "DELETE /api/nodes/w1", NULL, NULL);
    json = mesh_call(0, 201, "w1", "POST /api/join-tokens", NULL, "{\"ttl\":60}");
    assert_string_equal(text_of(json, "token"), "shoal1-token");
    assert_string_equal(text_of(json, "expiresAt"), "1970-01-01T00:01:00.000Z");
    json_decref(json);
    call_fails(0, 400, "w1", "ttl", "POST /api/join-tokens", NULL, "{\"ttl\":0}");
    call_fails(0, 501, "w1", "cannot be moved", "POST /admin/workers/w2/evict", NULL, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mesh_setup, mesh_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_routing_any_node_answers),
        TEST(test_routing_streams),
        TEST(test_routing_looks_again_once),
        TEST(test_routing_lost_in_the_middle),
        TEST(test_routing_creates_where_there_is_room),
        TEST(test_routing_client_of_an_image_leaves),
        TEST(test_routing_lost_while_it_is_killed),
        TEST(test_routing_snapshots_where_there_is_room),
        TEST(test_routing_places_of_images),
        TEST(test_routing_image_is_placed_again),
        TEST(test_routing_image_with_a_key_is_placed_again),
        TEST(test_routing_image_is_placed_again_once),
        TEST(test_routing_place_refuses),
        TEST(test_routing_passes_over_what_is_down),
        TEST(test_routing_forks),
        TEST(test_routing_idempotent_create),
        TEST(test_routing_idempotent_create_moves_on),
        TEST(test_routing_idempotent_create_by_an_old_claim),
        TEST(test_routing_idempotent_after_a_loss),
        TEST(test_routing_list_is_of_all_nodes),
        TEST(test_routing_list_with_a_silent_node),
        TEST(test_routing_owner_checks_credentials),
        TEST(test_routing_cluster_status),
        TEST(test_routing_marks),
        TEST(test_routing_orders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
