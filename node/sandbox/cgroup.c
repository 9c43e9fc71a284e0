#include "node/sandbox/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

#define DEFAULT_ROOT    "/sys/fs/cgroup"
#define PARENT          "shoal"
#define CPU_PERIOD_US   100000u
#define REMOVE_TRIES    200
#define REMOVE_PAUSE_MS 10
#define PATH_SIZE       512

/* Folder of @name under each hierarchy: one for version 2, one per controller for 1. */
static const char *const v1_controllers[] = {"cpu", "memory", "pids"};

static size_t hierarchy_count(const struct node_cgroups *groups)
{
    switch (groups->version) {
    case NODE_CGROUPS_NONE:
        return 0;
    case NODE_CGROUPS_V1:
        return SHL_ARRAY_SIZE(v1_controllers);
    case NODE_CGROUPS_V2:
        return 1;
    }
    return 0;
}

/* @file NULL: the folder itself; @name NULL: the parent of all groups. */
static void make_path(char path[PATH_SIZE],
                      const struct node_cgroups *groups,
                      size_t hierarchy,
                      const char *name,
                      const char *file)
{
    bool v1 = groups->version == NODE_CGROUPS_V1;

    (void)snprintf(path, PATH_SIZE, "%s%s%s/" PARENT "%s%s%s%s%s", groups->root, v1 ? "/" : "",
                   v1 ? v1_controllers[hierarchy] : "", name ? "/" : "", name ? name : "",
                   name ? groups->suffix : "", file ? "/" : "", file ? file : "");
}

static int write_text(const char *path, const char *text)
{
    SHL_CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int set_value(const struct node_cgroups *groups,
                     size_t hierarchy,
                     const char *name,
                     const char *file,
                     uint64_t value,
                     struct shl_err *err)
{
    char path[PATH_SIZE];
    char text[32];
    int rc;

    make_path(path, groups, hierarchy, name, file);
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    rc = write_text(path, text);
    return rc < 0 ? shl_err_sys(err, -rc, "cannot set the limit %s", path) : 0;
}

static int make_folder(const char *path, struct shl_err *err)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST) {
        return shl_err_sys(err, errno, "cannot create the cgroup %s", path);
    }
    return 0;
}

/* Controllers must be handed down level by level. */
static int delegate_v2(const struct node_cgroups *groups, struct shl_err *err)
{
    static const char controllers[] = "+cpu +memory +pids";
    char path[PATH_SIZE];
    int rc;

    (void)snprintf(path, sizeof(path), "%s/cgroup.subtree_control", groups->root);
    rc = write_text(path, controllers);
    if (rc == 0) {
        make_path(path, groups, 0, NULL, "cgroup.subtree_control");
        rc = write_text(path, controllers);
    }
    return rc < 0 ? shl_err_sys(err, -rc, "cannot hand cgroup controllers down (%s)", path) : 0;
}

int node_cgroups_init(struct node_cgroups *groups, const char *root, struct shl_err *err)
{
    char path[PATH_SIZE];
    size_t i;
    int rc = 0;

    *groups = (struct node_cgroups){.version = NODE_CGROUPS_NONE};
    if (root && !root[0]) {
        return 0;
    }
    if (snprintf(groups->root, sizeof(groups->root), "%s", root ? root : DEFAULT_ROOT) >=
        (int)sizeof(groups->root)) {
        return shl_err_set(err, SHL_ELIMIT, "the cgroup root is too long");
    }
    (void)snprintf(path, sizeof(path), "%s/cgroup.controllers", groups->root);
    groups->version = access(path, F_OK) == 0 ? NODE_CGROUPS_V2 : NODE_CGROUPS_V1;
    for (i = 0; i < hierarchy_count(groups) && rc == 0; i++) {
        make_path(path, groups, i, NULL, NULL);
        rc = make_folder(path, err);
    }
    if (rc == 0 && groups->version == NODE_CGROUPS_V2) {
        rc = delegate_v2(groups, err);
    }
    if (rc < 0) {
        groups->version = NODE_CGROUPS_NONE;
    }
    return rc;
}

static int limit_v1(const struct node_cgroups *groups,
                    const char *name,
                    const struct node_cgroup_limits *limits,
                    struct shl_err *err)
{
    int rc = set_value(groups, 0, name, "cpu.cfs_quota_us",
                       limits->cpu_percent * CPU_PERIOD_US / 100, err);

    if (rc == 0) {
        rc = set_value(groups, 1, name, "memory.limit_in_bytes", limits->memory_bytes, err);
    }
    if (rc == 0) {
        rc = set_value(groups, 2, name, "pids.max", limits->pids, err);
    }
    return rc;
}

static int limit_v2(const struct node_cgroups *groups,
                    const char *name,
                    const struct node_cgroup_limits *limits,
                    struct shl_err *err)
{
    int rc = set_value(groups, 0, name, "cpu.max", limits->cpu_percent * CPU_PERIOD_US / 100, err);

    if (rc == 0) {
        rc = set_value(groups, 0, name, "memory.max", limits->memory_bytes, err);
    }
    if (rc == 0) {
        rc = set_value(groups, 0, name, "pids.max", limits->pids, err);
    }
    return rc;
}

int node_cgroup_create(const struct node_cgroups *groups,
                       const char *name,
                       const struct node_cgroup_limits *limits,
                       struct shl_err *err)
{
    char path[PATH_SIZE];
    size_t i;
    int rc = 0;

    for (i = 0; i < hierarchy_count(groups) && rc == 0; i++) {
        make_path(path, groups, i, name, NULL);
        rc = make_folder(path, err);
    }
    if (rc < 0 || groups->version == NODE_CGROUPS_NONE) {
        return rc;
    }
    return groups->version == NODE_CGROUPS_V1 ? limit_v1(groups, name, limits, err)
                                              : limit_v2(groups, name, limits, err);
}

int node_cgroup_join(const struct node_cgroups *groups,
                     const char *name,
                     pid_t pid,
                     struct shl_err *err)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < hierarchy_count(groups) && rc == 0; i++) {
        rc = set_value(groups, i, name, "cgroup.procs", (uint64_t)pid, err);
    }
    return rc;
}

/* A VMM that split into several processes may leave some when the first is killed. */
static void kill_members(const char *folder)
{
    char path[PATH_SIZE + 16];
    struct shl_buf text;
    char *at;

    (void)snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
    shl_buf_init(&text, 65536);
    if (shl_read_file(path, &text) == 0 && shl_buf_append(&text, "", 1) == 0) {
        at = (char *)shl_buf_data(&text);
        while (*at) {
            char *end;
            long pid = strtol(at, &end, 10);

            if (end == at) {
                break;
            }
            if (pid > 1) {
                (void)kill((pid_t)pid, SIGKILL);
            }
            at = *end ? end + 1 : end;
        }
    }
    shl_buf_release(&text);
}

/* The kernel lets go of a group a moment after its last process. */
static int remove_folder(const char *path)
{
    const struct timespec pause = {.tv_nsec = REMOVE_PAUSE_MS * 1000000L};
    int tries;

    for (tries = 0; tries < REMOVE_TRIES; tries++) {
        if (rmdir(path) == 0 || errno == ENOENT) {
            return 0;
        }
        if (errno != EBUSY) {
            return -errno;
        }
        kill_members(path);
        (void)nanosleep(&pause, NULL);
    }
    return -EBUSY;
}

int node_cgroup_remove(const struct node_cgroups *groups, const char *name, struct shl_err *err)
{
    char path[PATH_SIZE];
    size_t i;
    int rc = 0;

    for (i = 0; i < hierarchy_count(groups) && rc == 0; i++) {
        make_path(path, groups, i, name, NULL);
        rc = remove_folder(path);
    }
    return rc < 0 ? shl_err_sys(err, -rc, "cannot remove the cgroup %s", path) : 0;
}
