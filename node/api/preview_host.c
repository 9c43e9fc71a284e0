#include "node/api/preview_host.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ID_PREFIX   "sb-"
#define PORT_MARK   "-p"
#define LOCAL       "localhost"
#define PORT_DIGITS 5

/* Length of @host without its port. */
static size_t name_len(const char *host)
{
    size_t len = strcspn(host, ":");

    return len > 0 && host[len - 1] == '.' ? len - 1 : len; /* the root is implied */
}

/* Is the name of @len characters one label below @domain? The length of that label, or 0. */
static size_t label_below(const char *host, size_t len, const char *domain)
{
    size_t domain_len = name_len(domain);
    size_t label;

    if (len < domain_len + 2 || strncasecmp(host + len - domain_len, domain, domain_len) != 0 ||
        host[len - domain_len - 1] != '.') {
        return 0;
    }
    label = len - domain_len - 1;
    return memchr(host, '.', label) ? 0 : label;
}

static bool parse_port(const char *text, size_t len, uint16_t *ret)
{
    unsigned long port = 0;

    if (len == 0 || len > PORT_DIGITS || text[0] == '0') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return false;
        }
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    *ret = (uint16_t)port;
    return port <= UINT16_MAX;
}

static bool parse_id(const char *text, size_t len, char ret[NODE_SANDBOX_ID_SIZE])
{
    if (len >= NODE_SANDBOX_ID_SIZE || len <= strlen(ID_PREFIX)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        ret[i] = (char)tolower((unsigned char)text[i]); /* browsers do, other clients may not */
        if (!isalnum((unsigned char)ret[i]) && ret[i] != '-') {
            return false;
        }
    }
    ret[len] = '\0';
    return strncmp(ret, ID_PREFIX, strlen(ID_PREFIX)) == 0;
}

/* Where the last "-p" of the label is, or @len. */
static size_t find_mark(const char *label, size_t len)
{
    for (size_t at = len; at >= 2; at--) {
        if (strncasecmp(label + at - 2, PORT_MARK, 2) == 0) {
            return at - 2;
        }
    }
    return len;
}

enum node_host_kind node_preview_host_parse(const char *host,
                                            const char *domain,
                                            struct node_preview_host *ret)
{
    size_t len = host ? name_len(host) : 0;
    size_t label = 0;
    size_t mark;

    if (len > 0) {
        label = label_below(host, len, domain);
        label = label > 0 ? label : label_below(host, len, LOCAL);
    }
    if (label == 0) {
        return NODE_HOST_API;
    }
    mark = find_mark(host, label);
    if (mark < label && parse_id(host, mark, ret->id) &&
        parse_port(host + mark + 2, label - mark - 2, &ret->port)) {
        return NODE_HOST_PREVIEW;
    }
    /* Other names below the domain may be those of the API itself. */
    return strncasecmp(host, ID_PREFIX, strlen(ID_PREFIX)) == 0 ||
                   (mark < label && isdigit((unsigned char)host[mark + 2]))
               ? NODE_HOST_BAD
               : NODE_HOST_API;
}
