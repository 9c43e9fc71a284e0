/* A policy (node/secret/policy.h) on its way from the daemon to the gateway: msgpack in a
 * memory file.
 *
 * {open, allow: [pattern], secrets: [{token, value?, hosts: [pattern]}]}. Read as input of
 * another program all the same: the limits are those of node/secret/policy.h.
 */
#ifndef SHL_NODE_EGRESS_POLICY_H
#define SHL_NODE_EGRESS_POLICY_H

#include "base/buf.h"
#include "node/secret/policy.h"

#define EGRESS_POLICY_BYTES_MAX (16u * 1024 * 1024)

/* Appended to @out, which the caller wipes. 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int egress_policy_write(const struct node_egress_policy *policy,
                                       struct shl_buf *out);
/* 0, SHL_EPROTO, SHL_ELIMIT, -ENOMEM; on failure *ret is all zero. */
SHL_MUST_CHECK int egress_policy_read(struct shl_bytes bytes, struct node_egress_policy *ret);

#endif /* SHL_NODE_EGRESS_POLICY_H */
