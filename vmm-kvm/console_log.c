#include "vmm-kvm/console_log.h"

#include <string.h>

#include "base/io.h"

static const char panic_mark[] = "Kernel panic - not syncing";

void vmm_console_log_init(struct vmm_console_log *log, int fd, uint64_t max_bytes)
{
    memset(log, 0, sizeof(*log));
    log->fd = fd;
    log->max_bytes = max_bytes;
}

void vmm_console_log_flush(struct vmm_console_log *log)
{
    if (log->fd >= 0 && log->buffered > 0 &&
        shl_write_full(log->fd, log->buffer, log->buffered) < 0) {
        log->dropped_bytes += log->buffered; /* disk full: the log is no reason to end */
        log->bytes -= log->buffered;
    }
    log->buffered = 0;
}

static void end_line(struct vmm_console_log *log)
{
    const char *mark;

    log->line[log->line_len] = '\0';
    mark = strstr(log->line, panic_mark);
    if (mark) {
        memcpy(log->panic, mark, strlen(mark) + 1);
    }
    log->line_len = 0;
}

void vmm_console_log_put(void *ctx, uint8_t byte)
{
    struct vmm_console_log *log = ctx;

    if (byte == '\n') {
        end_line(log);
    } else if (byte >= 0x20 && byte < 0x7f && log->line_len < sizeof(log->line) - 1) {
        log->line[log->line_len++] = (char)byte;
    }
    if (log->fd < 0 || log->bytes >= log->max_bytes) {
        log->dropped_bytes++;
        return;
    }
    log->bytes++;
    log->buffer[log->buffered++] = byte;
    if (byte == '\n' || log->buffered == sizeof(log->buffer)) {
        vmm_console_log_flush(log);
    }
}
