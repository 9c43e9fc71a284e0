/* Where a node's mesh listens: an IP address and two ports, one for control messages and
 * one for bulk data. Names are resolved by whoever configures; the mesh never asks DNS.
 *
 * Text: "10.0.0.1:7070" (bulk port is the next one), "10.0.0.1:7070/9000",
 * "[fd00::1]:7070".
 */
#ifndef SHL_NODE_MESH_ADDR_H
#define SHL_NODE_MESH_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

#define NODE_MESH_HOST_SIZE      46 /* IPv6 text and a terminator */
#define NODE_MESH_ADDR_TEXT_SIZE (NODE_MESH_HOST_SIZE + 16)
#define NODE_MESH_ADDRS_MAX      8 /* of one node */

struct node_mesh_addr {
    char host[NODE_MESH_HOST_SIZE]; /* without brackets */
    uint16_t control_port;
    uint16_t bulk_port;
};

/* 0 or -EINVAL. Ports are 1..65535. */
SHL_MUST_CHECK int node_mesh_addr_parse(const char *text, struct node_mesh_addr *ret);
/* Shortest text that parses to the same. */
void node_mesh_addr_format(char dst[NODE_MESH_ADDR_TEXT_SIZE], const struct node_mesh_addr *addr);
bool node_mesh_addr_is_valid(const struct node_mesh_addr *addr);
bool node_mesh_addr_equal(const struct node_mesh_addr *a, const struct node_mesh_addr *b);

#endif /* SHL_NODE_MESH_ADDR_H */
