/* Secret stores: contract test 76, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/api/router.h"
#include "node/api/secret_push.h"
#include "node/api/server_private.h"
#include "node/secret/row.h"
#include "tests/node/api/fixture.h"

static char target[512];

static const char *at(const char *method, const char *store, const char *rest)
{
    (void)snprintf(target, sizeof(target), "%s /api/secret-stores%s%s%s", method,
                   store[0] ? "/" : "", store, rest);
    return target;
}

static void make_store(const char *body, char id[NODE_STORE_ID_SIZE])
{
    json_t *json = call(201, at("POST", "", ""), body);

    (void)snprintf(id, NODE_STORE_ID_SIZE, "%s", text_of(json, "id"));
    assert_true(node_store_id_is_valid(id));
    json_decref(json);
}

static json_t *list(const char *json, size_t count)
{
    json_t *array = call(200, json, NULL);

    assert_true(json_is_array(array));
    assert_int_equal(json_array_size(array), count);
    return array;
}

static void test_stores_are_made_listed_changed_deleted(void **state)
{
    char id[NODE_STORE_ID_SIZE], second[NODE_STORE_ID_SIZE];
    json_t *json;

    (void)state;
    json_decref(list("GET /api/secret-stores", 0));
    make_store("{\"name\":\"zeta\",\"egressAllowlist\":[\"*.OpenAI.com\",\"a.b.\"]}", id);
    make_store("{\"name\":\"alpha\"}", second);
    json = list("GET /api/secret-stores", 2);
    assert_string_equal(text_of(json_array_get(json, 0), "name"), "alpha");
    assert_string_equal(text_of(json_array_get(json, 1), "name"), "zeta");
    json_decref(json);
    json = call(200, at("GET", id, ""), NULL);
    assert_string_equal(text_of(json, "orgId"), NODE_ORG_FIRST);
    assert_string_equal(json_string_value(
                            json_array_get(json_object_get(json, "egressAllowlist"), 0)),
                        "*.openai.com");
    json_decref(json);
    /* what is not given stays, [] clears */
    json = call(200, at("PUT", id, ""), "{\"name\":\"omega\"}");
    assert_string_equal(text_of(json, "name"), "omega");
    assert_int_equal(json_array_size(json_object_get(json, "egressAllowlist")), 2);
    json_decref(json);
    json = call(200, at("PUT", id, ""), "{\"egressAllowlist\":[]}");
    assert_string_equal(text_of(json, "name"), "omega");
    assert_int_equal(json_array_size(json_object_get(json, "egressAllowlist")), 0);
    json_decref(json);
    json_decref(list("GET /api/secret-stores", 2));
    /* the former name is free again */
    make_store("{\"name\":\"zeta\"}", second);
    json_decref(call(204, at("DELETE", id, ""), NULL));
    call_fails(404, "secret store not found", at("DELETE", id, ""), NULL);
    call_fails(404, "secret store not found", at("GET", id, ""), NULL);
    call_fails(404, "secret store not found", at("PUT", id, ""), "{\"name\":\"x\"}");
    json_decref(list("GET /api/secret-stores", 2));
}

static void test_store_names_are_taken_once(void **state)
{
    char id[NODE_STORE_ID_SIZE], other[NODE_STORE_ID_SIZE];
    struct reply reply;
    char other_org[128];
    json_t *json;

    (void)state;
    (void)snprintf(other_org, sizeof(other_org), "X-API-Key: %s", fix->other_key);
    make_store("{\"name\":\"one\"}", id);
    make_store("{\"name\":\"two\"}", other);
    call_fails(409, "already exists", "POST /api/secret-stores", "{\"name\":\"one\"}");
    call_fails(409, "already exists", at("PUT", other, ""), "{\"name\":\"one\"}");
    json_decref(call(200, at("PUT", id, ""), "{\"name\":\"one\"}")); /* its own */
    /* another organisation has names of its own and sees none of these */
    json = api_as(other_org, "POST /api/secret-stores", "{\"name\":\"one\"}", &reply);
    assert_int_equal(reply.status, 201);
    json_decref(json);
    reply_release(&reply);
    json = api_as(other_org, at("GET", id, ""), NULL, &reply);
    assert_int_equal(reply.status, 404);
    json_decref(json);
    reply_release(&reply);
}

static void test_secrets_are_set_listed_deleted_never_shown(void **state)
{
    char id[NODE_STORE_ID_SIZE];
    struct reply reply;
    json_t *json, *first;

    (void)state;
    make_store("{\"name\":\"keys\"}", id);
    json = call(200, at("PUT", id, "/secrets/API_KEY"),
                "{\"value\":\"sk-live-4711\",\"allowedHosts\":[\"API.x.com\"]}");
    assert_string_equal(text_of(json, "status"), "set");
    assert_int_equal(json_object_size(json), 2);
    json_decref(json);
    json_decref(call(200, at("PUT", id, "/secrets/B"), "{\"value\":\"two\"}"));
    json = api(at("GET", id, "/secrets"), NULL, &reply);
    assert_int_equal(json_array_size(json), 2);
    assert_null(memmem(reply.body, reply.body_len, "sk-live", 7));
    first = json_array_get(json, 0);
    assert_string_equal(text_of(first, "name"), "API_KEY");
    assert_string_equal(text_of(first, "storeId"), id);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(first, "allowedHosts"), 0)), "api.x.com");
    json_decref(json);
    reply_release(&reply);
    /* set again without hosts: they stay; [] clears */
    json_decref(call(200, at("PUT", id, "/secrets/API_KEY"), "{\"value\":\"new\"}"));
    json = list(at("GET", id, "/secrets"), 2);
    assert_int_equal(json_array_size(json_object_get(json_array_get(json, 0), "allowedHosts")), 1);
    json_decref(json);
    json_decref(
        call(200, at("PUT", id, "/secrets/API_KEY"), "{\"value\":\"new\",\"allowedHosts\":[]}"));
    json = list(at("GET", id, "/secrets"), 2);
    assert_int_equal(json_array_size(json_object_get(json_array_get(json, 0), "allowedHosts")), 0);
    json_decref(json);
    json_decref(call(204, at("DELETE", id, "/secrets/API_KEY"), NULL));
    call_fails(404, "secret not found", at("DELETE", id, "/secrets/API_KEY"), NULL);
    json_decref(list(at("GET", id, "/secrets"), 1));
    json_decref(call(204, at("DELETE", id, ""), NULL));
    call_fails(404, "secret store not found", at("GET", id, "/secrets"), NULL);
    call_fails(404, "secret store not found", at("PUT", id, "/secrets/A"), "{\"value\":\"v\"}");
}

static void test_bad_input_is_refused_with_a_reason(void **state)
{
    static const struct {
        const char *part;
        const char *body;
    } stores[] = {
        {"name is required", "{}"},
        {"name", "{\"name\":7}"},
        {"name must have", "{\"name\":\"\"}"},
        {"name must have", "{\"name\":\" a\"}"},
        {"name must have", "{\"name\":\"a\\nb\"}"},
        {"egressAllowlist", "{\"name\":\"n\",\"egressAllowlist\":\"x.com\"}"},
        {"egressAllowlist", "{\"name\":\"n\",\"egressAllowlist\":[1]}"},
        {"is no host", "{\"name\":\"n\",\"egressAllowlist\":[\"\"]}"},
        {"is no host", "{\"name\":\"n\",\"egressAllowlist\":[\"http://x.com\"]}"},
        {"is no host", "{\"name\":\"n\",\"egressAllowlist\":[\"*x.com\"]}"},
    };
    static const struct {
        const char *part;
        const char *body;
    } secrets[] = {
        {"value is required", "{}"},
        {"value must have", "{\"value\":\"\"}"},
        {"value", "{\"value\":5}"},
        {"is no host", "{\"value\":\"v\",\"allowedHosts\":[\"\"]}"},
        {"allowedHosts", "{\"value\":\"v\",\"allowedHosts\":{}}"},
    };
    char id[NODE_STORE_ID_SIZE], *big;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(stores); i++) {
        call_fails(400, stores[i].part, "POST /api/secret-stores", stores[i].body);
    }
    make_store("{\"name\":\"n\"}", id);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(secrets); i++) {
        call_fails(400, secrets[i].part, at("PUT", id, "/secrets/K"), secrets[i].body);
    }
    call_fails(400, "environment variable", at("PUT", id, "/secrets/9K"), "{\"value\":\"v\"}");
    call_fails(400, "environment variable", at("PUT", id, "/secrets/A-B"), "{\"value\":\"v\"}");
    call_fails(404, "secret store not found", at("GET", "nonsense", ""), NULL);
    big = malloc(NODE_SECRET_VALUE_MAX + 64);
    assert_non_null(big);
    memset(big, 'v', NODE_SECRET_VALUE_MAX + 64);
    memcpy(big, "{\"value\":\"", 10);
    memcpy(big + 10 + NODE_SECRET_VALUE_MAX + 1, "\"}", 3);
    call_fails(400, "value must have", at("PUT", id, "/secrets/K"), big);
    memcpy(big + 10 + NODE_SECRET_VALUE_MAX, "\"}", 3);
    json_decref(call(200, at("PUT", id, "/secrets/K"), big));
    free(big);
}

static void test_limits_of_stores_are_named(void **state)
{
    char id[NODE_STORE_ID_SIZE], rest[64], body[2048] = "{\"name\":\"n\",\"egressAllowlist\":[";

    (void)state;
    for (size_t i = 0; i <= NODE_STORE_PATTERNS_MAX; i++) {
        size_t len = strlen(body);

        (void)snprintf(body + len, sizeof(body) - len, "%s\"h%zu\"", i ? "," : "", i);
    }
    strncat(body, "]}", sizeof(body) - strlen(body) - 1);
    call_fails(400, "100 hosts at most", "POST /api/secret-stores", body);
    make_store("{\"name\":\"full\"}", id);
    for (size_t i = 0; i < NODE_STORE_SECRETS_MAX; i++) {
        (void)snprintf(rest, sizeof(rest), "/secrets/K%zu", i);
        json_decref(call(200, at("PUT", id, rest), "{\"value\":\"v\"}"));
    }
    call_fails(429, "limit", at("PUT", id, "/secrets/ONE_MORE"), "{\"value\":\"v\"}");
    json_decref(call(200, at("PUT", id, "/secrets/K7"), "{\"value\":\"again\"}"));
    json_decref(call(204, at("DELETE", id, ""), NULL)); /* with all that is in it */
}

/*- Sandboxes. */

static struct node_sandbox *made_with(const char *body)
{
    json_t *json = call(201, "POST /api/sandboxes", body);
    struct node_sandbox *sandbox =
        node_manager_find(fix->manager, NULL, text_of(json, "sandboxID"));

    assert_non_null(sandbox);
    json_decref(json);
    return sandbox;
}

static const struct node_secret_token *token_of(const struct node_sandbox *sandbox,
                                                const char *name)
{
    const struct node_secret_use *use = &sandbox->spec.secrets;

    for (size_t i = 0; i < use->token_count; i++) {
        if (strcmp(use->tokens[i].name, name) == 0) {
            return &use->tokens[i];
        }
    }
    return NULL;
}

/* What goes to @host for the secret @name of @sandbox is @value (NULL: its token). */
static bool goes_out(const struct node_sandbox *sandbox,
                     const char *name,
                     const char *host,
                     const char *value)
{
    const struct node_egress_policy *policy = fixture_policy(sandbox->id);
    const struct node_secret_token *token = token_of(sandbox, name);
    struct shl_bytes got;

    assert_non_null(policy);
    assert_non_null(token);
    got = node_egress_value(policy, host, token->token);
    return got.base ? value && got.len == strlen(value) && memcmp(got.base, value, got.len) == 0
                    : !value;
}

/* The gateway is told a moment after the change. */
static void wait_for(const struct node_sandbox *sandbox,
                     const char *name,
                     const char *host,
                     const char *value)
{
    for (int i = 0; i < 500 && !goes_out(sandbox, name, host, value); i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
        (void)usleep(2000);
    }
    assert_true(goes_out(sandbox, name, host, value));
}

static void test_sandbox_gets_fresh_tokens_and_the_gateway_their_values(void **state)
{
    struct node_sandbox *one, *two;
    char id[NODE_STORE_ID_SIZE];

    (void)state;
    make_store("{\"name\":\"keys\",\"egressAllowlist\":[\"*.x.com\"]}", id);
    json_decref(call(200, at("PUT", id, "/secrets/A"),
                     "{\"value\":\"va\",\"allowedHosts\":[\"api.x.com\"]}"));
    json_decref(call(200, at("PUT", id, "/secrets/B"), "{\"value\":\"vb\"}"));
    call_fails(400, "secret store not found: other", "POST /api/sandboxes",
               "{\"secretStore\":\"other\"}");
    one = made_with("{\"secretStore\":\"keys\"}");
    two = made_with("{\"secretStore\":\"keys\"}");
    assert_int_equal(one->spec.secrets.token_count, 2);
    assert_string_not_equal(token_of(one, "A")->token, token_of(two, "A")->token);
    assert_string_not_equal(token_of(one, "A")->token, token_of(one, "B")->token);
    assert_true(goes_out(one, "A", "api.x.com", "va"));
    assert_true(goes_out(one, "A", "b.x.com", NULL));
    assert_true(goes_out(one, "B", "b.x.com", "vb"));
    assert_true(goes_out(one, "B", "y.com", NULL)); /* not reachable at all */
    assert_false(node_egress_may_reach(fixture_policy(one->id), "x.com"));
    /* one without stores reaches everything, with nothing put in the place of anything */
    assert_true(fixture_policy(fix->id)->is_open);
    assert_int_equal(fixture_policy(fix->id)->secret_count, 0);
    /* tokens of the other one mean nothing */
    assert_null(
        node_egress_value(fixture_policy(one->id), "api.x.com", token_of(two, "A")->token).base);
}

static void settle(void)
{
    for (int i = 0; i < 50; i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
        (void)usleep(2000);
    }
}

static void test_changes_reach_sandboxes_that_run(void **state)
{
    struct node_sandbox *one;
    char id[NODE_STORE_ID_SIZE];

    (void)state;
    make_store("{\"name\":\"keys\",\"egressAllowlist\":[\"x.com\"]}", id);
    json_decref(call(200, at("PUT", id, "/secrets/A"), "{\"value\":\"first\"}"));
    one = made_with("{\"secretStore\":\"keys\"}");
    assert_true(goes_out(one, "A", "x.com", "first"));
    json_decref(call(200, at("PUT", id, "/secrets/A"), "{\"value\":\"second\"}"));
    wait_for(one, "A", "x.com", "second");
    json_decref(call(200, at("PUT", id, ""), "{\"egressAllowlist\":[\"y.com\"]}"));
    wait_for(one, "A", "y.com", "second");
    assert_true(goes_out(one, "A", "x.com", NULL));
    json_decref(call(200, at("PUT", id, "/secrets/A"),
                     "{\"value\":\"third\",\"allowedHosts\":[\"z.com\"]}"));
    wait_for(one, "A", "y.com", NULL);
    json_decref(call(200, at("PUT", id, "/secrets/A"), "{\"value\":\"4\",\"allowedHosts\":[]}"));
    wait_for(one, "A", "y.com", "4");
    json_decref(call(204, at("DELETE", id, "/secrets/A"), NULL));
    wait_for(one, "A", "y.com", NULL);
    /* the store is gone, what it allowed is not suddenly everything */
    json_decref(call(204, at("DELETE", id, ""), NULL));
    settle();
    assert_false(fixture_policy(one->id)->is_open);
    assert_true(node_egress_may_reach(fixture_policy(one->id), "y.com"));
    assert_false(node_egress_may_reach(fixture_policy(one->id), "x.com"));
}

static unsigned sets_of(const struct node_sandbox *sandbox)
{
    uint32_t guest = (uint32_t)strtoul(sandbox->id + 3, NULL, 16);

    for (size_t i = 0; i < FIXTURE_GUESTS; i++) {
        if (fix->guests[i].sets > 0 && fix->guests[i].guest == guest) {
            return fix->guests[i].sets;
        }
    }
    return 0;
}

/* Sandboxes that run go on with the values they have; a secret that was deleted itself is gone,
 * also when its store went in the same moment. */
static void test_deleted_store_leaves_sandboxes_their_values(void **state)
{
    struct node_sandbox *one, *late;
    char id[NODE_STORE_ID_SIZE];

    (void)state;
    make_store("{\"name\":\"keys\",\"egressAllowlist\":[\"x.com\",\"y.com\"]}", id);
    json_decref(
        call(200, at("PUT", id, "/secrets/A"), "{\"value\":\"va\",\"allowedHosts\":[\"x.com\"]}"));
    json_decref(call(200, at("PUT", id, "/secrets/B"), "{\"value\":\"vb\"}"));
    one = made_with("{\"secretStore\":\"keys\"}");
    settle();
    json_decref(call(204, at("DELETE", id, "/secrets/B"), NULL));
    json_decref(call(204, at("DELETE", id, ""), NULL));
    settle();
    assert_true(goes_out(one, "A", "x.com", "va"));
    assert_true(goes_out(one, "A", "y.com", NULL)); /* its hosts are what they were */
    assert_true(goes_out(one, "B", "x.com", NULL));
    assert_false(fixture_policy(one->id)->is_open);
    /* for others there is no such store, nor when another one has its name */
    call_fails(400, "secret store not found: keys", "POST /api/sandboxes",
               "{\"secretStore\":\"keys\"}");
    make_store("{\"name\":\"keys\"}", id);
    json_decref(call(200, at("PUT", id, "/secrets/A"), "{\"value\":\"new\"}"));
    late = made_with("{\"secretStore\":\"keys\"}");
    assert_true(goes_out(late, "A", "z.com", "new"));
    settle();
    assert_true(goes_out(one, "A", "x.com", "va"));
}

/* The gateway hears of those alone that a change is about. */
static void test_changes_are_told_to_those_they_matter_to(void **state)
{
    char a[NODE_STORE_ID_SIZE], b[NODE_STORE_ID_SIZE];
    struct node_sandbox *one, *two;
    unsigned first, second;

    (void)state;
    make_store("{\"name\":\"a\"}", a);
    make_store("{\"name\":\"b\"}", b);
    json_decref(call(200, at("PUT", a, "/secrets/K"), "{\"value\":\"1\"}"));
    json_decref(call(200, at("PUT", b, "/secrets/K"), "{\"value\":\"2\"}"));
    one = made_with("{\"secretStore\":\"a\"}");
    two = made_with("{\"secretStore\":\"b\"}");
    settle();
    first = sets_of(one);
    second = sets_of(two);
    json_decref(call(200, at("PUT", a, "/secrets/K"), "{\"value\":\"3\"}"));
    json_decref(call(200, at("PUT", a, "/secrets/OTHER"), "{\"value\":\"4\"}")); /* new: of none */
    wait_for(one, "K", "x.com", "3");
    settle();
    assert_int_equal(sets_of(one), first + 1);
    assert_int_equal(sets_of(two), second);
    json_decref(call(200, at("PUT", b, ""), "{\"egressAllowlist\":[\"x.com\"]}"));
    wait_for(two, "K", "y.com", NULL);
    assert_true(goes_out(two, "K", "x.com", "2"));
    /* more changes than are told apart */
    for (int i = 0; i < NODE_SECRET_PUSH_KEYS_MAX + 4; i++) {
        char path[32];

        (void)snprintf(path, sizeof(path), "/secrets/N%d", i);
        json_decref(call(200, at("PUT", b, path), "{\"value\":\"v\"}"));
    }
    json_decref(call(200, at("PUT", a, "/secrets/K"), "{\"value\":\"5\"}"));
    wait_for(one, "K", "x.com", "5");
}

static struct node_sandbox *fork_of(const char *checkpoint, const char *body)
{
    char path[128];
    struct node_sandbox *sandbox;
    json_t *json;

    (void)snprintf(path, sizeof(path), "POST /api/sandboxes/from-checkpoint/%s", checkpoint);
    json = call(201, path, body);
    sandbox = node_manager_find(fix->manager, NULL, text_of(json, "sandboxID"));
    json_decref(json);
    return sandbox;
}

static void test_forks_resolve_anew_and_layer_stores(void **state)
{
    char low[NODE_STORE_ID_SIZE], high[NODE_STORE_ID_SIZE], path[128], checkpoint[64];
    struct node_sandbox *source, *fork;
    json_t *json;

    (void)state;
    make_store("{\"name\":\"low\",\"egressAllowlist\":[\"a.com\"]}", low);
    make_store("{\"name\":\"high\",\"egressAllowlist\":[\"a.com\",\"b.com\"]}", high);
    json_decref(call(200, at("PUT", low, "/secrets/A"), "{\"value\":\"low a\"}"));
    json_decref(call(200, at("PUT", low, "/secrets/B"), "{\"value\":\"low b\"}"));
    json_decref(call(200, at("PUT", high, "/secrets/A"), "{\"value\":\"high a\"}"));
    source = made_with("{\"secretStore\":\"low\"}");
    (void)snprintf(path, sizeof(path), "POST /api/sandboxes/%s/checkpoints", source->id);
    json = call(201, path, "{\"name\":\"c\"}");
    (void)snprintf(checkpoint, sizeof(checkpoint), "%s", text_of(json, "id"));
    json_decref(json);
    for (int i = 0; i < 50; i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
        (void)usleep(2000);
    }
    json_decref(call(200, at("PUT", low, "/secrets/B"), "{\"value\":\"newer b\"}"));
    json_decref(call(200, at("PUT", low, "/secrets/C"), "{\"value\":\"low c\"}"));
    fork = fork_of(checkpoint, "{}");
    assert_int_equal(fork->spec.secrets.token_count, 3);
    assert_string_not_equal(token_of(fork, "A")->token, token_of(source, "A")->token);
    assert_true(goes_out(fork, "B", "a.com", "newer b"));
    fork = fork_of(checkpoint, "{\"secretStore\":\"high\"}");
    assert_int_equal(fork->spec.secrets.store_count, 2);
    assert_true(goes_out(fork, "A", "b.com", "high a")); /* the caller's wins */
    assert_true(goes_out(fork, "B", "b.com", "newer b"));
    assert_int_equal(fixture_policy(fork->id)->allowlist.count, 2);
    (void)snprintf(path, sizeof(path), "POST /api/sandboxes/from-checkpoint/%s", checkpoint);
    call_fails(400, "secret store not found: none", path, "{\"secretStore\":\"none\"}");
    json_decref(call(204, at("DELETE", low, ""), NULL));
    fork = fork_of(checkpoint, "{}");
    assert_int_equal(fork->spec.secrets.token_count, 0); /* left out */
    assert_false(fixture_policy(fork->id)->is_open);
}

static const struct node_router_ops *real_ops;

/* The answer to each change is lost, and it is given to the log once more. */
static int twice(struct node_router *router,
                 const struct node_row_change *change,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg)
{
    (void)real_ops->row_change(router, change, ret, cb, arg);
    return real_ops->row_change(router, change, ret, cb, arg);
}

static void test_changes_that_the_log_is_given_twice(void **state)
{
    struct node_router *router = fix->server->router;
    struct node_router_ops ops = *router->ops;
    char id[NODE_STORE_ID_SIZE];

    (void)state;
    real_ops = router->ops;
    ops.row_change = twice;
    router->ops = &ops;
    make_store("{\"name\":\"one\"}", id);
    json_decref(list("GET /api/secret-stores", 1));
    json_decref(call(204, at("DELETE", id, ""), NULL));
    json_decref(list("GET /api/secret-stores", 0));
    router->ops = real_ops;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_stores_are_made_listed_changed_deleted),
        TEST(test_store_names_are_taken_once),
        TEST(test_changes_that_the_log_is_given_twice),
        TEST(test_secrets_are_set_listed_deleted_never_shown),
        TEST(test_bad_input_is_refused_with_a_reason),
        TEST(test_limits_of_stores_are_named),
        TEST(test_sandbox_gets_fresh_tokens_and_the_gateway_their_values),
        TEST(test_changes_reach_sandboxes_that_run),
        TEST(test_deleted_store_leaves_sandboxes_their_values),
        TEST(test_changes_are_told_to_those_they_matter_to),
        TEST(test_forks_resolve_anew_and_layer_stores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
