/* Network of the guest: the loopback device and one IPv4 address on eth0. */
#ifndef SHL_AGENT_NET_H
#define SHL_AGENT_NET_H

#include "base/attr.h"
#include "base/err.h"

struct agent_net {
    char ip[16];      /* dotted quad; empty: leave eth0 alone */
    unsigned prefix;  /* 1..32 */
    char gateway[16]; /* empty: no default route */
};

SHL_MUST_CHECK int agent_net_loopback_up(void);

/* 0, SHL_EINVALIDARG (not an address), -errno. Replaces what was set before. */
SHL_MUST_CHECK int agent_net_apply(const struct agent_net *net, struct shl_err *err);

#endif /* SHL_AGENT_NET_H */
