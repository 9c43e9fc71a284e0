/* Where guests may be led to: only addresses of the public Internet.
 *
 * Pure. The gateway stands in the network of the node, so what a guest could not reach by
 * itself (node/net/rules.c) must not be reachable through it either, under any notation: IPv4,
 * IPv6, and IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4).
 */
#ifndef SHL_NODE_EGRESS_ADDRESS_H
#define SHL_NODE_EGRESS_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/* An IPv4 or IPv6 address. */
struct egress_address {
    int family; /* AF_INET, AF_INET6 */
    union {
        struct in_addr v4;
        struct in6_addr v6;
    };
};

#define EGRESS_ADDRESS_TEXT_SIZE 46

/* An allowance for networks that are otherwise refused (--allow-private of the node's owner,
 * tests). */
struct egress_prefix {
    struct egress_address base;
    unsigned bits;
};

#define EGRESS_PREFIXES_MAX     16
#define EGRESS_PREFIX_TEXT_SIZE (EGRESS_ADDRESS_TEXT_SIZE + 4)

/* Loopback, private, carrier NAT, link-local (metadata services), unique local, multicast,
 * reserved, unspecified. */
bool egress_address_is_private(const struct egress_address *address);

/* Not private, or inside one of @allowed; the metadata service of the machine's cloud
 * (169.254.169.254) never. */
bool egress_address_may_be_reached(const struct egress_address *address,
                                   const struct egress_prefix *allowed,
                                   size_t allowed_count);

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]". 0 or -EINVAL for anything else, also for short
 * and octal notations that some programs take for addresses. */
SHL_MUST_CHECK int egress_address_parse(struct egress_address *ret, const char *text);
/* "10.0.0.0/8". 0 or -EINVAL. */
SHL_MUST_CHECK int egress_prefix_parse(struct egress_prefix *ret, const char *text);
void egress_address_format(char dst[EGRESS_ADDRESS_TEXT_SIZE],
                           const struct egress_address *address);

/* For connect(2). Returns the length. */
socklen_t egress_address_to_socket(const struct egress_address *address,
                                   uint16_t port,
                                   struct sockaddr_storage *ret);

#endif /* SHL_NODE_EGRESS_ADDRESS_H */
