/* Structured log: one JSON object per line.
 *
 * A shl_log belongs to a program and is passed down; there is no global. Each
 * line carries time (RFC 3339, UTC), level, subsystem, a stable event name and
 * typed fields whose names say the unit. Strings are escaped and cut at
 * SHL_LOG_VALUE_MAX bytes, because guests and peers choose some of them. Never
 * hand a secret to a field. Lines are written with one write(2), so threads may
 * share a log.
 */
#ifndef SHL_BASE_LOG_H
#define SHL_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

#define SHL_LOG_VALUE_MAX 512
#define SHL_LOG_LINE_MAX  4096

enum shl_log_level {
    SHL_LOG_ERROR, /* someone must act */
    SHL_LOG_WARN,  /* going on, and says so */
    SHL_LOG_INFO,  /* life cycle */
    SHL_LOG_DEBUG,
};

struct shl_log {
    int fd;
    enum shl_log_level level; /* lines above this are dropped */
    const char *subsystem;    /* borrowed, static in practice */
};

struct shl_log_field {
    const char *name;
    enum {
        SHL_FIELD_STR,
        SHL_FIELD_INT,
        SHL_FIELD_BOOL
    } type;
    const char *str; /* NULL prints null */
    int64_t num;
};

#define SHL_S(key, value) ((struct shl_log_field){(key), SHL_FIELD_STR, (value), 0})
#define SHL_I(key, value) ((struct shl_log_field){(key), SHL_FIELD_INT, 0, (int64_t)(value)})
#define SHL_B(key, value) ((struct shl_log_field){(key), SHL_FIELD_BOOL, 0, (value) ? 1 : 0})

/* @log may be NULL (nothing is written). */
void shl_log_write(const struct shl_log *log,
                   enum shl_log_level level,
                   const char *event,
                   const struct shl_log_field *fields,
                   size_t field_count);

#define SHL_LOG(log, level, event, ...)                                                 \
    shl_log_write((log), (level), (event), (const struct shl_log_field[]){__VA_ARGS__}, \
                  sizeof((const struct shl_log_field[]){__VA_ARGS__}) /                 \
                      sizeof(struct shl_log_field))

/* "error", "warn", "info", "debug" to the level, or -EINVAL. */
int shl_log_level_parse(const char *text);

#endif /* SHL_BASE_LOG_H */
