#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* Line under construction; a full line is cut, never split over two writes. */
struct line {
    char text[SHL_LOG_LINE_MAX];
    size_t len;
};

/* Two bytes stay free for the closing brace and the newline. */
#define LINE_ROOM (SHL_LOG_LINE_MAX - 2)

static void put(struct line *line, const char *text, size_t len)
{
    if (len <= LINE_ROOM - line->len) {
        memcpy(line->text + line->len, text, len);
        line->len += len;
    }
}

static void put_str(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

static void put_escaped(struct line *line, const char *text)
{
    size_t i, len = strnlen(text, SHL_LOG_VALUE_MAX);
    char esc[8];

    put_str(line, "\"");
    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (line->len > LINE_ROOM - 16) {
            break; /* keep room for the closing quote */
        }
        if (c == '"' || c == '\\') {
            esc[0] = '\\';
            esc[1] = (char)c;
            put(line, esc, 2);
        } else if (c < 0x20 || c >= 0x7f) {
            (void)snprintf(esc, sizeof(esc), "\\u%04x", c);
            put(line, esc, 6);
        } else {
            put(line, text + i, 1);
        }
    }
    put_str(line, "\"");
}

static void put_time(struct line *line)
{
    struct timespec now;
    struct tm tm;
    char text[64];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    (void)snprintf(text, sizeof(text), "\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\"",
                   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   now.tv_nsec / 1000000);
    put_str(line, text);
}

static void put_field(struct line *line, const struct shl_log_field *field)
{
    char num[32];

    if (line->len > LINE_ROOM - 128) {
        return;
    }
    put_str(line, ",");
    put_escaped(line, field->name);
    put_str(line, ":");
    switch (field->type) {
    case SHL_FIELD_STR:
        if (field->str) {
            put_escaped(line, field->str);
        } else {
            put_str(line, "null");
        }
        break;
    case SHL_FIELD_INT:
        (void)snprintf(num, sizeof(num), "%lld", (long long)field->num);
        put_str(line, num);
        break;
    case SHL_FIELD_BOOL:
        put_str(line, field->num ? "true" : "false");
        break;
    }
}

void shl_log_write(const struct shl_log *log,
                   enum shl_log_level level,
                   const char *event,
                   const struct shl_log_field *fields,
                   size_t field_count)
{
    struct line line = {.len = 0};
    size_t i;
    ssize_t ignored;

    if (!log || level > log->level) {
        return;
    }
    put_str(&line, "{\"time\":");
    put_time(&line);
    put_str(&line, ",\"level\":\"");
    put_str(&line, level_names[level]);
    put_str(&line, "\",\"subsystem\":");
    put_escaped(&line, log->subsystem ? log->subsystem : "");
    put_str(&line, ",\"event\":");
    put_escaped(&line, event);
    for (i = 0; i < field_count; i++) {
        put_field(&line, &fields[i]);
    }
    line.text[line.len++] = '}';
    line.text[line.len++] = '\n';
    ignored = write(log->fd, line.text, line.len);
    (void)ignored; /* nowhere left to report a failing log */
}

int shl_log_level_parse(const char *text)
{
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(level_names); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            return (int)i;
        }
    }
    return -EINVAL;
}
