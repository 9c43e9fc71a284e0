/* A file without use: on a full disk its space is what a collection can work with. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "checkpoint/internal.h"

static char *reserve_path(const struct ckpt_store *store)
{
    char *path;

    return asprintf(&path, "%s/reserve", store->dir) < 0 ? NULL : path;
}

void ckpt_reserve_make(struct ckpt_store *store)
{
    SHL_CLEANUP_FREE char *path = reserve_path(store);
    uint64_t bytes = SHL_MIN(CKPT_RESERVE_BYTES, store->segment_bytes / 8);
    SHL_CLEANUP_FD int fd = -1;

    if (!path) {
        return;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)bytes) < 0) {
        SHL_LOG(ckpt_log(store), SHL_LOG_WARN, "checkpoint_reserve_failed", SHL_I("errno", errno),
                SHL_I("bytes", bytes));
        (void)unlink(path); /* half of it would be in the way and of no help */
    }
}

void ckpt_reserve_drop(struct ckpt_store *store)
{
    SHL_CLEANUP_FREE char *path = reserve_path(store);

    if (path) {
        (void)unlink(path);
    }
}
