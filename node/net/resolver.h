/* The name server that guests are led to: the first one of this machine that is not
 * loopback (a guest's packets cannot be redirected to 127.0.0.53). */
#ifndef SHL_NODE_NET_RESOLVER_H
#define SHL_NODE_NET_RESOLVER_H

#include <stdint.h>

#include "base/buf.h"

/* From the text of a resolv.conf: the first usable IPv4 server, 0 when there is none. */
uint32_t node_resolver_parse(struct shl_bytes text);

/* systemd-resolved's list of real servers first, then /etc/resolv.conf; 0 when none. */
uint32_t node_resolver_find(void);

#endif /* SHL_NODE_NET_RESOLVER_H */
