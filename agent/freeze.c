#include "agent/freeze.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

/* A cgroup may appear while others are still being stopped; a turn without a new one is
 * the last, since nobody is left who could make one. */
#define TURNS_MAX       16
#define EVENTS_MAX      256
#define GROUP_FILE_MAX  (AGENT_FREEZE_NAME_MAX + 32)
#define FREEZE_FILE     "cgroup.freeze"
#define EVENTS_FILE     "cgroup.events"
#define FROZEN_IN_EVENT "frozen 1"

void agent_freezer_init(struct agent_freezer *freezer)
{
    *freezer = (struct agent_freezer){.root_fd = -1, .group_fd = -1, .disk_fd = -1};
}

int agent_freezer_open(struct agent_freezer *freezer, const char *root, const char *disk)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

    freezer->root_fd = open(root, flags);
    if (freezer->root_fd < 0) {
        return -errno;
    }
    if (mkdirat(freezer->root_fd, AGENT_CGROUP_NAME, 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    freezer->group_fd = openat(freezer->root_fd, AGENT_CGROUP_NAME, flags);
    if (freezer->group_fd < 0) {
        return -errno;
    }
    freezer->disk_fd = disk ? open(disk, flags) : -1;
    return disk && freezer->disk_fd < 0 ? -errno : 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void agent_freezer_release(struct agent_freezer *freezer)
{
    (void)!agent_freezer_thaw(freezer, NULL);
    close_fd(&freezer->disk_fd);
    close_fd(&freezer->group_fd);
    close_fd(&freezer->root_fd);
    free(freezer->names);
    freezer->names = NULL;
}

/* ---- one cgroup ------------------------------------------------------------------ */

static int open_group_file(const struct agent_freezer *freezer,
                           const char *name,
                           const char *file,
                           int flags)
{
    char path[GROUP_FILE_MAX];
    int fd;

    if (snprintf(path, sizeof(path), "%s/%s", name, file) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    fd = openat(freezer->root_fd, path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int write_freeze(const struct agent_freezer *freezer, const char *name, const char *value)
{
    SHL_CLEANUP_FD int fd = open_group_file(freezer, name, FREEZE_FILE, O_WRONLY);

    if (fd < 0) {
        return fd;
    }
    return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* The text of a small file, from its beginning. */
static int read_text(int fd, char *dst, size_t size)
{
    ssize_t got = pread(fd, dst, size - 1, 0);

    dst[SHL_MAX(got, 0)] = '\0';
    return got < 0 ? -errno : 0;
}

/* 1 when it was frozen now and is listed, 0 when it was already, -ENOENT when it is gone. */
static int freeze_group(struct agent_freezer *freezer, const char *name)
{
    char text[EVENTS_MAX];
    SHL_CLEANUP_FD int fd = open_group_file(freezer, name, FREEZE_FILE, O_RDONLY);
    int rc = fd < 0 ? fd : read_text(fd, text, sizeof(text));

    if (rc < 0) {
        return rc;
    }
    if (text[0] == '1') { /* by this, or by its user, whose business it stays */
        return 0;
    }
    if (freezer->count >= AGENT_FREEZE_MAX) {
        return SHL_ELIMIT;
    }
    rc = write_freeze(freezer, name, "1");
    if (rc < 0) {
        return rc;
    }
    (void)snprintf(freezer->names[freezer->count++], AGENT_FREEZE_NAME_MAX, "%s", name);
    return 1;
}

/* Until the kernel says that every process of it has stopped, or the limit has passed. */
static void wait_for_group(const struct agent_freezer *freezer, const char *name, uint64_t end_ms)
{
    SHL_CLEANUP_FD int fd = open_group_file(freezer, name, EVENTS_FILE, O_RDONLY);
    char text[EVENTS_MAX];

    while (fd >= 0 && read_text(fd, text, sizeof(text)) == 0 && !strstr(text, FROZEN_IN_EVENT)) {
        struct pollfd watch = {.fd = fd, .events = POLLPRI};
        uint64_t now_ms = shl_monotonic_ms();

        if (now_ms >= end_ms || (poll(&watch, 1, (int)(end_ms - now_ms)) < 0 && errno != EINTR)) {
            return;
        }
    }
}

/* ---- all of them ----------------------------------------------------------------- */

/* How many were frozen now, or why one could not be. */
static int freeze_turn(struct agent_freezer *freezer)
{
    int copy = openat(freezer->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;
    int rc = 0, count = 0;

    if (!dir) {
        rc = -errno;
        close_fd(&copy);
        return rc;
    }
    while (rc >= 0 && (entry = readdir(dir)) != NULL) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.') {
            continue;
        }
        rc = freeze_group(freezer, entry->d_name);
        count += rc > 0 ? 1 : 0;
        if (rc == -ENOENT || rc == -ENODEV) { /* removed meanwhile */
            rc = 0;
        }
    }
    (void)closedir(dir);
    return rc < 0 ? rc : count;
}

static int freeze_processes(struct agent_freezer *freezer, struct shl_err *err)
{
    uint64_t end_ms = shl_monotonic_ms() + AGENT_FREEZE_WAIT_MS;
    int turn, rc = 1;
    size_t i;

    if (freezer->group_fd < 0) {
        return shl_err_set(err, SHL_EBADSTATE,
                           "user processes cannot be stopped: this guest has no cgroup v2");
    }
    if (!freezer->names) {
        freezer->names = calloc(AGENT_FREEZE_MAX, sizeof(*freezer->names));
    }
    if (!freezer->names) {
        return shl_err_sys(err, ENOMEM, "user processes could not be stopped");
    }
    for (turn = 0; rc > 0 && turn < TURNS_MAX; turn++) {
        rc = freeze_turn(freezer);
    }
    if (rc == SHL_ELIMIT) {
        return shl_err_set(err, rc, "user processes could not be stopped: more than %d cgroups",
                           AGENT_FREEZE_MAX);
    }
    if (rc < 0) {
        return shl_err_sys(err, -rc, "user processes could not be stopped");
    }
    for (i = 0; i < freezer->count; i++) {
        wait_for_group(freezer, freezer->names[i], end_ms);
    }
    return 0;
}

static int freeze_fs(struct agent_freezer *freezer, struct shl_err *err)
{
    if (freezer->fs_frozen) {
        return 0;
    }
    if (freezer->disk_fd < 0) {
        return shl_err_set(err, SHL_EBADSTATE, "there is no root file system to freeze here");
    }
    if (ioctl(freezer->disk_fd, FIFREEZE, 0) < 0) {
        return shl_err_sys(err, errno, "the root file system could not be frozen");
    }
    freezer->fs_frozen = true;
    return 0;
}

int agent_freezer_freeze(struct agent_freezer *freezer, bool sync, bool fs, struct shl_err *err)
{
    int rc = freeze_processes(freezer, err);

    if (rc == 0 && sync && freezer->disk_fd >= 0 && syncfs(freezer->disk_fd) < 0) {
        rc = shl_err_sys(err, errno, "file data could not be written to the disk");
    }
    if (rc == 0 && fs) {
        rc = freeze_fs(freezer, err);
    }
    if (rc < 0) {
        (void)!agent_freezer_thaw(freezer, NULL);
    }
    return rc;
}

int agent_freezer_thaw_fs(struct agent_freezer *freezer, struct shl_err *err)
{
    if (!freezer->fs_frozen) {
        return 0;
    }
    freezer->fs_frozen = false;
    /* EINVAL: somebody in the guest has thawed it. */
    if (ioctl(freezer->disk_fd, FITHAW, 0) < 0 && errno != EINVAL) {
        return shl_err_sys(err, errno, "the root file system could not be thawed");
    }
    return 0;
}

int agent_freezer_thaw(struct agent_freezer *freezer, struct shl_err *err)
{
    int rc = agent_freezer_thaw_fs(freezer, err);
    size_t i;

    for (i = 0; i < freezer->count; i++) {
        int failed = write_freeze(freezer, freezer->names[i], "0");

        if (failed < 0 && failed != -ENOENT && failed != -ENODEV && rc == 0) {
            rc = shl_err_sys(err, -failed, "user processes could not go on");
        }
    }
    freezer->count = 0;
    return rc;
}
