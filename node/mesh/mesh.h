/* The mesh: authenticated links between the nodes of one cluster, and three services over
 * a link: one-way messages, calls (request and reply), and streams (stream.h).
 *
 * One object per daemon, inside its libuv loop. All functions and callbacks are on the loop
 * thread. No callback runs inside a function of this header, unless that is said of it.
 * Callbacks may call any function here, also node_mesh_remove_peer and node_mesh_close.
 *
 * Links. Every node binds two ports (control, bulk) and dials every peer it was told of
 * with node_mesh_set_peer. A link is up when both directions are authenticated (CURVE) and
 * both sides said hello (cluster, versions, boot). Who a message is from is what CURVE
 * proved, never what the message claims. A lost link fails its calls and cuts its streams
 * with SHL_EUNAVAILABLE, and is dialled again with growing pauses for as long as the peer is
 * in the table. The mesh has no ping of its own: gossip finds dead peers; TCP keepalive
 * finds cut cables.
 *
 * Delivery. Messages of one kind to one peer arrive in order or not at all; what was queued
 * when a link is lost is gone. A call is answered once: by the peer's reply, SHL_EUNAVAILABLE
 * (link lost; it may have been carried out) or -ETIMEDOUT (the same).
 *
 * Peers are hostile within their key: sizes, counts and queues have the limits named here,
 * whatever breaks them is refused, counted, logged once per peer and reason, and the other
 * side is told why. Errors: `int`, with a sentence in @err where there is one.
 */
#ifndef SHL_NODE_MESH_MESH_H
#define SHL_NODE_MESH_MESH_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/node_id.h"
#include "node/mesh/addr.h"
#include "node/mesh/keys.h"
#include "node/mesh/stream.h"
#include "node/mesh/token.h"

/* Protocol versions this build speaks. Two nodes use the highest both know. */
#define NODE_MESH_VERSION_MIN 1
#define NODE_MESH_VERSION_MAX 2 /* 2: bytes of streams in parts of their own */

#define NODE_MESH_PEERS_MAX   256
#define NODE_MESH_KIND_MAX    24             /* bytes of the name of a kind or method: [a-z0-9.-] */
#define NODE_MESH_KINDS_MAX   64             /* of each service */
#define NODE_MESH_BODY_MAX    (1024u * 1024) /* of one message, request or reply */
#define NODE_MESH_JOIN_MAX    (64u * 1024)   /* of a join request or its answer */
#define NODE_MESH_CALLS_PEER  512            /* under way to, and from, one peer */
#define NODE_MESH_TIMEOUT_MAX (10u * 60 * 1000)

/* Bytes. Of every peer: control messages waiting; stream bytes waiting to be sent; stream
 * bytes received and not taken yet. And over all peers. */
#define NODE_MESH_CONTROL_QUEUE_MAX  (8u * 1024 * 1024)
#define NODE_MESH_SEND_QUEUE_MAX     (32u * 1024 * 1024)
#define NODE_MESH_RECEIVE_QUEUE_MAX  (64u * 1024 * 1024)
#define NODE_MESH_SEND_GLOBAL_MAX    (128u * 1024 * 1024)
#define NODE_MESH_RECEIVE_GLOBAL_MAX (256u * 1024 * 1024)
#define NODE_MESH_STREAMS_PEER_MAX   512
#define NODE_MESH_STREAMS_MAX        2048

/* Why a peer, a key or a message was refused: index of counters, text on the wire. */
#define NODE_MESH_REFUSAL_MAP(X)                                             \
    X(KEY, "key", "its key is not a member's")                               \
    X(RATE, "rate", "too many connections in a short time")                  \
    X(CLUSTER, "cluster", "it belongs to another cluster")                   \
    X(VERSION, "version", "no protocol version is known to both sides")      \
    X(IDENTITY, "identity", "two processes use the identity of one node")    \
    X(CLAIM, "claim", "the node id it claims is not the one its key proves") \
    X(OVERSIZED, "oversized", "a message is larger than its kind may be")    \
    X(GARBAGE, "garbage", "a message cannot be understood")                  \
    X(CREDIT, "credit", "it sent more than it was allowed to")               \
    X(FORBIDDEN, "forbidden", "a guest may only ask to join")                \
    X(HELLO, "hello", "a message came before a hello on its connection")     \
    X(RESET, "reset", "the other direction of the link was lost")

enum node_mesh_refusal {
#define NODE_MESH_REFUSAL_ENUM(name, text, sentence) NODE_MESH_REFUSED_##name,
    NODE_MESH_REFUSAL_MAP(NODE_MESH_REFUSAL_ENUM)
#undef NODE_MESH_REFUSAL_ENUM
    NODE_MESH_REFUSAL_COUNT
};

const char *node_mesh_refusal_name(enum node_mesh_refusal why);     /* "cluster" */
const char *node_mesh_refusal_sentence(enum node_mesh_refusal why); /* static storage */

struct node_mesh;
struct node_mesh_call; /* a request on the answering side */
struct node_mesh_rpc;  /* a request on the asking side */

/* What the mesh tells its owner. Any callback may be NULL. */
struct node_mesh_user {
    /* Both directions work. @boot is the peer's counter of starts, @version what both speak. */
    void (*link_up)(void *arg, const struct shl_node_id *peer, uint64_t boot, uint32_t version);
    /* After link_up. Calls and streams of the link have failed before or fail right after. */
    void (*link_down)(void *arg, const struct shl_node_id *peer, const char *reason);
    /* @peer does not want this node (in its own words). It is dialled again later; after
     * NODE_MESH_REFUSED_IDENTITY another process runs with our keys: stop and say so. */
    void (*refused)(void *arg,
                    const struct shl_node_id *peer,
                    enum node_mesh_refusal why,
                    const char *msg);
    /* This node saw two processes with the identity of @peer. */
    void (*conflict)(void *arg, const struct shl_node_id *peer);
};

struct node_mesh_config {
    const struct node_mesh_keys *keys;   /* copied */
    uint8_t cluster[NODE_CLUSTER_BYTES]; /* all zeros: in none yet (node_mesh_set_cluster) */
    const char *bind_host;               /* IP address, "0.0.0.0" or "::" for all */
    uint16_t control_port;               /* 0: any free one, see node_mesh_port */
    uint16_t bulk_port;
    const struct node_mesh_addr *self; /* where peers reach it, told to them; may be NULL */
    uint32_t version_min;              /* both 0: what this build speaks (others are for tests) */
    uint32_t version_max;
    uint32_t dial_min_ms;      /* first pause between two attempts, 0: 100 */
    uint32_t dial_max_ms;      /* longest, 0: 5000 */
    uint32_t identity_hold_ms; /* a silent process blocks an older boot this long, 0: 15000 */
    uint32_t bulk_threads;     /* threads that encrypt bulk data, 1..4, 0: 1 */
    const struct node_mesh_user *user;
    void *arg;
    const struct shl_log *log; /* may be NULL; must outlive the mesh */
};

/* Binds both ports and serves authentication. Nothing is dialled yet. 0, or a negative code
 * with a sentence (port taken, address not of this machine); the loop must run on then, for
 * what was begun to end. */
SHL_MUST_CHECK int node_mesh_open(uv_loop_t *loop,
                                  const struct node_mesh_config *config,
                                  struct node_mesh **ret,
                                  struct shl_err *err);

/* Ends everything: calls and streams fail with SHL_EUNAVAILABLE, then @closed, once, on the
 * loop. Messages accepted before get up to @linger_ms to leave. Calls being answered may
 * still be replied to (it goes nowhere). No other function may be called after this, except
 * node_mesh_reply and those of streams until their closed. */
void node_mesh_close(struct node_mesh *mesh,
                     uint32_t linger_ms,
                     void (*closed)(void *arg),
                     void *arg);

const struct shl_node_id *node_mesh_id(const struct node_mesh *mesh);
uint16_t node_mesh_control_port(const struct node_mesh *mesh);
uint16_t node_mesh_bulk_port(const struct node_mesh *mesh);

/* After a join. Links of another cluster are cut. */
void node_mesh_set_cluster(struct node_mesh *mesh, const uint8_t cluster[NODE_CLUSTER_BYTES]);

/*- Members. */

/* Admit @key and keep a link to it, or update its addresses (an existing link stays; the
 * next attempt uses the new ones, in turn). Without an address it is admitted but not
 * dialled, and a link needs both directions. SHL_EINVALIDARG (@id is not the hash of @key, or our
 * own), SHL_ELIMIT. */
SHL_MUST_CHECK int node_mesh_set_peer(struct node_mesh *mesh,
                                      const struct shl_node_id *id,
                                      const uint8_t key[NODE_KEY_BYTES],
                                      const struct node_mesh_addr *addrs,
                                      uint32_t addr_count,
                                      struct shl_err *err);
/* Refuse the key from now on and end its link (link_down comes if it was up). */
void node_mesh_remove_peer(struct node_mesh *mesh, const struct shl_node_id *id);
bool node_mesh_is_up(const struct node_mesh *mesh, const struct shl_node_id *id);
/* Dial now instead of after the current pause. */
void node_mesh_dial(struct node_mesh *mesh, const struct shl_node_id *id);

/*- One-way messages. Kinds and methods are registered before peers are set and stay. */

typedef void (*node_mesh_on_message)(void *arg,
                                     const struct shl_node_id *from,
                                     struct shl_bytes body); /* borrowed */

/* Messages of @kind (static storage) up to @body_max bytes go to @on_message; larger ones
 * are refused. Asserts that the name is new and the table not full. */
void node_mesh_on(struct node_mesh *mesh,
                  const char *kind,
                  uint32_t body_max,
                  node_mesh_on_message on_message,
                  void *arg);

/* Queue a copy of @body. 0, SHL_EUNAVAILABLE (no link), SHL_ELIMIT (queue of that peer full:
 * the message is dropped and counted; or @body too long). */
int node_mesh_send(struct node_mesh *mesh,
                   const struct shl_node_id *to,
                   const char *kind,
                   struct shl_bytes body);

/*- Calls. */

/* Answer with node_mesh_reply, once, now or later, whatever happens to the link. */
typedef void (*node_mesh_on_call)(void *arg,
                                  struct node_mesh_call *call,
                                  const struct shl_node_id *from,
                                  struct shl_bytes body); /* borrowed */

void node_mesh_serve(struct node_mesh *mesh,
                     const char *method,
                     uint32_t body_max,
                     node_mesh_on_call on_call,
                     void *arg);

/* @code 0 with @body, or negative with a sentence (@msg, NULL for the general one); then
 * @body may still carry details. Ends @call. */
void node_mesh_reply(struct node_mesh_call *call, int code, const char *msg, struct shl_bytes body);
/* Milliseconds until the caller stops waiting; 0 when it has. */
uint64_t node_mesh_call_left_ms(const struct node_mesh_call *call);

/* Exactly once unless cancelled. @body is borrowed; on failure @msg is a sentence. */
typedef void (*node_mesh_on_reply)(void *arg, int code, const char *msg, struct shl_bytes body);

/* Ask @to. @timeout_ms 1..NODE_MESH_TIMEOUT_MAX. Returns 0 and @on_reply will run; or
 * SHL_EUNAVAILABLE, SHL_ELIMIT and it will not. @ret_rpc (may be NULL) is valid until
 * @on_reply. A method the peer does not know is answered with SHL_ENOTFOUND. */
SHL_MUST_CHECK int node_mesh_ask(struct node_mesh *mesh,
                                 const struct shl_node_id *to,
                                 const char *method,
                                 struct shl_bytes body,
                                 uint32_t timeout_ms,
                                 node_mesh_on_reply on_reply,
                                 void *arg,
                                 struct node_mesh_rpc **ret_rpc,
                                 struct shl_err *err);
/* Nobody wants the answer; on_reply will not run. The peer may carry it out all the same. */
void node_mesh_ask_cancel(struct node_mesh_rpc *rpc);

/*- Streams (stream.h). */

struct node_stream_opener *node_mesh_opener(struct node_mesh *mesh);

/* Streams of @kind opened by peers. */
void node_mesh_accept(struct node_mesh *mesh,
                      const char *kind,
                      node_stream_accept accept,
                      void *arg);

/*- Joining. */

/* A key that is no member's asks to join: check the token in @body and answer @call. Also
 * for a member that asks again because it missed the answer. */
typedef void (*node_mesh_on_join)(void *arg,
                                  struct node_mesh_call *call,
                                  const uint8_t key[NODE_KEY_BYTES],
                                  struct shl_bytes body);

/* While set, keys that are no member's are let in as guests, a few at a time, for that one
 * question. NULL (the default) refuses them: set it only while a token is valid. */
void node_mesh_set_join(struct node_mesh *mesh, node_mesh_on_join on_join, void *arg);

/* Ask the node at @seed, which must prove @server_key, with our key, which it need not know.
 * Several may be under way (NODE_MESH_JOINS_MAX). @on_reply once; codes beside those of the
 * seed's handler: SHL_EUNAVAILABLE (not reached), SHL_EAUTH (it does not know our key and
 * lets nobody join, or is not the node of the token), SHL_EFORBIDDEN (wrong cluster or
 * version), -ETIMEDOUT. */
#define NODE_MESH_JOINS_MAX 8
SHL_MUST_CHECK int node_mesh_join(struct node_mesh *mesh,
                                  const uint8_t cluster[NODE_CLUSTER_BYTES],
                                  const struct node_mesh_addr *seed,
                                  const uint8_t server_key[NODE_KEY_BYTES],
                                  struct shl_bytes request,
                                  uint32_t timeout_ms,
                                  node_mesh_on_reply on_reply,
                                  void *arg,
                                  struct shl_err *err);

/*- Figures for /metrics and /debug/state. */

struct node_mesh_stats {
    uint64_t messages_in, messages_out; /* control */
    uint64_t bytes_in, bytes_out;
    uint64_t stream_bytes_in, stream_bytes_out; /* payload */
    uint64_t dropped; /* one-way messages and replies: queue full or link lost */
    uint64_t unknown; /* kinds nobody registered */
    uint64_t stale;   /* of connections, calls or streams that ended */
    uint64_t refused[NODE_MESH_REFUSAL_COUNT];    /* by this node */
    uint64_t refused_by[NODE_MESH_REFUSAL_COUNT]; /* by peers */
    uint64_t dials, dials_failed, links_lost;
    uint64_t calls_failed, calls_late; /* timed out; answered too late */
    uint64_t streams_opened, streams_cut;
    uint32_t peers, links_up;
    uint32_t calls_out, calls_in, streams; /* under way */
    uint64_t control_queue_bytes, send_queue_bytes, receive_queue_bytes;
    uint64_t receive_granted_bytes; /* what peers may send at most right now */
};

void node_mesh_stats(const struct node_mesh *mesh, struct node_mesh_stats *ret);

struct node_mesh_peer_stats {
    struct shl_node_id id;
    struct node_mesh_addr addr; /* of the current or last attempt */
    bool is_up, is_bulk_up;
    uint64_t boot;
    uint32_t version;
    uint32_t attempts; /* since the link was up last */
    uint32_t streams, calls_out, calls_in;
    uint64_t control_queue_bytes, send_queue_bytes, receive_queue_bytes;
    char trouble[SHL_ERR_TEXT_MAX]; /* why it is down, empty when it is not */
};

/* Up to @max, by id; returns how many. */
uint32_t node_mesh_peers(const struct node_mesh *mesh,
                         struct node_mesh_peer_stats *ret,
                         uint32_t max);

#endif /* SHL_NODE_MESH_MESH_H */
