/* Where serial output goes: a file of bounded size, and a look at each line for a
 * kernel panic. What does not fit is counted and dropped (a guest may print for ever:
 * CVE-2020-27174). The owner serialises. */
#ifndef SHL_VMM_CONSOLE_LOG_H
#define SHL_VMM_CONSOLE_LOG_H

#include <stddef.h>
#include <stdint.h>

#define VMM_CONSOLE_LINE_MAX 200

struct vmm_console_log {
    int fd; /* borrowed, -1: nowhere */
    uint64_t max_bytes;
    uint64_t bytes; /* written or buffered */
    uint64_t dropped_bytes;
    char line[VMM_CONSOLE_LINE_MAX]; /* the current line, cut */
    size_t line_len;
    char panic[VMM_CONSOLE_LINE_MAX]; /* last line that told of a panic, or empty */
    uint8_t buffer[512];
    size_t buffered;
};

void vmm_console_log_init(struct vmm_console_log *log, int fd, uint64_t max_bytes);
void vmm_console_log_put(void *log, uint8_t byte); /* struct vmm_console_log */
void vmm_console_log_flush(struct vmm_console_log *log);

#endif /* SHL_VMM_CONSOLE_LOG_H */
