/* Which preview a Host header names: ID-pPORT.DOMAIN, one label below the domain. Pure. */
#ifndef SHL_NODE_API_PREVIEW_HOST_H
#define SHL_NODE_API_PREVIEW_HOST_H

#include <stdint.h>

#include "node/sandbox/manager.h"

enum node_host_kind {
    NODE_HOST_API,     /* not one of previews */
    NODE_HOST_PREVIEW, /* @ret is filled in */
    NODE_HOST_BAD,     /* meant to be one of previews, and none */
};

struct node_preview_host {
    char id[NODE_SANDBOX_ID_SIZE];
    uint16_t port;
};

/* @host as it came, with or without a port; NULL is NODE_HOST_API. @domain may have a port, which
 * does not matter; hosts below "localhost" are previews, too. */
enum node_host_kind node_preview_host_parse(const char *host,
                                            const char *domain,
                                            struct node_preview_host *ret);

#endif /* SHL_NODE_API_PREVIEW_HOST_H */
