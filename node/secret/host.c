/* Host names and patterns of policy.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "node/secret/policy.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

static bool is_v6_character(char c)
{
    return (c >= 'a' && c <= 'f') || (c >= '0' && c <= '9') || c == ':' || c == '.';
}

/* How much of "host:port" is the host; 0 when the port is none. */
static size_t without_port(const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    size_t i, digits;

    if (!colon) {
        return len;
    }
    digits = len - (size_t)(colon - text) - 1;
    if (digits == 0 || digits > 5) {
        return 0;
    }
    for (i = 0; i < digits; i++) {
        if (colon[1 + i] < '0' || colon[1 + i] > '9') {
            return 0;
        }
    }
    return (size_t)(colon - text);
}

/* "[v6]" and "[v6]:port", and bare v6, which has at least two colons. */
static int normalise_v6(char dst[NODE_HOST_SIZE], const char *text, size_t len)
{
    const char *end = text + len;
    size_t i;

    if (text[0] == '[') {
        text++;
        end = memchr(text, ']', len - 1);
        if (!end) {
            return -EINVAL;
        }
        if (end + 1 < text - 1 + len &&
            (end[1] != ':' || without_port(end, (size_t)(text - 1 + len - end)) != 1)) {
            return -EINVAL;
        }
    }
    len = (size_t)(end - text);
    if (len < 2 || len + 3 > NODE_HOST_SIZE) {
        return -EINVAL;
    }
    for (i = 0; i < len; i++) {
        dst[1 + i] = lower(text[i]);
        if (!is_v6_character(dst[1 + i])) {
            return -EINVAL;
        }
    }
    dst[0] = '[';
    dst[1 + len] = ']';
    dst[2 + len] = '\0';
    return 0;
}

static bool is_v6(const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);

    return text[0] == '[' || (colon && memchr(colon + 1, ':', len - (size_t)(colon + 1 - text)));
}

int node_host_normalise(char dst[NODE_HOST_SIZE], const char *text, size_t len)
{
    size_t i;

    if (len == 0) {
        return -EINVAL;
    }
    if (is_v6(text, len)) {
        return normalise_v6(dst, text, len);
    }
    len = without_port(text, len);
    if (len > 0 && text[len - 1] == '.') {
        len--;
    }
    if (len == 0 || len >= NODE_HOST_SIZE) {
        return -EINVAL;
    }
    for (i = 0; i < len; i++) {
        dst[i] = lower(text[i]);
        if (!is_name_character(dst[i]) || (dst[i] == '.' && (i == 0 || dst[i - 1] == '.'))) {
            return -EINVAL;
        }
    }
    dst[len] = '\0';
    return dst[len - 1] == '.' ? -EINVAL : 0;
}

int node_host_pattern_normalise(char dst[NODE_HOST_SIZE], const char *text, size_t len)
{
    char host[NODE_HOST_SIZE];
    size_t host_len;
    int rc;

    if (len == 1 && text[0] == '*') {
        memcpy(dst, "*", 2);
        return 0;
    }
    if (len < 3 || text[0] != '*' || text[1] != '.') {
        return node_host_normalise(dst, text, len);
    }
    rc = is_v6(text + 2, len - 2) ? -EINVAL : node_host_normalise(host, text + 2, len - 2);
    if (rc < 0) {
        return rc;
    }
    host_len = strlen(host);
    if (host_len + 3 > NODE_HOST_SIZE) {
        return -EINVAL;
    }
    memcpy(dst, "*.", 2);
    memcpy(dst + 2, host, host_len + 1);
    return 0;
}

bool node_host_matches(const char *host, const char *pattern)
{
    size_t host_len, suffix;

    if (pattern[0] != '*') {
        return strcmp(host, pattern) == 0;
    }
    if (pattern[1] == '\0') {
        return true;
    }
    host_len = strlen(host);
    suffix = strlen(pattern + 1); /* with its dot, so that the rest of @host is a name */
    return host_len > suffix && strcmp(host + host_len - suffix, pattern + 1) == 0;
}

/*- Lists. */

void node_host_list_release(struct node_host_list *list)
{
    free(list->items);
    *list = (struct node_host_list){NULL, 0};
}

bool node_host_list_has(const struct node_host_list *list, const char *pattern)
{
    size_t i;

    for (i = 0; i < list->count; i++) {
        if (strcmp(list->items[i], pattern) == 0) {
            return true;
        }
    }
    return false;
}

int node_host_list_add(struct node_host_list *list, const char *text, size_t len, size_t max)
{
    char pattern[NODE_HOST_SIZE];
    char(*items)[NODE_HOST_SIZE];
    int rc = node_host_pattern_normalise(pattern, text, len);

    if (rc < 0 || node_host_list_has(list, pattern)) {
        return rc < 0 ? rc : 0;
    }
    if (list->count >= max) {
        return SHL_ELIMIT;
    }
    items = realloc(list->items, (list->count + 1) * sizeof(*items));
    if (!items) {
        return -ENOMEM;
    }
    memcpy(items[list->count], pattern, sizeof(pattern));
    list->items = items;
    list->count++;
    return 0;
}

int node_host_list_copy(struct node_host_list *dst, const struct node_host_list *src)
{
    *dst = (struct node_host_list){NULL, 0};
    if (src->count == 0) {
        return 0;
    }
    dst->items = malloc(src->count * sizeof(*dst->items));
    if (!dst->items) {
        return -ENOMEM;
    }
    memcpy(dst->items, src->items, src->count * sizeof(*dst->items));
    dst->count = src->count;
    return 0;
}

bool node_host_list_matches(const struct node_host_list *list, const char *host)
{
    size_t i;

    for (i = 0; i < list->count; i++) {
        if (node_host_matches(host, list->items[i])) {
            return true;
        }
    }
    return false;
}
