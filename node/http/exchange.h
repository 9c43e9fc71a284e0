/* One request and its reply, as handlers see them.
 *
 * A handler cannot tell where an exchange came from: a transport (node/http/server.c
 * for connections of this node) fills in the request and carries out the reply through
 * node_exchange_ops. Loop thread.
 *
 * Life: the transport creates it when the request head is complete and asks the
 * application (node_exchange_app) what to do; the application replies at once, or sets
 * how it wants the body and a handler. Exactly one reply is made, with one of the
 * node_exchange_reply_* functions, from anywhere and at any time until on_close.
 * on_close comes once, when the reply is out or the client has gone; the exchange must
 * not be touched afterwards. It is never called from inside a function of this header.
 *
 * A request that asks for a WebSocket (is_upgrade) can become a stream of bytes both ways:
 * the application chooses NODE_BODY_SOCKET, the handler sets a sink for the bytes of the
 * client and replies 101 with a source for those to it (node_exchange_upgrade). The sink gets
 * nothing before that reply; its end is the end of the client's direction, the end of the
 * source that of ours, in any order. Any other reply is an ordinary one.
 */
#ifndef SHL_NODE_HTTP_EXCHANGE_H
#define SHL_NODE_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/http/url.h"

#define NODE_REQUEST_ID_SIZE       65
#define NODE_CLIENT_SIZE           48
#define NODE_EXCHANGE_JSON_MAX     (1024u * 1024) /* body of an ordinary JSON request */
#define NODE_EXCHANGE_ENVELOPE_MAX (64 * 1024)
#define NODE_EXCHANGE_HEADERS_MAX  100            /* extra headers of a reply */
#define NODE_EXCHANGE_NODE_HEADER  "X-Shoal-Node" /* who served; every reply has it */
#define NODE_STATUS_UPGRADED       101
#define NODE_EXCHANGE_PAD_AFTER_MS 10000 /* then "200" and the first space go out */
#define NODE_EXCHANGE_PAD_EVERY_MS 12000 /* clients give up after 30 s of silence */

struct node_exchange;
struct node_pad;

enum node_method {
    NODE_METHOD_GET,
    NODE_METHOD_HEAD,
    NODE_METHOD_POST,
    NODE_METHOD_PUT,
    NODE_METHOD_PATCH,
    NODE_METHOD_DELETE,
    NODE_METHOD_OPTIONS,
    NODE_METHOD_OTHER,
};

/* Why a node did not take a request up: nothing was done, so the node that passed it on may
 * ask elsewhere. Travels between nodes; append, never renumber. */
enum node_refusal {
    NODE_REFUSAL_NONE,
    NODE_REFUSAL_NOT_HERE,  /* the sandbox is not, or no longer, on that node */
    NODE_REFUSAL_NOT_KNOWN, /* the credentials are not valid there (yet) */
    NODE_REFUSAL_NO_ROOM,   /* for a new sandbox */
};

/* Bytes of a reply that come over time. */
struct node_source_ops {
    /* Copy up to @cap bytes (> 0) to @dst. Returns how many; 0 when there is nothing yet
     * (call node_exchange_wake when there is); NODE_SOURCE_END; or another negative code:
     * the connection is cut, so that the client cannot take the part for the whole. */
    ssize_t (*read)(void *arg, uint8_t *dst, size_t cap);
    /* Nothing will be read any more. Once; may be NULL. */
    void (*release)(void *arg);
};
#define NODE_SOURCE_END ((ssize_t)INT32_MIN)

/* Takes the bytes of a streamed request body. */
struct node_sink_ops {
    /* Returns how many of @data were taken; with fewer than offered the transport stops
     * reading until node_exchange_resume_body. */
    size_t (*data)(void *arg, struct shl_bytes data);
    /* The body is complete. */
    void (*end)(void *arg);
};

struct node_reply_header {
    const char *name;
    const char *value;
};

struct node_reply {
    int status;
    const char *content_type; /* NULL without a body */
    struct node_reply_header headers[NODE_EXCHANGE_HEADERS_MAX];
    size_t header_count;
    void *heap; /* body in memory, malloc'ed, taken over; or NULL */
    size_t heap_len;
    const struct node_source_ops *source; /* body that comes over time; or NULL */
    void *source_arg;
    int64_t length; /* of the source, -1 when not known yet */
};

typedef bool (*node_header_fn)(void *arg, const char *name, const char *value);

struct node_exchange_ops {
    const char *(*header)(struct node_exchange *x, const char *name);
    /* Every header in order; @each returns false to stop. */
    void (*each_header)(struct node_exchange *x, node_header_fn each, void *arg);
    /* Take over @reply; strings are copied. */
    void (*reply)(struct node_exchange *x, struct node_reply *reply);
    void (*wake)(struct node_exchange *x);
    void (*resume_body)(struct node_exchange *x);
};

enum node_body_mode {
    NODE_BODY_BUFFERED, /* handler runs when all of it is in x->body */
    NODE_BODY_STREAMED, /* handler runs at once and sets a sink */
    NODE_BODY_SOCKET,   /* as streamed, and the bytes come after a reply of 101 (is_upgrade) */
};

struct node_exchange {
    const struct node_exchange_ops *ops;
    uv_loop_t *loop;
    enum node_method method;
    struct node_url url;
    const char *target; /* as it came, undecoded */
    char request_id[NODE_REQUEST_ID_SIZE];
    int64_t body_length;   /* declared by the client, -1 when chunked, 0 without a body */
    bool is_upgrade;       /* asks for a WebSocket: GET without a body; body_length is -1 */
    uint32_t pad_after_ms; /* NODE_EXCHANGE_PAD_*, unless the transport was told otherwise */
    uint32_t pad_every_ms;
    /* Of a request that another node passed on: how often (1), and the origin under which the
     * client reached that node. 0 and NULL for a client of this node. For routing and for URLs
     * in answers; nothing else may depend on it. */
    unsigned hops;
    const char *origin;
    char client[NODE_CLIENT_SIZE]; /* address of a client of this node, "" when not known */
    int target_code;               /* negative: url is empty, see node_exchange_app */
    /* Set by the application in on_head: the request belongs to another server, which
     * answers it. All headers are passed on, and none of ours are added to the reply. */
    bool is_proxy;

    /* Set by the application in on_head. */
    enum node_body_mode body_mode;
    size_t body_max; /* bytes; beyond it the reply is 413 */
    void (*handle)(void *arg);
    void (*on_close)(void *arg, bool is_complete);
    void *arg; /* of both */

    struct shl_buf body; /* buffered mode */
    const struct node_sink_ops *sink;
    void *sink_arg;

    /* Of the helpers. */
    bool is_replied;
    bool is_body_done;
    bool is_padded;  /* "200" is out: failures can only be told in the body */
    bool has_source; /* the current reply has one to release */
    int status;      /* of the reply */
    enum node_refusal refusal;
    uint64_t body_seen;
    struct node_pad *pad;
    const struct node_source_ops *source;
    void *source_arg;
};

/* What the server asks its owner. @on_head replies or sets the fields above. */
struct node_exchange_app {
    void (*on_head)(void *arg, struct node_exchange *x);
    void *arg;
    /* Also ask when the target has more parts than node/http/url.h takes, or is not decodable:
     * x->target_code says so (node_exchange_fail_target), x->url is empty. */
    bool takes_any_target;
};

/* First header of that name, or NULL. */
const char *node_exchange_header(struct node_exchange *x, const char *name);

void node_exchange_each_header(struct node_exchange *x, node_header_fn each, void *arg);

/* The reply to a target that could not be taken apart. */
void node_exchange_fail_target(struct node_exchange *x);

/* Replies. The first one counts; a second is a programming error, except that a handler
 * whose exchange was answered for it (413, shutdown) may reply into the void. */
void node_exchange_reply(struct node_exchange *x, struct node_reply *reply);
void node_exchange_reply_empty(struct node_exchange *x, int status);
/* @heap is malloc'ed and taken. */
void node_exchange_reply_heap(struct node_exchange *x,
                              int status,
                              const char *content_type,
                              void *heap,
                              size_t len);
/* {"error": @msg, "code": ...} with the status of @code and its Retry-After. NULL or ""
 * takes the general sentence of the code. */
void node_exchange_fail(struct node_exchange *x, int code, const char *msg);
/* The same with one more header (or NULL) and more members of the envelope (JSON text that
 * begins with a comma, or NULL). */
void node_exchange_fail_more(struct node_exchange *x,
                             int code,
                             const char *msg,
                             const struct node_reply_header *header,
                             const char *members);
void node_exchange_failf(struct node_exchange *x, int code, const char *fmt, ...) SHL_PRINTF(3, 4);

/* The same as fail, and when another node passed the request on, it is told why. */
void node_exchange_refuse(struct node_exchange *x,
                          enum node_refusal why,
                          int code,
                          const char *msg);

/* Reply 101: from now on the bytes that @source gives go to the client, and what it sends to
 * the sink. Only in mode NODE_BODY_SOCKET. @headers (strings are copied) beside Connection and
 * Upgrade. */
void node_exchange_upgrade(struct node_exchange *x,
                           const struct node_reply_header *headers,
                           size_t header_count,
                           const struct node_source_ops *source,
                           void *source_arg);
/* The reply was 101. */
bool node_exchange_is_upgraded(const struct node_exchange *x);

void node_exchange_wake(struct node_exchange *x);

/* From now on bytes of the body go to @sink. */
void node_exchange_set_sink(struct node_exchange *x, const struct node_sink_ops *sink, void *arg);
void node_exchange_resume_body(struct node_exchange *x);

/* Answer 200 and a space of JSON white space after NODE_EXCHANGE_PAD_AFTER_MS without a
 * reply, then one every NODE_EXCHANGE_PAD_EVERY_MS. The later reply's body follows; its
 * status is lost (x->is_padded tells). 0 or -ENOMEM. */
SHL_MUST_CHECK int node_exchange_pad(struct node_exchange *x);

const char *node_method_name(enum node_method method);

#endif /* SHL_NODE_HTTP_EXCHANGE_H */
