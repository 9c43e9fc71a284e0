/* Moving a tree into another, and removing one. What is moved came out of a sandbox, and where it
 * goes may hold links that came out of one before: none is followed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/cp.h"

/* Two folders of the same name, and how we got there. */
struct level {
    const struct level *above; /* NULL at the top */
    const char *name;
    int from_fd;
    int to_fd;
    struct shl_err *err;
};

static void write_path(const struct level *level, char *dst, size_t size)
{
    size_t len;

    if (level->above) {
        write_path(level->above, dst, size);
    } else {
        *dst = '\0';
    }
    len = strlen(dst);
    (void)snprintf(dst + len, size - len, "%s%s", len > 0 ? "/" : "", level->name);
}

static int fail(const struct level *level, const char *name, int errnum)
{
    char path[160];

    write_path(level, path, sizeof(path));
    return shl_err_sys(level->err, errnum, "%s/%s", path, name);
}

static int conflict(const struct level *level, const char *name, const char *what)
{
    char path[160];

    write_path(level, path, sizeof(path));
    return shl_err_set(level->err, SHL_ECONFLICT, "%s/%s %s", path, name, what);
}

typedef int (*each_cb)(const struct level *level, const char *name);

static int for_each(const struct level *level, each_cb each)
{
    int fd = openat(level->from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *found;
    int rc = 0;

    if (!dir) {
        rc = fail(level, ".", errno);
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    while (rc == 0 && (found = readdir(dir)) != NULL) {
        if (strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0) {
            rc = each(level, found->d_name);
        }
    }
    (void)closedir(dir);
    return rc;
}

/* Both are folders: the same for what is in them. Ours must be readable and writable for that. */
static int descend(const struct level *level, const char *name, mode_t mode, each_cb each)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    SHL_CLEANUP_FD int from_fd = -1;
    SHL_CLEANUP_FD int to_fd = openat(level->to_fd, name, flags);
    struct level below = {level, name, -1, to_fd, level->err};
    int rc;

    if (to_fd < 0 || fchmodat(level->from_fd, name, mode | S_IRWXU, 0) < 0) {
        return fail(level, name, errno);
    }
    from_fd = openat(level->from_fd, name, flags);
    if (from_fd < 0) {
        return fail(level, name, errno);
    }
    below.from_fd = from_fd;
    rc = for_each(&below, each);
    (void)fchmod(from_fd, mode);
    return rc;
}

static int check_one(const struct level *level, const char *name)
{
    struct stat from;
    struct stat to;

    if (fstatat(level->from_fd, name, &from, AT_SYMLINK_NOFOLLOW) < 0) {
        return fail(level, name, errno);
    }
    if (fstatat(level->to_fd, name, &to, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : fail(level, name, errno);
    }
    if (S_ISDIR(from.st_mode) != S_ISDIR(to.st_mode)) {
        return conflict(level, name,
                        S_ISDIR(to.st_mode)   ? "is a folder, and a file would take its place"
                        : S_ISLNK(to.st_mode) ? "is a link, and a folder would take its place"
                                              : "is a file, and a folder would take its place");
    }
    return S_ISDIR(from.st_mode) ? descend(level, name, from.st_mode & 07777, check_one) : 0;
}

/* A folder that goes elsewhere is written to: its "..". */
static int move_folder(const struct level *level, const char *name, mode_t mode)
{
    if (fchmodat(level->from_fd, name, mode | S_IRWXU, 0) < 0 ||
        renameat(level->from_fd, name, level->to_fd, name) < 0 ||
        fchmodat(level->to_fd, name, mode, 0) < 0) {
        return fail(level, name, errno);
    }
    return 0;
}

static int move_one(const struct level *level, const char *name)
{
    struct stat from;
    struct stat to;

    if (fstatat(level->from_fd, name, &from, AT_SYMLINK_NOFOLLOW) < 0) {
        return fail(level, name, errno);
    }
    if (!S_ISDIR(from.st_mode)) {
        return renameat(level->from_fd, name, level->to_fd, name) < 0 ? fail(level, name, errno)
                                                                      : 0;
    }
    if (fstatat(level->to_fd, name, &to, AT_SYMLINK_NOFOLLOW) == 0) {
        return descend(level, name, from.st_mode & 07777, move_one);
    }
    return move_folder(level, name, from.st_mode & 07777);
}

int cp_merge(const char *from, const char *to, struct shl_err *err)
{
    const bool is_open = chmod(from, S_IRWXU) == 0; /* whatever the archive made of it */
    SHL_CLEANUP_FD int from_fd = open(from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    SHL_CLEANUP_FD int to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct level top = {NULL, to, from_fd, to_fd, err};
    int rc;

    if (!is_open || from_fd < 0 || to_fd < 0) {
        return shl_err_sys(err, errno, "%s", from_fd < 0 ? from : to);
    }
    rc = for_each(&top, check_one);
    return rc < 0 ? rc : for_each(&top, move_one);
}

void cp_remove(const char *path)
{
    char *paths[] = {(char *)(uintptr_t)path, NULL};
    /* In each folder by its short name: whole ones may be longer than the system takes. */
    FTS *tree = fts_open(paths, FTS_PHYSICAL, NULL);
    const FTSENT *found;

    while (tree && (found = fts_read(tree)) != NULL) {
        switch (found->fts_info) {
        case FTS_D:
            (void)chmod(found->fts_accpath, 0700);
            break;
        case FTS_DP:
            (void)rmdir(found->fts_accpath);
            break;
        default:
            (void)unlink(found->fts_accpath);
            break;
        }
    }
    if (tree) {
        (void)fts_close(tree);
    }
}
