/* What a TLS client says it wants: server name and protocols of the ClientHello.
 *
 * Pure. Reads the first bytes of a connection as hostile input; the hello may be spread over
 * several records and arrive in any pieces.
 */
#ifndef SHL_NODE_EGRESS_HELLO_H
#define SHL_NODE_EGRESS_HELLO_H

#include <stdbool.h>

#include "base/buf.h"

#define EGRESS_HELLO_MAX         (16u * 1024) /* handshake message; browsers send below 2 KiB */
#define EGRESS_HELLO_RECORDS_MAX 64
/* Bytes on the wire that can belong to one hello. */
#define EGRESS_HELLO_WIRE_MAX (EGRESS_HELLO_MAX + 4 + 5 * EGRESS_HELLO_RECORDS_MAX)
#define EGRESS_HOST_MAX       253 /* characters of a host name */

enum egress_hello_result {
    EGRESS_HELLO_MORE, /* not complete yet */
    EGRESS_HELLO_OK,
    EGRESS_HELLO_BAD, /* not TLS, or a hello that breaks the rules or limits */
};

struct egress_hello {
    char server_name[EGRESS_HOST_MAX + 1]; /* as sent; "" without one */
    bool has_alpn;
    bool offers_http11; /* within ALPN */
    bool offers_h2;
    bool has_encrypted_hello; /* ECH: the name above is not the whole truth */
};

enum egress_hello_result egress_hello_parse(struct shl_bytes bytes, struct egress_hello *ret);

#endif /* SHL_NODE_EGRESS_HELLO_H */
