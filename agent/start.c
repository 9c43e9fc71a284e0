/* Starting a session: pipes, then the spawn on a pool thread, then the program runs or
 * the session is gone again. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/session.h"
#include "base/cleanup.h"

struct agent_start {
    struct agent_work work;
    struct agent_session *session;
    struct agent_session_spec spec;
    char *shell_argv[4]; /* without args: /bin/sh -c cmd */
    char **argv;         /* NULL-terminated, strings borrowed from the session */
    struct agent_spawn spawn;
    int result;
};

void agent_session_spec_release(struct agent_session_spec *spec)
{
    size_t i;

    for (i = 0; i < spec->arg_count; i++) {
        free(spec->args[i]);
    }
    free(spec->args);
    free(spec->cmd);
    free(spec->cwd);
    agent_environ_release(&spec->env);
}

static void close_fds(int fds[3])
{
    int i;

    for (i = 0; i < 3; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
            fds[i] = -1;
        }
    }
}

static void free_start(struct agent_start *start)
{
    close_fds(start->spawn.fds);
    agent_session_spec_release(&start->spec);
    if (start->argv != start->shell_argv) {
        free(start->argv);
    }
    free(start);
}

/* The sentence for a spawn that failed. */
static int spawn_error(const struct agent_start *start, struct shl_err *err)
{
    const char *cwd = start->spawn.cwd;
    int error = -start->result;

    switch (start->spawn.failed_step) {
    case AGENT_SPAWN_CWD:
        if (error == ENOENT) {
            return shl_err_set(err, SHL_EINVALIDARG, "cwd does not exist: %s", cwd);
        }
        return error == ENOTDIR
                   ? shl_err_set(err, SHL_EINVALIDARG, "cwd is not a directory: %s", cwd)
                   : shl_err_set(err, SHL_EINVALIDARG, "cwd cannot be entered by user %s: %s: %s",
                                 start->spec.user.name, cwd, strerror(error));
    case AGENT_SPAWN_USER:
        return shl_err_sys(err, error, "the command cannot run as user %s", start->spec.user.name);
    case AGENT_SPAWN_EXEC:
        return error == ENOENT || error == ENOTDIR
                   ? shl_err_set(err, SHL_ENOTFOUND, "there is no program %s in the sandbox",
                                 start->session->cmd)
                   : shl_err_set(err, SHL_EBADSTATE, "the program %s cannot be executed: %s",
                                 start->session->cmd, strerror(error));
    case AGENT_SPAWN_FORK:
        break;
    }
    return shl_err_sys(err, error, "the sandbox cannot start another process");
}

static void run_spawn(struct agent_work *work)
{
    struct agent_start *start = shl_container_of(work, struct agent_start, work);

    start->result = start->session->sessions->spawn(&start->spawn);
}

static void on_spawned(struct agent_work *work)
{
    struct agent_start *start = shl_container_of(work, struct agent_start, work);
    struct agent_session *session = start->session;
    struct agent_sessions *sessions = session->sessions;
    struct shl_err err = {0};
    pid_t pid = SHL_MAX(start->result, 0);

    session->start = NULL;
    close_fds(start->spawn.fds); /* the child has its own: an end of file is the end */
    if (pid > 0) {
        agent_session_running(session, pid);
    } else {
        (void)spawn_error(start, &err);
    }
    if (start->spec.started) {
        start->spec.started(start->spec.started_arg, session, &err);
    }
    free_start(start);
    if (pid == 0) {
        agent_session_free(session);
    }
    agent_sessions_spawned(sessions, pid);
}

void agent_session_forget_start(struct agent_session *session)
{
    if (session->start) {
        session->start->spec.started = NULL;
    }
}

/* The child's end in child_fds, ours in *ret_fd (non-blocking, close-on-exec). */
static int make_pipe(struct agent_start *start, int child_fd, int *ret_fd)
{
    int ours = child_fd == 0 ? 1 : 0;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    start->spawn.fds[child_fd] = fds[!ours];
    *ret_fd = fds[ours];
    return fcntl(fds[ours], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* A terminal: its end is stdin, stdout and stderr of the child, and its controlling one. */
static int make_tty(struct agent_start *start, struct agent_session *session)
{
    const struct winsize size = {.ws_col = start->spec.cols, .ws_row = start->spec.rows};
    const struct agent_user *user = &start->spec.user;
    int *fds = start->spawn.fds;
    int ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);

    if (ours < 0) {
        return -errno;
    }
    session->pipes[0].watch.fd = ours; /* closed with the session */
    if (unlockpt(ours) < 0 || ioctl(ours, TIOCSWINSZ, &size) < 0) {
        return -errno;
    }
    session->stdin_fd = fcntl(ours, F_DUPFD_CLOEXEC, 3);
    fds[0] = ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (session->stdin_fd < 0 || fds[0] < 0) {
        return -errno;
    }
    if (!user->keep_ids && fchown(fds[0], user->uid, (gid_t)-1) < 0) {
        return -errno;
    }
    for (int i = 1; i < 3; i++) {
        fds[i] = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
        if (fds[i] < 0) {
            return -errno;
        }
    }
    start->spawn.is_tty = true;
    return 0;
}

static int make_fds(struct agent_start *start, struct agent_session *session)
{
    int rc = 0;

    if (start->spec.is_tty) {
        return make_tty(start, session);
    }
    if (start->spec.pipe_stdin) {
        rc = make_pipe(start, STDIN_FILENO, &session->stdin_fd);
    } else {
        start->spawn.fds[STDIN_FILENO] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (start->spawn.fds[STDIN_FILENO] < 0) {
            rc = -errno;
        }
    }
    if (rc == 0) {
        rc = make_pipe(start, STDOUT_FILENO, &session->pipes[0].watch.fd);
    }
    return rc == 0 ? make_pipe(start, STDERR_FILENO, &session->pipes[1].watch.fd) : rc;
}

static int make_argv(struct agent_start *start, const struct agent_session *session)
{
    if (session->arg_count == 0 && !start->spec.is_program) {
        start->argv = start->shell_argv;
        start->argv[0] = (char *)"/bin/sh";
        start->argv[1] = (char *)"-c";
        start->argv[2] = session->cmd;
        return 0;
    }
    start->argv = calloc(session->arg_count + 2, sizeof(*start->argv));
    if (!start->argv) {
        return -ENOMEM;
    }
    start->argv[0] = session->cmd;
    if (session->arg_count > 0) {
        memcpy(start->argv + 1, session->args, session->arg_count * sizeof(*session->args));
    }
    return 0;
}

static struct agent_session *add_session(struct agent_sessions *sessions,
                                         struct agent_session_spec *spec)
{
    struct agent_session *session = calloc(1, sizeof(*session));
    int i;

    if (!session) {
        return NULL;
    }
    session->sessions = sessions;
    memcpy(session->id, spec->id, sizeof(session->id));
    session->cmd = shl_steal_ptr(&spec->cmd);
    session->args = shl_steal_ptr(&spec->args);
    session->arg_count = spec->arg_count;
    spec->arg_count = 0;
    session->timeout_ms = spec->timeout_ms;
    session->stdin_fd = -1;
    session->stdin_watch.fd = -1;
    session->is_tty = spec->is_tty;
    session->linger_ms = spec->linger_ms;
    for (i = 0; i < 2; i++) {
        session->pipes[i].session = session;
        session->pipes[i].channel = (uint8_t)(AGENT_CHANNEL_OUT + i);
        session->pipes[i].watch.fd = -1;
        session->pipes[i].held_fd = -1;
    }
    agent_output_init(&session->output, &sessions->budget, spec->keep_bytes);
    if (spec->ring_bytes > 0) {
        agent_output_set_ring(&session->output, spec->ring_bytes);
        session->is_awaited = true;
    }
    shl_list_init(&session->linger.node);
    shl_list_init(&session->ending.node);
    shl_list_init(&session->stall.node);
    shl_list_init(&session->attaches);
    shl_list_init(&session->inputs);
    shl_list_init(&session->timer.node);
    shl_list_init(&session->done_node);
    shl_list_init(&session->waiters);
    shl_list_push_back(&sessions->all, &session->node);
    sessions->count++;
    return session;
}

/* Moves @spec into a start object; on failure @spec is released all the same. */
static struct agent_start *make_start(struct agent_sessions *sessions,
                                      struct agent_session_spec *spec,
                                      int *ret_code)
{
    struct agent_start *start = calloc(1, sizeof(*start));

    *ret_code = -ENOMEM;
    if (!start) {
        agent_session_spec_release(spec);
        return NULL;
    }
    start->spec = *spec;
    memset(spec, 0, sizeof(*spec));
    start->argv = start->shell_argv;
    memset(start->spawn.fds, -1, sizeof(start->spawn.fds));
    start->session = add_session(sessions, &start->spec);
    if (start->session) {
        start->session->start = start;
        *ret_code = make_fds(start, start->session);
        if (*ret_code == 0) {
            *ret_code = make_argv(start, start->session);
        }
        if (*ret_code == 0) {
            return start;
        }
        agent_session_free(start->session);
    }
    free_start(start);
    return NULL;
}

int agent_sessions_start(struct agent_sessions *sessions,
                         const struct agent_guest *guest,
                         struct agent_session_spec *spec,
                         struct shl_err *err)
{
    struct agent_start *start;
    int rc;

    if (agent_sessions_find(sessions, spec->id)) {
        return shl_err_set(err, SHL_ECONFLICT, "there is a session '%s' already", spec->id);
    }
    if (!agent_sessions_make_room(sessions)) {
        return shl_err_set(err, SHL_EQUOTA, "%u commands are running already: end some first",
                           sessions->count);
    }
    start = make_start(sessions, spec, &rc);
    if (!start) {
        return shl_err_sys(err, -rc, "the sandbox cannot start another process");
    }
    start->spawn.argv = start->argv;
    start->spawn.envp = start->spec.env.vars;
    start->spawn.user = &start->spec.user;
    start->spawn.cwd = start->spec.cwd ? start->spec.cwd : guest->cwd[0] ? guest->cwd : guest->home;
    start->spawn.cwd_fallback = start->spec.cwd ? NULL : guest->cwd[0] ? guest->home : "/";
    start->spawn.reset_standing = sessions->reset_standing;
    start->spawn.group_fd = sessions->group_fd;
    start->spawn.must_exec = start->spec.is_program;
    start->work.run = run_spawn;
    start->work.done = on_spawned;
    sessions->spawning_count++;
    agent_pool_submit(sessions->pool, &start->work);
    return 0;
}
