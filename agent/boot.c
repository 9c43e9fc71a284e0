#include "agent/boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/net.h"
#include "agent/protocol.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"

#define ROOT_DEVICE     "/dev/vda"
#define MODULE_ORDER    "/modules/order"
#define PORTS_DIR       "/sys/class/virtio-ports"
#define SMALL_MAX_BYTES 16384
#define NOFILE_SOFT     65536
#define NOFILE_HARD     1048576
#define NPROC_MIN       1024
#define OOM_NEVER       "-1000"
#define END_GRACE_MS    1000

#define FINIT_COMPRESSED 4 /* MODULE_INIT_COMPRESSED_FILE */

struct mount_point {
    const char *type;
    const char *path;
    mode_t mode;
    unsigned long flags;
    const char *data;
};

/* ---- small helpers --------------------------------------------------------------- */

/* Through the kernel's log: it is on the console before the call returns, while a
 * terminal would still hold the end of the line when the kernel panics. */
void agent_boot_say(const char *text)
{
    char line[SHL_ERR_TEXT_MAX + 32];
    int len = snprintf(line, sizeof(line), "<0>shoal-agent: %s\n", text);
    SHL_CLEANUP_FD int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, line, SHL_MIN((size_t)len, sizeof(line) - 1));
    } else {
        (void)!write(STDERR_FILENO, line + 3, SHL_MIN((size_t)len, sizeof(line) - 1) - 3);
    }
}

static void write_setting(const char *path, const char *value)
{
    SHL_CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, value, strlen(value));
    }
}

/* A small file as text; the caller frees. NULL when it cannot be read. */
static char *read_small(const char *path)
{
    struct shl_buf buf;
    char *text = NULL;

    shl_buf_init(&buf, SMALL_MAX_BYTES);
    if (shl_read_file(path, &buf) == 0) {
        text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
    return text;
}

bool agent_boot_option(const char *word)
{
    SHL_CLEANUP_FREE char *cmdline = read_small("/proc/cmdline");
    char *at = cmdline, *option;

    while (at && (option = strsep(&at, " \n")) != NULL) {
        if (strcmp(option, word) == 0) {
            return true;
        }
    }
    return false;
}

/* Asks again and again, more and more slowly. For what announces itself in no way that
 * could be waited for: kernel file systems have no inotify. */
static bool wait_until(bool (*done)(void *arg), void *arg)
{
    uint64_t end_us = shl_monotonic_us() + AGENT_BOOT_WAIT_MS * 1000ull;
    long pause_us = 200;

    while (!done(arg)) {
        struct timespec pause = {.tv_nsec = pause_us * 1000};

        if (shl_monotonic_us() > end_us) {
            return false;
        }
        (void)nanosleep(&pause, NULL);
        pause_us = SHL_MIN(pause_us * 2, 20000L);
    }
    return true;
}

static int mount_one(const struct mount_point *point)
{
    if (mkdir(point->path, point->mode) < 0 && errno != EEXIST) {
        return -errno;
    }
    return mount(point->type, point->path, point->type, point->flags, point->data) < 0 ? -errno : 0;
}

/* ---- initrd ---------------------------------------------------------------------- */

static int mount_kernel_fs(struct shl_err *err)
{
    static const struct mount_point points[] = {
        {"devtmpfs", "/dev", 0755, MS_NOSUID, "mode=0755"},
        {"proc", "/proc", 0555, MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"sysfs", "/sys", 0555, MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(points); i++) {
        int rc = mount_one(&points[i]);

        if (rc < 0 && rc != -EBUSY) {
            return shl_err_sys(err, -rc, "%s cannot be mounted", points[i].path);
        }
    }
    return 0;
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t len = strlen(text), suffix_len = strlen(suffix);

    return len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0;
}

static int load_module(const char *name)
{
    char path[256];
    SHL_CLEANUP_FD int fd = -1;
    int flags = has_suffix(name, ".ko") ? 0 : FINIT_COMPRESSED;

    if (snprintf(path, sizeof(path), "/modules/%s", name) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (syscall(SYS_finit_module, fd, "", flags) < 0 && errno != EEXIST) {
        return -errno;
    }
    (void)unlink(path); /* the initrd is memory of the guest */
    return 0;
}

/* A module that does not load is said and not fatal: what is really needed (disk,
 * port) is missed by name later. */
static void load_modules(void)
{
    SHL_CLEANUP_FREE char *order = read_small(MODULE_ORDER);
    char *at = order, *name;

    while (at && (name = strsep(&at, "\n")) != NULL) {
        int rc = *name ? load_module(name) : 0;

        if (rc < 0) {
            char text[SHL_ERR_TEXT_MAX];

            (void)snprintf(text, sizeof(text), "module %s was not loaded: %s", name, strerror(-rc));
            agent_boot_say(text);
        }
    }
}

static bool is_there(void *path)
{
    return access(path, F_OK) == 0;
}

static bool disk_discards(void)
{
    SHL_CLEANUP_FREE char *text = read_small("/sys/block/vda/queue/discard_max_bytes");

    return text && strtoull(text, NULL, 10) > 0;
}

/* No inode tables are written ahead of need (noinit_itable): every block that is
 * written costs the overlay of this sandbox. */
static int mount_root(struct shl_err *err)
{
    const char *options = disk_discards() ? "noinit_itable,discard" : "noinit_itable";

    if (!wait_until(is_there, (void *)ROOT_DEVICE)) {
        return shl_err_set(err, -ENODEV, "there is no root disk " ROOT_DEVICE);
    }
    (void)mkdir("/newroot", 0755);
    if (mount(ROOT_DEVICE, "/newroot", "ext4", MS_RELATIME, options) < 0 &&
        mount(ROOT_DEVICE, "/newroot", "ext4", MS_RELATIME, "") < 0) {
        return shl_err_sys(err, errno, "the root disk cannot be mounted as ext4");
    }
    return 0;
}

static int switch_root(struct shl_err *err)
{
    static const char *const moved[] = {"dev", "proc", "sys"};
    char from[32], to[64];
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(moved); i++) {
        (void)snprintf(from, sizeof(from), "/%s", moved[i]);
        (void)snprintf(to, sizeof(to), "/newroot/%s", moved[i]);
        (void)mkdir(to, 0755);
        if (mount(from, to, NULL, MS_MOVE, NULL) < 0) {
            return shl_err_sys(err, errno, "%s cannot be moved to the root disk", from);
        }
    }
    if (chdir("/newroot") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0) {
        return shl_err_sys(err, errno, "the root disk cannot become the root");
    }
    return 0;
}

/* ---- the guest ------------------------------------------------------------------- */

/* What programs expect and no boot script provides here. None of it is fatal. */
static void mount_guest_fs(void)
{
    static const struct mount_point points[] = {
        {"devpts", "/dev/pts", 0755, MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
        {"tmpfs", "/dev/shm", 01777, MS_NOSUID | MS_NODEV, "mode=1777"},
        {"tmpfs", "/run", 0755, MS_NOSUID | MS_NODEV, "mode=0755"},
        {"cgroup2", "/sys/fs/cgroup", 0755, MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"},
        {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"},
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(points); i++) {
        (void)mount_one(&points[i]);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(links); i++) {
        (void)!symlink(links[i][0], links[i][1]);
    }
    if (mkdir("/run/lock", 01777) == 0) {
        (void)chmod("/run/lock", 01777);
    }
    if (mkdir("/tmp", 01777) == 0) {
        (void)chmod("/tmp", 01777);
    }
}

static void apply_settings(void)
{
    static const char *const settings[][2] = {
        {"/proc/sys/kernel/panic", "-1"}, /* reset at once: the VMM takes it from there */
        {"/proc/sys/kernel/pid_max", "4194304"},
        {"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
        {"/proc/sys/net/ipv4/ping_group_range", "0 2147483647"},
        /* Files are read and written as root for the user, whose own links in /tmp count. */
        {"/proc/sys/fs/protected_symlinks", "0"},
        {"/proc/sys/fs/protected_regular", "0"},
        {"/proc/sys/vm/max_map_count", "262144"},
        {"/proc/sys/fs/inotify/max_user_watches", "524288"},
        {"/proc/sys/fs/inotify/max_user_instances", "1024"},
        {"/proc/self/oom_score_adj", OOM_NEVER},
    };
    struct sched_param urgent = {.sched_priority = 1};
    struct sysinfo memory = {0};
    struct rlimit nofile = {.rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD};
    struct rlimit core = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(settings); i++) {
        write_setting(settings[i][0], settings[i][1]);
    }
    (void)setrlimit(RLIMIT_NOFILE, &nofile);
    (void)setrlimit(RLIMIT_CORE, &core);
    if (sysinfo(&memory) == 0) {
        rlim_t count = SHL_MAX((rlim_t)memory.totalram * memory.mem_unit >> 20, NPROC_MIN);
        struct rlimit nproc = {.rlim_cur = count, .rlim_max = count};

        (void)setrlimit(RLIMIT_NPROC, &nproc); /* a fork bomb leaves memory to stop it */
    }
    /* However many programs want the processors, the agent answers; they do not inherit it. */
    (void)sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &urgent);
    (void)reboot(RB_DISABLE_CAD);
    (void)!agent_net_loopback_up();
}

int agent_boot(struct agent_phases *phases, struct agent_memory_base *memory, struct shl_err *err)
{
    int rc;

    agent_phases_mark(phases, "init");
    rc = mount_kernel_fs(err);
    if (rc < 0) {
        return rc;
    }
    agent_memory_measure(memory);
    /* As memhp_default_state=online on the command line: before virtio_mem adds any. */
    write_setting("/sys/devices/system/memory/auto_online_blocks", "online");
    load_modules();
    agent_phases_mark(phases, "modules");
    rc = mount_root(err);
    if (rc < 0) {
        return rc;
    }
    agent_phases_mark(phases, "disk");
    rc = switch_root(err);
    if (rc < 0) {
        return rc;
    }
    mount_guest_fs();
    apply_settings();
    agent_phases_mark(phases, "root");
    return 0;
}

/* ---- the port -------------------------------------------------------------------- */

/* /dev/vportNpM of the port with our name, once the driver has learned it. */
static bool find_port(void *arg)
{
    char *device = arg;
    DIR *dir = opendir(PORTS_DIR);
    struct dirent *entry;
    bool found = false;

    while (dir && !found && (entry = readdir(dir)) != NULL) {
        SHL_CLEANUP_FREE char *name = NULL;
        char path[sizeof(PORTS_DIR) + NAME_MAX + 8];

        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), PORTS_DIR "/%s/name", entry->d_name);
        name = read_small(path);
        if (name) {
            name[strcspn(name, "\n")] = '\0';
            found = strcmp(name, AGENT_PORT_NAME) == 0;
        }
        if (found) {
            (void)snprintf(device, NAME_MAX + 8, "/dev/%s", entry->d_name);
            found = access(device, F_OK) == 0;
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
    return found;
}

int agent_boot_open_port(struct shl_err *err)
{
    char device[NAME_MAX + 8];
    int fd;

    if (!wait_until(find_port, device)) {
        return shl_err_set(err, -ENODEV, "there is no virtio port " AGENT_PORT_NAME);
    }
    fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? shl_err_sys(err, errno, "port %s cannot be opened", device) : fd;
}

/* ---- the end --------------------------------------------------------------------- */

static bool all_have_ended(void *arg)
{
    (void)arg;
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

void agent_boot_power_off(void)
{
    uint64_t end_ms = shl_monotonic_ms() + END_GRACE_MS;

    (void)kill(-1, SIGTERM);
    while (!all_have_ended(NULL) && shl_monotonic_ms() < end_ms) {
        struct timespec pause = {.tv_nsec = 5000000};

        (void)nanosleep(&pause, NULL);
    }
    (void)kill(-1, SIGKILL);
    sync();
    (void)mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
    (void)reboot(RB_POWER_OFF);
    (void)reboot(RB_AUTOBOOT); /* a machine that cannot switch itself off */
    _exit(0);
}

void agent_boot_panic(const char *text)
{
    agent_boot_say(text);
    write_setting("/proc/sys/kernel/panic", "-1");
    _exit(1); /* "Attempted to kill init!" */
}
