/* Folders as a whole: list and remove. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/fs.h"
#include "base/cleanup.h"
#include "base/mp.h"

/* ---- list ------------------------------------------------------------------------ */

struct names {
    char **at;
    size_t count;
    size_t cap;
    size_t bytes;
};

static void free_names(struct names *names)
{
    size_t i;

    for (i = 0; i < names->count; i++) {
        free(names->at[i]);
    }
    free(names->at);
}

static int add_name(struct names *names, const char *name)
{
    names->bytes += strlen(name) + 2 * sizeof(char *);
    if (names->bytes > AGENT_FS_LIST_MAX_BYTES) {
        return SHL_ELIMIT;
    }
    if (names->count == names->cap) {
        size_t cap = names->cap ? names->cap * 2 : 64;
        char **at = realloc(names->at, cap * sizeof(*at));

        if (!at) {
            return -ENOMEM;
        }
        names->at = at;
        names->cap = cap;
    }
    names->at[names->count] = strdup(name);
    return names->at[names->count] ? (names->count++, 0) : -ENOMEM;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *dir, const atomic_bool *cancel, struct names *names)
{
    struct dirent *entry;
    int rc = 0;

    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (atomic_load(cancel)) {
            return -ECANCELED;
        }
        rc = is_dot(entry->d_name) ? 0 : add_name(names, entry->d_name);
    }
    if (rc == 0 && errno) {
        rc = -errno;
    }
    if (names->count > 0) {
        qsort(names->at, names->count, sizeof(*names->at), compare_names);
    }
    return rc;
}

/* Links count as what they point at; a dangling one as itself. */
static int write_entry(struct shl_buf *buf, int dir_fd, const char *name)
{
    struct shl_mp_writer w;
    struct stat st;

    if (fstatat(dir_fd, name, &st, 0) < 0 && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return 0; /* removed meanwhile */
    }
    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "name", name);
    shl_mp_kv_bool(&w, "is_dir", S_ISDIR(st.st_mode));
    shl_mp_kv_uint(&w, "size", S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size);
    shl_mp_kv_uint(&w, "mode", st.st_mode & 07777);
    shl_mp_kv_int(&w, "mtime_ms", st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int list_dir(DIR *dir, const atomic_bool *cancel, struct shl_buf *buf)
{
    struct names names = {0};
    size_t i;
    int rc = read_names(dir, cancel, &names);

    for (i = 0; rc == 0 && i < names.count; i++) {
        rc = atomic_load(cancel) ? -ECANCELED : write_entry(buf, dirfd(dir), names.at[i]);
    }
    free_names(&names);
    return rc;
}

int agent_fs_list(const char *path,
                  const atomic_bool *cancel,
                  struct shl_buf *buf,
                  struct shl_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int rc;

    if (!dir) {
        rc = agent_fs_error(err, errno, path);
        if (fd >= 0) {
            (void)close(fd);
        }
        return rc;
    }
    rc = list_dir(dir, cancel, buf);
    (void)closedir(dir);
    if (rc == SHL_ELIMIT) {
        return shl_err_set(err, rc, "the folder has too many entries to list: %s", path);
    }
    return rc < 0 ? agent_fs_error(err, -rc, path) : 0;
}

/* ---- remove ---------------------------------------------------------------------- */

/* Deeper folders are first moved to the top, so that neither the stack nor the number
 * of open folders depends on what a guest has built. */
#define REMOVE_DEPTH_MAX 32
#define MOVE_TRIES       1000

struct removal {
    int top_fd;
    dev_t dev;
    const atomic_bool *cancel;
    unsigned moved_count;
};

static int remove_dir(struct removal *removal, int parent_fd, const char *name, unsigned depth);

static int move_to_top(struct removal *removal, int dir_fd, const char *name)
{
    char temp[64];
    int tries;

    for (tries = 0; tries < MOVE_TRIES; tries++) { /* a removal cut short left some names */
        (void)snprintf(temp, sizeof(temp), ".shoal-remove-%u", removal->moved_count++);
        if (renameat(dir_fd, name, removal->top_fd, temp) == 0) {
            return 0;
        }
        if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) {
            return -errno;
        }
    }
    return -ENOTEMPTY;
}

static int remove_entry(struct removal *removal, int dir_fd, const char *name, unsigned depth)
{
    struct stat st;

    if (atomic_load(removal->cancel)) {
        return -ECANCELED;
    }
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return -errno;
    }
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return -EPERM;
    }
    if (st.st_dev != removal->dev) {
        return -EBUSY;
    }
    return depth < REMOVE_DEPTH_MAX ? remove_dir(removal, dir_fd, name, depth)
                                    : move_to_top(removal, dir_fd, name);
}

/* Everything that a pass over the folder sees. */
static int remove_pass(struct removal *removal, DIR *dir, unsigned depth, bool *ret_progress)
{
    struct dirent *entry;
    int rc = 0;

    *ret_progress = false;
    rewinddir(dir);
    while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (!is_dot(entry->d_name)) {
            rc = remove_entry(removal, dirfd(dir), entry->d_name, depth + 1);
            *ret_progress = true;
        }
    }
    return rc == 0 && errno ? -errno : rc;
}

/* The content, in as many passes as it takes: entries may be added meanwhile, by
 * move_to_top as well as by running programs. */
static int remove_content(struct removal *removal, int fd, unsigned depth)
{
    DIR *dir = fdopendir(fd); /* takes fd */
    bool progress = true;
    int rc = 0;

    if (!dir) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    if (removal->top_fd < 0) {
        removal->top_fd = fd;
    }
    while (rc == 0 && progress) {
        rc = remove_pass(removal, dir, depth, &progress);
    }
    (void)closedir(dir);
    return rc;
}

static int remove_dir(struct removal *removal, int parent_fd, const char *name, unsigned depth)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int rc;

    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    rc = remove_content(removal, fd, depth);
    if (rc == 0 && unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        rc = -errno;
    }
    return rc;
}

/* Splits @path into the folder it is in, opened, and its last component in @name. */
static int open_parent(const char *path, char name[NAME_MAX + 1], int *ret_fd)
{
    char dir[PATH_MAX];
    size_t len = strlen(path), name_len;
    const char *slash;

    while (len > 0 && path[len - 1] == '/') {
        len--;
    }
    slash = memrchr(path, '/', len);
    name_len = slash ? len - (size_t)(slash - path) - 1 : 0;
    if (name_len == 0) {
        return SHL_EINVALIDARG;
    }
    if (name_len > NAME_MAX || len >= sizeof(dir)) {
        return -ENAMETOOLONG;
    }
    memcpy(name, slash + 1, name_len);
    name[name_len] = '\0';
    if (is_dot(name)) {
        return SHL_EINVALIDARG;
    }
    memcpy(dir, path, len - name_len);
    dir[len - name_len] = '\0';
    *ret_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *ret_fd < 0 ? -errno : 0;
}

static int remove_at(int parent_fd, const char *name, const atomic_bool *cancel)
{
    struct removal removal = {.top_fd = -1, .cancel = cancel};
    struct stat st, parent;

    if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || fstat(parent_fd, &parent) < 0) {
        return -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return unlinkat(parent_fd, name, 0) < 0 ? -errno : 0;
    }
    if (st.st_dev != parent.st_dev) {
        return -EBUSY;
    }
    removal.dev = st.st_dev;
    return remove_dir(&removal, parent_fd, name, 0);
}

int agent_fs_remove(const char *path, const atomic_bool *cancel, struct shl_err *err)
{
    SHL_CLEANUP_FD int parent_fd = -1;
    char name[NAME_MAX + 1];
    int rc;

    assert(*path == '/');
    rc = open_parent(path, name, &parent_fd);
    if (rc == 0) {
        rc = remove_at(parent_fd, name, cancel);
    }
    if (rc == SHL_EINVALIDARG) {
        return shl_err_set(err, rc, "this path cannot be removed: %s", path);
    }
    if (rc == -ENOENT || rc == -ENOTDIR) {
        return 0; /* nothing is there */
    }
    if (rc == -EBUSY) {
        return shl_err_set(err, rc, "a mount point cannot be removed: %s", path);
    }
    return rc < 0 ? agent_fs_error(err, -rc, path) : 0;
}
