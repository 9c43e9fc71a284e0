/* One TAP interface: created, addressed and up. The interface lives as long as its
 * descriptor, which goes to the VMM, so it vanishes with the VMM. */
#ifndef SHL_NODE_NET_TAP_H
#define SHL_NODE_NET_TAP_H

#include <stdint.h>

#include "base/err.h"

/* The bare interface, down and without address, so that rules can name it first. The
 * descriptor is the caller's. */
SHL_MUST_CHECK int node_tap_create(const char *name, int *ret_fd, struct shl_err *err);

/* Node's address @gateway/30, IPv6 off, up. */
SHL_MUST_CHECK int node_tap_start(const char *name, uint32_t gateway, struct shl_err *err);

/* Bytes that went to the guest and came from it so far. 0, -errno (-ENODEV). */
SHL_MUST_CHECK int node_tap_bytes(const char *name, uint64_t *ret_in, uint64_t *ret_out);

#endif /* SHL_NODE_NET_TAP_H */
