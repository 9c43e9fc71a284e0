/* Input of clients that do not stay (exec.input), programs that must be there, and the view of
 * sessions of one command alone. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/io.h"
#include "tests/agent/fixture.h"

#define BIG (300u * 1024) /* more than a pipe takes */

static void with_stdin(struct shl_mp_writer *w)
{
    shl_mp_kv_bool(w, "pipe_stdin", true);
}

static void start(struct fixture *f, const char *session, const char *cmd)
{
    char msg[256];

    assert_int_equal(fixture_exec_start(f, session, cmd, with_stdin, msg), 0);
}

static void begin(struct fixture *f, struct client_call *call, const char *session)
{
    client_begin(&f->client, call, "exec.input");
    shl_mp_kv_str(&call->w, "session", session);
    client_send(call);
}

static void send_all(struct client_call *call, const char *data, size_t len)
{
    size_t sent = 0;

    while (sent < len && !call->done) {
        sent += client_send_data(call, shl_bytes_of(data + sent, len - sent));
        assert_int_equal(client_pump(call->client, FIXTURE_WAIT_MS), 0);
    }
}

static void send_end(struct client_call *call)
{
    client_send_frame(call->client, AGENT_FRAME_EOF, call->stream, shl_bytes_of(NULL, 0));
}

static int finish(struct client_call *call, char msg[256])
{
    int rc = client_wait(call, FIXTURE_WAIT_MS);

    (void)client_msg(call, msg, 256);
    client_call_release(call);
    return rc;
}

static int input(struct fixture *f,
                 const char *session,
                 const char *data,
                 size_t len,
                 char msg[256])
{
    struct client_call call;

    begin(f, &call, session);
    send_all(&call, data, len);
    if (!call.done) {
        send_end(&call);
    }
    return finish(&call, msg);
}

static void output_is(struct fixture *f, const char *session, const char *want)
{
    struct fixture_result result;

    fixture_exec_result(f, session, FIXTURE_WAIT_MS, &result);
    assert_false(result.running);
    ASSERT_BUF_EQ(&result.out, want);
    fixture_result_release(&result);
}

static void test_input_reaches_the_program(void **state)
{
    struct fixture *f = *state;
    char msg[256];

    start(f, "s", "read a; read b; echo \"$b then $a\"");
    assert_int_equal(input(f, "s", "one\n", 4, msg), 0);
    assert_int_equal(input(f, "s", "", 0, msg), 0); /* is no end */
    assert_int_equal(input(f, "s", "two\n", 4, msg), 0);
    output_is(f, "s", "two then one\n");
}

/* While the pipe is full everybody waits in turn, clients that stay included. */
static void test_input_nothing_comes_between(void **state)
{
    struct fixture *f = *state;
    struct client_call first;
    struct client_call attached;
    struct client_call last;
    struct fixture_result result;
    char *big = malloc(BIG);
    char path[128];
    char msg[256];
    FILE *go;

    assert_non_null(big);
    memset(big, 'a', BIG);
    start(f, "s", "while [ ! -e go ]; do sleep 0.02; done; head -c 307206 | tr -s a | head -c 100");
    begin(f, &first, "s");
    send_all(&first, big, BIG);
    send_end(&first);
    client_begin(&f->client, &attached, "exec.attach");
    shl_mp_kv_str(&attached.w, "session", "s");
    client_send(&attached);
    send_all(&attached, "bbb", 3);
    begin(f, &last, "s");
    send_all(&last, "ccc", 3);
    send_end(&last);
    (void)snprintf(path, sizeof(path), "%s/go", f->home);
    go = fopen(path, "w");
    assert_non_null(go);
    (void)fclose(go);
    assert_int_equal(finish(&first, msg), 0);
    assert_int_equal(finish(&last, msg), 0);
    fixture_exec_result(f, "s", FIXTURE_WAIT_MS, &result);
    assert_int_equal(result.exit_code, 0);
    ASSERT_BUF_EQ(&result.out, "abbbccc");
    fixture_result_release(&result);
    assert_int_equal(client_wait(&attached, FIXTURE_WAIT_MS), 0);
    client_call_release(&attached);
    free(big);
}

static void test_input_of_a_node_that_left_is_whole_or_nothing(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    char msg[256];

    start(f, "s", "read a; echo got $a");
    begin(f, &call, "s");
    send_all(&call, "half of", 7);
    client_send_frame(&f->client, AGENT_FRAME_CANCEL, call.stream, shl_bytes_of(NULL, 0));
    assert_int_equal(finish(&call, msg), -ECANCELED);
    assert_int_equal(input(f, "s", "it\n", 3, msg), 0);
    output_is(f, "s", "got it\n");
}

static void test_input_that_nobody_reads(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    struct client_call kill_call;
    char *big = calloc(1, AGENT_INPUT_MAX + 1);
    char msg[256];

    assert_non_null(big);
    assert_int_equal(input(f, "nosuch", "x", 1, msg), SHL_ENOTFOUND);
    assert_int_equal(fixture_exec_start(f, "deaf", "sleep 600", NULL, msg), 0);
    assert_int_equal(input(f, "deaf", "x", 1, msg), SHL_EBADSTATE);
    assert_string_equal(msg, "its program has ended or reads no input");

    start(f, "s", "sleep 600");
    assert_int_equal(input(f, "s", big, AGENT_INPUT_MAX + 1, msg), SHL_ELIMIT);
    begin(f, &call, "s"); /* waits for a place in the pipe, until the program has ended */
    send_all(&call, big, AGENT_INPUT_MAX);
    send_end(&call);
    client_begin(&f->client, &kill_call, "exec.kill");
    shl_mp_kv_str(&kill_call.w, "session", "s");
    shl_mp_kv_int(&kill_call.w, "signal", SIGKILL);
    assert_int_equal(client_run(&kill_call, FIXTURE_WAIT_MS), 0);
    client_call_release(&kill_call);
    assert_int_equal(finish(&call, msg), SHL_EBADSTATE);
    assert_int_equal(input(f, "s", "x", 1, msg), SHL_EBADSTATE);
    free(big);
}

static void as_program(struct shl_mp_writer *w)
{
    with_stdin(w);
    shl_mp_kv_bool(w, "program", true);
}

static void test_input_program_must_be_there(void **state)
{
    struct fixture *f = *state;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "s", "no-such-program", as_program, msg), SHL_ENOTFOUND);
    assert_string_equal(msg, "there is no program no-such-program in the sandbox");
    assert_int_equal(fixture_exec_start(f, "s", "cat; true", as_program, msg), SHL_ENOTFOUND);
    assert_int_equal(fixture_exec_start(f, "s", "/etc/passwd", as_program, msg), SHL_EBADSTATE);
    assert_string_equal(msg, "the program /etc/passwd cannot be executed: Permission denied");
    assert_int_equal(fixture_exec_start(f, "s", "pwd", as_program, msg), 0); /* the id is free */
}

static int only(struct fixture *f, const char *op, const char *cmd, char msg[256])
{
    struct client_call call;

    client_begin(&f->client, &call, op);
    shl_mp_kv_str(&call.w, "session", "s");
    shl_mp_kv_int(&call.w, "signal", SIGKILL);
    shl_mp_kv_str(&call.w, "only", cmd);
    client_send(&call);
    if (strcmp(op, "exec.input") == 0) {
        send_end(&call);
    }
    return finish(&call, msg);
}

static size_t listed(struct fixture *f, const char *cmd)
{
    struct client_call call;
    size_t len;

    client_begin(&f->client, &call, "exec.list");
    shl_mp_kv_str(&call.w, "only", cmd);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    len = shl_buf_len(&call.data[AGENT_CHANNEL_RAW]);
    client_call_release(&call);
    return len;
}

static void test_input_only_sessions_of_a_command(void **state)
{
    struct fixture *f = *state;
    char msg[256];

    start(f, "s", "cat");
    assert_int_equal(only(f, "exec.input", "ca", msg), SHL_ENOTFOUND);
    assert_string_equal(msg, "there is no session 's'");
    assert_int_equal(only(f, "exec.kill", "cat ", msg), SHL_ENOTFOUND);
    assert_int_equal(only(f, "exec.attach", "dog", msg), SHL_ENOTFOUND);
    assert_int_equal(listed(f, "dog"), 0);
    assert_true(listed(f, "cat") > 0);
    assert_int_equal(only(f, "exec.input", "cat", msg), 0);
    assert_int_equal(only(f, "exec.kill", "cat", msg), 0);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_input_reaches_the_program),
        TEST(test_input_nothing_comes_between),
        TEST(test_input_of_a_node_that_left_is_whole_or_nothing),
        TEST(test_input_that_nobody_reads),
        TEST(test_input_program_must_be_there),
        TEST(test_input_only_sessions_of_a_command),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("agent/input", tests, NULL, NULL);
}
