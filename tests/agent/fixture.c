#include "tests/agent/fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"

#define OPTIONS_MAX 16
#define AGENT_FD    3

static void run_agent(int fd, const char *home, const char *const *options)
{
    const char *argv[OPTIONS_MAX + 6] = {AGENT_PROGRAM, "--serve", "3", "--home", home};
    int count = 5;

    while (*options && count < OPTIONS_MAX + 5) {
        argv[count++] = *options++;
    }
    if (fd == AGENT_FD) {
        (void)fcntl(fd, F_SETFD, 0);
    } else {
        (void)dup2(fd, AGENT_FD);
    }
    (void)execv(AGENT_PROGRAM, (char *const *)argv);
    _exit(99);
}

int fixture_start(void **state, const char *const *options)
{
    struct fixture *f = calloc(1, sizeof(*f));
    int fds[2];

    assert_non_null(f);
    (void)signal(SIGPIPE, SIG_IGN);
    strcpy(f->home, "/tmp/shoal-agent-XXXXXX");
    assert_non_null(mkdtemp(f->home));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    f->pid = fork();
    assert_true(f->pid >= 0);
    if (f->pid == 0) {
        run_agent(fds[1], f->home, options);
    }
    (void)close(fds[1]);
    client_init(&f->client, fds[0]);
    assert_int_equal(client_hello(&f->client, FIXTURE_WAIT_MS), 0);
    *state = f;
    return 0;
}

int fixture_setup(void **state)
{
    static const char *const none[] = {NULL};

    return fixture_start(state, none);
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    int status = -1;

    client_release(&f->client);
    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    assert_int_equal(shl_remove_tree(f->home), 0);
    free(f);
    assert_int_equal(status, 0);
    return 0;
}

void fixture_result_release(struct fixture_result *result)
{
    shl_buf_release(&result->out);
    shl_buf_release(&result->err);
}

int fixture_exec_start(struct fixture *f,
                       const char *session,
                       const char *cmd,
                       void (*fill)(struct shl_mp_writer *w),
                       char msg[256])
{
    struct client_call call;
    int rc;

    client_begin(&f->client, &call, "exec.start");
    shl_mp_kv_str(&call.w, "session", session);
    shl_mp_kv_str(&call.w, "cmd", cmd);
    if (fill) {
        fill(&call.w);
    }
    rc = client_run(&call, FIXTURE_WAIT_MS);
    (void)client_msg(&call, msg, 256);
    client_call_release(&call);
    return rc;
}

void fixture_exec_result(struct fixture *f,
                         const char *session,
                         uint64_t wait_ms,
                         struct fixture_result *result)
{
    struct client_call call;

    memset(result, 0, sizeof(*result));
    client_begin(&f->client, &call, "exec.result");
    shl_mp_kv_str(&call.w, "session", session);
    shl_mp_kv_uint(&call.w, "wait_ms", wait_ms);
    result->code = client_run(&call, FIXTURE_WAIT_MS);
    (void)client_msg(&call, result->msg, sizeof(result->msg));
    if (result->code == 0) {
        assert_true(call.has_head);
        result->running = client_bool(&call.head, "running");
        result->exit_code = client_int(&call.head, "exit_code");
        result->truncated = client_bool(&call.head, "truncated");
        result->timed_out = client_bool(&call.head, "timed_out");
        result->lost_stdout_bytes = client_int(&call.head, "lost_stdout_bytes");
        result->out = call.data[AGENT_CHANNEL_OUT];
        result->err = call.data[AGENT_CHANNEL_ERR];
        if (!result->running) {
            assert_int_equal(client_int(&call.head, "stdout_bytes"), shl_buf_len(&result->out));
            assert_int_equal(client_int(&call.head, "stderr_bytes"), shl_buf_len(&result->err));
        }
        shl_buf_init(&call.data[AGENT_CHANNEL_OUT], 0);
        shl_buf_init(&call.data[AGENT_CHANNEL_ERR], 0);
    }
    client_call_release(&call);
}

void fixture_exec(struct fixture *f,
                  const char *cmd,
                  void (*fill)(struct shl_mp_writer *w),
                  struct fixture_result *result)
{
    char session[32];

    memset(result, 0, sizeof(*result));
    (void)snprintf(session, sizeof(session), "s%u", f->client.next_stream);
    result->code = fixture_exec_start(f, session, cmd, fill, result->msg);
    if (result->code == 0) {
        fixture_exec_result(f, session, FIXTURE_WAIT_MS, result);
        assert_false(result->running);
    }
}

int fixture_path_op(struct fixture *f, const char *op, const char *path, char msg[256])
{
    struct client_call call;
    int rc;

    client_begin(&f->client, &call, op);
    shl_mp_kv_str(&call.w, "path", path);
    rc = client_run(&call, FIXTURE_WAIT_MS);
    (void)client_msg(&call, msg, 256);
    client_call_release(&call);
    return rc;
}
