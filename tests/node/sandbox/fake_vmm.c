/* Stands in for shoal-vmm: speaks vmm-kvm/control.h and plays the guest agent, without
 * KVM. What it does beyond that is written in its "disk" (descriptor base), as words:
 *
 *   start_fails    op start is refused      panic          panics once started
 *   silent         the agent never answers  gate           ... until the file "open" exists
 *   setup_fails    op setup is refused        beside the disk
 *   ignore_stop    op stop does nothing     bad_reply      start is answered with nonsense
 *   no_reply       ops are not answered
 *
 * Files beside the disk change it at any time: no_space and snapshot_dies (op snapshot),
 * freeze_fails, freeze_silent, restore_corrupt, restore_fails, restore_dies, setup_refused,
 * no_shutdown, exec_fails (exit code 1), no_deadline (it is of an older version), drop_control
 * (op deadline breaks the connection once).
 *
 * Its memory is one number (agent ops set and get), its disk the overlay stack of the real
 * one (write and read: one byte in a cluster). Snapshots are valid layers of both and a state of
 * its own; restore checks and loads them. A paused one does not hear its agent. At its deadline
 * it pauses itself, by the rule of the real one.
 * Further agent ops: panic, poweroff, drop (the link), mute (and stay silent), garbage. The
 * requests start, restore and setup are kept in DIR for the test to read.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/frame.h"
#include "base/err.h"
#include "base/io.h"
#include "base/mp.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/deadline.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/overlay.h"

#define POLL_MS     10
#define CLIENTS_MAX 4
#define STATE_MAGIC "FAKESTATE"
#define STATE_BYTES 64

struct fake {
    const char *dir;
    char words[512];  /* content of the disk */
    char folder[448]; /* where the disk is */
    char gate[512];
    bool started, mute, paused, frozen;
    struct vmm_deadline deadline;
    uint64_t memory; /* all of it */
    uint64_t memory_bytes;
    struct vmm_overlay overlay;
    bool has_overlay;
    int control_listener, agent_listener;
    int control[CLIENTS_MAX];
    int agent;
    int fds[VMM_CONTROL_FDS_MAX];
    size_t fd_count;
    struct agent_parser parser;
    struct shl_buf hello; /* payload of the HELLO that waits for an answer */
};

static void die(const char *what)
{
    (void)fprintf(stderr, "fake-vmm: %s: %s\n", what, strerror(errno));
    exit(3);
}

static void check(int rc, const char *what)
{
    if (rc < 0) {
        die(what);
    }
}

static bool has_word(const struct fake *fake, const char *word)
{
    return strstr(fake->words, word);
}

static bool has_file(const struct fake *fake, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", fake->folder, name);
    return access(path, F_OK) == 0;
}

/* It was there. */
static bool drop_file(const struct fake *fake, const char *name)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", fake->folder, name);
    return unlink(path) == 0;
}

static void save(const struct fake *fake, const char *name, struct shl_bytes bytes)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", fake->dir, name);
    check(shl_write_file_atomic(path, bytes.base, bytes.len, 0600), name);
}

static void end(const struct fake *fake, const char *reason, const char *detail)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "state", VMM_STATE_ENDED);
    shl_mp_kv_str(&w, "reason", reason);
    shl_mp_kv_str(&w, "detail", detail);
    shl_mp_end(&w);
    check(shl_mp_done(&w), "exit file");
    save(fake, VMM_EXIT_FILE, shl_buf_bytes(&buf));
    _exit(0);
}

static int listen_at(const struct fake *fake, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", fake->dir, name);
    check(fd, "socket");
    check(bind(fd, (struct sockaddr *)&address, sizeof(address)), "bind");
    check(listen(fd, 8), "listen");
    return fd;
}

/* ---- the agent ------------------------------------------------------------------- */

static void agent_send(struct fake *fake,
                       enum agent_frame_type type,
                       uint32_t stream,
                       const struct shl_buf *payload)
{
    struct shl_buf out;

    shl_buf_init(&out, AGENT_FRAME_MAX);
    check(agent_frame_write(&out, type, 0, stream, shl_buf_bytes(payload)), "frame");
    (void)!write(fake->agent, shl_buf_data(&out), shl_buf_len(&out));
    shl_buf_release(&out);
}

static void agent_ack(struct fake *fake)
{
    struct shl_bytes token;
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    check(shl_mp_parse(&doc, shl_buf_bytes(&fake->hello)), "HELLO");
    check(shl_mp_get_bin(doc.root, "token", &token), "token");
    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", AGENT_PROTOCOL_VERSION);
    shl_mp_kv_bin(&w, "token", token.base, token.len);
    shl_mp_kv_str(&w, "boot_id", "fake");
    shl_mp_kv_str(&w, "agent", "fake");
    shl_mp_end(&w);
    check(shl_mp_done(&w), "HELLO_ACK");
    agent_send(fake, AGENT_FRAME_HELLO_ACK, 0, &buf);
    shl_buf_release(&buf);
    shl_mp_release(&doc);
    shl_buf_clear(&fake->hello);
}

static void agent_answer(struct fake *fake,
                         uint32_t stream,
                         int code,
                         const char *msg,
                         int64_t value)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", code);
    shl_mp_kv_str(&w, "msg", msg);
    shl_mp_kv_int(&w, "value", value);
    shl_mp_kv_bool(&w, "frozen", fake->frozen);
    shl_mp_end(&w);
    check(shl_mp_done(&w), "RESPONSE");
    agent_send(fake, AGENT_FRAME_RESPONSE, stream, &buf);
    shl_buf_release(&buf);
}

static void agent_respond(struct fake *fake, uint32_t stream, int code, const char *msg)
{
    agent_answer(fake, stream, code, msg, 0);
}

/* One byte at the beginning of a cluster. */
static void agent_disk(struct fake *fake,
                       uint32_t stream,
                       const msgpack_object *request,
                       bool write)
{
    struct vmm_disk disk = vmm_overlay_disk(&fake->overlay);
    uint8_t sector[512] = {0};
    struct iovec iov = {sector, sizeof(sector)};
    uint64_t cluster = 0, value = 0;
    int rc;

    check(shl_mp_get_uint(request, "at", 1000, &cluster), "at");
    (void)!shl_mp_get_uint(request, "value", 255, &value);
    sector[0] = (uint8_t)value;
    rc = (write ? disk.write : disk.read)(disk.ctx, cluster * VMM_OVERLAY_CLUSTER_BYTES, &iov, 1,
                                          sizeof(sector));
    agent_answer(fake, stream, rc < 0 ? rc : 0, "", sector[0]);
}

static void agent_drop(struct fake *fake)
{
    (void)close(fake->agent);
    fake->agent = -1;
}

static void agent_setup(struct fake *fake, const struct agent_frame *frame)
{
    bool fails = has_word(fake, "setup_fails") || has_file(fake, "setup_refused");

    save(fake, "setup.msgpack", frame->payload);
    fake->frozen = false;
    agent_respond(fake, frame->stream, fails ? SHL_EGUEST : 0, fails ? "no such disk" : "");
}

static void agent_freeze(struct fake *fake, uint32_t stream)
{
    if (has_file(fake, "freeze_fails")) {
        agent_respond(fake, stream, SHL_EGUEST, "a process does not stop");
    } else if (!has_file(fake, "freeze_silent")) {
        fake->frozen = true;
        agent_respond(fake, stream, 0, "");
    }
}

static void agent_shutdown(struct fake *fake, uint32_t stream)
{
    agent_respond(fake, stream, 0, "");
    if (!has_file(fake, "no_shutdown")) {
        check(vmm_overlay_flush(&fake->overlay), "flush");
        end(fake, VMM_REASON_SHUTDOWN, "");
    }
}

static void agent_result(struct fake *fake, uint32_t stream)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "exit_code", has_file(fake, "exec_fails"));
    shl_mp_end(&w);
    check(shl_mp_done(&w), "HEAD");
    agent_send(fake, AGENT_FRAME_HEAD, stream, &buf);
    shl_buf_release(&buf);
    agent_respond(fake, stream, 0, "");
}

static void agent_op(struct fake *fake,
                     const struct agent_frame *frame,
                     const char *op,
                     const msgpack_object *request)
{
    if (strcmp(op, "setup") == 0) {
        agent_setup(fake, frame);
    } else if (strcmp(op, "freeze") == 0) {
        agent_freeze(fake, frame->stream);
    } else if (strcmp(op, "thaw") == 0) {
        fake->frozen = false;
        agent_respond(fake, frame->stream, 0, "");
    } else if (strcmp(op, "exec.result") == 0) {
        agent_result(fake, frame->stream);
    } else if (strcmp(op, "set") == 0) {
        check(shl_mp_get_uint(request, "value", UINT64_MAX, &fake->memory), "value");
        agent_respond(fake, frame->stream, 0, "");
    } else if (strcmp(op, "get") == 0) {
        agent_answer(fake, frame->stream, 0, "", (int64_t)fake->memory);
    } else if (strcmp(op, "write") == 0 || strcmp(op, "read") == 0) {
        agent_disk(fake, frame->stream, request, op[0] == 'w');
    } else if (strcmp(op, "shutdown") == 0) {
        agent_shutdown(fake, frame->stream);
    } else if (strcmp(op, "panic") == 0) {
        end(fake, VMM_REASON_PANIC, "Kernel panic - not syncing: \x1b[1mtest");
    } else if (strcmp(op, "poweroff") == 0) {
        end(fake, VMM_REASON_SHUTDOWN, "");
    } else if (strcmp(op, "drop") == 0) {
        agent_drop(fake);
    } else if (strcmp(op, "mute") == 0) {
        fake->mute = true;
        agent_drop(fake);
    } else if (strcmp(op, "garbage") == 0) {
        (void)!write(fake->agent, "this is not a frame at all", 26);
    } else if (strcmp(op, "never") != 0) {
        agent_respond(fake, frame->stream, 0, "");
    }
}

static void agent_request(struct fake *fake, const struct agent_frame *frame)
{
    struct shl_mp_doc doc;
    char op[32] = "";

    check(shl_mp_parse(&doc, frame->payload), "REQUEST");
    check(shl_mp_get_cpy(doc.root, "op", op, sizeof(op)), "op");
    agent_op(fake, frame, op, doc.root);
    shl_mp_release(&doc);
}

static void agent_readable(struct fake *fake)
{
    struct agent_frame frame;
    uint8_t *space;
    size_t len;
    ssize_t got;

    check(agent_parser_space(&fake->parser, &space, &len), "space");
    got = read(fake->agent, space, len);
    if (got <= 0) {
        agent_drop(fake);
        return;
    }
    agent_parser_filled(&fake->parser, (size_t)got);
    while (fake->agent >= 0 && agent_parser_next(&fake->parser, &frame)) {
        if (frame.type == AGENT_FRAME_HELLO) {
            shl_buf_clear(&fake->hello);
            check(shl_buf_append(&fake->hello, frame.payload.base, frame.payload.len), "HELLO");
        } else if (frame.type == AGENT_FRAME_REQUEST) {
            agent_request(fake, &frame);
        }
    }
}

/* The guest is up and answers? */
static bool agent_awake(const struct fake *fake)
{
    return fake->started && !fake->mute && !fake->paused && !has_word(fake, "silent") &&
           (!has_word(fake, "gate") || access(fake->gate, F_OK) == 0);
}

/* ---- control --------------------------------------------------------------------- */

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

static void keep_deadline(struct fake *fake)
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
    fake->has_overlay = rc == 0;
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

/* ---- snapshot and restore --------------------------------------------------------- */

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

/* A whole frame: blocking reads are fine for a test helper. */
static void control_readable(struct fake *fake, int *client)
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

/* ---- the loop -------------------------------------------------------------------- */

static void accept_control(struct fake *fake)
{
    int fd = accept4(fake->control_listener, NULL, NULL, SOCK_CLOEXEC);
    int i;

    for (i = 0; i < CLIENTS_MAX; i++) {
        if (fake->control[i] < 0) {
            fake->control[i] = fd;
            return;
        }
    }
    (void)close(fd);
}

static void accept_agent(struct fake *fake)
{
    if (fake->agent >= 0) {
        agent_drop(fake);
    }
    fake->agent = accept4(fake->agent_listener, NULL, NULL, SOCK_CLOEXEC);
    agent_parser_reset(&fake->parser);
    shl_buf_clear(&fake->hello);
}

static void turn(struct fake *fake)
{
    struct pollfd polled[3 + CLIENTS_MAX] = {
        {.fd = fake->control_listener, .events = POLLIN},
        {.fd = fake->agent_listener, .events = POLLIN},
        {.fd = -1, .events = POLLIN},
    };
    int i;

    keep_deadline(fake);
    polled[2].fd = fake->paused ? -1 : fake->agent;
    for (i = 0; i < CLIENTS_MAX; i++) {
        polled[3 + i] = (struct pollfd){.fd = fake->control[i], .events = POLLIN};
    }
    (void)poll(polled, 3 + CLIENTS_MAX, POLL_MS);
    keep_deadline(fake);
    for (i = 0; i < CLIENTS_MAX; i++) {
        if (polled[3 + i].revents) {
            control_readable(fake, &fake->control[i]);
        }
    }
    if (polled[2].revents && !fake->paused) {
        agent_readable(fake);
    }
    if (polled[0].revents) {
        accept_control(fake);
    }
    if (polled[1].revents) {
        accept_agent(fake);
    }
    if (fake->agent >= 0 && shl_buf_len(&fake->hello) > 0 && agent_awake(fake)) {
        agent_ack(fake);
    }
}

int main(int argc, char **argv)
{
    struct fake fake = {.agent = -1, .control = {-1, -1, -1, -1}};

    if (argc < 3 || strcmp(argv[1], "--dir") != 0) {
        (void)fprintf(stderr, "usage: fake-vmm --dir DIR\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    fake.dir = argv[2];
    agent_parser_init(&fake.parser, AGENT_FRAME_HELLO);
    shl_buf_init(&fake.hello, AGENT_HELLO_MAX);
    fake.agent_listener = listen_at(&fake, VMM_AGENT_SOCKET);
    fake.control_listener = listen_at(&fake, VMM_CONTROL_SOCKET);
    for (;;) {
        turn(&fake);
    }
}
