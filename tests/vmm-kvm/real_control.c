/* The control protocol of a running shoal-vmm with a real guest: start with descriptors,
 * status, stats, events, wrong requests, reconnecting, stop. Runs where the VMs run
 * (stage vmm of scripts/test), skipped elsewhere. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/mp.h"
#include "vmm-kvm/control.h"

#define SKIP    77
#define WAIT_MS 60000
#define DISK    (20ull << 30)
#define CMDLINE                                                                              \
    "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 clocksource=kvm-clock 8250.nr_uarts=1" \
    " pci=off random.trust_cpu=on"

static char work[] = "/var/tmp/shoal-control-XXXXXX";
static char dir[64], control_path[96];
static pid_t vmm_pid;

#define CHECK(condition)                                                   \
    do {                                                                   \
        if (!(condition)) {                                                \
            (void)printf("line %d: expected: %s\n", __LINE__, #condition); \
            (void)kill(vmm_pid, SIGKILL);                                  \
            exit(1);                                                       \
        }                                                                  \
    } while (0)

/* ---- frames ---- */

struct link {
    int fd;
    struct shl_buf in;
    struct shl_mp_doc doc; /* of the last frame */
    bool has_doc;
    size_t used; /* its bytes */
};

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t end = shl_monotonic_ms() + WAIT_MS;

    CHECK(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    while (shl_monotonic_ms() < end) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
            return fd;
        }
        (void)close(fd);
        (void)usleep(5000);
    }
    return -1;
}

static void link_open(struct link *link)
{
    memset(link, 0, sizeof(*link));
    link->fd = connect_to(control_path);
    CHECK(link->fd >= 0);
    shl_buf_init(&link->in, 1 << 20);
}

static void link_next(struct link *link)
{
    if (link->has_doc) {
        shl_mp_release(&link->doc);
        link->has_doc = false;
    }
    shl_buf_consume(&link->in, link->used);
    link->used = 0;
}

static void link_close(struct link *link)
{
    link_next(link);
    (void)close(link->fd);
    shl_buf_release(&link->in);
}

/* One frame into link->doc; false when the other side closed. */
static bool link_read(struct link *link)
{
    uint64_t end = shl_monotonic_ms() + WAIT_MS;
    uint8_t *space;
    uint32_t len;

    link_next(link);
    for (;;) {
        struct pollfd poll_fd = {link->fd, POLLIN, 0};
        ssize_t n;

        if (shl_buf_len(&link->in) >= 4) {
            len = shl_get_le32(shl_buf_data(&link->in));
            if (shl_buf_len(&link->in) >= 4 + (size_t)len) {
                break;
            }
        }
        CHECK(shl_monotonic_ms() < end);
        if (poll(&poll_fd, 1, 1000) <= 0) {
            continue;
        }
        CHECK(shl_buf_reserve(&link->in, 4096, &space) == 0);
        n = read(link->fd, space, 4096);
        if (n <= 0) {
            return false;
        }
        shl_buf_commit(&link->in, (size_t)n);
    }
    link->used = 4 + (size_t)len;
    CHECK(shl_mp_parse(&link->doc, shl_bytes_of(shl_buf_data(&link->in) + 4, len)) == 0);
    link->has_doc = true;
    return true;
}

static void send_frame(struct link *link,
                       const struct shl_buf *body,
                       const int *fds,
                       unsigned count)
{
    union {
        char raw[CMSG_SPACE(sizeof(int) * VMM_CONTROL_FDS_MAX)];
        struct cmsghdr align;
    } control = {{0}};
    uint8_t header[4];
    struct iovec iov[2] = {{header, 4}, {shl_buf_data(body), shl_buf_len(body)}};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
    struct cmsghdr *part;

    shl_put_le32(header, (uint32_t)shl_buf_len(body));
    if (count > 0) {
        message.msg_control = control.raw;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(part), fds, sizeof(int) * count);
    }
    CHECK(sendmsg(link->fd, &message, MSG_NOSIGNAL) == (ssize_t)(4 + shl_buf_len(body)));
}

static uint64_t next_id = 1;

/* Sends {id, op, key: value} and reads until its reply. Returns the code. */
static int64_t request(struct link *link, const char *op, const char *key, uint64_t value)
{
    struct shl_mp_writer w;
    struct shl_buf body;
    uint64_t id, want = next_id++;
    int64_t code;

    shl_buf_init(&body, 65536);
    shl_mp_writer_init(&w, &body);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "id", want);
    shl_mp_kv_str(&w, "op", op);
    if (key) {
        shl_mp_kv_uint(&w, key, value);
    }
    shl_mp_end(&w);
    CHECK(shl_mp_done(&w) == 0);
    send_frame(link, &body, NULL, 0);
    shl_buf_release(&body);
    do {
        CHECK(link_read(link));
    } while (shl_mp_get_uint(link->doc.root, "id", UINT64_MAX, &id) < 0);
    CHECK(id == want);
    CHECK(shl_mp_get_int(link->doc.root, "code", &code) == 0);
    return code;
}

static bool field_is(const struct link *link, const char *key, const char *text)
{
    char value[300];

    return shl_mp_get_cpy(link->doc.root, key, value, sizeof(value)) == 0 &&
           strcmp(value, text) == 0;
}

/* ---- the VM ---- */

static int open_file(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0) {
        (void)printf("cannot open %s: %s\n", path, strerror(errno));
        exit(SKIP);
    }
    return fd;
}

static int64_t start_vm(struct link *link, const char *kernel)
{
    static const char *const names[] = {"kernel", "initrd", "base", "overlay", "serial"};
    char disk[512], overlay[128], serial[128];
    struct shl_mp_writer w;
    struct shl_buf body;
    uint64_t id;
    int64_t code;
    int fds[5];
    size_t i;

    (void)snprintf(disk, sizeof(disk), "%s/minimal/disk.raw", getenv("SHOAL_TEMPLATES"));
    (void)snprintf(overlay, sizeof(overlay), "%s/overlay", work);
    (void)snprintf(serial, sizeof(serial), "%s/serial", work);
    fds[0] = open_file(kernel, O_RDONLY);
    fds[1] = open_file(getenv("SHOAL_INITRD"), O_RDONLY);
    fds[2] = open_file(disk, O_RDONLY);
    fds[3] = open_file(overlay, O_RDWR | O_CREAT);
    fds[4] = open_file(serial, O_RDWR | O_CREAT);
    shl_buf_init(&body, 65536);
    shl_mp_writer_init(&w, &body);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "id", 1000);
    shl_mp_kv_str(&w, "op", "start");
    shl_mp_kv_uint(&w, "vcpus", 2);
    shl_mp_kv_uint(&w, "memory_bytes", 256ull << 20);
    shl_mp_kv_uint(&w, "disk_bytes", DISK);
    shl_mp_kv_str(&w, "cmdline", CMDLINE);
    shl_mp_kv_array(&w, "fds");
    for (i = 0; i < 5; i++) {
        shl_mp_str(&w, names[i]);
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    CHECK(shl_mp_done(&w) == 0);
    send_frame(link, &body, fds, 5);
    shl_buf_release(&body);
    for (i = 0; i < 5; i++) {
        (void)close(fds[i]);
    }
    do {
        CHECK(link_read(link));
    } while (shl_mp_get_uint(link->doc.root, "id", UINT64_MAX, &id) < 0);
    CHECK(id == 1000);
    CHECK(shl_mp_get_int(link->doc.root, "code", &code) == 0);
    return code;
}

static void launch(void)
{
    char program[512];

    (void)snprintf(program, sizeof(program), "%s/shoal-vmm", getenv("SHOAL_BIN"));
    CHECK(shl_remove_tree(dir) == 0);
    CHECK(mkdir(dir, 0700) == 0);
    vmm_pid = fork();
    if (vmm_pid == 0) {
        (void)execl(program, program, "--dir", dir, "--uid", "77001", "--gid", "77001",
                    (char *)NULL);
        _exit(127);
    }
}

/* The process has ended by itself; the exit file names @reason. */
static void expect_end(const char *reason)
{
    uint64_t end = shl_monotonic_ms() + WAIT_MS;
    char path[128], value[64];
    struct shl_mp_doc doc;
    struct shl_buf file;
    int status;

    while (waitpid(vmm_pid, &status, WNOHANG) == 0) {
        CHECK(shl_monotonic_ms() < end);
        (void)usleep(5000);
    }
    (void)snprintf(path, sizeof(path), "%s/%s", dir, VMM_EXIT_FILE);
    shl_buf_init(&file, 65536);
    CHECK(shl_read_file(path, &file) == 0);
    CHECK(shl_mp_parse(&doc, shl_buf_bytes(&file)) == 0);
    CHECK(shl_mp_get_cpy(doc.root, "reason", value, sizeof(value)) == 0);
    CHECK(strcmp(value, reason) == 0);
    CHECK(shl_mp_get_cpy(doc.root, "state", value, sizeof(value)) == 0);
    CHECK(strcmp(value, VMM_STATE_ENDED) == 0);
    shl_mp_release(&doc);
    shl_buf_release(&file);
}

/* ---- the cases ---- */

static void case_whole_life(void)
{
    struct link link, other;
    const msgpack_object *disk;
    uint64_t end = shl_monotonic_ms() + WAIT_MS, value;
    bool agent = false;

    launch();
    link_open(&link);
    CHECK(request(&link, "status", NULL, 0) == 0);
    CHECK(field_is(&link, "state", VMM_STATE_CREATED));
    CHECK(request(&link, "explode", NULL, 0) == SHL_EINVALIDARG);
    CHECK(request(&link, "stop", "grace_ms", UINT64_MAX) == SHL_EINVALIDARG);
    CHECK(start_vm(&link, getenv("SHOAL_KERNEL")) == 0);
    CHECK(link_read(&link)); /* the event follows the reply */
    CHECK(field_is(&link, "event", "state"));
    CHECK(field_is(&link, "state", VMM_STATE_RUNNING));
    CHECK(start_vm(&link, getenv("SHOAL_KERNEL")) == SHL_EBADSTATE);
    /* A client that comes and goes changes nothing: the node was restarted. */
    link_open(&other);
    while (!agent && shl_monotonic_ms() < end) {
        CHECK(request(&other, "status", NULL, 0) == 0);
        CHECK(shl_mp_get_bool(other.doc.root, "agent_connected", &agent) == 0);
        (void)usleep(100000);
    }
    CHECK(agent);
    CHECK(request(&other, "stats", NULL, 0) == 0);
    disk = shl_mp_find(other.doc.root, "disk");
    CHECK(shl_mp_get_uint(disk, "reads", UINT64_MAX, &value) == 0);
    CHECK(value > 0);
    CHECK(shl_mp_get_uint(shl_mp_find(other.doc.root, "exits"), "mmio", UINT64_MAX, &value) == 0);
    CHECK(value > 0);
    CHECK(shl_mp_get_uint(other.doc.root, "vmm_rss_bytes", UINT64_MAX, &value) == 0);
    CHECK(value > 0);
    /* Rubbish ends that connection and nothing else. */
    CHECK(write(other.fd, "\xff\xff\xff\xff rubbish", 12) == 12);
    CHECK(!link_read(&other));
    link_close(&other);
    CHECK(request(&link, "stop", "grace_ms", 0) == 0);
    CHECK(link_read(&link));
    CHECK(field_is(&link, "state", VMM_STATE_ENDED));
    CHECK(field_is(&link, "reason", VMM_REASON_STOPPED));
    expect_end(VMM_REASON_STOPPED);
    link_close(&link);
}

/* Nobody shuts the guest down, so the time runs out. */
static void case_stop_with_grace(void)
{
    struct link link;
    uint64_t begin;

    launch();
    link_open(&link);
    CHECK(start_vm(&link, getenv("SHOAL_KERNEL")) == 0);
    begin = shl_monotonic_ms();
    CHECK(request(&link, "stop", "grace_ms", 700) == 0);
    CHECK(link_read(&link));
    expect_end(VMM_REASON_STOPPED);
    CHECK(shl_monotonic_ms() - begin >= 700);
    link_close(&link);
}

static void case_bad_kernel(void)
{
    struct link link;

    launch();
    link_open(&link);
    CHECK(start_vm(&link, "/etc/passwd") == SHL_EINVALIDARG);
    CHECK(shl_mp_find(link.doc.root, "msg") != NULL);
    expect_end(VMM_REASON_HOST_ERROR);
    link_close(&link);
}

static void case_sigterm_before_start(void)
{
    struct link link;

    launch();
    link_open(&link);
    CHECK(request(&link, "status", NULL, 0) == 0);
    CHECK(kill(vmm_pid, SIGTERM) == 0);
    expect_end(VMM_REASON_STOPPED);
    link_close(&link);
}

int main(void)
{
    static const char *const needed[] = {"SHOAL_BIN", "SHOAL_KERNEL", "SHOAL_INITRD",
                                         "SHOAL_TEMPLATES"};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(needed); i++) {
        if (!getenv(needed[i])) {
            (void)printf("%s is not set: run this through scripts/test --only vmm\n", needed[i]);
            return SKIP;
        }
    }
    CHECK(mkdtemp(work) != NULL);
    (void)snprintf(dir, sizeof(dir), "%s/vm", work);
    (void)snprintf(control_path, sizeof(control_path), "%s/%s", dir, VMM_CONTROL_SOCKET);
    case_whole_life();
    case_stop_with_grace();
    case_bad_kernel();
    case_sigterm_before_start();
    CHECK(shl_remove_tree(work) == 0);
    (void)printf("4 cases passed\n");
    return 0;
}
