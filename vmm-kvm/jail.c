#include "vmm-kvm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm-kvm/control.h"

#define DESCRIPTORS_MAX 256

void vmm_jail_close_inherited(void)
{
    (void)close_range(STDERR_FILENO + 1, ~0u, 0);
}

static int join_cgroup(const char *folder, struct shl_err *err)
{
    char path[4096], text[32];
    int len = snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
    SHL_CLEANUP_FD int fd = -1;

    if (len < 0 || (size_t)len >= sizeof(path)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the path of the cgroup is too long");
    }
    fd = open(path, O_WRONLY | O_CLOEXEC);
    len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (fd < 0 || write(fd, text, (size_t)len) != len) {
        return shl_err_sys(err, errno, "cannot join the cgroup %s", folder);
    }
    return 0;
}

static int set_limits(struct shl_err *err)
{
    const struct rlimit none = {0, 0};
    const struct rlimit descriptors = {DESCRIPTORS_MAX, DESCRIPTORS_MAX};

    if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NOFILE, &descriptors) < 0) {
        return shl_err_sys(err, errno, "cannot limit the process");
    }
    return 0;
}

/* The working directory becomes the root; the old root is unmounted from under itself
 * (pivot_root(2), "pivot_root(".", ".")"). */
static int enter_root(struct shl_err *err)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    char here[4096];

    if (!getcwd(here, sizeof(here)) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(here, here, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, here, NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0 || chdir(here) < 0) {
        return shl_err_sys(err, errno, "cannot make the sandbox's folder a file system");
    }
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
        return shl_err_sys(err, errno, "cannot make the sandbox's folder the root");
    }
    return 0;
}

/* The exit file is written after the change of user. */
static int give_folder(const struct vmm_jail_config *config, struct shl_err *err)
{
    if (chown(".", config->uid, config->gid) < 0 ||
        chown(VMM_EXIT_FILE ".tmp", config->uid, config->gid) < 0) {
        return shl_err_sys(err, errno, "cannot give the sandbox's folder to user %u",
                           (unsigned)config->uid);
    }
    return 0;
}

/* Nothing can be gained back, not even by a program with file capabilities. */
static int drop_bounding_set(struct shl_err *err)
{
    int cap;

    for (cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
            return shl_err_sys(err, errno, "cannot give up capabilities");
        }
    }
    return 0;
}

static int drop_capabilities(struct shl_err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    memset(data, 0, sizeof(data));
    if (syscall(SYS_capset, &header, data) < 0) {
        return shl_err_sys(err, errno, "cannot give up capabilities");
    }
    return 0;
}

static int change_user(const struct vmm_jail_config *config, struct shl_err *err)
{
    int r = config->uid ? give_folder(config, err) : 0;

    if (r == 0) {
        r = drop_bounding_set(err);
    }
    if (r < 0) {
        return r;
    }
    if (config->uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(config->gid, config->gid, config->gid) < 0 ||
         setresuid(config->uid, config->uid, config->uid) < 0)) {
        return shl_err_sys(err, errno, "cannot become user %u", (unsigned)config->uid);
    }
    return drop_capabilities(err);
}

static int enter_as_root(const struct vmm_jail_config *config, struct shl_err *err)
{
    int r;

    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0) {
        return shl_err_sys(err, errno, "cannot make namespaces (--no-jail runs without)");
    }
    r = enter_root(err);
    return r < 0 ? r : change_user(config, err);
}

int vmm_jail_enter(const struct vmm_jail_config *config, struct shl_err *err)
{
    int r = config->cgroup ? join_cgroup(config->cgroup, err) : 0;

    if (r < 0 || !config->enabled) {
        return r;
    }
    r = set_limits(err);
    if (r == 0 && geteuid() == 0) {
        r = enter_as_root(config, err);
    } else if (r == 0 && config->uid != 0) {
        r = shl_err_set(err, SHL_EFORBIDDEN, "only root can change to another user (--uid)");
    }
    if (r < 0) {
        return r;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        return shl_err_sys(err, errno, "cannot give up privileges");
    }
    return 0;
}
