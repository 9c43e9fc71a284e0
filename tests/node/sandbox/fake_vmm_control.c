/* The control side of fake-vmm: vmm-kvm/control.h, with layers and a state as the real one's. */
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/mp.h"
#include "tests/node/sandbox/fake_vmm.h"
#include "vmm-kvm/layer.h"

#define STATE_MAGIC "FAKESTATE"
#define STATE_BYTES 64

/* It was there. */
static bool drop_file(const struct fake *fake, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", fake->folder, name);
    return unlink(path) == 0;
}

static void control_reply_with(int fd,
                               uint64_t id,
                               int code,
                               const char *msg,
                               const char *struck_key,
                               const struct vmm_deadline *deadline)
{
    struct shl_mp_writer w;
    struct shl_buf buf;
    uint8_t *header;

    shl_buf_init(&buf, 4096);
    check(shl_buf_reserve(&buf, 4, &header), "reply");
    shl_buf_commit(&buf, 4);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "id", id);
    shl_mp_kv_int(&w, "code", code);
    shl_mp_kv_str(&w, "msg", msg);
    if (deadline) {
        shl_mp_kv_uint(&w, "deadline_ms", deadline->at_ms);
        shl_mp_kv_bool(&w, struck_key, deadline->struck);
    }
    shl_mp_end(&w);
    check(shl_mp_done(&w), "reply");
    shl_put_le32(shl_buf_data(&buf), (uint32_t)shl_buf_len(&buf) - 4);
    (void)!write(fd, shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
}

static void control_reply(int fd, uint64_t id, int code, const char *msg)
{
    control_reply_with(fd, id, code, msg, NULL, NULL);
}

void keep_deadline(struct fake *fake)
{
    if (fake->started && vmm_deadline_strikes(&fake->deadline, shl_monotonic_ms())) {
        fake->paused = true;
    }
}

static void read_disk(struct fake *fake, int fd)
{
    char link[64];
    char path[400];
    ssize_t len = pread(fd, fake->words, sizeof(fake->words) - 1, 0);

    check((int)len, "disk");
    fake->words[len] = '\0';
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    check((int)len, "disk path");
    path[len] = '\0';
    (void)snprintf(fake->folder, sizeof(fake->folder), "%s", dirname(path));
    (void)snprintf(fake->gate, sizeof(fake->gate), "%s/open", fake->folder);
}

/* The descriptors called @name, in order. */
static unsigned named_fds(const struct fake *fake,
                          const msgpack_object *request,
                          const char *name,
                          int *fds,
                          unsigned max)
{
    const msgpack_object *names = shl_mp_find(request, "fds");
    unsigned count = 0;
    uint32_t i;

    for (i = 0; names && i < names->via.array.size && i < fake->fd_count; i++) {
        const msgpack_object_str *str = &names->via.array.ptr[i].via.str;

        if (str->size == strlen(name) && memcmp(str->ptr, name, str->size) == 0 && count < max) {
            fds[count++] = fake->fds[i];
        }
    }
    return count;
}

static int named_fd(const struct fake *fake, const msgpack_object *request, const char *name)
{
    int fd = -1;

    (void)named_fds(fake, request, name, &fd, 1);
    return fd;
}

static int open_disk(struct fake *fake, const msgpack_object *request, struct shl_err *err)
{
    int layers[VMM_DISK_LAYERS_MAX];
    unsigned count = named_fds(fake, request, "layer", layers, VMM_DISK_LAYERS_MAX);
    uint64_t bytes = 0;
    int rc;

    check(shl_mp_get_uint(request, "disk_bytes", UINT64_MAX, &bytes), "disk_bytes");
    rc = vmm_overlay_open(&fake->overlay, named_fd(fake, request, "overlay"),
                          named_fd(fake, request, "base"), bytes, err);
    return rc < 0 ? rc : vmm_overlay_set_layers(&fake->overlay, layers, count, err);
}

/* Common to start and restore; false when it was answered. */
static bool begin(struct fake *fake, int fd, uint64_t id, const msgpack_object *request)
{
    int base = named_fd(fake, request, "base");
    int serial = named_fd(fake, request, "serial");
    struct shl_err err = {0};
    uint64_t at_ms = 0;

    (void)!shl_mp_get_uint(request, "deadline_ms", UINT64_MAX, &at_ms);
    vmm_deadline_set(&fake->deadline, at_ms);

    if (base < 0 || serial < 0 || named_fd(fake, request, "overlay") < 0) {
        control_reply(fd, id, SHL_EINVALIDARG, "a descriptor is missing");
        return false;
    }
    read_disk(fake, base);
    if (open_disk(fake, request, &err) < 0) {
        control_reply(fd, id, err.code, err.msg);
        return false;
    }
    (void)!write(serial, "line one\r\nno root device\r\n", 26);
    return true;
}

static void control_start(struct fake *fake,
                          int fd,
                          uint64_t id,
                          const msgpack_object *request,
                          struct shl_bytes bytes)
{
    uint64_t boot = 0, hotplug = 0;

    save(fake, "start.msgpack", bytes);
    if (named_fd(fake, request, "kernel") < 0 || named_fd(fake, request, "initrd") < 0) {
        control_reply(fd, id, SHL_EINVALIDARG, "a descriptor is missing");
        return;
    }
    if (!begin(fake, fd, id, request)) {
        return;
    }
    check(shl_mp_get_uint(request, "memory_bytes", UINT64_MAX, &boot), "memory_bytes");
    check(shl_mp_get_uint(request, "hotplug_max_bytes", UINT64_MAX, &hotplug), "hotplug");
    fake->memory_bytes = boot + hotplug;
    if (has_word(fake, "start_fails")) {
        control_reply(fd, id, SHL_ENOKVM, "KVM said no");
        return;
    }
    if (has_word(fake, "bad_reply")) {
        (void)!write(fd, "\xff\xff\xff\xff", 4);
        return;
    }
    if (has_word(fake, "no_reply")) {
        return;
    }
    fake->started = true;
    control_reply(fd, id, 0, "");
    if (has_word(fake, "panic")) {
        end(fake, VMM_REASON_PANIC, "Kernel panic - not syncing: VFS");
    }
}

/* ---- snapshot and restore ---------------------------------------------------------------- */

static int load_memory(struct fake *fake, const msgpack_object *request, struct shl_err *err)
{
    int fds[VMM_MEM_LAYERS_MAX];
    unsigned count = named_fds(fake, request, "mem", fds, VMM_MEM_LAYERS_MAX);
    int base = named_fd(fake, request, "mem_base");
    struct vmm_layer layer;

    if (count == 0) {
        return base < 0 ? 0 : shl_pread_full(base, &fake->memory, sizeof(fake->memory), 0);
    }
    if (vmm_layer_open(&layer, fds[count - 1], err) < 0) {
        return err->code;
    }
    fake->memory_bytes = layer.memory_bytes;
    if (layer.run_count > 0) { /* else all of it is zeros */
        check(shl_pread_full(layer.fd, &fake->memory, sizeof(fake->memory), layer.data_offset),
              "mem");
        check(shl_pread_full(layer.fd, &fake->beat_port, sizeof(fake->beat_port),
                             layer.data_offset + sizeof(fake->memory)),
              "mem");
    }
    vmm_layer_release(&layer);
    return 0;
}

/* The state: magic, whether frozen, bytes of memory. */
static int load_state(struct fake *fake, const msgpack_object *request, struct shl_err *err)
{
    char text[STATE_BYTES + 1] = "";
    char magic[16] = "";
    int frozen = 0;

    if (pread(named_fd(fake, request, "state"), text, STATE_BYTES, 0) != STATE_BYTES ||
        sscanf(text, "%15s %d %" SCNu64, magic, &frozen, &fake->memory_bytes) != 3 ||
        strcmp(magic, STATE_MAGIC) != 0) {
        return shl_err_set(err, SHL_ECORRUPT, "the state file is cut off");
    }
    fake->frozen = frozen;
    return load_memory(fake, request, err);
}

static void control_restore(struct fake *fake,
                            int fd,
                            uint64_t id,
                            const msgpack_object *request,
                            struct shl_bytes bytes)
{
    struct shl_err err = {0};
    int rc;

    save(fake, "restore.msgpack", bytes);
    if (!begin(fake, fd, id, request)) {
        return;
    }
    if (has_file(fake, "restore_dies")) {
        (void)kill(getpid(), SIGKILL);
    }
    rc = load_state(fake, request, &err);
    if (rc == 0 && has_file(fake, "restore_corrupt")) {
        rc = shl_err_set(&err, SHL_ECORRUPT, "the state file is altered");
    }
    if (rc == 0 && has_file(fake, "restore_fails")) {
        rc = shl_err_set(&err, -EIO, "KVM said no");
    }
    control_reply(fd, id, rc, err.msg);
    if (rc < 0) { /* like the real one */
        end(fake, VMM_REASON_HOST_ERROR, err.msg);
    }
    fake->started = true;
}

static int save_memory(const struct fake *fake, int fd)
{
    struct vmm_layer_run run = {.first_page = 0, .page_count = 1};
    struct vmm_layer layer = {
        .fd = fd, .memory_bytes = fake->memory_bytes, .runs = &run, .run_count = 1};
    uint8_t page[VMM_LAYER_PAGE_BYTES] = {0};
    int rc = vmm_layer_begin(&layer, NULL);

    (void)memcpy(page, &fake->memory, sizeof(fake->memory));
    (void)memcpy(page + sizeof(fake->memory), &fake->beat_port, sizeof(fake->beat_port));
    return rc < 0 ? rc : shl_pwrite_full(fd, page, sizeof(page), run.file_offset);
}

static int save_state(const struct fake *fake, int fd)
{
    char text[2 * STATE_BYTES + 1];

    (void)snprintf(text, sizeof(text), "%s %d %" PRIu64 "%-64s", STATE_MAGIC, fake->frozen,
                   fake->memory_bytes, "");
    return shl_pwrite_full(fd, text, STATE_BYTES, 0);
}

static void control_snapshot(struct fake *fake, int fd, uint64_t id, const msgpack_object *request)
{
    int overlay = named_fd(fake, request, "overlay");
    bool keep_paused = false, disk_only = false;
    int rc = 0;

    (void)!shl_mp_get_bool(request, "keep_paused", &keep_paused);
    (void)!shl_mp_get_bool(request, "disk_only", &disk_only);
    if (has_file(fake, "snapshot_dies")) {
        (void)kill(getpid(), SIGKILL);
    }
    if (has_file(fake, "no_space")) {
        control_reply(fd, id, -ENOSPC, "no space is left for the memory");
        return;
    }
    if (!disk_only) {
        rc = save_memory(fake, named_fd(fake, request, "mem"));
        rc = rc < 0 ? rc : save_state(fake, named_fd(fake, request, "state"));
    }
    if (rc == 0) {
        rc = overlay >= 0 ? vmm_overlay_seal(&fake->overlay, overlay, NULL)
                          : vmm_overlay_complete(&fake->overlay);
    }
    keep_deadline(fake);
    fake->paused = fake->deadline.struck || (rc == 0 && keep_paused);
    control_reply(fd, id, rc, "");
}

/* ---- the other ops ----------------------------------------------------------------------- */

static void control_layers(struct fake *fake, int fd, uint64_t id, const msgpack_object *request)
{
    int layers[VMM_DISK_LAYERS_MAX];
    unsigned count = named_fds(fake, request, "layer", layers, VMM_DISK_LAYERS_MAX);
    struct shl_err err = {0};
    int rc = vmm_overlay_set_layers(&fake->overlay, layers, count, &err);

    save(fake, "layers", shl_bytes_of("", 0));
    control_reply(fd, id, rc, err.msg);
}

static void control_deadline(struct fake *fake, int fd, uint64_t id, const msgpack_object *request)
{
    uint64_t at_ms = 0;

    if (has_file(fake, "no_deadline")) {
        control_reply(fd, id, SHL_EINVALIDARG, "there is no such op");
        return;
    }
    if (drop_file(fake, "drop_control")) {
        check(shutdown(fd, SHUT_RDWR), "drop_control");
        return;
    }
    check(shl_mp_get_uint(request, "at_ms", UINT64_MAX, &at_ms), "at_ms");
    vmm_deadline_set(&fake->deadline, at_ms);
    keep_deadline(fake);
    control_reply_with(fd, id, 0, "", "struck", &fake->deadline);
}

static void control_resume(struct fake *fake, int fd, uint64_t id)
{
    struct shl_err err = {0};
    int rc = vmm_deadline_resume(&fake->deadline, shl_monotonic_ms(), &err);

    fake->paused = fake->paused && rc < 0;
    control_reply(fd, id, rc, err.msg);
}

static void control_request(struct fake *fake, int fd, struct shl_bytes bytes)
{
    struct shl_mp_doc doc;
    char op[32] = "";
    uint64_t id = 0;

    keep_deadline(fake);
    check(shl_mp_parse(&doc, bytes), "control frame");
    check(shl_mp_get_cpy(doc.root, "op", op, sizeof(op)), "op");
    check(shl_mp_get_uint(doc.root, "id", UINT32_MAX, &id), "id");
    if (strcmp(op, "start") == 0) {
        control_start(fake, fd, id, doc.root, bytes);
    } else if (strcmp(op, "restore") == 0) {
        control_restore(fake, fd, id, doc.root, bytes);
    } else if (strcmp(op, "snapshot") == 0) {
        control_snapshot(fake, fd, id, doc.root);
    } else if (strcmp(op, "layers") == 0) {
        control_layers(fake, fd, id, doc.root);
    } else if (strcmp(op, "pause") == 0) {
        fake->paused = true;
        control_reply(fd, id, 0, "");
    } else if (strcmp(op, "resume") == 0) {
        control_resume(fake, fd, id);
    } else if (strcmp(op, "deadline") == 0) {
        control_deadline(fake, fd, id, doc.root);
    } else if (strcmp(op, "status") == 0) {
        control_reply_with(fd, id, 0, "", "deadline_struck",
                           has_file(fake, "no_deadline") ? NULL : &fake->deadline);
    } else if (strcmp(op, "stop") == 0 && !has_word(fake, "ignore_stop")) {
        end(fake, VMM_REASON_STOPPED, "");
    }
    shl_mp_release(&doc);
}

void control_readable(struct fake *fake, int *client)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * VMM_CONTROL_FDS_MAX)];
    } control;
    uint8_t frame[4 + 65536];
    struct iovec iov = {frame, 4};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    struct cmsghdr *header;
    uint32_t len;

    if (recvmsg(*client, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != 4) {
        (void)close(*client);
        *client = -1;
        return;
    }
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) {
        fake->fd_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fake->fds, CMSG_DATA(header), fake->fd_count * sizeof(int));
    }
    len = shl_get_le32(frame);
    if (len > sizeof(frame) - 4 || recv(*client, frame + 4, len, MSG_WAITALL) != (ssize_t)len) {
        die("control frame");
    }
    control_request(fake, *client, shl_bytes_of(frame + 4, len));
}
