/* A request and its reply as they travel between nodes, inside a stream (node/mesh/stream.h)
 * of kind NODE_WIRE_KIND.
 *
 *   entry node -> owner   the head of the stream: a request (msgpack, see wire.c);
 *                         then the raw bytes of the body, and the end
 *   owner -> entry node   frames: length (u32, little-endian) and a msgpack map, which is
 *                           {k: "go"}     send the body (only when the request holds it)
 *                           {k: "reply"}  status and headers, the last frame;
 *                         then the raw bytes of the reply's body, and the end
 *
 * An end is a complete body; a cut stream is a cut body. A request whose body the entry node
 * cannot produce twice is sent with holds_body: the owner says "go" when it has taken the
 * request up, so that a refusal costs nothing.
 *
 * The client's credentials travel with the request and are checked again by the owner: there
 * is one way into the API, and a node cannot act for an organisation whose key it was not
 * shown. What a peer sends is checked here like what a client sends.
 *
 * An exchange that becomes a WebSocket fits without a change: it holds its body, the reply
 * has status 101, and from then on the raw bytes of both directions are the socket's.
 *
 * Pure but for memory.
 */
#ifndef SHL_NODE_HTTP_WIRE_H
#define SHL_NODE_HTTP_WIRE_H

#include "node/http/exchange.h"
#include "node/http/proxy.h"

#define NODE_WIRE_KIND         "http"
#define NODE_WIRE_VERSION      1
#define NODE_WIRE_HEADERS_MAX  (NODE_PROXY_HEADERS_MAX + 4)
#define NODE_WIRE_HOPS_MAX     1           /* how often a request is passed on */
#define NODE_WIRE_FRAME_MAX    (48 * 1024) /* map of one frame: the head of a reply */
#define NODE_WIRE_TEXT_MAX     256         /* origin, content type, name of a node */
#define NODE_WIRE_LENGTH_BYTES 4

struct node_wire_request {
    const char *method;
    const char *target;  /* path and query, undecoded */
    const char *origin;  /* under which the client reached the entry node */
    const char *via;     /* name of the entry node, for logs */
    int64_t body_length; /* -1 not known */
    bool holds_body;
    unsigned hops; /* 1: from the node the client is connected to */
    size_t header_count;
    struct node_reply_header headers[NODE_WIRE_HEADERS_MAX];
    char *heap;                      /* of a request that was read: what the strings are in */
    struct node_proxy_headers proxy; /* of a request that was not: what the strings are in */
};

/* Append to @out. 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int node_wire_write_request(const struct node_wire_request *request,
                                           struct shl_buf *out);
/* Checks everything. 0, SHL_EPROTO, SHL_EVERSION or -ENOMEM with a sentence; release on
 * success only. */
SHL_MUST_CHECK int node_wire_read_request(struct shl_bytes head,
                                          struct node_wire_request *ret,
                                          struct shl_err *err);
void node_wire_request_release(struct node_wire_request *request);

/* The request of @x, with those headers that handlers look at; borrows from @x. */
void node_wire_request_of(struct node_exchange *x, struct node_wire_request *ret);

/* Does it ask for a WebSocket? */
bool node_wire_is_upgrade(const struct node_wire_request *request);

/* First header of that name, or NULL. */
const char *node_wire_header(const struct node_wire_request *request, const char *name);

enum node_wire_frame_kind {
    NODE_WIRE_GO,
    NODE_WIRE_REPLY,
};

struct node_wire_frame {
    enum node_wire_frame_kind kind;
    /* of a reply */
    int status;
    int64_t length; /* of the body, -1 not known */
    enum node_refusal refusal;
    const char *content_type; /* NULL without a body */
    const char *node_name;    /* who served */
    size_t header_count;
    struct node_reply_header headers[NODE_EXCHANGE_HEADERS_MAX];
    char *heap; /* as above */
};

/* Append length and map to @out. */
SHL_MUST_CHECK int node_wire_write_frame(const struct node_wire_frame *frame, struct shl_buf *out);
/* The first frame of @bytes. Its size in bytes, 0 when it is not complete yet, SHL_EPROTO or
 * -ENOMEM; release when above 0. A refusal that is not known reads as none. */
SHL_MUST_CHECK int node_wire_read_frame(struct shl_bytes bytes,
                                        struct node_wire_frame *ret,
                                        struct shl_err *err);
void node_wire_frame_release(struct node_wire_frame *frame);

/* May a reply of that status to that method have a body? */
bool node_wire_has_body(enum node_method method, int status);

#endif /* SHL_NODE_HTTP_WIRE_H */
