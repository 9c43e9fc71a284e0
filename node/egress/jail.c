#include "node/egress/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static const int calls[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(shutdown),
    SCMP_SYS(close),
    SCMP_SYS(dup3),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(pread64),
    SCMP_SYS(lseek),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(fcntl),
    SCMP_SYS(futex),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(sched_yield),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(getrusage),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(ioctl),
};

/* What libraries try when they look for settings: there is no file, and nothing ends. */
static const int file_calls[] = {
    SCMP_SYS(open),     SCMP_SYS(openat),     SCMP_SYS(access),     SCMP_SYS(faccessat),
    SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(stat),       SCMP_SYS(lstat),
    SCMP_SYS(statx),    SCMP_SYS(getcwd),     SCMP_SYS(getdents64), SCMP_SYS(uname),
};

static int add_rules(scmp_filter_ctx filter)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < SHL_ARRAY_SIZE(file_calls) && rc == 0; i++) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOENT), file_calls[i], 0);
    }

    for (i = 0; i < SHL_ARRAY_SIZE(calls) && rc == 0; i++) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    }
    if (rc == 0) { /* the Internet, and nothing else */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                              SCMP_A0_32(SCMP_CMP_EQ, AF_INET));
    }
    if (rc == 0) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                              SCMP_A0_32(SCMP_CMP_EQ, AF_INET6));
    }
    if (rc == 0) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    }
    if (rc == 0) { /* guarded memory of secrets */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    }
    if (rc == 0) { /* abort(3) of an assert */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                              SCMP_A0_32(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    }
    return rc;
}

/* A call outside of the list ends the process; the daemon starts another one and says so. */
static int filter_calls(struct shl_err *err)
{
    scmp_filter_ctx filter;
    int rc;

    if (SANITIZED) {
        return 0; /* the sanitizers read /proc and map what they need */
    }
    filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter) {
        return shl_err_sys(err, ENOMEM, "cannot limit system calls");
    }
    rc = add_rules(filter);
    rc = rc < 0 ? rc : seccomp_load(filter);
    seccomp_release(filter);
    return rc < 0 ? shl_err_sys(err, -rc, "cannot limit system calls") : 0;
}

/* The folder becomes the root; the old root is unmounted from under itself (pivot_root(2)). */
static int enter_root(const char *dir, struct shl_err *err)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(dir, dir, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0 ||
        chdir(dir) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0) {
        return shl_err_sys(err, errno, "cannot make %s the whole file system", dir);
    }
    return 0;
}

static int change_user(uid_t uid, gid_t gid, struct shl_err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    int cap;

    for (cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            return shl_err_sys(err, errno, "cannot give up capabilities");
        }
    }
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) {
        return shl_err_sys(err, errno, "cannot become user %u", (unsigned)uid);
    }
    memset(data, 0, sizeof(data));
    if (syscall(SYS_capset, &header, data) < 0) {
        return shl_err_sys(err, errno, "cannot give up capabilities");
    }
    return 0;
}

int egress_jail_enter(const char *dir, uid_t uid, gid_t gid, struct shl_err *err)
{
    const struct rlimit none = {0, 0};
    int rc = 0;

    if (geteuid() == 0) {
        rc = SANITIZED ? 0 : enter_root(dir, err);
        rc = rc < 0 ? rc : change_user(uid, gid, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return shl_err_sys(err, errno, "cannot give up privileges");
    }
    return filter_calls(err);
}
