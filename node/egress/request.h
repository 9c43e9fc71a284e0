/* The direction from the client: requests are passed on, with sealed tokens in header values
 * and bodies replaced where a lookup is given.
 *
 * Pure: bytes in, bytes out. Bodies stream; what is kept is a head, and a body of at most
 * EGRESS_COLLECT_MAX when its length has to be known anew. How a body goes on:
 *   chunked                          chunked, tokens replaced
 *   length, up to EGRESS_COLLECT_MAX collected, tokens replaced, new length
 *   longer                           chunked, tokens replaced
 *   of a binary type, encoded, or longer in HTTP/1.0: as it is, with its length
 * Without a lookup every body goes on byte by byte.
 */
#ifndef SHL_NODE_EGRESS_REQUEST_H
#define SHL_NODE_EGRESS_REQUEST_H

#include "base/buf.h"
#include "node/egress/body.h"
#include "node/egress/exchanges.h"
#include "node/egress/head.h"
#include "node/egress/host.h"
#include "node/egress/subst.h"

#define EGRESS_COLLECT_MAX     (1024u * 1024)     /* of a body before tokens are replaced */
#define EGRESS_COLLECT_OUT_MAX (2u * 1024 * 1024) /* and after */
#define EGRESS_HEAD_OUT_MAX    (256u * 1024)      /* of a head after that */
#define EGRESS_OUT_ENOUGH      (64u * 1024)       /* no more is produced beyond this */
#define EGRESS_OUT_MAX         (EGRESS_COLLECT_OUT_MAX + EGRESS_HEAD_OUT_MAX + 4096)
#define EGRESS_IN_MAX          (EGRESS_HEAD_MAX + 16384)

struct egress_request_rules {
    const char *host; /* the only Host there may be, in its one spelling */
    uint16_t port;    /* where the connection goes; a Host may name it */
    /* The client speaks to a proxy: targets name host and scheme, one request a connection. */
    bool is_proxy;
    egress_subst_lookup lookup; /* NULL: nothing is replaced */
    void *arg;
};

enum egress_request_state {
    EGRESS_REQUEST_HEAD,
    EGRESS_REQUEST_PASS,    /* body as it is */
    EGRESS_REQUEST_CHUNKS,  /* body in new chunks */
    EGRESS_REQUEST_COLLECT, /* body kept until its new length is known */
    EGRESS_REQUEST_ENDED,   /* no further request on this connection */
};

struct egress_request {
    enum egress_request_state state;
    struct egress_body body;
    struct egress_subst subst;
    struct shl_buf head;    /* COLLECT: what goes in front of the body */
    struct shl_buf scratch; /* COLLECT: the body; CHUNKS: one chunk */
    bool continue_asked;    /* set when the client waits for "100 Continue" from here */
    uint64_t requests, replaced;
    int refused_status;         /* with SHL_EPROTO: what to answer, */
    const char *refused_reason; /* and a sentence for it, static */
};

void egress_request_init(struct egress_request *request);
void egress_request_release(struct egress_request *request);

/* Move from @in to @out what can be moved; call again when @in has more or @out has room.
 * 0, SHL_EPROTO (refused_*: the connection is to be ended), SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int egress_request_step(struct egress_request *request,
                                       const struct egress_request_rules *rules,
                                       struct egress_exchanges *exchanges,
                                       struct shl_buf *in,
                                       struct shl_buf *out);

/* "http://host:port/path?query": the host, the port (80 when none), and the rest. 0 or
 * -EINVAL. Also used to find out where a proxy request wants to go. */
SHL_MUST_CHECK int egress_request_split(struct shl_bytes target,
                                        char host[EGRESS_HOST_SIZE],
                                        uint16_t *ret_port,
                                        struct shl_bytes *ret_path);

#endif /* SHL_NODE_EGRESS_REQUEST_H */
