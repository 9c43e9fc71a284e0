/* What a command does to its caller: exit codes, output, timeouts, environment. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/io.h"
#include "tests/agent/fixture.h"

static void write_args(struct shl_mp_writer *w, const char *const *args)
{
    shl_mp_kv_array(w, "args");
    while (*args) {
        shl_mp_str(w, *args++);
    }
    shl_mp_end(w);
}

static void assert_exit(struct fixture *f, const char *cmd, int64_t want)
{
    struct fixture_result result;

    fixture_exec(f, cmd, NULL, &result);
    assert_int_equal(result.code, 0);
    assert_int_equal(result.exit_code, want);
    fixture_result_release(&result);
}

static void test_exec_exit_codes(void **state)
{
    struct fixture *f = *state;

    assert_exit(f, "true", 0);
    assert_exit(f, "false", 1);
    assert_exit(f, "exit 200", 200);
    assert_exit(f, "no-such-program-here", 127);
    assert_exit(f, "kill -9 $$", 128 + SIGKILL);
    assert_exit(f, "kill -TERM $$", 128 + SIGTERM);
    assert_exit(f, "kill -SEGV $$", 128 + SIGSEGV);
}

static void no_args(struct shl_mp_writer *w)
{
    static const char *const args[] = {"one", NULL};

    write_args(w, args);
}

/* With args the program is run directly; what the shell would say, the agent says. */
static void test_exec_missing_and_forbidden_programs(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(f, "no-such-program-here", no_args, &result);
    assert_int_equal(result.code, 0);
    assert_int_equal(result.exit_code, 127);
    ASSERT_BUF_EQ(&result.err, "no-such-program-here: command not found\n");
    fixture_result_release(&result);

    fixture_exec(f, "/no/such/program", no_args, &result);
    assert_int_equal(result.exit_code, 127);
    ASSERT_BUF_EQ(&result.err, "/no/such/program: No such file or directory\n");
    fixture_result_release(&result);

    fixture_exec(f, "/etc/passwd", no_args, &result);
    assert_int_equal(result.exit_code, 126);
    ASSERT_BUF_EQ(&result.err, "/etc/passwd: Permission denied\n");
    fixture_result_release(&result);

    fixture_exec(f, "/etc", no_args, &result);
    assert_int_equal(result.exit_code, 126);
    fixture_result_release(&result);
}

static void script_args(struct shl_mp_writer *w)
{
    static const char *const args[] = {"a b", "$HOME", NULL};

    write_args(w, args);
}

static void test_exec_args_are_not_seen_by_a_shell(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(f, "echo", script_args, &result);
    assert_int_equal(result.exit_code, 0);
    ASSERT_BUF_EQ(&result.out, "a b $HOME\n");
    fixture_result_release(&result);
}

static void test_exec_script_without_interpreter_line(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char path[128];

    fixture_exec(f, "printf 'echo \"script $1\"\\n' >s && chmod 755 s", NULL, &result);
    fixture_result_release(&result);
    (void)snprintf(path, sizeof(path), "%s/s", f->home);
    fixture_exec(f, path, script_args, &result);
    assert_int_equal(result.exit_code, 0);
    ASSERT_BUF_EQ(&result.out, "script a b\n");
    fixture_result_release(&result);
}

static void test_exec_separates_stdout_and_stderr(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(f, "echo out; echo err >&2; cat; echo end", NULL, &result); /* stdin is empty */
    assert_int_equal(result.exit_code, 0);
    ASSERT_BUF_EQ(&result.out, "out\nend\n");
    ASSERT_BUF_EQ(&result.err, "err\n");
    fixture_result_release(&result);
}

static void test_exec_has_its_own_session_and_clean_signals(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(f,
                 "test $(ps -o sid= -p $$) = $$ && grep -E '^Sig(Blk|Ign)' /proc/$$/status | "
                 "tr -d '\\t' && ls /proc/self/fd | tr '\\n' ' '",
                 NULL, &result);
    assert_int_equal(result.exit_code, 0);
    ASSERT_BUF_EQ(&result.out, "SigBlk:0000000000000000\nSigIgn:0000000000000000\n0 1 2 3 ");
    fixture_result_release(&result);
}

static void test_exec_large_output_is_complete(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    size_t i;

    fixture_exec(f, "head -c 5000000 /dev/zero | tr '\\0' x; seq 10000 >&2", NULL, &result);
    assert_int_equal(result.exit_code, 0);
    assert_false(result.truncated);
    assert_int_equal(shl_buf_len(&result.out), 5000000);
    for (i = 0; i < 5000000; i++) {
        if (shl_buf_data(&result.out)[i] != 'x') {
            fail_msg("byte %zu is wrong", i);
        }
    }
    assert_int_equal(shl_buf_len(&result.err), 48894);
    assert_memory_equal(shl_buf_data(&result.err) + 48894 - 6, "10000\n", 6);
    fixture_result_release(&result);
}

static void keep_1000(struct shl_mp_writer *w)
{
    shl_mp_kv_uint(w, "keep_bytes", 1000);
}

static void test_exec_output_over_the_limit_is_counted(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(f, "head -c 300000 /dev/zero; echo e >&2", keep_1000, &result);
    assert_int_equal(result.exit_code, 0);
    assert_true(result.truncated);
    assert_int_equal(shl_buf_len(&result.out), 1000);
    assert_int_equal(result.lost_stdout_bytes, 299000);
    ASSERT_BUF_EQ(&result.err, "e\n");
    fixture_result_release(&result);
}

static void limit_2000(struct shl_mp_writer *w)
{
    shl_mp_kv_uint(w, "timeout_ms", 2000);
}

static void limit_100(struct shl_mp_writer *w)
{
    shl_mp_kv_uint(w, "timeout_ms", 100);
}

static void test_exec_timeout_keeps_output_and_says_so(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(f, "echo partial; echo warn >&2; exec sleep 1000", limit_2000, &result);
    assert_int_equal(result.exit_code, -1);
    assert_true(result.timed_out);
    ASSERT_BUF_EQ(&result.out, "partial\n");
    ASSERT_BUF_EQ(&result.err, "warn\nProcess timed out\n");
    fixture_result_release(&result);
}

/* SIGTERM is not enough for this one, and its children are of its group. */
static void test_exec_timeout_kills_the_whole_group(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(f,
                 "trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000' & echo $! >pid; wait; sleep 99",
                 limit_100, &result);
    assert_int_equal(result.exit_code, -1);
    fixture_result_release(&result);
    fixture_exec(
        f, "for i in $(seq 500); do kill -0 $(cat pid) 2>/dev/null || exit 7; sleep 0.01; done",
        NULL, &result);
    assert_int_equal(result.exit_code, 7);
    fixture_result_release(&result);
}

static void test_exec_timeout_leaves_other_sessions_alone(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "other", "sleep 1000", NULL, msg), 0);
    fixture_exec(f, "sleep 1000", limit_100, &result);
    assert_int_equal(result.exit_code, -1);
    fixture_result_release(&result);
    fixture_exec_result(f, "other", 0, &result);
    assert_true(result.running);
    fixture_result_release(&result);
}

/* A server that is left in the background keeps stdout open: the call ends all the
 * same, and the server can go on writing to its log. */
static void test_exec_background_child_does_not_hold_the_result(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;

    fixture_exec(
        f,
        "(while [ ! -e stop ]; do echo noise || exit 9; sleep 0.01; done; echo fine >ok) & "
        "echo started",
        NULL, &result);
    assert_int_equal(result.exit_code, 0);
    assert_memory_equal(shl_buf_data(&result.out), "started\n", 8);
    fixture_result_release(&result);
    fixture_exec(
        f, "sleep 0.3; touch stop; for i in $(seq 1000); do [ -e ok ] && exit 5; sleep 0.01; done",
        NULL, &result);
    assert_int_equal(result.exit_code, 5);
    fixture_result_release(&result);
}

static void with_envs(struct shl_mp_writer *w)
{
    shl_mp_kv_map(w, "envs");
    shl_mp_kv_str(w, "B", "call");
    shl_mp_kv_str(w, "PATH", "/usr/bin:/bin:/extra");
    shl_mp_end(w);
}

static void set_up_env(struct fixture *f, const char *a, const char *b)
{
    struct client_call call;

    client_begin(&f->client, &call, "setup");
    shl_mp_kv_map(&call.w, "env");
    shl_mp_kv_str(&call.w, "A", a);
    shl_mp_kv_str(&call.w, "B", b);
    shl_mp_kv_str(&call.w, "LANG", "xx");
    shl_mp_end(&call.w);
    shl_mp_kv_str(&call.w, "sandbox", "sb-1");
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
}

static void test_exec_environment_precedence(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char want[256];

    set_up_env(f, "setup", "setup");
    fixture_exec(f,
                 "echo $A $B $LANG $PATH $HOME $USER $LOGNAME $IS_SANDBOX $SHOAL_SANDBOX_ID $TERM",
                 with_envs, &result);
    (void)snprintf(want, sizeof(want),
                   "setup call xx /usr/bin:/bin:/extra %s sandbox sandbox 1 sb-1\n", f->home);
    ASSERT_BUF_EQ(&result.out, want);
    fixture_result_release(&result);
    /* A second setup replaces the environment of the first. */
    set_up_env(f, "again", "again");
    fixture_exec(f, "echo $A $B", NULL, &result);
    ASSERT_BUF_EQ(&result.out, "again again\n");
    fixture_result_release(&result);
}

static void set_up_cwd(struct fixture *f, const char *cwd, int code)
{
    struct client_call call;

    client_begin(&f->client, &call, "setup");
    shl_mp_kv_str(&call.w, "cwd", cwd);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), code);
    client_call_release(&call);
}

static void test_exec_starts_where_setup_says(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char home[256];

    set_up_cwd(f, "/usr", 0);
    fixture_exec(f, "pwd", NULL, &result);
    ASSERT_BUF_EQ(&result.out, "/usr\n");
    fixture_result_release(&result);
    /* one that is gone */
    set_up_cwd(f, "/no/such/dir", 0);
    fixture_exec(f, "pwd", NULL, &result);
    (void)snprintf(home, sizeof(home), "%s\n", f->home);
    ASSERT_BUF_EQ(&result.out, home);
    fixture_result_release(&result);
    set_up_cwd(f, "relative", SHL_EINVALIDARG);
    set_up_cwd(f, "", 0);
    fixture_exec(f, "pwd", NULL, &result);
    ASSERT_BUF_EQ(&result.out, home);
    fixture_result_release(&result);
}

static void cwd_sub(struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "cwd", "sub");
}

static void cwd_missing(struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "cwd", "/no/such/dir");
}

static void cwd_file(struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "cwd", "/etc/passwd");
}

static void test_exec_working_directory(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char want[128], msg[256];

    fixture_exec(f, "pwd; mkdir sub", NULL, &result);
    (void)snprintf(want, sizeof(want), "%s\n", f->home);
    ASSERT_BUF_EQ(&result.out, want);
    fixture_result_release(&result);
    fixture_exec(f, "pwd", cwd_sub, &result);
    (void)snprintf(want, sizeof(want), "%s/sub\n", f->home);
    ASSERT_BUF_EQ(&result.out, want);
    fixture_result_release(&result);
    assert_int_equal(fixture_exec_start(f, "x1", "pwd", cwd_missing, msg), SHL_EINVALIDARG);
    assert_string_equal(msg, "cwd does not exist: /no/such/dir");
    assert_int_equal(fixture_exec_start(f, "x2", "pwd", cwd_file, msg), SHL_EINVALIDARG);
    assert_string_equal(msg, "cwd is not a directory: /etc/passwd");
    fixture_exec_result(f, "x1", 0, &result);
    assert_int_equal(result.code, SHL_ENOTFOUND);
}

static void stdin_pipe(struct shl_mp_writer *w)
{
    shl_mp_kv_bool(w, "pipe_stdin", true);
}

static void kill_session(struct fixture *f, const char *session, int signal, int want)
{
    struct client_call call;

    client_begin(&f->client, &call, "exec.kill");
    shl_mp_kv_str(&call.w, "session", session);
    shl_mp_kv_int(&call.w, "signal", signal);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), want);
    client_call_release(&call);
}

static void test_exec_kill_reaches_the_group(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "k", "sleep 1000 | cat", NULL, msg), 0);
    kill_session(f, "k", SIGTERM, 0);
    fixture_exec_result(f, "k", FIXTURE_WAIT_MS, &result);
    assert_false(result.running);
    assert_int_equal(result.exit_code, 128 + SIGTERM);
    fixture_result_release(&result);
    kill_session(f, "k", SIGTERM, 0); /* ended: fine */
    kill_session(f, "k", 0, SHL_EINVALIDARG);
    kill_session(f, "k", 65, SHL_EINVALIDARG);
    kill_session(f, "unknown", SIGTERM, SHL_ENOTFOUND);
}

static void test_exec_stdin_pipe_stays_open(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "in", "cat", stdin_pipe, msg), 0);
    fixture_exec_result(f, "in", 50, &result);
    assert_true(result.running);
    fixture_result_release(&result);
    kill_session(f, "in", SIGKILL, 0);
    fixture_exec_result(f, "in", FIXTURE_WAIT_MS, &result);
    assert_int_equal(result.exit_code, 128 + SIGKILL);
    fixture_result_release(&result);
}

static void test_exec_same_id_is_a_conflict(void **state)
{
    struct fixture *f = *state;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "same", "true", NULL, msg), 0);
    assert_int_equal(fixture_exec_start(f, "same", "true", NULL, msg), SHL_ECONFLICT);
}

static void test_exec_many_at_once(void **state)
{
    struct fixture *f = *state;
    struct client_call calls[10];
    struct fixture_result result;
    char id[16];
    int i;

    for (i = 0; i < 10; i++) {
        (void)snprintf(id, sizeof(id), "p%d", i);
        client_begin(&f->client, &calls[i], "exec.start");
        shl_mp_kv_str(&calls[i].w, "session", id);
        shl_mp_kv_str(&calls[i].w, "cmd", "seq 20000; exit $((RANDOM % 1 + 3))");
        client_send(&calls[i]);
    }
    for (i = 0; i < 10; i++) {
        assert_int_equal(client_wait(&calls[i], FIXTURE_WAIT_MS), 0);
        assert_true(client_int(&calls[i].response, "pid") > 1);
        assert_true(client_int(&calls[i].response, "started_at_ms") > 1500000000000);
        client_call_release(&calls[i]);
    }
    for (i = 0; i < 10; i++) {
        (void)snprintf(id, sizeof(id), "p%d", i);
        fixture_exec_result(f, id, FIXTURE_WAIT_MS, &result);
        assert_int_equal(result.exit_code, 3);
        assert_int_equal(shl_buf_len(&result.out), 108894);
        fixture_result_release(&result);
    }
}

/* Two readers of one result, and the result stays for a third. */
static void test_exec_result_can_be_read_again(void **state)
{
    struct fixture *f = *state;
    struct client_call calls[2];
    struct fixture_result result;
    char msg[256];
    int i;

    assert_int_equal(fixture_exec_start(f, "r", "seq 50000", NULL, msg), 0);
    for (i = 0; i < 2; i++) {
        client_begin(&f->client, &calls[i], "exec.result");
        shl_mp_kv_str(&calls[i].w, "session", "r");
        shl_mp_kv_uint(&calls[i].w, "wait_ms", FIXTURE_WAIT_MS);
        client_send(&calls[i]);
    }
    for (i = 0; i < 2; i++) {
        assert_int_equal(client_wait(&calls[i], FIXTURE_WAIT_MS), 0);
        assert_int_equal(calls[i].data_bytes[AGENT_CHANNEL_OUT], 288894);
        client_call_release(&calls[i]);
    }
    fixture_exec_result(f, "r", 0, &result);
    assert_int_equal(shl_buf_len(&result.out), 288894);
    fixture_result_release(&result);
}

static void test_exec_list_shows_running_and_ended(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    struct client_call call;
    struct shl_mp_doc doc;
    char msg[256], text[64];
    size_t used;

    fixture_exec(f, "exit 4", NULL, &result);
    fixture_result_release(&result);
    assert_int_equal(fixture_exec_start(f, "run", "sleep 1000", NULL, msg), 0);
    client_begin(&f->client, &call, "exec.list");
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    assert_int_equal(shl_mp_parse_first(&doc, shl_buf_bytes(&call.data[0]), &used), 0);
    assert_false(client_bool(&doc, "running"));
    assert_int_equal(client_int(&doc, "exit_code"), 4);
    assert_int_equal(shl_mp_get_cpy(doc.root, "cmd", text, sizeof(text)), 0);
    assert_string_equal(text, "exit 4");
    shl_mp_release(&doc);
    shl_buf_consume(&call.data[0], used);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&call.data[0])), 0);
    assert_true(client_bool(&doc, "running"));
    assert_null(shl_mp_find(doc.root, "exit_code"));
    assert_int_equal(shl_mp_find(doc.root, "args")->type, MSGPACK_OBJECT_ARRAY);
    shl_mp_release(&doc);
    client_call_release(&call);
}

static void user_root(struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "user", "root");
}

static void user_unknown(struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "user", "nobody-of-that-name");
}

static void user_nobody(struct shl_mp_writer *w)
{
    shl_mp_kv_str(w, "user", "nobody");
    shl_mp_kv_str(w, "cwd", "/");
}

static void test_exec_as_another_user(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "u", "id", user_unknown, msg), SHL_EINVALIDARG);
    if (geteuid() != 0) {
        assert_int_equal(fixture_exec_start(f, "v", "id", user_root, msg), SHL_EFORBIDDEN);
        return;
    }
    fixture_exec(f, "id -un; echo $HOME", user_root, &result);
    ASSERT_BUF_EQ(&result.out, "root\n/root\n");
    fixture_result_release(&result);
    fixture_exec(f, "id -un; id -Gn; grep CapEff /proc/self/status | cut -f2", user_nobody,
                 &result);
    ASSERT_BUF_EQ(&result.out, "nobody\nnogroup\n0000000000000000\n");
    fixture_result_release(&result);
}

static int setup_small(void **state)
{
    static const char *const options[] = {"--output-bytes", "300000", "--sessions", "4", NULL};

    return fixture_start(state, options);
}

/* The oldest finished output goes first; a running command with too much is cut. */
static void test_exec_output_budget_evicts_the_oldest(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];
    int i;

    for (i = 0; i < 3; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "b%d", i);
        assert_int_equal(
            fixture_exec_start(f, id, "head -c 120000 /dev/zero | cat; exit 2", NULL, msg), 0);
        fixture_exec_result(f, id, FIXTURE_WAIT_MS, &result);
        assert_int_equal(shl_buf_len(&result.out), 120000);
        fixture_result_release(&result);
    }
    fixture_exec_result(f, "b0", 0, &result);
    assert_int_equal(result.exit_code, 2); /* known, though the output is gone */
    assert_true(result.truncated);
    assert_int_equal(result.lost_stdout_bytes, 120000);
    assert_int_equal(shl_buf_len(&result.out), 0);
    fixture_result_release(&result);
    fixture_exec_result(f, "b2", 0, &result);
    assert_false(result.truncated);
    fixture_result_release(&result);
    fixture_exec(f, "head -c 1000000 /dev/zero", NULL, &result);
    assert_true(result.truncated);
    assert_int_equal(shl_buf_len(&result.out) + result.lost_stdout_bytes, 1000000);
    assert_true(shl_buf_len(&result.out) > 100000);
    fixture_result_release(&result);
}

static void test_exec_session_table_is_bounded(void **state)
{
    struct fixture *f = *state;
    char msg[256], id[16];
    int i;

    for (i = 0; i < 20; i++) {
        struct fixture_result result;

        fixture_exec(f, "true", NULL, &result); /* the oldest makes room */
        assert_int_equal(result.code, 0);
        fixture_result_release(&result);
    }
    for (i = 0; i < 4; i++) {
        (void)snprintf(id, sizeof(id), "run%d", i);
        assert_int_equal(fixture_exec_start(f, id, "sleep 1000", NULL, msg), 0);
    }
    assert_int_equal(fixture_exec_start(f, "more", "true", NULL, msg), SHL_EQUOTA);
    kill_session(f, "run0", SIGKILL, 0);
}

static int setup_forgetful(void **state)
{
    static const char *const options[] = {"--retain-ms", "50", NULL};

    return fixture_start(state, options);
}

static void test_exec_result_is_forgotten_in_the_end(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];
    int tries = 0;

    assert_int_equal(fixture_exec_start(f, "old", "true", NULL, msg), 0);
    do {
        usleep(20000);
        fixture_exec_result(f, "old", 0, &result);
        fixture_result_release(&result);
    } while (result.code == 0 && tries++ < 1000);
    assert_int_equal(result.code, SHL_ENOTFOUND);
}

static int setup_impatient(void **state)
{
    static const char *const options[] = {"--first-client-ms", "50", NULL};

    return fixture_start(state, options);
}

static void fill_ring(struct shl_mp_writer *w)
{
    shl_mp_kv_uint(w, "ring_bytes", AGENT_RING_MIN_BYTES);
}

/* A ring that nobody ever watches holds its program up for a while, not for ever. */
static void test_exec_ring_does_not_wait_for_ever(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "ring", "seq 1 200000", fill_ring, msg), 0);
    fixture_exec_result(f, "ring", FIXTURE_WAIT_MS, &result);
    assert_int_equal(result.code, 0);
    assert_false(result.running);
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(shl_buf_len(&result.out) + result.lost_stdout_bytes, 1288895);
    assert_true(shl_buf_len(&result.out) <= AGENT_RING_MIN_BYTES);
    fixture_result_release(&result);
}

/* One whose first client may still come keeps everything that far. */
static void test_exec_ring_waits_for_its_first_client(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "ring", "seq 1 200000", fill_ring, msg), 0);
    fixture_exec_result(f, "ring", 500, &result);
    assert_int_equal(result.code, 0);
    assert_true(result.running);
    assert_int_equal(result.lost_stdout_bytes, 0);
    fixture_result_release(&result);
    kill_session(f, "ring", SIGKILL, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_exec_exit_codes),
        TEST(test_exec_missing_and_forbidden_programs),
        TEST(test_exec_args_are_not_seen_by_a_shell),
        TEST(test_exec_script_without_interpreter_line),
        TEST(test_exec_separates_stdout_and_stderr),
        TEST(test_exec_has_its_own_session_and_clean_signals),
        TEST(test_exec_large_output_is_complete),
        TEST(test_exec_output_over_the_limit_is_counted),
        TEST(test_exec_timeout_keeps_output_and_says_so),
        TEST(test_exec_timeout_kills_the_whole_group),
        TEST(test_exec_timeout_leaves_other_sessions_alone),
        TEST(test_exec_background_child_does_not_hold_the_result),
        TEST(test_exec_environment_precedence),
        TEST(test_exec_starts_where_setup_says),
        TEST(test_exec_working_directory),
        TEST(test_exec_kill_reaches_the_group),
        TEST(test_exec_stdin_pipe_stays_open),
        TEST(test_exec_same_id_is_a_conflict),
        TEST(test_exec_many_at_once),
        TEST(test_exec_result_can_be_read_again),
        TEST(test_exec_list_shows_running_and_ended),
        TEST(test_exec_as_another_user),
        cmocka_unit_test_setup_teardown(test_exec_output_budget_evicts_the_oldest, setup_small,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_exec_session_table_is_bounded, setup_small,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_exec_result_is_forgotten_in_the_end, setup_forgetful,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_exec_ring_does_not_wait_for_ever, setup_impatient,
                                        fixture_teardown),
        TEST(test_exec_ring_waits_for_its_first_client),
    };

    return cmocka_run_group_tests_name("agent/exec", tests, NULL, NULL);
}
