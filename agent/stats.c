/* How the guest is doing. */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

#include "agent/server.h"
#include "base/io.h"

/* "MemAvailable:  123 kB" of /proc/meminfo, in bytes. */
static uint64_t read_available_bytes(void)
{
    struct shl_buf buf;
    char *text = NULL, *at;
    uint64_t bytes = 0;

    shl_buf_init(&buf, 16384);
    if (shl_read_file("/proc/meminfo", &buf) == 0) {
        text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    }
    at = text ? strstr(text, "MemAvailable:") : NULL;
    if (at) {
        bytes = strtoull(at + strlen("MemAvailable:"), NULL, 10) * 1024;
    }
    free(text);
    shl_buf_release(&buf);
    return bytes;
}

static uint64_t count_processes(void)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    uint64_t count = 0;

    while (dir && (entry = readdir(dir)) != NULL) {
        count += isdigit((unsigned char)entry->d_name[0]) ? 1 : 0;
    }
    if (dir) {
        (void)closedir(dir);
    }
    return count;
}

void agent_op_stats(struct agent_server *server,
                    struct agent_stream *stream,
                    const msgpack_object *request)
{
    struct agent_reply reply;
    struct sysinfo info = {0};
    struct statvfs fs = {0};

    (void)server;
    (void)request;
    (void)sysinfo(&info);
    (void)statvfs("/", &fs);
    agent_reply_response(&reply, stream);
    shl_mp_kv_uint(&reply.w, "mem_total_bytes", (uint64_t)info.totalram * info.mem_unit);
    shl_mp_kv_uint(&reply.w, "mem_available_bytes", read_available_bytes());
    shl_mp_kv_uint(&reply.w, "disk_total_bytes", (uint64_t)fs.f_blocks * fs.f_frsize);
    shl_mp_kv_uint(&reply.w, "disk_free_bytes", (uint64_t)fs.f_bavail * fs.f_frsize);
    shl_mp_kv_uint(&reply.w, "load_milli", (uint64_t)info.loads[0] * 1000 >> SI_LOAD_SHIFT);
    shl_mp_kv_uint(&reply.w, "processes", count_processes());
    agent_reply_end(&reply);
}
