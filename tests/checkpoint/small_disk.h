/* A disk of 24 MiB to be filled by a test: a tmpfs in a mount namespace of the process. */
#ifndef SHL_TESTS_CHECKPOINT_SMALL_DISK_H
#define SHL_TESTS_CHECKPOINT_SMALL_DISK_H

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#define DISK_OPTIONS "size=24m,mode=700"

/* Enters the namespace. False where that, or a tmpfs, is not allowed: skip. */
static inline bool can_mount(void)
{
    char path[] = "/tmp/shl-full-XXXXXX";
    bool ok;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        !mkdtemp(path)) {
        return false;
    }
    ok = mount("none", path, "tmpfs", 0, DISK_OPTIONS) == 0;
    if (ok) {
        umount2(path, MNT_DETACH);
    }
    rmdir(path);
    return ok;
}

#endif /* SHL_TESTS_CHECKPOINT_SMALL_DISK_H */
