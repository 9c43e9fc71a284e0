#include "tests/node/api/fixture.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture *fix;

static void set_policy(void *arg,
                       uint32_t guest,
                       const char *sandbox,
                       const struct node_egress_facts *facts,
                       struct node_egress_policy *policy)
{
    struct fixture *f = arg;
    size_t i;

    assert_int_equal(strtoul(sandbox + 3, NULL, 16), guest);
    for (i = 0; i < FIXTURE_GUESTS - 1 && f->guests[i].sets > 0 && f->guests[i].guest != guest;
         i++) {
    }
    if (f->guests[i].guest == guest) { /* as the gateway does */
        assert_int_equal(node_egress_policy_keep(policy, &f->guests[i].policy), 0);
    }
    node_egress_policy_release(&f->guests[i].policy);
    f->guests[i].guest = guest;
    f->guests[i].policy = *policy;
    f->guests[i].facts = *facts;
    f->guests[i].sets++;
}

static void drop_policy(void *arg, uint32_t guest)
{
    (void)arg;
    (void)guest;
}

static void take_figures(void *arg,
                         uint32_t guest,
                         const char *sandbox,
                         const struct node_egress_figures *figures)
{
    struct fixture *f = arg;

    assert_int_equal(strtoul(sandbox + 3, NULL, 16), guest);
    f->figures_count++;
    f->figures_known = figures != NULL;
    if (figures) {
        f->figures = *figures;
    }
}

static void take_ask(void *arg, node_egress_ask ask, void *ask_arg)
{
    struct fixture *f = arg;

    f->ask = ask;
    f->ask_arg = ask_arg;
}

const struct node_egress_facts *fixture_facts(const char *sandbox_id)
{
    uint32_t guest = (uint32_t)strtoul(sandbox_id + 3, NULL, 16);

    for (size_t i = 0; i < FIXTURE_GUESTS; i++) {
        if (fix->guests[i].sets > 0 && fix->guests[i].guest == guest) {
            return &fix->guests[i].facts;
        }
    }
    return NULL;
}

const struct node_egress_policy *fixture_policy(const char *sandbox_id)
{
    uint32_t guest = (uint32_t)strtoul(sandbox_id + 3, NULL, 16);

    for (size_t i = 0; i < FIXTURE_GUESTS; i++) {
        if (fix->guests[i].sets > 0 && fix->guests[i].guest == guest) {
            return &fix->guests[i].policy;
        }
    }
    return NULL;
}

int fixture_setup(void **state)
{
    struct node_server_config config = {.listen = "127.0.0.1:0",
                                        .domain = "sandboxes.test",
                                        .worker_id = "w-test",
                                        .memory_default_mb = 1024,
                                        .pad_after_ms = 700};
    struct shl_err err = {0};

    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does: clients go at any time */
    (void)state;
    fix = calloc(1, sizeof(*fix));
    uv_loop_init(&fix->loop);
    fix->store = fake_store_new();
    config.egress = (struct node_egress_sink){.set = set_policy,
                                              .drop = drop_policy,
                                              .figures = take_figures,
                                              .on_ask = take_ask,
                                              .arg = fix};
    fix->manager = fake_manager_new(&fix->loop);
    assert_int_equal(node_keys_ensure_first(fix->store, fix->key, &err), 1);
    assert_int_equal(node_keys_create(fix->store, "org-other", false, 0, fix->other_key, &err), 0);
    if (node_server_open(&fix->loop, fix->store, fix->manager, &config, &fix->server, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    fix->port = node_server_port(fix->server);
    create_sandbox("{}", fix->id);
    return 0;
}

static void on_server_closed(void *arg)
{
    ((struct fixture *)arg)->is_closed = true;
}

static bool server_is_closed(void *arg)
{
    return ((struct fixture *)arg)->is_closed;
}

int fixture_teardown(void **state)
{
    (void)state;
    run_for(&fix->loop, 10); /* what was under way ends */
    node_server_close(fix->server, on_server_closed, fix);
    run_until(&fix->loop, server_is_closed, fix);
    fake_manager_free(fix->manager);
    while (uv_run(&fix->loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    node_store_close(fix->store);
    for (size_t i = 0; i < FIXTURE_GUESTS; i++) {
        node_egress_policy_release(&fix->guests[i].policy);
    }
    free(fix);
    return 0;
}

struct node_sandbox *fixture_sandbox(void)
{
    struct node_sandbox *sandbox = node_manager_find(fix->manager, NODE_ORG_FIRST, fix->id);

    assert_non_null(sandbox);
    return sandbox;
}

json_t *api_as(const char *credentials, const char *target, const char *body, struct reply *ret)
{
    char *head = NULL;
    char type[64];
    json_t *json = NULL;

    assert_true(
        asprintf(&head, "%s HTTP/1.1%s%s", target, *credentials ? "\r\n" : "", credentials) > 0);
    request(&fix->loop, fix->port, head, body, body ? strlen(body) : 0, ret);
    free(head);
    if (ret->body_len > 0 && reply_header(ret, "Content-Type", type, sizeof(type)) &&
        strcmp(type, "application/json") == 0) {
        json = json_loadb((char *)ret->body, ret->body_len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!json) {
            fail_msg("not JSON: %s", (char *)ret->body);
        }
    }
    return json;
}

json_t *api(const char *target, const char *body, struct reply *ret)
{
    char header[128];

    (void)snprintf(header, sizeof(header), "X-API-Key: %s", fix->key);
    return api_as(header, target, body, ret);
}

char *expand(const char *format)
{
    const char *mark = strstr(format, "%s");
    char *target = NULL;

    assert_true(asprintf(&target, "%.*s%s%s", mark ? (int)(mark - format) : (int)strlen(format),
                         format, mark ? fix->id : "", mark ? mark + 2 : "") > 0);
    return target;
}

static json_t *call_for(const char *format, const char *body, struct reply *reply)
{
    char *target = expand(format);
    json_t *json = api(target, body, reply);

    free(target);
    return json;
}

json_t *call(int status, const char *format, const char *body)
{
    struct reply reply;
    json_t *json = call_for(format, body, &reply);

    if (reply.status != status) {
        fail_msg("%s %s: %d %s", format, body ? body : "", reply.status, (char *)reply.body);
    }
    reply_release(&reply);
    return json;
}

void check_envelope(const struct reply *reply, int status)
{
    char buf[128];
    json_t *json;

    if (reply->status != status) {
        fail_msg("%d instead of %d: %s", reply->status, status, (char *)reply->body);
    }
    assert_string_equal(reply_header(reply, "Content-Type", buf, sizeof(buf)), "application/json");
    assert_non_null(reply_header(reply, "X-Request-Id", buf, sizeof(buf)));
    json = json_loadb((char *)reply->body, reply->body_len, 0, NULL);
    assert_non_null(json);
    assert_true(strlen(text_of(json, "error")) > 3);
    json_decref(json);
}

void call_fails(int status, const char *part, const char *format, const char *body)
{
    struct reply reply;
    json_t *json = call_for(format, body, &reply);

    if (reply.status != status || !strstr(text_of(json, "error"), part)) {
        fail_msg("%s %s: %d %s (expected %d with \"%s\")", format, body ? body : "", reply.status,
                 (char *)reply.body, status, part);
    }
    check_envelope(&reply, status);
    json_decref(json);
    reply_release(&reply);
}

const char *text_of(json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text ? text : "";
}

void create_sandbox(const char *body, char ret[NODE_SANDBOX_ID_SIZE])
{
    json_t *json = call(201, "POST /api/sandboxes", body);

    (void)snprintf(ret, NODE_SANDBOX_ID_SIZE, "%s", text_of(json, "sandboxID"));
    (void)snprintf(fix->token, sizeof(fix->token), "%s", text_of(json, "token"));
    assert_true(strlen(ret) > 3);
    json_decref(json);
}

struct fake_manager_knobs *knobs(void)
{
    return fake_manager_knobs(fix->manager);
}

void hibernate(void)
{
    json_decref(call(200, "POST /api/sandboxes/%s/hibernate", NULL));
    assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_HIBERNATED);
}

unsigned wakes(void)
{
    return fake_sandbox_wakes(fixture_sandbox());
}
