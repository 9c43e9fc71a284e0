#include "files.h"

#include <assert.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

static char small_path[64];

static int make_temp(const char *folder)
{
    char name[128];
    int fd;

    (void)snprintf(name, sizeof(name), "%s/shoal-vmm-XXXXXX", folder);
    fd = mkstemp(name);
    assert(fd >= 0);
    (void)unlink(name);
    return fd;
}

int files_temp(void)
{
    return make_temp("/tmp");
}

int files_reopen(int fd, int flags)
{
    char path[32];
    int again;

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    again = open(path, flags | O_CLOEXEC);
    assert(again >= 0);
    return again;
}

uint64_t files_bytes(int fd)
{
    struct stat st;
    int r = fstat(fd, &st);

    assert(r == 0);
    return (uint64_t)st.st_size;
}

uint8_t *files_content(int fd, uint64_t *ret_bytes)
{
    uint64_t bytes = files_bytes(fd);
    uint8_t *content = malloc((size_t)bytes + 1);
    int r = shl_pread_full(fd, content, (size_t)bytes, 0);

    assert(r == 0);
    *ret_bytes = bytes;
    return content;
}

int files_copy(int fd, uint64_t bytes)
{
    uint64_t all;
    uint8_t *content = files_content(fd, &all);
    int copy = files_temp();
    int r;

    assert(bytes <= all);
    r = shl_pwrite_full(copy, content, (size_t)bytes, 0);
    assert(r == 0);
    free(content);
    return copy;
}

uint32_t files_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

void files_limit(uint64_t bytes)
{
    struct rlimit limit;
    int r = getrlimit(RLIMIT_FSIZE, &limit);

    assert(r == 0);
    limit.rlim_cur = bytes ? bytes : limit.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    r = setrlimit(RLIMIT_FSIZE, &limit);
    assert(r == 0);
}

const char *files_small_fs(uint64_t bytes)
{
    char options[64];

    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
        return NULL;
    }
    (void)snprintf(small_path, sizeof(small_path), "/tmp/shoal-small-XXXXXX");
    if (!mkdtemp(small_path)) {
        return NULL;
    }
    (void)snprintf(options, sizeof(options), "size=%llu,mode=0700", (unsigned long long)bytes);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", small_path, "tmpfs", 0, options) < 0) {
        (void)rmdir(small_path);
        return NULL;
    }
    return small_path;
}

void files_small_fs_end(void)
{
    (void)umount2(small_path, MNT_DETACH);
    (void)rmdir(small_path);
}

int files_small_temp(void)
{
    return make_temp(small_path);
}
