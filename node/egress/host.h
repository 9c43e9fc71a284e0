/* Host names of destinations, with the port that may stand behind them.
 *
 * Pure. One spelling inside (that of node/secret/policy.h): lower case, without port and
 * without the dot at the end, so that "API.Example.com.:443" and "api.example.com" are one
 * host.
 */
#ifndef SHL_NODE_EGRESS_HOST_H
#define SHL_NODE_EGRESS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "node/egress/hello.h"

#define EGRESS_HOST_SIZE (EGRESS_HOST_MAX + 1)

/* "host", "host:port", "1.2.3.4:port", "[v6]:port" of a Host header or a CONNECT. The port is
 * 0 when there is none. 0, or -EINVAL for what is no host (empty, too long, odd characters,
 * port 0 or above 65535). */
SHL_MUST_CHECK int egress_host_parse(char host[EGRESS_HOST_SIZE],
                                     uint16_t *ret_port,
                                     const char *text,
                                     size_t len);

#endif /* SHL_NODE_EGRESS_HOST_H */
