#include "agent/spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CHILD_STACK_BYTES 65536
#define EXIT_NOT_FOUND    127
#define EXIT_CANNOT_EXEC  126

/* The stack of the child is heap memory that it leaves without returning. */
#define IN_CHILD __attribute__((no_sanitize("address")))

struct child {
    struct agent_spawn *spawn;
    const char *search_path;
    char **shell_argv; /* [0] and [1] free for "/bin/sh" and a script without #! */
    char path[PATH_MAX];
    int error; /* written by the child, read after it has exec'd or ended */
};

IN_CHILD static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    int sig;

    for (sig = 1; sig < NSIG; sig++) {
        (void)sigaction(sig, &action, NULL);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

IN_CHILD static int take_fds(const int fds[3])
{
    int i;

    for (i = 0; i < 3; i++) {
        if (dup2(fds[i], i) < 0) {
            return -errno;
        }
    }
    /* Everything is close-on-exec; this is for what a library may have left open. */
    (void)syscall(SYS_close_range, 3, ~0u, 0);
    return 0;
}

IN_CHILD static void reset_oom_score(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, "0", 1);
        (void)close(fd);
    }
}

/* Raw calls: the C library's versions would change every thread of the agent, whose
 * memory this still is. */
IN_CHILD static int become(const struct agent_user *user)
{
    if (user->keep_ids) {
        return 0;
    }
    if (syscall(SYS_setgroups, user->group_count, user->groups) < 0 ||
        syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0 ||
        syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0) {
        return -errno;
    }
    return 0;
}

IN_CHILD static int enter_cwd(const struct agent_spawn *spawn)
{
    if (chdir(spawn->cwd) == 0) {
        return 0;
    }
    if (spawn->cwd_fallback && chdir(spawn->cwd_fallback) == 0) {
        return 0;
    }
    return -errno;
}

/* At the very end: behind an agent that is busy with the output of others, an ordinary child
 * would be the last to get to its program, and all that wait to be started behind it. */
IN_CHILD static void reset_priority(void)
{
    static const struct sched_param ordinary = {.sched_priority = 0};

    (void)sched_setscheduler(0, SCHED_OTHER, &ordinary);
}

/* Returns only when it did not work; the reason is the result. */
IN_CHILD static int exec_path(struct child *child, const char *path)
{
    const struct agent_spawn *spawn = child->spawn;

    if (spawn->reset_standing) {
        reset_priority();
    }
    (void)execve(path, spawn->argv, spawn->envp);
    if (errno != ENOEXEC) {
        return errno;
    }
    child->shell_argv[0] = (char *)"/bin/sh";
    child->shell_argv[1] = (char *)path;
    (void)execve("/bin/sh", child->shell_argv, spawn->envp);
    return ENOEXEC;
}

/* "DIR/NAME" into child->path; false when it does not fit. */
IN_CHILD static bool join_path(struct child *child,
                               const char *dir,
                               size_t dir_len,
                               const char *name)
{
    size_t name_len = strlen(name);

    if (dir_len + name_len + 2 > sizeof(child->path)) {
        return false;
    }
    if (dir_len > 0) { /* an empty entry is the working directory */
        memcpy(child->path, dir, dir_len);
        child->path[dir_len++] = '/';
    }
    memcpy(child->path + dir_len, name, name_len + 1);
    return true;
}

IN_CHILD static int exec_search(struct child *child, const char *name)
{
    const char *at = child->search_path;
    bool denied = false;

    for (;;) {
        size_t len = strcspn(at, ":");
        int error = ENOENT;

        if (join_path(child, at, len, name)) {
            error = exec_path(child, child->path);
        }
        denied = denied || error == EACCES;
        if (error != ENOENT && error != ENOTDIR && error != EACCES) {
            return error;
        }
        if (!at[len]) {
            return denied ? EACCES : ENOENT;
        }
        at += len + 1;
    }
}

IN_CHILD static const char *exec_error_text(int error, bool searched)
{
    switch (error) {
    case ENOENT:
        return searched ? "command not found" : "No such file or directory";
    case ENOTDIR:
        return "Not a directory";
    case EACCES:
        return "Permission denied";
    case E2BIG:
        return "Argument list too long";
    case ENOEXEC:
        return "Exec format error";
    case ETXTBSY:
        return "Text file busy";
    case ENOMEM:
        return "Cannot allocate memory";
    default:
        return "Cannot be executed";
    }
}

IN_CHILD static void say_exec_error(const char *name, const char *why)
{
    struct iovec parts[] = {{(void *)name, strlen(name)},
                            {(void *)": ", 2},
                            {(void *)why, strlen(why)},
                            {(void *)"\n", 1}};

    (void)!writev(STDERR_FILENO, parts, SHL_ARRAY_SIZE(parts));
}

IN_CHILD static void fail_child(struct child *child, enum agent_spawn_step step, int error)
{
    child->spawn->failed_step = step;
    child->error = error;
    syscall(SYS_exit_group, EXIT_NOT_FOUND);
}

IN_CHILD static int child_main(void *arg)
{
    struct child *child = arg;
    struct agent_spawn *spawn = child->spawn;
    const char *name = spawn->argv[0];
    bool search = !strchr(name, '/');
    int rc;

    reset_signals();
    (void)setsid();
    (void)umask(022);
    rc = take_fds(spawn->fds);
    if (rc < 0) {
        fail_child(child, AGENT_SPAWN_FORK, rc);
    }
    if (spawn->is_tty) {
        (void)ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    }
    if (spawn->reset_standing) {
        reset_oom_score();
    }
    rc = become(spawn->user);
    if (rc < 0) {
        fail_child(child, AGENT_SPAWN_USER, rc);
    }
    rc = enter_cwd(spawn);
    if (rc < 0) {
        fail_child(child, AGENT_SPAWN_CWD, rc);
    }
    rc = *name == '\0' ? ENOENT : search ? exec_search(child, name) : exec_path(child, name);
    if (spawn->must_exec) {
        fail_child(child, AGENT_SPAWN_EXEC, -rc);
    }
    say_exec_error(name, exec_error_text(rc, search));
    syscall(SYS_exit_group, rc == ENOENT || rc == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXEC);
    return 0;
}

static const char *find_search_path(char *const *envp)
{
    for (; *envp; envp++) {
        if (strncmp(*envp, "PATH=", 5) == 0) {
            return *envp + 5;
        }
    }
    return "/usr/local/bin:/usr/bin:/bin";
}

/* argv with one more place in front. */
static char **make_shell_argv(char *const *argv)
{
    size_t count = 0;
    char **copy;

    while (argv[count]) {
        count++;
    }
    copy = calloc(count + 2, sizeof(*copy));
    if (copy) {
        memcpy(copy + 2, argv + 1, count * sizeof(*copy));
    }
    return copy;
}

/* fork(2) into memory and a stack of our choosing and a cgroup, which clone(2) cannot. The
 * child starts on its own stack, so no frame of ours is shared with it. */
static long clone_into_group(void *stack, struct child *child)
{
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack,
        .stack_size = CHILD_STACK_BYTES,
        .cgroup = (uint64_t)child->spawn->group_fd,
    };
    register long result __asm__("rax") = SYS_clone3;
    register struct clone_args *at __asm__("rdi") = &args;
    register size_t size __asm__("rsi") = sizeof(args);
    register int (*entry)(void *) __asm__("r12") = child_main;
    register void *arg __asm__("r13") = child;

    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t" /* does not return */
                     "ud2\n"
                     "1:"
                     : "+r"(result)
                     : "r"(at), "r"(size), "r"(entry), "r"(arg)
                     : "rcx", "r11", "cc", "memory");
    return result;
}

/* The process id or -errno. A cgroup that root of the guest has removed is done without. */
static int clone_child(char *stack, struct child *child)
{
    if (child->spawn->group_fd >= 0) {
        long pid = clone_into_group(stack, child);

        if (pid != -ENODEV && pid != -ENOENT && pid != -ENOSYS) {
            return (int)pid;
        }
    }
    {
        int pid =
            clone(child_main, stack + CHILD_STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, child);

        return pid < 0 ? -errno : pid;
    }
}

int agent_spawn_run(struct agent_spawn *spawn)
{
    SHL_CLEANUP_FREE char *stack = NULL;
    SHL_CLEANUP_FREE char **shell_argv = NULL;
    SHL_CLEANUP_FREE struct child *child = NULL;
    sigset_t all, before;
    int pid;

    assert(spawn->fds[0] > 2 && spawn->fds[1] > 2 && spawn->fds[2] > 2);
    spawn->failed_step = AGENT_SPAWN_FORK;
    stack = aligned_alloc(16, CHILD_STACK_BYTES);
    shell_argv = make_shell_argv(spawn->argv);
    child = calloc(1, sizeof(*child));
    if (!stack || !shell_argv || !child) {
        return -ENOMEM;
    }
    child->spawn = spawn;
    child->search_path = find_search_path(spawn->envp);
    child->shell_argv = shell_argv;
    /* No handler of ours may run in the child before it has reset them. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = clone_child(stack, child);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        return pid;
    }
    return child->error < 0 ? child->error : pid;
}
