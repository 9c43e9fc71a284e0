/* Ctrl-C ends the turn; a second one ends the agent that we started, or leaves alone one that we
 * only watch. */
#include "client/agent_watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "client/agent_view.h"
#include "client/cli_session.h"

#define PATIENCE_MS 1000 /* with a request, when Ctrl-C was pressed meanwhile */

struct watch {
    struct cli *cli;
    const char *id;
    const char *session;
    struct agent_view view;
    struct shoal_stream *stream;
    bool is_ours;    /* we started it: it ends with us */
    bool is_talking; /* prompts are read from the terminal */
    bool is_asked;   /* the mark for the next prompt is out */
    bool is_ending;
    bool was_interrupted;
    bool has_left;
    int interrupts_handled;
    struct shl_buf typed;
};

/* What we started ends when there is nothing left to do; what others started goes on without us. */
static void leave(struct watch *w)
{
    if (w->is_ours && shoal_stream_end_input(w->stream) == 0) {
        w->is_ending = true;
    } else {
        w->has_left = true;
    }
}

static void end_at_once(struct watch *w)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (shoal_agent_kill(w->cli->client, w->id, w->session, SIGKILL, &err) < 0) {
        (void)cli_fail(w->cli, &err, "the agent could not be ended");
        w->has_left = true;
    } else {
        w->is_ending = true;
    }
}

static void handle_interrupts(struct watch *w)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (cli_interrupts() == w->interrupts_handled) {
        return;
    }
    w->interrupts_handled = cli_interrupts();
    if (!w->view.is_busy || w->was_interrupted) {
        w->was_interrupted = w->was_interrupted || !w->is_talking;
        if (w->is_ours) {
            end_at_once(w);
        } else {
            w->has_left = true;
        }
        return;
    }
    w->was_interrupted = true;
    cli_progress(w->cli, "interrupting the agent, Ctrl-C again %s ...",
                 w->is_ours ? "ends it" : "leaves it alone");
    if (shoal_agent_interrupt(w->cli->client, w->id, w->session, &err) < 0) {
        (void)cli_fail(w->cli, &err, "the agent could not be interrupted");
    }
}

static void send_prompt(struct watch *w, const char *text)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    w->is_asked = false;
    if (text[strspn(text, " \t")] == '\0') {
        return;
    }
    w->was_interrupted = false;
    w->view.is_failed = false;
    w->view.is_busy = true;
    if (shoal_agent_prompt(w->cli->client, w->id, w->session, text, &err) < 0) {
        (void)cli_fail(w->cli, &err, "%s", w->session);
        w->view.is_busy = err.code == -ECANCELED; /* it may have come */
    }
}

/* Lines of the terminal are prompts, its end is the end. */
static void read_typed(struct watch *w)
{
    char bytes[4096];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    char *end;

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n <= 0 || shl_buf_append(&w->typed, bytes, (size_t)n) < 0) {
        (void)fputc('\n', stderr);
        leave(w);
        w->is_talking = false;
        return;
    }
    while (shl_buf_len(&w->typed) > 0 &&
           (end = memchr(shl_buf_data(&w->typed), '\n', shl_buf_len(&w->typed))) != NULL) {
        char *line = (char *)shl_buf_data(&w->typed);
        size_t len = (size_t)(end - line);

        *end = '\0';
        send_prompt(w, line);
        shl_buf_consume(&w->typed, len + 1);
    }
}

/* True while there is something to wait for. */
static bool go_on(struct watch *w)
{
    if (w->has_left) {
        return false;
    }
    if (!w->view.is_busy && !w->is_ending && w->is_ours && !w->is_talking &&
        w->view.completed > 0) {
        leave(w); /* its one prompt is done */
    }
    if (!w->view.is_busy && w->is_talking && !w->is_asked && !w->cli->quiet) {
        w->is_asked = true;
        (void)fflush(stdout);
        (void)fputs("\n> ", stderr);
    }
    return true;
}

int agent_watch_is_stopped(void *arg)
{
    static uint64_t since_ms; /* 0: it was not pressed */
    sigset_t pending;

    (void)arg;
    if (sigpending(&pending) < 0 || sigismember(&pending, SIGINT) != 1) {
        since_ms = 0;
        return 0;
    }
    since_ms = since_ms ? since_ms : shl_monotonic_ms();
    return shl_monotonic_ms() - since_ms >= PATIENCE_MS;
}

/* Ctrl-C gets through only while we wait, so that none comes between a look and the wait. */
static void relay(struct watch *w)
{
    static const struct timespec at_once = {0};
    sigset_t blocked;
    sigset_t before;

    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &blocked, &before);
    while (shoal_stream_step(w->stream) == 0 && go_on(w)) {
        bool can_type = w->is_talking && !w->view.is_busy;
        struct pollfd fds[2] = {
            {.fd = shoal_stream_fd(w->stream),
             .events = (short)(POLLIN | (shoal_stream_wants_write(w->stream) ? POLLOUT : 0))},
            {.fd = can_type ? STDIN_FILENO : -1, .events = POLLIN}};

        if (ppoll(fds, 2, shoal_stream_has_more(w->stream) ? &at_once : NULL, &before) > 0 &&
            fds[1].revents != 0) {
            read_typed(w);
        }
        handle_interrupts(w);
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
}

static int outcome(struct watch *w)
{
    const char *conversation = w->view.conversation;
    int exit_code = 0;
    bool has_ended = shoal_stream_exit_code(w->stream, &exit_code);

    cli_progress_end(w->cli);
    if (!has_ended && !w->is_ending) {
        (void)fprintf(stderr, "shoal: %s `shoal agent attach %s %s` goes back\n",
                      w->has_left ? "left it running;" : "the connection has ended;", w->id,
                      w->session);
        return w->has_left ? (w->was_interrupted ? CLI_INTERRUPTED : CLI_OK) : CLI_FAILED;
    }
    if (*conversation && !w->cli->quiet && !w->cli->json) {
        (void)fputs("shoal: to go on with this conversation: --resume ", stderr);
        cli_print_safe(stderr, conversation);
        (void)fputc('\n', stderr);
    }
    if (w->was_interrupted) {
        return CLI_INTERRUPTED;
    }
    return w->view.is_failed || (exit_code != 0 && !w->is_ending) ? CLI_AGENT_FAILED : CLI_OK;
}

int agent_watch(struct cli *cli, const char *session, bool is_ours, bool is_talking, bool is_busy)
{
    struct watch w = {.cli = cli,
                      .id = cli->operands[1],
                      .session = session,
                      .is_ours = is_ours,
                      .is_talking = is_talking};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int code;

    if (!agent_view_init(&w.view, cli)) {
        return cli_usage(cli, "%s", "there is no memory");
    }
    w.view.is_busy = is_busy;
    shl_buf_init(&w.typed, AGENT_PROMPT_MAX_BYTES);
    if (shoal_stream_open(cli->client, w.id, session, false, agent_view_output, &w.view, &w.stream,
                          &err) < 0) {
        code = cli_fail(cli, &err, "%s", session);
    } else {
        cli_catch_interrupts();
        relay(&w);
        code = outcome(&w);
        shoal_stream_free(w.stream);
    }
    shl_buf_release(&w.typed);
    agent_view_release(&w.view);
    return code;
}
