#include "agent/hotplug.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"

#define SMALL_MAX_BYTES  4096
#define IOMEM_MAX_BYTES  262144
#define RAM_NAME         "System RAM"
#define NPROC_MIN        1024
#define BYTES_PER_THREAD (128u * 1024) /* the kernel's own ratio: an eighth of memory in stacks */
#define BYTES_PER_FILE   10240         /* likewise */

uint64_t agent_memory_total(void)
{
    struct sysinfo info;

    return sysinfo(&info) < 0 ? 0 : (uint64_t)info.totalram * info.mem_unit;
}

/* A file as text on the heap, NULL when it cannot be read. */
static char *read_text(const char *path, size_t max_bytes)
{
    struct shl_buf buf;
    char *text = NULL;

    shl_buf_init(&buf, max_bytes);
    if (shl_read_file(path, &buf) == 0) {
        text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
    return text;
}

static int write_text(const char *path, const char *value)
{
    SHL_CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd < 0 || write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

/* ---- processors ------------------------------------------------------------------ */

/* The number after the last '-' or ',' of "0-3", plus one. */
static unsigned count_present(const char *dir)
{
    char path[256];
    SHL_CLEANUP_FREE char *text = NULL;
    const char *at;
    unsigned long last;

    (void)snprintf(path, sizeof(path), "%s/present", dir);
    text = read_text(path, SMALL_MAX_BYTES);
    if (!text) {
        return 0;
    }
    at = text + strlen(text);
    while (at > text && !strchr("-,", at[-1])) {
        at--;
    }
    last = strtoul(at, NULL, 10);
    return last < AGENT_CPUS_MAX ? (unsigned)last + 1 : AGENT_CPUS_MAX;
}

static int set_cpu(const char *dir, unsigned index, bool online, struct shl_err *err)
{
    char path[256];
    SHL_CLEANUP_FREE char *text = NULL;
    int rc;

    (void)snprintf(path, sizeof(path), "%s/cpu%u/online", dir, index);
    text = read_text(path, SMALL_MAX_BYTES);
    if (text && (text[0] == '1') == online) { /* switching takes milliseconds */
        return 0;
    }
    rc = text ? write_text(path, online ? "1" : "0") : -ENOENT;
    return rc < 0 ? shl_err_sys(err, -rc, "processor %u could not be switched %s", index,
                                online ? "on" : "off")
                  : 0;
}

int agent_cpus_set(const char *dir, unsigned count, struct shl_err *err)
{
    unsigned present = count_present(dir), i;

    if (count < 1 || count > present) {
        return shl_err_set(err, SHL_EINVALIDARG, "the machine has %u processors, not %u", present,
                           count);
    }
    for (i = 1; i < present; i++) {
        int rc = set_cpu(dir, i, i < count, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- memory ---------------------------------------------------------------------- */

uint64_t agent_iomem_ram_bytes(const char *text)
{
    uint64_t sum = 0;

    while (*text) {
        size_t len = strcspn(text, "\n");
        unsigned long long first, last;
        int at = 0;

        /* Lines of parts of an area are indented. */
        if (*text != ' ' && sscanf(text, "%llx-%llx : %n", &first, &last, &at) == 2 && at > 0 &&
            (size_t)at + strlen(RAM_NAME) == len &&
            memcmp(text + at, RAM_NAME, strlen(RAM_NAME)) == 0 && last > first) {
            sum += last - first + 1;
        }
        text += len + (text[len] ? 1 : 0);
    }
    return sum;
}

void agent_memory_measure(struct agent_memory_base *base)
{
    SHL_CLEANUP_FREE char *text = read_text("/proc/iomem", IOMEM_MAX_BYTES);

    base->ram_bytes = text ? agent_iomem_ram_bytes(text) : 0;
    base->total_bytes = agent_memory_total();
    base->limits_bytes = base->total_bytes;
}

/* Hot-plugged memory is in MemTotal byte by byte once it is online, also when a block of
 * the kernel's is there in part; what the kernel kept of the memory it booted with does not
 * change. The firmware's holes make ram_bytes a little less than the machine's memory. */
uint64_t agent_memory_wanted(const struct agent_memory_base *base, uint64_t memory_bytes)
{
    uint64_t more = memory_bytes > base->ram_bytes ? memory_bytes - base->ram_bytes : 0;

    return base->total_bytes + more / AGENT_MEMORY_BLOCK_BYTES * AGENT_MEMORY_BLOCK_BYTES;
}

/* The driver says nothing when it is done: one looks again, more and more slowly. */
int agent_memory_wait(const struct agent_memory_base *base,
                      uint64_t memory_bytes,
                      struct shl_err *err)
{
    uint64_t wanted = agent_memory_wanted(base, memory_bytes);
    uint64_t seen = agent_memory_total(), stall_ms = shl_monotonic_ms() + AGENT_MEMORY_STALL_MS;
    long pause_us = 200;

    if (base->ram_bytes == 0) {
        return shl_err_set(err, SHL_EBADSTATE, "the memory of the machine is not known");
    }
    while (seen < wanted) {
        struct timespec pause = {.tv_nsec = pause_us * 1000};
        uint64_t now;

        (void)nanosleep(&pause, NULL);
        pause_us = SHL_MIN(pause_us * 2, 10000L);
        now = agent_memory_total();
        if (now > seen) {
            stall_ms = shl_monotonic_ms() + AGENT_MEMORY_STALL_MS;
            seen = now;
        } else if (shl_monotonic_ms() > stall_ms) {
            return shl_err_set(err, -ETIMEDOUT,
                               "%llu MiB of memory were to be added and %llu MiB did not come",
                               (unsigned long long)(wanted - base->total_bytes) >> 20,
                               (unsigned long long)(wanted - seen) >> 20);
        }
    }
    return 0;
}

static void write_number(const char *path, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    (void)!write_text(path, text);
}

void agent_memory_apply_limits(struct agent_memory_base *base)
{
    uint64_t bytes = agent_memory_total();
    rlim_t count = SHL_MAX((rlim_t)(bytes >> 20), (rlim_t)NPROC_MIN);
    struct rlimit nproc = {.rlim_cur = count, .rlim_max = count};

    if (bytes == base->limits_bytes) {
        return;
    }
    base->limits_bytes = bytes;
    (void)setrlimit(RLIMIT_NPROC, &nproc); /* a fork bomb leaves memory to stop it */
    write_number("/proc/sys/kernel/threads-max", bytes / BYTES_PER_THREAD);
    write_number("/proc/sys/fs/file-max", bytes / BYTES_PER_FILE);
    /* Half of the memory there is now: tmpfs counted when it was mounted. */
    (void)mount("tmpfs", "/dev/shm", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=50%,mode=1777");
    (void)mount("tmpfs", "/run", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=50%,mode=0755");
}
