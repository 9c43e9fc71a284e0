#include "node/sandbox/strays.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define CMDLINE_MAX  65536
#define KILL_WAIT_MS 5000

struct sweep {
    struct node_manager *manager;
    bool (*keep)(void *arg, const char *id);
    void *arg;
};

static bool id_is_valid(const char *id)
{
    return strncmp(id, "sb-", 3) == 0 && strlen(id) == 11 &&
           strspn(id + 3, "0123456789abcdef") == 8;
}

/* ---- processes ------------------------------------------------------------------- */

/* The program may have been replaced by a newer build while it ran. */
static bool runs_our_vmm(const struct node_manager *manager, const char *pid)
{
    static const char deleted[] = " (deleted)";
    const char *slash = strrchr(manager->vmm_path, '/');
    const char *name = slash ? slash + 1 : manager->vmm_path;
    char exe[SANDBOX_PATH_MAX];
    char path[64];
    const char *base;
    ssize_t len;

    (void)snprintf(path, sizeof(path), "/proc/%.20s/exe", pid);
    len = readlink(path, exe, sizeof(exe) - 1);
    if (len <= 0) {
        return false;
    }
    exe[len] = '\0';
    if ((size_t)len > strlen(deleted) &&
        strcmp(exe + (size_t)len - strlen(deleted), deleted) == 0) {
        exe[(size_t)len - strlen(deleted)] = '\0';
    }
    base = strrchr(exe, '/');
    return base && strcmp(base + 1, name) == 0;
}

/* The sandbox named by "--dir RUN/ID" in a command line; false when there is none. */
static bool find_id(const struct node_manager *manager,
                    const char *pid,
                    char id[NODE_SANDBOX_ID_SIZE])
{
    size_t prefix = strlen(manager->run_dir);
    bool after_flag = false;
    bool found = false;
    struct shl_buf text;
    const char *at;
    const char *end;
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
    shl_buf_init(&text, CMDLINE_MAX);
    if (shl_read_file(path, &text) < 0 || shl_buf_append(&text, "", 1) < 0) {
        shl_buf_release(&text);
        return false;
    }
    at = (const char *)shl_buf_data(&text);
    end = at + shl_buf_len(&text);
    for (; at < end && !found; at += strlen(at) + 1) {
        if (after_flag && strncmp(at, manager->run_dir, prefix) == 0 && at[prefix] == '/' &&
            id_is_valid(at + prefix + 1)) {
            (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", at + prefix + 1);
            found = true;
        }
        after_flag = strcmp(at, "--dir") == 0;
    }
    shl_buf_release(&text);
    return found;
}

static void kill_and_wait(const struct sweep *sweep, pid_t pid, const char *id)
{
    SHL_CLEANUP_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    char again[NODE_SANDBOX_ID_SIZE];
    char text[32];

    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    /* look again behind the pidfd: the number may have changed hands */
    if (fd < 0 || !runs_our_vmm(sweep->manager, text) || !find_id(sweep->manager, text, again) ||
        strcmp(id, again) != 0) {
        return;
    }
    SHL_LOG(&sweep->manager->log, SHL_LOG_WARN, "stray_vmm_killed", SHL_S("sandbox", id),
            SHL_I("pid", pid));
    (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    if (poll(&ended, 1, KILL_WAIT_MS) != 1) {
        SHL_LOG(&sweep->manager->log, SHL_LOG_ERROR, "stray_vmm_stays", SHL_S("sandbox", id),
                SHL_I("pid", pid));
    }
}

static void kill_strays(const struct sweep *sweep)
{
    char id[NODE_SANDBOX_ID_SIZE];
    DIR *folder = opendir("/proc");
    struct dirent *entry;

    while (folder && (entry = readdir(folder))) {
        if (isdigit((unsigned char)entry->d_name[0]) &&
            runs_our_vmm(sweep->manager, entry->d_name) &&
            find_id(sweep->manager, entry->d_name, id) && !sweep->keep(sweep->arg, id)) {
            kill_and_wait(sweep, (pid_t)strtol(entry->d_name, NULL, 10), id);
        }
    }
    if (folder) {
        (void)closedir(folder);
    }
}

/* ---- folders and cgroups --------------------------------------------------------- */

static void remove_one(const struct sweep *sweep, const char *id)
{
    struct shl_err err = {0};
    int rc = node_cgroup_remove(&sweep->manager->cgroups, id, &err);

    if (files_remove(sweep->manager, id, rc < 0 ? NULL : &err) < 0 || rc < 0) {
        SHL_LOG(&sweep->manager->log, SHL_LOG_ERROR, "sandbox_leftovers", SHL_S("sandbox", id),
                SHL_S("reason", err.msg));
    } else {
        SHL_LOG(&sweep->manager->log, SHL_LOG_INFO, "leftovers_removed", SHL_S("sandbox", id));
    }
}

static void remove_folders(const struct sweep *sweep, const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    while (folder && (entry = readdir(folder))) {
        if (id_is_valid(entry->d_name) && !sweep->keep(sweep->arg, entry->d_name)) {
            remove_one(sweep, entry->d_name);
        }
    }
    if (folder) {
        (void)closedir(folder);
    }
}

void strays_remove(struct node_manager *manager, bool (*keep)(void *arg, const char *id), void *arg)
{
    const struct sweep sweep = {manager, keep, arg};
    char path[SANDBOX_PATH_MAX];

    kill_strays(&sweep);
    (void)snprintf(path, sizeof(path), "%s/sandboxes", manager->data_dir);
    remove_folders(&sweep, path);
    remove_folders(&sweep, manager->run_dir);
}
