/* `shoal agent` in front of the real server and the real agent program. In place of the wrapper is
 * agent_stub.sh, which prints the wrapper's events without a model. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/client/live.h"

#define CONVERSATION "11111111-2222-4333-8444-555555555555"
#define SAID         "first line\nsecond ?]0;x?l?ine\n"

static void put_stub(void)
{
    json_t *json = call(200, "POST /api/sandboxes/%s/exec/run",
                        "{\"cmd\":\"cp\",\"args\":[\"" STUB_PATH "\",\"claude-agent-wrapper\"]}");

    assert_int_equal(json_integer_value(json_object_get(json, "exitCode")), 0);
    json_decref(json);
}

static void begin(struct live *live, const char *const *args)
{
    live_start(live, args);
    live_close_input(live);
}

/* Ends @live. @out NULL: anything. */
static void end(struct live *live, int code, const char *out, const char *err_part)
{
    live_finish(live);
    if (live->code != code || (*err_part && !live_has(&live->err_text, err_part)) ||
        (out && (shl_buf_len(&live->out_text) != strlen(out) ||
                 (*out && memcmp(shl_buf_data(&live->out_text), out, strlen(out)) != 0)))) {
        fail_msg("%d\n%.*s\n%.*s\nand not %d\n%s\n%s", live->code,
                 (int)shl_buf_len(&live->out_text), (char *)shl_buf_data(&live->out_text),
                 (int)shl_buf_len(&live->err_text), (char *)shl_buf_data(&live->err_text), code,
                 out ? out : "", err_part);
    }
    live_release(live);
}

static void until_said(struct live *live, const char *text)
{
    while (!live_has(&live->err_text, text)) {
        assert_false(live->is_ended);
        live_turn(live);
    }
}

#define RUN(code, out, err_part, ...)                            \
    do {                                                         \
        struct live live_;                                       \
        begin(&live_, (const char *const[]){__VA_ARGS__, NULL}); \
        end(&live_, code, out, err_part);                        \
    } while (0)

static void test_agent_start_shows_what_it_says_and_does(void **state)
{
    struct live live;

    (void)state;
    put_stub();
    begin(&live, (const char *const[]){"agent", "start", fix->id, "do it", NULL});
    live_finish(&live);
    assert_true(live_has(&live.err_text, "the log of the wrapper\n"));
    assert_true(live_has(&live.err_text, "> Bash: ls ?[2J ...\n  a.c ...\n"));
    end(&live, 0, SAID, "--resume " CONVERSATION "\n");
    /* through a pipe, and quiet */
    live_start(&live, (const char *const[]){"agent", "-q", "start", fix->id, NULL});
    live_write(&live, "do it\n", 6);
    live_close_input(&live);
    live_finish(&live);
    assert_int_equal(shl_buf_len(&live.err_text), 0);
    end(&live, 0, SAID, "");
    live_start(&live, (const char *const[]){"agent", "start", fix->id, "-", NULL});
    live_write(&live, "do it", 5);
    live_close_input(&live);
    end(&live, 0, SAID, "");
    /* the sessions have ended in an orderly way */
    begin(&live, (const char *const[]){"agent", "ls", fix->id, "--json", NULL});
    live_finish(&live);
    assert_true(live_has(&live.out_text, "\"exitCode\""));
    assert_false(live_has(&live.out_text, "\"exitCode\": 1"));
    assert_false(live_has(&live.out_text, "\"running\": true"));
    end(&live, 0, NULL, "");
}

static void test_agent_start_configures(void **state)
{
    (void)state;
    put_stub();
    RUN(0, SAID,
        "configured with {\"type\":\"configure\",\"model\":\"m\",\"systemPrompt\":\"s\","
        "\"permissionMode\":\"plan\",\"cwd\":\"/tmp\",\"resume\":\"r\","
        "\"allowedTools\":[\"Read\",\"Bash(a=b)\"],\"maxTurns\":3}\n",
        "agent", "start", fix->id, "do it", "--model", "m", "--system", "s", "--mode", "plan",
        "--cwd", "/tmp", "--resume", "r", "--tool", "Read", "--tool", "Bash(a=b)", "--max-turns",
        "3");
    RUN(125, "", "line 1", "agent", "start", fix->id, "do it", "--mcp", "/etc/passwd");
    RUN(125, "", "/no/such/file cannot be read", "agent", "start", fix->id, "x", "--mcp",
        "/no/such/file");
    RUN(125, "", "1000000", "agent", "start", fix->id, "x", "--max-turns", "0");
}

static void test_agent_json_is_the_events(void **state)
{
    (void)state;
    put_stub();
    RUN(1,
        "{\"type\":\"ready\"}\n"
        "{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":true}\n"
        "{\"type\":\"error\",\"message\":\"it went\\u001b[31m wrong\"}\n"
        "{\"type\":\"turn_complete\",\"claude_session_id\":\"" CONVERSATION "\"}\n",
        "", "agent", "start", fix->id, "fail", "--json");
}

static void test_agent_failures(void **state)
{
    (void)state;
    RUN(125, "", "has no program claude-agent-wrapper", "agent", "start", fix->id, "x");
    put_stub();
    RUN(1, "", "shoal: the agent: it went?[31m wrong\n", "agent", "start", fix->id, "fail");
    RUN(1, "", "shoal: the agent: ANTHROPIC_API_KEY is not set\n", "agent", "start", fix->id,
        "die");
    RUN(0, "\n", "? a line that is no event\n", "agent", "start", fix->id, "odd");
    RUN(125, "", "did you mean start", "agent", "stat", fix->id);
    RUN(125, "", "attach takes a sandbox and a session", "agent", "attach", fix->id);
    RUN(125, "", "ls takes no such flags", "agent", "-d", "ls", fix->id);
    RUN(125, "", "agent session not found", "agent", "prompt", fix->id, "nosuch", "x");
    RUN(125, "", "sandbox not found", "agent", "ls", "sb-00000000");
}

static void test_agent_ctrl_c_interrupts_then_ends(void **state)
{
    struct live live;

    (void)state;
    put_stub();
    begin(&live, (const char *const[]){"agent", "start", fix->id, "hang", NULL});
    live_until(&live, "waiting");
    assert_int_equal(kill(live.pid, SIGINT), 0);
    end(&live, 130, "waiting\n", "interrupted\n");
    /* one that does not listen */
    begin(&live, (const char *const[]){"agent", "start", fix->id, "deaf", NULL});
    live_until(&live, "deaf");
    while (!live.is_ended) {
        assert_int_equal(kill(live.pid, SIGINT), 0);
        live_turn(&live);
    }
    end(&live, 130, "deaf\n", "");
}

/* A server that says nothing more keeps nobody. */
static void test_agent_ctrl_c_leaves_a_silent_server(void **state)
{
    siginfo_t info = {.si_pid = 0};
    struct live live;

    (void)state;
    put_stub();
    begin(&live, (const char *const[]){"agent", "start", fix->id, "hang", NULL});
    live_until(&live, "waiting");
    while (info.si_pid == 0) { /* without a turn of the server */
        assert_int_equal(kill(live.pid, SIGINT), 0);
        (void)usleep(10000);
        assert_int_equal(waitid(P_PID, (id_t)live.pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    }
    end(&live, 130, "waiting\n", "left it running; `shoal agent attach");
}

static void test_agent_sessions_of_their_own(void **state)
{
    struct live live;
    char sid[64];

    (void)state;
    put_stub();
    begin(&live, (const char *const[]){"agent", "start", "--detach", fix->id, NULL});
    live_finish(&live);
    (void)snprintf(sid, sizeof(sid), "%.*s",
                   (int)strcspn((char *)shl_buf_data(&live.out_text), "\n"),
                   (char *)shl_buf_data(&live.out_text));
    end(&live, 0, NULL, "");
    RUN(0, "", "", "agent", "prompt", fix->id, sid, "hang");
    /* whoever attaches sees it from its beginning, and leaves it running */
    begin(&live, (const char *const[]){"agent", "attach", fix->id, sid, NULL});
    live_until(&live, "waiting");
    RUN(0, "", "", "agent", "interrupt", fix->id, sid);
    until_said(&live, "interrupted");
    assert_int_equal(kill(live.pid, SIGINT), 0);
    end(&live, 130, "waiting\n", "left it running; `shoal agent attach");
    RUN(0, "", "", "agent", "prompt", fix->id, sid, "again");
    begin(&live, (const char *const[]){"agent", "attach", fix->id, sid, NULL});
    live_until(&live, "second");
    RUN(0, "", "", "agent", "kill", fix->id, sid);
    end(&live, 1, "waiting\n" SAID, "");
    begin(&live, (const char *const[]){"agent", "ls", "-q", fix->id, NULL});
    live_until(&live, sid);
    end(&live, 0, NULL, "");
}

static void test_agent_prompts_are_typed(void **state)
{
    struct live live;

    (void)state;
    put_stub();
    live_start_terminal(&live, 80, 24, (const char *const[]){"agent", "start", fix->id, NULL});
    live_until(&live, "> ");
    live_write(&live, "do it\n", 6);
    live_until(&live, "second");
    live_write(&live, "\nhang\n", 6);
    live_until(&live, "waiting");
    live_write(&live, "\x03", 1);
    live_until(&live, "interrupted");
    live_write(&live, "\x04", 1);
    live_until(&live, "--resume " CONVERSATION);
    live_finish(&live);
    assert_int_equal(live.code, 130);
    live_release(&live);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_agent_start_shows_what_it_says_and_does),
        TEST(test_agent_start_configures),
        TEST(test_agent_json_is_the_events),
        TEST(test_agent_failures),
        TEST(test_agent_ctrl_c_interrupts_then_ends),
        TEST(test_agent_ctrl_c_leaves_a_silent_server),
        TEST(test_agent_sessions_of_their_own),
        TEST(test_agent_prompts_are_typed),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
