/* Carrying out what the node wants of the guest: identity, time, entropy, network, sizes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "agent/setup.h"
#include "base/cleanup.h"
#include "base/io.h"

#define ROOT_DEVICE          "/dev/vda"
#define EXT4_IOC_RESIZE_FS   _IOW('f', 16, uint64_t)
#define HOSTS_MAX_BYTES      65536
#define SETUP_FILE_MAX_BYTES (3 * HOSTS_MAX_BYTES)

/* Mixed in and used at once: clones of one snapshot must not share random numbers. */
static int apply_entropy(const uint8_t *entropy, size_t len)
{
    union {
        struct rand_pool_info info; /* with the bytes behind it */
        uint8_t bytes[sizeof(struct rand_pool_info) + AGENT_ENTROPY_MAX_BYTES];
    } pool = {.info = {.entropy_count = (int)len * 8, .buf_size = (int)len}};
    SHL_CLEANUP_FD int fd = -1;

    if (len == 0) {
        return 0;
    }
    memcpy(pool.bytes + sizeof(pool.info), entropy, len);
    fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0) {
        return -errno;
    }
    return 0;
}

static int apply_time(uint64_t time_ms)
{
    struct timespec now = {.tv_sec = (time_t)(time_ms / 1000),
                           .tv_nsec = (long)(time_ms % 1000) * 1000000};

    return time_ms && clock_settime(CLOCK_REALTIME, &now) < 0 ? -errno : 0;
}

static bool file_is(const char *path, const void *text, size_t len)
{
    struct shl_buf buf;
    bool same;

    shl_buf_init(&buf, SETUP_FILE_MAX_BYTES);
    same = shl_read_file(path, &buf) == 0 && shl_buf_len(&buf) == len &&
           memcmp(shl_buf_data(&buf), text, len) == 0;
    shl_buf_release(&buf);
    return same;
}

/* In place, without fsync: all of this is written again at the next boot. What is right
 * already is not touched and nothing is cut to nothing first, because ext4 writes such a
 * file out at once, and each block that is written costs time and the overlay of this
 * sandbox. */
static int write_text(const char *path, const void *text, size_t len)
{
    SHL_CLEANUP_FD int fd = -1;
    struct stat st;
    int rc;

    if (file_is(path, text, len)) {
        return 0;
    }
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) { /* of the image: to a stub resolver */
        (void)unlink(path);
    }
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    rc = shl_write_full(fd, text, len);
    if (rc == 0 && st.st_size > (off_t)len && ftruncate(fd, (off_t)len) < 0) {
        rc = -errno;
    }
    return rc;
}

/* The address that the host name stands for, in place of the one written before. */
static int write_hosts(const char *hostname)
{
    struct shl_buf old, new;
    char *text, *at, *line;
    int rc;

    shl_buf_init(&old, HOSTS_MAX_BYTES);
    shl_buf_init(&new, 2 * HOSTS_MAX_BYTES);
    rc = shl_read_file("/etc/hosts", &old);
    if (rc == -ENOENT) {
        rc = shl_buf_append_str(&old, "127.0.0.1 localhost\n::1 localhost\n");
    }
    text = shl_bytes_dup_str(shl_buf_bytes(&old));
    for (at = text; rc == 0 && at && (line = strsep(&at, "\n")) != NULL;) {
        if (*line && strncmp(line, "127.0.1.1", 9) != 0) {
            rc = shl_buf_printf(&new, "%s\n", line);
        }
    }
    if (rc == 0) {
        rc = shl_buf_printf(&new, "127.0.1.1 %s\n", hostname);
    }
    if (rc == 0) {
        rc = write_text("/etc/hosts", shl_buf_data(&new), shl_buf_len(&new));
    }
    free(text);
    shl_buf_release(&old);
    shl_buf_release(&new);
    return rc;
}

static int apply_identity(const struct agent_setup *setup)
{
    char text[AGENT_HOSTNAME_SIZE + 1];
    int rc = 0;

    if (*setup->hostname) {
        if (sethostname(setup->hostname, strlen(setup->hostname)) < 0) {
            return -errno;
        }
        (void)snprintf(text, sizeof(text), "%s\n", setup->hostname);
        rc = write_text("/etc/hostname", text, strlen(text));
        if (rc == 0) {
            rc = write_hosts(setup->hostname);
        }
    }
    if (rc == 0 && *setup->machine_id) {
        (void)snprintf(text, sizeof(text), "%s\n", setup->machine_id);
        rc = write_text("/etc/machine-id", text, strlen(text));
    }
    return rc;
}

static int apply_boot_id(const struct agent_setup *setup,
                         struct agent_guest *guest,
                         struct shl_err *err)
{
    int rc = *setup->machine_id ? agent_boot_id_apply(&guest->boot_id, setup->machine_id) : 0;

    return rc < 0 ? shl_err_sys(err, -rc, "the boot id could not be made new") : 0;
}

static int apply_dns(const struct agent_setup *setup)
{
    char text[AGENT_NAMESERVERS_MAX * 64] = "";
    size_t i, len = 0;

    for (i = 0; i < setup->dns_count; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "nameserver %s\n", setup->dns[i]);
    }
    return len > 0 ? write_text("/etc/resolv.conf", text, len) : 0;
}

/* After a restore the device grows a moment after the guest goes on, and says so to nobody
 * here: one looks again. */
static int wait_for_disk(int disk, uint64_t disk_bytes, uint64_t *ret_bytes)
{
    uint64_t end_ms = shl_monotonic_ms() + AGENT_DISK_WAIT_MS;
    long pause_us = 200;

    for (;;) {
        struct timespec pause = {.tv_nsec = pause_us * 1000};

        if (ioctl(disk, BLKGETSIZE64, ret_bytes) < 0) {
            return -errno;
        }
        if (*ret_bytes >= disk_bytes || shl_monotonic_ms() > end_ms) {
            return 0;
        }
        (void)nanosleep(&pause, NULL);
        pause_us = SHL_MIN(pause_us * 2, 10000L);
    }
}

/* Online, to the size of the device. Nothing to do is fine, but not free: the kernel writes
 * out the whole journal each time it is asked. So it is not asked twice for one size. */
static int grow_root(uint64_t disk_bytes, uint64_t *grown_bytes, struct shl_err *err)
{
    SHL_CLEANUP_FD int disk = open(ROOT_DEVICE, O_RDONLY | O_CLOEXEC);
    SHL_CLEANUP_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statvfs fs;
    uint64_t device_bytes, blocks;
    int rc = disk < 0 || root < 0 || fstatvfs(root, &fs) < 0
                 ? -errno
                 : wait_for_disk(disk, disk_bytes, &device_bytes);

    if (rc < 0) {
        return shl_err_sys(err, -rc, "the root disk could not be looked at");
    }
    if (device_bytes < disk_bytes) {
        return shl_err_set(err, SHL_EINVALIDARG, "the disk has %llu bytes, not %llu",
                           (unsigned long long)device_bytes, (unsigned long long)disk_bytes);
    }
    if (device_bytes == *grown_bytes) {
        return 0;
    }
    blocks = device_bytes / fs.f_bsize;
    if (ioctl(root, EXT4_IOC_RESIZE_FS, &blocks) < 0 && errno != EINVAL) {
        return shl_err_sys(err, errno, "the root file system could not grow to the disk");
    }
    *grown_bytes = device_bytes;
    return 0;
}

/* The first failure is the one that is told. */
static void note(struct shl_err *first, int rc, const struct shl_err *err)
{
    if (rc < 0 && first->code == 0) {
        *first = *err;
    }
}

static int apply_files(const struct agent_setup *setup, struct shl_err *err)
{
    int rc = apply_identity(setup);

    if (rc == 0) {
        rc = apply_dns(setup);
    }
    return rc < 0 ? shl_err_sys(err, -rc, "a file in /etc could not be written") : 0;
}

static int apply_memory(const struct agent_setup *setup,
                        struct agent_memory_base *memory,
                        struct shl_err *err)
{
    int rc = agent_memory_wait(memory, setup->memory_bytes, err);

    agent_memory_apply_limits(memory);
    return rc;
}

int agent_setup_apply(const struct agent_setup *setup,
                      struct agent_guest *guest,
                      struct agent_freezer *freezer,
                      struct shl_err *err)
{
    struct shl_err first = {0}, step = {0};
    int rc = apply_entropy(setup->entropy, setup->entropy_len);

    if (rc < 0) {
        note(&first, shl_err_sys(&step, -rc, "the random numbers could not be seeded"), &step);
    }
    rc = apply_time(setup->time_ms);
    if (rc < 0) {
        note(&first, shl_err_sys(&step, -rc, "the clock could not be set"), &step);
    }
    note(&first, agent_freezer_thaw_fs(freezer, &step), &step);
    note(&first, apply_files(setup, &step), &step);
    note(&first, agent_trust_apply(&setup->trust, "", &step), &step);
    note(&first, apply_boot_id(setup, guest, &step), &step);
    note(&first, agent_net_apply(&setup->net, &step), &step);
    if (setup->cpus > 0) {
        note(&first, agent_cpus_set(AGENT_CPU_DIR, (unsigned)setup->cpus, &step), &step);
    }
    if (setup->memory_bytes > 0) {
        note(&first, apply_memory(setup, &guest->memory, &step), &step);
    }
    if (setup->disk_bytes > 0) {
        note(&first, grow_root(setup->disk_bytes, &guest->grown_bytes, &step), &step);
    }
    if (first.code < 0) {
        *err = first;
    }
    return first.code;
}
