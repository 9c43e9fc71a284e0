/* Happy path:
 *  1. node_process_spawn: libuv reaps the child, so its status is known (on_child_exit).
 *  2. node_process_adopt: the pidfd becomes readable when the process ends (on_pidfd).
 * Whichever ran, tell() passes the end on once and stops watching.
 *
 * What can go wrong: the process ends between spawn and pidfd_open (it is a zombie until
 * the loop reaps it, so the pidfd opens); an adopted number belongs to another process
 * (start time differs, checked after the pidfd is open).
 */
#include "node/sandbox/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

struct node_process {
    struct node_process_id id;
    int pidfd;
    bool child; /* which of the two handles is in use */
    uv_process_t uv;
    uv_poll_t poll;
    node_process_exit_cb cb; /* NULL once told */
    void *arg;
    void (*close_cb)(void *arg);
    void *close_arg;
};

int node_process_start_ticks(pid_t pid, uint64_t *ret_ticks)
{
    char path[64];
    char text[1024];
    SHL_CLEANUP_FD int fd = -1;
    const char *at;
    ssize_t len;
    int field;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (len <= 0) {
        return SHL_ENOTFOUND;
    }
    text[len] = '\0';
    /* field 2 is the name in parentheses, which may contain anything; then the state */
    at = strrchr(text, ')');
    if (!at || strncmp(at, ") Z", 3) == 0 || strncmp(at, ") X", 3) == 0) {
        return SHL_ENOTFOUND; /* dead, only not reaped */
    }
    for (field = 2; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    if (!at) {
        return SHL_ENOTFOUND;
    }
    *ret_ticks = strtoull(at + 1, NULL, 10);
    return 0;
}

static void tell(struct node_process *process, bool known, int64_t status, int signal)
{
    node_process_exit_cb cb = process->cb;

    process->cb = NULL;
    if (cb) {
        cb(process->arg, known, status, signal);
    }
}

static void on_child_exit(uv_process_t *uv, int64_t status, int signal)
{
    tell(uv->data, true, status, signal);
}

static void on_pidfd(uv_poll_t *poll, int status, int events)
{
    (void)events;
    (void)uv_poll_stop(poll);
    (void)status; /* an error of the poll also means: watched no more, so treat it as ended */
    tell(poll->data, false, 0, 0);
}

static int open_pidfd(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -errno : fd;
}

static struct node_process *process_new(node_process_exit_cb cb, void *arg)
{
    struct node_process *process = calloc(1, sizeof(*process));

    if (process) {
        process->pidfd = -1;
        process->cb = cb;
        process->arg = arg;
        process->uv.data = process;
        process->poll.data = process;
    }
    return process;
}

static void on_closed(uv_handle_t *handle)
{
    struct node_process *process = handle->data;
    void (*cb)(void *arg) = process->close_cb;
    void *arg = process->close_arg;

    if (process->pidfd >= 0) {
        (void)close(process->pidfd);
    }
    free(process);
    if (cb) {
        cb(arg);
    }
}

static int spawn(struct node_process *process, uv_loop_t *loop, char **args, int log_fd)
{
    static char path_entry[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    char *env[] = {path_entry, NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = log_fd},
        {.flags = UV_INHERIT_FD, .data.fd = log_fd},
    };
    uv_process_options_t options = {
        .exit_cb = on_child_exit,
        .file = args[0],
        .args = args,
        .env = env,
        .cwd = "/",
        .flags = UV_PROCESS_DETACHED, /* setsid: it lives on without us */
        .stdio_count = 3,
        .stdio = stdio,
    };

    return uv_spawn(loop, &process->uv, &options);
}

int node_process_spawn(uv_loop_t *loop,
                       char **args,
                       int log_fd,
                       node_process_exit_cb cb,
                       void *arg,
                       struct node_process **ret_process,
                       struct shl_err *err)
{
    struct node_process *process = process_new(cb, arg);
    int rc;

    if (!process) {
        return shl_err_sys(err, ENOMEM, "cannot start %s", args[0]);
    }
    process->child = true;
    rc = spawn(process, loop, args, log_fd);
    if (rc < 0) {
        /* libuv wants the handle closed even when nothing was started */
        uv_close((uv_handle_t *)&process->uv, on_closed);
        return shl_err_sys(err, -rc, "cannot start %s", args[0]);
    }
    process->id.pid = process->uv.pid;
    process->pidfd = open_pidfd(process->id.pid);
    if (process->pidfd < 0) {
        rc = process->pidfd;
        process->cb = NULL;
        (void)uv_process_kill(&process->uv, SIGKILL);
        uv_close((uv_handle_t *)&process->uv, on_closed);
        return shl_err_sys(err, -rc, "cannot watch %s", args[0]);
    }
    if (node_process_start_ticks(process->id.pid, &process->id.start_ticks) < 0) {
        process->id.start_ticks = 0; /* ended already, as on_child_exit will tell */
    }
    *ret_process = process;
    return 0;
}

int node_process_adopt(uv_loop_t *loop,
                       const struct node_process_id *id,
                       node_process_exit_cb cb,
                       void *arg,
                       struct node_process **ret_process,
                       struct shl_err *err)
{
    struct node_process *process = process_new(cb, arg);
    uint64_t ticks = 0;
    int rc;

    if (!process) {
        return shl_err_sys(err, ENOMEM, "cannot watch process %d", (int)id->pid);
    }
    process->id = *id;
    process->pidfd = id->pid > 0 ? open_pidfd(id->pid) : -ESRCH;
    if (process->pidfd < 0 || node_process_start_ticks(id->pid, &ticks) < 0 ||
        ticks != id->start_ticks) {
        rc = shl_err_set(err, SHL_ENOTFOUND, "process %d has ended", (int)id->pid);
    } else {
        rc = uv_poll_init(loop, &process->poll, process->pidfd);
        if (rc == 0) {
            (void)uv_poll_start(&process->poll, UV_READABLE, on_pidfd);
            *ret_process = process;
            return 0;
        }
        (void)shl_err_sys(err, -rc, "cannot watch process %d", (int)id->pid);
    }
    if (process->pidfd >= 0) {
        (void)close(process->pidfd);
    }
    free(process);
    return rc;
}

const struct node_process_id *node_process_id(const struct node_process *process)
{
    return &process->id;
}

int node_process_signal(struct node_process *process, int signal)
{
    return syscall(SYS_pidfd_send_signal, process->pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

void node_process_close(struct node_process *process, void (*cb)(void *arg), void *arg)
{
    process->cb = NULL;
    process->close_cb = cb;
    process->close_arg = arg;
    uv_close(process->child ? (uv_handle_t *)&process->uv : (uv_handle_t *)&process->poll,
             on_closed);
}
