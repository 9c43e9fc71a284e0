#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"

#define REMOVE_TREE_FDS 16

uint64_t shl_monotonic_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t shl_monotonic_ms(void)
{
    return shl_monotonic_us() / 1000;
}

uint64_t shl_boottime_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int64_t shl_realtime_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int shl_pread_full(int fd, void *dst, size_t len, uint64_t offset)
{
    uint8_t *at = dst;

    while (len > 0) {
        ssize_t got = pread(fd, at, len, (off_t)offset);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            return -ENODATA;
        }
        at += got;
        offset += (uint64_t)got;
        len -= (size_t)got;
    }
    return 0;
}

int shl_pwrite_full(int fd, const void *src, size_t len, uint64_t offset)
{
    const uint8_t *at = src;

    while (len > 0) {
        ssize_t put = pwrite(fd, at, len, (off_t)offset);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return -errno;
        }
        at += put;
        offset += (uint64_t)put;
        len -= (size_t)put;
    }
    return 0;
}

int shl_write_full(int fd, const void *src, size_t len)
{
    const uint8_t *at = src;

    while (len > 0) {
        ssize_t put = write(fd, at, len);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return -errno;
        }
        at += put;
        len -= (size_t)put;
    }
    return 0;
}

int shl_read_file(const char *path, struct shl_buf *buf)
{
    SHL_CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -errno;
    }
    for (;;) {
        size_t room = buf->max_bytes - shl_buf_len(buf);
        size_t want = room < 65536 ? room : 65536;
        uint8_t *space;
        char probe;
        ssize_t got;
        int rc;

        if (want == 0) { /* at the limit: only the end of the file is fine */
            got = read(fd, &probe, 1);
            return got == 0 ? 0 : got < 0 ? -errno : SHL_ELIMIT;
        }
        rc = shl_buf_reserve(buf, want, &space);
        if (rc < 0) {
            return rc;
        }
        got = read(fd, space, want);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            return 0;
        }
        shl_buf_commit(buf, (size_t)got);
    }
}

static int fsync_parent(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    SHL_CLEANUP_FD int fd = -1;

    if (len >= sizeof(dir)) {
        return -ENAMETOOLONG;
    }
    memcpy(dir, path, len);
    dir[len] = '\0';
    fd = open(slash ? (len ? dir : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

int shl_write_file_atomic(const char *path, const void *src, size_t len, mode_t mode)
{
    char temp[PATH_MAX];
    SHL_CLEANUP_FD int fd = -1;
    int rc;

    if (snprintf(temp, sizeof(temp), "%s.tmp", path) >= (int)sizeof(temp)) {
        return -ENAMETOOLONG;
    }
    fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return -errno;
    }
    rc = shl_write_full(fd, src, len);
    if (rc == 0 && fsync(fd) < 0) {
        rc = -errno;
    }
    if (rc == 0 && rename(temp, path) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        (void)unlink(temp);
        return rc;
    }
    return fsync_parent(path);
}

int shl_mkdir_all(const char *path, mode_t mode)
{
    char part[PATH_MAX];
    size_t i, len = strlen(path);

    if (len == 0 || len >= sizeof(part)) {
        return len ? -ENAMETOOLONG : -EINVAL;
    }
    memcpy(part, path, len + 1);
    for (i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0') {
            continue;
        }
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST) {
            return -errno;
        }
        part[i] = '/';
    }
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int shl_remove_tree(const char *path)
{
    int rc = nftw(path, remove_entry, REMOVE_TREE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

    if (rc == -1) {
        return errno == ENOENT ? 0 : -errno;
    }
    return rc;
}
