/* Setup of the guest by the node: identity, time, entropy, network, disk, environment. */
#include <ctype.h>
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

#include "agent/net.h"
#include "agent/server.h"
#include "base/cleanup.h"
#include "base/io.h"

#define ROOT_DEVICE        "/dev/vda"
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#define HOSTNAME_MAX       64
#define ENTROPY_MAX_BYTES  512
#define HOSTS_MAX_BYTES    65536
#define NAMESERVERS_MAX    3
#define MACHINE_ID_DIGITS  32
#define TIME_MAX_MS        (1ull << 50)

struct setup {
    char hostname[HOSTNAME_MAX];
    char machine_id[MACHINE_ID_DIGITS + 1];
    struct agent_net net;
    char dns[NAMESERVERS_MAX][46];
    size_t dns_count;
    struct shl_bytes entropy; /* borrowed from the request */
    uint64_t time_ms;         /* 0: leave the clock alone */
    uint64_t disk_bytes;      /* 0: leave the root file system alone */
};

/* ---- decoding -------------------------------------------------------------------- */

static bool all_chars(const char *text, int (*is)(int), const char *more)
{
    for (; *text; text++) {
        if (!is((unsigned char)*text) && !strchr(more, *text)) {
            return false;
        }
    }
    return true;
}

/* 0 when absent or fine. */
static int get_text(const msgpack_object *request,
                    const char *key,
                    char *dst,
                    size_t size,
                    struct shl_err *err)
{
    int rc = shl_mp_get_cpy(request, key, dst, size);

    return rc == 0 || rc == SHL_ENOTFOUND
               ? 0
               : shl_err_set(err, SHL_EINVALIDARG, "%s must be a text below %zu bytes", key, size);
}

static int get_uint(const msgpack_object *request,
                    const char *key,
                    uint64_t max,
                    uint64_t *ret,
                    struct shl_err *err)
{
    int rc = shl_mp_get_uint(request, key, max, ret);

    return rc == 0 || rc == SHL_ENOTFOUND
               ? 0
               : shl_err_set(err, SHL_EINVALIDARG, "%s must be a number from 0 to %llu", key,
                             (unsigned long long)max);
}

static int get_dns(const msgpack_object *request, struct setup *setup, struct shl_err *err)
{
    const msgpack_object *list = shl_mp_find(request, "dns");
    uint32_t i;

    if (!list) {
        return 0;
    }
    if (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size > NAMESERVERS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "dns must be a list of at most %d addresses",
                           NAMESERVERS_MAX);
    }
    for (i = 0; i < list->via.array.size; i++) {
        const msgpack_object *item = &list->via.array.ptr[i];
        char *dst = setup->dns[i];

        if (item->type != MSGPACK_OBJECT_STR || item->via.str.size == 0 ||
            item->via.str.size >= sizeof(setup->dns[i])) {
            return shl_err_set(err, SHL_EINVALIDARG, "dns must be a list of addresses");
        }
        memcpy(dst, item->via.str.ptr, item->via.str.size);
        dst[item->via.str.size] = '\0';
        if (!all_chars(dst, isxdigit, ".:")) {
            return shl_err_set(err, SHL_EINVALIDARG, "dns must be a list of addresses");
        }
        setup->dns_count++;
    }
    return 0;
}

static int check_setup(const struct setup *setup, struct shl_err *err)
{
    if (!all_chars(setup->hostname, isalnum, "-.")) {
        return shl_err_set(err, SHL_EINVALIDARG, "hostname has a character no host name has");
    }
    if (*setup->machine_id && (strlen(setup->machine_id) != MACHINE_ID_DIGITS ||
                               !all_chars(setup->machine_id, isxdigit, ""))) {
        return shl_err_set(err, SHL_EINVALIDARG, "machine_id must be %d hexadecimal digits",
                           MACHINE_ID_DIGITS);
    }
    if (setup->entropy.len > ENTROPY_MAX_BYTES) {
        return shl_err_set(err, SHL_EINVALIDARG, "entropy must be at most %d bytes",
                           ENTROPY_MAX_BYTES);
    }
    return 0;
}

static int decode_setup(const msgpack_object *request, struct setup *setup, struct shl_err *err)
{
    uint64_t prefix = 0;
    int rc = get_text(request, "hostname", setup->hostname, sizeof(setup->hostname), err);

    if (rc == 0) {
        rc = get_text(request, "machine_id", setup->machine_id, sizeof(setup->machine_id), err);
    }
    if (rc == 0) {
        rc = get_text(request, "ip", setup->net.ip, sizeof(setup->net.ip), err);
    }
    if (rc == 0) {
        rc = get_text(request, "gateway", setup->net.gateway, sizeof(setup->net.gateway), err);
    }
    if (rc == 0) {
        rc = get_uint(request, "prefix", 32, &prefix, err);
        setup->net.prefix = (unsigned)prefix;
    }
    if (rc == 0) {
        rc = get_dns(request, setup, err);
    }
    if (rc == 0 && shl_mp_get_bin(request, "entropy", &setup->entropy) == SHL_EPROTO) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "entropy must be binary");
    }
    if (rc == 0) {
        rc = get_uint(request, "time_ms", TIME_MAX_MS, &setup->time_ms, err);
    }
    if (rc == 0) {
        rc = get_uint(request, "disk_bytes", INT64_MAX, &setup->disk_bytes, err);
    }
    return rc == 0 ? check_setup(setup, err) : rc;
}

/* ---- applying, only in a real guest ---------------------------------------------- */

/* Mixed in and used at once: clones of one snapshot must not share random numbers. */
static int apply_entropy(struct shl_bytes entropy)
{
    union {
        struct rand_pool_info info; /* with the bytes behind it */
        uint8_t bytes[sizeof(struct rand_pool_info) + ENTROPY_MAX_BYTES];
    } pool = {.info = {.entropy_count = (int)entropy.len * 8, .buf_size = (int)entropy.len}};
    SHL_CLEANUP_FD int fd = -1;

    if (entropy.len == 0) {
        return 0;
    }
    memcpy(pool.bytes + sizeof(pool.info), entropy.base, entropy.len);
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

/* Without fsync: all of this is written again at the next boot. */
static int write_text(const char *path, const void *text, size_t len, bool replace)
{
    SHL_CLEANUP_FD int fd = -1;

    if (replace) { /* a link of the image, to a stub resolver for instance */
        (void)unlink(path);
    }
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : shl_write_full(fd, text, len);
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
        rc = write_text("/etc/hosts", shl_buf_data(&new), shl_buf_len(&new), false);
    }
    free(text);
    shl_buf_release(&old);
    shl_buf_release(&new);
    return rc;
}

static int apply_identity(const struct setup *setup)
{
    char text[HOSTNAME_MAX + 1];
    int rc = 0;

    if (*setup->hostname) {
        if (sethostname(setup->hostname, strlen(setup->hostname)) < 0) {
            return -errno;
        }
        (void)snprintf(text, sizeof(text), "%s\n", setup->hostname);
        rc = write_text("/etc/hostname", text, strlen(text), false);
        if (rc == 0) {
            rc = write_hosts(setup->hostname);
        }
    }
    if (rc == 0 && *setup->machine_id) {
        (void)snprintf(text, sizeof(text), "%s\n", setup->machine_id);
        rc = write_text("/etc/machine-id", text, strlen(text), false);
    }
    return rc;
}

static int apply_dns(const struct setup *setup)
{
    char text[NAMESERVERS_MAX * 64] = "";
    size_t i, len = 0;

    for (i = 0; i < setup->dns_count; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "nameserver %s\n", setup->dns[i]);
    }
    return len > 0 ? write_text("/etc/resolv.conf", text, len, true) : 0;
}

/* Online, to the size of the device. Nothing to do is fine. */
static int grow_root(uint64_t disk_bytes, struct shl_err *err)
{
    SHL_CLEANUP_FD int disk = -1;
    SHL_CLEANUP_FD int root = -1;
    struct statvfs fs;
    uint64_t device_bytes, blocks;

    if (disk_bytes == 0) {
        return 0;
    }
    disk = open(ROOT_DEVICE, O_RDONLY | O_CLOEXEC);
    root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk < 0 || root < 0 || ioctl(disk, BLKGETSIZE64, &device_bytes) < 0 ||
        fstatvfs(root, &fs) < 0) {
        return shl_err_sys(err, errno, "the root disk could not be looked at");
    }
    if (device_bytes < disk_bytes) {
        return shl_err_set(err, SHL_EINVALIDARG, "the disk has %llu bytes, not %llu",
                           (unsigned long long)device_bytes, (unsigned long long)disk_bytes);
    }
    blocks = device_bytes / fs.f_bsize;
    if (ioctl(root, EXT4_IOC_RESIZE_FS, &blocks) < 0 && errno != EINVAL) {
        return shl_err_sys(err, errno, "the root file system could not grow to the disk");
    }
    return 0;
}

static int apply_setup(const struct setup *setup, struct shl_err *err)
{
    int rc = apply_entropy(setup->entropy);

    if (rc < 0) {
        return shl_err_sys(err, -rc, "the random numbers could not be seeded");
    }
    rc = apply_time(setup->time_ms);
    if (rc < 0) {
        return shl_err_sys(err, -rc, "the clock could not be set");
    }
    rc = apply_identity(setup);
    if (rc == 0) {
        rc = apply_dns(setup);
    }
    if (rc < 0) {
        return shl_err_sys(err, -rc, "a file in /etc could not be written");
    }
    rc = agent_net_apply(&setup->net, err);
    return rc == 0 ? grow_root(setup->disk_bytes, err) : rc;
}

static int take_env(struct agent_guest *guest, const msgpack_object *request, struct shl_err *err)
{
    struct agent_environ env;
    int rc;

    agent_environ_init(&env);
    rc = agent_environ_merge_map(&env, shl_mp_find(request, "env"));
    if (rc < 0) {
        (void)shl_err_set(err, rc, "env must map names (no '=', not empty) to texts, at most %d",
                          AGENT_ENVIRON_MAX);
    } else {
        rc = get_text(request, "sandbox", guest->sandbox_id, sizeof(guest->sandbox_id), err);
    }
    if (rc < 0) {
        agent_environ_release(&env);
        return rc;
    }
    if (shl_mp_find(request, "env")) {
        agent_environ_release(&guest->env);
        guest->env = env;
    }
    return 0;
}

void agent_op_setup(struct agent_server *server,
                    struct agent_stream *stream,
                    const msgpack_object *request)
{
    const struct agent_phases *phases = &server->guest.phases;
    struct agent_reply reply;
    struct setup setup = {0};
    struct shl_err err = {0};
    size_t i;
    int rc = decode_setup(request, &setup, &err);

    if (rc == 0 && server->guest.is_init) {
        rc = apply_setup(&setup, &err);
    }
    if (rc == 0) {
        rc = take_env(&server->guest, request, &err);
    }
    if (rc < 0) {
        agent_stream_finish(stream, rc, err.msg);
        return;
    }
    agent_reply_response(&reply, stream);
    shl_mp_kv_uint(&reply.w, "boot_ms", phases->count ? phases->at_ms[phases->count - 1] : 0);
    shl_mp_kv_map(&reply.w, "phases");
    for (i = 0; i < phases->count; i++) {
        shl_mp_kv_uint(&reply.w, phases->name[i], phases->at_ms[i]);
    }
    shl_mp_end(&reply.w);
    agent_reply_end(&reply);
}
