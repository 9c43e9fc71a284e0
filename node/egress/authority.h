/* The cluster's own certificate authority, and the certificates it makes out for hosts whose
 * TLS the gateway opens.
 *
 * The key comes from the daemon, the same on every node. All leaves share one key of this
 * process; the last EGRESS_LEAVES_MAX hosts are kept. One thread.
 */
#ifndef SHL_NODE_EGRESS_AUTHORITY_H
#define SHL_NODE_EGRESS_AUTHORITY_H

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/err.h"

#define EGRESS_LEAVES_MAX        1024
#define EGRESS_AUTHORITY_PEM_MAX 16384 /* key and certificate */

struct egress_authority;

/* A new key and self-signed certificate as PEM, the key first: what a cluster keeps sealed.
 * Appended to @pem. 0, -EIO, -ENOMEM, SHL_ELIMIT. */
SHL_MUST_CHECK int egress_authority_make(struct shl_buf *pem, struct shl_err *err);

/* From that PEM. 0, SHL_EINVALIDARG, -ENOMEM. */
SHL_MUST_CHECK int egress_authority_open(struct shl_bytes pem,
                                         struct egress_authority **ret,
                                         struct shl_err *err);
void egress_authority_close(struct egress_authority *authority);

/* Only the certificate of @pem, for the guests' trust stores. Appended to @out. */
SHL_MUST_CHECK int egress_authority_certificate(struct shl_bytes pem,
                                                struct shl_buf *out,
                                                struct shl_err *err);

/* Give @ssl, the server's side of a connection, a certificate for @host (a name or an
 * address). 0, -EIO, -ENOMEM. */
SHL_MUST_CHECK int egress_authority_dress(struct egress_authority *authority,
                                          SSL *ssl,
                                          const char *host);

#endif /* SHL_NODE_EGRESS_AUTHORITY_H */
