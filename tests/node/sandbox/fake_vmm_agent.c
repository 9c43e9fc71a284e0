/* The guest of fake-vmm: its agent, and the real one as a process of the host. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/mp.h"
#include "tests/node/sandbox/fake_vmm.h"
#include "vmm-kvm/control.h"

#define AGENT_FD   3
#define FILL_FIRST 1024u

static void agent_send(struct fake *fake,
                       enum agent_frame_type type,
                       uint32_t stream,
                       const struct shl_buf *payload)
{
    struct shl_buf out;

    shl_buf_init(&out, AGENT_FRAME_MAX);
    check(agent_frame_write(&out, type, type == AGENT_FRAME_DATA ? AGENT_CHANNEL_OUT : 0, stream,
                            shl_buf_bytes(payload)),
          "frame");
    (void)!write(fake->agent, shl_buf_data(&out), shl_buf_len(&out));
    shl_buf_release(&out);
}

void agent_ack(struct fake *fake)
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

void agent_drop(struct fake *fake)
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

static void agent_started(struct fake *fake, uint32_t stream)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", 0);
    shl_mp_kv_str(&w, "msg", "");
    shl_mp_kv_uint(&w, "pid", 2);
    shl_mp_kv_int(&w, "started_at_ms", 1);
    shl_mp_end(&w);
    check(shl_mp_done(&w), "RESPONSE");
    agent_send(fake, AGENT_FRAME_RESPONSE, stream, &buf);
    shl_buf_release(&buf);
}

/* So many MiB of the disk anew, from its cluster FILL_FIRST on: half of each cluster is random
 * (by @seed), half text, as far as compression goes. */
static void agent_fill(struct fake *fake, uint64_t mib, uint64_t seed)
{
    struct vmm_disk disk = vmm_overlay_disk(&fake->overlay);
    uint64_t words[VMM_OVERLAY_CLUSTER_BYTES / sizeof(uint64_t)];
    struct iovec iov = {words, sizeof(words)};
    uint64_t count = (mib << 20) / sizeof(words), state = seed * 2 + 1, i;
    size_t j;

    for (i = 0; i < count; i++) {
        for (j = 0; j < SHL_ARRAY_SIZE(words); j++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            words[j] = j % 2 ? state : 0x6c616f6873203a20u;
        }
        check(disk.write(disk.ctx, (FILL_FIRST + i) * sizeof(words), &iov, 1, sizeof(words)),
              "fill");
    }
}

/* What a shell would be told: sh -c COMMAND, or COMMAND alone. */
static void agent_exec(struct fake *fake, uint32_t stream, const msgpack_object *request)
{
    const msgpack_object *args = shl_mp_find(request, "args");
    char command[64] = "";
    uint64_t value, seed;

    (void)!shl_mp_get_cpy(request, "cmd", command, sizeof(command));
    if (args && args->type == MSGPACK_OBJECT_ARRAY && args->via.array.size == 2 &&
        args->via.array.ptr[1].type == MSGPACK_OBJECT_STR) {
        const msgpack_object_str *last = &args->via.array.ptr[1].via.str;

        (void)snprintf(command, sizeof(command), "%.*s", (int)SHL_MIN(last->size, 63u), last->ptr);
    }
    fake->output[0] = '\0';
    if (sscanf(command, "raise %" SCNu64, &value) == 1) {
        fake->memory = SHL_MAX(fake->memory, value);
    } else if (sscanf(command, "beat %" SCNu64, &value) == 1) {
        fake->beat_port = value;
    } else if (sscanf(command, "fill %" SCNu64 " %" SCNu64, &value, &seed) == 2) {
        agent_fill(fake, value, seed);
    } else if (sscanf(command, "set %" SCNu64, &fake->memory) != 1 && strcmp(command, "get") == 0) {
        (void)snprintf(fake->output, sizeof(fake->output), "%" PRIu64 "\n", fake->memory);
    }
    agent_started(fake, stream);
}

static void agent_result(struct fake *fake, uint32_t stream)
{
    struct shl_mp_writer w;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_bool(&w, "running", false);
    shl_mp_kv_int(&w, "exit_code", has_file(fake, "exec_fails"));
    shl_mp_kv_bool(&w, "truncated", false);
    shl_mp_kv_bool(&w, "timed_out", false);
    shl_mp_kv_uint(&w, "stdout_bytes", strlen(fake->output));
    shl_mp_kv_uint(&w, "stderr_bytes", 0);
    shl_mp_kv_uint(&w, "lost_stdout_bytes", 0);
    shl_mp_kv_uint(&w, "lost_stderr_bytes", 0);
    shl_mp_end(&w);
    check(shl_mp_done(&w), "HEAD");
    agent_send(fake, AGENT_FRAME_HEAD, stream, &buf);
    if (fake->output[0]) {
        shl_buf_clear(&buf);
        check(shl_buf_append(&buf, fake->output, strlen(fake->output)), "DATA");
        agent_send(fake, AGENT_FRAME_DATA, stream, &buf);
    }
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
    } else if (strcmp(op, "exec.start") == 0) {
        agent_exec(fake, frame->stream, request);
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

void agent_readable(struct fake *fake)
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

bool agent_awake(const struct fake *fake)
{
    return fake->started && !fake->mute && !fake->paused && !has_word(fake, "silent") &&
           (!has_word(fake, "gate") || access(fake->gate, F_OK) == 0);
}

void hand_to_agent(struct fake *fake)
{
    char program[512];
    char home[512];
    pid_t pid;

    (void)snprintf(program, sizeof(program), "%s/shoal-agent", fake->folder);
    (void)snprintf(home, sizeof(home), "%s/home", fake->dir);
    check(shl_mkdir_all(home, 0755), "home");
    pid = fork();
    check(pid, "fork");
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)signal(SIGCHLD, SIG_DFL); /* it waits for its children */
        (void)signal(SIGPIPE, SIG_DFL);
        if (fake->agent == AGENT_FD) {
            (void)fcntl(AGENT_FD, F_SETFD, 0);
        } else {
            check(dup2(fake->agent, AGENT_FD), "dup2");
        }
        (void)execl(program, program, "--serve", "3", "--home", home, (char *)NULL);
        die("shoal-agent");
    }
    agent_drop(fake);
}
