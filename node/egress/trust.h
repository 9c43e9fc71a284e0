/* Certificates for the guests' trust stores: the cluster's authority, and what the owner of this
 * machine added to those it trusts (update-ca-certificates), which servers inside a company are
 * signed with.
 */
#ifndef SHL_NODE_EGRESS_TRUST_H
#define SHL_NODE_EGRESS_TRUST_H

#include "base/buf.h"
#include "base/err.h"
#include "node/sandbox/manager.h"

#define EGRESS_TRUST_FOLDER "/usr/local/share/ca-certificates"
#define EGRESS_TRUST_MAX    16           /* certificates; further ones are left out */
#define EGRESS_TRUST_BYTES  (48u * 1024) /* of all of them */

/* The certificate in @authority (PEM) and those of *.crt in @folder (may be missing). *ret_list
 * is for node_manager_set_trusted. 0, SHL_EINVALIDARG, -ENOMEM. */
SHL_MUST_CHECK int egress_trust_collect(struct shl_bytes authority,
                                        const char *folder,
                                        struct node_trusted **ret_list,
                                        size_t *ret_count,
                                        struct shl_err *err);

#endif /* SHL_NODE_EGRESS_TRUST_H */
