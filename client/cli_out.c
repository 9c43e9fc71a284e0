#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "client/cli.h"

#define COLUMNS_MAX 12
#define CELL_MAX    160 /* bytes */

struct cli_table {
    size_t columns;
    size_t rows; /* the titles are the first */
    size_t room;
    char (*cells)[CELL_MAX]; /* rows * columns */
    size_t widths[COLUMNS_MAX];
};

/* Columns a UTF-8 text takes, taking one per character. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (const char *c = text; *c; c++) {
        width += ((unsigned char)*c & 0xc0) != 0x80;
    }
    return width;
}

/* Bytes of the control character that @text begins with, 0 when that is none. Terminals also obey
 * those that UTF-8 writes as two bytes; half of one at the end counts. */
static size_t control_len(const char *text, size_t len)
{
    unsigned char first = (unsigned char)text[0];

    if (first == 0xc2 && (len == 1 || ((unsigned char)text[1] & 0xe0) == 0x80)) {
        return SHL_MIN(len, (size_t)2);
    }
    return first < 0x20 || first == 0x7f;
}

static void print(FILE *out, const char *text, size_t len, bool with_lines)
{
    for (size_t i = 0; i < len;) {
        bool is_kept = with_lines && (text[i] == '\n' || text[i] == '\t');
        size_t control = is_kept ? 0 : control_len(text + i, len - i);

        (void)fputc(control > 0 ? '?' : text[i], out);
        i += SHL_MAX(control, (size_t)1);
    }
}

void cli_print_safe(FILE *out, const char *text)
{
    print(out, text, strlen(text), false);
}

void cli_print_lines(FILE *out, const char *text, size_t len)
{
    print(out, text, len, true);
}

void cli_json_text(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\') {
            (void)fprintf(out, "\\%c", *c);
        } else if ((unsigned char)*c < 0x20) {
            (void)fprintf(out, "\\u%04x", (unsigned)*c);
        } else {
            (void)fputc(*c, out);
        }
    }
    (void)fputc('"', out);
}

struct cli_table *cli_table_new(const char *const *titles, size_t columns)
{
    struct cli_table *table = calloc(1, sizeof(*table));

    if (!table || columns > COLUMNS_MAX) {
        abort();
    }
    table->columns = columns;
    cli_table_row(table, titles);
    return table;
}

void cli_table_row(struct cli_table *table, const char *const *cells)
{
    if (table->rows == table->room) {
        table->room = table->room ? 2 * table->room : 16;
        table->cells = reallocarray(table->cells, table->room * table->columns, CELL_MAX);
        if (!table->cells) {
            abort();
        }
    }
    for (size_t i = 0; i < table->columns; i++) {
        char *cell = table->cells[table->rows * table->columns + i];

        (void)snprintf(cell, CELL_MAX, "%s", cells[i] && *cells[i] ? cells[i] : "-");
        table->widths[i] = SHL_MAX(table->widths[i], width_of(cell));
    }
    table->rows++;
}

static const char *color_of(const char *status)
{
    if (strcmp(status, "running") == 0 || strcmp(status, "ready") == 0) {
        return "\033[32m";
    }
    if (strcmp(status, "error") == 0 || strcmp(status, "unreachable") == 0) {
        return "\033[31m";
    }
    return "\033[33m";
}

void cli_table_print(struct cli *cli, struct cli_table *table, int color_column)
{
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t i = 0; i < table->columns; i++) {
            const char *cell = table->cells[row * table->columns + i];
            bool color = cli->out_color && row > 0 && (int)i == color_column;
            size_t pad = i + 1 < table->columns ? table->widths[i] - width_of(cell) + 2 : 0;

            (void)fputs(color ? color_of(cell) : "", stdout);
            cli_print_safe(stdout, cell);
            (void)printf("%s%*s", color ? "\033[0m" : "", (int)pad, "");
        }
        (void)putchar('\n');
    }
    free(table->cells);
    free(table);
}

void cli_line(struct cli *cli, const char *name, const char *value)
{
    bool color = cli->out_color && strcmp(name, "status") == 0;

    if (!value || !*value) {
        return;
    }
    (void)printf("%-10s ", name);
    (void)fputs(color ? color_of(value) : "", stdout);
    cli_print_safe(stdout, value);
    (void)puts(color ? "\033[0m" : "");
}

int cli_print_json(struct cli *cli, const char *json)
{
    if (!json) {
        return cli_usage(cli, "%s", "out of memory");
    }
    (void)puts(json);
    return CLI_OK;
}

void cli_age(const char *time_text, char *dst, size_t size)
{
    struct tm tm = {0};
    const char *rest = time_text ? strptime(time_text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    long seconds;

    dst[0] = '\0';
    if (!rest) {
        return;
    }
    seconds = (long)(time(NULL) - timegm(&tm));
    seconds = SHL_MAX(seconds, 0L);
    if (seconds < 120) {
        (void)snprintf(dst, size, "%lds", seconds);
    } else if (seconds < 2 * 3600) {
        (void)snprintf(dst, size, "%ldm", seconds / 60);
    } else if (seconds < 2 * 86400) {
        (void)snprintf(dst, size, "%ldh", seconds / 3600);
    } else {
        (void)snprintf(dst, size, "%ldd", seconds / 86400);
    }
}

void cli_size(int64_t bytes, char *dst, size_t size)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(dst, size, "%" PRId64, bytes);
        return;
    }
    while (value >= 1024 && unit + 1 < SHL_ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(dst, size, "%.1f %s", value, units[unit]);
}

void cli_int(int64_t value, char *dst, size_t size)
{
    dst[0] = '\0';
    if (value >= 0) {
        (void)snprintf(dst, size, "%" PRId64, value);
    }
}
