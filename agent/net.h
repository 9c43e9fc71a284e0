/* Network of the guest: the loopback device and one IPv4 address on eth0. */
#ifndef SHL_AGENT_NET_H
#define SHL_AGENT_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define AGENT_MAC_BYTES 6

struct agent_net {
    char ip[16];      /* dotted quad; empty: leave eth0 alone */
    unsigned prefix;  /* 1..32 */
    char gateway[16]; /* empty: no default route */
    bool has_mac;
    uint8_t mac[AGENT_MAC_BYTES];
};

SHL_MUST_CHECK int agent_net_loopback_up(void);

/* 0, SHL_EINVALIDARG (not an address), -errno. Replaces what was set before, and forgets the
 * neighbours: after a restore they may be others under the same addresses. What is the same
 * already stays, with the routes of the user. */
SHL_MUST_CHECK int agent_net_apply(const struct agent_net *net, struct shl_err *err);

#endif /* SHL_AGENT_NET_H */
