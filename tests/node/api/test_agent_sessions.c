/* Agents with the real agent link and program. In place of the wrapper is a shell script of the
 * test that says what it was told: the wrapper itself has tests of its own (tests/agent-wrapper),
 * here it is about what the node sends, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/api/agent_lines.h"
#include "tests/node/api/fixture.h"
#include "tests/node/http/ws_client.h"

/* Each line comes back with a mark; one with END in it ends the program. */
#define ECHO_WRAPPER                                                                   \
    "#!/bin/bash\\necho ready\\nwhile IFS= read -r line; do echo \\\"got $line\\\"\\n" \
    "case $line in *END*) exit 3;; esac\\ndone\\n"

static void write_wrapper(const char *text)
{
    char body[1024];
    json_t *json;

    (void)snprintf(body, sizeof(body),
                   "{\"cmd\":\"printf '%%s' '%s' > claude-agent-wrapper && chmod 755 "
                   "claude-agent-wrapper\"}",
                   text);
    json = call(200, "POST /api/sandboxes/%s/exec/run", body);
    assert_int_equal(json_integer_value(json_object_get(json, "exitCode")), 0);
    json_decref(json);
}

static void start(const char *body, char sid[64])
{
    json_t *json = call(201, "POST /api/sandboxes/%s/agent", body);

    (void)snprintf(sid, 64, "%s", text_of(json, "sessionID"));
    assert_string_equal(text_of(json, "sandboxID"), fix->id);
    assert_string_equal(text_of(json, "command"), NODE_AGENT_WRAPPER);
    assert_true(json_is_true(json_object_get(json, "running")));
    assert_string_not_equal(text_of(json, "startedAt"), "");
    json_decref(json);
}

static void op_target(char dst[256], const char *sid, const char *op)
{
    (void)snprintf(dst, 256, "POST /api/sandboxes/%%s/agent/%s/%s", sid, op);
}

static void op(int status, const char *sid, const char *name, const char *body)
{
    char target[256];

    op_target(target, sid, name);
    json_decref(call(status, target, body));
}

static void op_fails(int status,
                     const char *part,
                     const char *sid,
                     const char *name,
                     const char *body)
{
    char target[256];

    op_target(target, sid, name);
    call_fails(status, part, target, body);
}

/* What an attached client sees until the end; the caller's to free. */
static char *watch(const char *kind, const char *sid, int *ret_exit)
{
    struct client client;
    struct reply reply;
    struct ws_frame frame;
    struct shl_buf out;
    char *text;

    shl_buf_init(&out, 16u << 20);
    *ret_exit = -1;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "GET /api/sandboxes/%s/%s/%s?api_key=%s HTTP/1.1\r\nHost: x\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                fix->id, kind, sid, fix->key);
    assert_true(client_reply_head(&client, &reply));
    assert_int_equal(reply.status, 101);
    reply_release(&reply);
    while (ws_next(&client, &frame)) {
        bool is_over = frame.first == 0x88;

        if (frame.first == 0x82 && frame.data[0] == 1) {
            assert_int_equal(shl_buf_append(&out, frame.data + 1, frame.len - 1), 0);
        } else if (frame.first == 0x82 && frame.data[0] == 3) {
            *ret_exit = frame.data[4];
        }
        free(frame.data);
        if (is_over) {
            break;
        }
    }
    client_close(&client);
    text = strndup(shl_buf_len(&out) > 0 ? (char *)shl_buf_data(&out) : "", shl_buf_len(&out));
    shl_buf_release(&out);
    return text;
}

static void ends_with(const char *kind, const char *sid, const char *want)
{
    int exit_code;
    char *text = watch(kind, sid, &exit_code);

    assert_string_equal(text, want);
    assert_int_equal(exit_code, 3);
    free(text);
}

static void test_agents_are_told_what_the_request_says(void **state)
{
    char sid[64];

    (void)state;
    write_wrapper(ECHO_WRAPPER);
    start("{\"prompt\":\"do \\\"it\\\"\\nnow, \\u00e4 END\",\"model\":\"m\",\"systemPrompt\":\"s\","
          "\"allowedTools\":[\"Read\",\"Bash\"],\"permissionMode\":\"plan\",\"maxTurns\":7.0,"
          "\"cwd\":\"/tmp\",\"mcpServers\":{\"x\":{\"command\":\"c\",\"args\":[\"1\"]}},"
          "\"resume\":\"r\",\"other\":1}",
          sid);
    /* The whole of it, also for a client that comes at the end, under both names. */
    for (int i = 0; i < 2; i++) {
        ends_with(i == 0 ? "agent" : "exec", sid,
                  "ready\ngot {\"type\":\"configure\",\"model\":\"m\",\"systemPrompt\":\"s\","
                  "\"permissionMode\":\"plan\",\"cwd\":\"/tmp\",\"resume\":\"r\","
                  "\"allowedTools\":[\"Read\",\"Bash\"],\"maxTurns\":7,"
                  "\"mcpServers\":{\"x\":{\"command\":\"c\",\"args\":[\"1\"]}}}\n"
                  "got {\"type\":\"prompt\",\"text\":\"do \\\"it\\\"\\nnow, \xc3\xa4 END\"}\n");
    }
}

static void test_agents_without_anything_to_do(void **state)
{
    char sid[64];

    (void)state;
    write_wrapper(ECHO_WRAPPER);
    start("{\"prompt\":\"\",\"model\":null,\"maxTurns\":null,\"mcpServers\":null}", sid);
    op(204, sid, "interrupt", NULL);
    op(204, sid, "configure", "{\"maxTurns\":1}");
    op(204, sid, "prompt", "{\"text\":\"END\",\"resume\":\"x\"}");
    ends_with("agent", sid,
              "ready\ngot {\"type\":\"interrupt\"}\n"
              "got {\"type\":\"configure\",\"maxTurns\":1}\n"
              "got {\"type\":\"prompt\",\"text\":\"END\",\"resume\":\"x\"}\n");
    op_fails(400, "has ended", sid, "prompt", "{\"text\":\"x\"}");
    op_fails(400, "has ended", sid, "interrupt", NULL);
    op(204, sid, "kill", "{}"); /* as of other sessions */
}

static void test_agents_long_prompts_arrive_whole(void **state)
{
    const size_t len = 700000;
    char *body = malloc(len + 64);
    char sid[64];
    char *text;
    int exit_code;

    (void)state;
    assert_non_null(body);
    write_wrapper("#!/bin/sh\\nhead -n 1 | wc -c; exit 3\\n");
    memcpy(body, "{\"prompt\":\"", 11);
    memset(body + 11, 'x', len);
    memcpy(body + 11 + len, "\"}", 3);
    start(body, sid);
    free(body);
    text = watch("agent", sid, &exit_code);
    assert_int_equal(atol(text), len + strlen("{\"type\":\"prompt\",\"text\":\"\"}\n"));
    free(text);
}

static void test_agents_are_listed_apart(void **state)
{
    char target[256];
    char sid[64];
    char other[64];
    json_t *json;

    (void)state;
    write_wrapper(ECHO_WRAPPER);
    json_decref(call(200, "GET /api/sandboxes/%s/agent", NULL));
    start("{}", sid);
    json = call(201, "POST /api/sandboxes/%s/exec", "{\"cmd\":\"cat\"}");
    (void)snprintf(other, sizeof(other), "%s", text_of(json, "sessionID"));
    json_decref(json);

    json = call(200, "GET /api/sandboxes/%s/agent", NULL);
    assert_int_equal(json_array_size(json), 1);
    assert_string_equal(text_of(json_array_get(json, 0), "sessionID"), sid);
    assert_true(json_is_true(json_object_get(json_array_get(json, 0), "running")));
    json_decref(json);
    json = call(200, "GET /api/sandboxes/%s/exec", NULL);
    assert_int_equal(json_array_size(json), 3); /* with the run that wrote the wrapper */
    json_decref(json);

    op_fails(404, "agent session not found", other, "prompt", "{\"text\":\"x\"}");
    op_fails(404, "agent session not found", "nosuch", "interrupt", NULL);
    op_fails(404, "", other, "kill", "{}");
    op_fails(404, "", "no.such", "kill", "{}");
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%%s/agent/%s", sid);
    call_fails(426, "WebSocket", target, NULL);

    op(204, sid, "kill", "{\"signal\":15}");
    json = call(200, "GET /api/sandboxes/%s/agent", NULL);
    for (int i = 0; i < 1000 && json_is_true(json_object_get(json_array_get(json, 0), "running"));
         i++) {
        json_decref(json);
        run_for(&fix->loop, 10);
        json = call(200, "GET /api/sandboxes/%s/agent", NULL);
    }
    assert_int_equal(json_integer_value(json_object_get(json_array_get(json, 0), "exitCode")), 143);
    json_decref(json);
}

/* Without a key the wrapper ends before it reads: its client is to see why. */
static void test_agents_that_end_at_once_are_started_all_the_same(void **state)
{
    char sid[64];
    char *text;
    int exit_code;
    json_t *json;

    (void)state;
    write_wrapper("#!/bin/sh\\nexec 0<&-; echo no key; exit 1\\n");
    json = call(201, "POST /api/sandboxes/%s/agent", "{\"prompt\":\"x\"}");
    (void)snprintf(sid, sizeof(sid), "%s", text_of(json, "sessionID"));
    json_decref(json);
    text = watch("agent", sid, &exit_code);
    assert_string_equal(text, "no key\n");
    assert_int_equal(exit_code, 1);
    free(text);
}

static void test_agents_refusals(void **state)
{
    static const struct {
        const char *body;
        const char *part;
    } bad[] = {
        {"{", "not valid JSON"},
        {"[]", "object"},
        {"{\"prompt\":1}", "prompt must be a string"},
        {"{\"model\":[]}", "model must be a string"},
        {"{\"systemPrompt\":{}}", "systemPrompt"},
        {"{\"allowedTools\":\"Read\"}", "allowedTools"},
        {"{\"allowedTools\":[1]}", "allowedTools"},
        {"{\"maxTurns\":0}", "maxTurns"},
        {"{\"maxTurns\":\"5\"}", "maxTurns"},
        {"{\"mcpServers\":[]}", "mcpServers must be an object"},
        {"{\"mcpServers\":{\"a\":\"b\"}}", "mcpServers: 'a'"},
    };
    char sid[64];

    (void)state;
    call_fails(400, "has no program claude-agent-wrapper", "POST /api/sandboxes/%s/agent",
               "{\"prompt\":\"x\"}");
    write_wrapper(ECHO_WRAPPER);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        call_fails(400, bad[i].part, "POST /api/sandboxes/%s/agent", bad[i].body);
    }
    call_fails(404, "", "POST /api/sandboxes/sb-00000000/agent", "{}");
    start("{}", sid);
    op_fails(400, "text is required", sid, "prompt", "{}");
    op_fails(400, "text must be a string", sid, "prompt", "{\"text\":1}");
    op_fails(400, "nothing to configure", sid, "configure", "{\"prompt\":\"x\"}");
    op_fails(400, "maxTurns", sid, "configure", "{\"maxTurns\":-1}");
    op_fails(400, "signal", sid, "kill", "{\"signal\":99}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_agents_are_told_what_the_request_says),
        TEST(test_agents_without_anything_to_do),
        TEST(test_agents_long_prompts_arrive_whole),
        TEST(test_agents_are_listed_apart),
        TEST(test_agents_that_end_at_once_are_started_all_the_same),
        TEST(test_agents_refusals),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
