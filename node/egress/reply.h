/* The direction to the client: responses pass as they are. They are read only to know where
 * one ends, so that a switch of protocols (101) is not missed. Pure.
 */
#ifndef SHL_NODE_EGRESS_REPLY_H
#define SHL_NODE_EGRESS_REPLY_H

#include "base/buf.h"
#include "node/egress/body.h"
#include "node/egress/exchanges.h"

struct egress_reply {
    bool in_body;
    struct egress_body body;
    bool began; /* bytes of a response went on: the gateway may not answer itself any more */
};

/* Move from @in to @out what can be moved. 0, SHL_EPROTO when it is no HTTP/1.1, -ENOMEM. */
SHL_MUST_CHECK int egress_reply_step(struct egress_reply *reply,
                                     struct egress_exchanges *exchanges,
                                     struct shl_buf *in,
                                     struct shl_buf *out);

#endif /* SHL_NODE_EGRESS_REPLY_H */
