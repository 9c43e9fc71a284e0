#include "node/mesh/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_ip(const char *host)
{
    struct in6_addr any;

    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

bool node_mesh_addr_is_valid(const struct node_mesh_addr *addr)
{
    return memchr(addr->host, 0, sizeof(addr->host)) && is_ip(addr->host) &&
           addr->control_port > 0 && addr->bulk_port > 0;
}

bool node_mesh_addr_equal(const struct node_mesh_addr *a, const struct node_mesh_addr *b)
{
    return strcmp(a->host, b->host) == 0 && a->control_port == b->control_port &&
           a->bulk_port == b->bulk_port;
}

/* A decimal port without leading zeros; moves *text behind it. */
static int parse_port(const char **text, uint16_t *ret)
{
    char *end;
    unsigned long value;

    if (**text < '1' || **text > '9') {
        return -EINVAL;
    }
    value = strtoul(*text, &end, 10);
    if (value > UINT16_MAX || end - *text > 5) {
        return -EINVAL;
    }
    *ret = (uint16_t)value;
    *text = end;
    return 0;
}

int node_mesh_addr_parse(const char *text, struct node_mesh_addr *ret)
{
    struct node_mesh_addr addr = {{0}, 0, 0};
    const char *host = text;
    const char *end;

    if (*text == '[') {
        host = text + 1;
        end = strchr(host, ']');
        text = end ? end + 1 : NULL;
    } else {
        end = strchr(host, ':');
        text = end;
    }
    if (!end || *text != ':' || (size_t)(end - host) >= sizeof(addr.host)) {
        return -EINVAL;
    }
    memcpy(addr.host, host, (size_t)(end - host));
    text++;
    if (!is_ip(addr.host) || parse_port(&text, &addr.control_port) < 0) {
        return -EINVAL;
    }
    if (*text == '/') {
        text++;
        if (parse_port(&text, &addr.bulk_port) < 0) {
            return -EINVAL;
        }
    } else if (addr.control_port < UINT16_MAX) {
        addr.bulk_port = (uint16_t)(addr.control_port + 1);
    }
    if (*text || addr.bulk_port == 0) {
        return -EINVAL;
    }
    *ret = addr;
    return 0;
}

void node_mesh_addr_format(char dst[NODE_MESH_ADDR_TEXT_SIZE], const struct node_mesh_addr *addr)
{
    bool is_v6 = strchr(addr->host, ':') != NULL;
    char bulk[8] = "";

    if (addr->bulk_port != addr->control_port + 1) {
        (void)snprintf(bulk, sizeof(bulk), "/%u", addr->bulk_port);
    }
    (void)snprintf(dst, NODE_MESH_ADDR_TEXT_SIZE, "%s%s%s:%u%s", is_v6 ? "[" : "", addr->host,
                   is_v6 ? "]" : "", addr->control_port, bulk);
}
