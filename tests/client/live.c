#include "tests/client/live.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX 32
#define TURN_MS  2

static void exec_shoal(const char *const *args)
{
    const char *argv[ARGS_MAX] = {SHOAL_CLI_PATH, args[0]};
    char url[64];
    size_t count = 2;

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", fix->port);
    argv[count++] = "--url";
    argv[count++] = url;
    argv[count++] = "--key";
    argv[count++] = fix->key;
    for (args++; *args && count < ARGS_MAX - 1; args++) {
        argv[count++] = *args;
    }
    (void)signal(SIGPIPE, SIG_DFL);
    (void)setenv("HOME", "/nonexistent", 1);
    (void)setenv("TERM", "xterm", 1);
    execv(argv[0], (char **)argv);
    _exit(99);
}

static void init(struct live *live)
{
    memset(live, 0, sizeof(*live));
    shl_buf_init(&live->out_text, LIVE_OUT_MAX);
    shl_buf_init(&live->err_text, LIVE_OUT_MAX);
}

void live_start(struct live *live, const char *const *args)
{
    int in[2], out[2], err[2];

    init(live);
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    live->pid = fork();
    assert_true(live->pid >= 0);
    if (live->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        exec_shoal(args);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    live->in = in[1];
    live->out = out[0];
    live->err = err[0];
    (void)fcntl(live->in, F_SETFL, O_NONBLOCK);
    (void)fcntl(live->out, F_SETFL, O_NONBLOCK);
    (void)fcntl(live->err, F_SETFL, O_NONBLOCK);
}

void live_start_terminal(struct live *live, int cols, int rows, const char *const *args)
{
    struct winsize size = {.ws_col = (unsigned short)cols, .ws_row = (unsigned short)rows};

    init(live);
    live->pid = forkpty(&live->in, NULL, NULL, &size);
    assert_true(live->pid >= 0);
    if (live->pid == 0) {
        exec_shoal(args);
    }
    live->out = live->in;
    live->err = -1;
    (void)fcntl(live->in, F_SETFD, FD_CLOEXEC);
    (void)fcntl(live->in, F_SETFL, O_NONBLOCK);
}

static void read_some(int *fd, struct shl_buf *text)
{
    uint8_t *space;

    while (*fd >= 0) {
        ssize_t got;

        assert_int_equal(shl_buf_reserve(text, 65536, &space), 0);
        got = read(*fd, space, 65536);
        if (got > 0) {
            shl_buf_commit(text, (size_t)got);
        } else if (got < 0 && errno == EAGAIN) {
            return;
        } else {
            *fd = -1; /* a terminal stays open in live->in; live_release closes pipes */
            return;
        }
    }
}

void live_turn(struct live *live)
{
    int status;

    run_for(&fix->loop, TURN_MS);
    /* First whether it has ended: what it printed before is there then. */
    if (!live->is_ended && waitpid(live->pid, &status, WNOHANG) == live->pid) {
        live->is_ended = true;
        live->code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    }
    read_some(&live->out, &live->out_text);
    read_some(&live->err, &live->err_text);
}

void live_write(struct live *live, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0 && !live->is_ended) {
        ssize_t n = write(live->in, p, len);

        assert_true(n > 0 || errno == EAGAIN || errno == EPIPE || errno == EIO);
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
        live_turn(live);
    }
}

void live_close_input(struct live *live)
{
    if (live->in >= 0) {
        close(live->in);
        live->in = -1;
    }
}

bool live_has(const struct shl_buf *buf, const char *text)
{
    return shl_buf_len(buf) > 0 && memmem(shl_buf_data(buf), shl_buf_len(buf), text, strlen(text));
}

static void print(const char *name, const struct shl_buf *buf)
{
    print_error("%s: %.*s\n", name, (int)SHL_MIN(shl_buf_len(buf), (size_t)2000),
                shl_buf_len(buf) > 0 ? (const char *)shl_buf_data(buf) : "");
}

void live_until(struct live *live, const char *text)
{
    while (!live_has(&live->out_text, text)) {
        if (live->is_ended) {
            print("stdout", &live->out_text);
            print("stderr", &live->err_text);
            fail_msg("it ended with %d before \"%s\"", live->code, text);
        }
        live_turn(live);
    }
}

void live_finish(struct live *live)
{
    while (!live->is_ended) {
        live_turn(live);
    }
}

void live_release(struct live *live)
{
    if (!live->is_ended) {
        (void)kill(live->pid, SIGKILL);
        live_finish(live);
    }
    live_close_input(live);
    if (live->err >= 0) {
        close(live->err);
    }
    if (live->out >= 0) {
        close(live->out);
    }
    shl_buf_release(&live->out_text);
    shl_buf_release(&live->err_text);
}

void live_run(struct live *live, int code, const char *input, const char *const *args)
{
    live_start(live, args);
    if (input) {
        live_write(live, input, strlen(input));
    }
    live_close_input(live);
    live_finish(live);
    if (live->code != code) {
        print("stdout", &live->out_text);
        print("stderr", &live->err_text);
        fail_msg("exit code %d instead of %d", live->code, code);
    }
    assert_int_equal(shl_buf_append(&live->out_text, "", 1), 0);
    assert_int_equal(shl_buf_append(&live->err_text, "", 1), 0);
}

void live_shell(const char *format, ...)
{
    char command[2048];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    if (system(command) != 0) {
        fail_msg("%s", command);
    }
}
