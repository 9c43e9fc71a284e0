#include "agent/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/attach.h"
#include "agent/input.h"
#include "base/io.h"

/* Reads after the exit of the child: more than the largest pipe holds, and an end when
 * a background process writes without pause. */
#define FINAL_READS 32

/* A process that was reaped before its spawn was known to be over. */
struct early_exit {
    struct shl_list node;
    pid_t pid;
    int status;
};

/* A pipe that background processes still hold after their session is done. */
struct leftover {
    struct shl_list node;
    struct agent_watch watch;
    struct agent_sessions *sessions;
};

static void on_sweep(void *arg);

void agent_sessions_init(struct agent_sessions *sessions,
                         struct agent_loop *loop,
                         struct agent_pool *pool,
                         const struct agent_limits *limits)
{
    sessions->loop = loop;
    sessions->pool = pool;
    sessions->limits = limits;
    sessions->reset_standing = false;
    sessions->group_fd = -1;
    sessions->budget = (struct agent_budget){.max_bytes = limits->output_bytes};
    sessions->count = 0;
    sessions->spawning_count = 0;
    sessions->kill = kill;
    sessions->spawn = agent_spawn_run;
    shl_list_init(&sessions->all);
    shl_list_init(&sessions->done);
    shl_list_init(&sessions->early_exits);
    shl_list_init(&sessions->leftovers);
    agent_timer_init(&sessions->sweep, on_sweep, sessions);
}

/* ---- leftovers ------------------------------------------------------------------- */

static void free_leftover(struct leftover *left)
{
    int fd = left->watch.fd;

    agent_watch_remove(left->sessions->loop, &left->watch);
    (void)close(fd);
    shl_list_remove(&left->node);
    free(left);
}

static void on_leftover(void *arg, uint32_t events)
{
    struct leftover *left = arg;
    struct agent_sessions *sessions = left->sessions;
    ssize_t got = read(left->watch.fd, sessions->scratch, sizeof(sessions->scratch));

    (void)events;
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        free_leftover(left);
    }
}

/* Takes @fd. Without memory the writer gets a broken pipe instead. */
static void add_leftover(struct agent_sessions *sessions, int fd)
{
    struct leftover *left = calloc(1, sizeof(*left));

    if (!left) {
        (void)close(fd);
        return;
    }
    left->sessions = sessions;
    left->watch = (struct agent_watch){-1, on_leftover, left};
    shl_list_push_back(&sessions->leftovers, &left->node);
    if (agent_watch_add(sessions->loop, &left->watch, fd, EPOLLIN) < 0) {
        shl_list_remove(&left->node);
        free(left);
        (void)close(fd);
    }
}

/* ---- the table ------------------------------------------------------------------- */

static void close_pipe(struct agent_session_pipe *pipe)
{
    int fd = pipe->watch.fd >= 0 ? pipe->watch.fd : pipe->held_fd;

    agent_watch_remove(pipe->session->sessions->loop, &pipe->watch);
    pipe->held_fd = -1;
    if (fd >= 0) {
        (void)close(fd);
    }
}

void agent_session_free(struct agent_session *session)
{
    size_t i;

    close_pipe(&session->pipes[0]);
    close_pipe(&session->pipes[1]);
    agent_session_close_stdin(session);
    agent_timer_stop(&session->timer);
    agent_timer_stop(&session->linger);
    agent_timer_stop(&session->ending);
    agent_timer_stop(&session->stall);
    agent_output_release(&session->output);
    shl_list_remove(&session->node);
    shl_list_remove(&session->done_node);
    session->sessions->count--;
    for (i = 0; i < session->arg_count; i++) {
        free(session->args[i]);
    }
    free(session->args);
    free(session->cmd);
    free(session);
}

void agent_session_close_stdin(struct agent_session *session)
{
    agent_watch_remove(session->sessions->loop, &session->stdin_watch);
    if (session->stdin_fd >= 0) {
        (void)close(session->stdin_fd);
        session->stdin_fd = -1;
        agent_inputs_closed(session);
    }
}

static struct agent_session *oldest_done(struct agent_sessions *sessions)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &sessions->done) {
        struct agent_session *session = shl_container_of(it, struct agent_session, done_node);

        if (session->pins == 0) {
            return session;
        }
    }
    return NULL;
}

bool agent_sessions_make_room(struct agent_sessions *sessions)
{
    while (sessions->count >= sessions->limits->sessions_max) {
        struct agent_session *victim = oldest_done(sessions);

        if (!victim) {
            return false;
        }
        agent_session_free(victim);
    }
    return true;
}

static void on_sweep(void *arg)
{
    struct agent_sessions *sessions = arg;
    uint64_t now_ms = shl_monotonic_ms();
    struct agent_session *session;

    while ((session = oldest_done(sessions)) != NULL) {
        uint64_t end_ms = session->done_at_ms + sessions->limits->retain_ms;

        if (end_ms > now_ms) {
            agent_timer_start(sessions->loop, &sessions->sweep, end_ms - now_ms);
            return;
        }
        agent_session_free(session);
    }
    if (!shl_list_empty(&sessions->done)) { /* all of them are being read */
        agent_timer_start(sessions->loop, &sessions->sweep, sessions->limits->retain_ms);
    }
}

/* Finished sessions give up their output for those that run now, oldest first. */
static void make_budget(struct agent_sessions *sessions, size_t bytes)
{
    struct agent_budget *budget = &sessions->budget;
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &sessions->done) {
        struct agent_session *session = shl_container_of(it, struct agent_session, done_node);

        if (budget->used_bytes + bytes <= budget->max_bytes) {
            return;
        }
        if (session->pins == 0) {
            agent_output_evict(&session->output);
        }
    }
}

struct agent_session *agent_sessions_find(struct agent_sessions *sessions, const char *id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &sessions->all) {
        struct agent_session *session = shl_container_of(it, struct agent_session, node);

        if (strcmp(session->id, id) == 0) {
            return session;
        }
    }
    return NULL;
}

void agent_sessions_release(struct agent_sessions *sessions)
{
    struct shl_list *first;

    while ((first = shl_list_first(&sessions->all)) != NULL) {
        struct agent_session *session = shl_container_of(first, struct agent_session, node);

        (void)!agent_session_kill(session, SIGKILL);
        agent_session_free(session);
    }
    while ((first = shl_list_first(&sessions->leftovers)) != NULL) {
        free_leftover(shl_container_of(first, struct leftover, node));
    }
    while ((first = shl_list_first(&sessions->early_exits)) != NULL) {
        shl_list_remove(first);
        free(shl_container_of(first, struct early_exit, node));
    }
    agent_timer_stop(&sessions->sweep);
}

/* ---- the end of a session -------------------------------------------------------- */

static void finish(struct agent_session *session)
{
    struct agent_sessions *sessions = session->sessions;
    struct shl_list *first;
    int i;

    if (session->timed_out) {
        (void)sessions->kill(-session->pid, SIGKILL); /* whoever outlived the leader */
        agent_output_note(&session->output, AGENT_CHANNEL_ERR, "Process timed out\n");
    }
    session->state = AGENT_SESSION_DONE;
    session->done_at_ms = shl_monotonic_ms();
    agent_timer_stop(&session->timer);
    agent_timer_stop(&session->linger);
    agent_timer_stop(&session->ending);
    agent_timer_stop(&session->stall);
    for (i = 0; i < 2; i++) {
        int fd = session->pipes[i].watch.fd;

        agent_watch_remove(sessions->loop, &session->pipes[i].watch);
        if (fd >= 0 && session->is_tty) {
            (void)close(fd); /* hangs up whoever is left */
        } else if (fd >= 0) {
            add_leftover(sessions, fd);
        }
    }
    agent_session_close_stdin(session);
    shl_list_push_back(&sessions->done, &session->done_node);
    if (shl_list_empty(&sessions->sweep.node)) {
        agent_timer_start(sessions->loop, &sessions->sweep, sessions->limits->retain_ms);
    }
    while ((first = shl_list_first(&session->waiters)) != NULL) {
        struct agent_session_waiter *waiter =
            shl_container_of(first, struct agent_session_waiter, node);

        shl_list_remove(first);
        waiter->fn(waiter->arg);
    }
    agent_attaches_wake(session);
}

static bool pipes_have_ended(const struct agent_session *session)
{
    return session->pipes[0].watch.fd < 0 && session->pipes[1].watch.fd < 0 &&
           session->pipes[0].held_fd < 0 && session->pipes[1].held_fd < 0;
}

/* A client that holds the program up has so long to read on. */
static void on_stall(void *arg)
{
    struct agent_session *session = arg;

    session->is_awaited = false; /* nobody came */
    agent_attaches_end_slow(session);
    agent_session_read_on(session);
}

void agent_session_awaited(struct agent_session *session)
{
    session->is_awaited = false;
    if (session->is_stalled) { /* as long as every client has */
        agent_timer_stop(&session->stall);
        agent_timer_start(session->sessions->loop, &session->stall, AGENT_ATTACH_STALL_MS);
    }
}

static void stall(struct agent_session *session)
{
    struct agent_loop *loop = session->sessions->loop;

    session->is_stalled = true;
    for (int i = 0; i < 2; i++) {
        struct agent_session_pipe *pipe = &session->pipes[i];

        if (pipe->watch.fd >= 0) {
            pipe->held_fd = pipe->watch.fd;
            agent_watch_remove(loop, &pipe->watch);
        }
    }
    agent_timer_start(loop, &session->stall,
                      session->is_awaited ? session->sessions->limits->first_ms
                                          : AGENT_ATTACH_STALL_MS);
}

void agent_session_read_on(struct agent_session *session)
{
    struct agent_sessions *sessions = session->sessions;

    if (!session->is_stalled || !agent_output_trim(&session->output, sizeof(sessions->scratch),
                                                   agent_attaches_floor(session))) {
        return;
    }
    session->is_stalled = false;
    agent_timer_stop(&session->stall);
    for (int i = 0; i < 2; i++) {
        struct agent_session_pipe *pipe = &session->pipes[i];
        int fd = pipe->held_fd;

        pipe->held_fd = -1;
        if (fd >= 0 && agent_watch_add(sessions->loop, &pipe->watch, fd, EPOLLIN) < 0) {
            (void)close(fd);
        }
    }
}

/* False when nothing is there now, or the pipe has ended and is closed. */
static bool read_pipe(struct agent_session_pipe *pipe)
{
    struct agent_session *session = pipe->session;
    struct agent_sessions *sessions = session->sessions;
    ssize_t got;

    if (pipe->watch.fd < 0) {
        return false;
    }
    if (session->output.ring_bytes > 0) {
        make_budget(sessions, agent_output_cost(sizeof(sessions->scratch)));
        if (!agent_output_trim(&session->output, sizeof(sessions->scratch),
                               agent_attaches_floor(session))) {
            stall(session);
            return false;
        }
    }
    got = read(pipe->watch.fd, sessions->scratch, sizeof(sessions->scratch));
    if (got > 0) {
        make_budget(sessions, agent_output_cost((size_t)got));
        agent_output_append(&session->output, pipe->channel,
                            shl_bytes_of(sessions->scratch, (size_t)got));
        agent_attaches_wake(session);
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    close_pipe(pipe);
    return false;
}

static void on_pipe(void *arg, uint32_t events)
{
    struct agent_session_pipe *pipe = arg;
    struct agent_session *session = pipe->session;

    (void)events;
    (void)read_pipe(pipe);
    if (session->state == AGENT_SESSION_DRAINING && pipes_have_ended(session)) {
        finish(session);
    }
}

static void on_timer(void *arg)
{
    struct agent_session *session = arg;
    struct agent_sessions *sessions = session->sessions;

    if (session->state == AGENT_SESSION_RUNNING && !session->timed_out) {
        session->timed_out = true;
        (void)sessions->kill(-session->pid, SIGTERM);
        agent_timer_start(sessions->loop, &session->timer, sessions->limits->grace_ms);
    } else if (session->state == AGENT_SESSION_RUNNING) {
        (void)sessions->kill(-session->pid, SIGKILL); /* and its exit follows */
    } else if (session->is_stalled) {                 /* what it printed is still to be read */
        agent_timer_start(sessions->loop, &session->timer, sessions->limits->drain_ms);
    } else {
        finish(session);
    }
}

/* It was asked to end and did not. */
static void on_ending(void *arg)
{
    struct agent_session *session = arg;

    if (session->state == AGENT_SESSION_RUNNING) {
        (void)session->sessions->kill(-session->pid, SIGKILL);
    }
}

bool agent_session_is_ending(const struct agent_session *session)
{
    return session->state == AGENT_SESSION_DONE || !shl_list_empty(&session->ending.node);
}

void agent_session_end(struct agent_session *session)
{
    if (session->state != AGENT_SESSION_RUNNING) {
        return;
    }
    (void)session->sessions->kill(-session->pid, session->is_tty ? SIGHUP : SIGTERM);
    (void)session->sessions->kill(-session->pid, SIGCONT);
    if (shl_list_empty(&session->ending.node)) {
        agent_timer_init(&session->ending, on_ending, session);
        agent_timer_start(session->sessions->loop, &session->ending,
                          session->sessions->limits->grace_ms);
    }
}

int agent_session_resize(struct agent_session *session, uint16_t cols, uint16_t rows)
{
    const struct winsize size = {.ws_col = cols, .ws_row = rows};

    if (!session->is_tty) {
        return SHL_EBADSTATE;
    }
    if (session->stdin_fd < 0) {
        return 0; /* it has ended */
    }
    return ioctl(session->stdin_fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static void on_exit_status(struct agent_session *session, int status)
{
    int i;

    session->exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    if (session->timed_out) {
        session->exit_code = -1;
    }
    session->state = AGENT_SESSION_DRAINING;
    for (i = 0; i < FINAL_READS; i++) {
        bool more = read_pipe(&session->pipes[0]);

        more = read_pipe(&session->pipes[1]) || more;
        if (!more) {
            break;
        }
    }
    if (pipes_have_ended(session)) {
        finish(session);
    } else if (!session->timed_out || shl_list_empty(&session->timer.node)) {
        agent_timer_start(session->sessions->loop, &session->timer,
                          session->sessions->limits->drain_ms);
    } /* else the rest of its process group has what is left of the grace */
}

void agent_sessions_exited(struct agent_sessions *sessions, pid_t pid, int status)
{
    struct early_exit *early;
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &sessions->all) {
        struct agent_session *session = shl_container_of(it, struct agent_session, node);

        if (session->pid == pid && session->state == AGENT_SESSION_RUNNING) {
            on_exit_status(session, status);
            return;
        }
    }
    /* An orphan, or a child whose spawn is reported only after this. */
    early = sessions->spawning_count > 0 ? malloc(sizeof(*early)) : NULL;
    if (early) {
        *early = (struct early_exit){.pid = pid, .status = status};
        shl_list_push_front(&sessions->early_exits, &early->node);
    }
}

void agent_sessions_spawned(struct agent_sessions *sessions, pid_t pid)
{
    struct shl_list *it, *tmp;
    bool found = false;
    int status = 0;

    sessions->spawning_count--;
    SHL_LIST_FOREACH_SAFE(it, tmp, &sessions->early_exits) {
        struct early_exit *early = shl_container_of(it, struct early_exit, node);

        if (early->pid == pid && !found) { /* the latest is in front */
            found = true;
            status = early->status;
        } else if (sessions->spawning_count > 0) {
            continue;
        }
        shl_list_remove(it);
        free(early);
    }
    if (found) {
        agent_sessions_exited(sessions, pid, status);
    }
}

void agent_sessions_reap(struct agent_sessions *sessions)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid < 0 && errno == EINTR) {
            continue;
        }
        if (pid <= 0) {
            return;
        }
        agent_sessions_exited(sessions, pid, status);
    }
}

void agent_session_running(struct agent_session *session, pid_t pid)
{
    struct agent_sessions *sessions = session->sessions;
    int i;

    session->pid = pid;
    session->state = AGENT_SESSION_RUNNING;
    session->started_at_ms = shl_realtime_ms();
    agent_timer_init(&session->timer, on_timer, session);
    for (i = 0; i < 2; i++) {
        struct agent_session_pipe *pipe = &session->pipes[i];
        int fd = pipe->watch.fd;

        pipe->watch = (struct agent_watch){-1, on_pipe, pipe};
        if (agent_watch_add(sessions->loop, &pipe->watch, fd, EPOLLIN) < 0) {
            (void)close(fd);
        }
    }
    if (session->timeout_ms > 0) {
        agent_timer_start(sessions->loop, &session->timer, session->timeout_ms);
    }
    agent_timer_init(&session->stall, on_stall, session);
    if (session->is_tty) {
        agent_attaches_left(session); /* nobody has come yet */
    }
}

int agent_session_kill(struct agent_session *session, int signal)
{
    if (signal < 1 || signal >= NSIG) {
        return SHL_EINVALIDARG;
    }
    if (session->state != AGENT_SESSION_RUNNING) {
        return 0;
    }
    if (session->sessions->kill(-session->pid, signal) < 0 && errno != ESRCH) {
        return -errno;
    }
    return 0;
}
