#include "node/net/resolver.h"

#include <string.h>

#include "base/io.h"
#include "node/net/pool.h"

#define RESOLV_CONF_MAX 65536

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The address of one "nameserver A" line, 0 when the line is another or unusable. */
static uint32_t parse_line(const char *line, size_t len)
{
    static const char word[] = "nameserver";
    char text[NODE_ADDRESS_SIZE];
    uint32_t address;
    size_t start = sizeof(word) - 1;
    size_t end;

    if (len <= start || memcmp(line, word, start) != 0 || !is_blank(line[start])) {
        return 0;
    }
    while (start < len && is_blank(line[start])) {
        start++;
    }
    end = start;
    while (end < len && !is_blank(line[end])) {
        end++;
    }
    if (end - start >= sizeof(text)) {
        return 0;
    }
    memcpy(text, line + start, end - start);
    text[end - start] = '\0';
    if (node_address_parse(text, &address) < 0 || address >> 24 == 127) {
        return 0;
    }
    return address;
}

uint32_t node_resolver_parse(struct shl_bytes text)
{
    const char *at = (const char *)text.base;
    size_t left = text.len;

    while (left > 0) {
        const char *newline = memchr(at, '\n', left);
        size_t len = newline ? (size_t)(newline - at) : left;
        uint32_t address = parse_line(at, len);

        if (address != 0) {
            return address;
        }
        len += newline ? 1 : 0;
        at += len;
        left -= len;
    }
    return 0;
}

uint32_t node_resolver_find(void)
{
    static const char *const paths[] = {"/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"};
    uint32_t address = 0;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(paths) && address == 0; i++) {
        struct shl_buf text;

        shl_buf_init(&text, RESOLV_CONF_MAX);
        if (shl_read_file(paths[i], &text) == 0) {
            address = node_resolver_parse(shl_buf_bytes(&text));
        }
        shl_buf_release(&text);
    }
    return address;
}
