#include "agent/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NEW_FILE_MODE 0644
#define NEW_DIR_MODE  0755

int agent_fs_error(struct shl_err *err, int errnum, const char *path)
{
    switch (errnum) {
    case ENOENT:
        return shl_err_set(err, SHL_ENOTFOUND, "no such file or directory: %s", path);
    case EISDIR:
        return shl_err_set(err, SHL_EINVALIDARG, "is a directory: %s", path);
    case ENOTDIR:
        return shl_err_set(err, SHL_EINVALIDARG, "not a directory: %s", path);
    case ENXIO:
    case ENODEV:
        return shl_err_set(err, SHL_EINVALIDARG, "not a regular file: %s", path);
    case ENAMETOOLONG:
    case ELOOP:
        return shl_err_set(err, SHL_EINVALIDARG, "%s: %s", strerror(errnum), path);
    case ENOSPC:
    case EDQUOT:
        return shl_err_set(err, -ENOSPC, "no space is left on the disk of the sandbox: %s", path);
    default:
        return shl_err_set(err, -errnum, "%s: %s", strerror(errnum), path);
    }
}

/* Looked at before it is opened: opening a device may already do something. */
static int check_regular(const char *path, struct shl_err *err)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return agent_fs_error(err, errno, path);
    }
    if (S_ISDIR(st.st_mode)) {
        return agent_fs_error(err, EISDIR, path);
    }
    return S_ISREG(st.st_mode) ? 0 : agent_fs_error(err, ENXIO, path);
}

/* Kernel file systems make content up when it is read and report a size of 0 or 4096. */
static bool size_is_real(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0) {
        return true;
    }
    switch ((unsigned long)fs.f_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case BPF_FS_MAGIC:
        return false;
    default:
        return true;
    }
}

int agent_fs_open_read(const char *path, struct agent_fs_file *ret_file, struct shl_err *err)
{
    SHL_CLEANUP_FD int fd = -1;
    struct stat st;
    int rc = check_regular(path, err);

    if (rc < 0) {
        return rc;
    }
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return agent_fs_error(err, errno, path);
    }
    if (!S_ISREG(st.st_mode)) { /* replaced in between */
        return agent_fs_error(err, S_ISDIR(st.st_mode) ? EISDIR : ENXIO, path);
    }
    *ret_file = (struct agent_fs_file){
        .size = (uint64_t)st.st_size, .mode = st.st_mode & 07777, .regular = size_is_real(fd)};
    ret_file->fd = shl_steal_fd(&fd);
    return 0;
}

/* Folders whose content belongs to the system, by their first component. */
static bool is_system_path(const char *path)
{
    static const char *const dirs[] = {"bin",   "boot",  "dev",    "etc",  "lib",
                                       "lib32", "lib64", "libx32", "proc", "root",
                                       "run",   "sbin",  "sys",    "usr",  "var"};
    size_t len, i;

    path += strspn(path, "/");
    len = strcspn(path, "/");
    for (i = 0; i < SHL_ARRAY_SIZE(dirs); i++) {
        if (strlen(dirs[i]) == len && memcmp(dirs[i], path, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Real path of the open @fd (O_PATH is enough). */
static int real_path(int fd, char path[PATH_MAX])
{
    char link[64];
    ssize_t len;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, PATH_MAX - 1);
    if (len < 0) {
        return -errno;
    }
    path[len] = '\0';
    return 0;
}

/* Should what was just made as @fd belong to the user? Decided by where it really is:
 * in a folder of a user, in one where everybody may write, or outside the system. */
static bool belongs_to_user(int fd)
{
    char path[PATH_MAX];
    struct stat parent;
    char *slash;

    if (real_path(fd, path) < 0 || path[0] != '/') {
        return false;
    }
    slash = strrchr(path, '/');
    *slash = '\0';
    if (stat(*path ? path : "/", &parent) < 0) {
        return false;
    }
    *slash = '/';
    return parent.st_uid != 0 || (parent.st_mode & S_ISVTX) || !is_system_path(path);
}

static void give_to_owner(int fd, const struct agent_fs_owner *owner)
{
    if (owner->active && belongs_to_user(fd)) {
        (void)!fchown(fd, owner->uid, owner->gid);
    }
}

/* One folder below an existing one. 0 also when it is there. */
static int make_dir(const char *path, const struct agent_fs_owner *owner)
{
    SHL_CLEANUP_FD int fd = -1;

    if (mkdir(path, NEW_DIR_MODE) < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    if (owner->active) {
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) {
            give_to_owner(fd, owner);
        }
    }
    return 0;
}

/* Every prefix of @path that ends before a slash; with @whole also @path itself. */
static int make_dirs(const char *path, bool whole, const struct agent_fs_owner *owner)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    size_t i;
    int rc = 0;

    if (len >= sizeof(part)) {
        return -ENAMETOOLONG;
    }
    memcpy(part, path, len + 1);
    for (i = 1; rc == 0 && i <= len; i++) {
        if (part[i] == '/' || (part[i] == '\0' && whole)) {
            char end = part[i];

            part[i] = '\0';
            rc = make_dir(part, owner);
            part[i] = end;
        }
    }
    return rc;
}

int agent_fs_mkdir(const char *path, const struct agent_fs_owner *owner, struct shl_err *err)
{
    struct stat st;
    int rc = 0;

    if (stat(path, &st) < 0) {
        rc = make_dirs(path, true, owner);
        if (rc == 0 && stat(path, &st) < 0) {
            rc = -errno;
        }
    }
    if (rc == 0 && !S_ISDIR(st.st_mode)) {
        rc = -ENOTDIR;
    }
    return rc < 0 ? agent_fs_error(err, -rc, path) : 0;
}

static int create_file(const char *path, const struct agent_fs_owner *owner)
{
    int flags = O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = open(path, flags, NEW_FILE_MODE);

    if (fd < 0 && errno == ENOENT) {
        int rc = make_dirs(path, false, owner);

        if (rc < 0) {
            return rc;
        }
        fd = open(path, flags, NEW_FILE_MODE);
    }
    if (fd < 0) {
        return -errno;
    }
    give_to_owner(fd, owner);
    return fd;
}

int agent_fs_open_write(const char *path,
                        const struct agent_fs_owner *owner,
                        int *ret_fd,
                        struct shl_err *err)
{
    struct shl_err why = {0};
    int fd, rc = check_regular(path, &why);

    if (rc == 0) {
        fd = open(path, O_WRONLY | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        fd = fd < 0 ? -errno : fd;
    } else if (rc == SHL_ENOTFOUND) {
        fd = create_file(path, owner);
    } else {
        return shl_err_set(err, rc, "%s", why.msg);
    }
    if (fd < 0) {
        return agent_fs_error(err, -fd, path);
    }
    *ret_fd = fd;
    return 0;
}
