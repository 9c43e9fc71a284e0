/* How the guest is doing: the operation stats. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "agent/server.h"
#include "base/io.h"

#define TEXT_MAX 65536

/* One that waits until its time is over. */
struct sample {
    struct agent_stream *stream;
    struct agent_timer timer;
    uint64_t busy_ticks; /* when it began, and when that was */
    uint64_t began_us;
};

/* ---- figures --------------------------------------------------------------------- */

static char *read_text(const char *path)
{
    struct shl_buf buf;
    char *text = NULL;

    shl_buf_init(&buf, TEXT_MAX);
    if (shl_read_file(path, &buf) == 0) {
        text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
    return text;
}

/* "MemAvailable:  123 kB" of /proc/meminfo, in bytes. */
static uint64_t available_bytes(void)
{
    char *text = read_text("/proc/meminfo");
    const char *at = text ? strstr(text, "MemAvailable:") : NULL;
    uint64_t bytes = at ? strtoull(at + strlen("MemAvailable:"), NULL, 10) * 1024 : 0;

    free(text);
    return bytes;
}

/* Clock ticks that processors worked so far, of /proc/stat. What the host took of their time is
 * no work. */
static uint64_t busy_ticks(void)
{
    /* user nice system idle iowait irq softirq; guests are in the first two */
    static const bool counts[] = {true, true, true, false, false, true, true};
    char *text = read_text("/proc/stat");
    uint64_t busy = 0;
    char *at = text;
    size_t i;

    if (text && strncmp(text, "cpu ", 4) == 0) {
        at += 4;
        for (i = 0; i < SHL_ARRAY_SIZE(counts); i++) {
            uint64_t ticks = strtoull(at, &at, 10);

            busy += counts[i] ? ticks : 0;
        }
    }
    free(text);
    return busy;
}

static uint64_t permille_since(const struct sample *sample)
{
    uint64_t now = busy_ticks();
    uint64_t busy = now > sample->busy_ticks ? now - sample->busy_ticks : 0;
    uint64_t span_us = shl_monotonic_us() - sample->began_us;
    uint64_t per_s = (uint64_t)sysconf(_SC_CLK_TCK);

    return span_us > 0 ? busy * 1000 * 1000000 / per_s / span_us : 0;
}

/* A thread of the kernel has no program. */
static bool has_program(const char *pid)
{
    char path[64], program[8];

    (void)snprintf(path, sizeof(path), "/proc/%.20s/exe", pid);
    return readlink(path, program, sizeof(program)) >= 0;
}

static void count_processes(uint64_t *ret_all, uint64_t *ret_programs)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;

    *ret_all = *ret_programs = 0;
    while (dir && (entry = readdir(dir)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0])) {
            *ret_all += 1;
            *ret_programs += has_program(entry->d_name);
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
}

/* ---- the answer ------------------------------------------------------------------ */

static void answer(struct agent_stream *stream, uint64_t cpu_permille)
{
    struct agent_reply reply;
    struct sysinfo info = {0};
    struct statvfs fs = {0};
    uint64_t processes, programs;

    (void)sysinfo(&info);
    (void)statvfs("/", &fs);
    count_processes(&processes, &programs);
    agent_reply_response(&reply, stream);
    shl_mp_kv_uint(&reply.w, "mem_total_bytes", (uint64_t)info.totalram * info.mem_unit);
    shl_mp_kv_uint(&reply.w, "mem_available_bytes", available_bytes());
    shl_mp_kv_uint(&reply.w, "disk_total_bytes", (uint64_t)fs.f_blocks * fs.f_frsize);
    shl_mp_kv_uint(&reply.w, "disk_free_bytes", (uint64_t)fs.f_bavail * fs.f_frsize);
    shl_mp_kv_uint(&reply.w, "load_milli", (uint64_t)info.loads[0] * 1000 >> SI_LOAD_SHIFT);
    shl_mp_kv_uint(&reply.w, "processes", processes);
    shl_mp_kv_uint(&reply.w, "programs", programs);
    shl_mp_kv_uint(&reply.w, "cpu_permille", cpu_permille);
    agent_reply_end(&reply);
}

static void on_time(void *arg)
{
    struct sample *sample = arg;
    struct agent_stream *stream = sample->stream;
    uint64_t permille = permille_since(sample);

    free(sample);
    answer(stream, permille);
}

static void on_drop(void *arg)
{
    struct sample *sample = arg;

    agent_timer_stop(&sample->timer);
    free(sample);
}

void agent_op_stats(struct agent_server *server,
                    struct agent_stream *stream,
                    const msgpack_object *request)
{
    static const struct agent_stream_ops ops = {.on_drop = on_drop};
    struct sample *sample;
    uint64_t sample_ms = 0;
    int rc = shl_mp_get_uint(request, "sample_ms", AGENT_STATS_SAMPLE_MAX_MS, &sample_ms);

    if (rc < 0 && rc != SHL_ENOTFOUND) {
        agent_stream_finish(stream, SHL_EINVALIDARG, "sample_ms is no number, or too large");
        return;
    }
    if (sample_ms == 0) {
        answer(stream, 0);
        return;
    }
    sample = calloc(1, sizeof(*sample));
    if (!sample) {
        agent_stream_finish(stream, -ENOMEM, NULL);
        return;
    }
    sample->stream = stream;
    sample->busy_ticks = busy_ticks();
    sample->began_us = shl_monotonic_us();
    agent_timer_init(&sample->timer, on_time, sample);
    agent_stream_bind(stream, &ops, sample);
    agent_timer_start(&server->loop, &sample->timer, sample_ms);
}
