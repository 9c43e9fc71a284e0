/* A session or a terminal of a sandbox, relayed to the own descriptors: of `shell` and `exec`.
 *
 * The local terminal is raw meanwhile when keys go to a terminal over there. It is given back
 * whatever ends us: the handlers of signals that end a program do it, and atexit. Handlers only
 * set flags and wake the poll. */
#include "client/cli_session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define DETACH_KEY 0x1d /* Ctrl-] */

static struct termios cooked;
static volatile sig_atomic_t is_raw;
static volatile sig_atomic_t is_resized;
static volatile sig_atomic_t is_continued;
static volatile sig_atomic_t interrupts;
static int wake_fd = -1; /* written by handlers, so that no signal falls between look and poll */

/* ---- signals and the local terminal ---------------------------------------------- */

static void wake(void)
{
    const uint64_t one = 1;
    int saved = errno;

    if (wake_fd >= 0 && write(wake_fd, &one, sizeof(one)) < 0) {
        errno = saved; /* full: it is awake */
    }
    errno = saved;
}

static void restore(void)
{
    if (is_raw) {
        is_raw = 0;
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &cooked);
    }
}

/* Give the terminal back, then do what the signal does. */
static void on_fatal(int number)
{
    restore();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void on_resize(int number)
{
    (void)number;
    is_resized = 1;
    wake();
}

static void on_continue(int number)
{
    (void)number;
    is_continued = 1;
    wake();
}

static void on_interrupt(int number)
{
    (void)number;
    interrupts = interrupts + 1;
    wake();
}

static void make_raw(void)
{
    struct termios raw = cooked;

    cfmakeraw(&raw);
    is_raw = 1;
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static bool take_terminal(void)
{
    static const int fatal[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGSEGV,
                                SIGABRT, SIGBUS, SIGFPE, SIGILL,  SIGPIPE};
    struct sigaction action = {.sa_handler = on_fatal};

    if (tcgetattr(STDIN_FILENO, &cooked) < 0) {
        return false;
    }
    (void)atexit(restore);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(fatal); i++) {
        (void)sigaction(fatal[i], &action, NULL);
    }
    action.sa_handler = on_continue;
    (void)sigaction(SIGCONT, &action, NULL);
    make_raw();
    return true;
}

void cli_catch_interrupts(void)
{
    (void)sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
}

int cli_interrupts(void)
{
    return interrupts;
}

void cli_terminal_size(int *ret_cols, int *ret_rows)
{
    static const int fds[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    struct winsize size = {0};

    for (size_t i = 0; i < SHL_ARRAY_SIZE(fds) && size.ws_col == 0; i++) {
        (void)ioctl(fds[i], TIOCGWINSZ, &size);
    }
    *ret_cols = size.ws_col > 0 ? size.ws_col : 80;
    *ret_rows = size.ws_row > 0 ? size.ws_row : 24;
}

/* ---- bytes ----------------------------------------------------------------------- */

struct relay {
    struct cli_session *s;
    struct shoal_stream *stream;
    bool has_input;     /* more may come from stdin */
    bool is_output_bad; /* nobody reads ours */
};

static void on_output(void *arg, int stream, const void *data, size_t len)
{
    struct relay *relay = arg;
    int fd = stream == 2 ? STDERR_FILENO : STDOUT_FILENO;
    const char *p = data;

    while (len > 0 && !relay->is_output_bad) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EAGAIN) { /* a terminal that somebody made non-blocking */
            struct pollfd room = {.fd = fd, .events = POLLOUT};

            (void)poll(&room, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            relay->is_output_bad = true;
        }
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

/* Some of stdin to the sandbox. False: the user wants to leave, or the terminal is gone. */
static bool send_input(struct relay *relay)
{
    char bytes[16384];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    const char *leave;

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return true;
    }
    if (n <= 0) {
        relay->has_input = false;
        return !is_raw && shoal_stream_end_input(relay->stream) == 0;
    }
    leave = is_raw ? memchr(bytes, DETACH_KEY, (size_t)n) : NULL;
    if (leave) {
        n = leave - bytes;
    }
    return (n == 0 || shoal_stream_send(relay->stream, bytes, (size_t)n) == 0) && !leave;
}

/* What the handlers noted. False: stop waiting. */
static bool handle_signals(struct relay *relay)
{
    const struct cli_session *s = relay->s;
    uint64_t count;
    int cols;
    int rows;

    if (read(wake_fd, &count, sizeof(count)) < 0) {
        count = 0; /* there was none */
    }
    if (is_continued && is_raw) {
        make_raw();
    }
    is_continued = 0;
    if (is_resized && s->is_terminal) {
        cli_terminal_size(&cols, &rows);
        (void)shoal_terminal_resize(s->cli->client, s->id, s->session, cols, rows, NULL);
    }
    is_resized = 0;
    return !s->on_interrupt || s->on_interrupt(s->arg, s->session) == 0;
}

static enum cli_session_end relay_bytes(struct relay *relay)
{
    struct shoal_stream *stream = relay->stream;
    bool is_over = shoal_stream_step(stream) != 0; /* what came with the answer */

    while (!is_over) {
        const bool may_send = relay->has_input && shoal_stream_has_room(stream);
        struct pollfd fds[3] = {
            {.fd = may_send ? STDIN_FILENO : -1, .events = POLLIN},
            {.fd = shoal_stream_fd(stream),
             .events = (short)(POLLIN | (shoal_stream_wants_write(stream) ? POLLOUT : 0))},
            {.fd = wake_fd, .events = POLLIN}};

        if (relay->is_output_bad) {
            return CLI_SESSION_NO_READER;
        }
        if (!handle_signals(relay)) { /* also those from before there was wake_fd */
            return CLI_SESSION_STOPPED;
        }
        (void)poll(fds, SHL_ARRAY_SIZE(fds), shoal_stream_has_more(stream) ? 0 : -1);
        if (fds[0].revents != 0 && !send_input(relay)) {
            (void)shoal_stream_step(stream);
            return CLI_SESSION_LEFT;
        }
        is_over = shoal_stream_step(stream) != 0;
    }
    return relay->is_output_bad ? CLI_SESSION_NO_READER : CLI_SESSION_ENDED;
}

int cli_session_run(struct cli_session *s, struct shoal_error *err)
{
    struct relay relay = {.s = s, .has_input = s->has_input};
    int rc = shoal_stream_open(s->cli->client, s->id, s->session, s->is_terminal, on_output, &relay,
                               &relay.stream, err);

    if (rc < 0) {
        return rc;
    }
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)sigaction(SIGWINCH, &(struct sigaction){.sa_handler = on_resize}, NULL);
    if (s->is_terminal && s->has_input) {
        if (!take_terminal()) {
            shoal_stream_free(relay.stream);
            err->code = -ENOTTY;
            (void)snprintf(err->message, sizeof(err->message), "the terminal cannot be used");
            return err->code;
        }
    } else {
        (void)signal(SIGPIPE, SIG_IGN); /* told by write, so that the command is told, too */
    }
    is_resized = s->is_back; /* it may have been another size */
    s->end = relay_bytes(&relay);
    restore();
    s->close_code = shoal_stream_close_code(relay.stream);
    s->has_exit_code = shoal_stream_exit_code(relay.stream, &s->exit_code);
    shoal_stream_free(relay.stream);
    return 0;
}

/* ---- what to say about the end --------------------------------------------------- */

int cli_session_left(const struct cli_session *s)
{
    (void)fprintf(stderr, "\nshoal: left it running; `shoal shell --attach %s %s` goes back\n",
                  s->session, s->id);
    return CLI_OK;
}

int cli_session_stopped(const struct cli_session *s)
{
    (void)fprintf(stderr, "shoal: stopped waiting, command %s goes on\n", s->session);
    return CLI_INTERRUPTED;
}

int cli_session_cut(const struct cli_session *s)
{
    (void)fprintf(stderr,
                  "%sshoal: the connection has ended (%s); `shoal %s%s %s` goes back within 10 "
                  "minutes\n",
                  s->is_terminal ? "\n" : "",
                  s->close_code == 1001 ? "the sandbox hibernates, moves or stops" : "it was lost",
                  s->is_terminal ? "shell --attach " : "logs -f ",
                  s->is_terminal ? s->session : s->id, s->is_terminal ? s->id : s->session);
    return CLI_FAILED;
}
