#include "node/egress/host.h"

#include <errno.h>
#include <string.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_host_character(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

static bool is_v6_character(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'f') || (c >= '0' && c <= '9') || c == ':' || c == '.';
}

/* "" and ":N". */
static int parse_port(uint16_t *ret_port, const char *text, size_t len)
{
    uint32_t port = 0;
    size_t i;

    *ret_port = 0;
    if (len == 0) {
        return 0;
    }
    if (text[0] != ':' || len < 2 || len > 6) {
        return -EINVAL;
    }
    for (i = 1; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -EINVAL;
        }
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX) {
        return -EINVAL;
    }
    *ret_port = (uint16_t)port;
    return 0;
}

/* "[v6]" keeps its brackets: so no name can be mistaken for it. */
static size_t v6_length(const char *text, size_t len)
{
    size_t i;

    for (i = 1; i < len && is_v6_character(text[i]); i++) {
    }
    return i > 1 && i < len && text[i] == ']' ? i + 1 : 0;
}

static size_t name_length(const char *text, size_t len)
{
    size_t i;

    for (i = 0; i < len && is_host_character(text[i]); i++) {
        if (text[i] == '.' && (i == 0 || text[i - 1] == '.')) {
            return 0;
        }
    }
    return i;
}

int egress_host_parse(char host[EGRESS_HOST_SIZE], uint16_t *ret_port, const char *text, size_t len)
{
    size_t host_len, i;

    if (len == 0) {
        return -EINVAL;
    }
    host_len = text[0] == '[' ? v6_length(text, len) : name_length(text, len);
    if (host_len == 0 || parse_port(ret_port, text + host_len, len - host_len) < 0) {
        return -EINVAL;
    }
    if (text[host_len - 1] == '.') {
        host_len--;
    }
    if (host_len == 0 || host_len > EGRESS_HOST_MAX) {
        return -EINVAL;
    }
    for (i = 0; i < host_len; i++) {
        host[i] = lower(text[i]);
    }
    host[host_len] = '\0';
    return 0;
}
