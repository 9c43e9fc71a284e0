#include "node/sandbox/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "node/sandbox/text.h"

#define PROC_FILE_MAX (1024 * 1024)

uint32_t machine_memory_mb(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);

    return (uint32_t)(((uint64_t)pages * (uint64_t)page_bytes) >> 20);
}

uint32_t machine_cpus(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t allowed;

    /* Sandboxes inherit what this process may use: a cpuset, taskset, isolated CPUs. */
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) > 0) {
        return (uint32_t)CPU_COUNT(&allowed);
    }
    return online > 0 ? (uint32_t)online : 1;
}

bool machine_is_emulated(void)
{
    struct shl_buf text;
    bool found;

    shl_buf_init(&text, PROC_FILE_MAX);
    found = shl_read_file("/proc/cpuinfo", &text) == 0 &&
            memmem(shl_buf_data(&text), shl_buf_len(&text), "QEMU TCG", strlen("QEMU TCG"));
    shl_buf_release(&text);
    return found;
}

void machine_boot_id(char *dst, size_t size)
{
    struct shl_buf text;

    dst[0] = '\0';
    shl_buf_init(&text, 4096);
    if (shl_read_file("/proc/sys/kernel/random/boot_id", &text) == 0) {
        node_text_last_line(dst, size, shl_buf_bytes(&text));
    }
    shl_buf_release(&text);
}

int machine_check_kvm(const char *path, struct shl_err *err)
{
    SHL_CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        return 0;
    }
    if (errno == EACCES || errno == EPERM) {
        return shl_err_set(err, SHL_ENOKVM,
                           "%s may not be opened: run shoald as root or add its user to the "
                           "group kvm",
                           path);
    }
    return shl_err_set(err, SHL_ENOKVM,
                       "this machine has no KVM (%s: %s): switch virtualisation on in its "
                       "firmware, or use the lab (scripts/up does)",
                       path, strerrordesc_np(errno) ? strerrordesc_np(errno) : "?");
}
