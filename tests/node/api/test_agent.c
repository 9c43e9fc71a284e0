/* The API with the real agent link and the real agent program: what the doubles of
 * test_exec.c and test_files.c pretend must be what happens. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "tests/node/api/fixture.h"

#define MIB (1024u * 1024)

static json_t *run(const char *body)
{
    return call(200, "POST /api/sandboxes/%s/exec/run", body);
}

static void run_is(const char *body, int code, const char *out, const char *err)
{
    json_t *json = run(body);

    if (json_integer_value(json_object_get(json, "exitCode")) != code ||
        strcmp(text_of(json, "stdout"), out) != 0 ||
        (err && strcmp(text_of(json, "stderr"), err) != 0)) {
        fail_msg("%s: %d \"%s\" \"%s\"", body,
                 (int)json_integer_value(json_object_get(json, "exitCode")),
                 text_of(json, "stdout"), text_of(json, "stderr"));
    }
    json_decref(json);
}

static void test_agent_run_outcomes(void **state)
{
    (void)state;
    run_is("{\"cmd\":\"true\"}", 0, "", "");
    run_is("{\"cmd\":\"false\"}", 1, "", "");
    run_is("{\"cmd\":\"echo\",\"args\":[\"a\",\"b  c\"]}", 0, "a b  c\n", "");
    run_is("{\"cmd\":\"echo out; echo err >&2; exit 3\"}", 3, "out\n", "err\n");
    run_is("{\"cmd\":\"printf '\\\\303\\\\244\\\\377'\"}", 0, "\xc3\xa4\xef\xbf\xbd", "");
    run_is("{\"cmd\":\"no-such-program-here\"}", 127, "", NULL);
    run_is("{\"cmd\":\"no-such-program-here\",\"args\":[\"x\"]}", 127, "", NULL);
    run_is("{\"cmd\":\"/etc/passwd\",\"args\":[\"x\"]}", 126, "", NULL);
    run_is("{\"cmd\":\"kill -TERM $$\"}", 143, "", "");
    run_is("{\"cmd\":\"cat\"}", 0, "", ""); /* stdin is empty */
    run_is("{\"cmd\":\"echo $A\",\"envs\":{\"A\":\"x y\"}}", 0, "x y\n", "");
    run_is("{\"cmd\":\"pwd\",\"cwd\":\"/usr\"}", 0, "/usr\n", "");
    call_fails(400, "cwd does not exist: /nope", "POST /api/sandboxes/%s/exec/run",
               "{\"cmd\":\"true\",\"cwd\":\"/nope\"}");
}

static bool was_answered(void *arg)
{
    return fix->figures_count > *(unsigned *)arg;
}

/* As the gateway does when a guest asks for its limits. */
static bool ask_figures(const char *id)
{
    unsigned before = fix->figures_count;

    fix->ask(fix->ask_arg, (uint32_t)strtoul(id + 3, NULL, 16), id);
    run_until(&fix->loop, was_answered, &before);
    return fix->figures_known;
}

static void test_agent_figures_are_of_the_guest(void **state)
{
    const struct node_egress_facts *facts = fixture_facts(fix->id);
    unsigned before = fix->figures_count;
    uint32_t guest = (uint32_t)strtoul(fix->id + 3, NULL, 16);

    (void)state;
    assert_string_equal(facts->region, "local");
    assert_string_equal(facts->template_name, fixture_sandbox()->spec.template_name);
    assert_int_equal(facts->memory_bytes, 1024ull * MIB);
    assert_true(ask_figures(fix->id));
    assert_true(fix->figures.memory_used_bytes > 0);
    assert_true(fix->figures.processes > 0);
    assert_int_equal(fix->figures.net_in_bytes, 11);
    assert_int_equal(fix->figures.net_out_bytes, 22);
    /* one look at a time */
    fix->ask(fix->ask_arg, guest, fix->id);
    fix->ask(fix->ask_arg, guest, fix->id);
    assert_true(ask_figures(fix->id));
    assert_int_equal(fix->figures_count, before + 2);
    /* nobody of that name, and one that does not run */
    assert_false(ask_figures("sb-00000000"));
    fixture_sandbox()->state = NODE_SANDBOX_HIBERNATING;
    assert_false(ask_figures(fix->id));
    fixture_sandbox()->state = NODE_SANDBOX_RUNNING;
    fix->ask(fix->ask_arg, guest, fix->id); /* and one under way when the server closes */
}

static void test_agent_timeout_keeps_the_part(void **state)
{
    uint64_t from_ms = shl_monotonic_ms();

    (void)state;
    run_is("{\"cmd\":\"echo part; sleep 30\",\"timeout\":1}", -1, "part\n", "Process timed out\n");
    assert_true(shl_monotonic_ms() - from_ms < 5000);
}

static void test_agent_background_process_does_not_hold(void **state)
{
    uint64_t from_ms = shl_monotonic_ms();

    (void)state;
    run_is("{\"cmd\":\"sleep 20 & echo started\"}", 0, "started\n", "");
    assert_true(shl_monotonic_ms() - from_ms < 5000);
}

static void test_agent_big_outputs(void **state)
{
    json_t *json;

    (void)state;
    json = run("{\"cmd\":\"seq 1 10000\"}");
    assert_int_equal(json_string_length(json_object_get(json, "stdout")), 48894);
    json_decref(json);
    json = run("{\"cmd\":\"head -c 5000000 /dev/zero | tr '\\\\0' x; printf end >&2\"}");
    assert_int_equal(json_string_length(json_object_get(json, "stdout")), 5000000);
    assert_string_equal(text_of(json, "stderr"), "end");
    assert_null(json_object_get(json, "truncated"));
    json_decref(json);
    json = run("{\"cmd\":\"head -c 20000000 /dev/zero | tr '\\\\0' x\"}");
    assert_true(json_is_true(json_object_get(json, "truncated")));
    json_decref(json);
}

static void test_agent_async_and_sessions(void **state)
{
    char target[256];
    json_t *json = call(200, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"echo hi\"}");

    (void)state;
    assert_string_equal(text_of(json, "stdout"), "hi\n");
    assert_null(json_object_get(json, "execId"));
    json_decref(json);
    json = call(202, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"sleep 1; echo late\"}");
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/exec/%s/result", fix->id,
                   text_of(json, "execId"));
    json_decref(json);
    for (int i = 0; i < 10; i++) {
        json = call(200, target, NULL);
        if (!json_is_true(json_object_get(json, "running"))) {
            break;
        }
        json_decref(json);
    }
    assert_string_equal(text_of(json, "stdout"), "late\n");
    json_decref(json);
    call_fails(404, "exec session not found", "GET /api/sandboxes/%s/exec/nosuch/result", NULL);

    json = call(201, "POST /api/sandboxes/%s/exec", "{\"cmd\":\"cat; exit 7\"}");
    (void)snprintf(target, sizeof(target), "POST /api/sandboxes/%s/exec/%s/kill", fix->id,
                   text_of(json, "sessionID"));
    json_decref(json);
    json = call(200, "GET /api/sandboxes/%s/exec", NULL);
    assert_int_equal(json_array_size(json), 3);
    assert_string_equal(text_of(json_array_get(json, 2), "command"), "cat; exit 7");
    assert_true(json_is_true(json_object_get(json_array_get(json, 2), "running")));
    json_decref(json);
    json_decref(call(200, target, "{\"signal\":15}"));
    run_for(&fix->loop, 300);
    json = call(200, "GET /api/sandboxes/%s/exec", NULL);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 2), "exitCode")), 143);
    json_decref(json);
    json_decref(call(200, target, "{}"));
    call_fails(404, "", "POST /api/sandboxes/%s/exec/nosuch/kill", "{}");
}

static void test_agent_parallel_runs(void **state)
{
    struct client clients[10];

    (void)state;
    for (int i = 0; i < 10; i++) {
        char body[64];
        int len = snprintf(body, sizeof(body), "{\"cmd\":\"sleep 0.2; echo number %d\"}", i);

        client_open(&clients[i], &fix->loop, fix->port);
        client_text(&clients[i],
                    "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                    "Content-Length: %d\r\n\r\n%s",
                    fix->id, fix->key, len, body);
    }
    for (int i = 0; i < 10; i++) {
        struct reply reply;
        char expected[32];
        json_t *json;

        (void)snprintf(expected, sizeof(expected), "number %d\n", i);
        assert_true(client_reply(&clients[i], &reply));
        json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
        assert_string_equal(text_of(json, "stdout"), expected);
        json_decref(json);
        reply_release(&reply);
        client_close(&clients[i]);
    }
    for (int i = 0; i < 50; i++) {
        run_is("{\"cmd\":\"true\"}", 0, "", "");
    }
}

/* A folder of this test's own, since the agent works on the real file system here. */
static char scratch[64];

static void file_call(int status, const char *method, const char *path, const char *body)
{
    char target[256];
    struct reply reply;

    (void)snprintf(target, sizeof(target), "%s /api/sandboxes/%s/files%s%s", method, fix->id,
                   strchr(path, '?') ? "" : "?path=", path);
    json_decref(api(target, body, &reply));
    if (reply.status != status) {
        fail_msg("%s: %d %s", target, reply.status, (char *)reply.body);
    }
    if (status >= 400) {
        check_envelope(&reply, status);
    }
    reply_release(&reply);
}

static const char *in_scratch(const char *prefix, const char *name)
{
    static char path[160];

    (void)snprintf(path, sizeof(path), "%s%s%s", prefix, scratch, name);
    return path;
}

static void test_agent_files(void **state)
{
    char target[256];
    struct reply reply;
    json_t *json;

    (void)state;
    (void)snprintf(scratch, sizeof(scratch), "/tmp/shoal-files-XXXXXX");
    assert_non_null(mkdtemp(scratch));
    file_call(204, "PUT", in_scratch("", "/a/b/c%20d%25"), "hello");
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/files?path=%s/a/b/c+d%%25",
                   fix->id, scratch);
    json_decref(api(target, NULL, &reply));
    assert_int_equal(reply.status, 200);
    assert_string_equal((char *)reply.body, "hello");
    reply_release(&reply);
    file_call(204, "PUT", in_scratch("", "/empty"), "");
    file_call(200, "GET", in_scratch("", "/empty"), NULL);
    file_call(200, "GET", "/proc/self/status", NULL); /* size 0, with content */
    file_call(404, "GET", in_scratch("", "/missing"), NULL);
    file_call(400, "GET", scratch, NULL);
    file_call(400, "PUT", scratch, "x");
    file_call(400, "PUT", in_scratch("", "/empty/below"), "x");
    file_call(204, "POST", in_scratch("/mkdir?path=", "/d/e"), "");
    file_call(204, "POST", in_scratch("/mkdir?path=", "/d/e"), "");
    file_call(400, "POST", in_scratch("/mkdir?path=", "/empty"), "");
    file_call(404, "GET", in_scratch("/list?path=", "/missing"), NULL);
    file_call(400, "GET", in_scratch("/list?path=", "/empty"), NULL);
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/files/list?path=%s", fix->id,
                   scratch);
    json = call(200, target, NULL);
    assert_int_equal(json_array_size(json), 3);
    assert_string_equal(text_of(json_array_get(json, 0), "name"), "a");
    assert_true(json_is_true(json_object_get(json_array_get(json, 0), "isDir")));
    assert_string_equal(text_of(json_array_get(json, 2), "path"), in_scratch("", "/empty"));
    json_decref(json);
    file_call(204, "DELETE", in_scratch("", "/a"), NULL);
    file_call(204, "DELETE", in_scratch("", "/a"), NULL);
    file_call(404, "GET", in_scratch("", "/a/b/c%20d%25"), NULL);
    assert_int_equal(shl_remove_tree(scratch), 0);
}

struct feed {
    struct client *client;
    uint64_t sent;
    uint64_t total;
};

static bool feed_step(void *arg)
{
    struct feed *feed = arg;
    static uint8_t piece[64 * 1024];

    while (feed->sent < feed->total && feed->client->unsent_bytes < 4 * sizeof(piece)) {
        size_t len = (size_t)SHL_MIN((uint64_t)sizeof(piece), feed->total - feed->sent);

        for (size_t i = 0; i < len; i++) {
            piece[i] = (uint8_t)((feed->sent + i) * 37 + ((feed->sent + i) >> 11));
        }
        client_send(feed->client, piece, len);
        feed->sent += len;
    }
    return feed->client->is_ended || shl_buf_len(&feed->client->in) > 0;
}

struct drain {
    struct client *client;
    uint64_t at;
    uint64_t total;
};

static bool drain_step(void *arg)
{
    struct drain *drain = arg;
    struct shl_bytes got = shl_buf_bytes(&drain->client->in);

    for (size_t i = 0; i < got.len; i++) {
        uint64_t at = drain->at + i;

        if (got.base[i] != (uint8_t)(at * 37 + (at >> 11))) {
            fail_msg("byte %llu is wrong", (unsigned long long)at);
        }
    }
    drain->at += got.len;
    shl_buf_consume(&drain->client->in, got.len);
    return drain->at == drain->total || drain->client->is_ended;
}

static void test_agent_100_mb_up_and_down(void **state)
{
    struct client client;
    struct feed feed = {.client = &client, .total = 100 * MIB + 3};
    struct drain drain = {.client = &client, .total = 100 * MIB + 3};
    struct reply reply;
    size_t before = heap_bytes();
    size_t most;

    (void)state;
    (void)snprintf(scratch, sizeof(scratch), "/tmp/shoal-files-XXXXXX");
    assert_non_null(mkdtemp(scratch));
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "PUT /api/sandboxes/%s/files?path=%s/big HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: %llu\r\n\r\n",
                fix->id, scratch, fix->key, (unsigned long long)feed.total);
    run_until(&fix->loop, feed_step, &feed);
    most = heap_bytes();
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 204);
    reply_release(&reply);
    client_text(&client,
                "GET /api/sandboxes/%s/files?path=%s/big HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "\r\n",
                fix->id, scratch, fix->key);
    assert_true(client_reply_head(&client, &reply));
    assert_int_equal(reply.status, 200);
    reply_release(&reply);
    run_until(&fix->loop, drain_step, &drain);
    assert_int_equal(drain.at, drain.total);
    most = SHL_MAX(most, heap_bytes());
    print_message("heap grew by at most %zd bytes\n", (ssize_t)(most - before));
    assert_true(most < before + 3 * MIB);
    client_close(&client);
    assert_int_equal(shl_remove_tree(scratch), 0);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_agent_run_outcomes),
        TEST(test_agent_figures_are_of_the_guest),
        TEST(test_agent_timeout_keeps_the_part),
        TEST(test_agent_background_process_does_not_hold),
        TEST(test_agent_big_outputs),
        TEST(test_agent_async_and_sessions),
        TEST(test_agent_parallel_runs),
        TEST(test_agent_files),
        TEST(test_agent_100_mb_up_and_down),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
